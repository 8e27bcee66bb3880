//! The classifier's input: the tokens, normalised, then all of them, the class token, or their
//! mean.

use std::sync::Arc;

use super::{Direction, ImageOp, ParameterSpec, Reach, Sizes, Values, Weights, add_rows, take};
use crate::matrix::Precision;
use crate::norm;

/// What becomes of the normalised tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// All of them, one after another.
    Flatten,
    /// The first, which is the class token.
    Class,
    /// Their mean.
    Mean,
}

/// LN, then a [`Pool`].
#[derive(Clone, Copy, Debug)]
pub struct Pooling {
    /// Tokens that come in.
    pub tokens: usize,
    /// Width of a token.
    pub dim: usize,
    /// ε of the layer normalisation.
    pub epsilon: f32,
    /// What becomes of them.
    pub pool: Pool,
}

const GAMMA: usize = 0;
const BETA: usize = 1;

impl Pooling {
    /// How many of the tokens, from the first on, count.
    fn used(&self) -> usize {
        match self.pool {
            Pool::Class => 1,
            Pool::Flatten | Pool::Mean => self.tokens,
        }
    }

    fn normalise(&self, weights: &Weights, x: &[f32], y: &mut [f32]) {
        let (gamma, beta) = (weights.parameter(GAMMA), weights.parameter(BETA));
        norm::forward(x, gamma, beta, self.epsilon, y);
    }
}

impl ImageOp for Pooling {
    fn parameters(&self) -> Vec<ParameterSpec> {
        vec![
            ParameterSpec::new("norm.gamma", [self.dim]),
            ParameterSpec::new("norm.beta", [self.dim]),
        ]
    }

    fn sizes(&self) -> Sizes {
        let rows_out = if self.pool == Pool::Flatten {
            self.tokens
        } else {
            1
        };
        Sizes {
            rows_in: self.tokens,
            width_in: self.dim,
            rows_out,
            width_out: self.dim,
            kept: 0,
            scratch: (self.tokens + 2) * self.dim,
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
        let used = self.used() * self.dim;
        let (row1, row2) = (take(&mut scratch, self.dim), take(&mut scratch, self.dim));
        let each = take(&mut scratch, used);
        let d_normal = if self.pool == Pool::Mean {
            let share = 1.0 / self.tokens as f32;
            for row in each.chunks_exact_mut(self.dim) {
                for (d, dy) in row.iter_mut().zip(dy) {
                    *d = share * dy;
                }
            }
            each
        } else {
            dy
        };
        dx.fill(0.0);
        let [d_gamma, d_beta] = sums else {
            unreachable!("there are two sums")
        };
        norm::backward(
            &x[..used],
            weights.parameter(GAMMA),
            self.epsilon,
            d_normal,
            &mut dx[..used],
            d_gamma,
            d_beta,
            row1,
            row2,
        );
    }

    fn reach(&self) -> Reach {
        match self.pool {
            Pool::Flatten => Reach::Row,
            Pool::Class | Pool::Mean => Reach::All,
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
        scratch: &mut [f32],
    ) {
        let used = &x[(first - x_first) * self.dim..];
        match self.pool {
            Pool::Flatten | Pool::Class => self.normalise(weights, &used[..y.len()], y),
            Pool::Mean => {
                let normal = &mut scratch[..used.len()];
                self.normalise(weights, used, normal);
                y.fill(0.0);
                add_rows(y, normal);
                let share = 1.0 / self.tokens as f32;
                y.iter_mut().for_each(|y| *y *= share);
            }
        }
    }

    fn inference_scratch(&self, _: usize) -> usize {
        if self.pool == Pool::Mean {
            self.tokens * self.dim
        } else {
            0
        }
    }
}
