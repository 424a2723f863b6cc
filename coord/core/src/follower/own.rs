//! What a member gives keys of strict limits by itself: its part of a half of their budget.
//!
//! No lease bounds it and no row has it. A place among `max_members` comes with it, so who leaves has
//! to have stopped it before somebody else has that place. As with floors, a node stops at a proposal,
//! before it acknowledges, and begins again with a commit.

use weir_model::message::Propose;

use super::{Command, Follower};
use crate::rules::Mutation;

impl Follower {
    /// A proposal for no time says that nothing is this node's own.
    pub(super) fn stop_giving(&mut self, propose: &Propose) {
        if propose.lease.is_zero() {
            self.tell_gives(false);
        }
    }

    /// A proposal with a lease is committed: its part is the node's, if the roster has it.
    pub(super) fn give(&mut self) {
        self.tell_gives(true);
    }

    fn tell_gives(&mut self, gives: bool) {
        let keeps = !gives && self.rules.breaks(Mutation::OwnPartKept);
        if self.gives != Some(gives) && !keeps {
            self.gives = Some(gives);
            self.commands.push_back(Command::Give(gives));
        }
    }
}
