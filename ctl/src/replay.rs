//! Who would have been limited: recorded demand, through the buckets of a candidate file.
//!
//! Rates of seconds are all that is recorded, so what happens within a second is taken to be even: a
//! burst shorter than that is not seen. A fleet is replayed as one bucket with the whole budget,
//! which is what it comes close to; what shares cost on the way there is left out.

mod bucket;
mod record;

use serde::Serialize;
use weir_model::{Limit, Policy, policy::Promise};

use self::bucket::{Bucket, Served};
pub(crate) use self::record::{NodeRecord, Record, SourceRecord};

/// For how long a source is taken to go on as it does.
const SOURCE_SECONDS: usize = 60;

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    /// How far back the record goes, seconds.
    pub(crate) seconds: usize,
    /// The hosts whose demand it is.
    pub(crate) nodes: Vec<String>,
    /// Members of the fleet whose demand is missing.
    pub(crate) missing: Vec<String>,
    pub(crate) limits: Vec<LimitOutcome>,
    /// Of keyed limits, heavy sources that would be limited.
    pub(crate) sources: Vec<SourceOutcome>,
}

/// What would have become of one limit's demand. Rates are tokens per second.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LimitOutcome {
    pub(crate) limit: String,
    pub(crate) unit: &'static str,
    /// Of a key, for a keyed limit.
    pub(crate) rate: f64,
    /// Why there is nothing more to say.
    pub(crate) unknown: Option<&'static str>,
    pub(crate) offered: f64,
    /// In the busiest second.
    pub(crate) offered_most: f64,
    pub(crate) admitted: f64,
    pub(crate) dropped: f64,
    /// Seconds in which something was dropped.
    pub(crate) limited_seconds: usize,
    /// It would only have counted: the mode is `shadow`.
    pub(crate) shadow: bool,
}

/// A source that a keyed limit would limit if it went on as it does.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SourceOutcome {
    pub(crate) limit: String,
    pub(crate) unit: &'static str,
    pub(crate) source: String,
    pub(crate) offered: f64,
    pub(crate) dropped: f64,
}

/// Replays a record. `changed` are limits that would match other traffic than when it was recorded.
pub(crate) fn replay(policy: &Policy, record: &Record, changed: &[String]) -> Outcome {
    let limits = policy.limits.iter();
    let sources = policy
        .limits
        .iter()
        .flat_map(|limit| limited_sources(limit, record));
    Outcome {
        seconds: record.seconds(),
        nodes: record.nodes.iter().map(|node| node.node.clone()).collect(),
        missing: record.missing.clone(),
        limits: limits
            .map(|limit| outcome(limit, record, changed.contains(&limit.name)))
            .collect(),
        sources: sources.collect(),
    }
}

fn outcome(limit: &Limit, record: &Record, is_changed: bool) -> LimitOutcome {
    let unit = unit(limit);
    let row = LimitOutcome {
        limit: limit.name.clone(),
        unit,
        rate: limit.scale.tokens_per_second(limit.budget.rate),
        unknown: None,
        offered: 0.0,
        offered_most: 0.0,
        admitted: 0.0,
        dropped: 0.0,
        limited_seconds: 0,
        shadow: limit.mode == weir_model::policy::Mode::Shadow,
    };
    let unknown = |why| LimitOutcome {
        unknown: Some(why),
        ..row.clone()
    };
    let demands = record.demands(&limit.name, unit);
    if is_changed {
        return unknown("it matches other traffic than when demand was recorded");
    }
    if demands.is_empty() {
        return unknown("no demand of it was recorded");
    }
    if limit.per.is_some() {
        return unknown("demand is not recorded by key: see the sources below");
    }
    let served: Vec<Vec<Served>> = match limit.promise {
        // Each host alone.
        Promise::Local => demands.iter().map(|demand| serve(limit, demand)).collect(),
        _ => vec![serve(limit, &record::sum(&demands))],
    };
    let seconds = served.iter().map(Vec::len).max().unwrap_or(0);
    let all = || served.iter().flatten();
    let mean = |of: fn(&Served) -> f64| all().map(of).sum::<f64>() / seconds.max(1) as f64;
    let total = record::sum(&demands);
    LimitOutcome {
        offered: mean(|second| second.offered),
        offered_most: total.iter().copied().fold(0.0, f64::max),
        admitted: mean(|second| second.admitted),
        dropped: mean(Served::dropped),
        limited_seconds: (0..seconds)
            .filter(|second| {
                let at = |host: &Vec<Served>| host.get(*second).is_some_and(Served::is_limited);
                served.iter().any(at)
            })
            .count(),
        ..row
    }
}

fn serve(limit: &Limit, demand: &[f64]) -> Vec<Served> {
    let mut bucket = Bucket::new(limit.budget, limit.scale);
    demand
        .iter()
        .map(|offered| bucket.second(*offered))
        .collect()
}

fn limited_sources(limit: &Limit, record: &Record) -> Vec<SourceOutcome> {
    if limit.per.is_none() {
        return Vec::new();
    }
    let unit = unit(limit);
    let sources = record.sources.iter();
    let sources = sources.filter(|source| source.limit == limit.name && source.unit == unit);
    let outcome = |source: &SourceRecord| {
        let mut bucket = Bucket::new(limit.budget, limit.scale);
        let served: Vec<Served> = (0..SOURCE_SECONDS)
            .map(|_| bucket.second(source.offered))
            .collect();
        let dropped = served.iter().map(Served::dropped).sum::<f64>() / served.len() as f64;
        SourceOutcome {
            limit: limit.name.clone(),
            unit,
            source: source.source.clone(),
            offered: source.offered,
            dropped,
        }
    };
    let outcomes = sources.map(outcome);
    outcomes.filter(|source| source.dropped > 0.0).collect()
}

const fn unit(limit: &Limit) -> &'static str {
    match limit.cost {
        weir_model::Cost::Packets => "packets",
        weir_model::Cost::Bits => "bits",
        weir_model::Cost::Connections => "connections",
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
