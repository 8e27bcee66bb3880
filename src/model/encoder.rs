//! The transformer encoder's block.

use burn::module::Module;
use burn::tensor::Tensor;

use super::attention::Attention;
use super::config::ModelConfig;
use super::fused;
use super::layers::{Dense, Initialiser, LayerNorm, Pass, gelu};

/// Dense layers, each followed by an exact (erf) GELU and dropout, the last one too, as the seed
/// has it.
#[derive(Module, Debug)]
pub struct Mlp {
    /// In order.
    pub layers: Vec<Dense>,
    #[module(skip)]
    pub(super) dropout: f64,
}

impl Mlp {
    /// Layers of these widths on an input of `input`.
    pub fn new(input: usize, widths: &[usize], dropout: f64, init: &mut Initialiser) -> Self {
        let inputs = std::iter::once(input).chain(widths.iter().copied());
        Self {
            layers: inputs
                .zip(widths)
                .map(|(input, &output)| Dense::glorot(input, output, init))
                .collect(),
            dropout,
        }
    }

    /// `[…, input]` → `[…, last width]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>, pass: &mut Pass) -> Tensor<D> {
        self.layers.iter().fold(x, |x, dense| {
            pass.dropout(gelu(dense.forward(x)), self.dropout)
        })
    }
}

/// A pre-norm block: x + Attention(LN(x)), then x + MLP(LN(x)).
#[derive(Module, Debug)]
pub struct EncoderBlock {
    /// Before the attention.
    pub layer_norm1: LayerNorm,
    /// The attention.
    pub attention: Attention,
    /// Before the MLP.
    pub layer_norm2: LayerNorm,
    /// The MLP.
    pub mlp: Mlp,
}

impl EncoderBlock {
    /// A block with fresh weights.
    pub fn new(config: &ModelConfig, init: &mut Initialiser) -> Self {
        Self {
            layer_norm1: LayerNorm::new(config.dim, config.layer_norm_epsilon, init),
            attention: Attention::new(config, init),
            layer_norm2: LayerNorm::new(config.dim, config.layer_norm_epsilon, init),
            mlp: Mlp::new(config.dim, &config.mlp, config.dropout, init),
        }
    }

    /// `[image, token, dim]` → the same shape; `number` is the block's, for its intermediates'
    /// names.
    ///
    /// On the CPU a block with two MLP layers is one operation; else it is the composed ones,
    /// which compute the same with the same dropout masks.
    pub fn forward(&self, x: Tensor<3>, number: usize, pass: &mut Pass) -> Tensor<3> {
        if pass.fuses(&x) && self.mlp.layers.len() == 2 {
            fused::block::forward(self, x, pass)
        } else {
            self.composed(x, number, pass)
        }
    }

    fn composed(&self, x: Tensor<3>, number: usize, pass: &mut Pass) -> Tensor<3> {
        let attended = self
            .attention
            .forward(self.layer_norm1.forward(x.clone()), pass);
        pass.keep(|| format!("attention{number}"), &attended);
        let x = x + attended;
        let x = self.mlp.forward(self.layer_norm2.forward(x.clone()), pass) + x;
        pass.keep(|| format!("block{number}"), &x);
        x
    }
}
