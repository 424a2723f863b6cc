//! What limits carried over the last minutes.

use std::collections::{HashMap, VecDeque};

use crate::view::LimitState;

/// Ticks that are remembered of a limit. The oldest goes.
pub(super) const TICKS_REMEMBERED: usize = 240;
/// Limits that are remembered: of more, those that had traffic first. 3 kB each.
const LIMITS_REMEMBERED: usize = 2_048;

/// The past of all limits.
#[derive(Debug, Default)]
pub(crate) struct History(HashMap<String, Past>);

/// One limit's past.
#[derive(Debug, Default)]
pub(super) struct Past {
    ticks: VecDeque<Tick>,
    /// By the number of the tick, whether the limit was there.
    is_current: bool,
}

/// Rates, tokens per second. Half the precision is enough for a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tick {
    pub(super) offered: f32,
    pub(super) admitted: f32,
    pub(super) dropped: f32,
}

impl History {
    /// Takes note of a tick.
    pub(super) fn observe(&mut self, limits: &[LimitState]) {
        for past in self.0.values_mut() {
            past.is_current = false;
        }
        for LimitState { limit, .. } in limits {
            let tick = Tick {
                offered: limit.offered as f32,
                admitted: limit.admitted as f32,
                dropped: limit.dropped as f32,
            };
            if let Some(past) = self.0.get_mut(&limit.name) {
                past.push(tick);
            } else if tick != Tick::default() && self.0.len() < LIMITS_REMEMBERED {
                let mut past = Past::default();
                past.push(tick);
                self.0.insert(limit.name.clone(), past);
            }
        }
        self.0.retain(|_, past| past.is_current);
    }

    /// The last ticks of a limit, oldest first, at most so many.
    pub(super) fn of(&self, limit: &str, most: usize) -> Vec<Tick> {
        let Some(past) = self.0.get(limit) else {
            return Vec::new();
        };
        let skipped = past.ticks.len().saturating_sub(most);
        past.ticks.iter().skip(skipped).copied().collect()
    }
}

impl Past {
    fn push(&mut self, tick: Tick) {
        if self.ticks.len() == TICKS_REMEMBERED {
            self.ticks.pop_front();
        }
        self.ticks.push_back(tick);
        self.is_current = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::screen::tests::limit;

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut history = History::default();
        let many: Vec<_> = (0..LIMITS_REMEMBERED + 10)
            .map(|number| limit(&format!("limit-{number}"), 1.0))
            .collect();
        for _ in 0..TICKS_REMEMBERED + 5 {
            history.observe(&many);
        }
        assert_eq!(history.0.len(), LIMITS_REMEMBERED);
        assert_eq!(history.of("limit-0", usize::MAX).len(), TICKS_REMEMBERED);
        assert_eq!(history.of("limit-0", 3).len(), 3);
        history.observe(&many[1..2]);
        assert_eq!(
            history.0.len(),
            1,
            "of limits that are gone nothing is kept"
        );
    }

    #[test]
    fn a_limit_is_remembered_from_its_first_traffic_on() {
        let mut history = History::default();
        history.observe(&[limit("quiet", 0.0)]);
        assert!(history.of("quiet", 9).is_empty());
        for offered in [2.0, 0.0, 4.0] {
            history.observe(&[limit("quiet", offered)]);
        }
        let offered: Vec<f32> = history
            .of("quiet", 9)
            .iter()
            .map(|tick| tick.offered)
            .collect();
        assert_eq!(offered, [2.0, 0.0, 4.0]);
    }
}
