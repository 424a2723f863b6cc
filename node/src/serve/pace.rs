//! How often somebody may ask: a token bucket of requests.

use std::time::{Duration, Instant};

/// So many in a second, and as many at once.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Pace {
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self {
            per_second,
            left: per_second,
            at: Instant::now(),
        }
    }

    /// Takes one, if there is one.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        self.refill(now);
        let is_due = self.left >= 1.0;
        if is_due {
            self.left -= 1.0;
        }
        is_due
    }

    /// Takes one, and says how long it is until there is: whoever comes later waits longer.
    pub(super) fn wait(&mut self, now: Instant) -> Duration {
        self.refill(now);
        self.left -= 1.0;
        Duration::from_secs_f64((-self.left).max(0.0) / self.per_second)
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + elapsed * self.per_second).min(self.per_second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_at_once_and_then_in_turn() {
        let mut pace = Pace::new(10);
        let begin = pace.at;
        assert!((0..10).all(|_| pace.wait(begin).is_zero()));
        let waits: Vec<Duration> = (0..3).map(|_| pace.wait(begin)).collect();
        assert_eq!(waits, [100, 200, 300].map(Duration::from_millis));
        assert!(!pace.is_due(begin + Duration::from_millis(300)));
        assert!(pace.is_due(begin + Duration::from_millis(401)));
    }
}
