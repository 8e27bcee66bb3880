//! The Vision Transformer (Dosovitskiy and others, arXiv 2010.11929), plain or with the two ideas
//! of arXiv 2112.13492.
//!
//! ```text
//! images [B, H, W, C]
//!   embedding   patches, plain or shifted (SPT), projected              [B, N, dim]
//!   sequence    a class token in front, if the classifier takes it; + positions
//!   blocks      depth × (attention, plain or LSA; MLP)
//!   pooling     LN; all tokens, the class token, or their mean          [B, features]
//!   head        hidden layers, if any; logits                           [B, classes]
//! ```
//!
//! The Keras example flattens all tokens into a large classifier and puts a GELU behind each MLP;
//! the paper's code has a class token, a temperature a head, no biases on queries, keys and values,
//! and stochastic depth. [`VitConfig`] spans both.

use burn::module::Module;
use smallvit_kernels::attention::Position;

use super::block::Block;
use super::vit_config::{InitialWeights, Pool as PoolName, Temperature as TemperatureName};
use super::{ModelConfig, VitConfig};
use crate::nn::Layer;
use crate::nn::attention::{AttentionConfig, Temperature};
use crate::nn::embedding::{Embedding, EmbeddingConfig};
use crate::nn::head::Head;
use crate::nn::mlp::MlpConfig;
use crate::nn::pooling::{Pool, Pooling};
use crate::nn::residual::ResidualConfig;
use crate::nn::sequence::{Places, Sequence};
use crate::params::init::{Distribution, Initialiser, Scheme};

/// A Vision Transformer for classification.
#[derive(Module, Debug)]
pub struct Vit {
    /// Images → tokens.
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

impl Vit {
    /// A model with fresh weights, each drawn from a stream of its own.
    pub(super) fn new(
        config: &VitConfig,
        switches: &ModelConfig,
        channels: usize,
        classes: usize,
        init: &Initialiser,
    ) -> Self {
        let (scheme, places) = match config.initial {
            InitialWeights::Keras => (Scheme::GlorotUniform, Distribution::Uniform(0.05)),
            InitialWeights::Paper => (Scheme::XavierNormal, Distribution::Normal(1.0)),
        };
        let embedding = embedding(config, switches.spt, channels);
        let projection = scheme.dense(embedding.patch_width(), config.dim);
        let attention = attention(config, switches.lsa, scheme);
        let mlp = mlp(config, scheme);
        let block = |number: usize| Block::new(&attention, &mlp, &init.at("blocks").at(number));
        let (dim, sequence) = (config.dim, config.sequence());
        let (pool, class_token) = match config.pool {
            PoolName::Flatten => (Pool::Flatten, None),
            PoolName::Class => (Pool::Class, Some(places)),
            PoolName::Mean => (Pool::Mean, None),
            PoolName::Sequence => (Pool::Sequence, None),
        };
        let epsilon = config.layer_norm_epsilon;
        Self {
            embedding: Embedding::new(&embedding, projection, &init.at("embedding")),
            sequence: Sequence::new(
                config.tokens(),
                dim,
                class_token,
                Places::Learned(places),
                &init.at("sequence"),
            ),
            blocks: (0..config.depth).map(block).collect(),
            pooling: Pooling::new(sequence, dim, pool, epsilon, scheme, &init.at("pooling")),
            head: Head::new(
                config.features(),
                &config.head,
                classes,
                config.head_dropout,
                scheme,
                &init.at("head"),
            ),
        }
    }

    /// The layers that images go through one by one, in order; those of a chain as one.
    pub(super) fn chains(&self) -> Vec<Vec<&dyn Layer>> {
        let mut all: Vec<Vec<&dyn Layer>> = vec![vec![&self.embedding, &self.sequence]];
        all.extend(self.blocks.iter().map(Block::chain));
        all.push(vec![&self.pooling]);
        all
    }
}

fn embedding(config: &VitConfig, spt: bool, channels: usize) -> EmbeddingConfig {
    EmbeddingConfig {
        height: config.image_size,
        width: config.image_size,
        channels,
        patch: config.patch_size,
        stride: config.patch_size,
        padding: 0,
        class_token: None,
        shifted: spt,
        norm: spt,
        bias: true,
        dim: config.dim,
        epsilon: config.layer_norm_epsilon,
    }
}

fn attention(config: &VitConfig, lsa: bool, scheme: Scheme) -> AttentionConfig {
    let VitConfig {
        dim,
        heads,
        key_dim,
        ..
    } = *config;
    let grid = config.image_size / config.patch_size;
    let position = Position {
        height: grid,
        width: grid,
        before: config.sequence() - config.tokens(),
    };
    let inner = heads * key_dim;
    let (qkv, output) = match scheme {
        // Keras takes the fans from the three-dimensional kernel, whose last two axes count as
        // (in, out) and whose first is a receptive field: (dim, heads, key_dim) for each of
        // queries, keys and values, and (heads, key_dim, dim).
        Scheme::GlorotUniform => ((dim * heads, dim * key_dim), (heads * key_dim, heads * dim)),
        // The paper's code takes the whole matrix, the three as one.
        Scheme::XavierNormal | Scheme::FanIn | Scheme::Small => ((dim, 3 * inner), (inner, dim)),
    };
    AttentionConfig {
        dim,
        tokens: config.sequence(),
        windows: None,
        heads,
        key_dim,
        qkv_bias: config.qkv_bias,
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
        qkv_init: scheme.dense(qkv.0, qkv.1),
        output_init: scheme.dense(output.0, output.1),
        position_init: None,
    }
}

fn mlp(config: &VitConfig, scheme: Scheme) -> MlpConfig {
    MlpConfig {
        dim: config.dim,
        tokens: config.sequence(),
        of_class: false,
        hidden: config.mlp_width,
        mixing: None,
        second_gelu: config.mlp_second_gelu,
        dropout: config.dropout,
        residual: residual(config),
        epsilon: config.layer_norm_epsilon,
        hidden_init: scheme.dense(config.dim, config.mlp_width),
        output_init: scheme.dense(config.mlp_width, config.dim),
    }
}

fn residual(config: &VitConfig) -> ResidualConfig {
    ResidualConfig {
        layer_scale: config.layer_scale,
        stochastic_depth: config.stochastic_depth,
    }
}
