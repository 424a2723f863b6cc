//! The leader dies, or stops, again and again: how long the fleet is without commits, and whether
//! any other host loses its grants.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::{
    Finding, Options, figure,
    quiet::{self, Quiet},
    repeated::percentile_99,
};
use crate::{clock, fleet::Fleet, interrupt::Interrupt, progress::Progress};

const HOSTS: usize = 3;
/// From the last commit of the old leader to the first of the new one.
const NEXT_COMMIT_MS: f64 = 1_200.0;
/// A take-over that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// The daemon's line when commits go on after a gap.
const GAP: &str = "commits go on";

/// One event, as the hosts that were not hit saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Event {
    /// Until the first of them heard a commit again.
    first_ms: f64,
    /// Until the last of them did.
    last_ms: f64,
}

pub(super) fn run(
    directory: &Path,
    options: &Options,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Vec<Finding>> {
    let mut quiet = Quiet::build("take", HOSTS, 1, directory, interrupt, progress)?;
    let fleet = &mut quiet.fleet;
    let mut events = Vec::new();
    let mut falls = 0.0;
    progress.step("take-overs", || {
        quiet::settle(fleet, interrupt)?;
        for number in 0..options.events {
            // A killed leader's peers see their connections end; a stopped one's see nothing.
            let signal = if number % 2 == 0 {
                Signal::SIGKILL
            } else {
                Signal::SIGSTOP
            };
            let (event, fallen) = one(fleet, signal, interrupt)
                .with_context(|| format!("event {number}: {signal}\n{}", fleet.logs()))?;
            eprintln!(
                "    {number:>3} {signal}: next commit after {:.0} ms, the last host's after {:.0} ms, {fallen} fell",
                event.first_ms, event.last_ms
            );
            events.push(event);
            falls += fallen;
        }
        Ok(())
    })?;
    let rows = events
        .iter()
        .map(|event| format!("{},{}\n", event.first_ms, event.last_ms));
    let text = "first_ms,last_ms\n".to_owned() + &rows.collect::<String>();
    fs::write(directory.join("take-over.csv"), text)?;
    Ok(judge(&events, falls))
}

/// Hits the leader, waits for commits to go on elsewhere, and brings it back.
fn one(fleet: &mut Fleet, signal: Signal, interrupt: &Interrupt) -> Result<(Event, f64)> {
    let hosts = fleet.plan.hosts.len();
    let leader = quiet::leader(fleet, interrupt)?;
    let others: Vec<usize> = (0..hosts).filter(|host| *host != leader).collect();
    let mut logs = Vec::new();
    let mut falls = 0.0;
    for host in &others {
        logs.push(fleet.log(*host)?.len());
        falls -= fleet.metric(*host, "weir_floor_falls_total")?;
    }
    if signal == Signal::SIGKILL {
        fleet.kill(leader)?;
    } else {
        fleet.pause(leader)?;
    }
    let mut gaps = Vec::new();
    for (host, length) in others.iter().zip(logs) {
        let what = format!("commits to go on at host {}", host + 1);
        let gap = clock::wait_for(&what, PATIENCE, interrupt, || {
            gap_ms(fleet.log(*host).ok()?.get(length..)?)
        })?;
        gaps.push(gap);
    }
    for host in &others {
        falls += fleet.metric(*host, "weir_floor_falls_total")?;
    }
    if signal == Signal::SIGKILL {
        fleet.start(leader)?;
    } else {
        fleet.resume(leader)?;
    }
    quiet::settle(fleet, interrupt)?;
    let event = Event {
        first_ms: gaps.iter().copied().fold(f64::INFINITY, f64::min),
        last_ms: gaps.iter().copied().fold(0.0, f64::max),
    };
    Ok((event, falls))
}

/// The gap of the first line that says that commits go on.
fn gap_ms(log: &str) -> Option<f64> {
    let line = log.lines().find(|line| line.contains(GAP))?;
    let (_, rest) = line.split_once("gap_ms=")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn judge(events: &[Event], falls: f64) -> Vec<Finding> {
    let finding = |what: &str, measured, bar, unit| Finding {
        what: what.to_owned(),
        measured,
        bar,
        unit,
        judged: true,
    };
    let first = percentile_99(events.iter().map(|event| event.first_ms).collect());
    let last = percentile_99(events.iter().map(|event| event.last_ms).collect());
    vec![
        finding(
            "events",
            Some(events.len() as f64),
            (1.0, f64::INFINITY),
            "events",
        ),
        finding(figure::RECOVERY, first, (0.0, NEXT_COMMIT_MS), "ms"),
        Finding {
            judged: false,
            ..finding(
                "the last host's next commit",
                last,
                (0.0, NEXT_COMMIT_MS),
                "ms",
            )
        },
        finding(
            "other hosts that fell to their floors",
            Some(falls),
            (0.0, 0.0),
            "hosts",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_read_from_the_daemons_line() {
        let log = "2026-11-22T11:00:00.1Z  INFO leading term=3\n\
                   2026-11-22T11:00:00.2Z  INFO commits go on term=3 gap_ms=812\n\
                   2026-11-22T11:00:09.2Z  INFO commits go on term=4 gap_ms=999\n";
        assert_eq!(gap_ms(log), Some(812.0));
        assert_eq!(
            gap_ms("2026-11-22T11:00:00.1Z  INFO leading term=3\n"),
            None
        );
    }

    #[test]
    fn late_commits_and_fallen_hosts_fail() {
        let event = |first_ms| Event {
            first_ms,
            last_ms: first_ms,
        };
        let failed = |events: &[Event], falls| {
            let broken = judge(events, falls)
                .into_iter()
                .filter(|found| !found.holds());
            broken.map(|found| found.what).collect::<Vec<_>>()
        };
        assert_eq!(
            failed(&[event(900.0), event(1_200.0)], 0.0),
            Vec::<String>::new()
        );
        assert_eq!(
            failed(&[event(900.0), event(1_201.0)], 0.0),
            [figure::RECOVERY]
        );
        assert_eq!(
            failed(&[event(900.0)], 1.0),
            ["other hosts that fell to their floors"]
        );
    }
}
