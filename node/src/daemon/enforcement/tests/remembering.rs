//! A host whose disk is full while policies change, and that is started again.

use std::{fs, os::unix::fs::symlink};

use weir_model::message::{Propose, Row, Token};

use super::*;

/// Nothing more can be written to what the host remembers.
fn fill_disk(directory: &Path) {
    let next = directory.join("state/node.json.next");
    let _ = fs::remove_file(&next);
    symlink("/dev/full", next).unwrap();
}

fn empty_disk(directory: &Path) {
    fs::remove_file(directory.join("state/node.json.next")).unwrap();
}

/// What a daemon would go by that is started now, without ZooKeeper.
fn remembered(directory: &Path) -> PolicyVersion {
    let memory = Memory::open(&directory.join("state"), NODE, "test").unwrap();
    memory
        .policy()
        .map_or(PolicyVersion(0), |(version, _)| version)
}

/// A policy of one limit with keys, of which the host gives every key a part by itself.
fn per_source(rate: u32) -> String {
    format!(
        "version = 1\n[fleet]\nmax_members = 2\n[[limit]]\nname = \"sources\"\n\
         rate = \"{rate} packets/s\"\nper = {{ source_v4 = 32, source_v6 = 64 }}\npromise = \"strict\"\n"
    )
}

/// Proposes by a policy; whether the host says that it holds no more than was proposed.
fn acknowledges(enforcement: &mut Enforcement, policy: PolicyVersion, generation: u64) -> bool {
    let position = Position {
        term: Term(1),
        generation: weir_model::Generation(generation),
    };
    let propose = ToNode::Propose(Propose {
        position,
        leader: NodeId::from_u128(1),
        policy,
        anchor: Token {
            incarnation: Incarnation(1),
            at: dataplane::now(),
        },
        lease: Duration::from_secs(2),
        rows: std::iter::once(Row {
            limit: LimitId::of("sources"),
            ..Row::default()
        })
        .collect(),
        hot: None,
        register: None,
    });
    let mut holds = false;
    enforcement.receive(propose, |reply| {
        holds |= matches!(reply, FromNode::Ack(ack) if ack.holds && ack.position == position);
    });
    holds
}

/// A lowered limit would be exceeded if the host came back with the policy before, after it had
/// acknowledged this one.
#[test]
fn a_policy_that_cannot_be_remembered_is_neither_ready_nor_acknowledged() {
    on_host(|directory, mut enforcement| {
        let [one, two] = [PolicyVersion(1), PolicyVersion(2)];
        enforcement.set_policy(one, &per_source(4_000));
        enforcement.begin_life(Incarnation(1), Term(1), Duration::ZERO);
        let prepared = |enforcement: &Enforcement| enforcement.follower().unwrap().prepared();

        fill_disk(directory);
        enforcement.make_ready(two, &per_source(100)).unwrap();
        enforcement.catch_up();
        assert_eq!(
            prepared(&enforcement),
            one,
            "it could not remember the next one"
        );
        enforcement.set_policy(two, &per_source(100));
        assert_eq!(
            enforcement.policy_version(),
            one,
            "ZooKeeper says that it is in force"
        );
        empty_disk(directory);
        enforcement.catch_up();
        assert_eq!(prepared(&enforcement), two);

        fill_disk(directory);
        assert!(!acknowledges(&mut enforcement, two, 1));
        empty_disk(directory);
        assert_eq!(remembered(directory), one);
        assert_eq!(enforcement.policy_version(), one);
        enforcement.catch_up();
        assert!(acknowledges(&mut enforcement, two, 2));
        assert_eq!(remembered(directory), two);
    });
}

/// ZooKeeper says that the second policy is in force, which the host could not remember; by then the
/// third one is ready, and a leader begins with it.
#[test]
fn a_newer_policy_stays_ready_and_in_force() {
    on_host(|directory, mut enforcement| {
        let [one, two, three] = [1, 2, 3].map(PolicyVersion);
        enforcement.set_policy(one, &per_source(4_000));
        enforcement.begin_life(Incarnation(1), Term(1), Duration::ZERO);
        enforcement.make_ready(three, &per_source(100)).unwrap();
        enforcement.set_policy(two, &per_source(200));
        let prepared = enforcement.follower().unwrap().prepared();
        assert_eq!(prepared, three, "what comes next, and not what is over");

        let four = PolicyVersion(4);
        fill_disk(directory);
        enforcement.set_policy(three, &per_source(100));
        empty_disk(directory);
        enforcement.make_ready(four, &per_source(50)).unwrap();
        assert!(acknowledges(&mut enforcement, four, 1));
        enforcement
            .wanted
            .iter_mut()
            .for_each(|wanted| wanted.at = Nanos::ZERO);
        assert!(!enforcement.retry_policy());
        assert_eq!(enforcement.policy_version(), four);
    });
}
