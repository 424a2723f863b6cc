//! Limits by source.

#![allow(clippy::unwrap_used)]

mod support;

use support::{
    Host, any,
    frames::{from6, ports},
    from4,
    host::{START, Table},
    ipv6, keyed,
    keys::tag_bits,
    tcp, udp,
};
use weir_abi::{Cost, KeyLine, Protocol, Reason, Rule};
use weir_limiter::SharedMemory;

const MILLISECOND: u64 = 1_000_000;
const HOUR: u64 = 3_600_000 * MILLISECOND;

fn by(source: [u8; 4]) -> Vec<u8> {
    from4(udp(53), source)
}

/// From 2001:db8:a:b:c:d:e:f, these being the words.
fn by6(words: [u16; 6]) -> Vec<u8> {
    let mut source = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (place, word) in source[4..].chunks_exact_mut(2).zip(words) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    from6(ipv6(17, &ports(53)), source)
}

#[test]
fn a_key_has_its_burst_and_then_its_rate() {
    let mut host = Host::new([(keyed(10 * MILLISECOND, 5), 0)]);
    let frame = udp(53);
    assert_eq!(host.passed(&frame, 20), 5);
    // Exactly one each interval, at the very nanosecond.
    for _ in 0..50 {
        host.now += 10 * MILLISECOND - 1;
        assert_eq!(host.decide(&frame), Reason::OverLimit);
        host.now += 1;
        assert_eq!(host.passed(&frame, 3), 1);
    }
    // Half of the burst, and all of it, however long the silence.
    host.now += 25 * MILLISECOND;
    assert_eq!(host.passed(&frame, 20), 2);
    host.now += 25 * MILLISECOND;
    assert_eq!(host.passed(&frame, 20), 3);
    host.now += HOUR;
    assert_eq!(host.passed(&frame, 20), 5);
    let counted = host.counted(0);
    assert_eq!(counted.passed.packets, 5 + 50 + 2 + 3 + 5);
    assert_eq!(counted.passed.packets, counted.passed.tokens);
    assert_eq!(counted.table_pressure + counted.charged_in_vain, 0);
}

#[test]
fn keys_are_independent() {
    let mut host = Host::new([(keyed(MILLISECOND, 3), 0)]);
    for round in 0..4 {
        for last in 0..40 {
            let expected = if round == 0 { 3 } else { 1 };
            assert_eq!(host.passed(&by([198, 18, 7, last]), 5), expected, "{last}");
        }
        host.now += MILLISECOND;
    }
    // And so are limits, each with a hash of its own.
    let other = Rule {
        key_seed: 99,
        ..keyed(MILLISECOND, 2)
    };
    let host = Host::new([(keyed(MILLISECOND, 3), 0), (other, 0)]);
    assert_eq!(host.passed(&udp(53), 5), 2);
    assert_eq!(host.counted(0).refused_elsewhere.packets, 3);
    assert_eq!(host.counted(1).over_limit.packets, 3);
}

#[test]
fn two_limits_of_one_hash_share_their_keys() {
    let rule = keyed(MILLISECOND, 10);
    let host = Host::new([(rule, 0), (rule, 0)]);
    assert_eq!(host.passed(&udp(53), 20), 5);
}

/// Whether two frames have one bucket between them.
fn share(rule: Rule, first: &[u8], second: &[u8]) -> bool {
    let host = Host::new([(rule, 0)]);
    let burst = host.passed(first, 100);
    assert!(burst > 0);
    host.passed(second, 100) == 0
}

#[test]
fn masks_say_what_a_key_is() {
    let whole = keyed(MILLISECOND, 3);
    let network = Rule {
        key_mask4: u32::from_ne_bytes([255, 255, 255, 0]),
        key_mask6: [!0, u32::from_ne_bytes([255, 255, 0, 0]), 0, 0],
        ..whole
    };
    let (near, far) = (by([198, 18, 7, 2]), by([198, 18, 8, 1]));
    let one = by([198, 18, 7, 1]);
    assert!(!share(whole, &one, &near) && !share(whole, &one, &far));
    assert!(share(network, &one, &near) && !share(network, &one, &far));
    // /64 and /48.
    let one = by6([1, 1, 1, 1, 1, 1]);
    let host_bits = by6([1, 1, 2, 2, 2, 2]);
    let subnet = by6([1, 2, 1, 1, 1, 1]);
    let site = by6([2, 1, 1, 1, 1, 1]);
    assert!(share(whole, &one, &host_bits) && !share(whole, &one, &subnet));
    assert!(share(network, &one, &subnet) && !share(network, &one, &site));
    // /128: every word of the address counts.
    let address = Rule {
        key_mask6: [!0; 4],
        ..whole
    };
    for word in 0..6 {
        let mut other = [1; 6];
        other[word] = 2;
        assert!(!share(address, &one, &by6(other)), "word {word}");
    }
    assert!(share(address, &one, &one));
    // Swapped halves are not the same address.
    let (high, low) = (by6([0, 5, 0, 0, 0, 9]), by6([0, 9, 0, 0, 0, 5]));
    assert!(!share(address, &high, &low));
}

#[test]
fn keys_of_two_families_never_meet() {
    // IPv6 sources whose words are those of an IPv4 source, in every place.
    let rule = Rule {
        key_mask6: [!0; 4],
        ..keyed(MILLISECOND, 3)
    };
    let v4 = by([198, 18, 0, 1]);
    for place in 0..4 {
        let mut source = [0; 16];
        source[4 * place..][..4].copy_from_slice(&[198, 18, 0, 1]);
        assert!(!share(rule, &v4, &from6(ipv6(17, &ports(53)), source)));
    }
    let unspecified = from6(ipv6(17, &ports(53)), [0; 16]);
    assert!(!share(rule, &by([0; 4]), &unspecified));
}

#[test]
fn bits_of_a_key() {
    // A nanosecond a bit and some: 12,144 bits are a frame of 1,518 bytes.
    let rule = Rule {
        cost: Cost::Bits as u8,
        overhead_bytes: 24,
        key_interval: 5 << 7,
        key_burst_ns: 30_000 * 5 / 2,
        ..keyed(1, 1)
    };
    let frame = |bytes| {
        let mut frame = udp(53);
        frame.resize(bytes, 0);
        frame
    };
    let mut host = Host::new([(rule, 0)]);
    // 1,524 bytes on the wire are 12,192 bits, 30,480 nanoseconds.
    assert_eq!(host.passed(&frame(1_500), 9), 2);
    assert_eq!(host.counted(0).passed.tokens, 2 * 12_192);
    // What is left pays for 14,040 nanoseconds: 5,616 bits.
    assert_eq!(host.passed(&frame(703 - 24), 9), 0);
    assert_eq!(host.passed(&frame(702 - 24), 9), 1);
    assert_eq!(host.passed(&frame(60), 9), 0);
    host.now += 30_480;
    assert_eq!(host.passed(&frame(1_500), 9), 1);
    // A jumbo frame costs more than the burst and never passes.
    host.now += HOUR;
    assert_eq!(host.passed(&frame(9_014), 9), 0);
}

#[test]
fn connections_of_a_key() {
    let rule = Rule {
        cost: Cost::Connections as u8,
        protocol: Protocol::Tcp as u8,
        ..keyed(MILLISECOND, 2)
    };
    let host = Host::new([(rule, 0)]);
    assert_eq!(host.passed(&tcp(80, 0x10), 10), 10);
    assert_eq!(host.passed(&tcp(80, 0x02), 10), 2);
    assert_eq!(host.passed(&from4(tcp(80, 0x02), [198, 18, 0, 2]), 10), 2);
    assert_eq!(host.passed(&tcp(80, 0x10), 10), 10);
}

#[test]
fn what_one_refuses_costs_the_others_nothing() {
    // The aggregate refuses: the key keeps what it has.
    let mut host = Host::new([(keyed(MILLISECOND, 10), 0), (any(), 4)]);
    assert_eq!(host.passed(&udp(53), 50), 4);
    assert_eq!(host.counted(0).refused_elsewhere.packets, 46);
    assert_eq!(host.counted(1).over_limit.packets, 46);
    host.services[0].count = 1;
    assert_eq!(host.passed(&udp(53), 50), 6);
    // The key refuses: the aggregate keeps what it has.
    let mut host = Host::new([(keyed(MILLISECOND, 4), 0), (any(), 10)]);
    assert_eq!(host.passed(&udp(53), 50), 4);
    assert_eq!(host.counted(0).over_limit.packets, 46);
    assert_eq!(host.counted(1).refused_elsewhere.packets, 46);
    host.services[0].count = 1;
    host.services[0].slots[0] = 1;
    assert_eq!(host.passed(&udp(53), 50), 6);
    // With two keys in front, whichever refuses.
    for (first, second) in [(2, 5), (5, 2)] {
        let other = Rule {
            key_seed: 1,
            ..keyed(MILLISECOND, second)
        };
        let mut host = Host::new([(keyed(MILLISECOND, first), 0), (other, 0), (any(), 100)]);
        assert_eq!(host.passed(&udp(53), 50), 2);
        host.services[0].count = 1;
        for (slot, left) in [(0, first - 2), (1, second - 2)] {
            host.services[0].slots[0] = slot;
            assert_eq!(host.passed(&udp(53), 50) as u64, left, "slot {slot}");
        }
        assert_eq!(host.counted(2).passed.packets, 2);
        for slot in 0..3 {
            assert_eq!(host.counted(slot).charged_in_vain, 0);
        }
    }
}

#[test]
fn shadow_mode_of_a_key() {
    let shadow = Rule {
        shadow: 1,
        ..keyed(MILLISECOND, 3)
    };
    let mut host = Host::new([(shadow, 0), (any(), 8)]);
    assert_eq!(host.passed(&udp(53), 20), 8);
    let counted = host.counted(0);
    assert_eq!((counted.passed.packets, counted.would_drop.packets), (8, 5));
    assert_eq!(counted.over_limit.packets, 0);
    // What it would have dropped was not charged.
    host.now += MILLISECOND;
    host.services[0].count = 1;
    host.passed(&udp(53), 20);
    assert_eq!(host.counted(0).would_drop.packets, 5 + 19);
}

/// A host whose table has two lines, so that any seventeen sources are too many.
fn crowded(rule: Rule) -> Host {
    let mut host = Host::new([(rule, 0)]);
    host.keys = Table::new(2, START);
    host
}

#[test]
fn a_full_table_throttles_newcomers_and_forgives_nobody() {
    let mut host = crowded(keyed(MILLISECOND, 4));
    for source in 0..16 {
        assert_eq!(host.passed(&by([10, 0, 0, source]), 9), 4, "{source}");
    }
    assert_eq!(host.counted(0).table_pressure, 0);
    assert_eq!(host.keys.sweep(host.now), 16);
    // No room: newcomers are charged to slots that are spent already.
    for source in 16..200 {
        assert_eq!(host.passed(&by([10, 0, 0, source]), 3), 0, "{source}");
    }
    assert_eq!(host.counted(0).table_pressure, 3 * 184);
    // And the old ones owe what they did.
    for source in 0..16 {
        assert_eq!(host.passed(&by([10, 0, 0, source]), 9), 0, "{source}");
    }
    // All together get no more than sixteen slots' worth of the rate, however many they are.
    let mut passed = 0;
    for _ in 0..100 {
        host.now += MILLISECOND;
        for source in 0..200 {
            passed += host.passed(&by([10, 0, 0, source]), 1);
        }
    }
    assert!(passed <= 16 * 100, "{passed}");
    // Once there is silence everything is forgotten, and the marks with it.
    host.now += 4 * MILLISECOND;
    assert_eq!(host.keys.sweep(host.now), 0);
    for source in 200..216 {
        assert_eq!(host.passed(&by([10, 0, 0, source]), 9), 4, "{source}");
    }
}

#[test]
fn a_mark_ends_with_the_debt_that_it_stands_for() {
    let mut host = crowded(keyed(MILLISECOND, 4));
    for source in 0..16 {
        host.passed(&by([10, 0, 0, source]), 1);
    }
    // Newcomers without a slot spend what others have left, and mark it.
    let newcomers = (16..100).map(|source| host.passed(&by([10, 0, 0, source]), 1));
    assert!(newcomers.sum::<usize>() > 16 * 2);
    let pressure = host.counted(0).table_pressure;
    assert_eq!(pressure, 84);
    // At the very nanosecond at which everything has come in, without sweeping: half of the old
    // ones are back, and what they owe is theirs alone.
    host.now += 4 * MILLISECOND;
    for source in (0..8).chain(100..108) {
        assert_eq!(host.passed(&by([10, 0, 0, source]), 9), 4, "{source}");
    }
    assert_eq!(host.counted(0).table_pressure, pressure);
}

#[test]
fn a_key_whose_tag_would_be_nobodys_has_a_bucket_too() {
    let rule = keyed(MILLISECOND, 4);
    let sources = (0..1_u32 << 18).map(|number| (0x0b00_0000 + number).to_be_bytes());
    let untagged = sources.filter(|source| tag_bits(rule.key_seed, *source) == 0);
    let mut found = 0;
    for source in untagged {
        found += 1;
        let host = Host::new([(rule, 0)]);
        assert_eq!(host.passed(&by(source), 9), 4);
        assert_eq!(host.keys.sweep(host.now), 1);
        assert_eq!(host.passed(&by(source), 9), 0);
    }
    assert!(found > 2, "{found}");
}

#[test]
fn sweeping_frees_what_is_idle_and_keeps_what_is_owed() {
    let mut host = Host::new([(keyed(MILLISECOND, 4), 0)]);
    host.passed(&by([10, 0, 0, 1]), 4);
    host.passed(&by([10, 0, 0, 2]), 1);
    assert_eq!(host.keys.sweep(host.now), 2);
    host.now += MILLISECOND;
    assert_eq!(host.keys.sweep(host.now), 1);
    assert_eq!(host.passed(&by([10, 0, 0, 1]), 9), 1);
    assert_eq!(host.passed(&by([10, 0, 0, 2]), 9), 4);
    host.now += 4 * MILLISECOND - 1;
    assert_eq!(host.keys.sweep(host.now), 2);
    host.now += 1;
    assert_eq!(host.keys.sweep(host.now), 0);
    assert_eq!(host.keys.sweep(host.now), 0);
}

#[test]
fn what_one_cpu_swept_is_free_for_another_whose_clock_is_behind() {
    let mut host = crowded(keyed(MILLISECOND, 4));
    for source in 0..16 {
        host.passed(&by([10, 0, 0, source]), 4);
    }
    host.now += 4 * MILLISECOND;
    assert_eq!(host.keys.sweep(host.now), 0);
    host.now -= MILLISECOND;
    for source in 16..32 {
        assert_eq!(host.passed(&by([10, 0, 0, source]), 9), 4, "{source}");
    }
    assert_eq!(host.counted(0).table_pressure, 0);
}

/// One packet each day on one key, and a burst of another now and then, around every place where
/// the 48 bits of an instant begin anew.
#[test]
fn instants_wrap_and_blame_nobody() {
    const WRAP: u64 = 1 << KeyLine::TIME_BITS;
    // The slowest key: one in 100 seconds, 19.5 hours of burst.
    let slow = 100_000 * MILLISECOND;
    let burst = KeyLine::MAX_DEBT_NS / slow;
    let mut host = Host::new([(keyed(slow, burst), 0)]);
    for multiple in [1, 2, 3, 1_000, (1 << 16) - 1] {
        for offset in [-(HOUR as i64), -1, 0, 1, HOUR as i64] {
            let begin = (multiple * WRAP).wrapping_add_signed(offset);
            host.now = begin;
            host.keys = Table::new(64, host.now);
            assert_eq!(
                host.passed(&udp(53), 1_000) as u64,
                burst,
                "{multiple} {offset}"
            );
            for _ in 0..30 {
                host.now += HOUR;
                assert_eq!(host.passed(&udp(53), 100), 36, "{multiple} {offset}");
            }
        }
    }
}

/// Whether one of sixteen sources, for which there is always room, is refused what is its due, so
/// long after every slot of a small table has been used.
fn is_anyone_blamed(begin: u64, hours: u64) -> bool {
    let mut host = Host::new([(keyed(MILLISECOND, 4), 0)]);
    host.now = begin;
    host.keys = Table::new(4, begin);
    for source in 0..200 {
        host.passed(&by([10, 0, 0, source]), 9);
    }
    host.now += hours * HOUR;
    (0..16).any(|source| host.passed(&by([10, 0, 1, source]), 9) != 4)
}

#[test]
fn without_sweeping_nobody_is_blamed_for_54_hours() {
    const WRAP: u64 = 1 << KeyLine::TIME_BITS;
    for begin in [WRAP - 1, WRAP, 5 * WRAP - 30 * HOUR, 7 * WRAP + HOUR] {
        for hours in [1, 20, 40, 54] {
            assert!(!is_anyone_blamed(begin, hours), "{begin} {hours}");
        }
        // Later than that the past looks like the future.
        assert!(is_anyone_blamed(begin, 60), "{begin}");
        assert!(!is_anyone_blamed(begin, 79), "{begin}");
    }
}

#[test]
fn swept_once_in_two_days_nobody_is_ever_blamed() {
    let mut host = Host::new([(keyed(MILLISECOND, 4), 0)]);
    host.keys = Table::new(4, host.now);
    for round in 0..40 {
        for source in 0..16 {
            let frame = by([10, 0, round, source]);
            assert_eq!(host.passed(&frame, 9), 4, "{round} {source}");
        }
        for _ in 0..=round % 3 {
            host.now += 48 * HOUR;
            assert_eq!(host.keys.sweep(host.now), 0);
        }
    }
}

#[test]
fn a_table_that_was_never_swept_would_blame() {
    // Why the loader sweeps it first: zero is an instant too.
    let table: Table<SharedMemory> = Table::unswept(64);
    let mut host = Host::new([(keyed(MILLISECOND, 4), 0)]);
    host.keys = table;
    host.now = (1 << KeyLine::TIME_BITS) - HOUR;
    host.passed(&udp(53), 1);
    assert_eq!(host.counted(0).table_pressure, 1);
}
