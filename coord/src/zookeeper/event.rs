//! What the ZooKeeper shell tells its owner, and what the owner may ask of it.

use std::time::Duration;

use thiserror::Error;
use weir_coord_core::{
    commit::StoreOutcome,
    record::{EnvelopeRecord, LiveRecord, MemberRecord, PolicyRecord, TermRecord},
};
use weir_model::{Generation, Incarnation, NodeId, PolicyVersion, Term};

use crate::trial::Trial;

/// What happened. Of the events that describe a state only the latest of each kind is kept until
/// it is read; answers are all delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A server answers. Kind: connection.
    Connected,
    /// No server answers. It is tried again for ever. Kind: connection.
    Disconnected,
    /// The session is over and its ephemerals are gone; another one is made. Kind: connection.
    SessionExpired,
    /// Weir will not lead or register while this lasts. Kind: refusal.
    Refused(Refusal),
    /// The last [`Event::Refused`] no longer holds. Kind: refusal.
    Accepted,
    /// This daemon's `live` znode has been made anew. Kind: registration.
    Registered {
        /// Larger than that of every earlier registration of this node.
        incarnation: Incarnation,
    },
    /// The content of `term`. Kind: term.
    Term {
        /// The term in force.
        record: TermRecord,
        /// The znode's version.
        version: i32,
    },
    /// The content of `roster`, in the order of node identities. Kind: members.
    Members(Roster),
    /// The content of `live`, in the order of node identities. Kind: live.
    Live(Vec<Live>),
    /// The document that `policy/current` names. Kind: policy.
    Policy {
        /// Its version, never below an earlier one.
        version: PolicyVersion,
        /// Its text.
        document: String,
    },
    /// What `policy/current` says besides. Kind: record.
    PolicyRecord(PolicyRecord),
    /// A document that is to come into force as soon as nodes have it ready. Kind: next.
    NextPolicy {
        /// Its version, above that of [`Event::Policy`].
        version: PolicyVersion,
        /// Its text.
        document: String,
    },
    /// The change that waits to be confirmed, if there is one. Kind: trial.
    Trial(Option<Trial>),
    /// Own candidacy has become the lowest. Kind: standing.
    Standing,
    /// Own candidacy is not, or no longer, the lowest, or there is none. Kind: standing.
    NotStanding {
        /// Who owns every lower one, if they are all of one node.
        after: Option<NodeId>,
    },
    /// Answers a take-over: this node leads `record.term`.
    TakenOver {
        /// What `term` holds now.
        record: TermRecord,
        /// The last envelope that any leader stored, read after `term` was written.
        envelope: Option<EnvelopeRecord>,
        /// The members, read after `term` was written.
        roster: Roster,
        /// What is in force, read after `term` was written.
        in_force: PolicyRecord,
    },
    /// Answers a take-over: this node does not lead.
    TakeOverFailed {
        /// Why.
        reason: TakeOverFailure,
    },
    /// Answers a store.
    Stored {
        /// The generation of the envelope.
        generation: Generation,
        /// What came of it.
        outcome: StoreOutcome,
    },
    /// Answers an admission.
    Admitted {
        /// The term in which it was asked for; 0 if this node did not lead.
        term: Term,
        /// Who was to be a member.
        node: NodeId,
        /// What came of it.
        outcome: StoreOutcome,
    },
    /// Answers a removal.
    Removed {
        /// The term in which it was asked for; 0 if this node did not lead.
        term: Term,
        /// Who was to be no member.
        node: NodeId,
        /// What came of it.
        outcome: StoreOutcome,
    },
}

/// Why Weir refuses to lead a fleet or to join it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A new `term` would start below terms that nodes have promised.
    #[error(
        "the fleet {root} was initialised, but its `term` is missing: restore it from a backup, \
         with a term above the highest in the nodes' logs"
    )]
    TermMissing {
        /// The fleet's root.
        root: String,
    },
    /// A znode does not hold what Weir writes there.
    #[error("{znode} is malformed: {reason}")]
    Malformed {
        /// Its path below the fleet's root.
        znode: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The ACL of the fleet admits others.
    #[error(
        "not authorised at {root}: give this node the credentials that the fleet was made with"
    )]
    NotAuthorised {
        /// The fleet's root.
        root: String,
    },
    /// Another process of this host has registered under this node's identity.
    #[error("another process of this host registered as {node}: two daemons of one identity run")]
    Displaced {
        /// The identity.
        node: NodeId,
    },
    /// Another host is registered under this node's identity.
    #[error(
        "another host is registered as {node}: {name} at {address}. If one is a copy of the other, \
         give the copy a machine id of its own (`rm /etc/machine-id && systemd-machine-id-setup`) \
         or a `node.id`, and empty its state directory. If it is this host before a reboot, or \
         before its address was changed, that registration ends with its ZooKeeper session"
    )]
    Twin {
        /// The identity.
        node: NodeId,
        /// What the other host is called.
        name: String,
        /// Where its gRPC service is reached, `host:port`.
        address: String,
    },
}

/// The members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// The child version of the `roster` znode, which grows with every change.
    pub version: i32,
    /// In the order of node identities.
    pub members: Vec<MemberRecord>,
}

/// A daemon that seems to be running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// What it says of itself.
    pub record: LiveRecord,
    /// Which life it is in.
    pub incarnation: Incarnation,
}

/// How to lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeOver {
    /// Where this node's gRPC service is reached, `host:port`.
    pub address: String,
    /// How long the leases of this term are.
    pub lease: Duration,
    /// Whether this term commits by votes.
    pub is_voted: bool,
    /// The highest term that anybody is known to have promised: the new one is larger.
    pub at_least: Term,
    /// Whose acknowledgements are to commit: who votes in the term before, unless this says other.
    /// A fleet that never had voters begins with this node alone.
    pub voters: Option<Vec<NodeId>>,
    /// The version of the [`Roster`] that the voters were chosen from.
    pub roster_version: i32,
    /// A leader that a majority of its voters misses: its candidacy goes with its term.
    pub instead_of: Option<NodeId>,
}

/// Why a take-over did not come about.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TakeOverFailure {
    /// This node has no candidacy.
    #[error("own candidacy is gone")]
    NoCandidacy,
    /// Another node wrote `term` first.
    #[error("another node took over first")]
    Outrun,
    /// The fleet is not in a state to be led.
    #[error(transparent)]
    Refused(Refusal),
    /// ZooKeeper did not say in time. The term may have been taken; trying again is safe.
    #[error("ZooKeeper did not say what came of it: {0}")]
    Unknown(String),
}

/// Too many commands of one kind are waiting; nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("too many commands are waiting for ZooKeeper")]
pub struct Busy;

impl Event {
    /// Events of the same kind replace each other; `None` for answers.
    pub(super) fn kind(&self) -> Option<Kind> {
        Some(match self {
            Self::Connected | Self::Disconnected | Self::SessionExpired => Kind::Connection,
            Self::Refused(_) | Self::Accepted => Kind::Refusal,
            Self::Registered { .. } => Kind::Registration,
            Self::Term { .. } => Kind::Term,
            Self::Members(_) => Kind::Members,
            Self::Live(_) => Kind::Live,
            Self::Policy { .. } => Kind::Policy,
            Self::PolicyRecord(_) => Kind::PolicyRecord,
            Self::NextPolicy { .. } => Kind::NextPolicy,
            Self::Trial(_) => Kind::Trial,
            Self::Standing | Self::NotStanding { .. } => Kind::Standing,
            Self::TakenOver { .. }
            | Self::TakeOverFailed { .. }
            | Self::Stored { .. }
            | Self::Admitted { .. }
            | Self::Removed { .. } => return None,
        })
    }
}

/// What a state-like event describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Connection,
    Refusal,
    Registration,
    Term,
    Members,
    Live,
    Policy,
    PolicyRecord,
    NextPolicy,
    Trial,
    Standing,
}
