//! AdamW (Loshchilov and Hutter, arXiv 1711.05101), as Keras computes it:
//!
//! ```text
//! w ← w − decay · w                       decay = rate · λ, or λ alone
//! m ← m + (1 − β₁) (g − m)
//! v ← v + (1 − β₂) (g² − v)
//! w ← w − α · m / (√v + ε)                α = rate · √(1 − β₂ᵗ) / (1 − β₁ᵗ)
//! ```
//!
//! Keras adds ε to √v before the bias correction, most others after it; so their ε is smaller
//! than this one by √(1 − β₂ᵗ), which matters where gradients are tiny.
//!
//! A parameter's [`Scale`] multiplies its rate (in the decay, too, where that is rate · λ) and its
//! decay.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use smallvit_kernels::adamw as kernel;

use super::gradients::{Checked, Gradient};
use super::groups::{Scale, Scales};
use crate::error::{Error, Result};
use crate::models::Model;
use crate::params::{self, Array, Arrays, EachParameter, MapParameter, View, Views};

/// What weight decay is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecayScale {
    /// The learning rate, as in Keras 3 and PyTorch.
    LearningRate,
    /// Nothing: λ · w is taken off every step, as TensorFlow Addons did in 2022. A λ of 1e-4
    /// there is what 0.1 is elsewhere at a rate of 1e-3.
    None,
}

/// Which parameters decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecayOn {
    /// Every one.
    All,
    /// Kernels and the position embedding; not biases, layer normalisations and temperatures.
    Matrices,
}

/// AdamW's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε.
    pub epsilon: f64,
    /// λ.
    pub weight_decay: f64,
    /// What λ is multiplied by.
    pub decay_scale: DecayScale,
    /// Gradients are scaled so that the norm of all together is at most this; 0 is off.
    pub clip_norm: f64,
}

/// AdamW with its moments, one pair a parameter.
pub struct AdamW {
    config: AdamWConfig,
    /// Of every parameter.
    scales: Scales,
    /// Steps taken.
    steps: u64,
    moments: BTreeMap<String, Moments>,
}

#[derive(Clone)]
struct Moments {
    /// m, flat.
    first: Tensor<1>,
    /// v, flat.
    second: Tensor<1>,
}

impl AdamW {
    /// Before the first step, for the parameters that have scales.
    pub fn new(config: AdamWConfig, scales: Scales) -> Self {
        Self {
            config,
            scales,
            steps: 0,
            moments: BTreeMap::new(),
        }
    }

    /// The names of the parameters, in the order of names: gradients are
    /// [checked](super::gradients::Gradients::checked) against them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.scales.keys().map(String::as_str)
    }

    /// One step of the model (without autodiff) along its gradients.
    pub fn step(&mut self, model: Model, mut gradients: Checked, rate: f64) -> Model {
        self.steps += 1;
        let mut step = Step {
            clip: clip(&mut gradients, self.config.clip_norm),
            gradients,
            steps: self.steps,
            rate,
            config: self.config,
            scales: &self.scales,
            moments: &mut self.moments,
        };
        params::map(model, &mut step)
    }

    /// The moments to save, first and second; none before the first step.
    pub fn moments(&self) -> (Views, Views) {
        let views = |of: fn(&Moments) -> &Tensor<1>| {
            let view = |(name, m): (&String, &Moments)| (name.clone(), View::of(of(m).clone()));
            self.moments.iter().map(view).collect()
        };
        (views(|m| &m.first), views(|m| &m.second))
    }

    /// The optimizer as it was saved after so many steps, for this model; `place` is for the
    /// message.
    pub fn restore(
        mut self,
        steps: u64,
        (first, second): (&Arrays, &Arrays),
        model: &Model,
        place: impl ToString,
    ) -> Result<Self> {
        let mut restore = Restore {
            first,
            second,
            moments: BTreeMap::new(),
            missing: None,
        };
        if steps > 0 {
            params::for_each(model, &mut restore);
        }
        if let Some(name) = restore.missing {
            return Err(Error::model(
                place,
                format!("the moments of {name} are missing"),
                "go on from another checkpoint, or train again",
            ));
        }
        (self.steps, self.moments) = (steps, restore.moments);
        Ok(self)
    }
}

/// Puts saved moments together by parameter.
struct Restore<'a> {
    first: &'a Arrays,
    second: &'a Arrays,
    moments: BTreeMap<String, Moments>,
    missing: Option<String>,
}

impl EachParameter for Restore<'_> {
    fn visit<const D: usize>(&mut self, name: &str, value: Tensor<D>) {
        let length = value.shape().num_elements();
        let device = value.device();
        let tensor = |arrays: &Arrays| {
            let array = arrays.get(name).filter(|a| a.values.len() == length)?;
            let data = TensorData::new(array.values.clone(), [length]);
            Some(Tensor::from_data(data, &device))
        };
        match (tensor(self.first), tensor(self.second)) {
            (Some(first), Some(second)) => {
                self.moments.insert(name.into(), Moments { first, second });
            }
            _ => self.missing = Some(name.into()),
        }
    }
}

/// What the gradients are multiplied by so that their norm is at most `most`; they are formed for it.
fn clip(gradients: &mut Checked, most: f64) -> Option<f64> {
    if most == 0.0 {
        return None;
    }
    let norm = gradients.norm();
    (norm > most).then_some(most / norm)
}

/// One step of all parameters.
struct Step<'a> {
    config: AdamWConfig,
    gradients: Checked,
    clip: Option<f64>,
    /// Steps taken, this one included: t.
    steps: u64,
    rate: f64,
    scales: &'a Scales,
    moments: &'a mut BTreeMap<String, Moments>,
}

/// What a parameter's step multiplies by.
#[derive(Clone, Copy)]
struct Factors {
    /// α
    alpha: f64,
    /// What is taken off the weights, as a part of them.
    decay: f64,
}

impl MapParameter for Step<'_> {
    fn map<const D: usize>(&mut self, name: &str, value: Tensor<D>) -> Tensor<D> {
        let gradient = self.gradients.take(name);
        let gradient = gradient.expect("the gradients were checked against these parameters");
        let shape = value.dims();
        let length = [shape.iter().product::<usize>()];
        let device = value.device();
        // Of a vector of floats, not by `Tensor::zeros`, whose bytes would have to be copied into one.
        let zeros = || Tensor::from_data(TensorData::new(vec![0.0f32; length[0]], length), &device);
        let moments = self.moments.remove(name).unwrap_or_else(|| Moments {
            first: zeros(),
            second: zeros(),
        });
        let factors = self.factors(self.scales[name]);
        let value = value.reshape(length);
        let (value, moments) = if device == Device::flex() {
            self.fused(value, gradient, moments, factors)
        } else {
            self.composed(value, gradient.formed(), moments, factors)
        };
        self.moments.insert(name.into(), moments);
        value.reshape(shape)
    }
}

impl Step<'_> {
    fn factors(&self, scale: Scale) -> Factors {
        let AdamWConfig { beta1, beta2, .. } = self.config;
        let t = self.steps as f64;
        let rate = self.rate * scale.rate;
        let decay = match self.config.decay_scale {
            DecayScale::LearningRate => rate * self.config.weight_decay,
            DecayScale::None => self.config.weight_decay,
        };
        Factors {
            alpha: rate * (1.0 - beta2.powf(t)).sqrt() / (1.0 - beta1.powf(t)),
            decay: decay * scale.decay,
        }
    }

    /// In one pass over memory, in place. A gradient that is not formed is made on the way, each part where
    /// it is used.
    fn fused(
        &self,
        value: Tensor<1>,
        gradient: Gradient,
        moments: Moments,
        factors: Factors,
    ) -> (Tensor<1>, Moments) {
        let constants = kernel::AdamW {
            first: (1.0 - self.config.beta1) as f32,
            second: (1.0 - self.config.beta2) as f32,
            alpha: factors.alpha as f32,
            epsilon: self.config.epsilon as f32,
            keep: (1.0 - factors.decay) as f32,
            clip: self.clip.unwrap_or(1.0) as f32,
        };
        // These tensors have no other owner, so that none of them is copied.
        let values = |tensor: Tensor<1>| Array::of(tensor).values;
        let (mut w, g) = (values(value), gradient.parts());
        let (mut m, mut v) = (values(moments.first), values(moments.second));
        let length = g.length();
        w.par_chunks_mut(length)
            .zip(m.par_chunks_mut(length).zip(v.par_chunks_mut(length)))
            .enumerate()
            .for_each(|(number, (w, (m, v)))| {
                g.part(number, |g| kernel::step(&constants, w, g, m, v));
            });
        let length = [w.len()];
        let tensor = |values| Tensor::from_data(TensorData::new(values, length), &Device::flex());
        let (first, second) = (tensor(m), tensor(v));
        (tensor(w), Moments { first, second })
    }

    /// By the device's own operations.
    fn composed(
        &self,
        mut value: Tensor<1>,
        mut gradient: Tensor<1>,
        moments: Moments,
        factors: Factors,
    ) -> (Tensor<1>, Moments) {
        if let Some(clip) = self.clip {
            gradient = gradient * clip;
        }
        if factors.decay != 0.0 {
            value = value * (1.0 - factors.decay);
        }
        let Moments { first, second } = moments;
        let first = first.clone() + (gradient.clone() - first) * (1.0 - self.config.beta1);
        let square = gradient.clone() * gradient;
        let second = second.clone() + (square - second) * (1.0 - self.config.beta2);
        let delta = first.clone() * factors.alpha / (second.clone().sqrt() + self.config.epsilon);
        (value - delta, Moments { first, second })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::gradients::Gradients;

    const CONFIG: AdamWConfig = AdamWConfig {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-7,
        weight_decay: 0.1,
        decay_scale: DecayScale::LearningRate,
        clip_norm: 1.0,
    };

    fn checked(gradients: &[(&str, [f32; 2])]) -> Checked {
        let mut all = Gradients::default();
        for (name, values) in gradients {
            let gradient = Tensor::from_data(*values, &Device::flex());
            all.insert(*name, gradient).unwrap();
        }
        all.checked(gradients.iter().map(|(name, _)| *name))
            .unwrap()
    }

    #[test]
    fn clipping_scales_all_gradients_to_one_norm() {
        let mut gradients = checked(&[("a", [3.0, 0.0]), ("b", [0.0, 4.0])]);
        assert_eq!(clip(&mut gradients, 0.0), None);
        assert_eq!(clip(&mut gradients, 5.0), None);
        assert_eq!(clip(&mut gradients, 1.0), Some(0.2));
    }

    fn step<'a>(
        scales: &'a Scales,
        moments: &'a mut BTreeMap<String, Moments>,
        decay_scale: DecayScale,
    ) -> Step<'a> {
        Step {
            config: AdamWConfig {
                decay_scale,
                ..CONFIG
            },
            gradients: checked(&[]),
            clip: Some(0.3),
            steps: 1,
            rate: 1e-3,
            scales,
            moments,
        }
    }

    #[test]
    fn a_scale_multiplies_rate_and_decay() {
        let (scales, mut moments) = (Scales::new(), BTreeMap::new());
        let scale = Scale {
            decay: 0.5,
            rate: 3.0,
        };
        // At the first step √(1 − β₂) / (1 − β₁) is √0.001 / 0.1.
        for (decay_scale, decay) in [
            (DecayScale::LearningRate, 3e-3 * 0.1 * 0.5),
            (DecayScale::None, 0.1 * 0.5),
        ] {
            let factors = step(&scales, &mut moments, decay_scale).factors(scale);
            assert!((factors.alpha - 3e-3 * 0.001f64.sqrt() / 0.1).abs() < 1e-12);
            assert!((factors.decay - decay).abs() < 1e-15);
        }
    }

    #[test]
    fn the_fused_step_equals_the_composed_one() {
        let wave = |count: i32, speed: f32| {
            let values: Vec<f32> = (0..count).map(|i| (i as f32 * speed).sin()).collect();
            Tensor::<1>::from_data(TensorData::new(values, [count as usize]), &Device::flex())
        };
        let (scales, mut moments) = (Scales::new(), BTreeMap::new());
        let step = step(&scales, &mut moments, DecayScale::LearningRate);
        for decay in [1e-2, 0.0] {
            let factors = Factors { alpha: 1e-3, decay };
            let moments = || Moments {
                first: wave(1000, 0.7),
                second: wave(1000, 1.1) * wave(1000, 1.1),
            };
            let (fused, a) =
                step.fused(wave(1000, 0.3), wave(1000, 1.9).into(), moments(), factors);
            let (composed, b) = step.composed(wave(1000, 0.3), wave(1000, 1.9), moments(), factors);
            for (a, b) in [(fused, composed), (a.first, b.first), (a.second, b.second)] {
                let most: f32 = (a - b).abs().max().into_scalar();
                assert!(most < 1e-6, "{most}"); // some units in the last place of 1
            }
        }
    }
}
