//! The benchmark of the data plane: Weir beside its floor and its rivals, on one generator, counted
//! at the receiver.

pub mod accuracy;
mod attached;
pub mod environment;
pub mod features;
pub mod flood;
pub mod footprint;
pub mod frame;
pub mod gate;
pub mod goodput;
pub mod ground;
pub mod idle;
pub mod measure;
pub mod method;
pub mod plan;
pub mod plot;
pub mod processor;
pub mod report;
pub mod row;
pub mod variant;

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};

use self::{
    flood::Generator,
    footprint::Footprint,
    ground::Ground,
    measure::{Effort, Laboratory},
    plan::Group,
    report::Report,
    variant::{Allowance, Tools},
};
use crate::{command, interrupt::Interrupt, progress::Progress};

/// A client's requests and what passes a limiter are few, and need longer than a flood.
const WINDOWS_OF_A_CLIENT: u32 = 8;

/// What the benchmark is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The figures that have bars, and one of each other kind.
    pub quick: bool,
    /// Windows of each variant.
    pub rounds: usize,
    /// Of one window.
    pub window: Duration,
    /// The daemon's program.
    pub weir_node: PathBuf,
}

/// Measures. Everything that was made is gone when this returns.
///
/// # Errors
///
/// If the machine has too few CPUs, a tool is missing, a variant does not do what it is measured
/// for, or the user interrupts.
pub fn run(options: &Options, interrupt: &Interrupt) -> Result<Report> {
    if !nix::unistd::geteuid().is_root() {
        bail!("network namespaces and XDP need root: run this as root, or with sudo");
    }
    if std::thread::available_parallelism()?.get() < 2 {
        bail!("this needs two CPUs: one floods, the other receives");
    }
    processor::allow_nudges()?;
    let mut progress = Progress::default();
    let footprint = Footprint::claim()?;
    let ground = Ground::prepare()?;
    let mut generator = Generator::load(&ground)?;
    let tools = Tools {
        footprint: &footprint,
        weir_node: &options.weir_node,
        allowance: Allowance::NEXT_TO_NOTHING,
    };
    let mut laboratory = Laboratory {
        ground: &ground,
        generator: &mut generator,
        tools,
        effort: Effort {
            window: options.window,
            rounds: options.rounds,
        },
        interrupt,
    };
    let groups = if options.quick {
        plan::quick()
    } else {
        plan::full()
    };
    let groups = within_means(groups, &tools, &mut progress)?;
    let mut all = Vec::new();
    for group in &groups {
        all.extend(laboratory.measure(group, &mut progress)?);
    }
    let mut left_out = Vec::new();
    let rounds = options.rounds;
    let features = progress.step("each feature by itself", || {
        features::measure(&ground, &tools, rounds, interrupt, &mut |note| {
            left_out.push(note.to_owned());
        })
    })?;
    for note in &left_out {
        progress.note(note);
    }
    let window = options.window * WINDOWS_OF_A_CLIENT;
    let accuracy = progress.step("one source on two CPUs", || {
        accuracy::measure(&ground, &mut generator, &tools, window, interrupt)
    })?;
    let levels: &[u32] = match options.quick {
        true => &goodput::FEW_LEVELS,
        false => &goodput::LEVELS,
    };
    let goodput = progress.step("a good client under attack", || {
        goodput::measure(&ground, &mut generator, &tools, levels, window, interrupt)
    })?;
    Ok(Report::new(&all, features, accuracy, goodput))
}

/// A build of Weir whose table has one size only is measured with that.
fn within_means(
    mut groups: Vec<Group>,
    tools: &Tools<'_>,
    progress: &mut Progress,
) -> Result<Vec<Group>> {
    let mut help = Command::new(tools.weir_node);
    let help = command::run(help.args(["run", "--help"])).context("is weir-node built?")?;
    if help.contains("--table-slots") {
        return Ok(groups);
    }
    for variant in groups.iter_mut().flat_map(|group| &mut group.variants) {
        if let variant::Variant::Weir(weir) = variant
            && weir.table_slots.take().is_some()
        {
            progress.note("this weir-node has no --table-slots: large pools overfill its table");
        }
    }
    Ok(groups)
}
