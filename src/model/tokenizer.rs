//! Images → tokens: plain patches, or Shifted Patch Tokenization.
//!
//! Shifted Patch Tokenization (arXiv 2112.13492, section 3.1): the image and its four diagonal
//! shifts by half a patch are concatenated on the channels, cut into patches, and each patch is
//! layer-normalised and projected. A token so sees its patch and half of each neighbour.

use std::ops::Range;

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::ops::PadMode;

use super::config::{ModelConfig, Tokenization};
use super::fused;
use super::layers::{Dense, Initialiser, LayerNorm, Pass};

/// The names of the shifts in the order of their channels; the image itself comes before them.
pub const SHIFTS: [&str; 4] = ["left-up", "left-down", "right-up", "right-down"];

/// Cuts images into patches and projects each to a token.
#[derive(Module, Debug)]
pub struct Tokenizer {
    /// Only with Shifted Patch Tokenization.
    pub layer_norm: Option<LayerNorm>,
    /// `[patch · patch · channels (· 5), dim]`.
    pub projection: Dense,
    #[module(skip)]
    pub(super) tokenization: Tokenization,
    #[module(skip)]
    pub(super) patch_size: usize,
}

impl Tokenizer {
    /// A tokenizer with fresh weights.
    pub fn new(config: &ModelConfig, channels: usize, init: &mut Initialiser) -> Self {
        let shifted = config.tokenizer == Tokenization::Shifted;
        let width = config.patch_size.pow(2) * channels * if shifted { 5 } else { 1 };
        Self {
            layer_norm: shifted.then(|| LayerNorm::new(width, config.layer_norm_epsilon, init)),
            projection: Dense::glorot(width, config.dim, init),
            tokenization: config.tokenizer,
            patch_size: config.patch_size,
        }
    }

    /// `[image, row, column, channel]` → `[image, token, dim]`.
    pub fn forward(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<3> {
        if pass.fuses(&images) {
            return fused::tokenizer::forward(self, images, pass.precision());
        }
        let patches = match self.tokenization {
            Tokenization::Plain => patches(images, self.patch_size),
            Tokenization::Shifted => shifted_patches(images, self.patch_size),
        };
        pass.keep(|| "patches".into(), &patches);
        let patches = match &self.layer_norm {
            Some(layer_norm) => layer_norm.forward(patches),
            None => patches,
        };
        self.projection.forward(patches)
    }
}

/// Patches of the image and its four diagonal shifts by half a patch:
/// `[image, row, column, channel]` → `[image, patch, (patch row, patch column, 5 · channel)]`.
pub fn shifted_patches(images: Tensor<4>, patch_size: usize) -> Tensor<3> {
    let by = patch_size / 2;
    let mut all = vec![images.clone()];
    // The content moves up when the first rows are dropped and zeros follow the last.
    all.extend([
        shift(images.clone(), by, true, true),
        shift(images.clone(), by, false, true),
        shift(images.clone(), by, true, false),
        shift(images, by, false, false),
    ]);
    patches(Tensor::cat(all, 3), patch_size)
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
