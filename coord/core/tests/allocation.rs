//! What limits without floors are divided into.
#![allow(clippy::unwrap_used)]

mod limits;

use limits::limit;
use weir_coord_core::{
    allocation::{Participant, step, targets},
    book::{Book, Entry, Holding},
};
use weir_model::{Amount, Limit, Units, UnitsPerSecond, policy::OnExpiry};

/// A limit that reserves nothing, and is divided all the same.
fn closed(name: &str, rate: u64, burst: u64) -> Limit {
    Limit {
        floor: Amount::ZERO,
        on_expiry: OnExpiry::Closed,
        ..limit(name, rate, burst, 0, false)
    }
}

fn participants(demands: &[u64]) -> Vec<Participant<'static>> {
    let participant = |demand: &u64| Participant {
        weight: 1,
        demand: UnitsPerSecond(demand << 10),
        reserved: Amount {
            rate: UnitsPerSecond(u64::MAX),
            burst: Units(u64::MAX),
        },
        holding: &Holding::NOTHING,
    };
    demands.iter().map(participant).collect()
}

fn divided(limit: &Limit, demands: &[u64]) -> Vec<Entry> {
    let mut book = Book::default();
    book.set_limits([limit]);
    let participants = participants(demands);
    let pool = book.pool(book.limit_slot(limit.id).unwrap());
    let targets = targets(limit, limit.budget, &participants, pool);
    step(limit, &participants, &targets, pool).collect()
}

/// However little a member asks for beside the others, a packet of it fits.
#[test]
fn every_member_of_a_closed_limit_has_room_for_a_packet() {
    for (burst, demands) in [
        (8, vec![1_000_000, 1, 0, 0, 0, 0, 0, 0]),
        (8, vec![10_000; 8]),
        (100, vec![1_000_000, 300]),
        (1, vec![1_000_000]),
    ] {
        let limit = closed("shut", 10_000, burst);
        let entries = divided(&limit, &demands);
        let sum: Amount = entries.iter().map(|entry| entry.amount).sum();
        assert!(sum.fits(limit.budget), "{demands:?}");
        for (entry, demand) in entries.iter().zip(&demands) {
            assert_eq!(entry.floor, Amount::ZERO, "{demands:?}");
            assert!(entry.amount.burst >= limit.smallest_burst, "{demands:?}");
            assert!(entry.amount.rate.0 > 0 || *demand == 0, "{demands:?}");
        }
    }
}

/// More members than the burst has packets for: nobody gets a burst that no packet fits in.
#[test]
fn a_burst_that_does_not_suffice_moves_whole() {
    let limit = closed("shut", 10_000, 8);
    let entries = divided(&limit, &[5, 5, 5, 5, 5, 5, 5, 5, 1_000_000]);
    let (holder, others) = entries.split_last().unwrap();
    assert_eq!(holder.amount, limit.budget);
    assert!(others.iter().all(|entry| entry.amount == Amount::ZERO));
}

#[test]
fn floors_are_the_base_where_there_are_some() {
    let limit = limit("wide", 30_000, 3_000, 40, false);
    let entries = divided(&limit, &[1_000_000, 0]);
    assert_eq!(entries[1].amount.rate, limit.floor.rate);
    assert!(entries[1].amount.burst >= limit.floor.burst);
    let rest = limit.budget.saturating_sub(entries[1].amount);
    assert_eq!(entries[0].amount.rate, rest.rate);
    assert!(entries[0].amount.fits(rest));
}

/// All hosts together may have more than a bucket can hold, as the excess of a hot key is on top of its rate; one
/// host may not.
#[test]
fn nobody_is_granted_more_than_a_bucket_can_hold() {
    let mut limit = closed("clients", 10_000, 100);
    limit.budget.rate = UnitsPerSecond(UnitsPerSecond::MAX.0 + (UnitsPerSecond::MAX.0 >> 3));
    for demands in [[u64::MAX >> 10, 0, 0], [u64::MAX >> 10; 3]] {
        let entries = divided(&limit, &demands);
        let rates = entries.iter().map(|entry| entry.amount.rate);
        assert!(
            rates.clone().all(|rate| rate <= UnitsPerSecond::MAX),
            "{demands:?}"
        );
        let sum: u64 = rates.map(|rate| rate.0).sum();
        assert!(sum > limit.budget.rate.0 / 16 * 13, "{demands:?}");
    }
}
