//! A fleet as it is to be run: certificates of `weir cert` between hosts and for operators, a password
//! for a real ensemble. It leads, is changed by who may, survives rotation and the loss of its leader,
//! and says none of its secrets to anybody.
#![allow(clippy::unwrap_used)]

mod daemon_support;
mod secured_support;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use daemon_support::Ended;
use secured_support::{DAEMONS, Secured, name};

const LIMITS: &str = "version = 1\n[[limit]]\nname = \"dns\"\nproto = \"udp\"\nports = [53]\n\
                      rate = \"10k packets/s\"\n";
const PASSWORD: &str = "canary-password-4b1d9e7c";
const TOKEN: &str = "canary-token-0f6a3f1d2a01c77e";

const OPERATOR: (&str, &str) = ("ca", "ada");
const READER: (&str, &str) = ("ca", "reader");

/// Waits until every daemon enforces that version.
#[track_caller]
fn wait_until_in_force(fleet: &Secured, version: u64) {
    let line = format!("policy in force version={version} ");
    fleet.host.wait_until(&line, || {
        (0..DAEMONS).all(|daemon| fleet.log(daemon).contains(&line))
    });
}

#[test]
fn a_secured_fleet_leads_obeys_and_is_rotated() {
    let mut fleet = Secured::start(PASSWORD, TOKEN, "info");
    let leader = fleet.wait_for_leader(0, "ca", DAEMONS);
    let limits = fleet.path("limits.toml");
    fs::write(&limits, LIMITS).unwrap();
    let apply = ["apply", limits.to_str().unwrap()];

    // Any node takes it from who may, and passes it on to the leader.
    let other = (leader + 1) % DAEMONS;
    fleet.operator(other, OPERATOR, &apply).expect(0, &["1"]);
    wait_until_in_force(&fleet, 1);
    fs::write(&limits, LIMITS.replace("10k", "20k")).unwrap();
    for daemon in 0..DAEMONS {
        let refused = fleet.operator(daemon, READER, &apply);
        assert_ne!(refused.code, Some(0), "{}", refused.output);
        assert!(refused.output.contains("operate"), "{}", refused.output);
        fleet.operator(daemon, READER, &["status"]).expect(0, &[]);
        let stranger = Ended::of(&mut fleet.stranger(daemon, &["status"]));
        assert_ne!(stranger.code, Some(0), "{}", stranger.output);
    }

    // Another authority, by the book: trusted beside the first, then every certificate.
    fleet.make_authority("ca-2");
    let trusted = ["ca/ca.pem", "ca-2/ca.pem"].map(|file| fs::read(fleet.path(file)).unwrap());
    let fresh = fleet.path("trusted.fresh");
    fs::write(&fresh, trusted.concat()).unwrap();
    fs::rename(&fresh, fleet.path("trusted.pem")).unwrap();
    for daemon in 0..DAEMONS {
        fleet.certify(daemon, "ca-2");
    }
    let rotated = "certificates were rotated";
    fleet.host.wait_until(rotated, || {
        // Files are looked at when somebody connects.
        let asked = |daemon| fleet.operator(daemon, READER, &["status"]).code == Some(0);
        (0..DAEMONS).all(|daemon| asked(daemon) && fleet.log(daemon).contains(rotated))
    });
    let operator = ("ca-2", "ada");
    fleet.operator(other, operator, &apply).expect(0, &["2"]);
    wait_until_in_force(&fleet, 2);

    // What was rotated is what nodes show each other from now on.
    fleet.daemons[leader] = None;
    let next = fleet.wait_for_leader(other, "ca-2", DAEMONS - 1);
    assert_ne!(next, leader);
    fleet.restart(leader);
    fleet.wait_for_leader(leader, "ca-2", DAEMONS);
    fs::write(&limits, LIMITS.replace("10k", "30k")).unwrap();
    fleet.operator(leader, operator, &apply).expect(0, &["3"]);
    wait_until_in_force(&fleet, 3);
}

/// What nobody may say: by what it is, and a part of it that nothing else has.
fn secrets(fleet: &Secured) -> Vec<(String, String)> {
    let mut secrets = vec![
        ("ZooKeeper's password".to_owned(), PASSWORD.to_owned()),
        ("the token".to_owned(), TOKEN.to_owned()),
    ];
    let keys = ["ca/ca.key", "ca/ada.key", "ca/reader.key", "edge-1.key"];
    for key in keys.iter().chain(&["edge-2.key", "edge-3.key"]) {
        let pem = fs::read_to_string(fleet.path(key)).unwrap();
        // Its second line: of the first, some bytes are the same in all keys.
        let line = pem.lines().nth(2).unwrap();
        assert!(line.len() >= 40, "{key} is shorter than expected");
        secrets.push(((*key).to_owned(), line.to_owned()));
    }
    secrets
}

/// What `GET` answers, with this header.
fn get(address: &str, path: &str, header: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.0\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// All that `weir` says to an operator, when it works and when it does not.
fn said_to_operators(fleet: &Secured) -> String {
    let mut said = fleet.printed.clone();
    for words in [
        &["status"][..],
        &["limits", "--top", "3"],
        &["nodes"],
        &["top", "--json", "--ticks", "1"],
        &["explain", "198.51.100.7"],
        &["history"],
        &["voters"],
        &["check", "limits.toml"],
        &["diff", "limits.toml"],
        &["replay", "limits.toml"],
        &["rollback"],
        &["drain", "edge-3"],
        &["drain", "edge-3", "--undo"],
        &["check", "ca/ca.key"],
        &["apply", "edge-1.key"],
        &["check", "zookeeper.secret"],
        &["cert", "ca", "--out", "ca"],
        &[
            "cert", "operator", "ada", "--role", "read", "--ca-dir", "ca", "--out", "ca",
        ],
    ] {
        for json in [&[][..], &["--json"]] {
            let words = [words, json].concat();
            for who in [OPERATOR, READER] {
                said += &fleet.operator(0, who, &words).output;
            }
            let with = |options: &[&str]| {
                let files = [&words[..], options].concat();
                Ended::of(&mut fleet.stranger(0, &files)).output
            };
            said += &with(&["--ca", "ca/ca.key"]);
            let swapped = ["--certificate", "ca/ada.key", "--key", "ca/ada.pem"];
            said += &with(&[&["--ca", "trusted.pem"], &swapped[..]].concat());
        }
    }
    said
}

#[test]
fn nobody_is_told_a_secret() {
    let mut fleet = Secured::start(PASSWORD, TOKEN, "trace");
    fleet.wait_for_leader(0, "ca", DAEMONS);
    let secrets = secrets(&fleet);
    fs::write(fleet.path("limits.toml"), LIMITS).unwrap();
    fleet
        .operator(0, OPERATOR, &["apply", "limits.toml"])
        .expect(0, &[]);
    let mut said = BTreeMap::new();
    said.insert("weir".to_owned(), said_to_operators(&fleet));

    let http = fleet.http(0);
    let known = format!("Authorization: Bearer {TOKEN}\r\n");
    let guess = format!("Authorization: Bearer {TOKEN}-guess\r\n");
    for path in ["/metrics", "/healthz", "/readyz", "/", "/nothing"] {
        for header in ["", &known, &guess, "Authorization: none\r\n"] {
            said.insert(format!("GET {path} {header}"), get(&http, path, header));
        }
    }
    assert!(said[&format!("GET /metrics {known}")].contains("weir_term"));

    for process in fleet.host.processes() {
        for file in ["cmdline", "environ", "comm", "status"] {
            let path = format!("/proc/{process}/{file}");
            let bytes = fs::read(&path).unwrap();
            said.insert(path, String::from_utf8_lossy(&bytes).into_owned());
        }
    }

    // A key where its certificate belongs is not repeated by who complains about it.
    let key = fs::read(fleet.path("edge-3.key")).unwrap();
    fs::write(fleet.path("edge-3.pem"), key).unwrap();
    let complaint = "the new certificates cannot be used";
    fleet.host.wait_until(complaint, || {
        let _ = fleet.operator(2, READER, &["status"]);
        fleet.log(2).contains(complaint)
    });
    fleet.daemons[2] = None;
    let config = fleet.path("edge-3.toml");
    let ended = fleet.host.run(&["--config", config.to_str().unwrap()]);
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    said.insert(
        "a daemon with a key for a certificate".to_owned(),
        ended.output,
    );

    for daemon in 0..DAEMONS {
        let log = fleet.log(daemon);
        assert!(log.contains("TRACE"), "it says all that it can say");
        said.insert(format!("log of {}", name(daemon)), log);
        for entry in fs::read_dir(fleet.path(&name(daemon))).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            said.insert(
                path.display().to_string(),
                String::from_utf8_lossy(&bytes).into_owned(),
            );
        }
    }
    for (place, text) in &said {
        assert!(!text.is_empty(), "{place} says nothing");
    }
    let found = |what: &str| {
        let places = said.iter();
        let mut lines =
            places.flat_map(|(place, text)| text.lines().map(move |line| (place, line)));
        lines.find(|(_, line)| line.contains(what))
    };
    // What is no secret is found, so that nothing is hidden by how it is looked for.
    for known in [
        name(0).as_str(),
        "zookeeper.secret",
        "weir_term",
        "--config",
    ] {
        assert!(found(known).is_some(), "{known} is nowhere");
    }
    for (what, secret) in &secrets {
        assert_eq!(found(secret), None, "{what}");
    }
}
