//! What keeps a node from standing for a while, or for good.

use std::time::Duration;

use tracing::{error, warn};
use weir_coord_core::timing::Timing;
use weir_model::{Nanos, Term};

use crate::zookeeper::TakeOverFailure;

/// The pause after the first take-over that failed.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest pause between take-overs that fail.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(5);

/// A node's membership, in one life of its daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Membership {
    /// The roster never had it.
    #[default]
    Candidate,
    /// The roster has it.
    Member,
    /// The roster had it.
    Removed,
}

/// `term` is below what nodes have promised. What is read may be behind for a moment; if it stays so,
/// ZooKeeper was restored from an old backup, and the voters that `term` names need not be those
/// that know what is granted. Nobody may lead then.
#[derive(Debug, Default)]
pub(super) struct Setback {
    since: Option<Nanos>,
    is_said: bool,
}

impl Setback {
    /// Whether this node may not stand, `stored` being the term that was read.
    pub(super) fn lasts(
        &mut self,
        stored: Term,
        promised: Term,
        timing: Timing,
        now: Nanos,
    ) -> bool {
        if stored >= promised {
            *self = Self::default();
            return false;
        }
        let since = *self.since.get_or_insert(now);
        if now - since >= timing.wait() && !self.is_said {
            self.is_said = true;
            error!(
                %stored,
                %promised,
                "refusing to lead: `term` is below what nodes have promised; was ZooKeeper \
                 restored from an old backup? Look at roster and policy, and write a term above \
                 the promised one, with the voters that the fleet had"
            );
        }
        true
    }
}

/// When a take-over that failed is tried again, and why it failed. A failure may have taken the
/// term nevertheless, so trying at once would count terms up for nothing.
#[derive(Debug, Default)]
pub(super) struct Retry {
    pub(super) at: Nanos,
    failures: u32,
    reason: Option<TakeOverFailure>,
}

impl Retry {
    /// Doubles the pause, within [`RETRY_MIN`] and [`RETRY_MAX`].
    pub(super) fn failed(&mut self, reason: TakeOverFailure, now: Nanos) {
        if self.reason.as_ref() != Some(&reason) {
            warn!(%reason, "take-over failed; trying on");
        }
        self.at = now + (RETRY_MIN * 2_u32.pow(self.failures.min(10))).min(RETRY_MAX);
        self.failures += 1;
        self.reason = Some(reason);
    }
}
