//! Who takes part, and what they share: the same whatever is between them.

use std::collections::BTreeSet;

use weir_coord_core::{
    follower::{Birth, Follower},
    leader::Mandate,
    record::{MemberRecord, PolicyRecord, ReservedFloor, TermRecord},
    rules::Rules,
    voters::choose,
};
use weir_model::{
    Amount, Incarnation, Nanos, NodeId, Policy, PolicyVersion, Term, Units, UnitsPerSecond,
    policy::FleetSettings,
};
use weir_sim::limits::{SCALE, amount, limit};

const VERSION: PolicyVersion = PolicyVersion(1);
/// Of every limit, in packets a second for each node.
const RATE_PER_NODE: u64 = 10_000;

/// A fleet before its first tick. The first node leads.
pub(crate) struct Start {
    pub(crate) policy: Policy,
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) voters: Vec<NodeId>,
}

impl Start {
    pub(crate) fn new(nodes: usize, limits: usize) -> Self {
        let nodes: Vec<NodeId> = (1..=nodes as u128).map(NodeId::from_u128).collect();
        let everybody: BTreeSet<NodeId> = nodes.iter().copied().collect();
        Self {
            policy: policy(nodes.len(), limits),
            voters: choose(&everybody, &everybody, &[]),
            nodes,
        }
    }

    pub(crate) fn mandate(&self) -> Mandate {
        let members = self.nodes.iter().map(|id| member(*id, &self.policy));
        Mandate {
            node: self.nodes[0],
            record: TermRecord {
                term: Term(1),
                voters: self.voters.clone(),
                ..TermRecord::VACANT
            },
            adopted: None,
            members: members.collect(),
            policy: (VERSION, self.policy.clone()),
            in_force: PolicyRecord::settled(VERSION),
        }
    }

    /// One for each node.
    pub(crate) fn followers(&self) -> impl Iterator<Item = Follower> {
        self.nodes.iter().map(|node| {
            let birth = Birth {
                node: *node,
                incarnation: Incarnation(1),
                term: Term(1),
                abstains_until: Nanos::ZERO,
            };
            Follower::new(birth, VERSION, [], Rules::ALL)
        })
    }
}

fn policy(nodes: usize, limits: usize) -> Policy {
    let nodes = nodes as u64;
    let rate = RATE_PER_NODE * nodes;
    // One percent of the rate, and a packet at once, for all members together.
    let floor = Amount {
        rate: UnitsPerSecond((rate << SCALE.fraction_bits) / 100 / nodes),
        burst: Units(1 << SCALE.fraction_bits),
    };
    let limits: Vec<_> = (0..limits)
        .map(|number| limit(&format!("limit-{number}"), rate, rate / 10, floor, true))
        .collect();
    debug_assert_eq!(limits[0].budget, amount(rate, rate / 10));
    Policy {
        fleet: FleetSettings {
            max_members: u32::try_from(nodes).unwrap_or(u32::MAX),
            ..FleetSettings::default()
        },
        limits: limits.into(),
    }
}

fn member(node: NodeId, policy: &Policy) -> MemberRecord {
    let floors = policy.limits.iter().map(|limit| ReservedFloor {
        limit: limit.id,
        scale: limit.scale,
        amount: limit.floor,
    });
    MemberRecord {
        node,
        name: node.to_string(),
        weight: 1,
        floors: floors.collect(),
        is_drained: false,
        is_powered_off: false,
    }
}
