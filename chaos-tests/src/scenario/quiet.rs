//! A fleet with a strict limit in force and no traffic: for what is about commits and leases.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    clock,
    fleet::{self, Fleet, Plan, Process, Timing, plan::LIMITED_PORT},
    interrupt::Interrupt,
    progress::Progress,
};

/// A fleet that takes longer to be well again is given up.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// Waits until every host knows a leader and has grants, and until all may vote again. A fleet begins
/// with one voter, and cannot go on without it until there are more.
pub(super) fn settle(fleet: &Fleet, interrupt: &Interrupt) -> Result<()> {
    settle_with(fleet, fleet.plan.hosts.len(), interrupt)
}

/// The same, with so many voters.
pub(super) fn settle_with(fleet: &Fleet, voters: usize, interrupt: &Interrupt) -> Result<()> {
    settle_hosts(fleet, fleet.plan.hosts.len(), voters, interrupt)
}

/// The same, where only the first hosts run.
pub(super) fn settle_hosts(
    fleet: &Fleet,
    hosts: usize,
    voters: usize,
    interrupt: &Interrupt,
) -> Result<()> {
    clock::wait_for("all hosts to have grants", PATIENCE, interrupt, || {
        let is_well = |host| {
            let status = fleet.operator.status(host);
            let found = fleet.metric(host, "weir_voters");
            status.is_ok_and(|status| status.is_in_force() && status.leader.is_some())
                && found.is_ok_and(|found| found == voters as f64)
        };
        (0..hosts).all(is_well).then_some(())
    })?;
    // A daemon that has started abstains as a voter for W.
    let wait = u64::try_from(fleet.timing.wait_out().as_millis())?;
    clock::sleep_until(clock::this_bin() + wait);
    interrupt.check()?;
    Ok(())
}

/// Who leads, by the daemons' own word.
pub(super) fn leader(fleet: &Fleet, interrupt: &Interrupt) -> Result<usize> {
    let leads = |host: &usize| {
        let leads = fleet.metric(*host, "weir_is_leader");
        leads.is_ok_and(|leads| leads > 0.0)
    };
    let found = clock::wait_for("a leader", PATIENCE, interrupt, || {
        (0..fleet.plan.hosts.len()).find(leads)
    })?;
    Ok(found)
}
