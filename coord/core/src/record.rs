//! What is kept in ZooKeeper, as domain types. The shell stores each as one JSON document.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use serde::{Deserialize, Serialize};
use weir_model::{Amount, Generation, LimitId, NodeId, Scale, Term};

/// `term`: the fence. Only ever changed by a conditional write, and its number only grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermRecord {
    /// The term in force; 0 before the first leader.
    pub term: Term,
    /// Who leads it; `None` before the first leader.
    pub leader: Option<NodeId>,
    /// Where the leader's gRPC service is reached, `host:port`.
    pub address: String,
    /// Whose acknowledgements commit. Unused by the ZooKeeper commit back-end.
    pub voters: Vec<NodeId>,
    /// The roster's child version that the voters were chosen from.
    pub roster_version: i32,
}

/// `roster/<uuid>`: a member, whose floors are reserved until it is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Who.
    pub node: NodeId,
    /// What people call it.
    pub name: String,
    /// Its weight in a max-min division, at least 1.
    pub weight: u32,
}

/// `live/<uuid>`: a hint that a daemon is running, never a proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRecord {
    /// Who.
    pub node: NodeId,
    /// What people call it.
    pub name: String,
    /// Where its gRPC service is reached, `host:port`.
    pub address: String,
    /// The daemon's version.
    pub version: String,
    /// Its weight in a max-min division, at least 1.
    pub weight: u32,
    /// The kernel's boot id: pinned maps survive the daemon, not the boot.
    pub boot_id: String,
}

/// `envelope`: the most that each node may be using, now or later, under commits that are stored.
/// A new leader adopts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeRecord {
    /// The term of the leader that stored it.
    pub term: Term,
    /// The proposal that it allowed.
    pub generation: Generation,
    /// The lease that its grants ran for.
    pub lease: Duration,
    /// One entry a node, in the order of node identities.
    pub nodes: Vec<NodeEnvelope>,
}

/// One node of an [`EnvelopeRecord`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEnvelope {
    /// Who.
    pub node: NodeId,
    /// The most it may hold of each limit, in the order of limit identities.
    pub limits: Vec<LimitEnvelope>,
}

/// One limit of a [`NodeEnvelope`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitEnvelope {
    /// Which limit.
    pub limit: LimitId,
    /// The units of `amount`: a later policy may use finer or coarser ones.
    pub scale: Scale,
    /// The most it may hold, floor included.
    pub amount: Amount,
    /// The part of it that has no end: the largest floor that it has not given up.
    pub floor: Amount,
}
