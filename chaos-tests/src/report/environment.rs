//! What a run was made on.

use std::{fmt::Write as _, fs, process::Command};

use anyhow::Result;

use crate::{command, fleet::Timing};

/// Facts, with their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    facts: Vec<(&'static str, String)>,
}

impl Environment {
    /// This machine, as far as it can be told.
    #[must_use]
    pub fn here(seed: u64) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let model = processors
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, model)| model);
        let count = processors
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count();
        let date = command::run(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]));
        let timing = Timing::default();
        let load = read("/proc/loadavg");
        Self {
            facts: vec![
                ("date", date.unwrap_or_default().trim().to_owned()),
                (
                    "kernel",
                    read("/proc/sys/kernel/osrelease").trim().to_owned(),
                ),
                ("processors", format!("{count} × {model}")),
                (
                    "load when it began, over 1, 5 and 15 min",
                    load.split(' ').take(3).collect::<Vec<_>>().join(", "),
                ),
                (
                    "fleet",
                    format!(
                        "hosts in network namespaces, native XDP on veth, a ZooKeeper ensemble of three; tick {} ms, \
                         lease {} s, session {} s",
                        timing.tick.as_millis(),
                        timing.lease.as_secs(),
                        timing.session.as_secs()
                    ),
                ),
                ("first seed", seed.to_string()),
                ("Weir", env!("CARGO_PKG_VERSION").to_owned()),
                ("ZooKeeper", zookeeper()),
            ],
        }
    }

    pub(super) fn write(&self, text: &mut String) -> Result<()> {
        text.push_str("<table>\n");
        for (name, fact) in &self.facts {
            writeln!(text, "<tr><td class=\"aside\">{name}<td>{fact}</tr>")?;
        }
        text.push_str("</table>\n");
        Ok(())
    }
}

/// The version of the Debian package.
fn zookeeper() -> String {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${Version}", "zookeeper"]);
    command::run(&mut query).unwrap_or_else(|_| "unknown".to_owned())
}
