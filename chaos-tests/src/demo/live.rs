//! The live view: redrawn in place on a terminal, a line now and then elsewhere.

use std::{
    env,
    fmt::Write as _,
    io::{IsTerminal as _, Write as _, stderr},
};

use crate::{
    stage::{Happening, Moment},
    text::{bar, thousands},
};

/// Cells of a bar that shows the whole budget.
const BAR_CELLS: usize = 28;
/// Without a terminal, every so many ticks.
const TICKS_PER_LINE: u64 = 5;
/// A fleet that admits more than this part of its budget over one tick is shown in red. A burst
/// may do so for an instant; the verdict is the receiver's.
const ALARM: f64 = 1.02;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const RESET: &str = "\x1b[0m";
/// One for each host, in turn.
const HOST_COLOURS: [&str; 3] = ["\x1b[34m", "\x1b[33m", "\x1b[36m"];

/// Shows moments on standard error.
pub(super) struct View {
    names: Vec<String>,
    rate: f64,
    terminal: bool,
    colours: bool,
    drawn_lines: usize,
    ticks: u64,
}

impl View {
    pub(super) fn new(names: &[&str], rate: f64) -> Self {
        let terminal = stderr().is_terminal();
        Self {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            rate,
            terminal,
            colours: terminal && env::var_os("NO_COLOR").is_none(),
            drawn_lines: 0,
            ticks: 0,
        }
    }

    pub(super) fn show(&mut self, moment: &Moment<'_>) {
        let text = if self.terminal {
            let picture = self.picture(moment);
            let mut text = String::new();
            if self.drawn_lines > 0 {
                // Back to the first line, over what is there.
                let _written = write!(text, "\x1b[{}A", self.drawn_lines);
            }
            self.drawn_lines = picture.lines().count();
            for line in picture.lines() {
                let _written = writeln!(text, "{line}\x1b[K");
            }
            text
        } else if self.ticks.is_multiple_of(TICKS_PER_LINE) {
            self.line(moment)
        } else {
            String::new()
        };
        self.ticks += 1;
        // A terminal that went away is no reason to stop.
        let _written = stderr().write_all(text.as_bytes());
    }

    /// Leaves the last picture where it is.
    pub(super) fn close(&mut self) {
        if self.drawn_lines > 0 {
            eprintln!();
        }
    }

    fn line(&self, moment: &Moment<'_>) -> String {
        let mut line = format!("{:>5.1} s  ", moment.elapsed.as_secs_f64());
        let _written = write!(line, "{:<12}", moment.label);
        let (leader, term) = leader(moment);
        let _written = write!(line, "leader {leader:<8} term {term:<4}");
        for ((name, offered), admitted) in
            self.names.iter().zip(&moment.offered).zip(&moment.admitted)
        {
            let share = 100.0 * admitted / self.rate;
            let (offered, admitted) = (thousands(*offered), thousands(*admitted));
            let _written = write!(
                line,
                " | {name} {offered:>7} -> {admitted:>6} {share:>3.0} %"
            );
        }
        let (offered, admitted) = totals(moment);
        let _written = write!(
            line,
            " | fleet {} -> {}",
            thousands(offered),
            thousands(admitted)
        );
        line.push('\n');
        line
    }

    fn picture(&self, moment: &Moment<'_>) -> String {
        let paint = |colour: &'static str, text: String| {
            if self.colours {
                format!("{colour}{text}{RESET}")
            } else {
                text
            }
        };
        let (leader, term) = leader(moment);
        let mut text = String::new();
        let _written = writeln!(
            text,
            "\n{}   {:>4.1} of {:.0} s",
            paint(
                BOLD,
                format!("one budget of {} packets/s", thousands(self.rate))
            ),
            moment.elapsed.as_secs_f64(),
            moment.length.as_secs_f64(),
        );
        let _written = writeln!(
            text,
            "traffic {:<12} leader {leader:<8} term {term}\n",
            moment.label
        );
        let header = format!(
            "{:<10}{:>11}{:>12}   share of the budget",
            "", "offered/s", "admitted/s"
        );
        let _written = writeln!(text, "{}", paint(DIM, header));
        let colours = HOST_COLOURS.iter().cycle();
        let rates = moment.offered.iter().zip(&moment.admitted);
        for ((name, (&offered, &admitted)), colour) in self.names.iter().zip(rates).zip(colours) {
            let mark = if name == leader { "★" } else { " " };
            let row = self.row(&format!("{name} {mark}"), offered, admitted, |bar| {
                paint(colour, bar)
            });
            text.push_str(&row);
        }
        let (offered, admitted) = totals(moment);
        let colour = if admitted > self.rate * ALARM {
            RED
        } else {
            GREEN
        };
        text.push_str(&self.row("fleet", offered, admitted, |bar| paint(colour, bar)));
        let _written = writeln!(text, "\n{}", self.news(moment));
        text
    }

    fn row(
        &self,
        name: &str,
        offered: f64,
        admitted: f64,
        paint: impl FnOnce(String) -> String,
    ) -> String {
        let share = admitted / self.rate;
        format!(
            "{name:<10}{:>11}{:>12}   {} {:>4.0} %\n",
            thousands(offered),
            thousands(admitted),
            paint(bar(share, BAR_CELLS)),
            share * 100.0,
        )
    }

    fn named(&self, hosts: &[usize]) -> String {
        let names = hosts.iter().map(|host| self.names[*host].as_str());
        names.collect::<Vec<_>>().join(", ")
    }

    fn news(&self, moment: &Moment<'_>) -> String {
        let Some(event) = moment.event else {
            return String::new();
        };
        match &event.what {
            Happening::Began { hosts, .. } => {
                format!(
                    "✗ the leader's daemon, on {}, was killed (SIGKILL)",
                    self.named(hosts)
                )
            }
            Happening::Ended { hosts, .. } => {
                format!("✓ the daemon on {} runs again", self.named(hosts))
            }
            Happening::Shaped { .. } => String::new(),
        }
    }
}

fn leader<'a>(moment: &'a Moment<'_>) -> (&'a str, u64) {
    moment
        .leader
        .map_or(("-", 0), |leader| (&leader.name, leader.term))
}

fn totals(moment: &Moment<'_>) -> (f64, f64) {
    (moment.offered.iter().sum(), moment.admitted.iter().sum())
}
