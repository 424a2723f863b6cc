//! When the daemon ticks: a timer of the kernel, by the clock of leases.
//!
//! A timer of the runtime would do too, but it waits in a wheel whose slots are gone through: it wakes an
//! idle host about once more for every tick (`runtime/time/wheel` in tokio).

use std::{io, os::fd::OwnedFd, time::Duration};

use nix::{
    sys::{
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
    unistd::read,
};
use tokio::io::{Interest, unix::AsyncFd};

/// A zero would stop the timer.
const AT_ONCE: Duration = Duration::from_nanos(1);

/// Ticks, the first of them at once.
pub struct Ticks {
    timer: AsyncFd<OwnedFd>,
}

impl Ticks {
    /// One in so long. To be called in the event loop.
    ///
    /// # Errors
    ///
    /// If the kernel has no timer left.
    pub fn new(tick: Duration) -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        let [first, further] = [AT_ONCE, tick].map(TimeSpec::from_duration);
        let expiration = Expiration::IntervalDelayed(first, further);
        timer.set(expiration, TimerSetTimeFlags::empty())?;
        let timer = OwnedFd::from(timer);
        // SAFETY: what owns a descriptor has the same one until it is dropped.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?;
        Ok(Self { timer })
    }

    /// The next tick. Those that were missed are one. Cancelling it loses nothing.
    pub async fn next(&mut self) {
        let mut missed = [0; size_of::<u64>()];
        let read = |timer: &OwnedFd| Ok(read(timer, &mut missed)?);
        // It cannot fail as long as there is a timer.
        let _ = self.timer.async_io(Interest::READABLE, read).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{thread::sleep, time::Instant};

    use super::*;

    const TICK: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn ticks_come_one_after_another_and_missed_ones_are_one() {
        let begun = Instant::now();
        let mut ticks = Ticks::new(TICK).expect("a timer");
        for _ in 0..4 {
            ticks.next().await;
        }
        assert!(begun.elapsed() >= TICK * 3);
        sleep(TICK * 5);
        let late = begun.elapsed();
        ticks.next().await;
        ticks.next().await;
        let due = late.as_nanos() / TICK.as_nanos() + 1;
        let due = TICK * u32::try_from(due).expect("few ticks");
        assert!(begun.elapsed() + AT_ONCE >= due, "one was missed, not five");
    }
}
