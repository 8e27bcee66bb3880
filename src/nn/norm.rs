//! Tokens, each layer-normalised, where that is a layer by itself: behind a Swin Transformer's plain
//! patch embedding (Liu and others, arXiv 2103.14030).

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use smallvit_kernels::matrix::Precision;
use smallvit_kernels::ops::ImageOp;
use smallvit_kernels::ops::norm as kernel;

use super::{Context, Layer, NamedValue, value};
use crate::params::init::Initialiser;

/// `[image, token, dim]` → the same shape.
#[derive(Module, Debug)]
pub struct Norm {
    /// `[dim]`, 1 at first.
    pub gamma: Param<Tensor<1>>,
    /// `[dim]`, 0 at first.
    pub beta: Param<Tensor<1>>,
    #[module(skip)]
    tokens: usize,
    #[module(skip)]
    epsilon: f64,
    #[module(skip)]
    path: String,
}

impl Norm {
    /// For so many tokens.
    pub fn new(tokens: usize, dim: usize, epsilon: f64, init: &Initialiser) -> Self {
        Self {
            gamma: init.constant(1.0, [dim]),
            beta: init.constant(0.0, [dim]),
            tokens,
            epsilon,
            path: init.path().to_owned(),
        }
    }
}

impl Layer for Norm {
    fn path(&self) -> &str {
        &self.path
    }

    fn operation(&self, _: Precision) -> Box<dyn ImageOp> {
        let [dim] = self.gamma.lazy_shape().dims();
        Box::new(kernel::Norm {
            tokens: self.tokens,
            dim,
            epsilon: self.epsilon as f32,
        })
    }

    fn parameters(&self) -> Vec<NamedValue> {
        vec![value("gamma", &self.gamma), value("beta", &self.beta)]
    }

    fn composed(&self, x: Tensor<3>, context: &mut Context) -> Tensor<3> {
        let (gamma, beta) = (self.gamma.val(), self.beta.val());
        let x = burn::tensor::module::layer_norm(x, gamma, Some(beta), self.epsilon);
        context.keep(|| self.path.clone(), &x);
        x
    }
}
