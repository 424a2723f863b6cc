//! What the book must not forget.

#![allow(clippy::unwrap_used)]

use weir_coord_core::{
    book::{Book, Change, Entry},
    record::{EnvelopeRecord, LimitEnvelope, NodeEnvelope},
};
use weir_model::{
    Amount, Cost, Generation, Limit, LimitId, Nanos, NodeId, PolicyVersion, Revision, Scale, Term,
    Units, UnitsPerSecond,
    policy::{Match, Mode, OnExpiry, Promise},
};

const SCALE: Scale = Scale { fraction_bits: 10 };
const NODE: NodeId = NodeId::from_u128(2);
const ID: LimitId = LimitId::of("web");

fn amount(rate: u64, burst: u64) -> Amount {
    Amount {
        rate: UnitsPerSecond(rate << 10),
        burst: Units(burst << 10),
    }
}

fn limit(rate: u64, floor: u64, scale: Scale) -> Limit {
    let scaled = |rate, burst| amount(rate, burst).rescaled_down(SCALE, scale);
    Limit {
        name: "web".into(),
        id: ID,
        revision: Revision(1),
        matches: Match::default(),
        per: None,
        cost: Cost::Packets,
        overhead_bytes: 0,
        quic: false,
        scale,
        budget: scaled(rate, 3_000),
        floor: scaled(floor, 1),
        smallest_burst: scaled(0, 1).burst,
        is_divisible: true,
        promise: Promise::Strict,
        excess: None,
        on_expiry: OnExpiry::Floor,
        mode: Mode::Enforce,
    }
}

fn record(amount: Amount, floor: Amount) -> EnvelopeRecord {
    let held = LimitEnvelope {
        limit: ID,
        scale: SCALE,
        amount,
        floor,
    };
    EnvelopeRecord {
        term: Term(1),
        generation: Generation(1),
        lease: std::time::Duration::from_secs(2),
        policy: PolicyVersion(1),
        nodes: vec![NodeEnvelope {
            node: NODE,
            limits: vec![held],
        }],
    }
}

fn propose(book: &mut Book, generation: u64, entry: Entry) {
    let (node, limit) = (book.account(NODE), book.limit_slot(ID).unwrap());
    book.propose(node, Generation(generation), vec![Change { limit, entry }]);
}

fn acknowledge(book: &mut Book, generation: u64) {
    let node = book.account(NODE);
    book.acknowledge(node, Generation(generation));
}

#[test]
fn a_floor_outlives_leases_and_take_overs() {
    let mut book = Book::default();
    book.set_limits(&[limit(30_000, 40, SCALE)]);
    book.adopt(&record(amount(12_000, 100), amount(9_000, 10)), Nanos(50));
    book.reserve(NODE, ID, SCALE, amount(40, 1));
    assert_eq!(book.envelope(NODE, ID), amount(12_000, 100));
    book.expire(Nanos(50));
    assert_eq!(
        book.envelope(NODE, ID),
        amount(9_000, 10),
        "its kernel has that floor still"
    );
    let stored = &book.envelopes()[0].limits[0];
    assert_eq!(
        stored.floor,
        amount(9_000, 10),
        "and the next leader has to know"
    );
}

#[test]
fn a_limit_that_is_dropped_and_comes_back_is_still_held() {
    let mut book = Book::default();
    book.set_limits(&[limit(30_000, 40, SCALE)]);
    propose(
        &mut book,
        1,
        Entry {
            amount: amount(15_000, 9),
            floor: amount(40, 1),
        },
    );
    let node = book.account(NODE);
    book.extend_lease(node, Nanos(100));
    book.set_limits(&[]);
    assert_eq!(
        book.over_budget().count(),
        0,
        "no promise is made about it now"
    );
    let fine = Scale { fraction_bits: 12 };
    book.set_limits(&[limit(30_000, 40, fine)]);
    let held = amount(15_000, 9).rescaled_up(SCALE, fine);
    assert_eq!(book.envelope(NODE, ID), held, "in the new units");
    book.expire(Nanos(100));
    assert_eq!(
        book.envelope(NODE, ID),
        amount(40, 1).rescaled_up(SCALE, fine)
    );
}

#[test]
fn a_limit_that_a_leader_does_not_know_yet_is_adopted() {
    let mut book = Book::default();
    book.adopt(&record(amount(29_000, 100), amount(40, 1)), Nanos(50));
    book.set_limits(&[limit(30_000, 40, SCALE)]);
    assert_eq!(book.free(ID).rate, amount(1_000, 0).rate);
}

#[test]
fn only_the_acknowledged_generation_and_what_follows_counts() {
    let mut book = Book::default();
    book.set_limits(&[limit(30_000, 40, SCALE)]);
    let entry = |rate| Entry {
        amount: amount(rate, 1),
        floor: amount(40, 1),
    };
    for (generation, rate) in [(1, 20_000), (2, 5_000), (3, 8_000)] {
        propose(&mut book, generation, entry(rate));
    }
    assert_eq!(book.envelope(NODE, ID).rate, amount(20_000, 1).rate);
    acknowledge(&mut book, 2);
    assert_eq!(book.envelope(NODE, ID).rate, amount(8_000, 1).rate);
    acknowledge(&mut book, 3);
    assert_eq!(book.latest(NODE, ID), entry(8_000));
}

#[test]
fn unanswered_proposals_are_bounded_and_never_counted_too_small() {
    let mut book = Book::default();
    book.set_limits(&[limit(30_000, 40, SCALE)]);
    for generation in 1..=200_u64 {
        let amount = amount(30_000 - generation, 1);
        propose(
            &mut book,
            generation,
            Entry {
                amount,
                floor: amount,
            },
        );
    }
    assert_eq!(book.envelope(NODE, ID).rate, amount(29_999, 1).rate);
    acknowledge(&mut book, 200);
    assert_eq!(book.envelope(NODE, ID).rate, amount(29_800, 1).rate);
}

/// What does not fit the units of a policy in between is not known any more when they are coarse again.
#[test]
fn what_is_too_much_for_other_units_is_too_much_until_it_is_acknowledged() {
    let most = Amount {
        rate: UnitsPerSecond::MAX,
        burst: Units::MAX,
    };
    let floor = Amount {
        rate: UnitsPerSecond::MAX,
        burst: Units(1),
    };
    for finer in 1..=Scale::MAX_FRACTION_BITS {
        let in_units = |fraction_bits| Limit {
            scale: Scale { fraction_bits },
            budget: most,
            ..limit(0, 0, SCALE)
        };
        let mut book = Book::default();
        book.set_limits(&[in_units(0)]);
        let entry = Entry {
            amount: most,
            floor,
        };
        propose(&mut book, 1, entry);
        let node = book.account(NODE);
        book.extend_lease(node, Nanos(100));
        book.set_limits(&[in_units(finer)]);
        assert_eq!(book.free(ID), Amount::ZERO, "{finer} bits");
        // What a leader after this one adopts.
        let stored = EnvelopeRecord {
            nodes: book.envelopes(),
            ..record(Amount::ZERO, Amount::ZERO)
        };
        let mut adopting = Book::default();
        adopting.set_limits(&[in_units(0)]);
        adopting.adopt(&stored, Nanos(100));
        book.set_limits(&[in_units(0)]);
        for book in [&mut book, &mut adopting] {
            assert!(most.fits(book.envelope(NODE, ID)), "{finer} bits");
            book.expire(Nanos(100));
            assert!(floor.fits(book.envelope(NODE, ID)), "{finer} bits");
        }
        // It is what it says again.
        let answered = Entry::floor(amount(40, 1));
        propose(&mut book, 2, answered);
        acknowledge(&mut book, 2);
        assert_eq!(book.envelope(NODE, ID), answered.amount, "{finer} bits");
    }
}
