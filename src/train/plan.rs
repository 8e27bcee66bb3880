//! What a run would take, from a few steps that are thrown away.

use std::time::Instant;

use serde::Serialize;

use super::clock::median;
use super::epoch::{EpochConfig, in_its_size, loader};
use super::evaluate::evaluate;
use super::prepare::Subset;
use super::room::Disk;
use super::run::{Run, config, refuse_without_room};
use super::state::TrainState;
use super::step::train_step;
use super::workers::Workers;
use crate::error::Result;
use crate::memory;
use crate::models::ModelName;

/// Steps that are timed, after one that is not.
const STEPS: usize = 3;

/// Validation images that are timed, at most.
const IMAGES: usize = 512;

/// What a run would take.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The model's name.
    pub model: ModelName,
    /// Trainable parameters.
    pub parameters: u64,
    /// Multiplications of one image's forward pass, in all matrix products.
    pub macs: u64,
    /// Times through the training images.
    pub epochs: u64,
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
    /// Median of the steps taken, with images of the recipe's size.
    pub seconds_per_step: f64,
    /// Of an epoch with such images, its validation included.
    pub seconds_per_epoch: f64,
    /// Of the whole run from its beginning, the test included.
    pub seconds: f64,
    /// Memory at its most, about: what this process had while it took the steps, and what is there
    /// twice more while a checkpoint is written.
    pub memory_bytes: u64,
    /// What lies in the run's folder in the end.
    pub disk_bytes: u64,
    /// The most that lies there at any moment.
    pub most_disk_bytes: u64,
}

/// Takes a few steps of a run, and works out what all of it takes. Nothing is written.
pub fn plan(run: &Run) -> Result<Plan> {
    refuse_without_room(run)?;
    memory::reset_peak();
    let (recipe, data) = (run.recipe, run.data);
    let train = &recipe.train;
    let workers = Workers::new(run.threads, train.micro_batch, run.device.clone())?
        .in_precision(train.precision)?;
    let how = config(run, &workers);
    let mut state = TrainState::new(recipe, &data.info, &data.fingerprint, workers.device())?;
    // With images of the recipe's size, and of the size that they have at first, where that is another.
    let step = a_step(&mut state, &how, train.epochs - 1)?;
    let is_small = |epoch: &u64| recipe.image_size(*epoch) != recipe.model.image_size();
    let small_epochs = (0..train.epochs).filter(is_small).count() as f64;
    let small_step = match small_epochs > 0.0 {
        true => a_step(&mut state, &how, 0)?,
        false => step,
    };

    let few = Subset {
        samples: data.validation.samples[..data.validation.samples.len().min(IMAGES)].to_vec(),
        ..data.validation.clone()
    };
    let began = Instant::now();
    evaluate(
        &workers,
        state.model(),
        &few,
        &how.preprocess,
        how.step.shape,
    )?;
    let an_image = began.elapsed().as_secs_f64() / few.samples.len() as f64;

    let size = state.model().size();
    let disk = Disk::of(recipe, &data.info);
    // The system may not tell.
    let steps_took = memory::peak().unwrap_or_else(|| {
        let averaged = train.average.is_some();
        size.training(train.batch, train.micro_batch, run.threads, averaged)
            .saturating_sub(2 * disk.checkpoint)
    });
    let validated = data.validation.samples.len() as f64;
    let tested = 2.0 * data.test.samples.len() as f64;
    let epoch = how.steps as f64 * step + validated * an_image;
    Ok(Plan {
        model: data.info.config.name(),
        parameters: size.parameters,
        macs: size.macs,
        epochs: train.epochs,
        steps_per_epoch: how.steps,
        seconds_per_step: step,
        seconds_per_epoch: epoch,
        seconds: train.epochs as f64 * epoch
            - small_epochs * how.steps as f64 * (step - small_step)
            + tested * an_image,
        memory_bytes: steps_took + 2 * disk.checkpoint,
        disk_bytes: disk.kept(),
        most_disk_bytes: disk.most(),
    })
}

/// How long a step of that epoch takes.
fn a_step(state: &mut TrainState, how: &EpochConfig, epoch: u64) -> Result<f64> {
    state.counters.epochs = epoch;
    in_its_size(state, how, |state, how| {
        let mut times = vec![];
        for batch in loader(&state.counters, how)?.take(1 + STEPS) {
            times.push(train_step(state, &batch, &how.step)?.seconds as f32);
        }
        Ok(median(if times.len() > 1 { &times[1..] } else { &times }))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::models::Architecture;
    use crate::train::folder::RunFolder;
    use crate::train::recipe::Recipe;
    use crate::train::{device, testing};

    #[test]
    fn a_plan_counts_the_run_and_writes_nothing() {
        let recipe = testing::recipe();
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder(dir.path().join("run"));
        let plan = planned(&recipe, &folder);
        assert_eq!((plan.epochs, plan.steps_per_epoch), (2, 5));
        assert!(plan.seconds > 10.0 * plan.seconds_per_step);
        assert!(plan.seconds_per_step > 0.0 && plan.macs > 0);
        // Weights and two moments in two checkpoints, and the best weights.
        assert_eq!(plan.disk_bytes, 4 * plan.parameters * (3 * 2 + 1));
        assert!(!folder.0.exists());
    }

    fn planned(recipe: &Recipe, folder: &RunFolder) -> Plan {
        plan(&Run {
            recipe,
            data: &testing::prepared(recipe),
            folder,
            threads: 2,
            device: device::cpu(),
            stop: &AtomicBool::new(false),
            resume_command: String::new(),
            from: Default::default(),
        })
        .unwrap()
    }

    #[test]
    fn smaller_images_at_first_are_counted_as_such() {
        let mut recipe = testing::recipe();
        recipe.model = recipe.model.named("sl-hybrid".parse().unwrap());
        if let Architecture::Hybrid(own) = &mut recipe.model.arch {
            (own.image_size, own.stem_stride) = (32, 1);
            (own.dims, own.head_dim) = (vec![16], 4);
            (own.depths, own.expansions) = (vec![1], vec![2]);
            own.convolution_stages = 0;
        }
        recipe.train.first_size = 8;
        recipe.train.first_share = 0.5;
        recipe.train.epochs = 100;
        recipe.check().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let plan = planned(&recipe, &RunFolder(dir.path().join("run")));
        // A step of 64 tokens takes a small part of one of 1,024.
        let whole = plan.epochs as f64 * plan.seconds_per_epoch;
        assert!(plan.seconds < 0.8 * whole, "{} of {whole}", plan.seconds);
    }
}
