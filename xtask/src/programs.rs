//! Building the workspace's programs, and becoming one.

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{output, package, setup, shell};

/// Packages whose programs a fleet needs.
const PACKAGES: [&str; 3] = ["weir-node", "weir", "weir-chaos"];

/// A daemon that was built with the feature `broken-rules`.
const BROKEN_DAEMON: &str = "weir-node-broken";

/// Sets up, builds, and becomes `weir-chaos` with these arguments. Returns only if that fails.
pub(crate) fn become_lab(chore: &str, arguments: &[OsString]) -> Result<bool> {
    let breaks_rules = |word: &OsString| word == "--broken" || word == "--without";
    if asks_for_help(arguments) {
        build()?;
    } else {
        setup::run()?;
        if arguments.iter().any(breaks_rules) {
            build_broken()?;
        } else {
            build()?;
        }
    }
    // What is written goes to `target` of the workspace, wherever this was called from.
    Err(Command::new(lab()?)
        .arg(chore)
        .args(arguments)
        .current_dir(shell::root())
        .exec())
    .context("cannot run weir-chaos")
}

/// Answering that takes the programs and nothing else.
fn asks_for_help(arguments: &[OsString]) -> bool {
    arguments
        .iter()
        .any(|word| word == "--help" || word == "-h")
}

/// As [`become_lab`], with Docker.
pub(crate) fn become_compose(arguments: &[OsString]) -> Result<bool> {
    if arguments.first().is_some_and(|word| word == "test") && !asks_for_help(arguments) {
        setup::containers()?;
    }
    become_lab("compose", arguments)
}

/// As [`become_lab`], with a package to install.
pub(crate) fn become_documents(arguments: &[OsString]) -> Result<bool> {
    if !asks_for_help(arguments) {
        package::run(&package::Options { development: true })?;
    }
    become_lab("documents", arguments)
}

/// Builds and becomes a program that needs nothing but a Rust toolchain. Returns only if that fails.
pub(crate) fn become_pure(package: &str, arguments: &[OsString]) -> Result<bool> {
    shell::run(shell::cargo(&["build", "--quiet", "--package"]).arg(package))?;
    Err(Command::new(lab()?.with_file_name(package))
        .args(arguments)
        .exec())
    .with_context(|| format!("cannot run {package}"))
}

/// Builds a daemon that can be told to break a rule, beside the ordinary one and under another name.
pub(crate) fn build_broken() -> Result<()> {
    let mut cargo = shell::cargo(&["build"]);
    for package in PACKAGES {
        cargo.args(["--package", package]);
    }
    shell::run(cargo.args(["--features", "weir-node/broken-rules"]))?;
    let daemon = lab()?.with_file_name("weir-node");
    let broken = daemon.with_file_name(BROKEN_DAEMON);
    std::fs::copy(&daemon, &broken).with_context(|| broken.display().to_string())?;
    // From here on the ordinary one is the ordinary one again.
    build()
}

/// As [`become_pure`], for a program that measures itself: optimised, and without the assertions of a
/// development build.
pub(crate) fn become_measured(package: &str, arguments: &[OsString]) -> Result<bool> {
    if asks_for_help(arguments) {
        return become_pure(package, arguments);
    }
    shell::run(shell::cargo(&["build", "--quiet", "--release", "--package"]).arg(package))?;
    Err(Command::new(beside("release")?.join(package))
        .args(arguments)
        .exec())
    .with_context(|| format!("cannot run {package}"))
}

/// As [`become_lab`], to measure a daemon as it is released.
pub(crate) fn become_idle(arguments: &[OsString]) -> Result<bool> {
    if asks_for_help(arguments) {
        return become_lab("bench", arguments);
    }
    setup::run()?;
    build()?;
    let mut cargo = shell::cargo(&["build", "--release"]);
    shell::run(cargo.args(["--package", "weir-node", "--package", "weir"]))?;
    Err(Command::new(lab()?)
        .arg("bench")
        .args(arguments)
        .env("WEIR_PROGRAMS", beside("release")?)
        .current_dir(shell::root())
        .exec())
    .context("cannot run weir-chaos")
}

/// Where programs of another profile are put; this one's directory is called after its own.
pub(crate) fn beside(profile: &str) -> Result<PathBuf> {
    let own = lab()?;
    let profiles = own.parent().and_then(Path::parent);
    let profiles = profiles.context("this program is in no target directory")?;
    Ok(profiles.join(profile))
}

/// Builds the programs that a fleet needs, beside this one.
pub(crate) fn build() -> Result<()> {
    let begun = std::time::Instant::now();
    let mut cargo = shell::cargo(&["build"]);
    for package in PACKAGES {
        cargo.args(["--package", package]);
    }
    shell::run(&mut cargo)?;
    output::good(&format!("built ({:.1} s)", begun.elapsed().as_secs_f64()));
    Ok(())
}

/// The built `weir-chaos`: cargo puts all programs of a workspace into one directory.
pub(crate) fn lab() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot tell where this program is")?;
    Ok(own.with_file_name("weir-chaos"))
}
