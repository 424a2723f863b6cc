//! Counters, one copy per CPU, cumulative.

use crate::Plain;

/// Packets and bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Bytes of whole frames, without check sequence.
    pub bytes: u64,
}

/// Packets, bytes, and what they cost.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenTally {
    /// Packets.
    pub packets: u64,
    /// Bytes of whole frames, without check sequence.
    pub bytes: u64,
    /// Tokens of the limit.
    pub tokens: u64,
}

/// What became of the packets that a limit applied to, in words of which there are only ever more,
/// at the end: layouts inherit them from each other. Each is counted once in one of `passed`,
/// `over_limit`, `closed`, `contended` and `refused_elsewhere`: what was offered is their sum.
///
/// What a flood changes lies together, in the first 64 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitCounters {
    /// Passed.
    pub passed: TokenTally,
    /// Dropped, since this limit's bucket was spent.
    pub over_limit: TokenTally,
    /// Packets that found the table of keys full around them, and were charged to a bucket that
    /// they share.
    pub table_pressure: u64,
    /// Packets that were charged here and then dropped by another limit, because another CPU was
    /// faster there. Not given back.
    pub charged_in_vain: u64,
    /// Dropped, since this limit's bucket was changed by other CPUs at every attempt.
    pub contended: TokenTally,
    /// Dropped by another limit that applied as well.
    pub refused_elsewhere: TokenTally,
    /// Passed, but only because the limit is in shadow mode; counted in `passed` as well.
    pub would_drop: TokenTally,
    /// Passed without being charged, since the grant has ended and the limit fails open; counted in
    /// `passed` as well.
    pub failed_open: TokenTally,
    /// Dropped, since the grant has ended and the limit fails closed.
    pub closed: TokenTally,
    /// Zero.
    pub reserved: u64,
    /// What only another layout has.
    #[cfg(feature = "other-layout")]
    pub other: [u64; 8],
}

// SAFETY: u64 throughout.
unsafe impl Plain for LimitCounters {}

/// What became of all packets: `received` is the sum of `by_reason`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Every packet, counted before anything else happens to it.
    pub received: Tally,
    /// Events that found the ring full.
    pub events_lost: u64,
    /// Zero.
    pub reserved: u64,
    /// By [`Reason`], counted when the verdict is known. Last, for it grows: as in
    /// [`LimitCounters`], layouts inherit the words from each other.
    pub by_reason: [Tally; Reason::COUNT],
    /// What only another layout has.
    #[cfg(feature = "other-layout")]
    pub other: [u64; 2],
}

// SAFETY: u64 throughout.
unsafe impl Plain for Totals {}

/// Why a packet passed or was dropped.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Passed: each limit that applies had entitlement left, or is in shadow mode.
    Admitted = 0,
    /// Passed: no limit applies.
    NoMatch = 1,
    /// Passed: on the management allow-list, or needed for the network to work at all.
    Management = 2,
    /// Passed: neither IPv4 nor IPv6.
    NotIp = 3,
    /// Dropped: the bucket of a limit was spent.
    OverLimit = 4,
    /// Dropped: other CPUs changed the bucket of a limit at every attempt.
    Contended = 5,
    /// Dropped: an IP packet whose headers end too early or contradict themselves.
    Unparsed = 6,
    /// Dropped: a map entry that must exist does not. Never seen unless pins were tampered with.
    Internal = 7,
    /// Dropped: the grant of a limit has ended, and the limit fails closed.
    Closed = 8,
    /// Dropped: an IPv6 packet with more extension headers than are looked at.
    TooManyHeaders = 9,
    /// Passed: as [`Self::Unparsed`], but the policy lets such packets pass.
    UnparsedPassed = 10,
    /// Passed: as [`Self::TooManyHeaders`], but the policy lets such packets pass.
    TooManyHeadersPassed = 11,
}

impl Reason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Admitted,
        Self::NoMatch,
        Self::Management,
        Self::NotIp,
        Self::OverLimit,
        Self::Contended,
        Self::Unparsed,
        Self::Internal,
        Self::Closed,
        Self::TooManyHeaders,
        Self::UnparsedPassed,
        Self::TooManyHeadersPassed,
    ];

    /// Whether the packet passes.
    #[must_use]
    pub const fn passes(self) -> bool {
        match self {
            Self::Admitted
            | Self::NoMatch
            | Self::Management
            | Self::NotIp
            | Self::UnparsedPassed
            | Self::TooManyHeadersPassed => true,
            Self::OverLimit
            | Self::Contended
            | Self::Unparsed
            | Self::Internal
            | Self::Closed
            | Self::TooManyHeaders => false,
        }
    }

    /// Whether a limit applied: such packets are counted by limit as well.
    #[must_use]
    pub const fn is_of_limits(self) -> bool {
        matches!(
            self,
            Self::Admitted | Self::OverLimit | Self::Contended | Self::Closed
        )
    }

    /// The word for it in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::NoMatch => "no_match",
            Self::Management => "management",
            Self::NotIp => "not_ip",
            Self::OverLimit => "over_limit",
            Self::Contended => "contended",
            // The verdict is a label of its own.
            Self::Unparsed | Self::UnparsedPassed => "unparsed",
            Self::Internal => "internal",
            Self::Closed => "closed",
            Self::TooManyHeaders | Self::TooManyHeadersPassed => "too_many_headers",
        }
    }
}

const _: () = {
    assert!(
        size_of::<LimitCounters>()
            == if cfg!(feature = "other-layout") {
                256
            } else {
                192
            }
    );
    assert!(core::mem::offset_of!(LimitCounters, contended) == 64);
    let mut index = 0;
    while index < Reason::COUNT {
        assert!(Reason::ALL[index] as usize == index);
        index += 1;
    }
};
