//! Counts that driver and stack keep.

use std::{fs::File, os::unix::fs::FileExt as _};

use anyhow::{Context as _, Result};

use crate::{command, namespace::Namespace};

/// Longer than either table.
const TABLE_BYTES: usize = 32 << 10;

/// Packets that an XDP program dropped at this interface.
pub(super) fn xdp_drops(namespace: &Namespace, interface: &str) -> Result<u64> {
    let mut ethtool = namespace.command("ethtool");
    let text = command::run(ethtool.args(["-S", interface]))?;
    sum_of(&text, "_xdp_drops").context("the driver counts no XDP drops: is it veth?")
}

/// Packets that reached the network layer of a namespace: whatever was not dropped before.
#[derive(Debug)]
pub(super) struct NetworkLayer {
    v4: File,
    v6: File,
}

impl NetworkLayer {
    pub(super) fn of(namespace: &Namespace) -> Result<Self> {
        let open = |name: &str| {
            let path = format!("/proc/thread-self/net/{name}");
            let file = namespace.inside(|| File::open(&path))?;
            file.with_context(|| path.clone())
        };
        Ok(Self {
            v4: open("snmp")?,
            v6: open("snmp6")?,
        })
    }

    pub(super) fn received(&self) -> Result<u64> {
        let v4 = received4(&text(&self.v4)?).context("no InReceives in /proc/net/snmp")?;
        let v6 = received6(&text(&self.v6)?).context("no Ip6InReceives in /proc/net/snmp6")?;
        Ok(v4 + v6)
    }
}

fn text(file: &File) -> Result<String> {
    let mut bytes = vec![0; TABLE_BYTES];
    let mut length = 0;
    // The kernel gives such tables in pieces.
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], length as u64)? {
            0 => break,
            more => length += more,
        }
    }
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

/// A line of names, and a line of values in the same order.
fn received4(table: &str) -> Option<u64> {
    let mut lines = table.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut columns = names.split(' ').zip(values.split(' '));
    let (_, value) = columns.find(|(name, _)| *name == "InReceives")?;
    value.parse().ok()
}

/// A name and a value a line.
fn received6(table: &str) -> Option<u64> {
    let mut lines = table.lines().map(str::split_whitespace);
    let mut line = lines.find(|line| line.clone().next() == Some("Ip6InReceives"))?;
    line.nth(1)?.parse().ok()
}

/// The sum of the statistics whose names end like this; `None` if there is none.
fn sum_of(statistics: &str, ending: &str) -> Option<u64> {
    let mut sum = None;
    for line in statistics.lines() {
        let Some((name, value)) = line.split_once(": ") else {
            continue;
        };
        if name.ends_with(ending) {
            *sum.get_or_insert(0) += value.trim().parse::<u64>().ok()?;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_queues() {
        let text = "NIC statistics:\n     peer_ifindex: 5\n     rx_queue_0_xdp_drops: 40\n     \
                    rx_queue_1_xdp_drops: 2\n";
        assert_eq!(sum_of(text, "_xdp_drops"), Some(42));
        assert_eq!(sum_of(text, "_none"), None);
    }

    #[test]
    fn reads_what_reached_the_network_layer() {
        let v4 = "Ip: Forwarding InReceives InHdrErrors\nIp: 1 77 0\nIcmp: InMsgs\nIcmp: 3\n";
        assert_eq!(received4(v4), Some(77));
        assert_eq!(received4("Icmp: InMsgs\nIcmp: 3\n"), None);
        assert_eq!(
            received6("Ip6InReceives    \t5\nIp6InHdrErrors 1\n"),
            Some(5)
        );
        assert_eq!(received6("Ip6InHdrErrors 1\n"), None);
    }
}
