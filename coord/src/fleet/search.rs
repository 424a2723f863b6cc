//! Looking for the leader where ZooKeeper does not say who it is.
//!
//! A node that was cut off, or a leader that was deposed while it was, knows of an old term, and its
//! session with ZooKeeper is over or its client waits for the next attempt to connect. The voters know
//! who leads. What a majority of them names is followed: whom this node attaches to, and no more,
//! for what it takes from there is for the protocol's fence to say. One voter's word is not enough:
//! whoever is followed can have this node promise any term.

use std::collections::{BTreeMap, BTreeSet};

use tracing::info;
use weir_coord_core::{record::TermRecord, voters::decide};
use weir_model::{Nanos, NodeId, Term};

use super::{Fleet, standing::Membership};
use crate::grpc::{Suspected, Whereabouts};

/// So many voters are asked in each tick, one after the other: while leader and ZooKeeper are both lost,
/// every node asks.
const ASKED_AT_ONCE: usize = 3;

/// What voters say.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// A leader of whom ZooKeeper has not said anything yet, and when it was found.
    found: Option<(Whereabouts, Nanos)>,
    /// Whom each voter named last.
    named: BTreeMap<NodeId, Whereabouts>,
    /// How many have been asked.
    asked: usize,
}

impl Fleet {
    /// Asks voters who leads, as long as nobody is heard and ZooKeeper does not answer.
    pub(super) fn search(&mut self, now: Nanos) {
        self.streams.suspicion().set_newest(self.newest());
        let lease = self.host.timing.lease;
        let is_old = |(_, since): &mut (Whereabouts, Nanos)| now - *since > lease;
        let is_alone = self.campaign.is_alone(now);
        // Nobody is heard there, or ZooKeeper could say what is newer and does not.
        let is_doubtful = is_alone || self.connection.is_up;
        if is_doubtful
            && self.search.found.take_if(is_old).is_some()
            && let Some(record) = self.term.clone()
        {
            self.follow(&record);
        }
        let is_member = self.membership == Membership::Member;
        let leads = self.leader.is_some() || self.is_taking_over;
        let is_told = self.connection.is_up || !is_alone;
        if leads || !is_member || is_told {
            return;
        }
        let Some(record) = &self.term else {
            return;
        };
        let (term, voters) = (self.known_term(), &record.voters);
        let is_asked = |node: NodeId| node != self.host.node && voters.contains(&node);
        let asked = self.live.iter().map(|live| &live.record);
        let asked: Vec<_> = asked.filter(|record| is_asked(record.node)).collect();
        for _ in 0..ASKED_AT_ONCE.min(asked.len()) {
            let voter = asked[self.search.asked % asked.len()];
            self.search.asked = self.search.asked.wrapping_add(1);
            self.inquiry.ask(voter.node, voter.address.clone(), term);
        }
    }

    /// A voter has answered, and may have said who leads.
    pub(super) fn hear_of_leader(&mut self, answer: Suspected, now: Nanos) {
        let Some(newest) = answer.newest else {
            return;
        };
        let Some(record) = &self.term else {
            return;
        };
        if self.leader.is_some() || newest.term <= self.known_term() {
            return;
        }
        self.search.named.insert(answer.voter, newest.clone());
        if is_agreed(&self.search.named, &newest, &record.voters) {
            let Whereabouts {
                term,
                leader,
                address,
            } = &newest;
            info!(%term, leader = address, "a majority of voters says who leads");
            self.link.follow(Some((*leader, address.clone())));
            self.search.found = Some((newest, now));
            self.search.named.clear();
        }
    }

    /// Follows whom ZooKeeper names, unless others have named a newer one. Nobody is attached to itself:
    /// if this node is named and does not lead, the daemon has started again, or resigned.
    pub(super) fn follow(&mut self, record: &TermRecord) {
        self.search.named.clear();
        let is_known = |(found, _): &mut (Whereabouts, Nanos)| found.term <= record.term;
        self.search.found.take_if(is_known);
        if self.search.found.is_none() && self.registration.is_some() {
            let elsewhere = record.leader.filter(|leader| *leader != self.host.node);
            let leader = elsewhere.map(|leader| (leader, record.address.clone()));
            self.link.follow(leader);
        }
    }

    /// The newest leader of whom this node knows.
    fn newest(&self) -> Option<Whereabouts> {
        let found = self.search.found.as_ref().map(|(found, _)| found.clone());
        found.or_else(|| {
            let record = self.term.as_ref()?;
            Some(Whereabouts {
                term: record.term,
                leader: record.leader?,
                address: record.address.clone(),
            })
        })
    }

    fn known_term(&self) -> Term {
        self.newest().map_or(Term(0), |newest| newest.term)
    }
}

/// Whether a majority of voters names this leader.
fn is_agreed(
    named: &BTreeMap<NodeId, Whereabouts>,
    newest: &Whereabouts,
    voters: &[NodeId],
) -> bool {
    let agreeing = named.iter().filter(|(_, named)| *named == newest);
    let agreeing: BTreeSet<NodeId> = agreeing.map(|(voter, _)| *voter).collect();
    decide(&[voters.to_vec()], &agreeing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_voter_alone_is_not_believed() {
        let [voters @ .., stranger] = [1, 2, 3, 4].map(NodeId::from_u128);
        let leads = |term| Whereabouts {
            term: Term(term),
            leader: stranger,
            address: "198.18.0.4:7946".to_owned(),
        };
        let mut named = BTreeMap::from([(voters[0], leads(u64::MAX)), (stranger, leads(7))]);
        assert!(!is_agreed(&named, &leads(u64::MAX), &voters));
        named.insert(voters[1], leads(7));
        assert!(!is_agreed(&named, &leads(7), &voters), "one is no voter");
        named.insert(voters[2], leads(7));
        assert!(is_agreed(&named, &leads(7), &voters));
        assert!(!is_agreed(&BTreeMap::new(), &leads(7), &[]));
    }
}
