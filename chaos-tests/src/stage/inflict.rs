//! How faults are done to a fleet, and undone.

use std::{collections::BTreeSet, fs, net::Ipv4Addr};

use anyhow::{Context as _, Result};

use super::fault::{Fault, Party, Server, Who};
use crate::fleet::{Detour, Disturbance, Fleet, How};

/// Of the jitter.
const DETOUR_SEED: u64 = 1;

/// A fault that is in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Inflicted {
    /// The hosts that it hit.
    pub(super) hosts: Vec<usize>,
    pub(super) servers: Vec<usize>,
    ticket: Option<usize>,
}

/// What is in force, so that no daemon is killed twice.
#[derive(Debug, Default)]
pub(super) struct Hand {
    /// Hosts whose daemon or link is held by a fault.
    held: BTreeSet<usize>,
    servers_held: BTreeSet<usize>,
}

impl Hand {
    /// Does `fault`. `None` if whom it should hit is held by another one.
    pub(super) fn begin(
        &mut self,
        fault: &Fault,
        leader: Option<usize>,
        fleet: &mut Fleet,
    ) -> Result<Option<Inflicted>> {
        let mut inflicted = Inflicted::default();
        if let Fault::Killed(who)
        | Fault::Paused(who)
        | Fault::Upgraded(who)
        | Fault::LinkDown(who)
        | Fault::PoweredOff(who)
        | Fault::WallClock(who, _)
        | Fault::NoDescriptors(who)
        | Fault::Drained(who)
        | Fault::Removed(who) = fault
        {
            let Some(host) = self.find(*who, leader, fleet) else {
                return Ok(None);
            };
            inflicted.hosts.push(host);
        }
        let host = inflicted.hosts.first().copied().unwrap_or(0);
        match fault {
            Fault::Killed(_) => fleet.kill(host)?,
            Fault::Paused(_) => fleet.pause(host)?,
            Fault::Upgraded(_) => fleet.restart(host)?,
            Fault::LinkDown(_) => fleet.link(host, false)?,
            Fault::PoweredOff(_) => fleet.power_off(host)?,
            Fault::NoDescriptors(_) => fleet.starve_of_descriptors(host, true)?,
            Fault::WallClock(_, ahead) => wall_clock(fleet, host, *ahead)?,
            Fault::Drained(_) => drain(fleet, self, host, false)?,
            Fault::Removed(_) => remove(fleet, self, host)?,
            Fault::Cut { from, to, both } => {
                let Some((hosts, disturbances)) = self.cut(*from, *to, *both, leader, fleet) else {
                    return Ok(None);
                };
                inflicted.hosts = hosts;
                inflicted.ticket = Some(fleet.network.disturb(disturbances)?);
            }
            Fault::Rough {
                lost,
                repeated,
                reset,
            } => {
                let all = everybody(fleet);
                let how = [How::Lose(*lost), How::Repeat(*repeated), How::Reset(*reset)];
                let disturbances = how.map(|how| Disturbance {
                    from: all.clone(),
                    to: all.clone(),
                    how,
                });
                inflicted.ticket = Some(fleet.network.disturb(disturbances.to_vec())?);
            }
            Fault::Slow { delay, jitter } => {
                if fleet.detour.is_some() {
                    return Ok(None);
                }
                let detour = Detour::begin(&fleet.plan, *delay, *jitter, DETOUR_SEED)?;
                fleet.detour = Some(detour);
            }
            Fault::ServersKilled(which) | Fault::ServersPaused(which) => {
                inflicted.servers = self.servers(*which, fleet);
                for &server in &inflicted.servers {
                    match fault {
                        Fault::ServersKilled(_) => fleet.ensemble.kill(server)?,
                        _ => fleet.ensemble.pause(server)?,
                    }
                    self.servers_held.insert(server);
                }
            }
            Fault::Joined => {
                let waiting = fleet.pids().into_iter().enumerate();
                inflicted.hosts = waiting
                    .filter(|(host, pid)| pid.is_none() && !self.held.contains(host))
                    .map(|(host, _)| host)
                    .collect();
                for &host in &inflicted.hosts {
                    fleet.start(host)?;
                }
            }
            Fault::Rate(rate) => apply(fleet, self, *rate, None)?,
            Fault::Trial { rate, within } => {
                apply(
                    fleet,
                    self,
                    *rate,
                    Some(format!("{}ms", within.as_millis())),
                )?;
            }
        }
        if holds(fault) {
            self.held.extend(&inflicted.hosts);
        }
        Ok(Some(inflicted))
    }

    /// Undoes it.
    pub(super) fn end(
        &mut self,
        fault: &Fault,
        inflicted: &Inflicted,
        fleet: &mut Fleet,
    ) -> Result<()> {
        for &host in &inflicted.hosts {
            match fault {
                Fault::Killed(_) => fleet.start(host)?,
                Fault::Paused(_) => fleet.resume(host)?,
                Fault::LinkDown(_) => fleet.link(host, true)?,
                Fault::PoweredOff(_) => fleet.boot(host)?,
                Fault::NoDescriptors(_) => fleet.starve_of_descriptors(host, false)?,
                Fault::WallClock(..) => wall_clock(fleet, host, 0)?,
                Fault::Drained(_) => drain(fleet, self, host, true)?,
                _ => {}
            }
            if holds(fault) && !fault.is_for_good() {
                self.held.remove(&host);
            }
        }
        if matches!(fault, Fault::Slow { .. }) {
            drop(fleet.detour.take());
        }
        for &server in &inflicted.servers {
            match fault {
                Fault::ServersKilled(_) => fleet.ensemble.start(server)?,
                _ => fleet.ensemble.resume(server)?,
            }
            self.servers_held.remove(&server);
        }
        inflicted
            .ticket
            .map_or(Ok(()), |ticket| fleet.network.heal(ticket))
    }

    fn find(&self, who: Who, leader: Option<usize>, fleet: &Fleet) -> Option<usize> {
        let runs: Vec<bool> = fleet.pids().iter().map(Option::is_some).collect();
        let is_free = |host: &usize| !self.held.contains(host) && runs[*host];
        match who {
            Who::Host(host) => Some(host).filter(is_free),
            Who::Leader => leader.filter(is_free),
            Who::Follower(number) => (0..runs.len())
                .filter(|host| is_free(host) && Some(*host) != leader)
                .nth(number),
        }
    }

    /// A host that answers operators.
    fn healthy(&self, fleet: &Fleet) -> Result<usize> {
        let pids = fleet.pids();
        (0..pids.len())
            .find(|host| !self.held.contains(host) && pids[*host].is_some())
            .context("no host is left to ask")
    }

    fn servers(&self, which: Server, fleet: &Fleet) -> Vec<usize> {
        let leader = fleet.ensemble.leader();
        let free = (0..fleet.ensemble.len()).filter(|server| !self.servers_held.contains(server));
        let mut free: Vec<usize> = free.collect();
        free.sort_by_key(|server| Some(*server) != leader);
        match which {
            Server::Leader => free.into_iter().filter(|s| Some(*s) == leader).collect(),
            Server::Follower => free
                .into_iter()
                .filter(|s| Some(*s) != leader)
                .take(1)
                .collect(),
            Server::Majority => {
                free.truncate(fleet.ensemble.len() / 2 + 1);
                free
            }
        }
    }

    /// The hosts that are cut off, and the rules that do it.
    fn cut(
        &self,
        from: Party,
        to: Party,
        both: bool,
        leader: Option<usize>,
        fleet: &Fleet,
    ) -> Option<(Vec<usize>, Vec<Disturbance>)> {
        let single = |party: Party| match party {
            Party::Host(who) => self.find(who, leader, fleet).map(|host| vec![host]),
            _ => Some(Vec::new()),
        };
        let (from_hosts, to_hosts) = (single(from)?, single(to)?);
        let hosts = [from_hosts.clone(), to_hosts.clone()].concat();
        let address = |host: usize| fleet.plan.hosts[host].v4();
        let others = || {
            let others = (0..fleet.plan.hosts.len()).filter(|host| !hosts.contains(host));
            others.map(address).collect::<Vec<Ipv4Addr>>()
        };
        let addresses = |party: Party, own: &[usize]| match party {
            Party::Host(_) => own.iter().copied().map(address).collect(),
            Party::OtherHosts => others(),
            Party::Servers => fleet.plan.zookeeper_addresses().collect(),
            Party::Everybody => [others(), fleet.plan.zookeeper_addresses().collect()].concat(),
        };
        let (from, to) = (addresses(from, &from_hosts), addresses(to, &to_hosts));
        let lost = |from: &[Ipv4Addr], to: &[Ipv4Addr]| Disturbance {
            from: from.to_vec(),
            to: to.to_vec(),
            how: How::Lose(100),
        };
        let mut disturbances = vec![lost(&from, &to)];
        if both {
            disturbances.push(lost(&to, &from));
        }
        Some((hosts, disturbances))
    }
}

/// Whether nothing else may be done to a host meanwhile.
const fn holds(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Killed(_)
            | Fault::Paused(_)
            | Fault::LinkDown(_)
            | Fault::PoweredOff(_)
            | Fault::NoDescriptors(_)
            | Fault::Removed(_)
            | Fault::Cut { .. }
    )
}

fn everybody(fleet: &Fleet) -> Vec<Ipv4Addr> {
    let hosts = fleet.plan.hosts.iter().map(|site| site.v4());
    hosts.chain(fleet.plan.zookeeper_addresses()).collect()
}

fn wall_clock(fleet: &Fleet, host: usize, ahead_s: i64) -> Result<()> {
    let clocks = fleet.wall_clocks.as_ref();
    clocks
        .context("the fleet has no wall clocks of its own")?
        .set(host, ahead_s)
}

fn drain(fleet: &Fleet, hand: &Hand, host: usize, undo: bool) -> Result<()> {
    let name = fleet.plan.hosts[host].name.as_str();
    let mut arguments = vec!["drain", name];
    if undo {
        arguments.push("--undo");
    }
    let asked = hand.healthy(fleet)?;
    fleet.operator.change(asked, &arguments).map(drop)
}

/// Asked of another host, which goes on when this one is gone.
fn remove(fleet: &Fleet, hand: &Hand, host: usize) -> Result<()> {
    let name = fleet.plan.hosts[host].name.as_str();
    let asked =
        (0..fleet.plan.hosts.len()).find(|other| *other != host && !hand.held.contains(other));
    let asked = asked.context("no other host is left to ask")?;
    fleet.operator.change(asked, &["remove", name]).map(drop)
}

/// The limits in force, with another rate for the first of them.
fn apply(fleet: &Fleet, hand: &Hand, rate: u64, confirm_within: Option<String>) -> Result<()> {
    let limits = fleet.limits_file()?;
    let text = fs::read_to_string(&limits)?;
    let line = text
        .lines()
        .find(|line| line.starts_with("rate"))
        .context("a limit has a rate")?;
    let changed = limits.with_extension("changed.toml");
    let new = format!("rate  = \"{rate} packets/s\"");
    fs::write(&changed, text.replacen(line, &new, 1))?;
    let changed = changed.to_str().context("a path that is text")?;
    let mut arguments = vec!["apply", changed];
    if let Some(within) = &confirm_within {
        arguments.extend(["--confirm-within", within]);
    }
    let asked = hand.healthy(fleet)?;
    fleet.operator.change(asked, &arguments).map(drop)
}
