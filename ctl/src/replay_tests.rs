//! Demand that is known, through limits that are known.

use super::{record::LimitRecord, *};

fn record(limit: &str, hosts: &[&[f32]]) -> Record {
    let host = |(number, offered): (usize, &&[f32])| NodeRecord {
        node: format!("edge-{number}"),
        limits: vec![LimitRecord {
            limit: limit.to_owned(),
            unit: "packets".to_owned(),
            seconds: vec![1.0; offered.len()],
            offered: offered.to_vec(),
        }],
    };
    Record {
        nodes: hosts.iter().enumerate().map(host).collect(),
        ..Record::default()
    }
}

fn policy(rest: &str) -> Policy {
    let text = format!("version = 1\n[[limit]]\nname = \"flood\"\n{rest}");
    weir_model::file::parse(&text).expect("a good file")
}

fn replayed(rest: &str, hosts: &[&[f32]]) -> LimitOutcome {
    let mut outcome = replay(&policy(rest), &record("flood", hosts), &[]);
    outcome.limits.remove(0)
}

fn is_about(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 0.001 * expected.max(1.0)
}

#[test]
fn what_is_below_the_rate_passes() {
    let row = replayed(
        "rate = \"1000 packets/s\"",
        &[&[400.0, 500.0], &[300.0, 499.0]],
    );
    assert_eq!((row.dropped, row.limited_seconds), (0.0, 0), "{row:?}");
    assert!(
        is_about(row.offered, 849.5) && row.offered_most == 999.0,
        "{row:?}"
    );
}

#[test]
fn what_is_above_it_is_dropped_but_for_the_burst() {
    let rest = "rate = \"1000 packets/s\"\nburst = \"500 packets\"";
    let row = replayed(rest, &[&[2_000.0; 10]]);
    // Ten seconds of rate, and a burst.
    assert!(is_about(row.admitted * 10.0, 10_500.0), "{row:?}");
    assert_eq!(row.limited_seconds, 10);
    let row = replayed(rest, &[&[0.0, 0.0, 1_400.0, 0.0]]);
    assert_eq!(row.limited_seconds, 0, "a burst covers it: {row:?}");
    let row = replayed(rest, &[&[0.0, 0.0, 1_600.0, 0.0]]);
    assert_eq!(row.limited_seconds, 1, "{row:?}");
    assert!(is_about(row.dropped * 4.0, 100.0), "{row:?}");
}

#[test]
fn far_too_much_is_cut_to_the_rate() {
    let row = replayed("rate = \"1000 packets/s\"", &[&[5e7; 20]]);
    assert!(is_about(row.admitted * 20.0, 20_100.0), "{row:?}");
    let bits = "version = 1\n[[limit]]\nname = \"flood\"\nrate = \"400 Gbit/s\"\n";
    let policy = weir_model::file::parse(bits).expect("a good file");
    let mut record = record("flood", &[&[8e11; 5]]);
    record.nodes[0].limits[0].unit = "bits".to_owned();
    let row = replay(&policy, &record, &[]).limits.remove(0);
    assert!(is_about(row.admitted * 5.0 / 4e11, 5.1), "{row:?}");
}

#[test]
fn a_fleet_shares_a_budget_and_hosts_alone_do_not() {
    let hosts: [&[f32]; 2] = [&[800.0; 10], &[800.0; 10]];
    let fleet = replayed("rate = \"1000 packets/s\"", &hosts);
    assert!(fleet.dropped > 500.0, "{fleet:?}");
    let alone = replayed("rate = \"1000 packets/s\"\npromise = \"local\"", &hosts);
    assert_eq!(
        (alone.dropped, alone.limited_seconds),
        (0.0, 0),
        "{alone:?}"
    );
    assert!(is_about(alone.offered, 1_600.0), "{alone:?}");
}

#[test]
fn what_cannot_be_known_is_said() {
    let flood = policy("rate = \"1000 packets/s\"");
    let known = record("flood", &[&[2_000.0]]);
    let of = |policy: &Policy, record: &Record, changed: &[String]| {
        replay(policy, record, changed).limits[0].unknown
    };
    assert_eq!(of(&flood, &known, &[]), None);
    let changed = ["flood".to_owned()];
    assert!(of(&flood, &known, &changed).is_some_and(|why| why.contains("other traffic")));
    let other = record("other", &[&[2_000.0]]);
    assert!(of(&flood, &other, &[]).is_some_and(|why| why.contains("no demand")));
    let bits = policy("rate = \"1 Gbit/s\"");
    assert!(
        of(&bits, &known, &[]).is_some(),
        "packets say nothing of bits"
    );
}

#[test]
fn of_keyed_limits_heavy_sources_are_replayed() {
    let keyed = policy("rate = \"500 packets/s\"\nburst = \"100 packets\"\nper = {}");
    let source = |address: &str, offered| SourceRecord {
        limit: "flood".to_owned(),
        unit: "packets".to_owned(),
        source: address.to_owned(),
        offered,
    };
    let mut record = record("flood", &[&[2_000.0]]);
    record.sources = vec![
        source("192.0.2.1/32", 1_500.0),
        source("192.0.2.2/32", 499.0),
    ];
    let outcome = replay(&keyed, &record, &[]);
    assert!(outcome.limits[0].unknown.is_some());
    assert_eq!(outcome.sources.len(), 1);
    assert_eq!(outcome.sources[0].source, "192.0.2.1/32");
    assert!(
        (outcome.sources[0].dropped - 1_000.0).abs() < 5.0,
        "{outcome:?}"
    );
}
