//! The clock that everything is measured on, and waiting with a deadline.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use thiserror::Error;

use crate::{interrupt::Interrupt, series::Bin};

/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(20);

/// Time since boot, suspends included: what the receiver's bins are cut from.
///
/// # Panics
///
/// Never on a kernel that Weir runs on: the clock has been there since Linux 2.6.39.
#[must_use]
pub fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .expect("the boot-time clock exists since Linux 2.6.39")
        .into()
}

/// The bin of this moment.
#[must_use]
pub fn this_bin() -> Bin {
    u64::try_from(boot_time().as_millis())
        .expect("the machine booted less than 584 million years ago")
}

/// Why waiting ended without the condition.
#[derive(Debug, Error)]
pub enum WaitError {
    /// The deadline passed.
    #[error("{what}: not within {} s", .within.as_secs_f64())]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Looks at `condition` until it gives something, at most for `within`.
///
/// # Errors
///
/// When the deadline passes or the user interrupts.
pub fn wait_for<T>(
    what: &str,
    within: Duration,
    interrupt: &Interrupt,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T, WaitError> {
    let deadline = Instant::now() + within;
    loop {
        interrupt.check()?;
        if let Some(found) = condition() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            let what = what.to_owned();
            return Err(WaitError::Deadline { what, within });
        }
        std::thread::sleep(POLL);
    }
}

/// Sleeps until a bin begins; returns at once if it has.
pub fn sleep_until(bin: Bin) {
    std::thread::sleep(Duration::from_millis(bin).saturating_sub(boot_time()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_what_was_found_or_at_its_deadline() {
        let interrupt = Interrupt::default();
        let mut looks = 0;
        let found = wait_for("third look", Duration::from_secs(5), &interrupt, || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found.unwrap(), 3);
        let error = wait_for("nothing", Duration::ZERO, &interrupt, || None::<()>).unwrap_err();
        assert_eq!(error.to_string(), "nothing: not within 0 s");
        interrupt.raise();
        let error = wait_for("stop", Duration::MAX / 4, &interrupt, || None::<()>).unwrap_err();
        assert!(matches!(error, WaitError::Interrupted));
    }
}
