//! What commands print with `--json`: the daemon's replies, in the names that scripts rely on.

mod explained;
mod fleet;
mod overview;

use std::fmt;

use serde::Serialize;
use weir_proto::admin::v1;

pub(crate) use explained::{Dropped, Explained, ExplainedLimit, PastMinute};
pub(crate) use fleet::{Author, Confirmed, Drained, History, Removed, Trial, Version, Voters};
pub(crate) use overview::{LimitState, Overview, Source};

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

/// What the keys of a keyed limit are: source prefixes of these lengths.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Key {
    pub(crate) source_v4: u32,
    pub(crate) source_v6: u32,
}

impl From<v1::Key> for Key {
    fn from(key: v1::Key) -> Self {
        Self {
            source_v4: key.source_v4,
            source_v6: key.source_v6,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v4/{} v6/{}", self.source_v4, self.source_v6)
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
    pub(crate) trial: Option<Trial>,
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
    /// For a keyed limit; `budget` is then for each key.
    pub(crate) per: Option<Key>,
    pub(crate) budget: f64,
    pub(crate) promise_kept: bool,
    /// The names of nodes.
    pub(crate) pending: Vec<String>,
    pub(crate) nodes_on_floor: u32,
    pub(crate) nodes_failing_open: u32,
    pub(crate) offered_rate: f64,
    pub(crate) admitted_rate: f64,
    /// Keys that have a budget of their own in the fleet.
    pub(crate) hot_keys: u32,
    pub(crate) heaviest_hot: Option<HotSource>,
}

/// The heaviest of hot keys.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HotSource {
    pub(crate) source: String,
    pub(crate) offered: f64,
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
            trial: reply.trial.map(Trial::of),
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
            per: limit.per.map(Into::into),
            budget: limit.budget,
            promise_kept: limit.promise_kept,
            pending: limit.pending.into_iter().map(|node| node.name).collect(),
            nodes_on_floor: limit.nodes_on_floor,
            nodes_failing_open: limit.nodes_failing_open,
            offered_rate: limit.offered_rate,
            admitted_rate: limit.admitted_rate,
            hot_keys: limit.hot_keys,
            heaviest_hot: limit.heaviest_hot.map(|hot| HotSource {
                source: hot.source,
                offered: hot.offered,
            }),
            name: limit.name,
        }
    }
}

/// `weir limits`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Limits {
    pub(crate) limits: Vec<Limit>,
    /// Whose sources are in `top`, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_of: Option<Node>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Limit {
    pub(crate) name: String,
    pub(crate) promise: &'static str,
    pub(crate) mode: &'static str,
    pub(crate) unit: &'static str,
    /// For a keyed limit; `rate` and `burst` are then for each key.
    pub(crate) per: Option<Key>,
    pub(crate) rate: f64,
    pub(crate) burst: f64,
    pub(crate) offered: f64,
    pub(crate) admitted: f64,
    pub(crate) dropped: f64,
    pub(crate) nodes: u32,
    #[serde(flatten)]
    pub(crate) top: Option<Top>,
}

/// The heaviest sources of a limit.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Top {
    pub(crate) top: Vec<HeavySource>,
    /// For how long packets have been sampled, at most as long as they are remembered.
    pub(crate) top_seconds: f64,
    /// The limit's sources are not followed: others have more traffic.
    pub(crate) top_left_out: bool,
}

/// Estimates, in tokens per second.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HeavySource {
    /// A prefix.
    pub(crate) source: String,
    /// At least what arrived.
    pub(crate) offered: f64,
    /// At most what was dropped.
    pub(crate) dropped: f64,
    /// By how much the former may be too large, and the latter too small.
    pub(crate) error: f64,
    /// What the node is leased for a hot key.
    pub(crate) leased: Option<f64>,
}

impl From<v1::HeavySource> for HeavySource {
    fn from(source: v1::HeavySource) -> Self {
        Self {
            source: source.source,
            offered: source.offered,
            dropped: source.dropped,
            error: source.error,
            leased: source.leased,
        }
    }
}

impl Limits {
    /// The reply; `has_top` says whether sources were asked for.
    pub(crate) fn of(reply: v1::LimitsReply, has_top: bool) -> Self {
        let limits = reply.limits.into_iter();
        Self {
            limits: limits.map(|row| Self::row(row, has_top)).collect(),
            top_of: has_top.then(|| Node::of(reply.node)),
        }
    }

    fn row(row: v1::LimitRow, has_top: bool) -> Limit {
        Limit {
            promise: promise(row.promise()),
            mode: mode(row.mode()),
            unit: unit(row.unit()),
            per: row.per.map(Into::into),
            name: row.name,
            rate: row.rate,
            burst: row.burst,
            offered: row.offered,
            admitted: row.admitted,
            dropped: row.dropped,
            nodes: row.nodes,
            top: has_top.then(|| Top {
                top: row.top.into_iter().map(Into::into).collect(),
                top_seconds: row.top_seconds,
                top_left_out: row.top_left_out,
            }),
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
    /// For a keyed limit; `rate`, `share` and `floor` are then for each key.
    pub(crate) per: Option<Key>,
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
            per: row.per.map(Into::into),
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
    /// How long it waits to be confirmed, if it does.
    pub(crate) confirm_within_ms: Option<u64>,
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
            confirm_within_ms: None,
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

pub(crate) fn unit(unit: v1::Unit) -> &'static str {
    match unit {
        v1::Unit::Packets => "packets",
        v1::Unit::Bits => "bits",
        v1::Unit::Connections => "connections",
        v1::Unit::Unspecified => UNKNOWN,
    }
}
