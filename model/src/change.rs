//! What a new policy does to an old one, limit by limit.

use alloc::{format, string::String, string::ToString, vec::Vec};
use core::fmt::Display;

use crate::policy::{
    Cost, FleetSettings, Fragments, Limit, Mode, OnExpiry, Policy, PortRange, Promise, Protocol,
    TcpFlags, Unparsed,
};

/// Under this name the settings of the fleet appear among the limits. No limit can have it.
pub const FLEET: &str = "[fleet]";

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

/// What `after` does to `before`: the settings of the fleet as [`FLEET`], then the new document's
/// order, removed limits last. What stays as it is does not appear.
#[must_use]
pub fn changes(before: &Policy, after: &Policy) -> Vec<(String, Change)> {
    let fleet = differences(fleet_settings(&before.fleet), fleet_settings(&after.fleet));
    let fleet = (!fleet.is_empty()).then(|| (FLEET.to_string(), Change::Changed(fleet)));
    let kept = after.limits.iter().filter_map(|limit| {
        let change = match before.limit(limit.id) {
            None => Change::Added,
            Some(old) => {
                let fields = differences(settings(old), settings(limit));
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
    fleet.into_iter().chain(kept).chain(removed).collect()
}

/// Of two lists of the same keys in the same order.
fn differences<const N: usize>(
    before: [(&'static str, String); N],
    after: [(&'static str, String); N],
) -> Vec<FieldChange> {
    before
        .into_iter()
        .zip(after)
        .filter(|((_, before), (_, after))| before != after)
        .map(|((field, before), (_, after))| FieldChange {
            field,
            before,
            after,
        })
        .collect()
}

fn fleet_settings(fleet: &FleetSettings) -> [(&'static str, String); 2] {
    let unparsed = match fleet.unparsed {
        Unparsed::Drop => "drop",
        Unparsed::Pass => "pass",
    };
    [
        ("max_members", fleet.max_members.to_string()),
        ("unparsed", unparsed.to_string()),
    ]
}

/// A limit's settings under their keys, always the same keys in the same order. What a limit does
/// not have is empty.
fn settings(limit: &Limit) -> [(&'static str, String); 16] {
    let unit = match limit.cost {
        Cost::Packets => "packets",
        Cost::Bits => "bit",
        Cost::Connections => "connections",
    };
    let rate = |rate| decimal(limit.scale.tokens_per_second(rate));
    let tokens = |units| decimal(limit.scale.tokens(units));
    let if_leased = |text: String| {
        if limit.is_leased() {
            text
        } else {
            String::new()
        }
    };
    let per = limit.per.map_or_else(String::new, |key| {
        format!("source_v4 {}, source_v6 {}", key.source_v4, key.source_v6)
    });
    let excess = limit.excess.map_or_else(String::new, |excess| {
        format!("{}%", decimal(f64::from(excess.0) / 10_000.0))
    });
    let floor = format!("{} {unit}/s", rate(limit.floor.rate));
    [
        ("to", list(&limit.matches.to)),
        ("from", list(&limit.matches.from)),
        ("proto", protocol(limit.matches.protocol).to_string()),
        ("ports", ports(&limit.matches.ports)),
        ("tcp_flags", tcp_flags(limit.matches.tcp_flags)),
        ("fragments", fragments(limit.matches.fragments).to_string()),
        ("per", per),
        ("rate", format!("{} {unit}/s", rate(limit.budget.rate))),
        ("burst", format!("{} {unit}", tokens(limit.budget.burst))),
        ("overhead", limit.overhead_bytes.to_string()),
        ("quic", limit.quic.to_string()),
        ("promise", promise(limit.promise).to_string()),
        ("excess", excess),
        ("floor", if_leased(floor)),
        (
            "on_expiry",
            if_leased(on_expiry(limit.on_expiry).to_string()),
        ),
        ("mode", mode(limit.mode).to_string()),
    ]
}

/// Three decimals are enough for people, and whole numbers have none.
pub(crate) fn decimal(value: f64) -> String {
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

/// `syn, !ack`.
fn tcp_flags(flags: TcpFlags) -> String {
    let looked_at = TcpFlags::NAMES
        .iter()
        .filter(|(_, bit)| flags.mask & bit != 0);
    let text = |(name, bit): &(&str, u8)| {
        let not = if flags.value & bit == 0 { "!" } else { "" };
        format!("{not}{name}")
    };
    looked_at.map(text).collect::<Vec<_>>().join(", ")
}

const fn fragments(fragments: Fragments) -> &'static str {
    match fragments {
        Fragments::Any => "any",
        Fragments::Only => "only",
    }
}

const fn on_expiry(on_expiry: OnExpiry) -> &'static str {
    match on_expiry {
        OnExpiry::Floor => "floor",
        OnExpiry::Closed => "closed",
        OnExpiry::Open => "open",
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
