//! Whatever grants, arrivals and clocks do: no window admits more than entitlement and burst.
//!
//! The oracle shares nothing with the crate but the meaning. It keeps the clock as an exact sum of
//! `nanoseconds · rate / 10^9` over the grants' pieces, as fractions of 10^9 in 128 bits, without
//! wrapping, and looks at every window that ends at an admission.

#![allow(clippy::unwrap_used)]

mod support;

use std::ptr::NonNull;

use proptest::prelude::*;
use support::limit::{Limit, Piece};
use weir_abi::{InstallStatus, LimitSlot};
use weir_limiter::{LimitRef, SharedMemory};

const NANOS: i128 = 1_000_000_000;

/// What may be admitted, as the promise has it.
struct Oracle {
    before: i128,
    piece: Piece,
    windows: Vec<Window>,
}

/// A window that is still open.
struct Window {
    begins: u64,
    entitlement: i128,
    burst: u64,
    admitted: i128,
}

impl Oracle {
    fn new(now: u64) -> Self {
        let piece = Piece {
            begins: now,
            ..Piece::default()
        };
        Self {
            before: 0,
            piece,
            windows: Vec::new(),
        }
    }

    fn entitlement(&self, now: u64) -> i128 {
        self.before + self.piece.gained(now)
    }

    fn replace(&mut self, piece: Piece) {
        // Windows that begin just before, and just after.
        self.open(piece.begins);
        self.before = self.entitlement(piece.begins);
        self.piece = piece;
        self.open(piece.begins);
    }

    fn open(&mut self, now: u64) {
        self.windows.push(Window {
            begins: now,
            entitlement: self.entitlement(now),
            burst: self.piece.burst(now),
            admitted: 0,
        });
    }

    /// A packet was admitted by a CPU whose clock said `at`, while another's says `now`.
    fn admit(&mut self, cost: u64, at: u64, now: u64) {
        let at = at.max(self.piece.begins);
        self.open(at);
        let entitlement = self.entitlement(now);
        for window in self.windows.iter_mut().filter(|window| window.begins <= at) {
            window.admitted += i128::from(cost) * NANOS;
            let most = entitlement - window.entitlement + i128::from(window.burst) * NANOS;
            // Each piece is rounded down where it begins and where it is read: one unit.
            let admitted = window.admitted;
            assert!(
                admitted <= most + NANOS,
                "{admitted} in a window that may have {most}"
            );
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// So much later.
    Wait(u64),
    /// The clock of another CPU: so much earlier, for one packet.
    Behind(u64, u64),
    /// Packets of this cost.
    Offer(u64, u8),
    /// A grant that lives so long from now; so far in the past if the last is set.
    Grant(Piece, u64, bool),
    /// The same grant with another end.
    Renew(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rate = prop_oneof![0..2_000_u64, 0..=1_u64 << 40];
    let burst = prop_oneof![0..50_u64, 0..1_u64 << 40];
    let time = prop_oneof![0..2_000_u64, 0..10_000_000_000_u64];
    let piece = (rate.clone(), burst.clone(), rate, burst).prop_map(
        |(rate, burst, floor_rate, floor_burst)| Piece {
            rate,
            burst,
            floor_rate,
            floor_burst,
            ..Piece::default()
        },
    );
    let cost = prop_oneof![1..3_u64, 1..1_u64 << 36];
    let step = prop_oneof![
        3 => time.clone().prop_map(Step::Wait),
        1 => (0..1_000_u64, cost.clone()).prop_map(|(behind, cost)| Step::Behind(behind, cost)),
        4 => (cost, 1..40_u8).prop_map(|(cost, count)| Step::Offer(cost, count)),
        2 => (piece, time.clone(), prop::bool::weighted(0.1))
            .prop_map(|(piece, life, past)| Step::Grant(piece, life, past)),
        1 => time.prop_map(Step::Renew),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_window_admits_more_than_entitlement_and_burst(steps in steps()) {
        let mut now = 1 << 40;
        let limit = Limit::new(now);
        let mut oracle = Oracle::new(now);
        for step in steps {
            match step {
                Step::Wait(nanos) => now += nanos,
                Step::Behind(nanos, cost) => {
                    if limit.offer(cost, now - nanos) {
                        oracle.admit(cost, now - nanos, now);
                    }
                }
                Step::Offer(cost, count) => {
                    for _ in 0..count {
                        if limit.offer(cost, now) {
                            oracle.admit(cost, now, now);
                        }
                    }
                }
                Step::Grant(piece, life, past) => {
                    let expires = if past { now - life } else { now + life };
                    let piece = Piece { begins: now, expires, ..piece };
                    install_both(&limit, &mut oracle, piece, now);
                }
                Step::Renew(life) => {
                    let piece = Piece { begins: now, expires: now + life, ..oracle.piece };
                    install_both(&limit, &mut oracle, piece, now);
                }
            }
        }
    }
}

fn install_both(limit: &Limit, oracle: &mut Oracle, piece: Piece, now: u64) {
    match limit.grant(&piece, now) {
        InstallStatus::Installed | InstallStatus::Renewed => oracle.replace(piece),
        InstallStatus::Expired => assert!(piece.expires <= now),
        other => panic!("{other:?}"),
    }
}

/// The finest scale at which a rate per second still fits, as `weir_model::Scale` chooses it.
fn finest(tokens: u64, period_s: u64, burst: u64) -> u32 {
    let fits = |bits: u32| {
        (u128::from(tokens) << bits) / u128::from(period_s) <= 1 << 40
            && u128::from(burst) << bits <= 1 << 60
    };
    (0..=46).rev().find(|bits| fits(*bits)).unwrap()
}

/// Offers more than a rate admits, for a while, and says what it admitted, in tokens.
fn admitted(rate: u64, bits: u32, cost: u64, nanos: u64, attempts: u64) -> u64 {
    let begin = 3 << 50;
    let limit = Limit::new(begin);
    let piece = Piece {
        begins: begin,
        expires: u64::MAX,
        rate,
        burst: (2 * cost) << bits,
        ..Piece::default()
    };
    assert_eq!(limit.grant(&piece, begin), InstallStatus::Installed);
    (1..=attempts)
        .filter(|attempt| {
            let now =
                begin + (u128::from(nanos) * u128::from(*attempt) / u128::from(attempts)) as u64;
            limit.offer(cost << bits, now)
        })
        .count() as u64
        * cost
}

#[test]
fn accurate_from_one_a_minute_to_line_rate_and_never_upward() {
    const MINUTE: u64 = 60;
    // Tokens, in so many seconds; a packet's cost; for how long, in seconds.
    let cases = [
        (1, MINUTE, 1, 2_000 * MINUTE),
        (1, 1, 1, 5_000),
        (30_000, 1, 1, 3),
        (148_809_523, 1, 1, 1),
        // Bits: frames of 64 bytes at 1 kbit/s, of 1,518 at 400 Gbit/s.
        (1_000, 1, 512, 5_000),
        (400_000_000_000, 1, 12_144, 1),
    ];
    for (tokens, period_s, cost, seconds) in cases {
        let bits = finest(tokens, period_s, 2 * cost);
        let rate = ((u128::from(tokens) << bits) / u128::from(period_s)) as u64;
        let exact = u128::from(tokens) * u128::from(seconds) / u128::from(period_s);
        let packets = exact as u64 / cost;
        // Twice as many as are admitted, at most a million; then the time is shorter.
        let attempts = (packets * 2).min(1_000_000);
        let share = attempts as f64 / (packets * 2) as f64;
        let nanos = (seconds as f64 * share * 1e9) as u64;
        let exact = exact as f64 * share;
        let found = admitted(rate, bits, cost, nanos, attempts) as f64;
        assert!(
            found <= exact + 1e-6 * exact,
            "{tokens}/{period_s}s: {found} > {exact}"
        );
        assert!(
            found >= exact * 0.999 - cost as f64,
            "{tokens}/{period_s}s: {found} < {exact}"
        );
    }
}

#[test]
fn nothing_overflows_in_thirty_days_without_a_daemon() {
    const DAY: u64 = 24 * 3_600 * 1_000_000_000;
    let largest = Piece {
        begins: 0,
        expires: 2_000_000_000,
        rate: 1 << 40,
        burst: 1 << 50,
        floor_rate: 1 << 40,
        floor_burst: 1 << 50,
    };
    for days in [1, 30, 60, 90] {
        let begin = 1 << 40;
        let limit = Limit::new(begin);
        let piece = Piece {
            begins: begin,
            expires: begin + 2_000_000_000,
            ..largest
        };
        assert_eq!(limit.grant(&piece, begin), InstallStatus::Installed);
        let now = begin + days * DAY;
        // Exactly a burst, after however long a silence.
        assert!(!limit.offer((1 << 50) + 1, now), "{days} days");
        assert!(limit.offer(1 << 50, now), "{days} days");
        assert!(!limit.offer(1, now), "{days} days");
        assert!(limit.offer(1 << 40, now + 1_000_000_000), "{days} days");
    }
}

#[test]
fn a_burst_that_grows_starts_empty() {
    let second = 1_000_000_000;
    let limit = Limit::new(0);
    let small = Piece {
        expires: u64::MAX,
        rate: 100,
        burst: 10,
        ..Piece::default()
    };
    limit.grant(&small, 0);
    let large = Piece {
        burst: 1_000,
        ..small
    };
    limit.grant(&large, 100 * second);
    assert!(!limit.offer(11, 100 * second));
    assert!(limit.offer(10, 100 * second));
    // And the same if it grows when the grant ends.
    let ends = Piece {
        expires: 300 * second,
        burst: 10,
        floor_rate: 1,
        floor_burst: 500,
        ..small
    };
    limit.grant(&ends, 200 * second);
    assert!(!limit.offer(12, 301 * second));
    assert!(limit.offer(10, 301 * second));
}

#[test]
fn setting_the_same_floor_again_takes_nothing_away() {
    let second = 1_000_000_000;
    let limit = Limit::new(0);
    let floor = Piece {
        floor_rate: 10,
        floor_burst: 10,
        ..Piece::default()
    };
    assert_eq!(limit.grant(&floor, 0), InstallStatus::Installed);
    for tick in 1..=10 {
        assert_eq!(
            limit.grant(&floor, tick * second / 10),
            InstallStatus::Renewed
        );
    }
    assert!(limit.offer(9, second));
}

#[test]
fn a_renewal_after_the_end_does_not_grant_the_time_between() {
    let second = 1_000_000_000;
    let limit = Limit::new(0);
    let grant = Piece {
        expires: second,
        rate: 1_000,
        burst: 10_000,
        ..Piece::default()
    };
    limit.grant(&grant, 0);
    let renewed = Piece {
        expires: 11 * second,
        ..grant
    };
    assert_eq!(limit.grant(&renewed, 10 * second), InstallStatus::Installed);
    // The floor's burst is zero, so even the first second's entitlement has lapsed.
    assert!(!limit.offer(1, 10 * second));
    assert!(limit.offer(999, 11 * second - 1));
    assert!(!limit.offer(2, 11 * second - 1));
}

#[test]
fn an_installer_whose_clock_is_behind_grants_no_time_twice() {
    let second = 1_000_000_000;
    let limit = Limit::new(0);
    let grant = Piece {
        expires: u64::MAX,
        rate: 1_000,
        burst: 1,
        ..Piece::default()
    };
    limit.grant(&grant, 10 * second);
    let faster = Piece {
        rate: 2_000,
        ..grant
    };
    // A millisecond behind, which is worth two units.
    limit.grant(&faster, 10 * second - 1_000_000);
    assert!(!limit.offer(1, 10 * second));
    assert!(limit.offer(1, 10 * second + 600_000));
}

#[test]
fn a_reader_sees_a_grant_as_a_whole_while_others_are_installed() {
    const INSTALLS: u64 = 200_000;
    let limit = Limit::new(0);
    let address = limit.slot.get() as usize;
    let memory = move || {
        let slot = NonNull::new(address as *mut LimitSlot).unwrap();
        // SAFETY: `limit` outlives both threads, which access it through `LimitRef` alone.
        unsafe { LimitRef::<SharedMemory>::new(slot) }
    };
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let (mut seen, mut last) = (0_u64, 0);
            while last < INSTALLS {
                let Some(grant) = memory().grant() else {
                    continue;
                };
                assert!(
                    grant.burst >= last,
                    "went back from {last} to {}",
                    grant.burst
                );
                assert_eq!(grant.burst, grant.floor_burst);
                assert_eq!(grant.rate_multiplier, grant.floor_multiplier);
                seen += u64::from(grant.burst != last);
                last = grant.burst;
            }
            seen
        });
        for number in 1..=INSTALLS {
            let piece = Piece {
                expires: u64::MAX,
                rate: number,
                burst: number,
                floor_rate: number,
                floor_burst: number,
                ..Piece::default()
            };
            assert_eq!(limit.grant(&piece, number), InstallStatus::Installed);
        }
        assert!(reader.join().unwrap() > 0);
    });
}
