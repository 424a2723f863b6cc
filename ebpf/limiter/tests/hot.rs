//! Keys that have leased buckets of their own.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Host, any, frames::from6, from4, ipv6, keyed, udp};
use weir_abi::{Cost, HotKey, Reason, Rule, TokenTally};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
/// What each key may spend of its other bucket.
const COLD: u64 = 3;

fn source(number: u8) -> [u8; 4] {
    [10, 0, 0, number]
}

fn by(number: u8) -> Vec<u8> {
    from4(udp(53), source(number))
}

fn strict() -> Rule {
    keyed(SECOND, COLD)
}

fn elastic() -> Rule {
    Rule {
        hot_alone: 1,
        ..strict()
    }
}

#[test]
fn a_strict_key_gets_its_leased_bucket_and_its_share_and_no_more() {
    let mut host = Host::new([(strict(), 0)]);
    let hot = host.heat(0, source(1), 5) as usize;
    assert_eq!(host.passed(&by(1), 100), 5 + COLD as usize);
    assert_eq!(host.passed(&by(2), 100), COLD as usize, "another key");
    let (key, all) = (host.counted(hot), host.counted(0));
    assert_eq!((key.passed.packets, key.over_limit.packets), (8, 92));
    assert_eq!((all.passed.packets, all.over_limit.packets), (11, 189));
    // Its share comes in again, and is not lost to the leased bucket.
    host.now += SECOND;
    assert_eq!(host.passed(&by(1), 100), 1);
}

#[test]
fn the_share_is_charged_only_for_what_the_leased_bucket_refuses() {
    let mut host = Host::new([(strict(), 0)]);
    host.heat(0, source(1), 5);
    assert_eq!(host.passed(&by(1), 5), 5);
    host.hot.clear();
    assert_eq!(host.passed(&by(1), 100), COLD as usize, "all of it is left");
}

#[test]
fn an_elastic_key_gets_its_leased_bucket_alone() {
    let mut host = Host::new([(elastic(), 0)]);
    let hot = host.heat(0, source(1), 5) as usize;
    assert_eq!(host.passed(&by(1), 100), 5);
    host.now += 100 * SECOND;
    assert_eq!(host.passed(&by(1), 100), 0, "nothing comes in");
    assert_eq!(host.passed(&by(2), 100), COLD as usize, "another key");
    assert_eq!(host.counted(hot).over_limit.packets, 195);
    // It is a key like any other again.
    host.hot.clear();
    assert_eq!(host.passed(&by(1), 100), COLD as usize);
}

#[test]
fn nobody_looks_for_hot_keys_where_there_are_none() {
    let mut host = Host::new([(strict(), 0), (any(), 1_000)]);
    host.heat(0, source(1), 5);
    host.rules[0].hot_keys = 0;
    assert_eq!(host.passed(&by(1), 100), COLD as usize);
    assert_eq!(host.hot_searches.get(), 0);
    host.rules[0].hot_keys = 1;
    assert_eq!(host.passed(&by(1), 100), 5);
    assert_eq!(host.hot_searches.get(), 100);
}

#[test]
fn a_look_in_vain_changes_nothing() {
    for rule in [strict(), elastic(), keyed(MILLISECOND, COLD)] {
        let [mut looks, mut not] = [1, 0].map(|hot_keys| {
            let mut host = Host::new([(rule, 0), (any(), 20)]);
            host.rules[0].hot_keys = hot_keys;
            host
        });
        for packet in 0..200_u64 {
            looks.now += packet * MILLISECOND / 50;
            not.now = looks.now;
            let frame = by((packet % 7) as u8);
            assert_eq!(looks.decide(&frame), not.decide(&frame));
        }
        assert_eq!(looks.counted(0), not.counted(0));
        assert_eq!(looks.readings, not.readings);
        assert_eq!((looks.hot_searches.get(), not.hot_searches.get()), (200, 0));
    }
}

#[test]
fn keys_are_networks_and_each_family_has_its_own() {
    let rule = Rule {
        key_mask4: u32::from_ne_bytes([255, 255, 255, 0]),
        ..elastic()
    };
    let mut host = Host::new([(rule, 0)]);
    host.heat(0, source(1), 5);
    assert_eq!(host.passed(&by(1), 3), 3);
    assert_eq!(host.passed(&by(2), 100), 2, "the same network");
    let network = [0x0a00_0000_u32.to_be(), 0x20, 0, 0];
    let twin = HotKey {
        slot: 0,
        family: 6,
        source: network,
    };
    let hot4 = *host.hot.values().next().unwrap();
    host.heat_at(0, [11, 0, 0, 0], hot4 + 1, 7);
    let other = host.hot.pop_last().unwrap();
    host.hot.insert(twin, other.1);
    let mut address = [0; 16];
    for (bytes, word) in address.chunks_exact_mut(4).zip(network) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    address[15] = 9;
    let frame = from6(ipv6(17, &udp(53)[34..]), address);
    assert_eq!(host.passed(&frame, 100), 7, "the upper half is the key");
    assert_eq!(host.passed(&by(1), 100), 0);
}

#[test]
fn bits_are_charged_in_the_limits_units() {
    let rule = Rule {
        cost: Cost::Bits as u8,
        fraction_bits: 4,
        key_burst_ns: 0,
        ..strict()
    };
    let mut host = Host::new([(rule, 0)]);
    let bits = 8 * by(1).len() as u64;
    let hot = host.heat(0, source(1), 10 * bits + bits / 2) as usize;
    assert_eq!(host.passed(&by(1), 100), 10);
    assert_eq!(host.counted(hot).passed.tokens, 10 * bits);
}

#[test]
fn a_packet_that_another_limit_refuses_costs_the_leased_bucket_nothing() {
    let mut host = Host::new([(strict(), 0), (any(), 0)]);
    let hot = host.heat(0, source(1), 5) as usize;
    assert_eq!(host.passed(&by(1), 100), 0);
    assert_eq!(host.counted(hot).refused_elsewhere.packets, 100);
    host.services[0].count = 1;
    assert_eq!(host.passed(&by(1), 100), 5 + COLD as usize);
}

#[test]
fn in_shadow_it_counts_what_it_would_drop() {
    let rule = Rule {
        shadow: 1,
        ..elastic()
    };
    let mut host = Host::new([(rule, 0)]);
    let hot = host.heat(0, source(1), 5) as usize;
    assert_eq!(host.passed(&by(1), 100), 100);
    assert_eq!(host.counted(hot).would_drop.packets, 95);
}

/// The short cut for keys that are far over must not be one past a grant that has just come.
#[test]
fn a_leased_bucket_is_asked_however_far_over_the_other_one_is() {
    let mut host = Host::new([(keyed(10 * SECOND, 1), 0)]);
    assert_eq!(host.passed(&by(1), 100), 1);
    let readings = host.readings.get();
    assert!(readings < 10, "it is hopeless, and known to be");
    host.heat(0, source(1), 5);
    assert_eq!(host.passed(&by(1), 100), 5);
}

#[test]
fn the_keys_counters_are_the_limits_share_of_it() {
    let rules = [(strict(), 0), (elastic(), 0), (any(), 30)];
    let mut host = Host::new(rules);
    // One is hot by the first limit, one by the second, and one by both.
    let hot = [(0, 1), (1, 2), (0, 3), (1, 3)]
        .map(|(slot, number)| (slot, number, host.heat(slot, source(number), 4) as usize));
    let mut of_key = vec![[0_u64; 2]; 5];
    for packet in 0..400_u64 {
        host.now += 3 * MILLISECOND * (packet % 5);
        let number = (packet % 4) as usize + 1;
        let passes = host.decide(&by(number as u8)).passes();
        of_key[number][usize::from(passes)] += 1;
    }
    let packets = |tally: &TokenTally| tally.packets;
    for (_, number, slot) in hot {
        let counted = host.counted(slot);
        let dropped = [
            &counted.over_limit,
            &counted.contended,
            &counted.refused_elsewhere,
        ];
        let dropped: u64 = dropped.into_iter().map(packets).sum();
        assert_eq!([dropped, packets(&counted.passed)], of_key[number as usize]);
    }
    for slot in [0, 1] {
        let offered = host.counted(slot);
        let passed = of_key.iter().map(|[_, passed]| passed).sum::<u64>();
        assert_eq!(offered.passed.packets, passed);
    }
}

#[test]
fn an_event_says_which_bucket_refused() {
    let mut host = Host::new([(strict(), 0)]);
    host.sampling = 1;
    let hot = host.heat(0, source(1), 0);
    assert_eq!(host.passed(&by(1), 10), COLD as usize);
    host.rules[0].hot_alone = 1;
    assert_eq!(host.decide(&by(1)), Reason::OverLimit);
    let events = host.events.borrow();
    let [.., by_share, by_lease] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!((by_share.slot, by_share.hot), (0, 0));
    assert_eq!(by_share.over, SECOND, "nanoseconds");
    assert_eq!((by_lease.slot, by_lease.hot), (0, 1));
    assert_eq!(by_lease.over, 1, "units");
    assert_ne!(hot, 0);
}
