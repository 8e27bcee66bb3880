//! The classifier's input: the encoder's tokens, layer-normalised, then all of them, the class
//! token, their mean, or their mean with learned weights.
//!
//! The last is the sequence pooling of Hassani and others (*Escaping the Big Data Paradigm with
//! Compact Transformers*, arXiv 2104.05704, section 3.2): Σ aᵢ · tokenᵢ with a = softmax over the
//! tokens of a dense layer to one number, here without its bias, which would change nothing.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, activation};
use smallvit_kernels::matrix::Precision;
use smallvit_kernels::ops::ImageOp;
use smallvit_kernels::ops::pooling as kernel;

use super::basic::LayerNorm;
use super::{Context, Layer, NamedValue, value};
use crate::params::init::{Initialiser, Scheme};

pub use smallvit_kernels::ops::pooling::Pool;

/// `[image, token, dim]` → `[image, token, dim]` or `[image, 1, dim]`.
#[derive(Module, Debug)]
pub struct Pooling {
    /// On every token that counts.
    pub norm: LayerNorm,
    /// What a token counts for, where that is learned.
    pub score: Option<Score>,
    #[module(skip)]
    tokens: usize,
    #[module(skip)]
    pool: Pool,
    #[module(skip)]
    path: String,
}

/// A token's score.
#[derive(Module, Debug)]
pub struct Score {
    /// `[dim, 1]`.
    pub kernel: Param<Tensor<2>>,
}

impl Pooling {
    /// For so many tokens.
    pub fn new(
        tokens: usize,
        dim: usize,
        pool: Pool,
        epsilon: f64,
        scheme: Scheme,
        init: &Initialiser,
    ) -> Self {
        let score = |init: Initialiser| Score {
            kernel: init.draw("kernel", scheme.kernel(dim, 1), [dim, 1]),
        };
        Self {
            norm: LayerNorm::new(dim, epsilon, &init.at("norm")),
            score: (pool == Pool::Sequence).then(|| score(init.at("score"))),
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
        let mut all = vec![
            value("norm.gamma", &self.norm.gamma),
            value("norm.beta", &self.norm.beta),
        ];
        all.extend((self.score.as_ref()).map(|score| value("score.kernel", &score.kernel)));
        all
    }

    fn composed(&self, x: Tensor<3>, context: &mut Context) -> Tensor<3> {
        let x = match (self.pool, &self.score) {
            (Pool::Class, _) => self.norm.forward(x.narrow(1, 0, 1)),
            (Pool::Mean, _) => self.norm.forward(x).mean_dim(1),
            (Pool::Sequence, Some(score)) => {
                let x = self.norm.forward(x);
                let scores = x.clone().matmul(score.kernel.val().unsqueeze());
                let shares = activation::softmax(scores, 1);
                context.keep(|| format!("{}.shares", self.path), &shares);
                shares.swap_dims(1, 2).matmul(x)
            }
            (Pool::Flatten | Pool::Sequence, _) => self.norm.forward(x),
        };
        context.keep(|| self.path.clone(), &x);
        x
    }
}
