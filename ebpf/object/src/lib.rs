//! The compiled kernel programs, embedded.
#![no_std]

/// The ELF object with the programs `weir_xdp` and `install`, their maps and their BTF.
pub static OBJECT: &[u8] = &ALIGNED.bytes;

/// ELF headers are read in place, so the bytes have to be aligned like the widest field.
#[repr(C, align(8))]
struct Aligned<const LENGTH: usize> {
    bytes: [u8; LENGTH],
}

static ALIGNED: Aligned<{ BYTES.len() }> = Aligned { bytes: *BYTES };

const BYTES: &[u8; include_bytes!(concat!(env!("OUT_DIR"), "/weir-xdp.o")).len()] =
    include_bytes!(concat!(env!("OUT_DIR"), "/weir-xdp.o"));

const _: () = assert!(core::mem::offset_of!(Aligned<1>, bytes) == 0);
