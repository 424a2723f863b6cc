//! Who led, and what was done to the fleet: one bar for each, on the same seconds as the charts.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{ALARM, Drawing, Drawn, FONT, INK, LEFT, Panel, RIGHT, ROW, SIZE};
use crate::{series::Bin, stage::Episode};

const MARGIN: u32 = 14;

impl Drawing<'_> {
    pub(super) fn strip_height(&self) -> u32 {
        let rows = 1 + self.plot.recording.episodes().len() as u32;
        rows * ROW + 2 * MARGIN
    }

    pub(super) fn strip(&self, area: &Panel<'_>) -> Drawn {
        let recording = self.plot.recording;
        let mut row = 0;
        let ends = recording.leaders.iter().skip(1).map(|seen| seen.bin);
        for (seen, end) in recording.leaders.iter().zip(ends.chain([recording.end])) {
            let colour = self
                .lines
                .iter()
                .find(|line| line.name == seen.name)
                .map_or(INK, |line| line.colour);
            let text = format!("{} leads, term {}", seen.name, seen.term);
            self.bar(area, row, seen.bin, end, &colour, &text)?;
        }
        for Episode {
            fault, hosts, bins, ..
        } in recording.episodes()
        {
            row += 1;
            let names = hosts.iter().filter_map(|host| self.lines.get(*host));
            let names: Vec<&str> = names.map(|line| line.name.as_str()).collect();
            let text = if names.is_empty() {
                fault.label()
            } else {
                format!("{} ({})", fault.label(), names.join(", "))
            };
            self.bar(area, row, bins.start, bins.end, &ALARM, &text)?;
        }
        Ok(())
    }

    fn bar(
        &self,
        area: &Panel<'_>,
        row: u32,
        begin: Bin,
        end: Bin,
        colour: &RGBColor,
        text: &str,
    ) -> Drawn {
        let width = f64::from(SIZE.0 - LEFT - RIGHT);
        let x = |bin: Bin| {
            let second = bin.max(self.begin).saturating_sub(self.begin) as f64 / 1e3;
            LEFT as i32 + (width * (second / self.seconds).min(1.0)) as i32
        };
        let top = (MARGIN + row * ROW) as i32;
        let bottom = top + ROW as i32 - 4;
        let right = x(end).max(x(begin) + 3);
        area.draw(&Rectangle::new(
            [(x(begin), top), (right, bottom)],
            colour.mix(0.45).filled(),
        ))?;
        let style = TextStyle::from((FONT, 12).into_font())
            .color(&INK)
            .pos(Pos::new(HPos::Left, VPos::Center));
        let at = (x(begin) + 4, top + (ROW as i32 - 4) / 2);
        area.draw(&Text::new(text.to_owned(), at, style))?;
        Ok(())
    }
}
