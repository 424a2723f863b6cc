//! Every check that has to hold, one step after the other; a step that fails stops none.

use std::{
    io::{BufRead as _, BufReader},
    mem,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{alerts, output, package, programs, setup, shell, tidy};

/// How much is checked.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave out what takes whole fleets: scenarios, demonstration, benchmark
    #[arg(long)]
    quick: bool,
}

/// Seconds of the demonstration's short form.
const DEMO_SECONDS: &str = "16";
/// One of the rules that `cargo xtask chaos --broken` breaks; the others are like it.
const BROKEN_RULE: &str = "CommitByMinority";
/// A window of the benchmark's short form: that figures come out is checked, and nothing of them.
const BENCH_WINDOW_MS: &str = "20";

/// What a step counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Checks that hold.
    pub(crate) passed: usize,
    /// Checks that do not.
    pub(crate) failed: usize,
    /// What the failed ones said, to be read once more at the end.
    pub(crate) said: String,
}

impl Tally {
    /// One check.
    pub(crate) const fn of(passed: bool) -> Self {
        Self {
            passed: passed as usize,
            failed: !passed as usize,
            said: String::new(),
        }
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.said += &other.said;
    }
}

type Step = (&'static str, fn() -> Result<Tally>);

/// Random steps of the model in its short form; the scopes that are explored whole always are.
const MODEL_STEPS: &str = "10000000";

const QUICK: [Step; 9] = [
    ("format", || {
        command(&mut shell::cargo(&["fmt", "--all", "--check"]))
    }),
    ("clippy", clippy),
    ("documentation", documentation),
    ("tidy", tidy::tally),
    ("alert rules and dashboard", alerts::tally),
    // Before the ordinary programs are built, which take its place.
    ("traces: a daemon that has them", traces),
    ("build", || programs::build().map(|()| Tally::of(true))),
    ("tests: units, properties, kernel, ZooKeeper", tests),
    ("model of the protocol, short", || {
        pure("weir-model-check", &["--steps", MODEL_STEPS])
    }),
];

const FLEETS: [Step; 5] = [
    ("chaos, short: faults, and nothing above budget", || {
        lab(&["chaos", "--short", "--without-times"])
    }),
    (
        "chaos: a rule that is broken is found at the receiver",
        || {
            programs::build_broken()?;
            lab(&["chaos", "--broken", "--rule", BROKEN_RULE])
        },
    ),
    ("documents: their commands work", || {
        package::run(&package::Options { development: true })?;
        lab(&["documents"])
    }),
    ("demonstration, short", || {
        lab(&["demo", "--seconds", DEMO_SECONDS])
    }),
    (
        "benchmark of the data plane: every variant sees and drops its frames",
        || {
            lab(&[
                "bench",
                "data-plane",
                "--quick",
                "--pairs",
                "1",
                "--window",
                BENCH_WINDOW_MS,
            ])
        },
    ),
];

/// Runs the steps. The last line on standard output is `N passed, N failed`.
pub(crate) fn run(options: &Options) -> Result<bool> {
    setup::run()?;
    let fleets: &[Step] = if options.quick { &[] } else { &FLEETS };
    let steps: Vec<&Step> = QUICK.iter().chain(fleets).collect();
    let mut sum = Tally::default();
    let mut failed = Vec::new();
    for (number, (name, step)) in (1..).zip(&steps) {
        output::heading(&format!("[{number}/{}] {name}", steps.len()));
        let begun = Instant::now();
        let mut tally = step().unwrap_or_else(|error| {
            output::bad(&format!("{error:#}"));
            Tally {
                said: format!("{error:#}\n"),
                ..Tally::of(false)
            }
        });
        let line = format!(
            "{name}: {} passed, {} failed ({:.1} s)",
            tally.passed,
            tally.failed,
            begun.elapsed().as_secs_f64()
        );
        if tally.failed == 0 {
            output::good(&line);
        } else {
            output::bad(&line);
            failed.push((*name, mem::take(&mut tally.said)));
        }
        sum += tally;
    }
    // What went wrong is long out of sight.
    for (name, said) in failed {
        output::heading(&format!("failed: {name}"));
        eprint!("{said}");
    }
    println!("{} passed, {} failed", sum.passed, sum.failed);
    Ok(sum.failed == 0)
}

fn command(command: &mut Command) -> Result<Tally> {
    shell::watch(command).map(|()| Tally::of(true))
}

fn clippy() -> Result<Tally> {
    let scope = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    command(&mut shell::cargo(&scope))
}

/// What only a build with the feature has. The rest of the daemon is the same in both.
fn traces() -> Result<Tally> {
    let daemon = [
        "--package",
        "weir-node",
        "--features",
        "otlp",
        "--test",
        "otlp",
    ];
    let mut clippy = shell::cargo(&["clippy", "--quiet", "--lib"]);
    command(clippy.args(daemon).args(["--", "-D", "warnings"]))?;
    counted(shell::cargo(&["test"]).args(daemon))
}

fn documentation() -> Result<Tally> {
    let mut cargo = shell::cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
    command(cargo.env("RUSTDOCFLAGS", "-D warnings"))
}

fn lab(arguments: &[&str]) -> Result<Tally> {
    let mut lab = Command::new(programs::lab()?);
    command(lab.current_dir(shell::root()).args(arguments))
}

/// A program that needs nothing but a Rust toolchain.
fn pure(package: &str, arguments: &[&str]) -> Result<Tally> {
    let mut cargo = shell::cargo(&["run", "--quiet", "--package", package, "--"]);
    command(cargo.args(arguments))
}

/// All tests of all packages, those that need root, kernel and ZooKeeper included.
fn tests() -> Result<Tally> {
    counted(&mut shell::cargo(&[
        "test",
        "--workspace",
        "--no-fail-fast",
    ]))
}

/// What each test binary reports is counted, and shown when it comes.
fn counted(cargo: &mut Command) -> Result<Tally> {
    let mut child = cargo
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo test")?;
    let stdout = child.stdout.take().context("standard output is piped")?;
    let mut tally = Tally::default();
    // From the first word on a binary's failures to its result.
    let mut failures: Option<String> = None;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if line == "failures:" {
            failures.get_or_insert_default();
        }
        if let Some(said) = &mut failures {
            said.push_str(&line);
            said.push('\n');
        }
        if let Some(counted) = libtest_result(&line) {
            tally += counted;
            tally.said += &failures.take().unwrap_or_default();
        }
        if !line.ends_with("... ok") && !line.is_empty() {
            eprintln!("{line}");
        }
    }
    let passed = child.wait()?.success();
    // What fails without a count, a build for example, is one failure.
    if !passed && tally.failed == 0 {
        tally += Tally::of(false);
    }
    Ok(tally)
}

/// `test result: ok. 12 passed; 0 failed; …`
fn libtest_result(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| {
        let count = counts
            .split("; ")
            .find_map(|part| part.strip_suffix(what))?;
        count.trim().parse().ok()
    };
    Some(Tally {
        passed: count("passed")?,
        failed: count("failed")?,
        ..Tally::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_libtest_reports() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered \
                    out; finished in 0.01s";
        assert_eq!(
            libtest_result(line),
            Some(Tally {
                passed: 12,
                failed: 3,
                ..Tally::default()
            })
        );
        assert_eq!(libtest_result("running 3 tests"), None);
        assert_eq!(libtest_result("test result: ok. nothing"), None);
    }

    #[test]
    fn a_failed_step_is_counted_and_its_words_are_kept() {
        let mut sum = Tally::of(true);
        sum += Tally {
            said: "why".to_owned(),
            ..Tally::of(false)
        };
        let Tally {
            passed,
            failed,
            said,
        } = sum;
        assert_eq!((passed, failed, said.as_str()), (1, 1, "why"));
    }

    #[test]
    fn what_a_failed_test_said_is_kept() {
        let output = "echo 'test a ... ok'; echo failures:; echo why; echo failures:; echo '    b'
                      echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored'; false";
        let tally = counted(Command::new("sh").args(["-c", output])).unwrap();
        assert_eq!((tally.passed, tally.failed), (1, 1));
        assert!(tally.said.starts_with("failures:\nwhy\n"), "{tally:?}");
    }
}
