//! The fleet as a live view shows it.

use serde::Serialize;
use weir_proto::admin::v1;

use super::{
    HeavySource, Limit, Limits, Member, Node, NodeLimits, Nodes, Status, Trial, ZooKeeper,
};

/// `weir top`: the fleet at one moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Overview {
    /// Who answers.
    pub(crate) node: Node,
    pub(crate) leader: Option<Node>,
    pub(crate) term: u64,
    pub(crate) zookeeper: Option<ZooKeeper>,
    pub(crate) policy_version: u64,
    pub(crate) trial: Option<Trial>,
    pub(crate) members: Vec<Member>,
    pub(crate) limits: Vec<LimitState>,
    /// Every member, with what it holds of the limit that was asked for, or of all.
    pub(crate) nodes: Vec<NodeLimits>,
    pub(crate) sources: Vec<Source>,
}

/// A limit's numbers, and whether its promise holds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LimitState {
    #[serde(flatten)]
    pub(crate) limit: Limit,
    pub(crate) promise_kept: bool,
    pub(crate) nodes_on_floor: u32,
    pub(crate) nodes_failing_open: u32,
    /// Members that do not have the policy in force yet.
    pub(crate) pending: u32,
}

/// A source that sends much to a limit, as the answering node sees it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Source {
    pub(crate) limit: String,
    pub(crate) unit: &'static str,
    #[serde(flatten)]
    pub(crate) source: HeavySource,
}

impl From<v1::OverviewReply> for Overview {
    fn from(reply: v1::OverviewReply) -> Self {
        let fleet = Status::from(reply.fleet.unwrap_or_default());
        let nodes = Nodes::from(v1::NodesReply { nodes: reply.nodes });
        Self {
            node: fleet.node,
            leader: fleet.leader,
            term: fleet.term,
            zookeeper: fleet.zookeeper,
            policy_version: fleet.policy_version,
            trial: fleet.trial,
            members: fleet.members,
            limits: reply.limits.into_iter().map(Into::into).collect(),
            nodes: nodes.nodes,
            sources: reply.sources.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::OverviewLimit> for LimitState {
    fn from(state: v1::OverviewLimit) -> Self {
        Self {
            limit: Limits::row(state.row.unwrap_or_default(), false),
            promise_kept: state.promise_kept,
            nodes_on_floor: state.nodes_on_floor,
            nodes_failing_open: state.nodes_failing_open,
            pending: state.pending,
        }
    }
}

impl From<v1::OverviewSource> for Source {
    fn from(source: v1::OverviewSource) -> Self {
        Self {
            unit: super::unit(source.unit()),
            limit: source.limit,
            source: source.source.unwrap_or_default().into(),
        }
    }
}
