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

use alloc::{collections::BTreeMap, collections::VecDeque, vec::Vec};

use weir_model::{Amount, Generation, Limit, LimitId, Nanos, NodeId, Scale, Units, UnitsPerSecond};

use crate::record::{EnvelopeRecord, LimitEnvelope, NodeEnvelope};

/// Proposals to one node that may be unanswered at once. At the bound the oldest two are merged
/// into their maximum, which is never too small.
const MAX_UNANSWERED: usize = 16;

/// Limits that are not in force and whose pages are kept. Beyond it the one of the largest
/// identity is forgotten; by then its leases have most likely ended. No fewer than a policy that a
/// commit can store has leased limits.
const MAX_DORMANT: usize = 4_096;

/// What every node may hold of every limit.
#[derive(Clone, Debug, Default, Hash)]
pub struct Book {
    limits: BTreeMap<LimitId, Ledger>,
    leases: BTreeMap<NodeId, Nanos>,
    /// The generation of the next proposal: what changes now is new in it.
    next: Generation,
}

/// One limit's page.
///
/// A limit that a policy drops keeps its page, and one that is adopted without being known gets
/// one: nodes may hold it still, and a later policy may have it again.
#[derive(Clone, Debug, Hash)]
struct Ledger {
    is_in_force: bool,
    /// It was a hot key of this term's, and is none any more.
    is_retired: bool,
    budget: Amount,
    scale: Scale,
    holdings: BTreeMap<NodeId, Holding>,
    total: Total,
}

/// The sum of all envelopes of a limit, kept as they change.
#[derive(Clone, Copy, Debug, Default, Hash)]
struct Total {
    rate: u128,
    burst: u128,
}

impl Total {
    fn replace(&mut self, before: Amount, after: Amount) {
        self.rate = self.rate + u128::from(after.rate.0) - u128::from(before.rate.0);
        self.burst = self.burst + u128::from(after.burst.0) - u128::from(before.burst.0);
    }

    /// Saturating: a sum that saturates fits no budget.
    fn amount(self) -> Amount {
        Amount {
            rate: UnitsPerSecond(u64::try_from(self.rate).unwrap_or(u64::MAX)),
            burst: Units(u64::try_from(self.burst).unwrap_or(u64::MAX)),
        }
    }
}

/// What one node may hold of one limit.
#[derive(Clone, Debug, Default, Hash)]
struct Holding {
    /// The floor that the roster reserves, or is about to. Nobody else is given it before the
    /// roster has given it up.
    reserved: Amount,
    /// What the node acknowledged last, or was adopted with.
    settled: Entry,
    /// What was proposed since and is unanswered, oldest first.
    unanswered: VecDeque<(Generation, Entry)>,
    /// The bound of all the above, as it was last worked out.
    bound: Bound,
    /// The first proposal whose register has this bound.
    changed: Generation,
}

/// What the register says of one node and limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Bound {
    envelope: Amount,
    floor: Amount,
}

/// An amount and the floor that goes with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The leased part. It ends with the lease.
    pub amount: Amount,
    /// What remains afterwards. It has no end.
    pub floor: Amount,
}

impl Entry {
    /// Reserves a floor and leases nothing.
    #[must_use]
    pub const fn floor(floor: Amount) -> Self {
        Self {
            amount: floor,
            floor,
        }
    }

    fn envelope(self) -> Amount {
        self.amount.max(self.floor)
    }

    fn max(self, other: Self) -> Self {
        Self {
            amount: self.amount.max(other.amount),
            floor: self.floor.max(other.floor),
        }
    }

    fn rescaled(self, from: Scale, to: Scale) -> Self {
        Self {
            amount: self.amount.rescaled_up(from, to),
            floor: self.floor.rescaled_up(from, to),
        }
    }
}

impl Holding {
    fn all(&self) -> impl Iterator<Item = Entry> {
        core::iter::once(self.settled).chain(self.unanswered.iter().map(|(_, entry)| *entry))
    }

    fn worked_out(&self) -> Bound {
        let reserved = Bound {
            envelope: self.reserved,
            floor: self.reserved,
        };
        self.all().fold(reserved, |bound, entry| Bound {
            envelope: bound.envelope.max(entry.envelope()),
            floor: bound.floor.max(entry.floor),
        })
    }

    /// The largest floor that the node's kernel may have.
    fn spendable_floor(&self) -> Amount {
        self.all()
            .map(|entry| entry.floor)
            .fold(Amount::ZERO, Amount::max)
    }

    fn propose(&mut self, generation: Generation, entry: Entry) {
        self.unanswered.push_back((generation, entry));
        if self.unanswered.len() > MAX_UNANSWERED
            && let Some((_, oldest)) = self.unanswered.pop_front()
            && let Some((_, next)) = self.unanswered.front_mut()
        {
            *next = next.max(oldest);
        }
    }

    /// Everything before `generation` is superseded.
    fn acknowledge(&mut self, generation: Generation) {
        while let Some((oldest, entry)) = self.unanswered.front().copied()
            && oldest <= generation
        {
            // A generation that is not here was merged into the next: stay on the safe side.
            self.settled = if oldest == generation {
                entry
            } else {
                self.settled.max(entry)
            };
            self.unanswered.pop_front();
        }
    }

    fn forget_floors(&mut self, has_lease: bool) {
        self.reserved = Amount::ZERO;
        if !has_lease {
            self.settled = Entry::default();
            self.unanswered.clear();
        }
        self.settled.floor = Amount::ZERO;
        for (_, entry) in &mut self.unanswered {
            entry.floor = Amount::ZERO;
        }
    }

    fn expire(&mut self) {
        self.settled = Entry::floor(self.spendable_floor());
        self.unanswered.clear();
    }
}

impl Book {
    /// Puts these limits in force and no others. What nodes may hold of a limit stays in the book,
    /// in the new units, rounded up, also while the limit is not in force.
    pub fn set_limits<'a>(&mut self, limits: impl IntoIterator<Item = &'a Limit>) {
        for ledger in self.limits.values_mut() {
            ledger.is_in_force = false;
        }
        for limit in limits {
            let next = self.next;
            let ledger = self.ledger(limit.id, limit.scale);
            ledger.rescale(limit.scale, next);
            ledger.budget = limit.budget;
            ledger.is_in_force = true;
        }
        self.bound_dormant();
    }

    fn bound_dormant(&mut self) {
        let dormant = |ledger: &&Ledger| !ledger.is_in_force;
        for _ in MAX_DORMANT..self.limits.values().filter(dormant).count() {
            let mut forgettable = self.limits.iter().filter(|(_, ledger)| dormant(ledger));
            // Hot keys have large identities, and no floors in the roster.
            let last = forgettable.next_back();
            if let Some(limit) = last.map(|(limit, _)| *limit) {
                self.limits.remove(&limit);
            }
        }
    }

    /// Puts one more limit in force: a hot key. What nodes may hold of it already counts.
    pub fn open(&mut self, limit: &Limit) {
        let next = self.next;
        let ledger = self.ledger(limit.id, limit.scale);
        ledger.rescale(limit.scale, next);
        ledger.budget = limit.budget;
        ledger.is_in_force = true;
        ledger.is_retired = false;
    }

    /// A hot key is none any more: its holders are to give back all of it.
    pub fn retire(&mut self, limit: LimitId) {
        if let Some(ledger) = self.limits.get_mut(&limit) {
            ledger.is_in_force = false;
            ledger.is_retired = true;
        }
        self.bound_dormant();
    }

    /// Retires all hot keys that are not in force: those of an older leader.
    pub fn retire_unknown(&mut self) {
        for (limit, ledger) in &mut self.limits {
            ledger.is_retired |= limit.is_key() && !ledger.is_in_force;
        }
    }

    /// Forgets what nodes may hold of a limit: a rule that is broken on purpose.
    pub(crate) fn forget(&mut self, limit: LimitId) {
        self.limits.remove(&limit);
    }

    /// Writes down that `node` is proposed nothing of every hot key that is retired.
    pub fn propose_retired(&mut self, node: NodeId, generation: Generation) {
        for ledger in self.limits.values_mut().filter(|ledger| ledger.is_retired) {
            let is_holder = |holding: &Holding| holding.bound != Bound::default();
            if ledger.holdings.get(&node).is_some_and(is_holder) {
                ledger.change(node, self.next, |holding| {
                    holding.propose(generation, Entry::default());
                });
            }
        }
    }

    /// Forgets retired pages of which nobody may hold anything, once every register says so whose
    /// next difference is to `base` or later; without a base the next one is whole.
    pub fn forget_spent(&mut self, base: Option<Generation>) {
        let is_known = |changed: Generation| base.is_none_or(|base| changed <= base);
        self.limits.retain(|_, ledger| {
            let mut holdings = ledger.holdings.values();
            !ledger.is_retired
                || holdings
                    .any(|holding| holding.bound != Bound::default() || !is_known(holding.changed))
        });
    }

    fn ledger(&mut self, limit: LimitId, scale: Scale) -> &mut Ledger {
        self.limits.entry(limit).or_insert_with(|| Ledger {
            is_in_force: false,
            is_retired: false,
            budget: Amount::ZERO,
            scale,
            holdings: BTreeMap::new(),
            total: Total::default(),
        })
    }

    /// Proposal `generation` has gone out: what changes from now on is news to whoever has its
    /// register.
    pub fn close(&mut self, generation: Generation) {
        self.next = generation.next();
    }

    /// Takes over what an older leader stored. No lease in it can last beyond `leases_end`.
    pub fn adopt(&mut self, record: &EnvelopeRecord, leases_end: Nanos) {
        for node in &record.nodes {
            for held in &node.limits {
                let next = self.next;
                let ledger = self.ledger(held.limit, held.scale);
                let entry = Entry {
                    amount: held.amount,
                    floor: held.floor,
                };
                let entry = entry.rescaled(held.scale, ledger.scale);
                ledger.change(node.node, next, |holding| {
                    holding.settled = holding.settled.max(entry);
                });
            }
            self.extend_lease(node.node, leases_end);
        }
    }

    /// The roster reserves this floor for a node, or is about to. A limit that is not known here
    /// gets a page.
    pub fn reserve(&mut self, node: NodeId, limit: LimitId, scale: Scale, floor: Amount) {
        let next = self.next;
        let ledger = self.ledger(limit, scale);
        let floor = floor.rescaled_up(scale, ledger.scale);
        ledger.change(node, next, |holding| holding.reserved = floor);
    }

    /// What is reserved for a node may be in its kernel, until it acknowledges something else.
    pub fn assume_reserved(&mut self, node: NodeId) {
        for ledger in self.limits.values_mut() {
            if ledger.holdings.contains_key(&node) {
                ledger.change(node, self.next, |holding| {
                    holding.settled.floor = holding.settled.floor.max(holding.reserved);
                });
            }
        }
    }

    /// What is reserved for a node, and the largest floor that its kernel may have.
    #[must_use]
    pub fn floors(&self, node: NodeId, limit: LimitId) -> (Amount, Amount) {
        self.limits
            .get(&limit)
            .and_then(|ledger| ledger.holdings.get(&node))
            .map_or((Amount::ZERO, Amount::ZERO), |holding| {
                (holding.reserved, holding.spendable_floor())
            })
    }

    /// The limits of which something is reserved for a node, in force or not, and in which units.
    pub fn reserved(&self, node: NodeId) -> impl Iterator<Item = (LimitId, Scale, Amount)> {
        self.limits.iter().filter_map(move |(limit, ledger)| {
            let reserved = ledger.holdings.get(&node)?.reserved;
            (reserved != Amount::ZERO).then_some((*limit, ledger.scale, reserved))
        })
    }

    /// Takes new floors for granted: a rule that is broken on purpose.
    pub(crate) fn lower_floors<'a>(&mut self, limits: impl IntoIterator<Item = &'a Limit>) {
        let next = self.next;
        for limit in limits {
            let ledger = self.ledger(limit.id, limit.scale);
            let nodes: Vec<NodeId> = ledger.holdings.keys().copied().collect();
            for node in nodes {
                ledger.change(node, next, |holding| {
                    holding.reserved = holding.reserved.min(limit.floor);
                    holding.settled = Entry::floor(limit.floor);
                    holding.unanswered.clear();
                });
            }
        }
    }

    /// Whether a node's kernel may have no floor of any limit that is in force, nor of a hot key.
    #[must_use]
    pub fn has_given_up(&self, node: NodeId) -> bool {
        let counts = |(limit, ledger): &(&LimitId, &Ledger)| ledger.is_in_force || limit.is_key();
        let mut limits = self.limits.iter().filter(counts);
        limits.all(|(_, ledger)| {
            let holding = ledger.holdings.get(&node);
            holding.is_none_or(|holding| holding.spendable_floor() == Amount::ZERO)
        })
    }

    /// The roster has a node no more: it has no floors. What was leased to it counts until its
    /// leases have ended.
    pub fn forget_floors(&mut self, node: NodeId) {
        let has_lease = self.leases.contains_key(&node);
        for ledger in self.limits.values_mut() {
            if ledger.holdings.contains_key(&node) {
                ledger.change(node, self.next, |holding| holding.forget_floors(has_lease));
            }
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

    /// Writes down that `entry` is proposed to `node`.
    pub fn propose(&mut self, node: NodeId, limit: LimitId, generation: Generation, entry: Entry) {
        if let Some(ledger) = self.limits.get_mut(&limit) {
            ledger.change(node, self.next, |holding| {
                holding.propose(generation, entry)
            });
        }
    }

    /// `node` holds no more than what was proposed at `generation`.
    pub fn acknowledge(&mut self, node: NodeId, generation: Generation) {
        for ledger in self.limits.values_mut() {
            if ledger.holdings.contains_key(&node) {
                ledger.change(node, self.next, |holding| holding.acknowledge(generation));
            }
        }
    }

    /// A proposal goes out whose commit lets `node` hold its lease until `end`, on the leader's
    /// clock. It counts from the proposal on, for a commit may be late.
    pub fn extend_lease(&mut self, node: NodeId, end: Nanos) {
        let known = self.leases.entry(node).or_default();
        *known = (*known).max(end);
    }

    /// When every lease of `node` has ended; [`Nanos::ZERO`] if it never had one.
    #[must_use]
    pub fn lease_end(&self, node: NodeId) -> Nanos {
        self.leases.get(&node).copied().unwrap_or(Nanos::ZERO)
    }

    /// Gives back the leased part of every node whose leases have all ended.
    pub fn expire(&mut self, now: Nanos) {
        let ended: Vec<NodeId> = self
            .leases
            .iter()
            .filter(|(_, end)| **end <= now)
            .map(|(node, _)| *node)
            .collect();
        for node in ended {
            self.leases.remove(&node);
            for ledger in self.limits.values_mut() {
                if ledger.holdings.contains_key(&node) {
                    ledger.change(node, self.next, Holding::expire);
                }
            }
        }
    }

    /// The most that `node` may be using of `limit`, now or later.
    #[must_use]
    pub fn envelope(&self, node: NodeId, limit: LimitId) -> Amount {
        self.limits
            .get(&limit)
            .and_then(|ledger| ledger.holdings.get(&node))
            .map_or(Amount::ZERO, |holding| holding.bound.envelope)
    }

    /// The largest floor of `limit` that `node` has not acknowledged giving up.
    #[must_use]
    pub fn floor(&self, node: NodeId, limit: LimitId) -> Amount {
        self.limits
            .get(&limit)
            .and_then(|ledger| ledger.holdings.get(&node))
            .map_or(Amount::ZERO, |holding| holding.bound.floor)
    }

    /// What was last proposed to `node`, or what it was adopted with.
    #[must_use]
    pub fn latest(&self, node: NodeId, limit: LimitId) -> Entry {
        self.limits
            .get(&limit)
            .and_then(|ledger| ledger.holdings.get(&node))
            .map(|holding| {
                holding
                    .unanswered
                    .back()
                    .map_or(holding.settled, |(_, entry)| *entry)
            })
            .unwrap_or_default()
    }

    /// The sum of all envelopes of `limit`.
    #[must_use]
    pub fn total(&self, limit: LimitId) -> Amount {
        self.limits
            .get(&limit)
            .map_or(Amount::ZERO, |ledger| ledger.total.amount())
    }

    /// What no node may be using; zero while a lowered budget is still being collected.
    #[must_use]
    pub fn free(&self, limit: LimitId) -> Amount {
        self.limits.get(&limit).map_or(Amount::ZERO, |ledger| {
            ledger.budget.saturating_sub(self.total(limit))
        })
    }

    /// The book as a new leader would adopt it.
    #[must_use]
    pub fn envelopes(&self) -> Vec<NodeEnvelope> {
        self.envelopes_since(None)
    }

    /// What has changed since the proposal `base` was made: everything if there is none.
    #[must_use]
    pub fn envelopes_since(&self, base: Option<Generation>) -> Vec<NodeEnvelope> {
        let mut nodes: BTreeMap<NodeId, Vec<LimitEnvelope>> = BTreeMap::new();
        for (limit, ledger) in &self.limits {
            for (node, holding) in &ledger.holdings {
                if base.is_some_and(|base| holding.changed <= base) {
                    continue;
                }
                nodes.entry(*node).or_default().push(LimitEnvelope {
                    limit: *limit,
                    scale: ledger.scale,
                    amount: holding.bound.envelope,
                    floor: holding.bound.floor,
                });
            }
        }
        nodes
            .into_iter()
            .map(|(node, limits)| NodeEnvelope { node, limits })
            .collect()
    }

    /// The limits whose envelopes add up to more than their budget. Empty unless a budget was
    /// lowered and the fleet has not given back the difference yet.
    pub fn over_budget(&self) -> impl Iterator<Item = LimitId> {
        self.limits
            .keys()
            .copied()
            .filter(|limit| self.is_over_budget(*limit))
    }

    /// Whether this is one of [`Book::over_budget`].
    #[must_use]
    pub fn is_over_budget(&self, limit: LimitId) -> bool {
        self.limits
            .get(&limit)
            .is_some_and(|ledger| ledger.is_in_force && !self.total(limit).fits(ledger.budget))
    }
}

impl Ledger {
    /// Changes what one node may hold, and keeps the sum and the stamp that follow from it.
    fn change(&mut self, node: NodeId, next: Generation, change: impl FnOnce(&mut Holding)) {
        let holding = self.holdings.entry(node).or_insert_with(|| Holding {
            changed: next,
            ..Holding::default()
        });
        change(holding);
        let before = holding.bound;
        let after = holding.worked_out();
        if after != before {
            holding.bound = after;
            holding.changed = next;
            self.total.replace(before.envelope, after.envelope);
        }
    }

    fn rescale(&mut self, scale: Scale, next: Generation) {
        let from = core::mem::replace(&mut self.scale, scale);
        if from == scale {
            return;
        }
        self.total = Total::default();
        for holding in self.holdings.values_mut() {
            holding.reserved = holding.reserved.rescaled_up(from, scale);
            holding.settled = holding.settled.rescaled(from, scale);
            for (_, entry) in &mut holding.unanswered {
                *entry = entry.rescaled(from, scale);
            }
            holding.bound = holding.worked_out();
            // Its units are other ones, even where its numbers are not.
            holding.changed = next;
            self.total.replace(Amount::ZERO, holding.bound.envelope);
        }
    }
}
