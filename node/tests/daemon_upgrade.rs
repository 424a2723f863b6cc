//! A daemon that starts with other sizes than the one before it.
#![allow(clippy::unwrap_used)]

mod daemon_support;

use std::fs;

use daemon_support::Host;

const THIS_NODE: &str = "7b0e2c1e-4c1f-4c3e-9d55-0f6a3f1d2a01";
const LIMITS: &str = "version = 1\n[[limit]]\nname = \"udp\"\nproto = \"udp\"\nports = [9999]\n\
                      rate = \"1 packets/min\"\nburst = \"3 packets\"\npromise = \"local\"\n";
const EMBEDDED: &str = "[coordinator]\nkind = \"embedded\"\n";
const MIGRATED: &str = "the kernel's maps have another layout now";

#[test]
fn it_goes_on_with_the_policy_that_it_remembers() {
    let host = Host::new();
    fs::create_dir_all(host.path("state")).unwrap();
    let memory = format!(
        "{{\"node\":\"{THIS_NODE}\",\"fleet\":\"test\",\"is_member\":true,\"policy\":[1,{LIMITS:?}]}}"
    );
    fs::write(host.path("state/node.json"), memory).unwrap();
    let first = host.start(&host.node_file(EMBEDDED));
    first.wait_for_log("enforcing");
    assert!(!first.log().contains(MIGRATED), "{}", first.log());
    drop(first);

    let larger = format!("table_slots = 65536\nlimit_slots = 16384\n{EMBEDDED}");
    let second = host.start(&host.node_file(&larger));
    second.wait_for_log("enforcing");
    assert!(second.log().contains(MIGRATED), "{}", second.log());
    assert!(second.log().contains("buckets=1"), "{}", second.log());
    // The limit is in force, so next to nothing passes.
    assert!(host.flood(1_000) <= 4);
    drop(second);

    // With nothing remembered the sizes are not worth a refusal.
    fs::remove_dir_all(host.path("state")).unwrap();
    let third = host.start(&host.node_file(EMBEDDED));
    third.wait_for_log("enforcing");
    assert!(!third.log().contains(MIGRATED), "{}", third.log());
    assert!(
        third.log().contains("sizes stay as they are"),
        "{}",
        third.log()
    );
    assert!(host.is_attached());
    assert!(host.flood(1_000) <= 4);
}
