//! Rule 6, *take-over*: promises are those of voters. Somebody else's is none, nor is the register that
//! comes with it: whoever says so could hide what nodes hold, or make up what nobody does.

#![allow(clippy::unwrap_used)]

mod limits;
mod node;

use std::{collections::BTreeMap, time::Duration};

use limits::limit;
use weir_coord_core::{
    commit::QuorumCommit,
    follower::{Birth, Follower},
    leader::{Command, Input, Leader, Mandate},
    record::{EnvelopeRecord, MemberRecord, PolicyRecord, ReservedFloor, TermRecord},
    rules::Rules,
    timing::Timing,
};
use weir_model::{
    Amount, Generation, Incarnation, Limit, Nanos, NodeId, Policy, PolicyVersion, Term,
    message::{FromNode, LimitReport, Promise, Token},
    policy::FleetSettings,
    register::{LimitEnvelope, NodeEnvelope},
};

const TIMING: Timing = Timing::DEFAULT;
/// Leads first, and votes.
const FIRST: usize = 1;
/// Leads then, and votes, as does 3.
const SECOND: usize = 2;
/// A member that is no voter, and says in its own name whatever it likes.
const LIAR: usize = 4;

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
    /// The first leader on one side, the second, node 3 and the liar on the other.
    is_cut: bool,
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
        }
    }

    fn hear_each_other(&self, leader: usize, node: usize) -> bool {
        !self.is_cut || (leader == FIRST) == (node == FIRST)
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
            let leader = self.leaders.get_mut(&leader).unwrap();
            leader.handle(Input::FromNode(message), self.now);
        }
    }

    fn in_use(&self) -> u64 {
        let nodes = self.nodes.values();
        let grants = nodes.flat_map(|node| node.held());
        grants.map(|grant| grant.effective(self.now).rate.0).sum()
    }
}

/// All of the budget is in use by the first leader's grants; then the second one takes over, and the liar
/// is the first to answer it.
fn taken_over(register: EnvelopeRecord) -> World {
    let budget = the_limit().budget.rate.0;
    let mut world = World::new();
    for _ in 0..30 {
        world.now = world.now + TIMING.tick;
        world.tick(FIRST);
    }
    assert!(world.in_use() > budget / 100 * 98, "all of it is in use");
    world.is_cut = true;
    world.leaders.insert(SECOND, leader(SECOND, 2, world.now));
    let lie = FromNode::Promise(Promise {
        node: id(LIAR),
        token: Token {
            incarnation: Incarnation(1),
            at: world.now,
        },
        term: Term(2),
        abstains: false,
        register: Some(register),
    });
    world.tell(SECOND, Input::FromNode(lie));
    assert!(world.leaders[&SECOND].is_preparing());
    world.tick(SECOND);
    assert!(!world.leaders[&SECOND].is_preparing());
    world
}

/// Newer than what any voter has.
fn made_up() -> EnvelopeRecord {
    EnvelopeRecord {
        term: Term(1),
        generation: Generation(u64::MAX),
        lease: TIMING.lease,
        policy: PolicyVersion(1),
        nodes: Vec::new(),
    }
}

#[test]
fn a_register_of_no_voter_hides_nothing() {
    let budget = the_limit().budget.rate.0;
    let mut world = taken_over(made_up());
    for _ in 0..30 {
        let in_use = world.in_use();
        assert!(
            in_use <= budget,
            "{} % of the budget",
            in_use * 100 / budget
        );
        world.now = world.now + TIMING.tick;
        world.tick(SECOND);
    }
}

#[test]
fn a_register_of_no_voter_keeps_no_budget_for_ever() {
    let everything = LimitEnvelope {
        limit: the_limit().id,
        scale: the_limit().scale,
        amount: the_limit().budget,
        floor: Amount::ZERO,
    };
    let mut world = taken_over(EnvelopeRecord {
        lease: Duration::from_secs(1 << 32),
        nodes: vec![NodeEnvelope {
            node: id(99),
            limits: vec![everything],
        }],
        ..made_up()
    });
    for _ in 0..100 {
        world.now = world.now + TIMING.tick;
        world.tick(SECOND);
    }
    let budget = the_limit().budget.rate.0;
    let in_use = world.in_use();
    assert!(
        in_use > budget / 2,
        "{} % of the budget",
        in_use * 100 / budget
    );
}

#[test]
fn a_policy_that_no_voter_has_heard_of_stops_nobody() {
    let mut world = taken_over(EnvelopeRecord {
        policy: PolicyVersion(u64::MAX),
        ..made_up()
    });
    for _ in 0..100 {
        world.now = world.now + TIMING.tick;
        world.tick(SECOND);
    }
    let committed = world.leaders[&SECOND].committed();
    assert!(committed > Generation(0), "nothing is proposed");
}
