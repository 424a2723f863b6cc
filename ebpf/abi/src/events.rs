//! What a sampled packet tells user space.

use crate::{Plain, maps};

/// One packet, with what was decided about it, for about as many that were not sampled.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `CLOCK_BOOTTIME`, in nanoseconds.
    pub at_ns: u64,
    /// How far the packet was over what `slot` allows: units if a leased bucket refused it,
    /// nanoseconds if that of a key did; 0 if it passed.
    pub over: u64,
    /// The source: IPv4 in the first four bytes, the others zero.
    pub source: [u32; 4],
    /// The destination, likewise.
    pub destination: [u32; 4],
    /// Packets for which this one stands, itself included: all that limits applied to on this CPU
    /// since the last event.
    pub weight: u32,
    /// The slot of the limit that decided; of the first one that applied, if the packet passed.
    pub slot: u32,
    /// Bytes of the frame.
    pub bytes: u32,
    /// A [`crate::Reason`].
    pub reason: u8,
    /// 4 or 6.
    pub family: u8,
    /// The IANA protocol number.
    pub protocol: u8,
    /// How many of `slots` are used.
    pub count: u8,
    /// The slots of all limits that applied.
    pub slots: [u32; maps::RULES_PER_SERVICE],
    /// Destination port of TCP and UDP; 0 otherwise.
    pub port: u16,
    /// Non-zero if `slot` is of a keyed limit, and it was the leased bucket of a hot key that
    /// refused the packet.
    pub hot: u16,
    /// The side of the policy that decided.
    pub side: u32,
}

// SAFETY: integers that fill the size.
unsafe impl Plain for Event {}

const _: () = assert!(size_of::<Event>() == 104);
