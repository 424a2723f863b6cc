//! What the keys of keyed limits, connections, frames and expiry mean, and what is said about it.

use std::time::Duration;

use weir_model::{
    Amount, Cost, Limit, LimitId, Policy, Units, UnitsPerSecond,
    change::{Change, FieldChange, changes},
    file::{self, Outcome, Problem, Severity},
    policy::{Fragments, Key, OnExpiry, PartsPerMillion, Promise, Protocol, TcpFlags, Unparsed},
};

fn read(text: &str) -> Policy {
    file::parse(text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// A file of one limit with `rate` on line 4 and `lines` from line 5.
fn text(rate: &str, lines: &str) -> String {
    format!("version = 1\n[[limit]]\nname = \"a\"\nrate = \"{rate}\"\n{lines}\n")
}

fn limit(rate: &str, lines: &str) -> Limit {
    read(&text(rate, lines)).limits[0].clone()
}

/// The amount of a limit in whole tokens each second.
fn amount(limit: &Limit, rate: u64, burst: u64) -> Amount {
    Amount {
        rate: limit
            .scale
            .rate(rate, Duration::from_secs(1))
            .expect("a rate that fits"),
        burst: limit.scale.units(burst).expect("a burst that fits"),
    }
}

fn divided(amount: Amount, by: u64) -> Amount {
    Amount {
        rate: UnitsPerSecond(amount.rate.0 / by),
        burst: Units(amount.burst.0 / by),
    }
}

#[test]
fn the_documented_keyed_limit_is_read() {
    let policy = read(include_str!("fixtures/keyed.toml"));
    let limit = &policy.limits[0];
    let key = Key {
        source_v4: 32,
        source_v6: 64,
    };
    assert_eq!(limit.per, Some(key));
    assert_eq!(
        (limit.promise, limit.excess),
        (Promise::Elastic, Some(PartsPerMillion(100_000)))
    );
    assert!(!limit.is_leased() && !limit.is_divisible);
    assert_eq!(limit.budget, amount(limit, 500, 100));
    assert_eq!(limit.key_amount(), Some(limit.budget));
}

#[test]
fn keys_have_defaults() {
    let plain = limit("500 packets/s", "per = {}");
    assert_eq!(plain.per, Some(Key::default()));
    assert_eq!(
        (plain.promise, plain.excess),
        (Promise::Elastic, Some(PartsPerMillion(100_000)))
    );
    assert_eq!(plain.budget, amount(&plain, 500, 50), "a tenth of a second");
    let narrow = limit("500 packets/s", "per = { source_v4 = 24 }").per;
    assert_eq!(
        narrow.map(|key| (key.source_v4, key.source_v6)),
        Some((24, 64))
    );
    let narrow = limit("500 packets/s", "per = { source_v6 = 48 }").per;
    assert_eq!(
        narrow.map(|key| (key.source_v4, key.source_v6)),
        Some((32, 48))
    );
    assert_eq!(limit("500 packets/s", "").key_amount(), None);
}

/// What may be lent is in the burst, and so in the sum that hosts' bursts keep to.
#[test]
fn an_elastic_limit_has_its_excess_in_its_burst() {
    let strict = limit("10k packets/s", "burst = \"640 packets\"");
    assert_eq!(strict.lent_burst(), Units(0));
    for (excess, lent) in [
        ("", 1_000),
        ("excess = \"0.5%\"", 50),
        ("excess = \"100%\"", 10_000),
    ] {
        let lines = format!("burst = \"640 packets\"\npromise = \"elastic\"\n{excess}");
        let elastic = limit("10k packets/s", &lines);
        assert!(elastic.is_leased() && elastic.is_divisible);
        assert_eq!(elastic.scale.units(lent), Some(elastic.lent_burst()));
        assert_eq!(elastic.budget, amount(&elastic, 10_000, 640 + lent));
    }
    let keyed = limit("500 packets/s", "per = {}\npromise = \"elastic\"");
    assert_eq!(keyed.lent_burst(), Units(0));
}

/// Hosts share one half of a strict key's limit, unless there is one host.
#[test]
fn a_host_gives_a_key_what_its_promise_allows() {
    let of = |promise: &str, members: u32| {
        let lines = format!(
            "per = {{}}\npromise = \"{promise}\"\nburst = \"1k packets\"\n\
             [fleet]\nmax_members = {members}\n"
        );
        let limit = limit("500 packets/s", &lines);
        assert!(!limit.is_leased(), "{promise}");
        assert_eq!(limit.budget, amount(&limit, 500, 1_000));
        (limit.key_amount().unwrap(), limit.budget)
    };
    for (promise, members, parts) in [
        ("strict", 64, 128),
        ("strict", 2, 4),
        ("strict", 1, 1),
        ("elastic", 64, 1),
        ("local", 64, 1),
    ] {
        let (key, budget) = of(promise, members);
        assert_eq!(key, divided(budget, parts), "{promise} {members}");
    }
}

#[test]
fn connections_are_counted() {
    let tcp = limit(
        "100 connections/s",
        "proto = \"tcp\"\nburst = \"640 connections\"",
    );
    assert_eq!((tcp.cost, tcp.quic), (Cost::Connections, false));
    assert_eq!(tcp.budget, amount(&tcp, 100, 640));
    assert_eq!(tcp.scale.tokens(tcp.smallest_burst), 1.0);
    // Both have ports, so with `quic` "any" may have them.
    for proto in ["", "proto = \"any\"\n", "proto = \"udp\"\n"] {
        let lines = format!("{proto}quic = true\nports = [443]");
        let quic = limit("100 connections/s", &lines);
        assert_eq!((quic.cost, quic.quic), (Cost::Connections, true), "{proto}");
        assert_eq!(quic.matches.ports.len(), 1);
    }
    let careful = limit(
        "100 connections/s",
        "proto = \"tcp\"\ntcp_flags = [\"syn\", \"!ack\", \"!rst\"]",
    );
    assert!(careful.matches.tcp_flags.matches(TcpFlags::SYN));
}

#[test]
fn overhead_counts_into_the_smallest_burst() {
    for (lines, overhead, smallest) in [("", 0, 12_144.0), ("overhead = 24", 24, 12_336.0)] {
        let limit = limit("1 Gbit/s", lines);
        assert_eq!(limit.overhead_bytes, overhead);
        assert_eq!(limit.scale.tokens(limit.smallest_burst), smallest);
    }
}

#[test]
fn flags_become_mask_and_value() {
    let flags = |list: &str| {
        let lines = format!("proto = \"tcp\"\ntcp_flags = {list}");
        limit("10k packets/s", &lines).matches.tcp_flags
    };
    for (list, mask, value) in [
        ("[\"syn\", \"!ack\"]", 0x12, 0x02),
        ("[\"!fin\"]", 0x01, 0x00),
        ("[\"fin\", \"urg\", \"psh\"]", 0x29, 0x29),
        ("[\"rst\"]", 0x04, 0x04),
        ("[\"ece\", \"!cwr\"]", 0xc0, 0x40),
    ] {
        assert_eq!(flags(list), TcpFlags { mask, value }, "{list}");
    }
    let opening = flags("[\"syn\", \"!ack\"]");
    assert!(opening.matches(0x02) && opening.matches(0xc2));
    assert!(!opening.matches(0x12) && !opening.matches(0x10) && !opening.matches(0));
    let any = limit("10k packets/s", "proto = \"tcp\"").matches;
    assert_eq!(
        (any.protocol, any.tcp_flags),
        (Protocol::Tcp, TcpFlags::default())
    );
    assert!((0..=u8::MAX).all(|flags| any.tcp_flags.matches(flags)));
}

#[test]
fn fragments_and_unparsed_packets_have_settings() {
    let fragments = |lines: &str| limit("10k packets/s", lines).matches.fragments;
    assert_eq!(fragments(""), Fragments::Any);
    assert_eq!(fragments("fragments = \"any\""), Fragments::Any);
    assert_eq!(fragments("fragments = \"only\""), Fragments::Only);
    let unparsed = |line: &str| {
        read(&format!("version = 1\n[fleet]\n{line}\n"))
            .fleet
            .unparsed
    };
    assert_eq!(unparsed(""), Unparsed::Drop);
    assert_eq!(unparsed("unparsed = \"drop\""), Unparsed::Drop);
    assert_eq!(unparsed("unparsed = \"pass\""), Unparsed::Pass);
}

/// Without a lease a closed limit has nothing, and still moves between hosts in parts.
#[test]
fn expiry_decides_about_the_floor_and_not_about_sharing() {
    let of = |on_expiry: &str, burst: &str| {
        let lines = format!("on_expiry = \"{on_expiry}\"\nburst = \"{burst}\"");
        limit("10k packets/s", &lines)
    };
    let plain = limit("10k packets/s", "burst = \"1k packets\"");
    assert_eq!(plain.on_expiry, OnExpiry::Floor);
    for (word, meaning) in [("floor", OnExpiry::Floor), ("open", OnExpiry::Open)] {
        let limit = of(word, "1k packets");
        assert_eq!(limit.on_expiry, meaning);
        assert_eq!((limit.floor, limit.is_divisible), (plain.floor, true));
        assert_ne!(limit.floor, Amount::ZERO);
    }
    let closed = of("closed", "1k packets");
    assert_eq!(closed.on_expiry, OnExpiry::Closed);
    assert_eq!((closed.floor, closed.is_divisible), (Amount::ZERO, true));
    assert!(closed.is_leased());
    // One packet for each of 64 members, or none.
    assert!(of("closed", "64 packets").is_divisible);
    assert!(!of("closed", "63 packets").is_divisible);
    assert!(!of("floor", "63 packets").is_divisible);
}

/// A bucket is kept while its numbers mean the same, and no longer.
#[test]
fn revisions_follow_what_a_bucket_means() {
    let packets = |lines: &str| limit("10k packets/s", lines).revision;
    let keyed = packets("per = {}");
    assert_ne!(keyed, packets(""));
    assert_ne!(keyed, packets("per = { source_v4 = 24 }"));
    assert_ne!(keyed, packets("per = { source_v6 = 48 }"));
    assert_ne!(keyed, packets("per = {}\npromise = \"local\""));
    assert_eq!(keyed, packets("per = {}\nexcess = \"20%\""));
    assert_eq!(keyed, packets("per = {}\nmode = \"shadow\""));
    assert_eq!(packets(""), packets("on_expiry = \"closed\""));
    assert_eq!(packets(""), packets("on_expiry = \"open\""));
    assert_eq!(
        packets(""),
        packets("proto = \"tcp\"\ntcp_flags = [\"syn\"]")
    );
    assert_eq!(packets(""), packets("fragments = \"only\""));

    let bits = |lines: &str| limit("1 Gbit/s", lines).revision;
    assert_ne!(bits(""), bits("overhead = 24"));
    assert_ne!(bits("overhead = 20"), bits("overhead = 24"));
    assert_eq!(bits(""), bits("overhead = 0"));
    let connections = |lines: &str| limit("10k connections/s", lines).revision;
    assert_ne!(packets(""), connections("proto = \"tcp\""));
    assert_ne!(connections("proto = \"tcp\""), connections("quic = true"));
    assert_eq!(
        connections("proto = \"udp\"\nquic = true"),
        connections("quic = true")
    );
}

/// Doubtful or easily missed, not wrong: the policy stands, and each remark has its place.
#[test]
fn consequences_are_said() {
    let unmerged = "5:7: note: \"elastic\": until the leader has merged a key, some ticks after it is \
                    first seen above the rate, each host gives it the whole rate; from then on it \
                    gets the rate and 10 %, and a packet for each of 64 members, over all hosts; \
                    `promise = \"strict\"` never gives a key more than the rate over all hosts";
    for (rate, lines, expected) in [
        ("500 packets/s", "per = {}", unmerged.to_owned()),
        (
            "500 packets/s",
            "per = {}\npromise = \"elastic\"",
            unmerged.replace("5:7", "6:11"),
        ),
        (
            "500 packets/s",
            "per = {}\npromise = \"strict\"\nburst = \"200 packets\"",
            "5:7: note: \"strict\" gives a key 1/128 of the limit on each host: 3.906 packets/s, and a \
             burst of 1.562 packets; one that wants more gets up to half of the limit besides, where \
             it wants it"
                .to_owned(),
        ),
        (
            "10k packets/s",
            "promise = \"elastic\"",
            "5:11: note: \"elastic\": at most 1000 packets above rate and burst over any time, 10 % of \
             one second's rate, whatever dies; while there is a leader it is paid back within 1 s"
                .to_owned(),
        ),
        (
            "10k packets/s",
            "promise = \"elastic\"\nexcess = \"50%\"",
            "5:11: note: \"elastic\": at most 5000 packets above rate and burst over any time, 50 % of \
             one second's rate, whatever dies; while there is a leader it is paid back within 2 s"
                .to_owned(),
        ),
        (
            "540 packets/min",
            "burst = \"640 packets\"\npromise = \"elastic\"",
            "6:11: warning: the excess of one second's rate is less than a packet: \"elastic\" lends \
             nothing of use; write \"strict\", or a larger `excess`"
                .to_owned(),
        ),
        (
            "10k packets/s",
            "on_expiry = \"open\"",
            "5:13: warning: on_expiry \"open\": a host whose lease has ended admits everything, a \
             broken promise while it lasts"
                .to_owned(),
        ),
        (
            "10k packets/s",
            "on_expiry = \"closed\"\nburst = \"63 packets\"",
            "4:8: warning: a burst of 63 packets cannot be split between 64 members with at least \
             1 packet each: the limit moves whole, to one host at a time, and no member has a floor"
                .to_owned(),
        ),
        // 9,018 bytes of a jumbo frame, and 24 on the wire.
        (
            "1 Gbit/s",
            "promise = \"local\"\nburst = \"72143 bit\"",
            "6:9: note: a frame of more than 9017 bytes costs more than the burst, and is always \
             dropped; for jumbo frames write `burst = \"72144 bits\"` or more"
                .to_owned(),
        ),
        (
            "400 kbit/s",
            "promise = \"local\"\noverhead = 24",
            "4:8: note: a frame of more than 4976 bytes costs more than the burst, and is always \
             dropped; for jumbo frames write `burst = \"72336 bits\"` or more"
                .to_owned(),
        ),
    ] {
        let outcome = file::check(&text(rate, lines));
        let problems: Vec<String> = of_itself(&outcome).iter().map(ToString::to_string).collect();
        assert_eq!(problems, [expected], "{rate}\n{lines}");
        assert!(outcome.value.is_some(), "{lines}");
    }
}

/// What is said of a limit for itself; these are all about whatever reaches a host, which is noted too.
fn of_itself(outcome: &Outcome<Policy>) -> Vec<&Problem> {
    let problems = outcome.problems.iter();
    let problems = problems.filter(|problem| !problem.message.contains("whatever reaches a host"));
    problems.collect()
}

#[test]
fn what_has_no_consequence_is_not_remarked() {
    for (rate, lines) in [
        ("500 packets/s", "per = {}\npromise = \"local\""),
        ("500 packets/s", "per = {}\n[fleet]\nmax_members = 1"),
        (
            "500 packets/s",
            "per = {}\npromise = \"strict\"\n[fleet]\nmax_members = 1",
        ),
        ("10k packets/s", "on_expiry = \"closed\""),
        ("1 Gbit/s", "promise = \"local\"\nburst = \"72144 bit\""),
        ("1 Gbit/s", "overhead = 24"),
    ] {
        let outcome = file::check(&text(rate, lines));
        assert!(of_itself(&outcome).is_empty(), "{rate}\n{lines}");
    }
}

/// A strict key has its part of the burst on a host, and jumbo frames have to fit there.
#[test]
fn a_jumbo_frame_has_to_fit_what_a_key_has_on_one_host() {
    let lines = "per = {}\npromise = \"strict\"\nburst = \"4 Mbit\"";
    let outcome = file::check(&text("100 Mbit/s", lines));
    let problems = of_itself(&outcome);
    let notes = problems.iter().map(|problem| problem.severity);
    assert_eq!(notes.collect::<Vec<_>>(), [Severity::Note, Severity::Note]);
    assert_eq!(
        problems[1].to_string(),
        "7:9: note: a frame of more than 3906 bytes costs more than the burst, and is always \
         dropped; for jumbo frames write `burst = \"9234432 bits\"` or more"
    );
}

#[test]
fn limits_are_found_by_identity() {
    let names = ["zebra", "ant", "mole", "bee"];
    let limits: String = names
        .iter()
        .map(|name| format!("[[limit]]\nname = \"{name}\"\nrate = \"1k packets/s\"\n"))
        .collect();
    let policy = read(&format!("version = 1\n{limits}"));
    let order: Vec<&str> = policy
        .limits
        .iter()
        .map(|limit| limit.name.as_str())
        .collect();
    assert_eq!(order, names, "the order of the file");
    for name in names {
        let found = policy.limit(LimitId::of(name));
        assert_eq!(found.map(|limit| limit.name.as_str()), Some(name));
    }
    assert_eq!(policy.limit(LimitId::of("wasp")), None);
    assert_eq!(Policy::default().limit(LimitId::of("ant")), None);
}

#[test]
fn a_difference_names_every_key_that_changed() {
    let before = read(&text("10k packets/s", ""));
    let field = |field, before: &str, after: &str| FieldChange {
        field,
        before: before.into(),
        after: after.into(),
    };
    for (rate, lines, expected) in [
        (
            "10k packets/s",
            "per = { source_v4 = 24 }",
            vec![
                field("per", "", "source_v4 24, source_v6 64"),
                field("promise", "strict", "elastic"),
                field("excess", "", "10%"),
                field("floor", "1.562 packets/s", ""),
                field("on_expiry", "floor", ""),
            ],
        ),
        (
            "10k packets/s",
            "on_expiry = \"closed\"",
            vec![
                field("floor", "1.562 packets/s", "0 packets/s"),
                field("on_expiry", "floor", "closed"),
            ],
        ),
        (
            "10k packets/s",
            "proto = \"tcp\"\ntcp_flags = [\"!ack\", \"syn\"]\nfragments = \"only\"",
            vec![
                field("proto", "any", "tcp"),
                field("tcp_flags", "", "syn, !ack"),
                field("fragments", "any", "only"),
            ],
        ),
        (
            "10k connections/s",
            "quic = true",
            vec![
                field("rate", "10000 packets/s", "10000 connections/s"),
                field("burst", "1000 packets", "1000 connections"),
                field("quic", "false", "true"),
                field("floor", "1.562 packets/s", "1.562 connections/s"),
            ],
        ),
    ] {
        let after = read(&text(rate, lines));
        let change = (String::from("a"), Change::Changed(expected));
        assert_eq!(changes(&before, &after), [change], "{lines}");
    }
    let wire = read(&text("1 Gbit/s", "overhead = 24"));
    let changed = changes(&read(&text("1 Gbit/s", "")), &wire);
    let overhead = Change::Changed(vec![field("overhead", "0", "24")]);
    assert_eq!(changed, [(String::from("a"), overhead)]);

    let fleet = read(&text("10k packets/s", "[fleet]\nunparsed = \"pass\""));
    let unparsed = Change::Changed(vec![field("unparsed", "drop", "pass")]);
    assert_eq!(
        changes(&before, &fleet),
        [(String::from("[fleet]"), unparsed)]
    );
    assert_eq!(changes(&fleet, &fleet), []);
}
