//! The operator's side: the real `weir` command, asked over a daemon's socket.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::command;

/// Where the programs are, if not beside this one.
const PROGRAMS: &str = "WEIR_PROGRAMS";
/// A daemon that was built with the feature `broken-rules`.
const BROKEN_DAEMON: &str = "weir-node-broken";
/// An answer takes milliseconds. A daemon that gives none within this is asked no longer.
const ANSWER_WITHIN_SECONDS: &str = "3";

/// A change has to be known to all hosts, or to ZooKeeper.
const CHANGED_WITHIN_SECONDS: &str = "20";

/// Runs `weir` and knows where `weir-node` is.
#[derive(Clone, Debug)]
pub struct Operator {
    weir: PathBuf,
    daemon: PathBuf,
    /// The daemons' sockets, by host.
    sockets: Vec<PathBuf>,
}

/// What is read of `weir status --json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FleetStatus {
    /// Who leads, if the asked node knows.
    pub leader: Option<Member>,
    /// The term in force.
    pub term: u64,
    /// All members.
    pub members: Vec<Member>,
    /// All limits.
    pub limits: Vec<LimitStatus>,
}

/// A member of the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Whether its daemon is seen running.
    pub live: bool,
    /// Whether it spends its floor only.
    pub on_floor: bool,
}

/// A limit, over the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LimitStatus {
    /// Its name.
    pub name: String,
    /// Whether its promise is kept now.
    pub promise_kept: bool,
    /// Members that do not enforce its current form yet.
    pub pending: Vec<String>,
}

impl FleetStatus {
    /// Whether all members enforce all limits, by grants.
    #[must_use]
    pub fn is_in_force(&self) -> bool {
        let settled = |limit: &LimitStatus| limit.promise_kept && limit.pending.is_empty();
        let granted = self
            .members
            .iter()
            .all(|member| member.live && !member.on_floor);
        granted && !self.limits.is_empty() && self.limits.iter().all(settled)
    }

    /// How many members run.
    #[must_use]
    pub fn live(&self) -> usize {
        self.members.iter().filter(|member| member.live).count()
    }
}

impl Operator {
    /// Finds the programs: beside this one, or where `WEIR_PROGRAMS` says.
    ///
    /// # Errors
    ///
    /// If one is missing.
    pub fn new(sockets: Vec<PathBuf>) -> Result<Self> {
        let directory = match env::var_os(PROGRAMS) {
            Some(directory) => PathBuf::from(directory),
            None => {
                let own = env::current_exe().context("cannot tell where this program is")?;
                own.parent()
                    .map(Path::to_owned)
                    .context("this program is in a directory")?
            }
        };
        let find = |name: &str| {
            let path = directory.join(name);
            if path.is_file() {
                return Ok(path);
            }
            bail!(
                "no {}: build it with `cargo build -p {name}`",
                path.display()
            )
        };
        Ok(Self {
            weir: find("weir")?,
            daemon: find("weir-node")?,
            sockets,
        })
    }

    /// Where the daemon of `host` is asked.
    #[must_use]
    pub fn socket(&self, host: usize) -> &Path {
        &self.sockets[host]
    }

    /// The daemon's program.
    #[must_use]
    pub fn daemon(&self) -> &Path {
        &self.daemon
    }

    /// The program of daemons that can be told to break a rule.
    ///
    /// # Errors
    ///
    /// If it was not built.
    pub fn broken_daemon(&self) -> Result<PathBuf> {
        let path = self.daemon.with_file_name(BROKEN_DAEMON);
        if path.is_file() {
            return Ok(path);
        }
        bail!(
            "no {}: `cargo xtask chaos --broken` builds it",
            path.display()
        )
    }

    /// Puts a limits file in force, through the daemon of `host`.
    ///
    /// # Errors
    ///
    /// If `weir apply` fails, with what it said.
    pub fn apply(&self, host: usize, limits: &Path) -> Result<()> {
        self.ask(host, |weir| weir.arg("apply").arg(limits))
            .map(drop)
    }

    /// The fleet as the daemon of `host` sees it.
    ///
    /// # Errors
    ///
    /// If `weir status` fails.
    pub fn status(&self, host: usize) -> Result<FleetStatus> {
        let text = self.ask(host, |weir| weir.arg("status"))?;
        serde_json::from_str(&text).with_context(|| format!("`weir status` said {text}"))
    }

    /// The fleet as each daemon sees it, in the hosts' order.
    pub fn status_of_each(&self) -> impl Iterator<Item = Result<FleetStatus>> {
        (0..self.sockets.len()).map(|host| self.status(host))
    }

    /// The fleet as the first daemon sees it that answers.
    ///
    /// # Errors
    ///
    /// If none answers: with what the first one said.
    pub fn status_of_any(&self) -> Result<FleetStatus> {
        let mut answers = self.status_of_each();
        let first = answers.next().context("a fleet has hosts")?;
        first.or_else(|error| answers.find_map(Result::ok).ok_or(error))
    }

    /// What `weir` prints for any of its commands, as JSON text.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn ask(
        &self,
        host: usize,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<String> {
        self.ask_within(ANSWER_WITHIN_SECONDS, host, arguments)
    }

    /// The same for what changes the fleet, which takes its time.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn change(&self, host: usize, arguments: &[&str]) -> Result<serde_json::Value> {
        let text = self.ask_within(CHANGED_WITHIN_SECONDS, host, |weir| weir.args(arguments))?;
        serde_json::from_str(&text).with_context(|| format!("`weir` said {text}"))
    }

    fn ask_within(
        &self,
        seconds: &str,
        host: usize,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<String> {
        let mut weir = Command::new("timeout");
        weir.arg(seconds)
            .arg(&self.weir)
            .arg("--address")
            .arg(format!("unix:{}", self.sockets[host].display()))
            .arg("--json");
        command::run(arguments(&mut weir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_in_force_when_nobody_is_behind() {
        let status = |floor: bool, pending: &str| -> FleetStatus {
            let text = format!(
                r#"{{"members": [{{"name": "host1", "live": true, "on_floor": {floor}}}],
                    "limits": [{{"name": "dns", "promise_kept": true, "pending": [{pending}]}}]}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        assert!(status(false, "").is_in_force());
        assert!(!status(true, "").is_in_force());
        assert!(!status(false, "\"host1\"").is_in_force());
        assert!(!FleetStatus::default().is_in_force());
    }

    #[test]
    fn reads_the_status() {
        let text = r#"{"leader": {"node": "x", "name": "host2"}, "term": 3, "other": [1],
            "members": [{"name": "host1", "live": true}, {"name": "host2", "live": false}],
            "limits": [{"name": "dns", "promise_kept": true}]}"#;
        let status: FleetStatus = serde_json::from_str(text).unwrap();
        assert_eq!(status.leader.as_ref().unwrap().name, "host2");
        assert_eq!((status.term, status.live()), (3, 1));
        assert!(status.limits[0].promise_kept);
        let empty: FleetStatus = serde_json::from_str(r#"{"leader": null, "term": 0}"#).unwrap();
        assert_eq!(empty, FleetStatus::default());
    }
}
