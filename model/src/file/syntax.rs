//! One `[[limit]]`: what it says, key by key.

use std::{borrow::ToOwned, format, string::String, vec::Vec};

use super::{
    MAX_PORT_RANGES, MAX_PREFIXES_PER_LIMIT,
    document::{Table, Value},
    problem::Complaint,
    quantity::{self, Fraction, Rate, plural},
};
use crate::{
    policy::{Match, Mode, PortRange, Promise, Protocol},
    prefix::Prefix,
};

/// Most entries of `ports`, before they are merged.
const MAX_PORTS: usize = 1_024;
/// Longest name.
const NAME_BYTES: usize = 63;

/// A key's meaning and its place.
pub(super) struct Placed<'d, T> {
    pub(super) meaning: T,
    pub(super) value: Value<'d>,
}

/// What a `[[limit]]` says.
pub(super) struct LimitText<'d> {
    pub(super) name: Placed<'d, String>,
    pub(super) matches: Match,
    /// The places of `matches.to`, one each.
    pub(super) to: Vec<Value<'d>>,
    pub(super) rate: Placed<'d, Rate>,
    pub(super) burst_tokens: Option<Placed<'d, u64>>,
    pub(super) floor: Option<Placed<'d, Fraction>>,
    pub(super) promise: Promise,
    pub(super) mode: Mode,
}

/// Reads a `[[limit]]`; `None` if what it says is not enough to go on.
pub(super) fn read(mut table: Table<'_>) -> Option<LimitText<'_>> {
    let name = table
        .required("name", "\"my-limit\"")
        .and_then(|value| placed(value, name));
    let (to_places, to) = prefixes(table.optional("to"));
    let (_, from) = prefixes(table.optional("from"));
    let protocol = table
        .optional("proto")
        .map_or(Some(Protocol::Any), |value| {
            value.one_of(&[
                ("udp", Protocol::Udp),
                ("tcp", Protocol::Tcp),
                ("icmp", Protocol::Icmp),
                ("any", Protocol::Any),
            ])
        });
    let ports = table
        .optional("ports")
        .map_or_else(Vec::new, |value| ports(&value, protocol));
    let rate = table
        .required("rate", "\"100k packets/s\"")
        .and_then(|value| placed(value, quantity::rate));
    let burst = unless_wrong(table.optional("burst"), quantity::size);
    let promise = promise(&mut table);
    let floor = unless_wrong(table.optional("floor"), quantity::percentage);
    check_expiry(&mut table);
    let mode = table.optional("mode").map_or(Some(Mode::Enforce), |value| {
        value.one_of(&[("enforce", Mode::Enforce), ("shadow", Mode::Shadow)])
    });
    table.not_supported_yet(&[
        "per",
        "excess",
        "tcp_flags",
        "fragments",
        "unparsed",
        "overhead",
    ]);
    table.finish();

    let rate = rate?;
    let burst_tokens = match burst? {
        Some(burst) => Some(burst_tokens(burst, &rate)?),
        None => None,
    };
    Some(LimitText {
        name: name?,
        matches: Match {
            to,
            protocol: protocol.unwrap_or_default(),
            ports,
            from,
            ..Match::default()
        },
        to: to_places,
        burst_tokens,
        rate,
        floor: floor?,
        promise: promise?,
        mode: mode?,
    })
}

fn placed<'d, T>(
    value: Value<'d>,
    read: impl FnOnce(&'d str) -> Result<T, Complaint>,
) -> Option<Placed<'d, T>> {
    let meaning = value.parsed(read)?;
    Some(Placed { meaning, value })
}

/// An absent key is `Some(None)`; one that is there and wrong is `None`, as a default in its place
/// would bring on complaints about what nobody wrote.
fn unless_wrong<'d, T>(
    value: Option<Value<'d>>,
    read: impl FnOnce(&'d str) -> Result<T, Complaint>,
) -> Option<Option<Placed<'d, T>>> {
    match value {
        Some(value) => placed(value, read).map(Some),
        None => Some(None),
    }
}

fn name(text: &str) -> Result<String, Complaint> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=NAME_BYTES).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    let complaint = Complaint::new(format!(
        "\"{}\" is not a name: 1 to {NAME_BYTES} of a-z, 0-9 and -",
        text.escape_debug()
    ));
    let meant: String = text
        .to_lowercase()
        .chars()
        .map(|letter| {
            if matches!(letter, '_' | ' ' | '.') {
                '-'
            } else {
                letter
            }
        })
        .collect();
    let usable = (1..=NAME_BYTES).contains(&meant.len()) && meant.bytes().all(allowed);
    Err(if usable {
        complaint.suggest(format!("write \"{meant}\""))
    } else {
        complaint
    })
}

/// The prefixes of `to` or `from`, with their places. One inside another would match nothing
/// more: it is left out, with a warning.
fn prefixes(value: Option<Value<'_>>) -> (Vec<Value<'_>>, Vec<Prefix>) {
    let read = value
        .and_then(|value| value.prefixes(MAX_PREFIXES_PER_LIMIT))
        .unwrap_or_default();
    let all: Vec<Prefix> = read.iter().map(|(_, prefix)| *prefix).collect();
    let covered_by = |index: usize| {
        all.iter().enumerate().find_map(|(other, wider)| {
            let wider_or_first = *wider != all[index] || other < index;
            (other != index && wider_or_first && wider.contains(all[index])).then_some(*wider)
        })
    };
    read.into_iter()
        .enumerate()
        .filter_map(|(index, (value, prefix))| match covered_by(index) {
            None => Some((value, prefix)),
            Some(wider) => {
                value.warning(
                    Complaint::new(format!("{prefix} is already covered by {wider}"))
                        .suggest("remove it"),
                );
                None
            }
        })
        .unzip()
}

/// The port ranges, sorted, overlapping and adjacent ones merged.
fn ports(value: &Value<'_>, protocol: Option<Protocol>) -> Vec<PortRange> {
    if let Some(protocol @ (Protocol::Any | Protocol::Icmp)) = protocol {
        let (name, why) = match protocol {
            Protocol::Icmp => ("icmp", "has no ports"),
            _ => ("any", "includes protocols without ports"),
        };
        value.key_error(
            Complaint::new(format!("`ports` with proto \"{name}\", which {why}"))
                .suggest("write `proto = \"udp\"` or `proto = \"tcp\"`"),
        );
    }
    let merged = value.port_ranges(MAX_PORTS).unwrap_or_default();
    if merged.len() > MAX_PORT_RANGES {
        value.error(
            Complaint::new(format!(
                "`ports` has {} separate ranges, expected at most {MAX_PORT_RANGES}",
                merged.len()
            ))
            .suggest("use wider ranges, or several limits"),
        );
    }
    merged
}

/// `promise`, unless it is one that is not built yet.
fn promise(table: &mut Table<'_>) -> Option<Promise> {
    let Some(value) = table.optional("promise") else {
        return Some(Promise::Strict);
    };
    let promise = value.one_of(&[
        ("strict", Some(Promise::Strict)),
        ("local", Some(Promise::Local)),
        ("elastic", None),
    ])?;
    if promise.is_none() {
        value.error(
            Complaint::new("the promise \"elastic\" is not supported yet")
                .suggest("write \"strict\" or \"local\""),
        );
    }
    promise
}

/// `on_expiry` has one meaning that is built.
fn check_expiry(table: &mut Table<'_>) {
    let Some(value) = table.optional("on_expiry") else {
        return;
    };
    let words = [("floor", "floor"), ("closed", "closed"), ("open", "open")];
    if let Some(other @ ("closed" | "open")) = value.one_of(&words) {
        value.error(
            Complaint::new(format!("on_expiry \"{other}\" is not supported yet"))
                .suggest("write \"floor\""),
        );
    }
}

/// The tokens of a burst, which has to count what the rate counts.
fn burst_tokens<'d>(
    burst: Placed<'d, quantity::Size>,
    rate: &Placed<'_, Rate>,
) -> Option<Placed<'d, u64>> {
    let Placed { meaning, value } = burst;
    let cost = rate.meaning.cost;
    if meaning.cost != cost {
        let [counted, rated] = [meaning.cost, cost].map(plural);
        value.error(
            Complaint::new(format!("the burst counts {counted}, the rate {rated}"))
                .suggest(format!("give the burst in {rated}")),
        );
        return None;
    }
    Some(Placed {
        meaning: meaning.tokens,
        value,
    })
}
