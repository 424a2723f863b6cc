//! Running a program that somebody else loaded: aya only runs its own.

#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
    time::Duration,
};

/// `BPF_PROG_TEST_RUN` of `enum bpf_cmd` in linux/bpf.h.
const BPF_PROG_TEST_RUN: libc::c_long = 10;

/// The `test` part of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    program: u32,
    returned: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration_ns: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    reserved: u32,
}

/// Runs a program on a frame so many times; the last verdict, and the mean time of a run.
///
/// # Errors
///
/// What the kernel says.
pub(super) fn run(program: impl AsFd, frame: &[u8], repeat: u32) -> io::Result<(u32, Duration)> {
    let mut attributes = Attributes {
        program: program.as_fd().as_raw_fd().cast_unsigned(),
        size_in: u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        data_in: frame.as_ptr() as u64,
        repeat,
        ..Attributes::default()
    };
    // SAFETY: the kernel reads the frame and writes within the attributes, both of which live
    // during the call; their sizes are given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_TEST_RUN,
            &raw mut attributes,
            size_of::<Attributes>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let duration = Duration::from_nanos(attributes.duration_ns.into());
    Ok((attributes.returned, duration))
}
