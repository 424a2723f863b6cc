//! What every node could use of every limit, as a table.
//!
//! Nodes speak one after the other, and a plan is made limit by limit. So what was said is noted first,
//! and then sorted into the table all at once: else each row of a report would fetch a line of another
//! column from memory.

use alloc::vec::Vec;

use weir_model::{
    Nanos, UnitsPerSecond,
    message::Report,
    prefetch::{AT_ONCE, fetch},
};

use super::{Leader, MOST_FOLLOWED_AT_ONCE, PLANS_PER_TICK};
use crate::{
    allocation::tolerance,
    book::{LimitSlot, NodeSlot},
    commit::CommitBackend,
    demand::Meter,
};

/// Stands for a demand that is not known. No meter measures as much.
const UNKNOWN: u64 = u64::MAX;

/// Demands that are noted before the table is brought up to date, whether it is asked for or not: four
/// megabytes.
const MOST_NOTED: usize = 1 << 18;

/// The demands that meters say, where a plan finds them side by side.
#[derive(Clone, Debug, Default)]
pub(super) struct Demands {
    /// By limit, by node.
    table: Vec<Vec<u64>>,
    /// By limit: whether any is another one since it was asked last.
    has_moved: Vec<bool>,
    /// What was said since the table was brought up to date.
    noted: Vec<Noted>,
    /// The same, limit by limit, while that is done.
    sorted: Vec<Noted>,
}

#[derive(Clone, Copy, Debug)]
struct Noted {
    limit: LimitSlot,
    node: NodeSlot,
    demand: u64,
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
    /// A demand is this one from the next [`Self::settle`] on.
    pub(super) fn note(&mut self, limit: LimitSlot, node: NodeSlot, demand: UnitsPerSecond) {
        let demand = demand.0.min(UNKNOWN - 1);
        self.noted.push(Noted {
            limit,
            node,
            demand,
        });
        if self.noted.len() >= MOST_NOTED {
            self.settle();
        }
    }

    /// Brings the table up to date, limit by limit.
    pub(super) fn settle(&mut self) {
        let noted = core::mem::take(&mut self.noted);
        let Some(end) = noted.iter().map(|noted| noted.limit.index() + 1).max() else {
            return;
        };
        // Sorted by counting; of one limit in the order in which it was said.
        let mut next = alloc::vec![0_usize; end + 1];
        for noted in &noted {
            next[noted.limit.index() + 1] += 1;
        }
        for limit in 0..end {
            next[limit + 1] += next[limit];
        }
        let mut sorted = core::mem::take(&mut self.sorted);
        sorted.clone_from(&noted);
        for noted in &noted {
            let place = &mut next[noted.limit.index()];
            sorted[*place] = *noted;
            *place += 1;
        }
        for noted in &sorted {
            self.set(*noted);
        }
        self.sorted = sorted;
        self.noted = noted;
        self.noted.clear();
    }

    fn set(&mut self, noted: Noted) {
        let (limit, node) = (noted.limit.index(), noted.node.index());
        if limit >= self.table.len() {
            self.table.resize_with(limit + 1, Vec::new);
            self.has_moved.resize(limit + 1, false);
        }
        let row = &mut self.table[limit];
        if node >= row.len() {
            row.resize(node + 1, UNKNOWN);
        }
        if row[node] != noted.demand {
            self.has_moved[limit] = true;
            row[node] = noted.demand;
        }
    }

    /// What all nodes could use of one limit.
    pub(super) fn of_limit(&self, limit: LimitSlot) -> DemandsOf<'_> {
        DemandsOf(self.table.get(limit.index()).map_or(&[], Vec::as_slice))
    }

    /// A slot is another limit's.
    pub(super) fn forget_limit(&mut self, limit: LimitSlot) {
        self.noted.retain(|noted| noted.limit != limit);
        if let Some(row) = self.table.get_mut(limit.index()) {
            row.clear();
            self.has_moved[limit.index()] = true;
        }
    }

    /// Whether the demands for a limit are others since that was [taken](Self::take_moved) down.
    pub(super) fn has_moved(&self, limit: LimitSlot) -> bool {
        self.has_moved
            .get(limit.index())
            .is_some_and(|moved| *moved)
    }

    /// As [`Demands::has_moved`], and takes it down.
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
        for rows in report.limits.chunks(AT_ONCE) {
            let mut places = [None; AT_ONCE];
            for (place, counted) in places.iter_mut().zip(rows) {
                let slot = self.book.limit_slot_after(counted.limit, &mut after);
                *place = slot.and_then(|slot| self.round.0.place(slot));
            }
            let known = places.iter().flatten();
            fetch(known.map(|place| member.hint(self.places.0[*place].slot)));
            for (counted, place) in rows.iter().zip(places) {
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
                    self.demands.0.note(slot, member.slot, demand);
                } else if let Some(limit) = self.policy.limit(counted.limit) {
                    let count = member.other_counts.entry(limit.id).or_default();
                    count.observe(None, report, counted, limit);
                }
            }
        }
        // Waiting for the tick would let demand that has moved wait for another one.
        let is_small = self.members.len() <= MOST_FOLLOWED_AT_ONCE;
        if has_moved && is_small && now - self.last_plan >= self.timing.tick / PLANS_PER_TICK {
            self.advance(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_last_counts_and_what_was_forgotten_does_not() {
        let mut demands = Demands::default();
        let (one, other) = (LimitSlot(3), LimitSlot(0));
        let node = NodeSlot(2);
        let note = |demands: &mut Demands, limit, demand| {
            demands.note(limit, node, UnitsPerSecond(demand));
        };
        note(&mut demands, one, 5);
        note(&mut demands, other, 6);
        note(&mut demands, one, 7);
        assert_eq!(demands.of_limit(one).of(node), None, "it is only noted");
        demands.settle();
        assert_eq!(demands.of_limit(one).of(node), Some(UnitsPerSecond(7)));
        assert_eq!(demands.of_limit(other).of(node), Some(UnitsPerSecond(6)));
        assert_eq!(demands.of_limit(one).of(NodeSlot(1)), None);
        assert!(demands.take_moved(one) && !demands.take_moved(one));
        note(&mut demands, one, 7);
        demands.settle();
        assert!(!demands.take_moved(one), "it is what it was");
        note(&mut demands, one, 8);
        demands.forget_limit(one);
        demands.settle();
        assert_eq!(demands.of_limit(one).of(node), None);
        for demand in 0..=MOST_NOTED as u64 {
            note(&mut demands, other, demand);
        }
        assert!(
            demands.noted.len() < MOST_NOTED,
            "however seldom it is asked"
        );
    }
}
