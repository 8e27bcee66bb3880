//! The transformer's MLP with its residual: y = x + s · γ ∘ MLP(LN(x)).
//!
//! MLP(n) = dense, GELU, dropout, dense, dropout (Dosovitskiy and others, arXiv 2010.11929, section
//! 3.1); the Keras example puts a GELU after the second layer, too.
//!
//! Where the tokens are a grid, a depthwise convolution of 3 × 3 may mix each with its neighbours
//! between the first layer and its GELU, with a shortcut around it: the Mix-FFN of SegFormer (Xie
//! and others, arXiv 2105.15203, equation 3) with the shortcut of DHVT (Lu and others, arXiv
//! 2210.05958, section 3.2). It also tells tokens where they are, by the zeros around the grid, so
//! that no positions are added.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use smallvit_kernels::depthwise::{Grid, TAPS};
use smallvit_kernels::dropout::Rate;
use smallvit_kernels::matrix::Precision;
use smallvit_kernels::ops::ImageOp;
use smallvit_kernels::ops::first::First;
use smallvit_kernels::ops::mlp as kernel;

use super::basic::{Dense, LayerNorm, gelu};
use super::residual::{self, ResidualConfig};
use super::{Context, Layer, NamedValue, value};
use crate::params::init::{DenseInit, Distribution, Initialiser};

/// What an MLP is told.
#[derive(Clone, Debug)]
pub struct MlpConfig {
    /// Width of a token.
    pub dim: usize,
    /// Tokens of an image.
    pub tokens: usize,
    /// Whether the first of them, a class token, is the only one that changes.
    pub of_class: bool,
    /// Width of the hidden layer.
    pub hidden: usize,
    /// The grid of the tokens whose hidden numbers are mixed, where they are.
    pub mixing: Option<Grid>,
    /// Whether a GELU also follows the second layer.
    pub second_gelu: bool,
    /// Dropout after each layer.
    pub dropout: f64,
    /// How the branch is added.
    pub residual: ResidualConfig,
    /// ε of the layer normalisation.
    pub epsilon: f64,
    /// How the hidden layer begins.
    pub hidden_init: DenseInit,
    /// How the output begins.
    pub output_init: DenseInit,
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
    /// Between the two, where tokens are mixed.
    pub mixing: Option<Mixing>,
    #[module(skip)]
    config: MlpConfig,
    #[module(skip)]
    path: String,
}

/// A depthwise convolution of 3 × 3 with a shortcut: u + conv(u) + bias.
#[derive(Module, Debug)]
pub struct Mixing {
    /// `[(tap row, tap column), hidden]`.
    pub kernel: Param<Tensor<2>>,
    /// `[hidden]`.
    pub bias: Param<Tensor<1>>,
}

impl Mixing {
    fn new(hidden: usize, init: &Initialiser) -> Self {
        // ± 1 / √taps, as PyTorch begins convolutions.
        let taps = Distribution::Uniform(1.0 / (TAPS as f32).sqrt());
        Self {
            kernel: init.draw("kernel", taps, [TAPS, hidden]),
            bias: init.constant(0.0, [hidden]),
        }
    }

    /// `[image, cell, hidden]` → the same shape.
    fn forward(&self, u: Tensor<3>, grid: Grid) -> Tensor<3> {
        let [images, cells, hidden] = u.dims();
        // Burn's convolutions take channels first.
        let planes = u.clone().swap_dims(1, 2);
        let planes = planes.reshape([images, hidden, grid.height, grid.width]);
        let kernel = self.kernel.val().transpose();
        let kernel = kernel.reshape([hidden, 1, 3, 3]);
        let options = ConvOptions::new([1, 1], [1, 1], [1, 1], hidden);
        let mixed = conv2d(planes, kernel, Some(self.bias.val()), options);
        u + mixed.reshape([images, hidden, cells]).swap_dims(1, 2)
    }
}

impl MlpResidual {
    /// An MLP with fresh weights.
    pub fn new(config: &MlpConfig, init: &Initialiser) -> Self {
        let (dim, hidden) = (config.dim, config.hidden);
        let (first, second) = (config.hidden_init, config.output_init);
        Self {
            norm: LayerNorm::new(dim, config.epsilon, &init.at("norm")),
            hidden: Dense::new(dim, hidden, true, first, &init.at("hidden")),
            output: Dense::new(hidden, dim, true, second, &init.at("output")),
            layer_scale: config.residual.layer_scale(dim, init),
            mixing: (config.mixing).map(|_| Mixing::new(hidden, &init.at("mixing"))),
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
        let of_class = self.config.of_class;
        let mlp = kernel::MlpResidual {
            tokens: if of_class { 1 } else { self.config.tokens },
            dim: self.config.dim,
            hidden: self.config.hidden,
            mixing: self.config.mixing,
            second_gelu: self.config.second_gelu,
            epsilon: self.config.epsilon as f32,
            dropout: Rate::new(self.config.dropout),
            residual: self.config.residual.operation(),
            precision,
        };
        match of_class {
            true => Box::new(First {
                op: Box::new(mlp),
                tokens: self.config.tokens,
            }),
            false => Box::new(mlp),
        }
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
        if let Some(mixing) = &self.mixing {
            all.push(value("mixing.kernel", &mixing.kernel));
            all.push(value("mixing.bias", &mixing.bias));
        }
        all
    }

    fn composed(&self, x: Tensor<3>, context: &mut Context) -> Tensor<3> {
        let (path, rate) = (&self.path, self.config.dropout);
        let (x, rest) = match self.config.of_class {
            true => {
                let rest = x.clone().narrow(1, 1, self.config.tokens - 1);
                (x.narrow(1, 0, 1), Some(rest))
            }
            false => (x, None),
        };
        let hidden = self.hidden.forward(self.norm.forward(x.clone()));
        let hidden = gelu(match (&self.mixing, self.config.mixing) {
            (Some(mixing), Some(grid)) => mixing.forward(hidden, grid),
            _ => hidden,
        });
        let hidden = context.dropout(hidden, rate, &format!("{path}.hidden.dropout"));
        let branch = self.output.forward(hidden);
        let branch = if self.config.second_gelu {
            gelu(branch)
        } else {
            branch
        };
        let branch = context.dropout(branch, rate, &format!("{path}.output.dropout"));
        let (gamma, rate) = (&self.layer_scale, self.config.residual.stochastic_depth);
        let y = residual::add(x, branch, gamma, rate, path, context);
        match rest {
            Some(rest) => Tensor::cat(vec![y, rest], 1),
            None => y,
        }
    }
}
