//! The commands that ask a fleet, against a daemon that is not there or a made-up one.

mod support;

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use serde_json::{Value, json};
use support::{Daemon, text, weir};
use tonic::{Code, Status};

fn json_of(daemon: &Daemon, arguments: &[&str], code: i32) -> Value {
    let output = daemon
        .weir(arguments)
        .arg("--json")
        .output()
        .expect("weir runs");
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let line = text(&output.stdout);
    assert_eq!(line.lines().count(), 1, "{line}");
    serde_json::from_str(line).expect("JSON")
}

fn table_of(daemon: &Daemon, arguments: &[&str], code: i32) -> String {
    let output = daemon.weir(arguments).output().expect("weir runs");
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    text(&output.stdout).to_owned()
}

#[test]
fn status_is_a_page() {
    let daemon = Daemon::start();
    assert_eq!(
        table_of(&daemon, &["status"], 0),
        "\
answered by  host1 (198.18.1.1:7946)
leader       host2 (198.18.2.1:7946), term 4
zookeeper    connected for 2 min (198.18.0.10:2181)
policy       version 3

NODE   ADDRESS          STATE  ROLE    SHARE    POLICY  LAST REPORT
host1  198.18.1.1:7946  live           granted       3    80 ms ago
host2  198.18.2.1:7946  live   leader  granted       3     0 ms ago
host3                   gone           floor         2            -

LIMIT  PROMISE        BUDGET  OFFERED  ADMITTED  UNIT       ON FLOOR  PENDING
flood  strict   kept   30.0k    90.0k     29.7k  packets/s         1  host3
"
    );
}

#[test]
fn status_counts_hot_sources_and_names_the_heaviest() {
    let daemon = Daemon::start();
    assert_eq!(json_of(&daemon, &["status"], 0)["limits"][0]["hot_keys"], 0);
    daemon.reply(|replies| {
        replies.status.limits[0].hot_keys = 3;
        replies.status.limits[0].heaviest_hot = Some(weir_proto::admin::v1::HotSource {
            source: "198.51.100.7/32".to_owned(),
            offered: 12_345.0,
        });
    });
    let page = table_of(&daemon, &["status"], 0);
    assert!(page.contains("PENDING  HOT\n"), "{page}");
    assert!(
        page.contains("host3    3: 198.51.100.7/32, 12.3k\n"),
        "{page}"
    );
    let limit = &json_of(&daemon, &["status"], 0)["limits"][0];
    assert_eq!(limit["heaviest_hot"]["source"], "198.51.100.7/32");
    assert_eq!(limit["heaviest_hot"]["offered"], 12_345.0);
    daemon.reply(|replies| replies.status.limits[0].heaviest_hot = None);
    let page = table_of(&daemon, &["status"], 0);
    assert!(page.contains("host3    3\n"), "{page}");
}

#[test]
fn a_broken_promise_is_an_exit_code() {
    let daemon = Daemon::start();
    daemon.reply(|replies| replies.status.limits[0].promise_kept = false);
    assert!(table_of(&daemon, &["status"], 1).contains("strict   BROKEN"));
    let status = json_of(&daemon, &["status"], 1);
    assert_eq!(status["limits"][0]["promise_kept"], false);
}

#[test]
fn status_says_what_is_away() {
    let daemon = Daemon::start();
    daemon.reply(|replies| {
        replies.status.leader = None;
        replies.status.policy_version = 0;
        if let Some(zookeeper) = &mut replies.status.zookeeper {
            zookeeper.connected = false;
        }
    });
    let page = table_of(&daemon, &["status"], 0);
    assert!(
        page.contains("none, term 4: nodes fall to their floors"),
        "{page}"
    );
    assert!(page.contains("NOT CONNECTED for 2 min"), "{page}");
    assert!(
        page.contains("none; put one in force with `weir apply FILE`"),
        "{page}"
    );
    daemon.reply(|replies| replies.status.zookeeper = None);
    let page = table_of(&daemon, &["status"], 0);
    assert!(
        page.contains("this host alone") && page.contains("not used"),
        "{page}"
    );
}

#[test]
fn status_as_json_has_the_names_that_scripts_rely_on() {
    let status = json_of(&Daemon::start(), &["status"], 0);
    let host2 = "00000000-0000-0000-0000-000000000002";
    assert_eq!(
        status["leader"],
        json!({"node": host2, "name": "host2", "address": "198.18.2.1:7946"})
    );
    assert_eq!(status["term"], 4);
    assert_eq!(
        status["zookeeper"],
        json!({"connected": true, "since_ms": 125_000, "servers": "198.18.0.10:2181"})
    );
    assert_eq!(
        status["members"][2],
        json!({
            "node": "00000000-0000-0000-0000-000000000003", "name": "host3", "address": "",
            "live": false, "is_leader": false, "on_floor": true, "last_report_ms": null,
            "policy_version": 2,
        })
    );
    assert_eq!(
        status["limits"],
        json!([{
            "name": "flood", "promise": "strict", "unit": "packets", "per": null,
            "budget": 30_000.0, "promise_kept": true, "pending": ["host3"], "nodes_on_floor": 1,
            "nodes_failing_open": 0,
            "offered_rate": 90_000.0, "admitted_rate": 29_700.0,
        }])
    );
}

#[test]
fn limits_are_a_table() {
    let daemon = Daemon::start();
    assert_eq!(
        table_of(&daemon, &["limits"], 0),
        "\
LIMIT  PROMISE  MODE      RATE  OFFERED  ADMITTED  DROPPED  UNIT       BURST  NODES
flood  strict   enforce  30.0k    90.0k     29.7k    60.3k  packets/s  3.00k      3
"
    );
    assert_eq!(
        json_of(&daemon, &["limits"], 0),
        json!({"limits": [{
            "name": "flood", "promise": "strict", "mode": "enforce", "unit": "packets",
            "per": null, "rate": 30_000.0, "burst": 3_000.0, "offered": 90_000.0, "admitted": 29_700.0,
            "dropped": 60_300.0, "nodes": 3,
        }]})
    );
    daemon.reply(|replies| replies.limits.limits.clear());
    assert!(table_of(&daemon, &["limits"], 0).starts_with("no limits"));
}

#[test]
fn nodes_are_a_table() {
    let daemon = Daemon::start();
    assert_eq!(
        table_of(&daemon, &["nodes"], 0),
        "\
NODE            LIMIT  SHARE  OF RATE  FLOOR  OFFERED  ADMITTED  DROPPED  UNIT       LEASE LEFT
host1           flood  29.7k   99.0 %   4.69    90.0k     29.7k    60.3k  packets/s       1.9 s
host2 (leader)  -
host3 (gone)    flood   4.69    0.0 %   4.69        0         0        0  packets/s    on floor
"
    );
    let nodes = json_of(&daemon, &["nodes"], 0);
    assert_eq!(nodes["nodes"][0]["name"], "host1");
    assert_eq!(
        nodes["nodes"][0]["limits"],
        json!([{
            "limit": "flood", "unit": "packets", "per": null, "rate": 30_000.0,
            "share": 29_700.0, "floor": 4.6875, "offered": 90_000.0, "admitted": 29_700.0, "dropped": 60_300.0,
            "lease_left_ms": 1_900, "on_floor": false,
        }])
    );
    assert_eq!(nodes["nodes"][2]["limits"][0]["lease_left_ms"], Value::Null);
}

#[test]
fn apply_hands_the_document_over() {
    let daemon = Daemon::start();
    let file = daemon.file("limits.toml", support::LIMITS);
    assert_eq!(
        table_of(&daemon, &["apply", &file], 0),
        "\
+ flood
~ dns
    rate: 1000 packets/s → 2000 packets/s
    ports: (unset) → 53
- old
3 limits change; version 4 is in force
"
    );
    let request = daemon.applied().expect("a request");
    assert_eq!(request.document, support::LIMITS);
    assert_eq!((request.dry_run, request.expected_version), (false, None));

    let dry = ["apply", &file, "--dry-run", "--expected-version", "4"];
    assert!(table_of(&daemon, &dry, 0).ends_with("dry run: version 4 stays in force\n"));
    let request = daemon.applied().expect("a request");
    assert_eq!((request.dry_run, request.expected_version), (true, Some(4)));

    assert_eq!(
        json_of(&daemon, &["apply", &file], 0),
        json!({
            "version": 4, "dry_run": false, "confirm_within_ms": null, "warnings": [],
            "changes": [
                {"limit": "flood", "change": "added", "fields": []},
                {"limit": "dns", "change": "changed", "fields": [
                    {"field": "rate", "before": "1000 packets/s", "after": "2000 packets/s"},
                    {"field": "ports", "before": "", "after": "53"},
                ]},
                {"limit": "old", "change": "removed", "fields": []},
            ],
        })
    );
}

#[test]
fn a_bad_file_never_reaches_the_fleet() {
    let daemon = Daemon::start();
    let file = daemon.file("limits.toml", "version = 1\n[[limit]]\nname = \"a\"\n");
    let output = daemon.weir(&["apply", &file]).output().expect("weir runs");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        format!(
            "{file}:2:1: error: [[limit]] has no `rate`; add `rate = \"100k packets/s\"`\n\
             {file}: 1 error, 0 warnings; nothing was applied\n"
        )
    );
    assert!(daemon.applied().is_none());
}

#[test]
fn refusals_say_what_to_do() {
    let daemon = Daemon::start();
    let file = daemon.file("limits.toml", support::LIMITS);
    for (status, expected) in [
        (
            Status::new(Code::InvalidArgument, "4:8: error: too fast\n7:1: error: too slow"),
            format!("{file}:4:8: error: too fast\n{file}:7:1: error: too slow\n{file}: refused by the fleet; nothing was applied\n"),
        ),
        (
            Status::new(Code::Aborted, "version 5 is in force, expected 4"),
            "weir: version 5 is in force, expected 4; look at what is in force, then apply again\n".to_owned(),
        ),
        (
            Status::new(Code::Unavailable, "the fleet has no leader"),
            "weir: the fleet has no leader; nothing is known to have been changed, try again in a moment\n".to_owned(),
        ),
        (
            Status::new(Code::Unimplemented, ""),
            "weir: the daemon does not know this command: it is older than this `weir`\n".to_owned(),
        ),
        (
            Status::new(Code::Internal, "oops"),
            "weir: the daemon refused: oops\n".to_owned(),
        ),
    ] {
        daemon.reply(|replies| replies.refusal = Some(status.clone()));
        let output = daemon.weir(&["apply", &file]).output().expect("weir runs");
        assert_eq!(output.status.code(), Some(1), "{status}");
        assert_eq!(text(&output.stderr), expected);
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn a_daemon_that_is_not_there_is_explained() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("node.sock");
    let failure = |address: &str| {
        let output = weir(address, &["status"]).output().expect("weir runs");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(text(&output.stdout), "");
        text(&output.stderr).to_owned()
    };
    let address = format!("unix:{}", socket.display());
    let said = failure(&address);
    assert!(
        said.contains("there is no such socket; start weir-node"),
        "{said}"
    );

    // The socket of a daemon that was killed stays.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket"));
    let said = failure(&address);
    assert!(
        said.contains("the connection was refused; is weir-node running?"),
        "{said}"
    );

    let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = unused.local_addr().expect("an address").port();
    drop(unused);
    let said = failure(&format!("http://127.0.0.1:{port}"));
    assert!(said.contains("the connection was refused"), "{said}");
}

#[test]
fn a_forbidden_socket_is_explained() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mode = |mode| fs::Permissions::from_mode(mode);
    fs::set_permissions(directory.path(), mode(0o755)).expect("a directory for all");
    let socket = directory.path().join("node.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    fs::set_permissions(&socket, mode(0o660)).expect("a socket for its group");
    let program = directory.path().join("weir");
    // Copied by another process: a program that this one writes cannot be run while a child of
    // another test still has the descriptor.
    let mut install = std::process::Command::new("install");
    install.args(["-m", "755", env!("CARGO_BIN_EXE_weir")]);
    assert!(
        install
            .arg(&program)
            .status()
            .expect("install runs")
            .success()
    );
    let mut command = std::process::Command::new(program);
    command.args(["--address", &format!("unix:{}", socket.display()), "status"]);
    // As nobody, if this test runs as root; the owner of the socket is let in.
    if fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) != 0) {
        fs::set_permissions(&socket, mode(0o000)).expect("a socket for nobody");
    } else {
        std::os::unix::process::CommandExt::uid(&mut command, 65_534);
        std::os::unix::process::CommandExt::gid(&mut command, 65_534);
    }
    let output = command.output().expect("weir runs");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("not allowed to use") && said.contains("group"),
        "{said}"
    );
}

#[test]
fn the_environment_names_the_daemon_unless_a_flag_does() {
    let daemon = Daemon::start();
    let mut command = weir("unix:/nowhere.sock", &["limits"]);
    command.env("WEIR_ADDRESS", daemon.address());
    assert_eq!(command.output().expect("weir runs").status.code(), Some(1));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env("WEIR_ADDRESS", daemon.address()).arg("limits");
    assert_eq!(command.output().expect("weir runs").status.code(), Some(0));
}

/// A daemon that accepts and never answers does not hang the operator's shell.
#[test]
fn a_daemon_that_hangs_is_given_up() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("node.sock");
    let _silent = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let begun = std::time::Instant::now();
    let mut command = weir(
        &format!("unix:{}", socket.display()),
        &["status", "--timeout", "200ms"],
    );
    let output = command.output().expect("weir runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output.stderr).contains("did not answer in time"),
        "{output:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(60));
}
