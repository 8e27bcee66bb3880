//! One epoch: every batch once, then the validation images.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::checkpoint::{self, Origin};
use super::clock::Clock;
use super::evaluate::{evaluate, whole};
use super::history::Epoch;
use super::norms;
use super::observer::{Observer, tell};
use super::recipe::Balance;
use super::state::{Counters, TrainState};
use super::step::{StepConfig, diverged, train_step};
use crate::augment::Preprocess;
use crate::augment::loader::{Loader, Sampler};
use crate::error::{Error, Result};

/// How every epoch of a run goes.
#[derive(Clone)]
pub struct EpochConfig<'a> {
    /// How a step is taken.
    pub step: StepConfig<'a>,
    /// What is trained, on what, and where to.
    pub origin: Origin<'a>,
    /// What every image goes through.
    pub preprocess: Arc<Preprocess>,
    /// Steps of an epoch.
    pub steps: u64,
    /// Threads that make batches.
    pub threads: usize,
    /// Set from outside to end after the current step.
    pub stop: &'a AtomicBool,
    /// The command that would go on after that, for the message.
    pub resume_command: &'a str,
}

/// Trains the epoch under way to its end, validates, saves, and tells of it.
pub fn epoch(
    state: &mut TrainState,
    how: &EpochConfig,
    saving: &mut checkpoint::Policy,
    observers: &mut [&mut dyn Observer],
) -> Result<()> {
    let mut clock = Clock::start();
    let rate = in_its_size(state, how, |state, how| {
        batches(state, how, saving, &mut clock, observers)
    })?;
    let trained = clock.epoch_seconds(&state.counters);
    let validation = evaluate(
        how.step.workers,
        &state.judged(),
        &how.origin.data.validation,
        &how.preprocess,
        how.step.shape,
    )?
    .means();
    if !validation.loss.is_finite() {
        return Err(diverged(&state.counters));
    }
    let model = state.model();
    let (weight_norm, temperature) = (Some(norms::of(model)), norms::temperature(model));
    let counters = &mut state.counters;
    clock.note(counters);
    let row = Epoch {
        epoch: counters.epochs + 1,
        step: counters.step,
        learning_rate: rate,
        train: counters.sums.means(),
        validation,
        seconds: counters.epoch_seconds,
        images_per_second: counters.sums.images as f64 / trained,
        gradient_norm: match counters.norms {
            (_, 0) => None,
            (sum, steps) => Some(sum / steps as f64),
        },
        weight_norm,
        temperature,
    };
    counters.end_epoch(row);
    checkpoint::save_epoch(state, how.origin)?;
    saving.saved();
    tell(observers, |observer| observer.epoch(&row))
}

/// What `train` does to the state, with images and a model of the epoch's own size (progressive resizing);
/// what comes after is of the recipe's.
pub(super) fn in_its_size<T>(
    state: &mut TrainState,
    how: &EpochConfig,
    train: impl FnOnce(&mut TrainState, &EpochConfig) -> Result<T>,
) -> Result<T> {
    let Origin { recipe, data, .. } = how.origin;
    let size = recipe.image_size(state.counters.epochs);
    if size == recipe.model.image_size() {
        return train(state, how);
    }
    let (channels, device) = (data.info.input[2], how.step.workers.device());
    let small = EpochConfig {
        step: StepConfig {
            shape: [size, size, channels],
            ..how.step.clone()
        },
        preprocess: Arc::new(Preprocess {
            image_size: size,
            ..(*how.preprocess).clone()
        }),
        ..how.clone()
    };
    state.adapt(&recipe.model.sized(size), &data.info, device)?;
    let done = train(state, &small);
    // Also where the run was stopped: what is saved and judged is the recipe's model.
    state.adapt(&recipe.model, &data.info, device)?;
    done
}

/// A step a batch, to the end of the epoch; the last step's learning rate.
fn batches(
    state: &mut TrainState,
    how: &EpochConfig,
    saving: &mut checkpoint::Policy,
    clock: &mut Clock,
    observers: &mut [&mut dyn Observer],
) -> Result<f64> {
    // Of the step before, where the checkpoint lies at the epoch's end.
    let mut rate = how
        .step
        .schedule
        .rate(state.counters.step.saturating_sub(1));
    for batch in loader(&state.counters, how)? {
        let outcome = train_step(state, &batch, &how.step)?;
        rate = outcome.rate;
        tell(observers, |observer| {
            observer.step(&state.counters, &outcome)
        })?;
        let stop = how.stop.load(Ordering::Relaxed);
        if stop || saving.due() {
            clock.note(&mut state.counters);
            checkpoint::save_step(state, how.origin)?;
            saving.saved();
            tell(observers, |observer| observer.saved())?;
            clock.restart(); // saving is not training
        }
        if stop {
            return Err(interrupted(&state.counters, how.resume_command));
        }
    }
    whole(&how.origin.data.name, state.counters.epoch_steps, how.steps)?;
    Ok(rate)
}

/// The epoch's batches that are left, shuffled and augmented.
pub(super) fn loader(counters: &Counters, how: &EpochConfig) -> Result<Loader> {
    let Origin { recipe, data, .. } = how.origin;
    let epoch = recipe.augmentation(counters.epochs);
    let samples = &data.train.samples;
    let (batch, skip) = (recipe.train.batch, counters.epoch_steps as usize);
    let sampler = match recipe.train.balance {
        Balance::Sampling => {
            let labels = &data.train.split.labels;
            Sampler::balanced(samples, labels, batch, epoch.seed, epoch.epoch, skip)
        }
        Balance::None | Balance::Weights => {
            Sampler::shuffled(samples, batch, epoch.seed, epoch.epoch, skip)
        }
    };
    Loader::start(
        data.train.split.clone(),
        sampler.repeated(epoch.augmentation.repeats),
        how.preprocess.clone(),
        Some(epoch),
        how.threads,
    )
}

/// The error of a run that was asked to stop.
pub(super) fn interrupted(counters: &Counters, resume_command: &str) -> Error {
    let epoch = counters.epochs + u64::from(counters.epoch_steps > 0);
    Error::Interrupted {
        place: format!(
            "in epoch {epoch} after step {}; all is saved",
            counters.step
        ),
        remedy: format!("go on with: {resume_command}"),
    }
}
