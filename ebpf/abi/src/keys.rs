//! The table of keyed buckets, and keys that have leased ones.

use crate::Plain;

/// Buckets of as many keys as fit a cache line.
///
/// A slot is one word: from the highest bit down, one bit that says that others are charged to it
/// as well, [`KeyLine::TAG_BITS`] bits of the key's hash, never all zero, and
/// [`KeyLine::TIME_BITS`] bits of the instant, in nanoseconds of `CLOCK_BOOTTIME`, at which all
/// that was spent has come in again (the theoretical arrival time of GCRA). A slot whose instant
/// has passed holds no information; one whose tag is zero belongs to nobody.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyLine {
    /// The slots.
    pub slots: [u64; Self::SLOTS],
}

impl KeyLine {
    /// Slots of a line.
    pub const SLOTS: usize = 8;
    /// Bits of an instant: it wraps after 78 hours.
    pub const TIME_BITS: u32 = 48;
    /// Bits of a tag.
    pub const TAG_BITS: u32 = 15;
    /// Log2 of the largest debt in nanoseconds, 19.5 hours. An instant that is further ahead than
    /// that lies in the past.
    pub const MAX_DEBT_BITS: u32 = 46;
    /// The largest debt of a key, in nanoseconds.
    pub const MAX_DEBT_NS: u64 = 1 << Self::MAX_DEBT_BITS;
}

// SAFETY: u64 throughout, eight on 64 bytes.
unsafe impl Plain for KeyLine {}

/// A key that has a leased bucket of its own, as [`crate::maps::HOT`] knows it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HotKey {
    /// The slot of the keyed limit.
    pub slot: u32,
    /// 4 or 6.
    pub family: u32,
    /// The bits of the source that are the key, in memory order; IPv4 in the first word, the others
    /// zero.
    pub source: [u32; 4],
}

// SAFETY: u32 throughout.
unsafe impl Plain for HotKey {}

const _: () = {
    assert!(size_of::<HotKey>() == 24);
    assert!(size_of::<KeyLine>() == 64);
    assert!(1 + KeyLine::TAG_BITS + KeyLine::TIME_BITS == u64::BITS);
    assert!(KeyLine::MAX_DEBT_BITS < KeyLine::TIME_BITS);
};
