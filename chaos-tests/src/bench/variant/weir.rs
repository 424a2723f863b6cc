//! Weir itself, as its users run it: `weir-node run` on one host, with a limits file.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use aya::maps::{Array, Map, MapData};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Allowance, Installed, Tools, kernel};
use crate::{
    bench::{
        footprint,
        frame::PORT,
        ground::{RECEIVER_V4, RECEIVER_V6, Site},
    },
    clock,
    interrupt::Interrupt,
    namespace::Namespace,
};

/// How long it may take until it enforces.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(20);
/// How long it may take to end.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// What its limits file asks for, and how it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weir {
    /// Its name in reports.
    pub name: &'static str,
    /// One bucket for each source.
    pub keyed: Option<Bucket>,
    /// One bucket for all sources.
    pub aggregate: Option<Bucket>,
    /// Limits that want another port of the same destination: rules that are looked at in vain.
    pub other_rules: usize,
    /// Whether both name source prefixes, which all sources are in.
    pub source_list: bool,
    /// Whether everything passes in the end, and is counted as if dropped.
    pub shadow: bool,
    /// Packets of which one is reported as an event; none is if `None`.
    pub sampling: Option<u64>,
    /// Slots of the table of keyed buckets; the default if `None`.
    pub table_slots: Option<u32>,
}

/// What a limit of the benchmark lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// Next to nothing: it drops what comes.
    Narrow,
    /// More than comes.
    Wide,
}

impl Weir {
    /// Slots of the table of keyed buckets, if nobody says otherwise.
    pub const DEFAULT_SLOTS: u32 = 1 << 20;
    /// No limit at all.
    pub const NOTHING: Self = Self {
        name: "weir-no-limits",
        keyed: None,
        aggregate: None,
        other_rules: 0,
        source_list: false,
        shadow: false,
        sampling: None,
        table_slots: None,
    };
    /// An aggregate limit that drops.
    pub const AGGREGATE: Self = Self {
        name: "weir-aggregate",
        aggregate: Some(Bucket::Narrow),
        ..Self::NOTHING
    };
    /// A keyed limit that drops.
    pub const KEYED: Self = Self {
        name: "weir-keyed",
        keyed: Some(Bucket::Narrow),
        ..Self::NOTHING
    };
    /// The whole path: parse, management list, service, keyed limit, aggregate limit, counters.
    /// Sources are dropped for their own excess.
    pub const WHOLE: Self = Self {
        name: "weir",
        keyed: Some(Bucket::Narrow),
        aggregate: Some(Bucket::Wide),
        ..Self::NOTHING
    };
    /// The whole path; each source keeps to its limit, and all of them together do not.
    pub const WHOLE_AGGREGATE_DROPS: Self = Self {
        name: "weir-aggregate-drops",
        keyed: Some(Bucket::Wide),
        aggregate: Some(Bucket::Narrow),
        ..Self::NOTHING
    };
    /// Its limits file.
    #[must_use]
    pub fn limits(&self, allowance: Allowance) -> String {
        let period = if allowance.hourly { "h" } else { "s" };
        let mut text = String::from("version = 1\n");
        let mut limit = |name: &str, port: u16, bucket: Bucket, further: &str| {
            let (rate, burst) = match bucket {
                Bucket::Narrow => (
                    format!("{} packets/{period}", allowance.packets),
                    allowance.burst,
                ),
                Bucket::Wide if further.is_empty() => ("100M packets/s".to_owned(), 10_000_000),
                // The fastest that a key may be, for as long as one measurement takes.
                Bucket::Wide => ("1M packets/s".to_owned(), 4_000_000),
            };
            let from = match self.source_list {
                true => "from = [\"10.0.0.0/8\", \"2001:db8::/32\"]\n",
                false => "",
            };
            let mode = if self.shadow {
                "mode = \"shadow\"\n"
            } else {
                ""
            };
            text.push_str(&format!(
                "\n[[limit]]\nname = \"{name}\"\nto = [\"{RECEIVER_V4}/32\", \
                 \"{RECEIVER_V6}/128\"]\nproto = \"udp\"\nports = [{port}]\nrate = \"{rate}\"\n\
                 burst = \"{burst} packets\"\npromise = \"local\"\n{further}{from}{mode}"
            ));
        };
        for (number, port) in (0..self.other_rules).zip(PORT + 1..) {
            limit(&format!("other-{number}"), port, Bucket::Narrow, "");
        }
        if let Some(bucket) = self.keyed {
            let per = "per = { source_v4 = 32, source_v6 = 64 }\n";
            limit("per-source", PORT, bucket, per);
        }
        if let Some(bucket) = self.aggregate {
            limit("all-sources", PORT, bucket, "");
        }
        text
    }

    pub(super) fn start(&self, site: &Site, tools: &Tools<'_>) -> Result<Daemon> {
        let footprint = tools.footprint;
        let name = format!("{}-{}", self.name, site.interface);
        let bpffs = footprint.bpffs(&name)?;
        let file = |ending: &str| footprint.directory().join(format!("{name}.{ending}"));
        let limits = file("toml");
        fs::write(&limits, self.limits(tools.allowance))?;
        let log = file("log");
        let mut command = site.namespace.command(tools.weir_node);
        command
            .args(["run", "--json", "--iface", &site.interface, "--limits"])
            .arg(&limits)
            .arg("--bpffs")
            .arg(&bpffs)
            .arg("--admin-socket")
            .arg(file("sock"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        if let Some(slots) = self.table_slots {
            command.arg("--table-slots").arg(slots.to_string());
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", tools.weir_node.display()))?;
        let mut daemon = Daemon {
            child,
            bpffs,
            log,
            namespace: site.namespace.clone(),
            interface: site.interface.clone(),
            before: 0,
        };
        daemon.wait_until_attached()?;
        if let Some(packets) = self.sampling {
            let map = pinned(&daemon.bpffs, "SAMPLING")?.context("no pinned map SAMPLING")?;
            let map = Map::from_map_data(MapData::from_pin(map)?)?;
            Array::<_, u64>::try_from(map)?.set(0, packets, 0)?;
        }
        daemon.before = kernel::xdp_drops(&site.namespace, &site.interface)?;
        Ok(daemon)
    }
}

/// The pinned object of this name, wherever it is below a directory.
fn pinned(directory: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if let Some(found) = pinned(&path, name)? {
                return Ok(Some(found));
            }
        } else if entry.file_name() == name {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// A `weir-node run`, stopped when dropped.
pub(super) struct Daemon {
    child: Child,
    bpffs: PathBuf,
    log: PathBuf,
    namespace: Namespace,
    interface: String,
    before: u64,
}

impl Daemon {
    fn wait_until_attached(&mut self) -> Result<()> {
        let quiet = Interrupt::default();
        let path = format!("{}", self.log.display());
        clock::wait_for("Weir in force", IN_FORCE_WITHIN, &quiet, || {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(Err(anyhow::anyhow!("weir-node ended: {status}")));
            }
            let mut ip = self.namespace.command("ip");
            let link = crate::command::run(ip.args(["link", "show", "dev", &self.interface]));
            match link {
                Ok(text) if text.contains("prog/xdp") => Some(Ok(())),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            }
        })
        .map_err(anyhow::Error::from)
        .and_then(|result| result)
        .with_context(|| fs::read_to_string(&self.log).unwrap_or(path))
    }
}

impl Installed for Daemon {
    fn dropped(&mut self) -> Result<u64> {
        if let Some(status) = self.child.try_wait()? {
            bail!("weir-node ended: {status}");
        }
        Ok(kernel::xdp_drops(&self.namespace, &self.interface)? - self.before)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It may have ended by itself.
            let _sent = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
        let ended = clock::wait_for(
            "the end of weir-node",
            ENDED_WITHIN,
            &Interrupt::default(),
            || self.child.try_wait().ok().flatten(),
        );
        if let Err(error) = ended {
            eprintln!("error: {error}: killing it");
            let _killed = self.child.kill();
            let _status = self.child.wait();
        }
        if let Err(error) = footprint::unmount(&self.bpffs) {
            eprintln!("error: {error:#}");
        }
    }
}
