//! The least that can be done with a packet: what everything else is compared with.

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, xdp_action},
    btf_maps::PerCpuArray,
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};

/// Packets that [`tc_drop`] saw.
#[btf_map]
static DROPPED: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Nothing at all.
#[xdp]
pub fn bare_drop(_context: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// Nothing at all, and lets pass.
#[xdp]
pub fn bare_pass(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Fetches the headers' cache line, as every program that looks at a packet must.
#[xdp]
pub fn touching_drop(context: XdpContext) -> u32 {
    let source = context.data() + 14 + 12;
    if source + 4 > context.data_end() {
        return xdp_action::XDP_PASS;
    }
    // SAFETY: the bytes lie within the frame.
    match unsafe { (source as *const u32).read_volatile() } {
        0 => xdp_action::XDP_PASS,
        _ => xdp_action::XDP_DROP,
    }
}

/// Counts, because nobody else counts at this place, and drops.
#[classifier]
pub fn tc_drop(_context: TcContext) -> i32 {
    if let Some(dropped) = DROPPED.get_ptr_mut(0) {
        // SAFETY: this CPU's own copy, written in softirq alone.
        unsafe { *dropped += 1 };
    }
    TC_ACT_SHOT
}
