//! What a benchmark leaves on the machine, and its removal.
//!
//! Namespaces that begin with [`PREFIX`], the processes in them, and a directory with bpffs mounts
//! in it. Two benchmarks at a time would measure each other, so there is one footprint, and a new
//! run removes what a killed one left.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::mount::{MntFlags, umount2};

use crate::{clock, command, fleet::Process, interrupt::Interrupt, namespace::Namespace};

/// What the names of all its namespaces begin with.
pub const PREFIX: &str = "weir-bench-";
/// Where it keeps its files; gone after a reboot, as namespaces are.
const DIRECTORY: &str = "/run/weir-bench";
const OWNER: &str = "owner.json";
const NAMESPACES: &str = "/run/netns";
/// How long killed processes may take to end.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// The benchmark's place on this machine, removed when dropped.
#[derive(Debug)]
pub struct Footprint(());

impl Footprint {
    /// Takes the place. What an earlier run left is removed first.
    ///
    /// # Errors
    ///
    /// If another benchmark runs, or the place cannot be made.
    pub fn claim() -> Result<Self> {
        if let Some(owner) = owner()?.filter(Process::is_alive) {
            bail!("a benchmark is running already: process {}", owner.pid);
        }
        remove().context("cannot remove what an earlier benchmark left")?;
        fs::create_dir_all(DIRECTORY).context(DIRECTORY)?;
        let owner = serde_json::to_vec(&Process::current())?;
        fs::write(Path::new(DIRECTORY).join(OWNER), owner).context(DIRECTORY)?;
        Ok(Self(()))
    }

    /// Where its files are.
    #[must_use]
    pub fn directory(&self) -> &'static Path {
        Path::new(DIRECTORY)
    }

    /// A new directory of this name with a bpffs in it.
    ///
    /// # Errors
    ///
    /// If it cannot be made or mounted.
    pub fn bpffs(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory().join(name);
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        let mut mount = Command::new("mount");
        command::run(mount.args(["-t", "bpf", "weir-bench"]).arg(&path))?;
        Ok(path)
    }
}

impl Drop for Footprint {
    fn drop(&mut self) {
        if let Err(error) = remove() {
            eprintln!("error: cannot tidy up after the benchmark: {error:#}");
        }
    }
}

/// Unmounts a bpffs of the benchmark and removes its directory.
///
/// # Errors
///
/// If it is there and cannot be removed.
pub fn unmount(path: &Path) -> Result<()> {
    umount2(path, MntFlags::MNT_DETACH)
        .with_context(|| format!("cannot unmount {}", path.display()))?;
    fs::remove_dir(path).with_context(|| path.display().to_string())
}

fn owner() -> Result<Option<Process>> {
    match fs::read(Path::new(DIRECTORY).join(OWNER)) {
        // A run that was killed while it wrote this owns nothing.
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(DIRECTORY),
    }
}

/// Removes everything. What is already gone is skipped.
fn remove() -> Result<()> {
    let namespaces = namespaces()?;
    let mut processes = Vec::new();
    for namespace in &namespaces {
        let mut list = Command::new("ip");
        let pids = command::run(list.args(["netns", "pids", namespace.name()]))?;
        let pids = pids.lines().filter_map(|pid| pid.trim().parse().ok());
        processes.extend(pids.filter_map(Process::of));
    }
    for process in &processes {
        process.kill();
    }
    // Tidying up is not itself interrupted.
    let quiet = Interrupt::default();
    clock::wait_for(
        "the end of the benchmark's processes",
        ENDED_WITHIN,
        &quiet,
        || (!processes.iter().any(Process::is_alive)).then_some(()),
    )?;
    for namespace in namespaces {
        namespace.remove()?;
    }
    let mounts = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for point in points.filter(|point| Path::new(point).starts_with(DIRECTORY)) {
        umount2(point, MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount {point}"))?;
    }
    match fs::remove_dir_all(DIRECTORY) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context(DIRECTORY),
        _ => Ok(()),
    }
}

fn namespaces() -> Result<Vec<Namespace>> {
    let entries = match fs::read_dir(NAMESPACES) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(NAMESPACES),
    };
    let mut namespaces = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) {
            namespaces.push(Namespace::named(name));
        }
    }
    Ok(namespaces)
}
