//! What nodes and leader say to each other, as domain types.
//!
//! Reports carry cumulative counters and proposals carry whole states, so every message may be
//! lost, repeated or late without harm: the next one heals it.

use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    amount::Amount,
    hot::{HeavyKey, HotKey},
    identity::{Generation, Incarnation, LimitId, NodeId, PolicyVersion, Term},
    register::{EnvelopeRecord, RegisterUpdate},
    rows::Rows,
    time::Nanos,
};

/// What several messages have in common. Threads may share it, but on targets that have no atomic
/// pointers: they have no threads.
#[cfg(target_has_atomic = "ptr")]
pub type Shared<T> = alloc::sync::Arc<T>;
/// What several messages have in common.
#[cfg(not(target_has_atomic = "ptr"))]
pub type Shared<T> = alloc::rc::Rc<T>;

/// A place in the order of all proposals: terms first, generations within a term.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// The leader's term.
    pub term: Term,
    /// The proposal's number within the term.
    pub generation: Generation,
}

/// An instant of one life of one node, by that node's own clock. A lease runs from a token that
/// the leader held before it sent the proposal, so a late message is born expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Token {
    /// Which life of the node.
    pub incarnation: Incarnation,
    /// The node's boot clock.
    pub at: Nanos,
}

/// From a node, each tick.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Report {
    /// Who reports.
    pub node: NodeId,
    /// When, on the node's clock: the anchor of the next lease.
    pub token: Token,
    /// The highest term that the node promised.
    pub promised: Term,
    /// The latest proposal that it took.
    pub seen: Position,
    /// The policy that it enforces.
    pub policy: PolicyVersion,
    /// The other policy that it has ready, and can enforce from one packet to the next; the same as
    /// `policy` if there is none.
    pub prepared: PolicyVersion,
    /// Whether it has started too recently to vote.
    pub abstains: bool,
    /// What it counts and holds, per limit. A hot key is a limit.
    pub limits: Vec<LimitReport>,
    /// The keys of merged limits that were heavy here lately, and all that are hot here: each key
    /// once. Empty is no news; otherwise what is not named is heavy no more.
    pub heavy: Vec<HeavyKey>,
}

/// One limit in a [`Report`]. Counters are cumulative since the bucket was made, in whole tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LimitReport {
    /// Which limit.
    pub limit: LimitId,
    /// Tokens that arrived: what passed and what did not.
    pub offered: u64,
    /// Tokens that passed.
    pub admitted: u64,
    /// Tokens that this limit dropped.
    pub dropped: u64,
    /// The grant in the kernel.
    pub held: Amount,
    /// When that grant ends, on the node's clock.
    pub expires: Nanos,
}

/// From the leader: what this node is to hold. It may shrink at once; it grows, and its lease is
/// renewed, with the [`Commit`] of the same position.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Propose {
    /// Where in the order.
    pub position: Position,
    /// Who leads this term.
    pub leader: NodeId,
    /// The policy that the rows are about.
    pub policy: PolicyVersion,
    /// Where the lease runs from.
    pub anchor: Token,
    /// How long it runs. No time at all says that nothing is the node's own: it is no member, or is to
    /// leave, and stops what it gives strict keys by itself before it acknowledges.
    pub lease: Duration,
    /// This node's share of every leased limit of the policy, and of every hot key. None for a voter
    /// that takes no part.
    pub rows: Rows,
    /// Every hot key: one that is not named is none any more. `None` if all stay as they are: a
    /// voter takes no part, or a new leader does not know yet which there are.
    pub hot: Option<Vec<HotKey>>,
    /// For a voter: what the register becomes.
    pub register: Option<Shared<RegisterUpdate>>,
}

/// One limit in a [`Propose`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Row {
    /// Which limit.
    pub limit: LimitId,
    /// The grant.
    pub amount: Amount,
    /// What remains when the grant has expired.
    pub floor: Amount,
}

/// From the leader: the proposal at this position is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Commit {
    /// Which proposal.
    pub position: Position,
}

/// From a node: what became of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ack {
    /// Who.
    pub node: NodeId,
    /// In which life.
    pub incarnation: Incarnation,
    /// Which proposal.
    pub position: Position,
    /// Its kernel holds no more than the proposal says. Not so under another policy.
    pub holds: bool,
    /// It has the register of this position, and does not abstain.
    pub votes: bool,
}

/// From a new leader to a voter: refuse every older term, and say what the register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prepare {
    /// The leader's term.
    pub term: Term,
    /// Who leads it.
    pub leader: NodeId,
}

/// From a voter: it refuses every term below this one from now on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Promise {
    /// Who.
    pub node: NodeId,
    /// An instant of its life at which the promise held.
    pub token: Token,
    /// The term.
    pub term: Term,
    /// Whether it has started too recently to count: it may have forgotten a register.
    pub abstains: bool,
    /// The register as this voter has it; `None` if it has none.
    pub register: Option<EnvelopeRecord>,
}

/// From a node: it has promised a newer term (or this term to another leader), or it enforces
/// another policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refuse {
    /// Who.
    pub node: NodeId,
    /// The highest term that it promised.
    pub promised: Term,
    /// The leader of that term, as far as the node knows.
    pub leader: Option<NodeId>,
    /// The policy that it enforces.
    pub policy: PolicyVersion,
}

/// What goes up a node's stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FromNode {
    /// Each tick.
    Report(Report),
    /// Answers a [`Propose`].
    Ack(Ack),
    /// Answers a [`Propose`], [`Commit`] or [`Prepare`].
    Refuse(Refuse),
    /// Answers a [`Prepare`].
    Promise(Promise),
}

/// What comes down a node's stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ToNode {
    /// A new state to take.
    Propose(Propose),
    /// Leave to grow and to renew.
    Commit(Commit),
    /// A new leader asks for a promise.
    Prepare(Prepare),
}
