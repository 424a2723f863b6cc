//! Keys that the fleet's leader is to hear of: heavy ones of limits whose keys are merged.
//!
//! A key may send less to each host than any of them minds, and far more to all of them together
//! than it is due. So a host names what sends more than a quarter of a member's even part, by what
//! was sampled lately, whether it passed or not.
//!
//! What can be seen: a key of which four samples came in a window, and which sent more than one
//! part in 256 of what the limit's traffic on this host was. With about 10,000 samples a second at
//! most, that is a two-thousandth of all packets of limits. Counts of rare keys are off by the
//! square root of their samples; what is reported is what was certainly sent, as far as counters
//! that were taken over are concerned, so a crowd that comes once each makes nobody heavy.

use std::time::Duration;

use weir_model::{
    HeavyKey, HotKey, Limit, LimitId, Nanos, Policy, Term, UnitsPerSecond,
    hot::{MAX_HEAVY_KEYS, MAX_HEAVY_KEYS_PER_LIMIT},
};

use super::heaviest::{Heaviest, Observed};

/// How long a window is filled: what is known is of one to two of them. Shorter ones would see a key
/// sooner, and fewer keys.
const WINDOW: Duration = Duration::from_secs(1);
/// Fewer samples than this are no evidence of a rate.
const SAMPLES_LEAST: u64 = 4;
/// A key is named from this part of a member's even part of the budget on.
const PART_OF_SHARE: u64 = 4;
/// Ticks from one list to the next. A leader forgets one that is two seconds old.
const TICKS_APART: u32 = 5;

/// What was seen of such keys.
#[derive(Debug)]
pub(super) struct Heavy {
    seen: Heaviest,
    ticks: u32,
    told: Term,
}

impl Heavy {
    /// Nothing is known yet.
    pub(super) fn new(now: Nanos) -> Self {
        Self {
            seen: Heaviest::with_window(now, WINDOW),
            ticks: 0,
            told: Term(0),
        }
    }

    /// Takes a packet of a limit into account, if its keys are merged.
    pub(super) fn observe(&mut self, packet: Observed, limit: &Limit, policy: &Policy) {
        if limit.merges_keys(policy.fleet.max_members) {
            self.seen.observe(packet);
        }
    }

    /// To be called each tick, before what was sampled in it is observed.
    pub(super) fn turn(&mut self, now: Nanos) {
        self.seen.turn(now);
    }

    /// Another policy is in force: as [`Heaviest::retain`].
    pub(super) fn set_policy(&mut self, policy: &Policy) {
        self.seen.retain(|id, revision| {
            let limit = policy.limit(id);
            limit.is_some_and(|limit| limit.revision == revision)
        });
    }

    /// Whether a report of this tick is to carry a list: each few ticks, and for a leader that has
    /// not heard any.
    pub(super) fn is_due(&mut self, leader: Term) -> bool {
        self.ticks += 1;
        let is_due = self.ticks >= TICKS_APART || leader != self.told;
        if is_due {
            self.ticks = 0;
            self.told = leader;
        }
        is_due
    }

    /// The list: keys that are hot, with what `offered` says of them, and keys that are heavy. The
    /// heaviest, if there are more than fit.
    pub(super) fn list(
        &self,
        policy: &Policy,
        hot: &[HotKey],
        offered: impl Fn(LimitId) -> UnitsPerSecond,
        now: Nanos,
    ) -> Vec<HeavyKey> {
        let mut list: Vec<HeavyKey> = hot
            .iter()
            .map(|hot| HeavyKey {
                limit: hot.limit,
                key: hot.key,
                offered: offered(hot.id),
            })
            .collect();
        let limits = self.seen.limits().filter_map(|id| policy.limit(id));
        for limit in limits {
            let is_hot = |key: &HeavyKey| hot.iter().any(|hot| is_same(hot, key));
            let hot_keys = hot.iter().filter(|hot| hot.limit == limit.id).count();
            let room = MAX_HEAVY_KEYS_PER_LIMIT.saturating_sub(hot_keys);
            let heavy = self.heavy_keys(limit, policy, now);
            list.extend(heavy.filter(|key| !is_hot(key)).take(room));
        }
        list.truncate(MAX_HEAVY_KEYS);
        list
    }

    /// Heaviest first.
    fn heavy_keys(
        &self,
        limit: &Limit,
        policy: &Policy,
        now: Nanos,
    ) -> impl Iterator<Item = HeavyKey> {
        let members = u64::from(policy.fleet.max_members);
        let least = limit.budget.rate.0 / (PART_OF_SHARE * members);
        let nanos = self.seen.span(limit.id, now).as_nanos();
        let (id, scale) = (limit.id, limit.scale);
        let top = self.seen.top(limit.id, 2 * MAX_HEAVY_KEYS_PER_LIMIT);
        let known = top.into_iter().filter(|one| one.samples >= SAMPLES_LEAST);
        let heavy = known.map(move |one| {
            let units = u128::from(one.certain()) << scale.fraction_bits;
            let rate = units * 1_000_000_000 / nanos;
            HeavyKey {
                limit: id,
                key: one.source,
                offered: UnitsPerSecond(u64::try_from(rate).unwrap_or(u64::MAX)),
            }
        });
        heavy.filter(move |one| one.offered.0 > least)
    }
}

fn is_same(hot: &HotKey, key: &HeavyKey) -> bool {
    (hot.limit, hot.key) == (key.limit, key.key)
}

#[cfg(test)]
mod tests {
    use weir_model::prefix::Prefix;

    use super::*;

    const DOCUMENT: &str = r#"
        version = 1
        [fleet]
        max_members = 10
        [[limit]]
        name = "clients"
        per = { source_v4 = 32, source_v6 = 64 }
        promise = "elastic"
        rate = "4000 packets/s"
    "#;
    const MILLISECOND: u64 = 1_000_000;

    fn source(number: u32) -> Prefix {
        let address = std::net::Ipv4Addr::from(0xc612_0000 + number);
        Prefix::containing(address.into(), 32).unwrap()
    }

    /// Two seconds of sampled packets, 1 in `one_in`, of these sources with these rates.
    fn seen(policy: &Policy, one_in: u64, rates: &[(u32, u64)]) -> Heavy {
        let limit = &policy.limits[0];
        let mut heavy = Heavy::new(Nanos(0));
        let mut debts = vec![0; rates.len()];
        for ms in 0..2_000 {
            let now = Nanos(ms * MILLISECOND);
            if ms % 100 == 0 {
                heavy.turn(now);
            }
            for ((number, rate), debt) in rates.iter().zip(&mut debts) {
                *debt += rate;
                while *debt >= one_in * 1_000 {
                    *debt -= one_in * 1_000;
                    let packet = Observed {
                        at: now,
                        limit: limit.id,
                        revision: limit.revision,
                        source: source(*number),
                        offered: one_in,
                        dropped: 0,
                    };
                    heavy.observe(packet, limit, policy);
                }
            }
        }
        heavy
    }

    fn list(heavy: &Heavy, policy: &Policy, hot: &[HotKey]) -> Vec<(Prefix, u64)> {
        let fraction = policy.limits[0].scale.fraction_bits;
        let units = UnitsPerSecond(7 << fraction);
        let now = Nanos(2_000 * MILLISECOND);
        let list = heavy.list(policy, hot, |_| units, now);
        list.iter()
            .map(|one| (one.key, one.offered.0 >> fraction))
            .collect()
    }

    #[test]
    fn a_key_above_a_quarter_of_an_even_part_is_named_with_its_rate() {
        let policy = weir_model::file::parse(DOCUMENT).unwrap();
        for one_in in [1, 8] {
            let heavy = seen(&policy, one_in, &[(1, 90), (2, 130), (3, 900)]);
            let named = list(&heavy, &policy, &[]);
            let keys: Vec<_> = named.iter().map(|(key, _)| *key).collect();
            assert_eq!(keys, [source(3), source(2)], "1 in {one_in}: {named:?}");
            for ((_, found), rate) in named.iter().zip([900, 130]) {
                assert!(found.abs_diff(rate) <= 2 * one_in, "{found} of {rate}");
            }
        }
    }

    #[test]
    fn a_key_that_is_hot_is_named_once_whatever_it_sends() {
        let policy = weir_model::file::parse(DOCUMENT).unwrap();
        let heavy = seen(&policy, 1, &[(1, 900), (2, 900)]);
        let hot = [1, 9].map(|number| HotKey::new(&policy.limits[0], source(number)));
        let named = list(&heavy, &policy, &hot);
        assert_eq!(named[..2], [(source(1), 7), (source(9), 7)]);
        assert_eq!(named[2].0, source(2));
        assert_eq!(named.len(), 3);
    }

    #[test]
    fn a_crowd_makes_nobody_heavy_and_hides_no_heavy_one() {
        let policy = weir_model::file::parse(DOCUMENT).unwrap();
        let limit = &policy.limits[0];
        let mut heavy = Heavy::new(Nanos(0));
        // One packet in 64 of a flood of 640,000 a second; the key is a fiftieth of it.
        for number in 0..20_000_u64 {
            let is_heavy = number % 50 == 0;
            let packet = Observed {
                at: Nanos(number * MILLISECOND / 10),
                limit: limit.id,
                revision: limit.revision,
                source: source(if is_heavy { 1 } else { 1_000 + number as u32 }),
                offered: 64,
                dropped: 0,
            };
            if number % 1_000 == 0 {
                heavy.turn(packet.at);
            }
            heavy.observe(packet, limit, &policy);
        }
        let named = list(&heavy, &policy, &[]);
        assert_eq!(named.len(), 1, "{named:?}");
        assert_eq!(named[0].0, source(1));
        assert!(named[0].1.abs_diff(12_800) < 4_000, "{named:?}");
    }

    #[test]
    fn limits_whose_keys_are_not_merged_are_not_followed() {
        for (from, to) in [("\"elastic\"", "\"local\""), ("= 10", "= 1")] {
            let document = DOCUMENT.replace(from, to);
            let policy = weir_model::file::parse(&document).unwrap();
            let heavy = seen(&policy, 1, &[(1, 9_000)]);
            assert!(list(&heavy, &policy, &[]).is_empty(), "{to}");
        }
    }

    #[test]
    fn a_list_is_due_each_few_ticks_and_for_a_new_leader() {
        let mut heavy = Heavy::new(Nanos(0));
        assert!(heavy.is_due(Term(3)), "nobody has heard any");
        let due: Vec<u32> = (1..=12).filter(|_| heavy.is_due(Term(3))).collect();
        assert_eq!(due, [5, 10]);
        assert!(heavy.is_due(Term(4)));
        assert!(!heavy.is_due(Term(4)));
    }
}
