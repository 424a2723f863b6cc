//! What fleets leave on a machine: looked for in the machine, not in what the suite wrote down of itself.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::fleet::Process;

const NAMESPACES: &str = "/run/netns";
const DIRECTORIES: &str = "/run/weir-fleets";

/// How much there is of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// Network namespaces.
    pub namespaces: usize,
    /// Mounts of BPF file systems, where everything is pinned.
    pub mounts: usize,
    /// Directories of fleets.
    pub directories: usize,
    /// Processes that were started with a file of a fleet: daemons and ZooKeeper servers.
    pub processes: usize,
    /// Descriptors that this process has open.
    pub descriptors: usize,
}

impl Traces {
    /// Of all fleets that this process made: their names end in its number.
    ///
    /// # Errors
    ///
    /// If the machine does not tell.
    pub fn of_this_process() -> Result<Self> {
        let own = format!("-{}", Process::current().pid);
        let mounts = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
        let of_fleet = |path: &str| is_of(path, DIRECTORIES, &own);
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        Ok(Self {
            namespaces: names(NAMESPACES)?
                .iter()
                .filter(|name| is_named(name, &own))
                .count(),
            mounts: places.filter(|place| of_fleet(place)).count(),
            directories: names(DIRECTORIES)?
                .iter()
                .filter(|name| name.ends_with(&own))
                .count(),
            processes: command_lines()?
                .iter()
                .filter(|line| of_fleet(line))
                .count(),
            descriptors: names("/proc/self/fd")?.len(),
        })
    }

    /// What there is beyond `before`, but for descriptors, of which some come and go.
    #[must_use]
    pub fn beyond(&self, before: &Self) -> usize {
        let more = |now: usize, then: usize| now.saturating_sub(then);
        more(self.namespaces, before.namespaces)
            + more(self.mounts, before.mounts)
            + more(self.directories, before.directories)
            + more(self.processes, before.processes)
    }
}

impl std::ops::AddAssign for Traces {
    fn add_assign(&mut self, other: Self) {
        self.namespaces += other.namespaces;
        self.mounts += other.mounts;
        self.directories += other.directories;
        self.processes += other.processes;
        self.descriptors += other.descriptors;
    }
}

/// Whether a namespace's name is of a fleet with this end of its name: `weir-<fleet>-<site>`.
fn is_named(name: &str, end: &str) -> bool {
    let fleet = name
        .strip_prefix("weir-")
        .and_then(|rest| rest.rsplit_once('-'));
    fleet.is_some_and(|(fleet, _)| fleet.ends_with(end))
}

/// Whether a text names a file of such a fleet.
fn is_of(text: &str, directory: &str, end: &str) -> bool {
    let mut parts = text.split(directory).skip(1);
    parts.any(|part| {
        let fleet = part
            .strip_prefix('/')
            .and_then(|rest| rest.split(['/', ' ', '\0']).next());
        fleet.is_some_and(|fleet| fleet.ends_with(end))
    })
}

/// Nothing if there is no such directory.
fn names(directory: &str) -> Result<Vec<String>> {
    if !Path::new(directory).exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(directory).with_context(|| directory.to_owned())?;
    // An entry that goes away meanwhile is no trace.
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.collect())
}

/// Of all processes; arguments are separated by zero bytes.
fn command_lines() -> Result<Vec<String>> {
    let processes = names("/proc")?
        .into_iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let lines = processes.filter_map(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok());
    Ok(lines
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_runs_fleets_are_told_from_others() {
        assert!(is_named("weir-chaos-41-host1", "-41"));
        assert!(is_named("weir-take-41-router", "-41"));
        assert!(!is_named("weir-chaos-141-host1", "-41"));
        assert!(!is_named("weir-chaos-41", "-41"));
        assert!(!is_named("other-41-host1", "-41"));
        let of = |text: &str| is_of(text, DIRECTORIES, "-41");
        assert!(of(
            "/usr/bin/weir-node\0--config\0/run/weir-fleets/chaos-41/host1/node.toml\0"
        ));
        assert!(of("/run/weir-fleets/chaos-41/bpf"));
        assert!(!of("/run/weir-fleets/chaos-4/bpf"));
        assert!(!of("/run/other/chaos-41"));
    }

    #[test]
    fn what_is_left_behind_is_found() {
        let end = format!("-{}", Process::current().pid);
        let before = Traces::of_this_process().unwrap();
        let path = Path::new(DIRECTORIES).join(format!("left{end}"));
        if fs::create_dir_all(&path).is_err() {
            return;
        }
        let found = Traces::of_this_process().unwrap().beyond(&before);
        fs::remove_dir(&path).unwrap();
        assert_eq!(found, 1);
        assert_eq!(Traces::of_this_process().unwrap().beyond(&before), 0);
    }
}
