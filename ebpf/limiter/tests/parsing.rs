//! What frames are taken for.

mod support;

use proptest::prelude::*;
use support::{Bytes, ETHERNET, V4, V6, ipv4, ipv6};
use weir_limiter::{Address, Packet, Parsed, Transport, parse};

const PORTS: [u8; 4] = [0x0f, 0xa0, 0x00, 0x35];
const PORTS_MEANING: Transport = Transport::Ports {
    source: 4_000,
    destination: 53,
};

fn parsed(frame: &[u8]) -> Parsed {
    parse(&Bytes(frame))
}

fn packet4(protocol: u8, transport: Transport) -> Parsed {
    Parsed::Ip(Packet {
        source: Address::V4(u32::from_ne_bytes([198, 18, 0, 1])),
        destination: Address::V4(u32::from_ne_bytes([192, 0, 2, 53])),
        protocol,
        transport,
    })
}

fn packet6(protocol: u8, transport: Transport) -> Parsed {
    let words = |last| {
        [
            u32::from_be_bytes([0x20, 1, 0xd, 0xb8]).to_be(),
            0,
            0,
            u32::to_be(last),
        ]
    };
    Parsed::Ip(Packet {
        source: Address::V6(words(1)),
        destination: Address::V6(words(0x53)),
        protocol,
        transport,
    })
}

#[test]
fn headers_of_ipv4() {
    let udp = ipv4(17, 0, 5, &PORTS);
    assert_eq!(parsed(&udp), packet4(17, PORTS_MEANING));
    assert_eq!(parsed(&ipv4(6, 0, 5, &PORTS)), packet4(6, PORTS_MEANING));
    // Ten words of options.
    assert_eq!(parsed(&ipv4(17, 0, 15, &PORTS)), packet4(17, PORTS_MEANING));
    let echo = Transport::Icmp { kind: 8 };
    assert_eq!(parsed(&ipv4(1, 0, 5, &[8, 0])), packet4(1, echo));
    // ICMPv6 over IPv4 is no ICMP.
    assert_eq!(
        parsed(&ipv4(58, 0, 5, &[8, 0])),
        packet4(58, Transport::Other)
    );
    assert_eq!(parsed(&ipv4(47, 0, 5, &[])), packet4(47, Transport::Other));
    // A first fragment has ports, a later one has none, whatever its bytes look like.
    assert_eq!(
        parsed(&ipv4(17, 0x2000, 5, &PORTS)),
        packet4(17, PORTS_MEANING)
    );
    assert_eq!(
        parsed(&ipv4(17, 0x2001, 5, &PORTS)),
        packet4(17, Transport::LaterFragment)
    );
    assert_eq!(
        parsed(&ipv4(17, 0x00ff, 5, &[])),
        packet4(17, Transport::LaterFragment)
    );
}

#[test]
fn headers_of_ipv6() {
    assert_eq!(parsed(&ipv6(17, &PORTS)), packet6(17, PORTS_MEANING));
    let echo = Transport::Icmp { kind: 128 };
    assert_eq!(parsed(&ipv6(58, &[128, 0])), packet6(58, echo));
    // Hop-by-hop of 8 bytes, routing of 16, destination options of 8, then UDP.
    let mut chain = vec![43, 0, 0, 0, 0, 0, 0, 0];
    chain.extend([60, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    chain.extend([17, 0, 0, 0, 0, 0, 0, 0]);
    chain.extend(PORTS);
    assert_eq!(parsed(&ipv6(0, &chain)), packet6(17, PORTS_MEANING));
    // The authentication header counts in fours: 24 bytes.
    let mut authenticated = vec![6, 4, 0, 0];
    authenticated.resize(24, 0);
    authenticated.extend(PORTS);
    assert_eq!(parsed(&ipv6(51, &authenticated)), packet6(6, PORTS_MEANING));
    // Fragments: the first goes on, a later one ends the walk.
    let first = [&[17, 0, 0, 1, 0, 0, 0, 9][..], &PORTS].concat();
    assert_eq!(parsed(&ipv6(44, &first)), packet6(17, PORTS_MEANING));
    let later = [&[17, 0, 0, 8, 0, 0, 0, 9][..], &PORTS].concat();
    assert_eq!(
        parsed(&ipv6(44, &later)),
        packet6(17, Transport::LaterFragment)
    );
}

#[test]
fn vlan_tags() {
    let udp = ipv4(17, 0, 5, &PORTS);
    let tag = |frame: &[u8], kind: [u8; 2]| [&frame[..12], &kind, &[0, 7], &frame[12..]].concat();
    let once = tag(&udp, [0x81, 0]);
    let twice = tag(&once, [0x88, 0xa8]);
    assert_eq!(parsed(&once), packet4(17, PORTS_MEANING));
    assert_eq!(parsed(&twice), packet4(17, PORTS_MEANING));
    assert_eq!(parsed(&tag(&twice, [0x81, 0])), Parsed::NotIp);
}

#[test]
fn neither_ip_nor_whole() {
    assert_eq!(parsed(&[]), Parsed::NotIp);
    assert_eq!(parsed(&ETHERNET), Parsed::NotIp);
    let arp = [&ETHERNET[..], &[0x08, 0x06], &[0; 28]].concat();
    assert_eq!(parsed(&arp), Parsed::NotIp);
    // Header lengths and versions that cannot be.
    assert_eq!(parsed(&ipv4(17, 0, 4, &PORTS)), Parsed::Unparsed);
    let mut version = ipv4(17, 0, 5, &PORTS);
    version[14] = 0x65;
    assert_eq!(parsed(&version), Parsed::Unparsed);
    let mut version = ipv6(17, &PORTS);
    version[14] = 0x45;
    assert_eq!(parsed(&version), Parsed::Unparsed);
    // Cut anywhere behind the type: never taken for something whole.
    for whole in [ipv4(17, 0, 5, &PORTS), ipv6(17, &PORTS)] {
        for length in 14..whole.len() {
            assert_eq!(parsed(&whole[..length]), Parsed::Unparsed, "{length} bytes");
        }
    }
    // Nine headers are one too many; eight are not.
    let walk = |headers: usize| {
        let mut chain: Vec<u8> = [60, 0, 0, 0, 0, 0, 0, 0].repeat(headers);
        let last = chain.len() - 8;
        chain[last] = 17;
        chain.extend(PORTS);
        ipv6(60, &chain)
    };
    assert_eq!(parsed(&walk(7)), packet6(17, PORTS_MEANING));
    assert_eq!(parsed(&walk(8)), Parsed::Unparsed);
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        parsed(&bytes);
        parsed(&[&ETHERNET[..], &V4, &bytes].concat());
        parsed(&[&ETHERNET[..], &V6, &bytes].concat());
    }
}
