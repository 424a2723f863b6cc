//! A small fleet of the real protocol cores on one virtual clock, with an oracle outside the
//! protocol that looks at every step: what all kernels together may spend is at most the budget.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use weir_coord_core::{
    commit::{StoreOutcome, ZooKeeperCommit},
    follower::{Command as NodeCommand, Follower, Grant},
    leader::{Command, Input, Leader, Mandate},
    record::{EnvelopeRecord, MemberRecord},
    timing::Timing,
};
use weir_model::{
    Amount, Cost, Incarnation, Limit, LimitId, Nanos, NodeId, Policy, PolicyVersion, Revision,
    Scale, Term, Units, UnitsPerSecond,
    message::{FromNode, LimitReport, ToNode},
    policy::{FleetSettings, Match, Mode, OnExpiry, Promise},
};

pub const TIMING: Timing = Timing::DEFAULT;
pub const POLICY: PolicyVersion = PolicyVersion(1);

/// Deterministic choices (xorshift64*, Vigna 2016).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % sides
    }

    pub fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

pub fn limit(name: &str, rate: u64, burst: u64, floor_rate: u64, whole: bool) -> Limit {
    let scale = Scale { fraction_bits: 10 };
    let amount = |rate: u64, burst: u64| Amount {
        rate: UnitsPerSecond(rate << 10),
        burst: Units(burst << 10),
    };
    Limit {
        name: name.into(),
        id: LimitId::of(name),
        revision: Revision(1),
        matches: Match::default(),
        per: None,
        cost: Cost::Packets,
        overhead_bytes: 0,
        quic: false,
        scale,
        budget: amount(rate, burst),
        floor: if whole {
            Amount::ZERO
        } else {
            amount(floor_rate, 1)
        },
        smallest_burst: Units(1 << 10),
        is_divisible: !whole,
        promise: Promise::Strict,
        excess: None,
        on_expiry: OnExpiry::Floor,
        mode: Mode::Enforce,
    }
}

/// A limit that reserves nothing, and is divided all the same.
pub fn closed(name: &str, rate: u64, burst: u64) -> Limit {
    Limit {
        floor: Amount::ZERO,
        on_expiry: OnExpiry::Closed,
        ..limit(name, rate, burst, 0, false)
    }
}

pub fn policy() -> Policy {
    Policy {
        fleet: FleetSettings {
            max_members: 8,
            ..FleetSettings::default()
        },
        limits: vec![
            limit("wide", 30_000, 3_000, 40, false),
            limit("narrow", 5, 2, 0, true),
            closed("shut", 10_000, 8),
        ]
        .into(),
    }
}

pub struct Host {
    pub id: NodeId,
    pub follower: Follower,
    pub life: u64,
    /// What the kernel holds: it survives the daemon.
    pub kernel: BTreeMap<LimitId, Grant>,
    /// Packets that arrived so far.
    pub offered: u64,
    pub demand: u64,
    /// Whether its daemon runs.
    pub is_up: bool,
    pub paused_until: Nanos,
}

/// A message under way.
pub enum Wire {
    Up {
        leader: usize,
        message: FromNode,
    },
    Down {
        node: NodeId,
        message: ToNode,
    },
    Store {
        leader: usize,
        term: Term,
        record: EnvelopeRecord,
    },
    Admit {
        leader: usize,
        term: Term,
        record: MemberRecord,
    },
}

pub struct Fleet {
    pub now: Nanos,
    pub dice: Dice,
    pub hosts: Vec<Host>,
    pub leaders: Vec<Leader<ZooKeeperCommit>>,
    /// Leaders that were told to step down, and did.
    pub retired: Vec<bool>,
    pub term: Term,
    pub stored: Option<EnvelopeRecord>,
    pub roster: Vec<MemberRecord>,
    pub wires: Vec<(Nanos, Wire)>,
    pub lossy: bool,
    /// Where in its tick each host reports, in steps.
    pub phases: Vec<u64>,
    /// Otherwise one changes now and then.
    pub demands_stay: bool,
    /// What a message takes one way when nothing goes wrong.
    pub latency_ms: u64,
}

impl Fleet {
    pub fn new(seed: u64, hosts: u64, lossy: bool) -> Self {
        let hosts = (1..=hosts)
            .map(|number| {
                let id = NodeId::from_u128(u128::from(number));
                Host {
                    id,
                    follower: Follower::new(
                        id,
                        Incarnation(number),
                        Term(0),
                        POLICY,
                        floors(Amount::ZERO),
                    ),
                    life: number,
                    kernel: floors(Amount::ZERO)
                        .map(|grant| (grant.limit, grant))
                        .collect(),
                    offered: 0,
                    demand: 90_000,
                    is_up: true,
                    paused_until: Nanos::ZERO,
                }
            })
            .collect();
        Self {
            now: Nanos(1_000_000_000),
            dice: Dice(seed | 1),
            hosts,
            leaders: Vec::new(),
            retired: Vec::new(),
            term: Term(0),
            stored: None,
            roster: Vec::new(),
            wires: Vec::new(),
            lossy,
            phases: vec![0; 8],
            demands_stay: false,
            latency_ms: 0,
        }
    }

    pub fn take_over(&mut self) {
        self.term = self.term.next();
        let node = self.hosts[self.dice.roll(self.hosts.len() as u64) as usize].id;
        let mandate = Mandate {
            node,
            term: self.term,
            adopted: self.stored.clone(),
            members: self.roster.clone(),
            policy: (POLICY, policy()),
        };
        self.leaders.push(Leader::new(
            mandate,
            TIMING,
            ZooKeeperCommit::default(),
            self.now,
        ));
        self.retired.push(false);
    }

    pub fn tick(&mut self) {
        self.now = self.now + Duration::from_millis(5);
        if self.lossy && self.dice.one_in(200) {
            self.take_over();
        }
        if self.lossy && self.dice.one_in(300) {
            let index = self.dice.roll(self.hosts.len() as u64) as usize;
            self.restart(index);
        }
        if self.lossy && self.dice.one_in(300) {
            let index = self.dice.roll(self.hosts.len() as u64) as usize;
            let pause = Duration::from_millis(self.dice.roll(4_000));
            self.hosts[index].paused_until = self.now + pause;
        }
        if !self.demands_stay && self.dice.one_in(40) {
            let index = self.dice.roll(self.hosts.len() as u64) as usize;
            self.hosts[index].demand = self.dice.roll(90_000);
        }
        for index in 0..self.hosts.len() {
            self.hosts[index].offered += self.hosts[index].demand / 200;
            if (self.now.0 / 5_000_000 + self.phases[index]).is_multiple_of(20) {
                self.report(index);
            }
        }
        if self.now.0.is_multiple_of(100_000_000) {
            for index in 0..self.leaders.len() {
                self.lead(index, Input::Tick);
            }
        }
        self.deliver();
        self.judge();
    }

    pub fn restart(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        host.life += 100;
        host.follower = Follower::new(
            host.id,
            Incarnation(host.life),
            self.term,
            POLICY,
            host.kernel.values().copied(),
        );
    }

    pub fn report(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        if host.paused_until > self.now || !host.is_up {
            return;
        }
        let counters: Vec<LimitReport> = policy()
            .limits
            .iter()
            .map(|limit| LimitReport {
                limit: limit.id,
                offered: host.offered,
                admitted: host.offered / 3,
                dropped: host.offered - host.offered / 3,
                ..LimitReport::default()
            })
            .collect();
        let message = FromNode::Report(host.follower.report(self.now, &counters));
        for leader in 0..self.leaders.len() {
            let message = message.clone();
            self.send(Wire::Up { leader, message });
        }
    }

    pub fn send(&mut self, wire: Wire) {
        let delay = if self.lossy {
            match self.dice.roll(20) {
                0 => return,
                1 | 2 => self.dice.roll(3_000),
                3 | 4 => self.dice.roll(300),
                _ => self.dice.roll(10),
            }
        } else {
            self.latency_ms + self.dice.roll(3)
        };
        self.wires
            .push((self.now + Duration::from_millis(delay), wire));
    }

    pub fn deliver(&mut self) {
        // Later sends may overtake earlier ones: the list is not sorted by time of sending.
        while let Some(index) = self.wires.iter().position(|(at, _)| *at <= self.now) {
            let (_, wire) = self.wires.swap_remove(index);
            match wire {
                Wire::Up { leader, message } => {
                    if let FromNode::Report(report) = &message
                        && !self.roster.iter().any(|member| member.node == report.node)
                    {
                        let record = MemberRecord {
                            node: report.node,
                            name: "host".into(),
                            weight: 1,
                        };
                        self.lead(leader, Input::Join(record));
                    }
                    self.lead(leader, Input::FromNode(message));
                }
                Wire::Down { node, message } => self.follow(node, message),
                Wire::Store {
                    leader,
                    term,
                    record,
                } => self.store(leader, term, record),
                Wire::Admit {
                    leader,
                    term,
                    record,
                } => self.admit(leader, term, record),
            }
        }
    }

    pub fn lead(&mut self, index: usize, input: Input) {
        self.leaders[index].handle(input, self.now);
        while let Some(command) = self.leaders[index].poll_command() {
            if self.retired[index] {
                continue;
            }
            let term = self.leaders[index].term();
            match command {
                Command::Send { to, message } => {
                    self.send(Wire::Down {
                        node: to,
                        message: message.clone(),
                    });
                    if self.lossy && self.dice.one_in(20) {
                        self.send(Wire::Down { node: to, message });
                    }
                }
                // A store is applied sometime, or never; `send` loses some. Its answer is
                // unknown then, which the leader hears at once.
                Command::Store(record) => {
                    let generation = record.generation;
                    if self.lossy && self.dice.one_in(20) {
                        self.send(Wire::Store {
                            leader: index,
                            term,
                            record,
                        });
                        let outcome = StoreOutcome::Unknown;
                        self.leaders[index].handle(
                            Input::Stored {
                                generation,
                                outcome,
                            },
                            self.now,
                        );
                    } else {
                        let delay = Duration::from_millis(self.dice.roll(8));
                        self.wires.push((
                            self.now + delay,
                            Wire::Store {
                                leader: index,
                                term,
                                record,
                            },
                        ));
                    }
                }
                Command::Admit(record) => {
                    let delay = Duration::from_millis(self.dice.roll(8));
                    self.wires.push((
                        self.now + delay,
                        Wire::Admit {
                            leader: index,
                            term,
                            record,
                        },
                    ));
                }
                // A deposed leader may be slow to believe it: the others must not care.
                Command::StepDown(_) => self.retired[index] = self.dice.one_in(4),
            }
        }
    }

    /// ZooKeeper: the record is written if the term is still the writer's.
    pub fn store(&mut self, leader: usize, term: Term, record: EnvelopeRecord) {
        let generation = record.generation;
        // A write that was delayed must not go back behind one of the same leader: the session
        // keeps the order.
        let newest = self.stored.as_ref().is_none_or(|stored| {
            (stored.term, stored.generation) < (record.term, record.generation)
        });
        let outcome = if term != self.term {
            StoreOutcome::Fenced
        } else if newest {
            self.stored = Some(record);
            StoreOutcome::Committed
        } else {
            StoreOutcome::Unknown
        };
        self.lead(
            leader,
            Input::Stored {
                generation,
                outcome,
            },
        );
    }

    pub fn admit(&mut self, leader: usize, term: Term, record: MemberRecord) {
        let node = record.node;
        let outcome = if term == self.term {
            if !self.roster.iter().any(|member| member.node == node) {
                self.roster.push(record);
            }
            StoreOutcome::Committed
        } else {
            StoreOutcome::Fenced
        };
        self.lead(leader, Input::Admitted { node, outcome });
    }

    pub fn follow(&mut self, node: NodeId, message: ToNode) {
        let Some(index) = self.hosts.iter().position(|host| host.id == node) else {
            return;
        };
        if self.hosts[index].paused_until > self.now {
            // A stopped daemon finds its messages when it goes on.
            let later = self.hosts[index].paused_until;
            self.wires.push((later, Wire::Down { node, message }));
            return;
        }
        let now = self.now;
        self.hosts[index].follower.handle(message, now);
        while let Some(command) = self.hosts[index].follower.poll_command() {
            match command {
                NodeCommand::Install {
                    grants,
                    acknowledge,
                } => {
                    let host = &mut self.hosts[index];
                    for grant in &grants {
                        assert!(grant.expires > now, "the kernel would refuse {grant:?}");
                        host.kernel.insert(grant.limit, *grant);
                    }
                    host.follower.installed(&grants, acknowledge);
                    host.follower.check_invariants();
                }
                NodeCommand::Send(message) => {
                    for leader in 0..self.leaders.len() {
                        self.send(Wire::Up {
                            leader,
                            message: message.clone(),
                        });
                    }
                }
            }
        }
    }

    /// I1: what all kernels may spend now is at most the budget.
    pub fn judge(&mut self) {
        for limit in &policy().limits {
            let effective: Amount = self
                .hosts
                .iter()
                .filter_map(|host| host.kernel.get(&limit.id))
                .map(|grant| grant.effective(self.now))
                .sum();
            assert!(
                effective.fits(limit.budget),
                "{} at {}: {effective:?} of {:?}",
                limit.name,
                self.now,
                limit.budget
            );
        }
    }

    pub fn rate(&self, name: &str, host: usize) -> u64 {
        let grant = self.hosts[host].kernel[&LimitId::of(name)];
        grant.effective(self.now).rate.0 >> 10
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.tick();
        }
    }
}

pub fn floors(floor: Amount) -> impl Iterator<Item = Grant> {
    policy()
        .limits
        .into_iter()
        .map(move |limit| Grant::floor(limit.id, floor))
}
