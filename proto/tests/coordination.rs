//! Every message survives the wire, and no malformed one gets past the conversions.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use proptest::{collection::vec, option, prelude::*};
use prost::Message as _;
use weir_model::{
    Amount, Generation, HeavyKey, HotKey, Incarnation, LimitId, Nanos, NodeId, PolicyVersion,
    Scale, Term, Units, UnitsPerSecond,
    hot::{MAX_HEAVY_KEYS, MAX_HOT_KEYS},
    message::{
        Ack, Commit, FromNode, LimitReport, Position, Prepare, Promise, Propose, Refuse, Report,
        Row, ToNode, Token,
    },
    prefix::Prefix,
    register::{EnvelopeRecord, LimitEnvelope, NodeEnvelope, RegisterUpdate},
};
use weir_proto::{MAX_MESSAGE_BYTES, MAX_ROWS, WireError, coordination::v1};

fn node() -> impl Strategy<Value = NodeId> {
    any::<u128>().prop_map(NodeId::from_u128)
}

fn position() -> impl Strategy<Value = Position> {
    any::<(u64, u64)>().prop_map(|(term, generation)| Position {
        term: Term(term),
        generation: Generation(generation),
    })
}

fn token() -> impl Strategy<Value = Token> {
    any::<(u64, u64)>().prop_map(|(incarnation, at)| Token {
        incarnation: Incarnation(incarnation),
        at: Nanos(at),
    })
}

fn amount() -> impl Strategy<Value = Amount> {
    (0..=UnitsPerSecond::MAX.0, 0..=Units::MAX.0).prop_map(|(rate, burst)| Amount {
        rate: UnitsPerSecond(rate),
        burst: Units(burst),
    })
}

/// Rows with the limits that a generator drew, each once.
fn numbered<T>(mut rows: Vec<T>, limit: impl Fn(&mut T) -> &mut LimitId) -> Vec<T> {
    for (index, row) in rows.iter_mut().enumerate() {
        let limit = limit(row);
        limit.0 = (limit.0 & !0xffff) | index as u64;
    }
    rows
}

fn prefix() -> impl Strategy<Value = Prefix> {
    let address = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
    ];
    (address, 0_u8..=128).prop_map(|(address, length)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        Prefix::containing(address, length.min(most)).expect("it is not too long")
    })
}

fn heavy() -> impl Strategy<Value = Vec<HeavyKey>> {
    let heavy = (any::<u64>(), prefix(), any::<u64>()).prop_map(|(limit, key, offered)| HeavyKey {
        limit: LimitId(limit),
        key,
        offered: UnitsPerSecond(offered),
    });
    vec(heavy, 0..9).prop_map(|heavy| numbered(heavy, |heavy| &mut heavy.limit))
}

fn hot() -> impl Strategy<Value = Vec<HotKey>> {
    let hot = (any::<[u64; 2]>(), prefix()).prop_map(|([id, limit], key)| HotKey {
        id: LimitId(id),
        limit: LimitId(limit),
        key,
    });
    vec(hot, 0..9).prop_map(|hot| numbered(hot, |hot| &mut hot.id))
}

fn report() -> impl Strategy<Value = Report> {
    let row = (any::<[u64; 5]>(), amount()).prop_map(
        |([limit, offered, admitted, dropped, expires], held)| LimitReport {
            limit: LimitId(limit),
            offered,
            admitted,
            dropped,
            held,
            expires: Nanos(expires),
        },
    );
    (
        node(),
        token(),
        any::<(u64, u64)>(),
        position(),
        vec(row, 0..20),
        heavy(),
    )
        .prop_map(
            |(node, token, (promised, policy), seen, rows, heavy)| Report {
                node,
                token,
                promised: Term(promised),
                seen,
                policy: PolicyVersion(policy),
                prepared: PolicyVersion(policy ^ 1),
                abstains: promised % 2 == 0,
                limits: numbered(rows, |row| &mut row.limit),
                heavy,
            },
        )
}

fn propose() -> impl Strategy<Value = Propose> {
    let row = (any::<u64>(), amount(), amount()).prop_map(|(limit, amount, floor)| Row {
        limit: LimitId(limit),
        amount,
        floor,
    });
    (
        position(),
        node(),
        any::<(u64, u64)>(),
        token(),
        vec(row, 0..20),
        option::of(update()),
        option::of(hot()),
    )
        .prop_map(
            |(position, leader, (policy, lease), anchor, rows, register, hot)| Propose {
                position,
                leader,
                policy: PolicyVersion(policy),
                anchor,
                lease: Duration::from_nanos(lease),
                rows: numbered(rows, |row| &mut row.limit).into(),
                hot,
                register: register.map(Arc::new),
            },
        )
}

/// A bound may be any number; above 2^59 a register has words for multiples of 32, and rounds up.
fn bound() -> impl Strategy<Value = Amount> {
    let number = || prop_oneof![0..1_u64 << 59, any::<u64>().prop_map(|large| large & !31)];
    (number(), number()).prop_map(|(rate, burst)| Amount {
        rate: UnitsPerSecond(rate),
        burst: Units(burst),
    })
}

fn envelopes() -> impl Strategy<Value = Vec<NodeEnvelope>> {
    let row = (any::<u64>(), 0..=Scale::MAX_FRACTION_BITS, bound(), bound()).prop_map(
        |(limit, fraction_bits, amount, floor)| LimitEnvelope {
            limit: LimitId(limit),
            scale: Scale { fraction_bits },
            amount,
            floor,
        },
    );
    let envelope = (node(), vec(row, 0..8)).prop_map(|(node, rows)| {
        let mut limits = numbered(rows, |row| &mut row.limit);
        limits.sort_unstable_by_key(|row| row.limit);
        NodeEnvelope { node, limits }
    });
    vec(envelope, 0..6)
}

fn update() -> impl Strategy<Value = RegisterUpdate> {
    (option::of(any::<u64>()), any::<u64>(), envelopes()).prop_map(|(base, lease, nodes)| {
        RegisterUpdate {
            base: base.map(Generation),
            lease: Duration::from_nanos(lease),
            nodes,
        }
    })
}

fn record() -> impl Strategy<Value = EnvelopeRecord> {
    (position(), any::<(u64, u64)>(), envelopes()).prop_map(|(position, (lease, policy), nodes)| {
        EnvelopeRecord {
            term: position.term,
            generation: position.generation,
            lease: Duration::from_nanos(lease),
            policy: PolicyVersion(policy),
            nodes,
        }
    })
}

fn from_node() -> impl Strategy<Value = FromNode> {
    let ack = (node(), any::<(u64, bool, bool)>(), position()).prop_map(
        |(node, (incarnation, holds, votes), position)| Ack {
            node,
            incarnation: Incarnation(incarnation),
            position,
            holds,
            votes,
        },
    );
    let promise = (node(), token(), any::<(u64, bool)>(), option::of(record())).prop_map(
        |(node, token, (term, abstains), register)| Promise {
            node,
            token,
            term: Term(term),
            abstains,
            register,
        },
    );
    let refuse = (node(), any::<(u64, u64)>(), option::of(node())).prop_map(
        |(node, (promised, policy), leader)| Refuse {
            node,
            promised: Term(promised),
            leader,
            policy: PolicyVersion(policy),
        },
    );
    prop_oneof![
        report().prop_map(FromNode::Report),
        ack.prop_map(FromNode::Ack),
        refuse.prop_map(FromNode::Refuse),
        promise.prop_map(FromNode::Promise),
    ]
}

fn to_node() -> impl Strategy<Value = ToNode> {
    prop_oneof![
        propose().prop_map(ToNode::Propose),
        position().prop_map(|position| ToNode::Commit(Commit { position })),
        (any::<u64>(), node()).prop_map(|(term, leader)| {
            ToNode::Prepare(Prepare {
                term: Term(term),
                leader,
            })
        }),
    ]
}

proptest! {
    #[test]
    fn every_message_from_a_node_survives_the_wire(message in from_node()) {
        let bytes = v1::FromNode::from(message.clone()).encode_to_vec();
        let read = v1::FromNode::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(FromNode::try_from(read), Ok(message));
    }

    #[test]
    fn every_message_to_a_node_survives_the_wire(message in to_node()) {
        let bytes = v1::ToNode::from(message.clone()).encode_to_vec();
        let read = v1::ToNode::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(ToNode::try_from(read), Ok(message));
    }

    /// Whatever decodes and converts is what a correct peer could have sent.
    #[test]
    fn arbitrary_bytes_convert_back_to_themselves_or_not_at_all(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(wire) = v1::FromNode::decode(bytes.as_slice())
            && let Ok(message) = FromNode::try_from(wire)
        {
            let again = v1::FromNode::from(message.clone());
            prop_assert_eq!(FromNode::try_from(again), Ok(message));
        }
    }
}

fn a_report() -> v1::Report {
    v1::Report {
        node: vec![7; 16],
        token: Some(v1::Token::default()),
        seen: Some(v1::Position::default()),
        limits: vec![v1::LimitReport {
            held: Some(v1::Amount::default()),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn a_propose() -> v1::Propose {
    v1::Propose {
        position: Some(v1::Position::default()),
        leader: vec![7; 16],
        anchor: Some(v1::Token::default()),
        rows: vec![v1::Row {
            amount: Some(v1::Amount::default()),
            floor: Some(v1::Amount::default()),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn refused_report(spoil: impl FnOnce(&mut v1::Report)) -> String {
    let mut report = a_report();
    assert!(
        Report::try_from(report.clone()).is_ok(),
        "the unspoilt report is good"
    );
    spoil(&mut report);
    Report::try_from(report)
        .expect_err("a spoilt report is refused")
        .to_string()
}

fn refused_propose(spoil: impl FnOnce(&mut v1::Propose)) -> String {
    let mut propose = a_propose();
    assert!(
        Propose::try_from(propose.clone()).is_ok(),
        "the unspoilt proposal is good"
    );
    spoil(&mut propose);
    Propose::try_from(propose)
        .expect_err("a spoilt proposal is refused")
        .to_string()
}

#[test]
fn a_malformed_report_is_refused_by_field() {
    for (expected, error) in [
        (
            "report.node is an identity of 15 bytes, expected 16",
            refused_report(|report| report.node = vec![7; 15]),
        ),
        (
            "report.token is missing",
            refused_report(|report| report.token = None),
        ),
        (
            "report.seen is missing",
            refused_report(|report| report.seen = None),
        ),
        (
            "report.limits.held is missing",
            refused_report(|report| report.limits[0].held = None),
        ),
        (
            "report.limits.held.rate is 1099511627777, expected at most 1099511627776",
            refused_report(|report| {
                report.limits[0].held = Some(v1::Amount {
                    rate: UnitsPerSecond::MAX.0 + 1,
                    burst: 0,
                });
            }),
        ),
        (
            "report.limits.held.burst is 1152921504606846977, expected at most 1152921504606846976",
            refused_report(|report| {
                report.limits[0].held = Some(v1::Amount {
                    rate: 0,
                    burst: Units::MAX.0 + 1,
                });
            }),
        ),
        (
            "report.limits names limit 0000000000000000 twice, expected each limit once",
            refused_report(|report| report.limits.push(report.limits[0])),
        ),
        (
            "report.limits has 4097 rows, expected at most 4096",
            refused_report(|report| report.limits = vec![report.limits[0]; MAX_ROWS + 1]),
        ),
    ] {
        assert_eq!(error, expected);
    }
}

#[test]
fn a_malformed_proposal_is_refused_by_field() {
    for (expected, error) in [
        (
            "propose.position is missing",
            refused_propose(|propose| propose.position = None),
        ),
        (
            "propose.anchor is missing",
            refused_propose(|propose| propose.anchor = None),
        ),
        (
            "propose.leader is an identity of 0 bytes, expected 16",
            refused_propose(|propose| propose.leader.clear()),
        ),
        (
            "propose.rows.amount is missing",
            refused_propose(|propose| propose.rows[0].amount = None),
        ),
        (
            "propose.rows.floor is missing",
            refused_propose(|propose| propose.rows[0].floor = None),
        ),
        (
            "propose.rows.floor.rate is 18446744073709551615, expected at most 1099511627776",
            refused_propose(|propose| {
                propose.rows[0].floor = Some(v1::Amount {
                    rate: u64::MAX,
                    burst: 0,
                });
            }),
        ),
        (
            "propose.rows names limit 0000000000000000 twice, expected each limit once",
            refused_propose(|propose| propose.rows.push(propose.rows[0])),
        ),
        (
            "propose.rows has 4097 rows, expected at most 4096",
            refused_propose(|propose| propose.rows = vec![propose.rows[0]; MAX_ROWS + 1]),
        ),
    ] {
        assert_eq!(error, expected);
    }
}

#[test]
fn a_malformed_answer_is_refused_by_field() {
    assert_eq!(
        FromNode::try_from(v1::FromNode { message: None }),
        Err(WireError::Missing {
            field: "from_node.message"
        })
    );
    assert_eq!(
        ToNode::try_from(v1::ToNode { message: None }),
        Err(WireError::Missing {
            field: "to_node.message"
        })
    );
    assert_eq!(
        Ack::try_from(v1::Ack::default()),
        Err(WireError::Identity {
            field: "ack.node",
            found: 0
        })
    );
    let ack = v1::Ack {
        node: vec![0; 16],
        ..Default::default()
    };
    assert_eq!(
        Ack::try_from(ack),
        Err(WireError::Missing {
            field: "ack.position"
        })
    );
    let refuse = v1::Refuse {
        node: vec![0; 16],
        leader: Some(vec![1; 17]),
        ..Default::default()
    };
    assert_eq!(
        Refuse::try_from(refuse),
        Err(WireError::Identity {
            field: "refuse.leader",
            found: 17
        })
    );
    assert_eq!(
        Commit::try_from(v1::Commit { position: None }),
        Err(WireError::Missing {
            field: "commit.position"
        })
    );
}

/// The bound on messages leaves room for a full policy with the widest numbers there are.
const WIDEST: IpAddr = IpAddr::V6(Ipv6Addr::from_bits(u128::MAX));

fn widest_heavy(number: u64) -> HeavyKey {
    HeavyKey {
        limit: LimitId(number),
        key: Prefix::containing(WIDEST, 128).expect("an IPv6 address"),
        offered: UnitsPerSecond(u64::MAX),
    }
}

fn widest_hot(number: u64) -> HotKey {
    HotKey {
        id: LimitId(number),
        limit: LimitId(u64::MAX),
        key: Prefix::containing(WIDEST, 128).expect("an IPv6 address"),
    }
}

#[test]
fn keys_that_are_none_are_refused() {
    let key = |address: Vec<u8>, length| Some(v1::Prefix { address, length });
    let heavy = |key| v1::HeavyKey {
        limit: 1,
        key,
        offered: 5,
    };
    let good = || key(vec![198, 18, 0, 0], 15);
    for (bad, message) in [
        (vec![heavy(None)], "report.heavy is missing"),
        (
            vec![heavy(key(vec![198, 18, 0, 1], 15))],
            "report.heavy has a key that is no address prefix",
        ),
        (
            vec![heavy(key(vec![198, 18, 0, 0], 33))],
            "report.heavy has a key that is no address prefix",
        ),
        (
            vec![heavy(key(vec![198, 18, 0, 0], 1 << 8 | 15))],
            "report.heavy has a key that is no address prefix",
        ),
        (
            vec![heavy(key(vec![0; 5], 0))],
            "report.heavy has a key that is no address prefix",
        ),
        (
            vec![heavy(good()), heavy(good())],
            "report.heavy names limit 0000000000000001 twice, expected each limit once",
        ),
    ] {
        assert_eq!(refused_report(|report| report.heavy = bad), message);
    }
    let many = (0..=MAX_HEAVY_KEYS as u64).map(|number| widest_heavy(number).into());
    let many = refused_report(|report| report.heavy = many.collect());
    assert_eq!(many, "report.heavy has 1025 rows, expected at most 1024");

    let twice = v1::HotKeys {
        keys: vec![widest_hot(1).into(), widest_hot(1).into()],
    };
    let twice = v1::Propose {
        hot: Some(twice),
        ..a_propose()
    };
    let error = Propose::try_from(twice).unwrap_err().to_string();
    assert!(error.starts_with("propose.hot names limit"), "{error}");
}

#[test]
fn the_largest_messages_fit_the_bound() {
    let widest = Amount {
        rate: UnitsPerSecond::MAX,
        burst: Units::MAX,
    };
    let position = Position {
        term: Term(u64::MAX),
        generation: Generation(u64::MAX),
    };
    let token = Token {
        incarnation: Incarnation(u64::MAX),
        at: Nanos::NEVER,
    };
    let report = Report {
        node: NodeId::from_u128(u128::MAX),
        token,
        promised: Term(u64::MAX),
        seen: position,
        policy: PolicyVersion(u64::MAX),
        prepared: PolicyVersion(u64::MAX),
        abstains: true,
        limits: (0..MAX_ROWS as u64)
            .map(|limit| LimitReport {
                limit: LimitId(limit),
                offered: u64::MAX,
                admitted: u64::MAX,
                dropped: u64::MAX,
                held: widest,
                expires: Nanos::NEVER,
            })
            .collect(),
        heavy: (0..MAX_HEAVY_KEYS as u64).map(widest_heavy).collect(),
    };
    let propose = Propose {
        position,
        leader: NodeId::from_u128(u128::MAX),
        policy: PolicyVersion(u64::MAX),
        anchor: token,
        lease: Duration::MAX,
        register: None,
        hot: Some((0..MAX_HOT_KEYS as u64).map(widest_hot).collect()),
        rows: (0..MAX_ROWS as u64)
            .map(|limit| Row {
                limit: LimitId(limit),
                amount: widest,
                floor: widest,
            })
            .collect(),
    };
    let report = v1::FromNode::from(FromNode::Report(report)).encoded_len();
    let propose = v1::ToNode::from(ToNode::Propose(propose)).encoded_len();
    assert!(
        report <= MAX_MESSAGE_BYTES && propose <= MAX_MESSAGE_BYTES,
        "{report} and {propose}"
    );
}
