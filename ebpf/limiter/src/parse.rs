//! Headers: Ethernet, VLAN tags, IPv4, IPv6, and the ports behind them.
//!
//! Every loop has a bound, and every byte is asked for; what ends too early or goes on for too
//! long is [`Parsed::Unparsed`]. Sources: IEEE 802.1Q, RFC 791, RFC 8200, RFC 4302 (the
//! authentication header counts its length in another unit).

use crate::packet::{Address, Packet, Transport, protocol};

/// The bytes of a frame from the Ethernet header on, as far as they can be read directly.
pub trait Frame {
    /// The length of the whole frame in bytes, without check sequence.
    fn length(&self) -> u32;

    /// The byte at `offset`; `None` behind the end.
    fn byte(&self, offset: usize) -> Option<u8>;

    /// Two bytes in network order.
    fn half(&self, offset: usize) -> Option<u16>;

    /// Four bytes in memory order.
    fn word(&self, offset: usize) -> Option<u32>;
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Neither IPv4 nor IPv6: ARP, for one.
    NotIp,
    /// IP whose headers end too early, contradict themselves, or are too many.
    Unparsed,
    /// A packet.
    Ip(Packet),
}

/// Most VLAN tags before the network header: 802.1ad's two.
const MAX_VLAN_TAGS: usize = 2;
/// Most extension headers of IPv6. RFC 8200 lists six that may each occur once, one of them twice.
const MAX_EXTENSION_HEADERS: usize = 8;

const ETHERTYPE_OFFSET: usize = 12;
const ETHERNET_BYTES: usize = 14;
const VLAN_BYTES: usize = 4;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPES_VLAN: [u16; 2] = [0x8100, 0x88a8];

/// Reads the headers of a frame.
#[inline(always)]
pub fn parse(frame: &impl Frame) -> Parsed {
    let Some(mut ethertype) = frame.half(ETHERTYPE_OFFSET) else {
        return Parsed::NotIp;
    };
    let mut offset = ETHERNET_BYTES;
    for _ in 0..MAX_VLAN_TAGS {
        if ethertype != ETHERTYPES_VLAN[0] && ethertype != ETHERTYPES_VLAN[1] {
            break;
        }
        let Some(inner) = frame.half(offset + 2) else {
            return Parsed::NotIp;
        };
        ethertype = inner;
        offset += VLAN_BYTES;
    }
    let packet = match ethertype {
        ETHERTYPE_IPV4 => ipv4(frame, offset),
        ETHERTYPE_IPV6 => ipv6(frame, offset),
        _ => return Parsed::NotIp,
    };
    match packet {
        Some(packet) => Parsed::Ip(packet),
        None => Parsed::Unparsed,
    }
}

#[inline(always)]
fn ipv4(frame: &impl Frame, offset: usize) -> Option<Packet> {
    const FRAGMENT_OFFSET: u16 = 0x1fff;
    let version_and_length = frame.byte(offset)?;
    let words = version_and_length & 0xf;
    if version_and_length >> 4 != 4 || words < 5 {
        return None;
    }
    let protocol = frame.byte(offset + 9)?;
    let transport = if frame.half(offset + 6)? & FRAGMENT_OFFSET != 0 {
        Transport::LaterFragment
    } else {
        transport(
            frame,
            offset + usize::from(words) * 4,
            protocol,
            protocol::ICMP,
        )?
    };
    Some(Packet {
        source: Address::V4(frame.word(offset + 12)?),
        destination: Address::V4(frame.word(offset + 16)?),
        protocol,
        transport,
    })
}

#[inline(always)]
fn ipv6(frame: &impl Frame, offset: usize) -> Option<Packet> {
    const HEADER_BYTES: usize = 40;
    if frame.byte(offset)? >> 4 != 6 {
        return None;
    }
    let source = address6(frame, offset + 8)?;
    let destination = address6(frame, offset + 24)?;
    let (protocol, transport) = upper6(frame, frame.byte(offset + 6)?, offset + HEADER_BYTES)?;
    Some(Packet {
        source,
        destination,
        protocol,
        transport,
    })
}

#[inline(always)]
fn address6(frame: &impl Frame, offset: usize) -> Option<Address> {
    Some(Address::V6([
        frame.word(offset)?,
        frame.word(offset + 4)?,
        frame.word(offset + 8)?,
        frame.word(offset + 12)?,
    ]))
}

/// Walks the extension headers, up to the protocol that is above IP.
#[inline(always)]
fn upper6(frame: &impl Frame, first: u8, offset: usize) -> Option<(u8, Transport)> {
    const FRAGMENT_OFFSET: u16 = 0xfff8;
    let mut header = first;
    let mut offset = offset;
    for _ in 0..MAX_EXTENSION_HEADERS {
        if !is_extension(header) {
            return Some((header, transport(frame, offset, header, protocol::ICMP_V6)?));
        }
        // One read of both: the verifier learns nothing from asking for a single byte at an
        // offset that it does not know.
        let [next, length] = frame.half(offset)?.to_be_bytes();
        let length = usize::from(length);
        let bytes = match header {
            protocol::FRAGMENT => {
                if frame.half(offset + 2)? & FRAGMENT_OFFSET != 0 {
                    return Some((next, Transport::LaterFragment));
                }
                8
            }
            protocol::AUTHENTICATION => (length + 2) * 4,
            _ => (length + 1) * 8,
        };
        header = next;
        offset += bytes;
    }
    None
}

#[inline(always)]
const fn is_extension(header: u8) -> bool {
    matches!(
        header,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
    )
}

/// `icmp` is the number of the address family's own ICMP; the other one is no ICMP here.
#[inline(always)]
fn transport(frame: &impl Frame, offset: usize, protocol: u8, icmp: u8) -> Option<Transport> {
    Some(match protocol {
        protocol::TCP | protocol::UDP => Transport::Ports {
            source: frame.half(offset)?,
            destination: frame.half(offset + 2)?,
        },
        other if other == icmp => Transport::Icmp {
            kind: frame.half(offset)?.to_be_bytes()[0],
        },
        _ => Transport::Other,
    })
}
