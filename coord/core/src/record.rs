//! What is kept in ZooKeeper, as domain types. The shell stores each as one JSON document.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use serde::{Deserialize, Serialize};
pub use weir_model::register::{EnvelopeRecord, LimitEnvelope, NodeEnvelope, RegisterUpdate};
use weir_model::{Amount, Limit, LimitId, NodeId, PolicyVersion, Scale, Term};

/// `term`: the fence. Only ever changed by a conditional write, and its number only grows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TermRecord {
    /// The term in force; 0 before the first leader.
    pub term: Term,
    /// Who leads it; `None` before the first leader.
    pub leader: Option<NodeId>,
    /// Where the leader's gRPC service is reached, `host:port`.
    pub address: String,
    /// Whose acknowledgements commit; the ZooKeeper commit back-end asks none.
    pub voters: Vec<NodeId>,
    /// Every other voter set since the last term that committed anything: each may have a majority
    /// that knows of leases which no other set knows of.
    #[serde(default)]
    pub former: Vec<Vec<NodeId>>,
    /// The roster's child version that the voters were chosen from.
    pub roster_version: i32,
    /// The longest lease that any leader so far may have granted. A voter that starts abstains for
    /// W of it at least: what it has forgotten may be a lease of another length than its own.
    #[serde(default)]
    pub lease: Duration,
    /// Whether a leader since the last term that committed anything may have committed by votes.
    /// Then the next one needs promises, whatever it commits by itself: they are what fences a
    /// leader that asks voters, and only voters know what it granted.
    #[serde(default = "yes")]
    pub is_voted: bool,
}

/// What a record says of which nothing is known: the safe side.
const fn yes() -> bool {
    true
}

/// Who is about to take over, and how it will lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub node: NodeId,
    /// Where its gRPC service is reached, `host:port`.
    pub address: String,
    /// How long its leases will be.
    pub lease: Duration,
    /// Whether it will commit by votes.
    pub is_voted: bool,
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

/// `policy/current`, as far as leaders go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PolicyRecord {
    /// The version in force; 0 is none.
    pub version: PolicyVersion,
    /// How many members there is room for in each policy that a member may go by and that has strict
    /// keys; `u32::MAX` if there is none. `None` if whoever wrote the record did not say.
    pub places: Option<u32>,
}

impl PolicyRecord {
    /// Of a fleet whose record cannot be read: there may be room for nobody.
    pub const UNKNOWN: Self = Self {
        version: PolicyVersion(0),
        places: Some(0),
    };

    /// Of a version, when nobody goes by any other.
    #[must_use]
    pub const fn settled(version: PolicyVersion) -> Self {
        Self {
            version,
            places: Some(u32::MAX),
        }
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
        lease: Duration::ZERO,
        is_voted: false,
    };

    /// The record that `candidate` writes to take over from this one. Its number is above this one's
    /// and `at_least`, the highest that anybody was heard to have promised (rule 1, *fence*).
    ///
    /// Rule 6, *take-over*: the voter sets of terms that may never have committed anything stay in
    /// the record. Without them a take-over that dies half-way hides the voters before it, and the
    /// next one asks only voters that know nothing.
    #[must_use]
    pub fn successor(
        &self,
        candidate: Candidate,
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
            leader: Some(candidate.node),
            address: candidate.address,
            voters,
            former,
            roster_version,
            lease: self.lease.max(candidate.lease),
            is_voted: self.is_voted || candidate.is_voted,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(lease_s: u64, is_voted: bool) -> Candidate {
        Candidate {
            node: NodeId::from_u128(1),
            address: String::new(),
            lease: Duration::from_secs(lease_s),
            is_voted,
        }
    }

    #[test]
    fn the_longest_lease_and_the_need_of_promises_outlive_a_leader() {
        let voters = Vec::from([NodeId::from_u128(1)]);
        let begun = TermRecord::VACANT;
        let voted = begun.successor(candidate(60, true), Term(0), voters.clone(), 0);
        let written = voted.successor(candidate(2, false), Term(0), voters.clone(), 0);
        assert_eq!(written.lease, Duration::from_secs(60));
        assert!(written.is_voted, "until its own term has committed");
        let never = begun.successor(candidate(2, false), Term(0), voters, 0);
        assert!(!never.is_voted, "nobody ever asked a voter");
    }
}
