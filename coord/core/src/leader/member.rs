//! What a leader knows of one member in this term.

use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;

use weir_model::{
    Amount, Generation, Limit, LimitId, Nanos, PolicyVersion,
    message::{LimitReport, Report, Token},
};

use super::{rows::LatestRows, view::HeldView};
use crate::{
    book::{LimitSlot, NodeSlot},
    demand::Meter,
    record::MemberRecord,
    slots::Derived,
};

/// A member.
#[derive(Clone, Debug, Hash)]
pub(super) struct Member {
    /// Its account in the book.
    pub(super) slot: NodeSlot,
    /// Its floors in the order of their limits.
    pub(super) record: MemberRecord,
    /// What the roster is to say of its share, if it says otherwise.
    pub(super) wants_drained: Option<bool>,
    pub(super) heard: Option<Heard>,
    /// The latest proposal that it acknowledged in this life, and when that was heard.
    pub(super) acknowledged: Option<(Generation, Nanos)>,
    pub(super) committed: Generation,
    /// What the latest proposal to it runs from.
    pub(super) anchor: Option<Anchor>,
    /// When it was first proposed to since it last answered.
    pub(super) unanswered_since: Option<Nanos>,
    /// What it counts of the limits that the fleet shares, by slot.
    counts: Vec<Count>,
    /// What it counts of others.
    pub(super) other_counts: BTreeMap<LimitId, Count>,
    /// What was last proposed to it, whole; `None` if it has to be looked up.
    pub(super) rows: Derived<Option<LatestRows>>,
    /// Whether the roster reserves the floors of the policy for it, all of them; `None` if it has to
    /// be looked up.
    pub(super) has_floors: Derived<Option<bool>>,
    /// Whether its floors may have to be others.
    pub(super) needs_review: Derived<bool>,
}

/// Rule 5, *anchor*: what a node's lease by a proposal runs from.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Anchor {
    /// Of which proposal.
    pub(super) generation: Generation,
    /// The node's latest token when the proposal was made.
    pub(super) token: Token,
    /// When it was heard.
    pub(super) heard_at: Nanos,
}

/// What a member counts of one limit, and what it said that it holds: two lines of a cache.
#[derive(Clone, Debug, Default, Hash)]
#[repr(align(64))]
pub(super) struct Count {
    pub(super) meter: Meter,
    pub(super) held: HeldView,
}

/// The latest report.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Heard {
    pub(super) token: Token,
    pub(super) at: Nanos,
    pub(super) policy: PolicyVersion,
    pub(super) prepared: PolicyVersion,
    pub(super) abstains: bool,
}

impl Count {
    /// Takes a row of a report; `quiet` is when the one before was made, if it may have left this
    /// limit out.
    pub(super) fn observe(
        &mut self,
        quiet: Option<Nanos>,
        report: &Report,
        counted: &LimitReport,
        limit: &Limit,
    ) {
        let at = report.token.at;
        self.meter.observe_after(quiet, at, counted, limit.scale);
        self.held = HeldView {
            amount: counted.held,
            lease_left: counted.expires - report.token.at,
        };
    }
}

impl Heard {
    /// Whether a report goes on from this one: it is of the same life, and made so soon after. Who leaves rows
    /// out asks the same ([`crate::news`]), by the same clock.
    pub(super) fn precedes(&self, report: &Report, within: Duration) -> bool {
        report.token.incarnation == self.token.incarnation
            && report.token.at - self.token.at <= within
    }

    /// Whether it enforces a policy, or will as soon as it is told to.
    pub(super) fn has(&self, policy: PolicyVersion) -> bool {
        self.policy == policy || self.prepared == policy
    }
}

impl Member {
    pub(super) fn new(mut record: MemberRecord, slot: NodeSlot) -> Self {
        record.floors.sort_unstable_by_key(|floor| floor.limit);
        Self {
            slot,
            record,
            wants_drained: None,
            heard: None,
            acknowledged: None,
            committed: Generation(0),
            anchor: None,
            unanswered_since: None,
            counts: Vec::new(),
            other_counts: BTreeMap::new(),
            rows: Derived(None),
            has_floors: Derived(None),
            needs_review: Derived(true),
        }
    }

    /// What it counts of a limit that the fleet shares.
    pub(super) fn count(&self, limit: LimitSlot) -> Option<&Count> {
        self.counts.get(limit.index())
    }

    /// A word of each line of what it counts of a limit.
    pub(super) fn hint(&self, limit: LimitSlot) -> u64 {
        self.count(limit).map_or(0, |Count { meter, held }| {
            let last = meter.last_at().map_or(0, |at| at.0);
            last ^ meter.rates().demand.0 ^ held.amount.rate.0
        })
    }

    pub(super) fn count_mut(&mut self, limit: LimitSlot) -> &mut Count {
        let index = limit.index();
        if index >= self.counts.len() {
            self.counts.resize_with(index + 1, Count::default);
        }
        &mut self.counts[index]
    }

    /// A slot is another limit's.
    pub(super) fn forget_count(&mut self, limit: LimitSlot) {
        if let Some(count) = self.counts.get_mut(limit.index()) {
            *count = Count::default();
        }
    }

    /// What the roster reserves of a limit: [`MemberRecord::floor`], in O(log n).
    pub(super) fn floor(&self, limit: &Limit) -> Amount {
        let floors = &self.record.floors;
        let found = floors.binary_search_by_key(&limit.id, |floor| floor.limit);
        found.map_or(Amount::ZERO, |index| {
            let floor = floors[index];
            floor.amount.rescaled_down(floor.scale, limit.scale)
        })
    }

    /// What an earlier life acknowledged, its successor may not know.
    pub(super) fn begin_life(&mut self) {
        self.acknowledged = None;
        self.committed = Generation(0);
        self.anchor = None;
        self.unanswered_since = None;
    }
}
