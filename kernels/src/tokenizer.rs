//! Images → tokens: gather (shifted) patches, normalise, project; the image with its shifted
//! versions is never made.
//!
//! With ŷ the normalised patches (or, without normalisation, the patches themselves) a token is
//! (ŷ ∘ γ + β) · W + b = ŷ · (γ ∘ W) + (β · W + b), so the layer normalisation's γ and β are folded
//! into the projection once for many images. Back, all gradients follow from M = Σ ŷᵀ · dtoken and
//! s = Σ dtoken: dW = γ ∘ M + β sᵀ, dγ = rows of W ∘ M summed, dβ = W · s, db = s.

use crate::math::{replace_and_sum, sum, sum_of};
use crate::matrix::{Matrix, MatrixMut, Precision};
use crate::simd::dispatched;

/// What a tokenizer does.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer {
    /// Pixels a side of an image.
    pub size: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Pixels a side of a patch; it divides `size`.
    pub patch: usize,
    /// Whether the four diagonal shifts by half a patch are joined, and patches normalised.
    pub shifted: bool,
    /// ε of the layer normalisation.
    pub epsilon: f32,
    /// Width of a token.
    pub dim: usize,
    /// Of the products.
    pub precision: Precision,
}

/// The parameters, or as `Parameters<&mut [f32]>` their gradients.
pub struct Parameters<T> {
    /// `[width]`; 1 without normalisation.
    pub gamma: T,
    /// `[width]`; 0 without normalisation.
    pub beta: T,
    /// `[width, dim]`.
    pub kernel: T,
    /// `[dim]`.
    pub bias: T,
}

impl Tokenizer {
    /// Tokens an image.
    pub fn tokens(&self) -> usize {
        (self.size / self.patch).pow(2)
    }

    /// Numbers in an image.
    pub fn image(&self) -> usize {
        self.size * self.size * self.channels
    }

    /// Numbers in a patch with its versions.
    pub fn width(&self) -> usize {
        self.patch * self.patch * self.channels * if self.shifted { 5 } else { 1 }
    }

    /// Images one after another → tokens `[image, token, dim]`.
    pub fn forward(&self, p: &Parameters<&[f32]>, images: &[f32], tokens: &mut [f32]) {
        let (count, width, dim) = (self.tokens(), self.width(), self.dim);
        let mut folded = p.kernel.to_vec();
        let mut bias = p.bias.to_vec();
        let rows = folded.chunks_exact_mut(dim).zip(p.gamma.iter().zip(p.beta));
        for (row, (gamma, beta)) in rows {
            for (weight, bias) in row.iter_mut().zip(&mut bias) {
                *bias += beta * *weight;
                *weight *= gamma;
            }
        }
        let folded = self.precision.right(Matrix::new(&folded, width, dim));
        let mut patches = vec![0.0; count * width];
        let images = images.chunks_exact(self.image());
        for (image, tokens) in images.zip(tokens.chunks_exact_mut(count * dim)) {
            self.patches(image, &mut patches);
            for token in tokens.chunks_exact_mut(dim) {
                token.copy_from_slice(&bias);
            }
            MatrixMut::new(tokens, count, dim).add(
                1.0,
                Matrix::new(&patches, count, width),
                &folded,
            );
        }
    }

    /// Back: `d_tokens` `[image, token, dim]` → gradients, which are added to.
    pub fn backward(
        &self,
        p: &Parameters<&[f32]>,
        g: &mut Parameters<&mut [f32]>,
        images: &[f32],
        d_tokens: &[f32],
    ) {
        let (count, width, dim) = (self.tokens(), self.width(), self.dim);
        let mut patches = vec![0.0; count * width];
        let mut moment = vec![0.0; width * dim];
        let mut total = vec![0.0; dim];
        let images = images.chunks_exact(self.image());
        for (image, d_tokens) in images.zip(d_tokens.chunks_exact(count * dim)) {
            self.patches(image, &mut patches);
            MatrixMut::new(&mut moment, width, dim).add(
                1.0,
                Matrix::new(&patches, count, width).t(),
                &self.precision.right(Matrix::new(d_tokens, count, dim)),
            );
            for d_token in d_tokens.chunks_exact(dim) {
                crate::math::add(&mut total, d_token);
            }
        }
        for row in 0..width {
            let at = row * dim..(row + 1) * dim;
            let (moment, weights) = (&moment[at.clone()], &p.kernel[at.clone()]);
            let (gamma, beta) = (p.gamma[row], p.beta[row]);
            for (i, gradient) in g.kernel[at].iter_mut().enumerate() {
                *gradient += gamma * moment[i] + beta * total[i];
                g.gamma[row] += weights[i] * moment[i];
                g.beta[row] += weights[i] * total[i];
            }
        }
        crate::math::add(g.bias, &total);
    }

    /// One image's patches, `[token, (patch row, patch column, version, channel)]`, normalised if
    /// there are shifted versions.
    fn patches(&self, image: &[f32], patches: &mut [f32]) {
        let by = (self.patch / 2) as isize;
        let shifts = [(0, 0), (by, by), (-by, by), (by, -by), (-by, -by)];
        let shifts = if self.shifted {
            &shifts[..]
        } else {
            &shifts[..1]
        };
        let (size, patch, channels) = (self.size, self.patch, self.channels);
        let grid = size / patch;
        let mut values = patches.chunks_exact_mut(channels);
        for token in 0..grid * grid {
            let (top, left) = (token / grid * patch, token % grid * patch);
            for pixel in 0..patch * patch {
                let (y, x) = (top + pixel / patch, left + pixel % patch);
                for (down, right) in shifts {
                    let Some(value) = values.next() else { return };
                    let inside =
                        |at: usize, by: isize| at.checked_add_signed(by).filter(|&at| at < size);
                    match (inside(y, *down), inside(x, *right)) {
                        (Some(y), Some(x)) => {
                            let first = (y * size + x) * channels;
                            value.copy_from_slice(&image[first..first + channels]);
                        }
                        _ => value.fill(0.0),
                    }
                }
            }
        }
        if self.shifted {
            normalise(patches, self.width(), self.epsilon);
        }
    }
}

dispatched! {
    /// Each row minus its mean, over its deviation.
    fn normalise(rows: &mut [f32], width: usize, epsilon: f32) {
        for row in rows.chunks_exact_mut(width) {
            let mean = sum(row) / width as f32;
            let variance = sum_of(row, |x| (x - mean) * (x - mean)) / width as f32;
            let scale = 1.0 / (variance + epsilon).sqrt();
            let _ = replace_and_sum(row, |x| (x - mean) * scale);
        }
    }
}
