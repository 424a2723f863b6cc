//! The voters of this term, as the leader knows them: rule 4, *quorum*, the leader's side.

use alloc::{collections::BTreeMap, vec::Vec};

use weir_model::{
    Generation, Nanos, NodeId,
    message::{Ack, Report, Token},
};

use crate::voters::majority;

/// The voters.
#[derive(Clone, Debug, Hash)]
pub(super) struct Electorate {
    voters: BTreeMap<NodeId, Voter>,
}

#[derive(Clone, Debug, Default, Hash)]
struct Voter {
    heard: Option<(Token, Nanos)>,
    /// The latest register that it is known to have in this life.
    base: Option<Generation>,
}

impl Electorate {
    pub(super) fn new(voters: Vec<NodeId>) -> Self {
        Self {
            voters: voters
                .into_iter()
                .map(|voter| (voter, Voter::default()))
                .collect(),
        }
    }

    pub(super) fn voters(&self) -> Vec<NodeId> {
        self.voters.keys().copied().collect()
    }

    pub(super) fn contains(&self, node: NodeId) -> bool {
        self.voters.contains_key(&node)
    }

    /// Whether most of them are so.
    pub(super) fn has_majority(&self, is_so: impl Fn(NodeId) -> bool) -> bool {
        let count = self.voters.keys().filter(|voter| is_so(**voter)).count();
        count >= majority(self.voters.len())
    }

    /// The voters of which this is not so.
    pub(super) fn others(&self, is_so: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
        let voters = self.voters.keys().copied();
        voters.filter(|voter| !is_so(*voter)).collect()
    }

    /// A later life has forgotten what an earlier one was told.
    pub(super) fn hear(&mut self, report: &Report, now: Nanos) {
        self.hear_token(report.node, report.token, now);
    }

    /// As [`Electorate::hear`]: a promise carries a token as well, and comes earlier.
    pub(super) fn hear_token(&mut self, node: NodeId, token: Token, now: Nanos) {
        let Some(voter) = self.voters.get_mut(&node) else {
            return;
        };
        let life = token.incarnation;
        match voter.heard.map(|(token, _)| token.incarnation) {
            Some(known) if life < known => return,
            Some(known) if life > known => voter.base = None,
            _ => {}
        }
        voter.heard = Some((token, now));
    }

    /// `None` for a node that has not been heard, and for one that is no voter.
    pub(super) fn heard(&self, node: NodeId) -> Option<(Token, Nanos)> {
        self.voters.get(&node)?.heard
    }

    /// What the next register for a voter is based on.
    #[allow(clippy::option_option)]
    pub(super) fn base(&self, node: NodeId) -> Option<Option<Generation>> {
        Some(self.voters.get(&node)?.base)
    }

    /// The oldest register that any voter has whose next one is based on it.
    pub(super) fn oldest_base(&self) -> Option<Generation> {
        self.voters.values().filter_map(|voter| voter.base).min()
    }

    pub(super) fn has_voted(&self, node: NodeId, generation: Generation) -> bool {
        self.voters
            .get(&node)
            .is_some_and(|voter| voter.base >= Some(generation))
    }

    /// Whether a vote counts: a life that has ended may have forgotten what it voted for.
    pub(super) fn voted(&mut self, ack: &Ack) -> bool {
        let Some(voter) = self.voters.get_mut(&ack.node) else {
            return false;
        };
        let is_current = voter
            .heard
            .is_some_and(|(token, _)| token.incarnation == ack.incarnation);
        if is_current {
            voter.base = voter.base.max(Some(ack.position.generation));
        }
        is_current
    }
}
