//! What is seen of a run while it works: on a terminal one live line a step and one that stays an
//! epoch, elsewhere a line an epoch.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use smallvit::Result;
use smallvit::train::history::Epoch;
use smallvit::train::observer::{Begin, Observer};
use smallvit::train::state::Counters;
use smallvit::train::step::StepOutcome;
use smallvit::words;

use super::options::RunOptions;
use super::output::{self, note};

/// Tells of one model's run.
pub struct Progress {
    label: String,
    how: How,
    bar: Option<ProgressBar>,
    epochs: u64,
    steps: u64,
    /// Whether the five likeliest of the classes are fewer than all.
    top5: bool,
    /// Models after this one, which will take as long.
    models_after: u64,
    /// When this process began, and how many steps had been taken.
    began: (Instant, u64),
    verbose: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    Quiet,
    Json,
    Plain,
    Live,
}

impl Progress {
    /// For the model with this name.
    pub fn new(label: impl ToString, options: &RunOptions, models_after: u64) -> Self {
        let how = match options {
            RunOptions { quiet: true, .. } => How::Quiet,
            RunOptions { json: true, .. } => How::Json,
            _ if output::is_live() => How::Live,
            _ => How::Plain,
        };
        Self {
            label: label.to_string(),
            how,
            bar: None,
            epochs: 0,
            steps: 0,
            top5: true,
            models_after,
            began: (Instant::now(), 0),
            verbose: options.verbose,
        }
    }

    /// What is left of the whole command, by what its steps have taken so far; validation is
    /// among that from the second epoch on.
    fn to_go(&self, step: u64) -> String {
        let (began, from) = self.began;
        let taken = step.saturating_sub(from).max(1);
        let of_this = (self.epochs * self.steps).saturating_sub(step);
        let left = of_this + self.models_after * self.epochs * self.steps;
        let seconds = began.elapsed().as_secs_f64() / taken as f64 * left as f64;
        format!("{} to go", words::seconds(seconds))
    }
}

impl Observer for Progress {
    fn begin(&mut self, begin: &Begin) -> Result<()> {
        (self.epochs, self.steps) = (begin.recipe.train.epochs, begin.steps_per_epoch);
        self.began = (Instant::now(), begin.from.step);
        self.top5 = begin.classes > 5;
        let go_on = match begin.from.step {
            0 => String::new(),
            step => format!(", going on after step {step}"),
        };
        if matches!(self.how, How::Live | How::Plain) {
            note!(
                "{}: {} parameters, {} of {}{go_on}",
                self.label,
                words::count(begin.model.parameters()),
                words::counted(self.epochs, "epoch"),
                words::counted(self.steps, "step")
            );
        }
        if self.verbose && matches!(self.how, How::Live | How::Plain) {
            let macs = begin.model.macs();
            note!(
                "{}: {:.1} million multiplications and additions an image forward, {:.1} Gflop a step",
                self.label,
                macs as f64 / 1e6,
                6e-9 * macs as f64 * begin.recipe.train.batch as f64
            );
            let by = begin.model.computed_by(begin.device, false);
            note!(
                "{}: computed {by}, in {}",
                self.label,
                begin.recipe.train.precision
            );
        }
        Ok(())
    }

    fn step(&mut self, counters: &Counters, step: &StepOutcome) -> Result<()> {
        if self.how != How::Live {
            return Ok(());
        }
        self.bar.get_or_insert_with(|| {
            let style = "{prefix} {pos}/{len} {bar:10} {wide_msg}";
            let style = ProgressStyle::with_template(style).expect("the template is well-formed");
            let bar = ProgressBar::new(self.steps).with_style(style.progress_chars("━━─"));
            bar.set_prefix(format!("epoch {}/{}", counters.epochs + 1, self.epochs));
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        // As much as eighty columns hold.
        let message = format!(
            "loss {:.4}, top-1 {:.2} %, {} a step, {}",
            step.means.loss,
            step.means.top1,
            words::seconds(step.seconds),
            self.to_go(counters.step)
        );
        if let Some(bar) = &self.bar {
            bar.set_position(counters.epoch_steps);
            bar.set_message(message);
        }
        Ok(())
    }

    fn epoch(&mut self, epoch: &Epoch) -> Result<()> {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        match self.how {
            How::Quiet => {}
            How::Json => {
                let line = serde_json::json!({ "model": self.label, "epoch": epoch });
                output::json_line(line);
            }
            How::Plain | How::Live => {
                let (t, v) = (epoch.train, epoch.validation);
                let top5 = if self.top5 {
                    format!(", top-5 {:.2} %", v.top5)
                } else {
                    String::new()
                };
                let left = match epoch.epoch == self.epochs && self.models_after == 0 {
                    true => words::seconds(epoch.seconds),
                    false => self.to_go(epoch.step),
                };
                // A line of eighty columns for most runs.
                note!(
                    "{} {}/{}: loss {:.3}, val {:.3}, top-1 {:.2} %, val {:.2} %{top5}; {left}",
                    self.label,
                    epoch.epoch,
                    self.epochs,
                    t.loss,
                    v.loss,
                    t.top1,
                    v.top1
                );
            }
        }
        Ok(())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.abandon();
        }
    }
}
