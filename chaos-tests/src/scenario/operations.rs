//! What operators do to a fleet: a change that nobody confirms while the leader dies, one that is
//! confirmed, one that is taken back; members that are drained and removed.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Finding, Options,
    quiet::{self, Quiet},
};
use crate::{clock, fleet::Fleet, interrupt::Interrupt, progress::Progress};

const HOSTS: usize = 4;
/// How long the change that nobody confirms stays.
const TRIAL: Duration = Duration::from_secs(3);
/// What a take-over, and the change back, may add.
const LATE: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn run(
    directory: &Path,
    _: &Options,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Vec<Finding>> {
    let mut quiet = Quiet::build("operate", HOSTS, 1, directory, interrupt, progress)?;
    let fleet = &mut quiet.fleet;
    quiet::settle_with(fleet, HOSTS - 1, interrupt)?;
    let before = fs::read_to_string(directory.join("operate.toml"))?;
    let changed = directory.join("operate-changed.toml");
    fs::write(&changed, before.replace("30000", "20000"))?;
    let changed = changed.to_str().context("a path that is text")?;

    let mut trial = 0.0;
    let mut act = |name: &str, act: &mut dyn FnMut(&mut Fleet) -> Result<()>| {
        progress.step(name, || act(fleet).with_context(|| fleet.logs()))
    };
    act("trial", &mut |fleet| {
        trial = unconfirmed(fleet, changed, interrupt)?;
        Ok(())
    })?;
    act("confirm", &mut |fleet| confirmed(fleet, changed))?;
    act("drain", &mut |fleet| drained(fleet, interrupt))?;
    act("remove", &mut |fleet| removed(fleet, interrupt))?;
    Ok(vec![Finding {
        what: "an unconfirmed change goes back, though its leader died".to_owned(),
        measured: Some(trial),
        bar: (TRIAL.as_secs_f64() * 0.9, (TRIAL + LATE).as_secs_f64()),
        unit: "s",
        judged: true,
    }])
}

/// The version in force, and how long there is to confirm it, as a host knows them.
fn in_force(fleet: &Fleet, host: usize) -> Option<(u64, bool)> {
    let text = fleet.operator.ask(host, |weir| weir.arg("history")).ok()?;
    let history: Value = serde_json::from_str(&text).ok()?;
    let versions = history["versions"].as_array()?;
    let found = versions
        .iter()
        .find(|version| version["in_force"] == true)?;
    Some((
        found["version"].as_u64()?,
        !found["confirm_within_ms"].is_null(),
    ))
}

/// Applies for a trial, kills the leader, and says after how many seconds the change was taken back.
fn unconfirmed(fleet: &mut Fleet, changed: &str, interrupt: &Interrupt) -> Result<f64> {
    let leader = quiet::leader(fleet, interrupt)?;
    let other = (leader + 1) % HOSTS;
    let within = format!("{}s", TRIAL.as_secs());
    let applied = fleet
        .operator
        .change(other, &["apply", changed, "--confirm-within", &within])?;
    let begun = clock::boot_time();
    let version = applied["version"].as_u64().context("a version")?;
    fleet.kill(leader)?;
    clock::wait_for("the change to go back", PATIENCE, interrupt, || {
        let (found, waits) = in_force(fleet, other)?;
        (found > version && !waits).then_some(())
    })?;
    let lasted = (clock::boot_time() - begun).as_secs_f64();
    fleet.start(leader)?;
    quiet::settle_with(fleet, HOSTS - 1, interrupt)?;
    Ok(lasted)
}

/// Applies for a trial, confirms, and goes back by hand.
fn confirmed(fleet: &Fleet, changed: &str) -> Result<()> {
    let operator = &fleet.operator;
    let applied = operator.change(0, &["apply", changed, "--confirm-within", "60s"])?;
    let refused = operator.change(1, &["apply", changed]);
    ensure!(refused.is_err(), "a change on trial keeps others out");
    let kept = operator.change(2, &["confirm"])?;
    ensure!(kept["version"] == applied["version"], "{kept} {applied}");
    ensure!(
        operator.change(0, &["confirm"]).is_err(),
        "nothing waits any more"
    );
    let back = operator.change(3, &["rollback"])?;
    ensure!(back["changes"][0]["change"] == "changed", "{back}");
    ensure!(
        back["version"].as_u64() > kept["version"].as_u64(),
        "{back}: versions only grow"
    );
    Ok(())
}

/// Some member that does not lead.
fn follower(fleet: &Fleet, interrupt: &Interrupt) -> Result<usize> {
    let leader = quiet::leader(fleet, interrupt)?;
    let status = fleet.operator.status(leader)?;
    let is_member = |host: &usize| {
        let name = &fleet.plan.hosts[*host].name;
        status.members.iter().any(|member| member.name == *name)
    };
    let found = (0..HOSTS).filter(|host| *host != leader).find(is_member);
    found.context("a member that does not lead")
}

/// The share of a host in packets per second, and its floor, by the leader's word.
fn share(fleet: &Fleet, host: usize) -> Option<(f64, f64)> {
    let text = fleet.operator.ask(host, |weir| weir.arg("nodes")).ok()?;
    let nodes: Value = serde_json::from_str(&text).ok()?;
    let name = &fleet.plan.hosts[host].name;
    let rows = nodes["nodes"].as_array()?;
    let row = rows.iter().find(|row| row["name"] == name.as_str())?;
    let limit = &row["limits"][0];
    Some((limit["share"].as_f64()?, limit["floor"].as_f64()?))
}

fn drained(fleet: &Fleet, interrupt: &Interrupt) -> Result<()> {
    let host = follower(fleet, interrupt)?;
    let name = &fleet.plan.hosts[host].name;
    let above_floor = |wanted: bool| {
        let what = format!("a share above the floor: {wanted}");
        clock::wait_for(&what, PATIENCE, interrupt, || {
            let (share, floor) = share(fleet, host)?;
            ((share > floor * 1.5) == wanted).then_some(())
        })
    };
    above_floor(true)?;
    fleet.operator.change(host, &["drain", name])?;
    above_floor(false)?;
    fleet.operator.change(host, &["drain", name, "--undo"])?;
    above_floor(true)?;
    Ok(())
}

fn removed(fleet: &mut Fleet, interrupt: &Interrupt) -> Result<()> {
    let host = follower(fleet, interrupt)?;
    let name = fleet.plan.hosts[host].name.clone();
    let refused = fleet
        .operator
        .change(host, &["remove", &name, "--powered-off"]);
    ensure!(refused.is_err(), "{name} runs");
    fleet.operator.change(host, &["remove", &name])?;
    let grant = "weir_grant_rate{limit=\"flood\"}";
    clock::wait_for("its floor to be given back", PATIENCE, interrupt, || {
        (fleet.metric(host, grant).ok()? == 0.0).then_some(())
    })?;

    let host = follower(fleet, interrupt)?;
    let name = fleet.plan.hosts[host].name.clone();
    fleet.kill(host)?;
    let leader = quiet::leader(fleet, interrupt)?;
    clock::wait_for("its session to end", PATIENCE, interrupt, || {
        let removed = fleet
            .operator
            .change(leader, &["remove", &name, "--powered-off"]);
        removed.ok()
    })?;
    let two_are_gone = || {
        let status = fleet.operator.status(leader).ok()?;
        (status.members.len() == HOSTS - 2).then_some(())
    };
    clock::wait_for("two members to be gone", PATIENCE, interrupt, two_are_gone)?;
    Ok(())
}
