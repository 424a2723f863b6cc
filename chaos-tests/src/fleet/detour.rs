//! Delay on the control network: packets between hosts and servers take a detour through this
//! process, which lets each of them wait.
//!
//! A TUN device in the router is the way out and the way back in. Only what comes in over a link of
//! a host or server, and goes to another one, is sent there; what comes back from the device is not
//! sent there again. Test traffic takes no detour.

#![allow(unsafe_code)]

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result};
use weir_sim::dice::Dice;

use super::plan::{MANAGEMENT, Plan};
use crate::{clock, interrupt::Interrupt, namespace::Namespace};

const DEVICE: &str = "detour";
/// Routing table of the detour.
const TABLE: u32 = 1_007;
/// Its rules come before all others.
const PREFERENCE: u32 = 7;
/// Longest packet.
const PACKET_BYTES: usize = 1_600;
/// Most packets that wait; what comes then is dropped, as on a full wire.
const MOST_WAITING: usize = 20_000;
/// How often the thread looks whether it should end.
const PATIENCE_MS: u64 = 20;

/// A packet, and when it goes on; ordered by that.
type Waiting = Reverse<(Duration, u64, Vec<u8>)>;

/// The detour, while it lasts.
#[derive(Debug)]
pub struct Detour {
    router: Namespace,
    rules: Vec<String>,
    stop: Interrupt,
    thread: Option<JoinHandle<()>>,
}

impl Detour {
    /// Sends the whole control network's packets over it: each waits for `delay`, and up to
    /// `jitter` more, so that packets overtake each other.
    ///
    /// # Errors
    ///
    /// If there are no TUN devices here, or the router refuses.
    pub fn begin(plan: &Plan, delay: Duration, jitter: Duration, seed: u64) -> Result<Self> {
        let router = plan.router.clone();
        let device = router.inside(open)??;
        let up = format!("link set {DEVICE} up\nroute add default dev {DEVICE} table {TABLE}\n");
        router.ip(&up)?;
        let links = plan.hosts.iter().chain(&plan.servers);
        let rules: Vec<String> = links
            .map(|site| {
                let link = &site.router_interface;
                format!("iif {link} to {MANAGEMENT} lookup {TABLE} pref {PREFERENCE}")
            })
            .collect();
        let stop = Interrupt::default();
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || relay(device, delay, jitter, Dice::new(seed), &stop)
        });
        let detour = Self {
            router,
            rules,
            stop,
            thread: Some(thread),
        };
        detour.change("add")?;
        Ok(detour)
    }

    fn change(&self, verb: &str) -> Result<()> {
        let lines = self
            .rules
            .iter()
            .map(|rule| format!("rule {verb} {rule}\n"));
        self.router.ip(&lines.collect::<String>())
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        // A router that is gone has no rules.
        let _removed = self.change("delete");
        self.stop.raise();
        if let Some(thread) = self.thread.take() {
            // A panic in there was already printed.
            let _ended = thread.join();
        }
    }
}

/// A TUN device in the calling thread's namespace. It is gone when the file is closed.
fn open() -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .context("no TUN devices: /dev/net/tun")?;
    // SAFETY: an interface request of all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(DEVICE.bytes()) {
        *to = libc::c_char::try_from(from).context("an interface's name is ASCII")?;
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_TUN | libc::IFF_NO_PI)?;
    // SAFETY: the request lives during the call, and is of the kind that it takes.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if made < 0 {
        return Err(std::io::Error::last_os_error()).context("cannot make a TUN device");
    }
    Ok(file)
}

fn relay(mut device: File, delay: Duration, jitter: Duration, mut dice: Dice, stop: &Interrupt) {
    let mut waiting: BinaryHeap<Waiting> = BinaryHeap::new();
    let mut buffer = vec![0; PACKET_BYTES];
    let mut number = 0;
    while !stop.is_raised() {
        let now = clock::boot_time();
        while let Some(Reverse((due, ..))) = waiting.peek()
            && *due <= now
            && let Some(Reverse((_, _, packet))) = waiting.pop()
        {
            // What the router has no room for is lost, as on any wire.
            let _written = device.write(&packet);
        }
        let next = waiting
            .peek()
            .map(|Reverse((due, ..))| due.saturating_sub(now));
        wait_for_packet(&device, next);
        while let Ok(length) = device.read(&mut buffer) {
            if waiting.len() < MOST_WAITING {
                let extra = Duration::from_micros(dice.roll(jitter.as_micros() as u64 + 1));
                let due = clock::boot_time() + delay + extra;
                waiting.push(Reverse((due, number, buffer[..length].to_vec())));
                number += 1;
            }
        }
    }
}

/// Until there is one to read, or the next one may go on.
fn wait_for_packet(device: &File, next: Option<Duration>) {
    let most = Duration::from_millis(PATIENCE_MS);
    let time = next.map_or(most, |next| next.min(most));
    let mut poll = libc::pollfd {
        fd: device.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // Rounded up: a wait of zero would spin.
    let time_ms = time.as_micros().div_ceil(1_000) as libc::c_int;
    // SAFETY: one entry is given, and it lives during the call.
    let _ready = unsafe { libc::poll(&raw mut poll, 1, time_ms) };
}
