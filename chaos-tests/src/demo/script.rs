//! What the demonstration does, by how long it may take. Pure.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::{
    fleet::Timing,
    stage::{Fault, Script, Who},
};

/// Nothing that shows all parts takes less.
pub const SHORTEST: Duration = Duration::from_secs(16);

/// Least time for each of the first three shapes, long enough to be looked at.
const OPENING: Duration = Duration::from_secs(2);
/// Time for each further move: settling, holding, and a stretch to be judged by.
const MOVE: Duration = Duration::from_millis(1_500);
/// From the beginning of the last shape to the leader's death.
const BEFORE_KILL: Duration = Duration::from_secs(2);
/// As an init system would restart it.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// From full use of the budget to the end, to be judged by.
const AFTER_RECOVERY: Duration = Duration::from_millis(2_500);

/// All to the first host, all to the second, a skewed split, more moves as time allows, and a
/// leader killed while all hosts are flooded evenly. `rate` is offered to the whole fleet.
pub(super) fn write(hosts: usize, rate: f64, length: Duration, timing: &Timing) -> Result<Script> {
    if length < SHORTEST {
        bail!("a demonstration takes at least {} s", SHORTEST.as_secs());
    }
    let opening = OPENING.max(length / 9);
    let finale = BEFORE_KILL + timing.recovery() + AFTER_RECOVERY;
    let mut script = Script::default();
    for split in [alone(hosts, 0), alone(hosts, 1), skewed(hosts, 0)] {
        script = phase(script, split, rate, opening);
    }
    let mut splits = (0..).map(|turn: usize| match turn % 4 {
        0 => alone(hosts, 2 + turn / 4),
        1 => skewed(hosts, 1 + turn / 4),
        2 => alone(hosts, turn / 4),
        _ => skewed(hosts, 2 + turn / 4),
    });
    while script.length + MOVE + finale <= length {
        script = phase(
            script,
            splits.next().unwrap_or_else(|| even(hosts)),
            rate,
            MOVE,
        );
    }
    let begin = script.length;
    let script = phase(script, even(hosts), rate, length - begin);
    let killed = Fault::Killed(Who::Leader);
    Ok(script.fault(begin + BEFORE_KILL, RESTART_AFTER, killed))
}

fn phase(script: Script, split: Vec<f64>, rate: f64, length: Duration) -> Script {
    let percent: Vec<String> = split
        .iter()
        .map(|part| format!("{:.0}", part * 100.0))
        .collect();
    let rates = split.iter().map(|part| part * rate).collect();
    script.phase(&percent.join("/"), rates, length)
}

fn alone(hosts: usize, host: usize) -> Vec<f64> {
    let mut split = vec![0.0; hosts];
    split[host % hosts] = 1.0;
    split
}

fn even(hosts: usize) -> Vec<f64> {
    vec![1.0 / hosts as f64; hosts]
}

/// 70, 20 and 10 % (fewer hosts: what is left goes to the last), from the host `first` on.
fn skewed(hosts: usize, first: usize) -> Vec<f64> {
    let mut split = vec![0.0; hosts];
    let mut left = 1.0;
    for (turn, part) in [0.7, 0.2, 0.1].into_iter().take(hosts).enumerate() {
        let part = if turn + 1 == hosts { left } else { part };
        split[(first + turn) % hosts] += part;
        left -= part;
    }
    split
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::Action;

    fn shapes(script: &Script) -> Vec<(&str, &[f64])> {
        let shaped = script
            .actions
            .iter()
            .filter_map(|(_, action)| match action {
                Action::Shape { label, rates } => Some((label.as_str(), rates.as_slice())),
                _ => None,
            });
        shaped.collect()
    }

    #[test]
    fn begins_as_promised_and_always_offers_the_same_in_all() {
        for (hosts, seconds) in [(1, 16), (2, 20), (3, 16), (3, 30), (5, 60)] {
            let length = Duration::from_secs(seconds);
            let script = write(hosts, 90_000.0, length, &Timing::default()).unwrap();
            assert_eq!(script.length, length);
            for (label, rates) in shapes(&script) {
                assert_eq!(rates.len(), hosts);
                let total: f64 = rates.iter().sum();
                assert!((total - 90_000.0).abs() < 1e-6, "{label}: {rates:?}");
            }
        }
        let script = write(3, 90_000.0, Duration::from_secs(30), &Timing::default()).unwrap();
        let labels: Vec<&str> = shapes(&script).iter().map(|(label, _)| *label).collect();
        assert_eq!(labels[..3], ["100/0/0", "0/100/0", "70/20/10"]);
        assert_eq!(labels.last(), Some(&"33/33/33"));
        assert!(labels.len() >= 10, "{labels:?}");
        assert!(
            labels.windows(2).all(|pair| pair[0] != pair[1]),
            "{labels:?}"
        );
    }

    #[test]
    fn the_fleet_has_time_to_recover() {
        for seconds in 16..60 {
            let timing = Timing::default();
            let length = Duration::from_secs(seconds);
            let script = write(3, 90_000.0, length, &timing).unwrap();
            let killed = script
                .actions
                .iter()
                .find(|(_, action)| matches!(action, Action::Begin { .. }));
            assert!(killed.unwrap().0 + timing.recovery() + AFTER_RECOVERY <= length);
        }
    }

    #[test]
    fn a_short_one_is_refused() {
        let length = SHORTEST - Duration::from_millis(1);
        assert!(write(3, 90_000.0, length, &Timing::default()).is_err());
    }
}
