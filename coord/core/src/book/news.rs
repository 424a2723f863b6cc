//! Which entries of the register are others since which proposal.

use alloc::{collections::VecDeque, vec::Vec};

use weir_model::Generation;

use crate::slots::{LimitSlot, NodeSlot};

/// Proposals that are remembered. For a voter that is further behind the whole book is looked through.
const MAX_PROPOSALS: usize = 8;

/// The entries that have changed, proposal by proposal: hints, each found in the book itself, where
/// its stamp says whether it has changed once more.
#[derive(Clone, Debug, Default)]
pub(super) struct News {
    proposals: VecDeque<(Generation, Vec<(NodeSlot, LimitSlot)>)>,
    /// Whatever changed up to this proposal may be missing.
    forgotten: Generation,
}

impl News {
    /// An entry is another one in the register of this proposal, which is not made yet.
    pub(super) fn add(&mut self, next: Generation, node: NodeSlot, limit: LimitSlot) {
        match self.proposals.back_mut() {
            Some((generation, entries)) if *generation == next => entries.push((node, limit)),
            _ => self.proposals.push_back((next, [(node, limit)].into())),
        }
        if self.proposals.len() > MAX_PROPOSALS
            && let Some((generation, _)) = self.proposals.pop_front()
        {
            self.forgotten = generation;
        }
    }

    /// So much is new in the register of this proposal that it is not written down.
    pub(super) fn forget(&mut self, next: Generation) {
        self.proposals.clear();
        self.forgotten = next;
    }

    /// The entries that are new since `base`, with the stamp that they had then; `None` if it was
    /// too long ago.
    pub(super) fn since(
        &self,
        base: Generation,
    ) -> Option<impl Iterator<Item = (Generation, &[(NodeSlot, LimitSlot)])>> {
        let proposals = self.proposals.iter();
        let later = proposals.filter(move |(generation, _)| *generation > base);
        let later = later.map(|(generation, entries)| (*generation, entries.as_slice()));
        (base >= self.forgotten).then_some(later)
    }
}
