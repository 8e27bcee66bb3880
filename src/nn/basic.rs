//! The layers that all others are made of: [`Dense`] (kernel as (in, out)), [`LayerNorm`], and
//! [`gelu`].

use std::f32::consts::FRAC_1_SQRT_2;

use burn::module::{Module, Param};
use burn::tensor::{Tensor, activation};

use super::fused;
use crate::params::init::{DenseInit, Initialiser};

/// `x · kernel + bias` over the last axis.
#[derive(Module, Debug)]
pub struct Dense {
    /// `[in, out]`.
    pub kernel: Param<Tensor<2>>,
    /// `[out]`, where there is one.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Dense {
    /// Kernel and, where there is to be one, bias as `own` says.
    pub fn new(
        input: usize,
        output: usize,
        bias: bool,
        own: DenseInit,
        init: &Initialiser,
    ) -> Self {
        let first_bias = || match own.bias {
            Some(distribution) => init.draw("bias", distribution, [output]),
            None => init.constant(0.0, [output]),
        };
        Self {
            kernel: init.draw("kernel", own.kernel, [input, output]),
            bias: bias.then(first_bias),
        }
    }

    /// `[…, in]` → `[…, out]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        // One large product instead of a batch of small ones.
        let [input, output] = self.kernel.dims();
        let mut shape = x.dims();
        let rows = shape.iter().product::<usize>() / input;
        shape[D - 1] = output;
        let x = product(x.reshape([rows, input]), self.kernel.val());
        let x = match &self.bias {
            Some(bias) => x + bias.val().unsqueeze(),
            None => x,
        };
        x.reshape(shape)
    }
}

/// Layer normalisation over the last axis: (x − mean) / √(variance + ε) · gamma + beta
/// (Ba, Kiros, Hinton, arXiv 1607.06450), with the population's variance.
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
    pub fn new(width: usize, epsilon: f64, init: &Initialiser) -> Self {
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

/// The most that the Flex backend adds up in one go.
const LONGEST_SUM: usize = 128;

/// x · kernel. The Flex backend sums one number after another, as exactly as that is: of patches with their
/// shifts, a thousand numbers long, gradients that nearly cancel lose four digits. So there long sums are in parts.
/// Other backends have trees.
fn product(x: Tensor<2>, kernel: Tensor<2>) -> Tensor<2> {
    let [length, _] = kernel.dims();
    if !fused::can(&x) || length <= LONGEST_SUM {
        return x.matmul(kernel);
    }
    let parts = (0..length).step_by(LONGEST_SUM).map(|from| {
        let part = LONGEST_SUM.min(length - from);
        let x = x.clone().narrow(1, from, part);
        x.matmul(kernel.clone().narrow(0, from, part))
    });
    parts
        .reduce(|sum, part| sum + part)
        .expect("a kernel has rows")
}

/// GELU(x) = x · Φ(x), by the error function (Hendrycks and Gimpel, arXiv 1606.08415).
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
