//! A list of limits that are found by their identity.

use alloc::vec::{self, Vec};
use core::{
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    slice,
};

use serde::{Deserialize, Serialize};

use super::Limit;
use crate::identity::LimitId;

/// Limits in the order of their file, found by identity in O(log n). It does not change once it is
/// made, so what it finds is what it holds; it is read as a slice.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Limit>", into = "Vec<Limit>")]
pub struct Limits {
    in_order: Vec<Limit>,
    /// Sorted: each limit's identity, and where it is in `in_order`.
    by_id: Vec<(LimitId, usize)>,
}

impl Limits {
    /// The limit of this identity; of several, the first.
    #[must_use]
    pub fn with_id(&self, id: LimitId) -> Option<&Limit> {
        let first = self.by_id.partition_point(|(known, _)| *known < id);
        let (known, index) = self.by_id.get(first)?;
        (*known == id).then(|| &self.in_order[*index])
    }
}

impl From<Vec<Limit>> for Limits {
    fn from(in_order: Vec<Limit>) -> Self {
        let ids = in_order.iter().map(|limit| limit.id);
        let mut by_id: Vec<_> = ids.zip(0..).collect();
        by_id.sort_unstable();
        Self { in_order, by_id }
    }
}

impl From<Limits> for Vec<Limit> {
    fn from(limits: Limits) -> Self {
        limits.in_order
    }
}

impl FromIterator<Limit> for Limits {
    fn from_iter<I: IntoIterator<Item = Limit>>(limits: I) -> Self {
        limits.into_iter().collect::<Vec<_>>().into()
    }
}

/// What is equal has the same hash: both look at the limits in their order.
impl Hash for Limits {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.in_order.hash(state);
    }
}

impl Deref for Limits {
    type Target = [Limit];

    fn deref(&self) -> &[Limit] {
        &self.in_order
    }
}

impl IntoIterator for Limits {
    type Item = Limit;
    type IntoIter = vec::IntoIter<Limit>;

    fn into_iter(self) -> Self::IntoIter {
        self.in_order.into_iter()
    }
}

impl<'l> IntoIterator for &'l Limits {
    type Item = &'l Limit;
    type IntoIter = slice::Iter<'l, Limit>;

    fn into_iter(self) -> Self::IntoIter {
        self.in_order.iter()
    }
}

impl PartialEq for Limits {
    fn eq(&self, other: &Self) -> bool {
        self.in_order == other.in_order
    }
}

impl Eq for Limits {}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.in_order.fmt(f)
    }
}
