//! The lab's own kernel programs. None of them shares code with what they measure.
//!
//! - [`receive`] counts packets in front of a limiter and behind it;
//! - [`generate`] makes floods, for the benchmark of the data plane;
//! - [`floor`] does the least that a program can do, and [`rival`] limits as others do.
//!
//! Maps that a benchmark needs large are declared with one entry: whoever loads the object sizes
//! them, and a receiver does not pay for them.
#![no_std]
#![no_main]

mod floor;
mod generate;
mod receive;
mod rival;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Required by the kernel for the helpers that it calls.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
