//! What the decision needs to know of a packet.
//!
//! Flat structures, in which every byte has a meaning: they are written to memory that the kernel's
//! verifier watches, and it does not let what happens to lie in an unused variant get there.

/// Which kind of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Family {
    /// IPv4.
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

/// An address as it lies in the packet: words in memory order, so that it can be copied into a
/// map key without turning a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Address {
    /// Which kind.
    pub family: Family,
    /// The words; those behind the first are zero for IPv4.
    pub words: [u32; 4],
}

impl Address {
    /// An IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn v4(word: u32) -> Self {
        Self {
            family: Family::V4,
            words: [word, 0, 0, 0],
        }
    }

    /// An IPv6 address.
    #[inline(always)]
    #[must_use]
    pub const fn v6(words: [u32; 4]) -> Self {
        Self {
            family: Family::V6,
            words,
        }
    }
}

/// What is above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Transport {
    /// Another protocol.
    Other,
    /// TCP or UDP: there are ports.
    Ports,
    /// ICMP or ICMPv6: there is a type.
    Icmp,
    /// A fragment but the first: it has no ports or flags of its own, so it counts for all of them.
    LaterFragment,
}

/// An IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Packet {
    /// Bytes of the whole frame, without check sequence.
    pub bytes: u32,
    /// Who sent it, or claims to have.
    pub source: Address,
    /// Where it goes.
    pub destination: Address,
    /// The sender's TCP or UDP port, in host byte order.
    pub source_port: u16,
    /// The receiver's.
    pub destination_port: u16,
    /// What is above.
    pub transport: Transport,
    /// The IANA protocol number, behind any extension headers.
    pub protocol: u8,
    /// The type of an ICMP or ICMPv6 message.
    pub icmp_type: u8,
    /// TCP's flags, from FIN in the lowest bit to CWR; 0 for anything else.
    pub tcp_flags: u8,
    /// Where the parser is; of no meaning afterwards.
    pub(crate) header_offset: u16,
    /// Whether it is a part of a larger packet, first or later.
    pub is_fragment: bool,
    /// Whether it is UDP and looks like the first packet of a QUIC connection.
    pub is_quic_initial: bool,
}

impl Packet {
    /// What there is before a frame has been read.
    pub const NONE: Self = Self {
        bytes: 0,
        source: Address::v4(0),
        destination: Address::v4(0),
        source_port: 0,
        destination_port: 0,
        transport: Transport::Other,
        protocol: 0,
        icmp_type: 0,
        tcp_flags: 0,
        header_offset: 0,
        is_fragment: false,
        is_quic_initial: false,
    };
}

/// Bits of [`Packet::tcp_flags`] that matter here (RFC 9293).
pub(crate) mod flag {
    pub(crate) const SYN: u8 = 1 << 1;
    pub(crate) const ACK: u8 = 1 << 4;
}

/// IANA protocol numbers that matter here.
pub(crate) mod protocol {
    pub(crate) const HOP_BY_HOP: u8 = 0;
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const AUTHENTICATION: u8 = 51;
    pub(crate) const ICMP_V6: u8 = 58;
    pub(crate) const DESTINATION_OPTIONS: u8 = 60;
    pub(crate) const MOBILITY: u8 = 135;

    /// Whether it is one of the extension headers of IPv6 that are looked behind.
    #[inline(always)]
    pub(crate) const fn is_extension(header: u8) -> bool {
        matches!(
            header,
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS | MOBILITY
        )
    }
}
