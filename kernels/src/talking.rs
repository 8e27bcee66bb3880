//! The heart of attention whose heads talk to each other (Shazeer and others, *Talking-Heads Attention*,
//! arXiv 2003.02436): scores and probabilities are mixed over the heads, before and after the softmax.
//!
//! With S_h = scale_h · q_h · k_hᵀ, each head's own,
//!
//! ```text
//! S'_g = Σ_h before[h, g] · S_h      A_g = softmax(S'_g)
//! A'_g = Σ_h after[h, g] · A_h       out_g = A'_g · v_g
//! ```

use crate::attention::{softmax, softmax_backward};
use crate::dropout::Rate;
use crate::math::{dot, multiply};
use crate::matrix::{Matrix, MatrixMut, Precision};
use crate::simd::dispatched;

/// What becomes of the scores of tokens with themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Diagonal {
    /// They stay.
    Stays,
    /// Each head's are next to 0 before they are mixed, as in the code of arXiv 2112.13492, whose −1e-9 was
    /// likely meant to be −1e9.
    Zero,
    /// The mixed ones are −∞: no token attends to itself.
    Masked,
}

/// The scores of [`Diagonal::Zero`].
const NEXT_TO_NOTHING: f32 = -1e-9;

/// What a talking attention does.
///
/// Queries, keys and values of an image's tokens lie in rows `[token, (q, k, v), (head, key)]`. The first
/// `queries` tokens ask, the last `keys` are asked; of others' numbers none is read or written.
#[derive(Clone, Copy, Debug)]
pub struct Talking {
    /// Tokens an image.
    pub tokens: usize,
    /// Tokens that ask.
    pub queries: usize,
    /// Tokens that are asked.
    pub keys: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head's queries, keys and values.
    pub key_dim: usize,
    /// Where all tokens ask and are asked.
    pub diagonal: Diagonal,
    /// Dropout of the mixed probabilities.
    pub dropout: Rate,
    /// Of the products.
    pub precision: Precision,
}

/// What is learned of scores and probabilities.
#[derive(Clone, Copy, Debug)]
pub struct Mixing<'a> {
    /// What each head's scores are multiplied by.
    pub scales: &'a [f32],
    /// `[head, mixed head]`, of the scores.
    pub before: &'a [f32],
    /// `[head, mixed head]`, of the probabilities.
    pub after: &'a [f32],
}

impl Talking {
    /// Width of all heads together.
    pub fn inner(&self) -> usize {
        self.heads * self.key_dim
    }

    /// Numbers in all heads' scores.
    pub fn scores(&self) -> usize {
        self.heads * self.queries * self.keys
    }

    /// Multiplications of an image, those of the mixing among them.
    pub fn macs(&self) -> usize {
        2 * self.scores() * (self.key_dim + self.heads)
    }

    /// Where the queries (0), keys (1) or values (2) of a head begin.
    fn begins(&self, head: usize, which: usize) -> usize {
        let row = match which {
            0 => 0,
            _ => self.tokens - self.keys,
        };
        (3 * row + which) * self.inner() + head * self.key_dim
    }

    fn part<'a>(&self, qkv: &'a [f32], head: usize, which: usize) -> Matrix<'a> {
        let rows = if which == 0 { self.queries } else { self.keys };
        let from = &qkv[self.begins(head, which)..];
        Matrix::strided(from, rows, self.key_dim, 3 * self.inner())
    }

    fn part_mut<'a>(&self, qkv: &'a mut [f32], head: usize, which: usize) -> MatrixMut<'a> {
        let rows = if which == 0 { self.queries } else { self.keys };
        let from = &mut qkv[self.begins(head, which)..];
        MatrixMut::strided(from, rows, self.key_dim, 3 * self.inner())
    }

    /// Sets the scores of tokens with themselves; those are of the queries from number `first` on.
    fn set_diagonal(&self, scores: &mut [f32], first: usize, value: f32) {
        let square = scores.len() / self.heads;
        for scores in scores.chunks_exact_mut(square) {
            for (number, row) in scores.chunks_exact_mut(self.keys).enumerate() {
                row[first + number] = value;
            }
        }
    }

    /// Probabilities of some queries, those from number `first` on, before they are mixed: `scores` and
    /// `probabilities`, `[head, query, key]`, are written.
    pub fn attend(
        &self,
        qkv: &[f32],
        mixing: Mixing,
        first: usize,
        scores: &mut [f32],
        probabilities: &mut [f32],
    ) {
        let square = scores.len() / self.heads;
        let rows = square / self.keys;
        for (head, scores) in scores.chunks_exact_mut(square).enumerate() {
            let q = self.part(qkv, head, 0).from_row(first, rows);
            let k_t = self.precision.once(self.part(qkv, head, 1).t());
            MatrixMut::new(scores, rows, self.keys).set(mixing.scales[head], q, &k_t);
        }
        if self.diagonal == Diagonal::Zero {
            self.set_diagonal(scores, first, NEXT_TO_NOTHING);
        }
        mix(scores, mixing.before, self.heads, probabilities);
        for probabilities in probabilities.chunks_exact_mut(square) {
            let masked = (self.diagonal == Diagonal::Masked).then_some(first);
            softmax(probabilities, self.keys, masked);
        }
    }

    /// Probabilities, mixed, and dropped where there is a `key`, into `mixed`; `room` is as long.
    fn mixed(
        &self,
        probabilities: &[f32],
        mixing: Mixing,
        key: Option<u64>,
        mixed: &mut [f32],
        room: &mut [f32],
    ) {
        mix(probabilities, mixing.after, self.heads, mixed);
        self.drop(key, mixed, room);
    }

    fn drop(&self, key: Option<u64>, values: &mut [f32], room: &mut [f32]) {
        if let Some(key) = key.filter(|_| !self.dropout.is_zero()) {
            self.dropout.mask(key, 0, room);
            multiply(values, room);
        }
    }

    /// What some queries gather, `[query, (head, key)]`, of all heads' probabilities, `[head, query, key]`.
    /// `key` names the dropout mask, over all mixed probabilities; without it nothing is dropped. `scratch`
    /// has room for the probabilities twice.
    pub fn gather(
        &self,
        qkv: &[f32],
        mixing: Mixing,
        probabilities: &[f32],
        out: &mut [f32],
        key: Option<u64>,
        scratch: &mut [f32],
    ) {
        let square = probabilities.len() / self.heads;
        let rows = square / self.keys;
        let (mixed, scratch) = scratch.split_at_mut(probabilities.len());
        let room = &mut scratch[..probabilities.len()];
        self.mixed(probabilities, mixing, key, mixed, room);
        for (head, mixed) in mixed.chunks_exact(square).enumerate() {
            let v = self.precision.once(self.part(qkv, head, 2));
            let out = &mut out[head * self.key_dim..];
            let out = MatrixMut::strided(out, rows, self.key_dim, self.inner());
            out.set(1.0, Matrix::new(mixed, rows, self.keys), &v);
        }
    }

    /// All queries, back: `scores` and `probabilities` are what [`attend`](Self::attend) wrote, `d_out`
    /// `[query, (head, key)]`. `d_qkv` is written where `qkv` is read; gradients of what is learned are
    /// added to `d_scales`, `d_before` and `d_after`. `scratch` has room for the scores three times.
    #[expect(clippy::too_many_arguments, reason = "what came in and what goes back")]
    pub fn backward(
        &self,
        qkv: &[f32],
        mixing: Mixing,
        scores: &[f32],
        probabilities: &[f32],
        d_out: &[f32],
        d_qkv: &mut [f32],
        [d_scales, d_before, d_after]: [&mut [f32]; 3],
        key: Option<u64>,
        scratch: &mut [f32],
    ) {
        let (rows, keys, heads) = (self.queries, self.keys, self.heads);
        let (square, inner) = (rows * keys, self.inner());
        let (mixed, scratch) = scratch.split_at_mut(self.scores());
        let (d_mixed, scratch) = scratch.split_at_mut(self.scores());
        let d = &mut scratch[..self.scores()];
        let once = |matrix| self.precision.once(matrix);
        self.mixed(probabilities, mixing, key, mixed, d);
        for head in 0..heads {
            let at = head * square..(head + 1) * square;
            let d_out = Matrix::strided(&d_out[head * self.key_dim..], rows, self.key_dim, inner);
            let v_t = once(self.part(qkv, head, 2).t());
            MatrixMut::new(&mut d_mixed[at.clone()], rows, keys).set(1.0, d_out, &v_t);
            let mixed = Matrix::new(&mixed[at], rows, keys);
            let d_v = self.part_mut(d_qkv, head, 2);
            d_v.set(1.0, mixed.t(), &once(d_out));
        }
        self.drop(key, d_mixed, d);
        mix_back(probabilities, d_mixed, mixing.after, heads, d, d_after);
        for (d, probabilities) in d
            .chunks_exact_mut(square)
            .zip(probabilities.chunks_exact(square))
        {
            softmax_backward(probabilities, probabilities, d, keys);
        }
        // (Where a mixed score is masked, its probability is 0, and so is what comes back.)
        let d_scores = d_mixed;
        mix_back(scores, d, mixing.before, heads, d_scores, d_before);
        if self.diagonal == Diagonal::Zero {
            self.set_diagonal(d_scores, 0, 0.0);
        }
        for (head, (&scale, d_scale)) in mixing.scales.iter().zip(d_scales).enumerate() {
            let at = head * square..(head + 1) * square;
            // A score is its scale times q · k. (A scale of exactly 0, which no step meets, stays as it is.)
            if scale != 0.0 {
                *d_scale += dot(&d_scores[at.clone()], &scores[at.clone()]) / scale;
            }
            let d_scores = Matrix::new(&d_scores[at], rows, keys);
            let (q, k) = (self.part(qkv, head, 0), self.part(qkv, head, 1));
            self.part_mut(d_qkv, head, 0).set(scale, d_scores, &once(k));
            self.part_mut(d_qkv, head, 1)
                .set(scale, d_scores.t(), &once(q));
        }
    }
}

dispatched! {
    /// to_g = Σ_h weights[h, g] · from_h, each of `heads` parts of both.
    fn mix(from: &[f32], weights: &[f32], heads: usize, to: &mut [f32]) {
        let square = from.len() / heads;
        for (g, to) in to.chunks_exact_mut(square).enumerate() {
            to.fill(0.0);
            for (h, from) in from.chunks_exact(square).enumerate() {
                let weight = weights[h * heads + g];
                for (to, from) in to.iter_mut().zip(from) {
                    *to = weight.mul_add(*from, *to);
                }
            }
        }
    }
}

dispatched! {
    /// And back: `d_to` → `d_from`, which is written, and the weights' gradients, which are added to.
    fn mix_back(
        from: &[f32],
        d_to: &[f32],
        weights: &[f32],
        heads: usize,
        d_from: &mut [f32],
        d_weights: &mut [f32],
    ) {
        let square = from.len() / heads;
        let parts = from.chunks_exact(square).zip(d_from.chunks_exact_mut(square));
        for (h, (from, d_from)) in parts.enumerate() {
            d_from.fill(0.0);
            for (g, d_to) in d_to.chunks_exact(square).enumerate() {
                let weight = weights[h * heads + g];
                d_weights[h * heads + g] += dot(from, d_to);
                for (d_from, d_to) in d_from.iter_mut().zip(d_to) {
                    *d_from = weight.mul_add(*d_to, *d_from);
                }
            }
        }
    }
}
