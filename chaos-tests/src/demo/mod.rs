//! The demonstration: one budget, several hosts, traffic that moves, a leader that dies.

mod figures;
mod live;
mod script;
mod summary;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

pub use self::{figures::Figures, script::SHORTEST};
use crate::{
    fleet::{
        self, Plan, Process, Timing,
        plan::{LIMITED_PORT, SOURCES},
    },
    interrupt::Interrupt,
    oracle::Budget,
    plot::{self, Plot},
    progress::Progress,
    stage::{self, LimitUnderTest, Packets, Stage},
};

/// The strict limit that is applied: packets per second for the whole fleet.
pub const RATE: f64 = 30_000.0;
/// Its burst: the language's default, a tenth of a second of rate.
const BURST: f64 = RATE / 10.0;
/// What each host may always spend, as a part of the rate.
const FLOOR: f64 = 0.005;
/// Offered traffic, as a multiple of the rate.
const OVERLOAD: f64 = 3.0;
/// Bytes of the flood's frames.
const FRAME_BYTES: usize = 60;
const CLIENTS: usize = 2;

/// What the demonstration is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many hosts.
    pub nodes: usize,
    /// How long traffic flows.
    pub length: Duration,
    /// How many ZooKeeper servers.
    pub zookeeper: usize,
    /// Where the plot goes.
    pub out: PathBuf,
}

/// Runs the demonstration. The fleet is gone when this returns.
///
/// # Errors
///
/// If a part of it fails or the user interrupts. A figure that misses its bar is no error.
pub fn run(options: &Options, interrupt: &Interrupt) -> Result<Figures> {
    let mut progress = Progress::default();
    let timing = Timing::default();
    let script = script::write(options.nodes, RATE * OVERLOAD, options.length, &timing)?;
    // Several may run at a time.
    let name = format!("demo-{}", Process::current().pid);
    let plan = Plan::new(&name, options.nodes, CLIENTS, options.zookeeper)?;
    fs::create_dir_all(&options.out).with_context(|| options.out.display().to_string())?;
    let limits = options.out.join("limits.toml");
    fs::write(&limits, limits_file())?;

    eprintln!(
        "bringing up {} hosts, {} ZooKeeper",
        options.nodes, options.zookeeper
    );
    let mut fleet = fleet::build(plan, timing, Some(&limits), interrupt, &mut progress)?;
    let packets = Packets {
        port: LIMITED_PORT,
        sources: SOURCES.parse()?,
        size: FRAME_BYTES,
    };
    let mut stage = progress.step("traffic", || Stage::set(&fleet.plan, &packets))?;
    let names: Vec<&str> = fleet
        .plan
        .hosts
        .iter()
        .map(|site| site.name.as_str())
        .collect();
    let mut view = live::View::new(&names, RATE);
    let recording = stage::perform(&mut fleet, &mut stage, &script, interrupt, |moment| {
        view.show(moment);
    });
    view.close();
    let recording = recording.with_context(|| fleet.logs())?;
    drop(stage);
    progress.step("tidying up", || {
        drop(fleet);
        Ok(())
    })?;

    fs::write(options.out.join("demo.csv"), recording.csv())?;
    let judgement = stage::judge(&recording, &limit(), &timing);
    let picture = options.out.join("demo.svg");
    let title = "Weir: one budget, shared by the hosts where the traffic is";
    let plot = Plot {
        title,
        recording: &recording,
        rate: RATE,
        tick: timing.tick,
    };
    plot::draw(&plot, &picture)?;
    Ok(Figures {
        judgement,
        timing,
        plot: picture,
        wall_seconds: progress.seconds(),
    })
}

/// The strict limit that the demonstration applies, as its oracle sees it.
#[must_use]
pub fn limit() -> LimitUnderTest {
    LimitUnderTest {
        budget: Budget {
            rate: RATE,
            burst: BURST,
            drift: Timing::DRIFT,
        },
        floor: RATE * FLOOR,
    }
}

/// The same, as its operator writes it.
#[must_use]
pub fn limits_file() -> String {
    format!(
        "version = 1\n\n[[limit]]\nname  = \"demo\"\nproto = \"udp\"\nports = [{LIMITED_PORT}]\n\
         rate  = \"{} packets/s\"\nburst = \"{} packets\"\nfloor = \"{}%\"\npromise = \"strict\"\n",
        RATE as u64,
        BURST as u64,
        FLOOR * 100.0,
    )
}

/// Where the plot goes if nobody says otherwise.
#[must_use]
pub fn default_out() -> &'static Path {
    Path::new("target/demo")
}
