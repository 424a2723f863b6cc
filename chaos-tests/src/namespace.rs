//! Network namespaces, by name.
//!
//! A command is started inside one by `nsenter --net`, and a closure runs inside one on a thread of
//! its own. `ip netns exec` would also give it another `/sys`, and a bpffs mounted below that would
//! be invisible to everybody else.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::command;

/// Where `ip` keeps a file for each name.
const DIRECTORY: &str = "/run/netns";

/// A network namespace that exists, or is about to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    name: String,
    path: PathBuf,
}

impl Namespace {
    /// The namespace of this name; nothing is created.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        let name = name.into();
        let path = Path::new(DIRECTORY).join(&name);
        Self { name, path }
    }

    /// The namespace that a process is in, while it lives. `name` is for people: `ip netns` knows it
    /// not.
    #[must_use]
    pub fn of_process(name: impl Into<String>, pid: u32) -> Self {
        Self {
            name: name.into(),
            path: PathBuf::from(format!("/proc/{pid}/ns/net")),
        }
    }

    /// Its name, as in `ip netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Creates it, with its loopback interface up and no reverse-path filter.
    ///
    /// # Errors
    ///
    /// If the name is taken or the system refuses.
    pub fn create(&self) -> Result<()> {
        command::run(Command::new("ip").args(["netns", "add", &self.name]))?;
        self.configure("net/ipv4/conf/all/rp_filter", "0")?;
        self.configure("net/ipv4/conf/default/rp_filter", "0")?;
        self.ip("link set lo up\n")
    }

    /// Removes it if it exists; its interfaces go with it, once nothing runs in it.
    ///
    /// # Errors
    ///
    /// If it exists and the system refuses.
    pub fn remove(&self) -> Result<()> {
        if !self.path().exists() {
            return Ok(());
        }
        command::run(Command::new("ip").args(["netns", "delete", &self.name])).map(drop)
    }

    /// Runs `ip` commands in it, one a line, without the word `ip`.
    ///
    /// # Errors
    ///
    /// If one fails; those after it are not tried.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut ip = Command::new("ip");
        ip.args(["-netns", &self.name, "-batch", "-"]);
        command::run_with_input(&mut ip, lines).map(drop)
    }

    /// Writes a kernel setting, by its path below `/proc/sys`.
    ///
    /// # Errors
    ///
    /// If there is no such setting or the value is refused.
    pub fn configure(&self, setting: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(setting);
        self.inside(|| {
            std::fs::write(&path, value).with_context(|| format!("cannot set {}", path.display()))
        })?
    }

    /// A command that will run in it, under the process id that spawning returns.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Moves the calling thread into it, for good.
    ///
    /// # Errors
    ///
    /// If it does not exist or the caller is not privileged.
    pub fn enter(&self) -> Result<()> {
        let path = self.path();
        let file = File::open(&path).with_context(|| format!("no namespace {}", path.display()))?;
        setns(file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter the namespace {}", self.name))
    }

    /// Runs a closure in it, on a thread of its own, and waits for it.
    ///
    /// # Errors
    ///
    /// If it cannot be entered, or the closure panics.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().map(|()| act()));
            thread
                .join()
                .map_err(|_| anyhow!("panicked in the namespace {}", self.name))?
        })
    }
}
