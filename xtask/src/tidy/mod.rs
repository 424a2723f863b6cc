//! Architecture and style, as far as a program can judge them.
//!
//! Each check is a pure function of what it is given, so that a test can give it something bad.

mod alerts;
mod attacks;
mod edges;
mod manifests;
mod purity;
mod sources;

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{check::Tally, output, shell};

/// What a check found.
#[derive(Debug, Default)]
struct Finding {
    /// What was looked at, for people who wonder whether anything was.
    scope: String,
    /// What is wrong, one line each.
    problems: Vec<String>,
}

/// A file that git knows, or would if it were added.
#[derive(Debug)]
struct TrackedFile {
    path: String,
    text: String,
}

/// Runs all checks; `false` if one found something.
pub(crate) fn run() -> Result<bool> {
    let tally = tally()?;
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.failed == 0)
}

/// Runs all checks and counts them.
pub(crate) fn tally() -> Result<Tally> {
    let files = tracked_files()?;
    let metadata = shell::output(&mut shell::cargo(&[
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
    ]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let checks = [
        (
            "dependency edges follow the architecture",
            edges::check(&metadata),
        ),
        (
            "pure crates build without std",
            purity::builds_without_std(),
        ),
        (
            "pure crates ban clocks and unordered maps",
            purity::bans(&files),
        ),
        (
            "crates inherit the workspace's lints",
            manifests::inherit_lints(&files),
        ),
        (
            "versions are in the workspace's manifest",
            manifests::share_versions(&files),
        ),
        (
            "every crate says what it is for",
            sources::documented_roots(&files),
        ),
        ("files have a bounded size", sources::bounded_size(&files)),
        ("names say what a thing is", sources::named_well(&files)),
        ("text speaks of Weir alone", sources::neutral_text(&files)),
        ("every attack is tried", attacks::are_tried(&files)),
        (
            "every alert is tested, and has a section of the runbook",
            alerts::are_tested(&files),
        ),
    ];
    let mut tally = Tally::default();
    for (name, finding) in checks {
        let passed = finding.problems.is_empty();
        tally += Tally::of(passed);
        let show = if passed { output::good } else { output::bad };
        show(&format!("{name}: {}", finding.scope));
        for problem in finding.problems {
            output::note(&problem);
        }
    }
    Ok(tally)
}

/// All text files that are tracked or about to be.
fn tracked_files() -> Result<Vec<TrackedFile>> {
    let mut git = shell::command("git");
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let listing = shell::output(&mut git).context("tidy looks at what git tracks")?;
    let paths = listing.split('\0').filter(|path| !path.is_empty());
    // A file that was deleted but not yet committed is still listed; one that is no text is skipped.
    let read = |path: &str| {
        let text = fs::read_to_string(shell::root().join(path)).ok()?;
        Some(TrackedFile {
            path: path.to_owned(),
            text,
        })
    };
    Ok(paths.filter_map(read).collect())
}

#[cfg(test)]
fn file(path: &str, text: &str) -> TrackedFile {
    TrackedFile {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}
