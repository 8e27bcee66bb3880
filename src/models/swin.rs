//! The Swin Transformer (Liu and others, arXiv 2103.14030), plain or with the two ideas of arXiv
//! 2112.13492, as that paper's code has it for small images.
//!
//! ```text
//! images [B, H, W, C]
//!   embedding   patches projected and normalised, or shifted (SPT), normalised and
//!               projected                                                          [B, N₁, dim₁]
//!   sequence    + positions
//!   stages      blocks; from one to the next a merge: 2 × 2 tokens, plain or with
//!               their shifts (SPT), normalised, projected                          [B, Nₛ, dimₛ]
//!     block     (attention in windows, every second block's shifted, with a bias by
//!               relative position; plain or LSA), (MLP)
//!   pooling     LN; the tokens' mean                                               [B, dim]
//!   head        logits                                                             [B, classes]
//! ```
//!
//! Its learned temperature is one a head. A plain merge's projection has no bias, one with shifts has. In
//! the paper's code a plain merge joins its four tokens column by column, here row by row: another order
//! of the same weights.

use burn::module::Module;
use smallvit_kernels::attention::Position;

use super::block::Block;
use super::swin_config::Stage as Sizes;
use super::{ModelConfig, SwinConfig};
use crate::nn::Layer;
use crate::nn::attention::{AttentionConfig, Temperature};
use crate::nn::embedding::{Embedding, EmbeddingConfig};
use crate::nn::head::Head;
use crate::nn::mlp::MlpConfig;
use crate::nn::norm::Norm;
use crate::nn::pooling::{Pool, Pooling};
use crate::nn::residual::ResidualConfig;
use crate::nn::sequence::{Places, Sequence};
use crate::params::init::{Distribution, Initialiser, Scheme};

/// How kernels and biases begin.
const SCHEME: Scheme = Scheme::FanIn;

/// How positions begin, absolute and relative ones.
const PLACES: Distribution = Distribution::Normal(0.02);

/// A Swin Transformer for classification.
#[derive(Module, Debug)]
pub struct Swin {
    /// Images → the first stage's tokens.
    pub embedding: Embedding,
    /// Behind plain patches.
    pub norm: Option<Norm>,
    /// Positions.
    pub sequence: Sequence,
    /// The stages, first to last.
    pub stages: Vec<Stage>,
    /// Tokens → features.
    pub pooling: Pooling,
    /// Features → logits.
    pub head: Head,
}

/// Blocks on one grid of tokens.
#[derive(Module, Debug)]
pub struct Stage {
    /// Four tokens of the stage before → one of this; none in the first stage.
    pub merge: Option<Embedding>,
    /// Its blocks.
    pub blocks: Vec<Block>,
}

impl Swin {
    /// A model with fresh weights, each drawn from a stream of its own.
    pub(super) fn new(
        config: &SwinConfig,
        switches: &ModelConfig,
        channels: usize,
        classes: usize,
        init: &Initialiser,
    ) -> Self {
        let sizes = config.stages();
        let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
        let epsilon = config.layer_norm_epsilon;
        let patches = EmbeddingConfig {
            height: config.image_size,
            width: config.image_size,
            channels,
            patch: config.patch_size,
            stride: config.patch_size,
            padding: 0,
            class_token: None,
            shifted: switches.spt,
            norm: switches.spt,
            bias: true,
            dim: first.dim,
            epsilon,
        };
        let tokens = first.side * first.side;
        let norm = || Norm::new(tokens, first.dim, epsilon, &init.at("norm"));
        let places = init.at("sequence");
        let blocks: usize = config.depths.iter().sum();
        let mut before = 0;
        let stages = sizes.iter().enumerate().map(|(number, own)| {
            let init = init.at("stages").at(number);
            let previous = number.checked_sub(1).map(|previous| sizes[previous]);
            // How often the residuals of each of its blocks are left out.
            let depths = (before..before + own.depth)
                .map(|block| ResidualConfig::growing(config.stochastic_depth, block, blocks));
            before += own.depth;
            Stage::new(config, switches, previous, *own, depths.collect(), &init)
        });
        Self {
            embedding: embedding(&patches, &init.at("embedding")),
            norm: (!switches.spt).then(norm),
            sequence: Sequence::new(tokens, first.dim, None, Places::Learned(PLACES), &places),
            stages: stages.collect(),
            pooling: Pooling::new(
                last.side * last.side,
                last.dim,
                Pool::Mean,
                epsilon,
                SCHEME,
                &init.at("pooling"),
            ),
            head: Head::new(
                last.dim,
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
        let mut first: Vec<&dyn Layer> = vec![&self.embedding];
        first.extend(self.norm.iter().map(|norm| norm as &dyn Layer));
        first.push(&self.sequence);
        let mut all = vec![first];
        all.extend(self.stages.iter().flat_map(Stage::chains));
        all.push(vec![&self.pooling]);
        all
    }
}

impl Stage {
    fn new(
        config: &SwinConfig,
        switches: &ModelConfig,
        before: Option<Sizes>,
        own: Sizes,
        depths: Vec<f64>,
        init: &Initialiser,
    ) -> Self {
        let merge = |before: Sizes| EmbeddingConfig {
            height: before.side,
            width: before.side,
            channels: before.dim,
            patch: 2,
            stride: 2,
            padding: 0,
            class_token: None,
            shifted: switches.spt,
            norm: true,
            bias: switches.spt,
            dim: own.dim,
            epsilon: config.layer_norm_epsilon,
        };
        let block = |(number, depth): (usize, f64)| {
            let init = init.at("blocks").at(number);
            let attention = attention(config, switches.lsa, own, number, depth);
            Block::new(&attention, &mlp(config, own, depth), &init)
        };
        Self {
            merge: before.map(|before| embedding(&merge(before), &init.at("merge"))),
            blocks: depths.into_iter().enumerate().map(block).collect(),
        }
    }

    fn chains(&self) -> impl Iterator<Item = Vec<&dyn Layer>> {
        let merge = self.merge.iter().map(|merge| vec![merge as &dyn Layer]);
        merge.chain(self.blocks.iter().map(Block::chain))
    }
}

fn embedding(config: &EmbeddingConfig, init: &Initialiser) -> Embedding {
    let projection = SCHEME.dense(config.patch_width(), config.dim);
    Embedding::new(config, projection, init)
}

fn attention(
    config: &SwinConfig,
    lsa: bool,
    stage: Sizes,
    block: usize,
    depth: f64,
) -> AttentionConfig {
    let Sizes {
        dim, heads, window, ..
    } = stage;
    AttentionConfig {
        dim,
        tokens: window * window,
        windows: Some(stage.windows(block)),
        heads,
        key_dim: dim / heads,
        qkv_bias: true,
        temperature: match lsa {
            false => Temperature::Constant,
            true => Temperature::Head,
        },
        mask_diagonal: lsa,
        position: Some(Position {
            height: window,
            width: window,
            before: 0,
        }),
        dropout: config.dropout,
        adds_normal: false,
        residual: ResidualConfig::depth(depth),
        epsilon: config.layer_norm_epsilon,
        qkv_init: SCHEME.dense(dim, 3 * dim),
        output_init: SCHEME.dense(dim, dim),
        position_init: Some(PLACES),
    }
}

fn mlp(config: &SwinConfig, stage: Sizes, depth: f64) -> MlpConfig {
    let hidden = config.mlp_ratio * stage.dim;
    MlpConfig {
        dim: stage.dim,
        tokens: stage.side * stage.side,
        of_class: false,
        hidden,
        mixing: None,
        second_gelu: false,
        dropout: config.dropout,
        residual: ResidualConfig::depth(depth),
        epsilon: config.layer_norm_epsilon,
        hidden_init: SCHEME.dense(stage.dim, hidden),
        output_init: SCHEME.dense(hidden, stage.dim),
    }
}
