//! Looking for the leader where ZooKeeper does not say who it is.
//!
//! A node that was cut off, or a leader that was deposed while it was, knows of an old term, and its
//! session with ZooKeeper is over or its client waits for the next attempt to connect. The others know
//! who leads. Whom they name is only whom this node attaches to: what it takes from there is for the
//! protocol's fence to say.

use tracing::info;
use weir_coord_core::record::TermRecord;
use weir_model::{Nanos, Term};

use super::{Fleet, standing::Membership};
use crate::grpc::Whereabouts;

/// So many are asked in each tick, one after the other in the order of their identities: in a fleet
/// that has no leader everybody asks.
const ASKED_AT_ONCE: usize = 3;

/// What nodes say.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// A leader of whom ZooKeeper has not said anything yet, and when it was named.
    found: Option<(Whereabouts, Nanos)>,
    /// How many have been asked.
    asked: usize,
}

impl Fleet {
    /// Asks others who leads, as long as nobody is heard.
    pub(super) fn search(&mut self, now: Nanos) {
        self.streams.suspicion().set_newest(self.newest());
        let is_member = self.membership == Membership::Member;
        let leads = self.leader.is_some() || self.is_taking_over;
        if leads || !is_member || !self.campaign.is_alone(now) {
            return;
        }
        let lease = self.host.timing.lease;
        let is_old = |(_, since): &mut (Whereabouts, Nanos)| now - *since > lease;
        if self.search.found.take_if(is_old).is_some()
            && let Some(record) = self.term.clone()
        {
            self.follow(&record);
        }
        let own = self.host.node;
        let others = self.live.iter().filter(|live| live.record.node != own);
        let others: Vec<_> = others.map(|live| &live.record).collect();
        for _ in 0..ASKED_AT_ONCE.min(others.len()) {
            let other = others[self.search.asked % others.len()];
            self.search.asked = self.search.asked.wrapping_add(1);
            let term = self.known_term();
            self.inquiry.ask(other.node, other.address.clone(), term);
        }
    }

    /// Somebody says who leads.
    pub(super) fn hear_of_leader(&mut self, newest: Whereabouts, now: Nanos) {
        if newest.term > self.known_term() && self.leader.is_none() {
            let Whereabouts { term, address, .. } = &newest;
            info!(%term, leader = address, "another node says who leads");
            self.link.follow(Some(address.clone()));
            self.search.found = Some((newest, now));
        }
    }

    /// Follows whom ZooKeeper names, unless others have named a newer one.
    pub(super) fn follow(&mut self, record: &TermRecord) {
        let is_known = |(found, _): &mut (Whereabouts, Nanos)| found.term <= record.term;
        self.search.found.take_if(is_known);
        if self.search.found.is_none() {
            let leads = record.leader.is_some();
            self.link.follow(leads.then(|| record.address.clone()));
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
