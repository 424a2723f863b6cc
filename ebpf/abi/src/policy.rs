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
    /// The limits' slots, those of keyed limits first. A rule lies at the [`maps::sided`] slot in
    /// [`maps::RULES`].
    pub slots: [u32; maps::RULES_PER_SERVICE],
}

// SAFETY: u32 throughout.
unsafe impl Plain for Service {}

/// What a limit matches and costs, in one policy.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Which limit, so that a restart finds it; 0 if this policy does not use the slot.
    pub limit: u64,
    /// 1 + the number of the source set that the packet's source must be in; 0 for any source.
    pub source_set: u16,
    /// How many of the limit's keys have a leased bucket of their own, in [`maps::HOT`]: nobody
    /// looks there while it is 0. User space changes it while packets read it.
    pub hot_keys: u16,
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
    /// Non-zero if each source prefix has a bucket of its own, in [`maps::KEYS`].
    pub keyed: u8,
    /// An [`OnExpiry`].
    pub on_expiry: u8,
    /// Which of TCP's flags matter, and what they must be.
    pub tcp_flags: [u8; 2],
    /// Non-zero if the limit applies to fragments only.
    pub fragments_only: u8,
    /// Non-zero if a QUIC Initial packet opens a connection too.
    pub quic: u8,
    /// See `key_interval`.
    pub key_shift: u8,
    /// How many of `ports` are used; 0 for any port.
    pub port_ranges: u8,
    /// Which bits of an IPv4 source are the key; in memory order.
    pub key_mask4: u32,
    /// What hashes of this limit's keys begin with.
    pub key_seed: u64,
    /// Nanoseconds between two tokens of a key, times 2^`key_shift`; rounded up.
    pub key_interval: u64,
    /// How far a key may be ahead of the clock, in nanoseconds.
    pub key_burst_ns: u64,
    /// Which bits of an IPv6 source are the key; in memory order.
    pub key_mask6: [u32; 4],
    /// Destination ports.
    pub ports: [PortRange; maps::PORT_RANGES_PER_RULE],
    /// Non-zero if a key with a leased bucket is judged by that one alone; otherwise by the one in
    /// [`maps::KEYS`] too, if the leased one is spent.
    pub hot_alone: u32,
    /// Zero.
    pub reserved: [u32; 5],
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
    /// One token a packet that opens a connection; the limit applies to no other packet.
    Connections = 2,
}

/// The values of [`Rule::on_expiry`]: what a limit does once its grant has ended.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExpiry {
    /// It goes on with the floor.
    Floor = 0,
    /// It drops everything.
    Closed = 1,
    /// It passes everything.
    Open = 2,
}

/// Which policy a side holds, and what holds for all of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyRecord {
    /// The version of the limits document; 0 for none.
    pub version: u64,
    /// Where services of IPv4 and IPv6 destinations are: [`Self::SEARCH`], or 1 + the number of
    /// the one service that all destinations have, or 0 if none has one.
    pub services: [u32; 2],
    /// Non-zero if IP packets that cannot be parsed pass.
    pub unparsed_passes: u32,
    /// Zero.
    pub reserved: u32,
}

impl PolicyRecord {
    /// Services differ by destination, so look in the trie.
    pub const SEARCH: u32 = u32::MAX;
}

// SAFETY: integers that fill the size.
unsafe impl Plain for PolicyRecord {}

const _: () = {
    assert!(size_of::<Service>() == 8 + 4 * maps::RULES_PER_SERVICE);
    assert!(size_of::<Rule>() == 128);
    assert!(maps::HOT_SLOTS <= u16::MAX as usize);
    assert!(core::mem::offset_of!(Rule, ports) == 72);
    assert!(size_of::<PolicyRecord>() == 24);
    assert!(maps::SERVICES_PER_SIDE < PolicyRecord::SEARCH as usize);
};
