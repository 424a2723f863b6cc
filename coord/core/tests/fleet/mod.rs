//! How a fleet begins: its members, who leads them, and nodes in their first lives.

use weir_coord_core::{
    commit::QuorumCommit,
    follower::{Birth, Follower},
    leader::{Leader, Mandate},
    record::{MemberRecord, PolicyRecord, TermRecord},
    rules::Rules,
    timing::Timing,
};
use weir_model::{
    Incarnation, Limit, Nanos, NodeId, Policy, PolicyVersion, Term, policy::FleetSettings,
};

pub(crate) const TIMING: Timing = Timing::DEFAULT;
/// When it begins.
pub(crate) const BEGINNING: Nanos = Nanos(1_000_000_000_000);

pub(crate) fn id(number: usize) -> NodeId {
    NodeId::from_u128(number as u128)
}

/// A member without floors.
pub(crate) fn member(number: usize) -> MemberRecord {
    MemberRecord {
        node: id(number),
        name: number.to_string(),
        weight: 1,
        floors: Vec::new(),
        is_drained: false,
        is_powered_off: false,
    }
}

/// Who leads these members in a term, for a policy of one limit.
pub(crate) fn leader(
    (number, term): (usize, u64),
    voters: impl IntoIterator<Item = usize>,
    members: Vec<MemberRecord>,
    limit: Limit,
    now: Nanos,
) -> Leader<QuorumCommit> {
    let voters: Vec<NodeId> = voters.into_iter().map(id).collect();
    let policy = Policy {
        fleet: FleetSettings {
            max_members: 8,
            ..FleetSettings::default()
        },
        limits: vec![limit].into(),
    };
    let mandate = Mandate {
        node: id(number),
        record: TermRecord {
            term: Term(term),
            leader: Some(id(number)),
            voters: voters.clone(),
            lease: TIMING.lease,
            ..TermRecord::VACANT
        },
        adopted: None,
        members,
        policy: (PolicyVersion(1), policy),
        in_force: PolicyRecord::settled(PolicyVersion(1)),
    };
    Leader::new(mandate, TIMING, QuorumCommit::new(voters, Rules::ALL), now)
}

/// A node in its first life.
pub(crate) fn born(number: usize) -> Follower {
    let birth = Birth {
        node: id(number),
        incarnation: Incarnation(1),
        term: Term(1),
        abstains_until: Nanos::ZERO,
    };
    Follower::new(birth, PolicyVersion(1), [], Rules::ALL)
}
