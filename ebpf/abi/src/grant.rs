//! A limit's memory in the kernel: its grant and its bucket.

use crate::Plain;

/// A straight piece of a limit's entitlement clock, with what follows when it ends.
///
/// Before `expires_ns` the clock stands at `v0 + (now − t0)·rate` and the bucket holds at most
/// `burst`; from then on it goes on with the floor's rate and burst. Positions wrap: they are
/// compared by their difference. Times are `CLOCK_BOOTTIME`.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// When the clock stood at `v0`, in nanoseconds.
    pub t0_ns: u64,
    /// The position at `t0_ns`, in units.
    pub v0: u64,
    /// When the grant ends, in nanoseconds; `u64::MAX` for never.
    pub expires_ns: u64,
    /// Units per nanosecond, times 2^32.
    pub rate_multiplier: u64,
    /// Units, at most 2^60.
    pub burst: u64,
    /// Units per nanosecond once the grant has ended, times 2^32.
    pub floor_multiplier: u64,
    /// Units once the grant has ended, at most 2^60.
    pub floor_burst: u64,
    /// The burst that was in force at `t0_ns`: what a piece that begins after its own end starts
    /// with. Units.
    pub carried_burst: u64,
}

// SAFETY: eight u64.
unsafe impl Plain for Grant {}

/// One limit: which one, what it is granted, and how much of that is spent.
///
/// `sequence` is a latch: its lowest bit says which of the two `grants` is in force. The installer
/// writes the other one and then adds one. A reader takes the copy in force and checks afterwards
/// that the sequence did not move. A plain sequence lock (odd while writing) would not do: an XDP
/// program that interrupts the installer on its own CPU would find it odd for ever.
///
/// Only the `install` program writes here, except `level`, which packets raise. What packets only
/// read and what they write are on different cache lines.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitSlot {
    /// The latch.
    pub sequence: u64,
    /// Whose slot this is; 0 if it was never used.
    pub limit: u64,
    /// The limit's revision.
    pub revision: u64,
    /// Zero.
    pub reserved: [u64; 5],
    /// What only another layout has.
    #[cfg(feature = "other-layout")]
    pub other: [u64; 8],
    /// Two copies; `sequence & 1` is in force.
    pub grants: [Grant; 2],
    /// The position up to which entitlement is spent: the C of the design. Alone on its line.
    pub level: u64,
    /// Zero.
    pub reserved_behind_level: [u64; 7],
}

// SAFETY: u64 throughout; the asserts below leave no room for padding.
unsafe impl Plain for LimitSlot {}

/// Cache lines that only another layout has.
const OTHER_LINES: usize = cfg!(feature = "other-layout") as usize;
/// What CPUs pass between each other at a time.
const CACHE_LINE: usize = 64;

const _: () = {
    assert!(size_of::<Grant>() == CACHE_LINE);
    assert!(size_of::<LimitSlot>() == (4 + OTHER_LINES) * CACHE_LINE);
    assert!(core::mem::offset_of!(LimitSlot, grants) == (1 + OTHER_LINES) * CACHE_LINE);
    assert!(core::mem::offset_of!(LimitSlot, level) == (3 + OTHER_LINES) * CACHE_LINE);
};
