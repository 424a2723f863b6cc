//! What each node is to hold next: the limits of which something has changed, and no others.
//!
//! A plan of a limit follows from who takes part, what they demand, what the book says of the limit,
//! and the policy. While none of these is another one the plan is what was proposed last, so it is
//! not made again.

use alloc::{borrow::Cow, vec::Vec};

use weir_model::{Amount, Limit, LimitId, Nanos, NodeId, Policy};

use super::{Leader, coordinated, hot::HotKeys, roster::Stage};
use crate::{
    allocation::{Participant, step, targets},
    book::{Change, Entry, Holding, LimitSlot, NodeSlot},
    commit::CommitBackend,
    rules::Mutation,
};

/// Pairs of member and limit that are planned at once, so that a tick's work has a bound: a larger
/// fleet follows its traffic in several ticks (ADR 23). A policy or a membership that is another one
/// is followed at once, whatever it takes.
const MOST_AT_ONCE: usize = 1 << 18;

/// A limit that the fleet shares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) slot: LimitSlot,
    pub(super) id: LimitId,
    kind: Kind,
    /// Its number among the rows of a proposal; `None` for one that is proposed by its absence.
    pub(super) row: Option<usize>,
}

/// What kind of limit it is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// One of the policy, and its number there.
    Named(usize),
    /// A hot key.
    Hot,
    /// One that is hot no more: nobody is to hold anything of it.
    Retired,
}

impl Place {
    /// The limit of the policy, if it is one.
    pub(super) fn named<'a>(&self, policy: &'a Policy) -> Option<&'a Limit> {
        match self.kind {
            Kind::Named(number) => Some(&policy.limits[number]),
            Kind::Hot | Kind::Retired => None,
        }
    }

    /// What there is to divide; `None` for what is hot no more.
    pub(super) fn limit<'a>(&self, policy: &'a Policy, hot: &'a HotKeys) -> Option<&'a Limit> {
        match self.kind {
            Kind::Hot => hot.limit(self.id),
            Kind::Named(_) | Kind::Retired => self.named(policy),
        }
    }
}

/// A member that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seat {
    node: NodeId,
    slot: NodeSlot,
    weight: u32,
    role: Role,
    /// Whether the roster reserves the floors of the policy for it, all of them.
    has_floors: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Shares,
    /// It keeps its floors.
    Idles,
    /// It keeps nothing.
    Leaves,
}

/// The latest plan: for whom it was made.
#[derive(Clone, Debug)]
pub(super) struct Round {
    seats: Vec<Seat>,
    /// By slot of a limit: where in [`Leader::places`] it is.
    place_of: Vec<Option<usize>>,
    /// Every limit has to be planned anew: what a plan follows from has changed, and neither seats
    /// nor the book say so. Who is a member is such a thing, also of those that take no part.
    pub(super) is_other: bool,
    /// The place where the next plan begins that cannot be of all that is due.
    next: usize,
    most_at_once: usize,
    /// Room for what a plan changes, empty: of a large fleet it is megabytes.
    pub(super) spare: Vec<PlannedChange>,
}

impl Default for Round {
    fn default() -> Self {
        Self {
            seats: Vec::new(),
            place_of: Vec::new(),
            is_other: false,
            next: 0,
            most_at_once: MOST_AT_ONCE,
            spare: Vec::new(),
        }
    }
}

impl Round {
    /// As many of these places, in order, as are planned at once; the others come first in the next
    /// plans.
    fn at_once(&mut self, mut due: Vec<usize>, members: usize) -> Vec<usize> {
        let most = (self.most_at_once / members.max(1)).max(1);
        if due.len() > most {
            let begin = due.partition_point(|place| *place < self.next);
            due.rotate_left(begin);
            due.truncate(most);
            self.next = due.last().map_or(0, |place| place + 1);
            due.sort_unstable();
        }
        due
    }

    /// Where a limit is among those that the fleet shares.
    pub(super) fn place(&self, limit: LimitSlot) -> Option<usize> {
        self.place_of.get(limit.index()).copied().flatten()
    }
}

/// What each node is to hold, by what is new.
pub(super) struct Plan {
    /// Those that take part, in the order of their identities.
    pub(super) parts: Vec<Part>,
    /// In the order of limits' slots.
    pub(super) changes: Vec<PlannedChange>,
    /// Whether any amount or floor grows.
    pub(super) grows: bool,
}

pub(super) struct Part {
    pub(super) node: NodeId,
    pub(super) slot: NodeSlot,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct PlannedChange {
    /// For which of [`Plan::parts`].
    pub(super) part: usize,
    pub(super) change: Change,
}

impl Plan {
    pub(super) fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    pub(super) fn has(&self, node: NodeId) -> bool {
        let parts = &self.parts;
        parts.binary_search_by_key(&node, |part| part.node).is_ok()
    }
}

impl<B: CommitBackend> Leader<B> {
    /// The policy is another one: finds its limits in the book.
    pub(super) fn arrange(&mut self) {
        self.arrange_places();
        self.round.0.is_other = true;
        for member in self.members.values_mut() {
            let policy = &self.policy;
            member
                .other_counts
                .retain(|limit, _| policy.limit(*limit).is_some());
            member.has_floors.0 = None;
            member.needs_review.0 = true;
        }
    }

    /// Limits or hot keys are others: finds them in the book.
    pub(super) fn arrange_places(&mut self) {
        let before = core::mem::take(&mut self.places.0);
        let named = self.policy.limits.iter().enumerate();
        let named = named.filter(|(_, limit)| limit.is_leased());
        let named = named.map(|(number, limit)| (limit.id, Kind::Named(number)));
        let hot = self.hot.ids().map(|id| (id, Kind::Hot));
        let with_rows = named.chain(hot).zip((0..).map(Some));
        let retired = self.hot.retired().map(|id| ((id, Kind::Retired), None));
        let mut places: Vec<Place> = with_rows
            .chain(retired)
            .filter_map(|((id, kind), row)| {
                let slot = self.book.limit_slot(id)?;
                Some(Place {
                    slot,
                    id,
                    kind,
                    row,
                })
            })
            .collect();
        places.sort_unstable_by_key(|place| place.slot);
        let end = places.last().map_or(0, |place| place.slot.index() + 1);
        let round = &mut self.round.0;
        round.place_of = alloc::vec![None; end];
        for (index, place) in places.iter().enumerate() {
            round.place_of[place.slot.index()] = Some(index);
        }
        for place in before {
            let now = round.place(place.slot).map(|index| places[index].id);
            if now != Some(place.id) {
                self.demands.0.forget_limit(place.slot);
                for member in self.members.values_mut() {
                    member.forget_count(place.slot);
                }
            }
        }
        self.places.0 = places;
        for member in self.members.values_mut() {
            member.rows.0 = None;
        }
    }

    pub(super) fn plan(&mut self, now: Nanos) -> Plan {
        let seats = self.seats(now);
        self.demands.0.settle();
        // Who joins changes what others may have, and what is reserved.
        let is_joining = !self.joining.is_empty();
        let is_other = self.round.0.is_other || is_joining || self.round.0.seats != seats;
        let part = |seat: &Seat| Part {
            node: seat.node,
            slot: seat.slot,
        };
        let mut plan = Plan {
            parts: seats.iter().map(part).collect(),
            changes: core::mem::take(&mut self.round.0.spare),
            grows: false,
        };
        let all = 0..self.places.0.len();
        let due: Vec<usize> = if is_other {
            all.collect()
        } else {
            let due = all.filter(|place| self.is_due(self.places.0[*place]));
            let due = due.collect();
            self.round.0.at_once(due, seats.len())
        };
        for index in due {
            let place = self.places.0[index];
            self.book.take_limit_note(place.slot);
            self.demands.0.take_moved(place.slot);
            match place.limit(&self.policy, &self.hot) {
                Some(limit) => self.plan_limit(place, limit, &seats, &mut plan),
                None if self.hot.knows(now) => self.plan_nothing(place, &seats, &mut plan),
                None => {}
            }
        }
        self.round.0.seats = seats;
        self.round.0.is_other = is_joining;
        plan
    }

    /// Whether something that the plan of a limit follows from is another one.
    fn is_due(&self, place: Place) -> bool {
        self.demands.0.has_moved(place.slot) || self.book.has_limit_note(place.slot)
    }

    /// Whether a plan may be of some limits only, and the next one has to go on.
    pub(super) fn is_planned_in_parts(&self) -> bool {
        self.places.0.len().saturating_mul(self.members.len()) > self.round.0.most_at_once
    }

    fn seats(&mut self, now: Nanos) -> Vec<Seat> {
        let policy = &self.policy;
        for member in self.members.values_mut() {
            if member.has_floors.0.is_none() {
                let mut shared = coordinated(policy);
                let has_floors = shared.all(|limit| limit.floor.fits(member.floor(limit)));
                member.has_floors.0 = Some(has_floors);
            }
        }
        self.participating(now)
            .map(|(node, member)| Seat {
                node,
                slot: member.slot,
                weight: member.record.weight,
                role: if self.leaving.contains_key(&node) {
                    Role::Leaves
                } else if self.is_idle(node) {
                    Role::Idles
                } else {
                    Role::Shares
                },
                has_floors: member.has_floors.0 == Some(true) && !self.joining.contains_key(&node)
                    || self.rules.breaks(Mutation::FloorBeforeRoster),
            })
            .collect()
    }

    /// Adds what is new of one limit to the plan.
    fn plan_limit(&self, place: Place, limit: &Limit, seats: &[Seat], plan: &mut Plan) {
        let is_hot = matches!(place.kind, Kind::Hot);
        let shares = |seat: &&Seat| seat.role == Role::Shares;
        let mut holdings = Cow::Borrowed(self.book.holdings(place.slot));
        let mut pool = self.book.pool(place.slot);
        if is_hot {
            pool = self.with_floors(place.slot, limit, pool);
            assume_floors(limit, seats, holdings.to_mut());
        }
        let demands = self.demands.0.of_limit(place.slot);
        let participants = seats.iter().filter(shares).map(|seat| {
            let holding = holdings.get(seat.slot.index());
            Participant {
                weight: seat.weight,
                demand: demands
                    .of(seat.slot)
                    .or_else(|| self.hot.wanted(seat.node, place.id))
                    .unwrap_or(limit.floor.rate),
                reserved: self.reserved_for(seat, limit, is_hot),
                holding: holding.unwrap_or(&Holding::NOTHING),
            }
        });
        let participants: Vec<Participant<'_>> = participants.collect();
        let budget = if is_hot {
            self.hot.open_budget(limit, &participants)
        } else {
            self.open_budget(limit)
        };
        let targets = targets(limit, budget, &participants, pool);
        let mut entries = participants
            .iter()
            .zip(step(limit, &participants, &targets, pool));
        for (part, seat) in seats.iter().enumerate() {
            let (latest, entry) = if seat.role == Role::Shares {
                let (participant, entry) = entries.next().expect("one for each that shares");
                (participant.holding.latest, entry)
            } else {
                let entry = if seat.role == Role::Leaves {
                    Entry::default()
                } else {
                    Entry::floor(limit.floor.min(self.reserved_for(seat, limit, is_hot)))
                };
                (self.book.holding(seat.slot, place.slot).latest, entry)
            };
            if entry != latest {
                let limit = place.slot;
                let change = Change { limit, entry };
                plan.grows |= !entry.amount.fits(latest.amount) || !entry.floor.fits(latest.floor);
                plan.changes.push(PlannedChange { part, change });
            }
        }
    }

    /// Adds that nobody is to hold anything of what was a hot key.
    fn plan_nothing(&self, place: Place, seats: &[Seat], plan: &mut Plan) {
        for (part, seat) in seats.iter().enumerate() {
            if self.book.holding(seat.slot, place.slot).latest != Entry::default() {
                let change = Change {
                    limit: place.slot,
                    entry: Entry::default(),
                };
                plan.changes.push(PlannedChange { part, change });
            }
        }
    }

    /// The floor that the roster reserves, as far as the policy asks for it. No roster reserves that
    /// of a hot key: its budget has room for those of all members.
    fn reserved_for(&self, seat: &Seat, limit: &Limit, is_hot: bool) -> Amount {
        if seat.has_floors || is_hot {
            return limit.floor;
        }
        let member = self.members.get(&seat.node);
        member.map_or(limit.floor, |member| {
            self.reserved_floor(seat.node, member, limit)
        })
    }

    /// The budget, less what is held back, and less the room that those need who wait for floors.
    fn open_budget(&self, limit: &Limit) -> Amount {
        let held_back = self.debts.held_back(limit.id);
        let budget = limit.budget.saturating_sub(Amount {
            rate: held_back,
            ..Amount::ZERO
        });
        let waiting = self
            .joining
            .iter()
            .filter(|(_, joining)| joining.stage == Stage::Waiting);
        waiting.fold(budget, |budget, (node, joining)| {
            let held = self.book.envelope(*node, limit.id);
            budget.saturating_sub(joining.record.floor(limit).saturating_sub(held))
        })
    }
}

/// Every member has its floor of a hot key, whatever the book says.
fn assume_floors(limit: &Limit, seats: &[Seat], holdings: &mut Vec<Holding>) {
    let end = seats.iter().map(|seat| seat.slot.index() + 1).max();
    holdings.resize(holdings.len().max(end.unwrap_or(0)), Holding::NOTHING);
    for holding in holdings {
        holding.envelope = holding.envelope.max(limit.floor);
    }
}

#[cfg(test)]
pub(super) mod tests;
