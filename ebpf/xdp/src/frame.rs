//! A packet's bytes.

use aya_ebpf::{helpers::generated::bpf_xdp_get_buff_len, programs::XdpContext};
use weir_limiter::Frame;

/// The linear part of a packet, where the headers are, and the length of the whole.
pub(crate) struct XdpFrame {
    data: usize,
    data_end: usize,
    length: u32,
}

impl XdpFrame {
    #[inline(always)]
    pub(crate) fn new(context: &XdpContext) -> Self {
        Self {
            data: context.data(),
            data_end: context.data_end(),
            // SAFETY: the context is the one that the kernel handed to the program.
            length: unsafe { bpf_xdp_get_buff_len(context.ctx) } as u32,
        }
    }

    /// The value at `offset`, if all of it lies before the end: the very comparison that the
    /// verifier wants to see.
    #[inline(always)]
    fn value<T: Copy>(&self, offset: usize) -> Option<T> {
        let start = self.data + offset;
        if start + size_of::<T>() > self.data_end {
            return None;
        }
        // SAFETY: the bytes lie within the packet. The kernel checks alignment where the machine
        // cares; a read by bytes, as `read_unaligned` compiles to, would be four times the work.
        Some(unsafe { *(start as *const T) })
    }
}

impl Frame for XdpFrame {
    #[inline(always)]
    fn length(&self) -> u32 {
        self.length
    }

    #[inline(always)]
    fn byte(&self, offset: usize) -> Option<u8> {
        self.value(offset)
    }

    #[inline(always)]
    fn half(&self, offset: usize) -> Option<u16> {
        self.value(offset).map(u16::from_be)
    }

    #[inline(always)]
    fn word(&self, offset: usize) -> Option<u32> {
        self.value(offset)
    }
}
