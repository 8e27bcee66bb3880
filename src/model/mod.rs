//! The Vision Transformer, one file a part: [`tokenizer`], [`attention`], [`encoder`], and here
//! the whole.
//!
//! ```text
//! images [B, H, W, C] ─ tokenizer ─ + position embedding ─ blocks ─ LN ─ flatten ─ MLP ─ logits
//! ```

pub mod attention;
pub mod config;
pub mod encoder;
pub mod file;
pub mod fused;
pub mod layers;
pub mod tokenizer;
pub mod weights;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

pub use config::{AttentionKind, ModelConfig, ModelName, Tokenization};
use encoder::{EncoderBlock, Mlp};
pub use layers::Pass;
use layers::{Dense, Initialiser, LayerNorm};
use tokenizer::Tokenizer;

/// A Vision Transformer for classification (Dosovitskiy et al., arXiv 2010.11929) as the seed
/// builds it: all tokens, flattened, go into an MLP; there is no class token.
#[derive(Module, Debug)]
pub struct Vit {
    /// Images → tokens.
    pub patch: Tokenizer,
    /// `[token, dim]`, added to the tokens.
    pub position_embedding: Param<Tensor<2>>,
    /// The encoder.
    pub blocks: Vec<EncoderBlock>,
    /// After the last block.
    pub final_layer_norm: LayerNorm,
    /// The classifier's hidden layers.
    pub head: Mlp,
    /// The classifier's last layer: `[width, class]`.
    pub logits: Dense,
    #[module(skip)]
    head_dropout: f64,
}

impl Vit {
    /// A model with fresh weights, each drawn from a stream of its own: Glorot uniform kernels,
    /// biases 0, layer normalisations 1 and 0, position embedding uniform ±0.05, as Keras's.
    ///
    /// `config` must have passed [`ModelConfig::check`].
    pub fn new(
        config: &ModelConfig,
        channels: usize,
        classes: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let init = &mut Initialiser::new(seed, device);
        let flat = config.tokens() * config.dim;
        let width = config.head.last().copied().unwrap_or(flat);
        Self {
            patch: Tokenizer::new(config, channels, init),
            position_embedding: init.uniform(0.05, [config.tokens(), config.dim]),
            blocks: (0..config.depth)
                .map(|_| EncoderBlock::new(config, init))
                .collect(),
            final_layer_norm: LayerNorm::new(config.dim, config.layer_norm_epsilon, init),
            head: Mlp::new(flat, &config.head, config.head_dropout, init),
            logits: Dense::glorot(width, classes, init),
            head_dropout: config.head_dropout,
        }
    }

    /// Normalised and resized images `[image, row, column, channel]` → logits `[image, class]`.
    pub fn forward(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        let tokens = self.tokenize(images, pass);
        let encoded = self.encode(tokens, pass);
        self.classify(encoded, pass)
    }

    /// `[image, row, column, channel]` → `[image, token, dim]`, positions added.
    pub fn tokenize(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<3> {
        let tokens = self.patch.forward(images, pass);
        pass.keep(|| "tokens".into(), &tokens);
        let x = tokens + self.position_embedding.val().unsqueeze();
        pass.keep(|| "encoded".into(), &x);
        x
    }

    /// The blocks: `[image, token, dim]` → the same shape.
    pub fn encode(&self, tokens: Tensor<3>, pass: &mut Pass) -> Tensor<3> {
        let blocks = self.blocks.iter().enumerate();
        blocks.fold(tokens, |x, (number, block)| block.forward(x, number, pass))
    }

    /// `[image, token, dim]` → logits `[image, class]`.
    pub fn classify(&self, encoded: Tensor<3>, pass: &mut Pass) -> Tensor<2> {
        let x = self.final_layer_norm.forward(encoded);
        let [images, tokens, dim] = x.dims();
        let mut x = pass.dropout(x.reshape([images, tokens * dim]), self.head_dropout);
        for (number, dense) in self.head.layers.iter().enumerate() {
            x = pass.dense(dense, x, || format!("head.dense{}", number + 1));
            x = pass.dropout(layers::gelu(x), self.head_dropout);
        }
        pass.dense(&self.logits, x, || "head.logits".into())
    }
}
