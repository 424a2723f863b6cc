//! ZooKeeper comes back from a backup that is older than what hosts have promised: nobody may lead until an
//! operator has written a term above that.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Finding, Options,
    quiet::{self, Quiet},
};
use crate::{
    clock, command,
    fleet::{Fleet, plan::ZOOKEEPER_PORT},
    interrupt::Interrupt,
    progress::Progress,
};

const HOSTS: usize = 3;
/// ZooKeeper's own client, from the Debian package.
const CLIENT: &str = "/usr/share/zookeeper/bin/zkCli.sh";
/// How long nobody may lead: sessions and leases are over in less.
const WATCHED: Duration = Duration::from_secs(8);
/// Between two looks at who leads.
const PERIOD_MS: u64 = 200;
/// From the operator's word until all hosts have grants again.
const AGAIN: Duration = Duration::from_secs(20);
/// What a host says that would lead and may not.
const REFUSAL: &str = "refusing to lead";

pub(super) fn run(
    directory: &Path,
    _: &Options,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Vec<Finding>> {
    let mut quiet = Quiet::build("restore", HOSTS, 1, directory, interrupt, progress)?;
    let fleet = &mut quiet.fleet;
    quiet::settle(fleet, interrupt)?;
    let backup = term(fleet)?;
    progress.step("another term", || {
        let leader = quiet::leader(fleet, interrupt)?;
        fleet.kill(leader)?;
        clock::wait_for("another term", AGAIN, interrupt, || {
            let found = term(fleet).ok()?;
            (number(&found)? > number(&backup)?).then_some(())
        })?;
        fleet.start(leader)?;
        quiet::settle(fleet, interrupt)
    })?;
    let promised = term(fleet)?;
    let leader = quiet::leader(fleet, interrupt)?;
    let lengths: Vec<usize> = (0..HOSTS)
        .map(|host| fleet.log(host).map(|log| log.len()))
        .collect::<Result<_>>()?;
    set_term(fleet, &backup)?;
    fleet.kill(leader)?;
    let others: Vec<usize> = (0..HOSTS).filter(|host| *host != leader).collect();
    let mut led = 0;
    progress.step("nobody leads", || {
        let begun = clock::this_bin();
        while clock::this_bin() < begun + WATCHED.as_millis() as u64 {
            interrupt.check()?;
            let leads = |host: &&usize| {
                fleet
                    .metric(**host, "weir_is_leader")
                    .is_ok_and(|leads| leads > 0.0)
            };
            led += others.iter().filter(leads).count();
            clock::sleep_until(clock::this_bin() + PERIOD_MS);
        }
        Ok(())
    })?;
    let mut said = 0;
    for host in &others {
        let log = fleet.log(*host)?;
        said += usize::from(log.get(lengths[*host]..).unwrap_or("").contains(REFUSAL));
    }
    // The operator's word: above what was promised, with the voters that the fleet had.
    let mut above: Value = serde_json::from_str(&promised)?;
    above["term"] = (number(&promised).context("a record without a term")? + 1).into();
    set_term(fleet, &above.to_string())?;
    fleet.start(leader)?;
    let begun = clock::boot_time();
    let again = progress.step("an operator", || {
        quiet::settle(fleet, interrupt).with_context(|| fleet.logs())
    });
    let again = again
        .is_ok()
        .then(|| (clock::boot_time() - begun).as_secs_f64());
    interrupt.check()?;
    let finding = |what: &str, measured, bar, unit| Finding {
        what: what.to_owned(),
        measured,
        bar,
        unit,
        judged: true,
    };
    Ok(vec![
        finding(
            "leaders by a term that went back",
            Some(led as f64),
            (0.0, 0.0),
            "leaders",
        ),
        finding(
            "hosts that say so",
            Some(said as f64),
            (1.0, HOSTS as f64),
            "hosts",
        ),
        finding(
            "grants again by the operator's word",
            again,
            (0.0, AGAIN.as_secs_f64()),
            "s",
        ),
    ])
}

fn number(record: &str) -> Option<u64> {
    serde_json::from_str::<Value>(record).ok()?["term"].as_u64()
}

fn path(fleet: &Fleet) -> String {
    format!("/weir/{}/term", fleet.plan.name)
}

fn term(fleet: &Fleet) -> Result<String> {
    let answer = ask(fleet, &["get", &path(fleet)])?;
    record(&answer).with_context(|| format!("no record in:\n{answer}"))
}

/// The line that is a record, among what the client says of itself.
fn record(answer: &str) -> Option<String> {
    let mut lines = answer.lines().map(str::trim);
    lines.find(|line| number(line).is_some()).map(str::to_owned)
}

fn set_term(fleet: &Fleet, record: &str) -> Result<()> {
    ask(fleet, &["set", &path(fleet), record])?;
    // Where it lets somebody lead, it has gone on by now.
    let found = term(fleet)?;
    let is_written = number(&found) >= number(record);
    ensure!(is_written, "{found} was written as {record}");
    Ok(())
}

fn ask(fleet: &Fleet, arguments: &[&str]) -> Result<String> {
    let server = &fleet.plan.servers[0];
    let mut client = server.namespace.command(CLIENT);
    client
        .args(["-server", &format!("{}:{ZOOKEEPER_PORT}", server.v4())])
        .args(arguments);
    command::run(&mut client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_among_what_the_client_says() {
        let answer = "Connecting to 198.18.51.1:2181\n\nWATCHER::\n\nWatchedEvent state:SyncConnected\n\
                      {\"term\":7,\"voters\":[]}\n";
        assert_eq!(
            record(answer).as_deref(),
            Some("{\"term\":7,\"voters\":[]}")
        );
        assert_eq!(record("Node does not exist: /weir/x/term\n"), None);
    }
}
