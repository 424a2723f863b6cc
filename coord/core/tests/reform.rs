//! Rule 10, *members*: a change of voters that came to nothing is asked for again. ZooKeeper may have had no
//! quorum at that moment, or the leader no candidacy; without it the fleet goes on with voters of which
//! one is gone, until the next one goes.

#![allow(clippy::unwrap_used)]

mod limits;
mod node;

use limits::limit;
use weir_coord_core::{
    commit::QuorumCommit,
    follower::{Birth, Follower},
    leader::{Command, Input, Leader, Mandate},
    record::{MemberRecord, PolicyRecord, TermRecord},
    rules::Rules,
    timing::Timing,
};
use weir_model::{
    Incarnation, Nanos, NodeId, Policy, PolicyVersion, Term, message::FromNode,
    policy::FleetSettings,
};

const TIMING: Timing = Timing::DEFAULT;

fn id(number: usize) -> NodeId {
    NodeId::from_u128(number as u128)
}

/// A leader with voters 1, 2 and 3 of 4 members.
fn leader(now: Nanos) -> Leader<QuorumCommit> {
    let voters: Vec<NodeId> = (1..=3).map(id).collect();
    let member = |number| MemberRecord {
        node: id(number),
        name: number.to_string(),
        weight: 1,
        floors: Vec::new(),
        is_drained: false,
        is_powered_off: false,
    };
    let mandate = Mandate {
        node: id(1),
        record: TermRecord {
            term: Term(1),
            leader: Some(id(1)),
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
                limits: vec![limit("web", 100_000, 10_000, 0, false)].into(),
            },
        ),
        in_force: PolicyRecord::settled(PolicyVersion(1)),
    };
    Leader::new(mandate, TIMING, QuorumCommit::new(voters, Rules::ALL), now)
}

#[test]
fn a_change_of_voters_that_came_to_nothing_is_asked_for_again() {
    let mut now = Nanos(1_000_000_000_000);
    let mut leader = leader(now);
    let follower = |number| {
        let birth = Birth {
            node: id(number),
            incarnation: Incarnation(1),
            term: Term(1),
            abstains_until: Nanos::ZERO,
        };
        Follower::new(birth, PolicyVersion(1), [], Rules::ALL)
    };
    let mut nodes: Vec<Follower> = (1..=4).map(follower).collect();
    let mut asked = Vec::new();
    for tick in 0..600 {
        now = now + TIMING.tick;
        // The third one, a voter, has no power any more.
        let is_up = |number: usize| number != 3 || tick < 30;
        for number in (1..=4).filter(|number| is_up(*number)) {
            let report = FromNode::Report(nodes[number - 1].report(now, &[]));
            leader.handle(Input::FromNode(report), now);
        }
        leader.handle(Input::Tick, now);
        while let Some(command) = leader.poll_command() {
            match command {
                // Nothing comes of it: the shell could not write it.
                Command::ChangeVoters(voters) => asked.push((tick, voters)),
                Command::Send { to, message } => {
                    let number = (1..=4).find(|number| id(*number) == to).unwrap();
                    if is_up(number) {
                        let node = &mut nodes[number - 1];
                        node.handle(message, now);
                        for answer in node::answers(node, now) {
                            leader.handle(Input::FromNode(answer), now);
                        }
                    }
                }
                Command::StepDown(reason) => panic!("{reason:?}"),
                _ => {}
            }
        }
    }
    let voters = vec![id(1), id(2), id(4)];
    assert!(asked.iter().all(|(_, asked)| *asked == voters), "{asked:?}");
    assert!(asked.len() > 1, "asked once in a minute: {asked:?}");
}
