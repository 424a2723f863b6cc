//! Proof that the checks can fail: every rule broken in turn, until a run finds it.

use std::fmt;

use weir_coord_core::rules::Mutation;

use crate::{
    directed::scenario,
    judge::Violation,
    mutation::Broken,
    world::{STEP, Settings, TIMING, World},
};

/// Seeds that are tried of each fleet before a broken rule counts as not found.
const SEEDS: u64 = 400;
/// Seeds of a run that is written down.
const DIRECTED_SEEDS: u64 = 100;
/// Ticks of each.
const TICKS: u64 = 600;
/// Small fleets meet more take-overs and restarts a host; larger ones more joins.
const HOSTS: [usize; 2] = [5, 9];

/// How a broken rule was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The run.
    pub seed: u64,
    /// Its hosts.
    pub nodes: usize,
    /// Whether its faults are written down, and not drawn.
    pub is_directed: bool,
    /// The tick in which the violation was seen.
    pub tick: u64,
    /// What was seen.
    pub violation: Violation,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            nodes,
            tick,
            is_directed,
            violation,
        } = self;
        let kind = if *is_directed { ", directed" } else { "" };
        write!(
            f,
            "simulator{kind}, {nodes} hosts, seed {seed}, tick {tick}: {}",
            violation.what
        )
    }
}

/// Breaks a rule of the protocol, and looks for the first run that notices.
#[must_use]
pub fn hunt(mutation: Mutation) -> Option<Found> {
    hunt_broken(Broken::Rule(mutation))
}

/// As [`hunt`], of anything that can be broken.
#[must_use]
pub fn hunt_broken(broken: Broken) -> Option<Found> {
    if let Some(scenario) = scenario(broken) {
        return (1..=DIRECTED_SEEDS).find_map(|seed| found(scenario(seed, Some(broken)), true));
    }
    HOSTS.into_iter().find_map(|nodes| {
        (1..=SEEDS).find_map(|seed| {
            let mut world = World::new(Settings {
                broken: Some(broken),
                ..Settings::rough(seed, nodes, TICKS)
            });
            world.run();
            found(world, false)
        })
    })
}

fn found(mut world: World, is_directed: bool) -> Option<Found> {
    let violation = world.judge.violation.take()?;
    let steps_per_tick = (TIMING.tick.as_millis() / STEP.as_millis()) as u64;
    Some(Found {
        seed: world.settings.seed,
        nodes: world.settings.nodes,
        tick: world.judge.steps.div_ceil(steps_per_tick),
        is_directed,
        violation,
    })
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was broken.
    pub name: String,
    /// How it was found, if it was.
    pub found: Option<Found>,
}

/// Everything that can be broken, and how it is found. `seen` is told of each row.
pub fn table(mut seen: impl FnMut(&Row)) -> Vec<Row> {
    let rows = Broken::all().into_iter().map(|broken| {
        let row = Row {
            name: broken.name(),
            found: hunt_broken(broken),
        };
        seen(&row);
        row
    });
    rows.collect()
}
