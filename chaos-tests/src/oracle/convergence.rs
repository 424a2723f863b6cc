//! How long the fleet took to follow.

use std::ops::Range;

use crate::series::{Bin, Series};

/// How close to its optimum a share has to be, as a part of the limit's rate.
pub const TOLERANCE: f64 = 0.05;
/// Ticks for which shares have to stay there.
const HOLD_TICKS: u64 = 3;
/// Part of its new rate at which a flow counts as moved.
const MOVED: f64 = 0.5;

/// One move of the traffic, as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Shift {
    /// When the generator was told.
    pub asked: Bin,
    /// Packets per second to each host before.
    pub before: Vec<f64>,
    /// Packets per second to each host from then on.
    pub after: Vec<f64>,
}

/// The first bin at or after the request in which the receiver sees the traffic moved: the host
/// whose rate changed most has crossed the middle between old and new. `None` if it never does
/// before `end`.
#[must_use]
pub fn shift_seen(shift: &Shift, offered: &[Series], end: Bin) -> Option<Bin> {
    let change = |host: &usize| (shift.after[*host] - shift.before[*host]).abs();
    let host = (0..offered.len()).max_by(|a, b| change(a).total_cmp(&change(b)))?;
    let (before, after) = (shift.before[host], shift.after[host]);
    let middle = before + (after - before) * MOVED;
    // A few bins smooth the generator's pace.
    (shift.asked..end).find(|&bin| {
        let rate = offered[host].rate(bin..bin + 4);
        if after > before {
            rate >= middle
        } else {
            rate <= middle
        }
    })
}

/// Ticks from `shift` until the share of every host is within [`TOLERANCE`] of `rate` of its
/// optimum, and stays so for three ticks more; `None` if that does not happen before `end`.
///
/// A share is what a host admits of what is [`possible`](super::possible()), scaled to the sum of
/// the optimum, over the tick-long window that follows, so smoothing adds no delay. `optimum` and
/// `rate` are in packets per second, `tick` in bins.
#[must_use]
pub fn convergence_ticks(
    admitted: &[Series],
    possible: &Series,
    optimum: &[f64],
    rate: f64,
    tick: u64,
    shift: Bin,
    end: Bin,
) -> Option<f64> {
    let whole: f64 = optimum.iter().sum();
    let settled = |bin: Bin| {
        let window = bin..bin + tick;
        let possible = possible.sum(window.clone()) as f64;
        let share = |host: &Series| whole * host.sum(window.clone()) as f64 / possible;
        let near =
            |(host, optimum): (&Series, &f64)| (share(host) - optimum).abs() <= TOLERANCE * rate;
        possible > 0.0 && admitted.iter().zip(optimum).all(near)
    };
    first_run(shift..end.saturating_sub(tick), HOLD_TICKS * tick, settled)
        .map(|bin| (bin - shift) as f64 / tick as f64)
}

/// Bins from `from` to the first moment from which the budget is fully in use: of every stretch that
/// begins there, lasts a tick or more, and ends by `end`, at least the part `wanted` of what is
/// [`possible`](super::possible()) is admitted. `None` if that moment does not come at least three
/// ticks before `end`.
///
/// So a later hole is forgiven if it is small against the time since that moment, and only then.
#[must_use]
pub fn recovery_bins(
    admitted: &Series,
    possible: &Series,
    wanted: f64,
    tick: u64,
    from: Bin,
    end: Bin,
) -> Option<u64> {
    let tick = usize::try_from(tick).ok()?;
    // How far ahead of `wanted` a stretch from `from` to each bin is.
    let mut ahead = vec![0.0];
    for bin in from..end {
        let gain = f64::from(admitted.at(bin)) - wanted * f64::from(possible.at(bin));
        ahead.push(ahead.last().copied().unwrap_or(0.0) + gain);
    }
    // The lowest that it will be, from each bin on.
    let mut lowest = ahead.clone();
    for index in (0..lowest.len().saturating_sub(1)).rev() {
        lowest[index] = lowest[index].min(lowest[index + 1]);
    }
    let last = ahead
        .len()
        .checked_sub(1 + (1 + HOLD_TICKS as usize) * tick)?;
    let recovered = (0..=last).find(|&index| lowest[index + tick] >= ahead[index])?;
    Some(recovered as u64)
}

/// The first bin of a range that begins a run of `length` bins which all satisfy the condition.
fn first_run(bins: Range<Bin>, length: u64, condition: impl Fn(Bin) -> bool) -> Option<Bin> {
    let mut begun = None;
    for bin in bins {
        match (condition(bin), begun) {
            (false, _) => begun = None,
            (true, None) => begun = Some(bin),
            (true, Some(first)) if bin - first >= length => return begun,
            (true, Some(_)) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f64 = 30_000.0;
    const TICK: u64 = 100;

    /// 30 packets a bin that move from the first host to the second at `moved`.
    fn handover(moved: usize) -> [Series; 2] {
        let part = |packets: [u32; 2]| {
            let mut counts = vec![packets[0]; 2_000];
            counts[moved..].fill(packets[1]);
            Series::new(0, counts)
        };
        [part([30, 0]), part([0, 30])]
    }

    fn full(length: usize) -> Series {
        Series::new(0, vec![30; length])
    }

    fn ticks(admitted: &[Series], shift: Bin) -> Option<f64> {
        convergence_ticks(
            admitted,
            &full(2_000),
            &[0.0, RATE],
            RATE,
            TICK,
            shift,
            2_000,
        )
    }

    #[test]
    fn counts_ticks_from_the_shift() {
        // The window that follows may hold 5 % of the old division.
        let measured = ticks(&handover(750), 500).unwrap();
        assert!((2.4..=2.5).contains(&measured), "{measured}");
        assert_eq!(ticks(&handover(400), 500), Some(0.0));
    }

    #[test]
    fn never_reached_is_none() {
        assert_eq!(ticks(&handover(2_000), 500), None);
        // Reached, but too late to hold for three ticks.
        assert_eq!(ticks(&handover(1_700), 500), None);
    }

    #[test]
    fn a_share_that_leaves_again_does_not_count() {
        let mut hosts = handover(700);
        let counts = (0..2_000).map(|bin| match bin {
            700..850 | 1_000.. => 30,
            _ => 0,
        });
        hosts[1] = Series::new(0, counts.collect());
        let measured = ticks(&hosts, 500).unwrap();
        assert!((4.9..=5.0).contains(&measured), "{measured}");
    }

    #[test]
    fn a_stall_of_everything_is_nobodys_fault() {
        let mut counts = vec![30; 2_000];
        counts[600..650].fill(0);
        let stalled = Series::new(0, counts);
        let nothing = Series::new(0, vec![0; 2_000]);
        let hosts = [nothing, stalled.clone()];
        let optimum = [0.0, RATE];
        let ticks =
            |possible| convergence_ticks(&hosts, possible, &optimum, RATE, TICK, 500, 2_000);
        assert_eq!(ticks(&stalled), Some(0.0));
        assert!(ticks(&full(2_000)).unwrap() > 1.0);
        let recovery = |possible| recovery_bins(&stalled, possible, 0.97, TICK, 500, 2_000);
        assert_eq!(recovery(&stalled), Some(0));
        assert!(recovery(&full(2_000)).unwrap() > 100);
    }

    #[test]
    fn sees_the_shift_in_what_is_offered() {
        let shift = Shift {
            asked: 500,
            before: vec![RATE, 0.0],
            after: vec![0.0, RATE],
        };
        let seen = shift_seen(&shift, &handover(520), 2_000).unwrap();
        assert!((517..=520).contains(&seen), "{seen}");
        assert_eq!(shift_seen(&shift, &handover(2_000), 2_000), None);
    }

    #[test]
    fn recovery_is_the_end_of_the_last_dip() {
        let mut counts = vec![30; 3_000];
        counts[1_100..1_300].fill(10);
        counts[1_500..1_600].fill(20);
        let admitted = Series::new(0, counts);
        let possible = full(3_000);
        let recovery = |from, end| recovery_bins(&admitted, &possible, 0.97, TICK, from, end);
        // At the first moments after a dip, 3 % of a tick may still be missing.
        let measured = recovery(1_000, 3_000).unwrap();
        assert!((580..=600).contains(&measured), "{measured}");
        assert_eq!(recovery(2_000, 3_000), Some(0));
        assert_eq!(recovery(1_000, 1_700), None);
        assert_eq!(recovery(1_000, 1_001), None);
    }

    #[test]
    fn a_late_dip_counts_and_a_hole_does_not() {
        let recovery = |hole: std::ops::Range<usize>| {
            let mut counts = vec![30; 4_000];
            counts[hole].fill(5);
            let admitted = Series::new(0, counts);
            recovery_bins(&admitted, &full(4_000), 0.97, TICK, 0, 4_000)
        };
        assert_eq!(recovery(1_800..1_810), Some(0));
        let measured = recovery(1_800..2_200).unwrap();
        assert!((2_180..=2_200).contains(&measured), "{measured}");
    }
}
