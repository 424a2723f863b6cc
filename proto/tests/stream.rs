//! What a stream's encoders make of messages, their decoders turn back, to the bit.

#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use proptest::{collection::vec, prelude::*};
use prost::Message as _;
use weir_model::{
    Amount, Generation, HeavyKey, HotKey, Incarnation, LimitId, Nanos, NodeId, PolicyVersion,
    Scale, Term, Units, UnitsPerSecond,
    message::{
        Ack, Commit, FromNode, LimitReport, Position, Prepare, Promise, Propose, Report, Row,
        ToNode, Token,
    },
    prefix::Prefix,
    register::{EnvelopeRecord, LimitEnvelope, NodeEnvelope, RegisterUpdate},
    rows::Rows,
};
use weir_proto::{
    WireError,
    coordination::{
        stream::{ProposeDecoder, ProposeEncoder, ReportDecoder, ReportEncoder},
        v1,
    },
};

const NODE: NodeId = NodeId::from_u128(7);

fn amount(rate: u64, burst: u64) -> Amount {
    Amount {
        rate: UnitsPerSecond(rate % (UnitsPerSecond::MAX.0 + 1)),
        burst: Units(burst % (Units::MAX.0 + 1)),
    }
}

/// What changes from one message to the next: by far most often only what changes each tick.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Counters, tokens, generations, and the amounts of some rows.
    Tick,
    /// One of the things that a difference has no words for.
    Turn(u8),
}

fn steps() -> impl Strategy<Value = Vec<(Step, Vec<u64>)>> {
    let step = prop_oneof![
        12 => Just(Step::Tick),
        1 => (0_u8..10).prop_map(Step::Turn),
    ];
    let numbers = prop_oneof![vec(0_u64..2_000, 12..40), vec(any::<u64>(), 12..40)];
    vec((step, numbers), 1..40)
}

fn over_the_wire<T: prost::Message + Default>(message: &T) -> T {
    T::decode(message.encode_to_vec().as_slice()).unwrap()
}

fn key() -> Prefix {
    Prefix::containing([198, 18, 0, 1].into(), 32).unwrap()
}

/// News of heavy keys now and then.
fn heavy(number: u64) -> Vec<HeavyKey> {
    let heavy = HeavyKey {
        limit: LimitId(1),
        key: key(),
        offered: UnitsPerSecond(number),
    };
    number
        .is_multiple_of(3)
        .then_some(heavy)
        .into_iter()
        .collect()
}

fn hot(number: u64) -> Option<Vec<HotKey>> {
    let hot = HotKey {
        id: LimitId(number),
        limit: LimitId(1),
        key: key(),
    };
    [None, Some(Vec::new()), Some(vec![hot])][(number % 3) as usize].clone()
}

/// The rows whose turn it is by chance, so that a report has news of some limits only.
fn reported(all: &[LimitReport], numbers: &[u64]) -> Vec<LimitReport> {
    let rows = all.iter().zip(numbers.iter().cycle());
    rows.filter(|(_, number)| **number % 3 != 0)
        .map(|(row, _)| *row)
        .collect()
}

fn turn_report(report: &mut Report, all: &mut Vec<LimitReport>, which: u8, number: u64) {
    match which {
        0 => report.token.incarnation = Incarnation(number),
        1 => report.promised = Term(number),
        2 => report.seen.term = Term(number),
        3 => report.policy = PolicyVersion(number),
        4 => report.prepared = PolicyVersion(number),
        5 => report.abstains = !report.abstains,
        6 => all.iter_mut().for_each(|row| row.offered = 0),
        7 => all.push(LimitReport {
            limit: LimitId(1_000 + all.len() as u64),
            ..LimitReport::default()
        }),
        _ => report.token.at = Nanos(number),
    }
}

proptest! {
    #[test]
    fn reports_come_back(limits in 0_u64..12, steps in steps()) {
        let (mut encoder, mut decoder) = (ReportEncoder::default(), ReportDecoder::default());
        let mut all = report_of(limits).limits;
        let mut report = report_of(0);
        for (step, numbers) in steps {
            report.token.at = Nanos(report.token.at.0.wrapping_add(numbers[0]));
            report.seen.generation = Generation(numbers[1]);
            for (row, number) in all.iter_mut().zip(numbers.iter().skip(2).cycle()) {
                row.offered = row.offered.wrapping_add(*number);
                row.admitted = row.admitted.wrapping_add(number / 2);
                row.dropped = row.dropped.wrapping_add(number / 3);
                row.expires = Nanos(row.expires.0.wrapping_add(number / 5 % 2));
                if number % 4 == 0 {
                    row.held = amount(*number, number / 2);
                }
            }
            if let Step::Turn(which) = step {
                turn_report(&mut report, &mut all, which, numbers[2]);
            }
            report.limits = reported(&all, &numbers[3..]);
            report.heavy = heavy(numbers[3]);
            let message = FromNode::Report(report.clone());
            let wire = encoder.encode(message.clone());
            prop_assert_eq!(decoder.decode(over_the_wire(&wire)), Ok(message));
        }
    }

    #[test]
    fn proposals_come_back(limits in 1_u64..12, steps in steps()) {
        let (mut encoder, mut decoder) = (ProposeEncoder::default(), ProposeDecoder::default());
        let mut propose = propose_of(limits);
        for row in propose.rows.to_mut() {
            row.floor = amount(row.limit.0, row.limit.0);
        }
        for (step, numbers) in steps {
            propose.position.generation = Generation(numbers[0]);
            propose.anchor.at = Nanos(propose.anchor.at.0.wrapping_add(numbers[1]));
            for (row, number) in propose.rows.to_mut().iter_mut().zip(numbers.iter().skip(2).cycle()) {
                if number % 3 != 0 {
                    row.amount = amount(*number, number / 2);
                }
            }
            propose.register = (numbers[2] % 2 == 0).then(|| {
                Arc::new(RegisterUpdate {
                    base: Some(Generation(numbers[3])),
                    lease: Duration::from_secs(2),
                    nodes: Vec::new(),
                })
            });
            match step {
                Step::Turn(0) => propose.position.term = Term(numbers[2]),
                Step::Turn(1) => propose.leader = NodeId::from_u128(numbers[2].into()),
                Step::Turn(2) => propose.policy = PolicyVersion(numbers[2]),
                Step::Turn(3) => propose.anchor.incarnation = Incarnation(numbers[2]),
                Step::Turn(4) => propose.lease = Duration::from_nanos(numbers[2]),
                Step::Turn(5) => propose.rows.to_mut().truncate(1),
                Step::Turn(6) => propose.rows.to_mut()[0].floor = amount(numbers[2], 0),
                Step::Turn(8) => propose.hot = hot(numbers[2]),
                Step::Turn(7) => propose.rows.to_mut()[0].limit = LimitId(numbers[2] | 1 << 20),
                Step::Turn(_) => propose.anchor.at = Nanos(numbers[2]),
                Step::Tick => {}
            }
            let message = ToNode::Propose(propose.clone());
            let wire = encoder.encode(message.clone());
            prop_assert_eq!(decoder.decode(over_the_wire(&wire)), Ok(message));
        }
    }

    /// Rows that say what has changed are sent as those that do not, also where a proposal found no
    /// room and never was part of the stream.
    #[test]
    fn it_makes_no_difference_who_compares(
        steps in vec((vec((0_usize..12, 1_u64..1 << 40, 0_u64..20), 0..5), any::<bool>()), 1..20),
    ) {
        let (mut told, mut compares) = (ProposeEncoder::default(), ProposeEncoder::default());
        let mut decoder = ProposeDecoder::default();
        let mut propose = propose_of(12);
        for ((changes, is_sent), number) in steps.into_iter().zip(1..) {
            let mut all = propose.rows.to_vec();
            let mut changed: Vec<u32> = changes.iter().map(|(place, ..)| *place as u32).collect();
            changed.sort_unstable();
            changed.dedup();
            for (place, rate, floor) in changes {
                all[place].amount = amount(rate, rate / 2);
                // Nearly always as it was: a proposal is sent whole if it is not.
                all[place].floor = amount(u64::from(floor == 0), 0);
            }
            let rows = Rows::numbered(number, Arc::new(all.clone())).since(number - 1, changed);
            propose.position.generation = Generation(number);
            propose.rows = rows;
            if is_sent {
                let wire = told.encode(ToNode::Propose(propose.clone()));
                let rows = all.into();
                let same = compares.encode(ToNode::Propose(Propose { rows, ..propose.clone() }));
                prop_assert_eq!(&wire, &same);
                let decoded = decoder.decode(over_the_wire(&wire));
                prop_assert_eq!(decoded, Ok(ToNode::Propose(propose.clone())));
            }
        }
    }

    /// Whatever a peer makes up, the answer is a message or an error.
    #[test]
    fn no_change_breaks_a_decoder(
        rows in vec(0_u32..6, 0..6),
        [offered, rates, bursts] in [vec(any::<u64>(), 0..6), vec(any::<u64>(), 0..6),
            vec(any::<u64>(), 0..6)],
        [withheld, dropped, later] in [vec(any::<i64>(), 0..6), vec(any::<i64>(), 0..6),
            vec(any::<i64>(), 0..6)],
        numbers: [u64; 2],
    ) {
        let mut reports = ReportDecoder::default();
        reports.decode(FromNode::Report(report_of(4)).into()).unwrap();
        let change = v1::ReportChange {
            elapsed_ns: numbers[0],
            seen_generation: numbers[1],
            rows: rows.clone(),
            offered,
            withheld,
            dropped,
            renewed_ns: later.first().copied().unwrap_or(1),
            other_ends: rows.clone(),
            other_ends_ns: later,
            held: rows.clone(),
            held_rates: rates.clone(),
            held_bursts: bursts.clone(),
            heavy: Vec::new(),
        };
        let _ = reports.decode(v1::FromNode {
            message: Some(v1::from_node::Message::ReportChange(change)),
        });
        let mut proposals = ProposeDecoder::default();
        proposals.decode(ToNode::Propose(propose_of(4)).into()).unwrap();
        let change = v1::ProposeChange {
            generation: numbers[0],
            elapsed_ns: numbers[1],
            rows,
            rates,
            bursts,
            register: None,
        };
        let _ = proposals.decode(v1::ToNode {
            message: Some(v1::to_node::Message::ProposeChange(change)),
        });
    }
}

fn report_of(limits: u64) -> Report {
    Report {
        node: NODE,
        token: Token::default(),
        promised: Term(1),
        seen: Position::default(),
        policy: PolicyVersion(1),
        prepared: PolicyVersion(1),
        abstains: false,
        heavy: Vec::new(),
        limits: (0..limits)
            .map(|limit| LimitReport {
                limit: LimitId(limit),
                ..LimitReport::default()
            })
            .collect(),
    }
}

fn propose_of(limits: u64) -> Propose {
    Propose {
        position: Position::default(),
        leader: NODE,
        policy: PolicyVersion(1),
        anchor: Token::default(),
        lease: Duration::from_secs(2),
        rows: (0..limits)
            .map(|limit| Row {
                limit: LimitId(limit),
                amount: Amount::ZERO,
                floor: Amount::ZERO,
            })
            .collect(),
        hot: None,
        register: None,
    }
}

#[test]
fn what_has_no_state_goes_as_it_is() {
    let ack = FromNode::Ack(Ack {
        node: NODE,
        incarnation: Incarnation(1),
        position: Position::default(),
        holds: true,
        votes: false,
    });
    let wire = ReportEncoder::default().encode(ack.clone());
    assert_eq!(ReportDecoder::default().decode(wire), Ok(ack));
    for message in [
        ToNode::Commit(Commit {
            position: Position::default(),
        }),
        ToNode::Prepare(Prepare {
            term: Term(3),
            leader: NODE,
        }),
    ] {
        let wire = ProposeEncoder::default().encode(message.clone());
        assert_eq!(ProposeDecoder::default().decode(wire), Ok(message));
    }
}

/// A limit of 100,000/s is held by one node when a policy makes 10,000/s of it: in the finer units
/// of the new one, what is held is more than any limit can be.
#[test]
fn a_register_above_the_largest_rate_comes_back() {
    let second = Duration::from_secs(1);
    let [coarse, fine] = [100_000, 10_000].map(|rate| Scale::finest(rate, second, rate).unwrap());
    let held = Amount {
        rate: coarse.rate(100_000, second).unwrap(),
        burst: coarse.units(100_000).unwrap(),
    };
    let held = held.rescaled_up(coarse, fine);
    assert!(held.rate > UnitsPerSecond::MAX);
    let row = |limit, amount, floor| LimitEnvelope {
        limit: LimitId(limit),
        scale: fine,
        amount,
        floor,
    };
    let node = |node, limits| NodeEnvelope {
        node: NodeId::from_u128(node),
        limits,
    };
    // Floors at the head of a column, and others.
    let nodes = vec![
        node(1, vec![row(1, held, held), row(2, held, Amount::ZERO)]),
        node(2, vec![row(1, held, Amount::ZERO), row(2, held, held)]),
    ];
    let (mut encoder, mut decoder) = (ProposeEncoder::default(), ProposeDecoder::default());
    let mut propose = propose_of(2);
    for base in [None, Some(Generation(1))] {
        propose.position.generation = propose.position.generation.next();
        propose.register = Some(Arc::new(RegisterUpdate {
            base,
            lease: Duration::from_secs(2),
            nodes: nodes.clone(),
        }));
        let message = ToNode::Propose(propose.clone());
        let wire = encoder.encode(message.clone());
        let is_change = matches!(wire.message, Some(v1::to_node::Message::ProposeChange(_)));
        assert_eq!(is_change, base.is_some());
        assert_eq!(decoder.decode(over_the_wire(&wire)), Ok(message));
    }
    let promise = FromNode::Promise(Promise {
        node: NODE,
        token: Token::default(),
        term: Term(2),
        abstains: false,
        register: Some(EnvelopeRecord {
            term: Term(1),
            generation: Generation(2),
            lease: Duration::from_secs(2),
            policy: PolicyVersion(2),
            nodes,
        }),
    });
    let wire = v1::FromNode::from(promise.clone());
    assert_eq!(FromNode::try_from(over_the_wire(&wire)), Ok(promise));
}

#[test]
fn a_change_of_nothing_is_refused() {
    let mut encoder = ReportEncoder::default();
    encoder.encode(FromNode::Report(report_of(1)));
    let change = encoder.encode(FromNode::Report(report_of(1)));
    let refused = ReportDecoder::default().decode(change).unwrap_err();
    assert_eq!(
        refused,
        WireError::Baseless {
            field: "from_node.report_change"
        }
    );
    let mut encoder = ProposeEncoder::default();
    encoder.encode(ToNode::Propose(propose_of(1)));
    let change = encoder.encode(ToNode::Propose(propose_of(1)));
    let refused = ProposeDecoder::default().decode(change).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "to_node.propose_change is about a message that was never sent on this stream"
    );
}

#[test]
fn a_quiet_tick_is_a_few_bytes() {
    let mut encoder = ReportEncoder::default();
    let mut report = report_of(100);
    encoder.encode(FromNode::Report(report.clone()));
    report.token.at = Nanos(100_000_000);
    for row in &mut report.limits {
        row.offered += 100;
        row.admitted += 90;
        row.dropped += 10;
        row.expires = Nanos(100_000_000);
    }
    let size = encoder.encode(FromNode::Report(report)).encoded_len();
    assert!(size < 500, "{size} bytes");
}
