//! How a branch is added to what it came from: y = x + s · γ ∘ branch(x).
//!
//! γ is LayerScale (Touvron and others, arXiv 2103.17239, section 2.1), one learned number a
//! channel; s is stochastic depth (Huang and others, arXiv 1603.09382), 0 or 1 / (1 − rate) an
//! image in training, 1 after it.

use burn::module::Param;
use burn::tensor::Tensor;
use smallvit_kernels::dropout::Rate;
use smallvit_kernels::ops;

use super::Context;
use crate::params::init::Initialiser;

/// What a layer with a residual is told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ResidualConfig {
    /// γ at first; none leaves it out.
    pub layer_scale: Option<f64>,
    /// How often an image goes past the branch in training.
    pub stochastic_depth: f64,
}

/// γ of a layer that has one.
pub(super) type LayerScale = Option<Param<Tensor<1>>>;

impl ResidualConfig {
    /// Without LayerScale.
    pub fn depth(stochastic_depth: f64) -> Self {
        Self {
            layer_scale: None,
            stochastic_depth,
        }
    }

    /// The stochastic depth of block `number`, from 0, of so many, where it grows evenly from 0 to the most.
    pub fn growing(most: f64, number: usize, blocks: usize) -> f64 {
        most * number as f64 / (blocks - 1).max(1) as f64
    }

    pub(super) fn layer_scale(&self, dim: usize, init: &Initialiser) -> LayerScale {
        let constant = |gamma| init.constant(gamma as f32, [dim]);
        self.layer_scale.map(constant)
    }

    pub(super) fn operation(&self) -> ops::Residual {
        ops::Residual {
            layer_scale: self.layer_scale.is_some(),
            depth: Rate::new(self.stochastic_depth),
        }
    }
}

/// x + s · γ ∘ branch.
pub(super) fn add(
    x: Tensor<3>,
    branch: Tensor<3>,
    gamma: &LayerScale,
    rate: f64,
    path: &str,
    context: &mut Context,
) -> Tensor<3> {
    let branch = match gamma {
        Some(gamma) => branch * gamma.val().unsqueeze(),
        None => branch,
    };
    let site = format!("{path}.stochastic_depth");
    let y = x + context.stochastic_depth(branch, rate, &site);
    context.keep(|| path.to_owned(), &y);
    y
}
