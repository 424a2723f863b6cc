//! Rule 10, *members*: who may spend without a lease, and how much.
//!
//! Leases end by themselves; floors do not. So a floor is in the roster before it may be spent, and
//! nobody else is given it before the roster has given it up. To join, or to have a larger floor:
//!
//! 1. the others shrink until it fits beside all that may be held;
//! 2. it is reserved in the book;
//! 3. a proposal commits whose register has it;
//! 4. the roster is written;
//! 5. proposals may have it as a floor.
//!
//! To have a smaller one: proposals have the smaller one, the node acknowledges, the roster is
//! written, and then the book gives the difference away.
//!
//! A newcomer that used a floor before there was room would spend what another node still holds.
//! One that used it before a majority knows of the room that was made would spend what a new
//! leader, which adopts an older register, lets another node have again. And one whose floor is
//! known to voters only would spend on when they have forgotten it.

use alloc::{collections::BTreeMap, vec::Vec};

use weir_model::{Amount, Generation, Limit, LimitId, Nanos, NodeId, Scale};

use super::{Command, Leader, StepDown, coordinated, member::Member};
use crate::{
    commit::{CommitBackend, StoreOutcome},
    record::{MemberRecord, ReservedFloor},
    rules::Mutation,
    slots::Derived,
};

/// A node that is to become a member, or a member whose floors are to be others.
#[derive(Clone, Debug, Hash)]
pub(super) struct Joining {
    /// What the roster is to hold.
    pub(super) record: MemberRecord,
    pub(super) stage: Stage,
    /// When it last asked; `None` for a member, which need not.
    pub(super) asked: Option<Nanos>,
}

/// How far a node has come towards membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// The others shrink until its floors fit.
    Waiting,
    /// Its floors are in the book; no proposal has gone out since.
    Reserved,
    /// Its floors are in the register of this proposal and of all that follow.
    Proposed(Generation),
    /// The roster is being written.
    Asked,
}

impl<B: CommitBackend> Leader<B> {
    /// Takes the next step with each node that waits.
    pub(super) fn admit(&mut self) {
        self.review_floors();
        for (node, joining) in &mut self.joining {
            if joining.stage == Stage::Waiting {
                let floors: BTreeMap<LimitId, Amount> = coordinated(&self.policy)
                    .map(|limit| (limit.id, joining.record.floor(limit)))
                    .collect();
                let skips = self.rules.breaks(Mutation::AdmitWithoutRoom);
                if self.book.has_room(*node, &floors) || skips {
                    for floor in &joining.record.floors {
                        self.book
                            .reserve(*node, floor.limit, floor.scale, floor.amount);
                    }
                    joining.stage = Stage::Reserved;
                }
            }
            let is_known = match joining.stage {
                Stage::Proposed(generation) => self.committed >= generation,
                Stage::Reserved => self.rules.breaks(Mutation::AdmitBeforeCommitted),
                Stage::Waiting | Stage::Asked => false,
            };
            if is_known {
                joining.stage = Stage::Asked;
                self.commands
                    .push_back(Command::Admit(joining.record.clone()));
            }
        }
    }

    /// The floor that the roster reserves for a member, whatever becomes of what is being written:
    /// while a smaller one is, a policy that raises it again has to wait.
    pub(super) fn reserved_floor(&self, node: NodeId, member: &Member, limit: &Limit) -> Amount {
        let known = member.floor(limit);
        match self.joining.get(&node) {
            Some(joining) if matches!(joining.stage, Stage::Asked | Stage::Proposed(_)) => {
                known.min(joining.record.floor(limit))
            }
            _ => known,
        }
    }

    /// Compares what the roster reserves with what the policy wants, for each member, and for those
    /// that wait, as the policy may have changed meanwhile.
    fn review_floors(&mut self) {
        let mut to_review = Vec::new();
        for (node, member) in &mut self.members {
            member.needs_review.0 |= self.book.take_floor_note(member.slot);
            let has_cause = member.needs_review.0 || member.wants_drained.is_some();
            let is_moving = self.joining.contains_key(node) || self.leaving.contains_key(node);
            if has_cause && !is_moving {
                member.needs_review.0 = false;
                to_review.push(*node);
            }
        }
        let due: Vec<(NodeId, MemberRecord, Stage)> = to_review
            .into_iter()
            .filter_map(|node| self.due_record(node))
            .collect();
        for (node, record, stage) in due {
            if stage == Stage::Asked && self.rules.breaks(Mutation::FloorGivenAwayEarly) {
                self.reserve_exactly(node, &record.floors);
            }
            if stage == Stage::Asked {
                self.commands.push_back(Command::Admit(record.clone()));
            }
            let joining = Joining {
                record,
                stage,
                asked: None,
            };
            self.joining.insert(node, joining);
        }
        for (node, joining) in &mut self.joining {
            if joining.stage == Stage::Waiting {
                let wanted =
                    coordinated(&self.policy).map(|limit| (limit.id, limit.scale, limit.floor));
                joining.record.floors = merged(self.book.reserved(*node), wanted);
            }
        }
    }

    /// What the roster ought to say of a member, if it says otherwise.
    fn due_record(&self, node: NodeId) -> Option<(NodeId, MemberRecord, Stage)> {
        let member = self.members.get(&node)?;
        let (record, drained) = (&member.record, member.wants_drained);
        let (floors, stage) = self.due_floors(node).or_else(|| {
            drained?;
            let same = merged(self.book.reserved(node), core::iter::empty());
            Some((same, Stage::Asked))
        })?;
        let record = MemberRecord {
            floors,
            is_drained: drained.unwrap_or(record.is_drained),
            ..record.clone()
        };
        Some((node, record, stage))
    }

    /// The floors that a member ought to have in the roster, if they are others: larger ones go the
    /// long way, smaller ones only have to be written.
    fn due_floors(&self, node: NodeId) -> Option<(Vec<ReservedFloor>, Stage)> {
        let wanted = coordinated(&self.policy).map(|limit| (limit.id, limit.scale, limit.floor));
        let slot = self.members.get(&node)?.slot;
        let places = &self.places.0;
        let is_larger = places.iter().any(|place| {
            let (reserved, _) = self.book.floors(slot, place.slot);
            let named = place.named(&self.policy);
            named.is_some_and(|limit| !limit.floor.fits(reserved))
        });
        if is_larger {
            return Some((merged(self.book.reserved(node), wanted), Stage::Waiting));
        }
        let is_smaller = places.iter().any(|place| {
            let (reserved, spendable) = self.book.floors(slot, place.slot);
            let floor = place.named(&self.policy).map(|limit| limit.floor);
            floor.is_some_and(|floor| reserved != floor && spendable.fits(floor))
        });
        is_smaller.then(|| {
            let least = self.book.reserved(node).map(|(limit, scale, reserved)| {
                let found = self.book.limit_slot(limit);
                let floors = found.map(|limit| self.book.floors(slot, limit));
                let (_, spendable) = floors.unwrap_or_default();
                let wanted = self.policy.limit(limit).map(|limit| limit.floor);
                // A limit that is not in force keeps what it had: it may come back.
                let least = wanted.map_or(reserved, |wanted| wanted.max(spendable).min(reserved));
                (limit, scale, least)
            });
            (merged(least, core::iter::empty()), Stage::Asked)
        })
    }

    /// Whether floors are reserved that no register has yet.
    pub(super) fn has_reserved(&self) -> bool {
        let mut joining = self.joining.values();
        joining.any(|joining| joining.stage == Stage::Reserved)
    }

    /// A proposal has gone out, with every floor that is in the book.
    pub(super) fn joining_proposed(&mut self) {
        for joining in self.joining.values_mut() {
            if joining.stage == Stage::Reserved {
                joining.stage = Stage::Proposed(self.generation);
            }
        }
    }

    /// A node that is no member has reported. Beyond `max_members` it is turned away: floors were
    /// computed for no more.
    pub(super) fn join(&mut self, record: MemberRecord, now: Nanos) {
        if self.members.contains_key(&record.node) || self.is_departed(record.node) {
            return;
        }
        if let Some(joining) = self.joining.get_mut(&record.node) {
            joining.asked = Some(now);
        } else if !self.is_full() {
            let joining = Joining {
                record,
                stage: Stage::Waiting,
                asked: Some(now),
            };
            self.joining.insert(joining.record.node, joining);
        }
    }

    /// Whether a node that asks to join is turned away.
    #[must_use]
    pub fn turns_away(&self, node: NodeId) -> bool {
        let is_known = self.members.contains_key(&node) || self.joining.contains_key(&node);
        !is_known && self.is_full()
    }

    /// Whether there are as many members as policies have room for.
    fn is_full(&self) -> bool {
        self.places_taken() >= self.places()
    }

    /// Members, and those that are to be.
    pub(super) fn places_taken(&self) -> usize {
        let newcomers = self.joining.keys();
        let newcomers = newcomers.filter(|node| !self.members.contains_key(node));
        self.members.len() + newcomers.count()
    }

    /// Makes no more room for newcomers that have gone away while they waited.
    pub(super) fn forget_the_unheard(&mut self, now: Nanos) {
        let stale = self.timing.stale();
        self.joining.retain(|_, joining| {
            let is_stale = joining.asked.is_some_and(|asked| now - asked > stale);
            joining.stage != Stage::Waiting || !is_stale
        });
    }

    pub(super) fn admitted(&mut self, node: NodeId, outcome: StoreOutcome) {
        match outcome {
            StoreOutcome::Fenced => self.step_down(StepDown::Fenced),
            StoreOutcome::Unknown => {
                // The roster may have it, so the floors stay reserved; ask again next tick.
                if let Some(joining) = self.joining.get_mut(&node) {
                    joining.stage = Stage::Proposed(Generation(0));
                }
            }
            StoreOutcome::Committed => {
                if let Some(joining) = self.joining.remove(&node) {
                    self.reserve_exactly(node, &joining.record.floors);
                    if !self.members.contains_key(&node) {
                        // One that was a member before may remember floors, and use them again as
                        // soon as the roster reserves them.
                        self.book.assume_reserved(node);
                    }
                    self.departed.remove(&node);
                    let slot = self.book.account(node);
                    self.round.0.is_other = true;
                    let member = self.members.entry(node);
                    let member =
                        member.or_insert_with(|| Member::new(joining.record.clone(), slot));
                    // `merged` has its floors in order.
                    member.record = joining.record;
                    member.has_floors = Derived(None);
                    self.round.0.is_other = true;
                    let is_drained = member.record.is_drained;
                    member.wants_drained =
                        member.wants_drained.filter(|wants| *wants != is_drained);
                }
            }
        }
    }

    /// The roster has these floors now, and no others.
    fn reserve_exactly(&mut self, node: NodeId, floors: &[ReservedFloor]) {
        let before: Vec<(LimitId, Scale, Amount)> = self.book.reserved(node).collect();
        for (limit, scale, _) in before {
            self.book.reserve(node, limit, scale, Amount::ZERO);
        }
        for floor in floors {
            self.book
                .reserve(node, floor.limit, floor.scale, floor.amount);
        }
    }

    /// The roster. What it reserves counts for members that are new here; of the others this leader
    /// knows better, for it alone writes the roster.
    pub(super) fn set_members(&mut self, records: Vec<MemberRecord>, now: Nanos) {
        // Once all are known: the last member stays.
        let without_power = records.iter().filter(|record| record.is_powered_off);
        let without_power: Vec<NodeId> = without_power.map(|record| record.node).collect();
        for mut record in records {
            if record.is_powered_off && !self.departed.contains_key(&record.node) {
                self.do_without(record.node, now);
            }
            if let Some(member) = self.members.get_mut(&record.node) {
                record.floors = core::mem::take(&mut member.record.floors);
                record.is_drained = member.record.is_drained;
                member.record = record;
            } else if !self.joining.contains_key(&record.node)
                && !self.departed.contains_key(&record.node)
            {
                if !self.rules.breaks(Mutation::FloorsUnrecorded) {
                    self.reserve_exactly(record.node, &record.floors);
                    self.book.assume_reserved(record.node);
                }
                let slot = self.book.account(record.node);
                self.round.0.is_other = true;
                self.members.insert(record.node, Member::new(record, slot));
            }
        }
        for node in without_power {
            self.remove(node, true);
        }
    }
}

/// The larger of what is reserved and what is wanted, of each limit.
fn merged(
    reserved: impl Iterator<Item = (LimitId, Scale, Amount)>,
    wanted: impl Iterator<Item = (LimitId, Scale, Amount)>,
) -> Vec<ReservedFloor> {
    let mut floors: BTreeMap<LimitId, ReservedFloor> = BTreeMap::new();
    // The book has a limit that is in force in the units of the policy.
    for (limit, scale, amount) in reserved.chain(wanted) {
        if amount == Amount::ZERO {
            continue;
        }
        floors
            .entry(limit)
            .and_modify(|floor| floor.amount = floor.amount.max(amount))
            .or_insert(ReservedFloor {
                limit,
                scale,
                amount,
            });
    }
    floors.into_values().collect()
}
