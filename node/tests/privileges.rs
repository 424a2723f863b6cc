//! What the daemon may do while it ticks: nothing that needs a privilege. And that it ticks, takes
//! policies, remembers and is succeeded all the same.
#![allow(clippy::unwrap_used)]

mod daemon_support;

use std::{
    fs,
    io::Write as _,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, chown},
        net::UnixStream,
    },
    path::Path,
};

use daemon_support::{Daemon, Ended, Host};
use tonic::transport::Endpoint;
use weir_proto::admin::v1::{ApplyRequest, LimitsRequest, admin_client::AdminClient};

/// `overflowuid`: who ticks where there is no user `weir`.
const OVERFLOW: u32 = 65534;
/// That user, and its group.
const NOBODY: (u32, u32) = (OVERFLOW, OVERFLOW);
const EMBEDDED: &str = "[coordinator]\nkind = \"embedded\"\n";
const UNIT: &str = include_str!("../../deploy/systemd/weir-node.service");
/// What compose leaves.
const OF_COMPOSE: &str = "--bounding-set=-all,+net_admin,+sys_admin";
const TO_LOAD: &str = "-all,+bpf,+net_admin,+perfmon";

const LIMIT: &str = "version = 1\n[[limit]]\nname = \"udp\"\nproto = \"udp\"\nports = [9999]\n";

fn limit(rate: &str, burst: &str) -> String {
    format!("{LIMIT}rate = \"{rate} packets/s\"\nburst = \"{burst} packets\"\n")
}

/// The argument of `setpriv` that leaves what the systemd unit leaves.
fn of_the_unit() -> String {
    let mut lines = UNIT.lines();
    let set = lines.find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names = set.unwrap().split(' ').map(|name| {
        let name = name.strip_prefix("CAP_").unwrap();
        format!(",+{}", name.to_lowercase())
    });
    format!("--bounding-set=-all{}", names.collect::<String>())
}

/// A node file for `host`, with another user.
fn node_file(host: &Host, user: &str) -> String {
    let config = host.node_file(&format!("{EMBEDDED}[timing]\nlease = \"500ms\"\n"));
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace("[node]\n", &format!("[node]\n{user}")),
    )
    .unwrap();
    config.to_str().unwrap().to_owned()
}

fn started(host: &Host, privileges: &[&str], config: &str) -> Daemon {
    let daemon = host.start_command(host.command_as(privileges, &["--config", config]));
    daemon.wait_for_log("enforcing");
    daemon
}

/// One field of each thread's `/proc/PID/task/TID/status`, whitespace made one space.
fn of_threads(process: u32, field: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    threads
        .map(|thread| {
            let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let words: Vec<&str> = line.unwrap().split_whitespace().collect();
            words.join(" ")
        })
        .collect()
}

#[track_caller]
fn assert_threads(process: u32, field: &str, expected: &str) {
    let found = of_threads(process, field);
    assert!(!found.is_empty());
    assert!(
        found.iter().all(|value| value == expected),
        "{field} {found:?}, expected {expected:?} of each thread"
    );
}

#[track_caller]
fn assert_no_capability(process: u32) {
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_threads(process, set, "0000000000000000");
    }
    assert_threads(process, "NoNewPrivs:", "1");
    // A link's descriptor is enough to take the program off.
    for descriptor in fs::read_dir(format!("/proc/{process}/fdinfo")).unwrap() {
        let about = fs::read_to_string(descriptor.unwrap().path()).unwrap_or_default();
        assert!(!about.contains("link_type"), "holds a link: {about}");
    }
}

#[track_caller]
fn assert_unprivileged(process: u32, (user, group): (u32, u32)) {
    assert_no_capability(process);
    assert_threads(process, "CapBnd:", "0000000000000000");
    // Real, effective, saved, and that of file systems.
    let four = |number: u32| [number.to_string().as_str(); 4].join(" ");
    assert_threads(process, "Uid:", &four(user));
    assert_threads(process, "Gid:", &four(group));
    assert_threads(process, "Groups:", "");
}

fn ask<T>(
    socket: &Path,
    question: impl AsyncFnOnce(AdminClient<tonic::transport::Channel>) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap();
        question(AdminClient::new(endpoint.connect().await.unwrap())).await
    })
}

/// Puts a document in force, and returns its version.
fn apply(host: &Host, document: &str) -> u64 {
    let request = ApplyRequest {
        document: document.to_owned(),
        ..ApplyRequest::default()
    };
    ask(&host.path("node.sock"), async |mut client| {
        client.apply(request).await.unwrap().into_inner().version
    })
}

/// What the only limit drops, in packets per second.
fn dropped(host: &Host) -> f64 {
    ask(&host.path("node.sock"), async |mut client| {
        let reply = client.limits(LimitsRequest::default()).await.unwrap();
        reply.into_inner().limits[0].dropped
    })
}

#[test]
fn what_ticks_has_no_privilege() {
    let host = Host::new();
    // As a login gives them, and as the one who ticks must not have them.
    let daemon = started(&host, &["--groups=0,4"], &node_file(&host, ""));
    assert_unprivileged(daemon.process(), NOBODY);
    let log = daemon.log();
    assert!(log.contains("load=Operation not permitted"), "{log}");
    daemon.signal(libc::SIGTERM);
    daemon.ended().expect(0, &["stopped"]);
}

#[test]
fn the_node_file_names_the_user() {
    let host = Host::new();
    let daemon = started(&host, &[], &node_file(&host, "user = \"daemon\"\n"));
    assert_unprivileged(daemon.process(), (1, 1));
    assert_eq!(fs::metadata(host.path("state")).unwrap().uid(), 1);
}

/// A host with a user and a group `weir` of its own, and with nothing in `/run`.
const WITH_WEIR: &str = "mount --bind passwd /etc/passwd && mount --bind group /etc/group && \
                         mount -t tmpfs none /run && mkdir /run/weir && exec \"$@\"";

#[test]
fn the_user_weir_is_taken_where_there_is_one() {
    let host = Host::new();
    host.mount_bpffs(0);
    for (file, line) in [
        ("passwd", "weir:x:4242:4343::/nonexistent:/usr/sbin/nologin"),
        ("group", "weir:x:4343:"),
    ] {
        fs::copy(format!("/etc/{file}"), host.path(file)).unwrap();
        let copy = fs::OpenOptions::new().append(true).open(host.path(file));
        writeln!(copy.unwrap(), "{line}").unwrap();
    }
    let config = node_file(&host, "");
    let socket = "/run/weir/node.sock";
    let arguments = ["--config", config.as_str(), "--admin-socket", socket];
    let mut command = host.command_within(&["unshare", "--mount", "sh", "-c", WITH_WEIR, "sh"]);
    command.args(arguments).current_dir(host.directory.path());
    let daemon = host.start_command(command);
    daemon.wait_for_log("enforcing");
    assert_unprivileged(daemon.process(), (4242, 4343));
    let inside = format!("/proc/{}/root{socket}", daemon.process());
    let found = fs::metadata(inside).unwrap();
    let owner = (found.uid(), found.gid(), found.mode() & 0o777);
    assert_eq!(owner, (4242, 4343, 0o660));
    daemon.signal(libc::SIGTERM);
    let ended = daemon.ended();
    ended.expect(0, &["stopped"]);
    assert!(!ended.output.contains("socket stays"), "{}", ended.output);
}

#[test]
fn an_unknown_user_is_an_error_of_the_node_file() {
    let host = Host::new();
    let config = node_file(&host, "user = \"weir-none\"\n");
    let text = "node.toml:6:8: error: there is no user \"weir-none\"";
    host.run(&["--config", &config]).expect(2, &[text]);
    assert!(!host.is_attached());
}

/// Grants are renewed, policies put in force, counters read and files written by the process that
/// has no privilege; and the next one, which has them for a moment, takes all of it up.
#[test]
fn it_ticks_takes_policies_and_remembers() {
    let host = Host::new();
    let config = node_file(&host, "");
    let daemon = started(&host, &[], &config);
    assert_eq!(apply(&host, &limit("10k", "500")), 1);
    // In one lease of half a second 5,500 packets pass: more takes grants that are renewed.
    let mut passed = 0;
    host.wait_until("leases are renewed", || {
        passed += host.flood(500);
        passed > 12_000
    });
    assert_eq!(apply(&host, &limit("1", "64")), 2);
    host.wait_until("the new policy is enforced", || host.flood(500) <= 64);
    host.wait_until("drops are counted", || {
        host.flood(500);
        dropped(&host) > 0.0
    });
    // SIGKILL: nothing is handed over but what is pinned and what was written.
    daemon.signal(libc::SIGKILL);
    assert_eq!(daemon.ended().code, None);
    assert!(host.is_attached());
    let next = started(&host, &[], &config);
    assert!(
        next.log().contains("policy in force version=2"),
        "{}",
        next.log()
    );
    assert_unprivileged(next.process(), NOBODY);
    assert!(host.flood(500) <= 10, "the bucket was empty, and still is");
}

/// As systemd starts it: root, of whose capabilities seven are left, none of them to look programs
/// up by number or to pass over the owners of files.
#[test]
fn the_capabilities_of_the_unit_are_enough() {
    let of_the_unit = of_the_unit();
    let privileges = [of_the_unit.as_str()];
    let host = Host::new();
    host.mount_bpffs(0);
    let config = node_file(&host, "");
    for life in ["the first", "one that adopts"] {
        let daemon = started(&host, &privileges, &config);
        assert_unprivileged(daemon.process(), NOBODY);
        apply(&host, &limit("1", "64"));
        daemon.signal(libc::SIGTERM);
        let log = daemon.ended();
        assert_eq!(log.code, Some(0), "{life}: {}", log.output);
        assert!(host.is_attached(), "{life}");
    }
    let detach = Ended::of(&mut host.command_as(&privileges, &["--config", &config, "--detach"]));
    detach.expect(0, &["nothing is enforced"]);
    assert!(!host.is_attached());
}

/// As systemd starts it with `User=` and `AmbientCapabilities=`.
#[test]
fn an_ordinary_user_with_ambient_capabilities_drops_them() {
    let host = Host::new();
    host.mount_bpffs(OVERFLOW);
    chown(host.directory.path(), Some(OVERFLOW), Some(OVERFLOW)).unwrap();
    let sets =
        ["--inh-caps=", "--ambient-caps=", "--bounding-set="].map(|set| format!("{set}{TO_LOAD}"));
    let user = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let privileges: Vec<&str> = user
        .into_iter()
        .chain(sets.iter().map(String::as_str))
        .collect();
    let config = node_file(&host, "");
    let daemon = started(&host, &privileges, &config);
    assert_no_capability(daemon.process());
    assert_threads(daemon.process(), "Uid:", "65534 65534 65534 65534");
    apply(&host, &limit("1", "64"));
    host.wait_until("the policy is enforced", || host.flood(500) <= 10);
    daemon.signal(libc::SIGTERM);
    daemon.ended().expect(0, &["stopped"]);
    assert!(!host.path("node.sock").exists(), "its own directory");

    let config = node_file(&host, "user = \"daemon\"\n");
    let other = host.start_command(host.command_as(&privileges, &["--config", &config]));
    other
        .ended()
        .expect(1, &["cannot become user daemon", "CAP_SETUID"]);
}

/// As a container starts it. Root without capabilities still owns what root owns: it says so.
#[test]
fn without_the_capability_to_change_user_the_others_are_dropped() {
    let host = Host::new();
    let daemon = started(&host, &[OF_COMPOSE], &node_file(&host, ""));
    assert_no_capability(daemon.process());
    assert_threads(daemon.process(), "Uid:", "0 0 0 0");
    assert!(daemon.log().contains("ticking as root"), "{}", daemon.log());
}

#[test]
fn a_directory_of_others_is_not_given_away() {
    let host = Host::new();
    let config = node_file(&host, "");
    fs::create_dir_all(host.path("state/of-others")).unwrap();
    let refused = host.start(Path::new(&config)).ended();
    refused.expect(1, &["state", "of-others"]);
    assert_eq!(fs::metadata(host.path("state")).unwrap().uid(), 0);
    assert!(!host.is_attached());
}

/// What can write to the state directory cannot have root write elsewhere.
#[test]
fn the_state_is_written_as_the_user() {
    let host = Host::new();
    let config = node_file(&host, "");
    drop(started(&host, &[], &config));
    let precious = host.path("precious");
    fs::write(&precious, "precious").unwrap();
    std::os::unix::fs::symlink(&precious, host.path("state/node.json.next")).unwrap();
    let refused = host.start(Path::new(&config)).ended();
    refused.expect(1, &["as user 65534", "denied"]);
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
}

struct Alone {
    host: Host,
    arguments: Vec<String>,
}

impl Alone {
    fn new() -> Self {
        let host = Host::new();
        fs::write(host.path("limits.toml"), limit("1", "64")).unwrap();
        let path = |name: &str| host.path(name).to_str().unwrap().to_owned();
        let limits = path("limits.toml");
        let (bpffs, socket) = (path("bpf"), path("node.sock"));
        let arguments = [
            "run", "--iface", "eth0", "--limits", &limits, "--bpffs", &bpffs,
        ];
        let mut arguments = arguments.map(str::to_owned).to_vec();
        arguments.extend(["--admin-socket".to_owned(), socket]);
        Self { host, arguments }
    }

    /// Starts, and returns the waiting process and the number of the ticking one.
    fn start(&self) -> (Daemon, u32) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let parent = self.host.start_with(&arguments);
        parent.wait_for_log("dropped ");
        let process = parent.process();
        let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
        let child = children.unwrap().trim().parse().unwrap();
        (parent, child)
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        assert!(!self.host.is_attached());
        assert!(!self.host.path("node.sock").exists());
        assert!(!self.host.path("bpf/weir").exists());
    }
}

fn kill(process: u32, signal: i32) {
    // SAFETY: a signal to a process of this test.
    unsafe { libc::kill(process.cast_signed(), signal) };
}

#[test]
fn one_host_alone_ticks_without_privileges_and_leaves_nothing() {
    let alone = Alone::new();
    let (parent, child) = alone.start();
    assert_unprivileged(child, NOBODY);
    let socket = fs::metadata(alone.host.path("node.sock")).unwrap();
    assert!(socket.file_type().is_socket() && socket.mode() & 0o777 == 0o660);
    parent.signal(libc::SIGTERM);
    parent.ended().expect(0, &["stopping on SIGTERM"]);
    alone.assert_nothing_left();
}

#[test]
fn the_ticking_process_killed_leaves_nothing() {
    let alone = Alone::new();
    let (parent, child) = alone.start();
    kill(child, libc::SIGKILL);
    parent.ended().expect(1, &["ended by SIGKILL"]);
    alone.assert_nothing_left();
}

/// Without the one that could clean up, what ticks ends, and the next run clears what is left.
#[test]
fn the_waiting_process_killed_ends_the_other_and_the_next_run_clears() {
    let alone = Alone::new();
    let (parent, _) = alone.start();
    parent.signal(libc::SIGKILL);
    assert_eq!(parent.ended().code, None);
    let socket = alone.host.path("node.sock");
    let host = &alone.host;
    host.wait_until("nobody answers", || UnixStream::connect(&socket).is_err());
    assert!(host.is_attached(), "what was left");
    let (parent, _) = alone.start();
    parent.signal(libc::SIGINT);
    parent.ended().expect(0, &[]);
    alone.assert_nothing_left();
}
