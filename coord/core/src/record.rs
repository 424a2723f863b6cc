//! What is kept in ZooKeeper, as domain types. The shell stores each as one JSON document.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};
pub use weir_model::register::{EnvelopeRecord, LimitEnvelope, NodeEnvelope, RegisterUpdate};
use weir_model::{Amount, Limit, LimitId, NodeId, Scale, Term};

/// `term`: the fence. Only ever changed by a conditional write, and its number only grows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TermRecord {
    /// The term in force; 0 before the first leader.
    pub term: Term,
    /// Who leads it; `None` before the first leader.
    pub leader: Option<NodeId>,
    /// Where the leader's gRPC service is reached, `host:port`.
    pub address: String,
    /// Whose acknowledgements commit. Unused by the ZooKeeper commit back-end.
    pub voters: Vec<NodeId>,
    /// Every other voter set since the last term that committed anything: each may have a majority
    /// that knows of leases which no other set knows of.
    #[serde(default)]
    pub former: Vec<Vec<NodeId>>,
    /// The roster's child version that the voters were chosen from.
    pub roster_version: i32,
}

/// `roster/<uuid>`: a member, whose floors are reserved until it is removed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Who.
    pub node: NodeId,
    /// What people call it.
    pub name: String,
    /// Its weight in a max-min division, at least 1.
    pub weight: u32,
    /// The floors that are reserved for it, at most one a limit. What it may spend without a lease
    /// has to last longer than any voter's memory, so it is written here before it may be spent.
    #[serde(default)]
    pub floors: Vec<ReservedFloor>,
    /// It is to take no share, and keeps its floors only.
    #[serde(default)]
    pub is_drained: bool,
    /// The operator's word that it has no power, and will have none before it is removed. Whoever
    /// leads removes it without asking it, and does without its vote. Only ever set by operators;
    /// who writes the record for another reason keeps it.
    #[serde(default)]
    pub is_powered_off: bool,
}

/// A floor in a [`MemberRecord`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReservedFloor {
    /// Of which limit.
    pub limit: LimitId,
    /// The units of `amount`.
    pub scale: Scale,
    /// How much.
    pub amount: Amount,
}

impl MemberRecord {
    /// What is reserved of a limit, in its units, rounded down; nothing if it is not mentioned.
    #[must_use]
    pub fn floor(&self, limit: &Limit) -> Amount {
        self.floors
            .iter()
            .find(|floor| floor.limit == limit.id)
            .map_or(Amount::ZERO, |floor| {
                floor.amount.rescaled_down(floor.scale, limit.scale)
            })
    }
}

/// `live/<uuid>`: a hint that a daemon is running, never a proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRecord {
    /// Who.
    pub node: NodeId,
    /// What people call it.
    pub name: String,
    /// Where its gRPC service is reached, `host:port`.
    pub address: String,
    /// The daemon's version.
    pub version: String,
    /// Its weight in a max-min division, at least 1.
    pub weight: u32,
    /// The kernel's boot id: pinned maps survive the daemon, not the boot.
    pub boot_id: String,
}

/// Most voter sets in [`TermRecord::former`]. At the bound a new leader keeps the voters of the
/// last one, which adds no set.
pub const FORMER_MAX: usize = 15;

impl TermRecord {
    /// What is in `term` before the first leader.
    pub const VACANT: Self = Self {
        term: Term(0),
        leader: None,
        address: String::new(),
        voters: Vec::new(),
        former: Vec::new(),
        roster_version: 0,
    };

    /// The record that `leader` writes to take over from this one. Its number is above this one's
    /// and `at_least`, the highest that anybody was heard to have promised (rule 1, *fence*).
    ///
    /// Rule 6, *take-over*: the voter sets of terms that may never have committed anything stay in
    /// the record. Without them a take-over that dies half-way hides the voters before it, and the
    /// next one asks only voters that know nothing.
    #[must_use]
    pub fn successor(
        &self,
        leader: NodeId,
        address: String,
        at_least: Term,
        mut voters: Vec<NodeId>,
        roster_version: i32,
    ) -> Self {
        voters.sort_unstable();
        voters.dedup();
        let is_full = self.former.len() >= FORMER_MAX && !self.former.contains(&self.voters);
        if is_full && !self.voters.is_empty() {
            voters = self.voters.clone();
        }
        let mut former = self.former.clone();
        if !self.voters.is_empty() && !former.contains(&self.voters) {
            former.push(self.voters.clone());
        }
        former.retain(|set| *set != voters);
        Self {
            term: self.term.max(at_least).next(),
            leader: Some(leader),
            address,
            voters,
            former,
            roster_version,
        }
    }

    /// Every voter set that a leader of this term needs promises from.
    #[must_use]
    pub fn voter_sets(&self) -> Vec<Vec<NodeId>> {
        let mut sets = self.former.clone();
        sets.push(self.voters.clone());
        sets
    }
}
