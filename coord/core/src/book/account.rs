//! What was proposed to one node and is unanswered.

use alloc::{collections::VecDeque, vec::Vec};

use weir_model::{Generation, Nanos, Scale};

use super::page::Entry;
use crate::slots::LimitSlot;

/// Proposals to one node that may be unanswered at once. At the bound the oldest two are merged
/// into their maximum, which is never too small.
const MAX_UNANSWERED: usize = 16;

/// One limit in a proposal to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// Which limit.
    pub limit: LimitSlot,
    /// What is proposed.
    pub entry: Entry,
}

/// A proposal to one node, by what it changes: it leaves the rest as the one before has it.
#[derive(Clone, Debug, Hash)]
pub(super) struct Batch {
    pub(super) generation: Generation,
    /// In the order of their limits' slots.
    pub(super) changes: Vec<Change>,
}

impl Batch {
    fn find(&self, limit: LimitSlot) -> Result<usize, usize> {
        self.changes
            .binary_search_by_key(&limit, |change| change.limit)
    }
}

/// One node's account.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Account {
    /// When every lease has ended; `None` if there is none.
    pub(super) lease_end: Option<Nanos>,
    /// Oldest first.
    unanswered: VecDeque<Batch>,
}

impl Account {
    /// Takes down a proposal. What is returned is no entry of its own any more: the limits of which
    /// one entry was merged with the next.
    pub(super) fn push(&mut self, batch: Batch) -> Vec<LimitSlot> {
        self.unanswered.push_back(batch);
        if self.unanswered.len() <= MAX_UNANSWERED {
            return Vec::new();
        }
        let oldest = self.unanswered.pop_front();
        let (Some(oldest), Some(next)) = (oldest, self.unanswered.front_mut()) else {
            return Vec::new();
        };
        let mut merged = Vec::new();
        let mut kept = Vec::with_capacity(oldest.changes.len() + next.changes.len());
        for change in oldest.changes {
            match next.find(change.limit) {
                Ok(found) => {
                    let entry = &mut next.changes[found].entry;
                    *entry = entry.max(change.entry);
                    merged.push(change.limit);
                }
                Err(_) => kept.push(change),
            }
        }
        kept.append(&mut next.changes);
        kept.sort_unstable_by_key(|change| change.limit);
        next.changes = kept;
        merged
    }

    /// The proposals up to this one, oldest first, and whether it is among them. Those before are
    /// superseded by it then; if it is not, it was merged into a later one, or had no rows.
    pub(super) fn answered(&mut self, generation: Generation) -> (Vec<Batch>, bool) {
        let count = self
            .unanswered
            .iter()
            .take_while(|batch| batch.generation <= generation)
            .count();
        let batches: Vec<Batch> = self.unanswered.drain(..count).collect();
        let last = batches.last().map(|batch| batch.generation);
        (batches, last == Some(generation))
    }

    /// Forgets all of it.
    pub(super) fn clear(&mut self) {
        self.unanswered.clear();
    }

    /// Forgets what is said of one limit.
    pub(super) fn forget(&mut self, limit: LimitSlot) {
        for batch in &mut self.unanswered {
            if let Ok(found) = batch.find(limit) {
                batch.changes.remove(found);
            }
        }
    }

    /// What is unanswered of one limit, oldest first.
    pub(super) fn entries(&self, limit: LimitSlot) -> impl Iterator<Item = Entry> {
        self.unanswered.iter().filter_map(move |batch| {
            let found = batch.find(limit).ok()?;
            Some(batch.changes[found].entry)
        })
    }

    /// The most of what is unanswered of one limit.
    pub(super) fn most(&self, limit: LimitSlot) -> Entry {
        self.entries(limit).fold(Entry::default(), Entry::max)
    }

    /// Every entry that is unanswered.
    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Change> {
        let batches = self.unanswered.iter_mut();
        batches.flat_map(|batch| batch.changes.iter_mut())
    }

    /// A limit has other units.
    pub(super) fn rescale(&mut self, limit: LimitSlot, from: Scale, to: Scale) {
        for batch in &mut self.unanswered {
            if let Ok(found) = batch.find(limit) {
                let entry = &mut batch.changes[found].entry;
                *entry = entry.rescaled(from, to);
            }
        }
    }
}
