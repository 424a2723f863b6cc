//! What goes wrong, drawn from the dice in every tick.

use std::{collections::BTreeSet, time::Duration};

use weir_coord_core::{leader::Input, record::PolicyRecord};
use weir_model::{Nanos, PolicyVersion};

use crate::{
    kernel::Clock,
    world::{Event, TIMING, World},
};

/// How much of each fault there was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Daemons killed.
    pub crashes: u64,
    /// Hosts that lost power.
    pub reboots: u64,
    /// Daemons stopped for a while.
    pub pauses: u64,
    /// Partitions, one way or both.
    pub partitions: u64,
    /// Times that ZooKeeper had no quorum.
    pub outages: u64,
    /// Sessions that ended before their time.
    pub expiries: u64,
    /// Policies written.
    pub policies: u64,
    /// Members that were to be removed.
    pub removals: u64,
    /// How rare they are: 1 is hardly any peace.
    pub rarity: u64,
    /// The tick from which nothing goes wrong any more: then the fleet has to come to itself.
    pub cease_at_tick: Option<u64>,
}

/// Ticks without faults at the end of some runs.
pub const PEACE_TICKS: u64 = 250;
/// Ticks of peace after which a fleet has to be at work again: a daemon that was killed is back
/// after 8 s, its session has ended after 5, and voters abstain for W.
pub const RECOVERY_TICKS: u64 = 200;

/// How rare faults are in a run: its seed chooses.
pub const RARITIES: [u64; 5] = [1, 4, 12, 40, 120];

impl World {
    /// One tick's share of faults.
    pub fn break_something(&mut self) {
        let rarity = self.faults.rarity;
        if self.dice.one_in(15 * rarity) {
            let host = self.victim();
            self.crash(host);
        }
        if self.dice.one_in(10 * rarity) {
            let host = self.victim();
            let pause = self.dice.up_to_ms(5_000);
            self.pause(host, pause);
        }
        if self.dice.one_in(15 * rarity) {
            self.partition();
        }
        if self.dice.one_in(30 * rarity) {
            let host = self.victim();
            let until = self.now + self.dice.up_to_ms(1_500);
            self.note(|| format!("{host}: hears everything late"));
            self.network.hold(host, until);
        }
        if self.dice.one_in(60 * rarity) {
            self.faults.outages += 1;
            self.zookeeper.down_until = self.now + self.dice.up_to_ms(6_000);
        }
        if self.settings.policies {
            self.operate(rarity.min(4));
        }
        if self.dice.one_in(30 * rarity) {
            let host = self.victim();
            let daemon = self.hosts[host].daemon.as_ref();
            if let Some(session) = daemon.and_then(|daemon| daemon.session) {
                self.faults.expiries += 1;
                self.zookeeper.expire(session);
                self.tell_watchers();
            }
        }
    }

    /// What operators do: policies, members that are drained and removed.
    fn operate(&mut self, rarity: u64) {
        if self.dice.one_in(60 * rarity) && self.zookeeper.document < self.policies.last() {
            self.write_policy();
        }
        if self.dice.one_in(120 * rarity) {
            let host = self.victim();
            let node = self.hosts[host].id;
            let is_drained = self.dice.one_in(2);
            self.note(|| format!("{host}: is to be drained: {is_drained}"));
            self.tell_leaders(|| Input::Drain { node, is_drained });
        }
        if self.dice.one_in(200 * rarity) && self.removals.is_empty() {
            let host = self.victim();
            let is_powered_off = self.dice.one_in(2);
            if is_powered_off {
                self.switch_off(host);
            }
            self.note(|| format!("{host}: is to be removed, powered off: {is_powered_off}"));
            self.faults.removals += 1;
            self.removals.insert(host, is_powered_off);
        }
    }

    /// The operator writes the next policy.
    pub fn write_policy(&mut self) {
        let next = PolicyVersion(self.zookeeper.document.0 + 1);
        self.zookeeper.document = next;
        if self.is_sudden {
            // Written by hand: nobody says for how many there is room.
            self.zookeeper.in_force = PolicyRecord {
                version: next,
                places: None,
            };
        }
        self.faults.policies += 1;
        self.note(|| format!("policy {next} is written"));
        self.tell_watchers();
    }

    /// The operator goes on asking, whoever leads, until the roster has lost the member.
    pub(crate) fn insist(&mut self) {
        let removals: Vec<(usize, bool)> = self
            .removals
            .iter()
            .map(|(host, off)| (*host, *off))
            .collect();
        for (host, is_powered_off) in removals {
            let node = self.hosts[host].id;
            if self
                .zookeeper
                .roster
                .iter()
                .any(|member| member.node == node)
            {
                if is_powered_off && self.zookeeper.power_off(node) {
                    self.tell_watchers();
                } else {
                    self.tell_leaders(|| Input::Remove {
                        node,
                        is_powered_off,
                    });
                }
            } else {
                self.removals.remove(&host);
                self.hosts[host].is_condemned = false;
            }
        }
    }

    fn tell_leaders(&mut self, input: impl Fn() -> Input) {
        for host in 0..self.hosts.len() {
            if self.leads(host) && !self.waits(host) {
                self.lead(host, input());
            }
        }
    }

    /// Takes the power away until the roster has lost the host.
    fn switch_off(&mut self, host: usize) {
        self.crash(host);
        let now = self.now;
        self.hosts[host].lose_power(&self.policies, now);
        self.hosts[host].is_powered = false;
        self.hosts[host].is_condemned = true;
    }

    /// From here on nothing goes wrong. What has gone wrong heals by itself.
    pub(crate) fn cease_faults(&mut self) {
        let now = self.now;
        self.note(|| "faults cease".to_owned());
        self.settings.faults = false;
        self.network.cease(now);
        self.zookeeper.down_until = self.zookeeper.down_until.min(now);
    }

    /// Any host, but a leader or a voter more often than others.
    fn victim(&mut self) -> usize {
        let leading: Vec<usize> = (0..self.hosts.len())
            .filter(|host| self.leads(*host))
            .collect();
        let voters = self.zookeeper.term.voters.clone();
        match self.dice.roll(4) {
            0 if !leading.is_empty() => leading[self.dice.index(leading.len())],
            1 if !voters.is_empty() => self.places[&voters[self.dice.index(voters.len())]],
            _ => self.dice.index(self.hosts.len()),
        }
    }

    /// Whether a leader runs on a host.
    #[must_use]
    pub fn leads(&self, host: usize) -> bool {
        let daemon = self.hosts[host].daemon.as_ref();
        daemon.is_some_and(|daemon| daemon.leader.is_some())
    }

    /// Kills a daemon. It comes back, now and then after its host has lost power.
    pub fn crash(&mut self, host: usize) {
        if self.hosts[host].daemon.is_none() {
            return;
        }
        let reboots = self.dice.one_in(4);
        let after = match self.dice.roll(8) {
            0 | 1 => self.dice.up_to_ms(8_000),
            2 => self.dice.up_to_ms(30),
            _ => self.dice.up_to_ms(600),
        };
        self.kill(host, reboots, after);
    }

    /// Kills a daemon, which comes back; if its host reboots, then without its buckets, and with
    /// another clock.
    pub fn kill(&mut self, host: usize, reboots: bool, back_after: Duration) {
        self.faults.crashes += 1;
        self.hosts[host].daemon = None;
        self.hosts[host].epoch += 1;
        self.hosts[host].paused_until = Nanos::ZERO;
        self.note(|| format!("{host}: the daemon is killed"));
        if reboots {
            self.faults.reboots += 1;
            let shown = Nanos(self.dice.roll(5_000_000_000));
            let drift = self.dice.roll(1_001) as i64 - 500;
            let now = self.now;
            self.hosts[host].clock = Clock::new(now, shown, drift);
            self.hosts[host].lose_power(&self.policies, now);
            self.note(|| format!("{host}: the host reboots"));
        }
        self.schedule(back_after, Event::Boot { host });
    }

    /// Stops a daemon for a while.
    pub fn pause(&mut self, host: usize, pause: Duration) {
        self.faults.pauses += 1;
        let until = self.now + pause;
        self.hosts[host].paused_until = self.hosts[host].paused_until.max(until);
        self.note(|| format!("{host}: the daemon is stopped for {pause:?}"));
    }

    fn partition(&mut self) {
        self.faults.partitions += 1;
        let places = self.hosts.len() + 1;
        let inside: BTreeSet<usize> = match self.dice.roll(4) {
            0 => [self.victim()].into(),
            1 => [self.zookeeper_place(), self.victim()].into(),
            2 => {
                let share = 2 + self.dice.roll(8);
                (0..places).filter(|_| self.dice.one_in(share)).collect()
            }
            // ZooKeeper is out of reach of some, while they reach each other.
            _ => [self.zookeeper_place()].into(),
        };
        let (out, into) = match self.dice.roll(4) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        let most = if self.dice.one_in(3) { 15_000 } else { 4_000 };
        let until = self.now + self.dice.up_to_ms(most);
        self.note(|| format!("cut off: {inside:?}, out {out}, into {into}"));
        self.network.cut(inside, out, into, until);
    }

    /// Sessions of daemons that reach ZooKeeper go on; others end after their time.
    pub fn keep_sessions(&mut self) {
        if self.zookeeper.down_until > self.now {
            return;
        }
        let timeout = TIMING.lease * 2 + Duration::from_secs(1);
        let mut ended = Vec::new();
        let sessions: Vec<(u64, usize)> = self
            .zookeeper
            .sessions
            .iter()
            .map(|(session, owner)| (*session, owner.host))
            .collect();
        for (session, host) in sessions {
            let daemon = self.hosts[host].daemon.as_ref();
            let is_kept = daemon.is_some_and(|daemon| daemon.session == Some(session))
                && !self.waits(host)
                && self.reaches_zookeeper(host);
            let Some(owner) = self.zookeeper.sessions.get_mut(&session) else {
                continue;
            };
            // A server that has just got its quorum back gives everybody their time anew.
            if is_kept || owner.heard < self.zookeeper.down_until {
                owner.heard = self.now;
            } else if self.now - owner.heard > timeout {
                ended.push(session);
            }
        }
        for session in &ended {
            self.zookeeper.expire(*session);
        }
        if !ended.is_empty() {
            self.tell_watchers();
        }
    }
}
