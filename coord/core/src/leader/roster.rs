//! Rule 10, *members*, as far as joining goes.
//!
//! The others shrink until the newcomer's floors fit beside all that may be held, then its floors
//! are in the book, then the roster is written, and then it may use them. A newcomer that used a
//! floor before that would spend what another node still holds.

use weir_model::NodeId;

use super::{Command, Leader, StepDown, coordinated, member::Member};
use crate::{
    commit::{CommitBackend, StoreOutcome},
    record::MemberRecord,
};
use alloc::vec::Vec;

/// A node that is to become a member.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) record: MemberRecord,
    pub(super) stage: Stage,
}

/// How far a node has come towards membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The others shrink until its floors fit.
    Waiting,
    /// Its floors are in the book.
    Reserved,
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
            if joining.stage == Stage::Waiting && self.book.has_room(&floors) {
                for (limit, floor) in floors {
                    self.book.reserve_floor(*node, limit, floor);
                }
                joining.stage = Stage::Reserved;
            }
            if joining.stage == Stage::Reserved {
                joining.stage = Stage::Asked;
                self.commands
                    .push_back(Command::Admit(joining.record.clone()));
            }
        }
    }

    pub(super) fn join(&mut self, record: MemberRecord) {
        let known =
            self.members.contains_key(&record.node) || self.joining.contains_key(&record.node);
        if !known {
            self.joining.insert(
                record.node,
                Joining {
                    record,
                    stage: Stage::Waiting,
                },
            );
        }
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
