//! The block that most families are made of.

use burn::module::Module;

use crate::nn::Layer;
use crate::nn::attention::{AttentionConfig, AttentionResidual};
use crate::nn::mlp::{MlpConfig, MlpResidual};
use crate::params::init::Initialiser;

/// A pre-norm encoder block: x + attention(LN(x)), then x + MLP(LN(x)).
#[derive(Module, Debug)]
pub struct Block {
    /// The first residual.
    pub attention: AttentionResidual,
    /// The second.
    pub mlp: MlpResidual,
}

impl Block {
    /// A block with fresh weights.
    pub(super) fn new(attention: &AttentionConfig, mlp: &MlpConfig, init: &Initialiser) -> Self {
        Self {
            attention: AttentionResidual::new(attention, &init.at("attention")),
            mlp: MlpResidual::new(mlp, &init.at("mlp")),
        }
    }

    /// One image stays in a core's cache through both residuals.
    pub(super) fn chain(&self) -> Vec<&dyn Layer> {
        vec![&self.attention, &self.mlp]
    }
}
