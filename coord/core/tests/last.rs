//! Rule 10, *members*: whoever is the only one left is not taken out. It votes, and there is nobody to vote
//! instead, so it would give back everything and never be gone: a fleet of members that hold nothing.

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
    Incarnation, Nanos, NodeId, Policy, PolicyVersion, Term,
    message::{FromNode, LimitReport},
    policy::FleetSettings,
};

const TIMING: Timing = Timing::DEFAULT;
const ONLY: NodeId = NodeId::from_u128(1);

#[test]
fn the_only_member_is_removed_or_keeps_its_share() {
    let the_limit = limit("web", 100_000, 10_000, 0, false);
    let mut now = Nanos(1_000_000_000_000);
    let mandate = Mandate {
        node: ONLY,
        record: TermRecord {
            term: Term(1),
            leader: Some(ONLY),
            voters: vec![ONLY],
            lease: TIMING.lease,
            ..TermRecord::VACANT
        },
        adopted: None,
        members: vec![MemberRecord {
            node: ONLY,
            name: "only".to_owned(),
            weight: 1,
            floors: Vec::new(),
            is_drained: false,
            is_powered_off: false,
        }],
        policy: (
            PolicyVersion(1),
            Policy {
                fleet: FleetSettings {
                    max_members: 8,
                    ..FleetSettings::default()
                },
                limits: vec![the_limit.clone()].into(),
            },
        ),
        in_force: PolicyRecord::settled(PolicyVersion(1)),
    };
    let commit = QuorumCommit::new(vec![ONLY], Rules::ALL);
    let mut leader = Leader::new(mandate, TIMING, commit, now);
    let birth = Birth {
        node: ONLY,
        incarnation: Incarnation(1),
        term: Term(1),
        abstains_until: Nanos::ZERO,
    };
    let mut node = Follower::new(birth, PolicyVersion(1), [], Rules::ALL);
    let mut is_removed = false;
    for tick in 0..600 {
        now = now + TIMING.tick;
        if tick == 30 {
            let remove = Input::Remove {
                node: ONLY,
                is_powered_off: false,
            };
            leader.handle(remove, now);
        }
        let row = LimitReport {
            limit: the_limit.id,
            ..LimitReport::default()
        };
        let report = FromNode::Report(node.report(now, &[row]));
        leader.handle(Input::FromNode(report), now);
        leader.handle(Input::Tick, now);
        while let Some(command) = leader.poll_command() {
            match command {
                Command::Remove(_) | Command::ChangeVoters(_) => is_removed = true,
                Command::Send { message, .. } => {
                    node.handle(message, now);
                    for answer in node::answers(&mut node, now) {
                        leader.handle(Input::FromNode(answer), now);
                    }
                }
                _ => {}
            }
        }
    }
    let held: u64 = node.held().map(|grant| grant.effective(now).rate.0).sum();
    assert!(
        is_removed || held > 0,
        "a member still, and it holds {held}"
    );
}
