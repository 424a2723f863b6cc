//! What becomes of packets that several limits, or none, apply to.

mod support;

use support::{Host, any, frames::tcp_header, ipv4, ipv6, on_port, tcp, udp};
use weir_abi::{Cost, Reason, Rule, maps};

#[test]
fn a_limit_that_refuses_costs_the_others_nothing() {
    let host = Host::new([(any(), 100), (any(), 3), (any(), 50)]);
    assert_eq!(host.passed(&udp(53), 40), 3);
    // Were the others charged, these would be spent.
    let spent = [host.counted(0), host.counted(1), host.counted(2)];
    for counted in spent {
        assert_eq!(counted.passed.packets, 3);
    }
    assert_eq!(spent[0].refused_elsewhere.packets, 37);
    assert_eq!(spent[1].over_limit.packets, 37);
    assert_eq!(spent[2].refused_elsewhere.packets, 37);
    let mut alone = host;
    alone.services[0].count = 1;
    assert_eq!(alone.passed(&udp(53), 200), 97);
}

#[test]
fn shadow_mode_passes_and_counts_what_it_would_have_dropped() {
    let shadow = Rule { shadow: 1, ..any() };
    let host = Host::new([(shadow, 5), (any(), 20)]);
    assert_eq!(host.passed(&udp(53), 30), 20);
    let counted = host.counted(0);
    assert_eq!(counted.passed.packets, 20);
    assert_eq!(counted.would_drop.packets, 15);
    assert_eq!(counted.refused_elsewhere.packets, 10);
    assert_eq!(counted.over_limit.packets, 0);
    assert_eq!(host.counted(1).passed.packets, 20);
}

#[test]
fn bits_are_those_of_the_whole_frame() {
    let bits = Rule {
        cost: Cost::Bits as u8,
        overhead_bytes: 24,
        fraction_bits: 4,
        ..any()
    };
    let mut frame = udp(53);
    frame.resize(1_000, 0);
    let host = Host::new([(bits, 3 * 1_024 * 8 + 8_000)]);
    assert_eq!(host.passed(&frame, 10), 3);
    assert_eq!(host.counted(0).passed.tokens, 3 * 1_024 * 8);
    assert_eq!(host.counted(0).over_limit.bytes, 7_000);
}

#[test]
fn a_frame_that_costs_more_than_any_burst_is_refused() {
    let fine = Rule {
        cost: Cost::Bits as u8,
        fraction_bits: 46,
        ..any()
    };
    let host = Host::new([(fine, 1 << 14)]);
    let mut frame = udp(53);
    frame.resize(9_000, 0);
    assert_eq!(host.decide(&frame), Reason::OverLimit);
    frame.resize(1_000, 0);
    assert_eq!(host.decide(&frame), Reason::Admitted);
}

#[test]
fn protocol_ports_and_source_are_all_asked_for() {
    let mut rule = on_port(53);
    rule.source_set = 3;
    let mut host = Host::new([(rule, 0)]);
    assert_eq!(host.decide(&udp(53)), Reason::NoMatch);
    host.source_sets = 0b100;
    assert_eq!(host.decide(&udp(53)), Reason::OverLimit);
    assert_eq!(host.decide(&udp(54)), Reason::NoMatch);
    assert_eq!(host.decide(&tcp(53, 0)), Reason::NoMatch);
}

#[test]
fn a_later_fragment_bypasses_no_port() {
    let host = Host::new([(on_port(53), 0)]);
    assert_eq!(
        host.decide(&ipv4(17, 0x00b9, 5, &[0; 8])),
        Reason::OverLimit
    );
    // Nor is it management, whose ports it does not have.
    let mut host = host;
    host.management_ports = vec![(0, 1), (53, 1)];
    host.management_sources = 1;
    assert_eq!(
        host.decide(&ipv4(17, 0x00b9, 5, &[0; 8])),
        Reason::OverLimit
    );
    assert_eq!(host.decide(&ipv4(6, 0x00b9, 5, &[0; 8])), Reason::NoMatch);
}

#[test]
fn management_needs_port_and_source_of_one_entry() {
    let mut host = Host::new([(any(), 0)]);
    let ssh = |ports: [u8; 4]| ipv4(6, 0, 5, &[&ports[..], &tcp_header(0, 0)[4..]].concat());
    host.management_ports = vec![
        (maps::PORTS as u32 + 22, 0b01),
        (maps::PORTS as u32 + 179, 0b10),
    ];
    host.management_sources = 0b01;
    assert_eq!(host.decide(&ssh([200, 0, 0, 22])), Reason::Management);
    assert_eq!(host.decide(&ssh([0, 22, 200, 0])), Reason::Management);
    assert_eq!(host.decide(&ssh([200, 0, 0, 179])), Reason::OverLimit);
    assert_eq!(host.decide(&ssh([200, 0, 0, 23])), Reason::OverLimit);
    // The port in the other protocol's table.
    assert_eq!(host.decide(&udp(22)), Reason::OverLimit);
    host.management_sources = 0;
    assert_eq!(host.decide(&ssh([200, 0, 0, 22])), Reason::OverLimit);
}

#[test]
fn what_the_network_needs_always_passes() {
    let host = Host::new([(any(), 0)]);
    for kind in [3, 4, 11, 12] {
        assert_eq!(
            host.decide(&ipv4(1, 0, 5, &[kind, 0])),
            Reason::Management,
            "ICMP {kind}"
        );
    }
    for kind in [1, 2, 3, 4, 133, 134, 135, 136, 137] {
        assert_eq!(
            host.decide(&ipv6(58, &[kind, 0])),
            Reason::Management,
            "ICMPv6 {kind}"
        );
    }
    for ports in [[0, 67, 0, 68], [0, 68, 0, 67], [0, 67, 0, 67]] {
        assert_eq!(
            host.decide(&ipv4(17, 0, 5, &ports)),
            Reason::Management,
            "{ports:?}"
        );
    }
    for ports in [[2, 0x22, 2, 0x23], [2, 0x23, 2, 0x22]] {
        assert_eq!(
            host.decide(&ipv6(17, &ports)),
            Reason::Management,
            "{ports:?}"
        );
    }
    // But not what only looks like it.
    for (protocol, payload) in [(1, [8, 0, 0, 0]), (1, [0, 0, 0, 0]), (17, [0, 68, 0, 68])] {
        assert_eq!(
            host.decide(&ipv4(protocol, 0, 5, &payload)),
            Reason::OverLimit
        );
    }
    assert_eq!(host.decide(&ipv6(58, &[128, 0])), Reason::OverLimit);
    assert_eq!(host.decide(&ipv6(17, &[0, 67, 0, 68])), Reason::OverLimit);
}

#[test]
fn every_packet_is_counted_once() {
    let host = Host::new([(on_port(53), 2), (on_port(54), 1)]);
    let frames = [
        udp(53),
        udp(53),
        udp(53),
        udp(54),
        udp(54),
        udp(55),
        ipv4(1, 0, 5, &[3, 0]),
        vec![0; 60],
        udp(53)[..20].to_vec(),
    ];
    for frame in &frames {
        host.decide(frame);
    }
    let totals = host.totals();
    let bytes: usize = frames.iter().map(Vec::len).sum();
    assert_eq!(totals.received.packets, frames.len() as u64);
    assert_eq!(totals.received.bytes, bytes as u64);
    let counted: Vec<u64> = totals.by_reason.iter().map(|tally| tally.packets).collect();
    // In the order of `Reason::ALL`.
    assert_eq!(counted, [3, 1, 1, 1, 2, 0, 1, 0, 0, 0, 0, 0]);
    let bytes: u64 = totals.by_reason.iter().map(|tally| tally.bytes).sum();
    assert_eq!(bytes, totals.received.bytes);
}

#[test]
fn a_service_without_its_rule_drops_and_says_so() {
    let mut host = Host::new([(any(), 10)]);
    host.rules.clear();
    assert_eq!(host.decide(&udp(53)), Reason::Internal);
}
