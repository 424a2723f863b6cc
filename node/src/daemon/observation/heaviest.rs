//! The heaviest sources of each limit, over the last seconds.
//!
//! Two windows follow each other: what is known of a source is the sum of the one that is being
//! filled and the one before, so it covers ten to twenty seconds and forgets what is older. Sums
//! of such summaries keep their bounds (Agarwal et al., "Mergeable Summaries", 2012).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use weir_model::{LimitId, Nanos, Revision, prefix::Prefix};

use super::space_saving::{Counter, SpaceSaving};

/// Sources of one limit that have a counter. With more than that, the others are known to have sent
/// no more than the smallest counter says.
pub(super) const SOURCES_PER_LIMIT: usize = 256;
/// Limits whose sources are followed, so that it never takes more than some 15 MB. With more than
/// that, those with the most traffic of the last window have their place.
pub(super) const LIMITS_FOLLOWED: usize = 256;
/// How long a window is filled, for people to look at.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// Rates over less than that say little.
const SHORTEST: Duration = Duration::from_secs(1);

/// All limits' sources.
#[derive(Debug, Default)]
pub(super) struct Heaviest {
    limits: BTreeMap<LimitId, Followed>,
    /// Traffic of limits that found no place, in this window.
    left_out: BTreeMap<LimitId, u64>,
    /// How long a window is filled.
    window: Duration,
    /// When the window that is being filled began, and the one before.
    began: Nanos,
    before_began: Nanos,
}

#[derive(Debug)]
struct Followed {
    revision: Revision,
    filling: Window,
    before: Window,
}

#[derive(Debug)]
struct Window {
    sources: SpaceSaving,
    /// The first observation; `None` if there is none yet.
    first: Option<Nanos>,
    offered: u64,
}

/// A source's traffic, and over how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Traffic {
    /// Which prefix.
    pub(crate) source: Prefix,
    /// At most so many tokens arrived.
    pub(crate) offered: u64,
    /// At least so many of them were dropped.
    pub(crate) dropped: u64,
    /// By how many tokens both may be wrong.
    pub(crate) error: u64,
    /// How many samples say so.
    pub(crate) samples: u64,
}

impl Traffic {
    /// What it sent at least.
    pub(super) const fn certain(&self) -> u64 {
        self.offered - self.error
    }
}

/// One packet, for all that it stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    pub(super) at: Nanos,
    pub(super) limit: LimitId,
    pub(super) revision: Revision,
    pub(super) source: Prefix,
    /// Tokens.
    pub(super) offered: u64,
    /// Tokens of these.
    pub(super) dropped: u64,
}

impl Window {
    fn new() -> Self {
        Self {
            sources: SpaceSaving::new(SOURCES_PER_LIMIT),
            first: None,
            offered: 0,
        }
    }
}

impl Followed {
    fn new(revision: Revision) -> Self {
        Self {
            revision,
            filling: Window::new(),
            before: Window::new(),
        }
    }
}

impl Heaviest {
    /// Nothing is known; `now` begins the first window.
    pub(super) fn new(now: Nanos) -> Self {
        Self::with_window(now, WINDOW)
    }

    /// The same with windows of this length.
    pub(super) fn with_window(now: Nanos, window: Duration) -> Self {
        Self {
            window,
            began: now,
            before_began: now,
            ..Self::default()
        }
    }

    /// Takes one packet into account. One from before all windows is too old.
    pub(super) fn observe(&mut self, packet: Observed) {
        if packet.at < self.before_began {
            return;
        }
        if !self.limits.contains_key(&packet.limit) && self.limits.len() >= LIMITS_FOLLOWED {
            *self.left_out.entry(packet.limit).or_default() += packet.offered;
            return;
        }
        let followed = self
            .limits
            .entry(packet.limit)
            .or_insert_with(|| Followed::new(packet.revision));
        if followed.revision != packet.revision {
            // Its tokens, or its keys, are others now.
            *followed = Followed::new(packet.revision);
        }
        let window = &mut followed.filling;
        window.first = Some(window.first.map_or(packet.at, |first| first.min(packet.at)));
        window.offered += packet.offered;
        window
            .sources
            .observe(packet.source, packet.offered, packet.dropped);
    }

    /// Begins the next window if it is time.
    pub(super) fn turn(&mut self, now: Nanos) {
        if now - self.began < self.window {
            return;
        }
        // After a pause both windows are old.
        let paused = now - self.began >= 2 * self.window;
        self.before_began = if paused { now } else { self.began };
        self.began = now;
        for followed in self.limits.values_mut() {
            let filled = std::mem::replace(&mut followed.filling, Window::new());
            followed.before = if paused { Window::new() } else { filled };
        }
        self.limits
            .retain(|_, followed| followed.before.offered > 0);
        self.give_places();
    }

    /// Has the limits with the most traffic of the last window followed.
    fn give_places(&mut self) {
        let left_out = std::mem::take(&mut self.left_out);
        if left_out.is_empty() {
            return;
        }
        let followed = self.limits.iter();
        let mut candidates: Vec<(u64, LimitId)> = followed
            .map(|(limit, followed)| (followed.before.offered, *limit))
            .chain(left_out.iter().map(|(limit, offered)| (*offered, *limit)))
            .collect();
        candidates.sort_unstable_by_key(|(offered, limit)| (Reverse(*offered), *limit));
        candidates.truncate(LIMITS_FOLLOWED);
        let chosen: BTreeSet<LimitId> = candidates.into_iter().map(|(_, limit)| limit).collect();
        self.limits.retain(|limit, _| chosen.contains(limit));
        // A place that is not taken goes to whoever comes first, so keep it for the chosen.
        for limit in chosen {
            self.limits
                .entry(limit)
                .or_insert_with(|| Followed::new(Revision::default()));
        }
    }

    /// Forgets limits that are no longer what they were.
    pub(super) fn retain(&mut self, keep: impl Fn(LimitId, Revision) -> bool) {
        self.limits
            .retain(|limit, followed| keep(*limit, followed.revision));
    }

    /// Whether there was no place for a limit that has traffic.
    pub(super) fn is_left_out(&self, limit: LimitId) -> bool {
        self.left_out.contains_key(&limit)
    }

    /// The limits whose sources are followed.
    pub(super) fn limits(&self) -> impl Iterator<Item = LimitId> + '_ {
        self.limits.keys().copied()
    }

    /// For how long the limit's packets have been observed, as far as they are remembered.
    pub(super) fn span(&self, limit: LimitId, now: Nanos) -> Duration {
        let first = self.limits.get(&limit).and_then(|followed| {
            let windows = [&followed.before, &followed.filling];
            windows.into_iter().find_map(|window| window.first)
        });
        (now - first.unwrap_or(self.before_began)).max(SHORTEST)
    }

    /// The heaviest sources of a limit, at most so many: by what they sent at least.
    pub(super) fn top(&self, limit: LimitId, most: usize) -> Vec<Traffic> {
        let Some(followed) = self.limits.get(&limit) else {
            return Vec::new();
        };
        let (before, filling) = (&followed.before.sources, &followed.filling.sources);
        let sources: BTreeSet<Prefix> = before
            .counters()
            .chain(filling.counters())
            .map(|counter| counter.source)
            .collect();
        let mut traffic: Vec<Traffic> = sources
            .into_iter()
            .map(|source| sum(before.of(source), filling.of(source)))
            .collect();
        traffic.sort_by_key(|one| (Reverse(one.certain()), Reverse(one.offered), one.source));
        traffic.truncate(most);
        traffic
    }

    /// What is known of one source of a limit; `None` if the limit is left out.
    pub(super) fn of(&self, limit: LimitId, source: Prefix) -> Option<Traffic> {
        if self.is_left_out(limit) {
            return None;
        }
        Some(match self.limits.get(&limit) {
            Some(followed) => sum(
                followed.before.sources.of(source),
                followed.filling.sources.of(source),
            ),
            None => Traffic {
                source,
                offered: 0,
                dropped: 0,
                error: 0,
                samples: 0,
            },
        })
    }
}

const fn sum(before: Counter, filling: Counter) -> Traffic {
    Traffic {
        source: filling.source,
        offered: before.offered + filling.offered,
        dropped: before.dropped + filling.dropped,
        error: before.error + filling.error,
        samples: before.samples + filling.samples,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn source(number: u32) -> Prefix {
        Prefix::containing(std::net::Ipv4Addr::from(number).into(), 32).unwrap()
    }

    fn observed(at_s: u64, limit: u64, number: u32, offered: u64) -> Observed {
        Observed {
            at: Nanos(at_s * SECOND),
            limit: LimitId(limit),
            revision: Revision(1),
            source: source(number),
            offered,
            dropped: offered / 2,
        }
    }

    fn order(heaviest: &Heaviest, limit: u64) -> Vec<Prefix> {
        let top = heaviest.top(LimitId(limit), 3);
        top.iter().map(|one| one.source).collect()
    }

    #[test]
    fn the_heaviest_come_first_and_are_counted() {
        let mut heaviest = Heaviest::new(Nanos::ZERO);
        for (number, offered) in [(1, 10), (2, 500), (3, 70), (4, 1), (2, 500)] {
            heaviest.observe(observed(1, 7, number, offered));
        }
        assert_eq!(order(&heaviest, 7), [source(2), source(3), source(1)]);
        let first = heaviest.top(LimitId(7), 1)[0];
        assert_eq!((first.offered, first.dropped, first.error), (1_000, 500, 0));
        assert!(heaviest.top(LimitId(8), 3).is_empty(), "of this limit only");
        assert_eq!(heaviest.of(LimitId(7), source(9)).unwrap().offered, 0);
    }

    #[test]
    fn two_windows_count_and_what_is_older_is_forgotten() {
        let mut heaviest = Heaviest::new(Nanos::ZERO);
        heaviest.observe(observed(4, 7, 1, 100));
        heaviest.turn(Nanos(10 * SECOND));
        heaviest.observe(observed(11, 7, 1, 10));
        heaviest.observe(observed(11, 7, 2, 60));
        assert_eq!(order(&heaviest, 7), [source(1), source(2)]);
        assert_eq!(heaviest.of(LimitId(7), source(1)).unwrap().offered, 110);
        let span = heaviest.span(LimitId(7), Nanos(14 * SECOND));
        assert_eq!(span, Duration::from_secs(10), "since its first packet");
        heaviest.turn(Nanos(20 * SECOND));
        assert_eq!(order(&heaviest, 7), [source(2), source(1)]);
        heaviest.turn(Nanos(30 * SECOND));
        assert!(heaviest.limits.is_empty(), "nothing is kept for the idle");
    }

    #[test]
    fn after_a_pause_nothing_old_is_new() {
        let mut heaviest = Heaviest::new(Nanos::ZERO);
        heaviest.observe(observed(4, 7, 1, 100));
        heaviest.turn(Nanos(1_000 * SECOND));
        assert!(order(&heaviest, 7).is_empty());
        heaviest.observe(observed(4, 7, 1, 100));
        assert!(order(&heaviest, 7).is_empty(), "sampled before the window");
    }

    #[test]
    fn a_limit_of_another_unit_begins_anew() {
        let mut heaviest = Heaviest::new(Nanos::ZERO);
        heaviest.observe(observed(1, 7, 1, 100));
        heaviest.observe(Observed {
            revision: Revision(2),
            ..observed(1, 7, 2, 5)
        });
        assert_eq!(order(&heaviest, 7), [source(2)]);
        heaviest.retain(|_, revision| revision == Revision(1));
        assert!(order(&heaviest, 7).is_empty());
    }

    #[test]
    fn places_for_limits_go_to_those_with_the_most_traffic() {
        let mut heaviest = Heaviest::new(Nanos::ZERO);
        for limit in 0..LIMITS_FOLLOWED as u64 {
            heaviest.observe(observed(1, limit, 1, 100 + limit));
        }
        heaviest.observe(observed(1, 1_000, 1, 150));
        heaviest.observe(observed(1, 1_001, 1, 99));
        assert!(heaviest.is_left_out(LimitId(1_000)));
        assert_eq!(heaviest.of(LimitId(1_000), source(1)), None);
        heaviest.turn(Nanos(10 * SECOND));
        heaviest.observe(observed(11, 1_000, 1, 150));
        heaviest.observe(observed(11, 1_001, 1, 99));
        assert_eq!(order(&heaviest, 1_000), [source(1)]);
        assert!(heaviest.is_left_out(LimitId(1_001)));
        assert!(heaviest.limits.len() <= LIMITS_FOLLOWED);
        assert!(order(&heaviest, 0).is_empty(), "the lightest gave way");
    }

    #[test]
    fn a_crowd_of_sources_that_come_once_does_not_hide_a_heavy_one() {
        let mut heaviest = Heaviest::new(Nanos::ZERO);
        for number in 0..100_000 {
            heaviest.observe(observed(1, 7, 1_000 + number, 1));
            if number % 50 == 0 {
                heaviest.observe(observed(1, 7, 1, 1));
            }
        }
        let first = heaviest.top(LimitId(7), 1)[0];
        assert_eq!(first.source, source(1));
        assert!(
            first.certain() <= 2_000 && first.offered >= 2_000,
            "{first:?}"
        );
        assert!(first.error <= 102_000 / SOURCES_PER_LIMIT as u64);
    }
}
