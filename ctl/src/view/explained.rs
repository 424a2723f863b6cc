//! Why a source is, or is not, being dropped.

use std::collections::BTreeMap;

use serde::Serialize;
use weir_proto::admin::v1;

use super::{Key, Node, mode, promise, unit};

/// `weir explain`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Explained {
    pub(crate) node: Node,
    pub(crate) address: String,
    pub(crate) policy_version: u64,
    pub(crate) term: u64,
    pub(crate) limits: Vec<ExplainedLimit>,
    /// Latest first.
    pub(crate) drops: Vec<Dropped>,
    /// How far back drops are remembered.
    pub(crate) drops_since_ms: u64,
    pub(crate) sampled_one_in: u32,
    pub(crate) samples_lost: u64,
    /// What of it passes before any limit, as `management` of the node file says.
    pub(crate) management: Vec<String>,
}

/// What one limit means for the source. Rates are tokens per second.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ExplainedLimit {
    pub(crate) name: String,
    pub(crate) promise: &'static str,
    pub(crate) mode: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) per: Option<Key>,
    /// Whether it can apply to the source.
    pub(crate) applies: bool,
    /// Why it can't.
    pub(crate) exempt: Option<String>,
    /// The prefix that the source is counted under.
    pub(crate) source: String,
    /// Of a key on this host, or of this host.
    pub(crate) rate: f64,
    pub(crate) burst: f64,
    pub(crate) unspent: Option<f64>,
    pub(crate) lease_left_ms: Option<u64>,
    /// What holds since the lease has run out: `floor`, `closed` or `open`.
    pub(crate) expired: Option<&'static str>,
    pub(crate) offered: Option<f64>,
    pub(crate) dropped: Option<f64>,
    pub(crate) error: Option<f64>,
    pub(crate) seconds: f64,
    /// Whether the source's key has a budget of its own in the fleet.
    pub(crate) hot: bool,
    /// What the fleet may admit.
    pub(crate) budget: f64,
    /// On this host, by all sources.
    pub(crate) offered_by_all: f64,
    /// On this host, latest first.
    pub(crate) past: Vec<PastMinute>,
}

/// A minute of a limit on a host, all sources together. Rates are tokens per second.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PastMinute {
    /// 0 for the minute that has not ended yet.
    pub(crate) minutes_ago: u32,
    pub(crate) share_least: f64,
    pub(crate) share_most: f64,
    pub(crate) offered: f64,
    pub(crate) admitted: f64,
    /// Packets by reason.
    pub(crate) dropped: BTreeMap<String, u64>,
}

/// A packet that was dropped and looked at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Dropped {
    pub(crate) ago_ms: u64,
    /// Empty if the limit is no longer in force.
    pub(crate) limit: String,
    pub(crate) reason: String,
    /// Tokens that were missing.
    pub(crate) over: f64,
    pub(crate) unit: &'static str,
    pub(crate) passes_in_ms: Option<f64>,
    pub(crate) source: String,
    pub(crate) destination: String,
    pub(crate) protocol: u32,
    pub(crate) port: u32,
    pub(crate) bytes: u32,
    pub(crate) weight: u32,
}

impl From<v1::ExplainReply> for Explained {
    fn from(reply: v1::ExplainReply) -> Self {
        Self {
            node: Node::of(reply.node),
            address: reply.address,
            policy_version: reply.policy_version,
            term: reply.term,
            limits: reply.limits.into_iter().map(Into::into).collect(),
            drops: reply.drops.into_iter().map(Into::into).collect(),
            drops_since_ms: reply.drops_since_ms,
            sampled_one_in: reply.sampled_one_in,
            samples_lost: reply.samples_lost,
            management: reply.management,
        }
    }
}

impl From<v1::ExplainedLimit> for ExplainedLimit {
    fn from(limit: v1::ExplainedLimit) -> Self {
        let traffic = limit.traffic.as_ref();
        Self {
            promise: promise(limit.promise()),
            mode: mode(limit.mode()),
            unit: unit(limit.unit()),
            per: limit.per.map(Into::into),
            expired: match limit.expired() {
                v1::Expiry::Unspecified => None,
                v1::Expiry::Floor => Some("floor"),
                v1::Expiry::Closed => Some("closed"),
                v1::Expiry::Open => Some("open"),
            },
            offered: traffic.map(|traffic| traffic.offered),
            dropped: traffic.map(|traffic| traffic.dropped),
            error: traffic.map(|traffic| traffic.error),
            applies: limit.exempt.is_empty(),
            exempt: (!limit.exempt.is_empty()).then_some(limit.exempt),
            name: limit.name,
            source: limit.source,
            rate: limit.rate,
            burst: limit.burst,
            unspent: limit.unspent,
            lease_left_ms: limit.lease_left_ms,
            seconds: limit.traffic_seconds,
            hot: limit.hot,
            budget: limit.budget,
            offered_by_all: limit.offered_by_all,
            past: limit.past.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::SampledDrop> for Dropped {
    fn from(dropped: v1::SampledDrop) -> Self {
        Self {
            unit: unit(dropped.unit()),
            ago_ms: dropped.ago_ms,
            limit: dropped.limit,
            reason: dropped.reason,
            over: dropped.over,
            passes_in_ms: dropped.passes_in_ms,
            source: dropped.source,
            destination: dropped.destination,
            protocol: dropped.protocol,
            port: dropped.port,
            bytes: dropped.bytes,
            weight: dropped.weight,
        }
    }
}

impl From<v1::PastMinute> for PastMinute {
    fn from(minute: v1::PastMinute) -> Self {
        let dropped = minute.dropped.into_iter();
        Self {
            minutes_ago: minute.minutes_ago,
            share_least: minute.share_least,
            share_most: minute.share_most,
            offered: minute.offered,
            admitted: minute.admitted,
            dropped: dropped
                .map(|dropped| (dropped.reason, dropped.packets))
                .collect(),
        }
    }
}
