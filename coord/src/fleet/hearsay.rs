//! What nodes say of newer terms. A leader that hears of one steps down, and a host that has heard of
//! one that ZooKeeper does not know leads no more: so the word of one node is not enough.
//!
//! Who leads a newer term wrote it to ZooKeeper, and has the promises of a majority of voters. So the
//! word is taken if ZooKeeper says as much, or as many voters as make a majority say it. Until then
//! nothing is lost: a leader that was replaced commits nothing, and steps down after L/2 for that
//! alone. Otherwise one node that lies would end every term, and with a term that nobody can have it
//! would keep all hosts from leading for good.

use std::collections::{BTreeMap, BTreeSet};

use tracing::warn;
use weir_coord_core::record::TermRecord;
use weir_model::{NodeId, Term, message::FromNode};

/// The newest terms that voters claim to have promised, since this node leads.
#[derive(Debug, Default)]
pub(super) struct Hearsay {
    /// Voters alone, so it is bounded by their number.
    claims: BTreeMap<NodeId, Term>,
    /// Of whose word it was said that it is not taken: members, so bounded by theirs.
    doubted: BTreeSet<NodeId>,
}

/// Most nodes of which it is said that their word is not taken.
const MAX_DOUBTED: usize = 64;

impl Hearsay {
    /// A term begins.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What `leader` of `own` is to hear of a message: all of it if it claims no newer term, nothing if
    /// its claim is not to be believed, and otherwise the newest term that can be.
    pub(super) fn sift(
        &mut self,
        message: FromNode,
        (own, leader): (Term, NodeId),
        stored: &TermRecord,
    ) -> Option<FromNode> {
        let Some((node, claimed)) = claim(&message, own, leader) else {
            return Some(message);
        };
        if claimed <= stored.term && stored.term > own {
            return Some(message);
        }
        if stored.voters.contains(&node) {
            self.claims.insert(node, claimed);
        }
        let mut claims: Vec<Term> = self.claims.values().copied().collect();
        claims.sort_unstable_by(|one, other| other.cmp(one));
        // As many as a majority, or more, have promised this one or a newer one.
        let majority = stored.voters.len() / 2 + 1;
        if let Some(believed) = claims.get(majority - 1) {
            return Some(with_claim(message, claimed.min(*believed)));
        }
        if self.doubted.len() < MAX_DOUBTED && self.doubted.insert(node) {
            warn!(
                %node,
                %claimed,
                stored = %stored.term,
                "a node says that it has promised a term that ZooKeeper does not know: its word is \
                 not taken. Was ZooKeeper restored from an old backup? Else look at that node"
            );
        }
        None
    }
}

/// Whose claim it is that `leader` of `own` is none any more.
fn claim(message: &FromNode, own: Term, leader: NodeId) -> Option<(NodeId, Term)> {
    match message {
        FromNode::Report(report) if report.promised > own => Some((report.node, report.promised)),
        // The same term cannot be another's either: ZooKeeper gives each once. If it is this one's, the
        // node has another policy.
        FromNode::Refuse(refuse)
            if refuse.promised > own
                || refuse.promised == own && refuse.leader.is_some_and(|other| other != leader) =>
        {
            Some((refuse.node, refuse.promised))
        }
        _ => None,
    }
}

fn with_claim(message: FromNode, term: Term) -> FromNode {
    match message {
        FromNode::Report(report) => FromNode::Report(weir_model::message::Report {
            promised: term,
            ..report
        }),
        FromNode::Refuse(refuse) => FromNode::Refuse(weir_model::message::Refuse {
            promised: term,
            ..refuse
        }),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use weir_model::{PolicyVersion, message::Refuse};

    use super::*;

    const OWN: Term = Term(7);
    const LEADER: NodeId = NodeId::from_u128(1);

    fn node(number: u128) -> NodeId {
        NodeId::from_u128(number)
    }

    fn refusal(by: u128, promised: u64) -> FromNode {
        FromNode::Refuse(Refuse {
            node: node(by),
            promised: Term(promised),
            leader: None,
            policy: PolicyVersion(1),
        })
    }

    fn stored(term: u64, voters: u128) -> TermRecord {
        TermRecord {
            term: Term(term),
            voters: (1..=voters).map(node).collect(),
            ..TermRecord::VACANT
        }
    }

    #[test]
    fn who_refuses_for_its_policy_claims_nothing() {
        let mut hearsay = Hearsay::default();
        let of_policy = FromNode::Refuse(Refuse {
            node: node(9),
            promised: OWN,
            leader: Some(LEADER),
            policy: PolicyVersion(1),
        });
        let heard = hearsay.sift(of_policy.clone(), (OWN, LEADER), &stored(7, 3));
        assert_eq!(heard, Some(of_policy));
    }

    #[test]
    fn one_node_ends_no_term() {
        let mut hearsay = Hearsay::default();
        let record = stored(7, 3);
        for _ in 0..100 {
            for (liar, term) in [(3, u64::MAX), (3, 8), (9, u64::MAX), (10, 8)] {
                assert_eq!(
                    hearsay.sift(refusal(liar, term), (OWN, LEADER), &record),
                    None
                );
            }
        }
        let honest = refusal(1, 6);
        let heard = hearsay.sift(honest.clone(), (OWN, LEADER), &record);
        assert_eq!(heard, Some(honest), "it claims nothing");
    }

    #[test]
    fn a_majority_of_voters_is_believed_and_a_liar_among_them_adds_nothing() {
        let mut hearsay = Hearsay::default();
        let record = stored(7, 3);
        assert_eq!(hearsay.sift(refusal(1, 9), (OWN, LEADER), &record), None);
        // The highest that one honest voter at least has promised.
        let heard = hearsay.sift(refusal(3, u64::MAX), (OWN, LEADER), &record);
        assert_eq!(heard, Some(refusal(3, 9)));
        hearsay.clear();
        assert_eq!(
            hearsay.sift(refusal(3, u64::MAX), (OWN, LEADER), &record),
            None
        );
    }

    #[test]
    fn what_zookeeper_says_too_is_believed_at_once() {
        let mut hearsay = Hearsay::default();
        let record = stored(9, 3);
        let heard = hearsay.sift(refusal(9, 9), (OWN, LEADER), &record);
        assert_eq!(heard, Some(refusal(9, 9)));
        assert_eq!(hearsay.sift(refusal(9, 10), (OWN, LEADER), &record), None);
        // The only voter of a small fleet.
        let record = stored(7, 1);
        assert_eq!(
            hearsay.sift(refusal(1, 8), (OWN, LEADER), &record),
            Some(refusal(1, 8))
        );
    }
}
