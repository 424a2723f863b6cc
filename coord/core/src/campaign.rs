//! When a node tries to lead: the first half of rule 6, *take-over*, and suspicion.
//!
//! A node may try if its own candidacy is the lowest, or if every lower one is the current
//! leader's and a majority of that leader's voters has not heard it for a while. Whether it then
//! leads is decided by the conditional write of `term`, and whether it may grant anything by the
//! promises of voters; all that is decided here is when it is worth trying. A node that hears the
//! leader does not stand against it, however low its candidacy: sessions end for reasons that are
//! no business of the tick.
//!
//! Without suspicion a dead leader is only replaced when its session ends, seconds after its
//! leases did, and the whole fleet falls to its floors.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use weir_model::{Nanos, NodeId, Term};

use crate::{record::TermRecord, timing::Timing, voters::decide};

/// A voter's answer counts for so many ticks: one to ask the others, and one to spare.
const FRESH_TICKS: u32 = 3;

/// Where a node's candidacy is in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// It has none, or there are others before it.
    #[default]
    Queued,
    /// Nobody is before it.
    Lowest,
    /// All that are before it are this node's.
    After(NodeId),
}

/// What is worth doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the voters whether they hear the leader of this term: [`Campaign::answered`].
    Ask(Term),
    /// Take the term over.
    TakeOver {
        /// Whose candidacy goes with it: a leader that is suspected.
        instead_of: Option<NodeId>,
    },
}

/// One node's view of who leads, and whether it should be itself.
#[derive(Debug)]
pub struct Campaign {
    node: NodeId,
    timing: Timing,
    place: Place,
    /// The term in force here, since when, and when its leader was last heard.
    term: Term,
    heard: Nanos,
    suspicions: BTreeMap<NodeId, Nanos>,
}

impl Campaign {
    /// Begins with nothing known.
    #[must_use]
    pub const fn new(node: NodeId, timing: Timing) -> Self {
        Self {
            node,
            timing,
            place: Place::Queued,
            term: Term(0),
            heard: Nanos::ZERO,
            suspicions: BTreeMap::new(),
        }
    }

    /// The queue of candidates has changed.
    pub const fn set_place(&mut self, place: Place) {
        self.place = place;
    }

    /// Where this node stands.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.place
    }

    /// A term is in force. Its leader is given time to say something.
    pub fn set_term(&mut self, term: Term, now: Nanos) {
        if term > self.term {
            self.term = term;
            self.heard = now;
            self.suspicions.clear();
        }
    }

    /// The leader of `term` has said something.
    pub fn hear(&mut self, term: Term, now: Nanos) {
        self.set_term(term, now);
        if term == self.term {
            self.heard = now;
            self.suspicions.clear();
        }
    }

    /// Whether this node has not heard the leader of `term` for long enough to say so. It binds
    /// nobody: the leader may be heard again in a moment.
    #[must_use]
    pub fn suspects(&self, term: Term, now: Nanos) -> bool {
        term == self.term && now - self.heard >= self.timing.suspicion()
    }

    /// Whether this node has heard no leader, of whatever term, for long enough to look for one.
    #[must_use]
    pub fn is_alone(&self, now: Nanos) -> bool {
        now - self.heard >= self.timing.suspicion()
    }

    /// A voter has answered whether it suspects the leader of `term`.
    pub fn answered(&mut self, voter: NodeId, term: Term, suspects: bool, now: Nanos) {
        if term == self.term && suspects {
            self.suspicions.insert(voter, now);
        } else {
            self.suspicions.remove(&voter);
        }
    }

    /// What to do at `now`, if this node neither leads nor is about to. `record` is what `term`
    /// holds as far as it is known here.
    #[must_use]
    pub fn poll(&mut self, record: &TermRecord, now: Nanos) -> Option<Step> {
        let Some(leader) = record.leader else {
            return (self.place == Place::Lowest).then_some(Step::TakeOver { instead_of: None });
        };
        let is_silent = self.suspects(record.term, now);
        match self.place {
            Place::Lowest if is_silent || leader == self.node => {
                Some(Step::TakeOver { instead_of: None })
            }
            Place::After(other) if other == leader && is_silent => {
                self.suspicions.insert(self.node, now);
                if self.is_confirmed(&record.voters, now) {
                    return Some(Step::TakeOver {
                        instead_of: Some(leader),
                    });
                }
                Some(Step::Ask(record.term))
            }
            _ => None,
        }
    }

    fn is_confirmed(&self, voters: &[NodeId], now: Nanos) -> bool {
        let fresh = self.timing.tick * FRESH_TICKS;
        let suspicious: BTreeSet<NodeId> = self
            .suspicions
            .iter()
            .filter(|(_, at)| now - **at <= fresh)
            .map(|(voter, _)| *voter)
            .collect();
        decide(&[Vec::from(voters)], &suspicious)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Candidate;
    use alloc::string::String;

    const fn node(number: u128) -> NodeId {
        NodeId::from_u128(number)
    }

    const fn ms(ms: u64) -> Nanos {
        Nanos(ms * 1_000_000)
    }

    fn record() -> TermRecord {
        let voters = Vec::from([1, 2, 3].map(node));
        let candidate = Candidate {
            node: node(1),
            address: String::new(),
            lease: Timing::DEFAULT.lease,
            is_voted: true,
        };
        TermRecord::VACANT.successor(candidate, Term(4), voters, 0)
    }

    fn campaign(place: Place) -> Campaign {
        let mut campaign = Campaign::new(node(2), Timing::DEFAULT);
        campaign.set_place(place);
        campaign.set_term(Term(5), ms(0));
        campaign
    }

    #[test]
    fn a_leader_that_is_heard_is_left_alone() {
        for place in [Place::Lowest, Place::After(node(1)), Place::Queued] {
            let mut campaign = campaign(place);
            campaign.hear(Term(5), ms(1_000));
            assert_eq!(campaign.poll(&record(), ms(1_499)), None, "{place:?}");
        }
    }

    #[test]
    fn a_majority_of_voters_has_to_miss_the_leader() {
        let mut campaign = campaign(Place::After(node(1)));
        assert_eq!(campaign.poll(&record(), ms(499)), None);
        assert_eq!(campaign.poll(&record(), ms(500)), Some(Step::Ask(Term(5))));
        campaign.answered(node(3), Term(4), true, ms(510));
        campaign.answered(node(3), Term(5), false, ms(510));
        campaign.answered(node(9), Term(5), true, ms(510));
        assert_eq!(campaign.poll(&record(), ms(520)), Some(Step::Ask(Term(5))));
        campaign.answered(node(3), Term(5), true, ms(530));
        let instead_of = Some(node(1));
        assert_eq!(
            campaign.poll(&record(), ms(540)),
            Some(Step::TakeOver { instead_of })
        );
        assert_eq!(
            campaign.poll(&record(), ms(900)),
            Some(Step::Ask(Term(5))),
            "an answer does not count for ever"
        );
    }

    #[test]
    fn who_stands_behind_somebody_else_waits() {
        for place in [Place::Queued, Place::After(node(3))] {
            assert_eq!(campaign(place).poll(&record(), ms(9_000)), None);
        }
    }

    #[test]
    fn the_lowest_takes_a_vacant_or_silent_term() {
        let step = Some(Step::TakeOver { instead_of: None });
        assert_eq!(campaign(Place::Lowest).poll(&record(), ms(500)), step);
        assert_eq!(campaign(Place::Lowest).poll(&record(), ms(499)), None);
        assert_eq!(
            campaign(Place::Lowest).poll(&TermRecord::VACANT, ms(0)),
            step
        );
    }
}
