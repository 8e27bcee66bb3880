//! A grid → tokens: gather patches, plain or with their shifted versions, normalise, project; the
//! grid with its shifted versions is never made.
//!
//! Patches side by side are a Vision Transformer's; patches that overlap, with zeros around the grid,
//! are a convolution.
//!
//! Shifted Patch Tokenization (arXiv 2112.13492, section 3.1) joins each cell with its four
//! diagonal neighbours half a patch away. The grid may be an image's pixels, or a grid of tokens
//! that are merged.
//!
//! A class token in front of a grid of tokens goes past their merge by a projection of its own.
//!
//! With ŷ the normalised patches (or, without normalisation, the patches themselves) a token is
//! (ŷ ∘ γ + β) · W + b = ŷ · (γ ∘ W) + (β · W + b), so the layer normalisation's γ and β are folded
//! into the projection once for many images. Back, all gradients follow from M = Σ ŷᵀ · dtoken and
//! s = Σ dtoken: dW = γ ∘ M + β sᵀ, dγ = rows of W ∘ M summed, dβ = W · s, db = s.

use std::sync::Arc;

use super::class_row::ClassRow;
use super::weights::Source;
use super::{Direction, ImageOp, ParameterSpec, Reach, Sizes, Values, Weights, add_rows, take};
use crate::math::{dot, replace_and_sum, sum, sum_of};
use crate::matrix::{Matrix, MatrixMut, Precision};
use crate::simd::dispatched;

/// Patches of a grid, projected.
#[derive(Clone, Copy, Debug)]
pub struct Embedding {
    /// Cells along the grid's height: pixels, or tokens.
    pub height: usize,
    /// Cells along its width.
    pub width: usize,
    /// Numbers in a cell.
    pub channels: usize,
    /// Cells a side of a patch.
    pub patch: usize,
    /// Cells from one patch to the next: as many as a patch has a side, or fewer.
    pub stride: usize,
    /// Cells of zeros on every side of the grid.
    pub padding: usize,
    /// Whether a class token comes before the grid.
    pub class_token: bool,
    /// Whether the four diagonal shifts by half a patch are joined.
    pub shifted: bool,
    /// Whether patches are normalised.
    pub norm: bool,
    /// Whether the projection has a bias.
    pub bias: bool,
    /// ε of the layer normalisation.
    pub epsilon: f32,
    /// Width of a token.
    pub dim: usize,
    /// Of the products.
    pub precision: Precision,
}

/// Rows and columns that the versions of a patch are taken from further down and right, in the
/// order of their channels: the cells themselves, then shifted left-up, left-down, right-up,
/// right-down, in units of half a patch.
const SHIFTS: [(isize, isize); 5] = [(0, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];

// Places of what is derived, and of the sums.
const FOLDED_KERNEL: usize = 0;
const FOLDED_BIAS: usize = 1;
const MOMENT: usize = 0;
const TOTAL: usize = 1;

impl Embedding {
    /// Patches along the height, and along the width.
    fn grid(&self) -> (usize, usize) {
        let along = |length: usize| (length + 2 * self.padding - self.patch) / self.stride + 1;
        (along(self.height), along(self.width))
    }

    /// Patches in all.
    pub(super) fn tokens(&self) -> usize {
        let (down, across) = self.grid();
        down * across
    }

    fn shifts(&self) -> &'static [(isize, isize)] {
        if self.shifted { &SHIFTS } else { &SHIFTS[..1] }
    }

    /// Numbers in a patch with its versions.
    pub(super) fn patch_width(&self) -> usize {
        self.patch * self.patch * self.channels * self.shifts().len()
    }

    /// Places of the kernel and, if there is one, of the bias.
    fn places(&self) -> (usize, Option<usize>) {
        let kernel = if self.norm { 2 } else { 0 };
        (kernel, self.bias.then_some(kernel + 1))
    }

    fn before(&self) -> usize {
        usize::from(self.class_token)
    }

    fn class_row(&self) -> ClassRow {
        let (kernel, bias) = self.places();
        ClassRow {
            kernel: bias.unwrap_or(kernel) + 1,
            operand: 1,
            precision: self.precision,
        }
    }

    /// Where the class token's sums lie: behind those of the patches.
    fn class_sums(&self) -> ClassRow {
        ClassRow {
            kernel: TOTAL + 1,
            ..self.class_row()
        }
    }

    /// Calls `each` with the place in the grid, or none outside of it, of every cell of every
    /// version of some tokens' patches, in the order in which a patch has them.
    #[inline(always)]
    fn cells(&self, first: usize, tokens: usize, mut each: impl FnMut(Option<usize>)) {
        let by = (self.patch / 2) as isize;
        let (patch, stride, (_, across)) = (self.patch, self.stride, self.grid());
        let shifts = self.shifts();
        let inside = |at: Option<usize>, length: usize| at.filter(|&at| at < length);
        for token in first..first + tokens {
            let (top, left) = (token / across * stride, token % across * stride);
            for cell in 0..patch * patch {
                // What is shifted is the grid alone: zeros come in from around it.
                let (y, x) = (top + cell / patch, left + cell % patch);
                let y = inside(y.checked_sub(self.padding), self.height);
                let x = inside(x.checked_sub(self.padding), self.width);
                let own = y.zip(x);
                for (down, right) in shifts {
                    each(own.and_then(|(y, x)| {
                        let y = inside(y.checked_add_signed(down * by), self.height)?;
                        let x = inside(x.checked_add_signed(right * by), self.width)?;
                        Some(y * self.width + x)
                    }));
                }
            }
        }
    }

    /// Patches of the tokens from number `first` on, as many as there is room for: `[token, (patch row, patch
    /// column, version, channel)]`.
    pub(super) fn gather_cells(&self, grid: &[f32], first: usize, patches: &mut [f32]) {
        let (channels, tokens) = (self.channels, patches.len() / self.patch_width());
        let mut values = patches.chunks_exact_mut(channels);
        self.cells(first, tokens, |cell| {
            let Some(value) = values.next() else { return };
            match cell {
                Some(cell) => value.copy_from_slice(&grid[cell * channels..][..channels]),
                None => value.fill(0.0),
            }
        });
    }

    /// The same, normalised if they are to be, with what each was multiplied by in `scales`.
    fn gather(&self, grid: &[f32], first: usize, patches: &mut [f32], scales: &mut [f32]) {
        let width = self.patch_width();
        self.gather_cells(grid, first, patches);
        if self.norm {
            normalise(patches, width, self.epsilon, scales);
        }
    }

    /// Back: gradients of the patches are added to those of the cells they were gathered from.
    pub(super) fn scatter(&self, d_patches: &[f32], d_grid: &mut [f32]) {
        let channels = self.channels;
        let mut values = d_patches.chunks_exact(channels);
        self.cells(0, self.tokens(), |cell| {
            let Some(value) = values.next() else { return };
            if let Some(cell) = cell {
                let d_cell = &mut d_grid[cell * channels..][..channels];
                for (d, value) in d_cell.iter_mut().zip(value) {
                    *d += value;
                }
            }
        });
    }

    /// The kernel with γ worked into it, and the bias with β.
    fn fold(&self, values: &[Arc<dyn Values>]) -> (Vec<f32>, Vec<f32>) {
        let (kernel, bias) = self.places();
        let mut kernel = values[kernel].values().to_vec();
        let mut bias = match bias {
            Some(place) => values[place].values().to_vec(),
            None => vec![0.0; self.dim],
        };
        if self.norm {
            let (gamma, beta) = (values[0].values(), values[1].values());
            let rows = kernel.chunks_exact_mut(self.dim);
            for (row, (gamma, beta)) in rows.zip(gamma.iter().zip(beta)) {
                for (weight, bias) in row.iter_mut().zip(&mut bias) {
                    *bias += beta * *weight;
                    *weight *= gamma;
                }
            }
        }
        (kernel, bias)
    }
}

impl ImageOp for Embedding {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let (width, dim) = (self.patch_width(), self.dim);
        let mut all = vec![];
        if self.norm {
            all.push(ParameterSpec::new("norm.gamma", [width]));
            all.push(ParameterSpec::new("norm.beta", [width]));
        }
        all.push(ParameterSpec::new("projection.kernel", [width, dim]));
        if self.bias {
            all.push(ParameterSpec::new("projection.bias", [dim]));
        }
        if self.class_token {
            all.push(ParameterSpec::new("class.kernel", [self.channels, dim]));
            all.push(ParameterSpec::new("class.bias", [dim]));
        }
        all
    }

    fn sizes(&self) -> Sizes {
        let (tokens, width) = (self.tokens(), self.patch_width());
        Sizes {
            rows_in: self.before() + self.height * self.width,
            width_in: self.channels,
            rows_out: self.before() + tokens,
            width_out: self.dim,
            kept: 0,
            scratch: tokens * (2 * width + 1),
        }
    }

    fn macs(&self) -> u64 {
        let class = self.before() * self.channels;
        ((self.tokens() * self.patch_width() + class) * self.dim) as u64
    }

    fn weights(&self, values: Vec<Arc<dyn Values>>, direction: Direction) -> Weights {
        let (kernel, bias) = self.fold(&values);
        let mut weights = Weights::new(values, direction, self.precision);
        weights.derive(kernel);
        weights.derive(bias);
        weights.add_kernel(Source::Derived(FOLDED_KERNEL), self.patch_width(), self.dim);
        if self.class_token {
            let kernel = Source::Parameter(self.class_row().kernel);
            weights.add_kernel(kernel, self.channels, self.dim);
        }
        weights
    }

    fn forward(
        &self,
        weights: &Weights,
        x: &[f32],
        y: &mut [f32],
        _: &mut [f32],
        _: Option<&[u64]>,
        scratch: &mut [f32],
    ) {
        self.infer(weights, x, 0, &[], 0, y, scratch);
    }

    fn backward(
        &self,
        weights: &Weights,
        sums: &mut [Vec<f32>],
        x: &[f32],
        _: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        _: Option<&[u64]>,
        mut scratch: &mut [f32],
    ) {
        let (tokens, width, dim) = (self.tokens(), self.patch_width(), self.dim);
        let (class, x) = x.split_at(self.before() * self.channels);
        let (dy_class, dy) = dy.split_at(self.before() * dim);
        // Nothing of an input's gradient that nobody wants.
        let own = (self.before() * self.channels).min(dx.len());
        let (dx_class, dx) = dx.split_at_mut(own);
        if self.class_token {
            self.class_sums()
                .backward(weights, sums, class, dy_class, dx_class);
        }
        let scales = take(&mut scratch, tokens);
        let patches = take(&mut scratch, tokens * width);
        self.gather(x, 0, patches, scales);
        MatrixMut::new(&mut sums[MOMENT], width, dim).add(
            1.0,
            Matrix::new(patches, tokens, width).t(),
            &self.precision.once(Matrix::new(dy, tokens, dim)),
        );
        add_rows(&mut sums[TOTAL], dy);
        if dx.is_empty() {
            return;
        }
        let d_patches = take(&mut scratch, tokens * width);
        MatrixMut::new(d_patches, tokens, width).set(
            1.0,
            Matrix::new(dy, tokens, dim),
            weights.kernel(0),
        );
        if self.norm {
            normalise_back(patches, scales, width, d_patches);
        }
        dx.fill(0.0);
        self.scatter(d_patches, dx);
    }

    fn skips_input_gradient(&self) -> bool {
        true
    }

    fn sums(&self) -> Vec<usize> {
        let mut all = vec![self.patch_width() * self.dim, self.dim];
        if self.class_token {
            all.extend([self.channels * self.dim, self.dim]);
        }
        all
    }

    fn gradients(&self, weights: &Weights, mut sums: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        let class = sums.split_off(TOTAL + 1);
        let [moment, total] = <[Vec<f32>; 2]>::try_from(sums).expect("two sums come back");
        let mut all = vec![];
        if self.norm {
            let (width, dim) = (self.patch_width(), self.dim);
            let (gamma, beta) = (weights.parameter(0), weights.parameter(1));
            let weight = weights.parameter(2);
            let (mut d_gamma, mut d_beta) = (vec![0.0; width], vec![0.0; width]);
            let mut d_kernel = vec![0.0; width * dim];
            for row in 0..width {
                let at = row * dim..(row + 1) * dim;
                let (moment, weight) = (&moment[at.clone()], &weight[at.clone()]);
                for (i, d) in d_kernel[at].iter_mut().enumerate() {
                    *d = gamma[row] * moment[i] + beta[row] * total[i];
                    d_gamma[row] += weight[i] * moment[i];
                    d_beta[row] += weight[i] * total[i];
                }
            }
            all.extend([d_gamma, d_beta, d_kernel]);
        } else {
            all.push(moment);
        }
        if self.bias {
            all.push(total);
        }
        all.extend(class);
        all
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
        mut scratch: &mut [f32],
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
        let (tokens, width) = (y.len() / self.dim, self.patch_width());
        let scales = take(&mut scratch, tokens);
        let patches = take(&mut scratch, tokens * width);
        self.gather(grid, first + own - self.before(), patches, scales);
        MatrixMut::new(y, tokens, self.dim).set_with(
            Some(weights.derived(FOLDED_BIAS)),
            Matrix::new(patches, tokens, width),
            weights.kernel(0),
        );
    }

    fn inference_scratch(&self, rows: usize) -> usize {
        rows * (self.patch_width() + 1)
    }
}

dispatched! {
    /// Each row minus its mean, times 1 / its deviation, which is put into `scales`.
    fn normalise(rows: &mut [f32], width: usize, epsilon: f32, scales: &mut [f32]) {
        for (row, kept) in rows.chunks_exact_mut(width).zip(scales) {
            let mean = sum(row) / width as f32;
            let variance = sum_of(row, |x| (x - mean) * (x - mean)) / width as f32;
            let scale = 1.0 / (variance + epsilon).sqrt();
            *kept = scale;
            let _ = replace_and_sum(row, |x| (x - mean) * scale);
        }
    }
}

dispatched! {
    /// Gradients of normalised rows → of the rows, in place.
    fn normalise_back(normal: &[f32], scales: &[f32], width: usize, d: &mut [f32]) {
        let rows = normal.chunks_exact(width).zip(d.chunks_exact_mut(width));
        for ((normal, d), scale) in rows.zip(scales) {
            let along_one = sum(d) / width as f32;
            let along_normal = dot(d, normal) / width as f32;
            for (d, normal) in d.iter_mut().zip(normal) {
                *d = scale * (*d - along_one - normal * along_normal);
            }
        }
    }
}
