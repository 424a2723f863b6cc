//! What the decision needs to know of a packet.

/// An address as it lies in the packet: words in memory order, so that it can be copied into a
/// map key without turning a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// IPv4.
    V4(u32),
    /// IPv6.
    V6([u32; 4]),
}

/// What is above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP or UDP ports, in host byte order.
    Ports {
        /// The sender's.
        source: u16,
        /// The receiver's.
        destination: u16,
    },
    /// ICMP or ICMPv6, and the message's type.
    Icmp {
        /// The type.
        kind: u8,
    },
    /// A fragment but the first: it has no ports of its own, so it counts for every port.
    LaterFragment,
    /// Another protocol.
    Other,
}

/// An IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sent it, or claims to have.
    pub source: Address,
    /// Where it goes.
    pub destination: Address,
    /// The IANA protocol number, behind any extension headers.
    pub protocol: u8,
    /// What is above.
    pub transport: Transport,
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
}
