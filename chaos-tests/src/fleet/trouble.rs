//! What can be done to a host, besides killing and pausing its daemon.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result};

use super::{Fleet, plan::INTERFACE};
use crate::{clock, command, interrupt::Interrupt};

/// What a daemon may open if nobody says otherwise.
const USUAL_DESCRIPTORS: usize = 1_024;
/// A daemon that starts attaches its program within this.
const ATTACHED_WITHIN: Duration = Duration::from_secs(10);

impl Fleet {
    /// Stops the daemon of a host as an init system does, and starts it again.
    ///
    /// # Errors
    ///
    /// If it does not stop, or cannot be started.
    pub fn restart(&mut self, host: usize) -> Result<()> {
        self.daemons[host].stop()?;
        self.start(host)
    }

    /// Takes the host's link down, or up again: the whole host is gone for everybody else.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn link(&self, host: usize, is_up: bool) -> Result<()> {
        let site = &self.plan.hosts[host];
        let state = if is_up { "up" } else { "down" };
        let line = format!("link set {} {state}\n", site.router_interface);
        self.plan.router.ip(&line)
    }

    /// What a host forgets when it loses power: its daemon, and everything in its kernel. Its link
    /// is down until [`Fleet::boot`].
    ///
    /// # Errors
    ///
    /// If something cannot be taken away.
    pub fn power_off(&mut self, host: usize) -> Result<()> {
        self.link(host, false)?;
        self.kill(host)?;
        let mut detach = self.plan.hosts[host].namespace.command(&self.program);
        detach
            .arg("--config")
            .arg(self.daemons[host].configuration())
            .arg("--detach");
        command::run(&mut detach).map(drop)
    }

    /// Starts the daemon of a host that was off. Its link comes up when the program is attached, as
    /// a boot orders them.
    ///
    /// # Errors
    ///
    /// If the program is not attached in time.
    pub fn boot(&mut self, host: usize) -> Result<()> {
        self.start(host)?;
        let site = &self.plan.hosts[host];
        let never = Interrupt::default();
        let what = format!("the program on {}", site.name);
        clock::wait_for(&what, ATTACHED_WITHIN, &never, || {
            let mut show = Command::new("ip");
            show.args(["-netns", site.namespace.name(), "link", "show", INTERFACE]);
            let shown = command::run(&mut show).ok()?;
            shown.contains("prog/xdp").then_some(())
        })
        .with_context(|| self.logs())?;
        self.link(host, true)
    }

    /// Limits the descriptors of a running daemon to as many as it has open, or lifts that.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn starve_of_descriptors(&self, host: usize, is_starved: bool) -> Result<()> {
        let pid = self.daemons[host]
            .pid()
            .context("the daemon does not run")?;
        let most = if is_starved {
            std::fs::read_dir(format!("/proc/{pid}/fd"))?.count()
        } else {
            USUAL_DESCRIPTORS
        };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let identity = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.and_then(|rest| rest.split_whitespace().next())
                .with_context(|| format!("no {field} in the status of {pid}"))
        };
        // Whoever a process belongs to may set its limits; not even root may, without a capability
        // that containers are seldom given.
        let mut prlimit = Command::new("setpriv");
        prlimit
            .arg(format!("--reuid={}", identity("Uid:")?))
            .arg(format!("--regid={}", identity("Gid:")?))
            .args(["--clear-groups", "prlimit"])
            .args([&format!("--pid={pid}"), &format!("--nofile={most}:")]);
        command::run(&mut prlimit).map(drop)
    }

    /// Memory of a daemon that is resident, in kibibytes, and its open descriptors.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn held(&self, host: usize) -> Result<Held> {
        let pid = self.daemons[host]
            .pid()
            .context("the daemon does not run")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
        Ok(Held {
            resident_kib: resident.context("no VmRSS")?,
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        })
    }
}

/// What a daemon holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Resident memory.
    pub resident_kib: u64,
    /// Open descriptors.
    pub descriptors: usize,
}
