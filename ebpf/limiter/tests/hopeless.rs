//! Packets that are dropped without a look at the clock.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Host, any, from4, host::START, keyed, keys::Exact, random::Random, udp};
use weir_abi::{Reason, Rule};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
/// As many packets in a row do without.
const IN_A_ROW: u64 = 63;

fn by(source: usize) -> Vec<u8> {
    from4(udp(53), [10, 0, 0, source as u8])
}

#[test]
fn a_flood_against_a_slow_limit_reads_the_clock_seldom() {
    let mut host = Host::new([(keyed(SECOND, 1), 0)]);
    assert_eq!(host.passed(&by(1), 1), 1);
    assert_eq!(host.readings.get(), 1);
    assert_eq!(host.passed(&by(1), 1_000), 0);
    assert_eq!(host.readings.get(), 1 + 1_000 / (IN_A_ROW + 1));
    assert_eq!(host.counted(0).over_limit.packets, 1_000);
    // Another key is looked at as closely as ever.
    assert_eq!(host.passed(&by(2), 1_000), 1);
    host.now += SECOND;
    assert_eq!(host.passed(&by(1), 1_000), 1);
    assert_eq!(host.passed(&by(2), 1_000), 1);
}

#[test]
fn a_tick_is_never_slept_through() {
    let mut host = Host::new([(keyed(SECOND, 1), 0)]);
    assert_eq!(host.passed(&by(1), 1), 1);
    for tick in 2..20 {
        host.now += host.tick;
        assert_eq!(host.decide(&by(1)), Reason::OverLimit);
        assert_eq!(host.readings.get(), tick);
    }
}

#[test]
fn a_tick_that_never_comes_delays_nothing_for_long() {
    let mut host = Host::new([(keyed(SECOND, 1), 0)]);
    host.tick = u64::MAX;
    assert_eq!(host.passed(&by(1), 1), 1);
    host.now += SECOND;
    let until = (1..1_000).find(|_| host.decide(&by(1)).passes());
    assert_eq!(until, Some(IN_A_ROW + 1));
}

#[test]
fn fast_limits_and_limits_in_shadow_read_it_always() {
    let in_shadow = Rule {
        shadow: 1,
        ..keyed(SECOND, 1)
    };
    for rule in [keyed(16 * MILLISECOND, 1), in_shadow, any()] {
        let host = Host::new([(rule, 1)]);
        for packet in 1..100 {
            host.decide(&by(1));
            assert_eq!(host.readings.get(), packet);
        }
    }
}

/// Whatever the times, and whatever is behind the limit: it is a short cut, and no other way.
#[test]
fn decisions_are_those_of_exact_buckets() {
    const KEYS: usize = 4;
    for seed in 0..300 {
        let mut random = Random(seed);
        let interval = *random.pick(&[15, 17, 20, 25, 40, 100, 1_000]) * MILLISECOND;
        let burst = 1 + random.below(3);
        // In a tick that is as short as a nanosecond each packet reads the clock.
        let [mut quick, mut careful] = [10 * MILLISECOND, 1].map(|tick| {
            let mut host = Host::new([(keyed(interval, burst), 0), (any(), 10_000)]);
            host.tick = tick;
            host
        });
        let mut exact = Exact::new(interval, burst, KEYS);
        for _ in 0..2_000 {
            let step = *random.pick(&[100, 10_000, MILLISECOND, 12 * MILLISECOND, interval]);
            quick.now += 1 + random.below(step);
            careful.now = quick.now;
            let key = random.below(KEYS as u64) as usize;
            let reason = quick.decide(&by(key));
            assert_eq!(reason, careful.decide(&by(key)), "seed {seed}");
            assert_eq!(
                reason.passes(),
                exact.offer(key, quick.now - START),
                "seed {seed}"
            );
        }
        for slot in 0..2 {
            assert_eq!(quick.counted(slot), careful.counted(slot), "seed {seed}");
        }
        assert_eq!(quick.totals(), careful.totals(), "seed {seed}");
        assert!(quick.readings.get() < careful.readings.get() || interval < 17 * MILLISECOND);
    }
}
