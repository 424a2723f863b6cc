//! A bucket that another program exported goes on where it was: never with more, and with less
//! only by what came in between.

#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use support::limit::{Limit, Piece, REQUEST};
use weir_abi::{InstallRequest, InstallStatus, Operation};
use weir_limiter::{install, level_at, standing};

const BEGIN: u64 = 1 << 40;

/// What a limit would admit at once.
fn left(limit: &Limit, now: u64) -> u64 {
    let standing = standing(&limit.memory().grant().unwrap(), now);
    let left = standing
        .position
        .wrapping_sub(level_at(limit.memory().level(), standing));
    // The very most that it admits, and no unit more.
    let most = if left <= standing.burst { left } else { 0 };
    assert!(weir_limiter::charge(limit.memory().level(), standing, most + 1).is_none());
    most
}

/// How far a limit's clock comes in between.
fn gained(limit: &Limit, since: u64, now: u64) -> u64 {
    let grant = limit.memory().grant().unwrap();
    standing(&grant, now)
        .position
        .wrapping_sub(standing(&grant, since).position)
}

fn exported(limit: &Limit, now: u64) -> InstallRequest {
    let mut request = InstallRequest {
        operation: Operation::Export as u16,
        limit: 0,
        revision: 0,
        ..REQUEST
    };
    let before = (limit.memory().grant(), limit.memory().level());
    let status = install(limit.memory(), &mut request, now);
    assert_eq!(status, InstallStatus::Exported);
    assert_eq!(
        before,
        (limit.memory().grant(), limit.memory().level()),
        "exporting changes nothing"
    );
    request
}

/// In a slot that belonged to another limit before.
fn restored(request: &InstallRequest, now: u64) -> Limit {
    let other = Limit::new(now);
    let another = Piece {
        expires: u64::MAX,
        rate: 1 << 30,
        burst: 1 << 40,
        ..Piece::default()
    };
    other.grant(&another, now);
    let mut request = InstallRequest {
        operation: Operation::Restore as u16,
        ..*request
    };
    let status = install(other.memory(), &mut request, now);
    assert_eq!(status, InstallStatus::Installed);
    other
}

fn pieces() -> impl Strategy<Value = Piece> {
    let rate = prop_oneof![Just(0), 0..5_000_u64, 0..=1_u64 << 40];
    let burst = prop_oneof![Just(0), 0..100_u64, 0..1_u64 << 40];
    let expires = prop_oneof![0..3_000_000_000_u64, Just(u64::MAX - BEGIN)];
    (rate.clone(), burst.clone(), rate, burst, expires).prop_map(
        |(rate, burst, floor_rate, floor_burst, life)| Piece {
            begins: BEGIN,
            expires: BEGIN + life,
            rate,
            burst,
            floor_rate,
            floor_burst,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6_000))]

    /// The bucket is spent, exported, restored after a pause, and compared with the one that it was,
    /// which nobody asked meanwhile, before and after the grant's end.
    #[test]
    fn goes_on_with_no_more_and_little_less(
        piece in pieces(),
        first in 0..3_000_000_000_u64,
        spent in 0.0..1.2_f64,
        until_export in 0..2_000_000_000_u64,
        pause in prop_oneof![Just(0), 0..1_000_u64, 0..3_000_000_000_u64],
        after in prop::collection::vec((0..1_500_000_000_u64, 0.0..1.0_f64), 1..12),
    ) {
        let old = Limit::new(BEGIN);
        old.grant(&piece, BEGIN);
        let mut now = BEGIN + first;
        let spend = (left(&old, now) as f64 * spent) as u64;
        old.offer(spend, now);
        now += until_export;
        let request = exported(&old, now);
        prop_assert_eq!((request.limit, request.revision), (REQUEST.limit, REQUEST.revision));
        prop_assert_eq!(request.unspent, left(&old, now));
        let since = now;
        now += pause;
        // What comes in between lapses; a position is rounded down in each of two pieces.
        let between = gained(&old, since, now) + 2;
        let new = restored(&request, now);
        for (wait, share) in after {
            let (of_old, of_new) = (left(&old, now), left(&new, now));
            // Where a full bucket begins to be spent, positions are rounded down: a unit.
            prop_assert!(of_new <= of_old + 1, "{of_new} of {of_old}");
            prop_assert!(of_new + between >= of_old, "{of_new} of {of_old}, less {between}");
            let cost = (of_new.min(of_old) as f64 * share) as u64;
            prop_assert!(old.offer(cost, now));
            prop_assert!(new.offer(cost, now));
            now += wait;
        }
        // A grant means the same to both: what was unspent goes on, up to the burst.
        let next = Piece { begins: now, expires: now + 1_000_000_000, ..piece };
        let status = old.grant(&next, now);
        prop_assert!(matches!(status, InstallStatus::Installed | InstallStatus::Renewed));
        prop_assert_eq!(new.grant(&next, now), status);
        for later in [0, 500_000_000, 1_500_000_000] {
            let (of_old, of_new) = (left(&old, now + later), left(&new, now + later));
            prop_assert!(of_new <= of_old + 1, "{of_new} of {of_old}");
            prop_assert!(of_new + between + 1 >= of_old, "{of_new} of {of_old}");
        }
    }

    /// From program to program to program: nothing is gained on the way.
    #[test]
    fn at_once_and_many_times_it_is_the_same_bucket(
        piece in pieces(),
        first in 0..3_000_000_000_u64,
        times in 1..6_usize,
    ) {
        let old = Limit::new(BEGIN);
        old.grant(&piece, BEGIN);
        let now = BEGIN + first;
        let mut new = restored(&exported(&old, now), now);
        for _ in 1..times {
            let again = exported(&new, now);
            // The burst of a grant that has ended is of no meaning.
            let is_dead = again.expires_ns <= now;
            let of_old = exported(&old, now);
            let burst = if is_dead { again.burst } else { of_old.burst };
            prop_assert_eq!(again, InstallRequest { burst, ..of_old });
            new = restored(&again, now);
        }
        prop_assert_eq!(left(&new, now), left(&old, now));
    }
}

#[test]
fn a_slot_that_was_never_used_says_so() {
    let unused = Limit {
        slot: Box::default(),
    };
    let request = exported(&unused, BEGIN);
    assert_eq!((request.limit, request.revision), (0, 0));
    assert_eq!((request.unspent, request.carried_burst), (0, 0));
}

#[test]
fn a_restored_slot_belongs_to_the_limit_that_it_was_restored_for() {
    let request = InstallRequest {
        limit: 9,
        revision: 3,
        expires_ns: u64::MAX,
        ..REQUEST
    };
    let new = restored(&request, BEGIN);
    let again = exported(&new, BEGIN);
    assert_eq!((again.limit, again.revision), (9, 3));
    // Nobody else's grant gets there.
    assert_eq!(
        new.grant(&Piece::default(), BEGIN),
        InstallStatus::WrongLimit
    );
}

#[test]
fn what_is_restored_is_never_more_than_its_burst() {
    // Whatever the other program said.
    for unspent in [100, 101, 1 << 59, 1 << 62, u64::MAX - 1, u64::MAX] {
        let request = InstallRequest {
            rate_multiplier: 0,
            burst: 100,
            expires_ns: u64::MAX,
            unspent,
            carried_burst: 100,
            ..REQUEST
        };
        let new = restored(&request, BEGIN);
        assert_eq!(left(&new, BEGIN), 100, "{unspent}");
    }
}

#[test]
fn a_bucket_that_is_ahead_of_the_exporters_clock_has_nothing_left() {
    let old = Limit::new(BEGIN);
    let piece = Piece {
        begins: BEGIN,
        expires: u64::MAX,
        rate: 1_000_000_000,
        burst: 1_000,
        ..Piece::default()
    };
    old.grant(&piece, BEGIN);
    let now = BEGIN + 10_000;
    assert!(old.offer(left(&old, now), now));
    // Another CPU's clock says that it is half a microsecond earlier.
    let request = exported(&old, now - 500);
    assert_eq!(request.unspent, 0);
    assert_eq!(left(&restored(&request, now - 500), now - 500), 0);
}
