//! An operation on the first token alone: the others go past it.

use std::sync::Arc;

use super::{Direction, ImageOp, ParameterSpec, Reach, Sizes, Values, Weights};

/// An operation that makes of one token one of the same width, on the first of several.
#[derive(Debug)]
pub struct First {
    /// What becomes of the first token.
    pub op: Box<dyn ImageOp>,
    /// Tokens that come in.
    pub tokens: usize,
}

impl ImageOp for First {
    fn parameters(&self) -> Vec<ParameterSpec> {
        self.op.parameters()
    }

    fn sites(&self) -> &'static [&'static str] {
        self.op.sites()
    }

    fn sizes(&self) -> Sizes {
        let sizes = self.op.sizes();
        assert_eq!((sizes.rows_in, sizes.rows_out), (1, 1));
        assert_eq!(sizes.width_in, sizes.width_out);
        Sizes {
            rows_in: self.tokens,
            rows_out: self.tokens,
            ..sizes
        }
    }

    fn macs(&self) -> u64 {
        self.op.macs()
    }

    fn weights(&self, values: Vec<Arc<dyn Values>>, direction: Direction) -> Weights {
        self.op.weights(values, direction)
    }

    fn forward(
        &self,
        weights: &Weights,
        x: &[f32],
        y: &mut [f32],
        kept: &mut [f32],
        keys: Option<&[u64]>,
        scratch: &mut [f32],
    ) {
        let width = self.op.sizes().width_in;
        let ((x, rest), (y, y_rest)) = (x.split_at(width), y.split_at_mut(width));
        self.op.forward(weights, x, y, kept, keys, scratch);
        y_rest.copy_from_slice(rest);
    }

    fn backward(
        &self,
        weights: &Weights,
        sums: &mut [Vec<f32>],
        x: &[f32],
        kept: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        keys: Option<&[u64]>,
        scratch: &mut [f32],
    ) {
        let width = self.op.sizes().width_in;
        let ((dy, rest), (dx, dx_rest)) = (dy.split_at(width), dx.split_at_mut(width));
        let x = &x[..width];
        self.op
            .backward(weights, sums, x, kept, dy, dx, keys, scratch);
        dx_rest.copy_from_slice(rest);
    }

    fn sums(&self) -> Vec<usize> {
        self.op.sums()
    }

    fn gradients(&self, weights: &Weights, sums: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        self.op.gradients(weights, sums)
    }

    fn reach(&self) -> Reach {
        Reach::Row
    }

    fn infer(
        &self,
        weights: &Weights,
        x: &[f32],
        x_first: usize,
        shared: &[f32],
        first: usize,
        y: &mut [f32],
        scratch: &mut [f32],
    ) {
        let width = self.op.sizes().width_in;
        let x = &x[(first - x_first) * width..][..y.len()];
        let own = usize::from(first == 0) * width;
        let ((x, rest), (y, y_rest)) = (x.split_at(own), y.split_at_mut(own));
        y_rest.copy_from_slice(rest);
        if first == 0 {
            assert_eq!(self.op.reach(), Reach::Row);
            self.op.infer(weights, x, 0, shared, 0, y, scratch);
        }
    }

    fn inference_scratch(&self, rows: usize) -> usize {
        self.op.inference_scratch(rows.min(1))
    }
}
