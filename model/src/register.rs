//! The register: the one small state that the leader replicates to a majority of voters.
//!
//! It holds the leader's *book*: the most that each node may be using of each limit, now or later.
//! Whoever leads next adopts it.

use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    amount::{Amount, Scale},
    identity::{Generation, LimitId, NodeId, PolicyVersion, Term},
};

/// The most that each node may be using, now or later, under this proposal and all before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EnvelopeRecord {
    /// The term of the leader that made it.
    pub term: Term,
    /// The proposal that it allowed.
    pub generation: Generation,
    /// The longest lease that any grant covered by it may run for.
    pub lease: Duration,
    /// The policy that it was made under: one that leads by an older one has to wait for it.
    #[serde(default)]
    pub policy: PolicyVersion,
    /// One entry a node, in the order of node identities.
    pub nodes: Vec<NodeEnvelope>,
}

/// One node of an [`EnvelopeRecord`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeEnvelope {
    /// Who.
    pub node: NodeId,
    /// The most it may hold of each limit, in the order of limit identities.
    pub limits: Vec<LimitEnvelope>,
}

/// One limit of a [`NodeEnvelope`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// How the register changes with one proposal, beside which it travels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RegisterUpdate {
    /// The generation, of the same term, since which `nodes` holds all that has changed; `None` if
    /// it holds everything.
    pub base: Option<Generation>,
    /// As in [`EnvelopeRecord::lease`].
    pub lease: Duration,
    /// What has changed since `base`, with its new values.
    pub nodes: Vec<NodeEnvelope>,
}
