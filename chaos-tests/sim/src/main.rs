//! `sim`: seeded simulation of whole fleets.

use std::{process::ExitCode, sync::Mutex, thread, time::Instant};

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use weir_sim::{
    Broken, Outcome, Pattern, Settings, Summary, World,
    mutations::table,
    play_all,
    yardstick::{self, Yardstick},
};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FaultChoice {
    /// Nothing
    None,
    /// Everything
    All,
}

/// Whole fleets of the protocol on one virtual clock, with every fault
///
/// Example: cargo xtask sim --faults all --nodes 50 --seeds 100 --ticks 600
#[derive(Debug, Parser)]
#[command(name = "weir-sim", version)]
struct Sim {
    /// What goes wrong
    #[arg(long, default_value = "all")]
    faults: FaultChoice,
    /// Hosts in a fleet
    #[arg(long, default_value_t = 50)]
    nodes: usize,
    /// How many runs
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first run's seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ticks of 100 ms in a run
    #[arg(long, default_value_t = 600)]
    ticks: u64,
    /// Commit by conditional writes to ZooKeeper, and not by a majority of voters
    #[arg(long)]
    by_zookeeper: bool,
    /// With an elastic limit, and limits with keys
    #[arg(long)]
    keys: bool,
    /// Policies stay as they are, whatever else goes wrong
    #[arg(long)]
    one_policy: bool,
    /// The traffic: steady, skewed, moving, steps, back-off; the seed chooses unless it is said
    #[arg(long, value_parser = pattern)]
    pattern: Option<Pattern>,
    /// Break this rule on purpose; `list` lists them
    #[arg(long)]
    broken: Option<String>,
    /// Break every rule in turn, and say which seed finds it
    #[arg(long)]
    mutations: bool,
    /// Play what others have published, and print their figures beside these
    #[arg(long)]
    yardsticks: bool,
    /// Print the end of the event log of the first run
    #[arg(long)]
    log: bool,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match Sim::parse().run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

impl Sim {
    fn run(self) -> Result<bool> {
        if self.mutations {
            return self.mutate();
        }
        if self.yardsticks {
            return self.measure();
        }
        let settings = self.settings(self.broken()?);
        if self.log {
            return Ok(show_log(settings));
        }
        let begun = Instant::now();
        let done = Mutex::new(0_u64);
        let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let outcomes = play_all(&settings, self.seeds, threads, |outcome| {
            let mut done = done.lock().expect("nobody panics with it");
            *done += 1;
            if let Some(violation) = &outcome.violation {
                eprintln!("✗ seed {}: {violation}", outcome.seed);
                eprintln!("  {}", self.replay(outcome.seed));
            } else if done.is_multiple_of(100) {
                eprintln!("  {done} of {} runs", self.seeds);
            }
        });
        let summary = Summary::of(&outcomes);
        show(&summary, &outcomes, begun);
        if self.json {
            println!("{}", serde_json::to_string(&summary)?);
        }
        Ok(summary.violations == 0)
    }

    fn settings(&self, broken: Option<Broken>) -> Settings {
        Settings {
            faults: self.faults == FaultChoice::All,
            policies: self.faults == FaultChoice::All && !self.one_policy,
            by_zookeeper: self.by_zookeeper,
            keys: self.keys,
            broken,
            logs: self.log,
            pattern: self.pattern,
            ..Settings::calm(self.seed, self.nodes, self.ticks)
        }
    }

    fn broken(&self) -> Result<Option<Broken>> {
        let Some(name) = &self.broken else {
            return Ok(None);
        };
        let all = Broken::all();
        let found = all.iter().find(|broken| broken.name() == *name);
        if found.is_none() {
            let names: Vec<String> = all.iter().map(|broken| broken.name()).collect();
            bail!("no rule {name}; there are: {}", names.join(", "));
        }
        Ok(found.copied())
    }

    /// The command that plays a run again, with its log.
    fn replay(&self, seed: u64) -> String {
        let faults = match self.faults {
            FaultChoice::None => "none",
            FaultChoice::All => "all",
        };
        let mut command = format!(
            "cargo xtask sim --faults {faults} --nodes {} --ticks {} --seed {seed} --seeds 1 --log",
            self.nodes, self.ticks
        );
        if self.by_zookeeper {
            command.push_str(" --by-zookeeper");
        }
        if self.keys {
            command.push_str(" --keys");
        }
        if self.one_policy {
            command.push_str(" --one-policy");
        }
        if let Some(pattern) = self.pattern {
            command.push_str(" --pattern ");
            command.push_str(pattern.name());
        }
        if let Some(broken) = &self.broken {
            command.push_str(" --broken ");
            command.push_str(broken);
        }
        command
    }

    fn measure(&self) -> Result<bool> {
        let yardsticks = yardstick::all(self.seed);
        yardsticks.iter().for_each(show_yardstick);
        if self.json {
            println!("{}", serde_json::json!({ "yardsticks": yardsticks }));
        }
        Ok(yardsticks.iter().all(|yardstick| yardstick.is_kept))
    }

    /// Every rule is broken in turn, until a seed finds it.
    fn mutate(&self) -> Result<bool> {
        let rows = table(|row| match &row.found {
            Some(found) => eprintln!("✓ {:<26} {found}", row.name),
            None => eprintln!("✗ {:<26} not found", row.name),
        });
        let are_found = rows.iter().all(|row| row.found.is_some());
        if self.json {
            let rows: Vec<_> = rows
                .iter()
                .map(|row| {
                    let by = row.found.as_ref().map(ToString::to_string);
                    serde_json::json!({ "name": row.name, "caught": by.is_some(), "by": by })
                })
                .collect();
            println!("{}", serde_json::json!({ "mutations": rows }));
        }
        Ok(are_found)
    }
}

/// Every figure beside what was published.
fn show_yardstick(yardstick: &Yardstick) {
    eprintln!("{}: {}", yardstick.name, yardstick.story);
    eprintln!("  published: {}", yardstick.source);
    for figure in &yardstick.figures {
        let published = figure.published.map(|value| value.to_string());
        eprintln!(
            "  {:<54} {:>9} {:>9.3}",
            figure.what,
            published.as_deref().unwrap_or("-"),
            figure.measured
        );
    }
    eprintln!(
        "  promise 1 {}",
        if yardstick.is_kept { "kept" } else { "BROKEN" }
    );
}

fn pattern(name: &str) -> Result<Pattern, String> {
    Pattern::ALL
        .into_iter()
        .find(|pattern| pattern.name() == name)
        .ok_or_else(|| format!("there is no {name}: {:?}", Pattern::ALL.map(Pattern::name)))
}

fn show_log(settings: Settings) -> bool {
    let mut world = World::new(settings);
    world.run();
    for line in &world.log {
        println!("{line}");
    }
    if let Some(violation) = &world.judge.violation {
        println!("✗ {violation}");
    }
    world.judge.violation.is_none()
}

fn show(summary: &Summary, outcomes: &[Outcome], begun: Instant) {
    let total = |figure: fn(&Outcome) -> u64| outcomes.iter().map(figure).sum::<u64>();
    eprintln!(
        "{} runs, {} violations; {} crashes, {} reboots, {} pauses, {} partitions, {} outages, \
         {} expired sessions, {} policies, {} cuts promised, {} removals; {} grants in {} events; {:.1} s",
        summary.runs,
        summary.violations,
        total(|outcome| outcome.faults.crashes),
        total(|outcome| outcome.faults.reboots),
        total(|outcome| outcome.faults.pauses),
        total(|outcome| outcome.faults.partitions),
        total(|outcome| outcome.faults.outages),
        total(|outcome| outcome.faults.expiries),
        total(|outcome| outcome.faults.policies),
        total(|outcome| outcome.cuts),
        total(|outcome| outcome.faults.removals),
        total(|outcome| outcome.installs),
        total(|outcome| outcome.events),
        begun.elapsed().as_secs_f64(),
    );
    for pattern in Pattern::ALL {
        let of_pattern = outcomes.iter().filter(|outcome| outcome.pattern == pattern);
        let figures = of_pattern.filter_map(|outcome| outcome.utilisation);
        let worst = figures.fold(f64::INFINITY, f64::min);
        if worst.is_finite() {
            eprintln!("  {:<8} worst utilisation {worst:.4}", pattern.name());
        }
    }
    let gap = outcomes.iter().map(|outcome| outcome.commit_gap_ms).max();
    eprintln!(
        "utilisation p01 {:?}, convergence p99 {:?} ticks, Jain p01 {:?}, longest gap between \
         commits {gap:?} ms",
        summary.utilisation_p01, summary.convergence_ticks_p99, summary.jain_p01,
    );
}
