//! Which packets a limit applies to, and what they cost.

#![allow(clippy::unwrap_used)]

mod support;

use support::{
    Host, any,
    frames::{ACK, FIN, QUIC_INITIALS, RST, SYN, options, ports, tagged, tcp_header, udp_with},
    ipv4, ipv6, on_port, tcp, udp,
};
use weir_abi::{Cost, PolicyRecord, Protocol, Reason, Rule, Service};

/// Whether a rule applies to a frame: its bucket is empty, so it drops what it applies to.
fn applies(rule: Rule, frame: &[u8]) -> bool {
    match Host::new([(rule, 0)]).decide(frame) {
        Reason::OverLimit => true,
        Reason::NoMatch => false,
        other => panic!("{other:?}"),
    }
}

/// A later fragment of UDP and TCP, over both families.
fn later_fragments() -> [Vec<u8>; 4] {
    let v6 = |protocol| ipv6(44, &[protocol, 0, 0, 8, 0, 0, 0, 9, 1, 2, 3, 4]);
    [
        ipv4(17, 0x00b9, 5, &[0; 8]),
        ipv4(6, 0x2001, 5, &[0; 8]),
        v6(17),
        v6(6),
    ]
}

#[test]
fn flags_are_compared_under_their_mask() {
    let reset = Rule {
        protocol: Protocol::Tcp as u8,
        tcp_flags: [RST | SYN, RST],
        ..any()
    };
    for (flags, expected) in [
        (RST, true),
        (RST | ACK, true),
        (RST | FIN | ACK, true),
        (RST | SYN, false),
        (SYN, false),
        (0, false),
    ] {
        assert_eq!(applies(reset, &tcp(80, flags)), expected, "{flags:#x}");
        let v6 = ipv6(6, &tcp_header(80, flags));
        assert_eq!(applies(reset, &v6), expected, "{flags:#x}");
    }
    // None of these flags: segments in the middle of a connection.
    let bare = Rule {
        tcp_flags: [SYN | FIN | RST, 0],
        ..reset
    };
    assert!(applies(bare, &tcp(80, ACK)));
    assert!(!applies(bare, &tcp(80, SYN | ACK)));
    // A later fragment has no flags to look at, and bypasses neither.
    let [udp4, tcp4, udp6, tcp6] = later_fragments();
    for rule in [reset, bare] {
        assert!(applies(rule, &tcp4) && applies(rule, &tcp6));
        assert!(!applies(rule, &udp4) && !applies(rule, &udp6));
    }
}

#[test]
fn a_rule_for_fragments_leaves_whole_packets_alone() {
    let fragments = Rule {
        fragments_only: 1,
        ..any()
    };
    let part = |fragment: [u8; 2]| {
        let header = [&[17, 0][..], &fragment, &[0, 0, 0, 9], &ports(53)].concat();
        ipv6(44, &header)
    };
    let first = [ipv4(17, 0x2000, 5, &ports(53)), part([0, 1])];
    for fragment in first.iter().chain(&later_fragments()) {
        assert!(applies(fragments, fragment), "{fragment:02x?}");
    }
    // Atomic fragments are whole packets, and so is what must not be cut up.
    for whole in [udp(53), ipv4(17, 0x4000, 5, &ports(53)), part([0, 0])] {
        assert!(!applies(fragments, &whole), "{whole:02x?}");
    }
    // With a port, a first fragment has to have it; a later one counts for every port.
    let with_port = Rule {
        fragments_only: 1,
        ..on_port(54)
    };
    assert!(!applies(with_port, &first[0]) && !applies(with_port, &first[1]));
    let [udp4, tcp4, udp6, _] = later_fragments();
    assert!(applies(with_port, &udp4) && applies(with_port, &udp6));
    assert!(!applies(with_port, &tcp4));
}

#[test]
fn a_later_fragment_of_any_kind_is_no_way_round_a_protocol() {
    // The part of an IPv6 packet that was cut up begins with options: what is above them is in
    // another fragment, so it may be anything.
    let later = ipv6(44, &[60, 0, 0, 8, 0, 0, 0, 9, 1, 2, 3, 4]);
    assert!(applies(any(), &later));
    assert!(applies(on_port(53), &later));
    let icmp = Rule {
        protocol: Protocol::Icmp as u8,
        ..any()
    };
    assert!(applies(icmp, &later));
}

#[test]
fn connections_are_opened_by_a_first_segment() {
    let connections = Rule {
        cost: Cost::Connections as u8,
        ..any()
    };
    for (flags, expected) in [
        (SYN, true),
        // With explicit congestion notification (RFC 3168), or data in the first segment.
        (SYN | 0xc0, true),
        (SYN | 0x08, true),
        (SYN | ACK, false),
        (ACK, false),
        (RST, false),
        (0, false),
    ] {
        assert_eq!(
            applies(connections, &tcp(80, flags)),
            expected,
            "{flags:#x}"
        );
    }
    // A first fragment opens one, a later one does not: its first one did.
    assert!(applies(
        connections,
        &ipv4(6, 0x2000, 5, &tcp_header(80, SYN))
    ));
    for later in later_fragments() {
        assert!(!applies(connections, &later), "{later:02x?}");
    }
    // QUIC only if it is asked for.
    let quic = Rule {
        quic: 1,
        ..connections
    };
    for initial in QUIC_INITIALS {
        for frame in [
            ipv4(17, 0, 5, &udp_with(&initial)),
            ipv6(17, &udp_with(&initial)),
        ] {
            assert!(applies(quic, &frame));
            assert!(!applies(connections, &frame));
        }
    }
    assert!(applies(quic, &tcp(80, SYN)));
    let short_header = ipv4(17, 0, 5, &udp_with(&[0x43, 1, 2, 3, 4, 5, 6]));
    assert!(!applies(quic, &short_header));
    // One token each, however long.
    let host = Host::new([(connections, 3)]);
    let mut long = tcp(80, SYN);
    long.resize(1_400, 0);
    assert_eq!(host.passed(&long, 5), 3);
    assert_eq!(host.passed(&tcp(80, ACK), 5), 5);
    assert_eq!(host.counted(0).passed.tokens, 3);
    assert_eq!(host.counted(0).over_limit.packets, 2);
}

#[test]
fn port_ranges_include_both_ends() {
    let mut rule = Rule {
        protocol: Protocol::Any as u8,
        port_ranges: 8,
        ..any()
    };
    for (number, range) in (1_u16..).zip(&mut rule.ports) {
        range.first = number * 1_000;
        range.last = number * 1_000 + 9;
    }
    for (port, expected) in [
        (999, false),
        (1_000, true),
        (1_009, true),
        (1_010, false),
        (8_000, true),
        (8_009, true),
        (8_010, false),
        (0, false),
    ] {
        assert_eq!(applies(rule, &udp(port)), expected, "{port}");
    }
    // Only as many as are used.
    rule.port_ranges = 7;
    assert!(!applies(rule, &udp(8_000)));
    // What has no ports has none of these.
    assert!(!applies(rule, &ipv4(47, 0, 5, &[])));
    assert!(!applies(rule, &ipv4(1, 0, 5, &[8, 0])));
}

#[test]
fn overhead_is_added_to_bits_alone() {
    let tokens = |rule: Rule, bytes: usize| {
        let host = Host::new([(rule, 1 << 20)]);
        let mut frame = udp(53);
        frame.resize(bytes, 0);
        assert_eq!(host.decide(&frame), Reason::Admitted);
        assert_eq!(host.counted(0).passed.bytes, bytes as u64);
        host.counted(0).passed.tokens
    };
    let bits = |overhead_bytes| Rule {
        cost: Cost::Bits as u8,
        overhead_bytes,
        ..any()
    };
    assert_eq!(tokens(bits(0), 60), 480);
    assert_eq!(tokens(bits(24), 60), 672);
    assert_eq!(tokens(bits(256), 9_014), 8 * 9_270);
    let packets = Rule {
        overhead_bytes: 24,
        ..any()
    };
    assert_eq!(tokens(packets, 1_500), 1);
    // The tag of a VLAN is part of the frame.
    let host = Host::new([(bits(0), 1 << 20)]);
    let tagged = tagged(&udp(53), 0x8100);
    host.decide(&tagged);
    assert_eq!(host.counted(0).passed.tokens, 8 * tagged.len() as u64);
}

#[test]
fn the_policy_says_what_becomes_of_what_cannot_be_parsed() {
    let short = udp(53)[..20].to_vec();
    let (first, chain) = options(9, 17, &ports(53));
    let endless = ipv6(first, &chain);
    for (passes, reasons) in [
        (0, [Reason::Unparsed, Reason::TooManyHeaders]),
        (1, [Reason::UnparsedPassed, Reason::TooManyHeadersPassed]),
    ] {
        let mut host = Host::new([(any(), 0)]);
        host.policy.unparsed_passes = passes;
        assert_eq!([host.decide(&short), host.decide(&endless)], reasons);
        assert_eq!(reasons[0].passes(), passes != 0);
        assert_eq!(reasons[1].passes(), passes != 0);
        // It says nothing of whole packets, nor of what is not IP.
        assert_eq!(host.decide(&udp(53)), Reason::OverLimit);
        assert_eq!(host.decide(&[0; 60]), Reason::NotIp);
        for reason in reasons {
            let tally = host.totals().by_reason[reason as usize];
            assert_eq!(tally.packets, 1, "{reason:?}");
        }
    }
}

#[test]
fn a_policy_whose_destinations_are_alike_is_not_searched() {
    let [v4, v6] = [udp(53), ipv6(17, &ports(53))];
    let mut host = Host::new([(any(), 0), (any(), 100)]);
    // Number 0 has the empty bucket, number 1 has the other one, number 2 has none.
    let mut full = host.services[0];
    full.slots[0] = 1;
    full.count = 1;
    host.services = vec![host.services[0], full, Service::default()];
    for (services, reasons, searches) in [
        (
            [PolicyRecord::SEARCH; 2],
            [Reason::OverLimit, Reason::OverLimit],
            2,
        ),
        (
            [PolicyRecord::SEARCH, 2],
            [Reason::OverLimit, Reason::Admitted],
            1,
        ),
        ([2, 1], [Reason::Admitted, Reason::OverLimit], 0),
        ([1, 0], [Reason::OverLimit, Reason::NoMatch], 0),
        ([0, 2], [Reason::NoMatch, Reason::Admitted], 0),
        // A service without limits.
        ([3, 3], [Reason::NoMatch, Reason::NoMatch], 0),
    ] {
        host.policy.services = services;
        host.searches.set(0);
        host.generation += 2;
        assert_eq!(
            [host.decide(&v4), host.decide(&v6)],
            reasons,
            "{services:?}"
        );
        assert_eq!(host.searches.get(), searches, "{services:?}");
    }
    // A search that finds nothing.
    host.policy.services = [PolicyRecord::SEARCH; 2];
    host.found = None;
    host.generation += 2;
    assert_eq!(host.decide(&v4), Reason::NoMatch);
}
