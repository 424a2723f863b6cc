//! What every node could use of every limit, as a table.

use alloc::vec::Vec;

use weir_model::{Nanos, UnitsPerSecond, message::Report};

use super::{Leader, PLANS_PER_TICK};
use crate::{
    allocation::tolerance,
    book::{LimitSlot, NodeSlot},
    commit::CommitBackend,
    demand::Meter,
};

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

    /// `None` if it is not known.
    pub(super) fn of(&self, limit: LimitSlot, node: NodeSlot) -> Option<UnitsPerSecond> {
        let demand = *self.table.get(limit.index())?.get(node.index())?;
        (demand != UNKNOWN).then_some(UnitsPerSecond(demand))
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

impl<B: CommitBackend> Leader<B> {
    /// What a member counts under the policy in force.
    /// `quiet` is when the report before was made, if it may have left rows out.
    pub(super) fn count(&mut self, quiet: Option<Nanos>, report: &Report, now: Nanos) {
        self.hear_heavy(report, now);
        let Some(member) = self.members.get_mut(&report.node) else {
            return;
        };
        let mut has_moved = false;
        let mut after = 0;
        for counted in &report.limits {
            let slot = self.book.limit_slot_after(counted.limit, &mut after);
            let place = slot.and_then(|slot| self.round.0.place(slot));
            if let Some(place) = place {
                let place = self.places.0[place];
                let Some(limit) = place.limit(&self.policy, &self.hot) else {
                    continue;
                };
                let slot = place.slot;
                let count = member.count_mut(slot);
                if quiet.is_none() {
                    count.meter = Meter::default();
                }
                let before = count.meter.rates().demand;
                count.observe(quiet, report, counted, limit);
                let demand = count.meter.rates().demand;
                has_moved |= demand.0.abs_diff(before.0) > tolerance(limit);
                self.demands.0.set(slot, member.slot, demand);
            } else if let Some(limit) = self.policy.limit(counted.limit) {
                let count = member.other_counts.entry(limit.id).or_default();
                count.observe(None, report, counted, limit);
            }
        }
        // Waiting for the tick would let demand that has moved wait for another one.
        if has_moved && now - self.last_plan >= self.timing.tick / PLANS_PER_TICK {
            self.advance(now);
        }
    }
}
