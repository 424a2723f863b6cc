//! What keeps a node from standing for a while, or for good.

use std::time::Duration;

use tracing::{error, warn};
use weir_coord_core::timing::Timing;
use weir_model::{Nanos, Term};

use super::Fleet;
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
                 the promised one, with the voters that the fleet had; or if the fleet begins anew, \
                 stop all of its daemons and empty their state directories"
            );
        }
        true
    }
}

impl Fleet {
    /// What this node has known of terms before its daemon was started again. Without it a daemon that
    /// starts after ZooKeeper was restored would lead by the term that it reads: voters that were
    /// started again as well promise that, and the leader of a higher one, who may still live, finds their
    /// majority too.
    pub fn remember_term(&mut self, term: Term) {
        self.at_least = self.at_least.max(term);
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

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timing = Timing::DEFAULT;

    const fn ms(ms: u64) -> Nanos {
        Nanos(ms * 1_000_000)
    }

    #[test]
    fn nobody_leads_by_a_term_that_went_back() {
        let mut setback = Setback::default();
        assert!(!setback.lasts(Term(7), Term(7), T, ms(0)));
        assert!(
            setback.lasts(Term(3), Term(7), T, ms(100)),
            "as from a backup"
        );
        assert!(!setback.is_said, "a reading may be behind for a moment");
        assert!(setback.lasts(Term(3), Term(7), T, ms(10_000)));
        assert!(setback.is_said);
        assert!(
            !setback.lasts(Term(8), Term(7), T, ms(20_000)),
            "the operator's"
        );
        assert!(!setback.is_said);
    }

    #[test]
    fn pauses_between_failed_take_overs_grow_and_are_bounded() {
        let mut retry = Retry::default();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            retry.failed(TakeOverFailure::Outrun, ms(0));
            pauses.push(retry.at - ms(0));
        }
        assert_eq!(pauses[0], RETRY_MIN);
        assert!(pauses.is_sorted());
        assert_eq!(pauses[8], RETRY_MAX);
    }
}
