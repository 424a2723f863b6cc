//! The compiled policy: which limits apply to a packet.
//!
//! There is room for two policies, on side 0 and side 1. The word in [`crate::maps::SIDE`] says
//! which one is in force, and each packet reads it once.

use crate::{Plain, maps};

/// Limits that apply to the addresses of one most specific destination prefix.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// How many of `slots` are used.
    pub count: u32,
    /// Non-zero if one of the rules asks for a source.
    pub asks_source: u32,
    /// The limits' slots. A rule lies at `side · SLOTS + slot` in [`crate::maps::RULES`].
    pub slots: [u32; maps::RULES_PER_SERVICE],
}

// SAFETY: u32 throughout.
unsafe impl Plain for Service {}

/// What a limit matches and costs, in one policy.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Which limit, so that a restart finds it; 0 if this policy does not use the slot.
    pub limit: u64,
    /// 1 + the number of the source set that the packet's source must be in; 0 for any source.
    pub source_set: u32,
    /// Bytes to add to a frame's length where it is what costs.
    pub overhead_bytes: u32,
    /// A [`Protocol`].
    pub protocol: u8,
    /// A [`Cost`].
    pub cost: u8,
    /// A token is 2^this many units.
    pub fraction_bits: u8,
    /// Non-zero if the limit only counts what it would drop.
    pub shadow: u8,
    /// How many of `ports` are used; 0 for any port.
    pub port_ranges: u32,
    /// Destination ports.
    pub ports: [PortRange; maps::PORT_RANGES_PER_RULE],
}

// SAFETY: integers that fill the size, as asserted below.
unsafe impl Plain for Rule {}

/// Ports from `first` to `last`, both included, in host byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// The values of [`Rule::protocol`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Every packet.
    Any = 0,
    /// ICMP in IPv4, ICMPv6 in IPv6.
    Icmp = 1,
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
}

/// The values of [`Rule::cost`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// One token a packet.
    Packets = 0,
    /// One token a bit of the frame, without check sequence, with `overhead_bytes`.
    Bits = 1,
}

/// Which policy a side holds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyRecord {
    /// The version of the limits document; 0 for none.
    pub version: u64,
}

// SAFETY: one u64.
unsafe impl Plain for PolicyRecord {}

const _: () = {
    assert!(size_of::<Service>() == 8 + 4 * maps::RULES_PER_SERVICE);
    assert!(size_of::<Rule>() == 24 + 4 * maps::PORT_RANGES_PER_RULE);
    assert!(core::mem::offset_of!(Rule, ports) == 24);
};
