//! One limit: how much, of what, with which promise.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::Match;
use crate::{
    amount::{Amount, Scale, Units},
    identity::{LimitId, Revision},
};

/// One `[[limit]]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limit {
    /// Unique, `[a-z0-9-]{1,63}`.
    pub name: String,
    /// [`LimitId::of`] the name.
    pub id: LimitId,
    /// Changes when `cost`, `scale`, `promise`, `per`, `overhead_bytes` or `quic` do.
    pub revision: Revision,
    /// Which packets it applies to.
    pub matches: Match,
    /// For a keyed limit: what its keys are. Without, one bucket takes everything that matches.
    pub per: Option<Key>,
    /// What a packet costs.
    pub cost: Cost,
    /// Bytes that a frame counts beyond its length without check sequence, 0 to
    /// [`Limit::MOST_OVERHEAD_BYTES`]; 24 is what Ethernet adds on the wire: preamble, check
    /// sequence and gap. Zero unless `cost` is [`Cost::Bits`].
    pub overhead_bytes: u32,
    /// Whether a QUIC Initial packet costs a connection too. False unless `cost` is
    /// [`Cost::Connections`].
    pub quic: bool,
    /// The units of all amounts below.
    pub scale: Scale,
    /// What the whole fleet may admit; for [`Promise::Local`], what each host may. For a keyed
    /// limit, the same for each key. The burst of an elastic aggregate limit includes its
    /// [excess](Limit::lent_burst).
    pub budget: Amount,
    /// What each member may always spend, with no grant at all.
    ///
    /// Of a limit that [is leased](Limit::is_leased) its burst is at least `smallest_burst`, or it
    /// is [`Amount::ZERO`]: if the limit moves whole, or is [`OnExpiry::Closed`]. Of a local limit
    /// it is the budget, and of a keyed one what a key may spend on one host. A frame that costs
    /// more than the burst in effect is always dropped.
    pub floor: Amount,
    /// The cost of the largest frame that a burst has to admit, [`Cost::of_largest_packet`]: no
    /// burst is smaller.
    pub smallest_burst: Units,
    /// Whether the budget can be divided between hosts. One whose burst is too small for a packet
    /// on every host is leased whole to a single host instead. False unless the limit
    /// [is leased](Limit::is_leased).
    pub is_divisible: bool,
    /// What is promised about the sum over the fleet.
    pub promise: Promise,
    /// How far [`Promise::Elastic`] may go above the budget; `None` with other promises.
    pub excess: Option<PartsPerMillion>,
    /// What holds on a host without a lease; [`OnExpiry::Floor`] unless the limit
    /// [is leased](Limit::is_leased).
    pub on_expiry: OnExpiry,
    /// Whether it drops.
    pub mode: Mode,
}

impl Limit {
    /// Most bytes that a frame may count beyond its length.
    pub const MOST_OVERHEAD_BYTES: u32 = 256;

    /// Whether the leader leases it to hosts: an aggregate limit, strict or elastic. The protocol
    /// between nodes knows no others but [hot keys](crate::hot).
    #[must_use]
    pub fn is_leased(&self) -> bool {
        self.promise != Promise::Local && self.per.is_none()
    }

    /// The part of an elastic aggregate limit's burst that is above what its author allowed: the
    /// excess of one second's rate, in whole tokens. Nothing of other limits.
    #[must_use]
    pub fn lent_burst(&self) -> Units {
        let Some(excess) = self.excess.filter(|_| self.per.is_none()) else {
            return Units(0);
        };
        let tokens = excess.of(self.budget.rate.0 >> self.scale.fraction_bits);
        self.scale.units(tokens).unwrap_or(Units::MAX)
    }

    /// What one key may spend on one host, for a keyed limit: all of the budget with
    /// [`Promise::Elastic`] and [`Promise::Local`]; with [`Promise::Strict`] its part of half of
    /// the budget, or all of it in a fleet of one.
    #[must_use]
    pub fn key_amount(&self) -> Option<Amount> {
        self.per.is_some().then_some(self.floor)
    }
}

/// What the keys of a keyed limit are: source prefixes of these lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Leading bits of an IPv4 source address, 1 to 32.
    pub source_v4: u8,
    /// Leading bits of an IPv6 source address, 1 to 128.
    pub source_v6: u8,
}

impl Default for Key {
    /// An IPv4 address; an IPv6 network, in which one host has as many addresses as it likes.
    fn default() -> Self {
        Self {
            source_v4: 32,
            source_v6: 64,
        }
    }
}

/// What a packet costs, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cost {
    /// One token a packet.
    Packets,
    /// One token a bit of the frame, without its check sequence.
    Bits,
    /// One token a packet that opens a connection: a TCP segment with SYN and without ACK, and if
    /// the limit says so a QUIC Initial packet. The limit applies to no other packet.
    Connections,
}

impl Cost {
    /// The largest frame whose cost a burst has to cover, in bytes, without check sequence. Larger
    /// frames pass while the burst in effect covers them, and never where it does not.
    pub const LARGEST_FRAME_BYTES: u64 = 1_518;
    /// A jumbo frame of 9,000 bytes of payload with a VLAN tag, in bytes, without check sequence.
    pub const JUMBO_FRAME_BYTES: u64 = 9_018;

    /// The cost of a frame of [`Cost::LARGEST_FRAME_BYTES`], in tokens.
    #[must_use]
    pub const fn of_largest_packet(self, overhead_bytes: u32) -> u64 {
        self.of_frame(Self::LARGEST_FRAME_BYTES, overhead_bytes)
    }

    /// The cost of a frame of this length without check sequence, in tokens.
    #[must_use]
    pub const fn of_frame(self, bytes: u64, overhead_bytes: u32) -> u64 {
        match self {
            Self::Packets | Self::Connections => 1,
            Self::Bits => (bytes + overhead_bytes as u64) * 8,
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
    /// Above the budget by a declared excess at most. Of an aggregate limit that is a part of one
    /// second's rate, over any window, which is paid back. Of a key it is a part of the rate, and
    /// each host has the whole rate for it until its keys are merged over the fleet.
    Elastic,
    /// Each host alone, without coordination.
    Local,
}

/// A part of a whole, in millionths: at most 1,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartsPerMillion(pub u32);

impl PartsPerMillion {
    /// This part of `whole`, rounded down.
    #[must_use]
    pub fn of(self, whole: u64) -> u64 {
        let part = u128::from(whole) * u128::from(self.0) / 1_000_000;
        // At most `whole`, as the part is at most one.
        u64::try_from(part).unwrap_or(whole)
    }
}

/// What holds on a host whose lease has ended.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum OnExpiry {
    /// It admits its floor.
    #[default]
    Floor,
    /// It admits nothing, and nothing is reserved for it.
    Closed,
    /// It admits everything: a broken promise while it lasts.
    Open,
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
