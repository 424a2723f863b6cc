//! The proof that privileges are gone: the kernel refuses to load a program.

use std::{
    ffi::{CStr, c_long},
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

use super::PrivilegeError;

/// `BPF_PROG_LOAD` of `enum bpf_cmd`, linux/bpf.h.
const BPF_PROG_LOAD: c_long = 5;
/// `BPF_PROG_TYPE_XDP`: always a matter of capabilities, unlike socket filters, which anybody may
/// load where `kernel.unprivileged_bpf_disabled` is 0.
const XDP: u32 = 6;
const LICENSE: &CStr = c"GPL";
/// `r0 = 1` (`XDP_DROP`); `exit`.
const PROGRAM: [u64; 2] = [0x0000_0001_0000_00b7, 0x0000_0000_0000_0095];

/// Tries to load a program, which must be refused with `EPERM`. Returns the kernel's word.
pub(super) fn cannot_load() -> Result<io::Error, PrivilegeError> {
    match load() {
        Ok(_program) => Err(PrivilegeError::CouldLoad),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(error),
        Err(error) => Err(PrivilegeError::Unproven(error)),
    }
}

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Attributes {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

fn load() -> io::Result<OwnedFd> {
    let attributes = Attributes {
        kind: XDP,
        instruction_count: PROGRAM.len() as u32,
        instructions: PROGRAM.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
    };
    // SAFETY: the kernel reads the attributes, of the size that is said, and what they point to.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attributes,
            size_of::<Attributes>() as c_long,
        )
    };
    let fd = i32::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_privileged_process_is_caught() {
        assert!(
            matches!(cannot_load(), Err(PrivilegeError::CouldLoad)),
            "kernel tests need root"
        );
    }
}
