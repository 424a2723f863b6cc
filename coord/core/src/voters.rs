//! Who votes, and how many votes decide.

use alloc::{collections::BTreeSet, vec::Vec};

use weir_model::NodeId;

use crate::record::MemberRecord;

/// Most voters. Each costs the leader a copy of the register in every tick, and seven outlive any
/// three hosts.
pub const VOTERS_MAX: usize = 7;

/// How many of `voters` decide.
#[must_use]
pub const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// Whether `agreeing` has a majority of every set. A set without voters has none: nobody could
/// have committed anything there, but nobody can say so either.
#[must_use]
pub fn decide(sets: &[Vec<NodeId>], agreeing: &BTreeSet<NodeId>) -> bool {
    sets.iter().all(|set| {
        let votes = set.iter().filter(|voter| agreeing.contains(voter)).count();
        votes >= majority(set.len())
    })
}

/// Rule 10, *members*: the voters of a fleet are the largest odd number up to
/// `min(members, VOTERS_MAX)`, an even one tolerating no more losses.
///
/// Those that vote now and are `ready` stay, for a change costs a term; then come ready members in
/// the order of their identities, then the rest.
#[must_use]
pub fn choose(
    members: &BTreeSet<NodeId>,
    ready: &BTreeSet<NodeId>,
    current: &[NodeId],
) -> Vec<NodeId> {
    let most = members.len().min(VOTERS_MAX);
    let count = if most.is_multiple_of(2) {
        most.saturating_sub(1)
    } else {
        most
    };
    let rank = |node: &NodeId| match (ready.contains(node), current.contains(node)) {
        (true, true) => 0,
        (true, false) => 1,
        (false, true) => 2,
        (false, false) => 3,
    };
    let mut candidates: Vec<NodeId> = members.iter().copied().collect();
    candidates.sort_by_key(|node| (rank(node), *node));
    candidates.truncate(count);
    candidates.sort_unstable();
    candidates
}

/// The voters of a term that `candidate` takes over: those that there are, unless one of them has
/// no power any more, by the operator's word. Without that a fleet which has lost a majority of
/// voters for good could never commit again.
#[must_use]
pub fn succeeding(current: &[NodeId], members: &[MemberRecord], candidate: NodeId) -> Vec<NodeId> {
    if current.is_empty() {
        return Vec::from([candidate]);
    }
    let is_off = |node: &NodeId| {
        let mut members = members.iter();
        members.any(|member| member.node == *node && member.is_powered_off)
    };
    if !current.iter().any(is_off) {
        return Vec::from(current);
    }
    let members = members.iter().map(|member| member.node);
    let mut members: BTreeSet<NodeId> = members.filter(|node| !is_off(node)).collect();
    members.insert(candidate);
    choose(&members, &BTreeSet::from([candidate]), current)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(numbers: impl IntoIterator<Item = u128>) -> Vec<NodeId> {
        numbers.into_iter().map(NodeId::from_u128).collect()
    }

    fn set(numbers: impl IntoIterator<Item = u128>) -> BTreeSet<NodeId> {
        numbers.into_iter().map(NodeId::from_u128).collect()
    }

    #[test]
    fn the_largest_odd_number_up_to_seven() {
        for (members, voters) in [(0, 0), (1, 1), (2, 1), (3, 3), (4, 3), (7, 7), (100, 7)] {
            let members = set(1..=members);
            assert_eq!(choose(&members, &members, &[]).len(), voters);
        }
    }

    #[test]
    fn who_votes_stays_while_it_answers() {
        let members = set(1..=5);
        let current = nodes([3, 4, 5]);
        assert_eq!(choose(&members, &members, &current), nodes([1, 2, 3, 4, 5]));
        let members = set(1..=4);
        let current = nodes([2, 3, 4]);
        assert_eq!(choose(&members, &members, &current), current);
        assert_eq!(
            choose(&members, &set([1, 2, 4]), &current),
            nodes([1, 2, 4])
        );
        assert_eq!(choose(&members, &set([2]), &current), current);
    }

    #[test]
    fn a_majority_of_each_set() {
        let sets = [nodes([1, 2, 3]), nodes([3, 4, 5])];
        assert!(!decide(&sets, &set([1, 2, 3])));
        assert!(decide(&sets, &set([1, 3, 4])));
        assert!(!decide(&[Vec::new()], &set([1])));
    }
}
