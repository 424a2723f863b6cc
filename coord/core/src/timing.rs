//! The protocol's times, and how they relate.

use core::time::Duration;

/// Declared bound on the difference of two hosts' clock *rates*, in parts per thousand (ρ).
pub const DRIFT_PER_MILLE: u32 = 1;
/// Added to every wait for a lease of another clock, for the granularity of clocks and timers.
const MARGIN: Duration = Duration::from_millis(20);
/// A grant is renewed this many times within its lease, so that a lost renewal costs nothing, and a
/// leader that dies leaves its nodes nine tenths of a lease at least.
const RENEWALS_PER_LEASE: u32 = 10;

/// The times of one fleet. Nodes may differ in them, as they do while they are changed one after
/// the other: what a lease is, its leader says, and how long leases ever were, `term` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// The period of report, reallocate, grant. 10 ms to 10 s.
    pub tick: Duration,
    /// How long a grant lasts (L). At least four ticks.
    pub lease: Duration,
}

impl Timing {
    /// 100 ms ticks, 2 s leases.
    pub const DEFAULT: Self = Self {
        tick: Duration::from_millis(100),
        lease: Duration::from_secs(2),
    };

    /// How long to wait, by one clock, until a lease that ran from an earlier instant by another
    /// clock has surely ended (W): `L(1 + 2ρ) + 20 ms`.
    #[must_use]
    pub const fn wait(self) -> Duration {
        wait_for(self.lease)
    }

    /// How old the last commit may become before the next one is due although nothing changes: a
    /// tick at least, or a short lease would be renewed again as soon as a renewal is acknowledged.
    #[must_use]
    pub fn renewal(self) -> Duration {
        (self.lease / RENEWALS_PER_LEASE).max(self.tick)
    }

    /// How long a proposal may stay unanswered before another one takes its place: a round trip
    /// between continents, and a quarter of what a lost answer may cost.
    #[must_use]
    pub fn patience(self) -> Duration {
        self.lease / 4
    }

    /// A voter that has not heard the leader for so long says so to whoever asks. Leaders are heard
    /// in every tick, and a take-over has to end before leases do.
    #[must_use]
    pub fn suspicion(self) -> Duration {
        self.lease / 4
    }

    /// A leader without a commit for so long stops (rule 9, *step-down*).
    #[must_use]
    pub fn idle(self) -> Duration {
        self.lease / 2
    }

    /// How long a new leader asks for promises: voters that have just started abstain for W of the
    /// longest lease that any leader had.
    #[must_use]
    pub fn preparation(self, longest_lease: Duration) -> Duration {
        self.abstention(longest_lease) + self.idle()
    }

    /// How long a voter that starts abstains: W of the longest lease that any leader had, which the
    /// register that it has forgotten may be about.
    #[must_use]
    pub fn abstention(self, longest_lease: Duration) -> Duration {
        wait_for(self.lease.max(longest_lease))
    }

    /// A node that answers nothing for so long is given no further leases until it does.
    #[must_use]
    pub fn deaf(self) -> Duration {
        self.lease / 2
    }

    /// Reports older than this say nothing about where the traffic is.
    #[must_use]
    pub fn stale(self) -> Duration {
        self.tick * 5
    }
}

/// [`Timing::wait`] for a lease of another leader.
#[must_use]
pub const fn wait_for(lease: Duration) -> Duration {
    let drift = Duration::from_nanos(lease.as_nanos() as u64 / 1_000 * 2 * DRIFT_PER_MILLE as u64);
    lease.saturating_add(drift).saturating_add(MARGIN)
}

const _: () = {
    assert!(wait_for(Timing::DEFAULT.lease).as_nanos() > Timing::DEFAULT.lease.as_nanos());
    assert!(RENEWALS_PER_LEASE >= 2, "one renewal may be lost");
};
