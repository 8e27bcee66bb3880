//! The training loop.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::checkpoint::{self, State};
use super::history::{self, Epoch};
use super::metrics::{Metrics, Sums, image_loss};
use super::optimizer::AdamW;
use super::prepare::{Part, Prepared};
use super::recipe::Recipe;
use super::workers::Workers;
use crate::augment::Preprocess;
use crate::augment::loader::{EpochAugmentation, Loader, Plan};
use crate::error::{Error, Result};
use crate::model::file::{self, write_atomically};
use crate::model::weights::Arrays;
use crate::model::{ModelName, Vit, weights};
use crate::report::tensorboard::EventWriter;

/// The files of one model's run.
#[derive(Clone, Debug)]
pub struct RunFolder(pub PathBuf);

impl RunFolder {
    /// The recipe, every field written out.
    pub fn recipe(&self) -> PathBuf {
        self.0.join("recipe.toml")
    }
    /// Which models a comparison is of; only in the folder of one.
    pub fn models(&self) -> PathBuf {
        self.0.join("models.json")
    }
    /// A row an epoch.
    pub fn history(&self) -> PathBuf {
        self.0.join("history.csv")
    }
    /// What the run came to.
    pub fn result(&self) -> PathBuf {
        self.0.join("result.json")
    }
    /// The state after the last checkpoint.
    pub fn last(&self) -> PathBuf {
        self.0.join("checkpoints/last.safetensors")
    }
    /// The weights of the best epoch on the validation images.
    pub fn best(&self) -> PathBuf {
        self.0.join("checkpoints/best.safetensors")
    }
}

/// What one model's run came to. Accuracies are in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// The model's name.
    pub model: ModelName,
    /// Trainable parameters.
    pub parameters: u64,
    /// The recipe's name.
    pub recipe: String,
    /// The data set.
    pub data: String,
    /// The seed.
    pub seed: u64,
    /// Epochs trained.
    pub epochs: u64,
    /// The epoch with the highest validation top-1.
    pub best_epoch: u64,
    /// Of the best epoch.
    pub val_top1: f64,
    /// Of the best epoch.
    pub val_top5: f64,
    /// Of the best epoch's weights.
    pub test_top1: f64,
    /// Of the best epoch's weights.
    pub test_top5: f64,
    /// Of the last epoch's weights.
    pub last_test_top1: f64,
    /// Of the last epoch's weights.
    pub last_test_top5: f64,
    /// Of training and validation, pauses between resumptions excluded.
    pub seconds: f64,
    /// Median over the steps.
    pub seconds_per_step: f64,
    /// Largest resident memory while this model trained; none where the system does not tell.
    pub peak_rss_bytes: Option<u64>,
    /// This program's version.
    pub version: String,
}

/// What a run tells while it works.
pub trait Observer {
    /// Before the first step.
    fn begin(&mut self, _recipe: &Recipe, _steps_per_epoch: u64, _parameters: u64, _from: &State) {}
    /// After each step: where the run stands, and this epoch's means so far.
    fn step(&mut self, _epoch: u64, _step_in_epoch: u64, _seconds: f64, _metrics: &Metrics) {}
    /// After each epoch.
    fn epoch(&mut self, _epoch: &Epoch) {}
}

/// An observer that says nothing.
impl Observer for () {}

/// What a run is made of.
pub struct Run<'a> {
    /// How.
    pub recipe: &'a Recipe,
    /// On what.
    pub data: &'a Prepared,
    /// Where to.
    pub folder: &'a RunFolder,
    /// Threads for the model and for augmentation.
    pub threads: usize,
    /// Where the model is computed.
    pub device: Device,
    /// Set from outside to end after the current step.
    pub stop: &'a AtomicBool,
    /// The command that would go on, for the message.
    pub resume_command: String,
}

impl Run<'_> {
    /// Trains from the folder's last checkpoint, or from the beginning where there is none, and
    /// evaluates the best and the last epoch's weights on the test images.
    pub fn train(&self, observer: &mut dyn Observer) -> Result<RunResult> {
        let Self {
            recipe,
            data,
            folder,
            ..
        } = *self;
        let train = &recipe.train;
        reset_peak_memory();
        let checkpoints = folder.0.join("checkpoints");
        fs::create_dir_all(&checkpoints).map_err(Error::io("create", &checkpoints))?;
        write_atomically(&folder.recipe(), recipe.to_toml().as_bytes())?;

        let workers = Workers::new(self.threads, train.micro_batch, self.device.clone())?
            .in_precision(train.precision)?;
        let preprocess = data.preprocess();
        let [_, _, channels] = data.info.input;
        let size = recipe.model.image_size;
        let shape = [size, size, channels];
        let steps_per_epoch = data.train.samples.len().div_ceil(train.batch) as u64;
        let schedule = recipe.schedule(steps_per_epoch);

        let (mut model, mut optimizer, mut state) = if folder.last().exists() {
            checkpoint::load(
                &folder.last(),
                &data.info,
                &data.fingerprint,
                recipe.adamw(),
                workers.device(),
            )?
        } else {
            let state = State {
                fingerprint: data.fingerprint.clone(),
                ..State::default()
            };
            let model = data.info.init(train.seed, workers.device());
            (model, AdamW::new(recipe.adamw()), state)
        };
        let parameters = parameters(&model);
        observer.begin(recipe, steps_per_epoch, parameters, &state);
        let mut events = EventWriter::create(&folder.0, &data.info.config.name().to_string())?;
        if state.step > 0 {
            events.restart_at(state.step + 1)?;
        }
        let mut saved = Instant::now();
        let most = Duration::from_secs_f64((60.0 * train.checkpoint_minutes).min(1e9));

        while state.epochs < train.epochs {
            let epoch = state.epochs;
            let mut clock = Clock::start();
            let loader = Loader::start(
                data.train.split.clone(),
                Plan::shuffled(
                    &data.train.samples,
                    train.batch,
                    train.seed,
                    epoch,
                    state.epoch_steps as usize,
                ),
                preprocess.clone(),
                Some(EpochAugmentation {
                    augmentation: recipe.augment.clone(),
                    seed: train.seed,
                    epoch,
                }),
                self.threads,
            );
            let mut rate = schedule.rate(state.step.saturating_sub(1));
            for batch in loader {
                let began = Instant::now();
                rate = schedule.rate(state.step);
                let outcome = workers.train(
                    &model,
                    &batch,
                    shape,
                    train.label_smoothing,
                    train.seed,
                    state.step,
                );
                if !outcome.loss.is_finite() {
                    return Err(self.diverged(&state));
                }
                model = optimizer.step(model, outcome.gradients, rate);
                state.step += 1;
                state.epoch_steps += 1;
                state.sums.add(outcome.loss, &outcome.logits, &batch.labels);
                let seconds = began.elapsed().as_secs_f64();
                state.step_seconds.push(seconds as f32);
                events.scalar(state.step, "step/loss", outcome.loss)?;
                events.scalar(state.step, "step/learning_rate", rate)?;
                observer.step(epoch + 1, state.epoch_steps, seconds, &state.sums.means());

                let stop = self.stop.load(Ordering::Relaxed);
                if stop || saved.elapsed() > most {
                    clock.pause(&mut state);
                    self.save(&weights::weights(&model), &optimizer, &state)?;
                    events.flush()?;
                    saved = Instant::now();
                    clock = Clock::start(); // saving is not training
                }
                if stop {
                    return Err(self.interrupted(&state));
                }
            }
            if state.epoch_steps != steps_per_epoch {
                // Unreachable unless a worker died, which has said why.
                return Err(loader_ended(&data.name, state.epoch_steps));
            }

            let trained = clock.seconds(&state);
            let validation = evaluate(&workers, &model, &data.validation, &preprocess, shape)?;
            if !validation.means().loss.is_finite() {
                return Err(self.diverged(&state));
            }
            clock.pause(&mut state);
            let row = Epoch {
                epoch: epoch + 1,
                step: state.step,
                learning_rate: rate,
                train: state.sums.means(),
                validation: validation.means(),
                seconds: state.epoch_seconds,
                images_per_second: state.sums.images as f64 / trained,
            };
            state.history.push(row);
            state.epochs += 1;
            (state.epoch_steps, state.sums, state.epoch_seconds) = (0, Sums::default(), 0.0);
            // The best weights first: a run that is killed between the two repeats the epoch.
            let weights = weights::weights(&model);
            if history::best(&state.history) == Some(epoch as usize) {
                file::save(&folder.best(), &data.info, &weights, &self.origin())?;
            }
            self.save(&weights, &optimizer, &state)?;
            saved = Instant::now();
            history::write(&folder.history(), &state.history)?;
            for (tag, value) in [
                ("loss/train", row.train.loss),
                ("loss/validation", row.validation.loss),
                ("top1/train", row.train.top1),
                ("top1/validation", row.validation.top1),
                ("top5/train", row.train.top5),
                ("top5/validation", row.validation.top5),
            ] {
                events.scalar(state.step, tag, value)?;
            }
            events.flush()?;
            observer.epoch(&row);
            if self.stop.load(Ordering::Relaxed) && state.epochs < train.epochs {
                return Err(self.interrupted(&state));
            }
        }
        // Once more, for a run that was killed between its last checkpoint and this file.
        history::write(&folder.history(), &state.history)?;

        // The only place where the test images are read.
        let last = evaluate(&workers, &model, &data.test, &preprocess, shape)?.means();
        let best_epoch = history::best(&state.history).unwrap_or_default();
        let best = if best_epoch + 1 == state.history.len() {
            last
        } else {
            let (_, model) = file::open(&folder.best(), workers.device())?;
            evaluate(&workers, &model, &data.test, &preprocess, shape)?.means()
        };
        let row = &state.history[best_epoch];
        let result = RunResult {
            model: data.info.config.name(),
            parameters,
            recipe: recipe.name.clone(),
            data: data.name.clone(),
            seed: train.seed,
            epochs: train.epochs,
            best_epoch: row.epoch,
            val_top1: row.validation.top1,
            val_top5: row.validation.top5,
            test_top1: best.top1,
            test_top5: best.top5,
            last_test_top1: last.top1,
            last_test_top5: last.top5,
            seconds: state.seconds,
            seconds_per_step: median(&state.step_seconds),
            peak_rss_bytes: peak_memory(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        write_result(&folder.result(), std::slice::from_ref(&result))?;
        Ok(result)
    }

    /// Writes the last checkpoint, unless it would replace a good one by one that is no use.
    fn save(&self, weights: &Arrays, optimizer: &AdamW, state: &State) -> Result<()> {
        let mut values = weights.values().flat_map(|array| &array.values);
        if !values.all(|value| value.is_finite()) {
            return Err(self.diverged(state));
        }
        let (path, info) = (self.folder.last(), &self.data.info);
        checkpoint::save(&path, info, weights, optimizer, state, &self.origin())
    }

    /// What a model file says of where the model comes from: with it the same images are held
    /// out when the model is evaluated later.
    fn origin(&self) -> [(&'static str, String); 2] {
        [
            ("recipe", self.recipe.to_toml()),
            ("fingerprint", self.data.fingerprint.clone()),
        ]
    }

    fn diverged(&self, state: &State) -> Error {
        let kept = if self.folder.last().exists() {
            format!(
                "the checkpoint before it is kept in {}",
                self.folder.last().display()
            )
        } else {
            "there was no checkpoint yet".into()
        };
        Error::Diverged {
            place: format!("epoch {}, step {}", state.epochs + 1, state.step + 1),
            problem: format!("the loss is not a number any more; {kept}"),
            remedy: "begin a new run with a lower --set train.learning_rate, a warm-up \
                     (train.schedule=warmup-cosine, train.warmup_epochs), or \
                     --set train.clip_norm=1"
                .into(),
        }
    }

    fn interrupted(&self, state: &State) -> Error {
        let epoch = state.epochs + u64::from(state.epoch_steps > 0);
        Error::Interrupted {
            place: format!("in epoch {epoch} after step {}; all is saved", state.step),
            remedy: format!("go on with: {}", self.resume_command),
        }
    }
}

/// Time that adds up over interruptions.
struct Clock {
    began: Instant,
}

impl Clock {
    fn start() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    /// Of the epoch so far.
    fn seconds(&self, state: &State) -> f64 {
        state.epoch_seconds + self.began.elapsed().as_secs_f64()
    }

    fn pause(&mut self, state: &mut State) {
        let seconds = self.began.elapsed().as_secs_f64();
        state.epoch_seconds += seconds;
        state.seconds += seconds;
        self.began = Instant::now();
    }
}

/// Loss and accuracies of a model on a part of a data set, without augmentation or dropout.
pub fn evaluate(
    workers: &Workers,
    model: &Vit,
    part: &Part,
    preprocess: &Arc<Preprocess>,
    shape: [usize; 3],
) -> Result<Sums> {
    let mut sums = Sums::default();
    each_image(workers, model, part, preprocess, shape, |logits, label| {
        sums.add(image_loss(logits, label as usize), logits, &[label]);
    })?;
    Ok(sums)
}

/// Every image's logits and label, in order.
pub fn each_image(
    workers: &Workers,
    model: &Vit,
    part: &Part,
    preprocess: &Arc<Preprocess>,
    shape: [usize; 3],
    mut each: impl FnMut(&[f32], u32),
) -> Result<()> {
    const BATCH: usize = 256;
    let loader = Loader::start(
        part.split.clone(),
        Plan::in_order(&part.samples, BATCH),
        preprocess.clone(),
        None,
        workers.threads(),
    );
    let mut images = 0;
    for batch in loader {
        let logits = workers.infer(model, &batch.images, shape);
        let classes = logits.len() / batch.labels.len();
        for (logits, &label) in logits.chunks_exact(classes).zip(&batch.labels) {
            each(logits, label);
        }
        images += batch.labels.len();
    }
    if images == part.samples.len() {
        Ok(())
    } else {
        // Unreachable unless a worker died, which has said why.
        Err(loader_ended("the images to evaluate on", images as u64))
    }
}

fn loader_ended(place: &str, count: u64) -> Error {
    Error::data(
        place,
        format!("the loader ended after {count}"),
        "this is a fault of the program; please report it with the message above",
    )
}

/// Writes `result.json`: `{"models": […]}`, one entry for `train`, one a model for `compare`.
pub fn write_result(path: &Path, results: &[RunResult]) -> Result<()> {
    let json = serde_json::json!({ "models": results });
    let text = serde_json::to_string_pretty(&json).expect("plain data becomes JSON");
    write_atomically(path, (text + "\n").as_bytes())
}

/// The results in a `result.json`.
pub fn read_result(path: &Path) -> Result<Vec<RunResult>> {
    #[derive(Deserialize)]
    struct Document {
        models: Vec<RunResult>,
    }
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let document: Document = serde_json::from_str(&text).map_err(|error| {
        Error::model(
            path.display(),
            error.to_string(),
            "take away the file; the run writes it again",
        )
    })?;
    Ok(document.models)
}

/// Trainable parameters.
pub fn parameters(model: &Vit) -> u64 {
    burn::module::Module::num_params(model) as u64
}

/// The middle of the values, or of the two in the middle.
pub fn median(values: &[f32]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => f64::from(sorted[middle]),
        _ => f64::from(sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// Makes [`peak_memory`] count from now, where the system can: on Linux.
fn reset_peak_memory() {
    // Without it the peak is that of the whole process so far, which is still an upper bound.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Largest resident memory in bytes, where the system tells.
pub fn peak_memory() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kilobytes * 1024)
    }
    #[cfg(all(unix, not(target_os = "linux")))]
    {
        use nix::sys::resource::{UsageWho, getrusage};
        let most = getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss() as u64;
        // Kilobytes everywhere but on Apple's systems.
        Some(if cfg!(target_vendor = "apple") {
            most
        } else {
            most * 1024
        })
    }
    #[cfg(not(unix))]
    None
}
