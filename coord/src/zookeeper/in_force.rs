//! `policy/current`: which version is in force, which was before, and which is to come.

use serde::{Deserialize, Serialize};
use weir_coord_core::record::PolicyRecord;
use weir_model::PolicyVersion;

use super::link::parse;

/// What is in force, and what was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// The version in force; 0 is none.
    pub version: PolicyVersion,
    /// The one that was in force before; 0 is none.
    pub before: PolicyVersion,
    /// One that is to come into force as soon as nodes have it ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
    /// For how many members each policy has [room](PolicyRecord::places) that one may go by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub places: Option<u32>,
}

/// A version that is to come into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// Its number.
    pub version: PolicyVersion,
    /// It goes back by itself unless it is confirmed within this time after it came into force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_within_ms: Option<u64>,
}

impl InForce {
    /// What `policy/current` holds.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn parse(data: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Stored {
            /// Before the first change, or written by hand.
            Version(PolicyVersion),
            Both(InForce),
        }
        Ok(match parse(data)? {
            Stored::Version(version) => Self {
                version,
                before: PolicyVersion(0),
                next: None,
                places: None,
            },
            Stored::Both(in_force) => in_force,
        })
    }

    /// What a leader goes by.
    pub(super) const fn record(self) -> PolicyRecord {
        PolicyRecord {
            version: self.version,
            places: self.places,
        }
    }
}
