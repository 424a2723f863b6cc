//! The leader dies under flood, stays away until its grant has ended, and comes back.

use std::{fs, ops::Range, path::Path, time::Duration};

use anyhow::{Context as _, Result};

use super::{Finding, OVER_ADMISSION, Options, figure};
use crate::{
    fleet::{
        self, Plan, Process, Timing,
        plan::{LIMITED_PORT, SOURCES},
    },
    interrupt::Interrupt,
    oracle::{Budget, TOLERANCE, possible_without_burst, recovery_bins},
    plot::{self, Plot},
    progress::Progress,
    series::{Bin, Series},
    stage::{
        self, Action, FULLY_IN_USE, Happening, LEAST_PACE, LimitUnderTest, Packets, Recording,
        Script, Stage,
    },
};

const HOSTS: usize = 3;
/// The strict limit: packets per second for the whole fleet.
const RATE: f64 = 30_000.0;
/// What each host may always spend, as a part of the rate: large enough to be told from nothing.
const FLOOR: f64 = 0.02;
/// Offered traffic, as a multiple of the rate.
const OVERLOAD: f64 = 3.0;
const FRAME_BYTES: usize = 60;

const BEFORE: Duration = Duration::from_secs(3);
/// From the restart to the end.
const AFTER: Duration = Duration::from_secs(4);
/// A host on its floor may be this far from it: its last burst, and the edges of bins.
const FLOOR_TOLERANCE: f64 = 0.1;
/// Least part of what could be admitted, outside the settle intervals.
const UTILISATION: f64 = 0.97;

pub(super) fn run(
    directory: &Path,
    _: &Options,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Vec<Finding>> {
    let timing = Timing::default();
    let plan = Plan::new(&format!("kill-{}", Process::current().pid), HOSTS, 1, 1)?;
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let limits = directory.join("leader-killed.toml");
    fs::write(&limits, limits_file())?;
    let mut fleet = fleet::build(plan, timing, Some(&limits), interrupt, progress)?;
    let packets = Packets {
        port: LIMITED_PORT,
        sources: SOURCES.parse()?,
        size: FRAME_BYTES,
    };
    let mut stage = Stage::set(&fleet.plan, &packets)?;
    let recording = progress.step("flood", || {
        stage::perform(&mut fleet, &mut stage, &script(&timing), interrupt, |_| ())
            .with_context(|| fleet.logs())
    })?;
    drop(stage);
    drop(fleet);
    let title = "The leader is killed under flood";
    fs::write(directory.join("leader-killed.csv"), recording.csv())?;
    let plot = Plot {
        title,
        recording: &recording,
        rate: RATE,
        tick: timing.tick,
    };
    plot::draw(&plot, &directory.join("leader-killed.svg"))?;
    judge(&recording, &timing)
}

fn limits_file() -> String {
    format!(
        "version = 1\n\n[fleet]\nmax_members = {HOSTS}\n\n[[limit]]\nname  = \"flood\"\nproto = \"udp\"\nports = [{LIMITED_PORT}]\n\
         rate  = \"{} packets/s\"\nfloor = \"{}%\"\npromise = \"strict\"\n",
        RATE as u64,
        FLOOR * 100.0,
    )
}

fn limit() -> LimitUnderTest {
    // The language's default burst is a tenth of a second.
    let budget = Budget {
        rate: RATE,
        burst: RATE / 10.0,
        drift: Timing::DRIFT,
    };
    LimitUnderTest {
        budget,
        floor: RATE * FLOOR,
    }
}

fn script(timing: &Timing) -> Script {
    let away = timing.recovery() + 15 * timing.tick;
    let rates = vec![RATE * OVERLOAD / HOSTS as f64; HOSTS];
    Script::default()
        .phase("even flood", rates, BEFORE + away + AFTER)
        .at(BEFORE, Action::KillLeader)
        .at(BEFORE + away, Action::StartKilled)
}

/// Judges what was counted. Pure.
fn judge(recording: &Recording, timing: &Timing) -> Result<Vec<Finding>> {
    let figures = stage::judge(recording, &limit(), timing);
    let (killed, host) = recording.kill().context("no leader was killed")?;
    let started = recording
        .events
        .iter()
        .find(|event| event.what == Happening::Started { host });
    let started = started.context("the killed daemon was not started")?.bin;
    let bins = |duration: Duration| duration.as_millis() as u64;
    let tick = bins(timing.tick);
    let share = RATE / HOSTS as f64;

    // A grant is renewed long before its half; so for that time after the death all have one.
    let with_grants = killed..killed + bins(timing.lease / 2);
    let could = possible_without_burst(&recording.offered(), killed..started, RATE);
    let survivors = recording
        .hosts
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != host);
    let lowest =
        survivors.map(|(_, host)| lowest_share(&host.admitted, &could, &with_grants, tick));
    // From then on the dead host's kernel is alone with its floor.
    let expired = killed + bins(timing.wait_out()) + tick;
    let alone = recording.hosts[host].admitted.rate(expired..started);
    let recovery = recovery_bins(
        &recording.admitted(),
        &could,
        FULLY_IN_USE,
        tick,
        killed,
        started,
    );
    let back = recording.end - 10 * tick..recording.end;
    let back = recording.hosts[host].admitted.rate(back);

    let floor = RATE * FLOOR;
    let kept_pace = recording.pace() >= LEAST_PACE;
    let finding = |what: &str, measured, bar, unit| Finding {
        what: what.to_owned(),
        measured,
        bar,
        unit,
        judged: kept_pace || what == figure::OVER_ADMISSION,
    };
    Ok(vec![
        finding(
            figure::OVER_ADMISSION,
            Some(figures.over_admission),
            (0.0, OVER_ADMISSION),
            "s of budget",
        ),
        finding(
            figure::UTILISATION,
            figures.utilisation,
            (UTILISATION, f64::INFINITY),
            "of 1",
        ),
        finding(
            "survivors keep their grants",
            lowest.reduce(f64::min),
            (share - TOLERANCE * RATE, f64::INFINITY),
            "packets/s",
        ),
        finding(
            "the dead host's kernel falls to its floor",
            Some(alone),
            (
                floor * (1.0 - FLOOR_TOLERANCE),
                floor * (1.0 + FLOOR_TOLERANCE),
            ),
            "packets/s",
        ),
        finding(
            figure::RECOVERY,
            recovery.map(|bins| bins as f64),
            (0.0, timing.recovery().as_millis() as f64),
            "ms",
        ),
        finding(
            "the host that came back has its share again",
            Some(back),
            (share - TOLERANCE * RATE, share + TOLERANCE * RATE),
            "packets/s",
        ),
        finding(
            "another leader took over",
            Some(figures.leader_changes as f64),
            (1.0, f64::INFINITY),
            "changes",
        ),
    ])
}

/// The lowest rate over any window of `tick` bins within a range, as a part of what was possible.
fn lowest_share(admitted: &Series, possible: &Series, bins: &Range<Bin>, tick: u64) -> f64 {
    let windows = bins.start..bins.end.saturating_sub(tick);
    let share = |bin: Bin| {
        let window = bin..bin + tick;
        RATE * admitted.sum(window.clone()) as f64 / possible.sum(window) as f64
    };
    // Where nothing was possible nothing was lost.
    windows
        .map(share)
        .filter(|share| share.is_finite())
        .fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Event, HostRecord, LeaderSeen};

    /// What a perfect fleet does: host 0 leads and dies at 3,000 ms.
    fn perfect() -> Recording {
        let timing = Timing::default();
        let length = script(&timing).length.as_millis() as u64;
        let started = length - AFTER.as_millis() as u64;
        let lease_end = 3_000 + timing.lease.as_millis() as u64;
        let dead = |bin: u64| (lease_end..started).contains(&bin);
        let host = |leads: bool| {
            let mut left = 0.0;
            let counts = (0..length).map(|bin| {
                // In packets a bin: an even share, or the floor and what it leaves to the others.
                left += match (dead(bin), leads) {
                    (false, _) => 10.0,
                    (true, true) => 0.6,
                    (true, false) => 14.7,
                };
                let whole = f64::floor(left);
                left -= whole;
                whole as u32
            });
            HostRecord {
                name: String::new(),
                offered: Series::new(0, vec![30; length as usize]),
                admitted: Series::new(0, counts.collect()),
            }
        };
        let leader = |bin, term| LeaderSeen {
            bin,
            term,
            name: String::new(),
        };
        let rates = vec![RATE; HOSTS];
        let event = |bin, what| Event { bin, what };
        Recording {
            hosts: vec![host(true), host(false), host(false)],
            events: vec![
                event(
                    0,
                    Happening::Shaped {
                        label: String::new(),
                        rates,
                    },
                ),
                event(3_000, Happening::LeaderKilled { host: 0 }),
                event(started, Happening::Started { host: 0 }),
            ],
            leaders: vec![leader(0, 1), leader(4_200, 2)],
            end: length,
        }
    }

    /// What does not hold, after something was done to what the hosts admitted.
    fn broken(change: impl Fn(usize, u64, u32) -> u32) -> Vec<String> {
        let mut recording = perfect();
        for (number, host) in recording.hosts.iter_mut().enumerate() {
            let span = host.admitted.span();
            let counts = span.map(|bin| change(number, bin, host.admitted.at(bin)));
            host.admitted = Series::new(0, counts.collect());
        }
        let findings = judge(&recording, &Timing::default()).unwrap();
        findings
            .into_iter()
            .filter(|found| !found.holds())
            .map(|found| found.what)
            .collect()
    }

    #[test]
    fn a_perfect_fleet_passes() {
        assert_eq!(broken(|_, _, packets| packets), Vec::<String>::new());
    }

    #[test]
    fn each_promise_can_be_broken() {
        let more = broken(|_, bin, packets| if bin < 1_000 { packets + 2 } else { packets });
        assert_eq!(more, ["never above budget"]);
        let idle = broken(|_, bin, packets| {
            if bin < 3_000 {
                packets * 9 / 10
            } else {
                packets
            }
        });
        assert_eq!(idle, ["utilisation"]);
        let lost = broken(|host, bin, packets| {
            if host == 1 && (3_200..3_400).contains(&bin) {
                packets / 2
            } else {
                packets
            }
        });
        assert_eq!(lost, ["survivors keep their grants"]);
        let fallen = |host, bin| host == 0 && (5_200..7_000).contains(&bin);
        let silent = broken(|host, bin, packets| if fallen(host, bin) { 0 } else { packets });
        assert_eq!(silent, ["the dead host's kernel falls to its floor"]);
        let slow = broken(|_, bin, packets| {
            if (5_000..6_900).contains(&bin) {
                packets / 2
            } else {
                packets
            }
        });
        assert!(
            slow.contains(&"budget fully in use again".to_owned()),
            "{slow:?}"
        );
        let gone = broken(
            |host, bin, packets| {
                if host == 0 && bin > 8_000 { 0 } else { packets }
            },
        );
        assert!(gone.contains(&"the host that came back has its share again".to_owned()));
    }
}
