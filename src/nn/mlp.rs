//! The transformer's MLP with its residual: y = x + s · γ ∘ MLP(LN(x)).
//!
//! MLP(n) = dense, GELU, dropout, dense, dropout (Dosovitskiy and others, arXiv 2010.11929, section
//! 3.1); the Keras example puts a GELU after the second layer, too.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use smallvit_kernels::dropout::Rate;
use smallvit_kernels::matrix::Precision;
use smallvit_kernels::ops::ImageOp;
use smallvit_kernels::ops::mlp as kernel;

use super::basic::{Dense, LayerNorm, gelu};
use super::residual::{self, ResidualConfig};
use super::{Context, Layer, NamedValue, value};
use crate::params::init::{Distribution, Initialiser};

/// What an MLP is told.
#[derive(Clone, Debug)]
pub struct MlpConfig {
    /// Width of a token.
    pub dim: usize,
    /// Tokens of an image.
    pub tokens: usize,
    /// Width of the hidden layer.
    pub hidden: usize,
    /// Whether a GELU also follows the second layer.
    pub second_gelu: bool,
    /// Dropout after each layer.
    pub dropout: f64,
    /// How the branch is added.
    pub residual: ResidualConfig,
    /// ε of the layer normalisation.
    pub epsilon: f64,
    /// Where both kernels come from: their fans are the same.
    pub init: Distribution,
}

/// x + MLP(LN(x)) on `[image, token, dim]`.
#[derive(Module, Debug)]
pub struct MlpResidual {
    /// Before the MLP.
    pub norm: LayerNorm,
    /// `[dim, hidden]`.
    pub hidden: Dense,
    /// `[hidden, dim]`.
    pub output: Dense,
    /// γ, `[dim]`.
    pub layer_scale: Option<Param<Tensor<1>>>,
    #[module(skip)]
    config: MlpConfig,
    #[module(skip)]
    path: String,
}

impl MlpResidual {
    /// An MLP with fresh weights; biases are 0.
    pub fn new(config: &MlpConfig, init: &Initialiser) -> Self {
        let (dim, hidden) = (config.dim, config.hidden);
        Self {
            norm: LayerNorm::new(dim, config.epsilon, &init.at("norm")),
            hidden: Dense::new(dim, hidden, true, config.init, &init.at("hidden")),
            output: Dense::new(hidden, dim, true, config.init, &init.at("output")),
            layer_scale: config.residual.layer_scale(dim, init),
            config: config.clone(),
            path: init.path().to_owned(),
        }
    }
}

impl Layer for MlpResidual {
    fn path(&self) -> &str {
        &self.path
    }

    fn operation(&self, precision: Precision) -> Box<dyn ImageOp> {
        Box::new(kernel::MlpResidual {
            tokens: self.config.tokens,
            dim: self.config.dim,
            hidden: self.config.hidden,
            second_gelu: self.config.second_gelu,
            epsilon: self.config.epsilon as f32,
            dropout: Rate::new(self.config.dropout),
            residual: self.config.residual.operation(),
            precision,
        })
    }

    fn parameters(&self) -> Vec<NamedValue> {
        let mut all = vec![
            value("norm.gamma", &self.norm.gamma),
            value("norm.beta", &self.norm.beta),
            value("hidden.kernel", &self.hidden.kernel),
        ];
        all.extend(self.hidden.bias.as_ref().map(|p| value("hidden.bias", p)));
        all.push(value("output.kernel", &self.output.kernel));
        all.extend(self.output.bias.as_ref().map(|p| value("output.bias", p)));
        all.extend(self.layer_scale.as_ref().map(|p| value("layer_scale", p)));
        all
    }

    fn composed(&self, x: Tensor<3>, context: &mut Context) -> Tensor<3> {
        let (path, rate) = (&self.path, self.config.dropout);
        let hidden = gelu(self.hidden.forward(self.norm.forward(x.clone())));
        let hidden = context.dropout(hidden, rate, &format!("{path}.hidden.dropout"));
        let branch = self.output.forward(hidden);
        let branch = if self.config.second_gelu {
            gelu(branch)
        } else {
            branch
        };
        let branch = context.dropout(branch, rate, &format!("{path}.output.dropout"));
        let (gamma, rate) = (&self.layer_scale, self.config.residual.stochastic_depth);
        residual::add(x, branch, gamma, rate, path, context)
    }
}
