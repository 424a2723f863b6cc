//! `weir check` and the command line itself: what is printed where, and the exit codes.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

const GOOD: &str = "version = 1\n[fleet]\nmax_members = 16\n\
                    [[limit]]\nname = \"dns\"\nrate = \"100k packets/s\"\nfloor = \"0.5%\"\n\
                    to = [\"203.0.113.53\"]\n\
                    [[limit]]\nname = \"ping\"\nproto = \"icmp\"\nrate = \"100 packets/s\"\n\
                    promise = \"local\"\n";
const BAD: &str = "version = 1\n[[limit]]\nname = \"dns\"\nrat = \"100k packets/s\"\n\
                   ports = [53]\n";
const KEYED: &str = "version = 1\n[fleet]\nmax_members = 16\nunparsed = \"pass\"\n\
                     [[limit]]\nname = \"clients\"\nper = { source_v4 = 24 }\n\
                     rate = \"500 packets/s\"\npromise = \"strict\"\nto = [\"203.0.113.53\"]\n\
                     [[limit]]\nname = \"syn\"\nproto = \"tcp\"\nrate = \"1k connections/s\"\n\
                     on_expiry = \"closed\"\nto = [\"203.0.113.53\"]\n";
const ELASTIC: &str = "version = 1\n[[limit]]\nname = \"web\"\nrate = \"10k packets/s\"\n\
                       burst = \"500 packets\"\npromise = \"elastic\"\nexcess = \"20%\"\n\
                       to = [\"203.0.113.80\"]\n\
                       [[limit]]\nname = \"dns\"\nrate = \"10k packets/s\"\n\
                       to = [\"203.0.113.53\"]\n";
const CONFLICTS: &str = "version = 1\n\
                         [[limit]]\nname = \"udp\"\nproto = \"udp\"\nrate = \"10k packets/s\"\n\
                         [[limit]]\nname = \"dns\"\nproto = \"udp\"\nports = [53]\n\
                         rate = \"20k packets/s\"\n\
                         [[limit]]\nname = \"login\"\nproto = \"tcp\"\nports = [22]\n\
                         rate = \"1k connections/s\"\n";
const DOUBTFUL: &str = "version = 1\n[[limit]]\nname = \"slow\"\nrate = \"1 Mbit/s\"\n\
                        to = [\"203.0.113.53\"]\n";

fn weir() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env_remove("WEIR_ADDRESS").stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("output is UTF-8")
}

struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for (name, content) in [
            ("good", GOOD),
            ("bad", BAD),
            ("keyed", KEYED),
            ("elastic", ELASTIC),
            ("doubtful", DOUBTFUL),
            ("conflicts", CONFLICTS),
        ] {
            fs::write(directory.path().join(name), content).expect("a written file");
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn check(&self, name: &str, more: &[&str]) -> Output {
        let mut command = weir();
        command.arg("check").arg(self.path(name)).args(more);
        command.output().expect("weir runs")
    }
}

#[test]
fn a_good_file_is_summed_up() {
    let output = Files::new().check("good", &[]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
    assert_eq!(
        text(&output.stdout),
        "LIMIT  PER  PROMISE  MODE       RATE  BURST  UNIT     FLOOR  RESERVED\n\
         dns    -    strict   enforce  100k/s  10.0k  packets  500/s     8.0 %\n\
         ping   -    local    enforce   100/s     10  packets      -         -\n\
         \n\
         FLOOR is what each of up to 16 members may always admit; together they reserve RESERVED \
         of the rate.\n"
    );
}

/// What a host gives a key is noted, which is no warning.
#[test]
fn keyed_limits_are_summed_up_by_key() {
    let files = Files::new();
    let output = files.check("keyed", &[]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output.stdout),
        format!(
            "{}:7:7: note: \"strict\" gives a key 1/32 of the limit on each host: 15.625 packets/s, and a \
             burst of 1.562 packets; one that wants more gets up to half of the limit besides, where it \
             wants it\n\
             LIMIT    PER          PROMISE  MODE        RATE  BURST  UNIT         FLOOR  RESERVED\n\
             clients  v4/24 v6/64  strict   enforce    500/s     50  packets          -         -\n\
             syn      -            strict   enforce  1.00k/s    100  connections      -         -\n\
             \n\
             FLOOR is what each of up to 16 members may always admit; together they reserve \
             RESERVED of the rate.\n\
             RATE and BURST of a limit with PER are those of one source prefix.\n",
            files.path("keyed").display()
        )
    );
    let output = files.check("keyed", &["--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["problems"][0]["severity"], "note");
    assert_eq!(report["unparsed"], "pass");
    let [clients, syn] = [&report["limits"][0], &report["limits"][1]];
    assert_eq!(
        clients["per"],
        serde_json::json!({"source_v4": 24, "source_v6": 64})
    );
    assert_eq!(clients["key"]["rate"], 15.625);
    assert_eq!(clients["key"]["burst"], 1.5625);
    assert!(clients["on_expiry"].is_null() && syn["key"].is_null());
    assert_eq!(syn["on_expiry"], "closed");
    assert!(syn["floor_rate"].is_null());
}

/// The bound of an elastic limit is printed, and is no part of the burst that its author wrote.
#[test]
fn the_bound_of_an_elastic_limit_is_said() {
    let files = Files::new();
    let output = files.check("elastic", &["--json"]);
    assert_eq!(output.status.code(), Some(0));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let [web, dns] = [&report["limits"][0], &report["limits"][1]];
    assert_eq!(
        (&web["burst"], &web["excess"]),
        (&500.0.into(), &0.2.into())
    );
    assert_eq!(web["excess_tokens"], 2_000.0);
    assert_eq!(web["on_expiry"], "floor");
    assert!(dns["excess_tokens"].is_null(), "strict");
    let message = report["problems"][0]["message"].as_str().expect("a text");
    assert!(message.contains("at most 2000 packets above"), "{message}");
}

#[test]
fn a_bad_file_is_told_every_problem_with_its_place() {
    let files = Files::new();
    let output = files.check("bad", &[]);
    assert_eq!(output.status.code(), Some(1));
    let path = files.path("bad");
    let path = path.display();
    assert_eq!(
        text(&output.stdout),
        format!(
            "{path}:4:1: error: unknown key `rat` in [[limit]]; did you mean `rate`?\n\
             {path}:5:1: error: `ports` with proto \"any\", which includes protocols without \
             ports; write `proto = \"udp\"` or `proto = \"tcp\"`\n\
             {path}: 2 errors, 0 warnings\n"
        )
    );
}

#[test]
fn a_doubtful_file_is_good_with_a_warning() {
    let files = Files::new();
    let output = files.check("doubtful", &[]);
    assert_eq!(output.status.code(), Some(0));
    let expected = format!("{}:4:8: warning: ", files.path("doubtful").display());
    assert!(text(&output.stdout).starts_with(&expected), "{output:?}");
}

#[test]
fn limits_in_each_others_way_are_warned_of_and_floors_above_the_budget_refused() {
    let files = Files::new();
    let output = files.check("conflicts", &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said: Vec<&str> = text(&output.stdout).lines().collect();
    for (line, [place, rest]) in said.iter().zip([
        [
            "conflicts:3:8: note: this limit is about whatever",
            "port 3784 (BFD)",
        ],
        [
            "conflicts:7:8: warning: this limit changes nothing",
            "\"udp\" on line 3",
        ],
        ["conflicts:14:9: warning: port 22 (SSH)", "--confirm-within"],
    ]) {
        assert!(line.contains(place) && line.contains(rest), "{said:?}");
    }
    let floors = CONFLICTS.replace(
        "rate = \"10k packets/s\"",
        "rate = \"10k packets/s\"\nfloor = \"2%\"",
    );
    fs::write(files.path("floors"), floors).expect("a written file");
    let output = files.check("floors", &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(
        said.contains("floors:6:") && said.contains("add up to 128 % of the rate"),
        "{said}"
    );
}

#[test]
fn json_is_one_object_on_one_line() {
    let files = Files::new();
    for (name, code, problems, limits) in [
        ("good", 0, 0, 2),
        ("bad", 1, 2, 0),
        ("keyed", 0, 1, 2),
        ("doubtful", 0, 1, 1),
    ] {
        let output = files.check(name, &["--json"]);
        assert_eq!(output.status.code(), Some(code), "{name}");
        assert_eq!(text(&output.stderr), "");
        let line = text(&output.stdout);
        assert_eq!(line.lines().count(), 1, "{line}");
        let report: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(report["ok"], code == 0);
        assert_eq!(report["problems"].as_array().map(Vec::len), Some(problems));
        assert_eq!(report["limits"].as_array().map(Vec::len), Some(limits));
    }
    let output = files.check("bad", &["--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let problem = &report["problems"][0];
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&4.into(), &1.into())
    );
    assert_eq!(problem["severity"], "error");
    assert_eq!(problem["suggestion"], "did you mean `rate`?");
}

#[test]
fn standard_input_is_a_file_too() {
    let mut child = weir()
        .args(["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("weir runs");
    let mut input = child.stdin.take().expect("a piped input");
    input.write_all(BAD.as_bytes()).expect("weir reads");
    drop(input);
    let output = child.wait_with_output().expect("weir ends");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).starts_with("-:4:1: error: unknown key `rat`"));
}

#[test]
fn wrong_usage_exits_with_two() {
    let files = Files::new();
    let good = files.path("good").display().to_string();
    for arguments in [
        vec![],
        vec!["chekc"],
        vec!["check"],
        vec!["check", &good, "--colour"],
        vec!["check", "/nowhere/limits.toml"],
        vec!["check", files.directory.path().to_str().expect("UTF-8")],
        vec!["--address", "edge", "status"],
        vec!["apply", &good, "--expected-version", "new"],
        vec!["run", &good],
    ] {
        let output = weir().args(&arguments).output().expect("weir runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        assert_ne!(text(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn a_file_that_is_too_large_is_refused_unread() {
    let files = Files::new();
    let path = files.path("large");
    fs::write(&path, " ".repeat(64_000_001)).expect("a written file");
    let output = files.check("large", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("larger than 64000000 bytes"),
        "{output:?}"
    );
}

#[test]
fn every_command_has_help_with_an_example() {
    let help = |arguments: &[&str]| {
        let output = weir()
            .args(arguments)
            .arg("--help")
            .output()
            .expect("weir runs");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        text(&output.stdout).to_owned()
    };
    let top = help(&[]);
    assert!(top.contains("Example"), "{top}");
    for command in [
        "check", "apply", "status", "limits", "nodes", "top", "explain", "replay", "run",
    ] {
        assert!(top.contains(&format!("\n  {command} ")), "{command}: {top}");
        let text = help(&[command]);
        assert!(
            text.contains("Example") && text.contains("weir "),
            "{command}: {text}"
        );
        assert!(text.contains("--json"), "{command}: {text}");
    }
}

/// Copies a program in a process of its own: a program that this one writes cannot be run while a
/// child of another test still has the descriptor.
fn install(from: &Path, to: &Path) {
    let mut command = Command::new("install");
    let status = command.args(["-m", "755"]).arg(from).arg(to).status();
    assert!(status.expect("install runs").success());
}

#[test]
fn run_says_where_it_looked_for_the_daemon() {
    let files = Files::new();
    let lonely = files.path("weir");
    install(Path::new(env!("CARGO_BIN_EXE_weir")), &lonely);
    let run = |path: &Path| {
        Command::new(&lonely)
            .args(["run", "--iface", "eth0", "--xdp-mode", "generic", "--json"])
            .args(["--address", "unix:/tmp/x.sock"])
            .arg(files.path("good"))
            .env("PATH", path)
            .output()
            .expect("weir runs")
    };
    let output = run(files.directory.path());
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "weir-node is neither in {} nor in PATH",
        files.directory.path().display()
    );
    assert!(text(&output.stderr).contains(&expected), "{output:?}");

    // With a daemon beside it, it becomes that daemon, with its arguments.
    let script = files.path("script");
    fs::write(&script, "#!/bin/sh\necho \"$@\"\nexit 7\n").expect("a written file");
    install(&script, &files.path("weir-node"));
    let output = run(Path::new("/bin"));
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(
        text(&output.stdout),
        format!(
            "run --iface eth0 --limits {} --xdp-mode generic --admin-socket /tmp/x.sock --json\n",
            files.path("good").display()
        )
    );
}
