//! Layer normalisation of rows: ŷ = (x − mean) / √(variance + ε), y = ŷ · gamma + beta.

use crate::math::{dot, sum, sum_of};
use crate::simd::dispatched;

dispatched! {
    /// Each row of `x` into `y`.
    pub fn forward(x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32, y: &mut [f32]) {
        let width = gamma.len();
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let (mean, scale) = moments(x, epsilon);
            for (((y, x), gamma), beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                *y = ((x - mean) * scale).mul_add(*gamma, *beta);
            }
        }
    }
}

dispatched! {
    /// Adds to `dx` what comes back from `dy`, and the gradients of gamma and beta to theirs.
    /// `normal` and `weighted` are room for one row each.
    pub fn backward(
        x: &[f32],
        gamma: &[f32],
        epsilon: f32,
        dy: &[f32],
        dx: &mut [f32],
        d_gamma: &mut [f32],
        d_beta: &mut [f32],
        normal: &mut [f32],
        weighted: &mut [f32],
    ) {
        let width = gamma.len();
        // Slices that are known to be of one length need no checks in the loops.
        let (d_gamma, d_beta) = (&mut d_gamma[..width], &mut d_beta[..width]);
        let (normal, weighted) = (&mut normal[..width], &mut weighted[..width]);
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
        for ((x, dy), dx) in rows.zip(dx.chunks_exact_mut(width)) {
            let (x, dy, dx) = (&x[..width], &dy[..width], &mut dx[..width]);
            let (mean, scale) = moments(x, epsilon);
            for i in 0..width {
                normal[i] = (x[i] - mean) * scale;
                weighted[i] = dy[i] * gamma[i];
                d_gamma[i] = dy[i].mul_add(normal[i], d_gamma[i]);
                d_beta[i] += dy[i];
            }
            let along_one = sum(weighted) / width as f32;
            let along_normal = dot(weighted, normal) / width as f32;
            for i in 0..width {
                dx[i] += scale * (weighted[i] - along_one - normal[i] * along_normal);
            }
        }
    }
}

/// Mean, and 1 / √(variance + ε).
#[inline(always)]
fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
    let width = x.len() as f32;
    let mean = sum(x) / width;
    let variance = sum_of(x, |x| (x - mean) * (x - mean)) / width;
    (mean, 1.0 / (variance + epsilon).sqrt())
}
