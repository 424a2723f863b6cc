//! One node that says whatever it likes: the others keep what is theirs, and the book its sums.
//!
//! What it can say in its own name only is tried here; that it cannot speak in others' is the
//! transport's concern.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "other tests need the rest")]
mod limits;
mod node;

use std::collections::BTreeMap;

use limits::limit;
use proptest::prelude::*;
use weir_coord_core::{
    commit::EmbeddedCommit,
    follower::{Birth, Follower},
    leader::{Command, Input, Leader, Mandate},
    record::{MemberRecord, PolicyRecord, TermRecord},
    rules::Rules,
    timing::Timing,
};
use weir_model::{
    Amount, Generation, HeavyKey, Incarnation, Limit, LimitId, Nanos, NodeId, Policy,
    PolicyVersion, Term, Units, UnitsPerSecond,
    message::{Ack, FromNode, LimitReport, Position, Promise, Refuse, Report, ToNode, Token},
    policy::FleetSettings,
    prefix::Prefix,
    register::{EnvelopeRecord, LimitEnvelope, NodeEnvelope},
};

const HONEST: u128 = 3;
const LIAR: NodeId = NodeId::from_u128(9);
const RATE: u64 = 30_000;
const BURST: u64 = 3_000;

fn limits() -> Vec<Limit> {
    vec![
        limit("web", RATE, BURST, 10, false),
        limit("rare", 5, 1, 0, true),
    ]
}

struct Fleet {
    leader: Leader<EmbeddedCommit>,
    nodes: BTreeMap<NodeId, Follower>,
    counted: BTreeMap<NodeId, LimitReport>,
    /// Commits that were sent to the liar.
    commits: usize,
    now: Nanos,
}

impl Fleet {
    fn new() -> Self {
        let now = Nanos(1_000_000_000_000);
        let honest = (1..=HONEST).map(NodeId::from_u128);
        let ids: Vec<NodeId> = honest.clone().chain([LIAR]).collect();
        let member = |node: &NodeId| MemberRecord {
            node: *node,
            name: node.to_string(),
            weight: 1,
            floors: Vec::new(),
            is_drained: false,
            is_powered_off: false,
        };
        let policy = Policy {
            fleet: FleetSettings {
                max_members: 8,
                ..FleetSettings::default()
            },
            limits: limits().into(),
        };
        let mandate = Mandate {
            node: ids[0],
            record: TermRecord {
                term: Term(1),
                ..TermRecord::VACANT
            },
            adopted: None,
            members: ids.iter().map(member).collect(),
            policy: (PolicyVersion(1), policy),
            in_force: PolicyRecord::settled(PolicyVersion(1)),
        };
        let follower = |node: NodeId| {
            let birth = Birth {
                node,
                incarnation: Incarnation(1),
                term: Term(1),
                abstains_until: Nanos::ZERO,
            };
            let follower = Follower::new(birth, PolicyVersion(1), [], Rules::ALL);
            (node, follower)
        };
        let backend = EmbeddedCommit::default();
        Self {
            leader: Leader::new(mandate, Timing::DEFAULT, backend, now),
            nodes: honest.map(follower).collect(),
            counted: BTreeMap::new(),
            commits: 0,
            now,
        }
    }

    /// The liar says something.
    fn hear(&mut self, lie: FromNode) {
        self.leader.handle(Input::FromNode(lie), self.now);
        self.perform();
    }

    /// A tick, in which every honest node sees as much traffic as all of the limit.
    fn tick(&mut self) {
        self.now = self.now + Timing::DEFAULT.tick;
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        for node in nodes {
            let share = self.share(node);
            let held = Amount {
                rate: UnitsPerSecond(share << 10),
                ..Amount::ZERO
            };
            let web = self.counted.entry(node).or_default();
            web.limit = LimitId::of("web");
            web.offered += RATE / 10;
            web.admitted += (share / 10).min(RATE / 10);
            web.dropped = web.offered - web.admitted;
            web.held = held;
            let report = self.nodes[&node].report(self.now, &[*web]);
            let report = Input::FromNode(FromNode::Report(report));
            self.leader.handle(report, self.now);
            self.perform();
        }
        self.leader.handle(Input::Tick, self.now);
        self.perform();
    }

    fn perform(&mut self) {
        while let Some(command) = self.leader.poll_command() {
            match command {
                Command::Send { to, message } => {
                    let is_commit = matches!(message, ToNode::Commit(_));
                    self.commits += usize::from(to == LIAR && is_commit);
                    if let Some(follower) = self.nodes.get_mut(&to) {
                        follower.handle(message, self.now);
                        self.answers(to);
                    }
                }
                Command::Admit(record) => {
                    let input = Input::Admitted {
                        node: record.node,
                        outcome: weir_coord_core::commit::StoreOutcome::Committed,
                    };
                    self.leader.handle(input, self.now);
                }
                Command::StepDown(reason) => panic!("it stepped down: {reason:?}"),
                _ => {}
            }
            assert_eq!(self.leader.over_budget().count(), 0);
        }
    }

    fn answers(&mut self, node: NodeId) {
        for message in node::answers(self.nodes.get_mut(&node).unwrap(), self.now) {
            self.leader.handle(Input::FromNode(message), self.now);
        }
    }

    /// What a node holds of the limit, in tokens a second.
    fn share(&self, node: NodeId) -> u64 {
        let id = LimitId::of("web");
        let held = self.nodes[&node].held().find(|grant| grant.limit == id);
        held.map_or(0, |grant| grant.effective(self.now).rate.0 >> 10)
    }

    fn least_share(&self) -> u64 {
        let nodes = self.nodes.keys();
        nodes.map(|node| self.share(*node)).min().unwrap()
    }
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(u64::MAX - 1),
        Just(1 << 63),
        0..10_000_u64,
        any::<u64>(),
    ]
}

fn amount() -> impl Strategy<Value = Amount> {
    // What the wire lets through.
    (number(), number()).prop_map(|(rate, burst)| Amount {
        rate: UnitsPerSecond(rate.min(UnitsPerSecond::MAX.0)),
        burst: Units(burst.min(Units::MAX.0)),
    })
}

fn known_limit() -> impl Strategy<Value = LimitId> {
    prop_oneof![
        Just(LimitId::of("web")),
        Just(LimitId::of("rare")),
        number().prop_map(LimitId),
    ]
}

fn row() -> impl Strategy<Value = LimitReport> {
    let counters = (number(), number(), number());
    (known_limit(), counters, amount(), number()).prop_map(
        |(limit, (offered, admitted, dropped), held, expires)| LimitReport {
            limit,
            offered,
            admitted,
            dropped,
            held,
            expires: Nanos(expires),
        },
    )
}

fn token() -> impl Strategy<Value = Token> {
    let life = prop_oneof![4 => Just(1), 1 => number()];
    (life, number()).prop_map(|(life, at)| Token {
        incarnation: Incarnation(life),
        at: Nanos(at),
    })
}

fn position() -> impl Strategy<Value = Position> {
    let term = prop_oneof![4 => Just(1), 1 => Just(0)];
    (term, number()).prop_map(|(term, generation)| Position {
        term: Term(term),
        generation: Generation(generation),
    })
}

fn report() -> impl Strategy<Value = FromNode> {
    let heavy = (known_limit(), any::<u32>(), number()).prop_map(|(limit, source, offered)| {
        let key = Prefix::containing(std::net::Ipv4Addr::from(source).into(), 32);
        HeavyKey {
            limit,
            key: key.unwrap(),
            offered: UnitsPerSecond(offered),
        }
    });
    (
        token(),
        position(),
        prop::collection::vec(row(), 0..4),
        prop::collection::vec(heavy, 0..4),
        any::<bool>(),
    )
        .prop_map(|(token, seen, limits, heavy, abstains)| {
            FromNode::Report(Report {
                node: LIAR,
                token,
                // That it has promised a newer term is for the shell to believe, or not.
                promised: Term(1),
                seen,
                policy: PolicyVersion(1),
                prepared: PolicyVersion(1),
                heavy,
                abstains,
                limits,
            })
        })
}

fn register() -> impl Strategy<Value = EnvelopeRecord> {
    (position(), known_limit(), amount(), amount()).prop_map(|(position, limit, amount, floor)| {
        let envelope = LimitEnvelope {
            limit,
            scale: weir_model::Scale { fraction_bits: 10 },
            amount,
            floor,
        };
        EnvelopeRecord {
            term: position.term,
            generation: position.generation,
            lease: std::time::Duration::from_secs(3_600),
            policy: PolicyVersion(1),
            nodes: vec![NodeEnvelope {
                node: NodeId::from_u128(1),
                limits: vec![envelope],
            }],
        }
    })
}

fn lie() -> impl Strategy<Value = FromNode> {
    let ack = (number(), position(), any::<[bool; 2]>()).prop_map(|(life, position, is)| {
        FromNode::Ack(Ack {
            node: LIAR,
            incarnation: Incarnation(life),
            position,
            holds: is[0],
            votes: is[1],
        })
    });
    let promise = (token(), register()).prop_map(|(token, register)| {
        FromNode::Promise(Promise {
            node: LIAR,
            token,
            term: Term(1),
            abstains: false,
            register: Some(register),
        })
    });
    let refuse = number().prop_map(|policy| {
        FromNode::Refuse(Refuse {
            node: LIAR,
            promised: Term(0),
            leader: None,
            policy: PolicyVersion(policy),
        })
    });
    prop_oneof![6 => report(), 4 => ack, 1 => promise, 1 => refuse]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However it lies: no panic, no budget that is exceeded, nobody else who gets less than if the
    /// liar wanted everything, which it may.
    #[test]
    fn a_liar_takes_no_more_than_its_own_part(
        lies in prop::collection::vec(prop::collection::vec(lie(), 0..6), 1..40),
    ) {
        let mut fleet = Fleet::new();
        for _ in 0..10 {
            fleet.tick();
        }
        for lies in lies {
            for lie in lies {
                fleet.hear(lie);
            }
            fleet.tick();
        }
        // What it still holds, and what it is told, settles; it goes on wanting all there is.
        for _ in 0..60 {
            fleet.tick();
        }
        let part = RATE / (HONEST as u64 + 1);
        let least = fleet.least_share();
        prop_assert!(least * 100 >= part * 97, "{least} of {part}");
    }
}

/// An acknowledgement of what was never proposed is none, and no vote: one from the future would
/// count for every proposal to come.
#[test]
fn nobody_acknowledges_what_was_not_proposed() {
    let mut fleet = Fleet::new();
    let report = |at: u64, offered: u64| {
        let row = LimitReport {
            limit: LimitId::of("web"),
            offered,
            admitted: offered,
            ..LimitReport::default()
        };
        FromNode::Report(Report {
            node: LIAR,
            token: Token {
                incarnation: Incarnation(1),
                at: Nanos(at),
            },
            promised: Term(1),
            seen: Position::default(),
            policy: PolicyVersion(1),
            prepared: PolicyVersion(1),
            heavy: Vec::new(),
            abstains: false,
            limits: vec![row],
        })
    };
    let acknowledge = |generation| {
        FromNode::Ack(Ack {
            node: LIAR,
            incarnation: Incarnation(1),
            position: Position {
                term: Term(1),
                generation: Generation(generation),
            },
            holds: true,
            votes: true,
        })
    };
    let mut commits = [0, 0];
    for tick in 1..60 {
        fleet.hear(report(tick * 100_000_000, tick * RATE));
        fleet.tick();
        for generation in 1..=fleet.leader.committed().0 {
            fleet.hear(acknowledge(generation));
        }
        if tick == 30 {
            commits[0] = core::mem::take(&mut fleet.commits);
            fleet.hear(acknowledge(u64::MAX));
        }
    }
    commits[1] = fleet.commits;
    assert!(
        commits[0] > 0 && commits[1] > 0,
        "{commits:?}: it is answered as before"
    );
}
