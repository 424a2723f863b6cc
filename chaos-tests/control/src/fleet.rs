//! A leader and its nodes: the protocol's real core, with nothing between them but the wire.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail};
use nix::time::{ClockId, clock_gettime};
use weir_coord_core::{
    commit::QuorumCommit,
    follower::{Birth, Command as NodeCommand, Follower},
    leader::{Command, Input, Leader, Mandate},
    record::{MemberRecord, ReservedFloor, TermRecord},
    rules::Rules,
    timing::Timing,
    voters::choose,
};
use weir_model::{
    Amount, Incarnation, LimitId, Nanos, NodeId, Policy, PolicyVersion, Term, Units,
    UnitsPerSecond,
    message::{FromNode, ToNode},
    policy::FleetSettings,
};
use weir_proto::coordination::stream::EncodedRegisters;
use weir_sim::limits::{SCALE, amount, limit};

use crate::{load::Load, wire::Wire};

const VERSION: PolicyVersion = PolicyVersion(1);
/// Of every limit, in packets a second for each node.
const RATE_PER_NODE: u64 = 10_000;
/// Rounds of messages in one tick, after which something is wrong.
const MOST_ROUNDS: usize = 50;

pub(crate) struct Fleet {
    policy: Policy,
    leader: Leader<QuorumCommit>,
    followers: Vec<Follower>,
    wires: Vec<Wire>,
    index_of: BTreeMap<NodeId, usize>,
    voters: Vec<NodeId>,
    pub(crate) load: Load,
    now: Nanos,
}

/// What the leader's part in one tick took, in CPU time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    /// Encoded reports in to encoded proposals out.
    pub(crate) tick: Duration,
    /// All that follows: acknowledgements in, commits and second proposals out.
    pub(crate) answers: Duration,
}

impl Fleet {
    pub(crate) fn new(nodes: usize, limits: usize, changing: u32) -> Self {
        let policy = policy(nodes, limits);
        let now = Nanos(1_000_000_000_000);
        let ids: Vec<NodeId> = (1..=nodes as u128).map(NodeId::from_u128).collect();
        let members: Vec<MemberRecord> = ids.iter().map(|id| member(*id, &policy)).collect();
        let everybody = ids.iter().copied().collect();
        let voters = choose(&everybody, &everybody, &[]);
        let mandate = Mandate {
            node: ids[0],
            record: TermRecord {
                term: Term(1),
                voters: voters.clone(),
                ..TermRecord::VACANT
            },
            adopted: None,
            members,
            policy: (VERSION, policy.clone()),
        };
        let backend = QuorumCommit::new(voters.clone(), Rules::ALL);
        let follower = |node: &NodeId| {
            let birth = Birth {
                node: *node,
                incarnation: Incarnation(1),
                term: Term(1),
                abstains_until: Nanos::ZERO,
            };
            Follower::new(birth, VERSION, [], Rules::ALL)
        };
        let registers = EncodedRegisters::default();
        Self {
            leader: Leader::new(mandate, Timing::DEFAULT, backend, now),
            followers: ids.iter().map(follower).collect(),
            wires: ids.iter().map(|_| Wire::new(registers.clone())).collect(),
            index_of: ids.into_iter().zip(0..).collect(),
            voters,
            load: Load::new(&policy, nodes, changing),
            policy,
            now,
        }
    }

    /// Bytes that went over the wire of each voter but the leader's own, and of each other node.
    pub(crate) fn bytes(&self) -> (Vec<u64>, Vec<u64>) {
        let (mut voters, mut others) = (Vec::new(), Vec::new());
        for (node, index) in self.index_of.iter().skip(1) {
            let bytes = self.wires[*index].bytes;
            if self.voters.contains(node) {
                voters.push(bytes);
            } else {
                others.push(bytes);
            }
        }
        (voters, others)
    }

    /// How far the worst node's share in one limit is from the best one, in parts of its rate.
    pub(crate) fn distance(&self, limit: usize) -> f64 {
        let limit_of = &self.policy.limits[limit];
        let share = |node: usize| {
            self.granted(node, limit_of.id).rate.0 as f64 / limit_of.budget.rate.0 as f64
        };
        (0..self.followers.len())
            .map(|node| (share(node) - self.load.best(limit, node)).abs())
            .fold(0.0, f64::max)
    }

    fn granted(&self, node: usize, limit: LimitId) -> Amount {
        let held = self.followers[node].held().find(|held| held.limit == limit);
        held.map_or(Amount::ZERO, |held| held.effective(self.now))
    }

    /// One tick of everybody.
    pub(crate) fn tick(&mut self) -> Result<Taken> {
        self.now = self.now + Timing::DEFAULT.tick;
        let mut up = Vec::with_capacity(self.followers.len());
        for (node, follower) in self.followers.iter().enumerate() {
            let held: BTreeMap<LimitId, u64> = follower
                .held()
                .map(|held| (held.limit, tokens_a_tick(held.effective(self.now))))
                .collect();
            let granted = |limit| held.get(&limit).copied().unwrap_or(0);
            let report = follower.report(self.now, self.load.tick(node, granted));
            up.push((node, self.wires[node].up(FromNode::Report(report))));
        }
        let mut taken = Taken::default();
        let mut is_tick = true;
        for _ in 0..MOST_ROUNDS {
            let begun = cpu_time()?;
            for (node, wire) in &up {
                let message = self.wires[*node].hear(wire)?;
                self.leader.handle(Input::FromNode(message), self.now);
            }
            if is_tick {
                self.leader.handle(Input::Tick, self.now);
            }
            let mut down = Vec::new();
            while let Some(command) = self.leader.poll_command() {
                match command {
                    Command::Send { to, message } => {
                        let node = self.index_of[&to];
                        down.push((node, self.wires[node].down(message)));
                    }
                    Command::StepDown(why) => bail!("the leader steps down: {why:?}"),
                    _ => {}
                }
            }
            let part = cpu_time()? - begun;
            if is_tick {
                taken.tick = part;
            } else {
                taken.answers += part;
            }
            is_tick = false;
            if down.is_empty() {
                return Ok(taken);
            }
            up.clear();
            for (node, wire) in down {
                let message = self.wires[node].listen(&wire)?;
                self.hand_over(node, message, &mut up);
            }
        }
        bail!("a tick has no end")
    }

    /// A node takes a message; what it answers is on its way.
    fn hand_over(&mut self, node: usize, message: ToNode, up: &mut Vec<(usize, Vec<u8>)>) {
        let follower = &mut self.followers[node];
        follower.handle(message, self.now);
        while let Some(command) = follower.poll_command() {
            match command {
                NodeCommand::Install {
                    grants,
                    acknowledge,
                } => follower.installed(&grants, acknowledge, self.now),
                NodeCommand::Send(message) => up.push((node, self.wires[node].up(message))),
                NodeCommand::Enforce(_) | NodeCommand::Heat(_) => {}
            }
        }
    }
}

fn tokens_a_tick(amount: Amount) -> u64 {
    (amount.rate.0 >> SCALE.fraction_bits) / 10
}

fn policy(nodes: usize, limits: usize) -> Policy {
    let nodes = nodes as u64;
    let rate = RATE_PER_NODE * nodes;
    // One percent of the rate, and a packet at once, for all members together.
    let floor = Amount {
        rate: UnitsPerSecond((rate << SCALE.fraction_bits) / 100 / nodes),
        burst: Units(1 << SCALE.fraction_bits),
    };
    let limits: Vec<_> = (0..limits)
        .map(|number| limit(&format!("limit-{number}"), rate, rate / 10, floor, true))
        .collect();
    debug_assert_eq!(limits[0].budget, amount(rate, rate / 10));
    Policy {
        fleet: FleetSettings {
            max_members: u32::try_from(nodes).unwrap_or(u32::MAX),
            ..FleetSettings::default()
        },
        limits: limits.into(),
    }
}

fn member(node: NodeId, policy: &Policy) -> MemberRecord {
    let floors = policy.limits.iter().map(|limit| ReservedFloor {
        limit: limit.id,
        scale: limit.scale,
        amount: limit.floor,
    });
    MemberRecord {
        node,
        name: node.to_string(),
        weight: 1,
        floors: floors.collect(),
        is_drained: false,
        is_powered_off: false,
    }
}

/// Of this thread: what else the machine does is none of the leader's cost.
fn cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
