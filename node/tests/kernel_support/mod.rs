//! Hosts for tests: a network namespace and a BPF file system of their own.
//!
//! Each test runs in a thread that has left for a new network namespace, so names of interfaces
//! never meet, and whatever is in there goes with the thread.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

pub mod frames;
pub mod host;
pub mod upgrade;

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use weir_model::{
    Amount, Cost, Limit, LimitId, Policy, Revision, Scale, Units, UnitsPerSecond,
    policy::{Match, Mode, OnExpiry, PortRange, Promise, Protocol},
};
use weir_node::dataplane::{
    AttachMode, Clock, Dataplane, LoadError, LoadOptions, Sizes, detach, load,
};

/// A host of one test. Dropping it takes the programs off and the file system away.
pub struct TestHost {
    directory: tempfile::TempDir,
    namespace: std::fs::File,
}

impl TestHost {
    /// Runs `test` on a host of its own.
    pub fn run<T: Send>(test: impl FnOnce(&TestHost) -> T + Send) -> T {
        thread::scope(|scope| {
            let on_host = scope.spawn(|| {
                // SAFETY: no pointers; only this thread leaves.
                let left = unsafe { libc::unshare(libc::CLONE_NEWNET) };
                assert_eq!(
                    left,
                    0,
                    "kernel tests need root: {}",
                    io::Error::last_os_error()
                );
                let directory = tempfile::tempdir().unwrap();
                let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
                test(&TestHost {
                    directory,
                    namespace,
                })
            });
            match on_host.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    pub fn bpffs(&self) -> PathBuf {
        self.directory.path().join("bpf")
    }

    /// The network namespace of this thread, for other threads to enter.
    pub fn namespace(&self) -> &std::fs::File {
        &self.namespace
    }

    /// Options for these interfaces.
    pub fn options(&self, interfaces: &[&str]) -> LoadOptions {
        LoadOptions {
            interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
            group: "test".to_owned(),
            bpffs: self.bpffs(),
            mode: AttachMode::Native,
            management: Vec::new(),
            clock: Clock::Boot,
            sizes: Sizes::default(),
            policy: None,
        }
    }

    /// Programs that are attached nowhere, with a clock that the test sets.
    pub fn load_detached(&self) -> Dataplane {
        self.load(&LoadOptions {
            clock: Clock::Test,
            ..self.options(&[])
        })
        .unwrap()
    }

    pub fn load(&self, options: &LoadOptions) -> Result<Dataplane, LoadError> {
        load(options)
    }

    /// A pair of interfaces, `near` and `far`, connected by a wire, without addresses.
    pub fn wire(&self, near: &str, far: &str) {
        ip(&["link", "add", near, "type", "veth", "peer", "name", far]);
        for name in [near, far] {
            // The kernel's own packets would be counted.
            let file = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
            std::fs::write(&file, "1").unwrap();
            ip(&["link", "set", name, "arp", "off"]);
            ip(&["link", "set", name, "up"]);
        }
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        let bpffs = self.bpffs();
        let _ = detach(&bpffs, "test");
        let path = std::ffi::CString::new(bpffs.to_str().unwrap()).unwrap();
        // SAFETY: a string that ends in a zero.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Runs `ip` in this thread's namespace.
pub fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "ip {}: {error}",
        arguments.join(" ")
    );
}

/// A raw socket on one interface.
pub struct Wire {
    socket: OwnedFd,
}

impl Wire {
    /// The same from a thread that is not in the namespace yet.
    pub fn open_in(interface: &str, namespace: &std::fs::File) -> Self {
        // SAFETY: no pointers; only this thread enters.
        let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(entered, 0, "{}", io::Error::last_os_error());
        Self::open(interface)
    }

    /// Sends from, and receives what comes up the stack at, this interface.
    pub fn open(interface: &str) -> Self {
        let every_protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: no pointers.
        let fd = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                i32::from(every_protocol),
            )
        };
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        // SAFETY: made just now.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let name = std::ffi::CString::new(interface).unwrap();
        // SAFETY: zero is a `sockaddr_ll`, and the name ends in a zero.
        let (mut address, index) = unsafe {
            let address: libc::sockaddr_ll = std::mem::zeroed();
            (address, libc::if_nametoindex(name.as_ptr()))
        };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = every_protocol;
        address.sll_ifindex = i32::try_from(index).unwrap();
        // SAFETY: the address has the size that is said.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        assert_eq!(bound, 0, "{}", io::Error::last_os_error());
        let size: libc::c_int = 16 << 20;
        // SAFETY: the option's value has the size that is said.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const size).cast(),
                size_of_val(&size) as libc::socklen_t,
            );
        }
        Self { socket }
    }

    /// Sends a frame; what is at the other end has been decided about when this returns, since a
    /// veth delivers within the call or right after it.
    pub fn send(&self, frame: &[u8]) {
        while !self.try_send(frame) {
            // Nothing was delivered.
            std::thread::yield_now();
        }
    }

    fn try_send(&self, frame: &[u8]) -> bool {
        // SAFETY: the buffer is as long as is said.
        let sent = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
            )
        };
        let error = io::Error::last_os_error();
        // Either queue may be the full one: the interface's, or the socket's own.
        let full = [Some(libc::ENOBUFS), Some(libc::EAGAIN)];
        let is_full = sent < 0 && full.contains(&error.raw_os_error());
        assert!(is_full || sent == frame.len() as isize, "{error}");
        !is_full
    }

    /// A frame that came in, without those that this host sent; `None` if there is none.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 65_536];
        // SAFETY: the buffer is as long as is said.
        let received = unsafe {
            libc::recv(
                self.socket.as_raw_fd(),
                frame.as_mut_ptr().cast(),
                frame.len(),
                0,
            )
        };
        frame.truncate(usize::try_from(received).ok()?);
        Some(frame)
    }

    /// From now on frames come with the time at which they left the program behind the interface.
    pub fn enable_timestamps(&self) {
        let enabled = setsockopt(&self.socket, sockopt::ReceiveTimestampns, &true);
        enabled.unwrap();
    }

    /// As [`Self::receive`], with nanoseconds of the wall clock.
    pub fn receive_timed(&self) -> Option<(Vec<u8>, u64)> {
        let mut frame = vec![0; 2_048];
        let mut control = nix::cmsg_space!(libc::timespec);
        let mut parts = [IoSliceMut::new(&mut frame)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = self.socket.as_raw_fd();
        let message = recvmsg::<()>(fd, &mut parts, Some(&mut control), flags).ok()?;
        let time = message.cmsgs().unwrap().find_map(|part| match part {
            ControlMessageOwned::ScmTimestampns(time) => Some(time),
            _ => None,
        })?;
        let bytes = message.bytes;
        frame.truncate(bytes);
        let nanos = time.tv_sec() * 1_000_000_000 + time.tv_nsec();
        Some((frame, nanos.cast_unsigned()))
    }

    /// How many frames there are by now.
    pub fn drain(&self) -> usize {
        std::iter::from_fn(|| self.receive()).count()
    }
}

/// Waits until `condition` holds.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    const DEADLINE: Duration = Duration::from_secs(5);
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < DEADLINE, "waited in vain for {what}");
        thread::yield_now();
    }
}

pub fn amount(rate: u64, burst: u64) -> Amount {
    Amount {
        rate: UnitsPerSecond(rate),
        burst: Units(burst),
    }
}

/// A strict limit of whole packets on everything.
pub fn limit(name: &str) -> Limit {
    Limit {
        name: name.to_owned(),
        id: LimitId::of(name),
        revision: Revision(1),
        matches: Match::default(),
        cost: Cost::Packets,
        scale: Scale { fraction_bits: 0 },
        budget: amount(1_000, 100),
        floor: Amount::ZERO,
        smallest_burst: Units(1),
        promise: Promise::Strict,
        mode: Mode::Enforce,
        per: None,
        overhead_bytes: 0,
        quic: false,
        is_divisible: true,
        excess: None,
        on_expiry: OnExpiry::Floor,
    }
}

/// The same on some destinations and UDP ports.
pub fn udp_limit(name: &str, to: &[&str], ports: &[(u16, u16)]) -> Limit {
    let mut limit = limit(name);
    limit.matches = Match {
        to: to.iter().map(|text| text.parse().unwrap()).collect(),
        protocol: Protocol::Udp,
        ports: ports
            .iter()
            .map(|(first, last)| PortRange {
                first: *first,
                last: *last,
            })
            .collect(),
        ..Match::default()
    };
    limit
}

pub fn policy(limits: impl IntoIterator<Item = Limit>) -> Policy {
    Policy {
        limits: limits.into_iter().collect(),
        ..Policy::default()
    }
}

/// A datagram between two hosts of the tests.
pub fn udp(port: u16) -> Vec<u8> {
    let source: std::net::IpAddr = "198.18.0.1".parse().unwrap();
    let destination: std::net::IpAddr = "198.18.0.2".parse().unwrap();
    frames::udp(source, destination, (4_000, port), 60)
}

/// A limit that every packet counts for, and that admits `burst` at once and then nothing.
pub fn stingy(burst: u64) -> Limit {
    let mut limit = limit("stingy");
    limit.promise = Promise::Local;
    limit.budget = amount(burst, burst);
    limit
}
