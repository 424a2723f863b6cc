//! ZooKeeper's leader is killed, and then its quorum is lost for half a minute: ticks do not notice.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    Finding, Options,
    quiet::{self, Quiet},
};
use crate::{clock, fleet::Fleet, interrupt::Interrupt, progress::Progress};

const HOSTS: usize = 3;
const SERVERS: usize = 3;
/// How long there is no quorum: many sessions and leases.
const LOST: Duration = Duration::from_secs(30);
/// A new leader of the ensemble is there within seconds.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn run(
    directory: &Path,
    _: &Options,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Vec<Finding>> {
    let mut quiet = Quiet::build("ensemble", HOSTS, SERVERS, directory, interrupt, progress)?;
    let fleet = &mut quiet.fleet;
    quiet::settle(fleet, interrupt)?;
    let change = progress.step("its leader", || {
        counted(fleet, |fleet| leader_changes(fleet, interrupt))
    })?;
    let outage = progress.step("no quorum", || {
        counted(fleet, |fleet| quorum_is_lost(fleet, interrupt))
    })?;
    let finding = |what: &str, measured: f64, unit| Finding {
        what: what.to_owned(),
        measured: Some(measured),
        bar: (0.0, 0.0),
        unit,
        judged: true,
    };
    Ok(vec![
        finding(
            "missed ticks, ZooKeeper's leader killed",
            change.gaps,
            "ticks",
        ),
        finding(
            "missed ticks, ZooKeeper without quorum",
            outage.gaps,
            "ticks",
        ),
        finding(
            "hosts that fell to their floors",
            change.falls + outage.falls,
            "hosts",
        ),
        finding(
            "changes of the fleet's leader",
            change.terms + outage.terms,
            "terms",
        ),
    ])
}

/// What happened meanwhile, on all hosts.
struct Counted {
    gaps: f64,
    falls: f64,
    terms: f64,
}

fn counted(fleet: &mut Fleet, act: impl FnOnce(&mut Fleet) -> Result<()>) -> Result<Counted> {
    let before = count(fleet)?;
    act(fleet).with_context(|| fleet.logs())?;
    let after = count(fleet)?;
    Ok(Counted {
        gaps: after.gaps - before.gaps,
        falls: after.falls - before.falls,
        terms: after.terms - before.terms,
    })
}

fn count(fleet: &Fleet) -> Result<Counted> {
    let mut sum = Counted {
        gaps: 0.0,
        falls: 0.0,
        terms: 0.0,
    };
    for host in 0..fleet.plan.hosts.len() {
        sum.gaps += fleet.metric(host, "weir_commit_gaps_total")?;
        sum.falls += fleet.metric(host, "weir_floor_falls_total")?;
        sum.terms = f64::max(sum.terms, fleet.metric(host, "weir_term")?);
    }
    Ok(sum)
}

fn leader_changes(fleet: &mut Fleet, interrupt: &Interrupt) -> Result<()> {
    let leader = fleet
        .ensemble
        .leader()
        .context("no ZooKeeper server leads")?;
    fleet.ensemble.kill(leader)?;
    clock::wait_for("another ZooKeeper leader", PATIENCE, interrupt, || {
        fleet.ensemble.leader().filter(|other| *other != leader)
    })?;
    fleet.ensemble.start(leader)?;
    fleet.ensemble.wait_until_serving(interrupt)?;
    wait_until_connected(fleet, 1.0, interrupt)
}

/// Two of three servers stop, with their connections open: nobody is told.
fn quorum_is_lost(fleet: &mut Fleet, interrupt: &Interrupt) -> Result<()> {
    for server in 1..SERVERS {
        fleet.ensemble.pause(server)?;
    }
    let begun = clock::this_bin();
    wait_until_connected(fleet, 0.0, interrupt)?;
    clock::sleep_until(begun + LOST.as_millis() as u64);
    for server in 1..SERVERS {
        fleet.ensemble.resume(server)?;
    }
    fleet.ensemble.wait_until_serving(interrupt)?;
    wait_until_connected(fleet, 1.0, interrupt)
}

fn wait_until_connected(fleet: &Fleet, wanted: f64, interrupt: &Interrupt) -> Result<()> {
    let what = format!("every host to say that ZooKeeper is {wanted}");
    let is_so = |host| {
        let found = fleet.metric(host, "weir_zookeeper_connected");
        found.is_ok_and(|found| found == wanted)
    };
    let all = || (0..fleet.plan.hosts.len()).all(is_so).then_some(());
    Ok(clock::wait_for(&what, PATIENCE, interrupt, all)?)
}
