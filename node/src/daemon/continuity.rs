//! Whether ticks go on, and whether leases last: what an outage of leader or ZooKeeper cost here.

use std::time::Duration;

use tracing::{info, warn};
use weir_model::{Nanos, message::Position};

/// Commits that are further apart than so many ticks are a gap: one tick was missed at least.
const GAP_TICKS: u32 = 3;

/// What was seen of commits and leases since the daemon started.
#[derive(Debug)]
pub(super) struct Continuity {
    /// Above it the time between two commits is a gap.
    longest: Duration,
    last: Option<(Position, Nanos)>,
    is_on_floor: bool,
    counts: Interruptions,
}

/// How often something went on too late, since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interruptions {
    /// Times that more than three ticks lay between two commits that arrived here.
    pub(super) commit_gaps: u64,
    /// Times that this host fell from its grants to its floors.
    pub(super) floor_falls: u64,
}

impl Continuity {
    /// Nothing seen yet.
    pub(super) fn new(tick: Duration) -> Self {
        Self {
            longest: tick * GAP_TICKS,
            last: None,
            is_on_floor: true,
            counts: Interruptions::default(),
        }
    }

    /// A commit has arrived. One that repeats an earlier one says only that its leader lives.
    pub(super) fn committed(&mut self, position: Position, now: Nanos) {
        let Some((last, at)) = self.last else {
            self.last = Some((position, now));
            return;
        };
        if position <= last {
            return;
        }
        let gap = now - at;
        if gap > self.longest {
            self.counts.commit_gaps += 1;
            let gap_ms = gap.as_millis();
            info!(term = %position.term, gap_ms, "commits go on");
        }
        self.last = Some((position, now));
    }

    /// Whether this host has grants now: `None` if it is to have none.
    pub(super) fn leased(&mut self, has_grants: Option<bool>) {
        let Some(has_grants) = has_grants else {
            self.is_on_floor = true;
            return;
        };
        if has_grants == self.is_on_floor {
            self.is_on_floor = !has_grants;
            if self.is_on_floor {
                self.counts.floor_falls += 1;
                warn!("grants have ended; floors remain until a leader commits again");
            } else {
                info!("grants are in force");
            }
        }
    }

    /// What was counted.
    pub(super) const fn counts(&self) -> Interruptions {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use weir_model::{Generation, Term};

    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    fn at(term: u64, generation: u64) -> Position {
        Position {
            term: Term(term),
            generation: Generation(generation),
        }
    }

    fn ms(ms: u64) -> Nanos {
        Nanos(ms * 1_000_000)
    }

    #[test]
    fn a_gap_is_more_than_three_ticks_between_two_commits() {
        let mut seen = Continuity::new(TICK);
        seen.committed(at(1, 1), ms(9_000));
        seen.committed(at(1, 2), ms(9_300));
        assert_eq!(seen.counts().commit_gaps, 0, "the first, and one in time");
        seen.committed(at(1, 2), ms(9_500));
        seen.committed(at(1, 1), ms(9_550));
        seen.committed(at(2, 1), ms(9_601));
        assert_eq!(seen.counts().commit_gaps, 1, "repetitions fill no gap");
    }

    #[test]
    fn a_fall_is_counted_once_and_a_beginning_is_none() {
        let mut seen = Continuity::new(TICK);
        for has_grants in [None, Some(false), Some(true), Some(true)] {
            seen.leased(has_grants);
        }
        assert_eq!(seen.counts().floor_falls, 0);
        for has_grants in [Some(false), Some(false), Some(true), Some(false)] {
            seen.leased(has_grants);
        }
        assert_eq!(seen.counts().floor_falls, 2);
        seen.leased(None);
        seen.leased(Some(false));
        assert_eq!(
            seen.counts().floor_falls,
            2,
            "nothing was lost: there was no limit"
        );
    }
}
