//! When a node makes a key hot, and when it drops one.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use weir_coord_core::{
    follower::{Birth, Command, Follower, Grant},
    rules::Rules,
};
use weir_model::{
    Amount, Generation, HotKey, Incarnation, LimitId, Nanos, NodeId, PolicyVersion, Term,
    UnitsPerSecond,
    message::{Commit, FromNode, Position, Propose, Row, ToNode, Token},
    prefix::Prefix,
};

const NOW: Nanos = Nanos(1_000_000_000);

fn key(number: u64) -> HotKey {
    HotKey {
        id: LimitId(1 << 63 | number),
        limit: LimitId(1),
        key: Prefix::containing([198, 18, 0, 1].into(), 32).unwrap(),
    }
}

fn follower() -> Follower {
    let birth = Birth {
        node: NodeId::from_u128(1),
        incarnation: Incarnation(1),
        term: Term(1),
        abstains_until: Nanos::ZERO,
    };
    let held = [Grant::floor(LimitId(1), Amount::ZERO)];
    Follower::new(birth, PolicyVersion(1), held, Rules::ALL)
}

/// What the shell is asked, with everything installed, when `hot` is proposed and committed.
fn round(follower: &mut Follower, generation: u64, hot: Option<Vec<HotKey>>) -> Vec<Command> {
    let position = Position {
        term: Term(1),
        generation: Generation(generation),
    };
    let row = |hot: &HotKey| Row {
        limit: hot.id,
        amount: Amount {
            rate: UnitsPerSecond(7),
            ..Amount::ZERO
        },
        floor: Amount::ZERO,
    };
    let propose = Propose {
        position,
        leader: NodeId::from_u128(2),
        policy: PolicyVersion(1),
        anchor: Token {
            incarnation: Incarnation(1),
            at: NOW,
        },
        lease: Duration::from_secs(2),
        rows: hot.iter().flatten().map(row).collect(),
        hot,
        register: None,
    };
    let mut commands = Vec::new();
    for message in [
        ToNode::Propose(propose),
        ToNode::Commit(Commit { position }),
    ] {
        follower.handle(message, NOW);
        while let Some(command) = follower.poll_command() {
            if let Command::Install {
                grants,
                acknowledge,
            } = &command
            {
                follower.installed(grants, *acknowledge, NOW);
            }
            commands.push(command);
        }
    }
    commands
}

#[test]
fn a_key_is_hot_from_its_commit_on_and_dropped_before_it_is_acknowledged() {
    let mut follower = follower();
    let commands = round(&mut follower, 1, Some(vec![key(1), key(2)]));
    assert!(matches!(commands[0], Command::Install { .. }));
    assert!(matches!(commands[1], Command::Send(FromNode::Ack(_))));
    assert_eq!(
        commands[2],
        Command::Give(true),
        "the first commit of its life"
    );
    assert_eq!(commands[3], Command::Heat(vec![key(1), key(2)]));
    assert!(matches!(&commands[4], Command::Install { grants, .. } if grants.len() == 2));
    assert_eq!(follower.held().count(), 3);

    let commands = round(&mut follower, 2, Some(vec![key(2)]));
    assert_eq!(commands[0], Command::Heat(vec![key(2)]));
    assert!(matches!(commands[1], Command::Install { .. }));
    assert!(matches!(commands[2], Command::Send(FromNode::Ack(_))));
    assert_eq!(follower.held().count(), 2, "the cold limit and one key");
}

#[test]
fn who_says_nothing_of_keys_leaves_them_alone() {
    let mut follower = follower();
    follower.set_hot([key(1)]);
    let commands = round(&mut follower, 1, None);
    assert!(!commands.iter().any(|it| matches!(it, Command::Heat(_))));
    assert_eq!(follower.hot().copied().collect::<Vec<_>>(), [key(1)]);
    follower.set_policy(PolicyVersion(2), []);
    assert_eq!(follower.hot().count(), 0, "the shell holds none");
}
