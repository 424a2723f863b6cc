//! When a proposal is committed: the seam between the protocol and what makes its decisions last.
//!
//! # Rule 4, *quorum*, and its first form
//!
//! A commit lets nodes grow and renew their leases, so a leader that has been replaced must not be
//! able to make one. A back-end decides what proves that: one conditional write to ZooKeeper
//! ([`ZooKeeperCommit`]), or nothing at all where no other leader can exist ([`EmbeddedCommit`]).
//! A majority of voters is a third.

use weir_model::Generation;

use crate::record::EnvelopeRecord;

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
    /// A proposal goes out, and `envelope` covers all that may be held if it is committed. Returns
    /// what to store for that, if anything.
    fn propose(&mut self, envelope: EnvelopeRecord) -> Option<EnvelopeRecord>;

    /// A store has ended.
    fn stored(&mut self, generation: Generation, outcome: StoreOutcome);

    /// Whether the proposal of this generation is committed.
    fn is_committed(&self, generation: Generation) -> bool;

    /// Whether a further proposal has to wait, so as not to supersede one that is on its way.
    fn is_busy(&self) -> bool;
}

/// Commits by one conditional write of the envelope, for each proposal that raises *or renews*
/// anything: fencing growth alone would let a deposed leader renew a node for ever.
#[derive(Clone, Debug, Default)]
pub struct ZooKeeperCommit {
    in_flight: Option<Generation>,
    committed: Option<Generation>,
}

impl CommitBackend for ZooKeeperCommit {
    fn propose(&mut self, envelope: EnvelopeRecord) -> Option<EnvelopeRecord> {
        self.in_flight = Some(envelope.generation);
        Some(envelope)
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
}

/// Commits at once: for one process that is the whole coordination of its fleet.
#[derive(Clone, Debug, Default)]
pub struct EmbeddedCommit {
    committed: Option<Generation>,
}

impl CommitBackend for EmbeddedCommit {
    fn propose(&mut self, envelope: EnvelopeRecord) -> Option<EnvelopeRecord> {
        self.committed = Some(envelope.generation);
        None
    }

    fn stored(&mut self, _: Generation, _: StoreOutcome) {}

    fn is_committed(&self, generation: Generation) -> bool {
        self.committed == Some(generation)
    }

    fn is_busy(&self) -> bool {
        false
    }
}
