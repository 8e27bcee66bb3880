//! The classifier's input: the encoder's tokens, layer-normalised, then all of them, the class
//! token, or their mean.

use burn::module::Module;
use burn::tensor::Tensor;
use smallvit_kernels::matrix::Precision;
use smallvit_kernels::ops::ImageOp;
use smallvit_kernels::ops::pooling as kernel;

use super::basic::LayerNorm;
use super::{Context, Layer, NamedValue, value};
use crate::params::init::Initialiser;

pub use smallvit_kernels::ops::pooling::Pool;

/// `[image, token, dim]` → `[image, token, dim]` or `[image, 1, dim]`.
#[derive(Module, Debug)]
pub struct Pooling {
    /// On every token that counts.
    pub norm: LayerNorm,
    #[module(skip)]
    tokens: usize,
    #[module(skip)]
    pool: Pool,
    #[module(skip)]
    path: String,
}

impl Pooling {
    /// For so many tokens.
    pub fn new(tokens: usize, dim: usize, pool: Pool, epsilon: f64, init: &Initialiser) -> Self {
        Self {
            norm: LayerNorm::new(dim, epsilon, &init.at("norm")),
            tokens,
            pool,
            path: init.path().to_owned(),
        }
    }
}

impl Layer for Pooling {
    fn path(&self) -> &str {
        &self.path
    }

    fn operation(&self, _: Precision) -> Box<dyn ImageOp> {
        let [dim] = self.norm.gamma.lazy_shape().dims();
        Box::new(kernel::Pooling {
            tokens: self.tokens,
            dim,
            epsilon: self.norm.epsilon as f32,
            pool: self.pool,
        })
    }

    fn parameters(&self) -> Vec<NamedValue> {
        vec![
            value("norm.gamma", &self.norm.gamma),
            value("norm.beta", &self.norm.beta),
        ]
    }

    fn composed(&self, x: Tensor<3>, context: &mut Context) -> Tensor<3> {
        let x = match self.pool {
            Pool::Flatten => self.norm.forward(x),
            Pool::Class => self.norm.forward(x.narrow(1, 0, 1)),
            Pool::Mean => self.norm.forward(x).mean_dim(1),
        };
        context.keep(|| self.path.clone(), &x);
        x
    }
}
