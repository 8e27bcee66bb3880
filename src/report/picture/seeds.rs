//! Accuracies of several seeds, a dot each, and the difference of two models with its interval.

use super::Picture;
use super::canvas::{Align, Canvas, FAINT, GREY, INK, Lettering, palette};
use crate::error::Result;

/// A model's accuracies.
#[derive(Clone, Debug)]
pub struct Trials {
    /// Its name.
    pub label: String,
    /// Of each seed, in percent; those of all models in the same order.
    pub values: Vec<f64>,
    /// Its number in the palette.
    pub colour: usize,
}

/// By how much one model is ahead of another, in points.
#[derive(Clone, Debug)]
pub struct Ahead {
    /// What is said beside it.
    pub label: String,
    /// The mean difference.
    pub mean: f64,
    /// Where its interval begins, and ends.
    pub interval: [f64; 2],
}

const PLOT: f64 = 410.0;
const ROW: f64 = 40.0;
const TEXT: Lettering = Lettering {
    size: 13.0,
    bold: false,
    colour: GREY,
    align: Align::Middle,
    turned: false,
};

/// Draws a row a model, thin lines joining what has the same seed, thick marks where the means are; below, a row a
/// difference, with a line at 0.
///
/// # Errors
///
/// If there are so many models that no viewer would open the picture.
pub fn picture(title: &str, seeds: &[u64], trials: &[Trials], ahead: &[Ahead]) -> Result<Picture> {
    let name = Lettering::new(13.0, INK).bold();
    let labels = trials
        .iter()
        .map(|of| &of.label)
        .chain(ahead.iter().map(|of| &of.label));
    let left = labels
        .map(|label| name.width(label).min(190.0))
        .fold(0.0, f64::max)
        .ceil()
        + 16.0;
    let right = left + PLOT;
    let above = trials.len() as f64 * ROW;
    let below = if ahead.is_empty() {
        0.0
    } else {
        ahead.len() as f64 * ROW + 62.0
    };
    let mut canvas = Canvas::new(right + 24.0, above + 30.0 + below)?;

    let values = trials.iter().flat_map(|of| of.values.iter().copied());
    let axis = Axis::of(values, (left, right));
    axis.draw(&mut canvas, (0.0, above), " %");
    let middle = |row: usize| (row as f64 + 0.5) * ROW;
    for (row, pair) in trials.windows(2).enumerate() {
        for (a, b) in pair[0].values.iter().zip(&pair[1].values) {
            let line = [
                (axis.place(*a), middle(row)),
                (axis.place(*b), middle(row + 1)),
            ];
            canvas.line(&line, 1.0, FAINT);
        }
    }
    for (row, of) in trials.iter().enumerate() {
        let y = middle(row);
        canvas.text((0.0, y), &name.cut(&of.label, left - 12.0), name);
        let mean = of.values.iter().sum::<f64>() / of.values.len() as f64;
        if mean.is_finite() {
            let x = axis.place(mean);
            canvas.line(&[(x, y - 13.0), (x, y + 13.0)], 3.0, palette(of.colour));
        }
        for (seed, value) in seeds.iter().zip(&of.values) {
            let told = format!("{}, seed {seed}: {value:.2} %", of.label);
            canvas.named(&told, |canvas| {
                canvas.dot((axis.place(*value), y), 5.0, palette(of.colour))
            });
        }
    }

    let top = above + 40.0;
    if !ahead.is_empty() {
        let ends = ahead.iter().flat_map(|of| of.interval).chain([0.0]);
        let axis = Axis::of(ends, (left, right));
        let bottom = top + ahead.len() as f64 * ROW;
        axis.draw(&mut canvas, (top, bottom), "");
        canvas.line(
            &[(axis.place(0.0), top), (axis.place(0.0), bottom)],
            1.4,
            GREY,
        );
        for (row, of) in ahead.iter().enumerate() {
            let y = top + middle(row);
            canvas.text((0.0, y), &name.cut(&of.label, left - 12.0), name);
            let [low, high] = of.interval.map(|end| axis.place(end));
            let told = format!(
                "{:.2} points, 95 % interval {:.2} to {:.2}",
                of.mean, of.interval[0], of.interval[1]
            );
            canvas.named(&told, |canvas| {
                canvas.line(&[(low, y), (high, y)], 2.5, INK);
                canvas.dot((axis.place(of.mean), y), 5.5, INK);
            });
        }
        canvas.text(
            ((left + right) / 2.0, bottom + 40.0),
            "points of difference",
            TEXT,
        );
    }
    Ok(canvas.finished(title, ""))
}

/// A horizontal axis with marks at round numbers.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
    plot: (f64, f64),
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>, plot: (f64, f64)) -> Self {
        let finite = values.filter(|value| value.is_finite());
        let (low, high) = finite.fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let rough = ((high - low) / 6.0).max(1e-6);
        let power = 10f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
        let step = steps
            .into_iter()
            .find(|&step| step >= rough)
            .unwrap_or(10.0 * power);
        Self {
            low: ((low - 0.2 * step) / step).floor() * step,
            high: ((high + 0.2 * step) / step).ceil() * step,
            step,
            plot,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        self.plot.0 + share * (self.plot.1 - self.plot.0)
    }

    fn draw(&self, canvas: &mut Canvas, (top, bottom): (f64, f64), unit: &str) {
        let marks = ((self.high - self.low) / self.step).round() as usize;
        let decimals = usize::from(self.step < 0.999) + usize::from(self.step < 0.0999);
        for mark in 0..=marks {
            let value = self.low + mark as f64 * self.step;
            let x = self.place(value);
            canvas.line(&[(x, top), (x, bottom)], 1.0, FAINT);
            // -0 is 0.
            let value = if value.abs() < 1e-9 { 0.0 } else { value };
            canvas.text(
                (x, bottom + 14.0),
                &format!("{value:.decimals$}{unit}"),
                TEXT,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_round_marks_around_its_values() {
        let axis = Axis::of([74.2, 81.77].into_iter(), (0.0, 100.0));
        assert_eq!((axis.low, axis.high, axis.step), (72.0, 84.0, 2.0));
        assert_eq!(axis.place(78.0), 50.0);
        let one = Axis::of([50.0].into_iter(), (0.0, 100.0));
        assert!(one.low < 50.0 && one.high > 50.0);
        Axis::of([f64::NAN].into_iter(), (0.0, 100.0));
    }

    #[test]
    fn every_seed_and_the_interval_are_there() {
        let of = |label: &str, values: &[f64], colour| Trials {
            label: label.into(),
            values: values.to_vec(),
            colour,
        };
        let trials = [
            of("vit", &[74.2, 77.23], 0),
            of("sl-vit", &[79.65, 81.77], 1),
        ];
        let ahead = Ahead {
            label: "sl-vit − vit".into(),
            mean: 5.0,
            interval: [-1.0, 11.0],
        };
        let picture = picture("seeds", &[42, 43], &trials, &[ahead]).unwrap();
        for told in [
            "vit, seed 43: 77.23 %",
            "5.00 points, 95 % interval -1.00 to 11.00",
            ">0</text>",
        ] {
            assert!(picture.svg().contains(told), "{told}");
        }
        // Two a model, and the difference's.
        assert_eq!(picture.svg().matches("<circle").count(), 5);
        assert!(picture.png().unwrap().1.is_empty());
    }
}
