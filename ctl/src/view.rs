//! What commands print with `--json`: the daemon's replies, in the names that scripts rely on.

use serde::Serialize;
use weir_proto::admin::v1;

/// A host.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Node {
    /// Its UUID.
    pub(crate) node: String,
    pub(crate) name: String,
    pub(crate) address: String,
}

impl Node {
    pub(crate) fn of(node: Option<v1::Node>) -> Self {
        let node = node.unwrap_or_default();
        Self {
            node: node
                .node_id()
                .map_or_else(|_| String::from("?"), |id| id.to_string()),
            name: node.name,
            address: node.address,
        }
    }
}

/// `weir status`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) node: Node,
    pub(crate) leader: Option<Node>,
    pub(crate) term: u64,
    pub(crate) zookeeper: Option<ZooKeeper>,
    pub(crate) policy_version: u64,
    pub(crate) members: Vec<Member>,
    pub(crate) limits: Vec<LimitStatus>,
    pub(crate) daemon_version: String,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ZooKeeper {
    pub(crate) connected: bool,
    pub(crate) since_ms: u64,
    pub(crate) servers: String,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Member {
    #[serde(flatten)]
    pub(crate) node: Node,
    pub(crate) live: bool,
    pub(crate) is_leader: bool,
    pub(crate) on_floor: bool,
    pub(crate) last_report_ms: Option<u64>,
    pub(crate) policy_version: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct LimitStatus {
    pub(crate) name: String,
    pub(crate) promise: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) budget: f64,
    pub(crate) promise_kept: bool,
    /// The names of nodes.
    pub(crate) pending: Vec<String>,
    pub(crate) nodes_on_floor: u32,
    pub(crate) offered_rate: f64,
    pub(crate) admitted_rate: f64,
}

impl From<v1::StatusReply> for Status {
    fn from(reply: v1::StatusReply) -> Self {
        Self {
            node: Node::of(reply.node),
            leader: reply.leader.map(|leader| Node::of(Some(leader))),
            term: reply.term,
            zookeeper: reply.zookeeper.map(|zookeeper| ZooKeeper {
                connected: zookeeper.connected,
                since_ms: zookeeper.since_ms,
                servers: zookeeper.servers,
            }),
            policy_version: reply.policy_version,
            members: reply.members.into_iter().map(Into::into).collect(),
            limits: reply.limits.into_iter().map(Into::into).collect(),
            daemon_version: reply.daemon_version,
        }
    }
}

impl From<v1::Member> for Member {
    fn from(member: v1::Member) -> Self {
        Self {
            node: Node::of(member.node),
            live: member.live,
            is_leader: member.is_leader,
            on_floor: member.on_floor,
            last_report_ms: member.last_report_ms,
            policy_version: member.policy_version,
        }
    }
}

impl From<v1::LimitStatus> for LimitStatus {
    fn from(limit: v1::LimitStatus) -> Self {
        Self {
            promise: promise(limit.promise()),
            unit: unit(limit.unit()),
            budget: limit.budget,
            promise_kept: limit.promise_kept,
            pending: limit.pending.into_iter().map(|node| node.name).collect(),
            nodes_on_floor: limit.nodes_on_floor,
            offered_rate: limit.offered_rate,
            admitted_rate: limit.admitted_rate,
            name: limit.name,
        }
    }
}

/// `weir limits`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Limits {
    pub(crate) limits: Vec<Limit>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Limit {
    pub(crate) name: String,
    pub(crate) promise: &'static str,
    pub(crate) mode: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) rate: f64,
    pub(crate) burst: f64,
    pub(crate) offered: f64,
    pub(crate) admitted: f64,
    pub(crate) dropped: f64,
    pub(crate) nodes: u32,
}

impl From<v1::LimitsReply> for Limits {
    fn from(reply: v1::LimitsReply) -> Self {
        let limit = |row: v1::LimitRow| Limit {
            promise: promise(row.promise()),
            mode: mode(row.mode()),
            unit: unit(row.unit()),
            name: row.name,
            rate: row.rate,
            burst: row.burst,
            offered: row.offered,
            admitted: row.admitted,
            dropped: row.dropped,
            nodes: row.nodes,
        };
        Self {
            limits: reply.limits.into_iter().map(limit).collect(),
        }
    }
}

/// `weir nodes`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Nodes {
    pub(crate) nodes: Vec<NodeLimits>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct NodeLimits {
    #[serde(flatten)]
    pub(crate) node: Node,
    pub(crate) live: bool,
    pub(crate) is_leader: bool,
    pub(crate) limits: Vec<NodeLimit>,
}

/// Rates are tokens per second, a token being what `unit` says.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NodeLimit {
    pub(crate) limit: String,
    pub(crate) unit: &'static str,
    /// The fleet's budget.
    pub(crate) rate: f64,
    /// What this node may admit now.
    pub(crate) share: f64,
    pub(crate) floor: f64,
    pub(crate) offered: f64,
    pub(crate) admitted: f64,
    pub(crate) dropped: f64,
    pub(crate) lease_left_ms: Option<u64>,
    pub(crate) on_floor: bool,
}

impl From<v1::NodesReply> for Nodes {
    fn from(reply: v1::NodesReply) -> Self {
        let node = |row: v1::NodeRow| NodeLimits {
            node: Node::of(row.node),
            live: row.live,
            is_leader: row.is_leader,
            limits: row.limits.into_iter().map(Into::into).collect(),
        };
        Self {
            nodes: reply.nodes.into_iter().map(node).collect(),
        }
    }
}

impl From<v1::NodeLimit> for NodeLimit {
    fn from(row: v1::NodeLimit) -> Self {
        Self {
            unit: unit(row.unit()),
            limit: row.limit,
            rate: row.rate,
            share: row.share,
            floor: row.floor,
            offered: row.offered,
            admitted: row.admitted,
            dropped: row.dropped,
            lease_left_ms: row.lease_left_ms,
            on_floor: row.on_floor,
        }
    }
}

/// `weir apply`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Applied {
    pub(crate) version: u64,
    pub(crate) dry_run: bool,
    pub(crate) changes: Vec<Change>,
    pub(crate) warnings: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Change {
    pub(crate) limit: String,
    /// `added`, `changed` or `removed`.
    pub(crate) change: &'static str,
    pub(crate) fields: Vec<Field>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Field {
    pub(crate) field: String,
    pub(crate) before: String,
    pub(crate) after: String,
}

impl Applied {
    pub(crate) fn of(reply: v1::ApplyReply, dry_run: bool) -> Self {
        Self {
            version: reply.version,
            dry_run,
            changes: reply.changes.into_iter().map(Into::into).collect(),
            warnings: reply.warnings,
        }
    }
}

impl From<v1::LimitChange> for Change {
    fn from(change: v1::LimitChange) -> Self {
        let field = |field: v1::FieldChange| Field {
            field: field.field,
            before: field.before,
            after: field.after,
        };
        Self {
            change: match change.kind() {
                v1::ChangeKind::Added => "added",
                v1::ChangeKind::Changed => "changed",
                v1::ChangeKind::Removed => "removed",
                v1::ChangeKind::Unspecified => UNKNOWN,
            },
            limit: change.name,
            fields: change.fields.into_iter().map(field).collect(),
        }
    }
}

/// A word of a newer daemon.
const UNKNOWN: &str = "unknown";

fn promise(promise: v1::Promise) -> &'static str {
    match promise {
        v1::Promise::Strict => "strict",
        v1::Promise::Elastic => "elastic",
        v1::Promise::Local => "local",
        v1::Promise::Unspecified => UNKNOWN,
    }
}

fn mode(mode: v1::Mode) -> &'static str {
    match mode {
        v1::Mode::Enforce => "enforce",
        v1::Mode::Shadow => "shadow",
        v1::Mode::Unspecified => UNKNOWN,
    }
}

fn unit(unit: v1::Unit) -> &'static str {
    match unit {
        v1::Unit::Packets => "packets",
        v1::Unit::Bits => "bits",
        v1::Unit::Connections => "connections",
        v1::Unit::Unspecified => UNKNOWN,
    }
}
