//! The heaviest of very many, in a bounded place: Space-Saving.
//!
//! Metwally, Agrawal and El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data
//! Streams", 2005. There are so many counters. Who has none takes over the smallest one with what
//! is in it, which it may have sent itself and may not: that much is its error. So counts are never
//! too small, the sum over counters is the sum of what was observed, and whoever sent more than a
//! counter's part of everything has one.

use std::collections::HashMap;

use weir_model::prefix::Prefix;

/// Counters, and where each source has its own.
#[derive(Clone, Debug)]
pub(super) struct SpaceSaving {
    most: usize,
    /// A binary heap: nobody has more `offered` than its children, which are at `2i + 1` and
    /// `2i + 2`.
    counters: Vec<Counter>,
    places: HashMap<Prefix, usize>,
}

/// What is known of one source. It sent at most `offered`, and at least `offered - error`; of that,
/// at least `dropped` was dropped, and at most `dropped + error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counter {
    pub(super) source: Prefix,
    pub(super) offered: u64,
    pub(super) dropped: u64,
    pub(super) error: u64,
    /// How often it was observed since it has the counter.
    pub(super) samples: u64,
}

impl SpaceSaving {
    /// With at most so many counters, at least one; the smallest is taken over when all are in use.
    pub(super) fn new(most: usize) -> Self {
        assert!(most > 0, "somebody has to be counted");
        Self {
            most,
            counters: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// A source offered so much, of which so much was dropped. O(log n).
    pub(super) fn observe(&mut self, source: Prefix, offered: u64, dropped: u64) {
        if let Some(place) = self.places.get(&source).copied() {
            let counter = &mut self.counters[place];
            counter.offered += offered;
            counter.dropped += dropped;
            counter.samples += 1;
            self.sink(place);
        } else if self.counters.len() < self.most {
            self.counters.push(Counter {
                source,
                offered,
                dropped,
                error: 0,
                samples: 1,
            });
            self.rise(self.counters.len() - 1);
        } else {
            let smallest = &mut self.counters[0];
            self.places.remove(&smallest.source);
            *smallest = Counter {
                source,
                offered: smallest.offered + offered,
                dropped,
                error: smallest.offered,
                samples: 1,
            };
            self.sink(0);
        }
    }

    /// What is known of a source; of one without a counter, the most that it can have sent.
    pub(super) fn of(&self, source: Prefix) -> Counter {
        match self.places.get(&source) {
            Some(place) => self.counters[*place],
            None => Counter {
                source,
                offered: self.most_of_others(),
                dropped: 0,
                error: self.most_of_others(),
                samples: 0,
            },
        }
    }

    /// Those that have a counter, in no order.
    pub(super) fn counters(&self) -> impl Iterator<Item = &Counter> {
        self.counters.iter()
    }

    /// The most that a source without a counter can have sent.
    fn most_of_others(&self) -> u64 {
        match self.counters.first() {
            Some(smallest) if self.counters.len() == self.most => smallest.offered,
            _ => 0,
        }
    }

    /// Puts a counter that has grown below those that are now smaller.
    fn sink(&mut self, mut place: usize) {
        loop {
            let children = [2 * place + 1, 2 * place + 2];
            let smaller = children
                .into_iter()
                .filter(|child| *child < self.counters.len())
                .min_by_key(|child| self.counters[*child].offered);
            match smaller {
                Some(child) if self.counters[child].offered < self.counters[place].offered => {
                    self.swap(place, child);
                    place = child;
                }
                _ => break,
            }
        }
        self.places.insert(self.counters[place].source, place);
    }

    /// Puts a new counter above those that are larger.
    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.counters[parent].offered <= self.counters[place].offered {
                break;
            }
            self.swap(place, parent);
            place = parent;
        }
        self.places.insert(self.counters[place].source, place);
    }

    /// Only the place of the counter that moves on is not noted yet.
    fn swap(&mut self, moving: usize, other: usize) {
        self.counters.swap(moving, other);
        self.places.insert(self.counters[moving].source, moving);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn source(number: u32) -> Prefix {
        Prefix::containing(std::net::Ipv4Addr::from(number).into(), 32).unwrap()
    }

    impl SpaceSaving {
        fn check_invariants(&self, total: u64) {
            assert!(self.counters.len() <= self.most);
            assert_eq!(self.places.len(), self.counters.len());
            for (place, counter) in self.counters.iter().enumerate() {
                assert_eq!(self.places[&counter.source], place);
                let parent = &self.counters[place.saturating_sub(1) / 2];
                assert!(parent.offered <= counter.offered, "at {place}");
                assert!(counter.error <= counter.offered && counter.dropped <= counter.offered);
            }
            assert_eq!(
                self.counters.iter().map(|one| one.offered).sum::<u64>(),
                total
            );
        }
    }

    #[test]
    fn whoever_comes_to_a_full_place_takes_over_the_smallest_counter() {
        let mut sources = SpaceSaving::new(2);
        sources.observe(source(1), 10, 4);
        sources.observe(source(2), 3, 0);
        assert_eq!(
            sources.of(source(3)).offered,
            3,
            "no more than the smallest"
        );
        sources.observe(source(3), 2, 2);
        let newcomer = sources.of(source(3));
        assert_eq!(
            (newcomer.offered, newcomer.dropped, newcomer.error),
            (5, 2, 3)
        );
        assert_eq!(sources.of(source(1)).error, 0);
        let gone = sources.of(source(2));
        assert_eq!((gone.offered, gone.dropped, gone.error), (5, 0, 5));
    }

    #[test]
    fn while_there_is_room_nothing_is_guessed() {
        let mut sources = SpaceSaving::new(3);
        sources.observe(source(1), 10, 4);
        sources.observe(source(1), 1, 1);
        let counted = sources.of(source(1));
        assert_eq!(
            (counted.offered, counted.dropped, counted.error),
            (11, 5, 0)
        );
        assert_eq!(sources.of(source(2)).offered, 0);
    }

    proptest! {
        /// Against exact counts: a few heavy sources in a crowd of others.
        #[test]
        fn bounds_hold_and_the_heavy_ones_are_there(
            packets in prop::collection::vec((0..60_u32, 1..20_u64, any::<bool>()), 0..600),
        ) {
            let mut sources = SpaceSaving::new(16);
            let mut exact: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
            let mut total = 0;
            for (number, weight, is_dropped) in packets {
                let number = number * number / 60;
                let dropped = if is_dropped { weight } else { 0 };
                sources.observe(source(number), weight, dropped);
                let truth = exact.entry(number).or_default();
                *truth = (truth.0 + weight, truth.1 + dropped);
                total += weight;
            }
            sources.check_invariants(total);
            for (number, (offered, dropped)) in exact {
                let known = sources.of(source(number));
                prop_assert!(known.offered >= offered && known.offered - known.error <= offered);
                prop_assert!(known.dropped <= dropped && known.dropped + known.error >= dropped);
                prop_assert!(offered <= total / 16 || sources.places.contains_key(&source(number)));
            }
        }
    }
}
