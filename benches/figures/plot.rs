//! How cost grows with the work: a curve for each way of doing it, both axes logarithmic, so that what
//! grows as its work does is a straight line with the slope of the grey ones.

use std::collections::BTreeMap;
use std::path::Path;

use plotters::prelude::*;

use crate::measure::Unit;
use crate::report::Case;

const WIDTH: u32 = 760;
const HEIGHT: u32 = 420;
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x0b, 0x6e, 0x99),
    RGBColor(0xd9, 0x73, 0x0d),
    RGBColor(0x44, 0x83, 0x61),
    RGBColor(0xad, 0x1a, 0x72),
    RGBColor(0x69, 0x40, 0xa5),
    RGBColor(0x64, 0x47, 0x3a),
];

/// A curve's points: how much work, and what it cost.
type Curve = Vec<(f64, f64)>;

/// Draws one picture for each row and unit that has curves. Returns the names of the files.
pub fn draw(cases: &[Case], directory: &Path) -> std::io::Result<Vec<String>> {
    std::fs::create_dir_all(directory)?;
    let mut pictures: BTreeMap<(&str, &str, &str), Vec<&Case>> = BTreeMap::new();
    for case in cases {
        if let Some(growth) = &case.growth {
            pictures
                .entry((case.row.as_ref(), growth.of.as_ref(), case.unit.label()))
                .or_default()
                .push(case);
        }
    }
    let mut names = Vec::new();
    for ((row, of, unit), cases) in pictures {
        let name = format!("{}-{}-{}.svg", file_word(row), file_word(of), file_word(unit));
        picture(row, of, &cases, &directory.join(&name))
            .map_err(|error| std::io::Error::other(format!("{name}: {error}")))?;
        names.push(name);
    }
    Ok(names)
}

/// How much dearer ten times the work is between the two largest sizes of a curve: 10 where cost grows as
/// the work does.
pub fn growth(curve: &[(f64, f64)]) -> Option<f64> {
    let [.., (x0, y0), (x1, y1)] = curve else { return None };
    let slope = (y1 / y0).log10() / (x1 / x0).log10();
    Some(10f64.powf(slope))
}

/// All curves of some cases: ours, and those of the peers.
pub fn curves(cases: &[&Case]) -> BTreeMap<(bool, String), Curve> {
    let mut curves: BTreeMap<(bool, String), Curve> = BTreeMap::new();
    for case in cases {
        let Some(growth) = &case.growth else { continue };
        let mut point = |peer, name: String, value| {
            curves.entry((peer, name)).or_default().push((growth.size as f64, value));
        };
        point(false, format!("Windlass, {}", growth.curve), case.ours.median);
        for peer in &case.peers {
            point(true, format!("{}, {}", peer.name, growth.curve), peer.value.median);
        }
    }
    curves.values_mut().for_each(|curve| curve.sort_by(|a, b| a.0.total_cmp(&b.0)));
    curves
}

fn picture(row: &str, of: &str, cases: &[&Case], file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let unit = cases.first().map_or(Unit::Count, |case| case.unit);
    let curves = curves(cases);
    let points = || curves.values().flatten();
    let span = |pick: fn(&(f64, f64)) -> f64| {
        let low = points().map(pick).fold(f64::INFINITY, f64::min);
        let high = points().map(pick).fold(0.0, f64::max);
        (low, high)
    };
    let ((left, right), (low, high)) = (span(|point| point.0), span(|point| point.1));
    // Room for the names, above what rises and below what falls.
    let rises = curves.values().all(|curve| curve.first().is_some_and(|(_, y)| *y < high / 2.0));
    let (bottom, top, names) = match rises {
        true => (low / 1.6, high * 5.0, SeriesLabelPosition::UpperLeft),
        false => (low / 5.0, high * 1.6, SeriesLabelPosition::LowerLeft),
    };

    let root = SVGBackend::new(file, (WIDTH, HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(row, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(70)
        .build_cartesian_2d((left / 1.2..right * 1.2).log_scale(), (bottom..top).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(0xe6, 0xe6, 0xe6))
        .x_desc(of)
        .y_desc(unit.label())
        .x_label_formatter(&|x| thousands(*x))
        .y_label_formatter(&|y| plain(*y))
        .draw()?;
    // The slope of what grows as its work does.
    if matches!(unit, Unit::Seconds | Unit::Megabytes) {
        let line = [(left, low), (right, low * right / left)];
        let inside = line.into_iter().filter(|(_, y)| *y <= top);
        chart.draw_series(LineSeries::new(inside, RGBColor(0xc0, 0xc0, 0xc0)))?;
    }
    for (i, ((peer, name), curve)) in curves.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let style = colour.stroke_width(if *peer { 1 } else { 3 });
        let series = chart.draw_series(LineSeries::new(curve.iter().copied(), style))?;
        let label = match growth(curve) {
            Some(growth) if matches!(unit, Unit::Seconds | Unit::Megabytes) => {
                format!("{name}: ten times the work costs ×{growth:.1}")
            }
            _ => name.clone(),
        };
        series.label(label).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        chart.draw_series(curve.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    chart.configure_series_labels().position(names).background_style(WHITE.mix(0.8)).draw()?;
    root.present()?;
    Ok(())
}

fn file_word(text: &str) -> String {
    let kept = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    kept.collect::<String>().trim_matches('-').to_owned()
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn plain(value: f64) -> String {
    if value >= 1.0 { thousands(value) } else { format!("{value}") }
}
