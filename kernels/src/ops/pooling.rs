//! The classifier's input: the tokens, normalised, then all of them, the class token, their mean,
//! or a mean whose weights are learned.

use std::sync::Arc;

use super::{Direction, ImageOp, ParameterSpec, Reach, Sizes, Values, Weights, add_rows, take};
use crate::math::{dot, exp_negative, max, sum};
use crate::matrix::Precision;
use crate::norm;
use crate::simd::dispatched;

/// What becomes of the normalised tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// All of them, one after another.
    Flatten,
    /// The first, which is the class token.
    Class,
    /// Their mean.
    Mean,
    /// Σ aᵢ · tokenᵢ with a = softmax over the tokens of tokenᵢ · score: the sequence pooling of
    /// Hassani and others (arXiv 2104.05704, section 3.2). (A bias of the score would change nothing.)
    Sequence,
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
const SCORE: usize = 2;

impl Pooling {
    /// How many of the tokens, from the first on, count.
    fn used(&self) -> usize {
        match self.pool {
            Pool::Class => 1,
            Pool::Flatten | Pool::Mean | Pool::Sequence => self.tokens,
        }
    }

    /// How many of the tokens' weights are kept.
    fn shares(&self) -> usize {
        match self.pool {
            Pool::Sequence => self.tokens,
            _ => 0,
        }
    }

    fn normalise(&self, weights: &Weights, x: &[f32], y: &mut [f32]) {
        let (gamma, beta) = (weights.parameter(GAMMA), weights.parameter(BETA));
        norm::forward(x, gamma, beta, self.epsilon, y);
    }
}

impl ImageOp for Pooling {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let mut all = vec![
            ParameterSpec::new("norm.gamma", [self.dim]),
            ParameterSpec::new("norm.beta", [self.dim]),
        ];
        if self.pool == Pool::Sequence {
            all.push(ParameterSpec::new("score.kernel", [self.dim, 1]));
        }
        all
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
            scratch: (2 * self.tokens + 2) * self.dim + 2 * self.shares(),
        }
    }

    fn macs(&self) -> u64 {
        // A score, and a weighted sum.
        (2 * self.shares() * self.dim) as u64
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
        let d_normal = match self.pool {
            Pool::Mean => {
                let share = 1.0 / self.tokens as f32;
                for row in each.chunks_exact_mut(self.dim) {
                    for (d, dy) in row.iter_mut().zip(dy) {
                        *d = share * dy;
                    }
                }
                each
            }
            Pool::Sequence => {
                let normal = take(&mut scratch, used);
                let shares = take(&mut scratch, self.tokens);
                let d_scores = take(&mut scratch, self.tokens);
                let score = weights.parameter(SCORE);
                self.normalise(weights, x, normal);
                weigh(normal, score, shares);
                weigh_back(normal, score, shares, dy, d_scores, each, &mut sums[SCORE]);
                each
            }
            Pool::Flatten | Pool::Class => dy,
        };
        dx.fill(0.0);
        let [d_gamma, d_beta, ..] = sums else {
            unreachable!("there are two sums or more")
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
            Pool::Class | Pool::Mean | Pool::Sequence => Reach::All,
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
            Pool::Sequence => {
                let (normal, rest) = scratch.split_at_mut(used.len());
                let shares = &mut rest[..self.tokens];
                self.normalise(weights, used, normal);
                weigh(normal, weights.parameter(SCORE), shares);
                y.fill(0.0);
                add_weighted(y, normal, shares);
            }
        }
    }

    fn inference_scratch(&self, _: usize) -> usize {
        match self.pool {
            Pool::Flatten | Pool::Class => 0,
            Pool::Mean | Pool::Sequence => self.tokens * self.dim + self.shares(),
        }
    }
}

dispatched! {
    /// Each row's share: the softmax over all rows of row · score.
    fn weigh(rows: &[f32], score: &[f32], shares: &mut [f32]) {
        for (row, share) in rows.chunks_exact(score.len()).zip(shares.iter_mut()) {
            *share = dot(row, score);
        }
        let most = max(shares);
        for share in shares.iter_mut() {
            *share = exp_negative(*share - most);
        }
        let scale = 1.0 / sum(shares);
        for share in shares {
            *share *= scale;
        }
    }
}

dispatched! {
    /// Adds each row times its share.
    fn add_weighted(target: &mut [f32], rows: &[f32], shares: &[f32]) {
        for (row, share) in rows.chunks_exact(target.len()).zip(shares) {
            for (target, value) in target.iter_mut().zip(row) {
                *target = share.mul_add(*value, *target);
            }
        }
    }
}

dispatched! {
    /// Back from Σ share · row: gradients of the rows, and, added, of the score's kernel. `d_scores` is
    /// room.
    fn weigh_back(
        rows: &[f32],
        score: &[f32],
        shares: &[f32],
        dy: &[f32],
        d_scores: &mut [f32],
        d_rows: &mut [f32],
        d_score: &mut [f32],
    ) {
        let width = score.len();
        for (row, d) in rows.chunks_exact(width).zip(d_scores.iter_mut()) {
            *d = dot(row, dy);
        }
        let along = dot(d_scores, shares);
        for (d, share) in d_scores.iter_mut().zip(shares) {
            *d = share * (*d - along);
        }
        let each = rows.chunks_exact(width).zip(d_rows.chunks_exact_mut(width));
        for ((row, d_row), (share, d)) in each.zip(shares.iter().zip(d_scores.iter())) {
            for i in 0..width {
                d_row[i] = share.mul_add(dy[i], d * score[i]);
                d_score[i] = d.mul_add(row[i], d_score[i]);
            }
        }
    }
}
