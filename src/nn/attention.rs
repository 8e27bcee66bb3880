//! Self-attention with its residual, plain or Locality Self-Attention: y = x + s · γ ∘
//! attention(LN(x)).
//!
//! Attention(q, k, v) = softmax(scale · q · kᵀ + position) · v in each head (Vaswani and others,
//! arXiv 1706.03762, section 3.2), with scale = 1 / √key_dim.
//!
//! Locality Self-Attention (arXiv 2112.13492, section 3.2) makes two changes: the scale is learned,
//! and the diagonal of the scores is masked out, so that no token attends to itself. The Keras
//! example learns one τ a layer by which queries are divided; the paper's code one a head by which
//! scores are multiplied.
//!
//! `position` is a bias learned for each head and relative position in the grid of tokens (Liu and
//! others, *Swin Transformer*, arXiv 2103.14030, equation 4); towards and from a class token there
//! is none.

use burn::module::{Module, Param};
use burn::tensor::{Bool, Int, Tensor, TensorData, activation};
use smallvit_kernels::attention::{Attention, Position};
use smallvit_kernels::dropout::Rate;
use smallvit_kernels::matrix::Precision;
use smallvit_kernels::ops::ImageOp;
use smallvit_kernels::ops::attention as kernel;

use super::basic::{Dense, LayerNorm};
use super::residual::{self, ResidualConfig};
use super::{Context, Layer, NamedValue, value};
use crate::params::Array;
use crate::params::init::{Distribution, Initialiser};

/// What a masked score becomes: so low that its probability is exactly 0, yet finite.
const MASKED: f32 = -1e9;

/// Which learned temperature an attention has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temperature {
    /// None: scores are divided by √key_dim.
    Constant,
    /// One τ for all heads, √key_dim at first; queries are divided by it.
    Layer,
    /// One τ a head, 1 / √key_dim at first; scores are multiplied by it.
    Head,
}

/// What an attention is told.
#[derive(Clone, Debug)]
pub struct AttentionConfig {
    /// Width of a token.
    pub dim: usize,
    /// Tokens of an image.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head's queries, keys and values.
    pub key_dim: usize,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Locality Self-Attention's temperature.
    pub temperature: Temperature,
    /// Whether no token attends to itself.
    pub mask_diagonal: bool,
    /// The bias by relative position, where there is one.
    pub position: Option<Position>,
    /// Dropout of the attention probabilities.
    pub dropout: f64,
    /// How the branch is added.
    pub residual: ResidualConfig,
    /// ε of the layer normalisation.
    pub epsilon: f64,
    /// Where the kernel of queries, keys and values comes from.
    pub qkv_init: Distribution,
    /// Where the output's kernel comes from.
    pub output_init: Distribution,
}

/// x + attention(LN(x)) on `[image, token, dim]`.
#[derive(Module, Debug)]
pub struct AttentionResidual {
    /// Before the attention.
    pub norm: LayerNorm,
    /// Queries, keys and values side by side: `[dim, (q, k, v) · heads · key_dim]`.
    pub qkv: Dense,
    /// `[1]` or `[heads]`: the learned temperature, only with Locality Self-Attention.
    pub temperature: Option<Param<Tensor<1>>>,
    /// `[heads, (2 · height − 1) · (2 · width − 1)]`: the bias by relative position.
    pub relative_position: Option<Param<Tensor<2>>>,
    /// `[heads · key_dim, dim]`.
    pub output: Dense,
    /// γ, `[dim]`.
    pub layer_scale: Option<Param<Tensor<1>>>,
    #[module(skip)]
    config: AttentionConfig,
    #[module(skip)]
    path: String,
}

impl AttentionResidual {
    /// An attention with fresh weights; biases and relative positions are 0.
    pub fn new(config: &AttentionConfig, init: &Initialiser) -> Self {
        let (dim, heads) = (config.dim, config.heads);
        let inner = heads * config.key_dim;
        let root = (config.key_dim as f32).sqrt();
        let temperature = |value, count| init.constant(value, [count]);
        let (qkv, output) = (config.qkv_init, config.output_init);
        Self {
            norm: LayerNorm::new(dim, config.epsilon, &init.at("norm")),
            qkv: Dense::new(dim, 3 * inner, config.qkv_bias, qkv, &init.at("qkv")),
            temperature: match config.temperature {
                Temperature::Constant => None,
                Temperature::Layer => Some(temperature(root, 1)),
                Temperature::Head => Some(temperature(1.0 / root, heads)),
            },
            relative_position: config
                .position
                .map(|p| init.constant(0.0, [heads, p.offsets()])),
            output: Dense::new(inner, dim, true, output, &init.at("output")),
            layer_scale: config.residual.layer_scale(dim, init),
            config: config.clone(),
            path: init.path().to_owned(),
        }
    }

    /// Heads.
    pub fn heads(&self) -> usize {
        self.config.heads
    }

    /// What each head's scores are multiplied by, in units of the plain 1 / √key_dim; none where no temperature
    /// is learned.
    pub fn sharpness(&self) -> Option<Vec<f64>> {
        let learned = Array::of(self.temperature.as_ref()?.val()).values;
        let root = (self.config.key_dim as f64).sqrt();
        let of_head = |head: usize| match self.config.temperature {
            Temperature::Head => f64::from(learned[head]) * root,
            _ => root / f64::from(learned[0]),
        };
        Some((0..self.config.heads).map(of_head).collect())
    }

    /// Scores `[image, head, token, token]` of queries and keys, each `[image, head, token, key]`.
    fn scores(&self, query: Tensor<4>, key: Tensor<4>) -> Tensor<4> {
        let product = |query: Tensor<4>| query.matmul(key.swap_dims(2, 3));
        let heads = self.config.heads;
        let scores = match (self.config.temperature, &self.temperature) {
            (Temperature::Layer, Some(tau)) => product(query / tau.val().unsqueeze()),
            (_, Some(tau)) => product(query) * tau.val().reshape([1, heads, 1, 1]),
            (_, None) => product(query / (self.config.key_dim as f32).sqrt()),
        };
        match (&self.relative_position, self.config.position) {
            (Some(table), Some(position)) => scores + self.positions(table.val(), position),
            _ => scores,
        }
    }

    /// The table of biases → `[1, head, token, token]`.
    fn positions(&self, table: Tensor<2>, position: Position) -> Tensor<4> {
        let Position {
            height,
            width,
            before,
        } = position;
        let tokens = self.config.tokens;
        // A last column of zeros for the class token.
        let device = table.device();
        let none = Tensor::zeros([self.config.heads, 1], &device);
        let table = Tensor::cat(vec![table, none], 1);
        let place = |query: usize, key: usize| -> i64 {
            let (Some(query), Some(key)) = (query.checked_sub(before), key.checked_sub(before))
            else {
                return position.offsets() as i64;
            };
            let rows = query / width + height - 1 - key / width;
            let columns = query % width + width - 1 - key % width;
            (rows * (2 * width - 1) + columns) as i64
        };
        let places: Vec<i64> = (0..tokens * tokens)
            .map(|pair| place(pair / tokens, pair % tokens))
            .collect();
        let places = TensorData::new(places, [tokens * tokens]);
        table
            .select(1, Tensor::<1, Int>::from_data(places, &device))
            .reshape([1, self.config.heads, tokens, tokens])
    }
}

impl Layer for AttentionResidual {
    fn path(&self) -> &str {
        &self.path
    }

    fn attention(&self) -> Option<&AttentionResidual> {
        Some(self)
    }

    fn operation(&self, precision: Precision) -> Box<dyn ImageOp> {
        let AttentionConfig {
            tokens,
            heads,
            key_dim,
            ..
        } = self.config;
        Box::new(kernel::AttentionResidual {
            attention: Attention {
                tokens,
                heads,
                key_dim,
                mask_diagonal: self.config.mask_diagonal,
                position: self.config.position,
                dropout: Rate::new(self.config.dropout),
                precision,
            },
            dim: self.config.dim,
            qkv_bias: self.config.qkv_bias,
            temperature: match self.config.temperature {
                Temperature::Constant => {
                    kernel::Temperature::Constant(1.0 / (key_dim as f32).sqrt())
                }
                Temperature::Layer => kernel::Temperature::Learned {
                    each_head: false,
                    divides: true,
                },
                Temperature::Head => kernel::Temperature::Learned {
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
            value("qkv.kernel", &self.qkv.kernel),
        ];
        all.extend(self.qkv.bias.as_ref().map(|p| value("qkv.bias", p)));
        all.extend(self.temperature.as_ref().map(|p| value("temperature", p)));
        all.extend(
            self.relative_position
                .as_ref()
                .map(|p| value("relative_position", p)),
        );
        all.push(value("output.kernel", &self.output.kernel));
        all.extend(self.output.bias.as_ref().map(|p| value("output.bias", p)));
        all.extend(self.layer_scale.as_ref().map(|p| value("layer_scale", p)));
        all
    }

    fn composed(&self, x: Tensor<3>, context: &mut Context) -> Tensor<3> {
        let [images, tokens, _] = x.dims();
        let (heads, key_dim) = (self.config.heads, self.config.key_dim);
        // [image, token, (q, k, v) · head · key] → three of [image, head, token, key]
        let qkv = self.qkv.forward(self.norm.forward(x.clone()));
        let [query, key, value] = [0, 1, 2].map(|which| {
            let inner = heads * key_dim;
            qkv.clone()
                .narrow(2, which * inner, inner)
                .reshape([images, tokens, heads, key_dim])
                .swap_dims(1, 2)
        });
        let mut scores = self.scores(query, key);
        if self.config.mask_diagonal {
            // `diag_mask` is false on the diagonal.
            let diagonal = Tensor::<2, Bool>::diag_mask([tokens, tokens], 0, &scores.device())
                .bool_not()
                .unsqueeze::<4>()
                .expand(scores.shape());
            scores = scores.mask_fill(diagonal, MASKED);
        }
        let probabilities = activation::softmax(scores, 3);
        if context.is_traced() {
            let rows = probabilities
                .clone()
                .reshape([images, heads * tokens, tokens]);
            context.keep(|| format!("{}.probabilities", self.path), &rows);
        }
        let site = format!("{}.dropout", self.path);
        let probabilities = context.dropout(probabilities, self.config.dropout, &site);
        let gathered = probabilities.matmul(value).swap_dims(1, 2);
        let branch = self
            .output
            .forward(gathered.reshape([images, tokens, heads * key_dim]));
        context.keep(|| format!("{}.branch", self.path), &branch);
        let (gamma, rate) = (&self.layer_scale, self.config.residual.stochastic_depth);
        residual::add(x, branch, gamma, rate, &self.path, context)
    }
}
