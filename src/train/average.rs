//! Averaged weights: an exponential moving average of the weights over the steps, which is often
//! better than the weights of any one of them (Polyak and Juditsky, SIAM J. Control Optim. 30, 1992).
//!
//! After the optimizer's step t, counted from 0,
//!
//! ```text
//! average ← average + (1 − d) · (weights − average)      d = min(decay, 1 − (1 + t)^−power)
//! ```
//!
//! At first d is small, so that the initial weights are soon forgotten: after the first step the
//! average is the weights. This is the warm-up of timm's `ModelEmaV3`.
//!
//! **Lookahead** (Zhang and others, arXiv 1907.08610) with the schedule of airbench (Jordan, arXiv
//! 2404.00498, section 3.4) is an average that the weights go back to: every k-th step
//!
//! ```text
//! average ← average + (1 − d) · (weights − average)      d = decayᵏ · (part of the run that is done)³
//! weights ← average
//! ```
//!
//! With averages on, validation, the best model's file and the test are of the averaged weights;
//! training goes on with the weights themselves, and a checkpoint holds both.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::models::Model;
use crate::params::{self, Array, Arrays, EachParameter, MapParameter};

/// How weights are averaged; the `[train.average]` table of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AverageRecipe {
    /// What remains of the average at a step, at most. The average is over some 1 / (1 − decay)
    /// steps: a fraction of the run, 0.998 for a few thousand steps, 0.9998 for a hundred thousand.
    pub decay: f64,
    /// How fast the decay rises to that: after t steps it is 1 − (1 + t)^−power at most. 2/3 for long
    /// runs, 3/4 for short ones.
    pub power: f64,
    /// Lookahead: after so many steps each the weights go back to their average, whose decay rises over
    /// the whole run; 5 with a decay of 0.95 is airbench's. 0 is an average that the weights know nothing
    /// of.
    pub lookahead: u64,
}

impl Default for AverageRecipe {
    fn default() -> Self {
        Self {
            decay: 0.998,
            power: 0.75,
            lookahead: 0,
        }
    }
}

impl AverageRecipe {
    /// Refuses impossible values, naming the field.
    pub fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.decay) {
            return Err(Error::recipe(
                "train.average.decay",
                format!("{} is out of range", self.decay),
                "choose 0 (no average: the last weights) or more, and less than 1: 0.998",
            ));
        }
        if self.lookahead > 1_000_000 {
            return Err(Error::recipe(
                "train.average.lookahead",
                format!("{} is out of range", self.lookahead),
                "choose 0 (off) to 1000000: 5",
            ));
        }
        if !(self.power > 0.0 && self.power <= 1.0) {
            return Err(Error::recipe(
                "train.average.power",
                format!("{} is out of range", self.power),
                "choose more than 0, and at most 1: 0.75",
            ));
        }
        Ok(())
    }

    /// What remains of the average at this step, counted from 0, after which this part of the run is
    /// done. None where the average stays as it is.
    pub fn decay_at(&self, step: u64, done: f64) -> Option<f64> {
        match self.lookahead {
            0 => Some(self.decay.min(1.0 - (1.0 + step as f64).powf(-self.power))),
            every if (step + 1).is_multiple_of(every) => {
                Some(self.decay.powf(every as f64) * done.powi(3))
            }
            _ => None,
        }
    }
}

/// The averaged weights of a run.
#[derive(Debug)]
pub struct Average {
    recipe: AverageRecipe,
    /// By parameter, flat.
    values: BTreeMap<String, Tensor<1>>,
}

impl Average {
    /// Begins with a model's weights.
    pub fn new(recipe: AverageRecipe, model: &Model) -> Self {
        struct Collect(BTreeMap<String, Tensor<1>>);
        impl EachParameter for Collect {
            fn visit<const D: usize>(&mut self, name: &str, value: Tensor<D>) {
                let length = value.shape().num_elements();
                self.0.insert(name.into(), value.reshape([length]));
            }
        }
        let mut collect = Collect(BTreeMap::new());
        params::for_each(model, &mut collect);
        Self {
            recipe,
            values: collect.0,
        }
    }

    /// The average as it was saved, of a model like this one; `place` is for the message.
    pub fn restore(
        recipe: AverageRecipe,
        saved: &Arrays,
        model: &Model,
        place: impl ToString,
    ) -> Result<Self> {
        let average = params::load(model.clone(), saved, place)?;
        Ok(Self::new(recipe, &average))
    }

    /// Takes in the weights after this step, counted from 0, after which this part of the run is done;
    /// gives the model back, with Lookahead on as its average. In one pass over memory, in place, if
    /// the model's tensors have no other owner.
    pub fn update(&mut self, model: Model, step: u64, done: f64) -> Model {
        let Some(decay) = self.recipe.decay_at(step, done) else {
            return model;
        };
        params::map(
            model,
            &mut Update {
                new: 1.0 - decay,
                back: self.recipe.lookahead > 0,
                values: &mut self.values,
            },
        )
    }

    /// The model with the averaged weights.
    pub fn model(&self, model: &Model) -> Model {
        params::map(model.clone(), &mut Replace(&self.values))
    }
}

struct Update<'a> {
    /// The share of the new weights.
    new: f64,
    /// Whether the weights become the average.
    back: bool,
    values: &'a mut BTreeMap<String, Tensor<1>>,
}

impl MapParameter for Update<'_> {
    fn map<const D: usize>(&mut self, name: &str, value: Tensor<D>) -> Tensor<D> {
        let average = self.values.remove(name);
        let average = average.expect("the average is of this model's parameters");
        let (shape, length) = (value.dims(), average.dims());
        let value = value.reshape(length);
        let (value, average) = if value.device() == Device::flex() {
            fused(value, average, self.new as f32, self.back)
        } else {
            let average = average.clone() + (value.clone() - average) * self.new;
            let value = if self.back { average.clone() } else { value };
            (value, average)
        };
        self.values.insert(name.into(), average);
        value.reshape(shape)
    }
}

/// The weights, and the average moved towards them; with `back` they become it.
fn fused(value: Tensor<1>, average: Tensor<1>, new: f32, back: bool) -> (Tensor<1>, Tensor<1>) {
    /// Elements a thread takes at a time.
    const CHUNK: usize = 1 << 15;
    // Taken and given back rather than read: that spares a copy.
    let (mut w, mut a) = (Array::of(value).values, Array::of(average).values);
    a.par_chunks_mut(CHUNK)
        .zip(w.par_chunks_mut(CHUNK))
        .for_each(|(a, w)| {
            for (a, w) in a.iter_mut().zip(w.iter()) {
                *a += new * (w - *a);
            }
            if back {
                w.copy_from_slice(a);
            }
        });
    let length = [w.len()];
    let tensor = |values| Tensor::from_data(TensorData::new(values, length), &Device::flex());
    (tensor(w), tensor(a))
}

struct Replace<'a>(&'a BTreeMap<String, Tensor<1>>);

impl MapParameter for Replace<'_> {
    fn map<const D: usize>(&mut self, name: &str, value: Tensor<D>) -> Tensor<D> {
        self.0[name].clone().reshape(value.dims())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::testing;

    fn model(seed: u64) -> Model {
        let config = testing::recipe().model;
        Model::new(&config, 3, 5, seed, &Device::flex())
    }

    #[test]
    fn the_decay_rises_to_its_limit() {
        let recipe = AverageRecipe {
            decay: 0.9,
            power: 0.5,
            lookahead: 0,
        };
        // 1 − 1/√1, 1 − 1/√4, 1 − 1/√25, and beyond 1 − 1/√100.
        for (step, decay) in [(0, 0.0), (3, 0.5), (24, 0.8), (99, 0.9), (10_000, 0.9)] {
            let found = recipe.decay_at(step, 0.5).unwrap();
            assert!((found - decay).abs() < 1e-12, "{step}");
        }
        AverageRecipe::default().check().unwrap();
        for (decay, power, field) in [(1.0, 0.5, "decay"), (f64::NAN, 0.5, "decay")]
            .into_iter()
            .chain([(0.9, 0.0, "power"), (0.9, 1.1, "power")])
        {
            let lookahead = 0;
            let recipe = AverageRecipe {
                decay,
                power,
                lookahead,
            };
            let error = recipe.check().unwrap_err();
            let field = format!("train.average.{field}:");
            assert!(error.to_string().starts_with(&field), "{error}");
        }
    }

    #[test]
    fn the_average_is_that_of_its_formula_and_survives_its_file() {
        let recipe = AverageRecipe {
            decay: 0.6,
            power: 0.5,
            lookahead: 0,
        };
        let mut average = Average::new(recipe.clone(), &model(0));
        let mut expected: Vec<f64> = vec![];
        let name = "blocks.0.mlp.hidden.kernel";
        for step in 0..6 {
            let new = model(step + 1);
            let weights = params::weights(&new);
            let values = weights[name].values.iter().map(|&w| f64::from(w));
            // d = 0, 1 − 1/√2, 1 − 1/√3, 0.5, 1 − 1/√5, 1 − 1/√6, none of them above 0.6.
            let d = 1.0 - 1.0 / ((step + 1) as f64).sqrt();
            expected = match step {
                0 => values.collect(),
                _ => {
                    let pairs = expected.iter().zip(values);
                    pairs.map(|(a, w)| d * a + (1.0 - d) * w).collect()
                }
            };
            let back = average.update(new, step, 0.0);
            assert_eq!(params::weights(&back), weights, "the model is as it was");
        }
        let averaged = params::weights(&average.model(&model(9)));
        let found = &averaged[name].values;
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            // Some roundings of numbers below 1.
            assert!((f64::from(*found) - expected).abs() < 1e-6);
        }
        let restored = Average::restore(recipe.clone(), &averaged, &model(3), "here").unwrap();
        assert_eq!(params::weights(&restored.model(&model(4))), averaged);
        let mut less = averaged;
        less.remove(name);
        let error = Average::restore(recipe, &less, &model(3), "here").unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }

    #[test]
    fn with_lookahead_the_weights_go_back_to_their_average() {
        let recipe = AverageRecipe {
            decay: 0.5,
            power: 0.75,
            lookahead: 2,
        };
        assert_eq!(recipe.decay_at(0, 0.1), None);
        assert_eq!(recipe.decay_at(1, 0.5), Some(0.25 / 8.0));
        assert_eq!(recipe.decay_at(3, 1.0), Some(0.25));
        let mut average = Average::new(recipe, &model(0));
        let name = "blocks.0.mlp.hidden.kernel";
        let first = |model: &Model| params::weights(model)[name].values[0];
        let (before, own) = (first(&model(0)), first(&model(1)));
        assert_eq!(first(&average.update(model(1), 2, 0.9)), own);
        let back = average.update(model(1), 3, 1.0);
        assert!((first(&back) - (0.25 * before + 0.75 * own)).abs() < 1e-7);
        assert_eq!(first(&average.model(&model(2))), first(&back));
    }
}
