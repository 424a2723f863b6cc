//! Limits that get in each other's way, or in the way of those who manage the hosts.
//!
//! A packet has to pass every limit that applies to it. So a limit changes nothing if another
//! applies to all of its packets and allows no more.

use std::{
    collections::{BTreeMap, BTreeSet},
    format,
    net::IpAddr,
    string::String,
    vec::Vec,
};

use super::{document::Value, problem::Complaint, problem::Severity, syntax::LimitText};
use crate::{
    policy::{
        Fragments, Key, Limit, MAX_RULES_PER_SERVICE, Match, Mode, PortRange, Promise, Protocol,
    },
    prefix::Prefix,
};

/// Ports that fleets are managed over, and what they are: of hosts, of ZooKeeper (its defaults), and
/// of Weir itself.
const MANAGEMENT: [(u16, Transport, &str); 7] = [
    (22, Transport::Tcp, "SSH"),
    (179, Transport::Tcp, "BGP"),
    (2181, Transport::Tcp, "ZooKeeper"),
    (2888, Transport::Tcp, "ZooKeeper"),
    (3784, Transport::Udp, "BFD"),
    (3888, Transport::Tcp, "ZooKeeper"),
    (7946, Transport::Tcp, "Weir's gRPC"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    fn is_of(self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Any => true,
            Protocol::Tcp => self == Self::Tcp,
            Protocol::Udp => self == Self::Udp,
            Protocol::Icmp => false,
        }
    }
}

/// Where a limit is written.
pub(super) struct Place<'d> {
    name: Value<'d>,
    ports: Option<Value<'d>>,
}

impl<'d> Place<'d> {
    pub(super) fn of(text: &LimitText<'d>) -> Self {
        Self {
            name: text.name.value.clone(),
            ports: text.matching.ports.clone(),
        }
    }
}

/// Notes what is doubtful about limits together, unless there are errors: what limits will be when
/// these are corrected is not known. `places` are those of `limits`, one each.
pub(super) fn check(limits: &[Limit], places: &[Place<'_>]) {
    if places
        .first()
        .is_none_or(|place| place.name.is_among_errors())
    {
        return;
    }
    let destinations = Destinations::of(limits);
    for (index, limit) in limits.iter().enumerate() {
        let shadows = destinations.candidates(limit);
        let shadow = shadows.into_iter().filter(|other| *other != index);
        let shadow = shadow.filter(|other| {
            let other_limit = &limits[*other];
            let is_mutual = makes_idle(limit, other_limit);
            // Of two that say the same, the later one is superfluous.
            makes_idle(other_limit, limit) && (!is_mutual || *other < index)
        });
        if let Some(other) = shadow.min() {
            places[index]
                .name
                .warning(idle(&limits[other], places[other].name.line()));
        }
        check_management(limit, &places[index]);
    }
    note_management(limits, places);
}

fn idle(other: &Limit, line: u32) -> Complaint {
    Complaint::new(format!(
        "this limit changes nothing: all of its packets also have to pass \"{}\" on line {line}, \
         which allows no more",
        other.name
    ))
    .suggest("lower its rate or burst, narrow the other one, or remove it")
}

/// Limits by the prefixes of their `to`.
struct Destinations {
    everywhere: Vec<usize>,
    by_prefix: BTreeMap<Prefix, Vec<usize>>,
    /// Those that occur: few, where there are many prefixes.
    lengths: BTreeSet<u8>,
}

impl Destinations {
    fn of(limits: &[Limit]) -> Self {
        let mut by_prefix: BTreeMap<Prefix, Vec<usize>> = BTreeMap::new();
        let mut lengths = BTreeSet::new();
        let mut everywhere = Vec::new();
        for (index, limit) in limits.iter().enumerate() {
            if limit.matches.to.is_empty() {
                everywhere.push(index);
            }
            for prefix in &limit.matches.to {
                by_prefix.entry(*prefix).or_default().push(index);
                lengths.insert(prefix.length());
            }
        }
        Self {
            everywhere,
            by_prefix,
            lengths,
        }
    }

    /// Limits whose `to` may cover all of a limit's: those that cover its first prefix. There are at
    /// most [`MAX_RULES_PER_SERVICE`] of them, or the file has an error.
    fn candidates(&self, limit: &Limit) -> Vec<usize> {
        let mut found = self.everywhere.clone();
        if let Some(first) = limit.matches.to.first() {
            let address: IpAddr = first.address();
            for &length in self.lengths.range(..=first.length()) {
                let wider = Prefix::containing(address, length);
                let wider = wider.and_then(|wider| self.by_prefix.get(&wider));
                found.extend(wider.into_iter().flatten());
            }
        }
        found.truncate(2 * MAX_RULES_PER_SERVICE);
        found
    }
}

/// Whether `narrow` never refuses what `limit`, which sees the same packets, would admit: then
/// `limit` could as well not be there.
fn makes_idle(narrow: &Limit, limit: &Limit) -> bool {
    let is_same_cost = narrow.cost == limit.cost
        && narrow.overhead_bytes == limit.overhead_bytes
        && narrow.quic == limit.quic;
    narrow.mode == Mode::Enforce
        && is_same_cost
        && keys_cover(narrow.per, limit.per)
        && promises_less(narrow, limit)
        && allows_no_more(narrow, limit)
        && covers(&narrow.matches, &limit.matches)
}

/// Whether all packets of one bucket of a limit are in one bucket of the other.
fn keys_cover(wide: Option<Key>, narrow: Option<Key>) -> bool {
    match (wide, narrow) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => {
            wide.source_v4 <= narrow.source_v4 && wide.source_v6 <= narrow.source_v6
        }
    }
}

/// Whether the promise of one is at least as narrow as that of the other.
fn promises_less(one: &Limit, other: &Limit) -> bool {
    match (one.promise, other.promise) {
        (Promise::Strict, _) | (Promise::Local, Promise::Local) => true,
        (Promise::Elastic, Promise::Elastic) => one.excess <= other.excess,
        _ => false,
    }
}

/// With all that one ever lends, and without what the other does.
fn allows_no_more(one: &Limit, other: &Limit) -> bool {
    let rate = |limit: &Limit| limit.scale.tokens_per_second(limit.budget.rate);
    let burst = |limit: &Limit| limit.scale.tokens(limit.budget.burst);
    let lent = other.scale.tokens(other.lent_burst());
    rate(one) <= rate(other) && burst(one) <= burst(other) - lent
}

/// Whether every packet that `narrow` matches, `wide` matches too. It may say no where prefixes or
/// ports only together cover others.
fn covers(wide: &Match, narrow: &Match) -> bool {
    let Match {
        to,
        protocol,
        ports,
        from,
        tcp_flags,
        fragments,
    } = wide;
    let flags = narrow.tcp_flags;
    prefixes_cover(to, &narrow.to)
        && prefixes_cover(from, &narrow.from)
        && (*protocol == Protocol::Any || *protocol == narrow.protocol)
        && ports_cover(ports, &narrow.ports)
        && tcp_flags.mask & flags.mask == tcp_flags.mask
        && tcp_flags.mask & flags.value == tcp_flags.value
        && (*fragments == Fragments::Any || *fragments == narrow.fragments)
}

fn prefixes_cover(wide: &[Prefix], narrow: &[Prefix]) -> bool {
    let is_covered = |prefix: &Prefix| wide.iter().any(|wider| wider.contains(*prefix));
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(is_covered))
}

fn ports_cover(wide: &[PortRange], narrow: &[PortRange]) -> bool {
    let is_covered = |range: &PortRange| {
        let covers = |wider: &PortRange| wider.first <= range.first && range.last <= wider.last;
        wide.iter().any(covers)
    };
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(is_covered))
}

/// Whoever names a port that hosts are managed over should know what becomes of it.
fn check_management(limit: &Limit, place: &Place<'_>) {
    let (Some(ports), Some(hit)) = (&place.ports, management_of(limit)) else {
        return;
    };
    ports.remark(
        Severity::Warning,
        Complaint::new(format!(
            "{hit} is what the fleet is managed over: this limit drops it from wherever `management` of the \
             node file does not name"
        ))
        .suggest(
            "leave the port out; or name the managers' prefixes in `management`, and apply with \
             --confirm-within",
        ),
    );
}

/// Says once in a document what limits do to management without naming it.
fn note_management(limits: &[Limit], places: &[Place<'_>]) {
    let broad = limits.iter().zip(places);
    let mut broad = broad.filter_map(|(limit, place)| {
        let hit = management_of(limit).filter(|_| is_about_everything(limit))?;
        Some((hit, place))
    });
    let Some((hit, place)) = broad.next() else {
        return;
    };
    let others = match broad.count() {
        0 => String::new(),
        1 => String::from(", and so is another"),
        more => format!(", and so are {more} others"),
    };
    place.name.remark(
        Severity::Note,
        Complaint::new(format!(
            "this limit is about whatever reaches a host{others}: {hit}, which the fleet is managed over, too, \
             from wherever `management` of the node file does not name"
        ))
        .suggest("apply with --confirm-within"),
    );
}

/// Whether a limit is about whatever reaches a host, and so about what it is managed over. Most documents
/// have such a limit, and mean it.
fn is_about_everything(limit: &Limit) -> bool {
    let Match {
        to, ports, from, ..
    } = &limit.matches;
    to.is_empty() && ports.is_empty() && from.is_empty()
}

/// What of the fleet's management a limit drops with the rest.
fn management_of(limit: &Limit) -> Option<String> {
    let ports = &limit.matches.ports;
    let includes = |port: u16| {
        let within = |range: &PortRange| (range.first..=range.last).contains(&port);
        ports.is_empty() || ports.iter().any(within)
    };
    let mut hit = MANAGEMENT.iter().filter(|(port, transport, _)| {
        limit.mode == Mode::Enforce && transport.is_of(limit.matches.protocol) && includes(*port)
    });
    let (port, _, what) = hit.next()?;
    let others = match hit.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("port {port} ({what}){others}"))
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;
    use crate::file::check;

    const WIDE: &str = "name = \"wide\"\nrate = \"1k packets/s\"\n";

    /// What is said of limits together.
    fn said(limits: &[&str]) -> Vec<String> {
        let (_, others) = parted(limits);
        others
    }

    /// What is said of management, and what else.
    fn parted(limits: &[&str]) -> (Vec<String>, Vec<String>) {
        let tables = limits.iter().map(|limit| format!("[[limit]]\n{limit}"));
        let outcome = check(&format!("version = 1\n{}", tables.collect::<String>()));
        assert!(outcome.value.is_some(), "{:?}", outcome.problems);
        let said = outcome.problems.iter().map(ToString::to_string);
        said.partition(|said| said.contains("managed over"))
    }

    #[test]
    fn a_limit_behind_a_narrower_one_changes_nothing() {
        let narrow = "name = \"narrow\"\nto = [\"192.0.2.53\"]\nproto = \"udp\"\nports = [53]\n";
        let found = said(&[WIDE, &format!("{narrow}rate = \"2k packets/s\"\n")]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("6:8: warning: this limit changes nothing"),
            "{found:?}"
        );
        assert!(found[0].contains("\"wide\" on line 3"), "{found:?}");
        let keyed = format!("{narrow}per = {{}}\npromise = \"strict\"\n");
        let found = said(&[
            WIDE,
            &format!("{keyed}rate = \"2k packets/s\"\nburst = \"6400 packets\"\n"),
        ]);
        assert!(
            found.iter().any(|said| said.contains("changes nothing")),
            "{found:?}"
        );
    }

    #[test]
    fn of_two_that_say_the_same_the_later_is_superfluous() {
        let found = said(&[WIDE, &WIDE.replace("wide", "same")]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("6:8:"), "{found:?}");
    }

    #[test]
    fn limits_that_may_decide_are_not_complained_about() {
        let others: [(&str, &str); 8] = [
            (
                WIDE,
                "name = \"a\"\nrate = \"900 packets/s\"\nproto = \"udp\"\n",
            ),
            (
                WIDE,
                "name = \"a\"\nrate = \"2k packets/s\"\nburst = \"10 packets\"\nto = [\"192.0.2.1\"]\n",
            ),
            (WIDE, "name = \"a\"\nrate = \"1 Mbit/s\"\n"),
            (
                "name = \"wide\"\nrate = \"1k packets/s\"\nmode = \"shadow\"\n",
                "name = \"a\"\nrate = \"2k packets/s\"\n",
            ),
            (
                "name = \"wide\"\nrate = \"1k packets/s\"\npromise = \"local\"\n",
                "name = \"a\"\nrate = \"2k packets/s\"\n",
            ),
            (
                "name = \"wide\"\nrate = \"1k packets/s\"\nto = [\"192.0.2.0/24\"]\n",
                "name = \"a\"\nrate = \"2k packets/s\"\nto = [\"192.0.2.1\", \"198.51.100.1\"]\n",
            ),
            (
                "name = \"wide\"\nrate = \"1k packets/s\"\nproto = \"udp\"\nports = [\"1-99\"]\n",
                "name = \"a\"\nrate = \"2k packets/s\"\nproto = \"udp\"\nports = [\"50-100\"]\n",
            ),
            (
                "name = \"wide\"\nrate = \"1k packets/s\"\nproto = \"tcp\"\ntcp_flags = [\"syn\"]\n",
                "name = \"a\"\nrate = \"2k packets/s\"\nproto = \"tcp\"\n",
            ),
        ];
        for (wide, other) in others {
            let found = said(&[wide, other]);
            assert!(
                !found.iter().any(|said| said.contains("changes nothing")),
                "{wide}{other}{found:?}"
            );
        }
    }

    #[test]
    fn a_port_that_hosts_are_managed_over_is_worth_a_warning() {
        let limit = |rest: &str| format!("name = \"a\"\nrate = \"1k packets/s\"\n{rest}");
        for (rest, expected) in [
            (
                "proto = \"tcp\"\nports = [22]\n",
                Some("6:9: warning: port 22 (SSH) is"),
            ),
            (
                "proto = \"tcp\"\nports = [\"2000-3000\"]\n",
                Some("port 2181 (ZooKeeper) and 1 more"),
            ),
            (
                "proto = \"tcp\"\nports = [7946]\n",
                Some("port 7946 (Weir's gRPC)"),
            ),
            ("proto = \"udp\"\nports = [22]\n", None),
            ("proto = \"tcp\"\nports = [22]\nmode = \"shadow\"\n", None),
            ("proto = \"tcp\"\nports = [80]\n", None),
            (
                "proto = \"udp\"\nports = [3784]\n",
                Some("6:9: warning: port 3784 (BFD) is"),
            ),
            ("", Some("host: port 22 (SSH) and 6 more, which")),
            ("proto = \"tcp\"\n", Some("port 22 (SSH) and 5 more")),
            ("proto = \"icmp\"\n", None),
            ("mode = \"shadow\"\n", None),
            ("to = [\"192.0.2.1\"]\n", None),
            ("from = [\"192.0.2.1\"]\n", None),
        ] {
            let (hits, _) = parted(&[&limit(rest)]);
            match (expected, hits.as_slice()) {
                (None, []) => {}
                (Some(expected), [hit]) if hit.contains(expected) => {}
                _ => panic!("{rest}: {hits:?}"),
            }
        }
    }

    #[test]
    fn limits_on_whatever_reaches_a_host_are_noted_once() {
        let other = WIDE.replace("wide", "other");
        let (hits, _) = parted(&[WIDE, &other]);
        assert_eq!(hits.len(), 1, "{hits:?}");
        assert!(hits[0].starts_with("3:8: note: "), "{hits:?}");
        assert!(
            hits[0].contains("a host, and so is another: port 22"),
            "{hits:?}"
        );
    }
}
