//! A grid of tokens → one of half as many a side: a depthwise convolution of 3 × 3 with stride 2 and
//! several numbers a channel, then a projection; a class token goes past it by one of its own.
//!
//! This is the pooling layer of PiT (Heo and others, *Rethinking Spatial Dimensions of Vision
//! Transformers*, arXiv 2103.16302, section 3.2), with the projection that the code of arXiv 2112.13492 puts
//! behind it.

use std::sync::Arc;

use super::class_row::ClassRow;
use super::weights::Source;
use super::{
    Direction, ImageOp, ParameterSpec, Reach, Sizes, Values, Weights, add_rows, split, take,
};
use crate::depthwise::{Grid, TAPS};
use crate::matrix::{Matrix, MatrixMut, Precision};
use crate::simd::dispatched;

/// Four tokens of a grid → one, by convolution.
#[derive(Clone, Copy, Debug)]
pub struct Downsample {
    /// The grid that comes in.
    pub grid: Grid,
    /// Whether a class token comes before it.
    pub class_token: bool,
    /// Width of a token that comes in.
    pub channels: usize,
    /// Width of one that goes out: a multiple of it, as each channel makes so many numbers.
    pub dim: usize,
    /// Of the products.
    pub precision: Precision,
}

// Places of the parameters; the class token's come after them.
const TAP_KERNEL: usize = 0;
const TAP_BIAS: usize = 1;
const KERNEL: usize = 2;
const BIAS: usize = 3;
const CLASS: usize = 4;

impl Downsample {
    /// The grid that goes out.
    fn out(&self) -> Grid {
        Grid {
            height: self.grid.height.div_ceil(2),
            width: self.grid.width.div_ceil(2),
        }
    }

    fn before(&self) -> usize {
        usize::from(self.class_token)
    }

    fn class_row(&self) -> ClassRow {
        ClassRow {
            kernel: CLASS,
            operand: 1,
            precision: self.precision,
        }
    }

    /// Calls `each` with every pair of a tap and a cell, by its number in the grid, that the cell `number` of
    /// the grid that goes out is made of.
    #[inline(always)]
    fn cells(&self, number: usize, mut each: impl FnMut(usize, usize)) {
        let across = self.out().width;
        let (row, column) = (2 * (number / across), 2 * (number % across));
        for tap in 0..TAPS {
            // One cell of zeros lies around the grid.
            let row = (row + tap / 3).wrapping_sub(1);
            let column = (column + tap % 3).wrapping_sub(1);
            if row < self.grid.height && column < self.grid.width {
                each(tap, row * self.grid.width + column);
            }
        }
    }

    /// What the convolution makes of the grid for the cells from number `first` on.
    fn convolve(&self, weights: &Weights, grid: &[f32], first: usize, wide: &mut [f32]) {
        let (kernel, bias) = (weights.parameter(TAP_KERNEL), weights.parameter(TAP_BIAS));
        for (number, wide) in wide.chunks_exact_mut(self.dim).enumerate() {
            wide.copy_from_slice(bias);
            self.cells(first + number, |tap, cell| {
                let x = &grid[cell * self.channels..][..self.channels];
                tap_forward(x, &kernel[tap * self.dim..][..self.dim], wide);
            });
        }
    }

    /// The grid's part of the result, of the cells that `wide` has.
    fn project(&self, weights: &Weights, wide: &[f32], y: &mut [f32]) {
        let cells = wide.len() / self.dim;
        MatrixMut::new(y, cells, self.dim).set_with(
            Some(weights.parameter(BIAS)),
            Matrix::new(wide, cells, self.dim),
            weights.kernel(0),
        );
    }
}

impl ImageOp for Downsample {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let (channels, dim) = (self.channels, self.dim);
        let mut all = vec![
            ParameterSpec::new("taps.kernel", [TAPS, dim]),
            ParameterSpec::new("taps.bias", [dim]),
            ParameterSpec::new("projection.kernel", [dim, dim]),
            ParameterSpec::new("projection.bias", [dim]),
        ];
        if self.class_token {
            all.push(ParameterSpec::new("class.kernel", [channels, dim]));
            all.push(ParameterSpec::new("class.bias", [dim]));
        }
        all
    }

    fn sizes(&self) -> Sizes {
        let cells = self.out().cells();
        Sizes {
            rows_in: self.before() + self.grid.cells(),
            width_in: self.channels,
            rows_out: self.before() + cells,
            width_out: self.dim,
            kept: cells * self.dim,
            scratch: cells * self.dim,
        }
    }

    fn macs(&self) -> u64 {
        let class = self.before() * self.channels;
        ((self.out().cells() * (TAPS + self.dim) + class) * self.dim) as u64
    }

    fn weights(&self, values: Vec<Arc<dyn Values>>, direction: Direction) -> Weights {
        let mut weights = Weights::new(values, direction, self.precision);
        weights.add_kernel(Source::Parameter(KERNEL), self.dim, self.dim);
        if self.class_token {
            weights.add_kernel(Source::Parameter(CLASS), self.channels, self.dim);
        }
        weights
    }

    fn forward(
        &self,
        weights: &Weights,
        x: &[f32],
        y: &mut [f32],
        kept: &mut [f32],
        _: Option<&[u64]>,
        _: &mut [f32],
    ) {
        let (class, grid) = x.split_at(self.before() * self.channels);
        let (y_class, y) = y.split_at_mut(self.before() * self.dim);
        if self.class_token {
            self.class_row().forward(weights, class, y_class);
        }
        self.convolve(weights, grid, 0, kept);
        self.project(weights, kept, y);
    }

    fn backward(
        &self,
        weights: &Weights,
        sums: &mut [Vec<f32>],
        x: &[f32],
        mut kept: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        _: Option<&[u64]>,
        mut scratch: &mut [f32],
    ) {
        let (channels, dim, cells) = (self.channels, self.dim, self.out().cells());
        let (class, grid) = x.split_at(self.before() * channels);
        let (dy_class, dy) = dy.split_at(self.before() * dim);
        let (dx_class, dx) = dx.split_at_mut(self.before() * channels);
        if self.class_token {
            self.class_row()
                .backward(weights, sums, class, dy_class, dx_class);
        }
        let wide = split(&mut kept, cells * dim);
        let d_wide = take(&mut scratch, cells * dim);
        let d = Matrix::new(dy, cells, dim);
        MatrixMut::new(&mut sums[KERNEL], dim, dim).add(
            1.0,
            Matrix::new(wide, cells, dim).t(),
            &self.precision.once(d),
        );
        add_rows(&mut sums[BIAS], dy);
        MatrixMut::new(d_wide, cells, dim).set(1.0, d, weights.kernel(0));
        add_rows(&mut sums[TAP_BIAS], d_wide);
        dx.fill(0.0);
        let (kernel, d_kernel) = (weights.parameter(TAP_KERNEL), &mut sums[TAP_KERNEL]);
        for (number, d_wide) in d_wide.chunks_exact(dim).enumerate() {
            self.cells(number, |tap, cell| {
                let x = &grid[cell * channels..][..channels];
                let dx = &mut dx[cell * channels..][..channels];
                let at = tap * dim..(tap + 1) * dim;
                tap_backward(x, &kernel[at.clone()], d_wide, dx, &mut d_kernel[at]);
            });
        }
    }

    fn reach(&self) -> Reach {
        Reach::All
    }

    fn infer(
        &self,
        weights: &Weights,
        x: &[f32],
        _: usize,
        _: &[f32],
        first: usize,
        y: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (class, grid) = x.split_at(self.before() * self.channels);
        // The class token is row 0 of the result.
        let own = self.before().saturating_sub(first);
        let (y_class, y) = y.split_at_mut(own * self.dim);
        if own > 0 {
            self.class_row().forward(weights, class, y_class);
        }
        if y.is_empty() {
            return;
        }
        let wide = &mut scratch[..y.len()];
        self.convolve(weights, grid, first + own - self.before(), wide);
        self.project(weights, wide, y);
    }

    fn inference_scratch(&self, rows: usize) -> usize {
        rows * self.dim
    }
}

dispatched! {
    /// Adds what a tap makes of a cell: several numbers of each channel, side by side.
    fn tap_forward(x: &[f32], kernel: &[f32], y: &mut [f32]) {
        let times = kernel.len() / x.len();
        for (x, (kernel, y)) in x
            .iter()
            .zip(kernel.chunks_exact(times).zip(y.chunks_exact_mut(times)))
        {
            for (kernel, y) in kernel.iter().zip(y) {
                *y = x.mul_add(*kernel, *y);
            }
        }
    }
}

dispatched! {
    /// And back: adds to the cell's gradient and to the tap's kernel's.
    fn tap_backward(x: &[f32], kernel: &[f32], dy: &[f32], dx: &mut [f32], d_kernel: &mut [f32]) {
        let times = kernel.len() / x.len();
        for (channel, (x, dx)) in x.iter().zip(dx).enumerate() {
            for place in channel * times..(channel + 1) * times {
                *dx = dy[place].mul_add(kernel[place], *dx);
                d_kernel[place] = dy[place].mul_add(*x, d_kernel[place]);
            }
        }
    }
}
