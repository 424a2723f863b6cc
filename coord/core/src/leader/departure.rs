//! Rule 10, *members*, the other direction: who takes no share any more, and who leaves.
//!
//! A member that is *drained* keeps its floors and takes no share; the roster says so, for the next
//! leader. A member that is *removed* gives back its floors as well:
//!
//! 1. proposals give it nothing, not even a floor, and say that nothing is its own: it stops what it
//!    gives keys of strict limits by itself, which has a place of `max_members`;
//! 2. it acknowledges, or the operator has given their word that it is powered off;
//! 3. if it votes, a new term has other voters;
//! 4. the roster is written without it;
//! 5. others are given its floors and its place, and what was leased to it when its leases have ended.
//!
//! Others that were given a floor before its holder has acknowledged giving it up would spend it
//! beside that holder, for ever: floors have no end.

use weir_model::{Generation, Incarnation, NodeId};

use super::{Command, Leader, StepDown, roster::Stage};
use crate::{
    commit::{CommitBackend, StoreOutcome},
    rules::Mutation,
};

/// A member that is to leave.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Leaving {
    is_powered_off: bool,
    /// The roster is being written.
    is_asked: bool,
    /// The first proposal which says that nothing is its own; so do all that follow.
    told: Option<Generation>,
}

/// A member that has left.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Departed {
    /// The last life that was heard. A daemon that goes on is not let in again; one that starts is.
    life: Incarnation,
    is_back: bool,
}

impl<B: CommitBackend> Leader<B> {
    /// A member is to take no share, or to take one again.
    pub(super) fn drain(&mut self, node: NodeId, is_drained: bool) {
        if let Some(member) = self.members.get_mut(&node) {
            member.wants_drained = (member.record.is_drained != is_drained).then_some(is_drained);
        }
    }

    /// A member is to leave. The operator's word that it is powered off may follow later. The last one
    /// stays: there would be nobody to vote, so it would give back everything and never be gone.
    pub(super) fn remove(&mut self, node: NodeId, is_powered_off: bool) {
        let stays = |other: &NodeId| *other != node && !self.leaving.contains_key(other);
        if self.members.contains_key(&node) && self.members.keys().any(stays) {
            let leaving = self.leaving.entry(node).or_insert(Leaving {
                is_powered_off: false,
                is_asked: false,
                told: None,
            });
            leaving.is_powered_off |= is_powered_off;
        }
    }

    /// Takes the next step with each member that leaves.
    pub(super) fn depart(&mut self) {
        let leaving = &self.leaving;
        self.joining
            .retain(|node, joining| joining.stage != Stage::Waiting || !leaving.contains_key(node));
        // Until this term has committed something, sets of former voters have to promise to whoever
        // comes next. Who might be among them, or votes now, is still needed, if only to be known to
        // have no power: the next term's voters are others.
        if self.backend.is_voted() && self.committed == Generation(0) {
            return;
        }
        for (node, leaving) in &mut self.leaving {
            if self.backend.is_voted() && self.electorate.contains(*node) {
                continue;
            }
            // Its floors are being written to the roster: one at a time.
            if leaving.is_asked || self.joining.contains_key(node) {
                continue;
            }
            // Under a policy before, it may hold floors of limits that are not in force any more.
            let since = leaving.told.map(|told| told.max(self.policy_since));
            let has_answered = self.members.get(node).is_none_or(|member| {
                let acknowledged = member.acknowledged;
                let answer = acknowledged.zip(since);
                answer.is_some_and(|((generation, _), since)| generation >= since)
            });
            let has_given_up = has_answered && self.book.has_given_up(*node);
            let skips = self.rules.breaks(Mutation::RemoveUnacknowledged);
            if leaving.is_powered_off || has_given_up || skips {
                leaving.is_asked = true;
                self.commands.push_back(Command::Remove(*node));
            }
        }
    }

    /// A proposal goes out, which tells all that leave.
    pub(super) fn tell_the_leaving(&mut self) {
        for leaving in self.leaving.values_mut() {
            leaving.told.get_or_insert(self.generation);
        }
    }

    /// Whether a member is to leave and no proposal says so yet.
    pub(super) fn has_untold(&self) -> bool {
        let mut leaving = self.leaving.values();
        leaving.any(|leaving| leaving.told.is_none())
    }

    /// Whether proposals say that a node has what is a member's own. One that is no member, but votes
    /// still, may not know yet that it is none.
    pub(super) fn has_own(&self, node: NodeId) -> bool {
        let leaving = self.leaving.get(&node);
        let is_told = leaving.is_some_and(|leaving| leaving.told.is_some());
        self.members.contains_key(&node) && !is_told
    }

    pub(super) fn removed(&mut self, node: NodeId, outcome: StoreOutcome) {
        match outcome {
            StoreOutcome::Fenced => self.step_down(StepDown::Fenced),
            StoreOutcome::Unknown => {
                // The roster may have lost it, so nothing new is proposed to it; ask again.
                if let Some(leaving) = self.leaving.get_mut(&node) {
                    leaving.is_asked = false;
                }
            }
            StoreOutcome::Committed => {
                self.leaving.remove(&node);
                self.book.forget_floors(node);
                let member = self.members.remove(&node);
                self.round.0.is_other = true;
                let heard = member.and_then(|member| member.heard);
                let life = heard.map_or(Incarnation(0), |heard| heard.token.incarnation);
                let departed = Departed {
                    life,
                    is_back: false,
                };
                self.departed.insert(node, departed);
            }
        }
    }

    /// Whether a node has left, and not come back as another life.
    pub(super) fn is_departed(&self, node: NodeId) -> bool {
        self.departed
            .get(&node)
            .is_some_and(|departed| !departed.is_back)
    }

    /// A life of a node is heard.
    pub(super) fn notice_return(&mut self, node: NodeId, life: Incarnation) {
        if let Some(departed) = self.departed.get_mut(&node) {
            departed.is_back |= life > departed.life;
        }
    }

    /// Whether a member takes no share: it is drained, or leaves.
    pub(super) fn is_idle(&self, node: NodeId) -> bool {
        let is_drained = |member: &super::member::Member| member.record.is_drained;
        self.leaving.contains_key(&node) || self.members.get(&node).is_some_and(is_drained)
    }
}
