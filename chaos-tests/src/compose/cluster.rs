//! The containers of `deploy/compose/compose.yaml`.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::engine::Engine;
use crate::{clock, command, interrupt::Interrupt, namespace::Namespace};

/// The daemons of the fleet.
pub(super) const NODES: [&str; 3] = ["node1", "node2", "node3"];
/// The containers that hold the hosts' interfaces.
const HOSTS: [&str; 3] = ["host1", "host2", "host3"];
/// Not a name that anybody's own cluster has.
const PROJECT: &str = "weir-compose-test";
/// ZooKeeper's servers find each other, daemons attach, and a leader is elected.
const FORMING: Duration = Duration::from_secs(90);

/// The cluster. It is gone, volumes included, when this value is.
#[derive(Debug)]
pub(super) struct Cluster<'a> {
    engine: &'a Engine,
    directory: PathBuf,
}

/// What is read of `weir status --json`.
#[derive(Debug, Deserialize)]
struct Status {
    leader: Option<Member>,
    #[serde(default)]
    members: Vec<Member>,
}

#[derive(Debug, Deserialize)]
struct Member {
    name: String,
    #[serde(default)]
    live: bool,
}

impl<'a> Cluster<'a> {
    /// Brings it up, and waits until there is a leader and all three are members.
    ///
    /// # Errors
    ///
    /// If a container does not start, or the fleet does not form.
    pub(super) fn up(engine: &'a Engine, repository: &Path, interrupt: &Interrupt) -> Result<Self> {
        let cluster = Self {
            engine,
            directory: repository.join("deploy/compose"),
        };
        // What an earlier run may have left behind.
        cluster.down();
        command::run(cluster.compose().args(["up", "--detach", "--no-build"]))?;
        clock::wait_for("three members and a leader", FORMING, interrupt, || {
            let status = cluster.status().ok()?;
            let live = status.members.iter().filter(|member| member.live).count();
            (status.leader.is_some() && live == NODES.len()).then_some(())
        })
        .with_context(|| cluster.logs())?;
        Ok(cluster)
    }

    fn down(&self) {
        let _removed = command::run(self.compose().args(["down", "--volumes", "--timeout", "2"]));
    }

    fn compose(&self) -> Command {
        let mut compose = self.engine.compose();
        compose
            .args(["--project-name", PROJECT, "--file"])
            .arg(self.directory.join("compose.yaml"))
            .current_dir(&self.directory);
        compose
    }

    /// A command in a container, without a terminal.
    fn exec(&self, service: &str, words: &[&str]) -> Result<String> {
        command::run(self.compose().args(["exec", "-T", service]).args(words))
    }

    fn status(&self) -> Result<Status> {
        let answers = NODES
            .iter()
            .map(|node| self.exec(node, &["weir", "status", "--json"]));
        let answer = answers.filter_map(Result::ok).next();
        let answer = answer.context("no node answers")?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// The node that leads.
    ///
    /// # Errors
    ///
    /// If nobody answers, or nobody leads.
    pub(super) fn leader(&self) -> Result<&'static str> {
        let leader = self.status()?.leader.context("nobody leads")?.name;
        let known = NODES.into_iter().find(|node| *node == leader);
        known.with_context(|| format!("{leader} leads, and is none of them"))
    }

    /// Puts the limits file of the containers in force.
    ///
    /// # Errors
    ///
    /// If it is refused.
    pub(super) fn apply(&self) -> Result<()> {
        self.exec("node1", &["weir", "apply", "/etc/weir/limits.toml"])
            .map(drop)
    }

    /// The network namespaces of the three hosts.
    ///
    /// # Errors
    ///
    /// If a container is not there.
    pub(super) fn hosts(&self) -> Result<Vec<Namespace>> {
        HOSTS
            .iter()
            .map(|host| {
                let id = self.container(host)?;
                let format = ["inspect", "--format", "{{.State.Pid}}", &id];
                let pid = command::run(self.engine.docker().args(format))?;
                let pid = pid.trim().parse();
                let pid = pid.with_context(|| format!("the process of {host} is none"))?;
                Ok(Namespace::of_process(*host, pid))
            })
            .collect()
    }

    fn container(&self, service: &str) -> Result<String> {
        let id = command::run(self.compose().args(["ps", "--quiet", service]))?;
        Ok(id.trim().to_owned())
    }

    /// Ends a container at once; nobody starts it again.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub(super) fn kill(&self, service: &str) -> Result<()> {
        command::run(self.compose().args(["kill", service])).map(drop)
    }

    /// Starts one that has ended.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub(super) fn start(&self, service: &str) -> Result<()> {
        command::run(self.compose().args(["start", service])).map(drop)
    }

    /// Sends datagrams from the traffic container, for so long.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub(super) fn flood(&self, seconds: u64, rates: &[(&str, u64)]) -> Result<Child> {
        let mut compose = self.compose();
        compose.args(["run", "--rm", "-T", "traffic", "--seconds"]);
        compose.arg(seconds.to_string());
        for (node, rate) in rates {
            compose.arg(format!("{node}={rate}"));
        }
        compose
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the traffic container")
    }

    /// What Prometheus says of an expression: how many series there are of it.
    ///
    /// # Errors
    ///
    /// If the expression is refused, or Prometheus does not answer.
    pub(super) fn query(&self, expression: &str) -> Result<usize> {
        let address = "http://127.0.0.1:9090";
        let words = ["promtool", "query", "instant", address, expression];
        let found = self.exec("prometheus", &words)?;
        Ok(found.lines().filter(|line| line.contains("=>")).count())
    }

    /// Runs the tests of the alert rules.
    ///
    /// # Errors
    ///
    /// If one fails.
    pub(super) fn test_alerts(&self) -> Result<()> {
        let words = [
            "promtool",
            "test",
            "rules",
            "/etc/prometheus/alerts.test.yml",
        ];
        self.exec("prometheus", &words).map(drop)
    }

    fn logs(&self) -> String {
        let logs = command::run(self.compose().args(["logs", "--no-color", "--tail", "20"]));
        logs.unwrap_or_else(|error| error.to_string())
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        self.down();
    }
}
