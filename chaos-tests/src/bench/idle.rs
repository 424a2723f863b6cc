//! What a daemon costs a host that has nothing to do: one of three, with limits, and no packet.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{
    clock,
    fleet::{self, Fleet, Plan, Process, Timing, plan::INTERFACE},
    interrupt::Interrupt,
    progress::Progress,
};

/// Hosts of the fleet.
const HOSTS: usize = 3;
/// ZooKeeper servers.
const SERVERS: usize = 1;
/// Most that a daemon may hold, in MiB.
pub const RESIDENT_MIB: f64 = 30.0;
/// Most that it may use of one CPU, in per cent.
pub const CPU_PERCENT: f64 = 1.0;
/// The daemon's default. The ZooKeeper client wakes twenty times in a session's time: with the shortest
/// session that servers grant it would be four times as often.
const SESSION: Duration = Duration::from_secs(4);
/// The fleet has to be well before it is measured: members, voters, grants.
const WELL_WITHIN: Duration = Duration::from_secs(60);
/// What a start costs is over by then: histories and tables have their first entries.
const SETTLED_AFTER_MS: u64 = 5_000;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Limits that are in force.
    pub limits: usize,
    /// For how long.
    pub length: Duration,
}

/// What one daemon costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Its host's name.
    pub host: String,
    /// Whether it leads.
    pub leads: bool,
    /// Memory that is resident at the end, in MiB.
    pub resident_mib: f64,
    /// The most that ever was.
    pub peak_mib: f64,
    /// CPU time over the time that passed, in per cent of one CPU: user and system, all threads.
    pub cpu_percent: f64,
}

impl Cost {
    /// Whether it keeps to the bars.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.resident_mib <= RESIDENT_MIB && self.cpu_percent <= CPU_PERCENT
    }
}

/// Measures every daemon of an idle fleet.
///
/// # Errors
///
/// If the fleet does not come up, somebody else leads at the end than at the beginning, or the user
/// interrupts.
pub fn run(options: Options, interrupt: &Interrupt) -> Result<Vec<Cost>> {
    let mut progress = Progress::default();
    let name = format!("idle-{}", Process::current().pid);
    let limits = std::env::temp_dir().join(format!("weir-{name}.toml"));
    fs::write(&limits, limits_file(options.limits))?;
    let plan = Plan::new(&name, HOSTS, 1, SERVERS)?;
    let timing = Timing {
        session: SESSION,
        ..Timing::default()
    };
    let built = fleet::build(plan, timing, Some(&limits), interrupt, &mut progress);
    let _gone = fs::remove_file(&limits);
    let fleet = built?;
    progress.step("settling", || settle(&fleet, interrupt))?;
    let leader = leader(&fleet)?;
    let before = used(&fleet)?;
    let begun = clock::boot_time();
    progress.step("measuring", || {
        let end = clock::this_bin() + u64::try_from(options.length.as_millis())?;
        clock::sleep_until(end);
        Ok(interrupt.check()?)
    })?;
    let passed = (clock::boot_time() - begun).as_secs_f64();
    let after = used(&fleet)?;
    anyhow::ensure!(
        leader == self::leader(&fleet)?,
        "the leader changed meanwhile"
    );
    let hosts = fleet.plan.hosts.iter().zip(pids(&fleet)?).enumerate();
    hosts
        .map(|(host, (site, pid))| {
            Ok(Cost {
                host: site.name.clone(),
                leads: host == leader,
                resident_mib: memory(pid, "VmRSS:")?,
                peak_mib: memory(pid, "VmHWM:")?,
                cpu_percent: 100.0 * (after[host] - before[host]) / passed,
            })
        })
        .collect()
}

/// The figures as a table.
#[must_use]
pub fn markdown(options: Options, costs: &[Cost]) -> String {
    let mut table = format!(
        "{} limits on {INTERFACE}, no packets, a tick of {} ms, over {} s:\n\n\
         | daemon | resident, MiB | most, MiB | of one CPU |\n| --- | --- | --- | --- |\n",
        options.limits,
        Timing::default().tick.as_millis(),
        options.length.as_secs()
    );
    for cost in costs {
        let role = if cost.leads { "the leader" } else { "a member" };
        table += &format!(
            "| {role} | {:.1} | {:.1} | {:.2} % |\n",
            cost.resident_mib, cost.peak_mib, cost.cpu_percent
        );
    }
    table
}

fn limits_file(limits: usize) -> String {
    let mut text = format!("version = 1\n\n[fleet]\nmax_members = {HOSTS}\n");
    for number in 0..limits {
        // Few limits may apply to any destination.
        text += &format!(
            "\n[[limit]]\nname  = \"limit-{number}\"\nto    = [\"203.0.{}.{}\"]\nproto = \"udp\"\n\
             rate  = \"{}k packets/s\"\npromise = \"strict\"\n",
            number / 256,
            number % 256,
            10 + number
        );
    }
    text
}

fn settle(fleet: &Fleet, interrupt: &Interrupt) -> Result<()> {
    clock::wait_for("all hosts to have grants", WELL_WITHIN, interrupt, || {
        let is_well = |host| {
            let status = fleet.operator.status(host);
            let voters = fleet.metric(host, "weir_voters");
            status.is_ok_and(|status| status.is_in_force() && status.leader.is_some())
                && voters.is_ok_and(|voters| voters == HOSTS as f64)
        };
        (0..HOSTS).all(is_well).then_some(())
    })?;
    clock::sleep_until(clock::this_bin() + SETTLED_AFTER_MS);
    Ok(interrupt.check()?)
}

fn leader(fleet: &Fleet) -> Result<usize> {
    let leads = |host: &usize| {
        let leads = fleet.metric(*host, "weir_is_leader");
        leads.is_ok_and(|leads| leads > 0.0)
    };
    (0..HOSTS).find(leads).context("nobody leads")
}

fn pids(fleet: &Fleet) -> Result<Vec<u32>> {
    let pids: Option<Vec<u32>> = fleet.pids().into_iter().collect();
    pids.context("a daemon does not run")
}

/// CPU time of each daemon so far, in seconds.
fn used(fleet: &Fleet) -> Result<Vec<f64>> {
    pids(fleet)?.into_iter().map(cpu_seconds).collect()
}

/// All threads': `schedstat` counts nanoseconds, where `stat` counts ticks.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path: PathBuf = thread?.path().join("schedstat");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let time = text
            .split(' ')
            .next()
            .context("schedstat has three numbers")?;
        nanoseconds += time.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds).as_secs_f64())
}

/// A line of `status` that is in KiB, in MiB.
fn memory(pid: u32, line: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = text.lines().find_map(|found| found.strip_prefix(line));
    let kib = value.and_then(|value| value.trim().strip_suffix(" kB"));
    let kib: f64 = kib.with_context(|| format!("no {line}"))?.trim().parse()?;
    Ok(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_something() {
        let own = std::process::id();
        // Other tests go on meanwhile.
        let resident = memory(own, "VmRSS:").unwrap();
        assert!(resident > 0.0);
        assert!(memory(own, "VmHWM:").unwrap() >= resident);
        assert!(cpu_seconds(own).unwrap() > 0.0);
        assert!(memory(own, "VmNothing:").is_err());
    }

    #[test]
    fn limits_are_good_and_bars_are_bars() {
        let policy = weir_model::file::parse(&limits_file(100)).unwrap();
        assert_eq!(policy.limits.len(), 100);
        let cost = Cost {
            host: "host1".to_owned(),
            leads: true,
            resident_mib: RESIDENT_MIB,
            peak_mib: 99.0,
            cpu_percent: CPU_PERCENT,
        };
        assert!(cost.is_low());
        let heavy = Cost {
            resident_mib: RESIDENT_MIB + 0.1,
            ..cost.clone()
        };
        let busy = Cost {
            cpu_percent: CPU_PERCENT + 0.01,
            ..cost
        };
        assert!(!heavy.is_low() && !busy.is_low());
    }
}
