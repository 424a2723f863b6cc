//! Rule 10, *members*, as far as joining goes.
//!
//! The others shrink until the newcomer's floors fit beside all that may be held, then its floors
//! are in the book, then a proposal commits whose register has them, then the roster is written,
//! and then it may use them. A newcomer that used a floor before there was room would spend what
//! another node still holds. One that used it before a majority knows of the room that was made
//! would spend what a new leader, which adopts an older register, lets another node have again.

use weir_model::{Generation, Nanos, NodeId};

use super::{Command, Leader, StepDown, coordinated, member::Member};
use crate::{
    commit::{CommitBackend, StoreOutcome},
    record::MemberRecord,
    rules::Mutation,
};
use alloc::vec::Vec;

/// A node that is to become a member.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) record: MemberRecord,
    pub(super) stage: Stage,
    /// When it last asked.
    pub(super) asked: Nanos,
}

/// How far a node has come towards membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Takes the next step with each node that waits to join.
    pub(super) fn admit(&mut self) {
        for (node, joining) in &mut self.joining {
            let floors = coordinated(&self.policy)
                .map(|limit| (limit.id, limit.floor))
                .collect();
            let has_room =
                self.book.has_room(&floors) || self.rules.breaks(Mutation::AdmitWithoutRoom);
            if joining.stage == Stage::Waiting && has_room {
                for (limit, floor) in floors {
                    self.book.reserve_floor(*node, limit, floor);
                }
                joining.stage = Stage::Reserved;
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
        if self.members.contains_key(&record.node) {
            return;
        }
        if let Some(joining) = self.joining.get_mut(&record.node) {
            joining.asked = now;
        } else if !self.is_full() {
            let joining = Joining {
                record,
                stage: Stage::Waiting,
                asked: now,
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

    /// Whether there are as many members as the policy has floors for.
    fn is_full(&self) -> bool {
        let places = usize::try_from(self.policy.fleet.max_members).unwrap_or(usize::MAX);
        self.members.len() + self.joining.len() >= places
    }

    /// Makes no more room for newcomers that have gone away while they waited.
    pub(super) fn forget_the_unheard(&mut self, now: Nanos) {
        let stale = self.timing.stale();
        self.joining
            .retain(|_, joining| joining.stage != Stage::Waiting || now - joining.asked <= stale);
    }

    pub(super) fn admitted(&mut self, node: NodeId, outcome: StoreOutcome) {
        match outcome {
            StoreOutcome::Fenced => self.step_down(StepDown::Fenced),
            StoreOutcome::Unknown => {
                // The roster may have it, so the floor stays reserved; ask again next tick.
                if let Some(joining) = self.joining.get_mut(&node) {
                    joining.stage = Stage::Reserved;
                }
            }
            StoreOutcome::Committed => {
                if let Some(joining) = self.joining.remove(&node) {
                    self.members
                        .entry(node)
                        .or_insert_with(|| Member::new(joining.record));
                }
            }
        }
    }

    pub(super) fn set_members(&mut self, records: Vec<MemberRecord>) {
        for record in records {
            for limit in coordinated(&self.policy) {
                self.book.reserve_floor(record.node, limit.id, limit.floor);
            }
            self.joining.remove(&record.node);
            self.members
                .entry(record.node)
                .and_modify(|member| member.record = record.clone())
                .or_insert_with(|| Member::new(record));
        }
    }
}
