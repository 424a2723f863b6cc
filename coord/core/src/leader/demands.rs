//! What every node could use of every limit, as a table.

use alloc::vec::Vec;

use weir_model::UnitsPerSecond;

use crate::book::{LimitSlot, NodeSlot};

/// Stands for a demand that is not known. No meter measures as much.
const UNKNOWN: u64 = u64::MAX;

/// The demands that meters say, where a plan finds them side by side.
#[derive(Clone, Debug, Default)]
pub(super) struct Demands {
    /// By limit, by node.
    table: Vec<Vec<u64>>,
    /// By limit: whether any is another one since it was asked last.
    has_moved: Vec<bool>,
}

/// One limit of [`Demands`].
#[derive(Clone, Copy)]
pub(super) struct DemandsOf<'d>(&'d [u64]);

impl DemandsOf<'_> {
    /// `None` if it is not known.
    pub(super) fn of(self, node: NodeSlot) -> Option<UnitsPerSecond> {
        let demand = *self.0.get(node.index())?;
        (demand != UNKNOWN).then_some(UnitsPerSecond(demand))
    }
}

impl Demands {
    pub(super) fn set(&mut self, limit: LimitSlot, node: NodeSlot, demand: UnitsPerSecond) {
        let (limit, node) = (limit.index(), node.index());
        if limit >= self.table.len() {
            self.table.resize_with(limit + 1, Vec::new);
            self.has_moved.resize(limit + 1, false);
        }
        let row = &mut self.table[limit];
        if node >= row.len() {
            row.resize(node + 1, UNKNOWN);
        }
        let demand = demand.0.min(UNKNOWN - 1);
        self.has_moved[limit] |= row[node] != demand;
        row[node] = demand;
    }

    /// What all nodes could use of one limit.
    pub(super) fn of_limit(&self, limit: LimitSlot) -> DemandsOf<'_> {
        DemandsOf(self.table.get(limit.index()).map_or(&[], Vec::as_slice))
    }

    /// A slot is another limit's.
    pub(super) fn forget_limit(&mut self, limit: LimitSlot) {
        if let Some(row) = self.table.get_mut(limit.index()) {
            row.clear();
            self.has_moved[limit.index()] = true;
        }
    }

    /// Whether the demands for a limit are others since this was asked last.
    pub(super) fn take_moved(&mut self, limit: LimitSlot) -> bool {
        let has_moved = self.has_moved.get_mut(limit.index());
        has_moved.is_some_and(core::mem::take)
    }
}
