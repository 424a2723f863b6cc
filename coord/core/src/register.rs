//! A voter's copy of the register.
//!
//! It is kept in memory only: all that it holds is leases, and floors that ZooKeeper reserves as
//! well, so it has to survive one lease time only. A voter that has forgotten it abstains for so
//! long (rule 7, *restart*).

use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;

use weir_model::{
    Amount, NodeId, PolicyVersion,
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
    /// The limits of each in the order of their identities.
    nodes: BTreeMap<NodeId, Vec<LimitEnvelope>>,
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
            merge(held.nodes.entry(node.node).or_default(), &node.limits);
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
            limits: limits.clone(),
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

/// Puts new entries in the place of those of the same limits. Both are in the order of limits, but
/// for what somebody may have made up.
fn merge(known: &mut Vec<LimitEnvelope>, new: &[LimitEnvelope]) {
    /// How far the next one is looked for from where the last one was, before it is looked for everywhere.
    const NEARBY: usize = 16;
    known.reserve(if known.is_empty() { new.len() } else { 0 });
    let mut next = 0;
    for entry in new {
        let end = known.len().min(next + NEARBY);
        let nearby = known[next..end].partition_point(|other| other.limit < entry.limit);
        let is_here = nearby < end - next || end == known.len();
        let is_after = next == 0 || known[next - 1].limit < entry.limit;
        let found = if is_here && is_after {
            match known.get(next + nearby) {
                Some(other) if other.limit == entry.limit => Ok(next + nearby),
                _ => Err(next + nearby),
            }
        } else {
            known.binary_search_by_key(&entry.limit, |other| other.limit)
        };
        next = match found {
            Ok(at) if is_spent_key(entry) => {
                known.remove(at);
                at
            }
            Ok(at) => {
                known[at] = *entry;
                at + 1
            }
            Err(at) if is_spent_key(entry) => at,
            Err(at) => {
                known.insert(at, *entry);
                at + 1
            }
        };
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
    use proptest::prelude::*;
    use weir_model::{Generation, LimitId, Scale, Term, UnitsPerSecond};

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

    fn entry(limit: u64, rate: u64) -> LimitEnvelope {
        LimitEnvelope {
            limit: LimitId(limit),
            scale: Scale::default(),
            amount: Amount {
                rate: UnitsPerSecond(rate),
                ..Amount::ZERO
            },
            floor: Amount::ZERO,
        }
    }

    proptest! {
        /// In whatever order entries come, and whether they are far apart or not: the last one of each
        /// limit stays, but for keys of which nothing may be held.
        #[test]
        fn the_last_entry_of_each_limit_stays(
            updates in prop::collection::vec(
                (prop::collection::vec((0_u64..100, any::<bool>(), 0_u64..3), 0..40), any::<bool>()),
                1..8,
            ),
        ) {
            let (mut known, mut expected) = (Vec::new(), BTreeMap::new());
            for (mut update, is_in_order) in updates {
                if is_in_order {
                    update.sort_unstable();
                }
                let key = |number: u64| LimitId(0xffff << 48 | number);
                let id = |number, is_key: bool| if is_key { key(number) } else { LimitId(number) };
                let mut new: Vec<LimitEnvelope> = Vec::new();
                for (number, is_key, rate) in update {
                    let entry = LimitEnvelope { limit: id(number, is_key), ..entry(number, rate) };
                    if is_spent_key(&entry) {
                        expected.remove(&entry.limit);
                    } else {
                        expected.insert(entry.limit, entry);
                    }
                    new.push(entry);
                }
                merge(&mut known, &new);
                prop_assert!(known.iter().eq(expected.values()));
            }
        }
    }
}
