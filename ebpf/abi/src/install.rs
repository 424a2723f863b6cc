//! What user space hands to the `install` program: a header and up to [`InstallHeader::MAX_COUNT`]
//! requests, as the data of one test-run. The program writes each request's status into the data.

use crate::Plain;

/// Comes first.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstallHeader {
    /// [`InstallHeader::MAGIC`].
    pub magic: u64,
    /// [`crate::REQUEST_VERSION`].
    pub version: u32,
    /// How many requests follow, at most [`InstallHeader::MAX_COUNT`].
    pub count: u32,
}

impl InstallHeader {
    /// Tells a batch of requests from a packet.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"weirinst");
    /// A test-run's data must fit one page with the kernel's head and tail room.
    pub const MAX_COUNT: usize = 32;

    /// The header of a batch of `count` requests.
    #[must_use]
    pub const fn new(count: u32) -> Self {
        Self {
            magic: Self::MAGIC,
            version: crate::REQUEST_VERSION,
            count,
        }
    }
}

// SAFETY: integers that fill the size.
unsafe impl Plain for InstallHeader {}

/// One request, and what came of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InstallRequest {
    /// The limit that the slot must belong to.
    pub limit: u64,
    /// And its revision.
    pub revision: u64,
    /// Which slot.
    pub slot: u32,
    /// An [`Operation`].
    pub operation: u16,
    /// Zero going in; an [`InstallStatus`] coming out.
    pub status: u16,
    /// As [`crate::Grant::rate_multiplier`].
    pub rate_multiplier: u64,
    /// As [`crate::Grant::burst`].
    pub burst: u64,
    /// As [`crate::Grant::floor_multiplier`].
    pub floor_multiplier: u64,
    /// As [`crate::Grant::floor_burst`].
    pub floor_burst: u64,
    /// As [`crate::Grant::expires_ns`].
    pub expires_ns: u64,
    /// Coming out: the kernel's clock at which the request was decided, in nanoseconds.
    pub decided_ns: u64,
    /// Units that are unspent: of [`Operation::Export`] coming out, of [`Operation::Restore`] going in.
    pub unspent: u64,
    /// The most units that may be unspent at that moment; as `unspent`.
    pub carried_burst: u64,
}

// SAFETY: integers that fill the size.
unsafe impl Plain for InstallRequest {}

/// The values of [`InstallRequest::operation`].
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Give the slot to this limit, with an empty bucket, no grant and no floor.
    Create = 1,
    /// Replace or renew the limit's grant and floor.
    Grant = 2,
    /// Change nothing but settle the bucket, so that its numbers stay close together.
    Settle = 3,
    /// Change nothing, and say what the slot holds, for a program that takes over. `limit` and
    /// `revision` come out; they are 0 if the slot was never used.
    Export = 4,
    /// Give the slot to this limit, as another program exported it.
    Restore = 5,
}

/// The values of [`InstallRequest::status`].
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallStatus {
    /// The program did not look at it.
    Untouched = 0,
    /// A new piece of the entitlement clock began.
    Installed = 1,
    /// Same rates and bursts as the grant that was alive: only its end moved.
    Renewed = 2,
    /// The bucket was settled.
    Settled = 3,
    /// Refused: it ends before now, and grants something.
    Expired = 4,
    /// Refused: the slot belongs to another limit or revision.
    WrongLimit = 5,
    /// Refused: no such slot, or no such operation.
    Malformed = 6,
    /// Refused: packets changed the bucket at every attempt to settle it. Try again.
    Contended = 7,
    /// The slot's state was written into the request.
    Exported = 8,
}

impl InstallStatus {
    /// The status of this number.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            0 => Self::Untouched,
            1 => Self::Installed,
            2 => Self::Renewed,
            3 => Self::Settled,
            4 => Self::Expired,
            5 => Self::WrongLimit,
            6 => Self::Malformed,
            7 => Self::Contended,
            8 => Self::Exported,
            _ => return None,
        })
    }
}

/// A page, less the room that a test-run keeps before (256) and behind (320) the data.
const TEST_RUN_BYTES: usize = 4096 - 256 - 320;

const _: () = {
    assert!(size_of::<InstallHeader>() == 16);
    assert!(size_of::<InstallRequest>() == 88);
    assert!(
        size_of::<InstallHeader>() + InstallHeader::MAX_COUNT * size_of::<InstallRequest>()
            <= TEST_RUN_BYTES
    );
};

/// What user space hands to the `sweep` program: which lines of [`crate::maps::KEYS`] to look at. The
/// program writes into it what it found.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepRequest {
    /// [`SweepRequest::MAGIC`].
    pub magic: u64,
    /// [`crate::REQUEST_VERSION`].
    pub version: u32,
    /// The first line.
    pub first_line: u32,
    /// How many, at most [`SweepRequest::MAX_LINES`].
    pub lines: u32,
    /// Coming out: slots that hold a debt.
    pub busy: u32,
}

impl SweepRequest {
    /// Tells a request from a packet.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"weirswep");
    /// Most lines of one run; the table's end is another bound.
    pub const MAX_LINES: u32 = 256;

    /// A request for these lines.
    #[must_use]
    pub const fn new(first_line: u32, lines: u32) -> Self {
        Self {
            magic: Self::MAGIC,
            version: crate::REQUEST_VERSION,
            first_line,
            lines,
            busy: 0,
        }
    }
}

// SAFETY: integers that fill the size.
unsafe impl Plain for SweepRequest {}
