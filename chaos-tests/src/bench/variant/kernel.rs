//! Counts that drivers keep.

use anyhow::{Context as _, Result};

use crate::{command, namespace::Namespace};

/// Packets that an XDP program dropped at this interface.
pub(super) fn xdp_drops(namespace: &Namespace, interface: &str) -> Result<u64> {
    let mut ethtool = namespace.command("ethtool");
    let text = command::run(ethtool.args(["-S", interface]))?;
    sum_of(&text, "_xdp_drops").context("the driver counts no XDP drops: is it veth?")
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
}
