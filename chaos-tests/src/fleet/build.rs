//! Bringing a fleet up, step by step.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};

use super::{
    Daemon, Ensemble, Fleet, Footprint, Network, Operator, Plan, Process, Timing, WallClocks,
    plan::{INTERFACE, SOURCES, Site},
};
use crate::{clock, command, interrupt::Interrupt, priority, progress::Progress};

/// Names the rule that a daemon breaks, if it was built for that.
const BROKEN_RULE: &str = "WEIR_BROKEN_RULE";
/// How long daemons may take until all are members of one fleet with a leader.
const ASSEMBLED_WITHIN: Duration = Duration::from_secs(30);
/// How long limits may take until all nodes enforce them.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(15);

/// What is out of the ordinary about a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// So many of its last hosts have a daemon that was never started.
    pub waiting: usize,
    /// Its daemons read wall clocks that can be set.
    pub wall_clocks: bool,
    /// Its daemons break this rule.
    pub broken_rule: Option<String>,
}

/// Brings a fleet up and waits until it has a leader and, if given, its limits are in force. On
/// failure, everything that was made is removed.
///
/// # Errors
///
/// If a part cannot be made or does not become ready; the message holds the logs' ends.
pub fn build(
    plan: Plan,
    timing: Timing,
    limits: Option<&Path>,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Fleet> {
    build_as(&Setup::default(), plan, timing, limits, interrupt, progress)
}

/// The same, with something out of the ordinary.
///
/// # Errors
///
/// As [`build`].
pub fn build_as(
    setup: &Setup,
    plan: Plan,
    timing: Timing,
    limits: Option<&Path>,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Fleet> {
    require_root()?;
    priority::outrank_the_rest()?;
    for name in Footprint::remove_left_overs()? {
        progress.note(&format!("removed what was left of the fleet '{name}'"));
    }
    let footprint = Footprint::of(&plan, Some(Process::current()));
    let mut daemons: Vec<Daemon> = plan
        .hosts
        .iter()
        .map(|site| Daemon::of(&footprint, site))
        .collect();
    let ensemble = Ensemble::of(&plan, &footprint.directory());
    let network = Network::of(plan.router.clone());
    let operator = Operator::new(daemons.iter().map(Daemon::socket).collect())?;
    let mut program = operator.daemon().to_owned();
    if let Some(rule) = &setup.broken_rule {
        program = operator.broken_daemon()?;
        for daemon in &mut daemons {
            daemon.dress(BROKEN_RULE, rule.clone());
        }
    }
    footprint.claim()?;
    let wall_clocks = if setup.wall_clocks {
        Some(WallClocks::give(&mut daemons)?)
    } else {
        None
    };
    // From here on, dropping the fleet removes it.
    let mut fleet = Fleet {
        plan,
        timing,
        operator,
        ensemble,
        network,
        detour: None,
        wall_clocks,
        program,
        limits: limits.map(Path::to_owned),
        footprint,
        daemons,
    };
    let started = fleet.plan.hosts.len() - setup.waiting;

    progress.step("network", || connect(&fleet.plan))?;
    progress.step("ZooKeeper", || {
        mount_bpffs(&fleet.footprint.bpffs())?;
        fleet.ensemble.begin(&fleet.plan)?;
        fleet.ensemble.wait_until_serving(interrupt)
    })?;
    progress.step("daemons", || {
        start_daemons(&mut fleet, started)?;
        wait_until_assembled(&mut fleet, started, interrupt)
    })?;
    if let Some(limits) = limits {
        progress.step("limits", || {
            put_in_force(&fleet, started, limits, interrupt)
        })?;
    }
    Ok(fleet)
}

fn require_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    bail!("network namespaces and XDP need root: run this as root, or with sudo")
}

/// Namespaces, links, addresses and routes. There is no way out of the machine.
fn connect(plan: &Plan) -> Result<()> {
    for namespace in plan.namespaces() {
        namespace.create()?;
    }
    plan.router.configure("net/ipv4/ip_forward", "1")?;
    plan.router.configure("net/ipv6/conf/all/forwarding", "1")?;
    // Answers to test traffic go nowhere.
    plan.router
        .ip(&format!("route add blackhole {SOURCES}\n"))?;
    for site in plan.sites() {
        plan.router.ip(&router_side(site))?;
        site.namespace.ip(&site_side(site))?;
        // A host whose link returns would wait for up to a second, and for nobody but ARP.
        let ends = [
            (&plan.router, site.router_interface.as_str()),
            (&site.namespace, INTERFACE),
        ];
        for (namespace, interface) in ends {
            let setting = format!("net/ipv4/neigh/{interface}/retrans_time_ms");
            namespace.configure(&setting, "100")?;
        }
    }
    Ok(())
}

fn router_side(site: &Site) -> String {
    format!(
        "link add {link} address {mac} mtu 1500 type veth \
         peer name {INTERFACE} address {peer} mtu 1500 netns {namespace}\n\
         address add {v4}/24 dev {link}\n\
         address add {v6}/64 dev {link} nodad\n\
         link set {link} up\n",
        link = site.router_interface,
        mac = colons(site.router_mac()),
        peer = colons(site.mac()),
        namespace = site.namespace.name(),
        v4 = site.router_v4(),
        v6 = site.router_v6(),
    )
}

fn site_side(site: &Site) -> String {
    format!(
        "address add {v4}/24 dev {INTERFACE}\n\
         address add {v6}/64 dev {INTERFACE} nodad\n\
         link set {INTERFACE} up\n\
         route add default via {router_v4}\n\
         route add default via inet6 {router_v6}\n",
        v4 = site.v4(),
        v6 = site.v6(),
        router_v4 = site.router_v4(),
        router_v6 = site.router_v6(),
    )
}

fn colons(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A bpffs of the fleet's own, visible to everybody, apart from the machine's.
fn mount_bpffs(path: &Path) -> Result<()> {
    fs::create_dir_all(path)?;
    command::run(
        Command::new("mount")
            .args(["-t", "bpf", "weir-fleet"])
            .arg(path),
    )
    .map(drop)
}

fn start_daemons(fleet: &mut Fleet, started: usize) -> Result<()> {
    for host in 0..fleet.plan.hosts.len() {
        let site = &fleet.plan.hosts[host];
        fleet.daemons[host].configure(&fleet.plan, &fleet.footprint, site, &fleet.timing)?;
        if host < started {
            fleet.start(host)?;
        }
    }
    Ok(())
}

/// Waits until one daemon leads and all are seen running.
fn wait_until_assembled(fleet: &mut Fleet, hosts: usize, interrupt: &Interrupt) -> Result<()> {
    let what = format!("a leader and {hosts} members");
    let mut seen = String::from("no daemon answered");
    let assembled = clock::wait_for(&what, ASSEMBLED_WITHIN, interrupt, || {
        if let Some(how) = fleet.casualty() {
            return Some(Err(anyhow::anyhow!(how)));
        }
        match fleet.operator.status_of_any() {
            Ok(status) if status.leader.is_some() && status.live() == hosts => Some(Ok(())),
            Ok(status) => {
                seen = format!("{status:?}");
                None
            }
            Err(error) => {
                seen = format!("{error:#}");
                None
            }
        }
    });
    assembled.with_context(|| format!("seen last: {seen}\n{}", fleet.logs()))?
}

/// Applies limits and waits until every daemon says that all enforce them.
fn put_in_force(fleet: &Fleet, hosts: usize, limits: &Path, interrupt: &Interrupt) -> Result<()> {
    fleet.operator.apply(0, limits)?;
    let in_force = |host: usize| {
        fleet
            .operator
            .status(host)
            .is_ok_and(|status| status.is_in_force())
    };
    clock::wait_for(
        "the limits in force on every host",
        IN_FORCE_WITHIN,
        interrupt,
        || (0..hosts).all(in_force).then_some(()),
    )
    .with_context(|| fleet.logs())
}
