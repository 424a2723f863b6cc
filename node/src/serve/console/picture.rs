//! What a live page shows, and how it is sent: all of it once, and then what has changed.
//!
//! A table has a part that stays (names, budgets) and a part that moves (rates); rates are rounded to
//! four digits, so that most rows of a quiet fleet say nothing at all.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;
use serde_json::{Value, json};
use weir_proto::admin::v1;

use super::topic::Topic;

/// A moment.
#[derive(Debug, Default)]
pub(super) struct Picture {
    /// Seconds since 1970.
    at: f64,
    head: Value,
    tables: BTreeMap<&'static str, Table>,
}

/// Rows, each in two parts of JSON text.
#[derive(Debug, Default)]
struct Table {
    fixed: Vec<String>,
    moving: Vec<String>,
}

impl Table {
    fn push(&mut self, fixed: &impl Serialize, moving: &impl Serialize) {
        self.fixed.push(text(fixed));
        self.moving.push(text(moving));
    }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("tuples of numbers and strings are JSON")
}

/// Four digits, which is more than anybody sees. What is no number is nothing.
fn rounded(number: f64) -> f64 {
    if !number.is_finite() || number.abs() < 1e-9 {
        return 0.0;
    }
    let scale = 10_f64.powi(3 - number.abs().log10().floor() as i32);
    (number * scale).round() / scale
}

fn tenths(milliseconds: u64) -> f64 {
    (milliseconds / 100) as f64 / 10.0
}

impl Picture {
    /// What a reply says about `topic`, so many seconds after 1970.
    pub(super) fn of(topic: &Topic, reply: &v1::OverviewReply, at: f64) -> Self {
        let mut tables = BTreeMap::new();
        match topic {
            Topic::Fleet => {
                tables.insert("limits", limits(reply.limits.iter()));
                tables.insert("nodes", nodes(reply));
            }
            Topic::Limit(name) => {
                let is_it = |limit: &&v1::OverviewLimit| {
                    limit.row.as_ref().is_some_and(|row| row.name == *name)
                };
                tables.insert("limits", limits(reply.limits.iter().filter(is_it)));
                tables.insert("shares", shares(reply.nodes.iter()));
            }
            Topic::Node(name) => {
                let is_it = |row: &&v1::NodeRow| name_of(row.node.as_ref()) == name;
                tables.insert("shares", shares(reply.nodes.iter().filter(is_it)));
            }
        }
        Self {
            at,
            head: head(reply),
            tables,
        }
    }

    /// Everything, as one JSON object.
    pub(super) fn full(&self, past: &[[f64; 4]]) -> String {
        let mut json = self.begun();
        let past = text(&past);
        let _ = write!(json, ",\"past\":{past},\"tables\":{{");
        for (index, (name, table)) in self.tables.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let (fixed, moving) = (table.fixed.join(","), table.moving.join(","));
            let _ = write!(
                json,
                "{comma}\"{name}\":{{\"fixed\":[{fixed}],\"moving\":[{moving}]}}"
            );
        }
        json.push_str("}}");
        json
    }

    /// What differs from `before`; `None` if that is more than numbers.
    pub(super) fn change(&self, before: &Self) -> Option<String> {
        let mut json = self.begun();
        json.push_str(",\"tables\":{");
        for (index, (name, table)) in self.tables.iter().enumerate() {
            let old = before.tables.get(name)?;
            if old.fixed != table.fixed {
                return None;
            }
            let comma = if index > 0 { "," } else { "" };
            let _ = write!(json, "{comma}\"{name}\":{{");
            let pairs = old.moving.iter().zip(&table.moving).enumerate();
            let changed = pairs.filter(|(_, (old, new))| old != new);
            for (place, (row, (_, new))) in changed.enumerate() {
                let comma = if place > 0 { "," } else { "" };
                let _ = write!(json, "{comma}\"{row}\":{new}");
            }
            json.push('}');
        }
        json.push_str("}}");
        Some(json)
    }

    fn begun(&self) -> String {
        format!("{{\"at\":{},\"head\":{}", self.at, self.head)
    }
}

fn name_of(node: Option<&v1::Node>) -> &str {
    node.map_or("", |node| &node.name)
}

/// The fleet at a glance.
fn head(reply: &v1::OverviewReply) -> Value {
    let nobody = v1::StatusReply::default();
    let fleet = reply.fleet.as_ref().unwrap_or(&nobody);
    let members = &fleet.members;
    let count = |is: fn(&v1::Member) -> bool| members.iter().filter(|member| is(member)).count();
    let broken = reply.limits.iter().filter(|limit| !limit.promise_kept);
    let pending = reply.limits.iter().map(|limit| limit.pending).max();
    let is_led = fleet.leader.is_some() || members.len() <= 1;
    let is_partial = reply.alone || !is_led;
    let zookeeper = fleet.zookeeper.as_ref().map(|zookeeper| {
        json!({
            "connected": zookeeper.connected,
            "since": zookeeper.since_ms / 1_000,
            "servers": zookeeper.servers,
        })
    });
    let sources = reply.sources.iter().filter_map(|source| {
        let who = source.source.as_ref()?;
        Some(json!([
            source.limit,
            who.source,
            rounded(who.offered),
            rounded(who.dropped),
            unit(source.unit()),
        ]))
    });
    json!({
        "node": name_of(fleet.node.as_ref()),
        "leader": name_of(fleet.leader.as_ref()),
        "term": fleet.term,
        "zookeeper": zookeeper,
        "members": members.len(),
        "live": count(|member| member.live),
        "onFloor": count(|member| member.on_floor),
        "policy": fleet.policy_version,
        "pending": pending.unwrap_or(0),
        "trial": fleet.trial.as_ref().and_then(|trial| trial.confirm_within_ms).map(|left| left / 1_000),
        "trialVersion": fleet.trial.as_ref().map(|trial| trial.version),
        "limits": reply.limits.len(),
        "broken": broken.count(),
        "partial": is_partial,
        "version": fleet.daemon_version,
        "sources": sources.collect::<Vec<Value>>(),
    })
}

fn limits<'a>(limits: impl Iterator<Item = &'a v1::OverviewLimit>) -> Table {
    let mut table = Table::default();
    for limit in limits {
        let nothing = v1::LimitRow::default();
        let row = limit.row.as_ref().unwrap_or(&nothing);
        table.push(
            &(
                &row.name,
                unit(row.unit()),
                promise(row.promise()),
                mode(row.mode()),
                rounded(row.rate),
                rounded(row.burst),
                key(row.per.as_ref()),
            ),
            &(
                rounded(row.offered),
                rounded(row.admitted),
                rounded(row.dropped),
                limit.promise_kept,
                limit.nodes_on_floor,
                limit.nodes_failing_open,
                limit.pending,
            ),
        );
    }
    table
}

fn nodes(reply: &v1::OverviewReply) -> Table {
    let mut table = Table::default();
    let members = reply.fleet.iter().flat_map(|fleet| &fleet.members);
    for member in members {
        let node = member.node.as_ref();
        let address = node.map_or("", |node| &node.address);
        table.push(
            &(name_of(node), address),
            &(
                member.live,
                member.is_leader,
                member.on_floor,
                member.policy_version,
                member.last_report_ms.map(tenths),
            ),
        );
    }
    table
}

/// What nodes hold of limits.
fn shares<'a>(nodes: impl Iterator<Item = &'a v1::NodeRow>) -> Table {
    let mut table = Table::default();
    for node in nodes {
        for share in &node.limits {
            table.push(
                &(
                    name_of(node.node.as_ref()),
                    &share.limit,
                    unit(share.unit()),
                    rounded(share.rate),
                    rounded(share.floor),
                    key(share.per.as_ref()),
                ),
                &(
                    rounded(share.share),
                    rounded(share.offered),
                    rounded(share.admitted),
                    rounded(share.dropped),
                    share.lease_left_ms.map(tenths),
                    share.on_floor,
                    node.live,
                    node.is_leader,
                ),
            );
        }
    }
    table
}

/// The first limit's numbers: offered, admitted, dropped.
pub(super) fn rates(topic: &Topic, reply: &v1::OverviewReply) -> Option<[f64; 3]> {
    let Topic::Limit(name) = topic else {
        return None;
    };
    let mut rows = reply.limits.iter().filter_map(|limit| limit.row.as_ref());
    let row = rows.find(|row| row.name == *name)?;
    Some([row.offered, row.admitted, row.dropped].map(rounded))
}

const fn unit(unit: v1::Unit) -> &'static str {
    match unit {
        v1::Unit::Packets => "packets",
        v1::Unit::Bits => "bits",
        v1::Unit::Connections => "connections",
        v1::Unit::Unspecified => "tokens",
    }
}

const fn promise(promise: v1::Promise) -> &'static str {
    match promise {
        v1::Promise::Strict => "strict",
        v1::Promise::Local => "local",
        v1::Promise::Elastic => "elastic",
        v1::Promise::Unspecified => "",
    }
}

const fn mode(mode: v1::Mode) -> &'static str {
    match mode {
        v1::Mode::Enforce => "enforce",
        v1::Mode::Shadow => "shadow",
        v1::Mode::Unspecified => "",
    }
}

fn key(key: Option<&v1::Key>) -> Option<String> {
    let key = key?;
    Some(match (key.source_v4, key.source_v6) {
        (32, 128) => "source".to_owned(),
        (v4, v6) => format!("source /{v4}, IPv6 /{v6}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(offered: f64, names: &[&str]) -> v1::OverviewReply {
        let limit = |name: &&str| v1::OverviewLimit {
            row: Some(v1::LimitRow {
                name: (*name).to_owned(),
                unit: v1::Unit::Packets.into(),
                rate: 1_000.0,
                offered: if *name == "a" { offered } else { 5.0 },
                ..v1::LimitRow::default()
            }),
            promise_kept: true,
            ..v1::OverviewLimit::default()
        };
        v1::OverviewReply {
            limits: names.iter().map(limit).collect(),
            ..v1::OverviewReply::default()
        }
    }

    fn picture(offered: f64, names: &[&str]) -> Picture {
        Picture::of(&Topic::Fleet, &reply(offered, names), 1.5)
    }

    fn json(text: &str) -> Value {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn only_what_has_changed_is_sent() {
        let before = picture(7.0, &["b", "a"]);
        let after = picture(8.0, &["b", "a"]);
        let change = json(&after.change(&before).expect("a change of numbers"));
        let limits = &change["tables"]["limits"];
        assert_eq!(limits.as_object().expect("rows").len(), 1);
        assert_eq!(limits["1"][0], 8.0);
        let same = picture(8.000_01, &["b", "a"]).change(&after);
        let same = json(&same.expect("no other limits"));
        assert_eq!(same["tables"]["limits"], json!({}), "four digits");
    }

    #[test]
    fn other_limits_are_sent_in_full() {
        let before = picture(7.0, &["b", "a"]);
        for names in [&["a", "b"][..], &["a"], &["b", "a", "c"]] {
            assert!(picture(7.0, names).change(&before).is_none(), "{names:?}");
        }
        let full = json(&picture(7.0, &["a", "b"]).full(&[]));
        assert_eq!(full["tables"]["limits"]["fixed"][0][0], "a");
    }

    #[test]
    fn names_cannot_leave_their_strings() {
        let hostile = "\"},\n\n</script><img src=x>\u{2028}";
        let full = picture(7.0, &[hostile]).full(&[]);
        assert!(!full.contains('\n'), "an event is one line");
        assert_eq!(json(&full)["tables"]["limits"]["fixed"][0][0], hostile);
    }

    #[test]
    fn what_is_no_number_is_none_in_the_page() {
        for (number, expected) in [
            (f64::NAN, 0.0),
            (f64::INFINITY, 0.0),
            (0.0, 0.0),
            (123_456.0, 123_500.0),
            (0.012_345, 0.012_35),
            (7.0, 7.0),
        ] {
            assert!((rounded(number) - expected).abs() < 1e-12, "{number}");
        }
    }
}
