//! *Hot keys*: keys of merged limits that have a budget of their own.
//!
//! What nodes see of single keys is [merged](crate::heavy). A key that wants more than hosts give it by
//! themselves becomes a page of the book, and is from then on what any leased limit is: divided by
//! demand, proposed, acknowledged, committed, leased, and adopted by the next leader. Nothing about it
//! needs a proof of its own, because what it may spend is apart from what hosts spend without it
//! (see [`weir_model::hot`]):
//!
//! - strict: the hosts' cold buckets have one half of the limit for each key, always; the page has the
//!   other. So a key may become hot, cold and hot again at any instant, on any part of the fleet.
//! - elastic: who has the grant is judged by it alone. Members that do not have it yet, or not any
//!   more, give the key the whole rate each: the bound begins when all have acknowledged.
//!
//! A key that is hot no more is proposed as nothing, by its absence, until its holders have
//! acknowledged; its page counts until then, or until their leases have ended. A page that was
//! forgotten at once would be given a second time as soon as the key is hot again.
//!
//! A policy may give a strict limit's keys another length. A source is then in one key where that policy
//! is in force, and in another where it is not yet. What hosts give it by themselves adds up, for each
//! gives either; pages do not. So no key of the new length has one while somebody may hold a lease of the
//! old length. Without that, a source on two hosts has both halves that are for hot keys.
//!
//! A new leader knows the pages, from the register, but not which keys they are: identities are
//! hashes. It says nothing about hot keys at first, which leaves all of them as they are, and takes
//! up those that nodes name; the others are given up then. Without that, elastic keys would have the
//! whole rate on every host after each take-over.

use alloc::{collections::BTreeMap, vec::Vec};
use core::{cmp::Reverse, time::Duration};

use weir_model::{
    Amount, HotKey, Limit, LimitId, Nanos, NodeId, Units, UnitsPerSecond,
    hot::{MAX_HOT_KEYS, MAX_HOT_KEYS_PER_LIMIT},
    message::Report,
    policy::Promise,
};

use super::{Leader, coordinated};
use crate::{
    allocation::Participant,
    book::{LimitSlot, Pool},
    commit::CommitBackend,
    heavy::{Heavy, Offered},
    rules::Mutation,
};

/// A new leader says nothing about hot keys for so many ticks: twice the period in which nodes name
/// theirs.
const LEARNING_TICKS: u32 = 10;
/// A key that wants less than half of what made it hot is hot for so long yet.
const COOLING: Duration = Duration::from_secs(2);
/// Most rows of one proposal: leased limits and hot keys.
const MAX_ROWS: usize = 4_096;

/// Every hot key of a term.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct HotKeys {
    pub(super) heavy: Heavy,
    pages: BTreeMap<LimitId, Page>,
    /// Which keys they were, unless an older leader alone knew.
    retired: BTreeMap<LimitId, Option<HotKey>>,
    /// Until then proposals leave hot keys as they are; always, if there are no merged limits.
    learns_until: Option<Nanos>,
    /// What was retired while it was not known which keys are hot has been planned again since.
    has_learned: bool,
    /// What the latest proposal said.
    announced: Option<Vec<HotKey>>,
    /// Keys have become hot, or are so no more, since places were arranged.
    has_changed: bool,
}

#[derive(Clone, Debug, Hash)]
struct Page {
    key: HotKey,
    limit: Limit,
    /// What is divided: the budget, less what is kept for the floors of an elastic key.
    aim: UnitsPerSecond,
    quiet_since: Option<Nanos>,
}

impl HotKeys {
    /// The limit that a hot key is.
    pub(super) fn limit(&self, id: LimitId) -> Option<&Limit> {
        Some(&self.pages.get(&id)?.limit)
    }

    /// The identities of those that are hot.
    pub(super) fn ids(&self) -> impl Iterator<Item = LimitId> {
        self.pages.keys().copied()
    }

    /// The identities of those that are hot no more, and that somebody may still hold.
    pub(super) fn retired(&self) -> impl Iterator<Item = LimitId> {
        self.retired.keys().copied()
    }

    /// What is to be divided of a hot key. Who does not use its floor of an elastic one takes nothing
    /// from those who want more.
    pub(super) fn open_budget(&self, limit: &Limit, participants: &[Participant<'_>]) -> Amount {
        let floor = limit.floor.rate.0;
        let unused: u64 = participants
            .iter()
            .map(|participant| floor.saturating_sub(participant.demand.0))
            .sum();
        let page = self.pages.get(&limit.id);
        let aim = page.map_or(0, |page| page.aim.0).saturating_add(unused);
        Amount {
            rate: limit.budget.rate.min(UnitsPerSecond(aim)),
            ..limit.budget
        }
    }

    /// What a node is taken to want of a hot key of which it has reported no counters yet.
    pub(super) fn wanted(&self, node: NodeId, id: LimitId) -> Option<UnitsPerSecond> {
        let key = self.pages.get(&id)?.key;
        let offered = self.heavy.offered(node, (key.limit, key.key));
        (offered.0 > 0).then_some(offered)
    }

    /// What the latest proposal said of hot keys.
    pub(super) fn announced(&self) -> Option<Vec<HotKey>> {
        self.announced.clone()
    }

    /// Whether it is known which keys are hot.
    pub(super) fn knows(&self, now: Nanos) -> bool {
        self.learns_until.is_some_and(|until| now >= until)
    }

    fn to_announce(&self, now: Nanos) -> Option<Vec<HotKey>> {
        let keys = || self.pages.values().map(|page| page.key).collect();
        self.knows(now).then(keys)
    }

    /// A proposal goes out.
    pub(super) fn announce(&mut self, now: Nanos) {
        self.announced = self.to_announce(now);
    }

    /// Whether there is something to be said about hot keys.
    pub(super) fn has_news(&self, now: Nanos) -> bool {
        let keys = self.pages.values().map(|page| &page.key);
        self.knows(now)
            && !self
                .announced
                .as_ref()
                .is_some_and(|announced| announced.iter().eq(keys))
    }

    /// Keys that one node alone names are hot in half of the places at most. What it makes up takes no
    /// place then from what only the sum over the fleet shows; and a key that it does see is kept
    /// within the limit by its own bucket.
    fn has_room(&self, key: &HotKey, is_adopted: bool, rows: usize) -> bool {
        let of_limit = self.pages.values();
        let of_limit = of_limit.filter(|page| page.key.limit == key.limit).count();
        let most = MAX_HOT_KEYS.min(rows);
        let part = if !is_adopted && self.heavy.is_named_once((key.limit, key.key)) {
            2
        } else {
            1
        };
        self.pages.len() < most / part && of_limit < MAX_HOT_KEYS_PER_LIMIT / part
    }
}

impl<B: CommitBackend> Leader<B> {
    /// The hot keys.
    pub fn hot_keys(&self) -> impl Iterator<Item = &HotKey> {
        self.hot.pages.values().map(|page| &page.key)
    }

    /// The hot keys, each with what the fleet offers of it, as far as nodes have said.
    pub fn hot_offered(&self) -> impl Iterator<Item = (HotKey, UnitsPerSecond)> {
        let pages = self.hot.pages.values();
        pages.map(|Page { key, .. }| (*key, self.hot.heavy.of((key.limit, key.key)).sum))
    }

    /// A term begins, or the first policy of it that has merged limits.
    pub(super) fn begin_hot(&mut self, now: Nanos) {
        let learns = !self.rules.breaks(Mutation::HotKeysUnlearned);
        let ticks = if learns { LEARNING_TICKS } else { 0 };
        let until = now + self.timing.tick * ticks;
        self.hot.learns_until = self.merges().then_some(until);
        self.hot.has_learned = false;
    }

    /// Whether there are limits whose keys are merged.
    fn merges(&self) -> bool {
        let members = self.policy.fleet.max_members;
        let mut limits = self.policy.limits.iter();
        limits.any(|limit| limit.merges_keys(members))
    }

    /// What a node says about single keys. Empty is no news.
    pub(super) fn hear_heavy(&mut self, report: &Report, now: Nanos) {
        if !report.heavy.is_empty() {
            self.hot.heavy.hear(report.node, &report.heavy, now);
            self.note_pages();
        }
    }

    /// What nodes are taken to want of keys may be something else, where nothing is counted yet.
    fn note_pages(&mut self) {
        for id in self.hot.pages.keys() {
            self.book.note_limit(*id);
        }
    }

    /// Makes keys hot that have to be, and those cold that need not be hot.
    pub(super) fn heat(&mut self, now: Nanos) {
        if self.hot.learns_until.is_none() {
            self.begin_hot(now);
        }
        if self.hot.learns_until.is_none() {
            return;
        }
        if self.hot.heavy.forget(now) {
            self.note_pages();
        }
        self.cool(now);
        let is_learning = !self.hot.knows(now);
        let mut candidates: Vec<(bool, Offered, HotKey)> = Vec::new();
        for ((limit, key), offered) in self.hot.heavy.merged() {
            let Some(limit) = self.policy.limit(limit).filter(|limit| limit.has_key(key)) else {
                continue;
            };
            let hot = HotKey::new(limit, key);
            let is_adopted = is_learning && self.book.total(hot.id) != Amount::ZERO;
            let is_taken = self.hot.pages.contains_key(&hot.id);
            if !is_taken && (is_adopted || is_over(limit, offered, 1)) {
                candidates.push((is_adopted, offered, hot));
            }
        }
        candidates.sort_by_key(|candidate| Reverse(*candidate));
        let rows = self.rows_for_keys();
        let lapsing = if candidates.is_empty() {
            Vec::new()
        } else {
            self.lapsing()
        };
        for (is_adopted, _, hot) in candidates {
            // Of two keys with one identity the first is hot.
            let is_taken = self.hot.pages.contains_key(&hot.id);
            let has_to_wait = !is_adopted && self.shares_pool(&hot, &lapsing);
            if !is_taken && !has_to_wait && self.hot.has_room(&hot, is_adopted, rows) {
                self.promote(hot);
            }
        }
        if !is_learning {
            self.retire_unknown();
        }
        let learns_now = !is_learning && !self.hot.has_learned;
        self.hot.has_learned |= learns_now;
        if self.hot.has_news(now) || learns_now {
            // What may be given up only when it is known what is hot is planned again, also if a
            // proposal has named what is hot before this tick came.
            for id in self.hot.retired.keys() {
                self.book.note_limit(*id);
            }
        }
        self.forget_spent();
        if core::mem::take(&mut self.hot.has_changed) {
            self.arrange_places();
        }
    }

    /// How many hot keys a proposal has room for beside the leased limits, and an envelope that has to be
    /// stored. One that cannot be stored is never committed: sources that are many enough would put all
    /// hosts on their floors.
    fn rows_for_keys(&self) -> usize {
        let leased = coordinated(&self.policy).count();
        let members = self.members.len().max(1);
        let stored = self.backend.most_entries().map_or(usize::MAX, |entries| {
            (entries / members).saturating_sub(self.hot.retired.len())
        });
        MAX_ROWS.min(stored).saturating_sub(leased)
    }

    /// The keys that are not hot, and of which somebody may hold a lease; `None` for one that an older
    /// leader alone knew.
    fn lapsing(&self) -> Vec<Option<HotKey>> {
        let cold = |id: &LimitId| !self.hot.pages.contains_key(id) && self.book.is_leased(*id);
        let cold = self.book.keys().filter(cold);
        cold.map(|id| *self.hot.retired.get(&id)?).collect()
    }

    /// Whether a key of a strict limit may be one source's beside one of these, of another length.
    fn shares_pool(&self, key: &HotKey, others: &[Option<HotKey>]) -> bool {
        let limit = self.policy.limit(key.limit);
        let is_strict = limit.is_some_and(|limit| limit.promise == Promise::Strict);
        let shares = |other: &Option<HotKey>| {
            other.is_none_or(|other| {
                other.limit == key.limit && other.key.length() != key.key.length()
            })
        };
        is_strict && others.iter().any(shares)
    }

    fn promote(&mut self, key: HotKey) {
        let Some((limit, aim)) = self.page_of(&key) else {
            return;
        };
        self.book.begin_limit(limit.id, limit.scale, limit.budget);
        let page = Page {
            key,
            limit,
            aim,
            quiet_since: None,
        };
        self.hot.retired.remove(&key.id);
        self.hot.pages.insert(key.id, page);
        self.hot.has_changed = true;
    }

    /// The pool of a hot key, if every member has its floor, and there is room for no others.
    ///
    /// Floors have no end, and the roster has those of keys not: once voters have forgotten a register,
    /// no leader knows who has one.
    pub(super) fn with_floors(&self, slot: LimitSlot, limit: &Limit, pool: Pool) -> Pool {
        let members = self.members.values();
        let missing: Amount = members
            .map(|member| {
                let booked = self.book.holding(member.slot, slot).envelope;
                limit.floor.saturating_sub(booked)
            })
            .sum();
        let total = pool.total.saturating_add(missing);
        let places = u64::from(self.policy.fleet.max_members);
        let vacant = places.saturating_sub(self.members.len() as u64);
        let budget = limit.budget.saturating_sub(Amount {
            rate: UnitsPerSecond(limit.floor.rate.0.saturating_mul(vacant)),
            burst: Units(limit.floor.burst.0.saturating_mul(vacant)),
        });
        let free = budget.saturating_sub(total);
        Pool {
            total,
            free,
            ..pool
        }
    }

    /// Keys of an older leader that nobody names are hot no more.
    fn retire_unknown(&mut self) {
        let is_known =
            |id: &LimitId| self.hot.pages.contains_key(id) || self.hot.retired.contains_key(id);
        let unknown: Vec<LimitId> = self.book.keys().filter(|id| !is_known(id)).collect();
        for id in unknown {
            if let Some(scale) = self.book.scale(id) {
                // Whatever is held of it is to be given back; it is not above any budget.
                let held = self.book.total(id);
                self.book.begin_limit(id, scale, held);
                self.retire(id, None);
            }
        }
    }

    fn forget_spent(&mut self) {
        let base = self.electorate.oldest_base();
        let spent: Vec<LimitId> = self
            .hot
            .retired()
            .filter(|id| self.book.is_spent(*id, base))
            .collect();
        for id in spent {
            self.hot.retired.remove(&id);
            self.hot.has_changed = true;
            self.book.forget_limit(id);
        }
    }

    /// What a hot key is under the policy in force, and what of it is divided.
    fn page_of(&self, key: &HotKey) -> Option<(Limit, UnitsPerSecond)> {
        let mut limit = self.policy.hot_limit(key)?;
        let of = self.policy.limit(key.limit)?;
        if self.rules.breaks(Mutation::HotPoolWhole) {
            limit.budget = limit.budget.max(of.budget);
        }
        let aim = match of.promise {
            Promise::Elastic => of.budget.rate,
            Promise::Strict | Promise::Local => limit.budget.rate,
        };
        Some((limit, aim))
    }

    fn cool(&mut self, now: Nanos) {
        let mut cold = Vec::new();
        let is_learning = !self.hot.knows(now);
        for (id, page) in &mut self.hot.pages {
            // Counters are exact; before there are any, samples have to do.
            let slot = self.book.limit_slot(*id);
            let heard = self.members.values().filter(|member| {
                let heard = member.heard;
                heard.is_some_and(|heard| now - heard.at <= self.timing.stale())
            });
            let counts = heard.filter_map(|member| member.count(slot?));
            let counted = counts.fold(Offered::default(), |offered, count| {
                offered.and(count.meter.rates().offered)
            });
            let sampled = self.hot.heavy.of((page.key.limit, page.key.key));
            let is_wanted = self
                .policy
                .limit(page.key.limit)
                .is_some_and(|limit| is_over(limit, counted, 2) || is_over(limit, sampled, 2));
            if is_wanted || is_learning {
                page.quiet_since = None;
            } else if now - *page.quiet_since.get_or_insert(now) >= COOLING {
                cold.push(*id);
            }
        }
        for id in cold {
            let page = self.hot.pages.remove(&id);
            self.retire(id, page.map(|page| page.key));
        }
    }

    /// A key is hot no more. Its page is in force until nobody may hold anything.
    fn retire(&mut self, id: LimitId, key: Option<HotKey>) {
        self.hot.has_changed = true;
        if self.rules.breaks(Mutation::HotPageForgotten) {
            self.book.forget_limit(id);
        } else {
            self.hot.retired.insert(id, key);
            self.book.note_limit(id);
        }
    }

    /// Another policy is in force: hot keys are what they are under it, or are none.
    pub(super) fn reheat(&mut self) {
        // Where merging begins with this policy, the next tick begins to learn.
        if !self.merges() {
            self.hot.learns_until = None;
        }
        let pages = core::mem::take(&mut self.hot.pages);
        for (id, page) in pages {
            let known = self.page_of(&page.key);
            let (scale, budget) = known
                .as_ref()
                .map_or((page.limit.scale, page.limit.budget), |(limit, _)| {
                    (limit.scale, limit.budget)
                });
            self.book.begin_limit(id, scale, budget);
            if let Some((limit, aim)) = known {
                let page = Page { limit, aim, ..page };
                self.hot.pages.insert(id, page);
            } else {
                self.retire(id, Some(page.key));
            }
        }
        let retired: Vec<LimitId> = self.hot.retired().collect();
        for id in retired {
            if let Some(scale) = self.book.scale(id) {
                let held = self.book.total(id);
                self.book.begin_limit(id, scale, held);
            }
        }
    }
}

/// Whether a key wants more than one part in `divisor` of what hosts give it by themselves: of a strict
/// limit any host of its cold share, of an elastic one all hosts together of the rate.
fn is_over(limit: &Limit, offered: Offered, divisor: u64) -> bool {
    match limit.promise {
        Promise::Strict => limit
            .key_amount()
            .is_some_and(|cold| offered.most.0 > cold.rate.0 / divisor),
        Promise::Elastic => offered.sum.0 > limit.budget.rate.0 / divisor,
        Promise::Local => false,
    }
}

#[cfg(test)]
mod tests {
    use weir_model::prefix::Prefix;

    use super::{super::plan::tests::limit, *};

    const NOW: Nanos = Nanos(1_000_000_000);

    fn key(number: u32) -> HotKey {
        HotKey {
            id: LimitId(1 << 63 | u64::from(number)),
            limit: LimitId(1),
            key: Prefix::containing(core::net::Ipv4Addr::from(number).into(), 32).unwrap(),
        }
    }

    fn named(keys: impl Iterator<Item = u32>) -> Vec<weir_model::HeavyKey> {
        let heavy = |number| weir_model::HeavyKey {
            limit: LimitId(1),
            key: key(number).key,
            offered: UnitsPerSecond(u64::MAX),
        };
        keys.map(heavy).collect()
    }

    #[test]
    fn what_one_node_makes_up_leaves_room_for_what_many_see() {
        let all = MAX_HOT_KEYS_PER_LIMIT as u32;
        let [liar, one, other] = [1, 2, 3].map(NodeId::from_u128);
        let mut hot = HotKeys::default();
        hot.heavy.hear(liar, &named(0..all), NOW);
        for node in [one, other] {
            hot.heavy.hear(node, &named(all..2 * all), NOW);
        }
        let mut promoted = |numbers: core::ops::Range<u32>| {
            let before = hot.pages.len();
            for key in numbers.map(key) {
                if hot.has_room(&key, false, MAX_ROWS) {
                    let page = Page {
                        key,
                        limit: limit(1, 1_000),
                        aim: UnitsPerSecond(1),
                        quiet_since: None,
                    };
                    hot.pages.insert(key.id, page);
                }
            }
            hot.pages.len() - before
        };
        assert_eq!(promoted(0..all), MAX_HOT_KEYS_PER_LIMIT / 2);
        assert_eq!(promoted(all..2 * all), MAX_HOT_KEYS_PER_LIMIT.div_ceil(2));
    }
}
