//! The leader's book: the most that each node may be using of each limit, now or later.
//!
//! # Rule 3, *book*: shrink before grow
//!
//! A node's *envelope* of a limit is an upper bound on what it may spend: of the rate and of the
//! burst, each for itself. It is
//!
//! - the larger of amount and floor once the node has acknowledged the amount,
//! - the largest of everything proposed since, and of what came before, until then,
//! - the floor once every lease that the node can hold has ended.
//!
//! A proposal may go out if afterwards `Σ envelopes ≤ budget`, *or if it raises no envelope*
//! (otherwise not even the shrinking that a lowered budget asks for could be sent). Since a node's
//! kernel never spends above its envelope, `Σ effective ≤ budget` holds at every instant (I1), and
//! with the entitlement clock promise 1 follows.
//!
//! Without this rule: budget is given to one node while another still spends it, and for a round
//! trip, or a lease if the other is cut off, the fleet admits both.

mod account;
mod limits;
mod news;
mod page;
mod register;

use alloc::{collections::BTreeMap, vec::Vec};

use weir_model::{
    Amount, Generation, Limit, LimitId, Nanos, NodeId, Scale,
    prefetch::{AT_ONCE, fetch},
};

pub use crate::slots::{LimitSlot, NodeSlot};
use crate::{
    record::EnvelopeRecord,
    slots::{Derived, Slots},
};
pub use account::Change;
use account::{Account, Batch};
use news::News;
use page::{Backing, Changed, Page};
pub use page::{Entry, Holding};

/// What every node may hold of every limit.
///
/// Limits and nodes have slots, dense numbers by which everything is found. A node keeps its slot
/// for as long as the book lives, which is a term; a limit as long as it has a page.
#[derive(Clone, Debug, Default, Hash)]
pub struct Book {
    limits: Slots<LimitId>,
    nodes: Slots<NodeId>,
    /// By limit.
    pages: Vec<Page>,
    /// By node.
    accounts: Vec<Account>,
    /// The generation of the next proposal: what changes now is new in it.
    next: Generation,
    news: Derived<News>,
    notes: Derived<Notes>,
}

/// What has changed since somebody looked.
#[derive(Clone, Debug, Default)]
struct Notes {
    /// By limit: envelopes, what was last proposed, the budget.
    limits: Vec<bool>,
    /// By node: what is reserved for it, or a floor that it may have.
    floors: Vec<bool>,
    /// By node: what was last proposed, by anything but a proposal.
    latest: Vec<bool>,
}

fn note(notes: &mut Vec<bool>, index: usize) {
    if index >= notes.len() {
        notes.resize(index + 1, false);
    }
    notes[index] = true;
}

fn take_note(notes: &mut [bool], index: usize) -> bool {
    notes.get_mut(index).is_some_and(core::mem::take)
}

/// What there is of a limit.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// The sum of all envelopes.
    pub total: Amount,
    /// What no node may be using; zero while a lowered budget is still being collected.
    pub free: Amount,
    /// Whether the envelopes add up to more than the budget.
    pub is_over_budget: bool,
}

impl Book {
    /// Where a limit is, if it is in the book.
    #[must_use]
    pub fn limit_slot(&self, limit: LimitId) -> Option<LimitSlot> {
        self.limits.find(limit).map(LimitSlot)
    }

    /// As [`Book::limit_slot`], faster for limits that come in the order of their slots.
    pub(crate) fn limit_slot_after(&self, limit: LimitId, after: &mut u32) -> Option<LimitSlot> {
        self.limits.find_after(limit, after).map(LimitSlot)
    }

    /// Where a node is, if it is in the book.
    #[must_use]
    pub fn node_slot(&self, node: NodeId) -> Option<NodeSlot> {
        self.nodes.find(node).map(NodeSlot)
    }

    /// Where a node is; it gets an account if it has none.
    pub fn account(&mut self, node: NodeId) -> NodeSlot {
        let slot = NodeSlot(self.nodes.insert(node));
        if slot.index() >= self.accounts.len() {
            self.accounts
                .resize_with(slot.index() + 1, Account::default);
        }
        slot
    }

    fn page(&mut self, limit: LimitId, scale: Scale) -> LimitSlot {
        if let Some(slot) = self.limit_slot(limit) {
            return slot;
        }
        let slot = LimitSlot(self.limits.insert(limit));
        if slot.index() >= self.pages.len() {
            self.pages.resize_with(slot.index() + 1, Page::default);
        }
        self.pages[slot.index()] = Page::new(scale);
        slot
    }

    fn nodes_of(&self, limit: LimitSlot) -> Vec<NodeSlot> {
        let known = self.pages[limit.index()].known();
        known.map(|(node, _, _)| node).collect()
    }

    /// The pages that say anything of a node.
    fn limits_of(&self, node: NodeSlot) -> Vec<LimitSlot> {
        (0..)
            .zip(&self.pages)
            .filter(|(_, page)| page.backing(node).is_known)
            .map(|(slot, _)| LimitSlot(slot))
            .collect()
    }

    fn change(
        &mut self,
        limit: LimitSlot,
        node: NodeSlot,
        change: impl FnOnce(&mut Backing, &mut Entry),
    ) -> Changed {
        let account = &self.accounts[node.index()];
        let page = &mut self.pages[limit.index()];
        let changed = page.change(node, self.next, || account.most(limit), change);
        if changed.is_news {
            self.news.0.add(self.next, node, limit);
        }
        if changed.bound || changed.latest {
            note(&mut self.notes.0.limits, limit.index());
        }
        changed
    }

    /// As [`Book::change`], by anything but a proposal or an answer.
    fn revise(
        &mut self,
        limit: LimitSlot,
        node: NodeSlot,
        change: impl FnOnce(&mut Backing, &mut Entry),
    ) {
        self.change(limit, node, change);
        note(&mut self.notes.0.floors, node.index());
        note(&mut self.notes.0.latest, node.index());
    }

    /// Proposal `generation` has gone out: what changes from now on is news to whoever has its
    /// register.
    pub fn close(&mut self, generation: Generation) {
        self.next = generation.next();
    }

    /// Takes over what an older leader stored. No lease in it can last beyond `leases_end`.
    pub fn adopt(&mut self, record: &EnvelopeRecord, leases_end: Nanos) {
        for node in &record.nodes {
            let slot = self.account(node.node);
            for held in &node.limits {
                let limit = self.page(held.limit, held.scale);
                let entry = Entry {
                    amount: held.amount,
                    floor: held.floor,
                };
                let entry = entry.rescaled(held.scale, self.pages[limit.index()].scale);
                self.revise(limit, slot, |backing, _| {
                    backing.settled = backing.settled.max(entry);
                });
            }
            self.extend_lease(slot, leases_end);
        }
    }

    /// The roster reserves this floor for a node, or is about to. A limit that is not known here
    /// gets a page.
    pub fn reserve(&mut self, node: NodeId, limit: LimitId, scale: Scale, floor: Amount) {
        let node = self.account(node);
        let limit = self.page(limit, scale);
        let floor = floor.rescaled_up(scale, self.pages[limit.index()].scale);
        self.revise(limit, node, |backing, _| backing.reserved = floor);
    }

    /// What is reserved for a node may be in its kernel, until it acknowledges something else.
    pub fn assume_reserved(&mut self, node: NodeId) {
        let node = self.account(node);
        for limit in self.limits_of(node) {
            self.revise(limit, node, |backing, _| {
                backing.settled.floor = backing.settled.floor.max(backing.reserved);
            });
        }
    }

    /// What is reserved for a node, and the largest floor that its kernel may have.
    #[must_use]
    pub fn floors(&self, node: NodeSlot, limit: LimitSlot) -> (Amount, Amount) {
        let page = &self.pages[limit.index()];
        (
            page.backing(node).reserved,
            self.spendable_floor(node, limit),
        )
    }

    /// The largest floor that a node's kernel may have.
    fn spendable_floor(&self, node: NodeSlot, limit: LimitSlot) -> Amount {
        let page = &self.pages[limit.index()];
        let backing = page.backing(node);
        let floor = backing.settled.floor.max(page.holding(node).latest.floor);
        if backing.unanswered > 1 {
            floor.max(self.accounts[node.index()].most(limit).floor)
        } else {
            floor
        }
    }

    /// The limits of which something is reserved for a node, in force or not, and in which units:
    /// in the order of their identities.
    pub fn reserved(&self, node: NodeId) -> impl Iterator<Item = (LimitId, Scale, Amount)> {
        let node = self.node_slot(node);
        self.limits.iter().filter_map(move |(limit, slot)| {
            let page = &self.pages[slot as usize];
            let reserved = page.backing(node?).reserved;
            (reserved != Amount::ZERO).then_some((limit, page.scale, reserved))
        })
    }

    /// Takes new floors for granted: a rule that is broken on purpose.
    pub(crate) fn lower_floors<'a>(&mut self, limits: impl IntoIterator<Item = &'a Limit>) {
        for limit in limits {
            let slot = self.page(limit.id, limit.scale);
            for node in self.nodes_of(slot) {
                self.accounts[node.index()].forget(slot);
                self.revise(slot, node, |backing, _| {
                    backing.reserved = backing.reserved.min(limit.floor);
                    backing.settled = Entry::floor(limit.floor);
                    backing.unanswered = 0;
                });
            }
        }
    }

    /// Whether a node's kernel may have no floor of any limit that is in force, nor of a hot key.
    #[must_use]
    pub fn has_given_up(&self, node: NodeId) -> bool {
        let Some(node) = self.node_slot(node) else {
            return true;
        };
        let counts = |(limit, slot): &(LimitId, u32)| {
            self.pages[*slot as usize].is_in_force || limit.is_key()
        };
        let mut limits = self.limits.iter().filter(counts);
        limits.all(|(_, slot)| self.spendable_floor(node, LimitSlot(slot)) == Amount::ZERO)
    }

    /// The roster has a node no more: it has no floors. What was leased to it counts until its
    /// leases have ended.
    pub fn forget_floors(&mut self, node: NodeId) {
        let node = self.account(node);
        let account = &mut self.accounts[node.index()];
        let has_lease = account.lease_end.is_some();
        if has_lease {
            for change in account.entries_mut() {
                change.entry.floor = Amount::ZERO;
            }
        } else {
            account.clear();
        }
        for limit in self.limits_of(node) {
            self.revise(limit, node, |backing, latest| {
                backing.reserved = Amount::ZERO;
                if !has_lease {
                    backing.settled = Entry::default();
                    backing.unanswered = 0;
                }
                backing.settled.floor = Amount::ZERO;
                latest.floor = Amount::ZERO;
            });
        }
    }

    /// Whether a node's floors may be these: what they are more than the node's envelope would
    /// still fit beside all that may be held.
    #[must_use]
    pub fn has_room(&self, node: NodeId, floors: &BTreeMap<LimitId, Amount>) -> bool {
        floors.iter().all(|(limit, floor)| {
            let more = floor.saturating_sub(self.envelope(node, *limit));
            more.fits(self.free(*limit))
        })
    }

    /// Writes down what is proposed to a node: `changes`, in the order of their limits' slots, and
    /// of every other limit what was proposed before.
    pub fn propose(&mut self, node: NodeSlot, generation: Generation, changes: Vec<Change>) {
        for change in &changes {
            self.begin_proposal(node, change.limit, change.entry);
        }
        self.end_proposal(node, generation, changes);
    }

    /// A word of what it says of one limit of one node.
    pub(crate) fn hint(&self, node: NodeSlot, limit: LimitSlot) -> u64 {
        self.pages[limit.index()].hint(node)
    }

    /// The first half of [`Book::propose`], one limit of one node. In the order of limits this is
    /// many times faster than in the order of nodes.
    pub(crate) fn begin_proposal(&mut self, node: NodeSlot, limit: LimitSlot, entry: Entry) {
        let floor = self.pages[limit.index()].holding(node).latest.floor;
        if floor != entry.floor {
            note(&mut self.notes.0.floors, node.index());
        }
        self.change(limit, node, |backing, latest| {
            // What is between is what was the latest; the account has it.
            backing.unanswered += 1;
            *latest = entry;
        });
    }

    /// The second half, of one node: `changes` is what has begun, and all of it.
    pub(crate) fn end_proposal(
        &mut self,
        node: NodeSlot,
        generation: Generation,
        changes: Vec<Change>,
    ) {
        let batch = Batch {
            generation,
            changes,
        };
        for limit in self.accounts[node.index()].push(batch) {
            let last = self.accounts[node.index()].entries(limit).last();
            self.change(limit, node, |backing, latest| {
                backing.unanswered -= 1;
                *latest = last.unwrap_or(*latest);
            });
            note(&mut self.notes.0.latest, node.index());
        }
    }

    /// `node` holds no more than what was proposed at `generation`.
    pub fn acknowledge(&mut self, node: NodeSlot, generation: Generation) {
        let (batches, is_exact) = self.accounts[node.index()].answered(generation);
        let changes = batches.iter().map(|batch| &batch.changes);
        for some in changes.flat_map(|changes| changes.chunks(AT_ONCE)) {
            fetch(some.iter().map(|change| self.hint(node, change.limit)));
            for change in some {
                self.settle_answered(node, *change, is_exact);
            }
        }
    }

    fn settle_answered(&mut self, node: NodeSlot, answered: Change, is_exact: bool) {
        let Change { limit, entry } = answered;
        let page = &self.pages[limit.index()];
        let (latest, settled) = (page.holding(node).latest, page.backing(node).settled);
        if entry.floor != latest.floor || entry.floor != settled.floor {
            note(&mut self.notes.0.floors, node.index());
        }
        let changed = self.change(limit, node, |backing, _| {
            // Everything before is superseded. If it is not known by what, stay on the safe side.
            backing.settled = if is_exact {
                entry
            } else {
                backing.settled.max(entry)
            };
            backing.unanswered -= 1;
        });
        if changed.latest {
            note(&mut self.notes.0.latest, node.index());
        }
    }

    /// A proposal goes out whose commit lets `node` hold its lease until `end`, on the leader's
    /// clock. It counts from the proposal on, for a commit may be late.
    pub fn extend_lease(&mut self, node: NodeSlot, end: Nanos) {
        let known = &mut self.accounts[node.index()].lease_end;
        *known = (*known).max(Some(end));
    }

    /// When every lease of `node` has ended; [`Nanos::ZERO`] if it never had one.
    #[must_use]
    pub fn lease_end(&self, node: NodeId) -> Nanos {
        let account = self
            .node_slot(node)
            .map(|slot| &self.accounts[slot.index()]);
        let end = account.and_then(|account| account.lease_end);
        end.unwrap_or(Nanos::ZERO)
    }

    /// Gives back the leased part of every node whose leases have all ended.
    pub fn expire(&mut self, now: Nanos) {
        for index in 0..self.accounts.len() {
            if self.accounts[index].lease_end.is_none_or(|end| end > now) {
                continue;
            }
            let node = NodeSlot(u32::try_from(index).expect("it came from a slot"));
            self.accounts[index].lease_end = None;
            for limit in self.limits_of(node) {
                let floor = self.spendable_floor(node, limit);
                self.revise(limit, node, |backing, _| {
                    backing.settled = Entry::floor(floor);
                    backing.unanswered = 0;
                });
            }
            self.accounts[index].clear();
        }
    }

    /// What a node may hold of a limit.
    #[must_use]
    pub fn holding(&self, node: NodeSlot, limit: LimitSlot) -> Holding {
        self.pages[limit.index()].holding(node)
    }

    /// What nodes may hold of a limit, by their slots: nothing, for those beyond the end.
    pub(crate) fn holdings(&self, limit: LimitSlot) -> &[Holding] {
        self.pages[limit.index()].holdings()
    }

    fn find(&self, node: NodeId, limit: LimitId) -> Holding {
        match (self.node_slot(node), self.limit_slot(limit)) {
            (Some(node), Some(limit)) => self.holding(node, limit),
            _ => Holding::default(),
        }
    }

    /// The most that `node` may be using of `limit`, now or later.
    #[must_use]
    pub fn envelope(&self, node: NodeId, limit: LimitId) -> Amount {
        self.find(node, limit).envelope
    }

    /// The largest floor of `limit` that `node` has not acknowledged giving up.
    #[must_use]
    pub fn floor(&self, node: NodeId, limit: LimitId) -> Amount {
        self.find(node, limit).floor
    }

    /// What was last proposed to `node`, or what it was adopted with.
    #[must_use]
    pub fn latest(&self, node: NodeId, limit: LimitId) -> Entry {
        self.find(node, limit).latest
    }

    /// What there is of a limit.
    #[must_use]
    pub fn pool(&self, limit: LimitSlot) -> Pool {
        let page = &self.pages[limit.index()];
        let total = page.total();
        Pool {
            total,
            free: page.budget.saturating_sub(total),
            is_over_budget: page.is_over_budget(),
        }
    }

    /// The sum of all envelopes of `limit`.
    #[must_use]
    pub fn total(&self, limit: LimitId) -> Amount {
        let slot = self.limit_slot(limit);
        slot.map_or(Amount::ZERO, |slot| self.pool(slot).total)
    }

    /// What no node may be using; zero while a lowered budget is still being collected.
    #[must_use]
    pub fn free(&self, limit: LimitId) -> Amount {
        let slot = self.limit_slot(limit);
        slot.map_or(Amount::ZERO, |slot| self.pool(slot).free)
    }

    /// The limits whose envelopes add up to more than their budget. Empty unless a budget was
    /// lowered and the fleet has not given back the difference yet.
    pub fn over_budget(&self) -> impl Iterator<Item = LimitId> {
        let limits = self.limits.iter();
        limits
            .filter(|(_, slot)| self.pages[*slot as usize].is_over_budget())
            .map(|(limit, _)| limit)
    }

    /// Whether this is one of [`Book::over_budget`].
    #[must_use]
    pub fn is_over_budget(&self, limit: LimitId) -> bool {
        self.limit_slot(limit)
            .is_some_and(|slot| self.pages[slot.index()].is_over_budget())
    }

    /// A limit is to be planned anew.
    pub(crate) fn note_limit(&mut self, limit: LimitId) {
        if let Some(slot) = self.limit_slot(limit) {
            note(&mut self.notes.0.limits, slot.index());
        }
    }

    /// Whether envelopes, what was last proposed, or the budget of a limit are others since that was
    /// [taken](Self::take_limit_note) down.
    pub(crate) fn has_limit_note(&self, limit: LimitSlot) -> bool {
        let noted = self.notes.0.limits.get(limit.index());
        noted.is_some_and(|noted| *noted)
    }

    /// As [`Book::has_limit_note`], and takes it down.
    pub(crate) fn take_limit_note(&mut self, limit: LimitSlot) -> bool {
        take_note(&mut self.notes.0.limits, limit.index())
    }

    /// Whether what is reserved for a node, or a floor that it may have, is something else since
    /// this was asked last.
    pub(crate) fn take_floor_note(&mut self, node: NodeSlot) -> bool {
        take_note(&mut self.notes.0.floors, node.index())
    }

    /// Whether what was last proposed to a node is not what it was proposed any more.
    pub(crate) fn take_latest_note(&mut self, node: NodeSlot) -> bool {
        take_note(&mut self.notes.0.latest, node.index())
    }
}
