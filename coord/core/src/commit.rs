//! When a proposal is committed: the seam between the protocol and what makes its decisions last.
//!
//! # Rule 4, *quorum*
//!
//! A commit lets nodes grow and renew their leases, so a leader that has been replaced must not be
//! able to make one. A back-end decides what proves that:
//!
//! - [`QuorumCommit`]: a majority of voters holds the register of the proposal, none of which has
//!   promised a newer term. Voters that have just started abstain. Once a majority has promised a
//!   newer term an old leader can raise or renew nothing more: no clock is involved.
//! - [`ZooKeeperCommit`]: one conditional write to ZooKeeper.
//! - [`EmbeddedCommit`]: nothing, where no other leader can exist.
//!
//! A commit does *not* permit to use a silent node's budget again; only that node's own
//! acknowledgement, or the end of its lease, does (rule 3, *book*).
//!
//! Without this rule two leaders that are alive at once both grow their nodes from one budget, and
//! the later one renews for ever.

use alloc::{collections::BTreeMap, vec::Vec};

use weir_model::{Generation, NodeId};

use crate::{
    record::EnvelopeRecord,
    rules::{Mutation, Rules},
    voters::majority,
};

/// What became of a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreOutcome {
    /// It was applied, while the term was the leader's own.
    Committed,
    /// A definite no: the term is somebody else's.
    Fenced,
    /// Neither is known. It counts as not committed, and what it allowed stays in the envelope.
    Unknown,
}

/// Decides when the latest proposal is committed.
pub trait CommitBackend {
    /// Whether proposals go to voters and a term begins with their promises.
    fn is_voted(&self) -> bool {
        false
    }

    /// A proposal goes out. With a back-end that stores, `envelope` makes what covers all that may
    /// be held if it is committed; what is returned is to be stored.
    fn propose(
        &mut self,
        generation: Generation,
        envelope: impl FnOnce() -> EnvelopeRecord,
    ) -> Option<EnvelopeRecord>;

    /// A store has ended.
    fn stored(&mut self, generation: Generation, outcome: StoreOutcome) {
        let _ = (generation, outcome);
    }

    /// A voter has the register of this proposal and does not abstain.
    fn voted(&mut self, voter: NodeId, generation: Generation) {
        let _ = (voter, generation);
    }

    /// Whether the proposal of this generation, the latest that was made, is committed.
    fn is_committed(&self, generation: Generation) -> bool;

    /// Whether a further proposal has to wait, so as not to supersede one that is on its way.
    fn is_busy(&self) -> bool {
        false
    }

    /// How much an envelope may say, in limits and hot keys of members: more of it cannot be stored.
    /// `None` for a back-end that stores none.
    fn most_entries(&self) -> Option<usize> {
        None
    }
}

/// Commits when a majority of voters holds the register.
#[derive(Clone, Debug, Hash)]
pub struct QuorumCommit {
    voters: Vec<NodeId>,
    /// The latest register that each voter is known to hold.
    votes: BTreeMap<NodeId, Generation>,
    rules: Rules,
}

impl QuorumCommit {
    /// With these voters, of which there has to be one at least.
    #[must_use]
    pub const fn new(voters: Vec<NodeId>, rules: Rules) -> Self {
        Self {
            voters,
            votes: BTreeMap::new(),
            rules,
        }
    }
}

impl CommitBackend for QuorumCommit {
    fn is_voted(&self) -> bool {
        true
    }

    fn propose(
        &mut self,
        _: Generation,
        _: impl FnOnce() -> EnvelopeRecord,
    ) -> Option<EnvelopeRecord> {
        None
    }

    fn voted(&mut self, voter: NodeId, generation: Generation) {
        if self.voters.contains(&voter) {
            let latest = self.votes.entry(voter).or_default();
            *latest = (*latest).max(generation);
        }
    }

    fn is_committed(&self, generation: Generation) -> bool {
        let votes = self
            .votes
            .values()
            .filter(|latest| **latest >= generation)
            .count();
        let needed = if self.rules.breaks(Mutation::TrustSession) {
            0
        } else if self.rules.breaks(Mutation::CommitByMinority) {
            self.voters.len() / 2
        } else {
            majority(self.voters.len())
        };
        votes >= needed
    }
}

/// Commits by one conditional write of the envelope, for each proposal that raises *or renews*
/// anything: fencing growth alone would let a deposed leader renew a node for ever.
#[derive(Clone, Debug, Default)]
pub struct ZooKeeperCommit {
    in_flight: Option<Generation>,
    committed: Option<Generation>,
}

impl CommitBackend for ZooKeeperCommit {
    fn propose(
        &mut self,
        generation: Generation,
        envelope: impl FnOnce() -> EnvelopeRecord,
    ) -> Option<EnvelopeRecord> {
        self.in_flight = Some(generation);
        Some(envelope())
    }

    fn stored(&mut self, generation: Generation, outcome: StoreOutcome) {
        if self.in_flight == Some(generation) {
            self.in_flight = None;
        }
        if outcome == StoreOutcome::Committed {
            self.committed = self.committed.max(Some(generation));
        }
    }

    fn is_committed(&self, generation: Generation) -> bool {
        self.committed == Some(generation)
    }

    fn is_busy(&self) -> bool {
        self.in_flight.is_some()
    }

    fn most_entries(&self) -> Option<usize> {
        Some(MOST_STORED)
    }
}

/// A znode holds a million bytes, and an entry with the largest numbers has fewer than 200 of them.
const MOST_STORED: usize = 5_000;

/// Commits at once: for one process that is the whole coordination of its fleet.
#[derive(Clone, Debug, Default)]
pub struct EmbeddedCommit {
    committed: Option<Generation>,
}

impl CommitBackend for EmbeddedCommit {
    fn propose(
        &mut self,
        generation: Generation,
        _: impl FnOnce() -> EnvelopeRecord,
    ) -> Option<EnvelopeRecord> {
        self.committed = Some(generation);
        None
    }

    fn is_committed(&self, generation: Generation) -> bool {
        self.committed == Some(generation)
    }
}

/// Either of the back-ends that a fleet may run with.
#[derive(Clone, Debug)]
pub enum FleetCommit {
    /// A majority of voters.
    Quorum(QuorumCommit),
    /// A conditional write.
    ZooKeeper(ZooKeeperCommit),
}

impl CommitBackend for FleetCommit {
    fn is_voted(&self) -> bool {
        match self {
            Self::Quorum(quorum) => quorum.is_voted(),
            Self::ZooKeeper(zookeeper) => zookeeper.is_voted(),
        }
    }

    fn propose(
        &mut self,
        generation: Generation,
        envelope: impl FnOnce() -> EnvelopeRecord,
    ) -> Option<EnvelopeRecord> {
        match self {
            Self::Quorum(quorum) => quorum.propose(generation, envelope),
            Self::ZooKeeper(zookeeper) => zookeeper.propose(generation, envelope),
        }
    }

    fn stored(&mut self, generation: Generation, outcome: StoreOutcome) {
        match self {
            Self::Quorum(quorum) => quorum.stored(generation, outcome),
            Self::ZooKeeper(zookeeper) => zookeeper.stored(generation, outcome),
        }
    }

    fn voted(&mut self, voter: NodeId, generation: Generation) {
        match self {
            Self::Quorum(quorum) => quorum.voted(voter, generation),
            Self::ZooKeeper(zookeeper) => zookeeper.voted(voter, generation),
        }
    }

    fn is_committed(&self, generation: Generation) -> bool {
        match self {
            Self::Quorum(quorum) => quorum.is_committed(generation),
            Self::ZooKeeper(zookeeper) => zookeeper.is_committed(generation),
        }
    }

    fn is_busy(&self) -> bool {
        match self {
            Self::Quorum(quorum) => quorum.is_busy(),
            Self::ZooKeeper(zookeeper) => zookeeper.is_busy(),
        }
    }

    fn most_entries(&self) -> Option<usize> {
        match self {
            Self::Quorum(quorum) => quorum.most_entries(),
            Self::ZooKeeper(zookeeper) => zookeeper.most_entries(),
        }
    }
}
