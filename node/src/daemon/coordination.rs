//! Who coordinates this host: a fleet on ZooKeeper, or nobody but itself.

use std::time::Duration;

use weir_coord::{embedded::Embedded, fleet::Fleet};
use weir_coord_core::{
    leader::{Input, MemberView},
    timing::Timing,
};
use weir_model::{
    HotKey, LimitId, Nanos, NodeId, Policy, PolicyVersion, Term, UnitsPerSecond,
    message::{FromNode, ToNode},
};

/// Who coordinates this host.
// One exists in a process, so the size of the larger variant costs nothing.
#[allow(clippy::large_enum_variant)]
pub enum Coordination {
    /// With others, over ZooKeeper.
    Fleet(Fleet),
    /// Alone.
    Embedded {
        /// The identity.
        node: NodeId,
        /// What people call it.
        name: String,
        /// The protocol's times.
        timing: Timing,
        /// Leads once there is a policy.
        embedded: Option<Embedded>,
    },
}

/// What a leader knows, for people.
pub struct LeaderView {
    /// Its term.
    pub term: Term,
    /// Every member.
    pub members: Vec<MemberView>,
    /// Limits whose envelopes add up to more than the budget.
    pub over_budget: Vec<LimitId>,
    /// Keys that have a budget of their own, and what the fleet offers of each.
    pub hot: Vec<(HotKey, UnitsPerSecond)>,
}

impl Coordination {
    /// This host's leader, if it leads.
    pub fn leader_view(&self, now: Nanos) -> Option<LeaderView> {
        match self {
            Self::Fleet(fleet) => fleet.leader().map(|leader| LeaderView {
                term: leader.term(),
                members: leader.view(now),
                over_budget: leader.over_budget().collect(),
                hot: leader.hot_offered().collect(),
            }),
            Self::Embedded { embedded, .. } => embedded.as_ref().map(|embedded| LeaderView {
                term: embedded.leader().term(),
                members: embedded.leader().view(now),
                over_budget: embedded.leader().over_budget().collect(),
                hot: embedded.leader().hot_offered().collect(),
            }),
        }
    }

    /// The fleet, unless this host is alone.
    pub const fn fleet(&self) -> Option<&Fleet> {
        match self {
            Self::Fleet(fleet) => Some(fleet),
            Self::Embedded { .. } => None,
        }
    }

    /// The current term, as far as it is known.
    pub fn term(&self) -> Option<Term> {
        match self {
            Self::Fleet(fleet) => fleet.term().map(|record| record.term),
            Self::Embedded { embedded, .. } => {
                embedded.as_ref().map(|embedded| embedded.leader().term())
            }
        }
    }

    /// This host enforces another policy.
    pub fn set_policy(&mut self, version: PolicyVersion, policy: Policy, now: Nanos) {
        match self {
            Self::Fleet(fleet) => fleet.set_policy(version, policy, now),
            Self::Embedded {
                node,
                name,
                timing,
                embedded,
            } => match embedded {
                Some(embedded) => embedded.handle(Input::Policy(version, policy), now),
                None => {
                    *embedded = Some(Embedded::new(*node, name, (version, policy), *timing, now))
                }
            },
        }
    }

    /// A tick has passed.
    pub fn tick(&mut self, now: Nanos) {
        match self {
            Self::Fleet(fleet) => fleet.tick(now),
            Self::Embedded { embedded, .. } => {
                if let Some(embedded) = embedded {
                    embedded.handle(Input::Tick, now);
                }
            }
        }
    }

    /// Says something to whoever leads.
    pub fn send(&mut self, message: FromNode, now: Nanos) {
        match self {
            Self::Fleet(fleet) => fleet.send(message, now),
            Self::Embedded { embedded, .. } => {
                if let Some(embedded) = embedded {
                    embedded.receive(message, now);
                }
            }
        }
    }

    /// What a leader on this host has to say to it.
    pub fn poll_message(&mut self) -> Option<ToNode> {
        match self {
            Self::Fleet(fleet) => fleet.poll_message(),
            Self::Embedded { embedded, .. } => embedded.as_mut()?.poll_message(),
        }
    }
}

/// How long ago a leader must have heard from a node for people to believe that it runs.
pub(super) const LIVELY: Duration = Duration::from_secs(2);
