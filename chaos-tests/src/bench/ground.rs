//! Where variants are measured: a namespace that floods, and one for each variant at the other end
//! of a wire of its own.
//!
//! The receiving end polls in a kernel thread of its own, one for each queue, so that a processor
//! can be given to it, its work shows as the thread's CPU time, and a flood that is more than it
//! can take overflows its ring instead of slowing the flood down.

use std::{
    cell::Cell,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{footprint::PREFIX, processor};
use crate::{command, namespace::Namespace};

/// Receive and transmit queues of an interface that more than one CPU floods.
pub const QUEUES: usize = 2;
/// Longer than the table of a namespace that has two interfaces.
const TABLE_BYTES: usize = 8 << 10;
/// The receiving end's link address: variants on the stack only see frames that are for them.
pub const RECEIVER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 2];
/// The sending end's.
pub const SENDER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
/// The receiving end's addresses.
pub const RECEIVER_V4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(198, 18, 0, 1);
/// See [`RECEIVER_V4`].
pub const RECEIVER_V6: std::net::Ipv6Addr =
    std::net::Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

/// The namespace that floods.
#[derive(Debug)]
pub struct Ground {
    sender: Namespace,
    /// Of the next site. A namespace's interfaces outlive it for a moment, so no name is used twice.
    next: Cell<usize>,
}

impl Ground {
    /// Creates it.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn prepare() -> Result<Self> {
        let sender = Namespace::named(format!("{PREFIX}flood"));
        sender.create()?;
        sender.configure("net/ipv6/conf/all/disable_ipv6", "1")?;
        sender.configure("net/ipv6/conf/default/disable_ipv6", "1")?;
        Ok(Self {
            sender,
            next: Cell::new(0),
        })
    }

    /// The namespace that floods.
    #[must_use]
    pub const fn sender(&self) -> &Namespace {
        &self.sender
    }

    /// Lays a wire with so many queues to a new namespace.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn site(&self, queues: usize) -> Result<Site> {
        let number = self.next.replace(self.next.get() + 1);
        let namespace = Namespace::named(format!("{PREFIX}{number}"));
        namespace.create()?;
        namespace.configure("net/ipv6/conf/default/accept_dad", "0")?;
        namespace.configure("net/ipv6/conf/default/router_solicitations", "0")?;
        let (near, far) = (format!("f{number}"), format!("b{number}"));
        let ends = format!("numtxqueues {queues} numrxqueues {queues}");
        self.sender.ip(&format!(
            "link add {near} address {sender} {ends} type veth \
             peer name {far} address {receiver} {ends} netns {namespace}\n\
             link set {near} up\n",
            sender = colons(SENDER_MAC),
            receiver = colons(RECEIVER_MAC),
            namespace = namespace.name(),
        ))?;
        // Answers to the flood go nowhere, at once.
        namespace.ip(&format!(
            "link set {far} up\n\
             address add {RECEIVER_V4}/24 dev {far}\n\
             address add {RECEIVER_V6}/64 dev {far} nodad\n\
             route add blackhole 10.0.0.0/8\n\
             route add blackhole 2001:db8::/32\n"
        ))?;
        // Frames are only taken by an interface that polls, and that is what this switches on.
        for (side, interface) in [(&self.sender, &near), (&namespace, &far)] {
            command::run(side.command("ethtool").args(["-K", interface, "gro", "on"]))?;
        }
        let index = self
            .sender
            .inside(|| nix::net::if_::if_nametoindex(near.as_str()))??;
        let counters = Counters::open(&namespace, &far)?;
        Ok(Site {
            namespace,
            interface: far,
            port: index,
            counters,
            queues,
        })
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Err(error) = self.sender.remove() {
            eprintln!("error: {error:#}");
        }
    }
}

/// A variant's namespace, removed when dropped.
#[derive(Debug)]
pub struct Site {
    /// Where the variant is set up.
    pub namespace: Namespace,
    /// Its interface in there.
    pub interface: String,
    /// The index of the other end, in the namespace that floods.
    pub port: u32,
    counters: Counters,
    queues: usize,
}

impl Site {
    /// Gives the polling of all queues to kernel threads on one CPU.
    ///
    /// # Errors
    ///
    /// If the kernel has no threads for it (before Linux 5.12), or one cannot be pinned.
    pub fn poll_on(&self, cpu: usize) -> Result<Vec<PollThread>> {
        self.set_threaded(true)?;
        let threads = self.threads()?;
        if threads.len() != self.queues {
            bail!(
                "{} polls in {} threads, {} were expected",
                self.interface,
                threads.len(),
                self.queues
            );
        }
        // A queue that nobody sends to has a thread too, which is not to be forgotten somewhere.
        for thread in &threads {
            processor::work_on(thread.0, cpu)
                .with_context(|| format!("cannot place the polling thread {}", thread.0))?;
        }
        Ok(threads)
    }

    /// Gives polling back to whichever CPU a frame was sent on.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn poll_where_sent(&self) -> Result<()> {
        self.set_threaded(false)
    }

    fn set_threaded(&self, threaded: bool) -> Result<()> {
        let path = format!("/sys/class/net/{}/threaded", self.interface);
        let write = format!("echo {} > {path}", u8::from(threaded));
        // Unlike `nsenter`, this shows the namespace's own interfaces below /sys.
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", self.namespace.name(), "sh", "-c", &write]);
        command::run(&mut inside).map(drop)
    }

    /// The polling threads, by queue.
    fn threads(&self) -> Result<Vec<PollThread>> {
        let prefix = format!("napi/{}-", self.interface);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            // What ends in between is not what is looked for.
            let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let number = command.trim().strip_prefix(&prefix);
            if let Some(number) = number.and_then(|number| number.parse::<u32>().ok()) {
                found.push((number, PollThread(pid)));
            }
        }
        // Numbers are given in the order of queues, in either direction by kernel version.
        found.sort_by_key(|(number, _)| *number);
        Ok(found.into_iter().map(|(_, thread)| thread).collect())
    }

    /// What the interface has received: whatever its ring took, and what it had no room for.
    ///
    /// # Errors
    ///
    /// If the kernel's table cannot be read.
    pub fn received(&self) -> Result<Received> {
        self.counters.read()
    }

    /// What tells what the interface has received, apart from the site.
    ///
    /// # Errors
    ///
    /// If the kernel's table cannot be opened.
    pub fn counters(&self) -> Result<Counters> {
        Counters::open(&self.namespace, &self.interface)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Err(error) = self.namespace.remove() {
            eprintln!("error: {error:#}");
        }
    }
}

/// The kernel's table of an interface's counters.
#[derive(Debug)]
pub struct Counters {
    table: File,
    interface: String,
}

impl Counters {
    fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let table = namespace.inside(|| File::open("/proc/thread-self/net/dev"))?;
        Ok(Self {
            table: table.context("/proc/net/dev")?,
            interface: interface.to_owned(),
        })
    }

    /// What is counted by now.
    ///
    /// # Errors
    ///
    /// If the table cannot be read.
    pub fn read(&self) -> Result<Received> {
        let mut text = vec![0; TABLE_BYTES];
        let length = self.table.read_at(&mut text, 0)?;
        let text = String::from_utf8_lossy(&text[..length]);
        received_by(&text, &self.interface)
            .with_context(|| format!("no {} in /proc/net/dev", self.interface))
    }
}

/// Packets that came to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// That were handled.
    pub packets: u64,
    /// That found no room.
    pub refused: u64,
}

/// The interface's line of `/proc/net/dev`: its name, and received bytes, packets, errors, drops.
fn received_by(table: &str, interface: &str) -> Option<Received> {
    let line = table.lines().find_map(|line| {
        let (name, figures) = line.split_once(':')?;
        (name.trim() == interface).then_some(figures)
    })?;
    let mut figures = line.split_whitespace().map(str::parse);
    let packets = figures.nth(1)?.ok()?;
    let refused = figures.nth(1)?.ok()?;
    Some(Received { packets, refused })
}

/// A kernel thread that polls one queue.
#[derive(Clone, Copy, Debug)]
pub struct PollThread(i32);

impl PollThread {
    /// How long it has run.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn cpu_time(self) -> Result<Duration> {
        let path = format!("/proc/{}/schedstat", self.0);
        let text = fs::read_to_string(&path).context(path)?;
        let nanoseconds = text.split(' ').next().and_then(|field| field.parse().ok());
        nanoseconds
            .map(Duration::from_nanos)
            .context("no run time in schedstat")
    }
}

fn colons(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_one_interface_of_the_table() {
        let table = "Inter-|   Receive\n face |bytes\n    lo:  1 2 3 4 5\n   b1: 640 10 0 7 0 0\n\
                     b10: 1 1 1 1\n";
        assert_eq!(
            received_by(table, "b1"),
            Some(Received {
                packets: 10,
                refused: 7
            })
        );
        assert_eq!(received_by(table, "b2"), None);
    }
}
