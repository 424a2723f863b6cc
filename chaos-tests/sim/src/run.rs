//! Many runs, and what they come to.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use serde::Serialize;

use crate::{
    faults::Faults,
    judge::Violation,
    load::Pattern,
    world::{Settings, World},
};

/// What came of one run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The first violation.
    pub violation: Option<Violation>,
    /// The traffic that it had.
    pub pattern: Pattern,
    /// Admitted of what was possible.
    pub utilisation: Option<f64>,
    /// Jain's index, where all hosts want the same.
    pub jain: Option<f64>,
    /// Of each shift.
    pub convergence_ticks: Vec<u64>,
    /// Longest time between two commits, in milliseconds.
    pub commit_gap_ms: u64,
    /// What went wrong.
    pub faults: Faults,
    /// Lowered budgets that came to be promised.
    pub cuts: u64,
    /// Events.
    pub events: u64,
    /// Grants installed.
    pub installs: u64,
}

/// Plays one run to its end.
#[must_use]
pub fn play(settings: Settings) -> Outcome {
    let mut world = World::new(settings);
    world.run();
    outcome(&world)
}

/// What has come of a world so far.
#[must_use]
pub fn outcome(world: &World) -> Outcome {
    let figures = &world.judge.figures;
    let pattern = world.loads[0].pattern();
    Outcome {
        seed: world.settings.seed,
        violation: world.judge.violation.clone(),
        pattern,
        utilisation: figures.utilisation(),
        jain: (pattern == Pattern::Steady)
            .then(|| figures.jain())
            .flatten(),
        convergence_ticks: figures.convergence_ticks.clone(),
        commit_gap_ms: figures.commit_gap_ms,
        faults: world.faults,
        cuts: world.judge.cuts,
        events: world.events,
        installs: figures.installs,
    }
}

/// All runs together.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// How many.
    pub runs: u64,
    /// How many broke a promise or an invariant.
    pub violations: u64,
    /// The first percentile of runs.
    pub utilisation_p01: Option<f64>,
    /// Of all shifts.
    pub convergence_ticks_p99: Option<u64>,
    /// The first percentile of runs in which all hosts want the same.
    pub jain_p01: Option<f64>,
}

impl Summary {
    /// Sums runs up.
    #[must_use]
    pub fn of(outcomes: &[Outcome]) -> Self {
        let figures = |figure: fn(&Outcome) -> Option<f64>| {
            let mut figures: Vec<f64> = outcomes.iter().filter_map(figure).collect();
            figures.sort_by(f64::total_cmp);
            // With fewer than a hundred it is the worst.
            figures.get(figures.len() / 100).copied()
        };
        let mut shifts: Vec<u64> = outcomes
            .iter()
            .flat_map(|outcome| outcome.convergence_ticks.iter().copied())
            .collect();
        shifts.sort_unstable();
        let is_violated = |outcome: &&Outcome| outcome.violation.is_some();
        Self {
            runs: outcomes.len() as u64,
            violations: outcomes.iter().filter(is_violated).count() as u64,
            utilisation_p01: figures(|outcome| outcome.utilisation),
            convergence_ticks_p99: shifts
                .len()
                .checked_sub(shifts.len() / 100 + 1)
                .map(|index| shifts[index]),
            jain_p01: figures(|outcome| outcome.jain),
        }
    }
}

/// Plays `seeds` runs from the settings' seed on, one a thread, in no order. `seen` is told of each.
pub fn play_all(
    settings: &Settings,
    seeds: u64,
    threads: usize,
    seen: impl Fn(&Outcome) + Sync,
) -> Vec<Outcome> {
    let next = AtomicU64::new(0);
    let mut outcomes: Vec<Outcome> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1))
            .map(|_| {
                scope.spawn(|| {
                    let mut outcomes = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= seeds {
                            return outcomes;
                        }
                        let seed = settings.seed.wrapping_add(number);
                        let outcome = play(Settings {
                            seed,
                            ..settings.clone()
                        });
                        seen(&outcome);
                        outcomes.push(outcome);
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a run does not panic"))
            .collect()
    });
    outcomes.sort_by_key(|outcome| outcome.seed);
    outcomes
}
