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

use weir_model::{Limit, LimitId, Nanos, NodeId, Policy, UnitsPerSecond, policy::Promise};

use super::Leader;
use crate::{allocation::tolerance, commit::CommitBackend, rules::Mutation};

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
    /// What has been admitted since it was last settled, in tokens.
    admitted: u64,
    /// The latest counter of each node. One that a host made anew begins with nothing.
    counted: BTreeMap<NodeId, u64>,
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

    /// A node has admitted so many tokens of a limit since its bucket was made.
    pub(super) fn count(&mut self, node: NodeId, limit: &Limit, admitted: u64) {
        if !is_elastic(limit) {
            return;
        }
        let debt = self.limits.entry(limit.id).or_default();
        if let Some(before) = debt.counted.insert(node, admitted) {
            // A bucket that is younger than the counter before has admitted all of its own since.
            let more = admitted.checked_sub(before).unwrap_or(admitted);
            debt.admitted = debt.admitted.saturating_add(more);
        }
    }

    /// What is not to be divided of a limit's rate now.
    pub(super) fn held_back(&self, limit: LimitId) -> UnitsPerSecond {
        let debt = self.limits.get(&limit);
        debt.map_or(UnitsPerSecond(0), |debt| debt.held_back)
    }

    /// Forgets limits that the policy has not.
    pub(super) fn retain(&mut self, is_known: impl Fn(LimitId) -> bool) {
        self.limits.retain(|limit, _| is_known(*limit));
    }
}

impl Debt {
    /// In between ticks reports of some nodes have come and those of others have not.
    fn settle(&mut self, limit: &Limit, now: Nanos) {
        let elapsed = now - core::mem::replace(&mut self.settled, now);
        let drained = u128::from(limit.budget.rate.0) * elapsed.as_nanos() / 1_000_000_000;
        let admitted = u128::from(core::mem::take(&mut self.admitted)) << limit.scale.fraction_bits;
        self.level = (self.level + admitted).saturating_sub(drained);
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
        let at_once = owed * 1_000_000_000 / tick.as_nanos().max(1);
        let most = (lent.saturating_mul(2)).min(limit.budget.rate.0 / MOST_HELD_BACK_DIVISOR);
        UnitsPerSecond(u64::try_from(at_once).unwrap_or(u64::MAX).min(most))
    }
}

impl<B: CommitBackend> Leader<B> {
    /// Once a tick: what elastic limits owe, and what is to be held back of them.
    pub(super) fn settle_debts(&mut self, now: Nanos) {
        for (id, debt) in &mut self.debts.limits {
            if let Some(limit) = self.policy.limit(*id) {
                debt.settle(limit, now);
                let due = debt.due(limit, self.timing.tick);
                if due != debt.held_back && !self.rules.breaks(Mutation::DebtUnpaid) {
                    debt.held_back = due;
                    self.book.note_limit(*id);
                }
            }
        }
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
