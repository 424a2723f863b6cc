//! Pictures of the past.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use crate::top::{history::Tick, look::Look};

/// A tick in which more than this part was dropped has another colour.
const DROPS_SHOWN: f32 = 0.01;

/// What was offered, a character for each tick, the newest at the right; where something was dropped
/// in another colour.
pub(super) fn spark(ticks: &[Tick], width: u16, look: Look) -> Line<'static> {
    let most = ticks.iter().map(|tick| tick.offered).fold(0.0, f32::max);
    let mut spans = Runs::default();
    let missing = usize::from(width).saturating_sub(ticks.len());
    for _ in 0..missing {
        spans.push(' ', Style::new());
    }
    for tick in ticks {
        spans.push(bar(tick.offered, most, 0, 1, look), tone(tick, look));
    }
    spans.line()
}

/// A chart of one rate, `height` rows of characters, the first the uppermost.
pub(super) fn chart(
    ticks: &[Tick],
    of: impl Fn(&Tick) -> f32,
    (width, height): (u16, u16),
    (most, style): (f32, Style),
    look: Look,
) -> Vec<Line<'static>> {
    let missing = usize::from(width).saturating_sub(ticks.len());
    let row = |row: u16| {
        let mut spans = Runs::default();
        for _ in 0..missing {
            spans.push(' ', style);
        }
        for tick in ticks {
            spans.push(bar(of(tick), most, height - 1 - row, height, look), style);
        }
        spans.line()
    };
    (0..height).map(row).collect()
}

/// The part of a bar that is seen in the `from`-th of `rows` rows from below.
fn bar(value: f32, most: f32, from: u16, rows: u16, look: Look) -> char {
    let bars = look.bars();
    let full = (bars.len() - 1) as f32;
    if most <= 0.0 || value <= 0.0 {
        return bars[0];
    }
    // Whatever there is can be seen.
    let eighths = (value / most * full * f32::from(rows)).round().max(1.0);
    let here = (eighths - full * f32::from(from)).clamp(0.0, full);
    bars[here as usize]
}

fn tone(tick: &Tick, look: Look) -> Style {
    if tick.dropped > tick.offered * DROPS_SHOWN {
        look.warning()
    } else {
        look.accent()
    }
}

/// Characters, joined while they look alike.
#[derive(Default)]
struct Runs(Vec<(String, Style)>);

impl Runs {
    fn push(&mut self, letter: char, style: Style) {
        match self.0.last_mut() {
            Some((text, last)) if *last == style => text.push(letter),
            _ => self.0.push((letter.to_string(), style)),
        }
    }

    fn line(self) -> Line<'static> {
        let spans = self.0.into_iter();
        spans
            .map(|(text, style)| Span::styled(text, style))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(offered: &[f32]) -> Vec<Tick> {
        let tick = |offered: &f32| Tick {
            offered: *offered,
            ..Tick::default()
        };
        offered.iter().map(tick).collect()
    }

    #[test]
    fn bars_grow_with_what_was_offered_and_end_at_the_right() {
        let look = Look::new(false, true);
        let line = spark(&ticks(&[0.0, 1.0, 400.0, 800.0]), 6, look);
        assert_eq!(line.to_string(), "   ▁▄█");
        let plain = spark(
            &ticks(&[0.0, 1.0, 400.0, 800.0]),
            4,
            Look::new(false, false),
        );
        assert_eq!(plain.to_string(), " .:#");
        assert_eq!(spark(&ticks(&[0.0, 0.0]), 3, look).to_string(), "   ");
    }

    #[test]
    fn a_chart_is_as_high_as_its_most() {
        let look = Look::new(false, true);
        let ticks = ticks(&[50.0, 75.0, 100.0]);
        let lines = chart(
            &ticks,
            |tick| tick.offered,
            (4, 2),
            (100.0, Style::new()),
            look,
        );
        let rows: Vec<String> = lines.iter().map(Line::to_string).collect();
        assert_eq!(rows, ["  ▄█", " ███"]);
    }

    #[test]
    fn drops_have_another_colour() {
        let look = Look::new(true, true);
        let ticks = [
            Tick {
                offered: 10.0,
                ..Tick::default()
            },
            Tick {
                offered: 10.0,
                dropped: 5.0,
                ..Tick::default()
            },
        ];
        let line = spark(&ticks, 2, look);
        assert_eq!(line.spans.len(), 2);
        assert_eq!(line.spans[1].style, look.warning());
    }
}
