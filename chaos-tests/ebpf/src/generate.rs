//! The generator: run by the kernel's test-run on live frames, it gives each frame the next source
//! of a pool and sends it out of an interface.
//!
//! Every frame is made from one template, whose bytes the kernel does not restore between uses: so
//! each field that differs between frames is written for every frame.

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::{Array, DevMap, PerCpuArray},
    helpers::generated::bpf_ktime_get_boot_ns,
    macros::{btf_map, xdp},
    programs::XdpContext,
};

/// What all CPUs are told. Written by user space between runs.
#[repr(C)]
#[derive(Clone, Copy)]
struct Flood {
    /// Sources in the pool, at least 1, at most 2^24.
    sources: u32,
    /// Frames that are sent out of each 65,536; the others end here, so that a lower rate is as
    /// even as the full one.
    share: u32,
    /// Which of [`TARGETS`] the frames go to.
    target: u32,
    /// The IPv4 header's sum without the source address, not folded.
    checksum_base: u32,
    /// Nanoseconds between two frames of the good client, among the others; 0 if there is none.
    client_period_ns: u64,
    /// The good client's address.
    client: u32,
    reserved: u32,
}

/// What a CPU remembers.
#[repr(C)]
#[derive(Clone, Copy)]
struct Progress {
    /// Frames that were sent: handed to the interface, whether its ring took them or not.
    sent: u64,
    /// The next source's number within the pool.
    next: u64,
    /// Sum of the shares of the frames so far, modulo 65,536.
    owed: u64,
    /// Runs so far.
    runs: u64,
    /// When the good client's next frame is due, on the boot clock.
    client_due_ns: u64,
    /// Frames of the good client that were sent.
    client_sent: u64,
}

#[btf_map]
static FLOOD: Array<Flood, 1> = Array::new();
#[btf_map]
static PROGRESS: PerCpuArray<Progress, 1> = PerCpuArray::new();
#[btf_map]
static TARGETS: DevMap<64> = DevMap::new();

/// Spreads consecutive numbers over 24 bits without meeting: it is odd.
const SPREAD: u32 = 0x9e37_79b1;
const POOL_BITS: u32 = 24;
const SHARE_ONE: u64 = 1 << 16;

/// Runs of which one looks at the clock for the good client: reading it costs as much as a frame.
const CLOCK_RUNS: u64 = 64;

const CHECKSUM4: usize = 14 + 10;
const SOURCE4: usize = 14 + 12;
/// The source's 10.0.0.0/8.
const NETWORK4: u32 = 10 << 24;
/// Where the good client's frames say when they were sent: the beginning of UDP's data.
const SENT_AT4: usize = 14 + 20 + 8;
/// The words of the source's address behind 2001:db8.
const SOURCE6: usize = 14 + 8 + 4;

/// UDP over IPv4, from 10.0.0.0/8.
#[xdp]
pub fn generate4(context: XdpContext) -> u32 {
    if let Some(action) = good_client(&context) {
        return action;
    }
    send(&context, |context, flood, number| {
        write_source4(context, flood, NETWORK4 | number)
    })
}

#[inline(always)]
fn write_source4(context: &XdpContext, flood: &Flood, address: u32) -> Option<()> {
    let sum = flood.checksum_base + (address >> 16) + (address & 0xffff);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    write(context, CHECKSUM4, (!sum as u16).to_be())?;
    write(context, SOURCE4, address.to_be())
}

/// A frame of the good client, if one is due.
#[inline(always)]
fn good_client(context: &XdpContext) -> Option<u32> {
    let flood = FLOOD.get(0)?;
    let progress = PROGRESS.get_ptr_mut(0)?;
    // SAFETY: this CPU's own copy, and nothing interrupts an XDP program with another.
    let progress = unsafe { &mut *progress };
    progress.runs += 1;
    if flood.client_period_ns == 0 || progress.runs % CLOCK_RUNS != 0 {
        return None;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if now < progress.client_due_ns {
        return None;
    }
    // Not later and later, and none to make up for.
    progress.client_due_ns = now + flood.client_period_ns;
    write_source4(context, flood, flood.client)?;
    write(context, SENT_AT4, now)?;
    progress.client_sent += 1;
    Some(redirect(flood))
}

/// UDP over IPv6, each source in a /64 of its own of 2001:db8::/32. The interface identifier
/// makes up for the prefix, so that the checksum stays as it is.
#[xdp]
pub fn generate6(context: XdpContext) -> u32 {
    send(&context, |context, _flood, number| {
        write(context, SOURCE6, number.to_be())?;
        write(context, SOURCE6 + 4, (!number).to_be())
    })
}

#[inline(always)]
fn send(context: &XdpContext, address: impl FnOnce(&XdpContext, &Flood, u32) -> Option<()>) -> u32 {
    let (Some(flood), Some(progress)) = (FLOOD.get(0), PROGRESS.get_ptr_mut(0)) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: this CPU's own copy, and nothing interrupts an XDP program with another.
    let progress = unsafe { &mut *progress };
    progress.owed += u64::from(flood.share);
    if progress.owed < SHARE_ONE {
        return xdp_action::XDP_DROP;
    }
    progress.owed -= SHARE_ONE;
    let number = progress.next;
    progress.next = if number + 1 < u64::from(flood.sources) {
        number + 1
    } else {
        0
    };
    let number = (number as u32).wrapping_mul(SPREAD) & ((1 << POOL_BITS) - 1);
    if address(context, flood, number).is_none() {
        return xdp_action::XDP_ABORTED;
    }
    progress.sent += 1;
    redirect(flood)
}

#[inline(always)]
fn redirect(flood: &Flood) -> u32 {
    match TARGETS.redirect(flood.target, 0) {
        Ok(action) | Err(action) => action,
    }
}

#[inline(always)]
fn write<T>(context: &XdpContext, offset: usize, value: T) -> Option<()> {
    let start = context.data() + offset;
    if start + size_of::<T>() > context.data_end() {
        return None;
    }
    // SAFETY: the bytes lie within the frame; the kernel checks alignment where the machine cares.
    unsafe { *(start as *mut T) = value };
    Some(())
}
