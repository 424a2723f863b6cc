//! What is measured: each variant is set up on a site of its own, and takes itself down when it is
//! dropped.

mod kernel;
mod netfilter;
mod program;
mod weir;

use std::path::Path;

use anyhow::Result;

pub use self::weir::{Bucket, Weir};
use super::{flood::Family, footprint::Footprint, ground::Site};

/// Entries of every rival's table. Twice the largest pool of sources, so that none evicts.
pub const TABLE_ENTRIES: u32 = 1 << 21;

/// What a limiter lets through: for each source, or for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Packets each second or each hour.
    pub packets: u32,
    /// Whether it is each hour.
    pub hourly: bool,
    /// Packets at once.
    pub burst: u32,
}

impl Allowance {
    /// So little that next to nothing passes, since a packet that passes costs its way up the stack
    /// as well.
    pub const NEXT_TO_NOTHING: Self = Self {
        packets: 1,
        hourly: true,
        burst: 1,
    };

    /// Nanoseconds between two packets.
    #[must_use]
    pub fn emission_ns(self) -> u64 {
        let period_ns = if self.hourly {
            3_600_000_000_000
        } else {
            1_000_000_000
        };
        period_ns / u64::from(self.packets)
    }
}

/// What setting up takes.
#[derive(Clone, Copy, Debug)]
pub struct Tools<'a> {
    /// Where files go.
    pub footprint: &'a Footprint,
    /// The daemon's program.
    pub weir_node: &'a Path,
    /// What limiters let through.
    pub allowance: Allowance,
}

/// Something that drops packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variant {
    /// An XDP program that does nothing but drop.
    BareDrop,
    /// An XDP program that does nothing but let pass.
    BarePass,
    /// Drops, and reads a word of the headers before.
    TouchingDrop,
    /// A tc program that does nothing but drop.
    TcDrop,
    /// XDP, one bucket for all, as usually written.
    XdpAggregate,
    /// XDP, an LRU hash of buckets by source, as usually written.
    XdpLru,
    /// XDP, a plain hash of buckets by source.
    XdpHash,
    /// nftables at netdev ingress, a dynamic set with `limit rate over`.
    Nft,
    /// iptables `hashlimit` in the raw table.
    Hashlimit,
    /// Weir itself.
    Weir(Weir),
}

impl Variant {
    /// Its name in reports.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::BareDrop => "bare-drop".to_owned(),
            Self::BarePass => "bare-pass".to_owned(),
            Self::TouchingDrop => "touching-drop".to_owned(),
            Self::TcDrop => "tc-drop".to_owned(),
            Self::XdpAggregate => "xdp-aggregate".to_owned(),
            Self::XdpLru => "xdp-lru".to_owned(),
            Self::XdpHash => "xdp-hash".to_owned(),
            Self::Nft => "nft".to_owned(),
            Self::Hashlimit => "hashlimit".to_owned(),
            Self::Weir(weir) => weir.name.to_owned(),
        }
    }

    /// Sets it up.
    ///
    /// # Errors
    ///
    /// If a tool is missing, or it or the kernel refuses.
    pub fn install(
        &self,
        site: &Site,
        family: Family,
        tools: &Tools<'_>,
    ) -> Result<Box<dyn Installed>> {
        let allowance = tools.allowance;
        let installed: Box<dyn Installed> = match self {
            Self::BareDrop => Box::new(program::Xdp::attach(site, "bare_drop", allowance)?),
            Self::BarePass => Box::new(program::Xdp::attach(site, "bare_pass", allowance)?),
            Self::TouchingDrop => Box::new(program::Xdp::attach(site, "touching_drop", allowance)?),
            Self::TcDrop => Box::new(program::Tc::attach(site)?),
            Self::XdpAggregate => {
                Box::new(program::Xdp::attach(site, "aggregate_limit", allowance)?)
            }
            Self::XdpLru => Box::new(program::Xdp::attach(site, "lru_limit", allowance)?),
            Self::XdpHash => Box::new(program::Xdp::attach(site, "hash_limit", allowance)?),
            Self::Nft => Box::new(netfilter::Nft::set_up(site, family, allowance)?),
            Self::Hashlimit => Box::new(netfilter::Hashlimit::set_up(site, allowance)?),
            Self::Weir(weir) => Box::new(weir.start(site, tools)?),
        };
        Ok(installed)
    }
}

/// Counts, and takes in, what an XDP program lets pass at a site.
///
/// # Errors
///
/// If the kernel refuses.
pub fn count_behind(site: &Site) -> Result<Box<dyn Installed>> {
    Ok(Box::new(program::Tc::attach(site)?))
}

/// A variant that is in force.
pub trait Installed {
    /// Packets that it dropped so far, by its own count or by the driver's of its verdicts.
    ///
    /// # Errors
    ///
    /// If the count cannot be read.
    fn dropped(&mut self) -> Result<u64>;
}
