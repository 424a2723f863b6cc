//! The decision's surroundings in the kernel: maps and clock.

use core::ptr::NonNull;

use aya_ebpf::{
    btf_maps::lpm_trie::Key,
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns},
};
use weir_abi::{
    Event, HotKey, KeyLine, LimitCounters, PolicyRecord, Rule, Service, Totals,
    maps::{SIDE_BITS, sided},
};
use weir_limiter::{Address, Environment, Family, KeyTable, LimitRef, Work};

use crate::{kernel_memory::KernelMemory, maps};

/// The tests' clock ticks each 8.4 ms.
const TEST_MOMENT_BITS: u32 = 23;

/// The maps of this object.
pub(crate) struct Maps;

impl KeyTable for Maps {
    type Memory = KernelMemory;

    #[inline(always)]
    fn line_mask(&self) -> u32 {
        maps::KEY_LINE_MASK.load()
    }

    #[inline(always)]
    fn line(&self, number: u32) -> Option<*mut KeyLine> {
        maps::KEYS.get_ptr_mut(number)
    }
}

impl Environment for Maps {
    type Keys = Self;

    #[inline(always)]
    fn now(&self) -> u64 {
        now()
    }

    #[inline(always)]
    fn moment(&self) -> u64 {
        if maps::TEST_CLOCK_SWITCH.load() != 0 {
            return now() >> TEST_MOMENT_BITS;
        }
        // The kernel's tick: the verifier makes a single load of the call.
        // SAFETY: a helper without arguments.
        unsafe { bpf_jiffies64() }
    }

    #[inline(always)]
    fn generation(&self) -> u64 {
        match maps::SIDE.get_ptr(0) {
            // SAFETY: the map's one value; volatile, for user space writes it at any time.
            Some(word) => unsafe { word.read_volatile() },
            None => 0,
        }
    }

    #[inline(always)]
    fn policy(&self, side: u32) -> Option<&PolicyRecord> {
        maps::POLICIES.get(side)
    }

    #[inline(always)]
    fn management_port(&self, index: u32) -> u32 {
        maps::MANAGEMENT_PORTS.get(index).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn management_source(&self, source: &Address) -> u32 {
        match source.family {
            Family::V4 => maps::MANAGEMENT_SOURCES4.get(&key4(0, source.words[0])),
            Family::V6 => maps::MANAGEMENT_SOURCES6.get(&key6(0, source.words)),
        }
        .copied()
        .unwrap_or(0)
    }

    #[inline(always)]
    fn service_number(&self, side: u32, destination: &Address) -> Option<u32> {
        match destination.family {
            Family::V4 => maps::DESTINATIONS4.get(&key4(side, destination.words[0])),
            Family::V6 => maps::DESTINATIONS6.get(&key6(side, destination.words)),
        }
        .copied()
    }

    #[inline(always)]
    fn service(&self, side: u32, number: u32) -> Option<&Service> {
        maps::SERVICES.get(sided(number, side))
    }

    #[inline(always)]
    fn source_sets(&self, side: u32, source: &Address) -> u64 {
        let words = match source.family {
            Family::V4 => maps::SOURCES4.get(&key4(side, source.words[0])),
            Family::V6 => maps::SOURCES6.get(&key6(side, source.words)),
        };
        words.map_or(0, |[low, high]| u64::from(*low) | u64::from(*high) << 32)
    }

    #[inline(always)]
    fn rule(&self, side: u32, slot: u32) -> Option<&Rule> {
        maps::RULES.get(sided(slot, side))
    }

    #[inline(always)]
    fn limit(&self, slot: u32) -> Option<LimitRef<'_, KernelMemory>> {
        limit(slot)
    }

    #[inline(always)]
    fn keys(&self) -> &Self {
        self
    }

    #[inline(always)]
    fn hot(&self, key: &HotKey) -> Option<u32> {
        // SAFETY: an entry is never overwritten while a packet may read it.
        unsafe { maps::HOT.get(key) }.map(|slot| *slot as u32)
    }

    #[inline(always)]
    fn sampling(&self) -> u32 {
        match maps::SAMPLING.get_ptr(0) {
            // SAFETY: the map's one value; volatile, for user space writes it at any time.
            Some(word) => (unsafe { word.read_volatile() }) as u32,
            None => 0,
        }
    }

    #[inline(always)]
    fn emit(&self, event: &Event) -> bool {
        // User space looks at each tick; waking it for each event would cost more than the event.
        let flags = u64::from(aya_ebpf::bindings::BPF_RB_NO_WAKEUP);
        maps::EVENTS.output_untyped::<Event>(event, flags).is_ok()
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
