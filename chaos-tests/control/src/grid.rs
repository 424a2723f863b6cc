//! All the rows that were asked for, each in a process of its own: what one has left in memory
//! would be counted in the next.

use std::{
    env,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    Arguments, NotCarried, Report, Transport,
    loopback::{self, Outcome},
    measure::{self, Plan, Row},
};

pub(crate) struct Grid {
    settings: Vec<(Plan, Transport)>,
    /// Set for the process of a single row, and read in it.
    is_alone: bool,
}

/// In the environment of a process that measures one row for another.
const ROW: &str = "WEIR_CONTROL_BENCH_ROW";

impl Grid {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let mut settings = Vec::new();
        for &nodes in &arguments.nodes {
            for &limits in &arguments.limits {
                for &changing in &arguments.changing {
                    for &transport in &arguments.transport {
                        let ticks = arguments.ticks;
                        let plan = Plan {
                            nodes,
                            limits,
                            changing,
                            ticks,
                        };
                        settings.push((plan, transport));
                    }
                }
            }
        }
        Self {
            settings,
            is_alone: env::var_os(ROW).is_some(),
        }
    }

    pub(crate) fn run(&self) -> Result<Report> {
        let mut report = Report::default();
        if let ([(plan, transport)], true) = (&self.settings[..], self.is_alone) {
            measure(plan, *transport, &mut report)?;
            return Ok(report);
        }
        eprintln!("{}", Row::HEADING);
        for (plan, transport) in &self.settings {
            let reason = (*transport == Transport::Grpc)
                .then(|| beyond(plan, &report.not_carried))
                .flatten();
            if let Some(smaller) = reason {
                eprintln!(
                    "grpc      {:>5} {:>6} {:>7}%  left out: {} nodes with {} limits, {} % changing, are too much already",
                    plan.nodes,
                    plan.limits,
                    plan.changing,
                    smaller.nodes,
                    smaller.limits,
                    smaller.changing,
                );
                continue;
            }
            let part = in_process(plan, *transport)?;
            report.rows.extend(part.rows);
            report.not_carried.extend(part.not_carried);
        }
        Ok(report)
    }
}

/// What two cores did not carry, and this is no less in anything.
fn beyond<'a>(plan: &Plan, not_carried: &'a [NotCarried]) -> Option<&'a NotCarried> {
    not_carried.iter().find(|other| {
        other.nodes <= plan.nodes && other.limits <= plan.limits && other.changing <= plan.changing
    })
}

fn measure(plan: &Plan, transport: Transport, report: &mut Report) -> Result<()> {
    let outcome = match transport {
        Transport::Simulated => Outcome::Measured(Box::new(measure::measure(plan)?)),
        Transport::Grpc => loopback::measure(plan)?,
    };
    let why = match outcome {
        Outcome::Measured(row) => {
            eprintln!("{row}");
            let why = row.shortfall.clone();
            report.rows.push(*row);
            why
        }
        Outcome::NeverBegan(why) => Some(why),
    };
    if let Some(why) = why {
        eprintln!(
            "          two cores do not carry {} nodes with {} limits, {} % changing: {why}",
            plan.nodes, plan.limits, plan.changing
        );
        report.not_carried.push(NotCarried {
            nodes: plan.nodes,
            limits: plan.limits,
            changing: plan.changing,
            why,
        });
    }
    Ok(())
}

fn in_process(plan: &Plan, transport: Transport) -> Result<Report> {
    let transport = match transport {
        Transport::Grpc => "grpc",
        Transport::Simulated => "simulated",
    };
    let output = Command::new(env::current_exe().context("cannot tell where this program is")?)
        .env(ROW, "1")
        .args(["--json", "--transport", transport])
        .args(["--nodes", &plan.nodes.to_string()])
        .args(["--limits", &plan.limits.to_string()])
        .args(["--changing", &plan.changing.to_string()])
        .args(["--ticks", &plan.ticks.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start the process of a row")?;
    if !output.status.success() {
        bail!("the process of a row ended with {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("the report of a row")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_tried_beyond_what_is_not_carried() {
        let plan = |nodes, limits, changing| Plan {
            nodes,
            limits,
            changing,
            ticks: 1,
        };
        let not_carried = [NotCarried {
            nodes: 100,
            limits: 1_000,
            changing: 10,
            why: String::new(),
        }];
        for smaller in [
            plan(100, 100, 100),
            plan(10, 1_000, 100),
            plan(1_000, 1_000, 0),
        ] {
            assert!(beyond(&smaller, &not_carried).is_none(), "{smaller:?}");
        }
        for larger in [plan(100, 1_000, 10), plan(1_000, 1_000, 10)] {
            assert!(beyond(&larger, &not_carried).is_some(), "{larger:?}");
        }
    }
}
