//! What nodes say of single keys, merged over the fleet.
//!
//! Each node sees its own traffic only. A source that sprays all of them stays below what each gives a
//! key; only the sum over the nodes shows it.
//!
//! Without the sum, an elastic key gets its rate once on every host. Without forgetting, a node that
//! has gone would keep keys hot for ever.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::time::Duration;

use weir_model::{HeavyKey, LimitId, Nanos, NodeId, UnitsPerSecond, prefix::Prefix};

/// What a node has said counts for so long: four times the period in which nodes repeat it.
const LASTS: Duration = Duration::from_secs(2);

/// A key of a keyed limit.
pub type Key = (LimitId, Prefix);

/// The latest word of each node.
#[derive(Clone, Debug, Default, Hash)]
pub struct Heavy {
    said: BTreeMap<NodeId, Said>,
    /// The same by key: kept as nodes speak, since it is read in every tick, and each node speaks in
    /// one of several.
    by_key: BTreeMap<Key, BTreeMap<NodeId, UnitsPerSecond>>,
}

#[derive(Clone, Debug, Hash)]
struct Said {
    at: Nanos,
    keys: Vec<HeavyKey>,
}

/// What the fleet offers of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offered {
    /// All nodes together.
    pub sum: UnitsPerSecond,
    /// The node that sees most of it.
    pub most: UnitsPerSecond,
}

impl Offered {
    /// With what one more node sees.
    #[must_use]
    pub fn and(self, offered: UnitsPerSecond) -> Self {
        Self {
            sum: UnitsPerSecond(self.sum.0.saturating_add(offered.0)),
            most: self.most.max(offered),
        }
    }
}

impl Heavy {
    /// A node has said which keys are heavy there: the others are not.
    pub fn hear(&mut self, node: NodeId, keys: &[HeavyKey], now: Nanos) {
        let keys = keys.to_vec();
        for heavy in &keys {
            let nodes = self.by_key.entry((heavy.limit, heavy.key)).or_default();
            nodes.insert(node, heavy.offered);
        }
        if let Some(before) = self.said.insert(node, Said { at: now, keys }) {
            let named: BTreeSet<Key> = self.said[&node].keys.iter().map(key_of).collect();
            let is_over = |key: &Key| !named.contains(key);
            self.unsay(node, before.keys.iter().map(key_of).filter(is_over));
        }
    }

    /// Forgets what is too old to count; `true` if there was any.
    pub fn forget(&mut self, now: Nanos) -> bool {
        let old: Vec<NodeId> = self
            .said
            .iter()
            .filter(|(_, said)| now - said.at > LASTS)
            .map(|(node, _)| *node)
            .collect();
        for node in &old {
            if let Some(said) = self.said.remove(node) {
                self.unsay(*node, said.keys.iter().map(key_of));
            }
        }
        !old.is_empty()
    }

    fn unsay(&mut self, node: NodeId, keys: impl Iterator<Item = Key>) {
        for key in keys {
            if let Some(nodes) = self.by_key.get_mut(&key) {
                nodes.remove(&node);
                if nodes.is_empty() {
                    self.by_key.remove(&key);
                }
            }
        }
    }

    /// What a node has said of a key; zero if it has not named it.
    #[must_use]
    pub fn offered(&self, node: NodeId, key: Key) -> UnitsPerSecond {
        let nodes = self.by_key.get(&key);
        let offered = nodes.and_then(|nodes| nodes.get(&node));
        offered.copied().unwrap_or_default()
    }

    /// Whether at most one node names a key.
    #[must_use]
    pub fn is_named_once(&self, key: Key) -> bool {
        self.by_key.get(&key).is_none_or(|nodes| nodes.len() <= 1)
    }

    /// What the fleet offers of a key.
    #[must_use]
    pub fn of(&self, key: Key) -> Offered {
        self.by_key.get(&key).map(offered_by).unwrap_or_default()
    }

    /// Every key that is named, with what the fleet offers of it.
    pub fn merged(&self) -> impl Iterator<Item = (Key, Offered)> {
        let keys = self.by_key.iter();
        keys.map(|(key, nodes)| (*key, offered_by(nodes)))
    }
}

const fn key_of(heavy: &HeavyKey) -> Key {
    (heavy.limit, heavy.key)
}

fn offered_by(nodes: &BTreeMap<NodeId, UnitsPerSecond>) -> Offered {
    let none = Offered::default();
    nodes.values().fold(none, |all, offered| all.and(*offered))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Nanos = Nanos(10_000_000_000);

    fn heavy(last: u8, offered: u64) -> HeavyKey {
        HeavyKey {
            limit: LimitId(1),
            key: Prefix::containing([198, 18, 0, last].into(), 32).unwrap(),
            offered: UnitsPerSecond(offered),
        }
    }

    #[test]
    fn keys_are_added_up_over_nodes_and_forgotten_with_them() {
        let [a, b] = [1, 2].map(NodeId::from_u128);
        let key = |last| (LimitId(1), heavy(last, 0).key);
        let mut all = Heavy::default();
        all.hear(a, &[heavy(1, 40), heavy(2, 9)], NOW);
        all.hear(b, &[heavy(1, 70)], NOW + Duration::from_secs(1));
        let sum = |all: &Heavy, last| {
            let of_key = all.of(key(last));
            let merged = all.merged().find(|(named, _)| *named == key(last));
            assert_eq!(merged.map(|(_, merged)| merged).unwrap_or_default(), of_key);
            (of_key.sum.0, of_key.most.0)
        };
        assert_eq!((sum(&all, 1), sum(&all, 2)), ((110, 70), (9, 9)));
        assert_eq!(all.offered(a, key(1)).0, 40);
        // What a node does not name any more is heavy there no more.
        all.hear(a, &[heavy(2, 5)], NOW + Duration::from_secs(1));
        assert_eq!((sum(&all, 1), sum(&all, 2)), ((70, 70), (5, 5)));
        all.forget(NOW + Duration::from_secs(3));
        assert_eq!(sum(&all, 1), (70, 70));
        all.forget(NOW + Duration::from_millis(3_001));
        assert_eq!(all.merged().count(), 0);
    }
}
