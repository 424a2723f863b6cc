//! A fleet with a strict limit in force and no traffic: for what is about commits and leases.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    fleet::{self, Fleet, Plan, Process, Timing, plan::LIMITED_PORT},
    interrupt::Interrupt,
    progress::Progress,
};

/// A fleet, gone when this is dropped.
pub(super) struct Quiet {
    pub(super) fleet: Fleet,
}

impl Quiet {
    /// Builds it, with `zookeeper` servers, and waits until all hosts have grants.
    pub(super) fn build(
        name: &str,
        hosts: usize,
        zookeeper: usize,
        directory: &Path,
        interrupt: &Interrupt,
        progress: &mut Progress,
    ) -> Result<Self> {
        let plan = Plan::new(
            &format!("{name}-{}", Process::current().pid),
            hosts,
            1,
            zookeeper,
        )?;
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        let limits = directory.join(format!("{name}.toml"));
        let text = format!(
            "version = 1\n\n[fleet]\nmax_members = {hosts}\n\n[[limit]]\nname  = \"flood\"\n\
             proto = \"udp\"\nports = [{LIMITED_PORT}]\nrate  = \"30000 packets/s\"\n\
             promise = \"strict\"\n"
        );
        fs::write(&limits, text)?;
        let timing = Timing::default();
        let fleet = fleet::build(plan, timing, Some(&limits), interrupt, progress)?;
        Ok(Self { fleet })
    }
}
