//! Instants on the boot clock.

use core::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// An instant on one host's `CLOCK_BOOTTIME`, in nanoseconds since that host booted.
///
/// The boot clock counts suspended time and never steps, so a lease measured on it does not
/// outlive a suspend. Instants of two hosts cannot be compared; a message that carries one names
/// the host and the incarnation whose clock it is from.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The boot of the host.
    pub const ZERO: Self = Self(0);
    /// Later than every instant that a host reaches: an expiry that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// Time from `earlier` to `self`, zero if `earlier` is the later one.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `self + duration`, at most [`Nanos::NEVER`].
    #[must_use]
    pub const fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos_of(duration)))
    }
}

impl Add<Duration> for Nanos {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        self.saturating_add(duration)
    }
}

impl Sub for Nanos {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_since(earlier)
    }
}

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:09}s",
            self.0 / 1_000_000_000,
            self.0 % 1_000_000_000
        )
    }
}

/// The nanoseconds of a duration, saturating after 584 years.
#[must_use]
pub const fn nanos_of(duration: Duration) -> u64 {
    let nanos = duration.as_nanos();
    if nanos > u64::MAX as u128 {
        u64::MAX
    } else {
        nanos as u64
    }
}
