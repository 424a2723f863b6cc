//! Installs what is missing, and is quick when nothing is.

use std::{collections::BTreeSet, path::PathBuf, process::Command, time::Instant};

use anyhow::{Context as _, Result, bail};

use crate::{output, shell};

/// A Debian package, and what it is for.
type Package = (&'static str, &'static str);

const PACKAGES: [Package; 18] = [
    ("rustc-web", "compiles kernel programs"),
    (
        "libstd-rust-web-dev-bpf",
        "the core library for kernel programs",
    ),
    (
        "llvm-22-dev",
        "the linker for kernel programs is built with it",
    ),
    (
        "libpolly-22-dev",
        "the linker for kernel programs is built with it",
    ),
    ("build-essential", "builds the linker for kernel programs"),
    (
        "zlib1g-dev",
        "the linker for kernel programs is built with it",
    ),
    ("zookeeper", "coordination"),
    ("default-jre-headless", "runs ZooKeeper"),
    ("iproute2", "network namespaces"),
    ("util-linux", "enters network namespaces"),
    (
        "ethtool",
        "network interfaces of fleets and of the benchmark",
    ),
    (
        "nftables",
        "faults of the control network, and a rival in the benchmark",
    ),
    ("libfaketime", "wall clocks that jump"),
    ("iptables", "a rival in the benchmark"),
    ("tmux", "a terminal for tests of `weir top`"),
    ("iputils-ping", "a client, in the tutorial"),
    (
        "bpftool",
        "what the kernel says of programs and maps, in tests",
    ),
    ("chromium", "a browser for tests of the console"),
];

/// What containers need besides.
const CONTAINERS: [Package; 3] = [
    ("docker.io", "runs containers"),
    ("docker-compose", "runs several of them"),
    ("debootstrap", "makes images where no registry is at hand"),
];

const LINKER: &str = "bpf-linker";
const LINKER_VERSION: &str = "0.13.0";
const LLVM: &str = "/usr/lib/llvm-22";

/// Installs what is missing.
pub(crate) fn run() -> Result<()> {
    let begun = Instant::now();
    packages(&PACKAGES).context("packages")?;
    linker().context(LINKER)?;
    let seconds = begun.elapsed().as_secs_f64();
    output::good(&format!(
        "set up: packages, ZooKeeper, {LINKER} {LINKER_VERSION} ({seconds:.1} s)"
    ));
    Ok(())
}

/// Installs what containers need, beside what [`run`] does.
pub(crate) fn containers() -> Result<()> {
    packages(&CONTAINERS).context("packages for containers")
}

fn packages(wanted: &[Package]) -> Result<()> {
    if shell::find("dpkg-query").is_none() || shell::find("apt-get").is_none() {
        bail!(
            "no apt-get and dpkg-query here. This is made for Debian 12; elsewhere install by \
               hand what these packages hold:\n{}",
            described(wanted)
        );
    }
    let missing = missing(wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    output::heading(&format!("installing {} packages", missing.len()));
    eprint!("{}", described(&missing));
    let missing: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    if !is_root()? {
        bail!(
            "installing packages needs root: run as root\n  apt-get install {}",
            missing.join(" ")
        );
    }
    // What is known of the archive may do; fetching it anew takes a while.
    if install(&missing).is_err() {
        shell::run(&mut apt(&["update"]))?;
        install(&missing)?;
    }
    Ok(())
}

fn described(packages: &[Package]) -> String {
    packages
        .iter()
        .map(|(name, purpose)| format!("    {name:<26}{purpose}\n"))
        .collect()
}

fn missing(wanted: &[Package]) -> Result<Vec<Package>> {
    let mut query = Command::new("dpkg-query");
    query
        .args(["--show", "--showformat", "${Package} ${Status}\n"])
        .args(wanted.iter().map(|(name, _)| name));
    // It fails when it does not know one of them, and still prints the others.
    let output = query.output().context("cannot run dpkg-query")?;
    Ok(not_installed(
        wanted,
        &String::from_utf8_lossy(&output.stdout),
    ))
}

/// Which of `wanted` are not listed as installed.
fn not_installed(wanted: &[Package], listing: &str) -> Vec<Package> {
    let installed: BTreeSet<&str> = listing
        .lines()
        .filter_map(|line| line.strip_suffix(" install ok installed"))
        .collect();
    wanted
        .iter()
        .copied()
        .filter(|(name, _)| !installed.contains(name))
        .collect()
}

fn install(packages: &[&str]) -> Result<()> {
    let mut command = apt(&["install", "--yes", "--no-install-recommends"]);
    shell::run(command.args(packages))
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = shell::command("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .arg("--quiet")
        .args(arguments);
    command
}

/// Where tools are put that are not installed.
pub(crate) fn tools() -> PathBuf {
    shell::root().join("target/tools")
}

/// `promtool`, taken out of Debian's package of Prometheus: installed, it would start a server.
pub(crate) fn promtool() -> Result<PathBuf> {
    let directory = tools().join("prometheus");
    let promtool = directory.join("usr/bin/promtool");
    if promtool.exists() {
        return Ok(promtool);
    }
    std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let download = || {
        let mut command = apt(&["download", "prometheus"]);
        shell::run(command.current_dir(&directory))
    };
    if download().is_err() {
        shell::run(&mut apt(&["update"]))?;
        download()?;
    }
    for file in std::fs::read_dir(&directory)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            let mut command = Command::new("dpkg-deb");
            shell::run(command.arg("--extract").arg(&path).arg(&directory))?;
            std::fs::remove_file(&path)?;
        }
    }
    anyhow::ensure!(promtool.exists(), "Debian's prometheus has no promtool");
    Ok(promtool)
}

fn is_root() -> Result<bool> {
    Ok(shell::output(Command::new("id").arg("-u"))?.trim() == "0")
}

fn linker() -> Result<()> {
    let features = ["--no-default-features", "--features", "llvm-22"];
    install_program(LINKER, LINKER_VERSION, &features, &[("LLVM_PREFIX", LLVM)])
}

/// Builds a program from the registry, unless this version is there.
pub(crate) fn program(name: &str, version: &str) -> Result<()> {
    install_program(name, version, &[], &[]).with_context(|| name.to_owned())
}

fn install_program(
    name: &str,
    version: &str,
    options: &[&str],
    environment: &[(&str, &str)],
) -> Result<()> {
    if let Some(path) = shell::find(name) {
        let found = shell::output(Command::new(&path).arg("--version")).unwrap_or_default();
        if is_wanted(&found, version) {
            return Ok(());
        }
        output::note(&format!(
            "{} is {}: replacing it",
            path.display(),
            found.trim()
        ));
    }
    output::heading(&format!("building {name} {version} (some minutes)"));
    let mut install = shell::cargo(&["install", name, "--version", version, "--locked", "--force"]);
    install
        .args(options)
        .envs(environment.iter().copied())
        .env_remove("RUSTUP_TOOLCHAIN");
    shell::run(&mut install)
}

fn is_wanted(found: &str, version: &str) -> bool {
    found.split_whitespace().any(|word| word == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_what_is_not_installed() {
        let listing = "a install ok installed\nb deinstall ok config-files\n";
        let [a, b, c] = ["a", "b", "c"].map(|name| (name, "for something"));
        assert_eq!(not_installed(&[a, b, c], listing), [b, c]);
        assert!(not_installed(&[a], listing).is_empty());
    }

    #[test]
    fn wants_one_version_of_a_program() {
        assert!(is_wanted("bpf-linker 0.13.0\n", "0.13.0"));
        assert!(is_wanted("3.8.0\n", "3.8.0"));
        assert!(!is_wanted("bpf-linker 0.13.01\n", "0.13.0"));
        assert!(!is_wanted("", "0.13.0"));
    }
}
