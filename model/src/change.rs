//! What a new policy does to an old one, limit by limit.

use alloc::{format, string::String, string::ToString, vec::Vec};
use core::fmt::Display;

use crate::policy::{Cost, Limit, Mode, Policy, PortRange, Promise, Protocol};

/// What happens to one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It stays, with these settings changed.
    Changed(Vec<FieldChange>),
    /// It is gone.
    Removed,
}

/// One setting that differs, as a limits file writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// The key.
    pub field: &'static str,
    /// What was in force; empty if it was not set.
    pub before: String,
    /// What is to be in force; empty if it is no longer set.
    pub after: String,
}

/// What `after` does to `before`: the new document's order, removed limits last. Limits that stay
/// as they are do not appear.
#[must_use]
pub fn changes(before: &Policy, after: &Policy) -> Vec<(String, Change)> {
    let kept = after.limits.iter().filter_map(|limit| {
        let change = match before.limit(limit.id) {
            None => Change::Added,
            Some(old) => {
                let fields = field_changes(old, limit);
                if fields.is_empty() {
                    return None;
                }
                Change::Changed(fields)
            }
        };
        Some((limit.name.clone(), change))
    });
    let removed = before
        .limits
        .iter()
        .filter(|limit| after.limit(limit.id).is_none())
        .map(|limit| (limit.name.clone(), Change::Removed));
    kept.chain(removed).collect()
}

fn field_changes(before: &Limit, after: &Limit) -> Vec<FieldChange> {
    settings(before)
        .into_iter()
        .zip(settings(after))
        .filter(|((_, before), (_, after))| before != after)
        .map(|((field, before), (_, after))| FieldChange {
            field,
            before,
            after,
        })
        .collect()
}

/// A limit's settings under their keys, always the same keys in the same order.
fn settings(limit: &Limit) -> [(&'static str, String); 9] {
    let unit = match limit.cost {
        Cost::Packets => "packets",
        Cost::Bits => "bit",
        Cost::Connections => "connections",
    };
    let rate = |rate| number(limit.scale.tokens_per_second(rate));
    let tokens = |units| number(limit.scale.tokens(units));
    [
        ("to", list(&limit.matches.to)),
        ("proto", protocol(limit.matches.protocol).to_string()),
        ("ports", ports(&limit.matches.ports)),
        ("from", list(&limit.matches.from)),
        ("rate", format!("{} {unit}/s", rate(limit.budget.rate))),
        ("burst", format!("{} {unit}", tokens(limit.budget.burst))),
        ("promise", promise(limit.promise).to_string()),
        ("floor", format!("{} {unit}/s", rate(limit.floor.rate))),
        ("mode", mode(limit.mode).to_string()),
    ]
}

/// Three decimals are enough for people, and whole numbers have none.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn list<T: Display>(items: &[T]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn ports(ranges: &[PortRange]) -> String {
    let text = |range: &PortRange| {
        if range.first == range.last {
            range.first.to_string()
        } else {
            format!("{}-{}", range.first, range.last)
        }
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(", ")
}

const fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Any => "any",
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Icmp => "icmp",
    }
}

const fn promise(promise: Promise) -> &'static str {
    match promise {
        Promise::Strict => "strict",
        Promise::Elastic => "elastic",
        Promise::Local => "local",
    }
}

const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Shadow => "shadow",
    }
}
