//! A host's kernel: its clock, and its buckets, with the arithmetic that the XDP program has.
//!
//! What installs a grant and what admits a packet is the limiter itself. The oracle shares nothing
//! with it: it counts what comes out.

use std::{collections::BTreeMap, ptr::NonNull, time::Duration};

use weir_abi::{InstallRequest, InstallStatus, LimitSlot, Operation};
use weir_coord_core::follower::Grant;
use weir_limiter::{
    LimitRef, SharedMemory, Standing, charge, install, level_at, multiplier, standing,
};
use weir_model::{Amount, LimitId, Nanos};

use crate::mutation::KernelFault;

/// A boot clock that runs a little fast or slow.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// True time at its last boot.
    booted: Nanos,
    /// What it showed then.
    shown: Nanos,
    /// How much faster it runs, in parts per million.
    drift_ppm: i64,
}

impl Clock {
    /// A clock that starts at `shown`.
    #[must_use]
    pub const fn new(booted: Nanos, shown: Nanos, drift_ppm: i64) -> Self {
        Self {
            booted,
            shown,
            drift_ppm,
        }
    }

    /// What it shows at a true time.
    #[must_use]
    pub fn at(&self, now: Nanos) -> Nanos {
        let elapsed = i128::from((now - self.booted).as_nanos() as u64);
        let drift = elapsed * i128::from(self.drift_ppm) / 1_000_000;
        Nanos(self.shown.0 + (elapsed + drift) as u64)
    }

    /// How much true time passes while it counts `elapsed`, rounded up.
    #[must_use]
    pub fn true_time(&self, elapsed: Duration) -> Duration {
        let nanos = elapsed.as_nanos() as i128 * 1_000_000;
        Duration::from_nanos((nanos / i128::from(1_000_000 + self.drift_ppm)) as u64 + 1)
    }
}

/// One limit's bucket: a slot of the kernel's map, and what was last put into it.
#[derive(Debug)]
struct Bucket {
    grant: Grant,
    slot: Box<LimitSlot>,
}

impl Bucket {
    /// An empty one.
    fn new(limit: LimitId, now: Nanos) -> Self {
        let mut bucket = Self {
            grant: Grant::floor(limit, Amount::ZERO),
            slot: Box::default(),
        };
        let created = bucket.request(
            InstallRequest {
                operation: Operation::Create as u16,
                ..InstallRequest::default()
            },
            now,
        );
        debug_assert_eq!(created, InstallStatus::Installed);
        bucket
    }

    fn memory(&mut self) -> LimitRef<'_, SharedMemory> {
        let slot = NonNull::from(&mut *self.slot);
        // SAFETY: the slot is borrowed for as long as the reference lives, and nobody else has it.
        unsafe { LimitRef::new(slot) }
    }

    fn request(&mut self, request: InstallRequest, now: Nanos) -> InstallStatus {
        let limit = self.grant.limit.0;
        let mut request = InstallRequest { limit, ..request };
        install(self.memory(), &mut request, now.0)
    }

    fn grant(&mut self, grant: Grant, now: Nanos) -> InstallStatus {
        self.request(
            InstallRequest {
                operation: Operation::Grant as u16,
                rate_multiplier: multiplier(grant.amount.rate.0),
                burst: grant.amount.burst.0,
                floor_multiplier: multiplier(grant.floor.rate.0),
                floor_burst: grant.floor.burst.0,
                expires_ns: grant.expires.0,
                ..InstallRequest::default()
            },
            now,
        )
    }

    /// Where its clock stands.
    fn standing(&mut self, now: Nanos, fault: Option<KernelFault>) -> Standing {
        let grant = self.memory().grant().expect("nobody installs meanwhile");
        let standing = standing(&grant, now.0);
        match fault {
            Some(KernelFault::BurstOutlivesLease) => Standing {
                burst: grant.burst.max(standing.burst),
                ..standing
            },
            _ => standing,
        }
    }
}

/// The buckets of one host. They outlive the daemon, and end with the host.
#[derive(Debug, Default)]
pub struct Kernel {
    buckets: BTreeMap<LimitId, Bucket>,
    /// What is broken in it, for tests of the oracle.
    pub fault: Option<KernelFault>,
}

impl Kernel {
    /// Without any bucket.
    #[must_use]
    pub const fn new(fault: Option<KernelFault>) -> Self {
        Self {
            buckets: BTreeMap::new(),
            fault,
        }
    }

    /// What it holds of every limit that it has a bucket for.
    pub fn grants(&self) -> impl Iterator<Item = Grant> + '_ {
        self.buckets.values().map(|bucket| bucket.grant)
    }

    /// What it holds of a limit.
    #[must_use]
    pub fn grant(&self, limit: LimitId) -> Option<Grant> {
        self.buckets.get(&limit).map(|bucket| bucket.grant)
    }

    /// Makes a limit's bucket anew: empty, and with nothing granted.
    pub fn renew(&mut self, limit: LimitId, now: Nanos) {
        self.buckets.remove(&limit);
        self.install(Grant::floor(limit, Amount::ZERO), now);
    }

    /// Has no bucket for a limit any more.
    pub fn remove(&mut self, limit: LimitId) {
        self.buckets.remove(&limit);
    }

    /// Installs a grant, or refuses one that has expired.
    pub fn install(&mut self, grant: Grant, now: Nanos) -> bool {
        let fault = self.fault;
        let bucket = self
            .buckets
            .entry(grant.limit)
            .or_insert_with(|| Bucket::new(grant.limit, now));
        let is_installed = match bucket.grant(grant, now) {
            InstallStatus::Installed | InstallStatus::Renewed => true,
            InstallStatus::Expired => false,
            status => unreachable!("nothing else can come of it: {status:?}"),
        };
        if is_installed {
            bucket.grant = grant;
            if fault == Some(KernelFault::GrantRefills) {
                let standing = bucket.standing(now, None);
                let memory = bucket.memory();
                let full = standing.position.wrapping_sub(grant.amount.burst.0);
                let _ = memory.exchange_level(memory.level(), full);
            }
        }
        is_installed
    }

    /// What a limit holds is all of its burst, as a key's bucket in a table that is new.
    pub fn fill(&mut self, limit: LimitId, now: Nanos) {
        if let Some(bucket) = self.buckets.get_mut(&limit) {
            let standing = bucket.standing(now, None);
            let memory = bucket.memory();
            let full = standing.position.wrapping_sub(standing.burst);
            let _ = memory.exchange_level(memory.level(), full);
        }
    }

    /// How many of `offered` tokens, of `1 << fraction_bits` units each, it admits at `now`.
    pub fn admit(&mut self, limit: LimitId, offered: u64, fraction_bits: u8, now: Nanos) -> u64 {
        let fault = self.fault;
        let Some(bucket) = self.buckets.get_mut(&limit) else {
            return 0;
        };
        let standing = bucket.standing(now, fault);
        let memory = bucket.memory();
        let level = memory.level();
        let left = standing.position.wrapping_sub(level_at(level, standing));
        // A bucket ahead of its clock has nothing left.
        let left = if left <= standing.burst { left } else { 0 };
        let admitted = offered.min(left >> fraction_bits);
        let charged = charge(level, standing, admitted << fraction_bits);
        let _ = memory.exchange_level(level, charged.unwrap_or(level));
        admitted
    }
}
