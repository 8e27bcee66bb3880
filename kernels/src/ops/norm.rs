//! Tokens, each layer-normalised: y = LN(x).
//!
//! Most layer normalisations are a part of the operation that they stand before. This one stands after:
//! of patches that have been projected, as Swin Transformers have them.

use std::sync::Arc;

use super::{Direction, ImageOp, ParameterSpec, Reach, Sizes, Values, Weights, take};
use crate::matrix::Precision;
use crate::norm;

/// LN of every token.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// Tokens that come in.
    pub tokens: usize,
    /// Width of a token.
    pub dim: usize,
    /// ε of the layer normalisation.
    pub epsilon: f32,
}

const GAMMA: usize = 0;
const BETA: usize = 1;

impl ImageOp for Norm {
    fn parameters(&self) -> Vec<ParameterSpec> {
        vec![
            ParameterSpec::new("gamma", [self.dim]),
            ParameterSpec::new("beta", [self.dim]),
        ]
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            rows_in: self.tokens,
            width_in: self.dim,
            rows_out: self.tokens,
            width_out: self.dim,
            kept: 0,
            scratch: 2 * self.dim,
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
        let (row1, row2) = (take(&mut scratch, self.dim), take(&mut scratch, self.dim));
        let [d_gamma, d_beta] = sums else {
            unreachable!("there are two sums")
        };
        dx.fill(0.0);
        norm::backward(
            x,
            weights.parameter(GAMMA),
            self.epsilon,
            dy,
            dx,
            d_gamma,
            d_beta,
            row1,
            row2,
        );
    }

    fn reach(&self) -> Reach {
        Reach::Row
    }

    fn infer(
        &self,
        weights: &Weights,
        x: &[f32],
        x_first: usize,
        _: &[f32],
        first: usize,
        y: &mut [f32],
        _: &mut [f32],
    ) {
        let x = &x[(first - x_first) * self.dim..][..y.len()];
        let (gamma, beta) = (weights.parameter(GAMMA), weights.parameter(BETA));
        norm::forward(x, gamma, beta, self.epsilon, y);
    }

    fn inference_scratch(&self, _: usize) -> usize {
        0
    }
}
