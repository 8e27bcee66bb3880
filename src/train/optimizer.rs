//! The optimizers. AdamW (Loshchilov and Hutter, arXiv 1711.05101), as Keras computes it:
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
//! Lion ([`smallvit_kernels::lion`]) has one moment, and steps by its sign. Muon ([`smallvit_kernels::muon`]) is for
//! the matrices between a model's first layer and its classifier; everything else goes by AdamW
//! beside it.
//!
//! A parameter's [`Scale`] multiplies its rate (in the decay, too, where that is rate · λ) and its
//! decay.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use smallvit_kernels::{adamw, lion};

use super::gradients::{Checked, Gradient, Squares, squares_of};
use super::groups::{Scale, Scales};
use super::muon::{self, Matrices};
use crate::error::{Error, Result};
use crate::models::Model;
use crate::params::{self, Array, Arrays, EachParameter, MapParameter, View, Views};

/// Which optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// AdamW.
    Adamw,
    /// Lion (Chen et al., arXiv 2302.06675): by the sign of its momentum. It takes a rate 3 to 10 times
    /// lower than AdamW's, and a decay as much higher.
    Lion,
    /// Muon (Jordan et al., 2024) for the encoder's matrices, with AdamW's rate and decay (Liu et al.,
    /// arXiv 2502.16982); AdamW for the rest.
    Muon,
}

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

/// An optimizer's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerConfig {
    /// Which one it is.
    pub rule: Rule,
    /// Muon's β.
    pub momentum: f64,
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

/// An optimizer with its moments, one or two a parameter.
pub struct Optimizer {
    config: OptimizerConfig,
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
    /// v, flat, of a parameter that AdamW steps.
    second: Option<Tensor<1>>,
}

impl Optimizer {
    /// Before the first step, for the parameters that have scales.
    pub fn new(config: OptimizerConfig, scales: Scales) -> Self {
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

    /// One step of the model (without autodiff) along its gradients; returns their norm, before it was
    /// clipped, too.
    pub fn step(&mut self, model: Model, mut gradients: Checked, rate: f64) -> (Model, f64) {
        self.steps += 1;
        let known = (self.config.clip_norm > 0.0).then(|| gradients.norm());
        let clip = clip(known, self.config.clip_norm);
        // Where the norm is not known, it is summed on the way.
        let mut squares = known.is_none().then(Squares::default);
        let directions = match self.config.rule {
            Rule::Muon => self.directions(&model, &mut gradients, clip, &mut squares),
            Rule::Adamw | Rule::Lion => BTreeMap::new(),
        };
        let mut step = Step {
            clip,
            gradients,
            squares,
            directions,
            steps: self.steps,
            rate,
            config: self.config,
            scales: &self.scales,
            moments: &mut self.moments,
        };
        let model = params::map(model, &mut step);
        let norm = step.squares.map(Squares::root).or(known);
        (model, norm.unwrap_or_default())
    }

    /// Where Muon's matrices go, by name; their momentum is kept.
    fn directions(
        &mut self,
        model: &Model,
        gradients: &mut Checked,
        clip: Option<f64>,
        squares: &mut Option<Squares>,
    ) -> BTreeMap<String, Tensor<1>> {
        let (mut names, mut work) = (vec![], vec![]);
        for (name, shape) in params::shapes(model) {
            let Some(matrices) = Matrices::of(&name, &shape) else {
                continue;
            };
            let gradient = gradients.take(&name).expect(CHECKED).formed();
            if let Some(squares) = squares {
                squares.add(&gradient);
            }
            let momentum = match self.moments.remove(&name) {
                Some(moments) => moments.first,
                None => zeros(matrices.numbers(), &gradient.device()),
            };
            names.push(name);
            work.push((matrices, gradient, momentum));
        }
        let found = muon::directions(work, self.config.momentum, clip.unwrap_or(1.0));
        let mut directions = BTreeMap::new();
        for (name, (direction, first)) in names.into_iter().zip(found) {
            let second = None;
            self.moments.insert(name.clone(), Moments { first, second });
            directions.insert(name, direction);
        }
        directions
    }

    /// The moments to save, first and second; none before the first step, and no second ones of what has
    /// only one.
    pub fn moments(&self) -> (Views, Views) {
        let views = |of: fn(&Moments) -> Option<&Tensor<1>>| {
            let view =
                |(name, m): (&String, &Moments)| Some((name.clone(), View::of(of(m)?.clone())));
            self.moments.iter().filter_map(view).collect()
        };
        (views(|m| Some(&m.first)), views(|m| m.second.as_ref()))
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
            rule: self.config.rule,
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
    rule: Rule,
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
        let first = tensor(self.first);
        let second = match steps_by_adamw(self.rule, name, &value.dims()) {
            true => tensor(self.second).map(Some),
            false => Some(None),
        };
        match (first, second) {
            (Some(first), Some(second)) => {
                self.moments.insert(name.into(), Moments { first, second });
            }
            _ => self.missing = Some(name.into()),
        }
    }
}

/// Whether a parameter of this name and shape goes by AdamW.
fn steps_by_adamw(rule: Rule, name: &str, shape: &[usize]) -> bool {
    match rule {
        Rule::Adamw => true,
        Rule::Lion => false,
        Rule::Muon => Matrices::of(name, shape).is_none(),
    }
}

/// So many zeros. Of a vector of floats, not by `Tensor::zeros`, whose bytes would have to be copied into
/// one.
fn zeros(length: usize, device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(vec![0.0f32; length], [length]), device)
}

const CHECKED: &str = "the gradients were checked against these parameters";

/// What gradients of this norm are multiplied by so that it is at most `most`.
fn clip(norm: Option<f64>, most: f64) -> Option<f64> {
    norm.filter(|norm| *norm > most).map(|norm| most / norm)
}

/// One step of all parameters.
struct Step<'a> {
    config: OptimizerConfig,
    gradients: Checked,
    /// Of the gradients that were met, unless their norm is known.
    squares: Option<Squares>,
    /// Muon's, whose gradients have been taken out.
    directions: BTreeMap<String, Tensor<1>>,
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
    /// α of AdamW; the rate of Lion.
    alpha: f64,
    /// What is taken off the weights, as a part of them.
    decay: f64,
}

impl MapParameter for Step<'_> {
    fn map<const D: usize>(&mut self, name: &str, value: Tensor<D>) -> Tensor<D> {
        let shape = value.dims();
        let length = [shape.iter().product::<usize>()];
        let device = value.device();
        let value = value.reshape(length);
        if let Some(direction) = self.directions.remove(name) {
            let (rate, decay) = self.rates(self.scales[name]);
            return muon::step(value, direction, rate, decay).reshape(shape);
        }
        let gradient = self.gradients.take(name).expect(CHECKED);
        let moments = self.moments.remove(name).unwrap_or_else(|| Moments {
            first: zeros(length[0], &device),
            second: steps_by_adamw(self.config.rule, name, &shape)
                .then(|| zeros(length[0], &device)),
        });
        let factors = self.factors(self.scales[name]);
        let (value, moments) = if device == Device::flex() {
            self.fused(value, gradient, moments, factors)
        } else {
            let gradient = gradient.formed();
            if let Some(squares) = &mut self.squares {
                squares.add(&gradient);
            }
            self.composed(value, gradient, moments, factors)
        };
        self.moments.insert(name.into(), moments);
        value.reshape(shape)
    }
}

impl Step<'_> {
    /// A parameter's rate, and what is taken off it as a part of itself.
    fn rates(&self, scale: Scale) -> (f64, f64) {
        let rate = self.rate * scale.rate;
        let decay = match self.config.decay_scale {
            DecayScale::LearningRate => rate * self.config.weight_decay,
            DecayScale::None => self.config.weight_decay,
        };
        (rate, decay * scale.decay)
    }

    fn factors(&self, scale: Scale) -> Factors {
        let OptimizerConfig { beta1, beta2, .. } = self.config;
        let t = self.steps as f64;
        let (rate, decay) = self.rates(scale);
        Factors {
            alpha: match self.config.rule {
                Rule::Lion => rate,
                _ => rate * (1.0 - beta2.powf(t)).sqrt() / (1.0 - beta1.powf(t)),
            },
            decay,
        }
    }

    /// In one pass over memory, in place, in which the gradient's squares are summed, too, if they are to be. A gradient that
    /// is not formed is made on the way, each part where it is used.
    fn fused(
        &mut self,
        value: Tensor<1>,
        gradient: Gradient,
        moments: Moments,
        factors: Factors,
    ) -> (Tensor<1>, Moments) {
        // These tensors have no other owner, so that none of them is copied.
        let values = |tensor: Tensor<1>| Array::of(tensor).values;
        let (mut w, g) = (values(value), gradient.parts());
        let mut m = values(moments.first);
        let length = g.length();
        let [first, second] =
            [self.config.beta1, self.config.beta2].map(|beta| (1.0 - beta) as f32);
        let (alpha, keep) = (factors.alpha as f32, (1.0 - factors.decay) as f32);
        let clip = self.clip.unwrap_or(1.0) as f32;
        let chunks = w.par_chunks_mut(length).zip(m.par_chunks_mut(length));
        let sums = self.squares.is_some();
        let square = |g: &[f32]| if sums { squares_of(g) } else { 0.0 };
        let squares: Vec<f64>;
        let second = match moments.second.map(values) {
            Some(mut v) => {
                let constants = adamw::AdamW {
                    first,
                    second,
                    alpha,
                    epsilon: self.config.epsilon as f32,
                    keep,
                    clip,
                };
                let chunks = chunks.zip(v.par_chunks_mut(length)).enumerate();
                squares = chunks
                    .map(|(number, ((w, m), v))| {
                        g.part(number, |g| {
                            adamw::step(&constants, w, g, m, v);
                            square(g)
                        })
                    })
                    .collect();
                Some(v)
            }
            None => {
                let constants = lion::Lion {
                    first,
                    second,
                    rate: alpha,
                    keep,
                    clip,
                };
                squares = chunks
                    .enumerate()
                    .map(|(number, (w, m))| {
                        g.part(number, |g| {
                            lion::step(&constants, w, g, m);
                            square(g)
                        })
                    })
                    .collect();
                None
            }
        };
        if let Some(sum) = &mut self.squares {
            sum.add_parts(squares);
        }
        let length = [w.len()];
        let tensor = |values| Tensor::from_data(TensorData::new(values, length), &Device::flex());
        let (first, second) = (tensor(m), second.map(tensor));
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
        let towards = gradient.clone() - first.clone();
        let nearer = first.clone() + towards.clone() * (1.0 - self.config.beta1);
        let Some(second) = second else {
            let first = first + towards * (1.0 - self.config.beta2);
            let second = None;
            return (
                value - nearer.sign() * factors.alpha,
                Moments { first, second },
            );
        };
        let square = gradient.clone() * gradient;
        let second = second.clone() + (square - second) * (1.0 - self.config.beta2);
        let delta = nearer.clone() * factors.alpha / (second.clone().sqrt() + self.config.epsilon);
        let moments = Moments {
            first: nearer,
            second: Some(second),
        };
        (value - delta, moments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::gradients::Gradients;

    const CONFIG: OptimizerConfig = OptimizerConfig {
        rule: Rule::Adamw,
        momentum: 0.95,
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
        let norm = gradients.norm();
        assert_eq!(norm, 5.0);
        assert_eq!(clip(None, 1.0), None);
        assert_eq!(clip(Some(norm), 5.0), None);
        assert_eq!(clip(Some(norm), 1.0), Some(0.2));
    }

    fn step<'a>(
        scales: &'a Scales,
        moments: &'a mut BTreeMap<String, Moments>,
        config: OptimizerConfig,
    ) -> Step<'a> {
        Step {
            config,
            gradients: checked(&[]),
            squares: None,
            directions: BTreeMap::new(),
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
            let config = OptimizerConfig {
                decay_scale,
                ..CONFIG
            };
            let factors = step(&scales, &mut moments, config).factors(scale);
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
        for rule in [Rule::Adamw, Rule::Lion] {
            let (scales, mut moments) = (Scales::new(), BTreeMap::new());
            let mut step = step(&scales, &mut moments, OptimizerConfig { rule, ..CONFIG });
            for decay in [1e-2, 0.0] {
                let factors = Factors { alpha: 1e-3, decay };
                let squares = || wave(1000, 1.1) * wave(1000, 1.1);
                let moments = || Moments {
                    first: wave(1000, 0.7),
                    second: (rule == Rule::Adamw).then(squares),
                };
                let (fused, a) =
                    step.fused(wave(1000, 0.3), wave(1000, 1.9).into(), moments(), factors);
                let (composed, b) =
                    step.composed(wave(1000, 0.3), wave(1000, 1.9), moments(), factors);
                let mut pairs = vec![(fused, composed), (a.first, b.first)];
                assert_eq!(a.second.is_some(), rule == Rule::Adamw);
                pairs.extend(a.second.zip(b.second));
                for (a, b) in pairs {
                    let most: f32 = (a - b).abs().max().into_scalar();
                    assert!(most < 1e-6, "{most}"); // some units in the last place of 1
                }
            }
        }
    }
}
