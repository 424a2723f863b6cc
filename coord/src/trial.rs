//! A change that goes back by itself unless it is confirmed in time.
//!
//! What is left of the time lies in ZooKeeper beside the policy in force, put there by the write
//! that brought the change, so it outlives the operator's machine and any leader. Every node counts
//! down by its own clock from what it last read, and the one that leads acts: it writes down what
//! is left now and then, and goes back when nothing is. Where nobody leads nothing goes back, and
//! where every node forgets at once, no more is added than the last note is old.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_model::{Nanos, PolicyVersion};

/// What is left is written down at least so many times.
const NOTES: u32 = 10;
/// And not more often than this.
const NOTE_PERIOD_MIN: Duration = Duration::from_secs(1);
/// How long an attempt to go back, or to note, is given before it is made again.
const RETRY: Duration = Duration::from_secs(2);

/// `policy/current/trial`: there is one while a change waits to be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// What is in force, for now.
    pub version: PolicyVersion,
    /// What was in force before; 0 is none.
    pub fallback: PolicyVersion,
    /// What was left of the time when this was written.
    pub left_ms: u64,
}

impl Trial {
    /// What was left of the time when this was written.
    #[must_use]
    pub const fn left(&self) -> Duration {
        Duration::from_millis(self.left_ms)
    }
}

/// What the leader has to do about a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nobody confirmed this version in time: put the one before in force again.
    RollBack(PolicyVersion),
    /// Write this down.
    Note(Trial),
}

/// Counts one trial down.
#[derive(Clone, Copy, Debug)]
pub struct Countdown {
    trial: Trial,
    end: Nanos,
    /// What is left is noted so often.
    period: Duration,
    tried: Option<Nanos>,
}

impl Countdown {
    /// A trial was read at `now`. `earlier` is what was counted until then: of the same trial the
    /// earlier end holds, for a note may be old when it is read.
    #[must_use]
    pub fn read(trial: Trial, earlier: Option<Self>, now: Nanos) -> Self {
        let end = now + trial.left();
        match earlier {
            Some(earlier) if earlier.trial.version == trial.version => Self {
                trial,
                end: earlier.end.min(end),
                ..earlier
            },
            _ => Self {
                trial,
                end,
                period: (trial.left() / NOTES).max(NOTE_PERIOD_MIN),
                tried: None,
            },
        }
    }

    /// Which version waits.
    #[must_use]
    pub const fn version(&self) -> PolicyVersion {
        self.trial.version
    }

    /// What is left to confirm it.
    #[must_use]
    pub fn left(&self, now: Nanos) -> Duration {
        self.end - now
    }

    /// What the leader has to do at `now`. It is said again after a while, unless it was done.
    pub fn poll(&mut self, now: Nanos) -> Option<Due> {
        if self.tried.is_some_and(|tried| now - tried < RETRY) {
            return None;
        }
        let left = self.left(now);
        let due = if left.is_zero() {
            Due::RollBack(self.trial.version)
        } else if self.trial.left().saturating_sub(left) >= self.period {
            Due::Note(Trial {
                left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
                ..self.trial
            })
        } else {
            return None;
        };
        self.tried = Some(now);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn trial(left_ms: u64) -> Trial {
        Trial {
            version: PolicyVersion(8),
            fallback: PolicyVersion(7),
            left_ms,
        }
    }

    const fn ms(ms: u64) -> Nanos {
        Nanos(ms * 1_000_000)
    }

    #[test]
    fn it_goes_back_when_nothing_is_left_and_tries_on() {
        let mut countdown = Countdown::read(trial(2_000), None, ms(100));
        assert_eq!(countdown.poll(ms(1_000)), None);
        assert_eq!(
            countdown.poll(ms(2_100)),
            Some(Due::RollBack(PolicyVersion(8)))
        );
        assert_eq!(countdown.poll(ms(2_200)), None, "it is being done");
        assert_eq!(
            countdown.poll(ms(4_100)),
            Some(Due::RollBack(PolicyVersion(8)))
        );
    }

    #[test]
    fn what_is_left_is_noted() {
        let mut countdown = Countdown::read(trial(60_000), None, ms(0));
        assert_eq!(countdown.poll(ms(5_999)), None);
        let noted = trial(54_000);
        assert_eq!(countdown.poll(ms(6_000)), Some(Due::Note(noted)));
        let mut countdown = Countdown::read(noted, Some(countdown), ms(6_010));
        assert_eq!(
            countdown.left(ms(6_010)),
            Duration::from_millis(53_990),
            "the earlier end"
        );
        assert_eq!(countdown.poll(ms(11_999)), None);
        assert!(matches!(countdown.poll(ms(12_000)), Some(Due::Note(_))));
    }

    #[test]
    fn who_reads_a_note_for_the_first_time_counts_from_it() {
        let mut successor = Countdown::read(trial(54_000), None, ms(1_000_000));
        assert_eq!(successor.left(ms(1_000_000)), Duration::from_secs(54));
        assert_eq!(
            successor.poll(ms(1_054_000)),
            Some(Due::RollBack(PolicyVersion(8)))
        );
    }

    #[test]
    fn another_trial_has_its_own_time() {
        let first = Countdown::read(trial(1_000), None, ms(0));
        let second = Trial {
            version: PolicyVersion(9),
            ..trial(60_000)
        };
        let second = Countdown::read(second, Some(first), ms(500));
        assert_eq!(second.left(ms(500)), Duration::from_secs(60));
    }
}
