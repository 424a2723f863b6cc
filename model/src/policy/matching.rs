//! Which packets a limit applies to.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::prefix::Prefix;

/// Which packets a limit applies to. Empty lists match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Match {
    /// Destination prefixes.
    pub to: Vec<Prefix>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Destination ports; only with TCP or UDP, or with both where a limit counts new connections
    /// of both.
    pub ports: Vec<PortRange>,
    /// Source prefixes.
    pub from: Vec<Prefix>,
    /// Flags of the TCP header; only with TCP.
    pub tcp_flags: TcpFlags,
    /// Which part of a packet that was cut up.
    pub fragments: Fragments,
}

/// The transport protocol that a limit applies to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Every packet.
    #[default]
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP for IPv4 destinations, ICMPv6 for IPv6 ones.
    Icmp,
}

/// Ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port, at least `first`.
    pub last: u16,
}

/// Flags that must be set, and flags that must be clear, in byte 13 of a TCP header (RFC 9293,
/// section 3.1; RFC 3168, section 6.1). The default matches every segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TcpFlags {
    /// The flags that are looked at.
    pub mask: u8,
    /// Those of them that must be set; the others must be clear. No bit outside `mask`.
    pub value: u8,
}

impl TcpFlags {
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Acknowledges; on every segment but the first of a connection.
    pub const ACK: u8 = 0x10;
    /// Every flag and its bit, lowest first.
    pub const NAMES: [(&'static str, u8); 8] = [
        ("fin", 0x01),
        ("syn", Self::SYN),
        ("rst", 0x04),
        ("psh", 0x08),
        ("ack", Self::ACK),
        ("urg", 0x20),
        ("ece", 0x40),
        ("cwr", 0x80),
    ];

    /// Whether a segment with these flags matches.
    #[must_use]
    pub const fn matches(self, flags: u8) -> bool {
        flags & self.mask == self.value
    }
}

/// Whether a limit looks at fragments alone.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Fragments {
    /// Fragments and whole packets alike.
    #[default]
    Any,
    /// Fragments of IP packets: the first and all later ones.
    Only,
}
