//! `weir top` against a made-up fleet: as lines, and on a terminal that tmux makes.

mod support;

use std::{
    env, fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use support::{Daemon, feed::Feed, text};

/// How long a screen may take to show what it should.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

fn fed(nodes: u32, limits: u32) -> Daemon {
    let daemon = Daemon::start();
    daemon.reply(|replies| replies.feed = Some(Feed { nodes, limits }));
    daemon
}

/// A terminal with one command in it, on a server of its own. It ends with this.
struct Tmux {
    server: String,
}

impl Tmux {
    fn start(daemon: &Daemon, name: &str, (columns, rows): (u32, u32), arguments: &str) -> Self {
        let server = format!("weir-{name}-{}", std::process::id());
        let command = format!(
            "exec env -u WEIR_ADDRESS LC_ALL=C.UTF-8 {} --address {} {arguments}",
            env!("CARGO_BIN_EXE_weir"),
            daemon.address(),
        );
        let tmux = Self { server };
        let [columns, rows] = [columns.to_string(), rows.to_string()];
        let size = ["-x", columns.as_str(), "-y", rows.as_str()];
        let begun = tmux.run(
            &[
                &["-f", "/dev/null", "new-session", "-d"],
                &size[..],
                &[&command],
            ]
            .concat(),
        );
        assert!(
            begun.is_some(),
            "tmux starts; `cargo xtask setup` installs it"
        );
        tmux
    }

    /// What it says; `None` if it fails, as when the session is over.
    fn run(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new("tmux")
            .args(["-u", "-L", &self.server])
            .args(arguments)
            .output()
            .expect("tmux is installed; `cargo xtask setup` does it");
        output
            .status
            .success()
            .then(|| text(&output.stdout).to_owned())
    }

    fn press(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat())
            .expect("the session lives");
    }

    /// The screen, once it is as it should be.
    fn screen(&self, is_as_it_should_be: impl Fn(&str) -> bool) -> String {
        let by = Instant::now() + SHOWN_WITHIN;
        loop {
            let screen = self
                .run(&["capture-pane", "-p"])
                .expect("the session lives");
            if is_as_it_should_be(&screen) {
                return screen;
            }
            assert!(Instant::now() < by, "not in {SHOWN_WITHIN:?}:\n{screen}");
            thread::sleep(POLL);
        }
    }

    fn has_ended(&self) -> bool {
        let by = Instant::now() + SHOWN_WITHIN;
        while self.run(&["has-session"]).is_some() {
            if Instant::now() >= by {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }

    /// The command's own process.
    fn pid(&self) -> String {
        let pid = self.run(&["display-message", "-p", "#{pane_pid}"]);
        pid.expect("the session lives").trim().to_owned()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.run(&["kill-server"]);
    }
}

#[test]
fn lines_of_a_limit_that_there_is_not_fail() {
    let daemon = Daemon::start();
    let arguments = ["top", "--json", "--ticks", "1", "--limit", "nosuch"];
    let output = daemon.weir(&arguments).output().expect("weir runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(text(&output.stdout), "");
    assert!(text(&output.stderr).contains("there is no limit \"nosuch\""));
}

#[test]
fn as_json_each_tick_is_a_line() {
    let daemon = Daemon::start();
    let arguments = [
        "top",
        "--json",
        "--ticks",
        "2",
        "--interval",
        "100ms",
        "--limit",
        "flood",
    ];
    let output = daemon.weir(&arguments).output().expect("weir runs");
    assert!(output.status.success(), "{output:?}");
    let lines: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2);
    let fleet = &lines[1];
    assert_eq!(fleet["leader"]["name"], "host2");
    assert_eq!(
        (&fleet["term"], &fleet["zookeeper"]["connected"]),
        (&4.into(), &true.into())
    );
    assert_eq!(fleet["members"].as_array().map(Vec::len), Some(3));
    let limit = &fleet["limits"][0];
    assert_eq!(
        (&limit["name"], &limit["dropped"]),
        (&"flood".into(), &60_300.0.into())
    );
    assert_eq!(
        (&limit["promise_kept"], &limit["nodes_on_floor"]),
        (&true.into(), &1.into())
    );
    assert_eq!(fleet["nodes"][0]["limits"][0]["share"], 29_700.0);
}

#[test]
fn a_tick_without_an_answer_ends_the_lines() {
    let daemon = Daemon::start();
    daemon.reply(|replies| replies.refusal = Some(tonic::Status::unavailable("no leader")));
    let output = daemon.weir(&["top", "--json"]).output().expect("weir runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no leader"), "{output:?}");
    for interval in ["99ms", "2h", "soon"] {
        let output = daemon.weir(&["top", "--interval", interval]).output();
        assert_eq!(
            output.expect("weir runs").status.code(),
            Some(2),
            "{interval}"
        );
    }
}

#[test]
fn on_a_terminal_it_is_looked_at_with_keys() {
    let daemon = fed(100, 1_000);
    let tmux = Tmux::start(&daemon, "keys", (80, 24), "top --interval 100ms");
    let screen = tmux.screen(|screen| screen.contains("edge-08 ") && screen.contains('█'));
    println!("{screen}");
    assert!(
        screen.contains("1 of 1000") && screen.contains("100 nodes"),
        "{screen}"
    );
    assert!(
        screen.lines().all(|line| line.chars().count() <= 80),
        "{screen}"
    );
    tmux.press(&["d", "Down"]);
    tmux.screen(|screen| screen.contains("2 of 1000, by dropped"));
    tmux.press(&["/", "v", "p", "n", "Enter", "Enter"]);
    let screen =
        tmux.screen(|screen| screen.contains("nodes on vpn-") && screen.contains("1 of 100 "));
    println!("{screen}");
    tmux.press(&["Enter"]);
    let screen =
        tmux.screen(|screen| screen.contains("limits on edge-") && screen.contains("ntp-0001"));
    println!("{screen}");
    tmux.press(&["Escape"]);
    tmux.screen(|screen| screen.contains("nodes on vpn-") && screen.contains("offered"));
    tmux.press(&["?"]);
    println!(
        "{}",
        tmux.screen(|screen| screen.contains("the node that leads"))
    );
    tmux.press(&["x", "q"]);
    assert!(tmux.has_ended(), "q quits");
}

#[test]
fn a_daemon_that_goes_and_comes_back_is_waited_for() {
    let daemon = fed(3, 5);
    let tmux = Tmux::start(&daemon, "gone", (60, 16), "top --interval 100ms");
    tmux.screen(|screen| screen.contains("dns-0000"));
    daemon.reply(|replies| replies.refusal = Some(tonic::Status::unavailable("shutting down")));
    let screen = tmux.screen(|screen| screen.contains("NO ANSWER"));
    assert!(
        screen.contains("dns-0000"),
        "what was known stays: {screen}"
    );
    daemon.reply(|replies| replies.refusal = None);
    tmux.screen(|screen| !screen.contains("NO ANSWER") && screen.contains("dns-0000"));
    tmux.press(&["C-c"]);
    assert!(tmux.has_ended());
}

/// Resident memory of a process, kB.
fn resident(pid: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    kilobytes
        .and_then(|text| text.parse().ok())
        .expect("its size")
}

/// Ticks of user and system time, 10 ms each.
fn processor(pid: &str) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .expect("its state")
        .split_whitespace()
        .collect();
    let ticks = |field: usize| fields[field].parse::<u64>().expect("a number");
    ticks(11) + ticks(12)
}

/// `WEIR_TOP_UPDATES` says how many: 3,600 are an hour at the usual pace.
#[test]
fn a_large_fleet_does_not_let_it_grow() {
    /// Then the past is full.
    const WARM: u64 = 300;
    /// What an allocator keeps back.
    const GROWTH_MOST_KB: u64 = 2_048;
    let updates = env::var("WEIR_TOP_UPDATES").map_or(300, |text| text.parse().expect("a number"));
    let daemon = fed(100, 1_000);
    let tmux = Tmux::start(&daemon, "large", (200, 50), "top --flat-out");
    let asked = || daemon.look(|replies| replies.overviews);
    let reach = |count: u64| {
        let by = Instant::now() + Duration::from_secs(600);
        while asked() < count {
            assert!(Instant::now() < by, "{} of {count} updates", asked());
            thread::sleep(POLL);
        }
    };
    reach(WARM);
    let pid = tmux.pid();
    let (before, spent, begun, first) = (resident(&pid), processor(&pid), Instant::now(), asked());
    reach(first + updates);
    let (after, count) = (resident(&pid), asked() - first);
    let each = begun.elapsed().as_secs_f64() * 1e3 / count as f64;
    let own = (processor(&pid) - spent) as f64 * 10.0 / count as f64;
    println!(
        "100 nodes x 1,000 limits: {count} updates, {each:.1} ms each of which {own:.1} ms of its own \
         processor time, resident {before} kB before and {after} kB after"
    );
    assert!(
        after <= before + GROWTH_MOST_KB,
        "{before} kB, then {after} kB"
    );
}
