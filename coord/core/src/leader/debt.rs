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
use core::time::Duration;

use weir_model::{
    Limit, LimitId, Nanos, NodeId, Policy, UnitsPerSecond, policy::Promise, time::nanos_of,
};

use super::Leader;
use crate::{allocation::tolerance, commit::CommitBackend, rules::Mutation};

const NANOS_PER_SECOND: u128 = 1_000_000_000;
/// At most this part of the rate is held back.
const MOST_HELD_BACK_DIVISOR: u64 = 2;

/// What elastic limits owe.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Debts {
    limits: BTreeMap<LimitId, Debt>,
}

#[derive(Clone, Debug, Default, Hash)]
struct Debt {
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
    /// The latest counters of each node: offered and admitted.
    counted: BTreeMap<NodeId, (u64, u64)>,
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
            let debt = self.limits.entry(limit.id).or_default();
            debt.settled = now;
            debt.level = u128::from(limit.budget.burst.0);
        }
    }

    /// What is not to be divided of a limit's rate now.
    pub(super) fn held_back(&self, limit: LimitId) -> UnitsPerSecond {
        let debt = self.limits.get(&limit);
        debt.map_or(UnitsPerSecond(0), |debt| debt.held_back)
    }

    /// Another policy is in force: these are its limits. What is new owes nothing, for its buckets begin
    /// empty.
    pub(super) fn follow<'a>(&mut self, limits: impl Iterator<Item = &'a Limit>) {
        let mut before = core::mem::take(&mut self.limits);
        for limit in limits.filter(|limit| is_elastic(limit)) {
            let debt = before.remove(&limit.id).unwrap_or_default();
            self.limits.insert(limit.id, debt);
        }
    }
}

impl Debt {
    /// A node has counted so much since its bucket was made.
    fn count(&mut self, node: NodeId, limit: &Limit, now: (u64, u64)) {
        let Some(before) = self.counted.insert(node, now) else {
            return;
        };
        // What was expected of a counter may have been a little more than it showed in the end; a bucket
        // that is younger than the counter before has counted all of its own since.
        let most = (limit.budget.rate.0 >> limit.scale.fraction_bits).saturating_mul(2);
        let is_new = before.1.saturating_sub(now.1) > most;
        let more = |before: u64, now: u64| {
            let more = if is_new {
                now
            } else {
                now.saturating_sub(before)
            };
            u128::from(more) << limit.scale.fraction_bits
        };
        self.current.offered += more(before.0, now.0);
        self.current.admitted += more(before.1, now.1);
        if !is_new {
            let known = (before.0.max(now.0), before.1.max(now.1));
            self.counted.insert(node, known);
        }
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
        let at_once = owed * NANOS_PER_SECOND / tick.as_nanos().max(1);
        let most = (lent.saturating_mul(2)).min(limit.budget.rate.0 / MOST_HELD_BACK_DIVISOR);
        UnitsPerSecond(u64::try_from(at_once).unwrap_or(u64::MAX).min(most))
    }
}

impl Interval {
    fn per_second(&self) -> u128 {
        (self.offered * NANOS_PER_SECOND)
            .checked_div(self.nanos)
            .unwrap_or(0)
    }

    /// The level of a receiver's bucket at the end, given that at the beginning.
    ///
    /// If less than the rate was offered before and more is afterwards, then it rose meanwhile, and what
    /// was offered says when. Until then an empty bucket stayed empty: to drain it for all of
    /// the time would hide a tick's rate, which is as much as is lent.
    fn level_after(&self, level: u128, rate: u128, before: u128, after: u128) -> u128 {
        let now = self.per_second();
        let above = if before < rate && rate < after {
            let risen = now.saturating_sub(before).min(after - before);
            self.nanos * risen / (after - before)
        } else {
            self.nanos
        };
        let below = self.nanos - above;
        let quiet = (before * below / NANOS_PER_SECOND).min(self.admitted);
        let level = (level + quiet).saturating_sub(rate * below / NANOS_PER_SECOND);
        (level + self.admitted - quiet).saturating_sub(rate * above / NANOS_PER_SECOND)
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
                for (node, member) in &self.members {
                    let count = slot.and_then(|slot| member.count(slot));
                    let counted = count.zip(member.heard).and_then(|(count, heard)| {
                        count.meter.counted_until(heard.token.at, limit.scale)
                    });
                    if let Some(counted) = counted {
                        debt.count(*node, limit, counted);
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
    use super::*;

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
}
