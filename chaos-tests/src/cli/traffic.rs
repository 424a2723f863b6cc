//! `fleet traffic`: a flood by hand.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::json;
use weir_chaos::{
    clock,
    fleet::plan::{LIMITED_PORT, SOURCES},
    interrupt::Interrupt,
    priority,
    stage::{Packets, Stage},
    traffic::SourcePool,
};

use super::fleet;

/// Time from the last packet to the last reading.
const DRAIN: Duration = Duration::from_millis(60);

#[derive(Debug, Args)]
pub(crate) struct Traffic {
    /// Which host
    #[arg(long)]
    to: String,
    /// Packets per second; k and M may follow
    #[arg(long, value_parser = rate)]
    rate: f64,
    /// For how long
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Prefix of the source addresses
    #[arg(long, default_value = SOURCES)]
    sources: SourcePool,
    /// UDP destination port
    #[arg(long, default_value_t = LIMITED_PORT)]
    port: u16,
    /// Bytes of a frame, without its check sequence
    #[arg(long, default_value_t = 60)]
    size: usize,
    /// The fleet's name
    #[arg(long, default_value = "lab")]
    name: String,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl Traffic {
    pub(crate) fn run(self, interrupt: &Interrupt) -> Result<bool> {
        let plan = fleet::find(&self.name)?.plan()?;
        let host = plan.hosts.iter().position(|site| site.name == self.to);
        let host = host.with_context(|| {
            let names: Vec<_> = plan.hosts.iter().map(|site| site.name.as_str()).collect();
            format!("no host '{}': there are {}", self.to, names.join(", "))
        })?;
        let packets = Packets {
            port: self.port,
            sources: self.sources,
            size: self.size,
        };
        priority::outrank_the_rest()?;
        let mut stage = Stage::set(&plan, &packets)?;
        let mut rates = vec![0.0; plan.hosts.len()];
        rates[host] = self.rate;
        let begin = clock::this_bin();
        let started = Instant::now();
        stage.shape(&rates);
        for second in 1..=self.seconds {
            let deadline = Duration::from_secs(second);
            // Interrupted, it still counts what was sent.
            let ended = clock::wait_for("a second", deadline * 2, interrupt, || {
                (started.elapsed() >= deadline).then_some(())
            });
            stage.read()?;
            let now = clock::this_bin();
            let last = now.saturating_sub(1_050)..now.saturating_sub(50);
            eprintln!(
                "{second:>4} s   offered {:>9.0}/s   admitted {:>9.0}/s",
                stage
                    .offered()
                    .map(|series| series.rate(last.clone()))
                    .sum::<f64>(),
                stage
                    .admitted()
                    .map(|series| series.rate(last.clone()))
                    .sum::<f64>(),
            );
            if ended.is_err() {
                break;
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        stage.shape(&vec![0.0; plan.hosts.len()]);
        std::thread::sleep(DRAIN);
        stage.read()?;
        let sent = stage.sent();
        let end = clock::this_bin();
        let offered: u64 = stage.offered().map(|series| series.sum(begin..end)).sum();
        let admitted: u64 = stage.admitted().map(|series| series.sum(begin..end)).sum();
        if self.json {
            let report = json!({
                "to": self.to, "rate": self.rate, "seconds": seconds,
                "sent": sent.packets, "refused": sent.refused,
                "skipped_ms": sent.skipped.as_millis(),
                "offered": offered, "admitted": admitted,
                "offered_rate": offered as f64 / seconds,
                "admitted_rate": admitted as f64 / seconds,
            });
            println!("{report}");
        } else {
            println!(
                "sent {} packets in {seconds:.1} s ({:.0}/s); {offered} reached the host, \
                 {admitted} came through its limiter",
                sent.packets,
                sent.packets as f64 / seconds,
            );
        }
        Ok(true)
    }
}

/// A number with an optional `k` or `M`.
fn rate(text: &str) -> Result<f64> {
    let (digits, factor) = match text.strip_suffix(['k', 'M']) {
        Some(digits) if text.ends_with('k') => (digits, 1e3),
        Some(digits) => (digits, 1e6),
        None => (text, 1.0),
    };
    let rate = digits.parse::<f64>()? * factor;
    if rate.is_finite() && rate >= 0.0 {
        return Ok(rate);
    }
    bail!("a rate is not negative and not infinite")
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn reads_rates() {
        assert_eq!(rate("90k").unwrap(), 90_000.0);
        assert_eq!(rate("1.5M").unwrap(), 1_500_000.0);
        assert_eq!(rate("7").unwrap(), 7.0);
        for text in ["", "k", "-1", "inf", "NaN", "3G"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
