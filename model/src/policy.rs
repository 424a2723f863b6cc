//! The policy: every limit of a fleet, checked.
//!
//! A [`Policy`] is what a limits file means after validation; nothing in it can be malformed, so
//! the layers below never have to reject a limit.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    amount::{Amount, Scale, Units},
    identity::{LimitId, Revision},
    prefix::Prefix,
};

/// Most limits that one policy may have.
pub const MAX_LIMITS: usize = 4_096;
/// Most limits that can apply to one destination address.
pub const MAX_RULES_PER_SERVICE: usize = 8;
/// Bounds of `max_members`.
pub const MEMBERS: core::ops::RangeInclusive<u32> = 1..=4_096;

/// Every limit of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What holds for the fleet as a whole.
    pub fleet: FleetSettings,
    /// The limits, in the file's order. Names, and so identities, are unique.
    pub limits: Vec<Limit>,
}

impl Policy {
    /// The limit of this identity.
    #[must_use]
    pub fn limit(&self, id: LimitId) -> Option<&Limit> {
        self.limits.iter().find(|limit| limit.id == id)
    }
}

/// `[fleet]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetSettings {
    /// The number of members that default floors are computed for, within [`MEMBERS`].
    pub max_members: u32,
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self { max_members: 64 }
    }
}

/// One `[[limit]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Unique, `[a-z0-9-]{1,63}`.
    pub name: String,
    /// [`LimitId::of`] the name.
    pub id: LimitId,
    /// Changes when `cost`, `scale` or `promise` do.
    pub revision: Revision,
    /// Which packets it applies to.
    pub matches: Match,
    /// What a packet costs.
    pub cost: Cost,
    /// The units of all amounts below.
    pub scale: Scale,
    /// What the whole fleet may admit; for [`Promise::Local`], what each host may.
    pub budget: Amount,
    /// What each member may always spend, with no grant at all. Its burst is at least
    /// [`Limit::smallest_burst`], or the floor is [`Amount::ZERO`] if the limit moves whole.
    pub floor: Amount,
    /// The cost of the largest packet: a smaller burst could never admit one.
    pub smallest_burst: Units,
    /// What is promised about the sum over the fleet.
    pub promise: Promise,
    /// Whether it drops.
    pub mode: Mode,
}

impl Limit {
    /// Whether the budget can be divided between hosts. One whose burst is too small for a packet
    /// on every host is granted whole to a single host instead.
    #[must_use]
    pub fn is_divisible(&self) -> bool {
        self.floor.burst >= self.smallest_burst
    }
}

/// Which packets a limit applies to. Empty lists match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    /// Destination prefixes.
    pub to: Vec<Prefix>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Destination ports; only with TCP or UDP.
    pub ports: Vec<PortRange>,
    /// Source prefixes.
    pub from: Vec<Prefix>,
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

/// What a packet costs, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cost {
    /// One token a packet.
    Packets,
    /// One token a bit of the frame, without its check sequence.
    Bits,
}

impl Cost {
    /// The largest frame whose cost a burst has to cover, in bytes, without check sequence.
    pub const LARGEST_FRAME_BYTES: u64 = 1_518;

    /// The cost of the largest packet, in tokens.
    #[must_use]
    pub const fn of_largest_packet(self) -> u64 {
        match self {
            Self::Packets => 1,
            Self::Bits => Self::LARGEST_FRAME_BYTES * 8,
        }
    }
}

/// What is promised about the sum over the fleet.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Promise {
    /// Never above the budget.
    #[default]
    Strict,
    /// Each host alone, without coordination.
    Local,
}

/// Whether a limit drops.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It drops what is over.
    #[default]
    Enforce,
    /// It passes everything and counts what it would have dropped.
    Shadow,
}
