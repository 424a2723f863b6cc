//! The decision's surroundings in the kernel: maps and clock.

use core::ptr::NonNull;

use aya_ebpf::{btf_maps::lpm_trie::Key, helpers::generated::bpf_ktime_get_boot_ns};
use weir_abi::{
    LimitCounters, Rule, Service, Totals,
    maps::{SERVICES_PER_SIDE, SIDE_BITS, SLOTS},
};
use weir_limiter::{Address, Environment, LimitRef, Work};

use crate::{kernel_memory::KernelMemory, maps};

/// The maps of this object.
pub(crate) struct Maps;

impl Environment for Maps {
    type Memory = KernelMemory;

    #[inline(always)]
    fn now(&self) -> u64 {
        now()
    }

    #[inline(always)]
    fn side(&self) -> u32 {
        match maps::SIDE.get_ptr(0) {
            // SAFETY: the map's one value; volatile, for user space writes it at any time.
            Some(word) => (unsafe { word.read_volatile() } & 1) as u32,
            None => 0,
        }
    }

    #[inline(always)]
    fn management_port(&self, index: u32) -> u32 {
        maps::MANAGEMENT_PORTS.get(index).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn management_source(&self, source: &Address) -> u32 {
        match *source {
            Address::V4(address) => maps::MANAGEMENT_SOURCES4.get(&key4(0, address)),
            Address::V6(address) => maps::MANAGEMENT_SOURCES6.get(&key6(0, address)),
        }
        .copied()
        .unwrap_or(0)
    }

    #[inline(always)]
    fn service(&self, side: u32, destination: &Address) -> Option<&Service> {
        let number = match *destination {
            Address::V4(address) => maps::DESTINATIONS4.get(&key4(side, address)),
            Address::V6(address) => maps::DESTINATIONS6.get(&key6(side, address)),
        }?;
        maps::SERVICES.get(side * SERVICES_PER_SIDE as u32 + *number)
    }

    #[inline(always)]
    fn source_sets(&self, side: u32, source: &Address) -> u64 {
        let words = match *source {
            Address::V4(address) => maps::SOURCES4.get(&key4(side, address)),
            Address::V6(address) => maps::SOURCES6.get(&key6(side, address)),
        };
        words.map_or(0, |[low, high]| u64::from(*low) | u64::from(*high) << 32)
    }

    #[inline(always)]
    fn rule(&self, side: u32, slot: u32) -> Option<&Rule> {
        maps::RULES.get(side * SLOTS as u32 + slot)
    }

    #[inline(always)]
    fn limit(&self, slot: u32) -> Option<LimitRef<'_, KernelMemory>> {
        limit(slot)
    }

    #[inline(always)]
    fn work<R>(&self, act: impl FnOnce(&mut Work) -> R) -> Option<R> {
        let work = maps::WORK.get_ptr_mut(0)?;
        // SAFETY: this CPU's own copy, and nothing interrupts an XDP program with another.
        Some(act(unsafe { &mut *work }))
    }

    #[inline(always)]
    fn count_limit(&self, slot: u32, count: impl FnOnce(&mut LimitCounters)) {
        if let Some(counters) = maps::COUNTERS.get_ptr_mut(slot) {
            // SAFETY: this CPU's own copy, and nothing interrupts an XDP program with another.
            count(unsafe { &mut *counters });
        }
    }

    #[inline(always)]
    fn count_total(&self, count: impl FnOnce(&mut Totals)) {
        if let Some(totals) = maps::TOTALS.get_ptr_mut(0) {
            // SAFETY: this CPU's own copy, and nothing interrupts an XDP program with another.
            count(unsafe { &mut *totals });
        }
    }
}

/// The memory of a limit.
#[inline(always)]
pub(crate) fn limit<'a>(slot: u32) -> Option<LimitRef<'a, KernelMemory>> {
    let slot = NonNull::new(maps::LIMITS.get_ptr_mut(slot)?)?;
    // SAFETY: an array's values live as long as the program that uses it.
    Some(unsafe { LimitRef::new(slot) })
}

/// The boot clock, or the tests' own.
#[inline(always)]
pub(crate) fn now() -> u64 {
    if maps::TEST_CLOCK_SWITCH.load() != 0 {
        return match maps::TEST_CLOCK.get_ptr(0) {
            // SAFETY: the map's one value; volatile, for user space writes it at any time.
            Some(word) => unsafe { word.read_volatile() },
            None => 0,
        };
    }
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

#[inline(always)]
const fn key4(side: u32, address: u32) -> Key<maps::Data4> {
    Key::new(SIDE_BITS + 32, [side, address])
}

#[inline(always)]
const fn key6(side: u32, address: [u32; 4]) -> Key<maps::Data6> {
    let [a, b, c, d] = address;
    Key::new(SIDE_BITS + 128, [side, a, b, c, d])
}
