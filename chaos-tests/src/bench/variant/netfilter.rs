//! What most hosts would use: nftables and iptables.

use anyhow::{Context as _, Result};

use super::{Allowance, Installed, TABLE_ENTRIES, kernel::NetworkLayer};
use crate::{
    bench::{
        flood::Family,
        frame::PORT,
        ground::{Counters, Site},
    },
    command,
    namespace::Namespace,
};

/// Buckets of hashlimit's table.
const HASHLIMIT_BUCKETS: u32 = TABLE_ENTRIES;
/// How long hashlimit keeps a source that sends nothing, and how often it looks: longer than a
/// benchmark, so that nothing is measured twice.
const HASHLIMIT_MEMORY_MS: u32 = 3_600_000;

/// A dynamic set at netdev ingress: the earliest place that nftables has.
///
/// What it dropped is what the interface received less what reached the network layer. Its own
/// counters would cost it time, and reading them lists every element of the set.
pub(super) struct Nft {
    passed: NetworkLayer,
    before: u64,
    received: Counters,
}

impl Nft {
    pub(super) fn set_up(site: &Site, family: Family, allowance: Allowance) -> Result<Self> {
        let (kind, source) = match family {
            Family::V4 => ("ipv4_addr", "ip saddr"),
            Family::V6 => ("ipv6_addr", "ip6 saddr"),
        };
        let ruleset = format!(
            "table netdev bench {{\n\
               set sources {{ type {kind}; size {TABLE_ENTRIES}; flags dynamic; }}\n\
               chain ingress {{\n\
                 type filter hook ingress device \"{interface}\" priority -500; policy accept;\n\
                 udp dport {PORT} add @sources {{ {source} limit rate over \
                   {packets}/{period} burst {burst} packets }} drop\n\
               }}\n\
             }}\n",
            interface = site.interface,
            packets = allowance.packets,
            period = if allowance.hourly { "hour" } else { "second" },
            burst = allowance.burst,
        );
        let mut nft = site.namespace.command("nft");
        command::run_with_input(nft.args(["-f", "-"]), &ruleset)?;
        let passed = NetworkLayer::of(&site.namespace)?;
        let received = site.counters()?;
        Ok(Self {
            before: received.read()?.packets.saturating_sub(passed.received()?),
            passed,
            received,
        })
    }
}

impl Installed for Nft {
    fn dropped(&mut self) -> Result<u64> {
        // What comes in between is received and not yet passed: read in the order that counts it
        // as neither.
        let received = self.received.read()?.packets;
        let passed = self.passed.received()?;
        Ok(received.saturating_sub(passed).saturating_sub(self.before))
    }
}

/// hashlimit in the raw table, before connection tracking.
pub(super) struct Hashlimit(Namespace);

impl Hashlimit {
    pub(super) fn set_up(site: &Site, allowance: Allowance) -> Result<Self> {
        let rule = format!(
            "-t raw -A PREROUTING -i {interface} -p udp --dport {PORT} -m hashlimit \
             --hashlimit-name bench --hashlimit-mode srcip --hashlimit-above {packets}/{period} \
             --hashlimit-burst {burst} --hashlimit-htable-size {HASHLIMIT_BUCKETS} \
             --hashlimit-htable-max {TABLE_ENTRIES} --hashlimit-htable-expire {HASHLIMIT_MEMORY_MS} \
             --hashlimit-htable-gcinterval {HASHLIMIT_MEMORY_MS} -j DROP",
            interface = site.interface,
            packets = allowance.packets,
            period = if allowance.hourly { "hour" } else { "sec" },
            burst = allowance.burst,
        );
        let mut iptables = site.namespace.command("iptables-legacy");
        command::run(iptables.args(rule.split_whitespace()))?;
        Ok(Self(site.namespace.clone()))
    }
}

impl Installed for Hashlimit {
    fn dropped(&mut self) -> Result<u64> {
        let mut iptables = self.0.command("iptables-legacy");
        let text = command::run(iptables.args("-t raw -S PREROUTING -v".split(' ')))?;
        counted_by(&text).with_context(|| format!("no counted rule in {text}"))
    }
}

/// `-A PREROUTING … -c PACKETS BYTES -j DROP`.
fn counted_by(rules: &str) -> Option<u64> {
    let rule = rules.lines().find(|line| line.contains("hashlimit"))?;
    let (_, counts) = rule.split_once(" -c ")?;
    counts.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_tools_print() {
        let rules =
            "-P PREROUTING ACCEPT -c 0 0\n-A PREROUTING -p udp -m hashlimit -c 34 2040 -j DROP\n";
        assert_eq!(counted_by(rules), Some(34));
        assert_eq!(counted_by("-P PREROUTING ACCEPT -c 0 0\n"), None);
    }
}
