//! How much a node could use of a limit, from its cumulative counters.

use core::time::Duration;

use weir_model::{Nanos, Scale, UnitsPerSecond, amount::Amount, message::LimitReport};

/// With fewer tokens than this in a tick, a rate read off that tick alone is mostly noise, so it is
/// averaged over some ticks; above, it is taken as it is, which follows a shift at once.
const SIGNIFICANT_TOKENS: u64 = 16;
/// The weight of the newest tick in the average is one in this many.
const AVERAGED_TICKS: u64 = 8;
/// A node that had to drop is taken to want a quarter more than it holds, since traffic that backs
/// off hides its demand; repeated each tick, this doubles in about three.
const PROBE_DIVISOR: u64 = 4;
/// Counters that are off by less than this part of what arrives between two reports are as expected.
const BAND_DIVISOR: u64 = 64;
/// And by so many tokens.
const FEW_TOKENS: u64 = 2;

/// Follows one node's use of one limit.
#[derive(Clone, Debug, Default, Hash)]
pub struct Meter {
    last: Option<Reading>,
    /// Whether `rates` are those between two readings: after one nothing can be expected.
    is_measured: bool,
    /// How often counters went back.
    restarts: u32,
    rates: Rates,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Reading {
    at: Nanos,
    offered: u64,
    admitted: u64,
    dropped: u64,
}

/// Rates between the two latest reports, in units per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rates {
    /// What arrived.
    pub offered: UnitsPerSecond,
    /// What passed.
    pub admitted: UnitsPerSecond,
    /// What this limit dropped.
    pub dropped: UnitsPerSecond,
    /// What the node is taken to want.
    pub demand: UnitsPerSecond,
}

impl Meter {
    /// Takes the counters of a report made at `at` on the node's clock. A report that is no newer
    /// than the last is ignored; counters that went back (the host rebooted) start over.
    pub fn observe(&mut self, at: Nanos, report: &LimitReport, scale: Scale) {
        self.observe_after(None, at, report, scale);
    }

    /// As [`Meter::observe`], where reports leave out what went on [as expected](Self::expects):
    /// `quiet` is when the latest such report was made, after the last that this meter was shown.
    /// What is new then happened since that one; or, if it is little, it has added up since.
    pub fn observe_after(
        &mut self,
        quiet: Option<Nanos>,
        at: Nanos,
        report: &LimitReport,
        scale: Scale,
    ) {
        let now = Reading {
            at,
            offered: report.offered,
            admitted: report.admitted,
            dropped: report.dropped,
        };
        let Some(last) = self.last.replace(now) else {
            // Nothing is known yet but what it holds: to take that away would be a guess.
            self.rates.demand = report.held.rate;
            return;
        };
        let restarted = now.offered < last.offered || now.admitted < last.admitted;
        if restarted {
            self.is_measured = false;
            self.restarts = self.restarts.saturating_add(1);
            return;
        }
        if now.at <= last.at {
            self.last = Some(last);
            return;
        }
        let last = quiet
            .filter(|quiet| self.is_measured && last.at < *quiet && *quiet < now.at)
            .map(|quiet| self.expected(last, quiet, scale))
            .filter(|expected| {
                let rest = self.expected(*expected, now.at, scale);
                let band = self.band(now.at - expected.at, scale);
                // Who expects more than was counted since has missed something.
                expected.offered <= now.offered.saturating_add(band)
                    && !now.is_within(rest, band.saturating_mul(2))
            })
            .unwrap_or(last);
        let elapsed = now.at - last.at;
        let rate = |from: u64, to: u64| measured(to.saturating_sub(from), elapsed, scale);
        let offered = rate(last.offered, now.offered);
        let dropped = rate(last.dropped, now.dropped);
        self.is_measured = true;
        // Less than expected may have arrived.
        let arrived = now.offered.saturating_sub(last.offered);
        let significant = arrived >= SIGNIFICANT_TOKENS
            || self.expected_tokens(elapsed, scale) >= SIGNIFICANT_TOKENS;
        let steady = if significant {
            offered
        } else {
            // A rate over several reports that said nothing has their weight: what was known before
            // this meter missed something does not stay in it.
            let since = quiet.filter(|quiet| last.at < *quiet && *quiet < now.at);
            let reports = since.map_or(1, |quiet| {
                let reports = elapsed.as_nanos() / (now.at - quiet).as_nanos();
                u64::try_from(reports).unwrap_or(AVERAGED_TICKS)
            });
            self.averaged(offered, reports.clamp(1, AVERAGED_TICKS))
        };
        self.rates = Rates {
            offered: steady,
            admitted: rate(last.admitted, now.admitted),
            dropped,
            demand: if dropped.0 > 0 {
                steady.max(probe(report.held))
            } else {
                steady
            },
        };
    }

    /// The rates between the two latest reports. Before there are two, only a demand for what the
    /// node holds.
    #[must_use]
    pub const fn rates(&self) -> Rates {
        self.rates
    }

    /// Whether counters at `at`, `elapsed` after the report before, are what the last known rates
    /// lead to: whoever leaves them out keeps this meter from an error beyond a sixty-fourth of what
    /// arrives in that time, and a few tokens. `false` if nothing is known.
    #[must_use]
    pub fn expects(
        &self,
        at: Nanos,
        elapsed: Duration,
        report: &LimitReport,
        scale: Scale,
    ) -> bool {
        self.is_measured
            && self.last.is_some_and(|last| {
                let now = Reading {
                    at,
                    offered: report.offered,
                    admitted: report.admitted,
                    dropped: report.dropped,
                };
                last.at < at
                    && now.offered >= last.offered
                    && now.admitted >= last.admitted
                    && now.is_within(self.expected(last, at, scale), self.band(elapsed, scale))
            })
    }

    /// How often counters went back: as often what is counted has begun anew.
    #[must_use]
    pub const fn restarts(&self) -> u32 {
        self.restarts
    }

    /// When it was last shown counters.
    #[must_use]
    pub fn last_at(&self) -> Option<Nanos> {
        self.last.map(|last| last.at)
    }

    /// What was offered and admitted up to `at`, in tokens, as far as that is known: beyond the last
    /// counters by the last known rates. `None` if nothing is known.
    #[must_use]
    pub fn counted_until(&self, at: Nanos, scale: Scale) -> Option<(u64, u64)> {
        let last = self.last?;
        let known = if last.at < at {
            self.expected(last, at, scale)
        } else {
            last
        };
        Some((known.offered, known.admitted))
    }

    /// The counters that the last known rates lead to.
    fn expected(&self, last: Reading, at: Nanos, scale: Scale) -> Reading {
        let elapsed = at - last.at;
        let more = |rate| tokens_in(rate, elapsed, scale);
        Reading {
            at,
            offered: last.offered.saturating_add(more(self.rates.offered)),
            admitted: last.admitted.saturating_add(more(self.rates.admitted)),
            dropped: last.dropped.saturating_add(more(self.rates.dropped)),
        }
    }

    /// By how many tokens counters may differ from what is expected of them.
    fn band(&self, elapsed: Duration, scale: Scale) -> u64 {
        self.expected_tokens(elapsed, scale) / BAND_DIVISOR + FEW_TOKENS
    }

    /// How many tokens the last known rate would bring in `elapsed`.
    fn expected_tokens(&self, elapsed: Duration, scale: Scale) -> u64 {
        tokens_in(self.rates.offered, elapsed, scale)
    }

    fn averaged(&self, offered: UnitsPerSecond, reports: u64) -> UnitsPerSecond {
        let before = self.rates.offered.0;
        let parts = |rate: u64| rate / AVERAGED_TICKS * reports;
        let rest = before.saturating_sub(before.div_ceil(AVERAGED_TICKS).saturating_mul(reports));
        UnitsPerSecond(if reports == AVERAGED_TICKS {
            offered.0
        } else {
            rest + parts(offered.0)
        })
    }
}

impl Reading {
    fn is_within(&self, other: Self, band: u64) -> bool {
        self.offered.abs_diff(other.offered) <= band
            && self.admitted.abs_diff(other.admitted) <= band
            && self.dropped.abs_diff(other.dropped) <= band
    }
}

fn tokens_in(rate: UnitsPerSecond, elapsed: Duration, scale: Scale) -> u64 {
    let units = divided(u128::from(rate.0) * elapsed.as_nanos(), NANOS_PER_SECOND);
    u64::try_from(units >> scale.fraction_bits).unwrap_or(u64::MAX)
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// A quotient, 0 by nothing. Nearly all fit the processor's own division, which is many times faster.
fn divided(dividend: u128, divisor: u128) -> u128 {
    match (u64::try_from(dividend), u64::try_from(divisor)) {
        (Ok(dividend), Ok(divisor)) => dividend.checked_div(divisor).unwrap_or(0).into(),
        _ => dividend.checked_div(divisor).unwrap_or(0),
    }
}

/// A rate as it was counted, saturating. Unlike a grant's it has no bound: a flood is as large as it
/// is. A product that saturates is above the largest rate after any time.
fn measured(tokens: u64, elapsed: Duration, scale: Scale) -> UnitsPerSecond {
    let units = u128::from(tokens) << scale.fraction_bits;
    let per_second = divided(units.saturating_mul(NANOS_PER_SECOND), elapsed.as_nanos());
    UnitsPerSecond(u64::try_from(per_second).unwrap_or(u64::MAX))
}

fn probe(held: Amount) -> UnitsPerSecond {
    let more = held.rate.0.saturating_add(held.rate.0 / PROBE_DIVISOR);
    UnitsPerSecond(more.min(UnitsPerSecond::MAX.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: Scale = Scale { fraction_bits: 10 };

    fn report(offered: u64, admitted: u64, held: u64) -> LimitReport {
        LimitReport {
            offered,
            admitted,
            dropped: offered - admitted,
            held: Amount {
                rate: UnitsPerSecond(held << 10),
                ..Amount::ZERO
            },
            ..LimitReport::default()
        }
    }

    const fn ms(ms: u64) -> Nanos {
        Nanos(ms * 1_000_000)
    }

    #[test]
    fn a_large_shift_is_followed_in_one_tick() {
        let mut meter = Meter::default();
        meter.observe(ms(0), &report(0, 0, 0), SCALE);
        meter.observe(ms(100), &report(9_000, 9_000, 0), SCALE);
        assert_eq!(meter.rates().demand.0 >> 10, 90_000);
        meter.observe(ms(200), &report(9_000, 9_000, 0), SCALE);
        assert_eq!(meter.rates().demand.0, 0);
    }

    #[test]
    fn a_trickle_is_averaged() {
        let mut meter = Meter::default();
        meter.observe(ms(0), &report(0, 0, 0), SCALE);
        for tick in 1..200_u64 {
            meter.observe(ms(tick * 100), &report(tick / 5, tick / 5, 0), SCALE);
        }
        let rate = meter.rates().demand.0 >> 10;
        assert!((1..=3).contains(&rate), "two a second, measured {rate}");
    }

    /// Two meters that know different things agree after one row that was left out for long.
    #[test]
    fn a_row_after_a_silence_replaces_what_was_known() {
        let (mut one, mut other) = (Meter::default(), Meter::default());
        one.observe(ms(0), &report(0, 0, 0), SCALE);
        other.observe(ms(0), &report(0, 0, 0), SCALE);
        for tick in 1..=8_u64 {
            one.observe(ms(tick * 100), &report(tick * 9, tick * 9, 0), SCALE);
        }
        other.observe(ms(800), &report(72, 72, 0), SCALE);
        let (last, now) = (report(75, 75, 0), ms(1_600));
        for meter in [&mut one, &mut other] {
            meter.observe_after(Some(ms(1_500)), now, &last, SCALE);
        }
        assert_eq!(one.rates(), other.rates());
        assert_eq!(one.rates().offered.0, 3_840, "3 in 0.8 s");
    }

    #[test]
    fn a_flood_above_every_grant_is_counted_as_it_is() {
        let fine = Scale { fraction_bits: 30 };
        let mut meter = Meter::default();
        meter.observe(ms(0), &report(0, 0, 0), fine);
        meter.observe(ms(100), &report(5_000_000, 0, 0), fine);
        assert_eq!(meter.rates().offered.0 >> 30, 50_000_000);
    }

    #[test]
    fn the_largest_counters_are_the_largest_rate() {
        let finest = Scale {
            fraction_bits: Scale::MAX_FRACTION_BITS,
        };
        let mut meter = Meter::default();
        meter.observe(ms(0), &report(0, 0, 0), finest);
        meter.observe(ms(100), &report(u64::MAX, 0, 0), finest);
        assert_eq!(meter.rates().offered.0, u64::MAX);
        let expected = meter.counted_until(Nanos::NEVER, finest).unwrap();
        assert_eq!(expected, (u64::MAX, 0));
    }

    #[test]
    fn drops_probe_upward() {
        let mut meter = Meter::default();
        meter.observe(ms(0), &report(0, 0, 1_000), SCALE);
        meter.observe(ms(100), &report(101, 100, 1_000), SCALE);
        assert_eq!(meter.rates().demand.0 >> 10, 1_250);
    }

    #[test]
    fn repeated_and_reset_reports_are_harmless() {
        let mut meter = Meter::default();
        meter.observe(ms(0), &report(0, 0, 0), SCALE);
        meter.observe(ms(100), &report(1_000, 1_000, 0), SCALE);
        let before = meter.rates();
        meter.observe(ms(100), &report(1_000, 1_000, 0), SCALE);
        meter.observe(ms(50), &report(1_000, 1_000, 0), SCALE);
        assert_eq!(meter.rates(), before);
        meter.observe(ms(200), &report(7, 7, 0), SCALE);
        assert_eq!(meter.rates(), before, "a reboot gives no rate");
        meter.observe(ms(300), &report(1_007, 1_007, 0), SCALE);
        assert_eq!(meter.rates().offered.0 >> 10, 10_000);
    }
}
