//! The policy: every limit of a fleet, checked.
//!
//! A [`Policy`] is what a limits file means after validation; nothing in it can be malformed, so
//! the layers below never have to reject a limit.

mod limit;
mod limits;
mod matching;

use serde::{Deserialize, Serialize};

pub use limit::{Cost, Key, Limit, Mode, OnExpiry, PartsPerMillion, Promise};
pub use limits::Limits;
pub use matching::{Fragments, Match, PortRange, Protocol, TcpFlags};

use crate::identity::LimitId;

/// Most limits that one policy may have.
pub const MAX_LIMITS: usize = 65_536;
/// Most limits that can apply to one destination address.
pub const MAX_RULES_PER_SERVICE: usize = 8;
/// Bounds of `max_members`.
pub const MEMBERS: core::ops::RangeInclusive<u32> = 1..=4_096;

/// Every limit of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Policy {
    /// What holds for the fleet as a whole.
    pub fleet: FleetSettings,
    /// The limits, in the file's order. Names, and so identities, are unique.
    pub limits: Limits,
}

impl Policy {
    /// The limit of this identity, in O(log n).
    #[must_use]
    pub fn limit(&self, id: LimitId) -> Option<&Limit> {
        self.limits.with_id(id)
    }
}

/// `[fleet]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FleetSettings {
    /// The number of members that default floors are computed for, within [`MEMBERS`].
    pub max_members: u32,
    /// What happens to packets that no limit can be looked up for.
    pub unparsed: Unparsed,
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self {
            max_members: 64,
            unparsed: Unparsed::default(),
        }
    }
}

/// The verdict for IP packets whose headers cannot be parsed: truncated, nonsense, or with more
/// extension headers than are walked.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Unparsed {
    /// They are dropped: what cannot be read cannot be limited.
    #[default]
    Drop,
    /// They pass, and bypass every limit.
    Pass,
}
