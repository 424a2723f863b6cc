//! Rule 5, *anchor*: what reminds a node of a proposal renews nothing. There are votes for the proposal
//! by then, and whoever gave them may have promised to obey another leader, which waits for what was
//! granted until its promises, and no longer.

#![allow(clippy::unwrap_used)]

mod limits;
mod node;

use std::collections::BTreeMap;

use limits::limit;
use weir_coord_core::{
    commit::QuorumCommit,
    follower::{Birth, Follower},
    leader::{Command, Input, Leader, Mandate},
    record::{MemberRecord, PolicyRecord, ReservedFloor, TermRecord},
    rules::Rules,
    timing::Timing,
};
use weir_model::{
    Incarnation, Limit, Nanos, NodeId, Policy, PolicyVersion, Term,
    message::{FromNode, LimitReport},
    policy::FleetSettings,
};

const TIMING: Timing = Timing::DEFAULT;
/// Leads first, and votes.
const FIRST: usize = 1;
/// Leads then, and votes, as does 3.
const SECOND: usize = 2;
/// No voter.
const REMINDED: usize = 4;

fn id(number: usize) -> NodeId {
    NodeId::from_u128(number as u128)
}

fn the_limit() -> Limit {
    limit("web", 100_000, 10_000, 10, false)
}

fn member(number: usize) -> MemberRecord {
    let limit = the_limit();
    MemberRecord {
        node: id(number),
        name: number.to_string(),
        weight: 1,
        floors: vec![ReservedFloor {
            limit: limit.id,
            scale: limit.scale,
            amount: limit.floor,
        }],
        is_drained: false,
        is_powered_off: false,
    }
}

fn leader(number: usize, term: u64, now: Nanos) -> Leader<QuorumCommit> {
    let voters: Vec<NodeId> = (1..=3).map(id).collect();
    let mandate = Mandate {
        node: id(number),
        record: TermRecord {
            term: Term(term),
            leader: Some(id(number)),
            voters: voters.clone(),
            lease: TIMING.lease,
            ..TermRecord::VACANT
        },
        adopted: None,
        members: (1..=4).map(member).collect(),
        policy: (
            PolicyVersion(1),
            Policy {
                fleet: FleetSettings {
                    max_members: 8,
                    ..FleetSettings::default()
                },
                limits: vec![the_limit()].into(),
            },
        ),
        in_force: PolicyRecord::settled(PolicyVersion(1)),
    };
    let commit = QuorumCommit::new(voters, Rules::ALL);
    Leader::new(mandate, TIMING, commit, now)
}

/// Two leaders and four nodes, with nothing between those that hear each other.
struct World {
    leaders: BTreeMap<usize, Leader<QuorumCommit>>,
    nodes: BTreeMap<usize, Follower>,
    now: Nanos,
    /// The first leader and node 4 on one side, the second and node 3 on the other.
    is_cut: bool,
    loses_answers: bool,
}

impl World {
    fn new() -> Self {
        let now = Nanos(1_000_000_000_000);
        let node = |number| {
            let birth = Birth {
                node: id(number),
                incarnation: Incarnation(1),
                term: Term(1),
                abstains_until: Nanos::ZERO,
            };
            let follower = Follower::new(birth, PolicyVersion(1), [], Rules::ALL);
            (number, follower)
        };
        Self {
            leaders: BTreeMap::from([(FIRST, leader(FIRST, 1, now))]),
            nodes: (1..=4).map(node).collect(),
            now,
            is_cut: false,
            loses_answers: false,
        }
    }

    fn hear_each_other(&self, leader: usize, node: usize) -> bool {
        let with_first = |number| number == FIRST || number == REMINDED;
        !self.is_cut || with_first(leader) == with_first(node)
    }

    fn tick(&mut self, leader: usize) {
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

    fn tell(&mut self, number: usize, input: Input) {
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
            let is_lost = self.loses_answers && number == REMINDED;
            if !(is_lost && matches!(message, FromNode::Ack(_))) {
                let leader = self.leaders.get_mut(&leader).unwrap();
                leader.handle(Input::FromNode(message), self.now);
            }
        }
    }

    fn in_use(&self) -> u64 {
        let nodes = self.nodes.values();
        let grants = nodes.flat_map(|node| node.held());
        grants.map(|grant| grant.effective(self.now).rate.0).sum()
    }
}

#[test]
fn a_reminder_does_not_renew_what_a_successor_counts_as_ended() {
    let budget = the_limit().budget.rate.0;
    let mut world = World::new();
    for _ in 0..30 {
        world.now = world.now + TIMING.tick;
        world.tick(FIRST);
    }
    assert!(world.in_use() > budget / 100 * 98, "all of it is in use");
    // A proposal is made and voted for; one answer, of no voter, is lost.
    world.loses_answers = true;
    let before = world.nodes[&3].seen();
    while world.nodes[&3].seen() == before {
        world.now = world.now + TIMING.tick;
        world.tick(FIRST);
    }
    // Those who voted promise to obey another leader, which learns what they voted for.
    world.is_cut = true;
    world.leaders.insert(SECOND, leader(SECOND, 2, world.now));
    world.tick(SECOND);
    assert!(!world.leaders[&SECOND].is_preparing());
    // The first one goes on for as long as it may, and hears the answer to a reminder.
    for tick in 1..=30 {
        world.now = world.now + TIMING.tick;
        world.loses_answers = tick < 3;
        if tick < 9 {
            world.tick(FIRST);
        }
        world.tick(SECOND);
        let in_use = world.in_use();
        assert!(
            in_use <= budget,
            "{} % of the budget",
            in_use * 100 / budget
        );
    }
    assert!(world.in_use() > budget / 100 * 70, "it is used again");
}
