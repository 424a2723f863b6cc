//! Where declared scenarios are played: a fleet with limits in force, used by one after the other as
//! long as it is as they need it.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};

use super::{quiet, traces::Traces};
use crate::{
    fleet::{
        self, Fleet, Plan, Process, Setup, Timing,
        plan::{FLOW_PORT, LIMITED_PORT, SOURCES},
    },
    interrupt::Interrupt,
    oracle::Budget,
    progress::Progress,
    stage::{self, HotSource, LimitUnderTest, Packets, Recording, Script, Stage},
};

/// The strict limit of the flood: packets per second for the whole fleet.
pub(super) const RATE: f64 = 12_000.0;
/// The strict limit of the flows that back off.
pub(super) const FLOW_RATE: f64 = 3_000.0;
/// What each host may always spend, as a part of the rate: large enough to be told from nothing.
const FLOOR: f64 = 0.02;
/// What each source may send to all hosts together, where sources are limited one by one.
const KEY_RATE: f64 = 2_000.0;
/// What a hot source sends to each host, as a part of what it may: three quarters to each of four are
/// three times its rate, and less than an elastic limit gives it on any of them.
const KEY_SPRAY: f64 = 0.75;
/// All others together, to each host: a thousand of them, next to nothing each.
const OTHERS_RATE: f64 = 500.0;
/// Bursts, in seconds of rate: the language's default.
const BURST_SECONDS: f64 = 0.1;
const FRAME_BYTES: usize = 60;
/// Most voters of a fleet.
const MOST_VOTERS: usize = 7;

/// What a scenario needs to be played on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Hosts.
    pub hosts: usize,
    /// So many of them do not run at first.
    pub waiting: usize,
    /// ZooKeeper servers.
    pub servers: usize,
    /// Daemons read wall clocks that can be set.
    pub wall_clocks: bool,
    /// TCP flows to each host.
    pub flows: usize,
    /// Limits of sources one by one, and hot sources.
    pub keys: bool,
    /// The rule that daemons break.
    pub broken_rule: Option<String>,
}

impl Needs {
    /// Three hosts, three servers.
    pub const ORDINARY: Self = Self {
        hosts: 3,
        waiting: 0,
        servers: 3,
        wall_clocks: false,
        flows: 0,
        keys: false,
        broken_rule: None,
    };
}

/// A fleet that scenarios are played on, gone when this is dropped.
pub struct Ground {
    needs: Needs,
    pub(super) fleet: Fleet,
    /// No scenario has changed it for good.
    is_fresh: bool,
}

impl Ground {
    /// The ground that is there, if it does, or another one.
    ///
    /// # Errors
    ///
    /// If a fleet cannot be made.
    pub(super) fn for_needs(
        found: Option<Self>,
        needs: &Needs,
        directory: &Path,
        interrupt: &Interrupt,
        progress: &mut Progress,
    ) -> Result<Self> {
        if let Some(ground) = found
            && ground.is_fresh
            && ground.needs == *needs
        {
            let settled = progress.step("settling", || ground.settle(interrupt));
            if settled.is_ok() {
                return Ok(ground);
            }
            interrupt.check()?;
            progress.note("the fleet is not what it was: making another one");
        }
        // What was found is gone by now: two fleets at a time would be in each other's way.
        Self::build(needs, directory, interrupt, progress)
    }

    fn build(
        needs: &Needs,
        directory: &Path,
        interrupt: &Interrupt,
        progress: &mut Progress,
    ) -> Result<Self> {
        let name = format!("chaos-{}", Process::current().pid);
        let plan = Plan::new(&name, needs.hosts, 1, needs.servers)?;
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        let limits = directory.join("limits.toml");
        fs::write(&limits, limits_file(needs))?;
        let setup = Setup {
            waiting: needs.waiting,
            wall_clocks: needs.wall_clocks,
            broken_rule: needs.broken_rule.clone(),
        };
        let timing = Timing::default();
        let fleet = fleet::build_as(&setup, plan, timing, Some(&limits), interrupt, progress)?;
        let ground = Self {
            needs: needs.clone(),
            fleet,
            is_fresh: true,
        };
        progress.step("settling", || ground.settle(interrupt))?;
        Ok(ground)
    }

    /// Waits until all hosts that run have grants, and all voters vote.
    fn settle(&self, interrupt: &Interrupt) -> Result<()> {
        let hosts = self.needs.hosts - self.needs.waiting;
        let most = hosts.min(MOST_VOTERS);
        let voters = most - usize::from(most.is_multiple_of(2));
        self.fleet.ensemble.wait_until_serving(interrupt)?;
        quiet::settle_hosts(&self.fleet, hosts, voters, interrupt)
            .with_context(|| self.fleet.logs())
    }

    /// What its fleet consists of, at most.
    #[must_use]
    pub fn traces(&self) -> Traces {
        let plan = &self.fleet.plan;
        // A server's script may stand between.
        let servers = 2 * plan.servers.len();
        Traces {
            namespaces: plan.namespaces().count(),
            mounts: 1,
            directories: 1,
            processes: plan.hosts.len() + servers,
            descriptors: 0,
        }
    }

    /// Plays a script.
    ///
    /// # Errors
    ///
    /// If a part of it cannot be done, or the user interrupts.
    pub(super) fn play(&mut self, script: &Script, interrupt: &Interrupt) -> Result<Recording> {
        let packets = Packets {
            port: LIMITED_PORT,
            sources: SOURCES.parse()?,
            size: FRAME_BYTES,
        };
        self.is_fresh = false;
        let mut stage = Stage::set(&self.fleet.plan, &packets)?;
        if self.needs.flows > 0 {
            stage.add_flows(&self.fleet.plan, self.needs.flows)?;
        }
        if self.needs.keys {
            stage.add_keys(&self.fleet.plan, &hot_sources()?, FRAME_BYTES)?;
        }
        let recording = stage::perform(&mut self.fleet, &mut stage, script, interrupt, |_| ())
            .with_context(|| self.fleet.logs())?;
        self.is_fresh = self.needs.waiting == 0 && !script.is_for_good();
        Ok(recording)
    }
}

fn limits_file(needs: &Needs) -> String {
    let limit = |name: &str, proto: &str, port: u16, rate: f64| {
        format!(
            "\n[[limit]]\nname  = \"{name}\"\nproto = \"{proto}\"\nports = [{port}]\n\
             rate  = \"{} packets/s\"\nburst = \"{} packets\"\nfloor = \"{}%\"\n\
             promise = \"strict\"\n",
            rate as u64,
            (rate * BURST_SECONDS) as u64,
            FLOOR * 100.0,
        )
    };
    let head = format!("version = 1\n\n[fleet]\nmax_members = {}\n", needs.hosts);
    let keyed = |(key, promise): (&KeyedLimit, &str)| {
        format!(
            "\n[[limit]]\nname  = \"{promise}-sources\"\nproto = \"udp\"\nports = [{}, {}]\n\
             per   = {{ source_v4 = 32 }}\nrate  = \"{KEY_RATE} packets/s\"\n\
             burst = \"{} packets\"\npromise = \"{promise}\"\n",
            key.port,
            key.others_port,
            KEY_RATE * BURST_SECONDS,
        )
    };
    let keys = KEYED.iter().zip(["strict", "elastic"]).map(keyed);
    let keys: String = keys.filter(|_| needs.keys).collect();
    let head = head
        + &limit("flood", "udp", LIMITED_PORT, RATE)
        + &limit("flows", "tcp", FLOW_PORT, FLOW_RATE);
    head + &keys
}

/// A keyed limit: the hot source's port and address, the others' port and addresses.
struct KeyedLimit {
    port: u16,
    source: &'static str,
    others_port: u16,
    others: &'static str,
}

/// The strict one, and the elastic one.
const KEYED: [KeyedLimit; 2] = [
    KeyedLimit {
        port: 5_410,
        source: "198.19.240.1/32",
        others_port: 5_411,
        others: "198.19.244.0/22",
    },
    KeyedLimit {
        port: 5_412,
        source: "198.19.240.2/32",
        others_port: 5_413,
        others: "198.19.248.0/22",
    },
];

fn hot_sources() -> Result<Vec<HotSource>> {
    let source = |key: &KeyedLimit| {
        Ok(HotSource {
            source: key.source.parse()?,
            port: key.port,
            rate: KEY_RATE * KEY_SPRAY,
            others: key.others.parse()?,
            others_port: key.others_port,
            others_rate: OTHERS_RATE,
        })
    };
    KEYED.iter().map(source).collect()
}

/// What a hot source may, by the promise of its limit.
pub(super) fn key_budget() -> Budget {
    Budget {
        burst: KEY_RATE * BURST_SECONDS,
        ..budget(KEY_RATE)
    }
}

/// What a strict limit of this rate promises.
pub(super) fn budget(rate: f64) -> Budget {
    Budget {
        rate,
        burst: RATE.max(rate) * BURST_SECONDS,
        drift: Timing::DRIFT,
    }
}

/// The flood's limit, as the oracle knows it.
pub(super) fn limit() -> LimitUnderTest {
    LimitUnderTest {
        budget: budget(RATE),
        floor: RATE * FLOOR,
    }
}

/// The budget of the flows that back off.
pub(super) fn flow_budget() -> Budget {
    Budget {
        burst: FLOW_RATE * BURST_SECONDS,
        ..budget(FLOW_RATE)
    }
}

/// The same rate to each of so many hosts.
pub(super) fn even(hosts: usize, overload: f64) -> Vec<f64> {
    vec![RATE * overload / hosts as f64; hosts]
}

/// Everything to one host.
pub(super) fn alone(hosts: usize, host: usize, overload: f64) -> Vec<f64> {
    let mut rates = vec![0.0; hosts];
    rates[host % hosts] = RATE * overload;
    rates
}

/// Time in milliseconds.
pub(super) const fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}
