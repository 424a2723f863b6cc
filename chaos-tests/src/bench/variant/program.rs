//! The lab's own programs as variants.

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{MapData, PerCpuArray},
    programs::{SchedClassifier, TcAttachType, tc},
};

use super::{Allowance, Installed, TABLE_ENTRIES, kernel};
use crate::bench::ground::Site;

fn load(tables: &[&str], allowance: Allowance) -> Result<Ebpf> {
    let bytes = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-receiver.o"));
    let emission_ns = allowance.emission_ns();
    let tolerance_ns = emission_ns * u64::from(allowance.burst - 1);
    let mut loader = EbpfLoader::new();
    loader.override_global("EMISSION_NS", &emission_ns, true);
    loader.override_global("TOLERANCE_NS", &tolerance_ns, true);
    for table in tables {
        loader.map_max_entries(table, TABLE_ENTRIES);
    }
    loader.load(bytes).context("cannot load the lab's programs")
}

/// An XDP program on an interface, until it is dropped.
pub(super) struct Xdp {
    _program: Ebpf,
    site: Place,
    before: u64,
}

/// What is needed to ask the driver.
struct Place {
    namespace: crate::namespace::Namespace,
    interface: String,
}

impl Xdp {
    pub(super) fn attach(site: &Site, name: &str, allowance: Allowance) -> Result<Self> {
        let tables: &[&str] = match name {
            "lru_limit" => &["LRU_BUCKETS"],
            "hash_limit" => &["HASH_BUCKETS"],
            _ => &[],
        };
        let mut object = load(tables, allowance)?;
        let program: &mut aya::programs::Xdp = object
            .program_mut(name)
            .context("the object has its programs")?
            .try_into()?;
        program.load()?;
        site.namespace
            .inside(|| program.attach(&site.interface, aya::programs::XdpMode::Driver))?
            .with_context(|| format!("cannot attach {name}"))?;
        Ok(Self {
            _program: object,
            before: kernel::xdp_drops(&site.namespace, &site.interface)?,
            site: Place {
                namespace: site.namespace.clone(),
                interface: site.interface.clone(),
            },
        })
    }
}

impl Installed for Xdp {
    fn dropped(&mut self) -> Result<u64> {
        let drops = kernel::xdp_drops(&self.site.namespace, &self.site.interface)?;
        Ok(drops - self.before)
    }
}

/// The tc program on an interface, until it is dropped.
pub(super) struct Tc {
    _program: Ebpf,
    dropped: PerCpuArray<MapData, u64>,
}

impl Tc {
    pub(super) fn attach(site: &Site) -> Result<Self> {
        let mut object = load(&[], Allowance::NEXT_TO_NOTHING)?;
        let program: &mut SchedClassifier = object
            .program_mut("tc_drop")
            .context("the object has its programs")?
            .try_into()?;
        program.load()?;
        site.namespace
            .inside(|| -> Result<()> {
                tc::qdisc_add_clsact(&site.interface)?;
                let options = tc::TcAttachOptions::Netlink(tc::NlOptions::default());
                program.attach_with_options(&site.interface, TcAttachType::Ingress, options)?;
                Ok(())
            })?
            .context("cannot attach the tc program")?;
        let dropped = object
            .take_map("DROPPED")
            .context("the object has its maps")?;
        Ok(Self {
            _program: object,
            dropped: dropped.try_into()?,
        })
    }
}

impl Installed for Tc {
    fn dropped(&mut self) -> Result<u64> {
        Ok(self.dropped.get(&0, 0)?.iter().sum())
    }
}
