//! Access to a limit's memory, which CPUs share.

use core::{marker::PhantomData, ptr::NonNull};

use weir_abi::{Grant, LimitSlot};

/// The three things that can be done to a word that other CPUs change at the same time.
///
/// Loads happen in program order with each other and with compare-exchanges; a compare-exchange
/// happens after every store before it.
pub trait Memory {
    /// Reads a word.
    ///
    /// # Safety
    ///
    /// `word` is valid and aligned.
    unsafe fn load(word: *const u64) -> u64;

    /// Writes a word.
    ///
    /// # Safety
    ///
    /// `word` is valid and aligned.
    unsafe fn store(word: *mut u64, value: u64);

    /// Replaces a word if it is `current`, and returns what it was.
    ///
    /// # Safety
    ///
    /// `word` is valid and aligned.
    unsafe fn compare_exchange(word: *mut u64, current: u64, new: u64) -> u64;
}

/// The memory of one limit.
pub struct LimitRef<'a, M> {
    slot: NonNull<LimitSlot>,
    memory: PhantomData<(&'a LimitSlot, M)>,
}

impl<M> Clone for LimitRef<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for LimitRef<'_, M> {}

/// What a reader does if grants were installed while it read: it starts over, so often.
const READ_ATTEMPTS: u32 = 3;

impl<M: Memory> LimitRef<'_, M> {
    /// The limit in this memory.
    ///
    /// # Safety
    ///
    /// `slot` stays valid for `'a`, and everybody who accesses it does so through `M`.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(slot: NonNull<LimitSlot>) -> Self {
        Self {
            slot,
            memory: PhantomData,
        }
    }

    /// The grant in force. `None` if so many were installed meanwhile that no copy stood still.
    #[inline(always)]
    #[must_use]
    pub fn grant(self) -> Option<Grant> {
        for _ in 0..READ_ATTEMPTS {
            let sequence = self.sequence();
            let grant = self.copy(sequence);
            if self.sequence() == sequence {
                return Some(grant);
            }
        }
        None
    }

    /// The bucket's position.
    #[inline(always)]
    #[must_use]
    pub fn level(self) -> u64 {
        // SAFETY: `new` promises valid memory.
        unsafe { M::load(&raw const (*self.slot.as_ptr()).level) }
    }

    /// Moves the bucket from `current` to `new`; returns where it was, `current` on success.
    #[inline(always)]
    #[must_use]
    pub fn exchange_level(self, current: u64, new: u64) -> u64 {
        // SAFETY: `new` promises valid memory.
        unsafe { M::compare_exchange(&raw mut (*self.slot.as_ptr()).level, current, new) }
    }

    /// The limit and revision that the slot belongs to.
    #[inline(always)]
    #[must_use]
    pub(crate) fn identity(self) -> (u64, u64) {
        let slot = self.slot.as_ptr();
        // SAFETY: `new` promises valid memory.
        unsafe {
            (
                M::load(&raw const (*slot).limit),
                M::load(&raw const (*slot).revision),
            )
        }
    }

    /// Gives the slot to a limit. Only while no packet can reach it.
    #[inline(always)]
    pub(crate) fn claim(self, limit: u64, revision: u64) {
        let slot = self.slot.as_ptr();
        // SAFETY: `new` promises valid memory.
        unsafe {
            M::store(&raw mut (*slot).limit, limit);
            M::store(&raw mut (*slot).revision, revision);
        }
    }

    /// Puts a grant in force. Only one installer may run at a time; readers may be anywhere.
    #[inline(always)]
    pub(crate) fn publish(self, grant: &Grant) {
        let sequence = self.sequence();
        let next = sequence.wrapping_add(1);
        let copy = self.copy_ptr(next);
        // SAFETY: `new` promises valid memory.
        unsafe {
            M::store(&raw mut (*copy).t0_ns, grant.t0_ns);
            M::store(&raw mut (*copy).v0, grant.v0);
            M::store(&raw mut (*copy).expires_ns, grant.expires_ns);
            M::store(&raw mut (*copy).rate_multiplier, grant.rate_multiplier);
            M::store(&raw mut (*copy).burst, grant.burst);
            M::store(&raw mut (*copy).floor_multiplier, grant.floor_multiplier);
            M::store(&raw mut (*copy).floor_burst, grant.floor_burst);
            M::store(&raw mut (*copy).carried_burst, grant.carried_burst);
            let word = &raw mut (*self.slot.as_ptr()).sequence;
            let _ = M::compare_exchange(word, sequence, next);
        }
    }

    #[inline(always)]
    fn sequence(self) -> u64 {
        // SAFETY: `new` promises valid memory.
        unsafe { M::load(&raw const (*self.slot.as_ptr()).sequence) }
    }

    #[inline(always)]
    fn copy(self, sequence: u64) -> Grant {
        let copy = self.copy_ptr(sequence);
        // SAFETY: `new` promises valid memory.
        unsafe {
            Grant {
                t0_ns: M::load(&raw const (*copy).t0_ns),
                v0: M::load(&raw const (*copy).v0),
                expires_ns: M::load(&raw const (*copy).expires_ns),
                rate_multiplier: M::load(&raw const (*copy).rate_multiplier),
                burst: M::load(&raw const (*copy).burst),
                floor_multiplier: M::load(&raw const (*copy).floor_multiplier),
                floor_burst: M::load(&raw const (*copy).floor_burst),
                carried_burst: M::load(&raw const (*copy).carried_burst),
            }
        }
    }

    #[inline(always)]
    fn copy_ptr(self, sequence: u64) -> *mut Grant {
        // SAFETY: `new` promises valid memory, and the index is 0 or 1.
        unsafe {
            let first = (&raw mut (*self.slot.as_ptr()).grants).cast::<Grant>();
            first.add((sequence & 1) as usize)
        }
    }
}

/// [`Memory`] of the host: atomics, for tests and simulators.
#[cfg(not(target_arch = "bpf"))]
#[derive(Clone, Copy, Debug)]
pub struct SharedMemory;

#[cfg(not(target_arch = "bpf"))]
impl Memory for SharedMemory {
    unsafe fn load(word: *const u64) -> u64 {
        use core::sync::atomic::{AtomicU64, Ordering};
        // SAFETY: the caller promises a valid, aligned word.
        unsafe { AtomicU64::from_ptr(word.cast_mut()) }.load(Ordering::SeqCst)
    }

    unsafe fn store(word: *mut u64, value: u64) {
        use core::sync::atomic::{AtomicU64, Ordering};
        // SAFETY: the caller promises a valid, aligned word.
        unsafe { AtomicU64::from_ptr(word) }.store(value, Ordering::SeqCst);
    }

    unsafe fn compare_exchange(word: *mut u64, current: u64, new: u64) -> u64 {
        use core::sync::atomic::{AtomicU64, Ordering};
        // SAFETY: the caller promises a valid, aligned word.
        match unsafe { AtomicU64::from_ptr(word) }.compare_exchange(
            current,
            new,
            Ordering::SeqCst,
            Ordering::SeqCst,
        ) {
            Ok(was) | Err(was) => was,
        }
    }
}
