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

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use smallvit_kernels::adamw as kernel;

use super::workers::Gradients;
use crate::error::{Error, Result};
use crate::model::Vit;
use crate::model::weights::{self, Array, Arrays, EachParameter, MapParameter};

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
    /// Which parameters decay.
    pub decay_on: DecayOn,
    /// Gradients are scaled so that the norm of all together is at most this; 0 is off.
    pub clip_norm: f64,
}

/// AdamW with its moments, one pair a parameter.
pub struct AdamW {
    config: AdamWConfig,
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
    /// Before the first step.
    pub fn new(config: AdamWConfig) -> Self {
        Self {
            config,
            steps: 0,
            moments: BTreeMap::new(),
        }
    }

    /// One step of the model (without autodiff) along its gradients.
    pub fn step(&mut self, model: Vit, gradients: Gradients, rate: f64) -> Vit {
        self.steps += 1;
        let AdamWConfig { beta1, beta2, .. } = self.config;
        let t = self.steps as f64;
        let mut step = Step {
            clip: clip(&gradients, self.config.clip_norm),
            gradients,
            alpha: rate * (1.0 - beta2.powf(t)).sqrt() / (1.0 - beta1.powf(t)),
            decay: self.config.weight_decay
                * match self.config.decay_scale {
                    DecayScale::LearningRate => rate,
                    DecayScale::None => 1.0,
                },
            config: self.config,
            moments: &mut self.moments,
        };
        weights::map(model, &mut step)
    }

    /// The state to save: steps taken, first moments, second moments.
    pub fn state(&self) -> (u64, Arrays, Arrays) {
        let arrays = |of: fn(&Moments) -> &Tensor<1>| {
            let array = |(name, m): (&String, &Moments)| (name.clone(), Array::of(of(m).clone()));
            self.moments.iter().map(array).collect()
        };
        (self.steps, arrays(|m| &m.first), arrays(|m| &m.second))
    }

    /// The optimizer as it was saved, for this model; `place` is for the message.
    pub fn with_state(
        config: AdamWConfig,
        steps: u64,
        first: &Arrays,
        second: &Arrays,
        model: &Vit,
        place: impl ToString,
    ) -> Result<Self> {
        struct Restore<'a> {
            first: &'a Arrays,
            second: &'a Arrays,
            moments: BTreeMap<String, Moments>,
            problem: Option<String>,
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
                    _ => self.problem = Some(format!("the moments of {name} are missing")),
                }
            }
        }
        let mut restore = Restore {
            first,
            second,
            moments: BTreeMap::new(),
            problem: None,
        };
        if steps > 0 {
            weights::for_each(model, &mut restore);
        }
        match restore.problem {
            None => Ok(Self {
                config,
                steps,
                moments: restore.moments,
            }),
            Some(problem) => Err(Error::model(
                place,
                problem,
                "go on from another checkpoint, or train again",
            )),
        }
    }
}

/// What the gradients are multiplied by so that their norm is at most `most`.
fn clip(gradients: &Gradients, most: f64) -> Option<f64> {
    if most == 0.0 {
        return None;
    }
    // Summed here, one after another: a backend's sum may depend on its number of threads.
    let square = |gradient: &Tensor<1>| -> f64 {
        let values = Array::of(gradient.clone()).values;
        values.iter().map(|&g| f64::from(g) * f64::from(g)).sum()
    };
    let norm = gradients.values().map(square).sum::<f64>().sqrt();
    (norm > most).then_some(most / norm)
}

struct Step<'a> {
    config: AdamWConfig,
    gradients: Gradients,
    clip: Option<f64>,
    alpha: f64,
    decay: f64,
    moments: &'a mut BTreeMap<String, Moments>,
}

impl MapParameter for Step<'_> {
    fn map<const D: usize>(&mut self, name: &str, value: Tensor<D>) -> Tensor<D> {
        // A parameter without a gradient took no part in the loss.
        let Some(gradient) = self.gradients.remove(name) else {
            return value;
        };
        let shape = value.dims();
        let length = gradient.dims();
        let device = value.device();
        let moments = self.moments.remove(name).unwrap_or_else(|| Moments {
            first: Tensor::zeros(length, &device),
            second: Tensor::zeros(length, &device),
        });
        let decays = self.config.decay_on == DecayOn::All || D > 1;
        let value = value.reshape(length);
        let (value, moments) = if device == Device::flex() {
            self.fused(value, gradient, moments, decays)
        } else {
            self.composed(value, gradient, moments, decays)
        };
        self.moments.insert(name.into(), moments);
        value.reshape(shape)
    }
}

impl Step<'_> {
    /// In one pass over memory, in place.
    fn fused(
        &self,
        value: Tensor<1>,
        gradient: Tensor<1>,
        moments: Moments,
        decays: bool,
    ) -> (Tensor<1>, Moments) {
        /// Elements a thread takes at a time.
        const CHUNK: usize = 1 << 15;
        let constants = kernel::AdamW {
            first: (1.0 - self.config.beta1) as f32,
            second: (1.0 - self.config.beta2) as f32,
            alpha: self.alpha as f32,
            epsilon: self.config.epsilon as f32,
            keep: if decays { 1.0 - self.decay } else { 1.0 } as f32,
            clip: self.clip.unwrap_or(1.0) as f32,
        };
        // These tensors have no other owner, so that none of them is copied.
        let values = |tensor: Tensor<1>| Array::of(tensor).values;
        let (mut w, g) = (values(value), values(gradient));
        let (mut m, mut v) = (values(moments.first), values(moments.second));
        w.par_chunks_mut(CHUNK)
            .zip(g.par_chunks(CHUNK))
            .zip(m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK)))
            .for_each(|((w, g), (m, v))| kernel::step(&constants, w, g, m, v));
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
        decays: bool,
    ) -> (Tensor<1>, Moments) {
        if let Some(clip) = self.clip {
            gradient = gradient * clip;
        }
        if self.decay != 0.0 && decays {
            value = value * (1.0 - self.decay);
        }
        let Moments { first, second } = moments;
        let first = first.clone() + (gradient.clone() - first) * (1.0 - self.config.beta1);
        let square = gradient.clone() * gradient;
        let second = second.clone() + (square - second) * (1.0 - self.config.beta2);
        let delta = first.clone() * self.alpha / (second.clone().sqrt() + self.config.epsilon);
        (value - delta, Moments { first, second })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_scales_all_gradients_to_one_norm() {
        let tensor = |values: [f32; 2]| Tensor::from_data(values, &Device::flex());
        let gradients = Gradients::from([
            ("a".into(), tensor([3.0, 0.0])),
            ("b".into(), tensor([0.0, 4.0])),
        ]);
        assert_eq!(clip(&gradients, 0.0), None);
        assert_eq!(clip(&gradients, 5.0), None);
        assert_eq!(clip(&gradients, 1.0), Some(0.2));
    }

    #[test]
    fn the_fused_step_equals_the_composed_one() {
        let wave = |count: i32, speed: f32| {
            let values: Vec<f32> = (0..count).map(|i| (i as f32 * speed).sin()).collect();
            Tensor::<1>::from_data(TensorData::new(values, [count as usize]), &Device::flex())
        };
        let step = Step {
            config: AdamWConfig {
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-7,
                weight_decay: 0.1,
                decay_scale: DecayScale::LearningRate,
                decay_on: DecayOn::All,
                clip_norm: 1.0,
            },
            gradients: Gradients::new(),
            clip: Some(0.3),
            alpha: 1e-3,
            decay: 1e-2,
            moments: &mut BTreeMap::new(),
        };
        for decays in [true, false] {
            let moments = || Moments {
                first: wave(1000, 0.7),
                second: wave(1000, 1.1) * wave(1000, 1.1),
            };
            let (fused, a) = step.fused(wave(1000, 0.3), wave(1000, 1.9), moments(), decays);
            let (composed, b) = step.composed(wave(1000, 0.3), wave(1000, 1.9), moments(), decays);
            for (a, b) in [(fused, composed), (a.first, b.first), (a.second, b.second)] {
                let most: f32 = (a - b).abs().max().into_scalar();
                assert!(most < 1e-6, "{most}"); // some units in the last place of 1
            }
        }
    }
}
