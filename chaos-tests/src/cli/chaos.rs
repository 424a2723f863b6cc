//! `chaos`: scenarios.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, builder::PossibleValuesParser};
use serde_json::json;
use weir_chaos::{
    interrupt::Interrupt,
    progress::Progress,
    scenario::{Options, Report, SCENARIOS},
};

#[derive(Debug, Args)]
pub(crate) struct Chaos {
    /// Only this scenario
    #[arg(long, value_parser = PossibleValuesParser::new(SCENARIOS.map(|scenario| scenario.name)))]
    scenario: Option<String>,
    /// How often a scenario that repeats itself does its worst
    #[arg(long, default_value_t = 20)]
    events: usize,
    /// Directory for plots and reports
    #[arg(long, default_value = "target/chaos")]
    report: PathBuf,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl Chaos {
    pub(crate) fn run(self, interrupt: &Interrupt) -> Result<bool> {
        let mut progress = Progress::default();
        let options = Options {
            events: self.events,
        };
        let mut reports = Vec::new();
        let wanted = |name: &str| self.scenario.as_deref().is_none_or(|wanted| wanted == name);
        for scenario in SCENARIOS.iter().filter(|scenario| wanted(scenario.name)) {
            progress.note(&format!(
                "{}: {}",
                scenario.name,
                scenario.faults.join(", ")
            ));
            let report = scenario.run(&self.report, &options, interrupt, &mut progress)?;
            show(&report);
            reports.push(report);
        }
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
}

fn show(report: &Report) {
    eprintln!("\n{}: {}", report.name, report.verdict);
    for finding in &report.findings {
        let mark = match (finding.judged, finding.holds()) {
            (false, _) => "~",
            (true, true) => "✓",
            (true, false) => "✗",
        };
        let measured = finding
            .measured
            .map_or("not measured".to_owned(), |figure| format!("{figure:.4}"));
        let bar = match finding.bar {
            (least, most) if most.is_infinite() => format!(">= {least}"),
            (least, most) if least <= 0.0 => format!("<= {most}"),
            (least, most) => format!("{least} to {most}"),
        };
        eprintln!(
            "  {mark} {:<46}{measured:>14} {:<12} {bar}",
            finding.what, finding.unit
        );
    }
}
