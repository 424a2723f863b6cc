//! The daemon's bad days: each ends with a message that says what was found and what to do, and
//! with an exit code; and nothing is left half-attached.
#![allow(clippy::unwrap_used)]

mod daemon_support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use daemon_support::{Daemon, Host};
use weir_coord::testing::{Options, ZooKeeperServer};

const EMBEDDED: &str = "[coordinator]\nkind = \"embedded\"\n";
/// Nobody listens there.
const NO_ZOOKEEPER: &str = "[zookeeper]\nservers = \"127.0.0.1:1\"\n\
                            [grpc]\nlisten = \"127.0.0.1:0\"\nadvertise = \"127.0.0.1:7946\"\n";
const LIMITS: &str = "version = 1\n[[limit]]\nname = \"udp\"\nproto = \"udp\"\n\
                      ports = [9999]\nrate = \"1 packets/s\"\nburst = \"64 packets\"\n";

/// What a daemon remembers that enforced [`LIMITS`].
fn remember(host: &Host, node: &str, is_member: bool) {
    remember_limits(host, node, is_member, LIMITS);
}

fn remember_limits(host: &Host, node: &str, is_member: bool, limits: &str) {
    fs::create_dir_all(host.path("state")).unwrap();
    let memory = format!(
        "{{\"node\":\"{node}\",\"fleet\":\"test\",\"is_member\":{is_member},\"policy\":[1,{limits:?}]}}"
    );
    fs::write(host.path("state/node.json"), memory).unwrap();
}

const THIS_NODE: &str = "7b0e2c1e-4c1f-4c3e-9d55-0f6a3f1d2a01";

#[test]
fn a_missing_node_file_is_named() {
    let host = Host::new();
    host.run(&["--config", "/nonexistent/node.toml"])
        .expect(1, &["/nonexistent/node.toml"]);
}

#[test]
fn every_problem_of_a_node_file_is_said_at_once() {
    let host = Host::new();
    let path = host.path("bad.toml");
    fs::write(
        &path,
        "flet = \"x\"\ninterfaces = []\n[timing]\ntick = \"5 parsecs\"\n",
    )
    .unwrap();
    let ended = host.run(&["--config", path.to_str().unwrap(), "--check"]);
    ended.expect(
        2,
        &["bad.toml:1:1: error", "fleet", "bad.toml:2:", "bad.toml:4:"],
    );
}

#[test]
fn a_missing_interface_is_named_and_nothing_is_left() {
    let host = Host::new();
    let config = host.node_file(EMBEDDED);
    let text = fs::read_to_string(&config).unwrap().replace("eth0", "eth9");
    fs::write(&config, text).unwrap();
    host.run(&["--config", config.to_str().unwrap()])
        .expect(1, &["eth9"]);
    assert!(!host.is_attached());
}

#[test]
fn two_daemons_on_one_interface_are_one_too_many() {
    let host = Host::new();
    let config = host.node_file(EMBEDDED);
    let first = host.start(&config);
    first.wait_for_log("enforcing");
    let config = config.to_str().unwrap();
    host.run(&["--config", config])
        .expect(1, &["running", "node.sock"]);
    let other_socket = host.path("other.sock");
    let second = host.run(&[
        "--config",
        config,
        "--admin-socket",
        other_socket.to_str().unwrap(),
    ]);
    second.expect(1, &["only one daemon", "weir-node", "eth0"]);
    assert!(host.is_attached(), "the first goes on");
    first.signal(libc::SIGTERM);
    first.ended().expect(0, &["stopped"]);
}

#[test]
fn a_clean_stop_leaves_enforcement_and_detach_removes_it() {
    let host = Host::new();
    let config = host.node_file(EMBEDDED);
    remember(&host, THIS_NODE, true);
    let daemon = host.start(&config);
    daemon.wait_for_log("enforcing");
    daemon.signal(libc::SIGTERM);
    daemon.ended().expect(0, &["stopped"]);
    assert!(host.is_attached());
    assert!(
        host.flood(500) <= 80,
        "a burst of 64 and a few seconds of 1 packet/s"
    );
    let restarted = host.start(&config);
    restarted.wait_for_log("enforcing");
    assert!(host.flood(500) <= 20, "a restart refills no bucket");
    restarted.signal(libc::SIGKILL);
    restarted.ended();
    let config = config.to_str().unwrap().to_owned();
    host.run(&["--config", &config, "--detach"])
        .expect(0, &["eth0"]);
    assert!(!host.is_attached());
    assert!(host.flood(500) > 80, "nothing is enforced now");
    host.run(&["--config", &config, "--detach"]).expect(0, &[]);
}

#[test]
fn without_zookeeper_a_host_that_starts_spends_nothing_and_says_so() {
    let host = Host::new();
    let config = host.node_file(NO_ZOOKEEPER);
    remember(&host, THIS_NODE, true);
    let daemon = host.start(&config);
    daemon.wait_for_log("no ZooKeeper server answers");
    assert_eq!(
        host.flood(500),
        0,
        "the floor may have been given to others"
    );
    daemon.signal(libc::SIGTERM);
    daemon.ended().expect(0, &["stopped"]);
}

/// A host alone in a fleet on a ZooKeeper of its own, that has begun to lead and uses the budget.
struct Leading {
    host: Host,
    zookeeper: ZooKeeperServer,
    daemon: Daemon,
}

impl Leading {
    fn with(coordinator: &str) -> Self {
        let host = Host::new();
        let zookeeper = ZooKeeperServer::start(Options::default()).unwrap();
        let servers = host.forward(&zookeeper.connect_string());
        let here = format!("{}:7946", host.address());
        let config = host.node_file(&format!(
            "[zookeeper]\nservers = \"{servers}\"\nsession_timeout = \"1s\"\n\
             [grpc]\nlisten = \"{here}\"\nadvertise = \"{here}\"\n\
             [timing]\nlease = \"1s\"\n{coordinator}"
        ));
        let limits = LIMITS
            .replace("1 packets/s", "10k packets/s")
            .replace("64", "500");
        remember_limits(&host, THIS_NODE, true, &limits);
        let daemon = host.start(&config);
        daemon.wait_for_log("leading");
        host.wait_until("the budget is in use", || host.flood(500) > 200);
        Self {
            host,
            zookeeper,
            daemon,
        }
    }

    fn stop(self) {
        self.daemon.signal(libc::SIGTERM);
        self.daemon.ended().expect(0, &["stopped"]);
    }
}

/// The commits of a quorum do not touch ZooKeeper: its loss, for longer than a lease and longer
/// than a session, is none of the traffic's business.
#[test]
fn zookeeper_that_is_lost_changes_nothing_for_traffic() {
    let mut leading = Leading::with("");
    leading.zookeeper.kill();
    leading.daemon.wait_for_log("ZooKeeper is out of reach");
    let host = &leading.host;
    // Three leases, and three sessions: what was granted before has ended, and a floor is one packet.
    let lost = Instant::now();
    while lost.elapsed() < Duration::from_secs(3) {
        host.wait_until("the budget is in use", || host.flood(500) > 200);
    }
    leading.zookeeper.restart().unwrap();
    leading.daemon.wait_for_log("connected to ZooKeeper");
    host.wait_until("the budget is still in use", || host.flood(500) > 200);
    leading.stop();
}

/// With the other back-end the budget is in use with ZooKeeper, only the floor without, and the
/// budget again afterwards; the daemon lives through it and says so.
#[test]
fn commits_by_zookeeper_leave_floors_until_it_is_back() {
    let mut leading = Leading::with("[coordinator]\ncommit = \"zookeeper\"\n");
    leading.zookeeper.kill();
    leading.daemon.wait_for_log("ZooKeeper is out of reach");
    let host = &leading.host;
    host.wait_until("only the floor is left", || host.flood(500) < 20);
    leading.zookeeper.restart().unwrap();
    host.wait_until("the budget is in use again", || host.flood(500) > 200);
    leading.stop();
}

/// What a login gives, 1,024, would end a leader of a thousand hosts.
#[test]
fn as_many_files_may_be_open_as_the_hard_limit_says() {
    let host = Host::new();
    let config = host.node_file(EMBEDDED);
    let mut command = host.command_within(&["prlimit", "--nofile=256:3333"]);
    command.arg("--config").arg(&config);
    let daemon = host.start_command(command);
    daemon.wait_for_log("enforcing");
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.process())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<&str> = line.unwrap().split_whitespace().collect();
    assert_eq!(words[3..5], ["3333", "3333"], "soft and hard");
}

#[test]
fn a_host_that_is_no_member_passes_nothing_of_a_strict_limit() {
    let host = Host::new();
    let config = host.node_file(NO_ZOOKEEPER);
    remember(&host, THIS_NODE, false);
    let daemon = host.start(&config);
    daemon.wait_for_log("enforcing");
    assert_eq!(host.flood(500), 0);
}

#[test]
fn a_copied_state_directory_is_refused() {
    let host = Host::new();
    let config = host.node_file(EMBEDDED);
    remember(&host, "7b0e2c1e-4c1f-4c3e-9d55-0f6a3f1d2a02", true);
    let ended = host.run(&["--config", config.to_str().unwrap()]);
    ended.expect(1, &["copied", "3f1d2a02"]);
    assert!(!host.is_attached());
}

#[test]
fn an_interface_that_disappears_ends_the_daemon() {
    let host = Host::new();
    let config = host.node_file(EMBEDDED);
    let daemon = host.start(&config);
    daemon.wait_for_log("enforcing");
    host.remove_interface();
    daemon.ended().expect(1, &["eth0 is gone"]);
    host.add_interface();
    let again = host.start(&config);
    again.wait_for_log("enforcing");
    assert!(
        host.is_attached(),
        "a start after it came back attaches anew"
    );
}

#[test]
fn a_taken_address_is_named() {
    let host = Host::new();
    let config = host.node_file(&format!(
        "{}[http]\nlisten = \"192.0.2.77:80\"\ninsecure = true\n",
        EMBEDDED
    ));
    host.run(&["--config", config.to_str().unwrap()])
        .expect(1, &["http.listen", "192.0.2.77:80"]);
    assert!(!host.is_attached(), "what may fail comes first");
}

#[test]
fn a_file_that_is_no_socket_is_not_replaced() {
    let host = Host::new();
    let config = host.node_file(EMBEDDED);
    fs::write(host.path("node.sock"), "precious").unwrap();
    host.run(&["--config", config.to_str().unwrap()])
        .expect(1, &["no socket", "node.sock"]);
    assert_eq!(
        fs::read_to_string(host.path("node.sock")).unwrap(),
        "precious"
    );
    assert!(!host.is_attached());
}

#[test]
fn without_privileges_it_says_which_are_missing() {
    let host = Host::new();
    let config = host.node_file(EMBEDDED);
    let ended = host.run_unprivileged(&["--config", config.to_str().unwrap()]);
    ended.expect(1, &["CAP_NET_ADMIN", "CAP_BPF"]);
}

/// A host on which a file is tried leaves nothing behind, whenever it is told to stop.
#[test]
fn one_host_alone_leaves_nothing_whenever_it_is_stopped() {
    let host = Host::new();
    let limits = host.path("limits.toml");
    fs::write(&limits, LIMITS).unwrap();
    let (bpffs, socket) = (host.path("bpf"), host.path("node.sock"));
    let arguments = [
        "run",
        "--iface",
        "eth0",
        "--limits",
        limits.to_str().unwrap(),
        "--bpffs",
        bpffs.to_str().unwrap(),
        "--admin-socket",
        socket.to_str().unwrap(),
    ];
    for (signal, moment) in [
        (libc::SIGINT, "any source"),
        (libc::SIGTERM, "policy in force"),
        (libc::SIGHUP, "rate"),
    ] {
        let daemon = host.start_with(&arguments);
        daemon.wait_for_log(moment);
        daemon.signal(signal);
        daemon.ended().expect(0, &[]);
        assert!(!host.is_attached(), "stopped at {moment:?}");
        assert!(!socket.exists(), "stopped at {moment:?}");
        let pins = fs::read_dir(bpffs.join("weir")).map_or(0, Iterator::count);
        assert_eq!(pins, 0, "stopped at {moment:?}");
    }
}

#[test]
fn metrics_take_the_token_and_readiness_takes_a_policy() {
    let host = Host::new();
    let token = host.path("token");
    fs::write(&token, "canary-0123456789abcdef\nnot this line\n").unwrap();
    let http = format!(
        "[http]\nlisten = \"{}:9100\"\ninsecure = true\ntoken_file = \"{}\"\n",
        host.address(),
        token.display()
    );
    let status = |path: &str, header: &str| {
        let Ok(mut stream) = TcpStream::connect((host.address(), 9_100)) else {
            return String::new();
        };
        let request = format!("GET {path} HTTP/1.0\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
            .split_whitespace()
            .nth(1)
            .unwrap_or_default()
            .to_owned()
    };
    let known = "Authorization: Bearer canary-0123456789abcdef\r\n";
    let config = host.node_file(&format!("{EMBEDDED}{http}"));
    let daemon = host.start(&config);
    host.wait_until("it serves", || status("/healthz", "") == "200");
    assert_eq!(status("/readyz", ""), "503", "it has no policy");
    assert_eq!(status("/metrics", ""), "401");
    assert_eq!(status("/metrics", "Authorization: Bearer guess\r\n"), "401");
    assert_eq!(status("/metrics", known), "200");
    assert!(!daemon.log().contains("canary"), "{}", daemon.log());
    drop(daemon);
    remember(&host, THIS_NODE, true);
    let _daemon = host.start(&config);
    host.wait_until("it is ready", || status("/readyz", "") == "200");
}
