//! A packet socket that sends whole frames, many a system call.

#![allow(unsafe_code)]

use std::{
    io,
    mem::{size_of, zeroed},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use nix::net::if_::if_nametoindex;

/// Most frames of one system call.
pub(super) const BATCH: usize = 64;

/// Sends frames out of one interface, past its queueing discipline.
#[derive(Debug)]
pub(super) struct FrameSocket(OwnedFd);

impl FrameSocket {
    /// A socket on an interface of the calling thread's namespace. It receives nothing.
    ///
    /// # Errors
    ///
    /// If there is no such interface, or the caller is not privileged.
    pub(super) fn open(interface: &str) -> Result<Self> {
        let index =
            if_nametoindex(interface).with_context(|| format!("no interface {interface}"))?;
        // SAFETY: no pointers are passed. Protocol 0: nothing is received.
        let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        check(raw).context("cannot open a packet socket")?;
        // SAFETY: the descriptor was just made, and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        // SAFETY: an address of all zeroes is a valid value.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = i32::try_from(index)?;
        // SAFETY: the address lives during the call, and its length is given.
        let bound = unsafe {
            libc::bind(
                raw,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        check(bound).context("cannot bind a packet socket")?;
        let on: libc::c_int = 1;
        // SAFETY: the value lives during the call, and its length is given.
        let set = unsafe {
            libc::setsockopt(
                raw,
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as u32,
            )
        };
        check(set).context("cannot bypass the queueing discipline")?;
        Ok(Self(socket))
    }

    /// Sends frames, at most [`BATCH`], in order. Returns how many the kernel took; full buffers
    /// are no error.
    ///
    /// # Errors
    ///
    /// If the interface is down or gone.
    pub(super) fn send(&self, frames: &[&[u8]]) -> io::Result<usize> {
        let count = frames.len().min(BATCH);
        // SAFETY: zeroed message headers and vectors are valid: null pointers, lengths of zero.
        let (mut vectors, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { (zeroed(), zeroed()) };
        for ((vector, message), frame) in vectors.iter_mut().zip(&mut messages).zip(frames) {
            vector.iov_base = frame.as_ptr().cast_mut().cast();
            vector.iov_len = frame.len();
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: the first `count` headers point to vectors, and those to frames, that live
        // during the call; the kernel only reads the frames.
        let sent =
            unsafe { libc::sendmmsg(self.0.as_raw_fd(), messages.as_mut_ptr(), count as u32, 0) };
        match check(sent) {
            Ok(()) => Ok(sent.unsigned_abs() as usize),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
