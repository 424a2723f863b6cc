//! Dense numbers for identities, so that tables are vectors.

use alloc::{collections::BTreeMap, vec::Vec};
use core::hash::{Hash, Hasher};

/// How far a search looks on from where the last one ended, before it looks everywhere.
const NEARBY: usize = 16;

/// Where a limit is in the tables of a [`Book`](crate::book::Book).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitSlot(pub(crate) u32);

/// Where a node is in the tables of a [`Book`](crate::book::Book).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeSlot(pub(crate) u32);

impl LimitSlot {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl NodeSlot {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What can be worked out from the rest of a state: it makes no difference between two of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Derived<T>(pub(crate) T);

impl<T> Hash for Derived<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// Gives each key a small number, and keeps it.
///
/// The numbers depend on the order in which keys came: they index tables, and decide nothing.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Slots<K> {
    numbers: BTreeMap<K, u32>,
    /// By number; `None` for one that is free.
    keys: Vec<Option<K>>,
    free: Vec<u32>,
}

impl<K> Default for Slots<K> {
    fn default() -> Self {
        Self {
            numbers: BTreeMap::new(),
            keys: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<K: Copy + Ord> Slots<K> {
    /// The number of a key; `None` if it has none.
    pub(crate) fn find(&self, key: K) -> Option<u32> {
        self.numbers.get(&key).copied()
    }

    /// As [`Slots::find`], for keys that come in the order of their numbers more often than not:
    /// `after` is where the last one was found, and is moved on.
    pub(crate) fn find_after(&self, key: K, after: &mut u32) -> Option<u32> {
        let begin = (*after as usize).min(self.keys.len());
        let end = (begin + NEARBY).min(self.keys.len());
        let nearby = (*after..).zip(&self.keys[begin..end]);
        let found = nearby
            .into_iter()
            .find_map(|(slot, known)| (*known == Some(key)).then_some(slot))
            .or_else(|| self.find(key));
        if let Some(slot) = found {
            *after = slot + 1;
        }
        found
    }

    /// The number of a key, a new one if it has none.
    pub(crate) fn insert(&mut self, key: K) -> u32 {
        if let Some(slot) = self.find(key) {
            return slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.keys.push(None);
            u32::try_from(self.keys.len() - 1).expect("fewer than 2^32 are ever known")
        });
        self.keys[slot as usize] = Some(key);
        self.numbers.insert(key, slot);
        slot
    }

    /// The number is free for another key.
    pub(crate) fn remove(&mut self, key: K) {
        if let Some(slot) = self.numbers.remove(&key) {
            self.keys[slot as usize] = None;
            self.free.push(slot);
        }
    }

    /// One more than the largest number.
    pub(crate) fn end(&self) -> usize {
        self.keys.len()
    }

    /// In the order of keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, u32)> {
        self.numbers.iter().map(|(key, slot)| (*key, *slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_kept_and_used_again() {
        let mut slots = Slots::default();
        assert_eq!(
            ["b", "a", "c", "a"].map(|key| slots.insert(key)),
            [0, 1, 2, 1]
        );
        slots.remove("a");
        assert_eq!(slots.find("a"), None);
        assert_eq!((slots.insert("d"), slots.end()), (1, 3));
        assert!(slots.iter().eq([("b", 0), ("c", 2), ("d", 1)]));
    }

    #[test]
    fn what_is_near_and_what_is_far_is_found() {
        let mut slots = Slots::default();
        for key in 0..100_u32 {
            slots.insert(key);
        }
        let mut after = 0;
        for key in [0, 1, 9, 80, 3, 99, 100, 4] {
            let expected = (key < 100).then_some(key);
            assert_eq!(slots.find_after(key, &mut after), expected);
        }
    }
}
