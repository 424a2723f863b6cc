//! A host that leads, without a ZooKeeper: what that says is made up.

use weir_coord::{
    fleet::{CommitBy, Fleet, Host},
    grpc::{Security, Streams},
    zookeeper::{self, Event, Events, Live, Roster},
};
use weir_coord_core::{
    record::{PolicyRecord, TermRecord},
    timing::Timing,
};
use weir_model::{
    Incarnation, Nanos, Policy, PolicyVersion, Term,
    message::{FromNode, Position, Report, Token},
    policy::FleetSettings,
};

use super::{SESSION, address, id, live, settings};

pub const TIMING: Timing = Timing::DEFAULT;
pub const BEGIN: Nanos = Nanos(1_000_000_000_000);

/// A policy with room for so many members.
pub fn policy(max_members: u32) -> Policy {
    Policy {
        fleet: FleetSettings {
            max_members,
            ..FleetSettings::default()
        },
        ..Policy::default()
    }
}

/// Host 1, which leads. ZooKeeper is never reached.
pub fn leading(members: Roster, policy: Policy) -> (Fleet, Events) {
    let (keeper, events) = zookeeper::spawn(settings("127.0.0.1:1", SESSION), live(1));
    let host = Host {
        node: id(1),
        address: address(1),
        timing: TIMING,
        commit: CommitBy::ZooKeeper,
        security: Security::Plain,
    };
    let mut fleet = Fleet::new(host, keeper, Streams::default());
    fleet.set_policy(PolicyVersion(1), policy, BEGIN);
    let incarnation = Incarnation(1);
    let running = |number| Live {
        record: live(number),
        incarnation,
    };
    let record = TermRecord {
        term: Term(1),
        leader: Some(id(1)),
        voters: vec![id(1)],
        ..TermRecord::VACANT
    };
    for event in [
        Event::Registered { incarnation },
        Event::Live((1..=3).map(running).collect()),
        Event::TakenOver {
            record,
            envelope: None,
            roster: members,
            in_force: PolicyRecord::settled(PolicyVersion(1)),
        },
    ] {
        fleet.observe(event, BEGIN);
    }
    assert!(fleet.leader().is_some());
    (fleet, events)
}

pub fn report(number: u128, now: Nanos) -> FromNode {
    FromNode::Report(Report {
        node: id(number),
        token: Token {
            incarnation: Incarnation(1),
            at: now,
        },
        promised: Term(1),
        seen: Position::default(),
        policy: PolicyVersion(1),
        prepared: PolicyVersion(1),
        abstains: false,
        limits: Vec::new(),
        heavy: Vec::new(),
    })
}
