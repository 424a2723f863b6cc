//! The report as a picture: packets per second against the number of sources, and what a good
//! client gets against the attack.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::report::Report;

/// Pixels.
const SIZE: (u32, u32) = (1_200, 520);
/// Okabe and Ito's colours, which colour-blind people can tell apart, and greys.
const COLOURS: [RGBColor; 9] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(160, 150, 20),
    RGBColor(110, 118, 129),
    RGBColor(40, 44, 52),
];
const FAINT: RGBColor = RGBColor(225, 228, 232);
const FONT: &str = "sans-serif";

type Drawn = Result<(), Box<dyn std::error::Error + Send + Sync>>;
/// A line a variant: horizontal and vertical values.
type Lines = BTreeMap<String, Vec<(f64, f64)>>;

/// Draws an SVG file.
///
/// # Errors
///
/// If the file cannot be written.
pub fn draw(report: &Report, path: &Path) -> Result<()> {
    panels(report, path).map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
}

fn panels(report: &Report, path: &Path) -> Drawn {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(SIZE.0 / 2);
    let rates = rates(report);
    let top = largest(&rates) * 1.05;
    let mut chart = ChartBuilder::on(&left)
        .caption("One CPU's packets per second (millions)", (FONT, 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(44)
        .build_cartesian_2d((0.7..1.5e6).log_scale(), 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .x_desc("sources")
        .x_label_formatter(&|keys| format!("{keys:.0}"))
        .draw()?;
    lines(&mut chart, &rates)?;
    let goodput = goodput(report);
    let mut chart = ChartBuilder::on(&right)
        .caption("A good client's requests that arrive (%)", (FONT, 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..largest_place(&goodput) * 1.05, 0.0..105.0)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .x_desc("attack, millions of packets per second")
        .draw()?;
    lines(&mut chart, &goodput)?;
    root.present()?;
    Ok(())
}

fn lines<'a, X>(
    chart: &mut ChartContext<
        'a,
        SVGBackend<'a>,
        Cartesian2d<X, plotters::coord::types::RangedCoordf64>,
    >,
    lines: &Lines,
) -> Drawn
where
    X: plotters::coord::ranged1d::Ranged<ValueType = f64>,
{
    for ((name, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        // Weir is what the picture is about.
        let width = if name.starts_with("weir") { 3 } else { 1 };
        let style = colour.stroke_width(width);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style).point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .border_style(FAINT)
        .background_style(WHITE.mix(0.8))
        .position(SeriesLabelPosition::UpperRight)
        .draw()?;
    Ok(())
}

fn rates(report: &Report) -> Lines {
    let mut lines = Lines::new();
    for row in &report.rows {
        let point = (f64::from(row.keys), 1e3 / row.ns_per_packet);
        lines.entry(row.variant.clone()).or_default().push(point);
    }
    lines
}

fn goodput(report: &Report) -> Lines {
    let mut lines = Lines::new();
    for row in &report.goodput {
        let point = (row.offered_mpps, row.goodput * 100.0);
        lines.entry(row.variant.clone()).or_default().push(point);
    }
    lines
}

fn largest(lines: &Lines) -> f64 {
    let values = lines.values().flatten().map(|(_, value)| *value);
    values.fold(1.0, f64::max)
}

fn largest_place(lines: &Lines) -> f64 {
    let places = lines.values().flatten().map(|(place, _)| *place);
    places.fold(1.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{
        goodput::GoodputRow,
        method::Method,
        row::{Sample, Series},
    };

    #[test]
    fn every_variant_has_its_line() {
        let series = |variant: &str, keys| Series {
            variant: variant.to_owned(),
            keys,
            method: Method::HEADLINE,
            family: 4,
            cold: false,
            samples: vec![Sample {
                offered_mpps: 10.0,
                mpps: 5.0,
                ns_per_packet: 200.0,
            }],
        };
        let all = [series("weir", 1), series("weir", 1_000), series("nft", 1)];
        let goodput = GoodputRow {
            variant: "hashlimit".to_owned(),
            attack_percent: 100,
            offered_mpps: 6.0,
            mpps: 1.0,
            requests: 0,
            goodput: 0.0,
            p50_us: None,
            p99_us: None,
        };
        let report = Report::new(&all, Vec::new(), Vec::new(), vec![goodput]);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plot.svg");
        draw(&report, &path).unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        for name in ["weir", "nft", "hashlimit"] {
            assert!(svg.contains(&format!("\n{name}\n")), "{name}: {svg}");
        }
    }
}
