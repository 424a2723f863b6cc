//! The voters of this term, as the leader knows them: rule 4, *quorum*, the leader's side.

use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;

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
    /// Registers up to this one are no base any more, whoever says so later.
    forgotten: Option<Generation>,
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

    /// Forgets what voters have that were not heard for so long: the next register for each of them is
    /// whole, as after a restart. `latest` is the latest proposal.
    ///
    /// Without that, whatever has to be remembered for a difference, as are the pages of keys that
    /// are hot no more, is remembered until the voter is back or is a voter no more.
    pub(super) fn forget_silent(&mut self, silence: Duration, latest: Generation, now: Nanos) {
        for voter in self.voters.values_mut() {
            let is_silent = voter.heard.is_none_or(|(_, at)| now - at > silence);
            if is_silent && voter.base.take().is_some() {
                voter.forgotten = Some(latest);
            }
        }
    }

    /// Whether a vote counts: a life that has ended may have forgotten what it voted for.
    pub(super) fn voted(&mut self, ack: &Ack) -> bool {
        let Some(voter) = self.voters.get_mut(&ack.node) else {
            return false;
        };
        let is_current = voter
            .heard
            .is_some_and(|(token, _)| token.incarnation == ack.incarnation);
        let generation = Some(ack.position.generation);
        if is_current && generation > voter.forgotten {
            voter.base = voter.base.max(generation);
        }
        is_current
    }
}

#[cfg(test)]
mod tests {
    use weir_model::{Incarnation, Term, message::Position};

    use super::*;

    const TOKEN: Token = Token {
        incarnation: Incarnation(1),
        at: Nanos(1),
    };

    fn vote(node: NodeId, generation: u64) -> Ack {
        Ack {
            node,
            incarnation: TOKEN.incarnation,
            position: Position {
                term: Term(1),
                generation: Generation(generation),
            },
            holds: true,
            votes: true,
        }
    }

    #[test]
    fn a_silent_voter_is_no_reason_to_remember_and_its_late_votes_are_none() {
        let [silent, other] = [1, 2].map(NodeId::from_u128);
        let mut electorate = Electorate::new([silent, other].into());
        let wait = Duration::from_secs(2);
        for node in [silent, other] {
            electorate.hear_token(node, TOKEN, Nanos::ZERO);
            assert!(electorate.voted(&vote(node, 3)));
        }
        electorate.hear_token(other, TOKEN, Nanos::ZERO + wait);
        assert!(electorate.voted(&vote(other, 9)));
        electorate.forget_silent(wait, Generation(9), Nanos::ZERO + wait);
        assert_eq!(electorate.oldest_base(), Some(Generation(3)));
        electorate.forget_silent(wait, Generation(9), Nanos(1) + wait);
        assert_eq!(electorate.oldest_base(), Some(Generation(9)));
        // What it answers now was a difference to what is forgotten.
        assert!(electorate.voted(&vote(silent, 9)), "it is a vote");
        assert_eq!(electorate.base(silent), Some(None));
        electorate.voted(&vote(silent, 10));
        assert_eq!(electorate.base(silent), Some(Some(Generation(10))));
    }
}
