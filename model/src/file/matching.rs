//! Which packets one `[[limit]]` applies to, key by key.

use std::{format, vec::Vec};

use super::{
    MAX_PORT_RANGES, MAX_PREFIXES_PER_LIMIT,
    document::{Table, Value},
    problem::Complaint,
    quantity::{Rate, plural},
    syntax::Placed,
};
use crate::{
    policy::{Cost, Fragments, Match, PortRange, Protocol, TcpFlags},
    prefix::Prefix,
};

/// Most entries of `ports`, before they are merged.
const MAX_PORTS: usize = 1_024;

/// What the keys of a match say.
pub(super) struct MatchText<'d> {
    pub(super) matches: Match,
    /// The places of `matches.to`, one each.
    pub(super) to: Vec<Value<'d>>,
    /// `None` inside if it is wrong.
    protocol: Option<Option<Placed<'d, Protocol>>>,
    pub(super) ports: Option<Value<'d>>,
    tcp_flags: Option<Value<'d>>,
}

/// Reads the keys of a match. How they go together is for [`check`].
pub(super) fn read<'d>(table: &mut Table<'d>) -> MatchText<'d> {
    let (to_places, to) = prefixes(table.optional("to"));
    let (_, from) = prefixes(table.optional("from"));
    let protocol = table.optional("proto").map(|value| {
        let meaning = value.one_of(&[
            ("udp", Protocol::Udp),
            ("tcp", Protocol::Tcp),
            ("icmp", Protocol::Icmp),
            ("any", Protocol::Any),
        ])?;
        Some(Placed { meaning, value })
    });
    let ports = table.optional("ports");
    let tcp_flags = table.optional("tcp_flags");
    let fragments = table
        .optional("fragments")
        .and_then(|value| value.one_of(&[("any", Fragments::Any), ("only", Fragments::Only)]));
    MatchText {
        matches: Match {
            to,
            protocol: match &protocol {
                Some(Some(protocol)) => protocol.meaning,
                _ => Protocol::Any,
            },
            ports: ports.as_ref().map(port_ranges).unwrap_or_default(),
            from,
            tcp_flags: tcp_flags.as_ref().and_then(flags).unwrap_or_default(),
            fragments: fragments.unwrap_or_default(),
        },
        to: to_places,
        protocol,
        ports,
        tcp_flags,
    }
}

/// Notes what does not go together: protocol, ports, flags, and what the rate counts. `rate` is
/// `None` if it is wrong.
pub(super) fn check(
    text: &MatchText<'_>,
    rate: Option<&Placed<'_, Rate>>,
    quic: Option<&Placed<'_, bool>>,
) {
    // What is wrong has its error; more would be about what nobody wrote.
    if matches!(text.protocol, Some(None)) {
        return;
    }
    let protocol = text.matches.protocol;
    let counts_quic = quic.is_some_and(|quic| quic.meaning);
    if let Some(ports) = &text.ports {
        check_ports(ports, protocol, counts_quic);
    }
    if let Some(flags) = &text.tcp_flags
        && protocol != Protocol::Tcp
    {
        let (name, why) = described(protocol);
        flags.key_error(
            Complaint::new(format!(
                "`tcp_flags` with proto \"{name}\", which {why} flags"
            ))
            .suggest("write `proto = \"tcp\"`"),
        );
    }
    let Some(rate) = rate else { return };
    if rate.meaning.cost == Cost::Connections {
        check_connections(text, rate, quic);
    } else if let Some(quic) = quic.filter(|quic| quic.meaning) {
        let counted = plural(rate.meaning.cost);
        quic.value.key_error(
            Complaint::new(format!("`quic` with a rate of {counted}"))
                .suggest("remove it, or give the rate in connections"),
        );
    }
}

/// What a protocol is called, and what it has to do with ports and flags.
const fn described(protocol: Protocol) -> (&'static str, &'static str) {
    match protocol {
        Protocol::Any => ("any", "includes protocols without"),
        Protocol::Icmp => ("icmp", "has no"),
        Protocol::Tcp => ("tcp", "has no"),
        Protocol::Udp => ("udp", "has no"),
    }
}

/// A limit that counts connections of TCP and QUIC alike applies to packets with ports alone.
fn check_ports(ports: &Value<'_>, protocol: Protocol, counts_quic: bool) {
    let has_ports = match protocol {
        Protocol::Tcp | Protocol::Udp => true,
        Protocol::Any => counts_quic,
        Protocol::Icmp => false,
    };
    if !has_ports {
        let (name, why) = described(protocol);
        ports.key_error(
            Complaint::new(format!("`ports` with proto \"{name}\", which {why} ports"))
                .suggest("write `proto = \"udp\"` or `proto = \"tcp\"`"),
        );
    }
}

/// Only TCP and QUIC have connections that a packet can be seen to open.
fn check_connections(
    text: &MatchText<'_>,
    rate: &Placed<'_, Rate>,
    quic: Option<&Placed<'_, bool>>,
) {
    let protocol = text.matches.protocol;
    let place = match &text.protocol {
        Some(Some(protocol)) => &protocol.value,
        _ => &rate.value,
    };
    let (name, _) = described(protocol);
    match (protocol, quic.filter(|quic| quic.meaning)) {
        (Protocol::Tcp, None) | (Protocol::Any | Protocol::Udp, Some(_)) => {}
        (Protocol::Tcp, Some(quic)) => quic.value.key_error(
            Complaint::new("`quic` with proto \"tcp\", which leaves QUIC out")
                .suggest("write `proto = \"any\"`, or remove `quic`"),
        ),
        (Protocol::Any | Protocol::Udp, None) => place.error(
            Complaint::new(format!(
                "a rate of connections counts those of TCP, and proto is \"{name}\""
            ))
            .suggest("write `proto = \"tcp\"`, or `quic = true` to count those of QUIC too"),
        ),
        (Protocol::Icmp, _) => place.error(
            Complaint::new("a rate of connections with proto \"icmp\", which has none")
                .suggest("write `proto = \"tcp\"`, or give the rate in packets"),
        ),
    }
    // Whoever opens a connection sets SYN alone of these two.
    let opening = TcpFlags::SYN | TcpFlags::ACK;
    let TcpFlags { mask, value } = text.matches.tcp_flags;
    if let Some(flags) = &text.tcp_flags
        && (value ^ TcpFlags::SYN) & mask & opening != 0
    {
        flags.key_error(
            Complaint::new(
                "a rate of connections with `tcp_flags` that leave out what opens one, SYN \
                 without ACK",
            )
            .suggest("remove `tcp_flags`, or give the rate in packets"),
        );
    }
}

/// The prefixes of `to` or `from`, with their places. One inside another would match nothing
/// more: it is left out, with a warning.
fn prefixes(value: Option<Value<'_>>) -> (Vec<Value<'_>>, Vec<Prefix>) {
    let read = value
        .and_then(|value| value.prefixes(MAX_PREFIXES_PER_LIMIT))
        .unwrap_or_default();
    let covered_by = covers(&read);
    read.into_iter()
        .zip(covered_by)
        .filter_map(|((value, prefix), wider)| match wider {
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

/// For each prefix the widest that covers it, if there is one; of equal ones the first covers the
/// others.
fn covers(prefixes: &[(Value<'_>, Prefix)]) -> Vec<Option<Prefix>> {
    let mut sorted: Vec<(Prefix, usize)> = Vec::with_capacity(prefixes.len());
    sorted.extend(prefixes.iter().map(|(_, prefix)| *prefix).zip(0..));
    sorted.sort_unstable();
    let mut covers = Vec::new();
    covers.resize(prefixes.len(), None);
    // By address, then shortest first, what a prefix covers follows it.
    let mut widest: Option<Prefix> = None;
    for (prefix, index) in sorted {
        match widest.filter(|widest| widest.contains(prefix)) {
            Some(wider) => covers[index] = Some(wider),
            None => widest = Some(prefix),
        }
    }
    covers
}

/// The port ranges, sorted, overlapping and adjacent ones merged.
fn port_ranges(value: &Value<'_>) -> Vec<PortRange> {
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

/// `["syn", "!ack"]`: the first must be set, the second must be clear.
fn flags(value: &Value<'_>) -> Option<TcpFlags> {
    let elements = value.list(TcpFlags::NAMES.len())?;
    if elements.is_empty() {
        value.error(
            Complaint::new("an empty list would match every segment")
                .suggest("remove the key to match any flags"),
        );
    }
    let mut flags = TcpFlags::default();
    for element in elements {
        let Some((bit, must_be_set)) = element.parsed(flag) else {
            continue;
        };
        if flags.mask & bit != 0 {
            element.error(
                Complaint::new("the flag is already in the list")
                    .suggest("name each flag once, with or without !"),
            );
        }
        flags.mask |= bit;
        if must_be_set {
            flags.value |= bit;
        }
    }
    Some(flags)
}

/// The bit of `syn` or `!syn`, and whether it must be set.
fn flag(text: &str) -> Result<(u8, bool), Complaint> {
    let (name, must_be_set) = match text.strip_prefix('!') {
        Some(name) => (name, false),
        None => (text, true),
    };
    let found = TcpFlags::NAMES
        .iter()
        .find_map(|(known, bit)| (*known == name).then_some(*bit));
    found.map(|bit| (bit, must_be_set)).ok_or_else(|| {
        let names: Vec<&str> = TcpFlags::NAMES.iter().map(|(name, _)| *name).collect();
        Complaint::new(format!("\"{}\" is not a TCP flag", text.escape_debug())).suggest(format!(
            "write one of {}, or with ! before it for one that must be clear",
            names.join(", ")
        ))
    })
}
