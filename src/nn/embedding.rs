//! A grid → tokens: plain patches, or Shifted Patch Tokenization, projected.
//!
//! Shifted Patch Tokenization (arXiv 2112.13492, section 3.1): the grid and its four diagonal
//! shifts by half a patch are concatenated on the channels, cut into patches, and each patch is
//! layer-normalised and projected. A token so sees its patch and half of each neighbour. The grid
//! is an image's pixels, or, where a pyramid merges them, its tokens.
//!
//! A class token in front of a grid of tokens goes past their merge by a dense layer of its own.
//!
//! Patches may overlap, with zeros around the grid: without the normalisation that is a convolution.

use std::ops::Range;

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::ops::PadMode;
use smallvit_kernels::matrix::Precision;
use smallvit_kernels::ops::ImageOp;
use smallvit_kernels::ops::embedding as kernel;

use super::basic::{Dense, LayerNorm};
use super::downsample::{class_apart, class_parameters, with_class};
use super::{Context, Layer, NamedValue, value};
use crate::params::init::{DenseInit, Initialiser};

/// The names of the shifts in the order of their channels; the image itself comes before them.
pub const SHIFT_NAMES: [&str; 4] = ["left-up", "left-down", "right-up", "right-down"];

/// What an embedding is told.
#[derive(Clone, Debug)]
pub struct EmbeddingConfig {
    /// Cells along the grid's height: pixels, or tokens.
    pub height: usize,
    /// Cells along its width.
    pub width: usize,
    /// Numbers in a cell.
    pub channels: usize,
    /// Cells a side of a patch.
    pub patch: usize,
    /// Cells from one patch to the next.
    pub stride: usize,
    /// Cells of zeros on every side of the grid.
    pub padding: usize,
    /// How a class token's dense layer begins, where a class token comes before the grid.
    pub class_token: Option<DenseInit>,
    /// Whether the four diagonal shifts are joined.
    pub shifted: bool,
    /// Whether patches are layer-normalised.
    pub norm: bool,
    /// Whether the projection has a bias.
    pub bias: bool,
    /// Width of a token.
    pub dim: usize,
    /// ε of the layer normalisation.
    pub epsilon: f64,
}

impl EmbeddingConfig {
    /// Numbers in a patch with its versions.
    pub fn patch_width(&self) -> usize {
        let versions = if self.shifted {
            1 + SHIFT_NAMES.len()
        } else {
            1
        };
        self.patch * self.patch * self.channels * versions
    }
}

/// `[image, cell, channel]`, the cells row by row → `[image, token, dim]`.
#[derive(Module, Debug)]
pub struct Embedding {
    /// On each patch with its versions.
    pub norm: Option<LayerNorm>,
    /// `[patch · patch · channels (· 5), dim]`.
    pub projection: Dense,
    /// The class token's, `[channel, dim]`.
    pub class: Option<Dense>,
    #[module(skip)]
    config: EmbeddingConfig,
    #[module(skip)]
    path: String,
}

impl Embedding {
    /// An embedding with fresh weights, its projection as `own` says.
    pub fn new(config: &EmbeddingConfig, own: DenseInit, init: &Initialiser) -> Self {
        let (width, dim) = (config.patch_width(), config.dim);
        let norm = || LayerNorm::new(width, config.epsilon, &init.at("norm"));
        let init_projection = init.at("projection");
        let class = |own| Dense::new(config.channels, dim, true, own, &init.at("class"));
        Self {
            norm: config.norm.then(norm),
            projection: Dense::new(width, dim, config.bias, own, &init_projection),
            class: config.class_token.map(class),
            config: config.clone(),
            path: init.path().to_owned(),
        }
    }
}

impl Layer for Embedding {
    fn path(&self) -> &str {
        &self.path
    }

    fn operation(&self, precision: Precision) -> Box<dyn ImageOp> {
        let config = &self.config;
        Box::new(kernel::Embedding {
            height: config.height,
            width: config.width,
            channels: config.channels,
            patch: config.patch,
            stride: config.stride,
            padding: config.padding,
            class_token: self.class.is_some(),
            shifted: config.shifted,
            norm: config.norm,
            bias: config.bias,
            epsilon: config.epsilon as f32,
            dim: config.dim,
            precision,
        })
    }

    fn parameters(&self) -> Vec<NamedValue> {
        let mut all = vec![];
        if let Some(norm) = &self.norm {
            all.extend([
                value("norm.gamma", &norm.gamma),
                value("norm.beta", &norm.beta),
            ]);
        }
        all.push(value("projection.kernel", &self.projection.kernel));
        all.extend(
            self.projection
                .bias
                .as_ref()
                .map(|p| value("projection.bias", p)),
        );
        all.extend(self.class.iter().flat_map(class_parameters));
        all
    }

    fn composed(&self, x: Tensor<3>, context: &mut Context) -> Tensor<3> {
        let EmbeddingConfig {
            height,
            width,
            channels,
            patch,
            stride,
            padding,
            ..
        } = self.config;
        let (class, x) = class_apart(&self.class, x);
        let images = x.dims()[0];
        let grid = x.reshape([images, height, width, channels]);
        let cut = |grid: Tensor<4>| match (stride == patch, padding) {
            (true, 0) => patches(grid, patch),
            _ => overlapping_patches(grid, patch, stride, padding),
        };
        let patches = if self.config.shifted {
            let shifted = shifts(grid, patch);
            let [_, _, _, versions] = shifted.dims();
            let cells = shifted.clone().reshape([images, height * width, versions]);
            context.keep(|| format!("{}.shifted", self.path), &cells);
            cut(shifted)
        } else {
            cut(grid)
        };
        context.keep(|| format!("{}.patches", self.path), &patches);
        let patches = match &self.norm {
            Some(norm) => norm.forward(patches),
            None => patches,
        };
        let tokens = with_class(class, self.projection.forward(patches));
        context.keep(|| self.path.clone(), &tokens);
        tokens
    }
}

/// Patches of the image and its four diagonal shifts by half a patch:
/// `[image, row, column, channel]` → `[image, patch, (patch row, patch column, 5 · channel)]`.
pub fn shifted_patches(images: Tensor<4>, patch_size: usize) -> Tensor<3> {
    patches(shifts(images, patch_size), patch_size)
}

/// The image and its four diagonal shifts by half a patch, side by side on the channels, in the order of
/// [`SHIFT_NAMES`]: `[image, row, column, channel]` → `[image, row, column, 5 · channel]`.
pub fn shifts(images: Tensor<4>, patch_size: usize) -> Tensor<4> {
    let by = patch_size / 2;
    let mut all = vec![images.clone()];
    // The content moves up when the first rows are dropped and zeros follow the last.
    all.extend([
        shift(images.clone(), by, true, true),
        shift(images.clone(), by, false, true),
        shift(images.clone(), by, true, false),
        shift(images, by, false, false),
    ]);
    Tensor::cat(all, 3)
}

/// Moves the content by `by` pixels up or down and left or right; zeros come in.
fn shift(images: Tensor<4>, by: usize, up: bool, left: bool) -> Tensor<4> {
    let [n, height, width, channels] = images.dims();
    let (rows, row_padding) = moved(by, height, up);
    let (columns, column_padding) = moved(by, width, left);
    images.slice([0..n, rows, columns, 0..channels]).pad(
        [(0, 0), row_padding, column_padding, (0, 0)],
        PadMode::Constant(0.0),
    )
}

/// Which part of an axis stays in sight, and the zeros before and after it.
fn moved(by: usize, length: usize, towards_zero: bool) -> (Range<usize>, (usize, usize)) {
    if towards_zero {
        (by..length, (0, by))
    } else {
        (0..length - by, (by, 0))
    }
}

/// `[image, row, column, channel]` → `[image, patch, (patch row, patch column, channel)]`, the
/// patches row by row.
pub fn patches(images: Tensor<4>, patch_size: usize) -> Tensor<3> {
    let [n, height, width, channels] = images.dims();
    let (rows, columns) = (height / patch_size, width / patch_size);
    images
        .reshape([n, rows, patch_size, columns, patch_size * channels])
        .swap_dims(2, 3)
        .reshape([n, rows * columns, patch_size * patch_size * channels])
}

/// The same of patches that begin `stride` cells after one another, `padding` cells of zeros around the
/// grid.
pub(super) fn overlapping_patches(
    grid: Tensor<4>,
    patch_size: usize,
    stride: usize,
    padding: usize,
) -> Tensor<3> {
    let [n, height, width, channels] = grid.dims();
    let along = |length: usize| (length + 2 * padding - patch_size) / stride + 1;
    let (rows, columns) = (along(height), along(width));
    // Zeros at the end as well, so that from any cell of the first patch whole strides follow.
    let end = |length: usize, count: usize| {
        let needed = patch_size - 1 + count * stride;
        (
            padding,
            needed.saturating_sub(length + padding).max(padding),
        )
    };
    let around = [(0, 0), end(height, rows), end(width, columns), (0, 0)];
    let grid = grid.pad(around, PadMode::Constant(0.0));
    let mut cells = vec![];
    for y in 0..patch_size {
        for x in 0..patch_size {
            let cell = grid
                .clone()
                .narrow(1, y, rows * stride)
                .narrow(2, x, columns * stride)
                .reshape([n * rows, stride, columns * stride, channels])
                .narrow(1, 0, 1)
                .reshape([n * rows * columns, stride, channels])
                .narrow(1, 0, 1);
            cells.push(cell.reshape([n, rows * columns, channels]));
        }
    }
    Tensor::cat(cells, 2)
}
