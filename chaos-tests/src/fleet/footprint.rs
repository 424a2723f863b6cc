//! What a fleet leaves on the machine, and its removal.
//!
//! A fleet consists of namespaces, of a directory with one bpffs in it, and of the processes that
//! run in the namespaces. All of that follows from its plan, which is written down before anything
//! else is made. So removal needs no bookkeeping, and works as well for a run that was killed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::mount::{MntFlags, umount2};
use serde::{Deserialize, Serialize};

use super::{plan::Plan, process::Process};
use crate::{clock, command, interrupt::Interrupt};

/// Where all fleets of this machine keep their files; gone after a reboot, as namespaces are.
const DIRECTORY: &str = "/run/weir-fleets";
const STATE: &str = "fleet.json";
/// How long killed processes may take to end.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// A fleet on this machine: complete, half made, or left over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Footprint {
    /// The fleet's name.
    pub name: String,
    /// How many hosts.
    pub hosts: usize,
    /// How many clients.
    pub clients: usize,
    /// How many ZooKeeper servers.
    pub zookeeper: usize,
    /// The run that it must not outlive; `None` if it stays until it is taken down.
    pub owner: Option<Process>,
}

impl Footprint {
    /// What a fleet of this plan will leave.
    #[must_use]
    pub fn of(plan: &Plan, owner: Option<Process>) -> Self {
        Self {
            name: plan.name.clone(),
            hosts: plan.hosts.len(),
            clients: plan.clients.len(),
            zookeeper: plan.servers.len(),
            owner,
        }
    }

    /// The fleet of this name, if there is one.
    ///
    /// # Errors
    ///
    /// If its state cannot be read.
    pub fn find(name: &str) -> Result<Option<Self>> {
        let path = Path::new(DIRECTORY).join(name).join(STATE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(path.display().to_string()),
        };
        let footprint = serde_json::from_slice(&text);
        footprint
            .map(Some)
            .with_context(|| format!("{} is not a fleet's", path.display()))
    }

    /// All fleets of this machine.
    ///
    /// # Errors
    ///
    /// If the state of one cannot be read.
    pub fn all() -> Result<Vec<Self>> {
        let entries = match fs::read_dir(DIRECTORY) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).context(DIRECTORY),
        };
        let mut all = Vec::new();
        for entry in entries {
            all.extend(Self::find(&entry?.file_name().to_string_lossy())?);
        }
        all.sort_by(|a: &Self, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Removes every fleet whose owner is gone, and returns their names.
    ///
    /// # Errors
    ///
    /// If one cannot be removed.
    pub fn remove_left_overs() -> Result<Vec<String>> {
        let orphaned = |footprint: &Self| footprint.owner.is_some_and(|owner| !owner.is_alive());
        let left: Vec<Self> = Self::all()?.into_iter().filter(orphaned).collect();
        for footprint in &left {
            footprint.remove()?;
        }
        Ok(left.into_iter().map(|footprint| footprint.name).collect())
    }

    /// The plan that it was made from.
    ///
    /// # Errors
    ///
    /// If the state holds figures that no plan has.
    pub fn plan(&self) -> Result<Plan> {
        Ok(Plan::new(
            &self.name,
            self.hosts,
            self.clients,
            self.zookeeper,
        )?)
    }

    /// Where its files are.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Where its bpffs is mounted.
    #[must_use]
    pub fn bpffs(&self) -> PathBuf {
        self.directory().join("bpf")
    }

    /// Writes it down, before anything else is made. What is left of a fleet of the same name is
    /// removed first.
    ///
    /// # Errors
    ///
    /// If a fleet of this name is in use.
    pub fn claim(&self) -> Result<()> {
        if let Some(earlier) = Self::find(&self.name)? {
            if let Some(owner) = earlier.owner.filter(Process::is_alive) {
                bail!(
                    "the fleet '{}' is in use by process {}",
                    self.name,
                    owner.pid
                );
            }
            if earlier.owner.is_none() && !earlier.processes(&earlier.plan()?)?.is_empty() {
                bail!(
                    "the fleet '{0}' is up: take it down first, with `cargo xtask fleet down \
                     --name {0}`, or choose another --name",
                    self.name
                );
            }
            earlier.remove()?;
        }
        self.write()
    }

    /// Writes it down as it is now.
    ///
    /// # Errors
    ///
    /// If the directory cannot be made or written to.
    pub fn write(&self) -> Result<()> {
        let directory = self.directory();
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let unfinished = directory.join("fleet.json.new");
        fs::write(&unfinished, serde_json::to_vec(self)?)?;
        fs::rename(&unfinished, directory.join(STATE))?;
        Ok(())
    }

    /// Removes everything. What is already gone is skipped.
    ///
    /// # Errors
    ///
    /// If something cannot be removed; it can be tried again.
    pub fn remove(&self) -> Result<()> {
        let plan = self.plan()?;
        self.end_processes(&plan)?;
        for namespace in plan.namespaces() {
            namespace.remove()?;
        }
        let bpffs = self.bpffs();
        if is_mounted(&bpffs)? {
            umount2(&bpffs, MntFlags::MNT_DETACH)
                .with_context(|| format!("cannot unmount {}", bpffs.display()))?;
        }
        match fs::remove_dir_all(self.directory()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| self.directory().display().to_string())
            }
            _ => Ok(()),
        }
    }

    /// Whatever runs in the namespaces: daemons, servers, and commands started by hand.
    fn processes(&self, plan: &Plan) -> Result<Vec<Process>> {
        let mut processes = Vec::new();
        for namespace in plan
            .namespaces()
            .filter(|namespace| namespace.path().exists())
        {
            let mut list = Command::new("ip");
            let pids = command::run(list.args(["netns", "pids", namespace.name()]))?;
            processes.extend(
                pids.lines()
                    .filter_map(|pid| Process::of(pid.trim().parse().ok()?)),
            );
        }
        Ok(processes)
    }

    /// Ends all of them, and waits until they have ended.
    fn end_processes(&self, plan: &Plan) -> Result<()> {
        let processes = self.processes(plan)?;
        for process in &processes {
            process.kill();
        }
        let what = format!("the end of the processes of the fleet '{}'", self.name);
        // Tidying up is not itself interrupted.
        clock::wait_for(&what, ENDED_WITHIN, &Interrupt::default(), || {
            (!processes.iter().any(Process::is_alive)).then_some(())
        })?;
        Ok(())
    }
}

fn is_mounted(path: &Path) -> Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    let path = path.to_string_lossy();
    Ok(mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == Some(&*path)))
}
