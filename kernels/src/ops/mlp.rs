//! y = x + s · γ ∘ MLP(LN(x)), with MLP(n) = dense, perhaps mixing, GELU, dropout, dense, perhaps
//! GELU again, dropout.
//!
//! The transformer's second residual (Dosovitskiy and others, arXiv 2010.11929, equation 3). The
//! Keras example puts a GELU after the second layer, too.
//!
//! Mixing is a depthwise convolution of 3 × 3 over the grid of tokens with a shortcut around it, between
//! the first layer and its GELU: the Mix-FFN of SegFormer (Xie and others, arXiv 2105.15203, equation
//! 3) with the shortcut of DHVT (Lu and others, arXiv 2210.05958, section 3.2).

use std::ops::Range;
use std::sync::Arc;

use super::residual::{add_scaled, scale_and_add, scale_back, scaled};
use super::weights::Source;
use super::{
    Direction, ImageOp, ParameterSpec, Reach, Residual, Sizes, Values, Weights, add_rows, split,
    take,
};
use crate::depthwise::{self, Grid, TAPS};
use crate::dropout::Rate;
use crate::math::{add, gelu, multiply};
use crate::matrix::{Matrix, MatrixMut, Precision};
use crate::norm;
use crate::simd::dispatched;

/// The residual of an MLP with one hidden layer.
#[derive(Clone, Copy, Debug)]
pub struct MlpResidual {
    /// Tokens an image.
    pub tokens: usize,
    /// Width of a token.
    pub dim: usize,
    /// Width of the hidden layer.
    pub hidden: usize,
    /// The grid of the tokens whose hidden numbers are mixed, where they are.
    pub mixing: Option<Grid>,
    /// Whether a GELU also follows the second layer.
    pub second_gelu: bool,
    /// ε of the layer normalisation.
    pub epsilon: f32,
    /// Dropout after each layer.
    pub dropout: Rate,
    /// How the branch is added.
    pub residual: Residual,
    /// Of the products.
    pub precision: Precision,
}

// Places of the parameters. Those of LayerScale and mixing come after them, where they are.
const GAMMA: usize = 0;
const BETA: usize = 1;
const HIDDEN_KERNEL: usize = 2;
const HIDDEN_BIAS: usize = 3;
const OUTPUT_KERNEL: usize = 4;
const OUTPUT_BIAS: usize = 5;
const LAYER_SCALE: usize = 6;

// The place of what is derived.
const MIXING: usize = 0;

// Places of the kernels.
const HIDDEN: usize = 0;
const OUTPUT: usize = 1;

// Places of the keys.
const HIDDEN_SITE: usize = 0;
const OUTPUT_SITE: usize = 1;
const DEPTH_SITE: usize = 2;

impl MlpResidual {
    /// After the hidden layer: activations, and their slope with the mask; after the second: its
    /// slope with the mask; the branch, where γ's gradient needs it; what is mixed, with its border.
    fn kept(&self) -> [usize; 5] {
        let (narrow, wide) = (self.tokens * self.dim, self.tokens * self.hidden);
        let slope = self.second_gelu || !self.dropout.is_zero();
        let branch = self.residual.layer_scale;
        let narrow_if = |needed: bool| if needed { narrow } else { 0 };
        let padded = self.padded(self.mixing);
        [wide, wide, narrow_if(slope), narrow_if(branch), padded]
    }

    /// Hidden numbers of a grid with its border.
    fn padded(&self, grid: Option<Grid>) -> usize {
        grid.map_or(0, |grid| grid.padded().cells() * self.hidden)
    }

    /// The place of the mixing's kernel; its bias comes after it.
    fn mixing_kernel(&self) -> usize {
        LAYER_SCALE + usize::from(self.residual.layer_scale)
    }

    /// The rows of the grid, and their tokens, of which the tokens from number `first` on are made by
    /// mixing: theirs, and those above and below.
    fn around(&self, grid: Grid, first: usize, tokens: usize) -> (Range<usize>, Range<usize>) {
        let above = (first / grid.width).saturating_sub(1);
        let below = (first + tokens).div_ceil(grid.width) + 1;
        let rows = above..below.min(grid.height);
        (rows.clone(), rows.start * grid.width..rows.end * grid.width)
    }

    /// Rows of the grid that so many tokens, wherever they begin, are made of at most.
    fn most_rows(&self, grid: Grid, tokens: usize) -> usize {
        let own = (tokens + grid.width - 1).div_ceil(grid.width);
        (own + 2).min(grid.height)
    }

    fn mask(&self, key: Option<u64>, mask: &mut [f32]) {
        match key {
            Some(key) if !self.dropout.is_zero() => self.dropout.mask(key, 0, mask),
            _ => mask.fill(1.0),
        }
    }

    /// y becomes hidden · kernel + bias.
    fn second_layer(&self, weights: &Weights, activated: &[f32], y: &mut [f32]) {
        let tokens = y.len() / self.dim;
        MatrixMut::new(y, tokens, self.dim).set_with(
            Some(weights.parameter(OUTPUT_BIAS)),
            Matrix::new(activated, tokens, self.hidden),
            weights.kernel(OUTPUT),
        );
    }

    /// hidden becomes what is mixed of the grid in `padded`.
    fn mix(&self, weights: &Weights, padded: &[f32], grid: Grid, hidden: &mut [f32]) {
        let bias = weights.parameter(self.mixing_kernel() + 1);
        depthwise::convolve(padded, weights.derived(MIXING), bias, grid, hidden);
    }

    /// hidden becomes LN(x) · kernel + bias.
    fn first_layer(&self, weights: &Weights, x: &[f32], normal: &mut [f32], hidden: &mut [f32]) {
        let tokens = x.len() / self.dim;
        let (gamma, beta) = (weights.parameter(GAMMA), weights.parameter(BETA));
        norm::forward(x, gamma, beta, self.epsilon, normal);
        MatrixMut::new(hidden, tokens, self.hidden).set_with(
            Some(weights.parameter(HIDDEN_BIAS)),
            Matrix::new(normal, tokens, self.dim),
            weights.kernel(HIDDEN),
        );
    }
}

impl ImageOp for MlpResidual {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let (dim, hidden) = (self.dim, self.hidden);
        let mut all = vec![
            ParameterSpec::new("norm.gamma", [dim]),
            ParameterSpec::new("norm.beta", [dim]),
            ParameterSpec::new("hidden.kernel", [dim, hidden]),
            ParameterSpec::new("hidden.bias", [hidden]),
            ParameterSpec::new("output.kernel", [hidden, dim]),
            ParameterSpec::new("output.bias", [dim]),
        ];
        if self.residual.layer_scale {
            all.push(ParameterSpec::new("layer_scale", [dim]));
        }
        if self.mixing.is_some() {
            all.push(ParameterSpec::new("mixing.kernel", [TAPS, hidden]));
            all.push(ParameterSpec::new("mixing.bias", [hidden]));
        }
        all
    }

    fn sites(&self) -> &'static [&'static str] {
        &["hidden.dropout", "output.dropout", "stochastic_depth"]
    }

    fn sizes(&self) -> Sizes {
        let (narrow, wide) = (self.tokens * self.dim, self.tokens * self.hidden);
        if let Some(grid) = self.mixing {
            assert_eq!(grid.cells(), self.tokens, "every token is a cell");
        }
        Sizes {
            rows_in: self.tokens,
            width_in: self.dim,
            rows_out: self.tokens,
            width_out: self.dim,
            kept: self.kept().iter().sum(),
            scratch: 3 * narrow + wide + self.padded(self.mixing) + 2 * self.dim,
        }
    }

    fn macs(&self) -> u64 {
        (2 * self.tokens * self.dim * self.hidden) as u64
    }

    fn weights(&self, values: Vec<Arc<dyn Values>>, direction: Direction) -> Weights {
        let mut weights = Weights::new(values, direction, self.precision);
        weights.add_kernel(Source::Parameter(HIDDEN_KERNEL), self.dim, self.hidden);
        weights.add_kernel(Source::Parameter(OUTPUT_KERNEL), self.hidden, self.dim);
        if self.mixing.is_some() {
            let kernel = depthwise::with_shortcut(weights.parameter(self.mixing_kernel()));
            weights.derive(match direction {
                Direction::Forward => kernel,
                Direction::Backward => depthwise::turned(&kernel),
            });
        }
        weights
    }

    fn forward(
        &self,
        weights: &Weights,
        x: &[f32],
        y: &mut [f32],
        mut kept: &mut [f32],
        keys: Option<&[u64]>,
        mut scratch: &mut [f32],
    ) {
        let key = |site: usize| keys.map(|keys| keys[site]);
        let Some(s) = self.residual.factor(key(DEPTH_SITE)) else {
            y.copy_from_slice(x);
            return;
        };
        let [hidden, slope1, slope2, branch, padded] =
            self.kept().map(|length| take(&mut kept, length));
        let normal = take(&mut scratch, x.len());
        if let Some(grid) = self.mixing {
            // The slope's place is free as yet.
            self.first_layer(weights, x, normal, slope1);
            depthwise::pad(slope1, grid, self.hidden, padded);
            self.mix(weights, padded, grid, hidden);
        } else {
            self.first_layer(weights, x, normal, hidden);
        }
        self.mask(key(HIDDEN_SITE), slope1);
        activate(hidden, slope1);
        self.second_layer(weights, hidden, y);
        if !slope2.is_empty() {
            self.mask(key(OUTPUT_SITE), slope2);
            if self.second_gelu {
                activate(y, slope2);
            } else {
                multiply(y, slope2);
            }
        }
        if self.residual.layer_scale {
            branch.copy_from_slice(y);
            scale_and_add(x, s, weights.parameter(LAYER_SCALE), branch, y);
        } else {
            add_scaled(x, s, y);
        }
    }

    fn backward(
        &self,
        weights: &Weights,
        sums: &mut [Vec<f32>],
        x: &[f32],
        mut kept: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        keys: Option<&[u64]>,
        mut scratch: &mut [f32],
    ) {
        let Some(s) = self.residual.factor(keys.map(|keys| keys[DEPTH_SITE])) else {
            dx.copy_from_slice(dy);
            return;
        };
        let (tokens, dim, hidden) = (self.tokens, self.dim, self.hidden);
        let operand = |values, width| self.precision.once(Matrix::new(values, tokens, width));
        let [activated, slope1, slope2, branch, padded] =
            self.kept().map(|length| split(&mut kept, length));
        let normal = take(&mut scratch, tokens * dim);
        let d_normal = take(&mut scratch, tokens * dim);
        let d2 = take(&mut scratch, tokens * dim);
        let d1 = take(&mut scratch, tokens * hidden);
        let (row1, row2) = (take(&mut scratch, dim), take(&mut scratch, dim));

        if self.residual.layer_scale {
            let gamma = weights.parameter(LAYER_SCALE);
            scale_back(s, gamma, branch, dy, d2, &mut sums[LAYER_SCALE]);
        } else {
            scaled(s, dy, d2);
        }
        if !slope2.is_empty() {
            multiply(d2, slope2);
        }
        add_rows(&mut sums[OUTPUT_BIAS], d2);
        let (gamma, beta) = (weights.parameter(GAMMA), weights.parameter(BETA));
        norm::forward(x, gamma, beta, self.epsilon, normal);
        MatrixMut::new(&mut sums[OUTPUT_KERNEL], hidden, dim).add(
            1.0,
            Matrix::new(activated, tokens, hidden).t(),
            &operand(d2, dim),
        );
        MatrixMut::new(d1, tokens, hidden).set(
            1.0,
            Matrix::new(d2, tokens, dim),
            weights.kernel(OUTPUT),
        );
        if let Some(grid) = self.mixing {
            let d_padded = take(&mut scratch, padded.len());
            multiply(d1, slope1);
            let place = self.mixing_kernel();
            depthwise::add_kernel_gradient(padded, d1, grid, &mut sums[place]);
            add_rows(&mut sums[place + 1], d1);
            depthwise::pad(d1, grid, hidden, d_padded);
            depthwise::convolve(d_padded, weights.derived(MIXING), &[], grid, d1);
        } else {
            multiply(d1, slope1);
        }
        add_rows(&mut sums[HIDDEN_BIAS], d1);
        MatrixMut::new(&mut sums[HIDDEN_KERNEL], dim, hidden).add(
            1.0,
            Matrix::new(normal, tokens, dim).t(),
            &operand(d1, hidden),
        );
        MatrixMut::new(d_normal, tokens, dim).set(
            1.0,
            Matrix::new(d1, tokens, hidden),
            weights.kernel(HIDDEN),
        );
        dx.copy_from_slice(dy);
        let [d_gamma, d_beta, ..] = sums else {
            unreachable!("there are six sums or more")
        };
        norm::backward(
            x,
            gamma,
            self.epsilon,
            d_normal,
            dx,
            d_gamma,
            d_beta,
            row1,
            row2,
        );
    }

    fn reach(&self) -> Reach {
        match self.mixing {
            Some(_) => Reach::All,
            None => Reach::Row,
        }
    }

    fn infer(
        &self,
        weights: &Weights,
        x: &[f32],
        x_first: usize,
        _: &[f32],
        first: usize,
        y: &mut [f32],
        mut scratch: &mut [f32],
    ) {
        let tokens = y.len() / self.dim;
        let activated = take(&mut scratch, tokens * self.hidden);
        if let Some(grid) = self.mixing {
            let (rows, around) = self.around(grid, first, tokens);
            let part = Grid {
                height: rows.len(),
                ..grid
            };
            let seen = &x[(around.start - x_first) * self.dim..][..around.len() * self.dim];
            let hidden = take(&mut scratch, around.len() * self.hidden);
            let padded = take(&mut scratch, self.padded(Some(part)));
            let normal = take(&mut scratch, seen.len());
            self.first_layer(weights, seen, normal, hidden);
            depthwise::pad(hidden, part, self.hidden, padded);
            self.mix(weights, padded, part, hidden);
            let own = (first - around.start) * self.hidden;
            activated.copy_from_slice(&hidden[own..][..activated.len()]);
        } else {
            let x = &x[(first - x_first) * self.dim..][..y.len()];
            let normal = take(&mut scratch, x.len());
            self.first_layer(weights, x, normal, activated);
        }
        let x = &x[(first - x_first) * self.dim..][..y.len()];
        apply_gelu(activated);
        self.second_layer(weights, activated, y);
        if self.second_gelu {
            apply_gelu(y);
        }
        if self.residual.layer_scale {
            let branch = take(&mut scratch, y.len());
            branch.copy_from_slice(y);
            scale_and_add(x, 1.0, weights.parameter(LAYER_SCALE), branch, y);
        } else {
            add(y, x);
        }
    }

    fn inference_scratch(&self, rows: usize) -> usize {
        let own = rows * (2 * self.dim + self.hidden);
        let mixed = self.mixing.map(|grid| {
            let part = Grid {
                height: self.most_rows(grid, rows),
                ..grid
            };
            part.cells() * (self.dim + self.hidden) + self.padded(Some(part))
        });
        own + mixed.unwrap_or(0)
    }
}

dispatched! {
    /// Each value becomes its GELU.
    fn apply_gelu(values: &mut [f32]) {
        for value in values {
            *value = gelu(*value).0;
        }
    }
}

dispatched! {
    /// Each value becomes its GELU times the mask, the mask GELU's derivative there times itself.
    fn activate(values: &mut [f32], masks: &mut [f32]) {
        for (value, mask) in values.iter_mut().zip(masks) {
            let (activated, derivative) = gelu(*value);
            (*value, *mask) = (activated * *mask, derivative * *mask);
        }
    }
}
