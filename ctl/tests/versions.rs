//! Keeping a change, going back, what there was, and who votes: against a made-up daemon.

mod support;

use serde_json::{Value, json};
use support::{Daemon, LIMITS, text};
use tonic::{Code, Status};
use weir_proto::admin::v1;

/// What it says on standard output, and on standard error.
fn said(daemon: &Daemon, arguments: &[&str], code: i32) -> (String, String) {
    let output = daemon.weir(arguments).output().expect("weir runs");
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    (
        text(&output.stdout).to_owned(),
        text(&output.stderr).to_owned(),
    )
}

fn json_of(daemon: &Daemon, arguments: &[&str], code: i32) -> Value {
    let (line, _) = said(daemon, &[arguments, &["--json"]].concat(), code);
    assert_eq!(line.lines().count(), 1, "{line}");
    serde_json::from_str(&line).expect("JSON")
}

#[test]
fn a_change_on_trial_says_how_long_it_lasts() {
    let daemon = Daemon::start();
    let file = daemon.file("limits.toml", LIMITS);
    let arguments = ["apply", &file, "--confirm-within", "60s"];
    let (page, _) = said(&daemon, &arguments, 0);
    assert!(
        page.ends_with("version 4 is in force for 60 s: `weir confirm` keeps it\n"),
        "{page}"
    );
    let request = daemon.applied().expect("a request");
    assert_eq!(request.confirm_within_ms, Some(60_000));
    assert_eq!(json_of(&daemon, &arguments, 0)["confirm_within_ms"], 60_000);

    let both = ["apply", &file, "--dry-run", "--confirm-within", "60s"];
    said(&daemon, &both, 2);
    said(&daemon, &["apply", &file, "--confirm-within", "soon"], 2);
}

#[test]
fn a_difference_changes_nothing() {
    let daemon = Daemon::start();
    let file = daemon.file("limits.toml", LIMITS);
    let (page, _) = said(&daemon, &["diff", &file], 0);
    assert!(page.starts_with("+ flood\n~ dns\n"), "{page}");
    assert!(
        page.ends_with("dry run: version 4 stays in force\n"),
        "{page}"
    );
    assert!(daemon.applied().expect("a request").dry_run);
    assert_eq!(json_of(&daemon, &["diff", &file], 0)["dry_run"], true);
    let bad = daemon.file("bad.toml", "version = 1\n[[limit]]\n");
    said(&daemon, &["diff", &bad], 1);
    said(&daemon, &["diff", "/nonexistent.toml"], 2);
}

#[test]
fn a_change_is_confirmed() {
    let daemon = Daemon::start();
    let (page, _) = said(&daemon, &["confirm"], 0);
    assert_eq!(page, "version 5 stays in force\n");
    let asked =
        |daemon: &Daemon| daemon.look(|replies| replies.confirmed.clone().expect("a request"));
    assert_eq!(asked(&daemon).version, None);
    assert_eq!(
        json_of(&daemon, &["confirm", "5"], 0),
        json!({"version": 5})
    );
    assert_eq!(asked(&daemon).version, Some(5));
    let refusal = Status::new(Code::FailedPrecondition, "no change waits to be confirmed");
    daemon.reply(|replies| replies.refusal = Some(refusal));
    let (_, complaint) = said(&daemon, &["confirm"], 1);
    assert_eq!(
        complaint,
        "weir: the daemon refused: no change waits to be confirmed\n"
    );
    said(&daemon, &["confirm", "0"], 2);
}

#[test]
fn an_earlier_version_comes_back() {
    let daemon = Daemon::start();
    let (page, _) = said(&daemon, &["rollback"], 0);
    assert!(page.ends_with("version 4 is in force\n"), "{page}");
    let asked =
        |daemon: &Daemon| daemon.look(|replies| replies.rolled_back.clone().expect("a request"));
    assert_eq!(asked(&daemon).version, None);
    assert_eq!(json_of(&daemon, &["rollback", "3"], 0)["version"], 4);
    assert_eq!(asked(&daemon).version, Some(3));
    let refusal = Status::new(Code::NotFound, "there is no policy version 9");
    daemon.reply(|replies| replies.refusal = Some(refusal));
    let (_, complaint) = said(&daemon, &["rollback", "9"], 1);
    assert!(
        complaint.contains("there is no policy version 9"),
        "{complaint}"
    );
    said(&daemon, &["rollback", "latest"], 2);
}

#[test]
fn the_history_is_latest_first() {
    let daemon = Daemon::start();
    let (page, _) = said(&daemon, &["history"], 0);
    let rows: Vec<&str> = page.lines().collect();
    assert!(rows[0].starts_with("VERSION"), "{page}");
    assert!(
        rows[1].contains('5') && rows[1].ends_with("in force, 42 s left to confirm it"),
        "{page}"
    );
    assert!(rows[2].contains('4'), "{page}");
    assert_eq!(
        json_of(&daemon, &["history"], 0),
        json!({"versions": [
            {"version": 5, "stored_at_ms": 0, "in_force": true, "confirm_within_ms": 42_000,
             "author": null, "restores": null, "confirmed_by": null},
            {"version": 4, "stored_at_ms": 0, "in_force": false, "confirm_within_ms": null,
             "author": null, "restores": null, "confirmed_by": null},
        ]})
    );
    assert!(rows[2].contains("unknown"), "{page}");
    daemon.reply(|replies| {
        let versions = &mut replies.history.versions;
        versions.extend_from_within(..);
        let author = |name: &str, certified| {
            let name = name.to_owned();
            Some(v1::Author { name, certified })
        };
        versions[0].author = author("ada", true);
        versions[1].author = author("root@edge-1", false);
        versions[1].restores = Some(2);
        versions[2].restores = Some(0);
        versions[2].confirm_within_ms = None;
        versions[2].confirmed_by = author("grace", true);
        versions[3].confirmed_by = author("root@edge-2", false);
    });
    let (page, _) = said(&daemon, &["history"], 0);
    let rows: Vec<&str> = page.lines().collect();
    assert!(rows[1].contains(" ada  "), "{page}");
    assert!(rows[2].contains("root@edge-1 (unproved)"), "{page}");
    assert!(rows[2].ends_with("version 2 again"), "{page}");
    assert!(rows[3].contains("nobody: it was not confirmed"), "{page}");
    assert!(
        rows[3].ends_with("in force, no limits again, confirmed by grace"),
        "{page}"
    );
    assert!(
        rows[4].ends_with("confirmed by root@edge-2 (unproved)"),
        "{page}"
    );
    let json = json_of(&daemon, &["history"], 0);
    let expected = json!({"name": "root@edge-1", "certified": false});
    assert_eq!(json["versions"][1]["author"], expected);
    assert_eq!(json["versions"][1]["restores"], 2);
    daemon.reply(|replies| replies.history.versions.clear());
    let (page, _) = said(&daemon, &["history"], 0);
    assert!(page.starts_with("no policy yet"), "{page}");
}

#[test]
fn voters_without_a_majority_are_an_exit_code() {
    let daemon = Daemon::start();
    let (page, _) = said(&daemon, &["voters"], 0);
    assert_eq!(
        page,
        "\
VOTER  ADDRESS          STATE
host1  198.18.1.1:7946  live
host2  198.18.2.1:7946  live
host3                   gone

2 of 3 live, 2 needed: commits go on
"
    );
    daemon.reply(|replies| replies.status.members[1].live = false);
    let (page, _) = said(&daemon, &["voters"], 1);
    assert!(
        page.contains("1 of 3 live, 2 needed: NOTHING CAN BE COMMITTED"),
        "{page}"
    );
    let voters = json_of(&daemon, &["voters"], 1);
    assert_eq!(
        (&voters["majority"], &voters["live"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(voters["voters"][2]["name"], "host3");
    assert_eq!(voters["voters"][2]["live"], false);
}

#[test]
fn the_page_of_the_fleet_says_that_a_change_waits() {
    let daemon = Daemon::start();
    daemon.reply(|replies| {
        replies.status.trial = replies.history.versions.first().cloned();
    });
    let (page, _) = said(&daemon, &["status"], 0);
    assert!(
        page.contains("version 5 goes back in 42 s unless `weir confirm` is said"),
        "{page}"
    );
    let status = json_of(&daemon, &["status"], 0);
    assert_eq!(
        status["trial"],
        json!({"version": 5, "confirm_within_ms": 42_000})
    );
}

#[test]
fn a_member_is_drained_and_takes_part_again() {
    let daemon = Daemon::start();
    let asked = |daemon: &Daemon| daemon.look(|replies| replies.drained.clone());
    let (page, _) = said(&daemon, &["drain", "host3"], 0);
    assert_eq!(
        page,
        "host3 is drained: it keeps its floors, and is granted no share\n"
    );
    let request = asked(&daemon).expect("a request");
    assert_eq!((request.node.as_str(), request.undo), ("host3", false));
    let drained = json_of(&daemon, &["drain", "host3", "--undo"], 0);
    assert_eq!(drained["drained"], false);
    assert_eq!(drained["name"], "host3");
    assert!(asked(&daemon).expect("a request").undo);
    said(&daemon, &["drain"], 2);
}

#[test]
fn a_member_is_removed() {
    let daemon = Daemon::start();
    let asked = |daemon: &Daemon| daemon.look(|replies| replies.removed.clone());
    let (page, _) = said(&daemon, &["remove", "host3"], 0);
    assert_eq!(page, "host3 is no member any more\n");
    assert!(!asked(&daemon).expect("a request").powered_off);
    let removed = json_of(&daemon, &["remove", "host3", "--powered-off"], 0);
    assert_eq!(removed["name"], "host3");
    assert!(asked(&daemon).expect("a request").powered_off);
    let message = "host3 is still a member: say `--powered-off`";
    let refusal = Status::new(Code::FailedPrecondition, message);
    daemon.reply(|replies| replies.refusal = Some(refusal));
    let (_, complaint) = said(&daemon, &["remove", "host3"], 1);
    assert_eq!(complaint, format!("weir: the daemon refused: {message}\n"));
}

#[test]
fn whoever_changes_something_says_who_they_are() {
    let daemon = Daemon::start();
    let file = daemon.file("limits.toml", LIMITS);
    let run = |arguments: &[&str], users: [Option<&str>; 3]| {
        let mut command = daemon.weir(arguments);
        for (name, user) in ["SUDO_USER", "USER", "LOGNAME"].into_iter().zip(users) {
            match user {
                Some(user) => command.env(name, user),
                None => command.env_remove(name),
            };
        }
        let output = command.output().expect("weir runs");
        assert!(output.status.success(), "{output:?}");
    };
    let applied = |users| {
        run(&["apply", &file], users);
        daemon.applied().expect("a request").author
    };
    let ada = applied([Some("ada"), Some("root"), Some("root")]).expect("an author");
    assert!(ada.name.starts_with("ada@") && !ada.certified, "{ada:?}");
    let root = applied([None, None, Some("root")]).expect("an author");
    assert!(root.name.starts_with("root@"), "{root:?}");
    assert_eq!(applied([None, Some(""), None]), None);
    let long = "a".repeat(4_000);
    let long = applied([Some(&long), None, None]).expect("an author");
    assert_eq!(long.name.len(), 128);
    run(&["rollback"], [Some("ada"), None, None]);
    let request = daemon.look(|replies| replies.rolled_back.clone().expect("a request"));
    assert_eq!(request.author, Some(ada.clone()));
    run(&["confirm"], [Some("ada"), None, None]);
    let request = daemon.look(|replies| replies.confirmed.clone().expect("a request"));
    assert_eq!(request.author, Some(ada));
}
