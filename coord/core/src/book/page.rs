//! One limit's page of the book.

use alloc::vec::Vec;

use weir_model::{Amount, Generation, Scale, Units, UnitsPerSecond};

use crate::slots::NodeSlot;

/// An amount and the floor that goes with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The leased part. It ends with the lease.
    pub amount: Amount,
    /// What remains afterwards. It has no end.
    pub floor: Amount,
}

impl Holding {
    /// What a node holds of which nobody has heard.
    pub const NOTHING: Self = Self {
        latest: Entry::floor(Amount::ZERO),
        envelope: Amount::ZERO,
        floor: Amount::ZERO,
    };
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

    pub(super) fn max(self, other: Self) -> Self {
        Self {
            amount: self.amount.max(other.amount),
            floor: self.floor.max(other.floor),
        }
    }

    pub(super) fn rescaled(self, from: Scale, to: Scale) -> Self {
        Self {
            amount: self.amount.rescaled_up(from, to),
            floor: self.floor.rescaled_up(from, to),
        }
    }
}

/// What a plan looks at: one node's part of one limit. It is one line of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(align(64))]
pub struct Holding {
    /// What was last proposed to the node, or what it was adopted with.
    pub latest: Entry,
    /// The most that it may be using, now or later.
    pub envelope: Amount,
    /// The largest floor that it has not acknowledged giving up.
    pub floor: Amount,
}

/// Where a [`Holding`] comes from: one line of a cache too.
#[derive(Clone, Copy, Debug, Default, Hash)]
#[repr(align(64))]
pub(super) struct Backing {
    /// The floor that the roster reserves, or is about to. Nobody else is given it before the
    /// roster has given it up.
    pub(super) reserved: Amount,
    /// What the node acknowledged last, or was adopted with.
    pub(super) settled: Entry,
    /// The first proposal whose register has this envelope and floor.
    pub(super) changed: Generation,
    /// Entries that were proposed since and are unanswered: the last of them is
    /// [`Holding::latest`], and all are in the node's account.
    pub(super) unanswered: u32,
    /// Whether anything was ever written here.
    pub(super) is_known: bool,
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

/// One limit's page.
///
/// A limit that a policy drops keeps its page, and one that is adopted without being known gets
/// one: nodes may hold it still, and a later policy may have it again.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Page {
    pub(super) is_in_force: bool,
    pub(super) budget: Amount,
    pub(super) scale: Scale,
    /// By node; nothing is held by those beyond the end.
    holdings: Vec<Holding>,
    backings: Vec<Backing>,
    total: Total,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changed {
    /// Envelope or floor are others, for the first time since the latest proposal.
    pub(super) is_news: bool,
    /// Envelope or floor are others.
    pub(super) bound: bool,
    /// What was proposed last is something else.
    pub(super) latest: bool,
}

impl Page {
    pub(super) fn new(scale: Scale) -> Self {
        Self {
            scale,
            ..Self::default()
        }
    }

    pub(super) fn total(&self) -> Amount {
        self.total.amount()
    }

    pub(super) fn is_over_budget(&self) -> bool {
        self.is_in_force && !self.total().fits(self.budget)
    }

    pub(super) fn holding(&self, node: NodeSlot) -> Holding {
        self.holdings.get(node.index()).copied().unwrap_or_default()
    }

    pub(super) fn holdings(&self) -> &[Holding] {
        &self.holdings
    }

    pub(super) fn backing(&self, node: NodeSlot) -> Backing {
        self.backings.get(node.index()).copied().unwrap_or_default()
    }

    /// A word of all that is said of a node.
    pub(super) fn hint(&self, node: NodeSlot) -> u64 {
        let holding = self.holdings.get(node.index());
        let backing = self.backings.get(node.index());
        holding.map_or(0, |holding| holding.envelope.rate.0)
            ^ backing.map_or(0, |backing| backing.changed.0)
    }

    /// The nodes that are written of.
    pub(super) fn known(&self) -> impl Iterator<Item = (NodeSlot, &Holding, &Backing)> {
        let both = self.holdings.iter().zip(&self.backings);
        (0..)
            .zip(both)
            .filter(|(_, (_, backing))| backing.is_known)
            .map(|(slot, (holding, backing))| (NodeSlot(slot), holding, backing))
    }

    /// Changes what one node may hold, and keeps the sum and the stamp that follow from it.
    /// `between` is the most of what is unanswered before the latest entry, once it is changed.
    pub(super) fn change(
        &mut self,
        node: NodeSlot,
        next: Generation,
        between: impl FnOnce() -> Entry,
        change: impl FnOnce(&mut Backing, &mut Entry),
    ) -> Changed {
        let index = node.index();
        if index >= self.holdings.len() {
            self.holdings.resize(index + 1, Holding::default());
            self.backings.resize(index + 1, Backing::default());
        }
        let (holding, backing) = (&mut self.holdings[index], &mut self.backings[index]);
        let before = *holding;
        let was_known = core::mem::replace(&mut backing.is_known, true);
        change(backing, &mut holding.latest);
        if backing.unanswered == 0 {
            holding.latest = backing.settled;
        }
        let mut most = backing.settled.max(holding.latest);
        if backing.unanswered > 1 {
            most = most.max(between());
        }
        holding.envelope = most.envelope().max(backing.reserved);
        holding.floor = most.floor.max(backing.reserved);
        let bound = holding.envelope != before.envelope || holding.floor != before.floor;
        let is_news = !was_known || (bound && backing.changed != next);
        if bound || !was_known {
            backing.changed = next;
        }
        self.total.replace(before.envelope, holding.envelope);
        Changed {
            is_news,
            bound,
            latest: holding.latest != before.latest,
        }
    }

    /// Other units: what is `unanswered` beside the latest entries is for the caller.
    pub(super) fn rescale(&mut self, scale: Scale, next: Generation) {
        let from = core::mem::replace(&mut self.scale, scale);
        self.total = Total::default();
        for (holding, backing) in self.holdings.iter_mut().zip(&mut self.backings) {
            backing.reserved = backing.reserved.rescaled_up(from, scale);
            backing.settled = backing.settled.rescaled(from, scale);
            holding.latest = holding.latest.rescaled(from, scale);
            // The largest is the same one in other units.
            holding.envelope = holding.envelope.rescaled_up(from, scale);
            holding.floor = holding.floor.rescaled_up(from, scale);
            // Its units are other ones, even where its numbers are not.
            backing.changed = next;
            self.total.replace(Amount::ZERO, holding.envelope);
        }
    }
}
