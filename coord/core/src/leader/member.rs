//! What a leader knows of one member in this term.

use alloc::collections::BTreeMap;

use weir_model::{Generation, LimitId, Nanos, PolicyVersion, message::Token};

use super::view::HeldView;
use crate::{demand::Meter, record::MemberRecord};

/// A member.
#[derive(Clone, Debug, Hash)]
pub(super) struct Member {
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
    pub(super) const fn new(record: MemberRecord) -> Self {
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

    /// What an earlier life acknowledged, its successor may not know.
    pub(super) fn begin_life(&mut self) {
        self.acknowledged = None;
        self.committed = Generation(0);
        self.unanswered_since = None;
    }
}
