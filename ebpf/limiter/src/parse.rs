//! Headers: Ethernet, VLAN tags, IPv4, IPv6, and the ports behind them.
//!
//! Every loop has a bound, and every byte is asked for; what ends too early or goes on for too
//! long is not taken for a packet. Sources: IEEE 802.1Q, RFC 791, RFC 8200, RFC 4302 (the
//! authentication header counts its length in another unit), RFC 9293, RFC 9000 and 9369 (QUIC).

use crate::packet::{Address, Family, Packet, Transport, protocol};

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
    /// IP whose headers end too early or contradict themselves.
    Malformed,
    /// IPv6 with more extension headers than are looked at.
    TooManyHeaders,
    /// A packet.
    Ip,
}

/// Most VLAN tags before the network header: 802.1ad's two.
const MAX_VLAN_TAGS: usize = 2;
/// Most extension headers of IPv6. RFC 8200 lists six that may each occur once, one of them twice.
const MAX_EXTENSION_HEADERS: usize = 8;
/// What the verifier is told about offsets; it takes none of 16 bits.
const MAX_OFFSET: u16 = 0x7fff;
/// The longest header has a length of 255, in units of eight bytes behind the first.
const MAX_EXTENSION_HEADER_BYTES: usize = 256 * 8;

const ETHERTYPE_OFFSET: usize = 12;
const ETHERNET_BYTES: usize = 14;
const VLAN_BYTES: usize = 4;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPES_VLAN: [u16; 2] = [0x8100, 0x88a8];

/// Reads the headers of a frame into `packet`, which means something if it is [`Parsed::Ip`].
#[inline(always)]
pub fn parse(frame: &impl Frame, packet: &mut Packet) -> Parsed {
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
    *packet = Packet {
        bytes: frame.length(),
        ..Packet::NONE
    };
    let above = match ethertype {
        ETHERTYPE_IPV4 => ipv4(frame, offset, packet),
        ETHERTYPE_IPV6 => ipv6(frame, offset, packet),
        _ => return Parsed::NotIp,
    };
    let read = match above {
        Some(Above::Header { protocol, offset }) => upper(frame, offset, protocol, packet),
        Some(Above::Nothing) => Some(()),
        Some(Above::TooManyHeaders) => return Parsed::TooManyHeaders,
        None => None,
    };
    match read {
        Some(()) => Parsed::Ip,
        None => Parsed::Malformed,
    }
}

/// What is above IP.
enum Above {
    /// A header.
    Header { protocol: u8, offset: usize },
    /// Nothing that could be read: it is in another fragment.
    Nothing,
    /// There is no end.
    TooManyHeaders,
}

/// `None` if it is malformed, here and below.
#[inline(always)]
fn ipv4(frame: &impl Frame, offset: usize, packet: &mut Packet) -> Option<Above> {
    const FRAGMENT_OFFSET: u16 = 0x1fff;
    const MORE_FRAGMENTS: u16 = 0x2000;
    let version_and_length = frame.byte(offset)?;
    let words = version_and_length & 0xf;
    if version_and_length >> 4 != 4 || words < 5 {
        return None;
    }
    // The last of the words first: what is there when it is needs no other answer.
    packet.destination = Address::v4(frame.word(offset + 16)?);
    packet.source = Address::v4(frame.word(offset + 12)?);
    let protocol = frame.byte(offset + 9)?;
    packet.protocol = protocol;
    let fragment = frame.half(offset + 6)?;
    packet.is_fragment = fragment & (FRAGMENT_OFFSET | MORE_FRAGMENTS) != 0;
    if fragment & FRAGMENT_OFFSET != 0 {
        packet.transport = Transport::LaterFragment;
        return Some(Above::Nothing);
    }
    Some(Above::Header {
        protocol,
        offset: offset + usize::from(words) * 4,
    })
}

#[inline(always)]
fn ipv6(frame: &impl Frame, offset: usize, packet: &mut Packet) -> Option<Above> {
    const HEADER_BYTES: usize = 40;
    if frame.byte(offset)? >> 4 != 6 {
        return None;
    }
    packet.destination = address6(frame, offset + 24)?;
    packet.source = address6(frame, offset + 8)?;
    walk(
        frame,
        frame.byte(offset + 6)?,
        offset + HEADER_BYTES,
        packet,
    )
}

#[inline(always)]
fn address6(frame: &impl Frame, offset: usize) -> Option<Address> {
    Some(Address::v6([
        frame.word(offset)?,
        frame.word(offset + 4)?,
        frame.word(offset + 8)?,
        frame.word(offset + 12)?,
    ]))
}

/// Walks the extension headers of IPv6, up to the protocol that is above IP. An atomic fragment
/// (RFC 6946) is none.
#[inline(always)]
fn walk(frame: &impl Frame, first: u8, offset: usize, packet: &mut Packet) -> Option<Above> {
    const FRAGMENT_OFFSET: u16 = 0xfff8;
    const MORE_FRAGMENTS: u16 = 1;
    let mut header = first;
    let mut offset = offset;
    for _ in 0..=MAX_EXTENSION_HEADERS {
        packet.protocol = header;
        if !protocol::is_extension(header) {
            return Some(Above::Header {
                protocol: header,
                offset,
            });
        }
        // One read of both: the verifier learns nothing from asking for a single byte at an
        // offset that it does not know.
        let [next, length] = frame.half(offset)?.to_be_bytes();
        let length = usize::from(length);
        let bytes = match header {
            protocol::FRAGMENT => {
                let fragment = frame.half(offset + 2)?;
                if fragment & (FRAGMENT_OFFSET | MORE_FRAGMENTS) != 0 {
                    packet.is_fragment = true;
                }
                if fragment & FRAGMENT_OFFSET != 0 {
                    packet.protocol = next;
                    packet.transport = Transport::LaterFragment;
                    return Some(Above::Nothing);
                }
                8
            }
            protocol::AUTHENTICATION => (length + 2) * 4,
            _ => (length + 1) * 8,
        };
        header = next;
        offset = through_memory(&mut packet.header_offset, offset + bytes);
    }
    Some(Above::TooManyHeaders)
}

/// The same number, of which the verifier knows no more than that it has 15 bits. Otherwise it
/// would follow each order of extension headers by itself.
#[inline(always)]
fn through_memory(place: &mut u16, number: usize) -> usize {
    *place = number as u16;
    // SAFETY: a reference is valid, and what it refers to has just been written.
    usize::from(unsafe { core::ptr::read_volatile(place) } & MAX_OFFSET)
}

/// Reads the header above IP; `None` if it ends too early.
#[inline(always)]
fn upper(frame: &impl Frame, offset: usize, protocol: u8, packet: &mut Packet) -> Option<()> {
    const TCP_FLAGS: usize = 12;
    const UDP_BYTES: usize = 8;
    // The other family's ICMP is no ICMP here.
    let icmp = match packet.source.family {
        Family::V4 => protocol::ICMP,
        Family::V6 => protocol::ICMP_V6,
    };
    if protocol == protocol::TCP || protocol == protocol::UDP {
        packet.transport = Transport::Ports;
        packet.source_port = frame.half(offset)?;
        packet.destination_port = frame.half(offset + 2)?;
        if protocol == protocol::TCP {
            // Data offset and flags in one read; a first fragment too short for it (RFC 1858) is
            // malformed.
            packet.tcp_flags = frame.half(offset + TCP_FLAGS)?.to_be_bytes()[1];
        } else {
            packet.is_quic_initial = is_quic_initial(frame, offset + UDP_BYTES);
        }
    } else if protocol == icmp {
        packet.transport = Transport::Icmp;
        packet.icmp_type = frame.half(offset)?.to_be_bytes()[0];
    }
    Some(())
}

/// Whether a payload begins like QUIC's Initial packet, version 1 or 2: the long header's two
/// highest bits, the type, then the version.
#[inline(always)]
fn is_quic_initial(frame: &impl Frame, offset: usize) -> bool {
    const INITIAL_V1: u16 = 0xc000;
    const INITIAL_V2: u16 = 0xd06b;
    // The first byte's lower bits are protected; the version's last byte is the third half's first.
    let Some(first) = frame.half(offset) else {
        return false;
    };
    let (second, last) = match first & 0xf0ff {
        INITIAL_V1 => (0, 0x01),
        INITIAL_V2 => (0x3343, 0xcf),
        _ => return false,
    };
    if frame.half(offset + 2) != Some(second) {
        return false;
    }
    match frame.half(offset + 4) {
        Some(third) => third >> 8 == last,
        None => false,
    }
}

const _: () = assert!(
    ETHERNET_BYTES
        + MAX_VLAN_TAGS * VLAN_BYTES
        + 40
        + (MAX_EXTENSION_HEADERS + 1) * MAX_EXTENSION_HEADER_BYTES
        <= MAX_OFFSET as usize
);
