//! A host's kernel: its clock, and buckets on an entitlement clock.
//!
//! It is written from the definition, and shares nothing with the limiter: what that admits is
//! checked elsewhere, against real kernels. What is checked here is that the grants in all of them
//! add up.

use std::{collections::BTreeMap, time::Duration};

use weir_coord_core::follower::Grant;
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

/// One limit's bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    grant: Grant,
    since: Nanos,
    /// The entitlement clock at `since`, in units.
    entitled: u64,
    /// Up to where entitlement is spent.
    spent: u64,
}

impl Bucket {
    fn entitlement(&self, now: Nanos) -> u64 {
        let accrue = |amount: Amount, from: Nanos, to: Nanos| {
            (u128::from(amount.rate.0) * (to - from).as_nanos() / 1_000_000_000) as u64
        };
        let turn = self.grant.expires.max(self.since);
        if now < turn {
            self.entitled + accrue(self.grant.amount, self.since, now)
        } else {
            self.entitled
                + accrue(self.grant.amount, self.since, turn)
                + accrue(self.grant.floor, turn, now)
        }
    }

    fn burst(&self, now: Nanos, fault: Option<KernelFault>) -> u64 {
        if fault == Some(KernelFault::BurstOutlivesLease) {
            return self.grant.amount.burst.0;
        }
        self.grant.effective(now).burst.0
    }

    fn settle(&mut self, now: Nanos, fault: Option<KernelFault>) -> u64 {
        let entitled = self.entitlement(now);
        let least = entitled.saturating_sub(self.burst(now, fault));
        self.spent = self.spent.max(least);
        entitled
    }
}

/// The buckets of one host. They outlive the daemon, and end with the host.
#[derive(Clone, Debug, Default)]
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

    /// Installs a grant, or refuses one that has expired.
    pub fn install(&mut self, grant: Grant, now: Nanos) -> bool {
        if grant.expires <= now && grant.amount != grant.floor {
            return false;
        }
        let fault = self.fault;
        match self.buckets.get_mut(&grant.limit) {
            Some(bucket) => {
                let entitled = bucket.settle(now, fault);
                bucket.since = now;
                bucket.entitled = entitled;
                bucket.grant = grant;
                if fault == Some(KernelFault::GrantRefills) {
                    bucket.spent = entitled.saturating_sub(grant.amount.burst.0);
                }
            }
            None => {
                // The clock starts above every burst, so that it can be subtracted.
                let entitled = 1 << 61;
                let bucket = Bucket {
                    grant,
                    since: now,
                    entitled,
                    spent: entitled,
                };
                self.buckets.insert(grant.limit, bucket);
            }
        }
        true
    }

    /// How many of `offered` tokens, of `1 << fraction_bits` units each, it admits at `now`.
    pub fn admit(&mut self, limit: LimitId, offered: u64, fraction_bits: u8, now: Nanos) -> u64 {
        let fault = self.fault;
        let Some(bucket) = self.buckets.get_mut(&limit) else {
            return 0;
        };
        let entitled = bucket.settle(now, fault);
        let admitted = offered.min(entitled.saturating_sub(bucket.spent) >> fraction_bits);
        bucket.spent += admitted << fraction_bits;
        admitted
    }
}
