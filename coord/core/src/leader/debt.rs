//! *Elastic* limits: what was admitted above rate and burst is paid back.
//!
//! The burst of an elastic limit includes its [excess](weir_model::Limit::lent_burst), so the book keeps
//! the sum over any time within rate, burst and excess, whatever dies, as it keeps any burst. What
//! the leader does here is a courtesy: it adds up what nodes have admitted, in the bucket that a receiver
//! would have, and while there is more in it than the burst without the excess, it divides less than
//! the rate between the nodes. Buckets fill again only where less is sent than granted, so nothing is
//! lent twice meanwhile.
//!
//! Without it, a fleet that was lent the excess keeps it for as long as it is overloaded.

use alloc::collections::BTreeMap;
use core::{cmp::Ordering, time::Duration};

use weir_model::{
    Amount, Limit, LimitId, Nanos, NodeId, Policy, Scale, UnitsPerSecond, policy::Promise,
    time::nanos_of,
};

use super::Leader;
use crate::{allocation::tolerance, commit::CommitBackend, news::LONGEST_SILENCE, rules::Mutation};

const NANOS_PER_SECOND: u128 = 1_000_000_000;
/// At most this part of the rate is held back.
const MOST_HELD_BACK_DIVISOR: u64 = 2;
/// What a node could have admitted and has not told is believed later for so many seconds of its rate: a
/// row that is lost is said again, and that may be lost too.
const BELIEVED_LATER_SECONDS: u64 = (2 * LONGEST_SILENCE.as_millis() as u64).div_ceil(1_000);
/// Clocks of nodes run a little faster, or slower.
const CLOCK_SLACK_DIVISOR: u128 = 64;

/// What elastic limits owe.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Debts {
    limits: BTreeMap<LimitId, Debt>,
}

#[derive(Clone, Debug, Default, Hash)]
struct Debt {
    /// Of everything here that is in units.
    scale: Scale,
    held_back: UnitsPerSecond,
    settled: Nanos,
    /// What is in the receiver's bucket, in units.
    level: u128,
    /// What nodes have counted since `settled`.
    current: Interval,
    /// What they had counted in the time before, which is not in the level yet.
    pending: Interval,
    /// What was offered before that, in units per second.
    before: u128,
    /// What is known of each node.
    counted: BTreeMap<NodeId, Known>,
}

/// What a node has counted since its bucket was made, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Counted {
    /// [`Meter::restarts`](crate::demand::Meter::restarts).
    restarts: u32,
    offered: u64,
    admitted: u64,
}

/// What a node has said, and what more it could have admitted: no node owes more than it had, whatever
/// it says. Without that, one that lies has all others held back.
#[derive(Clone, Copy, Debug, Hash)]
struct Known {
    counted: Counted,
    /// In units.
    credit: u128,
    /// What it could have used until now.
    envelope: Amount,
    at: Nanos,
}

/// What all nodes have counted in a stretch of time.
#[derive(Clone, Copy, Debug, Default, Hash)]
struct Interval {
    nanos: u128,
    /// In units.
    offered: u128,
    /// In units.
    admitted: u128,
}

fn is_elastic(limit: &Limit) -> bool {
    limit.promise == Promise::Elastic && limit.is_leased()
}

impl Debts {
    /// A term begins: what was lent before is not known, so everything was.
    pub(super) fn assume_the_worst<'a>(
        &mut self,
        limits: impl Iterator<Item = &'a Limit>,
        now: Nanos,
    ) {
        for limit in limits.filter(|limit| is_elastic(limit)) {
            let settled = now;
            let debt = Debt::worst(limit);
            self.limits.insert(limit.id, Debt { settled, ..debt });
        }
    }

    /// What is not to be divided of a limit's rate now.
    pub(super) fn held_back(&self, limit: LimitId) -> UnitsPerSecond {
        let debt = self.limits.get(&limit);
        debt.map_or(UnitsPerSecond(0), |debt| debt.held_back)
    }

    /// Another policy is in force: these are its limits. What is new owes nothing, for its buckets begin
    /// empty. What has other units is counted anew, in those, and what it owes is not known.
    pub(super) fn follow<'a>(&mut self, limits: impl Iterator<Item = &'a Limit>) {
        let mut before = core::mem::take(&mut self.limits);
        for limit in limits.filter(|limit| is_elastic(limit)) {
            let scale = limit.scale;
            let debt = match before.remove(&limit.id) {
                Some(debt) if debt.scale == scale => debt,
                Some(_) => Debt::worst(limit),
                None => Debt {
                    scale,
                    ..Debt::default()
                },
            };
            self.limits.insert(limit.id, debt);
        }
    }
}

impl Debt {
    /// Whatever can be lent is.
    fn worst(limit: &Limit) -> Self {
        Self {
            scale: limit.scale,
            level: u128::from(limit.budget.burst.0),
            ..Self::default()
        }
    }

    /// A node has counted so much, and may have used so much at `at`.
    fn count(&mut self, node: NodeId, now: Counted, envelope: Amount, at: Nanos) {
        let Some(known) = self.counted.get_mut(&node) else {
            let known = Known {
                counted: now,
                credit: most_credit(envelope),
                envelope,
                at,
            };
            self.counted.insert(node, known);
            return;
        };
        known.accrue(envelope, at);
        let before = known.counted;
        known.counted = now;
        // A bucket that is younger than the counter before has counted all of its own since.
        let since = match now.restarts.cmp(&before.restarts) {
            Ordering::Greater => Counted::default(),
            Ordering::Equal => before,
            // Another meter: since when it counts is not known.
            Ordering::Less => return,
        };
        let more = |before: u64, now: u64| {
            u128::from(now.saturating_sub(before)) << self.scale.fraction_bits
        };
        let offered = more(since.offered, now.offered);
        let admitted = more(since.admitted, now.admitted).min(known.credit);
        known.credit -= admitted;
        self.current.offered = self.current.offered.saturating_add(offered);
        self.current.admitted = self.current.admitted.saturating_add(admitted);
        // What was expected of a counter may have been a little more than it showed in the end.
        known.counted.offered = now.offered.max(since.offered);
        known.counted.admitted = now.admitted.max(since.admitted);
    }

    /// Up to `counted`: in between, reports of some nodes have come and those of others have not.
    fn settle(&mut self, limit: &Limit, counted: Nanos) {
        let elapsed = counted - self.settled;
        if elapsed.is_zero() {
            return;
        }
        let is_first = self.settled == Nanos::ZERO;
        self.settled = counted;
        if is_first {
            self.current = Interval::default();
            return;
        }
        let mut current = core::mem::take(&mut self.current);
        current.nanos = elapsed.as_nanos();
        let pending = core::mem::replace(&mut self.pending, current);
        if pending.nanos > 0 {
            let rate = u128::from(limit.budget.rate.0);
            let (before, after) = (self.before, self.pending.per_second());
            self.level = pending.level_after(self.level, rate, before, after);
            self.before = pending.per_second();
        }
    }

    /// What is to be held back of the rate: twice the excess a second, and no more than is paid back
    /// within a tick.
    fn due(&self, limit: &Limit, tick: Duration) -> UnitsPerSecond {
        let lent = limit.lent_burst().0;
        let burst = u128::from(limit.budget.burst.0.saturating_sub(lent));
        let owed = self.level.saturating_sub(burst);
        if owed <= u128::from(tolerance(limit)) {
            return UnitsPerSecond(0);
        }
        let at_once = owed.saturating_mul(NANOS_PER_SECOND) / tick.as_nanos().max(1);
        let most = (lent.saturating_mul(2)).min(limit.budget.rate.0 / MOST_HELD_BACK_DIVISOR);
        UnitsPerSecond(u64::try_from(at_once).unwrap_or(u64::MAX).min(most))
    }
}

/// The most that a node is believed to have admitted at once.
fn most_credit(envelope: Amount) -> u128 {
    u128::from(envelope.burst.0) + u128::from(envelope.rate.0) * u128::from(BELIEVED_LATER_SECONDS)
}

impl Known {
    fn accrue(&mut self, envelope: Amount, at: Nanos) {
        let larger = envelope.max(self.envelope);
        let more = u128::from(larger.rate.0) * (at - self.at).as_nanos() / NANOS_PER_SECOND;
        let more = more + more / CLOCK_SLACK_DIVISOR;
        // A burst that grows is no credit: it begins empty.
        let credit = self.credit.saturating_add(more);
        self.credit = credit.min(most_credit(larger));
        (self.envelope, self.at) = (envelope, at);
    }
}

impl Interval {
    fn per_second(&self) -> u128 {
        (self.offered.saturating_mul(NANOS_PER_SECOND))
            .checked_div(self.nanos)
            .unwrap_or(0)
    }

    /// The level of a receiver's bucket at the end, given that at the beginning. Saturating, for
    /// counters are whatever a node says.
    ///
    /// If less than the rate was offered before and more is afterwards, then it rose meanwhile, and what
    /// was offered says when. Until then an empty bucket stayed empty: to drain it for all of
    /// the time would hide a tick's rate, which is as much as is lent.
    fn level_after(&self, level: u128, rate: u128, before: u128, after: u128) -> u128 {
        let now = self.per_second();
        let above = if before < rate && rate < after {
            let risen = now.saturating_sub(before).min(after - before);
            self.nanos.saturating_mul(risen) / (after - before)
        } else {
            self.nanos
        };
        let below = self.nanos - above;
        let quiet = (before.saturating_mul(below) / NANOS_PER_SECOND).min(self.admitted);
        let drained = |nanos: u128| rate.saturating_mul(nanos) / NANOS_PER_SECOND;
        let level = level.saturating_add(quiet).saturating_sub(drained(below));
        let level = level.saturating_add(self.admitted - quiet);
        level.saturating_sub(drained(above))
    }
}

impl<B: CommitBackend> Leader<B> {
    /// Once a tick: what elastic limits owe, and what is to be held back of them.
    pub(super) fn settle_debts(&mut self, now: Nanos) {
        if self.debts.limits.is_empty() {
            return;
        }
        let Some(counted) = self.counted_until(now) else {
            return;
        };
        for (id, debt) in &mut self.debts.limits {
            if let Some(limit) = self.policy.limit(*id) {
                let slot = self.book.limit_slot(*id);
                // One that comes back has another meter.
                debt.counted
                    .retain(|node, _| self.members.contains_key(node));
                for (node, member) in &self.members {
                    let count = slot.and_then(|slot| member.count(slot));
                    let counted = count.zip(member.heard).and_then(|(count, heard)| {
                        let restarts = count.meter.restarts();
                        let until = count.meter.counted_until(heard.token.at, limit.scale);
                        until.map(|(offered, admitted)| Counted {
                            restarts,
                            offered,
                            admitted,
                        })
                    });
                    if let (Some(counted), Some(slot)) = (counted, slot) {
                        let envelope = self.book.holding(member.slot, slot).envelope;
                        debt.count(*node, counted, envelope, now);
                    }
                }
                debt.settle(limit, counted);
                let due = debt.due(limit, self.timing.tick);
                if due != debt.held_back && !self.rules.breaks(Mutation::DebtUnpaid) {
                    debt.held_back = due;
                    self.book.note_limit(*id);
                }
            }
        }
    }

    /// Until when nodes have counted, on the average: at that instant all that is known was admitted,
    /// and not now.
    fn counted_until(&self, now: Nanos) -> Option<Nanos> {
        let heard = self.members.values().filter_map(|member| member.heard);
        let ages = heard.map(|heard| now - heard.at);
        let fresh = ages.filter(|age| *age <= self.timing.stale());
        let (sum, count) = fresh.fold((Duration::ZERO, 0), |(sum, count), age| {
            (sum + age, count + 1)
        });
        let age = sum.checked_div(count)?;
        Some(Nanos(now.0.saturating_sub(nanos_of(age))))
    }
}

/// A rule that is broken on purpose: there is twice as much to lend as the policy says.
pub(super) fn lend_twice(policy: Policy) -> Policy {
    let lend = |mut limit: Limit| {
        let lent = limit.lent_burst().0;
        limit.budget.burst.0 += lent;
        limit
    };
    Policy {
        limits: policy.limits.into_iter().map(lend).collect(),
        ..policy
    }
}

#[cfg(test)]
mod tests {
    use weir_model::Units;

    use super::{super::plan::tests::limit, *};

    const NODE: NodeId = NodeId::from_u128(1);
    const EVERYTHING: Amount = Amount {
        rate: UnitsPerSecond(u64::MAX),
        burst: Units(u64::MAX),
    };

    fn elastic(rate: u64) -> Limit {
        limit(1, rate)
    }

    const fn counted(restarts: u32, tokens: u64) -> Counted {
        Counted {
            restarts,
            offered: tokens,
            admitted: tokens,
        }
    }

    /// Tenths of a second at a rate of 1,000, in units of which there are a hundred a tenth.
    fn tenth(offered: u128, admitted: u128) -> Interval {
        Interval {
            nanos: NANOS_PER_SECOND / 10,
            offered,
            admitted,
        }
    }

    #[test]
    fn a_rise_within_an_interval_hides_nothing() {
        // Ten a tenth, then two hundred from the middle on, of which fifty are a burst.
        let rising = tenth(105, 105);
        assert_eq!(rising.level_after(0, 1_000, 100, 2_000), 50);
        // The same without a rise: all of it is below the rate.
        assert_eq!(tenth(105, 95).level_after(0, 1_000, 1_050, 1_050), 0);
        // Above before and after: what is admitted, less the rate.
        assert_eq!(tenth(200, 120).level_after(30, 1_000, 2_000, 2_000), 50);
        // It fell: drained for all of the time.
        assert_eq!(tenth(50, 50).level_after(70, 1_000, 2_000, 100), 20);
    }
    #[test]
    fn counters_that_nobody_can_have_owe_as_much_as_can_be_owed() {
        let all = tenth(u128::MAX, u128::MAX);
        let most = all.level_after(u128::MAX, 1_000, all.per_second(), u128::MAX);
        assert!(most > u128::MAX / 2, "{most}");
        let mut debt = Debt::worst(&elastic(900));
        debt.scale.fraction_bits = Scale::MAX_FRACTION_BITS;
        for most in [0, u64::MAX] {
            debt.count(NODE, counted(0, most), EVERYTHING, Nanos(1));
        }
        debt.current.nanos = 1;
        assert!(debt.current.per_second() > 0);
    }

    #[test]
    fn a_counter_that_begins_anew_has_counted_all_of_its_own() {
        let mut debt = Debt::default();
        let mut count = |restarts, tokens| {
            debt.count(NODE, counted(restarts, tokens), EVERYTHING, Nanos(1));
            debt.current.admitted
        };
        assert_eq!(count(0, 100), 0, "since when is not known");
        assert_eq!(count(0, 120), 20);
        assert_eq!(count(0, 115), 20, "more was expected");
        assert_eq!(count(0, 125), 25);
        assert_eq!(
            count(1, 50),
            75,
            "however near it is to what was counted before"
        );
        assert_eq!(count(0, 10), 75, "another meter");
        assert_eq!(count(0, 11), 76);
    }

    #[test]
    fn a_node_owes_no_more_than_it_had() {
        const SECOND: u64 = 1_000_000_000;
        let had = Amount {
            rate: UnitsPerSecond(1_000),
            burst: Units(100),
        };
        let mut debt = Debt::default();
        let mut owed = |second: u64, tokens: u64, envelope: Amount| {
            debt.count(NODE, counted(0, tokens), envelope, Nanos(second * SECOND));
            debt.current.admitted
        };
        assert_eq!(owed(1, 0, had), 0);
        // All of its rate, for long: every bit is believed.
        for second in 2..100 {
            assert_eq!(
                owed(second, (second - 1) * 1_000, had),
                u128::from(second - 1) * 1_000
            );
        }
        let before = 98_000;
        // A lie, once and again.
        let once = owed(100, u64::MAX / 2, had);
        let later = u128::from(BELIEVED_LATER_SECONDS) * 1_000;
        assert!(once <= before + later + 100 + 1_016, "{once}");
        let again = owed(101, u64::MAX, had);
        assert!(again <= once + 1_016, "{again}");
        // What it gave back counts until then.
        let more = owed(102, u64::MAX, Amount::ZERO);
        assert_eq!(more, again, "a counter at its end");
    }

    #[test]
    fn what_has_other_units_owes_the_worst_anew() {
        let (coarse, fine) = (elastic(1_000), elastic(900));
        assert_ne!(coarse.scale, fine.scale);
        let mut debts = Debts::default();
        debts.follow([&coarse].into_iter());
        let debt = |debts: &Debts| debts.limits[&coarse.id].clone();
        assert_eq!(debt(&debts).level, 0, "it is new");
        debts.limits.get_mut(&coarse.id).unwrap().level = 7;
        debts.follow([&coarse].into_iter());
        assert_eq!(debt(&debts).level, 7);
        debts.follow([&fine].into_iter());
        assert_eq!(debt(&debts).level, u128::from(fine.budget.burst.0));
        let mut after = debt(&debts);
        after.settle(&fine, Nanos(1));
        let due = after.due(&fine, Duration::from_millis(100));
        assert!(due.0 > 0, "and it is held back");
    }
}
