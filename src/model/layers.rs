//! The three layers that everything here is made of, with Keras's names and conventions:
//! [`Dense`] (kernel as (in, out)), [`LayerNorm`], and [`Pass::dropout`].

use std::collections::BTreeMap;
use std::f32::consts::FRAC_1_SQRT_2;

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData, activation};

use smallvit_kernels::dropout::Rate;
use smallvit_kernels::matrix::Precision;

use super::fused;
use super::fused::deferred::{self, Deferred};

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
        Param::initialized(ParamId::new(), tensor)
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
    deferred: Option<Deferred>,
    composed: bool,
    precision: Precision,
}

struct DropoutMasks {
    seed: u64,
    step: u64,
    first_image: u64,
    layer: u64,
}

impl Pass {
    /// No dropout.
    pub fn inference() -> Self {
        Self::default()
    }

    /// Dropout on, with the masks of this step (counted from the beginning of the run);
    /// `first_image` is the place of the first image in the step's batch.
    pub fn training(seed: u64, step: u64, first_image: usize) -> Self {
        Self {
            dropout: Some(DropoutMasks {
                seed,
                step,
                first_image: first_image as u64,
                layer: 0,
            }),
            ..Self::default()
        }
    }

    /// Products by the kernels in this precision; composed operations stay in float32.
    pub fn in_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    /// The classifier's weight gradients go to `deferred` instead of the graph.
    pub fn deferring(mut self, deferred: &Deferred) -> Self {
        self.deferred = Some(deferred.clone());
        self
    }

    /// A dense layer that may defer its weight gradients; `name` is Keras's.
    pub(super) fn dense(
        &self,
        dense: &Dense,
        x: Tensor<2>,
        name: impl FnOnce() -> String,
    ) -> Tensor<2> {
        if !self.fuses(&x) {
            return dense.forward(x);
        }
        match (&self.deferred, &self.dropout) {
            (Some(deferred), Some(masks)) => {
                let first_image = masks.first_image as usize;
                let place = (name(), first_image);
                deferred::dense(dense, x, place, self.precision, deferred)
            }
            (None, Some(_)) => dense.forward(x),
            (_, None) => deferred::inference(dense, x, self.precision),
        }
    }

    /// By the backend's own operations alone, without this project's kernels.
    pub fn composed(mut self) -> Self {
        self.composed = true;
        self
    }

    /// Keeps every named intermediate; only composed operations have them.
    pub fn traced(mut self) -> Self {
        self.trace = Some(BTreeMap::new());
        self.composed()
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

    /// The next dropout layer's mask keys, one an image, or none where nothing is dropped: for an
    /// operation that draws its masks itself.
    pub(super) fn dropout_keys(&mut self, images: usize) -> Option<Vec<u64>> {
        let masks = self.dropout.as_mut()?;
        masks.layer += 1;
        let layer = Stream::new(masks.seed, Purpose::Dropout, masks.step, masks.layer).key();
        let images = masks.first_image..masks.first_image + images as u64;
        Some(images.map(|image| random::at(layer, image)).collect())
    }

    /// Whether what follows on `x` is computed by this project's kernels.
    pub(super) fn fuses<const D: usize>(&self, x: &Tensor<D>) -> bool {
        !self.composed && fused::can(x)
    }

    /// Dropout (Srivastava et al., 2014), inverted: in training, each element is 0 with
    /// probability `rate` and otherwise divided by 1 − `rate`; else nothing happens.
    ///
    /// The mask is a function of (seed, step, layer, image, element), where layers are counted in
    /// the order in which they are passed: it does not depend on how a batch is cut into parts.
    /// The probability is met to 1 / 65,536. The first axis is the image.
    pub fn dropout<const D: usize>(&mut self, x: Tensor<D>, rate: f64) -> Tensor<D> {
        let shape = x.dims();
        let Some(keys) = self.dropout_keys(shape[0]) else {
            return x;
        };
        let rate = Rate::new(rate);
        if rate.is_zero() {
            return x;
        }
        let elements: usize = shape[1..].iter().product();
        let mut mask = vec![0.0; shape[0] * elements];
        for (key, mask) in keys.into_iter().zip(mask.chunks_exact_mut(elements)) {
            rate.mask(key, 0, mask);
        }
        x.clone() * Tensor::from_data(TensorData::new(mask, shape), &x.device())
    }
}

/// GELU(x) = x · Φ(x), by the error function.
///
/// The Flex backend's operation has an exact derivative. The default that other backends inherit
/// has that of the approximation by tanh, which puts 1e-3 of error on every gradient behind it, so
/// they take the definition.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if fused::can(&x) {
        activation::gelu(x)
    } else {
        x.clone() * ((x * FRAC_1_SQRT_2).erf() + 1.0) * 0.5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_drops_what_it_should_and_is_this_programs_generator() {
        let mut long = vec![0.0; 400_000];
        Rate::new(0.1).mask(99, 0, &mut long);
        let kept = long.iter().filter(|&&m| m > 0.0).count() as f64 / 400_000.0;
        // Deviation of the mean: 0.0005; five of them.
        assert!((kept - 0.9).abs() < 0.0025, "{kept}");
        for counter in 0..100 {
            assert_eq!(
                smallvit_kernels::dropout::bits(99, counter),
                random::at(99, counter)
            );
        }
    }

    #[test]
    fn dropout_does_not_depend_on_how_a_batch_is_cut() {
        let device = Device::flex();
        let ones = |images| Tensor::<2>::ones([images, 10], &device);
        let drop = |first, images| {
            let dropped = Pass::training(1, 2, first).dropout(ones(images), 0.5);
            dropped.into_data().try_into_vec::<f32>().unwrap()
        };
        assert_eq!(drop(0, 5), [drop(0, 2), drop(2, 3)].concat());
    }
}
