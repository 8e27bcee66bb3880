//! Attention whose heads talk to each other, with its residual: y = x + s · γ ∘ attention(LN(x)); the layers
//! of CaiT (Touvron and others, *Going deeper with Image Transformers*, arXiv 2103.17239, sections 2.2 and
//! 2.3, with the talking heads of Shazeer and others, arXiv 2003.02436).
//!
//! Scores and probabilities are mixed over the heads, before and after the softmax. Of class attention the
//! query is a class token's, the first of all, and it alone becomes another; the keys and values are the
//! others', neither normalised nor with the class token among them, as in the code of arXiv 2112.13492
//! (and unlike CaiT's own).

use burn::module::{Module, Param};
use burn::tensor::{Bool, Tensor, activation};
use smallvit_kernels::dropout::Rate;
use smallvit_kernels::matrix::Precision;
use smallvit_kernels::ops::ImageOp;
use smallvit_kernels::ops::attention::Temperature as Factor;
use smallvit_kernels::ops::talking as kernel;
use smallvit_kernels::talking::Talking;

use super::attention::Temperature;
use super::basic::{Dense, LayerNorm};
use super::residual::{self, ResidualConfig};
use super::{Attending, Context, Layer, NamedValue, value};
use crate::params::Array;
use crate::params::init::{DenseInit, Distribution, Initialiser};

pub use smallvit_kernels::talking::Diagonal;

/// What an attention whose heads talk is told.
#[derive(Clone, Debug)]
pub struct TalkingConfig {
    /// Width of a token.
    pub dim: usize,
    /// Tokens of an image, a class token among them.
    pub tokens: usize,
    /// Whether the first token is a class token that attends to the others; else all attend to all.
    pub of_class: bool,
    /// Heads.
    pub heads: usize,
    /// Width of a head's queries, keys and values.
    pub key_dim: usize,
    /// Locality Self-Attention's temperature, constant or one a head.
    pub temperature: Temperature,
    /// Scores of tokens with themselves.
    pub diagonal: Diagonal,
    /// Dropout of the mixed probabilities.
    pub dropout: f64,
    /// How the branch is added.
    pub residual: ResidualConfig,
    /// ε of the layer normalisation.
    pub epsilon: f64,
    /// How queries begin.
    pub query_init: DenseInit,
    /// How keys and values begin, the kernels of both as one.
    pub key_value_init: DenseInit,
    /// How the output begins.
    pub output_init: DenseInit,
    /// How the mixing begins.
    pub mix_init: Distribution,
}

/// x + attention(LN(x)) on `[image, token, dim]`.
#[derive(Module, Debug)]
pub struct TalkingResidual {
    /// Before the attention.
    pub norm: LayerNorm,
    /// `[dim, heads · key_dim]`.
    pub query: Dense,
    /// Keys and values side by side: `[dim, (k, v) · heads · key_dim]`.
    pub key_value: Dense,
    /// `[head, mixed head]`, of the scores.
    pub mix_before: Param<Tensor<2>>,
    /// `[head, mixed head]`, of the probabilities.
    pub mix_after: Param<Tensor<2>>,
    /// `[heads · key_dim, dim]`.
    pub output: Dense,
    /// `[heads]`: the learned temperature, only with Locality Self-Attention.
    pub temperature: Option<Param<Tensor<1>>>,
    /// γ, `[dim]`.
    pub layer_scale: Option<Param<Tensor<1>>>,
    #[module(skip)]
    config: TalkingConfig,
    #[module(skip)]
    path: String,
}

impl TalkingResidual {
    /// An attention with fresh weights.
    pub fn new(config: &TalkingConfig, init: &Initialiser) -> Self {
        let (dim, heads) = (config.dim, config.heads);
        let inner = heads * config.key_dim;
        let mix = |name| init.draw(name, config.mix_init, [heads, heads]);
        let dense =
            |name, input, output, bias, own| Dense::new(input, output, bias, own, &init.at(name));
        let temperature = || init.constant(1.0 / (config.key_dim as f32).sqrt(), [heads]);
        Self {
            norm: LayerNorm::new(dim, config.epsilon, &init.at("norm")),
            query: dense("query", dim, inner, false, config.query_init),
            key_value: dense("key_value", dim, 2 * inner, false, config.key_value_init),
            mix_before: mix("mix_before"),
            mix_after: mix("mix_after"),
            output: dense("output", inner, dim, true, config.output_init),
            temperature: (config.temperature != Temperature::Constant).then(temperature),
            layer_scale: config.residual.layer_scale(dim, init),
            config: config.clone(),
            path: init.path().to_owned(),
        }
    }

    /// `[image, token, head · key]` → `[image, head, token, key]`.
    fn by_head(&self, x: Tensor<3>) -> Tensor<4> {
        let [images, tokens, _] = x.dims();
        x.reshape([images, tokens, self.config.heads, self.config.key_dim])
            .swap_dims(1, 2)
    }

    /// Σ over heads of what `weights`, `[head, mixed head]`, say: `[image, head, query, key]` → the same.
    fn mix(weights: &Param<Tensor<2>>, x: Tensor<4>) -> Tensor<4> {
        let [images, heads, queries, keys] = x.dims();
        let rows = x.reshape([images, heads, queries * keys]);
        let weights = weights.val().transpose().unsqueeze();
        Tensor::matmul(weights, rows).reshape([images, heads, queries, keys])
    }
}

impl Layer for TalkingResidual {
    fn path(&self) -> &str {
        &self.path
    }

    fn attention(&self) -> Option<Attending> {
        let root = (self.config.key_dim as f64).sqrt();
        let times_root = |tau: &f32| f64::from(*tau) * root;
        let learned = self.temperature.as_ref().map(|tau| Array::of(tau.val()));
        Some(Attending {
            heads: self.config.heads,
            sharpness: learned.map(|tau| tau.values.iter().map(times_root).collect()),
            of_class: self.config.of_class,
            windows: None,
        })
    }

    fn operation(&self, precision: Precision) -> Box<dyn ImageOp> {
        let TalkingConfig {
            tokens, of_class, ..
        } = self.config;
        Box::new(kernel::TalkingResidual {
            attention: Talking {
                tokens,
                queries: if of_class { 1 } else { tokens },
                keys: tokens - usize::from(of_class),
                heads: self.config.heads,
                key_dim: self.config.key_dim,
                diagonal: self.config.diagonal,
                dropout: Rate::new(self.config.dropout),
                precision,
            },
            dim: self.config.dim,
            temperature: match &self.temperature {
                None => Factor::Constant(1.0 / (self.config.key_dim as f32).sqrt()),
                Some(_) => Factor::Learned {
                    each_head: true,
                    divides: false,
                },
            },
            epsilon: self.config.epsilon as f32,
            residual: self.config.residual.operation(),
        })
    }

    fn parameters(&self) -> Vec<NamedValue> {
        let mut all = vec![
            value("norm.gamma", &self.norm.gamma),
            value("norm.beta", &self.norm.beta),
            value("query.kernel", &self.query.kernel),
            value("key_value.kernel", &self.key_value.kernel),
            value("mix_before", &self.mix_before),
            value("mix_after", &self.mix_after),
            value("output.kernel", &self.output.kernel),
        ];
        all.extend(self.output.bias.as_ref().map(|p| value("output.bias", p)));
        all.extend(self.temperature.as_ref().map(|p| value("temperature", p)));
        all.extend(self.layer_scale.as_ref().map(|p| value("layer_scale", p)));
        all
    }

    fn composed(&self, x: Tensor<3>, context: &mut Context) -> Tensor<3> {
        let TalkingConfig {
            tokens,
            of_class,
            heads,
            key_dim,
            diagonal,
            ..
        } = self.config;
        let images = x.dims()[0];
        let own = match of_class {
            true => x.clone().narrow(1, 0, 1),
            false => x.clone(),
        };
        let normal = self.norm.forward(own.clone());
        let asked = match of_class {
            true => x.clone().narrow(1, 1, tokens - 1),
            false => normal.clone(),
        };
        let inner = heads * key_dim;
        let query = self.by_head(self.query.forward(normal));
        let key_value = self.key_value.forward(asked);
        let key = self.by_head(key_value.clone().narrow(2, 0, inner));
        let value = self.by_head(key_value.narrow(2, inner, inner));
        let [_, _, queries, _] = query.dims();
        // Before the product: a temperature's gradient is a sum that nearly cancels, the less exact the more
        // numbers it has, and queries are fewer than scores.
        let query = match &self.temperature {
            Some(tau) => query * tau.val().reshape([1, heads, 1, 1]),
            None => query / (key_dim as f32).sqrt(),
        };
        let scores = query.matmul(key.swap_dims(2, 3));
        let set = |scores: Tensor<4>, to: f32| {
            // `diag_mask` is false on the diagonal.
            let diagonal = Tensor::<2, Bool>::diag_mask([tokens, tokens], 0, &scores.device())
                .bool_not()
                .unsqueeze::<4>()
                .expand(scores.shape());
            scores.mask_fill(diagonal, to)
        };
        let scores = match diagonal {
            Diagonal::Zero => set(scores, -1e-9),
            Diagonal::Stays | Diagonal::Masked => scores,
        };
        let scores = Self::mix(&self.mix_before, scores);
        let scores = match diagonal {
            Diagonal::Masked => set(scores, super::attention::MASKED),
            Diagonal::Stays | Diagonal::Zero => scores,
        };
        let probabilities = activation::softmax(scores, 3);
        if context.is_traced() {
            let keys = probabilities.dims()[3];
            let rows = probabilities
                .clone()
                .reshape([images, heads * queries, keys]);
            context.keep(|| format!("{}.probabilities", self.path), &rows);
        }
        let mixed = Self::mix(&self.mix_after, probabilities);
        let site = format!("{}.dropout", self.path);
        let mixed = context.dropout(mixed, self.config.dropout, &site);
        let gathered = mixed.matmul(value).swap_dims(1, 2);
        let branch = self
            .output
            .forward(gathered.reshape([images, queries, inner]));
        let (gamma, rate) = (&self.layer_scale, self.config.residual.stochastic_depth);
        let y = residual::add(own, branch, gamma, rate, &self.path, context);
        match of_class {
            true => Tensor::cat(vec![y, x.narrow(1, 1, tokens - 1)], 1),
            false => y,
        }
    }
}
