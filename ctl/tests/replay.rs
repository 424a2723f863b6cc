//! `weir replay`, against a made-up daemon.

mod support;

use serde_json::Value;
use support::{Daemon, text};
use weir_proto::admin::v1;

/// Ten seconds at 20,000, then ten at 50,000 packets a second, on the only member.
fn recorded() -> Daemon {
    let daemon = Daemon::start();
    daemon.reply(|replies| {
        replies.status.members.truncate(1);
        replies.apply.changes.clear();
        replies.demand.limits = vec![v1::LimitDemand {
            limit: "flood".to_owned(),
            unit: v1::Unit::Packets.into(),
            seconds: vec![10.0, 10.0],
            offered: vec![20_000.0, 50_000.0],
        }];
    });
    daemon
}

fn limits(rate: &str) -> String {
    format!(
        "version = 1\n\
         [[limit]]\nname = \"flood\"\nrate = \"{rate}\"\nburst = \"1000 packets\"\n\
         [[limit]]\nname = \"new\"\nproto = \"udp\"\nrate = \"5k packets/s\"\n"
    )
}

fn replayed(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = daemon.weir(arguments).output().expect("weir runs");
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout).to_owned()
}

#[test]
fn who_would_have_been_limited() {
    let daemon = recorded();
    let file = daemon.file("limits.toml", &limits("40k packets/s"));
    assert_eq!(
        replayed(&daemon, &["replay", &file]),
        "\
demand of the last 20 s on 1 host

LIMIT   RATE  OFFERED  AT MOST  WOULD DROP   OF IT  LIMITED FOR  UNIT
flood  40.0k    35.0k    50.0k       4.95k  14.1 %         10 s  packets/s
new    5.00k        -        -           -       -            -  packets/s

new: no demand of it was recorded
"
    );
    let asked = daemon.applied().expect("asked what changes");
    assert!(asked.dry_run, "nothing is changed");
    let file = daemon.file("wide.toml", &limits("60k packets/s"));
    let said = replayed(&daemon, &["replay", &file, "--json"]);
    let outcome: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(outcome["limits"][0]["dropped"], 0.0);
    assert_eq!(outcome["limits"][0]["limited_seconds"], 0);
    assert_eq!(
        outcome["limits"][1]["unknown"],
        "no demand of it was recorded"
    );
    assert_eq!(
        (&outcome["seconds"], &outcome["nodes"][0]),
        (&20.into(), &"host1".into())
    );
}

#[test]
fn demand_is_kept_and_used_again() {
    let daemon = recorded();
    let wide = daemon.file("wide.toml", &limits("60k packets/s"));
    let record = daemon.file("record.json", "");
    replayed(&daemon, &["replay", &wide, "--save", &record]);
    let narrow = daemon.file("narrow.toml", &limits("10k packets/s"));
    let mut again = support::weir("unix:/nowhere", &["replay", &narrow, "--demand", &record]);
    let output = again.output().expect("weir runs");
    let said = text(&output.stdout);
    assert!(
        said.contains("20 s  packets/s") && said.contains("on 1 host"),
        "{output:?}"
    );
    let broken = daemon.file("broken.json", "[]");
    let mut again = support::weir("unix:/nowhere", &["replay", &narrow, "--demand", &broken]);
    assert_eq!(again.output().expect("weir runs").status.code(), Some(1));
}

#[test]
fn members_that_are_not_reached_are_named_and_other_traffic_is_not_guessed_at() {
    let daemon = recorded();
    daemon.reply(|replies| {
        let mut gone = replies.status.members[0].clone();
        gone.node = gone.node.map(|_| v1::Node {
            id: vec![9; 16],
            name: "host9".to_owned(),
            address: String::new(),
        });
        replies.status.members.push(gone);
        replies.apply.changes = vec![v1::LimitChange {
            name: "flood".to_owned(),
            kind: v1::ChangeKind::Changed.into(),
            fields: vec![v1::FieldChange {
                field: "ports".to_owned(),
                before: "53".to_owned(),
                after: "54".to_owned(),
            }],
        }];
    });
    let file = daemon.file("limits.toml", &limits("40k packets/s"));
    let page = replayed(&daemon, &["replay", &file]);
    assert!(page.contains("WITHOUT host9, not reached"), "{page}");
    assert!(page.contains("flood: it matches other traffic"), "{page}");
}

#[test]
fn a_bad_file_is_not_replayed() {
    let daemon = recorded();
    let file = daemon.file("bad.toml", "version = 1\n[[limit]]\nname = \"a\"\n");
    let output = daemon.weir(&["replay", &file]).output().expect("weir runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(":2:"), "{output:?}");
    let output = daemon.weir(&["replay"]).output().expect("weir runs");
    assert_eq!(output.status.code(), Some(2));
}
