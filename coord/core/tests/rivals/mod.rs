//! Two leaders, one after the other, of four nodes: 1, 2 and 3 vote.

use std::collections::BTreeMap;

use weir_coord_core::{
    commit::QuorumCommit,
    follower::Follower,
    leader::{Command, Input, Leader},
    record::{MemberRecord, ReservedFloor},
};
use weir_model::{
    Limit, Nanos,
    message::{FromNode, LimitReport},
};

pub(crate) use crate::fleet::{TIMING, id};
use crate::{
    fleet::{self, BEGINNING, born},
    limits::limit,
    node,
};

/// Leads first, and votes.
pub(crate) const FIRST: usize = 1;
/// Leads then, and votes, as does 3.
pub(crate) const SECOND: usize = 2;
/// A member that does not vote.
pub(crate) const NO_VOTER: usize = 4;

pub(crate) fn the_limit() -> Limit {
    limit("web", 100_000, 10_000, 10, false)
}

fn member(number: usize) -> MemberRecord {
    let limit = the_limit();
    MemberRecord {
        floors: vec![ReservedFloor {
            limit: limit.id,
            scale: limit.scale,
            amount: limit.floor,
        }],
        ..fleet::member(number)
    }
}

fn leader(number: usize, term: u64, now: Nanos) -> Leader<QuorumCommit> {
    let members = (1..=4).map(member).collect();
    fleet::leader((number, term), 1..=3, members, the_limit(), now)
}

/// The leaders and the nodes, with nothing between those that hear each other.
pub(crate) struct World {
    pub(crate) leaders: BTreeMap<usize, Leader<QuorumCommit>>,
    pub(crate) nodes: BTreeMap<usize, Follower>,
    pub(crate) now: Nanos,
    /// Who hears the first leader alone, and the others the second alone; nobody while all hear both.
    pub(crate) cut: Vec<usize>,
    /// Whose acknowledgements are lost.
    pub(crate) unheard: Option<usize>,
}

impl World {
    pub(crate) fn new() -> Self {
        let now = BEGINNING;
        Self {
            leaders: BTreeMap::from([(FIRST, leader(FIRST, 1, now))]),
            nodes: (1..=4).map(|number| (number, born(number))).collect(),
            now,
            cut: Vec::new(),
            unheard: None,
        }
    }

    fn hear_each_other(&self, leader: usize, node: usize) -> bool {
        let with_first = |number| self.cut.contains(&number);
        self.cut.is_empty() || with_first(leader) == with_first(node)
    }

    /// Time goes on for a tick, and the leader has its own.
    pub(crate) fn next_tick(&mut self, leader: usize) {
        self.now = self.now + TIMING.tick;
        self.tick(leader);
    }

    /// What a leader does in a tick.
    pub(crate) fn tick(&mut self, leader: usize) {
        for node in 1..=4 {
            if self.hear_each_other(leader, node) {
                let row = LimitReport {
                    limit: the_limit().id,
                    ..LimitReport::default()
                };
                let report = self.nodes[&node].report(self.now, &[row]);
                self.tell(leader, Input::FromNode(FromNode::Report(report)));
            }
        }
        self.tell(leader, Input::Tick);
    }

    pub(crate) fn tell(&mut self, number: usize, input: Input) {
        let leader = self.leaders.get_mut(&number).unwrap();
        leader.handle(input, self.now);
        while let Some(command) = self.leaders.get_mut(&number).unwrap().poll_command() {
            let Command::Send { to, message } = command else {
                continue;
            };
            let node = (1..=4).find(|node| id(*node) == to).unwrap();
            if self.hear_each_other(number, node) {
                self.nodes.get_mut(&node).unwrap().handle(message, self.now);
                self.answer(number, node);
            }
        }
    }

    fn answer(&mut self, leader: usize, number: usize) {
        for message in node::answers(self.nodes.get_mut(&number).unwrap(), self.now) {
            let is_lost = self.unheard == Some(number);
            if !(is_lost && matches!(message, FromNode::Ack(_))) {
                let leader = self.leaders.get_mut(&leader).unwrap();
                leader.handle(Input::FromNode(message), self.now);
            }
        }
    }

    pub(crate) fn in_use(&self) -> u64 {
        let nodes = self.nodes.values();
        let grants = nodes.flat_map(|node| node.held());
        grants.map(|grant| grant.effective(self.now).rate.0).sum()
    }

    /// Until the first leader has granted all there is.
    pub(crate) fn begin(&mut self) {
        for _ in 0..30 {
            self.next_tick(FIRST);
        }
        let budget = the_limit().budget.rate.0;
        assert!(self.in_use() > budget / 100 * 98, "all of it is in use");
    }

    /// The second leader begins, with the next term.
    pub(crate) fn take_over(&mut self) {
        let second = leader(SECOND, 2, self.now);
        self.leaders.insert(SECOND, second);
    }

    pub(crate) fn expect_no_more_than_the_budget(&self) {
        let budget = the_limit().budget.rate.0;
        let in_use = self.in_use();
        assert!(
            in_use <= budget,
            "{} % of the budget",
            in_use * 100 / budget
        );
    }
}
