//! One page that tells of a run: figures, pictures, environment, seeds. It needs nothing but itself.

mod environment;

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};

pub use self::environment::Environment;
use crate::{
    fleet::Timing,
    plot::{self, Plot},
    scenario::{BUDGET, Finding, Report},
};

/// The page's name in its directory.
pub const PAGE: &str = "index.html";

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;color:#282c34;max-width:1240px;margin:2em auto;\
padding:0 1em}h1{font-size:1.7em}h2{margin-top:2.2em;border-bottom:1px solid #ddd}table{border-collapse:\
collapse;margin:1em 0}td,th{padding:.25em .9em .25em 0;text-align:left;border-bottom:1px solid #eee;\
vertical-align:top}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.pass{color:#008a5e}.fail\
{color:#c0392b;font-weight:bold}.aside{color:#6e7681}svg{max-width:100%;height:auto}summary{cursor:pointer;\
color:#6e7681}";

/// The page as it grows: what tells of a run is made once.
#[derive(Clone, Debug, Default)]
pub struct Page {
    sections: Vec<String>,
}

impl Page {
    /// Writes the page with all runs so far, of which those that it told of before are unchanged.
    ///
    /// # Errors
    ///
    /// If a picture cannot be drawn, or the page not be written.
    pub fn write(
        &mut self,
        directory: &Path,
        reports: &[Report],
        environment: &Environment,
    ) -> Result<()> {
        let path = directory.join(PAGE);
        fs::create_dir_all(directory)?;
        // Whoever reads it meanwhile, or after this was killed, sees all of it or the one before.
        let unfinished = path.with_extension("html.new");
        fs::write(&unfinished, self.text(reports, environment)?)
            .with_context(|| unfinished.display().to_string())?;
        fs::rename(&unfinished, &path).with_context(|| path.display().to_string())
    }

    fn text(&mut self, reports: &[Report], environment: &Environment) -> Result<String> {
        for (number, report) in reports.iter().enumerate().skip(self.sections.len()) {
            let mut text = String::new();
            section(&mut text, number, report)?;
            self.sections.push(text);
        }
        page(reports, &self.sections, environment)
    }
}

fn page(reports: &[Report], sections: &[String], environment: &Environment) -> Result<String> {
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>Weir under faults</title><style>{STYLE}</style></head><body>\n\
         <h1>Weir under faults</h1>\n"
    );
    let failed = reports.iter().filter(|r| r.verdict != "pass").count();
    let worst = reports.iter().filter_map(|report| report.over_admission);
    let worst = worst.fold(0.0, f64::max);
    writeln!(
        text,
        "<p>{} runs, {failed} failed. The most that was ever admitted above a strict budget: <b>{:.2} ms of \
         budget</b>; 5 ms are allowed, of which up to 2 ms are the width of the receiver's bins.</p>",
        reports.len(),
        worst * 1e3
    )?;
    environment.write(&mut text)?;
    table(&mut text, reports)?;
    text.push_str(EXPLANATION);
    for section in sections {
        text.push_str(section);
    }
    text.push_str("</body></html>\n");
    Ok(text)
}

const EXPLANATION: &str = "<p class=\"aside\">Every figure is the receiver's: a program behind the limiter \
counts packets in bins of one millisecond, and shares no code with it. Over-admission is the largest excess \
of any window over rate and burst, in seconds of budget. Utilisation is what was admitted of what could be, \
outside the settle intervals that each run lists. Figures marked ~ were not judged: the machine did not \
send 99 % of what it was asked for, so that times say more about it than about Weir. Over-admission is \
judged always.</p>\n";

fn table(text: &mut String, reports: &[Report]) -> Result<()> {
    text.push_str(
        "<table><tr><th>scenario<th>story<th class=\"n\">seed<th class=\"n\">over-admission, ms\
         <th class=\"n\">utilisation<th class=\"n\">recovery, ms<th class=\"n\">pace<th>verdict</tr>\n",
    );
    for (number, report) in reports.iter().enumerate() {
        writeln!(
            text,
            "<tr><td><a href=\"#run{number}\">{}</a><td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}\
             <td class=\"n\">{}<td class=\"n\">{}<td class=\"{verdict}\">{verdict}</tr>",
            report.name,
            escaped(report.story),
            report.seed,
            figure(report.over_admission.map(|seconds| seconds * 1e3), 2),
            figure(report.utilisation, 3),
            figure(report.recovery_ms_p99, 0),
            figure(report.pace, 3),
            verdict = report.verdict,
        )?;
    }
    text.push_str("</table>\n");
    Ok(())
}

fn section(text: &mut String, number: usize, report: &Report) -> Result<()> {
    writeln!(
        text,
        "<h2 id=\"run{number}\">{} <span class=\"{verdict}\">{verdict}</span></h2>\n<p>{} \
         <span class=\"aside\">Again: <code>cargo xtask chaos --scenario {} --seed {}</code></span></p>",
        report.name,
        escaped(report.story),
        report.name,
        report.seed,
        verdict = report.verdict,
    )?;
    text.push_str("<table><tr><th><th>what<th class=\"n\">measured<th><th>bar</tr>\n");
    for finding in &report.findings {
        let (mark, class) = match (finding.judged, finding.holds()) {
            (false, _) => ("~", "aside"),
            (true, true) => ("✓", "pass"),
            (true, false) => ("✗", "fail"),
        };
        writeln!(
            text,
            "<tr><td class=\"{class}\">{mark}<td>{}<td class=\"n\">{}<td>{}<td>{}</tr>",
            escaped(&finding.what),
            figure(finding.measured, 4),
            finding.unit,
            escaped(&bar(finding)),
        )?;
    }
    text.push_str("</table>\n");
    let Some(played) = &report.played else {
        return Ok(());
    };
    let plot = Plot {
        title: report.name,
        recording: &played.recording,
        rate: BUDGET,
        tick: Timing::default().tick,
    };
    text.push_str(&plot::svg(&plot)?);
    text.push_str(
        "\n<details><summary>settle intervals, in which utilisation is not judged</summary><ul>\n",
    );
    for (begin, end, why) in &report.settle {
        writeln!(text, "<li>{begin} to {end} ms: {}</li>", escaped(why))?;
    }
    text.push_str("</ul></details>\n");
    Ok(())
}

/// The bar of a finding, as people read it.
#[must_use]
pub fn bar(finding: &Finding) -> String {
    match finding.bar {
        (least, most) if most.is_infinite() => format!(">= {least}"),
        (least, most) if least <= 0.0 => format!("<= {most}"),
        (least, most) => format!("{least} to {most}"),
    }
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_every_run_and_how_to_repeat_it() {
        let finding = Finding {
            what: "a < b".to_owned(),
            measured: None,
            bar: (0.0, 1.0),
            unit: "s",
            judged: true,
        };
        let report = Report {
            name: "demand-step",
            story: "Ten times & more.",
            faults: Vec::new(),
            seed: 7,
            over_admission: Some(0.001),
            utilisation: None,
            recovery_ms_p99: None,
            verdict: "fail",
            findings: vec![finding],
            settle: Vec::new(),
            pace: None,
            played: None,
        };
        let page = Page::default()
            .text(&[report], &Environment::default())
            .unwrap();
        assert!(page.contains("cargo xtask chaos --scenario demand-step --seed 7"));
        assert!(page.contains("Ten times &amp; more."));
        assert!(page.contains("✗") && page.contains("a &lt; b"));
        assert!(page.contains("1.00 ms of budget"), "{page}");
        assert!(!page.contains("<script") && !page.contains("http:"));
    }
}
