//! Line charts: losses, accuracies and learning rates against epochs or steps.

use std::path::Path;

use super::canvas::{Align, Canvas, Colour, FAINT, GREY, INK, Lettering, WHITE, palette};
use super::{MissingLetters, Picture};
use crate::error::Result;
use crate::words::count;

/// A picture of one or more charts with one legend above them all.
#[derive(Clone, Debug, Default)]
pub struct Figure {
    /// The heading; none if empty.
    pub title: String,
    /// A line below the heading; none if empty.
    pub subtitle: String,
    /// The charts, left to right and top to bottom.
    pub panels: Vec<Panel>,
    /// Charts in a row; 0 for one chart in a row of its own and else two.
    pub columns: usize,
    /// What solid and dashed lines stand for. If given, the legend names each label once and then
    /// the two strokes; if not, it names each pair of label and stroke.
    pub strokes: Option<StrokeNames>,
}

/// What the two kinds of line mean throughout a figure.
#[derive(Clone, Debug)]
pub struct StrokeNames {
    /// For example "validation".
    pub solid: String,
    /// For example "training".
    pub dashed: String,
}

/// One chart.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    /// Above the chart.
    pub title: String,
    /// Below the horizontal axis.
    pub x_label: String,
    /// Beside the vertical axis; none if empty.
    pub y_label: String,
    /// How far the vertical axis reaches and how its numbers are written.
    pub y_axis: Axis,
    /// The lines. Dashed ones are drawn below solid ones.
    pub series: Vec<Series>,
}

/// A vertical axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Axis {
    /// Just far enough for the data.
    #[default]
    Fitted,
    /// From zero, if no value is negative.
    FromZero,
    /// As `Fitted`, for values between 0 and 100, marked "%".
    Percent,
}

/// One line of a chart.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Its name in the legend; lines of one label and colour share an entry.
    pub label: String,
    /// Horizontal and vertical positions, from left to right. Points that are not finite are left
    /// out, and the line goes on to the next.
    pub points: Vec<(f64, f64)>,
    /// How it is drawn.
    pub stroke: Stroke,
    /// Its number in a colour-blind safe palette of seven, which then repeats.
    pub colour: usize,
    /// Of `points`, the one that gets a dot: the best epoch, say.
    pub mark: Option<usize>,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stroke {
    /// Without gaps.
    #[default]
    Solid,
    /// With gaps.
    Dashed,
}

const MARGIN: f64 = 32.0;
const GAP: f64 = 36.0;
/// A chart without its labels.
const PLOT: (f64, f64) = (600.0, 340.0);
/// Above a chart with a title, and above one without.
const PANEL_TITLE: (f64, f64) = (40.0, 8.0);
const BELOW_PLOT: f64 = 62.0;
const LINE_WIDTH: f64 = 2.6;
const DASHES: (f64, f64) = (7.0, 6.0);
const TICK_TEXT: Lettering = Lettering {
    size: 15.0,
    bold: false,
    colour: GREY,
    align: Align::Middle,
    turned: false,
};
/// Solid lines are named at their ends as well, up to so many; more would cover each other.
const MOST_NAMED: usize = 6;
const END_TEXT: Lettering = Lettering {
    size: 14.0,
    bold: false,
    colour: INK,
    align: Align::Start,
    turned: false,
};
/// The longest name at a line's end before it is cut.
const LONGEST_END: f64 = 150.0;
const LEGEND_LINE: f64 = 30.0;
const SWATCH: f64 = 34.0;

/// Draws a figure and writes it as SVG, PNG or JPEG.
///
/// # Errors
///
/// As [`picture`] and [`Picture::save`].
pub fn draw(figure: &Figure, path: &Path) -> Result<MissingLetters> {
    picture(figure)?.save(path)
}

/// Draws a figure.
///
/// # Errors
///
/// If it has so many panels that no viewer would open it.
pub fn picture(figure: &Figure) -> Result<Picture> {
    let columns = match figure.columns {
        0 => figure.panels.len().clamp(1, 2),
        asked => asked.min(figure.panels.len().max(1)),
    };
    let rows = figure.panels.len().div_ceil(columns);
    let charts: Vec<Chart> = figure
        .panels
        .iter()
        .map(|panel| Chart::new(panel, PLOT))
        .collect();
    // One width for all, so that charts below each other line up.
    let beside_plot = charts
        .iter()
        .map(Chart::beside_plot)
        .fold(0.0, f64::max)
        .ceil();
    let titled = figure.panels.iter().any(|panel| !panel.title.is_empty());
    let above_plot = if titled { PANEL_TITLE.0 } else { PANEL_TITLE.1 };
    let ends = charts.iter().map(Chart::beyond_plot);
    let beyond_plot = ends.fold(0.0, f64::max).ceil();
    let panel = (
        beside_plot + PLOT.0 + beyond_plot,
        above_plot + PLOT.1 + BELOW_PLOT,
    );
    let width = 2.0 * MARGIN + across(columns, panel.0);
    let entries = legend(figure);
    let legend = legend_rows(&entries, width - 2.0 * MARGIN);
    let title = Lettering::new(26.0, INK).bold();
    let subtitle = Lettering::new(16.0, GREY);
    let top = MARGIN
        + if figure.title.is_empty() { 0.0 } else { 38.0 }
        + if figure.subtitle.is_empty() {
            0.0
        } else {
            30.0
        }
        + legend.len() as f64 * LEGEND_LINE
        + 12.0;
    let mut canvas = Canvas::new(width, top + across(rows, panel.1) + MARGIN / 2.0)?;

    let mut y = MARGIN;
    if !figure.title.is_empty() {
        let text = title.cut(&figure.title, width - 2.0 * MARGIN);
        canvas.text((MARGIN, y + 10.0), &text, title);
        y += 38.0;
    }
    if !figure.subtitle.is_empty() {
        let text = subtitle.cut(&figure.subtitle, width - 2.0 * MARGIN);
        canvas.text((MARGIN, y + 6.0), &text, subtitle);
        y += 30.0;
    }
    for row in &legend {
        let mut x = MARGIN;
        for entry in row {
            draw_entry(&mut canvas, (x, y + LEGEND_LINE / 2.0), entry);
            x += entry.width();
        }
        y += LEGEND_LINE;
    }
    for (index, chart) in charts.iter().enumerate() {
        let corner = (
            MARGIN + (index % columns) as f64 * (panel.0 + GAP) + beside_plot,
            top + (index / columns) as f64 * (panel.1 + GAP) + above_plot,
        );
        canvas.named(&chart.panel.title, |canvas| {
            chart.draw(canvas, corner, beside_plot);
        });
    }
    Ok(canvas.finished(&figure.title, &figure.subtitle))
}

/// A chart for itself, and where its values lie in it: for a page whose script shows them.
pub struct Plotted {
    /// Without a title or a legend.
    pub picture: Picture,
    /// The plot's left, top, right and bottom edge, in the picture's pixels.
    pub plot: [f64; 4],
    /// The values at the left and right edge.
    pub x: [f64; 2],
    /// The values at the bottom and top edge.
    pub y: [f64; 2],
}

/// Draws a chart for itself. Its lines are groups of the class `series`, with their numbers in `data-series`.
///
/// # Errors
///
/// As [`picture`].
pub fn plotted(panel: &Panel) -> Result<Plotted> {
    // A page has room for half as much, and names each line itself.
    const IN_A_PAGE: (f64, f64) = (440.0, 260.0);
    let untitled = Panel {
        title: String::new(),
        ..panel.clone()
    };
    let chart = Chart::new(&untitled, IN_A_PAGE);
    let (left, top) = (chart.beside_plot().ceil(), 12.0);
    let (right, bottom) = (left + chart.plot.0, top + chart.plot.1);
    let beyond = chart.beyond_plot().ceil() + 12.0;
    let mut canvas = Canvas::new(right + beyond, bottom + BELOW_PLOT)?;
    chart.draw(&mut canvas, (left, top), left);
    Ok(Plotted {
        picture: canvas.finished(&panel.title, ""),
        plot: [left, top, right, bottom],
        x: [chart.x.low, chart.x.high],
        y: [chart.y.low, chart.y.high],
    })
}

/// The length of that many things with gaps between them.
fn across(count: usize, each: f64) -> f64 {
    count as f64 * (each + GAP) - if count == 0 { 0.0 } else { GAP }
}

/// A line of the legend.
#[derive(Debug, PartialEq)]
struct Entry<'a> {
    label: &'a str,
    colour: Colour,
    stroke: Stroke,
}

const LEGEND_TEXT: Lettering = Lettering {
    size: 16.0,
    bold: false,
    colour: INK,
    align: Align::Start,
    turned: false,
};

impl Entry<'_> {
    fn width(&self) -> f64 {
        SWATCH + 10.0 + LEGEND_TEXT.width(self.label) + 28.0
    }
}

/// What the legend names, in the order of first appearance.
fn legend(figure: &Figure) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry> = Vec::new();
    for series in figure.panels.iter().flat_map(|panel| &panel.series) {
        let entry = Entry {
            label: &series.label,
            colour: palette(series.colour),
            stroke: match figure.strokes {
                Some(_) => Stroke::Solid,
                None => series.stroke,
            },
        };
        if !series.label.is_empty() && !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    if let Some(names) = &figure.strokes {
        for (label, stroke) in [
            (&names.solid, Stroke::Solid),
            (&names.dashed, Stroke::Dashed),
        ] {
            entries.push(Entry {
                label,
                colour: GREY,
                stroke,
            });
        }
    }
    entries
}

/// The entries in as many rows as their widths take.
fn legend_rows<'a, 'b>(entries: &'b [Entry<'a>], width: f64) -> Vec<Vec<&'b Entry<'a>>> {
    let mut rows: Vec<Vec<&Entry>> = Vec::new();
    let mut left = 0.0;
    for entry in entries {
        match rows.last_mut() {
            Some(row) if entry.width() <= left => row.push(entry),
            _ => {
                rows.push(vec![entry]);
                left = width;
            }
        }
        left -= entry.width();
    }
    rows
}

fn draw_entry(canvas: &mut Canvas, (x, y): (f64, f64), entry: &Entry) {
    let swatch = [(x, y), (x + SWATCH, y)];
    stroke(
        canvas,
        &swatch,
        entry.stroke,
        LINE_WIDTH + 0.6,
        entry.colour,
    );
    canvas.text((x + SWATCH + 10.0, y), entry.label, LEGEND_TEXT);
}

fn stroke(canvas: &mut Canvas, points: &[(f64, f64)], stroke: Stroke, width: f64, colour: Colour) {
    match stroke {
        Stroke::Solid => canvas.line(points, width, colour),
        Stroke::Dashed => canvas.dashed_line(points, width, DASHES, colour),
    }
}

/// A panel with its axes worked out.
struct Chart<'a> {
    panel: &'a Panel,
    /// Across and down, without labels.
    plot: (f64, f64),
    x: Scale,
    y: Scale,
}

/// An axis: what it reaches from and to, and where it is marked.
#[derive(Debug)]
struct Scale {
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
}

impl Scale {
    /// A value's place on the axis, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

impl<'a> Chart<'a> {
    fn new(panel: &'a Panel, plot: (f64, f64)) -> Self {
        let points = || panel.series.iter().flat_map(finite);
        Self {
            panel,
            plot,
            x: x_scale(points().map(|point| point.0)),
            y: y_scale(points().map(|point| point.1), panel.y_axis),
        }
    }

    /// The room that the vertical axis needs for its numbers and label.
    fn beside_plot(&self) -> f64 {
        let numbers = self
            .y
            .ticks
            .iter()
            .map(|(_, text)| TICK_TEXT.width(text))
            .fold(0.0, f64::max);
        let label = if self.panel.y_label.is_empty() {
            0.0
        } else {
            28.0
        };
        numbers + 12.0 + label
    }

    /// The solid lines that are named at their ends, with those ends.
    fn named_ends(&self) -> Vec<(&Series, (f64, f64))> {
        let solid = self
            .panel
            .series
            .iter()
            .filter(|s| s.stroke == Stroke::Solid && !s.label.is_empty());
        let ends = solid.filter_map(|series| Some((series, finite(series).last()?)));
        let ends: Vec<_> = ends.collect();
        match ends.len() {
            2..=MOST_NAMED => ends,
            // A line that is alone is named by the chart's title.
            _ => vec![],
        }
    }

    /// A line's place among the panel's.
    fn number(&self, series: &Series) -> usize {
        let mut all = self.panel.series.iter();
        let number = all.position(|other| std::ptr::eq(other, series));
        number.expect("the line is the panel's")
    }

    /// The room that the names at the lines' ends need.
    fn beyond_plot(&self) -> f64 {
        let ends = self.named_ends();
        let widths = ends
            .iter()
            .map(|(series, _)| END_TEXT.width(&series.label).min(LONGEST_END) + 18.0);
        widths.fold(0.0, f64::max)
    }

    fn draw(&self, canvas: &mut Canvas, (left, top): (f64, f64), beside_plot: f64) {
        let (right, bottom) = (left + self.plot.0, top + self.plot.1);
        let to_page = |(x, y): (f64, f64)| {
            (
                left + self.x.place(x) * self.plot.0,
                bottom - self.y.place(y) * self.plot.1,
            )
        };

        let heading = Lettering::new(18.0, INK).bold();
        let text = heading.cut(&self.panel.title, self.plot.0);
        canvas.text((left, top - 22.0), &text, heading);
        for (value, text) in &self.y.ticks {
            let y = sharp(to_page((0.0, *value)).1);
            canvas.rectangle((left, y - 0.5), (right, y + 0.5), FAINT);
            canvas.text((left - 10.0, y), text, TICK_TEXT.align(Align::End));
        }
        for (value, text) in &self.x.ticks {
            let x = sharp(to_page((*value, 0.0)).0);
            canvas.rectangle((x - 0.5, top), (x + 0.5, bottom), FAINT);
            canvas.rectangle((x - 0.5, bottom), (x + 0.5, bottom + 6.0), GREY);
            canvas.text((x, bottom + 20.0), text, TICK_TEXT);
        }
        canvas.rectangle((left, bottom - 1.0), (right, bottom + 0.5), GREY);
        let label = Lettering::new(15.0, INK).align(Align::Middle);
        let middle = ((left + right) / 2.0, (top + bottom) / 2.0);
        canvas.text((middle.0, bottom + 46.0), &self.panel.x_label, label);
        let beside = (left - beside_plot + 10.0, middle.1);
        canvas.text(beside, &self.panel.y_label, label.turned());

        let (dashed, solid): (Vec<&Series>, Vec<&Series>) = self
            .panel
            .series
            .iter()
            .partition(|series| series.stroke == Stroke::Dashed);
        for series in dashed.into_iter().chain(solid) {
            let points: Vec<(f64, f64)> = thinned(finite(series).map(to_page));
            let colour = palette(series.colour);
            let dashed = series.stroke == Stroke::Dashed;
            canvas.series(self.number(series), dashed, |canvas| {
                canvas.named(&series.label, |canvas| match points[..] {
                    // A line of one point would be a speck.
                    [point] => {
                        canvas.dot(point, 5.0, colour);
                        if series.stroke == Stroke::Dashed {
                            canvas.dot(point, 2.6, WHITE);
                        }
                    }
                    _ => stroke(canvas, &points, series.stroke, LINE_WIDTH, colour),
                });
                let marked = series.mark.and_then(|mark| series.points.get(mark));
                if let Some(point) = marked.filter(|(x, y)| x.is_finite() && y.is_finite()) {
                    canvas.dot(to_page(*point), 6.0, WHITE);
                    canvas.dot(to_page(*point), 4.4, colour);
                }
            });
        }
        let ends = self.named_ends();
        let heights: Vec<f64> = ends.iter().map(|(_, end)| to_page(*end).1).collect();
        for ((series, _), y) in ends.iter().zip(apart(&heights, 17.0, (top, bottom))) {
            let text = END_TEXT.cut(&series.label, LONGEST_END);
            let colour = palette(series.colour);
            canvas.series(self.number(series), false, |canvas| {
                canvas.dot((right + 8.0, y), 3.5, colour);
                canvas.text((right + 16.0, y), &text, END_TEXT);
            });
        }
        if self.panel.series.iter().flat_map(finite).next().is_none() {
            canvas.text(
                middle,
                "no values",
                Lettering::new(16.0, GREY).align(Align::Middle),
            );
        }
    }
}

/// Heights as near as can be to those that are wanted, at least so far from each other, between two bounds.
fn apart(wanted: &[f64], gap: f64, (top, bottom): (f64, f64)) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    // Pushed down from the top, then up from the bottom.
    let mut heights = wanted.to_vec();
    let mut least = top;
    for &at in &order {
        heights[at] = heights[at].max(least);
        least = heights[at] + gap;
    }
    let mut most = bottom;
    for &at in order.iter().rev() {
        heights[at] = heights[at].min(most);
        most = heights[at] - gap;
    }
    heights
}

/// The middle of the nearest row or column of pixels: there a thin line is not smeared over two.
fn sharp(place: f64) -> f64 {
    (place - 0.5).round() + 0.5
}

fn finite(series: &Series) -> impl Iterator<Item = (f64, f64)> + Clone {
    series
        .points
        .iter()
        .copied()
        .filter(|(x, y)| x.is_finite() && y.is_finite())
}

/// Leaves out points that no eye could tell from the one before: a rate has one a step.
fn thinned(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    let mut last = None;
    for point in points {
        let near = |&(x, y): &(f64, f64)| (point.0 - x).hypot(point.1 - y) < 0.5;
        last = Some(point);
        if !kept.last().is_some_and(near) {
            kept.push(point);
            last = None;
        }
    }
    kept.extend(last);
    kept
}

fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |extent, value| match extent {
        None => Some((value, value)),
        Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
    })
}

/// The horizontal axis: epochs, steps. Whole numbers get whole marks.
fn x_scale(values: impl Iterator<Item = f64> + Clone) -> Scale {
    let whole = values.clone().all(|value| value.fract() == 0.0);
    let (low, high) = extent(values).unwrap_or((0.0, 1.0));
    let (least, low, high) = match (whole, high > low) {
        (true, true) => (1.0, low, high),
        (true, false) => (1.0, low - 1.0, high + 1.0),
        (false, true) => (0.0, low, high),
        (false, false) => (0.0, low - 0.5, high + 0.5),
    };
    let padding = (high - low) * 0.02;
    scale(low - padding, high + padding, 7, least, "")
}

/// The vertical axis.
fn y_scale(values: impl Iterator<Item = f64>, axis: Axis) -> Scale {
    let (low, high) = extent(values).unwrap_or((0.0, 1.0));
    // A flat line lies in the middle, and its axis reaches a tenth of its height beyond it.
    let padding = match high - low > 1e-9 * low.abs().max(high.abs()) {
        true => (high - low) * 0.05,
        false if high == 0.0 => 1.0,
        false => high.abs() * 0.1,
    };
    let (padded_low, padded_high) = (low - padding, high + padding);
    match axis {
        Axis::FromZero if low >= 0.0 => scale(0.0, padded_high, 6, 0.0, ""),
        Axis::Percent => scale(
            padded_low.max(0.0_f64.min(low)),
            padded_high.min(100.0_f64.max(high)),
            6,
            0.0,
            " %",
        ),
        _ => scale(padded_low, padded_high, 6, 0.0, ""),
    }
}

/// An axis marked at about `count` multiples of 1, 2 or 5 times a power of ten, not closer than
/// `least`.
fn scale(low: f64, high: f64, count: usize, least: f64, unit: &str) -> Scale {
    let rough = ((high - low) / count as f64).max(least);
    let power = rough.log10().floor() as i32;
    let mantissa = rough / 10f64.powi(power);
    // The bounds are the geometric means of neighbours.
    let (mantissa, power) = match mantissa {
        m if m < 2f64.sqrt() => (1, power),
        m if m < 10f64.sqrt() => (2, power),
        m if m < 50f64.sqrt() => (5, power),
        _ => (1, power + 1),
    };
    let multiple = |index: i64| decimal(index * mantissa, power);
    let step = multiple(1);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    let greatest = multiple(first).abs().max(multiple(last).abs());
    let ticks = (first..=last)
        .map(|index| {
            let digits = index * mantissa;
            let text = tick_text(digits, power, greatest);
            (multiple(index), text + unit)
        })
        .collect();
    Scale { low, high, ticks }
}

/// `digits · 10^power`, correctly rounded where a power of ten is exact.
fn decimal(digits: i64, power: i32) -> f64 {
    match power < 0 {
        true => digits as f64 / 10f64.powi(-power),
        false => digits as f64 * 10f64.powi(power),
    }
}

/// The number `digits · 10^power` on an axis whose greatest is `greatest`: `0.25`, `10,000`, `5e-4`.
fn tick_text(digits: i64, power: i32, greatest: f64) -> String {
    let sign = if digits < 0 { "−" } else { "" };
    let value = decimal(digits.abs(), power);
    let text = if digits == 0 {
        "0".to_owned()
    } else if !(0.01..1e9).contains(&greatest) {
        format!("{value:e}")
    } else if power < 0 {
        format!("{value:.*}", power.unsigned_abs() as usize)
    } else {
        count(value as u64)
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(scale: &Scale) -> Vec<&str> {
        scale.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn ticks_read_as_people_write_numbers() {
        let y = |low, high, axis| y_scale([low, high].into_iter(), axis);
        let fitted = |low, high| y(low, high, Axis::Fitted);
        assert_eq!(
            texts(&fitted(0.0, 1e-3)),
            ["0", "2e-4", "4e-4", "6e-4", "8e-4", "1e-3"]
        );
        assert_eq!(
            texts(&fitted(1.21, 4.6)),
            ["1.5", "2.0", "2.5", "3.0", "3.5", "4.0", "4.5"]
        );
        assert_eq!(
            texts(&fitted(-3.0, 12.0)),
            ["−2", "0", "2", "4", "6", "8", "10", "12"]
        );
        assert_eq!(
            texts(&y(0.0, 60.0, Axis::Percent)),
            ["0 %", "10 %", "20 %", "30 %", "40 %", "50 %", "60 %"]
        );
        let x = x_scale([0.0, 60_000.0].into_iter());
        assert_eq!(
            texts(&x),
            [
                "0", "10,000", "20,000", "30,000", "40,000", "50,000", "60,000"
            ]
        );
    }

    #[test]
    fn epochs_get_whole_marks() {
        assert_eq!(
            texts(&x_scale([1.0, 2.0, 3.0].into_iter())),
            ["1", "2", "3"]
        );
        assert_eq!(texts(&x_scale([1.0].into_iter())), ["0", "1", "2"]);
    }

    #[test]
    fn every_axis_holds_its_data() {
        for (low, high) in [
            (0.0, 0.0),
            (5.0, 5.0),
            (-2.0, -2.0),
            (1e-12, 3e7),
            (99.0, 100.0),
        ] {
            for axis in [Axis::Fitted, Axis::FromZero, Axis::Percent] {
                let scale = y_scale([low, high].into_iter(), axis);
                assert!(scale.low <= low && scale.high >= high, "{scale:?}");
                assert!(scale.low < scale.high, "{scale:?}");
                assert!((1..=12).contains(&scale.ticks.len()), "{scale:?}");
                assert!(
                    scale
                        .ticks
                        .iter()
                        .all(|(value, _)| (scale.low..=scale.high).contains(value))
                );
            }
        }
        assert_eq!(y_scale([2.0, 9.0].into_iter(), Axis::FromZero).low, 0.0);
        assert_eq!(y_scale([2.0, 99.0].into_iter(), Axis::Percent).high, 100.0);
    }

    #[test]
    fn thinning_keeps_ends_and_spikes() {
        let mut points: Vec<(f64, f64)> =
            (0..10_000).map(|i| (f64::from(i) / 100.0, 0.0)).collect();
        points[5_000].1 = 50.0;
        let kept = thinned(points.iter().copied());
        assert!(kept.len() < 300);
        assert_eq!(kept.first(), points.first());
        assert_eq!(kept.last(), points.last());
        assert!(kept.contains(&points[5_000]));
    }

    fn series(label: &str, colour: usize, stroke: Stroke, points: &[(f64, f64)]) -> Series {
        Series {
            label: label.to_owned(),
            points: points.to_vec(),
            stroke,
            colour,
            mark: None,
        }
    }

    #[test]
    fn the_legend_names_each_line_once() {
        let panel = Panel {
            series: vec![
                series("ViT", 0, Stroke::Dashed, &[]),
                series("ViT", 0, Stroke::Solid, &[]),
            ],
            ..Panel::default()
        };
        let mut figure = Figure {
            panels: vec![panel.clone(), panel],
            ..Figure::default()
        };
        assert_eq!(legend(&figure).len(), 2);
        figure.strokes = Some(StrokeNames {
            solid: "validation".to_owned(),
            dashed: "training".to_owned(),
        });
        let labels: Vec<&str> = legend(&figure).iter().map(|entry| entry.label).collect();
        assert_eq!(labels, ["ViT", "validation", "training"]);
        let entries = legend(&figure);
        assert_eq!(legend_rows(&entries, 1000.0).len(), 1);
        assert_eq!(legend_rows(&entries, 10.0).len(), 3);
    }

    /// The picture of one panel with these series.
    fn drawn(series: Vec<Series>) -> image::RgbImage {
        let figure = Figure {
            panels: vec![Panel {
                series,
                ..Panel::default()
            }],
            ..Figure::default()
        };
        let (png, _) = picture(&figure).unwrap().png().unwrap();
        image::load_from_memory(&png).unwrap().to_rgb8()
    }

    fn pixels_of(picture: &image::RgbImage, colour: Colour) -> usize {
        picture.pixels().filter(|pixel| pixel.0 == colour).count()
    }

    #[test]
    fn odd_histories_are_drawn() {
        let nan = f64::NAN;
        let one = drawn(vec![series("a", 0, Stroke::Solid, &[(1.0, 2.0)])]);
        assert!(pixels_of(&one, palette(0)) > 50);
        let flat = drawn(vec![series(
            "a",
            1,
            Stroke::Solid,
            &[(1.0, 0.0), (2.0, 0.0)],
        )]);
        assert!(pixels_of(&flat, palette(1)) > 500);
        // A gap in the numbers is none in the line: as long as without the missing point.
        let whole = [(1.0, 0.0), (3.0, 1.0)];
        let gap = [(1.0, 0.0), (2.0, nan), (3.0, 1.0), (4.0, f64::INFINITY)];
        let whole = drawn(vec![series("a", 2, Stroke::Solid, &whole)]);
        let gap = drawn(vec![series("a", 2, Stroke::Solid, &gap)]);
        assert_eq!(whole, gap);
        let none = drawn(vec![series("a", 0, Stroke::Solid, &[(nan, nan)])]);
        // Only the legend.
        assert!(pixels_of(&none, palette(0)) < 200);
        drawn(vec![]);
    }

    #[test]
    fn names_at_the_ends_do_not_cover_each_other() {
        assert_eq!(apart(&[50.0, 10.0], 17.0, (0.0, 100.0)), [50.0, 10.0]);
        assert_eq!(
            apart(&[50.0, 50.0, 52.0], 17.0, (0.0, 100.0)),
            [50.0, 67.0, 84.0]
        );
        assert_eq!(apart(&[99.0, 98.0], 17.0, (0.0, 100.0)), [100.0, 83.0]);
        assert!(apart(&[], 17.0, (0.0, 100.0)).is_empty());
    }

    #[test]
    fn a_chart_says_where_its_values_lie() {
        let line = |label: &str, points: &[(f64, f64)]| series(label, 0, Stroke::Solid, points);
        let mut second = line("b", &[(1.0, 2.0), (3.0, 6.0)]);
        second.mark = Some(1);
        let panel = Panel {
            title: "Loss".into(),
            series: vec![line("a", &[(1.0, 1.0), (3.0, 3.0)]), second],
            ..Panel::default()
        };
        let plotted = plotted(&panel).unwrap();
        let svg = plotted.picture.themed_svg();
        // The dot lies where the plot's edges and their values put it, and its line is named at its end.
        let [left, top, right, bottom] = plotted.plot;
        let x = left + (3.0 - plotted.x[0]) / (plotted.x[1] - plotted.x[0]) * (right - left);
        let y = bottom - (6.0 - plotted.y[0]) / (plotted.y[1] - plotted.y[0]) * (bottom - top);
        let dot = svg.split("<circle ").nth(2).unwrap();
        let number = |name: &str| -> f64 {
            let text = dot.split(&format!("{name}=\"")).nth(1).unwrap();
            text.split('"').next().unwrap().parse().unwrap()
        };
        assert!((number("cx") - x).abs() < 0.01 && (number("cy") - y).abs() < 0.01);
        for part in [
            r#"data-series="1""#,
            ">b</text>",
            r#"stroke="var(--series-0)""#,
            "var(--ink)",
        ] {
            assert!(svg.contains(part), "{part}");
        }
        assert!(
            !svg.contains("#0072b2") && !svg.contains(r#" width="7"#),
            "{svg}"
        );
    }

    #[test]
    fn a_figure_without_panels_is_drawn_too() {
        let picture = picture(&Figure::default()).unwrap();
        assert!(!picture.png().unwrap().0.is_empty());
    }
}
