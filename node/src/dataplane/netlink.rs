//! Which XDP program an interface has, as `ip link` shows it (rtnetlink(7), `IFLA_XDP`).
//!
//! The `bpf` system call cannot say: only netlink knows of programs that were attached without a
//! link.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::Duration,
};

use super::AttachMode;

const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;

/// The kernel answers at once; this is for the case that it does not.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer about one interface is a few kilobytes.
const ANSWER_BYTES: usize = 32 * 1024;
const MESSAGE_HEADER: usize = size_of::<libc::nlmsghdr>();
/// `struct ifinfomsg`.
const INTERFACE_HEADER: usize = 16;

/// A program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attached {
    /// The program's number.
    pub(crate) program_id: u32,
    /// Where it runs; `None` if it is offloaded to the hardware.
    pub(crate) mode: Option<AttachMode>,
}

/// The XDP programs of the interface with this index.
pub(crate) fn attached(interface: u32) -> io::Result<Vec<Attached>> {
    let socket = open()?;
    send(&socket, &request(interface))?;
    let answer = receive(&socket)?;
    parse(&answer)
}

fn open() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe {
        libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::NETLINK_ROUTE,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: made just now.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let timeout = libc::timeval {
        tv_sec: ANSWER_TIMEOUT.as_secs() as libc::time_t,
        tv_usec: 0,
    };
    // SAFETY: the option's value is a `timeval` of the size that is named.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const timeout).cast(),
            size_of_val(&timeout) as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// `RTM_GETLINK` for one index.
fn request(interface: u32) -> Vec<u8> {
    let length = (MESSAGE_HEADER + INTERFACE_HEADER) as u32;
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(libc::RTM_GETLINK.to_ne_bytes());
    message.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message.extend([0; 8]); // sequence number, sender
    message.extend([libc::AF_UNSPEC as u8, 0, 0, 0]); // family, padding, device type
    message.extend(interface.to_ne_bytes());
    message.extend([0; 8]); // flags, mask of flags
    message
}

fn send(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    // SAFETY: the buffer is as long as is said.
    let sent = unsafe {
        libc::send(
            socket.as_raw_fd(),
            message.as_ptr().cast(),
            message.len(),
            0,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn receive(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut answer = vec![0; ANSWER_BYTES];
    // SAFETY: the buffer is as long as is said.
    let received = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            answer.as_mut_ptr().cast(),
            answer.len(),
            0,
        )
    };
    answer.truncate(usize::try_from(received).map_err(|_| io::Error::last_os_error())?);
    Ok(answer)
}

fn parse(answer: &[u8]) -> io::Result<Vec<Attached>> {
    let kind = half(answer, 4).ok_or(io::ErrorKind::InvalidData)?;
    if i32::from(kind) == libc::NLMSG_ERROR {
        let code = word(answer, MESSAGE_HEADER).ok_or(io::ErrorKind::InvalidData)?;
        return Err(io::Error::from_raw_os_error(-code.cast_signed()));
    }
    let rest = answer
        .get(MESSAGE_HEADER + INTERFACE_HEADER..)
        .ok_or(io::ErrorKind::InvalidData)?;
    let Some(xdp) = find(rest, IFLA_XDP) else {
        return Ok(Vec::new());
    };
    let program = |attribute| find(xdp, attribute).and_then(|value| word(value, 0));
    let mut programs: Vec<Attached> = [
        (IFLA_XDP_DRV_PROG_ID, AttachMode::Native),
        (IFLA_XDP_SKB_PROG_ID, AttachMode::Generic),
    ]
    .into_iter()
    .filter_map(|(attribute, mode)| {
        Some(Attached {
            program_id: program(attribute)?,
            mode: Some(mode),
        })
    })
    .collect();
    if let (true, Some(program_id)) = (programs.is_empty(), program(IFLA_XDP_PROG_ID)) {
        let mode = None;
        programs.push(Attached { program_id, mode });
    }
    Ok(programs)
}

/// The value of the first attribute of this kind; attributes are padded to four bytes.
fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    const HEADER: usize = 4;
    let mut rest = attributes;
    loop {
        let length = usize::from(half(rest, 0)?);
        let found = half(rest, 2)? & !((libc::NLA_F_NESTED | libc::NLA_F_NET_BYTEORDER) as u16);
        let value = rest.get(HEADER..length)?;
        if found == kind {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(HEADER)..)?;
    }
}

fn half(bytes: &[u8], offset: usize) -> Option<u16> {
    let bytes = bytes.get(offset..offset + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_no_program_and_no_interface_is_an_error() {
        assert_eq!(attached(1).unwrap(), []);
        let error = attached(0x7fff_fff0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn finds_attributes_behind_padding() {
        // Kind 1 with five bytes, padded to eight; kind 2 with a word.
        let bytes = [5, 0, 1, 0, 9, 0, 0, 0, 8, 0, 2, 0, 7, 0, 0, 0];
        assert_eq!(find(&bytes, 1), Some(&[9][..]));
        assert_eq!(find(&bytes, 2).and_then(|value| word(value, 0)), Some(7));
        assert_eq!(find(&bytes, 3), None);
        assert_eq!(find(&bytes[..10], 2), None);
    }
}
