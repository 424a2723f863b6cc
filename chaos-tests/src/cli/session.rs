//! Scenarios one after the other. Whatever goes wrong with one is written down, and the next begins.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use anyhow::{Context as _, Result, anyhow};
use weir_chaos::{
    interrupt::Interrupt,
    progress::Progress,
    report::{self, Environment, Page},
    scenario::{Ground, Left, Options, Report, Scenario, Traces, leaks},
};

/// What every run is added to, as one line of JSON, when it is over: a suite that is killed loses nothing.
const RUNS: &str = "runs.jsonl";

/// What was played so far, and what is needed to go on.
pub(super) struct Session<'a> {
    directory: PathBuf,
    environment: Environment,
    interrupt: &'a Interrupt,
    progress: &'a mut Progress,
    ground: Option<Ground>,
    reports: Vec<Report>,
    page: Page,
    before: Traces,
    left: Left,
}

impl<'a> Session<'a> {
    /// Nothing has been played yet. What an earlier session wrote into this directory is replaced.
    ///
    /// # Errors
    ///
    /// If the directory cannot be written to, or the machine does not tell what is on it.
    pub(super) fn begin(
        directory: PathBuf,
        environment: Environment,
        interrupt: &'a Interrupt,
        progress: &'a mut Progress,
    ) -> Result<Self> {
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        fs::write(directory.join(RUNS), "")?;
        Ok(Self {
            before: Traces::of_this_process()?,
            directory,
            environment,
            interrupt,
            progress,
            ground: None,
            reports: Vec::new(),
            page: Page::default(),
            left: Left::default(),
        })
    }

    /// How many were played, and how many of them failed.
    pub(super) fn tally(&self) -> (usize, usize) {
        let failed = self
            .reports
            .iter()
            .filter(|report| report.verdict != "pass");
        (self.reports.len(), failed.count())
    }

    /// One line that stays.
    pub(super) fn note(&mut self, line: &str) {
        self.progress.note(line);
    }

    /// Plays one. A fleet that cannot be made, a daemon that ends by itself, a panic: the run has failed, and what is
    /// left of its fleet is removed.
    ///
    /// # Errors
    ///
    /// If the user interrupts, or the report cannot be written.
    pub(super) fn one(&mut self, scenario: &Scenario, options: &Options) -> Result<()> {
        self.progress.note(&format!(
            "{}, seed {}: {}",
            scenario.name, options.seed, scenario.story
        ));
        // What unwinding drops, a fleet with all that is its own, is nothing that is used again.
        let ran = catch_unwind(AssertUnwindSafe(|| {
            scenario.run(
                &mut self.ground,
                &self.directory,
                options,
                self.interrupt,
                self.progress,
            )
        }));
        let ran = ran.unwrap_or_else(|_| Err(anyhow!("the suite panicked")));
        self.interrupt.check()?;
        let report = ran.unwrap_or_else(|error| {
            eprintln!("{}: {error:?}", scenario.name);
            drop(self.ground.take());
            scenario.unplayed(options, &error)
        });
        show(&report);
        self.add(report)?;
        self.look_for_traces()
    }

    /// Takes everything down, and judges what is left of it all.
    ///
    /// # Errors
    ///
    /// If the report cannot be written.
    pub(super) fn finish(mut self, options: &Options) -> Result<Vec<Report>> {
        drop(self.ground.take());
        self.look_for_traces()?;
        let held = leaks(&self.reports, &self.left, options);
        show(&held);
        self.add(held)?;
        eprintln!("report: {}", self.directory.join(report::PAGE).display());
        Ok(self.reports)
    }

    fn add(&mut self, report: Report) -> Result<()> {
        let path = self.directory.join(RUNS);
        let mut runs = OpenOptions::new().append(true).open(&path)?;
        writeln!(runs, "{}", serde_json::to_string(&report)?)?;
        self.reports.push(report);
        self.page
            .write(&self.directory, &self.reports, &self.environment)
    }

    /// What is on the machine beyond the fleet that the next run may use.
    fn look_for_traces(&mut self) -> Result<()> {
        let found = Traces::of_this_process()?;
        let mut expected = self.before;
        if let Some(ground) = &self.ground {
            expected += ground.traces();
        }
        let beyond = found.beyond(&expected);
        if beyond > 0 {
            self.progress
                .note(&format!("left behind: {found:?}, expected {expected:?}"));
        }
        self.left.note(beyond, found.descriptors);
        Ok(())
    }
}

pub(super) fn show(report: &Report) {
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
        eprintln!(
            "  {mark} {:<46}{measured:>14} {:<12} {}",
            finding.what,
            finding.unit,
            report::bar(finding)
        );
    }
}
