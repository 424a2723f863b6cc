//! A recording as a picture: what was offered, what was admitted, who had which share, who led, and
//! what was done to the fleet.

mod strip;

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use plotters::{
    coord::{Shift, types::RangedCoordf64},
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    series::{Bin, Series},
    stage::{Happening, Recording},
};

/// Pixels.
const SIZE: (u32, u32) = (1_200, 900);
/// Height of one row of the strip of faults.
const ROW: u32 = 18;
/// Okabe and Ito's colours, which colour-blind people can tell apart.
const HOST_COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(240, 228, 66),
];
const ALARM: RGBColor = RGBColor(213, 94, 0);
const INK: RGBColor = RGBColor(40, 44, 52);
const FAINT: RGBColor = RGBColor(225, 228, 232);
const GREY: RGBColor = RGBColor(110, 118, 129);
const FONT: &str = "sans-serif";
const LEFT: u32 = 64;
const RIGHT: u32 = 96;

type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// What to draw.
#[derive(Clone, Copy, Debug)]
pub struct Plot<'a> {
    /// Above everything.
    pub title: &'a str,
    /// What happened.
    pub recording: &'a Recording,
    /// The fleet's budget, in packets per second.
    pub rate: f64,
    /// Counts are averaged over this.
    pub tick: Duration,
}

/// Draws an SVG file.
///
/// # Errors
///
/// If the recording is empty, or the file cannot be written.
pub fn draw(plot: &Plot<'_>, path: &Path) -> Result<()> {
    fs::write(path, svg(plot)?).with_context(|| path.display().to_string())
}

/// The same, as text.
///
/// # Errors
///
/// If the recording is empty.
pub fn svg(plot: &Plot<'_>) -> Result<String> {
    let mut text = String::new();
    Drawing::of(plot)?
        .draw(&mut text)
        .map_err(|error| anyhow!("cannot draw {}: {error}", plot.title))?;
    Ok(text)
}

/// One host's rates, a value a tick.
struct Line {
    name: String,
    colour: RGBColor,
    offered: Vec<f64>,
    admitted: Vec<f64>,
    /// Seconds, and the grant that the daemon said it had.
    granted: Vec<(f64, f64)>,
}

struct Drawing<'a> {
    plot: &'a Plot<'a>,
    begin: Bin,
    seconds: f64,
    times: Vec<f64>,
    lines: Vec<Line>,
}

type Drawn = Result<(), Box<dyn std::error::Error + Send + Sync>>;

impl<'a> Drawing<'a> {
    fn of(plot: &'a Plot<'a>) -> Result<Self> {
        let recording = plot.recording;
        let first = recording
            .events
            .first()
            .ok_or_else(|| anyhow!("nothing was recorded"))?;
        let tick = u64::try_from(plot.tick.as_millis())?.max(1);
        let starts: Vec<Bin> = (first.bin..recording.end.saturating_sub(tick))
            .step_by(usize::try_from(tick)?)
            .collect();
        let rates = |series: &Series| {
            starts
                .iter()
                .map(|&bin| series.rate(bin..bin + tick))
                .collect::<Vec<_>>()
        };
        let lines = recording.hosts.iter().zip(HOST_COLOURS.iter().cycle());
        let granted = |host: usize| {
            let said = recording.said.get(host).into_iter().flatten();
            let within = said.filter(|said| (first.bin..recording.end).contains(&said.bin));
            let points = within.map(|said| ((said.bin - first.bin) as f64 / 1e3, said.granted));
            points.collect()
        };
        let middle = |bin: &Bin| (bin - first.bin) as f64 / 1e3 + tick as f64 / 2e3;
        Ok(Self {
            plot,
            begin: first.bin,
            seconds: (recording.end - first.bin) as f64 / 1e3,
            times: starts.iter().map(middle).collect(),
            lines: lines
                .enumerate()
                .map(|(number, (host, &colour))| Line {
                    name: host.name.clone(),
                    colour,
                    offered: rates(&host.offered),
                    admitted: rates(&host.admitted),
                    granted: granted(number),
                })
                .collect(),
        })
    }

    fn draw(&self, text: &mut String) -> Drawn {
        let strip = self.strip_height();
        let root = SVGBackend::with_string(text, (SIZE.0, SIZE.1 + strip)).into_drawing_area();
        root.fill(&WHITE)?;
        let (head, body) = root.split_vertically(76);
        let (body, strip) = body.split_vertically(SIZE.1 - 76);
        self.head(&head)?;
        let (upper, shares) = body.split_vertically(570);
        let (offered, admitted) = upper.split_vertically(270);
        let most = |pick: fn(&Line) -> &Vec<f64>| {
            let totals = (0..self.times.len())
                .map(|tick| self.lines.iter().map(|line| pick(line)[tick]).sum::<f64>());
            totals.fold(self.plot.rate, f64::max)
        };
        let top = most(|line| &line.offered);
        self.stacked(&offered, "offered, packets/s", top * 1.12, |line| {
            &line.offered
        })?;
        // A spike of one tick must not shrink the rest.
        let top = most(|line| &line.admitted).min(self.plot.rate * 1.6);
        self.stacked(&admitted, "admitted, packets/s", top * 1.12, |line| {
            &line.admitted
        })?;
        self.shares(&shares)?;
        self.strip(&strip)?;
        root.present()?;
        Ok(())
    }

    /// Title and legend.
    fn head(&self, area: &Panel<'_>) -> Drawn {
        let title = TextStyle::from((FONT, 24, FontStyle::Bold).into_font()).color(&INK);
        area.draw(&Text::new(
            self.plot.title.to_owned(),
            (LEFT as i32, 14),
            title,
        ))?;
        let label = TextStyle::from((FONT, 15).into_font()).color(&INK);
        let mut x = LEFT as i32;
        for line in &self.lines {
            area.draw(&Rectangle::new(
                [(x, 50), (x + 14, 64)],
                line.colour.filled(),
            ))?;
            area.draw(&Text::new(line.name.clone(), (x + 20, 50), label.clone()))?;
            x += 100;
        }
        for (colour, text) in [
            (INK, "the fleet's budget"),
            (ALARM, "a fault begins, or ends"),
        ] {
            area.draw(&PathElement::new(
                [(x, 57), (x + 22, 57)],
                colour.stroke_width(2),
            ))?;
            area.draw(&Text::new(text.to_owned(), (x + 28, 50), label.clone()))?;
            x += 190;
        }
        Ok(())
    }

    fn chart<'b>(
        &self,
        area: &Panel<'b>,
        caption: &str,
        top: f64,
        format: &dyn Fn(&f64) -> String,
    ) -> Result<Chart<'b>, Box<dyn std::error::Error + Send + Sync>> {
        let mut chart = ChartBuilder::on(area)
            .margin_top(26)
            .margin_right(RIGHT)
            .x_label_area_size(26)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(0.0..self.seconds, 0.0..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAINT)
            .axis_style(GREY)
            .label_style((FONT, 13).into_font().color(&GREY))
            .x_labels(16)
            .y_labels(5)
            .x_label_formatter(&|second| format!("{second:.0} s"))
            .y_label_formatter(format)
            .draw()?;
        let style = TextStyle::from((FONT, 15, FontStyle::Bold).into_font()).color(&INK);
        area.draw(&Text::new(caption.to_owned(), (LEFT as i32, 4), style))?;
        Ok(chart)
    }

    fn stacked(
        &self,
        area: &Panel<'_>,
        caption: &str,
        top: f64,
        pick: fn(&Line) -> &Vec<f64>,
    ) -> Drawn {
        let thousand = |rate: &f64| format!("{:.0} k", rate / 1e3);
        let mut chart = self.chart(area, caption, top, &thousand)?;
        let mut base = vec![0.0; self.times.len()];
        for line in &self.lines {
            let upper: Vec<f64> = base
                .iter()
                .zip(pick(line))
                .map(|(base, rate)| (base + rate).min(top))
                .collect();
            let there = self.times.iter().copied().zip(upper.iter().copied());
            let back = self.times.iter().copied().zip(base.iter().copied()).rev();
            let outline: Vec<(f64, f64)> = there.chain(back).collect();
            chart.draw_series([Polygon::new(outline, line.colour.mix(0.82))])?;
            base = upper;
        }
        self.moves(&mut chart, top)?;
        self.budget(&mut chart, self.plot.rate)?;
        self.faults(&mut chart, top)
    }

    fn shares(&self, area: &Panel<'_>) -> Drawn {
        let percent = |share: &f64| format!("{share:.0} %");
        let top = 112.0;
        let mut chart = self.chart(
            area,
            "share of the budget (dots: what the daemon was granted)",
            top,
            &percent,
        )?;
        for line in &self.lines {
            let shares = line
                .admitted
                .iter()
                .map(|rate| (100.0 * rate / self.plot.rate).min(top));
            let points: Vec<(f64, f64)> = self.times.iter().copied().zip(shares).collect();
            chart.draw_series(LineSeries::new(points, line.colour.stroke_width(2)))?;
            let granted = line.granted.iter();
            let granted = granted.map(|(x, rate)| (*x, (100.0 * rate / self.plot.rate).min(top)));
            let dots = granted.map(|at| Circle::new(at, 2, line.colour.mix(0.5).filled()));
            chart.draw_series(dots)?;
        }
        self.budget(&mut chart, 100.0)?;
        self.faults(&mut chart, top)
    }

    fn budget(&self, chart: &mut Chart<'_>, at: f64) -> Drawn {
        let ends = vec![(0.0, at), (self.seconds, at)];
        chart.draw_series([PathElement::new(ends, INK.stroke_width(2))])?;
        let style = TextStyle::from((FONT, 13, FontStyle::Bold).into_font())
            .color(&INK)
            .pos(Pos::new(HPos::Left, VPos::Center));
        chart.draw_series([Text::new("  budget", (self.seconds, at), style)])?;
        Ok(())
    }

    /// Where the traffic took another shape, and which.
    fn moves(&self, chart: &mut Chart<'_>, top: f64) -> Drawn {
        let style = TextStyle::from((FONT, 12).into_font())
            .color(&GREY)
            .pos(Pos::new(HPos::Left, VPos::Top));
        for event in &self.plot.recording.events {
            if let Happening::Shaped { label, .. } = &event.what {
                let x = self.second(event.bin);
                let ends = vec![(x, 0.0), (x, top)];
                chart.draw_series([PathElement::new(ends, WHITE.stroke_width(1))])?;
                let text = Text::new(label.clone(), (x, top), style.clone());
                chart.draw_series([text])?;
            }
        }
        Ok(())
    }

    /// Where the leader was killed and where it came back.
    fn faults(&self, chart: &mut Chart<'_>, top: f64) -> Drawn {
        let bins = |event: &crate::stage::Event| match event.what {
            Happening::Shaped { .. } => None,
            Happening::Began { .. } | Happening::Ended { .. } => Some(event.bin),
        };
        for bin in self.plot.recording.events.iter().filter_map(bins) {
            let x = self.second(bin);
            chart.draw_series([PathElement::new(
                vec![(x, 0.0), (x, top)],
                ALARM.stroke_width(2),
            )])?;
        }
        Ok(())
    }

    fn second(&self, bin: Bin) -> f64 {
        (bin - self.begin) as f64 / 1e3
    }
}
