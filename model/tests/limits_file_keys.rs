//! Keys of a limit that ask for something special, and what is said when they do not go together.

use weir_model::file;

/// The errors in a text, as an operator sees them.
fn said(text: &str) -> Vec<String> {
    let errors = file::parse(text).expect_err("an error");
    errors.iter().map(ToString::to_string).collect()
}

/// A file of one limit with `rate` on line 4 and `lines` from line 5.
fn limit(rate: &str, lines: &str) -> String {
    format!("version = 1\n[[limit]]\nname = \"a\"\nrate = \"{rate}\"\n{lines}\n")
}

/// Each table's lines, and the one thing that is said about them.
fn check(rate: &str, table: &[(&str, &str)]) {
    for (lines, expected) in table {
        assert_eq!(said(&limit(rate, lines)), [*expected], "{rate}\n{lines}");
    }
}

#[test]
fn keys_have_their_errors() {
    check(
        "500 packets/s",
        &[
            (
                "per = 32",
                "5:7: error: `per` is a whole number, expected a table",
            ),
            (
                "per = \"source\"",
                "5:7: error: `per` is a string, expected a table",
            ),
            (
                "per = { source_v4 = 0 }",
                "5:21: error: `source_v4` is 0, expected 1 to 32",
            ),
            (
                "per = { source_v4 = 33 }",
                "5:21: error: `source_v4` is 33, expected 1 to 32",
            ),
            (
                "per = { source_v6 = 0 }",
                "5:21: error: `source_v6` is 0, expected 1 to 128",
            ),
            (
                "per = { source_v6 = 129 }",
                "5:21: error: `source_v6` is 129, expected 1 to 128",
            ),
            (
                "per = { source_v4 = \"/24\" }",
                "5:21: error: `source_v4` is a string, expected the number 1 to 32",
            ),
            (
                "per = { source_ip4 = 24 }",
                "5:9: error: unknown key `source_ip4` in [per]; did you mean `source_v4`?",
            ),
            (
                "per = { destination_v4 = 32 }",
                "5:9: error: unknown key `destination_v4` in [per]; known here: source_v4, source_v6",
            ),
            // What only leased limits have.
            (
                "per = {}\nfloor = \"1%\"",
                "6:9: error: a keyed limit has no floor: every host enforces its keys by itself; remove it",
            ),
            (
                "per = {}\non_expiry = \"open\"",
                "6:13: error: a keyed limit has no lease that could expire; remove it",
            ),
            (
                "per = {}\non_expiry = \"floor\"",
                "6:13: error: a keyed limit has no lease that could expire; remove it",
            ),
            // What a host can hold.
            (
                "per = {}\npromise = \"strict\"\nburst = \"127 packets\"",
                "7:9: error: with \"strict\" each of 64 members gives a key 1/128 of the burst, less than the largest packet, 1 packet; write `burst = \"128 packets\"` or more, or `promise = \"elastic\"`",
            ),
            (
                "per = {}\npromise = \"strict\"",
                "4:8: error: with \"strict\" each of 64 members gives a key 1/128 of the burst, less than the largest packet, 1 packet; write `burst = \"128 packets\"` or more, or `promise = \"elastic\"`",
            ),
            (
                "per = {}\nburst = \"0 packets\"",
                "6:9: error: a burst of 0 packets never admits the largest packet, 1 packet; write `burst = \"1 packet\"` or more",
            ),
            (
                "per = {}\nburst = \"36M packets\"",
                "6:9: error: the rate needs 20.0 hours to fill the burst of one key, expected at most 19.5 hours; lower the burst or raise the rate; an aggregate limit can be slower",
            ),
            (
                "per = {}\nburst = \"900000000G packets\"",
                "6:9: error: the rate needs 500000000000.0 hours to fill the burst of one key, expected at most 19.5 hours; lower the burst or raise the rate; an aggregate limit can be slower",
            ),
        ],
    );
    for (rate, lines, expected) in [
        (
            "1000001 packets/s",
            "per = {}",
            "4:8: error: the rate of one key is above the largest, 1000000 packets/s; lower the rate, or remove `per`: an aggregate limit can be faster",
        ),
        (
            "1000001 connections/s",
            "per = {}\nproto = \"tcp\"",
            "4:8: error: the rate of one key is above the largest, 1000000 connections/s; lower the rate, or remove `per`: an aggregate limit can be faster",
        ),
        (
            "60000001 packets/min",
            "per = {}",
            "4:8: error: the rate of one key is above the largest, 1000000 packets/s; lower the rate, or remove `per`: an aggregate limit can be faster",
        ),
        (
            "10000000001 bit/s",
            "per = {}",
            "4:8: error: the rate of one key is above the largest, 10000000000 bits/s; lower the rate, or remove `per`: an aggregate limit can be faster",
        ),
        (
            "2000 Gbit/s",
            "per = {}",
            "4:8: error: the rate of one key is above the largest, 10000000000 bits/s; lower the rate, or remove `per`: an aggregate limit can be faster",
        ),
        (
            "0 packets/s",
            "per = {}",
            "4:8: error: a rate of zero; remove the limit, or leave this to a firewall",
        ),
        (
            "1 packet/h",
            "per = {}\nburst = \"20 packets\"",
            "6:9: error: the rate needs 20.0 hours to fill the burst of one key, expected at most 19.5 hours; lower the burst or raise the rate; an aggregate limit can be slower",
        ),
    ] {
        assert_eq!(said(&limit(rate, lines)), [expected], "{rate}\n{lines}");
    }
}

/// What is just inside each bound of keyed limits.
#[test]
fn keys_reach_their_bounds() {
    for (rate, lines) in [
        ("1M packets/s", "per = {}"),
        ("60M packets/min", "per = { source_v4 = 1, source_v6 = 1 }"),
        ("10 Gbit/s", "per = { source_v4 = 32, source_v6 = 128 }"),
        ("1 packet/h", "per = {}\nburst = \"19 packets\""),
        (
            "500 packets/s",
            "per = {}\npromise = \"strict\"\nburst = \"128 packets\"",
        ),
    ] {
        let text = limit(rate, lines);
        assert!(file::parse(&text).is_ok(), "{:#?}", file::check(&text));
    }
}

#[test]
fn promises_have_their_errors() {
    check(
        "10k packets/s",
        &[
            (
                "promise = \"elastik\"",
                "5:11: error: `promise` is \"elastik\", expected \"strict\", \"local\" or \"elastic\"; did you mean \"elastic\"?",
            ),
            (
                "excess = \"10%\"",
                "5:10: error: `excess` belongs to the promise \"elastic\"; remove it",
            ),
            (
                "per = {}\npromise = \"local\"\nexcess = \"10%\"",
                "7:10: error: `excess` belongs to the promise \"elastic\"; remove it, or write `promise = \"elastic\"`",
            ),
            (
                "per = {}\nexcess = \"0.00001%\"",
                "6:10: error: an excess of less than a millionth; write `promise = \"strict\"` instead",
            ),
            (
                "per = {}\nexcess = 10",
                "6:10: error: `excess` is a whole number, expected a string",
            ),
            (
                "per = {}\nexcess = \"110%\"",
                "6:10: error: \"110%\" is not a percentage from 0 to 100; write it like \"0.5%\"",
            ),
            // What holds without a lease.
            (
                "on_expiry = \"closed\"\nfloor = \"1%\"",
                "6:9: error: a floor with on_expiry \"closed\", which reserves nothing; remove the floor, or write `on_expiry = \"floor\"`",
            ),
            (
                "promise = \"local\"\non_expiry = \"closed\"",
                "6:13: error: a local limit has no lease that could expire; remove it",
            ),
            (
                "promise = \"local\"\non_expiry = \"open\"",
                "6:13: error: a local limit has no lease that could expire; remove it",
            ),
        ],
    );
}

#[test]
fn connections_have_their_errors() {
    check(
        "100 connections/s",
        &[
            (
                "",
                "4:8: error: a rate of connections counts those of TCP, and proto is \"any\"; write `proto = \"tcp\"`, or `quic = true` to count those of QUIC too",
            ),
            (
                "proto = \"any\"",
                "5:9: error: a rate of connections counts those of TCP, and proto is \"any\"; write `proto = \"tcp\"`, or `quic = true` to count those of QUIC too",
            ),
            (
                "proto = \"udp\"\nquic = false",
                "5:9: error: a rate of connections counts those of TCP, and proto is \"udp\"; write `proto = \"tcp\"`, or `quic = true` to count those of QUIC too",
            ),
            (
                "proto = \"icmp\"",
                "5:9: error: a rate of connections with proto \"icmp\", which has none; write `proto = \"tcp\"`, or give the rate in packets",
            ),
            (
                "proto = \"icmp\"\nquic = true",
                "5:9: error: a rate of connections with proto \"icmp\", which has none; write `proto = \"tcp\"`, or give the rate in packets",
            ),
            (
                "proto = \"tcp\"\nquic = true",
                "6:1: error: `quic` with proto \"tcp\", which leaves QUIC out; write `proto = \"any\"`, or remove `quic`",
            ),
            (
                "proto = \"tcp\"\nquic = \"yes\"",
                "6:8: error: `quic` is a string, expected true or false",
            ),
            (
                "proto = \"tcp\"\ntcp_flags = [\"syn\", \"ack\"]",
                "6:1: error: a rate of connections with `tcp_flags` that leave out what opens one, SYN without ACK; remove `tcp_flags`, or give the rate in packets",
            ),
            (
                "proto = \"tcp\"\ntcp_flags = [\"!syn\"]",
                "6:1: error: a rate of connections with `tcp_flags` that leave out what opens one, SYN without ACK; remove `tcp_flags`, or give the rate in packets",
            ),
            (
                "proto = \"tcp\"\nburst = \"10 packets\"",
                "6:9: error: the burst counts packets, the rate connections; give the burst in connections",
            ),
            (
                "proto = \"tcp\"\nburst = \"0 connections\"",
                "6:9: error: a burst of 0 connections never admits 1 connection; write `burst = \"1 connection\"` or more",
            ),
            (
                "proto = \"tcp\"\noverhead = 24",
                "6:1: error: `overhead` with a rate of connections, which cost the same whatever their length; remove it, or give the rate in bit or byte",
            ),
        ],
    );
    check(
        "100 packets/s",
        &[
            (
                "proto = \"udp\"\nquic = true",
                "6:1: error: `quic` with a rate of packets; remove it, or give the rate in connections",
            ),
            (
                "overhead = 24",
                "5:1: error: `overhead` with a rate of packets, which cost the same whatever their length; remove it, or give the rate in bit or byte",
            ),
        ],
    );
}

#[test]
fn frames_have_their_errors() {
    check(
        "1 Gbit/s",
        &[
            (
                "overhead = 257",
                "5:12: error: `overhead` is 257, expected 0 to 256",
            ),
            (
                "overhead = -1",
                "5:12: error: `overhead` is -1, expected 0 to 256",
            ),
            (
                "overhead = \"24\"",
                "5:12: error: `overhead` is a string, expected the number 0 to 256",
            ),
            // 1,518 bytes fit, 1,542 do not.
            (
                "overhead = 24\nburst = \"12335 bit\"",
                "6:9: error: a burst of 12335 bits never admits the largest packet, 12336 bits; write `burst = \"12336 bits\"` or more",
            ),
            (
                "overhead = 24\nfloor = \"1%\"\nburst = \"98687 byte\"",
                "6:9: error: the burst cannot be split between 64 members with at least 12336 bits each, so none can have a floor; write `burst = \"789504 bits\"` or more, or remove the floor",
            ),
            (
                "per = {}\npromise = \"strict\"\noverhead = 24\nburst = \"1 Mbit\"",
                "8:9: error: with \"strict\" each of 64 members gives a key 1/128 of the burst, less than the largest packet, 12336 bits; write `burst = \"1579008 bits\"` or more, or `promise = \"elastic\"`",
            ),
            (
                "fragments = \"first\"",
                "5:13: error: `fragments` is \"first\", expected \"any\" or \"only\"",
            ),
            (
                "fragments = true",
                "5:13: error: `fragments` is a truth value, expected a string",
            ),
        ],
    );
}

#[test]
fn flags_have_their_errors() {
    check(
        "10k packets/s",
        &[
            (
                "tcp_flags = [\"syn\"]",
                "5:1: error: `tcp_flags` with proto \"any\", which includes protocols without flags; write `proto = \"tcp\"`",
            ),
            (
                "tcp_flags = [\"syn\"]\nproto = \"udp\"",
                "5:1: error: `tcp_flags` with proto \"udp\", which has no flags; write `proto = \"tcp\"`",
            ),
            (
                "proto = \"tcp\"\ntcp_flags = \"syn\"",
                "6:13: error: `tcp_flags` is a string, expected a list, like [ … ]",
            ),
            (
                "proto = \"tcp\"\ntcp_flags = []",
                "6:13: error: an empty list would match every segment; remove the key to match any flags",
            ),
            (
                "proto = \"tcp\"\ntcp_flags = [\"SYN\"]",
                "6:14: error: \"SYN\" is not a TCP flag; write one of fin, syn, rst, psh, ack, urg, ece, cwr, or with ! before it for one that must be clear",
            ),
            (
                "proto = \"tcp\"\ntcp_flags = [\"syn\", \"!!ack\"]",
                "6:21: error: \"!!ack\" is not a TCP flag; write one of fin, syn, rst, psh, ack, urg, ece, cwr, or with ! before it for one that must be clear",
            ),
            (
                "proto = \"tcp\"\ntcp_flags = [2]",
                "6:14: error: `tcp_flags` is a whole number, expected a string",
            ),
            (
                "proto = \"tcp\"\ntcp_flags = [\"syn\", \"!syn\"]",
                "6:21: error: the flag is already in the list; name each flag once, with or without !",
            ),
            (
                "proto = \"tcp\"\ntcp_flags = [\"fin\", \"syn\", \"rst\", \"psh\", \"ack\", \"urg\", \"ece\", \"cwr\", \"fin\"]",
                "6:13: error: `tcp_flags` has 9 entries, expected at most 8",
            ),
        ],
    );
}
