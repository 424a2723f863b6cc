//! The names of znodes, below the fleet's root.

use uuid::Uuid;
use weir_model::{NodeId, PolicyVersion};

pub(super) const ELECTION: &str = "/election";
pub(super) const ENVELOPE: &str = "/envelope";
pub(super) const LIVE: &str = "/live";
pub(super) const LOCKS: &str = "/locks";
pub(super) const POLICY: &str = "/policy";
pub(super) const POLICY_CURRENT: &str = "/policy/current";
/// There while a change waits to be confirmed. Not a child of `policy`, whose documents are numbered
/// by how often its children changed.
pub(super) const POLICY_TRIAL: &str = "/policy/current/trial";
/// There for no moment: it takes a number that no document is to have.
pub(super) const POLICY_SKIPPED: &str = "/policy/skipped";
pub(super) const ROSTER: &str = "/roster";
pub(super) const TERM: &str = "/term";

/// What a policy document's name starts with; its sequence number follows.
pub(super) const DOCUMENT: &str = "v_";
/// Between the owner and the sequence number of a candidacy or of a place in a lock's queue.
const SEQUENCE: &str = "-n-";

/// `live/<uuid>`.
pub(super) fn live(node: NodeId) -> String {
    format!("{LIVE}/{node}")
}

/// `roster/<uuid>`.
pub(super) fn member(node: NodeId) -> String {
    format!("{ROSTER}/{node}")
}

/// `policy/v_##########`.
pub(super) fn document(version: PolicyVersion) -> String {
    format!("{POLICY}/{DOCUMENT}{:010}", version.0)
}

/// `policy/v_##########/origin`. Not a child of `policy`, whose documents are numbered by how often
/// its children changed.
pub(super) fn origin(version: PolicyVersion) -> String {
    format!("{}/origin", document(version))
}

/// The version that a child of `policy` holds; `None` for `current`.
pub(super) fn document_version(name: &str) -> Option<PolicyVersion> {
    name.strip_prefix(DOCUMENT)?.parse().ok().map(PolicyVersion)
}

/// The name, less its sequence number, of an owner's place in a queue.
pub(super) fn place_of(owner: Uuid) -> String {
    format!("{owner}{SEQUENCE}")
}

/// The sequence number of a place in a queue. Compared as a number: as text, only names of the
/// same owner are in order.
pub(super) fn sequence(name: &str) -> Option<i64> {
    let (_, digits) = name.rsplit_once(SEQUENCE)?;
    digits.parse().ok()
}

/// Whose place in a queue it is.
pub(super) fn owner(name: &str) -> Option<NodeId> {
    let (owner, _) = name.rsplit_once(SEQUENCE)?;
    owner.parse().ok().map(NodeId)
}

/// The children that are places in a queue, first come first; anything else is left out.
pub(super) fn in_order(children: Vec<String>) -> Vec<String> {
    let mut places: Vec<(i64, String)> = children
        .into_iter()
        .filter_map(|name| Some((sequence(&name)?, name)))
        .collect();
    places.sort();
    places.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_ordered_by_number_and_not_by_owner() {
        let a = place_of(Uuid::from_u128(0xa));
        let z = place_of(Uuid::from_u128(u128::MAX));
        let names = vec![
            format!("{a}0000000010"),
            "stranger".to_owned(),
            format!("{z}0000000009"),
            format!("{a}not-a-number"),
            format!("{z}-2147483648"),
        ];
        let expected = [
            format!("{z}-2147483648"),
            format!("{z}0000000009"),
            format!("{a}0000000010"),
        ];
        assert_eq!(in_order(names), expected);
    }

    #[test]
    fn a_documents_name_and_version_agree() {
        let version = PolicyVersion(7);
        assert_eq!(document(version), "/policy/v_0000000007");
        assert_eq!(document_version("v_0000000007"), Some(version));
        assert_eq!(document_version("current"), None);
    }
}
