//! What the ZooKeeper commit back-end stores has to fit a znode, whatever sources do.

use std::collections::BTreeMap;

use weir_coord::zookeeper::RECORD_BYTES_MAX;
use weir_coord_core::{
    commit::{StoreOutcome, ZooKeeperCommit},
    leader::{Command, Input, Leader, Mandate},
    record::{MemberRecord, PolicyRecord, TermRecord},
    timing::Timing,
};
use weir_model::{
    Amount, Cost, HeavyKey, Incarnation, Limit, LimitId, Nanos, NodeId, Policy, PolicyVersion,
    Revision, Scale, Term, Units, UnitsPerSecond,
    hot::MAX_HOT_KEYS_PER_LIMIT,
    message::{Ack, FromNode, Position, Report, ToNode, Token},
    policy::{FleetSettings, Key, Match, Mode, OnExpiry, Promise},
    prefix::Prefix,
};

const TIMING: Timing = Timing::DEFAULT;
const MEMBERS: u128 = 40;
/// Enough that keys of all of them together are as many as may be hot.
const LIMITS: u8 = 4;

fn limit(number: u8) -> Limit {
    let scale = Scale { fraction_bits: 10 };
    let name = format!("clients-{number}");
    Limit {
        id: LimitId::of(&name),
        name,
        revision: Revision(1),
        matches: Match::default(),
        per: Some(Key::default()),
        cost: Cost::Packets,
        overhead_bytes: 0,
        quic: false,
        scale,
        budget: Amount {
            rate: UnitsPerSecond(100_000 << 10),
            burst: Units(10_000 << 10),
        },
        floor: Amount::ZERO,
        smallest_burst: Units(1 << 10),
        is_divisible: true,
        promise: Promise::Strict,
        excess: None,
        on_expiry: OnExpiry::Floor,
        mode: Mode::Enforce,
    }
}

fn policy() -> Policy {
    Policy {
        fleet: FleetSettings {
            max_members: MEMBERS as u32,
            ..FleetSettings::default()
        },
        limits: (0..LIMITS).map(limit).collect::<Vec<_>>().into(),
    }
}

/// What every member says: as many sources as may be hot send as much as they can.
fn flood(policy: &Policy) -> Vec<HeavyKey> {
    let keys = policy.limits.iter().flat_map(|limit| {
        let source = |number: usize| std::net::Ipv4Addr::from(0xc612_0000 + number as u32);
        (0..MAX_HOT_KEYS_PER_LIMIT).map(move |number| HeavyKey {
            limit: limit.id,
            key: Prefix::containing(source(number).into(), 32).expect("an address"),
            offered: UnitsPerSecond(u64::MAX / 2),
        })
    });
    keys.collect()
}

struct Fleet {
    leader: Leader<ZooKeeperCommit>,
    nodes: BTreeMap<NodeId, Position>,
    now: Nanos,
    largest: usize,
}

impl Fleet {
    fn new(policy: Policy) -> Self {
        let now = Nanos(1_000_000_000_000);
        let nodes: Vec<NodeId> = (1..=MEMBERS).map(NodeId::from_u128).collect();
        let member = |node: &NodeId| MemberRecord {
            node: *node,
            name: node.to_string(),
            weight: 1,
            floors: Vec::new(),
            is_drained: false,
            is_powered_off: false,
        };
        let mandate = Mandate {
            node: nodes[0],
            adopted: None,
            record: TermRecord {
                term: Term(1),
                ..TermRecord::VACANT
            },
            members: nodes.iter().map(member).collect(),
            policy: (PolicyVersion(1), policy),
            in_force: PolicyRecord::settled(PolicyVersion(1)),
        };
        Self {
            leader: Leader::new(mandate, TIMING, ZooKeeperCommit::default(), now),
            nodes: nodes
                .into_iter()
                .map(|node| (node, Position::default()))
                .collect(),
            now,
            largest: 0,
        }
    }

    fn tick(&mut self, heavy: &[HeavyKey]) {
        self.now = self.now + TIMING.tick;
        for (node, seen) in self.nodes.clone() {
            let report = Report {
                node,
                token: Token {
                    incarnation: Incarnation(1),
                    at: self.now,
                },
                promised: Term(1),
                seen,
                policy: PolicyVersion(1),
                prepared: PolicyVersion(1),
                abstains: false,
                limits: Vec::new(),
                heavy: heavy.to_vec(),
            };
            let input = Input::FromNode(FromNode::Report(report));
            self.leader.handle(input, self.now);
        }
        self.leader.handle(Input::Tick, self.now);
        while let Some(command) = self.leader.poll_command() {
            let answer = match command {
                Command::Store(record) => {
                    let size = serde_json::to_vec(&record).expect("JSON").len();
                    self.largest = self.largest.max(size);
                    Input::Stored {
                        generation: record.generation,
                        outcome: StoreOutcome::Committed,
                    }
                }
                Command::Send {
                    to,
                    message: ToNode::Propose(propose),
                } => {
                    self.nodes.insert(to, propose.position);
                    Input::FromNode(FromNode::Ack(Ack {
                        node: to,
                        incarnation: Incarnation(1),
                        position: propose.position,
                        holds: true,
                        votes: false,
                    }))
                }
                _ => continue,
            };
            self.leader.handle(answer, self.now);
        }
    }
}

/// A store that is too large never comes to anything: every host falls to its floors, and stays there for
/// as long as there are so many sources.
#[test]
fn hot_keys_are_no_more_than_a_znode_has_room_for() {
    let policy = policy();
    let heavy = flood(&policy);
    let mut fleet = Fleet::new(policy);
    for _ in 0..40 {
        fleet.tick(&heavy);
    }
    let hot = fleet.leader.hot_keys().count();
    assert!(hot > 0, "some are hot");
    assert!(
        fleet.largest <= RECORD_BYTES_MAX,
        "{hot} hot keys on {MEMBERS} hosts are {} bytes",
        fleet.largest
    );
}
