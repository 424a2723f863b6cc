//! What each feature costs by itself: the product's own program, attached by the product, run on one
//! frame again and again. No driver is in these figures, the cache is warm, and packets that pass
//! can be measured too.

use std::{os::fd::AsFd as _, process::Command, time::Duration};

use anyhow::{Context as _, Result};
use aya::programs::{ProgramFd, loaded_programs};
use serde::{Deserialize, Serialize};

use super::{
    attached,
    flood::Family,
    frame,
    ground::{Ground, Site},
    processor::Ahead,
    row::{median, rounded},
    variant::{Bucket, Installed, Tools, Variant, Weir},
};
use crate::{command, interrupt::Interrupt};

/// Runs of one round: a tenth of a second or so.
const REPEAT: u32 = 1_000_000;
/// The CPU that they are on.
const CPU: usize = 1;
/// What XDP calls it.
const XDP_DROP: u32 = 1;
/// See [`XDP_DROP`].
const XDP_PASS: u32 = 2;

/// One program on one frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureRow {
    /// What is switched on.
    pub feature: String,
    /// `pass` or `drop`.
    pub verdict: String,
    /// Median over rounds.
    pub ns_per_packet: f64,
    /// The same, less what the empty program of this verdict takes.
    pub above_empty_ns: f64,
}

struct Subject {
    feature: String,
    program: ProgramFd,
    // Taken down before its site is.
    _installed: Box<dyn Installed>,
    _site: Site,
    verdict: u32,
    rounds: Vec<f64>,
}

/// Measures every feature. Those that this build of Weir does not have are left out, with a note.
///
/// # Errors
///
/// If an empty program cannot be measured, or the user interrupts.
pub fn measure(
    ground: &Ground,
    tools: &Tools<'_>,
    rounds: usize,
    interrupt: &Interrupt,
    note: &mut dyn FnMut(&str),
) -> Result<Vec<FeatureRow>> {
    let mut subjects = Vec::new();
    for (feature, variant) in features() {
        interrupt.check()?;
        match set_up(ground, tools, &feature, &variant) {
            Ok(subject) => subjects.push(subject),
            Err(error) if matches!(variant, Variant::Weir(_)) => {
                note(&format!("left out: {feature}: {}", first_line(&error)));
            }
            Err(error) => return Err(error.context(feature)),
        }
    }
    for _ in 0..rounds {
        interrupt.check()?;
        for subject in &mut subjects {
            let (verdict, taken) = on_its_cpu(|| run(&subject.program))?;
            subject.verdict = verdict;
            subject.rounds.push(taken.as_secs_f64() * 1e9);
        }
    }
    let cost = |subject: &Subject| median(subject.rounds.clone());
    let empty = |verdict: u32| {
        let of =
            |subject: &&Subject| subject.feature.starts_with("empty") && subject.verdict == verdict;
        subjects.iter().find(of).map_or(f64::NAN, cost)
    };
    let rows = subjects.iter().map(|subject| FeatureRow {
        feature: subject.feature.clone(),
        verdict: match subject.verdict {
            XDP_DROP => "drop".to_owned(),
            XDP_PASS => "pass".to_owned(),
            other => format!("action {other}"),
        },
        ns_per_packet: rounded(cost(subject)),
        above_empty_ns: rounded(cost(subject) - empty(subject.verdict)),
    });
    Ok(rows.collect())
}

/// What is switched on, one thing after the other.
fn features() -> Vec<(String, Variant)> {
    let (narrow, wide) = (Some(Bucket::Narrow), Some(Bucket::Wide));
    let passing = Weir {
        keyed: wide,
        aggregate: wide,
        ..Weir::NOTHING
    };
    let weirs = [
        ("no limit", Weir::NOTHING),
        (
            "aggregate, passes",
            Weir {
                aggregate: wide,
                ..Weir::NOTHING
            },
        ),
        (
            "aggregate, drops",
            Weir {
                aggregate: narrow,
                ..Weir::NOTHING
            },
        ),
        (
            "keyed, passes",
            Weir {
                keyed: wide,
                ..Weir::NOTHING
            },
        ),
        (
            "keyed, drops",
            Weir {
                keyed: narrow,
                ..Weir::NOTHING
            },
        ),
        ("keyed + aggregate, passes", passing),
        ("keyed drops + aggregate", Weir::WHOLE),
        ("keyed + aggregate drops", Weir::WHOLE_AGGREGATE_DROPS),
        (
            "… + source list",
            Weir {
                source_list: true,
                ..Weir::WHOLE
            },
        ),
        (
            "… + 6 other rules",
            Weir {
                other_rules: 6,
                ..Weir::WHOLE
            },
        ),
        (
            "… in shadow mode",
            Weir {
                shadow: true,
                ..Weir::WHOLE
            },
        ),
        (
            "… + events, 1 of 1,000",
            Weir {
                sampling: Some(1_000),
                ..Weir::WHOLE
            },
        ),
    ];
    let empty = [
        ("empty, drops", Variant::BareDrop),
        ("empty, passes", Variant::BarePass),
        ("header read, drops", Variant::TouchingDrop),
        ("XDP, one bucket", Variant::XdpAggregate),
        ("XDP, LRU hash", Variant::XdpLru),
        ("XDP, hash", Variant::XdpHash),
    ];
    let weirs = weirs.map(|(name, weir)| (format!("weir: {name}"), Variant::Weir(weir)));
    empty
        .into_iter()
        .map(|(name, variant)| (name.to_owned(), variant))
        .chain(weirs)
        .collect()
}

fn set_up(ground: &Ground, tools: &Tools<'_>, feature: &str, variant: &Variant) -> Result<Subject> {
    let site = ground.site(1)?;
    let installed = variant.install(&site, Family::V4, tools)?;
    let program = attached(&site)?;
    // The first packet of a source passes.
    run_times(&program, 1_000)?;
    Ok(Subject {
        feature: feature.to_owned(),
        program,
        _installed: installed,
        _site: site,
        verdict: 0,
        rounds: Vec::new(),
    })
}

/// The program that is attached to a site's interface.
fn attached(site: &Site) -> Result<ProgramFd> {
    let mut ip = Command::new("ip");
    let namespace = site.namespace.name();
    ip.args([
        "-netns",
        namespace,
        "-json",
        "link",
        "show",
        "dev",
        &site.interface,
    ]);
    let links: serde_json::Value = serde_json::from_str(&command::run(&mut ip)?)?;
    let id = links[0]["xdp"]["prog"]["id"]
        .as_u64()
        .context("no XDP program is attached")?;
    for program in loaded_programs() {
        let program = program?;
        if u64::from(program.id()) == id {
            return Ok(program.fd()?);
        }
    }
    anyhow::bail!("the attached program {id} is gone")
}

fn run(program: &ProgramFd) -> Result<(u32, Duration)> {
    run_times(program, REPEAT)
}

/// The last verdict, and the mean time of a run.
fn run_times(program: &ProgramFd, repeat: u32) -> Result<(u32, Duration)> {
    let mut data = frame::template(Family::V4);
    frame::set_source4(&mut data, [10, 0, 0, 1].into());
    attached::run(program.as_fd(), &data, repeat).context("cannot run the attached program")
}

fn on_its_cpu<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    let _ahead = Ahead::on(CPU)?;
    act()
}

fn first_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.lines().next().unwrap_or_default().to_owned()
}
