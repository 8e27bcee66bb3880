//! One step of training: a batch forward and backward, then the optimizer and the average.

use std::time::Instant;

use super::metrics::{LossConfig, Metrics};
use super::schedule::Schedule;
use super::state::{Counters, TrainState};
use super::workers::Workers;
use crate::augment::loader::Batch;
use crate::error::{Error, Result};

/// How every step of a run is taken.
#[derive(Clone)]
pub struct StepConfig<'a> {
    /// Who computes it.
    pub workers: &'a Workers,
    /// The learning rates.
    pub schedule: Schedule,
    /// Steps of the whole run.
    pub steps: u64,
    /// Rows, columns and channels of the images.
    pub shape: [usize; 3],
    /// What the loss makes of targets.
    pub loss: LossConfig,
    /// Names the dropout masks, with the step's number.
    pub seed: u64,
}

/// What a step came to.
#[derive(Clone, Copy, Debug)]
pub struct StepOutcome {
    /// Mean loss over the batch, before the step.
    pub loss: f64,
    /// Its learning rate.
    pub rate: f64,
    /// Norm of all gradients together, before they were clipped.
    pub gradient_norm: f64,
    /// The epoch's means so far, this batch included.
    pub means: Metrics,
    /// How long it took.
    pub seconds: f64,
}

/// Takes one step: changes the weights, the moments and the average, and counts it.
///
/// Changes nothing where the loss is not a finite number ([`Error::Diverged`]), or where a parameter
/// has no gradient or a gradient no parameter ([`Error::Model`]).
pub fn train_step(state: &mut TrainState, batch: &Batch, how: &StepConfig) -> Result<StepOutcome> {
    let began = Instant::now();
    let step = state.counters.step;
    let rate = how.schedule.rate(step);
    let outcome = how
        .workers
        .train(state.model(), batch, how.shape, &how.loss, how.seed, step)?;
    if !outcome.loss.is_finite() {
        return Err(diverged(&state.counters));
    }
    let gradients = outcome.gradients.checked(state.optimizer.names())?;
    let done = ((step + 1) as f64 / how.steps as f64).min(1.0);
    let gradient_norm = how.workers.together(|| state.update(gradients, rate, done));
    if !gradient_norm.is_finite() {
        // Whatever it has made of the weights is not saved.
        return Err(diverged(&state.counters));
    }
    let counters = &mut state.counters;
    counters.norms.0 += gradient_norm;
    counters.norms.1 += 1;
    counters.step += 1;
    counters.epoch_steps += 1;
    counters
        .sums
        .add(outcome.loss, &outcome.logits, &batch.targets.dominant());
    let seconds = began.elapsed().as_secs_f64();
    counters.step_seconds.add(seconds);
    Ok(StepOutcome {
        loss: outcome.loss,
        rate,
        gradient_norm,
        means: counters.sums.means(),
        seconds,
    })
}

/// The error of a run whose numbers are none any more.
pub fn diverged(counters: &Counters) -> Error {
    Error::Diverged {
        place: counters.place(),
        problem: "the loss, or a gradient, is not a number any more".into(),
        remedy: "begin a new run with a lower train.learning_rate, a warm-up \
                 (train.schedule=warmup-cosine, train.warmup_epochs), or train.clip_norm=1"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::loader::make;
    use crate::models::{Architecture, ModelConfig};
    use crate::params::{Arrays, weights};
    use crate::train::device;
    use crate::train::groups::{GroupRecipe, Scale, Scales};
    use crate::train::optimizer::{Optimizer, Rule};
    use crate::train::recipe::Recipe;
    use crate::train::schedule::ScheduleKind;
    use crate::train::testing;

    fn begin(recipe: &Recipe) -> (TrainState, Batch) {
        let data = testing::prepared(recipe);
        let state = TrainState::new(recipe, &data.info, &data.fingerprint, &device::cpu()).unwrap();
        let samples: Vec<u32> = (0..10).collect();
        let batch = make(&data.train.split, &samples, &data.preprocess(), None);
        (state, batch)
    }

    fn step(state: &mut TrainState, batch: &Batch, threads: usize) -> Result<StepOutcome> {
        let workers = Workers::new(threads, 2, device::cpu())?;
        let how = StepConfig {
            workers: &workers,
            schedule: Schedule {
                kind: ScheduleKind::Constant,
                ..testing::recipe().schedule(1)
            },
            steps: 10,
            shape: [8, 8, 3],
            loss: LossConfig::smoothed(0.1),
            seed: 1,
        };
        train_step(state, batch, &how)
    }

    #[test]
    fn a_step_has_the_same_bits_on_any_number_of_threads() {
        let run = |threads| {
            let (mut state, batch) = begin(&testing::recipe());
            let outcomes: Vec<u64> = (0..3)
                .map(|_| step(&mut state, &batch, threads).unwrap().loss.to_bits())
                .collect();
            assert_eq!(state.counters.step, 3);
            assert_eq!(state.counters.step_seconds.steps(), 3);
            assert_eq!(state.counters.sums.images, 30);
            (outcomes, weights(state.model()))
        };
        let one = run(1);
        for threads in [2, 3, 8] {
            assert!(run(threads) == one, "{threads}");
        }
    }

    #[test]
    fn a_group_learns_at_its_own_rate() {
        let after = |groups: &[(&str, f64)]| -> [Arrays; 2] {
            let mut recipe = testing::recipe();
            recipe.train.weight_decay = 0.0;
            recipe.train.groups = groups
                .iter()
                .map(|&(pattern, rate)| GroupRecipe {
                    pattern: pattern.into(),
                    decay: None,
                    rate,
                })
                .collect();
            let (mut state, batch) = begin(&recipe);
            let before = weights(state.model());
            step(&mut state, &batch, 2).unwrap();
            [before, weights(state.model())]
        };
        let plain = after(&[]);
        let grouped = after(&[("blocks.0.mlp.*", 0.0), ("*.kernel", 2.0)]);
        assert_eq!(plain[0], grouped[0]);
        let change = |[before, after]: &[Arrays; 2], name: &str| -> Vec<f32> {
            let (before, after) = (&before[name].values, &after[name].values);
            assert_eq!(before.len(), after.len());
            before.iter().zip(after).map(|(b, a)| a - b).collect()
        };
        for name in plain[0].keys() {
            let (one, other) = (change(&plain, name), change(&grouped, name));
            assert!(one.iter().any(|&c| c != 0.0), "{name} learns");
            let factor = match name.as_str() {
                mlp if mlp.starts_with("blocks.0.mlp.") => 0.0,
                kernel if kernel.ends_with(".kernel") => 2.0,
                _ => 1.0,
            };
            for (one, other) in one.iter().zip(&other) {
                // Differences of weights of order 1, which are rounded to 6e-8.
                assert!((factor * one - other).abs() < 5e-7, "{name}: {one} {other}");
            }
        }
    }

    #[test]
    fn a_gradient_formed_within_the_optimizers_step_gives_the_same_bits_as_one_formed_before() {
        let after = |clip_norm: f64| {
            let mut recipe = testing::recipe();
            // A norm that is never reached: the gradients are formed to be measured, and not changed.
            recipe.train.clip_norm = clip_norm;
            let ModelConfig { arch, .. } = &mut recipe.model;
            let Architecture::Vit(vit) = arch else {
                unreachable!("the tests' recipe is a ViT")
            };
            // 16 tokens of 8: the classifier's kernel has more rows than are formed at once.
            vit.patch_size = 2;
            let (mut state, batch) = begin(&recipe);
            for _ in 0..2 {
                step(&mut state, &batch, 2).unwrap();
            }
            let weights = weights(state.model());
            assert!(weights.values().any(|array| array.shape == [128, 16]));
            weights
        };
        assert!(after(0.0) == after(1e9));
    }

    #[test]
    fn each_optimizer_learns_and_gives_the_same_bits_on_any_number_of_threads() {
        for optimizer in [Rule::Adamw, Rule::Lion, Rule::Muon] {
            let mut recipe = testing::recipe();
            recipe.train.optimizer = optimizer;
            recipe.train.learning_rate = 3e-3;
            let mut losses = vec![];
            let runs = [1, 2, 3].map(|threads| {
                let (mut state, batch) = begin(&recipe);
                for _ in 0..12 {
                    let outcome = step(&mut state, &batch, threads).unwrap();
                    losses.push(outcome.loss);
                    assert!(outcome.gradient_norm > 0.0);
                }
                let (first, second) = state.optimizer.moments();
                let parameters = weights(state.model()).len();
                assert_eq!(first.len(), parameters);
                match optimizer {
                    Rule::Adamw => assert_eq!(second.len(), parameters),
                    Rule::Lion => assert_eq!(second.len(), 0),
                    Rule::Muon => assert!((1..parameters).contains(&second.len())),
                }
                weights(state.model())
            });
            assert!(runs[0] == runs[1] && runs[0] == runs[2], "{optimizer:?}");
            assert!(losses[11] < 0.9 * losses[0], "{optimizer:?}: {losses:?}");
        }
    }

    #[test]
    fn a_step_whose_loss_is_no_number_changes_nothing() {
        let (mut state, mut batch) = begin(&testing::recipe());
        let before = weights(state.model());
        batch.images[7] = f32::NAN;
        let error = step(&mut state, &batch, 2).unwrap_err();
        assert!(matches!(error, Error::Diverged { .. }), "{error}");
        assert!(error.to_string().starts_with("epoch 1, step 1:"), "{error}");
        assert_eq!(weights(state.model()), before);
        assert_eq!(state.counters.step, 0);
    }

    #[test]
    fn a_step_that_would_leave_a_parameter_out_changes_nothing() {
        let recipe = testing::recipe();
        let scale = Scale {
            decay: 1.0,
            rate: 1.0,
        };
        let (state, _) = begin(&recipe);
        let all: Scales = state.optimizer.names().map(|n| (n.into(), scale)).collect();
        let mut more = all.clone();
        more.insert("blocks.0.lost.kernel".into(), scale);
        let mut less = all;
        less.remove("blocks.0.attention.temperature");
        for (scales, name, problem) in [
            (more, "blocks.0.lost.kernel:", "no gradient"),
            (less, "blocks.0.attention.temperature:", "no parameter"),
        ] {
            let (mut state, batch) = begin(&recipe);
            let before = weights(state.model());
            state.optimizer = Optimizer::new(recipe.optimizer(), scales);
            let error = step(&mut state, &batch, 2).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
            assert!(error.contains(problem), "{error}");
            assert_eq!(weights(state.model()), before);
            assert_eq!(state.counters.step, 0);
        }
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_refused_before_training() {
        let mut recipe = testing::recipe();
        recipe.train.groups = vec![GroupRecipe {
            pattern: "*.gama".into(),
            decay: None,
            rate: 1.0,
        }];
        let data = testing::prepared(&recipe);
        let state = TrainState::new(&recipe, &data.info, &data.fingerprint, &device::cpu());
        let error = state.err().expect("it is refused");
        assert!(error.to_string().contains("`*.gama`"), "{error}");
        assert!(error.remedy().contains(".gamma"), "{}", error.remedy());
    }
}
