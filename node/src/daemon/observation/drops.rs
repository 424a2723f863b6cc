//! The last drops that were sampled.

use std::{collections::VecDeque, net::IpAddr};

use weir_abi::Reason;
use weir_model::{Limit, LimitId, Nanos, Revision, Units};

use crate::dataplane::Sample;

/// Drops that are remembered: of a flood, the last seconds'. The oldest goes.
pub(super) const DROPS_REMEMBERED: usize = 4_096;

/// A ring of drops.
#[derive(Debug, Default)]
pub(super) struct Drops(VecDeque<DroppedPacket>);

/// A packet that was dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DroppedPacket {
    /// When, on `CLOCK_BOOTTIME`.
    pub(crate) at: Nanos,
    /// The limit that dropped it.
    pub(crate) limit: LimitId,
    /// As it was then.
    pub(crate) revision: Revision,
    /// Why.
    pub(crate) reason: Reason,
    /// How far it was over.
    pub(crate) over: Over,
    /// Who sent it, or seemed to.
    pub(crate) source: IpAddr,
    /// Where it went.
    pub(crate) destination: IpAddr,
    /// The IANA protocol number.
    pub(crate) protocol: u8,
    /// Destination port of TCP and UDP; 0 otherwise.
    pub(crate) port: u16,
    /// Bytes of the frame.
    pub(crate) bytes: u32,
    /// Packets for which it stands.
    pub(crate) weight: u32,
}

/// How far a packet was over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Over {
    /// Nothing to be measured: the reason is another.
    Nothing,
    /// The limit's bucket lacked so much, or the leased bucket of the key.
    Units(Units),
    /// The key's bucket would have had enough after so many nanoseconds.
    Time(u64),
}

impl Over {
    /// Tokens that were missing, given what a key may spend on this host, or the limit.
    pub(crate) fn tokens(self, limit: &Limit) -> f64 {
        match self {
            Self::Nothing => 0.0,
            Self::Units(units) => limit.scale.tokens(units),
            Self::Time(nanos) => {
                let rate = limit.key_amount().unwrap_or(limit.budget).rate;
                limit.scale.tokens_per_second(rate) * nanos as f64 / 1e9
            }
        }
    }

    /// Milliseconds until they would have been there, at so many units per second; `None` if never.
    pub(crate) fn wait_ms(self, units_per_second: u64) -> Option<f64> {
        match self {
            Self::Nothing => None,
            Self::Units(_) if units_per_second == 0 => None,
            Self::Units(units) => Some(units.0 as f64 / units_per_second as f64 * 1e3),
            Self::Time(nanos) => Some(nanos as f64 / 1e6),
        }
    }
}

impl Drops {
    /// Remembers a drop of a limit.
    pub(super) fn observe(&mut self, sample: &Sample, limit: &Limit) {
        if self.0.len() == DROPS_REMEMBERED {
            self.0.pop_front();
        }
        let over = match (sample.reason, limit.per) {
            (Reason::OverLimit, None) => Over::Units(Units(sample.over)),
            (Reason::OverLimit, Some(_)) if sample.is_hot => Over::Units(Units(sample.over)),
            (Reason::OverLimit, Some(_)) => Over::Time(sample.over),
            _ => Over::Nothing,
        };
        self.0.push_back(DroppedPacket {
            at: sample.at,
            limit: limit.id,
            revision: limit.revision,
            reason: sample.reason,
            over,
            source: sample.source,
            destination: sample.destination,
            protocol: sample.protocol,
            port: sample.port,
            bytes: sample.bytes,
            weight: sample.weight,
        });
    }

    /// Latest first.
    pub(super) fn latest(&self) -> impl Iterator<Item = &DroppedPacket> {
        self.0.iter().rev()
    }

    /// When the oldest that is remembered was dropped, if others may have been forgotten.
    pub(super) fn since(&self) -> Option<Nanos> {
        let is_full = self.0.len() == DROPS_REMEMBERED;
        is_full.then(|| self.0.front().map(|drop| drop.at))?
    }
}
