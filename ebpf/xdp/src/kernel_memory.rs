//! Words that CPUs share.

use core::{
    intrinsics::{AtomicOrdering, atomic_cxchg},
    ptr,
};

use weir_limiter::Memory;

/// Volatile loads and stores, and the instruction set's compare-exchange.
///
/// The target has no atomic types, but the intrinsic compiles to `cmpxchg`, which the kernel makes
/// a full barrier on every architecture. Plain loads keep their order on x86. Elsewhere a load
/// that has to be in order is a compare-exchange that changes nothing.
pub(crate) struct KernelMemory;

impl Memory for KernelMemory {
    #[inline(always)]
    unsafe fn load(word: *const u64) -> u64 {
        if cfg!(bpf_target_arch = "x86_64") {
            // SAFETY: the caller promises a valid word.
            unsafe { ptr::read_volatile(word) }
        } else {
            // SAFETY: the caller promises a valid word; map values are writable.
            unsafe { Self::compare_exchange(word.cast_mut(), 0, 0) }
        }
    }

    #[inline(always)]
    unsafe fn store(word: *mut u64, value: u64) {
        // SAFETY: the caller promises a valid word.
        unsafe { ptr::write_volatile(word, value) };
    }

    #[inline(always)]
    unsafe fn compare_exchange(word: *mut u64, current: u64, new: u64) -> u64 {
        // SAFETY: the caller promises a valid word.
        let (was, _) = unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                word, current, new,
            )
        };
        was
    }
}
