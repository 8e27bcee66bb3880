//! The charts of runs: what of their histories is drawn, in `curves.png` and in reports.

use smallvit::report::picture::curves::{Axis, Panel, Series, Stroke};
use smallvit::train::history::{self, Epoch};
use smallvit::train::metrics::Metrics;
use smallvit::train::result::RunResult;

/// A run's lines.
pub struct Line<'a> {
    /// What the legend calls it.
    pub label: String,
    /// Its epochs.
    pub history: &'a [Epoch],
}

/// Runs that have ended, by their models.
pub fn of_results(runs: &[(RunResult, Vec<Epoch>)]) -> Vec<Line<'_>> {
    let lines = runs.iter().map(|(result, history)| Line {
        label: result.model.to_string(),
        history,
    });
    lines.collect()
}

/// Several runs as one: the means of their epochs, as far as all have come.
pub fn mean(histories: &[&[Epoch]]) -> Vec<Epoch> {
    let epochs = histories
        .iter()
        .map(|history| history.len())
        .min()
        .unwrap_or(0);
    let runs = histories.len() as f64;
    (0..epochs)
        .map(|at| {
            let mean = |of: &dyn Fn(&Epoch) -> f64| {
                histories
                    .iter()
                    .map(|history| of(&history[at]))
                    .sum::<f64>()
                    / runs
            };
            let metrics = |of: fn(&Epoch) -> Metrics| Metrics {
                loss: mean(&|epoch| of(epoch).loss),
                top1: mean(&|epoch| of(epoch).top1),
                top5: mean(&|epoch| of(epoch).top5),
            };
            // Known of all, or of none.
            let some = |of: fn(&Epoch) -> Option<f64>| {
                Some(mean(&|epoch| of(epoch).unwrap_or(f64::NAN))).filter(|mean| mean.is_finite())
            };
            Epoch {
                train: metrics(|epoch| epoch.train),
                validation: metrics(|epoch| epoch.validation),
                gradient_norm: some(|epoch| epoch.gradient_norm),
                weight_norm: some(|epoch| epoch.weight_norm),
                temperature: some(|epoch| epoch.temperature),
                ..histories[0][at]
            }
        })
        .collect()
}

/// What is drawn of an epoch.
type Value = fn(&Epoch) -> f64;

/// A chart of validation (solid) and training (dashed); with a dot at each run's best epoch where it is of
/// validation.
fn chart(
    lines: &[Line],
    title: &str,
    y_axis: Axis,
    validation: Option<Value>,
    train: Option<Value>,
) -> Panel {
    let mut panel = Panel {
        title: title.into(),
        x_label: "epoch".into(),
        y_axis,
        ..Panel::default()
    };
    for (colour, line) in lines.iter().enumerate() {
        let strokes = [(validation, Stroke::Solid), (train, Stroke::Dashed)];
        for (value, stroke) in strokes {
            let Some(value) = value else { continue };
            let both = validation.is_some() && train.is_some();
            panel.series.push(Series {
                label: line.label.clone(),
                points: line
                    .history
                    .iter()
                    .map(|e| (e.epoch as f64, value(e)))
                    .collect(),
                stroke,
                colour,
                mark: history::best(line.history).filter(|_| both && stroke == Stroke::Solid),
            });
        }
    }
    panel
}

/// Losses, accuracies and rates: those of the first five classes only where there are more than five.
pub fn usual(lines: &[Line]) -> Vec<Panel> {
    let top5 = lines
        .iter()
        .flat_map(|line| line.history)
        .any(|e| e.validation.top5 < 100.0);
    let mut panels = vec![
        chart(
            lines,
            "Loss",
            Axis::Fitted,
            Some(|e| e.validation.loss),
            Some(|e| e.train.loss),
        ),
        chart(
            lines,
            "Top-1, %",
            Axis::Percent,
            Some(|e| e.validation.top1),
            Some(|e| e.train.top1),
        ),
    ];
    if top5 {
        let (validation, train): (Value, Value) = (|e| e.validation.top5, |e| e.train.top5);
        let (validation, train) = (Some(validation), Some(train));
        panels.push(chart(lines, "Top-5, %", Axis::Percent, validation, train));
    }
    panels.push(chart(
        lines,
        "Learning rate",
        Axis::FromZero,
        Some(|e| e.learning_rate),
        None,
    ));
    panels
}

/// The same, and what the weights did, as far as the histories know it.
pub fn all(lines: &[Line]) -> Vec<Panel> {
    let mut panels = usual(lines);
    // An epoch of which it is not known has no point.
    let optional: [(&str, Axis, Value); 3] = [
        ("Gradient norm", Axis::FromZero, |e| {
            e.gradient_norm.unwrap_or(f64::NAN)
        }),
        ("Weight norm", Axis::Fitted, |e| {
            e.weight_norm.unwrap_or(f64::NAN)
        }),
        ("Temperature of LSA", Axis::Fitted, |e| {
            e.temperature.unwrap_or(f64::NAN)
        }),
    ];
    for (title, axis, value) in optional {
        let mut panel = chart(lines, title, axis, Some(value), None);
        let is_known = |series: &Series| series.points.iter().any(|point| point.1.is_finite());
        panel.series.retain(is_known);
        if !panel.series.is_empty() {
            panels.push(panel);
        }
    }
    panels
}
