//! Weir's kernel programs: a shell around `weir-limiter`.
//!
//! `weir_xdp` decides about every packet of an interface. `install` is never attached: the daemon
//! runs it through `BPF_PROG_TEST_RUN` with grants as its data, so that clock and bucket are read
//! and the grant published without a pause in between, and so that user space needs no
//! capability for it. `sweep` tidies the table of keys in the same way.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features)]

mod environment;
mod frame;
mod kernel_memory;
mod maps;
mod requests;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

use crate::{environment::Maps, frame::XdpFrame};

/// Decides about a packet.
#[xdp(frags)]
fn weir_xdp(context: XdpContext) -> u32 {
    let frame = XdpFrame::new(&context);
    if weir_limiter::decide(&Maps, &frame).passes() {
        xdp_action::XDP_PASS
    } else {
        xdp_action::XDP_DROP
    }
}

/// Installs grants: the data are a header and requests, into which their status is written.
#[xdp]
fn install(context: XdpContext) -> u32 {
    requests::install_all(&context)
}

/// Frees idle slots of the table of keys: the data are a request, into which the number of busy
/// ones is written.
#[xdp]
fn sweep(context: XdpContext) -> u32 {
    requests::sweep_lines(&context)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier accepts no endless loop, so a program that could panic does not load.
    loop {}
}

/// The kernel wants to know; some helpers are for GPL programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
