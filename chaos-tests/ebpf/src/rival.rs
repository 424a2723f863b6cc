//! Limiters as they are usually written: a hash map from source address to bucket.
//!
//! Each is as quick as its kind gets: it parses no more than it needs, reads one clock, and stores
//! without compare-and-swap, so that two CPUs may let one packet too many pass.

use aya_ebpf::{
    Global,
    bindings::{BPF_ANY, xdp_action},
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray},
    helpers::generated::bpf_ktime_get_ns,
    macros::{btf_map, xdp},
    programs::XdpContext,
};

/// Nanoseconds between two packets of a source.
#[unsafe(no_mangle)]
static EMISSION_NS: Global<u64> = Global::new(0);
/// How far ahead of the clock a source may be, in nanoseconds.
#[unsafe(no_mangle)]
static TOLERANCE_NS: Global<u64> = Global::new(0);

/// Each source's theoretical arrival time. Sized by whoever loads it.
#[btf_map]
static LRU_BUCKETS: LruHashMap<u32, u64, 1> = LruHashMap::new();
#[btf_map]
static HASH_BUCKETS: HashMap<u32, u64, 1> = HashMap::new();
/// One bucket for all.
#[btf_map]
static ONE_BUCKET: Array<u64, 1> = Array::new();
/// Packets passed and dropped.
#[btf_map]
static VERDICTS: PerCpuArray<[u64; 2], 1> = PerCpuArray::new();

/// A bucket a source in an LRU hash.
#[xdp]
pub fn lru_limit(context: XdpContext) -> u32 {
    limit(&context, |source| {
        let bucket = LRU_BUCKETS.get_ptr_mut(source);
        charge(bucket, |arrival| {
            LRU_BUCKETS.insert(source, arrival, BPF_ANY.into()).is_ok()
        })
    })
}

/// A bucket a source in a hash that never forgets: what does not fit is dropped.
#[xdp]
pub fn hash_limit(context: XdpContext) -> u32 {
    limit(&context, |source| {
        let bucket = HASH_BUCKETS.get_ptr_mut(source);
        charge(bucket, |arrival| {
            HASH_BUCKETS.insert(source, arrival, BPF_ANY.into()).is_ok()
        })
    })
}

/// One bucket for all sources.
#[xdp]
pub fn aggregate_limit(context: XdpContext) -> u32 {
    limit(&context, |_source| {
        charge(ONE_BUCKET.get_ptr_mut(0), |_arrival| false)
    })
}

/// Parses, asks, counts.
#[inline(always)]
fn limit(context: &XdpContext, admits: impl FnOnce(u32) -> bool) -> u32 {
    let Some(source) = source_of_udp(context) else {
        return xdp_action::XDP_PASS;
    };
    let admitted = admits(source);
    if let Some(verdicts) = VERDICTS.get_ptr_mut(0) {
        // SAFETY: this CPU's own copy, and nothing interrupts an XDP program with another.
        unsafe { (*verdicts)[usize::from(!admitted)] += 1 };
    }
    if admitted {
        xdp_action::XDP_PASS
    } else {
        xdp_action::XDP_DROP
    }
}

/// The generic cell rate algorithm on a bucket, or on a new one.
#[inline(always)]
fn charge(bucket: Option<*mut u64>, create: impl FnOnce(u64) -> bool) -> bool {
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(bucket) = bucket else {
        return create(now + EMISSION_NS.load());
    };
    // SAFETY: a live value of the map; another CPU may write it, and the last one wins.
    let arrival = unsafe { bucket.read_volatile() }.max(now);
    if arrival - now > TOLERANCE_NS.load() {
        return false;
    }
    // SAFETY: as above.
    unsafe { bucket.write_volatile(arrival + EMISSION_NS.load()) };
    true
}

/// The source address of an IPv4 packet with UDP and a complete header.
#[inline(always)]
fn source_of_udp(context: &XdpContext) -> Option<u32> {
    const ETHERNET: usize = 14;
    let ethertype: u16 = read(context, 12)?;
    let version_and_length: u8 = read(context, ETHERNET)?;
    let protocol: u8 = read(context, ETHERNET + 9)?;
    let source: u32 = read(context, ETHERNET + 12)?;
    let _ports: u32 = read(context, ETHERNET + 20)?;
    (ethertype == 0x0800_u16.to_be() && version_and_length == 0x45 && protocol == 17)
        .then_some(source)
}

#[inline(always)]
fn read<T: Copy>(context: &XdpContext, offset: usize) -> Option<T> {
    let start = context.data() + offset;
    if start + size_of::<T>() > context.data_end() {
        return None;
    }
    // SAFETY: the bytes lie within the frame; the kernel checks alignment where the machine cares.
    Some(unsafe { *(start as *const T) })
}
