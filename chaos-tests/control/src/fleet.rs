//! A leader and its nodes: the protocol's real core, with nothing between them but the wire.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail};
use weir_coord_core::{
    commit::QuorumCommit,
    follower::{Command as NodeCommand, Follower},
    leader::{Command, Input, Leader},
    rules::Rules,
    timing::Timing,
};
use weir_model::{
    Amount, LimitId, Nanos, NodeId, Policy,
    message::{FromNode, ToNode},
};
use weir_proto::coordination::stream::EncodedRegisters;

use crate::{load::Load, processor::thread_time, start::Start, wire::Wire};

const TICK: Duration = Timing::DEFAULT.tick;
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
        let start = Start::new(nodes, limits);
        let now = Nanos(1_000_000_000_000);
        let backend = QuorumCommit::new(start.voters.clone(), Rules::ALL);
        let registers = EncodedRegisters::default();
        let ids = &start.nodes;
        Self {
            leader: Leader::new(start.mandate(), Timing::DEFAULT, backend, now),
            followers: start.followers().collect(),
            wires: ids.iter().map(|_| Wire::new(registers.clone())).collect(),
            index_of: ids.iter().copied().zip(0..).collect(),
            voters: start.voters,
            load: Load::new(&start.policy, nodes, changing),
            policy: start.policy,
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
        self.now = self.now + TICK;
        let mut up = Vec::with_capacity(self.followers.len());
        for (node, follower) in self.followers.iter().enumerate() {
            let held: BTreeMap<LimitId, Amount> = follower
                .held()
                .map(|held| (held.limit, held.effective(self.now)))
                .collect();
            let granted = |limit| held.get(&limit).copied().unwrap_or(Amount::ZERO);
            let report = follower.report(self.now, self.load.pass(node, TICK, granted));
            up.push((node, self.wires[node].up(FromNode::Report(report))));
        }
        let mut taken = Taken::default();
        let mut is_tick = true;
        for _ in 0..MOST_ROUNDS {
            let begun = thread_time()?;
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
            let part = thread_time()? - begun;
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
                NodeCommand::Enforce(_) | NodeCommand::Heat(_) | NodeCommand::Give(_) => {}
            }
        }
    }
}
