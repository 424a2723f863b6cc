//! One leader: the real one, which lives for ever. It never steps down, whoever refuses it: rule 9
//! is a courtesy, and safety must not need it.

use weir_coord_core::{
    commit::{QuorumCommit, StoreOutcome},
    leader::{Command, Input, Leader, Mandate},
    record::{MemberRecord, PolicyRecord, TermRecord},
};
use weir_model::{
    NodeId, PolicyVersion,
    message::{FromNode, ToNode},
};

use crate::scope::{Scope, TIMING, index_of, node, place_of};

/// A leader and what the invariants remember of it.
#[derive(Clone, Debug, Hash)]
pub struct Lead {
    /// Which, in the order of terms.
    pub index: u8,
    /// The protocol's leader.
    pub leader: Leader<QuorumCommit>,
    /// Who votes in its term.
    pub voters: Vec<NodeId>,
    /// Since when a majority of every voter set has promised.
    pub active_since: Option<u8>,
}

/// What happens to a leader.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A host's message arrives.
    Hears(&'a FromNode),
    /// A tick passes.
    Ticks,
    /// It reads the roster.
    Reads(Vec<MemberRecord>),
    /// What became of the admission of a host.
    Admitted(NodeId, StoreOutcome),
    /// What became of the removal of a host.
    Removed(NodeId, StoreOutcome),
    /// The operator wants a host to leave; whether it is powered off.
    Remove(NodeId, bool),
    /// A policy is to come into force.
    Prepare(PolicyVersion),
    /// It reads which policy is in force.
    ReadsPolicy(PolicyVersion),
}

/// What a leader asks of the world.
#[derive(Clone, Debug)]
pub enum Asked {
    /// A message to a host.
    Send(u8, ToNode),
    /// A write to ZooKeeper.
    Write(Write),
}

/// A write to ZooKeeper, good as long as `term` is the leader's.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub enum Write {
    /// A member's record.
    Admit(MemberRecord),
    /// A member is none any more.
    Remove(NodeId),
    /// This policy is in force.
    Activate(PolicyVersion),
    /// The former voters are not needed any more.
    DropFormer,
}

impl Lead {
    /// The leader of a term that was just written, and what it asks for at once.
    #[must_use]
    pub fn new(
        index: u8,
        record: &TermRecord,
        members: Vec<MemberRecord>,
        policy: PolicyVersion,
        step: u8,
        scope: &Scope,
    ) -> (Self, Vec<Asked>) {
        let mandate = Mandate {
            node: record.leader.unwrap_or_else(|| node(index)),
            record: record.clone(),
            adopted: None,
            members,
            policy: (policy, scope.policy(place_of(policy))),
            // The policies of a scope have no keys: there is room for everybody.
            in_force: PolicyRecord::settled(policy),
        };
        let backend = QuorumCommit::new(record.voters.clone(), scope.rules);
        let now = scope.pace.leader_clock(step);
        let mut lead = Self {
            index,
            leader: Leader::with_rules(mandate, TIMING, backend, scope.rules, now),
            voters: record.voters.clone(),
            active_since: None,
        };
        let asked = lead.step(&Event::Ticks, step, scope);
        (lead, asked)
    }

    /// Something happens. What is returned is to be done.
    pub fn step(&mut self, event: &Event<'_>, step: u8, scope: &Scope) -> Vec<Asked> {
        let now = scope.pace.leader_clock(step);
        match event {
            Event::Hears(message) => {
                if let FromNode::Report(report) = message
                    && scope.joins
                {
                    let joins = Input::Join(record(report.node));
                    self.leader.handle(joins, now);
                }
                self.leader.handle(Input::FromNode((*message).clone()), now);
            }
            Event::Ticks => self.leader.handle(Input::Tick, now),
            Event::Reads(roster) => self.leader.handle(Input::Members(roster.clone()), now),
            Event::Admitted(node, outcome) => {
                let (node, outcome) = (*node, *outcome);
                self.leader.handle(Input::Admitted { node, outcome }, now);
            }
            Event::Removed(node, outcome) => {
                let (node, outcome) = (*node, *outcome);
                self.leader.handle(Input::Removed { node, outcome }, now);
            }
            Event::Remove(node, is_powered_off) => {
                let (node, is_powered_off) = (*node, *is_powered_off);
                let remove = Input::Remove {
                    node,
                    is_powered_off,
                };
                self.leader.handle(remove, now);
            }
            Event::Prepare(version) => {
                let policy = scope.policy(place_of(*version));
                self.leader.handle(Input::Prepare(*version, policy), now);
            }
            Event::ReadsPolicy(version) => {
                let policy = scope.policy(place_of(*version));
                self.leader.handle(Input::Policy(*version, policy), now);
            }
        }
        if self.active_since.is_none() && !self.leader.is_preparing() {
            self.active_since = Some(step);
        }
        let mut asked = Vec::new();
        while let Some(command) = self.leader.poll_command() {
            match command {
                Command::Send { to, message } => asked.push(Asked::Send(index_of(to), message)),
                Command::Admit(record) => asked.push(Asked::Write(Write::Admit(record))),
                Command::Remove(node) => asked.push(Asked::Write(Write::Remove(node))),
                Command::Activate(version, _) => asked.push(Asked::Write(Write::Activate(version))),
                Command::Activated => asked.push(Asked::Write(Write::DropFormer)),
                Command::Store(_) | Command::ChangeVoters(_) | Command::StepDown(_) => {}
            }
        }
        asked
    }
}

/// A member without floors.
#[must_use]
pub const fn record(node: NodeId) -> MemberRecord {
    MemberRecord {
        node,
        name: String::new(),
        weight: 1,
        floors: Vec::new(),
        is_drained: false,
        is_powered_off: false,
    }
}
