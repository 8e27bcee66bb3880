//! A hybrid of convolutions and attention, in stages, with the two ideas of arXiv 2112.13492.
//!
//! ```text
//! images [B, H, W, C]
//!   stem        a convolution, of the image or of it with its shifts (SPT)       [B, N₁, dim₁]
//!   stages      blocks; from one to the next a merge: 2 × 2 tokens, plain or with
//!               their shifts (SPT), normalised, projected                        [B, Nₛ, dimₛ]
//!     block     (attention, plain or LSA, in all but the first stages;)
//!               an MLP whose hidden numbers are mixed by a depthwise convolution
//!   pooling     LN; the tokens' mean, its weights learned or not                 [B, dim]
//!   head        logits                                                           [B, classes]
//! ```
//!
//! Convolutions first and attention after them is the layout of CoAtNet (Dai and others, arXiv
//! 2106.04803), the mixing MLP is SegFormer's and DHVT's ([`crate::nn::mlp`]); a merge with shifts is
//! the pooling of the paper (arXiv 2112.13492, section 3.1.3). No positions are added: the zeros
//! around the convolutions' grids tell them.

use burn::module::Module;
use smallvit_kernels::attention::Position;
use smallvit_kernels::depthwise::Grid;

use super::hybrid_config::{HybridPool, Stage as Sizes};
use super::vit_config::Temperature as TemperatureName;
use super::{HybridConfig, ModelConfig};
use crate::nn::Layer;
use crate::nn::attention::{AttentionConfig, AttentionResidual, Temperature};
use crate::nn::embedding::{Embedding, EmbeddingConfig};
use crate::nn::head::Head;
use crate::nn::mlp::{MlpConfig, MlpResidual};
use crate::nn::pooling::{Pool, Pooling};
use crate::nn::residual::ResidualConfig;
use crate::params::init::{Initialiser, Scheme};

/// How all kernels begin.
const SCHEME: Scheme = Scheme::XavierNormal;

/// A hybrid for classification.
#[derive(Module, Debug)]
pub struct Hybrid {
    /// Images → the first stage's tokens.
    pub stem: Embedding,
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

/// x + attention(LN(x)), where there is attention, then x + MLP(LN(x)).
#[derive(Module, Debug)]
pub struct Block {
    /// The first residual.
    pub attention: Option<AttentionResidual>,
    /// The second.
    pub mlp: MlpResidual,
}

impl Hybrid {
    /// A model with fresh weights, each drawn from a stream of its own.
    pub(super) fn new(
        config: &HybridConfig,
        switches: &ModelConfig,
        channels: usize,
        classes: usize,
        init: &Initialiser,
    ) -> Self {
        let sizes = config.stages();
        let stem = EmbeddingConfig {
            height: config.image_size,
            width: config.image_size,
            channels,
            patch: config.stem_patch,
            stride: config.stem_stride,
            padding: config.stem_padding(),
            class_token: None,
            shifted: switches.spt,
            norm: false,
            bias: true,
            dim: sizes[0].dim,
            epsilon: config.layer_norm_epsilon,
        };
        let stage = |number: usize| {
            let init = init.at("stages").at(number);
            let before = number.checked_sub(1).map(|before| sizes[before]);
            Stage::new(config, switches, before, sizes[number], &init)
        };
        let last = sizes[sizes.len() - 1];
        let pool = match config.pool {
            HybridPool::Mean => Pool::Mean,
            HybridPool::Sequence => Pool::Sequence,
        };
        Self {
            stem: embedding(&stem, &init.at("stem")),
            stages: (0..sizes.len()).map(stage).collect(),
            pooling: Pooling::new(
                last.side * last.side,
                last.dim,
                pool,
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
        let mut all: Vec<Vec<&dyn Layer>> = vec![vec![&self.stem]];
        all.extend(self.stages.iter().flat_map(Stage::chains));
        all.push(vec![&self.pooling]);
        all
    }
}

impl Stage {
    fn new(
        config: &HybridConfig,
        switches: &ModelConfig,
        before: Option<Sizes>,
        own: Sizes,
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
            bias: true,
            dim: own.dim,
            epsilon: config.layer_norm_epsilon,
        };
        let attention = attention(config, switches.lsa, own);
        let mlp = mlp(config, own);
        let block = |number: usize| {
            let init = init.at("blocks").at(number);
            let attention = || AttentionResidual::new(&attention, &init.at("attention"));
            Block {
                attention: own.attention.then(attention),
                mlp: MlpResidual::new(&mlp, &init.at("mlp")),
            }
        };
        Self {
            merge: before.map(|before| embedding(&merge(before), &init.at("merge"))),
            blocks: (0..own.depth).map(block).collect(),
        }
    }

    fn chains(&self) -> impl Iterator<Item = Vec<&dyn Layer>> {
        let merge = self.merge.iter().map(|merge| vec![merge as &dyn Layer]);
        merge.chain(self.blocks.iter().map(Block::chain))
    }
}

impl Block {
    /// One image stays in a core's cache through both residuals.
    fn chain(&self) -> Vec<&dyn Layer> {
        let attention = self.attention.iter().map(|layer| layer as &dyn Layer);
        attention.chain([&self.mlp as &dyn Layer]).collect()
    }
}

fn embedding(config: &EmbeddingConfig, init: &Initialiser) -> Embedding {
    let projection = SCHEME.dense(config.patch_width(), config.dim);
    Embedding::new(config, projection, init)
}

fn attention(config: &HybridConfig, lsa: bool, stage: Sizes) -> AttentionConfig {
    let Sizes { side, dim, .. } = stage;
    let position = Position {
        height: side,
        width: side,
        before: 0,
    };
    AttentionConfig {
        dim,
        tokens: side * side,
        windows: None,
        heads: (dim / config.head_dim).max(1),
        key_dim: config.head_dim,
        qkv_bias: false,
        temperature: match (lsa, config.temperature) {
            (false, _) => Temperature::Constant,
            (true, TemperatureName::Layer) => Temperature::Layer,
            (true, TemperatureName::Head) => Temperature::Head,
        },
        mask_diagonal: lsa,
        position: config.relative_position.then_some(position),
        dropout: config.dropout,
        adds_normal: false,
        residual: residual(config),
        epsilon: config.layer_norm_epsilon,
        // Queries, keys and values are three kernels side by side.
        qkv_init: SCHEME.dense(dim, dim),
        output_init: SCHEME.dense(dim, dim),
        position_init: None,
    }
}

fn mlp(config: &HybridConfig, stage: Sizes) -> MlpConfig {
    MlpConfig {
        dim: stage.dim,
        tokens: stage.side * stage.side,
        of_class: false,
        hidden: stage.hidden,
        mixing: Some(Grid {
            height: stage.side,
            width: stage.side,
        }),
        second_gelu: false,
        dropout: config.dropout,
        residual: residual(config),
        epsilon: config.layer_norm_epsilon,
        hidden_init: SCHEME.dense(stage.dim, stage.hidden),
        output_init: SCHEME.dense(stage.hidden, stage.dim),
    }
}

fn residual(config: &HybridConfig) -> ResidualConfig {
    ResidualConfig {
        layer_scale: config.layer_scale,
        stochastic_depth: config.stochastic_depth,
    }
}
