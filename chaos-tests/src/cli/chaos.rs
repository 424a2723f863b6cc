//! `chaos`: scenarios.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::{Args, builder::PossibleValuesParser};
use serde_json::{Value, json};
use weir_chaos::{
    interrupt::Interrupt,
    progress::Progress,
    report::Environment,
    scenario::{BROKEN, IN_BUDGET, OVER_ADMISSION, Options, SCENARIOS, Scenario},
};

use super::session::Session;

/// The scenario that draws its faults.
const RANDOM: &str = "random";

#[derive(Debug, Args)]
pub(crate) struct Chaos {
    /// Only these scenarios
    #[arg(long, value_parser = PossibleValuesParser::new(SCENARIOS.iter().map(|scenario| scenario.name)))]
    scenario: Vec<String>,
    /// Only those of the short form, which takes minutes
    #[arg(long, conflicts_with = "scenario")]
    short: bool,
    /// Show figures that are times, and do not judge them: for machines on which others work too
    #[arg(long)]
    without_times: bool,
    /// After each scenario has run once, go on with the last one, random faults if none is named, until
    /// so many minutes have passed. A run that cannot be played has failed, and the next begins
    #[arg(long)]
    minutes: Option<u64>,
    /// What random choices are drawn from; each run after the first takes the next number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Have the daemons break one rule after the other, and see that it is found out
    #[arg(long, conflicts_with_all = ["short", "minutes", "scenario"])]
    broken: bool,
    /// Have the daemons break this rule: the scenario should fail
    #[arg(long, value_name = "RULE")]
    without: Option<String>,
    /// With `--broken`: only this rule
    #[arg(long, requires = "broken", value_parser = PossibleValuesParser::new(BROKEN.map(|broken| broken.rule)))]
    rule: Option<String>,
    /// How often a scenario that repeats itself does its worst
    #[arg(long, default_value_t = 20)]
    events: usize,
    /// Directory for the report
    #[arg(long, default_value = "target/chaos")]
    report: PathBuf,
    /// Name the scenarios, and end
    #[arg(long)]
    list: bool,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl Chaos {
    pub(crate) fn run(self, interrupt: &Interrupt) -> Result<bool> {
        if self.list {
            for scenario in &SCENARIOS {
                println!("{:<28}{}", scenario.name, scenario.story);
            }
            return Ok(true);
        }
        let environment = Environment::here(self.seed);
        let mut progress = Progress::default();
        if self.broken {
            return self.break_rules(interrupt, &mut progress);
        }
        let report = self.report.clone();
        let mut session = Session::begin(report, environment, interrupt, &mut progress)?;
        let ran = self.play(&mut session);
        // What ran before something went wrong is worth reading.
        let reports = session.finish(&self.options())?;
        ran?;
        let violations = reports
            .iter()
            .filter(|report| report.verdict != "pass")
            .count();
        if self.json {
            println!(
                "{}",
                json!({ "scenarios": reports, "violations": violations })
            );
        }
        Ok(violations == 0)
    }

    fn options(&self) -> Options {
        Options {
            events: self.events,
            seed: self.seed,
            broken_rule: self.without.clone(),
            judges_times: !self.without_times,
        }
    }

    fn wanted(&self) -> Vec<&'static Scenario> {
        let is_wanted = |scenario: &&Scenario| {
            if self.scenario.is_empty() {
                !self.short || scenario.is_short
            } else {
                self.scenario.iter().any(|name| name == scenario.name)
            }
        };
        SCENARIOS.iter().filter(is_wanted).collect()
    }

    fn play(&self, session: &mut Session<'_>) -> Result<()> {
        let begun = Instant::now();
        let limit = self
            .minutes
            .map(|minutes| Duration::from_secs(60 * minutes));
        let is_over = || limit.is_some_and(|limit| begun.elapsed() >= limit);
        let mut options = self.options();
        let wanted = self.wanted();
        for scenario in &wanted {
            if !is_over() {
                session.one(scenario, &options)?;
            }
        }
        let last = match self.scenario.as_slice() {
            [] => SCENARIOS.iter().find(|scenario| scenario.name == RANDOM),
            _ => wanted.last().copied(),
        };
        while let (Some(limit), Some(scenario), false) = (limit, last, is_over()) {
            options.seed += 1;
            let (played, failed) = session.tally();
            session.note(&format!(
                "minute {} of {}: {played} runs, {failed} failed",
                begun.elapsed().as_secs() / 60,
                limit.as_secs() / 60,
            ));
            session.one(scenario, &options)?;
        }
        Ok(())
    }

    /// A rule that is broken has to be found by its scenario, by what the receivers counted.
    fn break_rules(&self, interrupt: &Interrupt, progress: &mut Progress) -> Result<bool> {
        let mut rows: Vec<Value> = Vec::new();
        let is_wanted = |rule: &str| self.rule.as_deref().is_none_or(|wanted| wanted == rule);
        for broken in BROKEN.iter().filter(|broken| is_wanted(broken.rule)) {
            let scenario = SCENARIOS
                .iter()
                .find(|scenario| scenario.name == broken.scenario);
            ensure!(scenario.is_some(), "no scenario {}", broken.scenario);
            let Some(scenario) = scenario else { continue };
            progress.note(&format!("without {}: {}", broken.rule, broken.story));
            let options = Options {
                events: self.events,
                seed: self.seed,
                broken_rule: Some(broken.rule.to_owned()),
                judges_times: false,
            };
            let mut ground = None;
            let report = scenario.run(&mut ground, &self.report, &options, interrupt, progress)?;
            drop(ground);
            // Of whatever has a budget: the flood, and sources that are limited one by one.
            let budgets = report
                .findings
                .iter()
                .filter(|found| found.unit == IN_BUDGET);
            let over = budgets
                .filter_map(|found| found.measured)
                .fold(0.0, f64::max);
            let is_caught = over > OVER_ADMISSION;
            let mark = if is_caught {
                "✓ found"
            } else {
                "✗ not found"
            };
            eprintln!(
                "  {mark} by {}: {over:.3} s of budget too much",
                scenario.name
            );
            rows.push(json!({
                "rule": broken.rule,
                "scenario": scenario.name,
                "over_admission": over,
                "caught": is_caught,
            }));
        }
        let missed = rows.iter().filter(|row| row["caught"] != true).count();
        if self.json {
            println!("{}", json!({ "broken": rows, "violations": missed }));
        }
        Ok(missed == 0)
    }
}
