//! What stands between a branch and the sum of a residual: y = x + s · γ ∘ branch(x).
//!
//! γ is LayerScale (Touvron and others, *Going deeper with Image Transformers*, arXiv 2103.17239,
//! section 2.1), s stochastic depth (Huang and others, arXiv 1603.09382): in training 0 with
//! probability r, an image at a time, else 1 / (1 − r). A branch that is left out is not computed.

use crate::dropout::Rate;
use crate::simd::dispatched;

/// How a branch is added.
#[derive(Clone, Copy, Debug)]
pub struct Residual {
    /// Whether there is a γ.
    pub layer_scale: bool,
    /// How often the branch is left out.
    pub depth: Rate,
}

impl Residual {
    /// The branch as it is.
    pub fn plain() -> Self {
        Self {
            layer_scale: false,
            depth: Rate::new(0.0),
        }
    }

    /// s of an image, or none where the branch is left out.
    pub fn factor(&self, key: Option<u64>) -> Option<f32> {
        match key {
            Some(key) if !self.depth.is_zero() => {
                let mut mask = [0.0];
                self.depth.mask(key, 0, &mut mask);
                (mask[0] > 0.0).then_some(mask[0])
            }
            _ => Some(1.0),
        }
    }
}

dispatched! {
    /// y = x + s · γ ∘ branch, where rows are as wide as γ.
    pub(super) fn scale_and_add(x: &[f32], s: f32, gamma: &[f32], branch: &[f32], y: &mut [f32]) {
        let width = gamma.len();
        let rows = x.chunks_exact(width).zip(branch.chunks_exact(width));
        for ((x, branch), y) in rows.zip(y.chunks_exact_mut(width)) {
            for i in 0..width {
                y[i] = (s * gamma[i]).mul_add(branch[i], x[i]);
            }
        }
    }
}

dispatched! {
    /// The branch's gradient, s · γ ∘ dy, and γ's, to which s · Σ dy ∘ branch is added.
    pub(super) fn scale_back(
        s: f32,
        gamma: &[f32],
        branch: &[f32],
        dy: &[f32],
        d_branch: &mut [f32],
        d_gamma: &mut [f32],
    ) {
        let width = gamma.len();
        let rows = dy.chunks_exact(width).zip(branch.chunks_exact(width));
        for ((dy, branch), d_branch) in rows.zip(d_branch.chunks_exact_mut(width)) {
            for i in 0..width {
                d_branch[i] = s * gamma[i] * dy[i];
                d_gamma[i] = (s * dy[i]).mul_add(branch[i], d_gamma[i]);
            }
        }
    }
}

dispatched! {
    /// y becomes x + s · y.
    pub(super) fn add_scaled(x: &[f32], s: f32, y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = s.mul_add(*y, *x);
        }
    }
}

dispatched! {
    /// y += s · x
    pub(super) fn add_times(y: &mut [f32], s: f32, x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = s.mul_add(*x, *y);
        }
    }
}

dispatched! {
    /// to = s · from
    pub(super) fn scaled(s: f32, from: &[f32], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = s * from;
        }
    }
}
