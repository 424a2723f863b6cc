//! The summary that a newcomer reads.

use std::fmt::Write as _;

use super::{
    RATE,
    figures::{Figures, Verdict, percent, ticks},
};
use crate::text::thousands;

pub(super) fn write(figures: &Figures) -> String {
    let judged = &figures.judgement;
    let hosts = judged.phases.first().map_or(0, |phase| phase.optimum.len());
    let mut text = String::new();
    let mut line = |line: String| {
        // Writing to a string cannot fail.
        let _written = writeln!(text, "{line}");
    };
    line(format!(
        "\n{hosts} hosts shared one budget of {} packets/s. Clients offered {}; {} came through.\n",
        thousands(RATE),
        thousands(judged.offered),
        thousands(judged.admitted),
    ));
    for check in figures.checks() {
        let mark = match check.verdict {
            Verdict::Met => "✓",
            Verdict::Missed => "✗",
            Verdict::NotJudged => "~",
        };
        line(format!(
            "  {mark} {:<50}{:>18}   {}",
            check.what, check.measured, check.bar
        ));
    }
    if !figures.kept_pace() {
        line(format!(
            "\n  ~ This machine was too busy: {:.1} % of what was to be sent went out, and what \
             depends on\n    time is shown, not judged. Run it again when nothing else runs.",
            judged.pace * 100.0
        ));
    }
    line(format!(
        "\n  {:<12}{:>13}{:>13}   admitted by each host, packets/s",
        "split, %", "utilisation", "followed in"
    ));
    let moves = std::iter::once(None).chain(judged.shifts.iter().map(Some));
    for (phase, shift) in judged.phases.iter().zip(moves) {
        let admitted: Vec<String> = phase
            .admitted
            .iter()
            .map(|&rate| format!("{:>7}", thousands(rate)))
            .collect();
        line(format!(
            "  {:<12}{:>13}{:>13}  {}",
            phase.label,
            percent(phase.utilisation),
            shift.map_or("-".to_owned(), |shift| ticks(shift.ticks)),
            admitted.join(" "),
        ));
    }
    line(format!(
        "\n  The leader changed {} time(s). A tick is {} ms, a grant lives {} s.\n  \
         ZooKeeper's session is {} s (the shortest that this server grants).",
        judged.leader_changes,
        figures.timing.tick.as_millis(),
        figures.timing.lease.as_secs_f64(),
        figures.timing.session.as_secs_f64(),
    ));
    line(format!(
        "  plot: {}   ({:.0} s in all)",
        figures.plot.display(),
        figures.wall_seconds
    ));
    text
}
