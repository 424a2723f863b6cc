//! What a limiter lets through when one source comes from one CPU, or from two at once: counted
//! behind it, against what it was told to let through.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{
    flood::{FULL_SHARE, Family, Flood, Generator},
    ground::{Ground, QUEUES},
    method::Method,
    processor::Ahead,
    row::rounded,
    variant::{self, Allowance, Tools, Variant, Weir},
};
use crate::interrupt::Interrupt;

/// A rate that packets can be counted at, and that the flood is a hundred times of.
pub const ALLOWANCE: Allowance = Allowance {
    packets: 100_000,
    hourly: false,
    burst: 1_000,
};
/// Time until the burst is spent.
const SETTLE: Duration = Duration::from_millis(100);

/// One limiter with one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccuracyRow {
    /// The variant's name.
    pub variant: String,
    /// CPUs that the source's packets came on.
    pub cpus: usize,
    /// Packets sent, in millions per second.
    pub offered_mpps: f64,
    /// Packets behind the limiter, for each that it was told to let through.
    pub admitted_over_allowed: f64,
}

/// Measures Weir's limits, and XDP limiters that store without compare-and-swap.
///
/// # Errors
///
/// If a variant cannot be set up, or the user interrupts.
pub fn measure(
    ground: &Ground,
    generator: &mut Generator,
    tools: &Tools<'_>,
    window: Duration,
    interrupt: &Interrupt,
) -> Result<Vec<AccuracyRow>> {
    let tools = Tools {
        allowance: ALLOWANCE,
        ..*tools
    };
    let flood = Flood {
        family: Family::V4,
        sources: 1,
        share: FULL_SHARE,
    };
    let variants = [
        Variant::Weir(Weir::KEYED),
        Variant::Weir(Weir::AGGREGATE),
        Variant::XdpLru,
        Variant::XdpAggregate,
    ];
    let mut rows = Vec::new();
    for variant in variants {
        interrupt.check()?;
        let site = ground.site(QUEUES)?;
        let _installed = variant.install(&site, Family::V4, &tools)?;
        let mut behind = variant::count_behind(&site)?;
        site.poll_where_sent()?;
        let ahead = Ahead::of_everything()?;
        for method in [Method::Inline, Method::InlineTwo] {
            let row = generator.during(&site, &flood, method.flooding(), &ahead, |running| {
                thread::sleep(SETTLE);
                let (begun, sent, admitted) = (Instant::now(), running.sent()?, behind.dropped()?);
                thread::sleep(window);
                let (seconds, sent, admitted) = (
                    begun.elapsed().as_secs_f64(),
                    running.sent()? - sent,
                    behind.dropped()? - admitted,
                );
                let allowed = f64::from(ALLOWANCE.packets) * seconds;
                Ok(AccuracyRow {
                    variant: variant.name(),
                    cpus: method.cpus(),
                    offered_mpps: rounded(sent as f64 / seconds / 1e6),
                    // Four digits: the bars are within hundredths.
                    admitted_over_allowed: (admitted as f64 / allowed * 1e4).round() / 1e4,
                })
            });
            rows.push(row.with_context(|| variant.name())?);
        }
    }
    Ok(rows)
}
