//! The receiver: counts the packets to one port of one protocol in bins of one millisecond. Where TCP
//! segments come merged, each of them counts.
//!
//! It knows nothing of the limiter and shares no code with it. `admitted` sits behind the limiter,
//! at a host's ingress, and takes the packets in (they have arrived; no socket need read them);
//! `offered` sits in front of it, at the router's egress towards the host.

use aya_ebpf::{
    Global,
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    btf_maps::PerCpuArray,
    helpers::generated::bpf_ktime_get_boot_ns,
    macros::{btf_map, classifier},
    programs::TcContext,
};

/// Length of a bin.
const BIN_NS: u64 = 1_000_000;
/// Bins of one map entry.
const BINS_PER_BLOCK: u64 = 128;
/// Map entries; the ring holds `BLOCKS * BINS_PER_BLOCK` ms.
const BLOCKS: usize = 64;
/// Low bits of a slot that count packets; the rest is the number of the bin.
const COUNT_BITS: u32 = 24;

const ETHERNET: usize = 14;
/// Destination port that is counted.
#[unsafe(no_mangle)]
static PORT: Global<u16> = Global::new(0);

/// Number of the protocol that is counted: UDP, or another whose header begins with its ports.
#[unsafe(no_mangle)]
static PROTOCOL: Global<u8> = Global::new(17);

/// `bin << COUNT_BITS | packets`, one ring a CPU. A slot is written by its own CPU alone, in
/// softirq, so plain stores are exact.
#[btf_map]
static BINS: PerCpuArray<[u64; BINS_PER_BLOCK as usize], BLOCKS> = PerCpuArray::new();

/// Counts and takes in.
#[classifier]
pub fn admitted(ctx: TcContext) -> i32 {
    if counts(&ctx).is_some() {
        TC_ACT_SHOT
    } else {
        TC_ACT_UNSPEC
    }
}

/// Counts and lets pass.
#[classifier]
pub fn offered(ctx: TcContext) -> i32 {
    let _counted = counts(&ctx);
    TC_ACT_UNSPEC
}

#[inline(always)]
fn counts(ctx: &TcContext) -> Option<()> {
    if destination_port(ctx)? != PORT.load() {
        return None;
    }
    // SAFETY: the helper has no precondition.
    let bin = unsafe { bpf_ktime_get_boot_ns() } / BIN_NS;
    let block = (bin / BINS_PER_BLOCK) % BLOCKS as u64;
    let bins = BINS.get_ptr_mut(block as u32)?;
    // SAFETY: the pointer is a live value of the map, and the index is inside it.
    let slot = unsafe { &mut (*bins)[(bin % BINS_PER_BLOCK) as usize] };
    // SAFETY: the context is the one that the kernel passed.
    let packets = u64::from(unsafe { (*ctx.skb.skb).gso_segs }.max(1));
    *slot = if *slot >> COUNT_BITS == bin {
        *slot + packets
    } else {
        bin << COUNT_BITS | packets
    };
    Some(())
}

/// The destination port of an IPv4 packet of the protocol, or of an IPv6 one without extension headers.
#[inline(always)]
fn destination_port(ctx: &TcContext) -> Option<u16> {
    let ethertype: u16 = ctx.load(12).ok()?;
    let header = match u16::from_be(ethertype) {
        0x0800 => {
            let version_and_length: u8 = ctx.load(ETHERNET).ok()?;
            let protocol: u8 = ctx.load(ETHERNET + 9).ok()?;
            (protocol == PROTOCOL.load()).then_some(ETHERNET + usize::from(version_and_length & 0xf) * 4)?
        }
        0x86dd => {
            let next_header: u8 = ctx.load(ETHERNET + 6).ok()?;
            (next_header == PROTOCOL.load()).then_some(ETHERNET + 40)?
        }
        _ => return None,
    };
    ctx.load(header + 2).ok().map(u16::from_be)
}
