//! The kernel's side of a host: loading its programs, and speaking to their maps.
//!
//! Two parts. [`load`] is privileged: it checks the host, mounts bpffs, loads, attaches and pins.
//! What it returns, the [`Dataplane`], holds descriptors only and needs no privilege: it puts
//! policies in force, has grants installed, and reads counters. Dropping it changes nothing in the
//! kernel, where limits go on being enforced; [`detach`] takes them off.

mod activate;
mod attach;
mod batch;
mod compile;
mod counters;
mod error;
mod events;
mod handover;
mod hot;
mod install;
mod loader;
mod management;
mod maps;
mod netlink;
mod object;
mod pins;
mod preflight;
mod raw;
mod reuse;
mod slots;
mod sys;
mod tidy;
mod undo;

use std::os::fd::{AsFd as _, OwnedFd};

use aya::maps::{Array, MapData};
use weir_abi::Totals;
use weir_model::{Amount, LimitId, Nanos, PolicyVersion, Units};

#[doc(hidden)]
pub use self::handover::{Step, kill_after};
pub use self::{
    activate::Prepared,
    counters::{Counters, LimitCount},
    error::{DataplaneError, LoadError},
    events::Sample,
    install::{GrantRequest, InstallOutcome},
    loader::{AttachMode, Clock, LoadOptions, Sizes, detach, load},
    management::ManagementEntry,
};
use self::{
    counters::Inherited, hot::Hot, maps::Maps, maps::map_error, pins::PinGroup, slots::Bucket,
    slots::Slots, tidy::Tidying,
};

/// Looks whether this process and this kernel can do what [`load`] asks of them.
///
/// # Errors
///
/// The first thing that is not as it must be.
pub fn preflight() -> Result<(), LoadError> {
    preflight::check()
}

/// `CLOCK_BOOTTIME` now: the clock that grants are measured on.
#[must_use]
pub fn now() -> Nanos {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a structure to fill. The call cannot fail with a clock that exists since Linux 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    Nanos(time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned())
}

/// The kernel's maps, on held descriptors. One per group of interfaces: it holds the lock.
pub struct Dataplane {
    maps: Maps,
    slots: Slots,
    hot: Hot,
    programs: Programs,
    test_clock: Option<Array<MapData, u64>>,
    /// The side of [`weir_abi::maps::SIDE`], ever growing; its lowest bit counts.
    generation: u64,
    version: PolicyVersion,
    /// See [`Dataplane::set_gives`].
    gives: bool,
    key_seed: u64,
    key_lines: u32,
    tidying: Tidying,
    /// Slots whose rules each side uses, if known.
    used: [Option<Vec<u32>>; 2],
    inherited: Inherited,
    /// Held until this is dropped.
    lock: Option<PinGroup>,
}

/// The programs, on descriptors.
struct Programs {
    decide: OwnedFd,
    install: OwnedFd,
    sweep: OwnedFd,
}

impl std::fmt::Debug for Dataplane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dataplane")
            .field("version", &self.version)
            .field("generation", &self.generation)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

/// What the kernel holds of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The grant.
    pub amount: Amount,
    /// What remains when it has ended.
    pub floor: Amount,
    /// When it ends.
    pub expires: Nanos,
    /// The entitlement that is unspent just now.
    pub unspent: Units,
}

impl Dataplane {
    /// Takes up what the maps hold.
    fn adopt(
        maps: Maps,
        programs: Programs,
        test_clock: Option<Array<MapData, u64>>,
    ) -> Result<Self, DataplaneError> {
        let key_seed = maps.key_seed.get(&0, 0);
        let mut dataplane = Self {
            key_lines: maps.key_lines,
            tidying: Tidying::default(),
            key_seed: key_seed.map_err(map_error(weir_abi::maps::KEY_SEED))?,
            used: [None, None],
            slots: Slots::default(),
            hot: Hot::default(),
            maps,
            programs,
            test_clock,
            generation: 0,
            version: PolicyVersion(0),
            gives: true,
            inherited: Inherited::default(),
            lock: None,
        };
        dataplane.read_again()?;
        Ok(dataplane)
    }

    /// Takes up what somebody else has changed in the maps.
    fn read_again(&mut self) -> Result<(), DataplaneError> {
        use weir_abi::maps as names;
        self.generation = self.maps.side.get(&0, 0).map_err(map_error(names::SIDE))?;
        let side = (self.generation & 1) as u32;
        let record = self.maps.policies.get(&side, 0);
        self.version = PolicyVersion(record.map_err(map_error(names::POLICIES))?.0.version);
        self.slots = Slots::read(&self.maps, side)?;
        self.hot = Hot::read(&mut self.maps, &self.slots, side)?;
        let limits: Vec<u32> = self.hot_limits().collect();
        self.count_hot_keys(limits.into_iter())?;
        self.inherited = Inherited::read(&self.maps)?;
        Ok(())
    }

    /// The version of the policy in force, also after a restart; 0 for none.
    #[must_use]
    pub const fn active_policy(&self) -> PolicyVersion {
        self.version
    }

    /// Whether keys of strict limits have this host's part of their budget.
    #[must_use]
    pub const fn gives(&self) -> bool {
        self.gives
    }

    /// Policies that are prepared from now on give it to them, or nothing but what is leased.
    pub const fn set_gives(&mut self, gives: bool) {
        self.gives = gives;
    }

    /// The limits of the policy in force.
    pub fn limits(&self) -> impl Iterator<Item = LimitId> + '_ {
        self.slots.active().map(|(limit, _)| limit)
    }

    /// The leased bucket of a limit of the policy in force, or of a hot key.
    fn bucket(&self, limit: LimitId) -> Option<Bucket> {
        self.slots.find(limit).or_else(|| self.hot.find(limit))
    }

    /// What the kernel holds of a limit, or of a hot key; `None` if the policy in force does not
    /// have the one, and nobody has set the other.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn held(&self, limit: LimitId) -> Result<Option<Held>, DataplaneError> {
        let Some(bucket) = self.bucket(limit) else {
            return Ok(None);
        };
        let slot = self
            .maps
            .limits
            .get(&bucket.slot, 0)
            .map_err(map_error(weir_abi::maps::LIMITS))?;
        Ok(Some(install::held(&slot.0, self.clock()?)))
    }

    /// What was counted of one limit so far, or of the packets of a hot key since it is hot; `None`
    /// as for [`Self::held`].
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn count(&self, limit: LimitId) -> Result<Option<LimitCount>, DataplaneError> {
        let mut counted = self.count_all(&[limit])?;
        Ok(counted.pop().flatten())
    }

    /// As [`Self::count`], of each of these: one call to the kernel for many of them.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn count_all(&self, limits: &[LimitId]) -> Result<Vec<Option<LimitCount>>, DataplaneError> {
        let buckets = limits.iter().map(|limit| self.bucket(*limit));
        let places = buckets.enumerate();
        let places = places.filter_map(|(place, bucket)| Some((place, bucket?.slot)));
        let (places, slots): (Vec<usize>, Vec<u32>) = places.unzip();
        let mut counted = vec![None; limits.len()];
        let read = self.maps.counts.read(&slots, |index, of_cpus| {
            let inherited = self.inherited.of(slots[index]);
            let place = places[index];
            counted[place] = Some(LimitCount {
                limit: limits[place],
                counters: counters::sum_limit(of_cpus.iter().chain(inherited)),
            });
        });
        read.map_err(|source| DataplaneError::System {
            what: "reading counters",
            source,
        })?;
        Ok(counted)
    }

    /// What was counted so far.
    ///
    /// # Errors
    ///
    /// If a map cannot be read.
    pub fn counters(&self) -> Result<Counters, DataplaneError> {
        let totals = self.totals()?;
        let limits: Vec<LimitId> = self.limits().collect();
        let limits = self.count_all(&limits)?.into_iter().flatten().collect();
        Ok(Counters { totals, limits })
    }

    /// What was counted of all packets so far.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn totals(&self) -> Result<Totals, DataplaneError> {
        let of_cpus = self.maps.totals.get(&0, 0);
        let of_cpus = of_cpus.map_err(map_error(weir_abi::maps::TOTALS))?;
        let of_cpus = of_cpus.iter().map(|one| &one.0);
        Ok(counters::sum_totals(
            of_cpus.chain([self.inherited.totals()]),
        ))
    }

    /// The kernel programs' clock, if they were loaded with [`Clock::Test`].
    ///
    /// # Errors
    ///
    /// If the map cannot be written, or they were not.
    #[doc(hidden)]
    pub fn set_test_clock(&mut self, now: Nanos) -> Result<(), DataplaneError> {
        let clock = self.test_clock.as_mut().ok_or(DataplaneError::System {
            what: "the test clock",
            source: std::io::ErrorKind::Unsupported.into(),
        })?;
        let name = weir_abi::maps::TEST_CLOCK;
        clock.set(0, now.0, 0).map_err(map_error(name))
    }

    /// Has the kernel decide about a frame as if it had been received; whether it passes. It is
    /// charged and counted like any other.
    ///
    /// # Errors
    ///
    /// If the kernel does not run it.
    #[doc(hidden)]
    pub fn run_frame(&self, frame: &[u8]) -> Result<bool, DataplaneError> {
        const XDP_PASS: u32 = 2;
        let mut data = frame.to_vec();
        let returned = sys::test_run(self.programs.decide.as_fd(), &mut data);
        let returned = returned.map_err(|source| DataplaneError::System {
            what: "test-run of a frame",
            source,
        })?;
        Ok(returned == XDP_PASS)
    }

    /// How long the kernel takes for a frame, in nanoseconds: the mean of as many runs, back to back
    /// on one CPU. Each is charged and counted.
    ///
    /// # Errors
    ///
    /// If the kernel does not run it.
    #[doc(hidden)]
    pub fn frame_cost_ns(&self, frame: &[u8], runs: u32) -> Result<u32, DataplaneError> {
        let cost = sys::test_run_cost(self.programs.decide.as_fd(), frame, runs);
        cost.map_err(|source| DataplaneError::System {
            what: "test-run of a frame",
            source,
        })
    }

    fn clock(&self) -> Result<Nanos, DataplaneError> {
        match &self.test_clock {
            None => Ok(now()),
            Some(clock) => {
                let time = clock.get(&0, 0);
                Ok(Nanos(time.map_err(map_error(weir_abi::maps::TEST_CLOCK))?))
            }
        }
    }
}
