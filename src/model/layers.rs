//! The three layers that everything here is made of, with Keras's names and conventions:
//! [`Dense`] (kernel as (in, out)), [`LayerNorm`], and [`Pass::dropout`].

use std::collections::BTreeMap;

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use crate::random::{self, Purpose, Stream};

/// Draws initial weights from named streams: the n-th parameter of a model always gets the same
/// values for the same seed, whatever is initialised before or after it.
pub struct Initialiser<'a> {
    seed: u64,
    parameter: u64,
    device: &'a Device,
}

impl<'a> Initialiser<'a> {
    /// The initialiser of a model with this seed.
    pub fn new(seed: u64, device: &'a Device) -> Self {
        Self {
            seed,
            parameter: 0,
            device,
        }
    }

    /// Every element the same.
    pub fn constant<const D: usize>(&mut self, value: f32, shape: [usize; D]) -> Param<Tensor<D>> {
        self.parameter += 1;
        let values = vec![value; shape.iter().product()];
        self.param(values, shape)
    }

    /// Uniform in ±`limit`.
    pub fn uniform<const D: usize>(&mut self, limit: f32, shape: [usize; D]) -> Param<Tensor<D>> {
        self.parameter += 1;
        let mut stream = Stream::new(self.seed, Purpose::Initialise, 0, self.parameter);
        let values = (0..shape.iter().product())
            .map(|_| stream.uniform(-limit, limit))
            .collect();
        self.param(values, shape)
    }

    fn param<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Param<Tensor<D>> {
        let tensor = Tensor::from_data(TensorData::new(values, shape), self.device);
        Param::initialized(ParamId::new(), tensor.require_grad())
    }
}

/// Glorot's uniform bound, √(6 / (fan in + fan out)).
pub fn glorot(fan_in: usize, fan_out: usize) -> f32 {
    (6.0 / (fan_in + fan_out) as f64).sqrt() as f32
}

/// `x · kernel + bias` over the last axis.
#[derive(Module, Debug)]
pub struct Dense {
    /// `[in, out]`.
    pub kernel: Param<Tensor<2>>,
    /// `[out]`.
    pub bias: Param<Tensor<1>>,
}

impl Dense {
    /// Kernel uniform in ±`limit`, bias 0.
    pub fn new(input: usize, output: usize, limit: f32, init: &mut Initialiser) -> Self {
        Self {
            kernel: init.uniform(limit, [input, output]),
            bias: init.constant(0.0, [output]),
        }
    }

    /// Keras's default: Glorot uniform kernel, bias 0.
    pub fn glorot(input: usize, output: usize, init: &mut Initialiser) -> Self {
        Self::new(input, output, glorot(input, output), init)
    }

    /// `[…, in]` → `[…, out]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        // One large product instead of a batch of small ones.
        let [input, output] = self.kernel.dims();
        let mut shape = x.dims();
        let rows = shape.iter().product::<usize>() / input;
        shape[D - 1] = output;
        let x = x.reshape([rows, input]).matmul(self.kernel.val());
        (x + self.bias.val().unsqueeze()).reshape(shape)
    }
}

/// Layer normalisation over the last axis: (x − mean) / √(variance + ε) · gamma + beta
/// (Ba, Kiros, Hinton, arXiv 1607.06450), with the population variance, as Keras's.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// `[width]`, 1 at first.
    pub gamma: Param<Tensor<1>>,
    /// `[width]`, 0 at first.
    pub beta: Param<Tensor<1>>,
    /// ε.
    #[module(skip)]
    pub epsilon: f64,
}

impl LayerNorm {
    /// Gamma 1, beta 0.
    pub fn new(width: usize, epsilon: f64, init: &mut Initialiser) -> Self {
        Self {
            gamma: init.constant(1.0, [width]),
            beta: init.constant(0.0, [width]),
            epsilon,
        }
    }

    /// `[…, width]` → the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        burn::tensor::module::layer_norm(x, self.gamma.val(), Some(self.beta.val()), self.epsilon)
    }
}

/// One pass through a model: whether it trains, which dropout masks it draws, and whether it
/// keeps its intermediates.
#[derive(Default)]
pub struct Pass {
    dropout: Option<DropoutMasks>,
    trace: Option<BTreeMap<String, Tensor<3>>>,
}

struct DropoutMasks {
    seed: u64,
    step: u64,
    layer: u64,
}

impl Pass {
    /// No dropout.
    pub fn inference() -> Self {
        Self::default()
    }

    /// Dropout on, with the masks of this step (counted from the beginning of the run).
    pub fn training(seed: u64, step: u64) -> Self {
        Self {
            dropout: Some(DropoutMasks {
                seed,
                step,
                layer: 0,
            }),
            ..Self::default()
        }
    }

    /// Keeps every named intermediate.
    pub fn traced(mut self) -> Self {
        self.trace = Some(BTreeMap::new());
        self
    }

    /// What [`Pass::traced`] kept, by name: `patches`, `tokens`, `encoded`, `attention0`,
    /// `block0`, …, each `[image, token, channel]`.
    pub fn into_trace(self) -> BTreeMap<String, Tensor<3>> {
        self.trace.unwrap_or_default()
    }

    pub(super) fn keep(&mut self, name: impl FnOnce() -> String, value: &Tensor<3>) {
        if let Some(trace) = &mut self.trace {
            trace.insert(name(), value.clone());
        }
    }

    /// Dropout (Srivastava et al., 2014), inverted: in training, each element is 0 with
    /// probability `rate` and otherwise divided by 1 − `rate`; else nothing happens.
    ///
    /// The mask is a function of (seed, step, layer, element), where layers are counted in the
    /// order in which they are passed. The probability is met to 1 / 65,536.
    pub fn dropout<const D: usize>(&mut self, x: Tensor<D>, rate: f64) -> Tensor<D> {
        let Some(masks) = &mut self.dropout else {
            return x;
        };
        masks.layer += 1;
        if rate == 0.0 {
            return x;
        }
        let key = Stream::new(masks.seed, Purpose::Dropout, masks.step, masks.layer).key();
        let mask = dropout_mask(key, rate, x.shape().num_elements());
        let mask = Tensor::from_data(TensorData::new(mask, x.dims()), &x.device());
        x * mask
    }
}

/// A dropout mask: 0 or 1 / (1 − rate), four elements from each 64 random bits.
fn dropout_mask(key: u64, rate: f64, elements: usize) -> Vec<f32> {
    const CHUNK: usize = 1 << 14;
    let threshold = (rate * 65_536.0).round() as u64;
    let keep = (1.0 / (1.0 - rate)) as f32;
    let mut mask = vec![0.0f32; elements];
    mask.par_chunks_mut(CHUNK)
        .enumerate()
        .for_each(|(number, chunk)| {
            let first = (number * CHUNK / 4) as u64;
            for (counter, four) in (first..).zip(chunk.chunks_mut(4)) {
                let bits = random::at(key, counter);
                for (lane, element) in four.iter_mut().enumerate() {
                    let drawn = (bits >> (16 * lane)) & 0xffff;
                    *element = if drawn >= threshold { keep } else { 0.0 };
                }
            }
        });
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_drops_what_it_should_and_does_not_depend_on_its_length() {
        let mask = dropout_mask(99, 0.1, 400_000);
        let kept = mask.iter().filter(|&&m| m > 0.0).count() as f64 / 400_000.0;
        // Deviation of the mean: 0.0005; five of them.
        assert!((kept - 0.9).abs() < 0.0025, "{kept}");
        assert!(mask.iter().all(|&m| m == 0.0 || (m - 1.0 / 0.9).abs() < 1e-6));
        assert_eq!(mask[..1000], dropout_mask(99, 0.1, 1000));
        assert_ne!(mask[..1000], dropout_mask(98, 0.1, 1000));
    }
}
