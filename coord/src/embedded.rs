//! The coordinator of a fleet of one: the same protocol, with nobody to ask.

use std::collections::VecDeque;

use weir_coord_core::{
    commit::{EmbeddedCommit, StoreOutcome},
    leader::{Command, Input, Leader, Mandate},
    record::{MemberRecord, PolicyRecord, TermRecord},
    timing::Timing,
};
use weir_model::{
    Nanos, NodeId, Policy, PolicyVersion, Term,
    message::{FromNode, ToNode},
};

/// The term of an embedded leader: there is never another.
pub const EMBEDDED_TERM: Term = Term(1);

/// A leader whose only member is the host that it runs on.
#[derive(Debug)]
pub struct Embedded {
    leader: Leader<EmbeddedCommit>,
    messages: VecDeque<ToNode>,
}

impl Embedded {
    /// Leads `node`, which people call `name`, by `policy` from `now` on.
    #[must_use]
    pub fn new(
        node: NodeId,
        name: &str,
        policy: (PolicyVersion, Policy),
        timing: Timing,
        now: Nanos,
    ) -> Self {
        let in_force = PolicyRecord::settled(policy.0);
        let mandate = Mandate {
            node,
            record: TermRecord {
                term: EMBEDDED_TERM,
                ..TermRecord::VACANT
            },
            adopted: None,
            members: vec![MemberRecord {
                node,
                name: name.to_owned(),
                weight: 1,
                floors: Vec::new(),
                is_drained: false,
                is_powered_off: false,
            }],
            policy,
            in_force,
        };
        let leader = Leader::new(mandate, timing, EmbeddedCommit::default(), now);
        Self {
            leader,
            messages: VecDeque::new(),
        }
    }

    /// Takes what the node says, or a tick.
    pub fn handle(&mut self, input: Input, now: Nanos) {
        self.leader.handle(input, now);
        while let Some(command) = self.leader.poll_command() {
            match command {
                Command::Send { message, .. } => self.messages.push_back(message),
                // Nobody else could be given what is reserved.
                Command::Admit(record) => {
                    let (node, outcome) = (record.node, StoreOutcome::Committed);
                    self.leader.handle(Input::Admitted { node, outcome }, now);
                }
                // The backend stores nothing, and no other term exists.
                Command::Store(_)
                | Command::Activated
                | Command::Activate(..)
                | Command::Remove(_)
                | Command::ChangeVoters(_)
                | Command::StepDown(_) => {}
            }
        }
    }

    /// What the node says.
    pub fn receive(&mut self, message: FromNode, now: Nanos) {
        self.handle(Input::FromNode(message), now);
    }

    /// The next message to the node.
    pub fn poll_message(&mut self) -> Option<ToNode> {
        self.messages.pop_front()
    }

    /// The leader, to look at.
    #[must_use]
    pub const fn leader(&self) -> &Leader<EmbeddedCommit> {
        &self.leader
    }
}
