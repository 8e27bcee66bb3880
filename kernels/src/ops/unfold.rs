//! A grid → overlapping patches, as they are: T2T's soft split (Yuan and others, *Tokens-to-Token ViT*, arXiv
//! 2101.11986, section 3.1), plain or of the grid with its shifted versions.

use std::sync::Arc;

use super::embedding::Embedding;
use super::{Direction, ImageOp, ParameterSpec, Reach, Sizes, Values, Weights};
use crate::matrix::Precision;

/// Patches of a grid, none of their numbers changed.
#[derive(Clone, Copy, Debug)]
pub struct Unfold {
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
    /// Whether the four diagonal shifts by half a patch are joined.
    pub shifted: bool,
}

impl Unfold {
    /// The embedding that would project these patches.
    fn patches(&self) -> Embedding {
        let Self {
            height,
            width,
            channels,
            patch,
            stride,
            padding,
            shifted,
        } = *self;
        Embedding {
            height,
            width,
            channels,
            patch,
            stride,
            padding,
            class_token: false,
            shifted,
            norm: false,
            bias: false,
            epsilon: 0.0,
            dim: 0,
            precision: Precision::F32,
        }
    }
}

impl ImageOp for Unfold {
    fn parameters(&self) -> Vec<ParameterSpec> {
        vec![]
    }

    fn sizes(&self) -> Sizes {
        let patches = self.patches();
        Sizes {
            rows_in: self.height * self.width,
            width_in: self.channels,
            rows_out: patches.tokens(),
            width_out: patches.patch_width(),
            kept: 0,
            scratch: 0,
        }
    }

    fn macs(&self) -> u64 {
        0
    }

    fn weights(&self, values: Vec<Arc<dyn Values>>, direction: Direction) -> Weights {
        Weights::new(values, direction, Precision::F32)
    }

    fn forward(
        &self,
        _: &Weights,
        x: &[f32],
        y: &mut [f32],
        _: &mut [f32],
        _: Option<&[u64]>,
        _: &mut [f32],
    ) {
        self.patches().gather_cells(x, 0, y);
    }

    fn backward(
        &self,
        _: &Weights,
        _: &mut [Vec<f32>],
        _: &[f32],
        _: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        _: Option<&[u64]>,
        _: &mut [f32],
    ) {
        if !dx.is_empty() {
            dx.fill(0.0);
            self.patches().scatter(dy, dx);
        }
    }

    fn skips_input_gradient(&self) -> bool {
        true
    }

    fn reach(&self) -> Reach {
        Reach::All
    }

    fn infer(
        &self,
        _: &Weights,
        x: &[f32],
        _: usize,
        _: &[f32],
        first: usize,
        y: &mut [f32],
        _: &mut [f32],
    ) {
        self.patches().gather_cells(x, first, y);
    }

    fn inference_scratch(&self, _: usize) -> usize {
        0
    }
}
