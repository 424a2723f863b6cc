//! What the kernel programs and the daemon have in common: the layouts of maps and requests.
//!
//! Everything here is `repr(C)` without padding, so that both compilers agree byte for byte; the
//! sizes and offsets are asserted at compile time. A change of any layout, of a map's size that is
//! no setting, or of the meaning of a field is a new [`LAYOUT_VERSION`], because pinned maps outlive
//! the daemon, and another version takes over from them. For that some things stay as they are in
//! every layout: requests, as long as [`REQUEST_VERSION`] does; what [`maps::SIDE`] means; lines of
//! [`maps::KEYS`] and the seed (a table of other lines gets another name); entries of [`maps::HOT`]
//! (likewise); and counters, which are words of which there are only ever more, at the end.
#![no_std]

mod counters;
mod events;
mod grant;
mod install;
mod keys;
pub mod maps;
mod policy;

pub use counters::{LimitCounters, Reason, Tally, TokenTally, Totals};
pub use events::Event;
pub use grant::{Grant, LimitSlot};
pub use install::{InstallHeader, InstallRequest, InstallStatus, Operation, SweepRequest};
pub use keys::{HotKey, KeyLine};
pub use policy::{Cost, OnExpiry, PolicyRecord, PortRange, Protocol, Rule, Service};

/// The version of every layout of maps, part of the path under which they are pinned.
pub const LAYOUT_VERSION: u32 = if cfg!(feature = "other-layout") {
    1_000_000
} else {
    3
};

/// The version of what user space hands to the programs that it runs. A daemon asks the program
/// of another layout for its buckets, so this changes far less often than layouts do.
pub const REQUEST_VERSION: u32 = 1;

/// A value that may be copied between kernel and user space as bytes.
///
/// # Safety
///
/// The type is `repr(C)` or a primitive, has no padding and no pointers, and every bit pattern is
/// a value of it.
pub unsafe trait Plain: Copy + 'static {}

// SAFETY: a primitive integer.
unsafe impl Plain for u32 {}
// SAFETY: a primitive integer.
unsafe impl Plain for u64 {}

/// The bytes of a value, in memory order.
#[must_use]
pub fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: `Plain` has no padding, so each byte is initialised, and the borrow keeps it alive.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The value that these bytes are, wherever they lie; `None` if there are too few of them.
#[must_use]
pub fn from_bytes<T: Plain>(bytes: &[u8]) -> Option<T> {
    let source = bytes.get(..size_of::<T>())?;
    // SAFETY: as many bytes as `T` has are readable, and any bytes are a `T`.
    Some(unsafe { source.as_ptr().cast::<T>().read_unaligned() })
}
