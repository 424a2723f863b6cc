//! The corpus of frames: what they are taken for, what becomes of them, and what becomes of them
//! when they are cut.

#![allow(clippy::unwrap_used)]

mod support;

use std::{net::IpAddr, path::Path};

use support::{
    Host, any,
    corpus::{Expected, Fixture, LIMITS, read_all},
    frames::{Bytes, Seen, address_bytes, read},
    on_port,
};
use weir_abi::{Cost, PortRange, Protocol, Reason, Rule};
use weir_limiter::{Address, Frame, Packet, Parsed, Transport, parse};

fn corpus() -> Vec<Fixture> {
    read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus"))
}

/// The limits that fixtures name.
fn rule(name: &str) -> Rule {
    let tcp = Rule {
        protocol: Protocol::Tcp as u8,
        ..any()
    };
    let connections = Rule {
        cost: Cost::Connections as u8,
        ..any()
    };
    match name {
        "dns" => on_port(53),
        "web" => {
            let mut web = Rule {
                port_ranges: 1,
                ..tcp
            };
            web.ports[0] = PortRange {
                first: 443,
                last: 443,
            };
            web
        }
        "syn" => connections,
        "quic" => Rule {
            quic: 1,
            ..connections
        },
        "icmp" => Rule {
            protocol: Protocol::Icmp as u8,
            ..any()
        },
        "reset" => Rule {
            tcp_flags: [0x04, 0x04],
            ..tcp
        },
        "fragments" => Rule {
            fragments_only: 1,
            ..any()
        },
        other => panic!("no limit {other}"),
    }
}

fn ip(address: &Address) -> IpAddr {
    let bytes = address_bytes(address);
    match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => IpAddr::from(bytes),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(bytes).unwrap()),
    }
}

/// What the parser read, in the corpus's words.
fn described(seen: &Seen) -> Expected {
    let has_ports = seen.transport == Transport::Ports;
    assert!(has_ports || seen.ports == (0, 0));
    let is_icmp = seen.transport == Transport::Icmp;
    assert!(is_icmp || seen.icmp_type == 0);
    Expected {
        source: ip(&seen.source),
        destination: ip(&seen.destination),
        protocol: seen.protocol,
        ports: has_ports.then_some(seen.ports),
        tcp_flags: seen.tcp_flags,
        icmp: is_icmp.then_some(seen.icmp_type),
        is_quic_initial: seen.is_quic_initial,
        is_fragment: seen.is_fragment,
        is_later_fragment: seen.transport == Transport::LaterFragment,
    }
}

#[test]
fn frames_are_taken_for_what_they_are() {
    for fixture in corpus() {
        let name = &fixture.name;
        match read(&fixture.bytes) {
            Ok(seen) => {
                assert_eq!(Some(described(&seen)), fixture.packet, "{name}");
                assert_eq!(seen.bytes as usize, fixture.bytes.len(), "{name}");
            }
            Err(parsed) => {
                assert_eq!(fixture.packet, None, "{name}");
                let word = match parsed {
                    Parsed::NotIp => "not_ip",
                    Parsed::Malformed => "unparsed",
                    Parsed::TooManyHeaders => "too_many_headers",
                    Parsed::Ip => unreachable!("that is no error"),
                };
                assert_eq!(word, fixture.reason, "{name}");
            }
        }
    }
}

#[test]
fn frames_are_decided_as_they_must_be() {
    let mut reasons: Vec<String> = Vec::new();
    for fixture in corpus() {
        let name = &fixture.name;
        let host = Host::new([(any(), 0)]);
        let reason = host.decide(&fixture.bytes);
        assert_eq!(reason.name(), fixture.reason, "{name}");
        assert_eq!(reason.passes(), fixture.passes, "{name}");
        let received = host.totals().received;
        assert_eq!(received.bytes, fixture.bytes.len() as u64, "{name}");
        for limit in LIMITS {
            let host = Host::new([(rule(limit), 0)]);
            let applies = fixture.limits.iter().any(|one| one == limit);
            let expected = match reason {
                Reason::OverLimit if !applies => Reason::NoMatch,
                other => other,
            };
            assert!(!applies || expected == Reason::OverLimit, "{name}");
            let reason = host.decide(&fixture.bytes);
            assert_eq!(reason, expected, "{name} under {limit}");
        }
        reasons.push(fixture.reason);
    }
    for word in [
        "over_limit",
        "management",
        "not_ip",
        "unparsed",
        "too_many_headers",
    ] {
        let count = reasons.iter().filter(|reason| *reason == word).count();
        assert!(count > 0, "no {word}");
    }
}

/// A frame that remembers how far it was read.
struct Watched<'a> {
    bytes: Bytes<'a>,
    furthest: std::cell::Cell<usize>,
}

impl Watched<'_> {
    fn note<T>(&self, offset: usize, value: Option<T>) -> Option<T> {
        if value.is_some() {
            let end = offset + size_of::<T>();
            self.furthest.set(self.furthest.get().max(end));
        }
        value
    }
}

impl Frame for Watched<'_> {
    fn length(&self) -> u32 {
        self.bytes.length()
    }

    fn byte(&self, offset: usize) -> Option<u8> {
        self.note(offset, self.bytes.byte(offset))
    }

    fn half(&self, offset: usize) -> Option<u16> {
        self.note(offset, self.bytes.half(offset))
    }

    fn word(&self, offset: usize) -> Option<u32> {
        self.note(offset, self.bytes.word(offset))
    }
}

/// Cut at every byte, a frame is what it was, as long as all that was read of it is there; cut
/// before that it is not taken for a packet, but for QUIC's mark, which is read as far as it goes.
#[test]
fn cut_anywhere_nothing_is_made_up() {
    for fixture in corpus() {
        let watched = Watched {
            bytes: Bytes(&fixture.bytes),
            furthest: std::cell::Cell::new(0),
        };
        let mut packet = Packet::NONE;
        let whole = parse(&watched, &mut packet);
        let furthest = watched.furthest.get();
        for length in 0..=fixture.bytes.len().min(600) {
            let name = format!("{} of {length} bytes", fixture.name);
            let cut = &fixture.bytes[..length];
            let seen = read(cut);
            if length >= furthest {
                let whole = match whole {
                    Parsed::Ip => read(&fixture.bytes).map(|seen| Seen {
                        bytes: length as u32,
                        ..seen
                    }),
                    other => Err(other),
                };
                assert_eq!(seen, whole, "{name}");
            } else if let Ok(seen) = seen {
                let of_whole = read(&fixture.bytes).unwrap();
                assert!(of_whole.protocol == 17 && !seen.is_quic_initial, "{name}");
                let same = Seen {
                    bytes: of_whole.bytes,
                    is_quic_initial: of_whole.is_quic_initial,
                    ..seen
                };
                assert_eq!(same, of_whole, "{name}");
            }
            // And it is decided, without a panic.
            let host = Host::new([(any(), 0)]);
            host.decide(cut);
            assert_eq!(host.totals().received.packets, 1, "{name}");
        }
    }
}
