//! What the decision notes down about one packet.

use weir_abi::{Event, maps::RULES_PER_SERVICE};

use crate::{decide::Environment, keyed::Place, packet::Packet, searches::Searches};

/// The limits that apply to a packet, and what their buckets said; and what a CPU remembers from
/// packet to packet.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Work {
    /// The packet. Here, and not on the stack, the verifier forgets what it learned from each way
    /// through the parser, and so follows the rest once instead of hundreds of times.
    pub(crate) packet: Packet,
    /// The side of the policy in force when the packet came.
    pub(crate) side: u32,
    /// When it was decided: nanoseconds of `CLOCK_BOOTTIME`, as this CPU read them last.
    pub(crate) now: u64,
    /// The [moment](Environment::moment) of that reading.
    moment: u64,
    /// How many packets did without another.
    uses: u32,
    pub(crate) progress: Memorised<Progress>,
    count: u32,
    pub(crate) searches: Searches,
    /// Packets of limits since the last event.
    pub(crate) weight: u32,
    /// Chance that was drawn at the last event.
    pub(crate) jitter: u32,
    /// Packets that no event could be sent for.
    pub(crate) unsent: u32,
    matches: [Match; RULES_PER_SERVICE],
    /// Written when it is sent.
    pub(crate) event: Event,
}

/// One limit that applies.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Match {
    pub(crate) slot: u32,
    /// What the packet costs, as counted.
    pub(crate) tokens: u32,
    /// The same as charged to a key, in nanoseconds.
    pub(crate) cost: u64,
    /// Of a key: how far it may be ahead, in nanoseconds.
    pub(crate) burst_ns: u64,
    /// What a leased bucket is charged, in units: that of an aggregate limit, or of a hot key.
    pub(crate) lease_cost: u64,
    /// How far over, as what was asked last is charged.
    pub(crate) over: u64,
    pub(crate) place: Place,
    /// Where that is.
    pub(crate) lease_slot: u32,
    pub(crate) keyed: bool,
    /// Whether the key has a leased bucket, which is asked first.
    pub(crate) is_hot: bool,
    /// Whether nothing else is asked.
    pub(crate) hot_alone: bool,
    pub(crate) shadow: bool,
    pub(crate) on_expiry: u8,
    /// Whether the leased bucket of the hot key has refused in this step.
    pub(crate) refused_by_lease: bool,
    /// Whether the answer is that of a leased bucket.
    pub(crate) by_lease: bool,
    /// Whether the bucket was charged, and not only asked.
    pub(crate) charged: bool,
    /// Whether the bucket of a key is one that it shares.
    pub(crate) pressure: bool,
    pub(crate) answer: Answer,
}

/// What a bucket said, in the order of what decides about the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Answer {
    /// There is enough, or it has been charged.
    #[default]
    Admits = 0,
    /// The grant has ended, and the limit fails open: it is not charged.
    FailsOpen = 1,
    /// The bucket, or the grant, did not stand still.
    Contended = 2,
    /// It is spent.
    Over = 3,
    /// The grant has ended, and the limit fails closed.
    Closed = 4,
    /// An entry that must exist does not.
    Missing = 5,
}

/// How far the charging of buckets has come.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Progress {
    /// How many buckets have been asked and charged.
    pub(crate) step: u32,
    /// How many turns did not bring it further.
    pub(crate) more: u32,
}

/// A value that is read from memory each time, and never remembered in a register.
#[derive(Clone, Copy, Debug, Default)]
#[repr(transparent)]
pub(crate) struct Memorised<T>(T);

impl<T: Copy> Memorised<T> {
    #[inline(always)]
    pub(crate) fn get(&self) -> T {
        // SAFETY: a reference is valid.
        unsafe { core::ptr::read_volatile(&raw const self.0) }
    }

    #[inline(always)]
    pub(crate) fn set(&mut self, value: T) {
        // SAFETY: a reference is valid.
        unsafe { core::ptr::write_volatile(&raw mut self.0, value) };
    }
}

impl Default for Work {
    fn default() -> Self {
        Self {
            packet: Packet::NONE,
            side: 0,
            now: 0,
            moment: 0,
            uses: 0,
            progress: Memorised::default(),
            count: 0,
            searches: Searches::NONE,
            weight: 0,
            jitter: 0,
            unsent: 0,
            matches: [Match::default(); RULES_PER_SERVICE],
            event: Event::default(),
        }
    }
}

/// How many packets in a row do without the clock at most. A flood of them brings the next reading
/// within microseconds, whatever has become of the kernel's tick.
const MAX_USES: u32 = 64;

impl Work {
    #[inline(always)]
    pub(crate) fn read_clock<E: Environment>(&mut self, environment: &E) {
        // The moment first: a reading counts as older than it is, never as younger.
        self.moment = environment.moment();
        self.uses = 0;
        self.now = environment.now();
    }

    /// Whether the last reading is so young that less than a tick has passed.
    #[inline(always)]
    pub(crate) fn knows_about_now<E: Environment>(&mut self, environment: &E) -> bool {
        self.uses = self.uses.wrapping_add(1);
        self.uses < MAX_USES && self.moment == environment.moment()
    }

    #[inline(always)]
    pub(crate) const fn clear(&mut self) {
        self.count = 0;
    }

    /// A place to note a limit down. There is one for each that a service can have.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<&mut Match> {
        let place = self.matches.get_mut(self.count as usize)?;
        self.count += 1;
        Some(place)
    }

    /// How many limits are noted.
    #[inline(always)]
    pub(crate) const fn count(&self) -> usize {
        self.count as usize
    }

    /// One of them. Asked by number, with a constant as the loop's bound, because that is what the
    /// verifier can follow; it does not understand the end of a slice.
    #[inline(always)]
    pub(crate) fn get(&mut self, index: usize) -> Option<&mut Match> {
        if index < self.count() {
            self.matches.get_mut(index)
        } else {
            None
        }
    }
}

impl Match {
    /// Whether the key's leased bucket has refused, and it has another one.
    #[inline(always)]
    pub(crate) fn turns_to_share(&self) -> bool {
        self.keyed && self.by_lease && !self.hot_alone && self.answer == Answer::Over
    }

    /// The answer as far as it counts for the packet: a limit in shadow mode drops nothing.
    #[inline(always)]
    pub(crate) const fn blocking(&self) -> Answer {
        match self.answer {
            Answer::FailsOpen => Answer::Admits,
            Answer::Contended | Answer::Over | Answer::Closed if self.shadow => Answer::Admits,
            answer => answer,
        }
    }
}
