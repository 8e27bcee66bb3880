//! The Pooling-based Vision Transformer (Heo and others, *Rethinking Spatial Dimensions of Vision
//! Transformers*, arXiv 2103.16302), plain or with the two ideas of arXiv 2112.13492, as that paper's code
//! has it for small images.
//!
//! ```text
//! images [B, H, W, C]
//!   embedding   patches, plain or shifted (SPT), projected                        [B, N₁, dim₁]
//!   sequence    a class token in front; + positions                               [B, 1 + N₁, dim₁]
//!   stages      blocks; from one to the next a quarter of the grid's tokens: a convolution of
//!               3 × 3 with stride 2, or 2 × 2 tokens with their shifts (SPT), normalised and
//!               projected; the class token by a projection of its own             [B, 1 + Nₛ, dimₛ]
//!     block     (attention, plain or LSA), (MLP)
//!   pooling     LN; the class token                                               [B, dim]
//!   head        logits                                                            [B, classes]
//! ```
//!
//! Its learned temperature is one a head.

use burn::module::Module;
use smallvit_kernels::depthwise::{Grid, TAPS};

use super::block::Block;
use super::pit_config::Stage as Sizes;
use super::{ModelConfig, PitConfig};
use crate::nn::Layer;
use crate::nn::attention::{AttentionConfig, Temperature};
use crate::nn::downsample::{Downsample, DownsampleConfig};
use crate::nn::embedding::{Embedding, EmbeddingConfig};
use crate::nn::head::Head;
use crate::nn::mlp::MlpConfig;
use crate::nn::pooling::{Pool, Pooling};
use crate::nn::residual::ResidualConfig;
use crate::nn::sequence::{Places, Sequence};
use crate::params::init::{Distribution, Initialiser, Scheme};

/// How kernels begin.
const SCHEME: Scheme = Scheme::XavierNormal;

/// How the class token and positions begin.
const PLACES: Distribution = Distribution::Normal(1.0);

/// A PiT for classification.
#[derive(Module, Debug)]
pub struct Pit {
    /// Images → the first stage's tokens.
    pub embedding: Embedding,
    /// The class token, and positions.
    pub sequence: Sequence,
    /// The stages, first to last.
    pub stages: Vec<Stage>,
    /// Tokens → features.
    pub pooling: Pooling,
    /// Features → logits.
    pub head: Head,
}

/// Blocks on one grid of tokens and the class token.
#[derive(Module, Debug)]
pub struct Stage {
    /// Four tokens of the stage before → one of this, by their shifts; none in the first stage, nor
    /// without Shifted Patch Tokenization.
    pub merge: Option<Embedding>,
    /// The same by convolution.
    pub downsample: Option<Downsample>,
    /// Its blocks.
    pub blocks: Vec<Block>,
}

impl Pit {
    /// A model with fresh weights, each drawn from a stream of its own.
    pub(super) fn new(
        config: &PitConfig,
        switches: &ModelConfig,
        channels: usize,
        classes: usize,
        init: &Initialiser,
    ) -> Self {
        let sizes = config.stages();
        let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
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
            epsilon: config.layer_norm_epsilon,
        };
        // Plain patches are a convolution in the paper's code, whose fan out counts its places, too.
        let places = match switches.spt {
            true => 1,
            false => config.patch_size * config.patch_size,
        };
        let projection = SCHEME.dense(patches.patch_width(), places * first.dim);
        let stage = |number: usize| {
            let init = init.at("stages").at(number);
            let before = number.checked_sub(1).map(|before| sizes[before]);
            Stage::new(config, switches, before, sizes[number], &init)
        };
        Self {
            embedding: Embedding::new(&patches, projection, &init.at("embedding")),
            sequence: Sequence::new(
                first.side * first.side,
                first.dim,
                Some(PLACES),
                Places::Learned(PLACES),
                &init.at("sequence"),
            ),
            stages: (0..sizes.len()).map(stage).collect(),
            pooling: Pooling::new(
                last.tokens(),
                last.dim,
                Pool::Class,
                config.layer_norm_epsilon,
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
        let mut all: Vec<Vec<&dyn Layer>> = vec![vec![&self.embedding, &self.sequence]];
        all.extend(self.stages.iter().flat_map(Stage::chains));
        all.push(vec![&self.pooling]);
        all
    }
}

impl Stage {
    fn new(
        config: &PitConfig,
        switches: &ModelConfig,
        before: Option<Sizes>,
        own: Sizes,
        init: &Initialiser,
    ) -> Self {
        let attention = attention(config, switches.lsa, own);
        let mlp = mlp(config, own);
        let block = |number: usize| Block::new(&attention, &mlp, &init.at("blocks").at(number));
        let shifted = before.filter(|_| switches.spt);
        let plain = before.filter(|_| !switches.spt);
        Self {
            merge: shifted.map(|before| merge(config, before, own, &init.at("merge"))),
            downsample: plain.map(|before| downsample(before, own, &init.at("downsample"))),
            blocks: (0..own.depth).map(block).collect(),
        }
    }

    fn chains(&self) -> impl Iterator<Item = Vec<&dyn Layer>> {
        let merge = self.merge.iter().map(|merge| vec![merge as &dyn Layer]);
        let downsample = self.downsample.iter();
        let downsample = downsample.map(|layer| vec![layer as &dyn Layer]);
        merge
            .chain(downsample)
            .chain(self.blocks.iter().map(Block::chain))
    }
}

fn merge(config: &PitConfig, before: Sizes, own: Sizes, init: &Initialiser) -> Embedding {
    let merge = EmbeddingConfig {
        height: before.side,
        width: before.side,
        channels: before.dim,
        patch: 2,
        stride: 2,
        padding: 0,
        class_token: Some(SCHEME.dense(before.dim, own.dim)),
        shifted: true,
        norm: true,
        bias: true,
        dim: own.dim,
        epsilon: config.layer_norm_epsilon,
    };
    Embedding::new(&merge, SCHEME.dense(merge.patch_width(), own.dim), init)
}

fn downsample(before: Sizes, own: Sizes, init: &Initialiser) -> Downsample {
    let config = DownsampleConfig {
        grid: Grid {
            height: before.side,
            width: before.side,
        },
        class_token: Some(SCHEME.dense(before.dim, own.dim)),
        channels: before.dim,
        dim: own.dim,
        taps_init: SCHEME.kernel(TAPS, TAPS * own.dim),
        projection_init: SCHEME.dense(own.dim, own.dim),
    };
    Downsample::new(&config, init)
}

fn attention(config: &PitConfig, lsa: bool, stage: Sizes) -> AttentionConfig {
    let Sizes { dim, heads, .. } = stage;
    let inner = heads * config.head_dim;
    AttentionConfig {
        dim,
        tokens: stage.tokens(),
        windows: None,
        heads,
        key_dim: config.head_dim,
        qkv_bias: false,
        temperature: match lsa {
            false => Temperature::Constant,
            true => Temperature::Head,
        },
        mask_diagonal: lsa,
        position: None,
        dropout: config.dropout,
        adds_normal: false,
        residual: ResidualConfig::depth(config.stochastic_depth),
        epsilon: config.layer_norm_epsilon,
        qkv_init: SCHEME.dense(dim, 3 * inner),
        output_init: SCHEME.dense(inner, dim),
        position_init: None,
    }
}

fn mlp(config: &PitConfig, stage: Sizes) -> MlpConfig {
    let hidden = config.mlp_ratio * stage.dim;
    MlpConfig {
        dim: stage.dim,
        tokens: stage.tokens(),
        of_class: false,
        hidden,
        mixing: None,
        second_gelu: false,
        dropout: config.dropout,
        residual: ResidualConfig::depth(config.stochastic_depth),
        epsilon: config.layer_norm_epsilon,
        hidden_init: SCHEME.dense(stage.dim, hidden),
        output_init: SCHEME.dense(hidden, stage.dim),
    }
}
