//! A voter's copy of the register.
//!
//! It is kept in memory only: all that it holds is leases, and floors that ZooKeeper reserves as
//! well, so it has to survive one lease time only. A voter that has forgotten it abstains for so
//! long (rule 7, *restart*).

use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;

use weir_model::{
    Amount, LimitId, NodeId, PolicyVersion,
    message::Position,
    register::{EnvelopeRecord, LimitEnvelope, NodeEnvelope, RegisterUpdate},
};

/// A voter's copy.
#[derive(Clone, Debug, Default, Hash)]
pub struct Register {
    held: Option<Held>,
}

#[derive(Clone, Debug, Hash)]
struct Held {
    position: Position,
    lease: Duration,
    policy: PolicyVersion,
    nodes: BTreeMap<NodeId, BTreeMap<LimitId, LimitEnvelope>>,
}

impl Register {
    /// Takes what came with the proposal at `position`. `false` if it is about a base that this
    /// copy has not reached: a delta is good on its base and on everything later of that term,
    /// since it holds the new values of all that has changed since the base.
    pub fn take(
        &mut self,
        position: Position,
        policy: PolicyVersion,
        update: &RegisterUpdate,
    ) -> bool {
        let reaches = |held: &Held, base| {
            held.position.term == position.term && held.position.generation >= base
        };
        match update.base {
            Some(base) if !self.held.as_ref().is_some_and(|held| reaches(held, base)) => {
                return false;
            }
            Some(_) => {}
            None => self.held = None,
        }
        let held = self.held.get_or_insert_with(|| Held {
            position,
            lease: update.lease,
            policy,
            nodes: BTreeMap::new(),
        });
        held.position = position;
        held.lease = update.lease;
        held.policy = policy;
        for node in &update.nodes {
            let limits = held.nodes.entry(node.node).or_default();
            for limit in &node.limits {
                if is_spent_key(limit) {
                    limits.remove(&limit.limit);
                } else {
                    limits.insert(limit.limit, *limit);
                }
            }
        }
        true
    }

    /// Where it stands; `None` if it is empty.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.held.as_ref().map(|held| held.position)
    }

    /// All of it, for a promise.
    #[must_use]
    pub fn record(&self) -> Option<EnvelopeRecord> {
        let held = self.held.as_ref()?;
        let nodes = held.nodes.iter().map(|(node, limits)| NodeEnvelope {
            node: *node,
            limits: limits.values().copied().collect(),
        });
        Some(EnvelopeRecord {
            term: held.position.term,
            generation: held.position.generation,
            lease: held.lease,
            policy: held.policy,
            nodes: nodes.collect::<Vec<_>>(),
        })
    }
}

/// Hot keys come and go; of those of which nothing may be held there would be more and more.
fn is_spent_key(limit: &LimitEnvelope) -> bool {
    limit.limit.is_key() && limit.amount == Amount::ZERO && limit.floor == Amount::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use weir_model::{Generation, Scale, Term, UnitsPerSecond};

    fn update(base: Option<u64>, rows: &[(u128, u64)]) -> RegisterUpdate {
        let nodes = rows.iter().map(|(node, rate)| NodeEnvelope {
            node: NodeId::from_u128(*node),
            limits: vec![LimitEnvelope {
                limit: LimitId(1),
                scale: Scale::default(),
                amount: Amount {
                    rate: UnitsPerSecond(*rate),
                    ..Amount::ZERO
                },
                floor: Amount::ZERO,
            }],
        });
        RegisterUpdate {
            base: base.map(Generation),
            lease: Duration::from_secs(2),
            nodes: nodes.collect(),
        }
    }

    const fn at(term: u64, generation: u64) -> Position {
        Position {
            term: Term(term),
            generation: Generation(generation),
        }
    }

    const POLICY: PolicyVersion = PolicyVersion(1);

    #[test]
    fn a_delta_needs_its_base_and_a_whole_needs_none() {
        let mut register = Register::default();
        assert!(!register.take(at(1, 2), POLICY, &update(Some(1), &[(1, 5)])));
        assert!(register.take(at(1, 3), POLICY, &update(None, &[(1, 5), (2, 7)])));
        assert!(!register.take(at(1, 5), POLICY, &update(Some(4), &[(1, 6)])));
        assert!(register.take(at(1, 5), POLICY, &update(Some(2), &[(1, 6)])));
        assert!(
            !register.take(at(2, 6), POLICY, &update(Some(1), &[(1, 9)])),
            "of another term"
        );
        let record = register.record().unwrap();
        assert_eq!((record.term, record.generation), (Term(1), Generation(5)));
        let rates: Vec<u64> = record
            .nodes
            .iter()
            .map(|node| node.limits[0].amount.rate.0)
            .collect();
        assert_eq!(rates, [6, 7]);
    }
}
