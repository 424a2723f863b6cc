//! What a leader knows, for people.

use alloc::vec::Vec;
use core::time::Duration;

use weir_model::{Amount, Limit, LimitId, Nanos, PolicyVersion, Scale, Term};

use super::{Leader, member::Member};
use crate::{commit::CommitBackend, demand::Rates, record::MemberRecord};

impl<B: CommitBackend> Leader<B> {
    /// The term that it leads.
    pub const fn term(&self) -> Term {
        self.term
    }

    /// The policy that it leads by.
    pub const fn policy_version(&self) -> PolicyVersion {
        self.policy_version
    }

    /// The limits whose envelopes add up to more than the budget (I4): none, but while a lowered
    /// budget is being collected.
    pub fn over_budget(&self) -> impl Iterator<Item = LimitId> {
        self.book.over_budget()
    }

    /// The most that a node may be using of a limit, by the book.
    pub fn envelope(&self, node: weir_model::NodeId, limit: LimitId) -> Amount {
        self.book.envelope(node, limit)
    }

    /// The units of [`Self::envelope`]; `None` for a limit of which the book knows nothing.
    pub fn scale(&self, limit: LimitId) -> Option<Scale> {
        self.book.scale(limit)
    }

    /// The latest generation that is committed; 0 if none is yet.
    pub const fn committed(&self) -> weir_model::Generation {
        self.committed
    }

    /// Every member, as far as it is known here.
    pub fn view(&self, now: Nanos) -> Vec<MemberView> {
        self.members
            .values()
            .map(|member| MemberView {
                record: member.record.clone(),
                heard: member.heard.map(|heard| now - heard.at),
                policy: member.heard.map(|heard| heard.policy),
                limits: self.shares(member, now),
            })
            .collect()
    }

    fn shares(&self, member: &Member, now: Nanos) -> Vec<ShareView> {
        let is_heard = member
            .heard
            .is_some_and(|heard| now - heard.at <= self.timing.stale());
        let share = |limit: &Limit| {
            let slot = self.book.limit_slot(limit.id);
            let holding = slot.map(|slot| self.book.holding(member.slot, slot));
            let holding = holding.unwrap_or_default();
            let count = slot
                .filter(|_| limit.is_leased())
                .and_then(|slot| member.count(slot))
                .or_else(|| member.other_counts.get(&limit.id));
            ShareView {
                limit: limit.id,
                granted: holding.latest.amount,
                envelope: holding.envelope,
                held: count.map(|count| count.held).unwrap_or_default(),
                rates: count
                    .filter(|_| is_heard)
                    .map(|count| count.meter.rates())
                    .unwrap_or_default(),
            }
        };
        self.policy.limits.iter().map(share).collect()
    }
}

/// One member in [`Leader::view`].
#[derive(Clone, Debug)]
pub struct MemberView {
    /// Who.
    pub record: MemberRecord,
    /// How long ago it last reported; `None` if not in this term.
    pub heard: Option<Duration>,
    /// The policy that it enforces.
    pub policy: Option<PolicyVersion>,
    /// What it holds and counts, for each limit.
    pub limits: Vec<ShareView>,
}

/// One limit of a [`MemberView`].
#[derive(Clone, Copy, Debug)]
pub struct ShareView {
    /// Which limit.
    pub limit: LimitId,
    /// What was proposed last.
    pub granted: Amount,
    /// The most that it may hold.
    pub envelope: Amount,
    /// What it said that its kernel held when it last reported.
    pub held: HeldView,
    /// What it counts.
    pub rates: Rates,
}

/// A grant in a node's kernel, as the node reported it.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub struct HeldView {
    /// What was in effect.
    pub amount: Amount,
    /// What was left of the lease: nothing for a node on its floor, 584 years for one that never
    /// had a grant.
    pub lease_left: Duration,
}
