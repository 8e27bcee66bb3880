//! CaiT (Touvron and others, *Going deeper with Image Transformers*, arXiv 2103.17239), plain or with the two
//! ideas of arXiv 2112.13492, as that paper's code has it for small images.
//!
//! ```text
//! images [B, H, W, C]
//!   embedding      patches, plain or shifted (SPT), projected                    [B, N, dim]
//!   sequence       + positions
//!   blocks         depth × (attention whose heads talk, plain or LSA; MLP), LayerScale
//!   class_token    a class token in front                                        [B, 1 + N, dim]
//!   class_blocks   class_depth × (the class token attends to the patches' tokens; its MLP)
//!   pooling        LN; the class token                                           [B, dim]
//!   head           logits                                                        [B, classes]
//! ```
//!
//! In class attention there is a learned temperature with LSA, too, and nothing is masked.

use burn::module::Module;

use super::cait_config::SelfScores;
use super::{CaitConfig, ModelConfig};
use crate::nn::Layer;
use crate::nn::attention::Temperature;
use crate::nn::embedding::{Embedding, EmbeddingConfig};
use crate::nn::head::Head;
use crate::nn::mlp::{MlpConfig, MlpResidual};
use crate::nn::pooling::{Pool, Pooling};
use crate::nn::residual::ResidualConfig;
use crate::nn::sequence::{Places, Sequence};
use crate::nn::talking::{Diagonal, TalkingConfig, TalkingResidual};
use crate::params::init::{Distribution, Initialiser, Scheme};

/// How kernels begin.
const SCHEME: Scheme = Scheme::XavierNormal;

/// How class token, positions and the mixing of heads begin.
const STANDARD: Distribution = Distribution::Normal(1.0);

/// A CaiT for classification.
#[derive(Module, Debug)]
pub struct Cait {
    /// Images → tokens.
    pub embedding: Embedding,
    /// Positions.
    pub sequence: Sequence,
    /// Among the patches' tokens.
    pub blocks: Vec<Block>,
    /// The class token.
    pub class_token: Sequence,
    /// Of the class token.
    pub class_blocks: Vec<Block>,
    /// Tokens → features.
    pub pooling: Pooling,
    /// Features → logits.
    pub head: Head,
}

/// x + γ ∘ attention(LN(x)), then x + γ ∘ MLP(LN(x)).
#[derive(Module, Debug)]
pub struct Block {
    /// The first residual.
    pub attention: TalkingResidual,
    /// The second.
    pub mlp: MlpResidual,
}

impl Cait {
    /// A model with fresh weights, each drawn from a stream of its own.
    pub(super) fn new(
        config: &CaitConfig,
        switches: &ModelConfig,
        channels: usize,
        classes: usize,
        init: &Initialiser,
    ) -> Self {
        let (tokens, dim) = (config.tokens(), config.dim);
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
            dim,
            epsilon: config.layer_norm_epsilon,
        };
        let projection = SCHEME.dense(patches.patch_width(), dim);
        let stack = |name: &str, depth: usize, of_class: bool| {
            let init = init.at(name);
            let block = |number| {
                let residual = ResidualConfig {
                    layer_scale: Some(CaitConfig::layer_scale(number)),
                    stochastic_depth: config.stochastic_depth,
                };
                Block::new(config, switches.lsa, of_class, residual, &init.at(number))
            };
            (0..depth).map(block).collect()
        };
        let places = Places::Learned(STANDARD);
        let class = Some(STANDARD);
        Self {
            embedding: Embedding::new(&patches, projection, &init.at("embedding")),
            sequence: Sequence::new(tokens, dim, None, places, &init.at("sequence")),
            blocks: stack("blocks", config.depth, false),
            class_token: Sequence::new(tokens, dim, class, Places::None, &init.at("class_token")),
            class_blocks: stack("class_blocks", config.class_depth, true),
            pooling: Pooling::new(
                1 + tokens,
                dim,
                Pool::Class,
                config.layer_norm_epsilon,
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
        let mut all: Vec<Vec<&dyn Layer>> = vec![vec![&self.embedding, &self.sequence]];
        all.extend(self.blocks.iter().map(Block::chain));
        all.push(vec![&self.class_token]);
        all.extend(self.class_blocks.iter().map(Block::chain));
        all.push(vec![&self.pooling]);
        all
    }
}

impl Block {
    /// One image stays in a core's cache through both residuals.
    fn chain(&self) -> Vec<&dyn Layer> {
        vec![&self.attention, &self.mlp]
    }

    fn new(
        config: &CaitConfig,
        lsa: bool,
        of_class: bool,
        residual: ResidualConfig,
        init: &Initialiser,
    ) -> Self {
        let CaitConfig {
            dim,
            heads,
            key_dim,
            mlp_width,
            ..
        } = *config;
        let (inner, tokens) = (heads * key_dim, config.tokens() + usize::from(of_class));
        let attention = TalkingConfig {
            dim,
            tokens,
            of_class,
            heads,
            key_dim,
            temperature: match lsa {
                false => Temperature::Constant,
                true => Temperature::Head,
            },
            diagonal: match (lsa && !of_class, config.self_scores) {
                (false, _) => Diagonal::Stays,
                (true, SelfScores::Zero) => Diagonal::Zero,
                (true, SelfScores::Masked) => Diagonal::Masked,
            },
            dropout: config.dropout,
            residual,
            epsilon: config.layer_norm_epsilon,
            query_init: SCHEME.dense(dim, inner),
            key_value_init: SCHEME.dense(dim, 2 * inner),
            output_init: SCHEME.dense(inner, dim),
            mix_init: STANDARD,
        };
        let mlp = MlpConfig {
            dim,
            tokens,
            of_class,
            hidden: mlp_width,
            mixing: None,
            second_gelu: false,
            dropout: config.dropout,
            residual,
            epsilon: config.layer_norm_epsilon,
            hidden_init: SCHEME.dense(dim, mlp_width),
            output_init: SCHEME.dense(mlp_width, dim),
        };
        Self {
            attention: TalkingResidual::new(&attention, &init.at("attention")),
            mlp: MlpResidual::new(&mlp, &init.at("mlp")),
        }
    }
}
