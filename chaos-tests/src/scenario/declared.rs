//! Scenarios that are data: a fleet, a script, what has to hold.

use std::path::Path;

use anyhow::Result;

use super::{
    Finding,
    expect::{self, Expect},
    ground::{self, Ground, Needs},
};
use crate::{
    clock,
    fleet::Held,
    interrupt::Interrupt,
    progress::Progress,
    stage::{Judgement, Recording, Script},
};

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// What it is played on.
    pub needs: Needs,
    /// What is done.
    pub script: Script,
    /// What has to hold.
    pub expects: Vec<Expect>,
}

/// What was recorded, and how it was judged.
#[derive(Clone, Debug)]
pub struct Played {
    /// What happened.
    pub recording: Recording,
    /// Its figures.
    pub judgement: Judgement,
    /// Its bars.
    pub findings: Vec<Finding>,
    /// What the daemons held when it was over.
    pub held: Vec<Held>,
}

impl Declared {
    /// On the ordinary fleet.
    pub(super) fn on(script: Script, expects: Vec<Expect>) -> Self {
        Self {
            needs: Needs::ORDINARY,
            script,
            expects,
        }
    }

    /// Plays it on the ground that is there, if it fits; leaves the ground for the next one.
    ///
    /// # Errors
    ///
    /// If the fleet cannot be made, or a part of the script not be done.
    pub(super) fn play(
        &self,
        there: &mut Option<Ground>,
        directory: &Path,
        interrupt: &Interrupt,
        progress: &mut Progress,
    ) -> Result<Played> {
        let found = there.take();
        let mut ground = Ground::for_needs(found, &self.needs, directory, interrupt, progress)?;
        let recording = progress.step("playing", || ground.play(&self.script, interrupt))?;
        let timing = ground.fleet.timing;
        let running = (0..self.needs.hosts).filter_map(|host| ground.fleet.held(host).ok());
        let held = running.collect();
        let (judgement, findings) =
            expect::judge(&recording, &ground::limit(), &timing, &self.expects);
        if !findings.iter().all(Finding::is_met) {
            let logs = directory.join(format!("logs-{}", clock::this_bin()));
            ground.fleet.keep_logs(&logs)?;
            progress.note(&format!("logs: {}", logs.display()));
        }
        *there = Some(ground);
        Ok(Played {
            recording,
            judgement,
            findings,
            held,
        })
    }
}
