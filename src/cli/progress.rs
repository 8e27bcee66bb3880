//! What is seen of a run while it works: on a terminal one live line a step and one that stays an
//! epoch, elsewhere a line an epoch.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use smallvit::Result;
use smallvit::report::table;
use smallvit::train::history::Epoch;
use smallvit::train::observer::{Begin, Observer};
use smallvit::train::state::Counters;
use smallvit::train::step::StepOutcome;

use super::options::RunOptions;
use super::output::{self, note};

/// Tells of one model's run.
pub struct Progress {
    label: String,
    how: How,
    bar: Option<ProgressBar>,
    epochs: u64,
    steps: u64,
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
    pub fn new(label: impl ToString, options: &RunOptions) -> Self {
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
            verbose: options.verbose,
        }
    }
}

impl Observer for Progress {
    fn begin(&mut self, begin: &Begin) -> Result<()> {
        (self.epochs, self.steps) = (begin.recipe.train.epochs, begin.steps_per_epoch);
        let go_on = match begin.from.step {
            0 => String::new(),
            step => format!(", going on after step {step}"),
        };
        if matches!(self.how, How::Live | How::Plain) {
            note!(
                "{}: {} parameters, {} of {}{go_on}",
                self.label,
                table::count(begin.model.parameters()),
                table::counted(self.epochs, "epoch"),
                table::counted(self.steps, "step")
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
        let bar = self.bar.get_or_insert_with(|| {
            let style = "{prefix} {pos}/{len} {bar:24} ETA {eta} {msg}";
            let style = ProgressStyle::with_template(style).expect("the template is well-formed");
            let bar = ProgressBar::new(self.steps).with_style(style.progress_chars("━━─"));
            bar.set_prefix(format!("epoch {}/{}", counters.epochs + 1, self.epochs));
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        bar.set_position(counters.epoch_steps);
        bar.set_message(format!(
            "{}/step - loss {:.4} - top-1 {:.2} % - top-5 {:.2} %",
            table::seconds(step.seconds),
            step.means.loss,
            step.means.top1,
            step.means.top5
        ));
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
                note!("{line}");
            }
            How::Plain | How::Live => {
                let (t, v) = (epoch.train, epoch.validation);
                note!(
                    "{} epoch {}/{}: {}, {:.0} images/s - loss {:.4}, top-1 {:.2} % - \
                     validation loss {:.4}, top-1 {:.2} %, top-5 {:.2} %",
                    self.label,
                    epoch.epoch,
                    self.epochs,
                    table::seconds(epoch.seconds),
                    epoch.images_per_second,
                    t.loss,
                    t.top1,
                    v.loss,
                    v.top1,
                    v.top5
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
