//! What a leader knows of one member in this term.

use alloc::collections::BTreeMap;

use weir_model::{Amount, Generation, Limit, LimitId, Nanos, PolicyVersion, message::Token};

use super::view::HeldView;
use crate::{demand::Meter, record::MemberRecord};

/// A member.
#[derive(Clone, Debug, Hash)]
pub(super) struct Member {
    /// Its floors in the order of their limits.
    pub(super) record: MemberRecord,
    /// What the roster is to say of its share, if it says otherwise.
    pub(super) wants_drained: Option<bool>,
    pub(super) heard: Option<Heard>,
    /// The latest proposal that it acknowledged in this life, and when that was heard.
    pub(super) acknowledged: Option<(Generation, Nanos)>,
    pub(super) committed: Generation,
    /// When it was first proposed to since it last answered.
    pub(super) unanswered_since: Option<Nanos>,
    pub(super) meters: BTreeMap<LimitId, Meter>,
    pub(super) held: BTreeMap<LimitId, HeldView>,
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

impl Heard {
    /// Whether it enforces a policy, or will as soon as it is told to.
    pub(super) fn has(&self, policy: PolicyVersion) -> bool {
        self.policy == policy || self.prepared == policy
    }
}

impl Member {
    pub(super) fn new(mut record: MemberRecord) -> Self {
        record.floors.sort_unstable_by_key(|floor| floor.limit);
        Self {
            record,
            wants_drained: None,
            heard: None,
            acknowledged: None,
            committed: Generation(0),
            unanswered_since: None,
            meters: BTreeMap::new(),
            held: BTreeMap::new(),
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
        self.unanswered_since = None;
    }
}
