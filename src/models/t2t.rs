//! T2T-ViT (Yuan and others, *Tokens-to-Token ViT*, arXiv 2101.11986), plain or with the two ideas of arXiv
//! 2112.13492, as that paper's code has it for small images.
//!
//! ```text
//! images [B, H, W, C]
//!   splits      all soft splits but the last: overlapping patches, of the image or (in the first,
//!               SPT) of it with its shifts; an attention among them that makes them narrower,
//!               plain or LSA; MLP                                                 [B, Nᵢ, token_dim]
//!   embedding   the last soft split, projected: a convolution                     [B, N, dim]
//!   sequence    a class token in front; + sinusoids                               [B, 1 + N, dim]
//!   blocks      depth × (attention, plain or LSA, perhaps with a second shortcut; MLP)
//!   pooling     LN; the class token                                               [B, dim]
//!   head        logits                                                            [B, classes]
//! ```
//!
//! Its learned temperatures are one a head.

use burn::module::Module;
use smallvit_kernels::ops::unfold;

use super::block::Block;
use super::t2t_config::{PADDING, PATCH, STRIDE};
use super::{ModelConfig, T2tConfig};
use crate::nn::Layer;
use crate::nn::attention::{AttentionConfig, Temperature};
use crate::nn::embedding::{Embedding, EmbeddingConfig};
use crate::nn::head::Head;
use crate::nn::mlp::{MlpConfig, MlpResidual};
use crate::nn::pooling::{Pool, Pooling};
use crate::nn::residual::ResidualConfig;
use crate::nn::sequence::{Places, Sequence};
use crate::nn::soft_split::{TokenAttention, TokenAttentionConfig, Unfold};
use crate::params::init::{Distribution, Initialiser, Scheme};

/// How kernels begin.
const SCHEME: Scheme = Scheme::Small;

/// How the class token begins.
const CLASS_TOKEN: Distribution = Distribution::Normal(0.02);

/// A T2T-ViT for classification.
#[derive(Module, Debug)]
pub struct T2t {
    /// All soft splits but the last.
    pub splits: Vec<Split>,
    /// The last one.
    pub embedding: Embedding,
    /// The class token, and positions.
    pub sequence: Sequence,
    /// The encoder.
    pub blocks: Vec<Block>,
    /// Tokens → features.
    pub pooling: Pooling,
    /// Features → logits.
    pub head: Head,
}

/// A soft split, and what its tokens make of each other.
#[derive(Module, Debug)]
pub struct Split {
    /// Overlapping patches.
    pub unfold: Unfold,
    /// v + attention(LN(x)).
    pub attention: TokenAttention,
    /// x + MLP(LN(x)).
    pub mlp: MlpResidual,
}

impl T2t {
    /// A model with fresh weights, each drawn from a stream of its own.
    pub(super) fn new(
        config: &T2tConfig,
        switches: &ModelConfig,
        channels: usize,
        classes: usize,
        init: &Initialiser,
    ) -> Self {
        let (sides, last) = (config.sides(), config.soft_splits - 1);
        let (dim, epsilon) = (config.dim, config.layer_norm_epsilon);
        // What a grid's cells have before each soft split.
        let width = |number: usize| {
            if number == 0 {
                channels
            } else {
                config.token_dim
            }
        };
        let split = |number: usize| {
            let init = init.at("splits").at(number);
            let shifted = switches.spt && number == 0;
            Split::new(
                config,
                switches.lsa,
                sides[number],
                width(number),
                shifted,
                &init,
            )
        };
        let patches = EmbeddingConfig {
            height: sides[last],
            width: sides[last],
            channels: width(last),
            patch: PATCH,
            stride: STRIDE,
            padding: PADDING,
            class_token: None,
            shifted: switches.spt && last == 0,
            norm: false,
            bias: true,
            dim,
            epsilon,
        };
        let projection = SCHEME.dense(patches.patch_width(), dim);
        let block = |number: usize| {
            let depth = ResidualConfig::growing(config.stochastic_depth, number, config.depth);
            let attention = attention(config, switches.lsa, depth);
            let (tokens, hidden) = (config.sequence(), config.mlp_ratio * dim);
            let mlp = mlp(config, dim, tokens, hidden, depth);
            Block::new(&attention, &mlp, &init.at("blocks").at(number))
        };
        let sequence = config.sequence();
        let class_token = Some(CLASS_TOKEN);
        let places = Places::Sinusoids;
        Self {
            splits: (0..last).map(split).collect(),
            embedding: Embedding::new(&patches, projection, &init.at("embedding")),
            sequence: Sequence::new(sequence - 1, dim, class_token, places, &init.at("sequence")),
            blocks: (0..config.depth).map(block).collect(),
            pooling: Pooling::new(
                sequence,
                dim,
                Pool::Class,
                epsilon,
                SCHEME,
                &init.at("pooling"),
            ),
            head: Head::new(
                dim,
                &[],
                classes,
                config.head_dropout,
                SCHEME,
                &init.at("head"),
            ),
        }
    }

    /// The layers that images go through one by one, in order; those of a chain as one.
    pub(super) fn chains(&self) -> Vec<Vec<&dyn Layer>> {
        let mut all: Vec<Vec<&dyn Layer>> = self.splits.iter().map(Split::chain).collect();
        all.push(vec![&self.embedding, &self.sequence]);
        all.extend(self.blocks.iter().map(Block::chain));
        all.push(vec![&self.pooling]);
        all
    }
}

impl Split {
    fn chain(&self) -> Vec<&dyn Layer> {
        vec![&self.unfold, &self.attention, &self.mlp]
    }

    fn new(
        config: &T2tConfig,
        lsa: bool,
        side: usize,
        channels: usize,
        shifted: bool,
        init: &Initialiser,
    ) -> Self {
        let unfold = unfold::Unfold {
            height: side,
            width: side,
            channels,
            patch: PATCH,
            stride: STRIDE,
            padding: PADDING,
            shifted,
        };
        let (tokens, width) = (side.div_ceil(STRIDE).pow(2), config.token_dim);
        let versions = if shifted { 5 } else { 1 };
        let dim = PATCH * PATCH * versions * channels;
        let attention = TokenAttentionConfig {
            dim,
            tokens,
            width,
            lsa,
            dropout: config.dropout,
            epsilon: config.layer_norm_epsilon,
            qkv_init: SCHEME.dense(dim, 3 * width),
            output_init: SCHEME.dense(width, width),
        };
        let mlp = mlp(config, width, tokens, width, 0.0);
        Self {
            unfold: Unfold::new(unfold, &init.at("unfold")),
            attention: TokenAttention::new(&attention, &init.at("attention")),
            mlp: MlpResidual::new(&mlp, &init.at("mlp")),
        }
    }
}

fn attention(config: &T2tConfig, lsa: bool, depth: f64) -> AttentionConfig {
    let T2tConfig { dim, heads, .. } = *config;
    AttentionConfig {
        dim,
        tokens: config.sequence(),
        windows: None,
        heads,
        key_dim: dim / heads,
        qkv_bias: false,
        temperature: match lsa {
            false => Temperature::Constant,
            true => Temperature::Head,
        },
        mask_diagonal: lsa,
        position: None,
        dropout: config.dropout,
        adds_normal: config.second_shortcut,
        residual: ResidualConfig::depth(depth),
        epsilon: config.layer_norm_epsilon,
        qkv_init: SCHEME.dense(dim, 3 * dim),
        output_init: SCHEME.dense(dim, dim),
        position_init: None,
    }
}

fn mlp(config: &T2tConfig, dim: usize, tokens: usize, hidden: usize, depth: f64) -> MlpConfig {
    MlpConfig {
        dim,
        tokens,
        of_class: false,
        hidden,
        mixing: None,
        second_gelu: false,
        dropout: config.dropout,
        residual: ResidualConfig::depth(depth),
        epsilon: config.layer_norm_epsilon,
        hidden_init: SCHEME.dense(dim, hidden),
        output_init: SCHEME.dense(hidden, dim),
    }
}
