//! T2T's way from a grid to fewer tokens (Yuan and others, *Tokens-to-Token ViT*, arXiv 2101.11986, section
//! 3.1): overlapping patches as they are ([`Unfold`]), and an attention among them that makes them narrower
//! ([`TokenAttention`]).
//!
//! That attention has one head, as wide as its tokens come out: y = v + attention(q, k, v) · kernel + bias
//! with (q, k, v) = LN(x) · kernel. Its shortcut goes around v, since x has another width. Its scores are
//! multiplied by 1 / √(width of x), or with Locality Self-Attention by a learned number that begins there,
//! and then no token attends to itself.

use burn::module::{Module, Param};
use burn::tensor::{Bool, Tensor, activation};
use smallvit_kernels::attention::Attention;
use smallvit_kernels::dropout::Rate;
use smallvit_kernels::matrix::Precision;
use smallvit_kernels::ops::ImageOp;
use smallvit_kernels::ops::attention::Temperature as Factor;
use smallvit_kernels::ops::{token_attention, unfold};

use super::attention::MASKED;
use super::basic::{Dense, LayerNorm};
use super::embedding::{overlapping_patches, shifts};
use super::{Attending, Context, Layer, NamedValue, value};
use crate::params::Array;
use crate::params::init::{DenseInit, Initialiser};

/// `[image, cell, channel]`, the cells row by row → `[image, patch, (row, column, version, channel)]`.
#[derive(Module, Debug)]
pub struct Unfold {
    #[module(skip)]
    op: unfold::Unfold,
    #[module(skip)]
    path: String,
}

impl Unfold {
    /// Nothing of it is learned.
    pub fn new(op: unfold::Unfold, init: &Initialiser) -> Self {
        let path = init.path().to_owned();
        Self { op, path }
    }
}

impl Layer for Unfold {
    fn path(&self) -> &str {
        &self.path
    }

    fn operation(&self, _: Precision) -> Box<dyn ImageOp> {
        Box::new(self.op)
    }

    fn parameters(&self) -> Vec<NamedValue> {
        vec![]
    }

    fn composed(&self, x: Tensor<3>, context: &mut Context) -> Tensor<3> {
        let unfold::Unfold {
            height,
            width,
            channels,
            patch,
            stride,
            padding,
            shifted,
        } = self.op;
        let grid = x.reshape([0, height as i32, width as i32, channels as i32]);
        let grid = match shifted {
            true => {
                let grid = shifts(grid, patch);
                let cells = grid.clone().flatten::<3>(1, 2);
                context.keep(|| format!("{}.shifted", self.path), &cells);
                grid
            }
            false => grid,
        };
        let patches = overlapping_patches(grid, patch, stride, padding);
        context.keep(|| self.path.clone(), &patches);
        patches
    }
}

/// What an attention among patches is told.
#[derive(Clone, Debug)]
pub struct TokenAttentionConfig {
    /// Width of a token that comes in.
    pub dim: usize,
    /// Tokens of an image.
    pub tokens: usize,
    /// Width of one that goes out.
    pub width: usize,
    /// Locality Self-Attention.
    pub lsa: bool,
    /// Dropout of the attention probabilities.
    pub dropout: f64,
    /// ε of the layer normalisation.
    pub epsilon: f64,
    /// How queries, keys and values begin.
    pub qkv_init: DenseInit,
    /// How the output begins.
    pub output_init: DenseInit,
}

/// `[image, token, dim]` → `[image, token, width]`.
#[derive(Module, Debug)]
pub struct TokenAttention {
    /// Before the attention.
    pub norm: LayerNorm,
    /// Queries, keys and values side by side: `[dim, (q, k, v) · width]`.
    pub qkv: Dense,
    /// `[width, width]`.
    pub output: Dense,
    /// `[1]`: the learned temperature, only with Locality Self-Attention.
    pub temperature: Option<Param<Tensor<1>>>,
    #[module(skip)]
    config: TokenAttentionConfig,
    #[module(skip)]
    path: String,
}

impl TokenAttention {
    /// An attention with fresh weights.
    pub fn new(config: &TokenAttentionConfig, init: &Initialiser) -> Self {
        let (dim, width) = (config.dim, config.width);
        let (qkv, output) = (config.qkv_init, config.output_init);
        let temperature = || init.constant(Self::plain(dim), [1]);
        Self {
            norm: LayerNorm::new(dim, config.epsilon, &init.at("norm")),
            qkv: Dense::new(dim, 3 * width, false, qkv, &init.at("qkv")),
            output: Dense::new(width, width, true, output, &init.at("output")),
            temperature: config.lsa.then(temperature),
            config: config.clone(),
            path: init.path().to_owned(),
        }
    }

    /// The plain factor of its scores.
    fn plain(dim: usize) -> f32 {
        1.0 / (dim as f32).sqrt()
    }
}

impl Layer for TokenAttention {
    fn path(&self) -> &str {
        &self.path
    }

    fn attention(&self) -> Option<Attending> {
        let plain = f64::from(Self::plain(self.config.dim));
        let learned = self.temperature.as_ref().map(|tau| Array::of(tau.val()));
        Some(Attending {
            heads: 1,
            sharpness: learned.map(|tau| vec![f64::from(tau.values[0]) / plain]),
            of_class: false,
            windows: None,
        })
    }

    fn operation(&self, precision: Precision) -> Box<dyn ImageOp> {
        Box::new(token_attention::TokenAttention {
            attention: Attention {
                tokens: self.config.tokens,
                heads: 1,
                key_dim: self.config.width,
                mask_diagonal: self.config.lsa,
                position: None,
                dropout: Rate::new(self.config.dropout),
                precision,
            },
            dim: self.config.dim,
            temperature: match self.config.lsa {
                false => Factor::Constant(Self::plain(self.config.dim)),
                true => Factor::Learned {
                    each_head: true,
                    divides: false,
                },
            },
            epsilon: self.config.epsilon as f32,
        })
    }

    fn parameters(&self) -> Vec<NamedValue> {
        let mut all = vec![
            value("norm.gamma", &self.norm.gamma),
            value("norm.beta", &self.norm.beta),
            value("qkv.kernel", &self.qkv.kernel),
            value("output.kernel", &self.output.kernel),
        ];
        all.extend(self.output.bias.as_ref().map(|p| value("output.bias", p)));
        all.extend(self.temperature.as_ref().map(|p| value("temperature", p)));
        all
    }

    fn composed(&self, x: Tensor<3>, context: &mut Context) -> Tensor<3> {
        let (tokens, width) = (self.config.tokens, self.config.width);
        let qkv = self.qkv.forward(self.norm.forward(x));
        let [query, key, value] =
            [0, 1, 2].map(|which| qkv.clone().narrow(2, which * width, width));
        let mut scores = query.matmul(key.swap_dims(1, 2));
        scores = match &self.temperature {
            Some(tau) => scores * tau.val().unsqueeze(),
            None => scores * Self::plain(self.config.dim),
        };
        if self.config.lsa {
            // `diag_mask` is false on the diagonal.
            let diagonal = Tensor::<2, Bool>::diag_mask([tokens, tokens], 0, &scores.device())
                .bool_not()
                .unsqueeze::<3>()
                .expand(scores.shape());
            scores = scores.mask_fill(diagonal, MASKED);
        }
        let probabilities = activation::softmax(scores, 2);
        context.keep(|| format!("{}.probabilities", self.path), &probabilities);
        let site = format!("{}.dropout", self.path);
        let probabilities = context.dropout(probabilities, self.config.dropout, &site);
        let y = self.output.forward(probabilities.matmul(value.clone())) + value;
        context.keep(|| self.path.clone(), &y);
        y
    }
}
