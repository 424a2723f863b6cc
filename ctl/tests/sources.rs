//! What `weir` says about sources, against a made-up daemon.

mod support;

use serde_json::{Value, json};
use support::{Daemon, text};
use weir_proto::admin::v1;

fn output_of(daemon: &Daemon, arguments: &[&str], code: i32) -> String {
    let output = daemon.weir(arguments).output().expect("weir runs");
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    text(&output.stdout).to_owned()
}

fn json_of(daemon: &Daemon, arguments: &[&str]) -> Value {
    let line = output_of(daemon, &[arguments, &["--json"]].concat(), 0);
    assert_eq!(line.lines().count(), 1, "{line}");
    serde_json::from_str(&line).expect("JSON")
}

fn source(source: &str, offered: f64, dropped: f64, error: f64) -> v1::HeavySource {
    v1::HeavySource {
        source: source.to_owned(),
        offered,
        dropped,
        error,
        leased: None,
    }
}

const KEYS: Option<v1::Key> = Some(v1::Key {
    source_v4: 32,
    source_v6: 64,
});

/// The flooded fleet, with limits that have sources, none, and too many others beside them.
fn with_sources() -> Daemon {
    let daemon = Daemon::start();
    daemon.reply(|replies| {
        let flood = replies.limits.limits[0].clone();
        replies.limits.limits = vec![
            v1::LimitRow {
                top: vec![
                    source("198.18.0.7/32", 60_000.0, 40_000.0, 0.0),
                    source("2001:db8::/64", 900.0, 100.0, 600.0),
                ],
                top_seconds: 12.5,
                ..flood.clone()
            },
            v1::LimitRow {
                name: "clients".to_owned(),
                promise: v1::Promise::Elastic.into(),
                per: KEYS,
                rate: 500.0,
                burst: 100.0,
                top_seconds: 1.0,
                ..flood.clone()
            },
            v1::LimitRow {
                name: "rare".to_owned(),
                top_left_out: true,
                ..flood.clone()
            },
            v1::LimitRow {
                name: "users".to_owned(),
                per: KEYS,
                top: vec![v1::HeavySource {
                    leased: Some(120.0),
                    ..source("198.18.0.9/32", 900.0, 300.0, 0.0)
                }],
                ..flood
            },
        ];
    });
    daemon
}

#[test]
fn the_heaviest_sources_are_below_their_limit() {
    let daemon = with_sources();
    assert_eq!(
        output_of(&daemon, &["limits", "--top"], 0),
        "\
limits over the fleet; below each its heaviest sources, as host1 alone sees them
(~ is estimated from sampled packets of the last seconds)

LIMIT             PROMISE   MODE     PER               RATE    OFFERED  ADMITTED    DROPPED  UNIT           BURST  NODES
flood             strict    enforce                   30.0k      90.0k     29.7k      60.3k  packets/s      3.00k      3
  198.18.0.7/32                                                 ~60.0k               ~40.0k
  2001:db8::/64                                              ~300..900            ~100..700
clients           elastic   enforce  v4/32 v6/64    500/key      90.0k     29.7k      60.3k  packets/s    100/key      3
  (none seen)
rare              strict    enforce                   30.0k      90.0k     29.7k      60.3k  packets/s      3.00k      3
  (not followed)
users             strict    enforce  v4/32 v6/64  30.0k/key      90.0k     29.7k      60.3k  packets/s  3.00k/key      3
  198.18.0.9/32   hot here                              120       ~900                 ~300
"
    );
    assert_eq!(daemon.look(|replies| replies.asked_top), 5);
}

#[test]
fn as_json_each_limit_has_its_sources() {
    let daemon = with_sources();
    let limits = json_of(&daemon, &["limits", "--top", "2"]);
    assert_eq!(daemon.look(|replies| replies.asked_top), 2);
    assert_eq!(limits["top_of"]["name"], "host1");
    assert_eq!(
        limits["limits"][0]["top"],
        json!([
            {"source": "198.18.0.7/32", "offered": 60_000.0, "dropped": 40_000.0, "error": 0.0, "leased": null},
            {"source": "2001:db8::/64", "offered": 900.0, "dropped": 100.0, "error": 600.0, "leased": null},
        ])
    );
    assert_eq!(limits["limits"][0]["top_seconds"], 12.5);
    assert_eq!(
        limits["limits"][1]["per"],
        json!({"source_v4": 32, "source_v6": 64})
    );
    assert_eq!(limits["limits"][1]["top"], json!([]));
    assert_eq!(limits["limits"][3]["top"][0]["leased"], 120.0);
    assert_eq!(limits["limits"][2]["top_left_out"], true);
    let without = json_of(&daemon, &["limits"]);
    assert_eq!(daemon.look(|replies| replies.asked_top), 0);
    assert_eq!(without["limits"][0].get("top"), None);
    assert_eq!(without.get("top_of"), None);
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let daemon = Daemon::start();
    for arguments in [
        &["limits", "--top", "0"][..],
        &["limits", "--top", "many"],
        &["explain"],
        &["explain", "198.18.0"],
        &["explain", "198.18.0.0/24"],
    ] {
        output_of(&daemon, arguments, 2);
    }
}

#[test]
fn help_has_an_example() {
    let daemon = Daemon::start();
    let said = output_of(&daemon, &["explain", "--help"], 0);
    assert!(said.contains("weir explain 198.51.100.7"), "{said}");
    let said = output_of(&daemon, &["limits", "--help"], 0);
    assert!(
        said.contains("weir limits --top 3") && said.contains("answering node"),
        "{said}"
    );
}

fn limit(name: &str) -> v1::ExplainedLimit {
    v1::ExplainedLimit {
        name: name.to_owned(),
        promise: v1::Promise::Strict.into(),
        mode: v1::Mode::Enforce.into(),
        unit: v1::Unit::Packets.into(),
        source: "198.18.0.7/32".to_owned(),
        rate: 29_700.0,
        burst: 3_000.0,
        budget: 30_000.0,
        offered_by_all: 90_000.0,
        traffic_seconds: 12.5,
        ..v1::ExplainedLimit::default()
    }
}

fn minute(minutes_ago: u32, share_least: f64, dropped: &[(&str, u64)]) -> v1::PastMinute {
    let dropped = dropped.iter().map(|(reason, packets)| v1::DroppedFor {
        reason: (*reason).to_owned(),
        packets: *packets,
    });
    v1::PastMinute {
        minutes_ago,
        share_least,
        share_most: 500.0,
        offered: 5_000.0,
        admitted: 500.0,
        dropped: dropped.collect(),
    }
}

fn explained() -> v1::ExplainReply {
    let clients = v1::ExplainedLimit {
        per: KEYS,
        rate: 500.0,
        burst: 100.0,
        budget: 500.0,
        past: vec![
            minute(0, 500.0, &[("over_limit", 90_000)]),
            minute(1, 400.0, &[("contended", 1), ("over_limit", 270_000)]),
            minute(2, 500.0, &[]),
        ],
        traffic: Some(source("198.18.0.7/32", 5_000.0, 4_500.0, 0.0)),
        ..limit("clients")
    };
    let all = v1::ExplainedLimit {
        unspent: Some(1_200.0),
        lease_left_ms: Some(1_900),
        traffic: Some(source("198.18.0.7/32", 20.0, 0.0, 20.0)),
        ..limit("all")
    };
    let other = v1::ExplainedLimit {
        exempt: "all prefixes of `to` are IPv6".to_owned(),
        ..limit("other")
    };
    let dropped = v1::SampledDrop {
        ago_ms: 120,
        limit: "clients".to_owned(),
        reason: "over_limit".to_owned(),
        unit: v1::Unit::Packets.into(),
        over: 1.0,
        passes_in_ms: Some(2.0),
        source: "198.18.0.7".to_owned(),
        destination: "192.0.2.53".to_owned(),
        protocol: 17,
        port: 53,
        bytes: 60,
        weight: 64,
    };
    let of_before = v1::SampledDrop {
        ago_ms: 3_200,
        limit: String::new(),
        reason: "closed".to_owned(),
        over: 0.0,
        passes_in_ms: None,
        destination: "2001:db8::53".to_owned(),
        ..dropped.clone()
    };
    v1::ExplainReply {
        address: "198.18.0.7".to_owned(),
        policy_version: 3,
        limits: vec![clients, all, other],
        drops: vec![dropped, of_before],
        sampled_one_in: 64,
        drops_since_ms: 4_000,
        samples_lost: 7,
        term: 4,
        ..v1::ExplainReply::default()
    }
}

fn explaining(change: impl FnOnce(&mut v1::ExplainReply)) -> Daemon {
    let daemon = Daemon::start();
    daemon.reply(|replies| {
        let node = replies.explain.node.take();
        replies.explain = v1::ExplainReply {
            node,
            ..explained()
        };
        change(&mut replies.explain);
    });
    daemon
}

const ASK: [&str; 2] = ["explain", "198.18.0.7"];

#[test]
fn a_source_that_is_dropped_is_explained() {
    let daemon = explaining(|_| {});
    assert_eq!(
        output_of(&daemon, &ASK, 0),
        "\
198.18.0.7 is being dropped at host1: clients drops ~4.50k of ~5.00k packets/s
policy version 3, term 4; about 1 packet in 64 is looked at; drops are remembered for 4.0 s

LIMIT    MODE     COUNTED AS     MAY SEND    BURST  UNSPENT  LEASE LEFT  OFFERED  DROPPED  UNIT
clients  enforce  198.18.0.7/32   500/key  100/key        -           -   ~5.00k   ~4.50k  packets/s
all      enforce  all together      29.7k    3.00k    1.20k       1.9 s   ~0..20   ~0..20  packets/s

other never applies to it: all prefixes of `to` are IPv6

DROPPED     BY                    REASON        OVER BY  PASSES IN  FROM        TO
120 ms ago  clients               over_limit  1 packets       2 ms  198.18.0.7  192.0.2.53:53 udp
3.2 s ago   (no longer in force)  closed              -          -  198.18.0.7  [2001:db8::53]:53 udp

the last minutes of clients on host1, all sources together:
MINUTE        SHARE  OFFERED  ADMITTED  DROPPED PACKETS
now         500/key    5.00k       500  90.0k over_limit
1 min ago  400..500    5.00k       500  1 contended, 270k over_limit
2 min ago   500/key    5.00k       500

for it to pass:
  clients lets 198.18.0.7/32 send 500 packets/s here, and it sends ~5.00k: it has to send less, or `rate` has to be more than 5.00k
"
    );
    assert_eq!(
        daemon.look(|replies| replies.asked_source.clone()),
        "198.18.0.7"
    );
}

#[test]
fn the_first_line_says_what_is_happening() {
    type Change = fn(&mut v1::ExplainReply);
    let nothing: Change = |reply| {
        reply.drops.clear();
        for limit in &mut reply.limits {
            limit.traffic = Some(source("198.18.0.7/32", 20.0, 0.0, 20.0));
        }
    };
    let passes: Change = |reply| {
        reply.drops.clear();
        reply.limits[0].traffic = Some(source("198.18.0.7/32", 400.0, 0.0, 10.0));
    };
    let before: Change = |reply| reply.limits[0].traffic = None;
    let without_limits: Change = |reply| reply.limits.clear();
    for (change, expected) in [
        (
            nothing,
            "198.18.0.7: host1 sampled nothing of it that a limit applies to",
        ),
        (
            passes,
            "198.18.0.7 passes at host1: no drop of it was sampled",
        ),
        (
            before,
            "198.18.0.7 was dropped at host1 before; not in the last seconds",
        ),
        (without_limits, "198.18.0.7: host1 enforces no limits"),
    ] {
        let page = output_of(&explaining(change), &ASK, 0);
        assert_eq!(page.lines().next(), Some(expected));
    }
}

/// A source may arrive anywhere, and may be let in before limits are looked at.
#[test]
fn what_is_not_seen_here_is_looked_for_elsewhere() {
    let unseen = explaining(|reply| {
        reply.drops.clear();
        for limit in &mut reply.limits {
            limit.traffic = None;
        }
        reply.management = vec!["ports 22, 179 from 198.18.0.0/24".to_owned()];
    });
    let page = output_of(&unseen, &ASK, 0);
    assert!(
        page.contains(
            "\nports 22, 179 from 198.18.0.0/24 pass host1 before any limit, as `management` of its node \
             file says\n"
        ),
        "{page}"
    );
    assert!(
        page.ends_with(
            "\nother hosts may see it:\n  weir --address http://198.18.2.1:7946 explain 198.18.0.7    # host2\n"
        ),
        "{page}"
    );
    assert!(!output_of(&explaining(|_| {}), &ASK, 0).contains("other hosts"));
}

#[test]
fn a_lease_that_has_run_out_says_what_holds() {
    let daemon = explaining(|reply| {
        for (limit, expired) in reply
            .limits
            .iter_mut()
            .zip([v1::Expiry::Open, v1::Expiry::Floor])
        {
            limit.lease_left_ms = Some(0);
            limit.expired = expired.into();
        }
    });
    let page = output_of(&daemon, &ASK, 0);
    assert!(
        page.contains("over: OPEN") && page.contains("over: floor"),
        "{page}"
    );
}

#[test]
fn what_would_have_to_change_follows_from_what_drops() {
    type Change = fn(&mut v1::ExplainedLimit);
    let dropping: Change = |all| {
        all.traffic = Some(source("198.18.0.7/32", 20_000.0, 15_000.0, 0.0));
    };
    let floor: Change = |all| {
        all.traffic = Some(source("198.18.0.7/32", 20_000.0, 15_000.0, 0.0));
        all.expired = v1::Expiry::Floor.into();
        all.rate = 4.0;
    };
    let closed: Change = |all| {
        all.traffic = Some(source("198.18.0.7/32", 20_000.0, 15_000.0, 0.0));
        all.expired = v1::Expiry::Closed.into();
    };
    for (change, expected) in [
        (
            dropping,
            "all admits 29.7k packets/s here of 30.0k in the fleet, and all sources together send \
             90.0k: they have to send less, or `rate` has to be about 90.3k\n",
        ),
        (
            floor,
            "all is on its floor here, 4 packets/s, since its lease has run out",
        ),
        (
            closed,
            "all admits nothing here since its lease has run out",
        ),
    ] {
        let daemon = explaining(|reply| {
            reply.limits[0].traffic = None;
            change(&mut reply.limits[1]);
        });
        let page = output_of(&daemon, &ASK, 0);
        assert!(
            page.contains(&format!("for it to pass:\n  {expected}")),
            "{page}"
        );
    }
    let shadow = explaining(|reply| reply.limits[0].mode = v1::Mode::Shadow.into());
    assert!(!output_of(&shadow, &ASK, 0).contains("for it to pass"));
}

#[test]
fn explained_as_json() {
    let said = json_of(&explaining(|_| {}), &ASK);
    assert_eq!(said["node"]["name"], "host1");
    assert_eq!(said["sampled_one_in"], 64);
    assert_eq!(said["samples_lost"], 7);
    assert_eq!(said["term"], 4);
    assert_eq!(
        said["limits"][0],
        json!({
            "name": "clients", "promise": "strict", "mode": "enforce", "unit": "packets",
            "per": {"source_v4": 32, "source_v6": 64}, "applies": true, "exempt": null,
            "source": "198.18.0.7/32", "rate": 500.0, "burst": 100.0, "unspent": null,
            "lease_left_ms": null, "expired": null, "offered": 5_000.0, "dropped": 4_500.0,
            "error": 0.0, "seconds": 12.5, "hot": false, "budget": 500.0,
            "offered_by_all": 90_000.0,
            "past": [
                {"minutes_ago": 0, "share_least": 500.0, "share_most": 500.0, "offered": 5_000.0,
                 "admitted": 500.0, "dropped": {"over_limit": 90_000}},
                {"minutes_ago": 1, "share_least": 400.0, "share_most": 500.0, "offered": 5_000.0,
                 "admitted": 500.0, "dropped": {"contended": 1, "over_limit": 270_000}},
                {"minutes_ago": 2, "share_least": 500.0, "share_most": 500.0, "offered": 5_000.0,
                 "admitted": 500.0, "dropped": {}},
            ],
        })
    );
    assert_eq!(said["limits"][2]["applies"], false);
    assert_eq!(said["limits"][2]["exempt"], "all prefixes of `to` are IPv6");
    assert_eq!(
        said["drops"][0],
        json!({
            "ago_ms": 120, "limit": "clients", "reason": "over_limit", "over": 1.0,
            "unit": "packets", "passes_in_ms": 2.0, "source": "198.18.0.7",
            "destination": "192.0.2.53", "protocol": 17, "port": 53, "bytes": 60, "weight": 64,
        })
    );
}

#[test]
fn a_limit_that_fails_open_is_a_broken_promise() {
    let daemon = Daemon::start();
    daemon.reply(|replies| {
        let limit = &mut replies.status.limits[0];
        limit.promise_kept = false;
        limit.nodes_failing_open = 2;
        limit.per = KEYS;
    });
    let page = output_of(&daemon, &["status"], 1);
    assert!(page.contains("BROKEN") && page.contains("2 OPEN"), "{page}");
    assert!(page.contains("30.0k/key"), "{page}");
}
