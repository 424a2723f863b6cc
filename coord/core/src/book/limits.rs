//! Which limits are in force.

use alloc::vec::Vec;

use weir_model::{Amount, Generation, Limit, LimitId, Scale};

use super::{Book, Holding, LimitSlot, note, page::Page};

/// Limits that are not in force and whose pages are kept. Beyond it the one of the smallest
/// identity is forgotten; by then its leases have most likely ended. No fewer than a policy that a
/// commit can store has leased limits.
const MAX_DORMANT: usize = 4_096;

impl Book {
    /// Puts these limits in force and no others. What nodes may hold of a limit stays in the book,
    /// in the new units, rounded up, also while the limit is not in force.
    pub fn set_limits<'a>(&mut self, limits: impl IntoIterator<Item = &'a Limit>) {
        let before: Vec<LimitId> = self.in_force().collect();
        for slot in 0..self.pages.len() {
            self.pages[slot].is_in_force = false;
        }
        for limit in limits {
            self.begin_limit(limit.id, limit.scale, limit.budget);
        }
        for limit in before {
            if let Some(slot) = self.limit_slot(limit)
                && !self.pages[slot.index()].is_in_force
            {
                self.settle(slot);
            }
        }
        self.forget_dormant();
    }

    /// Puts one limit in force, or gives it another budget or other units.
    pub fn begin_limit(&mut self, limit: LimitId, scale: Scale, budget: Amount) -> LimitSlot {
        let slot = self.page(limit, scale);
        let next = self.next;
        let page = &mut self.pages[slot.index()];
        if page.scale != scale {
            for account in &mut self.accounts {
                account.rescale(slot, page.scale, scale);
            }
            page.rescale(scale, next);
            self.news.0.forget(next);
            self.notes.0.latest = alloc::vec![true; self.accounts.len()];
        }
        page.budget = budget;
        page.is_in_force = true;
        note(&mut self.notes.0.limits, slot.index());
        slot
    }

    /// A limit is in force no longer.
    pub fn end_limit(&mut self, limit: LimitId) {
        if let Some(slot) = self.limit_slot(limit)
            && self.pages[slot.index()].is_in_force
        {
            self.pages[slot.index()].is_in_force = false;
            self.settle(slot);
            self.forget_dormant();
        }
    }

    /// Proposals say nothing of a limit any more, so an acknowledgement does not either: what nodes
    /// may hold of it, they may hold until their leases end.
    fn settle(&mut self, limit: LimitSlot) {
        note(&mut self.notes.0.limits, limit.index());
        for node in self.nodes_of(limit) {
            if self.pages[limit.index()].backing(node).unanswered == 0 {
                continue;
            }
            let most = self.accounts[node.index()].most(limit);
            self.accounts[node.index()].forget(limit);
            self.change(limit, node, |backing, _| {
                backing.settled = backing.settled.max(most);
                backing.unanswered = 0;
            });
        }
    }

    /// The hot keys of which the book says anything, in force or not.
    pub fn keys(&self) -> impl Iterator<Item = LimitId> {
        let limits = self.limits.iter().map(|(limit, _)| limit);
        limits.filter(|limit| limit.is_key())
    }

    /// The units of a limit that is in the book.
    #[must_use]
    pub fn scale(&self, limit: LimitId) -> Option<Scale> {
        let slot = self.limit_slot(limit)?;
        Some(self.pages[slot.index()].scale)
    }

    /// Whether nobody may hold anything of a limit, and every register says so whose next difference is
    /// to `base` or later; without a base the next one is whole.
    #[must_use]
    pub fn is_spent(&self, limit: LimitId, base: Option<Generation>) -> bool {
        let Some(slot) = self.limit_slot(limit) else {
            return true;
        };
        let mut known = self.pages[slot.index()].known();
        known.all(|(_, holding, backing)| {
            let holds_nothing = *holding == Holding::default();
            holds_nothing && base.is_none_or(|base| backing.changed <= base)
        })
    }

    /// Whether a node may hold more of a limit than its floor.
    #[must_use]
    pub fn is_leased(&self, limit: LimitId) -> bool {
        let slot = self.limit_slot(limit);
        let holdings = slot.map_or(&[][..], |slot| self.holdings(slot));
        let mut holdings = holdings.iter();
        holdings.any(|holding| !holding.envelope.fits(holding.floor))
    }

    /// A limit has no page any more, whatever it said.
    pub fn forget_limit(&mut self, limit: LimitId) {
        if let Some(slot) = self.limit_slot(limit) {
            for account in &mut self.accounts {
                account.forget(slot);
            }
            self.pages[slot.index()] = Page::default();
            self.limits.remove(limit);
        }
    }

    fn forget_dormant(&mut self) {
        let dormant = self.limits.end() - self.in_force().count();
        if dormant <= MAX_DORMANT {
            return;
        }
        let is_dormant = |(_, slot): &(LimitId, u32)| !self.pages[*slot as usize].is_in_force;
        let all = self.limits.iter().filter(is_dormant).count();
        let oldest: Vec<LimitId> = self
            .limits
            .iter()
            .filter(is_dormant)
            .take(all.saturating_sub(MAX_DORMANT))
            .map(|(limit, _)| limit)
            .collect();
        for limit in oldest {
            self.forget_limit(limit);
        }
    }

    fn in_force(&self) -> impl Iterator<Item = LimitId> {
        self.limits.iter().filter_map(|(limit, slot)| {
            let page = &self.pages[slot as usize];
            page.is_in_force.then_some(limit)
        })
    }
}
