//! A class token's way past a merge of the grid's tokens: a projection of its own, y = x · kernel + bias.

use super::Weights;
use super::add_rows;
use crate::matrix::{Matrix, MatrixMut, Precision};

/// Where an operation has what belongs to its class token.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClassRow {
    /// The place of the kernel among the operation's parameters (and sums); the bias comes after it.
    pub kernel: usize,
    /// The place of the kernel among those to multiply by.
    pub operand: usize,
    /// Of the products.
    pub precision: Precision,
}

impl ClassRow {
    pub fn forward(self, weights: &Weights, x: &[f32], y: &mut [f32]) {
        let bias = weights.parameter(self.kernel + 1);
        let (x, width) = (Matrix::new(x, 1, x.len()), y.len());
        let kernel = weights.kernel(self.operand);
        MatrixMut::new(y, 1, width).set_with(Some(bias), x, kernel);
    }

    /// `weights` are those of the way back; `dx` is written unless it is empty.
    pub fn backward(
        self,
        weights: &Weights,
        sums: &mut [Vec<f32>],
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
    ) {
        let d = Matrix::new(dy, 1, dy.len());
        MatrixMut::new(&mut sums[self.kernel], x.len(), dy.len()).add(
            1.0,
            Matrix::new(x, 1, x.len()).t(),
            &self.precision.once(d),
        );
        add_rows(&mut sums[self.kernel + 1], dy);
        if !dx.is_empty() {
            let width = dx.len();
            MatrixMut::new(dx, 1, width).set(1.0, d, weights.kernel(self.operand));
        }
    }
}
