//! `fleet`: a fleet to play with by hand.

use std::{os::unix::process::CommandExt as _, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use weir_chaos::{
    command,
    fleet::{
        self, Footprint, Plan, Timing,
        plan::{INTERFACE, Site},
    },
    interrupt::Interrupt,
    progress::Progress,
};

use super::traffic;

/// The name of a daemon's process.
const DAEMON: &str = "weir-node";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring a fleet up; it stays until it is taken down
    ///
    /// Example: fleet up --nodes 3 --limits limits.toml
    Up(Up),
    /// Run a command on a host
    ///
    /// Example: fleet exec host1 -- ip address
    Exec(Exec),
    /// Send UDP packets to a host, and count them in front of its limiter and behind it
    ///
    /// Example: fleet traffic --to host1 --rate 90k --seconds 5
    Traffic(traffic::Traffic),
    /// Show the fleet: hosts, clients, leader, members
    Status(Which),
    /// Remove the fleet and everything that runs in it
    Down(Which),
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The fleet's name: several can be up at a time
    #[arg(long, default_value = "lab")]
    name: String,
    /// One JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// How many hosts
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// How many clients
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// How many ZooKeeper servers
    #[arg(long, default_value_t = 1)]
    zookeeper: usize,
    /// Limits to put in force
    #[arg(long)]
    limits: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// A host, a client, a ZooKeeper server, or `router`
    node: String,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
    /// The fleet's name
    #[arg(long, default_value = "lab")]
    name: String,
}

impl Command {
    pub(crate) fn run(self, interrupt: &Interrupt) -> Result<bool> {
        match self {
            Self::Up(up) => up.run(interrupt),
            Self::Exec(exec) => exec.run(),
            Self::Traffic(traffic) => traffic.run(interrupt),
            Self::Status(which) => which.status(),
            Self::Down(which) => which.down(),
        }
    }
}

impl Up {
    fn run(self, interrupt: &Interrupt) -> Result<bool> {
        let plan = Plan::new(&self.which.name, self.nodes, self.clients, self.zookeeper)?;
        let limits = self.limits.as_deref();
        let mut progress = Progress::default();
        let fleet = fleet::build(plan, Timing::default(), limits, interrupt, &mut progress)?;
        let footprint = fleet.stay()?;
        self.which.show(&footprint)
    }
}

impl Exec {
    /// Becomes the command.
    fn run(self) -> Result<bool> {
        let plan = find(&self.name)?.plan()?;
        let namespace = if self.node == "router" {
            plan.router.clone()
        } else {
            site(&plan, &self.node)?.namespace.clone()
        };
        let (program, arguments) = self
            .command
            .split_first()
            .context("a command is required")?;
        Err(namespace.command(program).args(arguments).exec().into())
    }
}

impl Which {
    fn status(&self) -> Result<bool> {
        self.show(&find(&self.name)?)
    }

    fn down(&self) -> Result<bool> {
        let found = Footprint::find(&self.name)?;
        if let Some(footprint) = &found {
            footprint.remove()?;
        }
        if self.json {
            println!(
                "{}",
                json!({ "name": self.name, "removed": found.is_some() })
            );
        } else if found.is_some() {
            println!("the fleet '{}' is removed", self.name);
        } else {
            println!("no fleet '{}': nothing to remove", self.name);
        }
        Ok(true)
    }

    fn show(&self, footprint: &Footprint) -> Result<bool> {
        let plan = footprint.plan()?;
        let host = |site: &Site| -> Result<Value> {
            let socket = footprint.directory().join(&site.name).join("node.sock");
            Ok(json!({
                "name": site.name,
                "netns": site.namespace.name(),
                "address_v4": site.v4(),
                "address_v6": site.v6(),
                "iface": INTERFACE,
                "pid": daemon_pid(site)?,
                "socket": socket,
            }))
        };
        let client = |site: &Site| {
            json!({
                "netns": site.namespace.name(),
                "iface": INTERFACE,
                "address_v4": site.v4(),
            })
        };
        let nodes = plan.hosts.iter().map(host).collect::<Result<Vec<_>>>()?;
        let clients: Vec<Value> = plan.clients.iter().map(client).collect();
        if self.json {
            println!(
                "{}",
                json!({ "name": self.name, "nodes": nodes, "clients": clients })
            );
            return Ok(true);
        }
        println!(
            "fleet '{}', files in {}",
            self.name,
            footprint.directory().display()
        );
        for node in &nodes {
            println!(
                "  {:<8} {:<14} {:<18} pid {:<8} weir --address unix:{}",
                text(&node["name"]),
                text(&node["address_v4"]),
                text(&node["address_v6"]),
                node["pid"],
                text(&node["socket"]),
            );
        }
        for client in &clients {
            println!(
                "  client   {:<14} {}",
                text(&client["address_v4"]),
                text(&client["netns"])
            );
        }
        Ok(true)
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// The fleet of this name.
pub(crate) fn find(name: &str) -> Result<Footprint> {
    let found = Footprint::find(name)?;
    found.with_context(|| format!("no fleet '{name}': bring one up with `cargo xtask fleet up`"))
}

/// The site of this name.
pub(crate) fn site<'a>(plan: &'a Plan, name: &str) -> Result<&'a Site> {
    if let Some(site) = plan.sites().find(|site| site.name == name) {
        return Ok(site);
    }
    let names: Vec<&str> = plan.sites().map(|site| site.name.as_str()).collect();
    bail!(
        "no '{name}' in the fleet '{}': there are {}",
        plan.name,
        names.join(", ")
    )
}

/// The daemon that runs on a host, if one does.
fn daemon_pid(site: &Site) -> Result<Option<u32>> {
    let mut list = std::process::Command::new("ip");
    let pids = command::run(list.args(["netns", "pids", site.namespace.name()]))?;
    let is_daemon = |pid: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim_end() == DAEMON)
    };
    Ok(pids
        .lines()
        .filter_map(|pid| pid.trim().parse().ok())
        .find(is_daemon))
}
