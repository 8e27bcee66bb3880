//! A grid of tokens → one of half as many a side, by convolution: PiT's pooling layer (Heo and others,
//! arXiv 2103.16302, section 3.2), with the projection that the code of arXiv 2112.13492 puts behind it.
//!
//! A depthwise convolution of 3 × 3 with stride 2 and several numbers a channel, then a dense layer. A
//! class token in front of the grid goes past it by a dense layer of its own.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use smallvit_kernels::depthwise::{Grid, TAPS};
use smallvit_kernels::matrix::Precision;
use smallvit_kernels::ops::ImageOp;
use smallvit_kernels::ops::downsample as kernel;

use super::basic::Dense;
use super::{Context, Layer, NamedValue, value};
use crate::params::init::{DenseInit, Distribution, Initialiser};

/// What it is told.
#[derive(Clone, Debug)]
pub struct DownsampleConfig {
    /// The grid that comes in.
    pub grid: Grid,
    /// How a class token's dense layer begins, where there is a class token.
    pub class_token: Option<DenseInit>,
    /// Width of a token that comes in.
    pub channels: usize,
    /// Width of one that goes out: a multiple of it.
    pub dim: usize,
    /// Where the convolution's kernel comes from.
    pub taps_init: Distribution,
    /// How the dense layer begins.
    pub projection_init: DenseInit,
}

/// `[image, (class +) cell, channel]`, the cells row by row → `[image, (class +) cell, dim]`.
#[derive(Module, Debug)]
pub struct Downsample {
    /// The convolution.
    pub taps: Taps,
    /// `[dim, dim]`.
    pub projection: Dense,
    /// The class token's, `[channel, dim]`.
    pub class: Option<Dense>,
    #[module(skip)]
    config: DownsampleConfig,
    #[module(skip)]
    path: String,
}

/// A depthwise convolution of 3 × 3.
#[derive(Module, Debug)]
pub struct Taps {
    /// `[(tap row, tap column), dim]`; a channel's numbers lie side by side.
    pub kernel: Param<Tensor<2>>,
    /// `[dim]`.
    pub bias: Param<Tensor<1>>,
}

impl Downsample {
    /// One with fresh weights.
    pub fn new(config: &DownsampleConfig, init: &Initialiser) -> Self {
        let (channels, dim) = (config.channels, config.dim);
        let taps = init.at("taps");
        let class = |own| Dense::new(channels, dim, true, own, &init.at("class"));
        let projection = (config.projection_init, init.at("projection"));
        Self {
            taps: Taps {
                kernel: taps.draw("kernel", config.taps_init, [TAPS, dim]),
                bias: taps.constant(0.0, [dim]),
            },
            projection: Dense::new(dim, dim, true, projection.0, &projection.1),
            class: config.class_token.map(class),
            config: config.clone(),
            path: init.path().to_owned(),
        }
    }
}

impl Layer for Downsample {
    fn path(&self) -> &str {
        &self.path
    }

    fn operation(&self, precision: Precision) -> Box<dyn ImageOp> {
        Box::new(kernel::Downsample {
            grid: self.config.grid,
            class_token: self.class.is_some(),
            channels: self.config.channels,
            dim: self.config.dim,
            precision,
        })
    }

    fn parameters(&self) -> Vec<NamedValue> {
        let mut all = vec![
            value("taps.kernel", &self.taps.kernel),
            value("taps.bias", &self.taps.bias),
            value("projection.kernel", &self.projection.kernel),
        ];
        let bias = self.projection.bias.as_ref();
        all.extend(bias.map(|bias| value("projection.bias", bias)));
        all.extend(self.class.iter().flat_map(class_parameters));
        all
    }

    fn composed(&self, x: Tensor<3>, context: &mut Context) -> Tensor<3> {
        let (class, x) = class_apart(&self.class, x);
        let [images, _, channels] = x.dims();
        let DownsampleConfig { grid, dim, .. } = self.config;
        // Burn's convolutions take channels first.
        let planes = x
            .swap_dims(1, 2)
            .reshape([images, channels, grid.height, grid.width]);
        let kernel = self.taps.kernel.val().transpose().reshape([dim, 1, 3, 3]);
        let options = ConvOptions::new([2, 2], [1, 1], [1, 1], channels);
        let wide = conv2d(planes, kernel, Some(self.taps.bias.val()), options);
        let wide = wide.flatten::<3>(2, 3).swap_dims(1, 2);
        let y = with_class(class, self.projection.forward(wide));
        context.keep(|| self.path.clone(), &y);
        y
    }
}

/// The class token in front, projected, where there is one, and the tokens of the grid.
pub(super) fn class_apart(class: &Option<Dense>, x: Tensor<3>) -> (Option<Tensor<3>>, Tensor<3>) {
    let Some(dense) = class else {
        return (None, x);
    };
    let tokens = x.dims()[1];
    let first = x.clone().narrow(1, 0, 1);
    (Some(dense.forward(first)), x.narrow(1, 1, tokens - 1))
}

/// Both together again.
pub(super) fn with_class(class: Option<Tensor<3>>, x: Tensor<3>) -> Tensor<3> {
    match class {
        Some(class) => Tensor::cat(vec![class, x], 1),
        None => x,
    }
}

/// The parameters of a class token's dense layer.
pub(super) fn class_parameters(class: &Dense) -> Vec<NamedValue> {
    let bias = class.bias.as_ref().map(|bias| value("class.bias", bias));
    let kernel = value("class.kernel", &class.kernel);
    std::iter::once(kernel).chain(bias).collect()
}
