//! Charts, as SVG.

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;
use std::ops::Range;

/// Pixels of a drawing.
pub const SIZE: (u32, u32) = (960, 720);
/// Colour of training data.
pub const TRAIN: RGBColor = RGBColor(31, 119, 180);
/// Colour of validation data.
pub const VALID: RGBColor = RGBColor(214, 95, 14);
/// Colour of anything else.
pub const OTHER: RGBColor = RGBColor(70, 120, 80);
const INK: RGBColor = RGBColor(50, 50, 50);
const GRID: RGBColor = RGBColor(226, 226, 226);
const FONT: &str = "sans-serif";

/// A vertical axis with given ticks.
struct Axis {
    range: Range<f64>,
    ticks: Vec<f64>,
    log: bool,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        if self.log { value.ln() } else { value }
    }

    /// Covers `values`, with ticks at round numbers.
    fn over(values: impl Iterator<Item = f64> + Clone, log: bool) -> Self {
        let values = values.filter(|value| value.is_finite() && (!log || *value > 0.0));
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low <= high { (low, high) } else { (1.0, 1.0) };
        if log {
            // A small margin, and a factor of at least about 1.2, so that the curve is visible.
            let margin = (0.04 * (high / low).ln()).max(0.09);
            let (low, high) = (low * (-margin).exp(), high * margin.exp());
            Axis { range: low..high, ticks: log_ticks(low, high), log }
        } else {
            let high = if high > 0.0 { 1.08 * high } else { 1.0 };
            Axis { range: 0.0..high, ticks: linear_ticks(0.0, high, 4), log }
        }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let (low, high) = (self.at(self.range.start), self.at(self.range.end));
        let part = (self.at(*value) - low) / (high - low);
        limit.0 + (part * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, _: H) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// Multiples of 1, 2 or 5 times a power of ten, about `count` between `low` and `high`.
fn linear_ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let raw = (high - low) / count as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|step| *step >= raw).unwrap_or(raw);
    let first = (low / step).ceil() as i64;
    (first..).map(|n| n as f64 * step).take_while(|tick| *tick <= high).collect()
}

/// Round numbers between `low` and `high`, evenly spread on a logarithmic axis, at most nine.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    const DIGITS: [&[f64]; 4] = [
        &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0],
        &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
        &[1.0, 2.0, 5.0],
        &[1.0],
    ];
    if high / low < 1.6 {
        return linear_ticks(low, high, 6);
    }
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let ticks = |digits: &[f64]| -> Vec<f64> {
        let all = decades.clone().flat_map(|d| digits.iter().map(move |digit| digit * 10f64.powi(d)));
        all.filter(|tick| (low..=high).contains(tick)).collect()
    };
    let fitting = DIGITS.iter().map(|digits| ticks(digits)).find(|ticks| ticks.len() <= 9);
    fitting.unwrap_or_else(|| {
        let all = ticks(&[1.0]);
        let every = all.len().div_ceil(9);
        all.into_iter().step_by(every).collect()
    })
}

/// A number in readable form: 1,500; 0.05; 1.2e-7.
pub fn readable(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e9).contains(&size) {
        return format!("{value:.3e}").replace(".000e", "e").replace("00e", "e");
    }
    // Enough digits to distinguish the ticks, without floating-point noise.
    let decimals = (4.0 - size.log10().floor()).clamp(0.0, 8.0) as usize;
    let digits = format!("{size:.decimals$}");
    let (whole, part) = digits.split_once('.').unwrap_or((&digits, ""));
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    let part = part.trim_end_matches('0');
    if part.is_empty() { text } else { format!("{text}.{part}") }
}

/// A line of points with its colour and name.
pub struct Curve<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its colour.
    pub color: RGBColor,
    /// Whether the points are shown beside the line.
    pub dots: bool,
    /// The points.
    pub points: Vec<(f64, f64)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type DrawError<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

/// The axes of a chart.
#[derive(Clone, Copy, Debug)]
pub struct Axes<'a> {
    /// Name of the horizontal axis, which begins at 0.
    pub x: &'a str,
    /// The end of the horizontal axis.
    pub end: f64,
    /// Name of the vertical axis.
    pub y: &'a str,
    /// Whether the vertical axis is logarithmic.
    pub log: bool,
}

/// A single chart, as SVG.
pub fn chart(axes: Axes, title: &str, curves: &[Curve<'_>]) -> Result<String, Box<dyn Error + Send + Sync>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        panel(&root.margin(10, 10, 10, 18), axes, Some(title), curves)?;
        root.present()?;
    }
    Ok(svg)
}

/// Points on logarithmic axes, as SVG: `all` hollow, those that are `used` for the line filled, and the `line`.
pub fn log_log(
    title: &str,
    x: &str,
    y: &str,
    all: &[(f64, f64)],
    used: &[(f64, f64)],
    line: &[(f64, f64)],
) -> Result<String, Box<dyn Error + Send + Sync>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let axis = |of: fn(&(f64, f64)) -> f64| Axis::over(all.iter().chain(line).map(of), true);
        let mut builder = ChartBuilder::on(&root);
        builder.margin(16).x_label_area_size(44).y_label_area_size(72);
        builder.caption(title, (FONT, 17).into_font().color(&INK));
        let mut chart = builder.build_cartesian_2d(axis(|p| p.0), axis(|p| p.1))?;
        let label = (FONT, 14).into_font().color(&INK);
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .label_style(label.clone())
            .axis_desc_style(label)
            .x_desc(x)
            .y_desc(y)
            .x_label_formatter(&|x| readable(*x))
            .y_label_formatter(&|y| readable(*y))
            .draw()?;
        chart.draw_series(LineSeries::new(line.iter().copied(), VALID.stroke_width(2)))?;
        chart.draw_series(all.iter().map(|&point| Circle::new(point, 5, TRAIN.stroke_width(2))))?;
        chart.draw_series(used.iter().map(|&point| Circle::new(point, 5, TRAIN.filled())))?;
        root.present()?;
    }
    Ok(svg)
}

/// A matrix of values from 0 to 1 as a square, as SVG; rows are labelled `rows` 1, 2 …, columns likewise.
pub fn matrix(title: &str, rows: &str, columns: &str, values: &[Vec<f64>]) -> String {
    const CELL: usize = 90;
    let (left, top) = (120, 90);
    let side = CELL * values.len();
    let (width, height) = ((left + side + 20).max(40 + 8 * title.chars().count()), top + side + 20);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"14\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"20\" y=\"28\" font-size=\"16\">{title}</text>\n"
    );
    for (i, row) in values.iter().enumerate() {
        let middle = i * CELL + CELL / 2;
        out += &format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{rows} {}</text>\n",
            left - 8,
            top + middle + 5,
            i + 1
        );
        out += &format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{columns} {}</text>\n",
            left + middle,
            top - 10,
            i + 1
        );
        for (j, &value) in row.iter().enumerate() {
            let (x, y) = (left + j * CELL, top + i * CELL);
            let [r, g, b] = [33.0, 102.0, 172.0].map(|c| (255.0 - value * (255.0 - c)).round() as u8);
            let ink = if value > 0.55 { "white" } else { "black" };
            out += &format!(
                "<rect x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" fill=\"rgb({r},{g},{b})\" stroke=\"#ccc\"/>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"{ink}\">{value:.3}</text>\n",
                x + CELL / 2,
                y + CELL / 2 + 5
            );
        }
    }
    out + "</svg>\n"
}

/// One chart in a part of a drawing.
pub fn panel<'a>(area: &Area<'a>, axes: Axes, title: Option<&str>, curves: &[Curve<'_>]) -> Result<(), DrawError<'a>> {
    let Axes { x, end, y, log } = axes;
    // What is not on the axis is omitted: a loss of 0 has no logarithm.
    let has_place = |&(_, y): &(f64, f64)| y.is_finite() && (!log || y > 0.0);
    let points: Vec<Vec<(f64, f64)>> =
        curves.iter().map(|curve| curve.points.iter().copied().filter(has_place).collect()).collect();
    let vertical = Axis::over(points.iter().flatten().map(|(_, y)| *y), log);
    let horizontal = Axis { range: 0.0..end, ticks: linear_ticks(0.0, end, 8), log: false };
    let mut builder = ChartBuilder::on(area);
    builder.margin(6).x_label_area_size(44).y_label_area_size(72);
    if let Some(title) = title {
        builder.caption(title, (FONT, 17).into_font().color(&INK));
    }
    let mut chart = builder.build_cartesian_2d(horizontal, vertical)?;
    let label = (FONT, 14).into_font().color(&INK);
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(label.clone())
        .axis_desc_style(label.clone())
        .x_desc(x)
        .y_desc(y)
        .x_label_formatter(&|x| readable(*x))
        .y_label_formatter(&|y| readable(*y))
        .draw()?;
    for (curve, points) in curves.iter().zip(&points).filter(|(_, points)| !points.is_empty()) {
        let line = curve.color.stroke_width(2);
        let drawn = chart.draw_series(LineSeries::new(points.iter().copied(), line))?;
        if curves.len() > 1 {
            let color = curve.color;
            drawn
                .label(curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], color.stroke_width(2)));
        }
        // A single point is not a line, and validation points are few: dots show where they are.
        if curve.dots || points.len() == 1 {
            let dots = points.iter().map(|&point| Circle::new(point, 3, curve.color.filled()));
            chart.draw_series(dots)?;
        }
    }
    if points.iter().all(Vec::is_empty) {
        let (width, height) = area.dim_in_pixel();
        let style = label.pos(Pos::new(HPos::Center, VPos::Center));
        area.draw(&Text::new("no data", (width as i32 / 2, height as i32 / 2), style))?;
    } else if curves.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .label_font(label)
            .background_style(WHITE.mix(0.85))
            .border_style(GRID)
            .margin(8)
            .legend_area_size(26)
            .draw()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_few_and_inside() {
        assert_eq!(linear_ticks(0.0, 9.7, 4), [0.0, 5.0]);
        assert_eq!(linear_ticks(0.0, 20.0, 4), [0.0, 5.0, 10.0, 15.0, 20.0]);
        assert_eq!(log_ticks(80.0, 1100.0), [100.0, 150.0, 200.0, 300.0, 500.0, 700.0, 1000.0]);
        assert_eq!(log_ticks(80.0, 11_000.0), [100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0]);
        for (low, high) in [(90.0, 110.0), (120.0, 400.0), (100.0, 10_000.0), (1.0, 1e30), (99.0, 99.5)] {
            let ticks = log_ticks(low, high);
            assert!((2..=9).contains(&ticks.len()), "{low} to {high}: {ticks:?}");
            assert!(ticks.iter().all(|tick| (low..=high).contains(tick)), "{ticks:?}");
        }
    }

    #[test]
    fn numbers_read_well() {
        let texts = [0.0, 1500.0, 0.05, 0.30000000000000004, 1234567.0, -2.5, 0.001, 1.2e-7, 1e12, 99.25].map(readable);
        assert_eq!(texts, ["0", "1,500", "0.05", "0.3", "1,234,567", "-2.5", "0.001", "1.2e-7", "1e12", "99.25"]);
    }
}
