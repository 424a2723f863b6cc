//! What frames are taken for.

#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use support::{
    frames::{
        ACK, ETHERNET, QUIC_INITIALS, SYN, Seen, V4, V6, options, ports, read, tagged, tcp_header,
        udp_with,
    },
    ipv4, ipv6, tcp, udp,
};
use weir_limiter::{Address, Parsed, Transport};

const PORTS: [u8; 4] = [0x0f, 0xa0, 0x00, 0x35];

/// A packet of the tests' IPv4 hosts. Each test says what is different.
fn packet4(frame: &[u8], protocol: u8, transport: Transport) -> Seen {
    let has_ports = transport == Transport::Ports;
    Seen {
        bytes: frame.len() as u32,
        source: Address::v4(u32::from_ne_bytes([198, 18, 0, 1])),
        destination: Address::v4(u32::from_ne_bytes([192, 0, 2, 53])),
        ports: if has_ports { (4_000, 53) } else { (0, 0) },
        transport,
        protocol,
        icmp_type: 0,
        tcp_flags: 0,
        is_fragment: false,
        is_quic_initial: false,
    }
}

fn packet6(frame: &[u8], protocol: u8, transport: Transport) -> Seen {
    let words = |last| [0x2001_0db8, 0, 0, last].map(u32::to_be);
    Seen {
        source: Address::v6(words(1)),
        destination: Address::v6(words(0x53)),
        ..packet4(frame, protocol, transport)
    }
}

fn is4(frame: &[u8], protocol: u8, transport: Transport) {
    assert_eq!(read(frame), Ok(packet4(frame, protocol, transport)));
}

fn is6(frame: &[u8], protocol: u8, transport: Transport) {
    assert_eq!(read(frame), Ok(packet6(frame, protocol, transport)));
}

#[test]
fn headers_of_ipv4() {
    is4(&ipv4(17, 0, 5, &PORTS), 17, Transport::Ports);
    is4(&tcp(53, 0), 6, Transport::Ports);
    // One to ten words of options.
    for words in 6..=15 {
        is4(&ipv4(17, 0, words, &PORTS), 17, Transport::Ports);
    }
    let echo = ipv4(1, 0, 5, &[8, 0]);
    let expected = Seen {
        icmp_type: 8,
        ..packet4(&echo, 1, Transport::Icmp)
    };
    assert_eq!(read(&echo), Ok(expected));
    // ICMPv6 over IPv4 is no ICMP.
    is4(&ipv4(58, 0, 5, &[8, 0]), 58, Transport::Other);
    is4(&ipv4(47, 0, 5, &[]), 47, Transport::Other);
    // The authentication header of IPv4 is a protocol like any other.
    is4(&ipv4(51, 0, 5, &[17, 4, 0, 0]), 51, Transport::Other);
}

#[test]
fn headers_of_ipv6() {
    is6(&ipv6(17, &PORTS), 17, Transport::Ports);
    let echo = ipv6(58, &[128, 0]);
    let expected = Seen {
        icmp_type: 128,
        ..packet6(&echo, 58, Transport::Icmp)
    };
    assert_eq!(read(&echo), Ok(expected));
    // ICMP over IPv6 is no ICMPv6.
    is6(&ipv6(1, &[8, 0]), 1, Transport::Other);
    // Hop-by-hop of 8 bytes, routing of 16, destination options of 8, then UDP.
    let mut chain = vec![43, 0, 0, 0, 0, 0, 0, 0];
    chain.extend([60, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    chain.extend([17, 0, 0, 0, 0, 0, 0, 0]);
    chain.extend(PORTS);
    is6(&ipv6(0, &chain), 17, Transport::Ports);
    // The authentication header counts in fours: 24 bytes.
    let mut authenticated = vec![6, 4, 0, 0];
    authenticated.resize(24, 0);
    authenticated.extend(tcp_header(53, 0));
    is6(&ipv6(51, &authenticated), 6, Transport::Ports);
    // Mobility counts in eights; and the longest that there is.
    for length in [1, 255] {
        let mut mobile = vec![17, length];
        mobile.resize((usize::from(length) + 1) * 8, 0);
        mobile.extend(PORTS);
        is6(&ipv6(135, &mobile), 17, Transport::Ports);
    }
    // Encryption ends the walk, and so does the word for nothing.
    is6(&ipv6(50, &[0; 8]), 50, Transport::Other);
    is6(&ipv6(59, &[]), 59, Transport::Other);
}

#[test]
fn fragments_of_ipv4() {
    // A first fragment has ports, a later one has none, whatever its bytes look like.
    let first = ipv4(17, 0x2000, 5, &PORTS);
    let expected = Seen {
        is_fragment: true,
        ..packet4(&first, 17, Transport::Ports)
    };
    assert_eq!(read(&first), Ok(expected));
    for (fragment, payload) in [(0x2001, &PORTS[..]), (0x00ff, &[]), (0x1fff, &[])] {
        let later = ipv4(17, fragment, 5, payload);
        let expected = Seen {
            is_fragment: true,
            ..packet4(&later, 17, Transport::LaterFragment)
        };
        assert_eq!(read(&later), Ok(expected), "{fragment:#x}");
    }
    // "Do not fragment" and the reserved bit make none.
    for fragment in [0x4000, 0x8000, 0xc000] {
        is4(&ipv4(17, fragment, 5, &PORTS), 17, Transport::Ports);
    }
}

#[test]
fn fragments_of_ipv6() {
    let with = |fragment: [u8; 2]| [&[17, 0], &fragment[..], &[0, 0, 0, 9], &PORTS].concat();
    // The first goes on, a later one ends the walk.
    let first = ipv6(44, &with([0, 1]));
    let expected = Seen {
        is_fragment: true,
        ..packet6(&first, 17, Transport::Ports)
    };
    assert_eq!(read(&first), Ok(expected));
    for fragment in [[0, 8], [0, 9], [0xff, 0xf8]] {
        let later = ipv6(44, &with(fragment));
        let expected = Seen {
            is_fragment: true,
            ..packet6(&later, 17, Transport::LaterFragment)
        };
        assert_eq!(read(&later), Ok(expected), "{fragment:x?}");
    }
    // An atomic fragment is a whole packet (RFC 6946); the two reserved bits say nothing.
    is6(&ipv6(44, &with([0, 0])), 17, Transport::Ports);
    is6(&ipv6(44, &with([0, 6])), 17, Transport::Ports);
    // Behind options, and with more options in the part that was cut up.
    let (first, chain) = options(1, 44, &with([0, 8]));
    let later = ipv6(first, &chain);
    assert_eq!(read(&later).unwrap().transport, Transport::LaterFragment);
    let (next, chain) = options(1, 17, &PORTS);
    let whole = [&[next, 0, 0, 0, 0, 0, 0, 9][..], &chain].concat();
    is6(&ipv6(44, &whole), 17, Transport::Ports);
}

#[test]
fn flags_of_tcp() {
    for flags in [0, SYN, SYN | ACK, 0xff] {
        for frame in [tcp(53, flags), ipv6(6, &tcp_header(53, flags))] {
            assert_eq!(read(&frame).unwrap().tcp_flags, flags);
        }
    }
    // The first fragment of a segment cut before its flags (RFC 1858) is malformed.
    for bytes in 0..14 {
        let short = ipv4(6, 0x2000, 5, &tcp_header(53, SYN)[..bytes]);
        assert_eq!(read(&short), Err(Parsed::Malformed), "{bytes} bytes");
    }
    let enough = ipv4(6, 0x2000, 5, &tcp_header(53, SYN)[..14]);
    assert_eq!(read(&enough).unwrap().tcp_flags, SYN);
    // What has no flags has none.
    let datagram = ipv4(17, 0, 5, &tcp_header(53, 0xff));
    assert_eq!(read(&datagram).unwrap().tcp_flags, 0);
}

#[test]
fn quic_initial_packets() {
    let is_initial = |payload: &[u8]| {
        let v4 = read(&ipv4(17, 0, 5, &udp_with(payload))).unwrap();
        let v6 = read(&ipv6(17, &udp_with(payload))).unwrap();
        assert_eq!(v4.is_quic_initial, v6.is_quic_initial);
        v4.is_quic_initial
    };
    for initial in QUIC_INITIALS {
        assert!(is_initial(&initial));
        // The lower half of the first byte is protected, so it may be anything.
        assert!(is_initial(&[&[initial[0] & 0xf0], &initial[1..]].concat()));
        assert!(is_initial(&[&[initial[0] | 0x0f], &initial[1..]].concat()));
        // Every other bit up to the version's end matters.
        for bit in 0..40 {
            let mut other = initial;
            other[bit / 8] ^= 0x80 >> (bit % 8);
            assert_eq!(is_initial(&other), (4..8).contains(&bit), "bit {bit}");
        }
        for length in 0..6 {
            // Half a word is read at a time, so the first byte of what follows has to be there.
            assert!(!is_initial(&initial[..length]), "{length} bytes");
        }
    }
    // Version negotiation, and a short header.
    assert!(!is_initial(&[0xc3, 0, 0, 0, 0, 8]));
    assert!(!is_initial(&[0x43, 0, 0, 0, 1, 8]));
    // The same bytes in TCP are no QUIC.
    let mut segment = tcp_header(443, 0);
    segment[8..14].copy_from_slice(&QUIC_INITIALS[0]);
    assert!(!read(&ipv4(6, 0, 5, &segment)).unwrap().is_quic_initial);
}

#[test]
fn vlan_tags() {
    for (whole, is) in [
        (udp(53), is4 as fn(&[u8], u8, Transport)),
        (ipv6(17, &ports(53)), is6),
    ] {
        let once = tagged(&whole, 0x8100);
        is(&once, 17, Transport::Ports);
        is(&tagged(&whole, 0x88a8), 17, Transport::Ports);
        let twice = tagged(&once, 0x88a8);
        is(&twice, 17, Transport::Ports);
        assert_eq!(read(&tagged(&twice, 0x8100)), Err(Parsed::NotIp));
        // A tag that is cut off.
        assert_eq!(read(&once[..15]), Err(Parsed::NotIp));
        assert_eq!(read(&once[..17]), Err(Parsed::NotIp));
        assert_eq!(read(&once[..18]), Err(Parsed::Malformed));
    }
}

#[test]
fn neither_ip_nor_whole() {
    assert_eq!(read(&[]), Err(Parsed::NotIp));
    assert_eq!(read(&ETHERNET), Err(Parsed::NotIp));
    let arp = [&ETHERNET[..], &[0x08, 0x06], &[0; 28]].concat();
    assert_eq!(read(&arp), Err(Parsed::NotIp));
    // Header lengths and versions that cannot be.
    for words in 0..5 {
        let short = ipv4(17, 0, words, &PORTS);
        assert_eq!(read(&short), Err(Parsed::Malformed), "{words} words");
    }
    let mut version = ipv4(17, 0, 5, &PORTS);
    version[14] = 0x65;
    assert_eq!(read(&version), Err(Parsed::Malformed));
    let mut version = ipv6(17, &PORTS);
    version[14] = 0x45;
    assert_eq!(read(&version), Err(Parsed::Malformed));
    // A header longer than the frame.
    let beyond = ipv4(17, 0, 15, &PORTS);
    assert_eq!(read(&beyond[..14 + 20 + 4]), Err(Parsed::Malformed));
    // Cut anywhere behind the type: never taken for something whole.
    for whole in [ipv4(17, 0, 5, &PORTS), ipv6(17, &PORTS)] {
        for length in 14..whole.len() {
            assert_eq!(
                read(&whole[..length]),
                Err(Parsed::Malformed),
                "{length} bytes"
            );
        }
    }
}

#[test]
fn eight_extension_headers_are_looked_at() {
    for headers in 0..=8 {
        let (first, chain) = options(headers, 17, &PORTS);
        is6(&ipv6(first, &chain), 17, Transport::Ports);
        let (first, chain) = options(headers, 59, &[]);
        is6(&ipv6(first, &chain), 59, Transport::Other);
    }
    for headers in 9..12 {
        let (first, chain) = options(headers, 17, &PORTS);
        let frame = ipv6(first, &chain);
        assert_eq!(read(&frame), Err(Parsed::TooManyHeaders), "{headers}");
    }
    // Cut before that it is malformed: nobody can tell how many there were to be.
    let (first, chain) = options(9, 17, &PORTS);
    let frame = ipv6(first, &chain);
    assert_eq!(read(&frame[..54 + 8 * 8]), Err(Parsed::Malformed));
    // The longest that eight can be, in a frame as long as that.
    let mut chain: Vec<u8> = Vec::new();
    for _ in 0..8 {
        chain.extend([60, 255]);
        chain.resize(chain.len() + 2_046, 0);
    }
    chain[7 * 2_048] = 17;
    chain.extend(PORTS);
    is6(&ipv6(60, &chain), 17, Transport::Ports);
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        let _ = read(&[&ETHERNET[..], &V4, &bytes].concat());
        let _ = read(&[&ETHERNET[..], &V6, &bytes].concat());
    }
}
