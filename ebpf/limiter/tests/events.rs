//! Which packets user space is told about, and what it is told.

#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use support::{Host, Random, any, frames::ports, from4, host::START, ipv6, keyed, on_port, udp};
use weir_abi::{Cost, Event, Reason, Rule};

/// A host that tells of about one packet in so many.
fn sampling(one_in: u32, rules: impl IntoIterator<Item = (Rule, u64)>) -> Host {
    let mut host = Host::new(rules);
    host.sampling = one_in;
    host
}

fn last(host: &Host) -> Event {
    *host.events.borrow().last().unwrap()
}

#[test]
fn one_in_one_is_every_packet_and_none_is_none() {
    let host = sampling(1, [(any(), 5)]);
    host.passed(&udp(53), 20);
    assert_eq!(host.events.borrow().len(), 20);
    assert!(host.events.borrow().iter().all(|event| event.weight == 1));
    let mut host = sampling(0, [(any(), 5)]);
    host.passed(&udp(53), 20_000);
    assert_eq!(host.events.borrow().len(), 0);
    assert_eq!(host.totals().events_lost, 0);
    // The first one after that stands for itself: nobody asked for the others.
    host.sampling = 1;
    host.passed(&udp(53), 1);
    assert_eq!(last(&host).weight, 1);
}

#[test]
fn only_packets_of_limits_are_told_of() {
    let host = sampling(1, [(on_port(53), 0)]);
    for frame in [udp(54), udp(53)[..20].to_vec(), vec![0; 60]] {
        host.decide(&frame);
    }
    assert!(host.events.borrow().is_empty());
    host.decide(&udp(53));
    assert_eq!(host.events.borrow().len(), 1);
}

#[test]
fn an_event_describes_its_packet() {
    let host = sampling(1, [(on_port(53), 1)]);
    let mut frame = from4(udp(53), [203, 0, 113, 9]);
    frame.resize(600, 0);
    assert_eq!(host.decide(&frame), Reason::Admitted);
    let mut expected = Event {
        at_ns: START,
        source: [u32::from_ne_bytes([203, 0, 113, 9]), 0, 0, 0],
        destination: [u32::from_ne_bytes([192, 0, 2, 53]), 0, 0, 0],
        weight: 1,
        slot: 0,
        bytes: 600,
        reason: Reason::Admitted as u8,
        family: 4,
        protocol: 17,
        count: 1,
        port: 53,
        ..Event::default()
    };
    assert_eq!(last(&host), expected);
    assert_eq!(host.decide(&frame), Reason::OverLimit);
    expected.reason = Reason::OverLimit as u8;
    expected.over = 1;
    assert_eq!(last(&host), expected);
    host.decide(&ipv6(17, &ports(53)));
    let event = last(&host);
    assert_eq!((event.family, event.bytes), (6, 58));
    assert_eq!(event.source, [0x2001_0db8, 0, 0, 1].map(u32::to_be));
    assert_eq!(event.destination, [0x2001_0db8, 0, 0, 0x53].map(u32::to_be));
}

#[test]
fn the_limit_that_decided_is_named_with_how_far_over() {
    let bits = Rule {
        cost: Cost::Bits as u8,
        ..any()
    };
    // A key with three packets, then an aggregate of 1,000 bits, then one of ten packets.
    let rules = [(keyed(1_000, 3), 0), (bits, 1_000), (any(), 10)];
    let host = sampling(1, rules);
    let frame = udp(53);
    let bits_each = 8 * frame.len() as u64;
    assert_eq!(host.passed(&frame, 3), 3);
    for (slot, event) in host.events.borrow().iter().enumerate() {
        // Nobody decided, so the first limit that applied.
        assert_eq!((event.slot, event.over), (0, 0), "{slot}");
        assert_eq!((event.count, event.slots[..3].to_vec()), (3, vec![0, 1, 2]));
    }
    // The key is spent: a thousand nanoseconds over.
    assert_eq!(host.decide(&frame), Reason::OverLimit);
    assert_eq!((last(&host).slot, last(&host).over), (0, 1_000));
    // From another key: the aggregate is spent, in units.
    let other = from4(frame.clone(), [198, 18, 0, 2]);
    assert_eq!(host.decide(&other), Reason::OverLimit);
    let missing = 4 * bits_each - 1_000;
    assert_eq!((last(&host).slot, last(&host).over), (1, missing));
    // What is over in shadow mode decides nothing.
    let shadow = Rule {
        shadow: 1,
        ..keyed(1_000, 1)
    };
    let host = sampling(1, [(shadow, 0), (any(), 3)]);
    host.passed(&frame, 4);
    let seen = host.events.borrow();
    let named: Vec<_> = seen.iter().map(|event| (event.slot, event.over)).collect();
    assert_eq!(named, [(0, 0), (0, 0), (0, 0), (1, 1)]);
}

#[test]
fn a_full_ring_is_counted_and_forgets_nobody() {
    let mut host = sampling(1, [(any(), 0)]);
    host.event_room = 3;
    host.passed(&udp(53), 10);
    assert_eq!(host.events.borrow().len(), 3);
    assert_eq!(host.totals().events_lost, 7);
    // The next one to find room stands for what was lost, too.
    host.event_room = 4;
    host.passed(&udp(53), 1);
    assert_eq!(last(&host).weight, 8);
}

#[test]
fn sources_that_take_turns_are_told_of_alike() {
    const SOURCES: u64 = 4;
    const PACKETS: u64 = 400_000;
    let mut host = sampling(64, [(any(), 0)]);
    let mut random = Random(7);
    let mut weights = [0_u64; SOURCES as usize];
    for number in 0..PACKETS {
        let source = [198, 18, 0, (number % SOURCES) as u8];
        host.now += 300 + random.below(80);
        host.decide(&from4(udp(53), source));
    }
    for event in host.events.borrow().iter() {
        weights[usize::from(event.source[0].to_ne_bytes()[3])] += u64::from(event.weight);
    }
    let share = PACKETS / SOURCES;
    for weight in weights {
        assert!(weight.abs_diff(share) < share / 10, "{weights:?}");
    }
    // About as many events as were asked for.
    let events = host.events.borrow().len() as u64;
    assert!(events.abs_diff(PACKETS / 64) < PACKETS / 640, "{events}");
}

proptest! {
    #[test]
    fn weights_add_up_to_the_packets_of_limits(
        power in 0..12_u32,
        seed: u64,
        packets in 1..5_000_u64,
    ) {
        let one_in = 1 << power;
        let mut host = sampling(one_in, [(on_port(53), 100)]);
        let mut random = Random(seed);
        let mut of_limits = 0_u64;
        for _ in 0..packets {
            host.now += random.below(1_000);
            // Now and then one that no limit applies to.
            let port = 53 + u16::from(random.below(8) == 0);
            of_limits += u64::from(host.decide(&udp(port)).is_of_limits());
        }
        let told: u64 = host.events.borrow().iter().map(|event| u64::from(event.weight)).sum();
        // The tail has not been told of yet: less than one and a half distances.
        let tail = of_limits.checked_sub(told);
        prop_assert!(tail.is_some_and(|tail| 2 * tail <= 3 * u64::from(one_in)), "{told} of {of_limits}");
    }
}
