//! The maps. Names and meanings are those of `weir_abi::maps`. The loader may give those that are
//! sized by limits or keys another number of entries.

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf},
    macros::btf_map,
};
use weir_abi::{
    HotKey, KeyLine, LimitCounters, LimitSlot, PolicyRecord, Rule, Service, Totals, maps::*,
};
use weir_limiter::Work;

/// It makes the kernel begin the values on a page, so that lines of slots and tables are cache
/// lines.
const PAGE_ALIGNED: usize = BPF_F_MMAPABLE as usize;
const SPARSE: usize = BPF_F_NO_PREALLOC as usize;

/// What a trie compares behind the prefix length of [`Key4`]: side and address.
pub(crate) type Data4 = [u32; 2];
/// The same of [`Key6`].
pub(crate) type Data6 = [u32; 5];

#[btf_map]
pub(crate) static LIMITS: Array<LimitSlot, { DEFAULT_SLOTS + HOT_SLOTS }, PAGE_ALIGNED> =
    Array::new();
#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<LimitCounters, { DEFAULT_SLOTS + HOT_SLOTS }> =
    PerCpuArray::new();
#[btf_map]
pub(crate) static KEYS: Array<KeyLine, { DEFAULT_KEY_SLOTS / KeyLine::SLOTS }, PAGE_ALIGNED> =
    Array::new();
/// For user space alone: rules carry what follows from it.
#[btf_map]
static KEY_SEED: Array<u64, 1> = Array::new();
#[btf_map]
pub(crate) static HOT: HashMap<HotKey, u64, HOT_SLOTS> = HashMap::new();
#[btf_map]
pub(crate) static EVENTS: RingBuf<(), { EVENT_RING_BYTES }> = RingBuf::new();
#[btf_map]
pub(crate) static SAMPLING: Array<u64, 1> = Array::new();
#[btf_map]
pub(crate) static TOTALS: PerCpuArray<Totals, 1> = PerCpuArray::new();
/// For user space alone, like the next one.
#[btf_map]
static INHERITED_COUNTERS: HashMap<u32, LimitCounters, { DEFAULT_SLOTS + HOT_SLOTS }, SPARSE> =
    HashMap::new();
#[btf_map]
static INHERITED_TOTALS: Array<Totals, 1> = Array::new();
/// Each CPU's notes about the packet that it is at.
#[btf_map]
pub(crate) static WORK: PerCpuArray<Work, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static SIDE: Array<u64, 1> = Array::new();
#[btf_map]
pub(crate) static POLICIES: Array<PolicyRecord, 2> = Array::new();
#[btf_map]
pub(crate) static RULES: Array<Rule, { 2 * DEFAULT_SLOTS }, PAGE_ALIGNED> = Array::new();
#[btf_map]
pub(crate) static SERVICES: Array<Service, { 2 * SERVICES_PER_SIDE }> = Array::new();
#[btf_map]
pub(crate) static DESTINATIONS4: LpmTrie<Data4, u32, { PREFIXES }, SPARSE> = LpmTrie::new();
#[btf_map]
pub(crate) static DESTINATIONS6: LpmTrie<Data6, u32, { PREFIXES }, SPARSE> = LpmTrie::new();
// A value of eight bytes would not be aligned behind a key of 4 + 16: two words it is.
#[btf_map]
pub(crate) static SOURCES4: LpmTrie<Data4, [u32; 2], { PREFIXES }, SPARSE> = LpmTrie::new();
#[btf_map]
pub(crate) static SOURCES6: LpmTrie<Data6, [u32; 2], { PREFIXES }, SPARSE> = LpmTrie::new();
#[btf_map]
pub(crate) static MANAGEMENT_PORTS: Array<u32, { 2 * PORTS }> = Array::new();
#[btf_map]
pub(crate) static MANAGEMENT_SOURCES4: LpmTrie<Data4, u32, { MANAGEMENT_PREFIXES }, SPARSE> =
    LpmTrie::new();
#[btf_map]
pub(crate) static MANAGEMENT_SOURCES6: LpmTrie<Data6, u32, { MANAGEMENT_PREFIXES }, SPARSE> =
    LpmTrie::new();
#[btf_map]
pub(crate) static TEST_CLOCK: Array<u64, 1> = Array::new();

/// Zero in production. The verifier knows the value of read-only data, so the other clock is not
/// even part of the program that runs.
#[unsafe(no_mangle)]
pub(crate) static TEST_CLOCK_SWITCH: Global<u32> = Global::new(0);
/// Lines of [`KEYS`] less one.
#[unsafe(no_mangle)]
pub(crate) static KEY_LINE_MASK: Global<u32> =
    Global::new((DEFAULT_KEY_SLOTS / KeyLine::SLOTS) as u32 - 1);
