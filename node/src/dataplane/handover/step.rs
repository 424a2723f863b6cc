//! Dying on purpose, for tests.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Where a handover can be cut short. In order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Step {
    /// The new layout is complete but for its name.
    Prepared = 1,
    /// It has its name.
    Committed,
    /// One interface has the new program.
    FirstLink,
    /// All have, and no packet is with the old one.
    Links,
    /// As many buckets as fit one call are handed over.
    FirstBuckets,
    /// All are.
    Buckets,
    /// Keys are. Not reached if both layouts have the same table.
    Keys,
    /// Keyed limits are open.
    Opened,
    /// Counters are handed over.
    Counters,
    /// The old layout has no name any more.
    Renamed,
    /// The new one is on its own.
    Forgotten,
}

impl Step {
    /// All.
    pub const ALL: [Self; 11] = [
        Self::Prepared,
        Self::Committed,
        Self::FirstLink,
        Self::Links,
        Self::FirstBuckets,
        Self::Buckets,
        Self::Keys,
        Self::Opened,
        Self::Counters,
        Self::Renamed,
        Self::Forgotten,
    ];
}

static LAST: AtomicU32 = AtomicU32::new(0);

/// From now on this process kills itself when it has made the step for the first time.
pub fn kill_after(step: Step) {
    LAST.store(step as u32, Relaxed);
}

pub(super) fn reached(step: Step) {
    if LAST.load(Relaxed) == step as u32 {
        // SAFETY: no pointers. As with any `kill -9`, nothing of this process runs after it.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}
