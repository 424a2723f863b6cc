//! A fleet of real hosts on one machine: network namespaces around a router, real ZooKeeper, one
//! daemon a host.

mod build;
pub(crate) mod daemon;
mod detour;
mod footprint;
mod network;
mod operator;
pub mod plan;
mod process;
mod trouble;
mod wall_clock;
mod zookeeper;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

pub use self::{
    build::{Setup, build, build_as},
    daemon::Daemon,
    detour::Detour,
    footprint::Footprint,
    network::{Disturbance, How, Network},
    operator::{FleetStatus, Operator},
    plan::Plan,
    process::Process,
    trouble::Held,
    wall_clock::WallClocks,
    zookeeper::{Ensemble, Probe, SHORTEST_SESSION},
};

/// Times that the daemons are configured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The period of report, reallocate, grant.
    pub tick: Duration,
    /// How long a grant lives.
    pub lease: Duration,
    /// ZooKeeper's session timeout.
    pub session: Duration,
}

impl Default for Timing {
    /// The daemon's defaults, with the shortest session that the servers grant.
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(100),
            lease: Duration::from_secs(2),
            session: SHORTEST_SESSION,
        }
    }
}

impl Timing {
    /// Declared bound of the difference between two hosts' clock rates.
    pub const DRIFT: f64 = 1e-3;

    /// W: how long a silent node's grant may still be in use.
    #[must_use]
    pub fn wait_out(&self) -> Duration {
        self.lease.mul_f64(1.0 + 2.0 * Self::DRIFT) + Duration::from_millis(20)
    }

    /// Within this time of a leader's death the budget has to be fully in use again: session
    /// timeout, W and five ticks.
    #[must_use]
    pub fn recovery(&self) -> Duration {
        self.session + self.wait_out() + 5 * self.tick
    }
}

/// A fleet that runs. It is removed when this is dropped, unless it was asked to stay.
#[derive(Debug)]
pub struct Fleet {
    /// Its layout.
    pub plan: Plan,
    /// Its times.
    pub timing: Timing,
    /// Its operator's command line.
    pub operator: Operator,
    /// Its ZooKeeper.
    pub ensemble: Ensemble,
    /// What is wrong with its control network.
    pub network: Network,
    /// The delay of its control network, if there is one.
    pub detour: Option<Detour>,
    /// What its daemons read as wall time, if they are told something else than the truth.
    pub wall_clocks: Option<WallClocks>,
    /// The daemons' program.
    program: PathBuf,
    limits: Option<PathBuf>,
    footprint: Footprint,
    daemons: Vec<Daemon>,
}

impl Fleet {
    /// The limits that were put in force at first.
    ///
    /// # Errors
    ///
    /// If there were none.
    pub fn limits_file(&self) -> Result<PathBuf> {
        self.limits.clone().context("the fleet has no limits")
    }

    /// Kills the daemon of a host with SIGKILL.
    ///
    /// # Errors
    ///
    /// If it did not run.
    pub fn kill(&mut self, host: usize) -> Result<()> {
        self.daemons[host]
            .kill()
            .with_context(|| self.plan.hosts[host].name.clone())
    }

    /// Starts the daemon of a host.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start(&mut self, host: usize) -> Result<()> {
        self.daemons[host].start(&self.program, &self.plan.hosts[host])
    }

    /// Stops the daemon of a host without closing its connections.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn pause(&self, host: usize) -> Result<()> {
        self.daemons[host].signal(Signal::SIGSTOP)
    }

    /// Lets a paused daemon go on.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn resume(&self, host: usize) -> Result<()> {
        self.daemons[host].signal(Signal::SIGCONT)
    }

    /// The value of a metric without labels, as the daemon of a host serves it.
    ///
    /// # Errors
    ///
    /// If it does not answer, or has no such metric.
    pub fn metric(&self, host: usize, name: &str) -> Result<f64> {
        let namespace = &self.plan.hosts[host].namespace;
        let text = namespace.inside(|| daemon::metrics(daemon::ANSWER_WITHIN))??;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.with_context(|| format!("no metric {name} in:\n{text}"))?;
        Ok(value.trim().parse()?)
    }

    /// All that the daemon of a host wrote, over all its lives.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn log(&self, host: usize) -> Result<String> {
        let path = self.daemons[host].log();
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// Process numbers of the daemons that run, by host.
    #[must_use]
    pub fn pids(&self) -> Vec<Option<u32>> {
        self.daemons.iter().map(Daemon::pid).collect()
    }

    /// Says how a daemon ended that should run; `None` if all are well.
    pub fn casualty(&mut self) -> Option<String> {
        let hosts = self.plan.hosts.iter().zip(&mut self.daemons);
        hosts
            .filter_map(|(site, daemon)| {
                let how = daemon.ended()?;
                let log = log_tail(&daemon.log());
                Some(format!("the daemon of {} ended ({how})\n{log}", site.name))
            })
            .next()
    }

    /// The end of every daemon's log.
    #[must_use]
    pub fn logs(&self) -> String {
        let logs = self.daemons.iter().map(|daemon| log_tail(&daemon.log()));
        logs.collect::<Vec<_>>().join("\n")
    }

    /// Copies what daemons and servers wrote, over all their lives, to a directory.
    ///
    /// # Errors
    ///
    /// If a file cannot be copied.
    pub fn keep_logs(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        let hosts = self.plan.hosts.iter().zip(&self.daemons);
        let hosts = hosts.map(|(site, daemon)| (site, daemon.log()));
        let servers = self.plan.servers.iter().zip(self.ensemble.logs());
        for (site, log) in hosts.chain(servers) {
            let copy = directory.join(format!("{}.log", site.name));
            // A daemon that was never started wrote nothing.
            if log.exists() {
                fs::copy(&log, &copy).with_context(|| copy.display().to_string())?;
            }
        }
        Ok(())
    }

    /// Lets it stay when this process ends.
    ///
    /// # Errors
    ///
    /// If that cannot be written down; the fleet is then removed.
    pub fn stay(mut self) -> Result<Footprint> {
        let staying = Footprint {
            owner: None,
            ..self.footprint.clone()
        };
        staying.write()?;
        self.footprint.owner = None;
        Ok(staying)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if self.footprint.owner.is_none() {
            return;
        }
        drop(self.detour.take());
        for daemon in &mut self.daemons {
            // One that was killed already is as good.
            let _killed = daemon.kill();
        }
        if let Err(error) = self.footprint.remove() {
            eprintln!(
                "the fleet '{}' is not fully removed: {error:#}",
                self.plan.name
            );
            eprintln!("try `cargo xtask fleet down --name {}`", self.plan.name);
        }
    }
}

/// The last lines of a log, under its name.
fn log_tail(path: &Path) -> String {
    const LINES: usize = 25;
    let text = fs::read_to_string(path).unwrap_or_else(|error| error.to_string());
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(LINES)..];
    format!("--- end of {}\n{}", path.display(), tail.join("\n"))
}
