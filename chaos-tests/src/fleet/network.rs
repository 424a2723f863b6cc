//! What is wrong with the control network: nftables rules in the router, which every message between
//! hosts and ZooKeeper servers passes.
//!
//! All rules are replaced at once, so that no instant is without the old ones and the new. Test
//! traffic comes from elsewhere than the control plane's addresses, and no rule matches it.

use std::{net::Ipv4Addr, process::Command};

use anyhow::{Context as _, Result};

use crate::{command, namespace::Namespace};

/// The table that holds them.
const TABLE: &str = "weir-faults";

/// Something that happens to packets from any of `from` to any of `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disturbance {
    /// Source addresses.
    pub from: Vec<Ipv4Addr>,
    /// Destination addresses.
    pub to: Vec<Ipv4Addr>,
    /// What happens.
    pub how: How,
}

/// Kinds of disturbances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// So many percent of the packets are lost.
    Lose(u8),
    /// So many percent of the packets arrive twice.
    Repeat(u8),
    /// So many per ten thousand of the TCP segments end their connection.
    Reset(u16),
}

/// The disturbances of one fleet's control network.
#[derive(Debug)]
pub struct Network {
    router: Namespace,
    disturbances: Vec<(usize, Disturbance)>,
    next: usize,
}

impl Network {
    /// A network without disturbances.
    #[must_use]
    pub const fn of(router: Namespace) -> Self {
        Self {
            router,
            disturbances: Vec::new(),
            next: 0,
        }
    }

    /// Adds disturbances, and returns the ticket by which they are taken away again.
    ///
    /// # Errors
    ///
    /// If nftables refuses them.
    pub fn disturb(&mut self, disturbances: Vec<Disturbance>) -> Result<usize> {
        let ticket = self.next;
        self.next += 1;
        let new = disturbances.into_iter().map(|new| (ticket, new));
        self.disturbances.extend(new);
        self.apply()?;
        Ok(ticket)
    }

    /// Takes the disturbances of a ticket away.
    ///
    /// # Errors
    ///
    /// If nftables fails.
    pub fn heal(&mut self, ticket: usize) -> Result<()> {
        self.disturbances.retain(|(other, _)| *other != ticket);
        self.apply()
    }

    fn apply(&self) -> Result<()> {
        let text = rules(self.disturbances.iter().map(|(_, disturbance)| disturbance));
        let mut nft = Command::new("nsenter");
        nft.arg(format!("--net={}", self.router.path().display()))
            .args(["--", "nft", "-f", "-"]);
        command::run_with_input(&mut nft, &text)
            .map(drop)
            .with_context(|| format!("nftables refuses\n{text}"))
    }
}

/// The whole table, in nftables' language. Losses come last: what is lost is neither repeated nor
/// answered with a reset.
fn rules<'a>(disturbances: impl Iterator<Item = &'a Disturbance>) -> String {
    let mut text = format!(
        "table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n chain disturb {{\n  \
         type filter hook forward priority 0;\n"
    );
    let mut all: Vec<&Disturbance> = disturbances.collect();
    all.sort_by_key(|disturbance| match disturbance.how {
        How::Lose(_) => 0,
        How::Reset(_) => 1,
        How::Repeat(_) => 2,
    });
    for Disturbance { from, to, how } in all {
        let from = set(from);
        match how {
            How::Lose(percent) => {
                let share = share(u16::from(*percent), 100);
                text.push_str(&format!(
                    "  ip saddr {from} ip daddr {} {share}drop\n",
                    set(to)
                ));
            }
            How::Reset(part) => {
                let share = share(*part, 10_000);
                text.push_str(&format!(
                    "  ip saddr {from} ip daddr {} meta l4proto tcp {share}reject with tcp reset\n",
                    set(to)
                ));
            }
            // The copy needs to be told where it goes.
            How::Repeat(percent) => {
                for one in to {
                    let share = share(u16::from(*percent), 100);
                    text.push_str(&format!(
                        "  ip saddr {from} ip daddr {one} {share}dup to {one}\n"
                    ));
                }
            }
        }
    }
    text.push_str(" }\n}\n");
    text
}

fn set(addresses: &[Ipv4Addr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(Ipv4Addr::to_string).collect();
    format!("{{ {} }}", addresses.join(", "))
}

/// A match of a part of the packets, at random; nothing for all of them.
fn share(part: u16, whole: u16) -> String {
    if part >= whole {
        return String::new();
    }
    format!("numgen random mod {whole} < {part} ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table_is_written_each_time() {
        let (a, b) = (Ipv4Addr::new(198, 18, 1, 1), Ipv4Addr::new(198, 18, 2, 1));
        let disturbance = |how| Disturbance {
            from: vec![a],
            to: vec![a, b],
            how,
        };
        let all = [How::Repeat(5), How::Lose(100), How::Lose(20)].map(disturbance);
        let text = rules(all.iter());
        let head = "table ip weir-faults\ndelete table ip weir-faults\n";
        assert!(text.starts_with(head), "{text}");
        let lines: Vec<&str> = text.lines().skip(5).map(str::trim).collect();
        assert_eq!(
            lines[..4],
            [
                "ip saddr { 198.18.1.1 } ip daddr { 198.18.1.1, 198.18.2.1 } drop",
                "ip saddr { 198.18.1.1 } ip daddr { 198.18.1.1, 198.18.2.1 } numgen random mod 100 < 20 drop",
                "ip saddr { 198.18.1.1 } ip daddr 198.18.1.1 numgen random mod 100 < 5 dup to 198.18.1.1",
                "ip saddr { 198.18.1.1 } ip daddr 198.18.2.1 numgen random mod 100 < 5 dup to 198.18.2.1",
            ]
        );
    }
}
