//! Limits files that are wrong: what is said about each, and where.

use weir_model::file;

/// The errors and warnings about a text, as an operator sees them.
fn said(text: &str) -> Vec<String> {
    let outcome = file::check(text);
    assert!(outcome.value.is_none(), "accepted: {text}");
    outcome.problems.iter().map(ToString::to_string).collect()
}

/// A file with one good limit and `line` in it, on line 5.
fn limit_with(line: &str) -> String {
    format!("version = 1\n[[limit]]\nname = \"a\"\nrate = \"10k packets/s\"\n{line}\n")
}

/// A file with one limit whose rate, on line 4, is `rate`.
fn limit_of(rate: &str) -> String {
    format!("version = 1\n[[limit]]\nname = \"a\"\nrate = {rate}\n")
}

#[test]
fn each_key_of_a_limit_has_its_errors() {
    for (line, expected) in [
        // Keys.
        (
            "colour = 1",
            "5:1: error: unknown key `colour` in [[limit]]; known here: name, to, from, proto, ports, tcp_flags, fragments, per, rate, burst, overhead, quic, promise, excess, floor, on_expiry, mode",
        ),
        (
            "brust = \"1k packets\"",
            "5:1: error: unknown key `brust` in [[limit]]; did you mean `burst`?",
        ),
        (
            "port = [53]",
            "5:1: error: unknown key `port` in [[limit]]; did you mean `ports`?",
        ),
        // Prefixes.
        (
            "to = \"192.0.2.1\"",
            "5:6: error: `to` is a string, expected a list, like [ … ]",
        ),
        (
            "to = []",
            "5:6: error: an empty list would match everything; remove the key to match any address",
        ),
        (
            "from = []",
            "5:8: error: an empty list would match everything; remove the key to match any address",
        ),
        (
            "to = [7]",
            "5:7: error: `to` is a whole number, expected a string",
        ),
        (
            "to = [\"192.0.2.1\", \"example.org\"]",
            "5:20: error: \"example.org\" is not a prefix: not an IPv4 or IPv6 address; write it like \"192.0.2.0/24\" or \"2001:db8::/32\"",
        ),
        (
            "to = [\"192.0.2.0/33\"]",
            "5:7: error: \"192.0.2.0/33\" is not a prefix: the prefix length must be a number from 0 to 32; write it like \"192.0.2.0/24\" or \"2001:db8::/32\"",
        ),
        (
            "from = [\"192.0.2.9/24\"]",
            "5:9: error: \"192.0.2.9/24\" is not a prefix: bits after the length are set; did you mean \"192.0.2.0/24\"?",
        ),
        // Protocol and ports.
        (
            "proto = \"udpp\"",
            "5:9: error: `proto` is \"udpp\", expected \"udp\", \"tcp\", \"icmp\" or \"any\"; did you mean \"udp\"?",
        ),
        (
            "proto = \"sctp\"",
            "5:9: error: `proto` is \"sctp\", expected \"udp\", \"tcp\", \"icmp\" or \"any\"",
        ),
        (
            "proto = 17",
            "5:9: error: `proto` is a whole number, expected a string",
        ),
        (
            "ports = [53]",
            "5:1: error: `ports` with proto \"any\", which includes protocols without ports; write `proto = \"udp\"` or `proto = \"tcp\"`",
        ),
        (
            "ports = [53]\nproto = \"icmp\"",
            "5:1: error: `ports` with proto \"icmp\", which has no ports; write `proto = \"udp\"` or `proto = \"tcp\"`",
        ),
        (
            "proto = \"udp\"\nports = 53",
            "6:9: error: `ports` is a whole number, expected a list, like [ … ]",
        ),
        (
            "proto = \"udp\"\nports = []",
            "6:9: error: an empty list would match every port; remove the key to match any port",
        ),
        (
            "proto = \"udp\"\nports = [65536]",
            "6:10: error: `ports` is 65536, expected 0 to 65535",
        ),
        (
            "proto = \"udp\"\nports = [-1]",
            "6:10: error: `ports` is -1, expected 0 to 65535",
        ),
        (
            "proto = \"udp\"\nports = [\"dns\"]",
            "6:10: error: \"dns\" is not a port or a range of ports; write 53 or \"8000-8099\"",
        ),
        (
            "proto = \"udp\"\nports = [\"90-80\"]",
            "6:10: error: the range \"90-80\" is backwards; did you mean \"80-90\"?",
        ),
        (
            "proto = \"udp\"\nports = [5.3]",
            "6:10: error: `ports` is a decimal number, expected a port like 53, or a range like \"8000-8099\"",
        ),
        // Burst.
        (
            "burst = \"20k\"",
            "5:9: error: \"20k\" has no unit; add packets, connections, bit or byte",
        ),
        (
            "burst = \"1k packets/s\"",
            "5:9: error: \"1k packets/s\" is a rate; write \"1k packets\"",
        ),
        (
            "burst = \"1 Mbit\"",
            "5:9: error: the burst counts bits, the rate packets; give the burst in packets",
        ),
        (
            "burst = \"0 packets\"",
            "5:9: error: a burst of 0 packets never admits the largest packet, 1 packet; write `burst = \"1 packet\"` or more",
        ),
        (
            "burst = \"0.5 packets\"",
            "5:9: error: \"0.5 packets\" is not a whole number of packets",
        ),
        (
            "burst = \"900000000G packets\"",
            "5:9: error: the burst is out of proportion: the rate needs years to fill it; lower the burst",
        ),
        // Floor.
        (
            "floor = 0.5",
            "5:9: error: `floor` is a decimal number, expected a string",
        ),
        (
            "floor = \"0.5\"",
            "5:9: error: \"0.5\" is not a percentage from 0 to 100; write it like \"0.5%\"",
        ),
        (
            "floor = \"101%\"",
            "5:9: error: \"101%\" is not a percentage from 0 to 100; write it like \"0.5%\"",
        ),
        (
            "floor = \"2%\"",
            "5:9: error: the floors of 64 members add up to 128 % of the rate, expected at most 100 %; write at most \"1.5625%\", or lower max_members",
        ),
        (
            "floor = \"1%\"\nburst = \"63 packets\"",
            "5:9: error: the burst cannot be split between 64 members with at least 1 packet each, so none can have a floor; write `burst = \"64 packets\"` or more, or remove the floor",
        ),
        (
            "floor = \"1%\"\npromise = \"local\"",
            "5:9: error: a local limit has no floor: every host enforces all of it by itself; remove it",
        ),
        // Promise, expiry, mode.
        (
            "promise = \"strikt\"",
            "5:11: error: `promise` is \"strikt\", expected \"strict\", \"local\" or \"elastic\"; did you mean \"strict\"?",
        ),
        (
            "on_expiry = \"shut\"",
            "5:13: error: `on_expiry` is \"shut\", expected \"floor\", \"closed\" or \"open\"",
        ),
        (
            "mode = \"observe\"",
            "5:8: error: `mode` is \"observe\", expected \"enforce\" or \"shadow\"",
        ),
    ] {
        assert_eq!(said(&limit_with(line)), [expected], "{line}");
    }
}

#[test]
fn each_rate_has_its_errors() {
    for (rate, expected) in [
        (
            "30000",
            "4:8: error: `rate` is a whole number, expected a string",
        ),
        (
            "\"fast\"",
            "4:8: error: \"fast\" is not a rate; write a rate like \"100k packets/s\", \"1 Gbit/s\" or \"30 packets/min\"",
        ),
        (
            "\"100k packets\"",
            "4:8: error: \"100k packets\" is not a rate; write a rate like \"100k packets/s\", \"1 Gbit/s\" or \"30 packets/min\"",
        ),
        (
            "\"100k pps\"",
            "4:8: error: \"100k pps\" is not a rate; did you mean \"100k packets/s\"?",
        ),
        (
            "\"100 Mbps\"",
            "4:8: error: \"100 Mbps\" is not a rate; did you mean \"100 Mbit/s\"?",
        ),
        (
            "\"100 MBps\"",
            "4:8: error: \"100 MBps\" is not a rate; did you mean \"100 Mbyte/s\"?",
        ),
        (
            "\"100 packets/day\"",
            "4:8: error: \"day\" is not a period; a rate is per s, min or h",
        ),
        (
            "\"packets/s\"",
            "4:8: error: \"packets\" has no number; write a rate like \"100k packets/s\", \"1 Gbit/s\" or \"30 packets/min\"",
        ),
        (
            "\"-5 packets/s\"",
            "4:8: error: \"-5 packets\" has no number; write a rate like \"100k packets/s\", \"1 Gbit/s\" or \"30 packets/min\"",
        ),
        (
            "\"100/s\"",
            "4:8: error: \"100\" has no unit; add packets, connections, bit or byte",
        ),
        (
            "\"100K packets/s\"",
            "4:8: error: unknown unit \"K packets\"; prefixes are k, M and G: did you mean \"k packets\"?",
        ),
        (
            "\"100 mbit/s\"",
            "4:8: error: unknown unit \"mbit\"; prefixes are k, M and G: did you mean \"M bit\"?",
        ),
        (
            "\"1T bit/s\"",
            "4:8: error: unknown unit \"T bit\"; units are packets, connections, bit and byte, with k, M or G",
        ),
        (
            "\"100 pakets/s\"",
            "4:8: error: unknown unit \"pakets\"; did you mean \"packets\"?",
        ),
        (
            "\"100 furlongs/s\"",
            "4:8: error: unknown unit \"furlongs\"; units are packets, connections, bit and byte, with k, M or G",
        ),
        (
            "\"100 cps\"",
            "4:8: error: \"100 cps\" is not a rate; did you mean \"100 connections/s\"?",
        ),
        (
            "\"100 conections/s\"",
            "4:8: error: unknown unit \"conections\"; did you mean \"connections\"?",
        ),
        (
            "\"0 packets/s\"",
            "4:8: error: a rate of zero; remove the limit, or leave this to a firewall",
        ),
        (
            "\"0.5 packets/s\"",
            "4:8: error: \"0.5 packets/s\" is not a whole number of packets in its period; write \"30 packets/min\"",
        ),
        (
            "\"0.0001 packets/s\"",
            "4:8: error: \"0.0001 packets/s\" is not a whole number of packets in its period; use a longer period",
        ),
        (
            "\"2000 Gbit/s\"",
            "4:8: error: the rate is above the largest, 1099511627776 bits/s; lower the rate",
        ),
        (
            "\"99999999999G packets/s\"",
            "4:8: error: \"99999999999G packets/s\" is too large",
        ),
        (
            "\"1.2.3k packets/s\"",
            "4:8: error: \"1.2.3k packets\" has no number; write a rate like \"100k packets/s\", \"1 Gbit/s\" or \"30 packets/min\"",
        ),
    ] {
        assert_eq!(said(&limit_of(rate)), [expected], "{rate}");
    }
}

#[test]
fn the_file_as_a_whole_has_its_errors() {
    let limit = "[[limit]]\nname = \"a\"\nrate = \"1k packets/s\"\n";
    for (text, expected) in [
        (
            limit.to_owned(),
            "1:1: error: the file has no `version`; add `version = 1`",
        ),
        (
            format!("version = 2\n{limit}"),
            "1:11: error: `version` is 2, expected 1",
        ),
        (
            format!("version = \"1\"\n{limit}"),
            "1:11: error: `version` is a string, expected the number 1",
        ),
        (
            format!("version = 1\nlimits = 3\n{limit}"),
            "2:1: error: unknown key `limits`; did you mean `limit`?",
        ),
        (
            format!("version = 1\nunparsed = \"drop\"\n{limit}"),
            "2:1: error: `unparsed` does not belong outside every table; write it in [fleet]",
        ),
        (
            format!("version = 1\n{limit}unparsed = \"drop\"\n"),
            "5:1: error: `unparsed` does not belong in [[limit]]; write it in [fleet]",
        ),
        (
            format!("version = 1\n{limit}[fleet]\nunparsed = \"accept\"\n"),
            "6:12: error: `unparsed` is \"accept\", expected \"drop\" or \"pass\"",
        ),
        (
            format!("version = 1\n{limit}[fleet]\nunparsed = true\n"),
            "6:12: error: `unparsed` is a truth value, expected a string",
        ),
        (
            "version = 1\nlimit = 3\n".to_owned(),
            "2:9: error: `limit` is a whole number, expected one table or more; write `[[limit]]` above each",
        ),
        (
            "version = 1\n[limit]\nname = \"a\"\nrate = \"1k packets/s\"\n".to_owned(),
            "2:1: error: `limit` is a table, expected one table or more; write `[[limit]]` above each",
        ),
        (
            format!("version = 1\n{limit}[fleet]\nmax_members = 0\n"),
            "6:15: error: `max_members` is 0, expected 1 to 4096",
        ),
        (
            format!("version = 1\n{limit}[fleet]\nmax_members = 4097\n"),
            "6:15: error: `max_members` is 4097, expected 1 to 4096",
        ),
        (
            format!("version = 1\n{limit}[fleet]\nmax_member = 5\n"),
            "6:1: error: unknown key `max_member` in [fleet]; did you mean `max_members`?",
        ),
        (
            format!("version = 1\nfleet = 5\n{limit}"),
            "2:9: error: `fleet` is a whole number, expected a table",
        ),
        (
            "version = 1\n[[limit]]\nrate = \"1k packets/s\"\n".to_owned(),
            "2:1: error: [[limit]] has no `name`; add `name = \"my-limit\"`",
        ),
        (
            "version = 1\n[[limit]]\nname = \"a\"\n".to_owned(),
            "2:1: error: [[limit]] has no `rate`; add `rate = \"100k packets/s\"`",
        ),
        (
            "version = 1\n[[limit]]\nname = \"DNS_a\"\nrate = \"1k packets/s\"\n".to_owned(),
            "3:8: error: \"DNS_a\" is not a name: 1 to 63 of a-z, 0-9 and -; write \"dns-a\"",
        ),
        (
            "version = 1\n[[limit]]\nname = \"\"\nrate = \"1k packets/s\"\n".to_owned(),
            "3:8: error: \"\" is not a name: 1 to 63 of a-z, 0-9 and -",
        ),
        (
            format!("version = 1\n{limit}\n{limit}"),
            "7:8: error: the name \"a\" is already used on line 3; every limit needs a name of its own",
        ),
        // What is not TOML at all.
        (
            "version = \n".to_owned(),
            "1:11: error: string values must be quoted, expected literal string",
        ),
        (
            format!("version = 1\nversion = 1\n{limit}"),
            "2:1: error: duplicate key",
        ),
    ] {
        assert_eq!(said(&text), [expected], "{text}");
    }
}

#[test]
fn too_many_rules_for_an_address_are_named() {
    let limit = |name: &str, rest: &str| {
        format!("[[limit]]\nname = \"{name}\"\nrate = \"1k packets/s\"\n{rest}\n")
    };
    let mut text = String::from("version = 1\n");
    for index in 0..7 {
        text += &limit(&format!("l{index}"), "to = [\"10.0.0.0/8\"]");
    }
    text += &limit("any", "");
    assert!(file::parse(&text).is_ok(), "eight are allowed");
    let ninth = text.clone() + &limit("host", "to = [\"192.0.2.1\", \"10.9.8.7\"]");
    assert_eq!(
        said(&ninth),
        [
            "37:20: error: 9 limits apply to 10.9.8.7/32, expected at most 8: l0, l1, l2, l3, l4, l5, l6, any, host; merge limits, or give them narrower prefixes"
        ]
    );

    let mut text = String::from("version = 1\n");
    for index in 0..9 {
        text += &limit(&format!("l{index}"), "");
    }
    assert_eq!(
        said(&text),
        [
            "35:8: error: 9 limits apply to any destination, expected at most 8: l0, l1, l2, l3, l4, l5, l6, l7, l8; merge limits, or give them narrower prefixes"
        ]
    );
}

#[test]
fn what_a_data_plane_cannot_hold_is_refused() {
    let header = "version = 1\n[[limit]]\nname = \"a\"\nrate = \"1k packets/s\"\n";
    let ports: Vec<u32> = (0..9).map(|index| index * 2).collect();
    assert_eq!(
        said(&format!("{header}proto = \"udp\"\nports = {ports:?}\n")),
        [
            "6:9: error: `ports` has 9 separate ranges, expected at most 8; use wider ranges, or several limits"
        ]
    );
    let prefixes = |first: usize, count: usize| -> Vec<String> {
        let address =
            |index: usize| format!("10.{}.{}.{}", index >> 16, index >> 8 & 255, index & 255);
        (first..first + count).map(address).collect()
    };
    assert_eq!(
        said(&format!("{header}to = {:?}\n", prefixes(0, 1_025))),
        ["5:6: error: `to` has 1025 entries, expected at most 1024"]
    );
    let many = |key: &str, limits: usize, each: usize| {
        let limit = |index: usize| {
            format!(
                "[[limit]]\nname = \"l{index}\"\nrate = \"1k packets/s\"\n{key} = {:?}\n",
                prefixes(index * each, each)
            )
        };
        (0..limits).fold(String::from("version = 1\n"), |text, index| {
            text + &limit(index)
        })
    };
    assert!(file::parse(&many("to", 128, 1_024)).is_ok());
    assert_eq!(
        said(&many("to", 129, 1_024)),
        [
            "515:8: error: up to this limit the file has 132096 different `to` prefixes, expected at most 131072; use wider prefixes"
        ]
    );
    assert_eq!(
        said(&many("from", 65, 1)),
        [
            "259:8: error: up to this limit the file has 65 different `from` lists, expected at most 64; use wider prefixes"
        ]
    );
    let limits: String = (0..65_537)
        .map(|index| format!("[[limit]]\nname = \"l{index}\"\nrate = \"1k packets/s\"\n"))
        .collect();
    assert_eq!(
        said(&format!("version = 1\n{limits}")),
        ["196610:1: error: the file has 65537 limits, expected at most 65536"]
    );
}

/// One run finds everything, sorted by place, syntax errors included.
#[test]
fn all_problems_are_reported_at_once() {
    let text = "version = 3\n\
                colour = \"red\"\n\
                [[limit]]\n\
                name = \"A\"\n\
                rate = \"0 packets/s\"\n\
                to = [\"10.0.0.1/8\", \"nowhere\"]\n\
                [[limit]]\n\
                name = \"b\"\n\
                rate = \"1 packet/s\"\n\
                burst = unquoted\n\
                mode = \"off\"\n";
    let places: Vec<(u32, u32)> = file::check(text)
        .problems
        .iter()
        .map(|problem| (problem.line, problem.column))
        .collect();
    assert_eq!(
        places,
        [(1, 11), (2, 1), (4, 8), (6, 7), (6, 21), (10, 9), (11, 8)]
    );
}
