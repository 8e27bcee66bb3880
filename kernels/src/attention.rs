//! The heart of attention: softmax(scale · q · kᵀ) · v in each head, between the projections.

use crate::dropout::Rate;
use crate::math::{dot, exp, max, replace_and_sum};
use crate::matrix::{Matrix, MatrixMut, Precision};
use crate::simd::dispatched;

/// A learned bias by relative position: tokens that lie alike in the grid, seen from one another,
/// share a number a head (Shaw and others, arXiv 1803.02155; on a grid, Liu and others, *Swin
/// Transformer*, arXiv 2103.14030, equation 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Tokens along the grid's height.
    pub height: usize,
    /// Tokens along its width.
    pub width: usize,
    /// Tokens before the grid's, such as a class token: they have no bias, and nobody towards
    /// them.
    pub before: usize,
}

impl Position {
    /// Different relative positions, and so numbers a head: (2 · height − 1)(2 · width − 1).
    pub fn offsets(&self) -> usize {
        (2 * self.height - 1) * (2 * self.width - 1)
    }

    /// Calls `each` with a slice of a row of scores, the query's number in the grid given, and the
    /// place in a head's table of the slice's first number; the others' places go down from there.
    #[inline(always)]
    fn runs(&self, query: usize, mut each: impl FnMut(std::ops::Range<usize>, usize)) {
        let (row, column) = (query / self.width, query % self.width);
        for key_row in 0..self.height {
            let keys = self.before + key_row * self.width;
            // (Δrow + height − 1) · (2 · width − 1) + Δcolumn + width − 1, Δ = query − key.
            let place = (row + self.height - 1 - key_row) * (2 * self.width - 1);
            each(keys..keys + self.width, place + column + self.width - 1);
        }
    }

    /// Adds a head's biases to rows of scores, those from token number `first` on.
    fn add(&self, table: &[f32], scores: &mut [f32], tokens: usize, first: usize) {
        for (number, row) in scores.chunks_exact_mut(tokens).enumerate() {
            let Some(query) = (first + number).checked_sub(self.before) else {
                continue;
            };
            self.runs(query, |keys, place| {
                let biases = table[..=place].iter().rev();
                for (score, bias) in row[keys].iter_mut().zip(biases) {
                    *score += bias;
                }
            });
        }
    }

    /// Adds to a head's table what comes back from its scores.
    fn add_back(&self, d_scores: &[f32], tokens: usize, d_table: &mut [f32]) {
        for (query, row) in d_scores.chunks_exact(tokens).skip(self.before).enumerate() {
            self.runs(query, |keys, place| {
                let biases = d_table[..=place].iter_mut().rev();
                for (bias, score) in biases.zip(&row[keys]) {
                    *bias += score;
                }
            });
        }
    }
}

/// What an attention does.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Tokens an image.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head's queries, keys and values.
    pub key_dim: usize,
    /// Whether no token attends to itself.
    pub mask_diagonal: bool,
    /// Whether there is a bias by relative position.
    pub position: Option<Position>,
    /// Dropout of the probabilities.
    pub dropout: Rate,
    /// Of all products, those of the projections among them.
    pub precision: Precision,
}

impl Attention {
    /// Width of all heads together.
    pub fn inner(&self) -> usize {
        self.heads * self.key_dim
    }

    /// Numbers in a head's square of scores.
    fn square(&self) -> usize {
        self.tokens * self.tokens
    }

    /// Room that the passes need beside their arguments.
    pub fn scratch(&self) -> usize {
        2 * self.square()
    }

    /// Query (0), key (1) or value (2) of a head in `[token, (q, k, v), head, key]`.
    fn view<'a>(&self, qkv: &'a [f32], which: usize, head: usize) -> Matrix<'a> {
        let inner = self.inner();
        let first = which * inner + head * self.key_dim;
        Matrix::strided(&qkv[first..], self.tokens, self.key_dim, 3 * inner)
    }

    fn view_mut<'a>(&self, qkv: &'a mut [f32], which: usize, head: usize) -> MatrixMut<'a> {
        let inner = self.inner();
        let first = which * inner + head * self.key_dim;
        MatrixMut::strided(&mut qkv[first..], self.tokens, self.key_dim, 3 * inner)
    }

    /// One image: `qkv` is `[token, (q, k, v), head, key]`, `scale` what each head's scores are
    /// multiplied by, `position` `[head, offset]`; `probabilities` `[head, token, token]` (before
    /// dropout) and `out` `[token, head, key]` are written. `key` names the dropout mask, over the
    /// elements of `probabilities`; without it nothing is dropped.
    #[expect(clippy::too_many_arguments, reason = "what comes in and what goes out")]
    pub fn forward(
        &self,
        qkv: &[f32],
        scale: &[f32],
        position: Option<&[f32]>,
        probabilities: &mut [f32],
        out: &mut [f32],
        key: Option<u64>,
        scratch: &mut [f32],
    ) {
        let (square, inner) = (self.square(), self.inner());
        let (dropped, _) = scratch.split_at_mut(square);
        let heads = probabilities.chunks_exact_mut(square);
        for (head, probabilities) in heads.enumerate() {
            let [q, k, v] = [0, 1, 2].map(|which| self.view(qkv, which, head));
            let (k_t, v) = (self.precision.operand(k.t()), self.precision.operand(v));
            MatrixMut::new(probabilities, self.tokens, self.tokens).set(scale[head], q, &k_t);
            self.add_position(position, head, probabilities, 0);
            let probabilities = self.softmax(probabilities, head, key, dropped);
            let probabilities = Matrix::new(probabilities, self.tokens, self.tokens);
            let out = &mut out[head * self.key_dim..];
            MatrixMut::strided(out, self.tokens, self.key_dim, inner).set(1.0, probabilities, &v);
        }
    }

    /// What the tokens from number `first` on gather, without dropout: `out`, `[token, head, key]`,
    /// is theirs, `qkv` the whole image's. `scratch` has room for a head's scores of them.
    pub fn infer(
        &self,
        qkv: &[f32],
        scale: &[f32],
        position: Option<&[f32]>,
        first: usize,
        out: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (inner, all) = (self.inner(), self.tokens);
        let tokens = out.len() / inner;
        let scores = &mut scratch[..tokens * all];
        for head in 0..self.heads {
            let [q, k, v] = [0, 1, 2].map(|which| self.view(qkv, which, head));
            let (k_t, v) = (self.precision.operand(k.t()), self.precision.operand(v));
            let q = q.from_row(first, tokens);
            MatrixMut::new(scores, tokens, all).set(scale[head], q, &k_t);
            self.add_position(position, head, scores, first);
            softmax(scores, all, self.mask_diagonal.then_some(first));
            let probabilities = Matrix::new(scores, tokens, all);
            let out = &mut out[head * self.key_dim..];
            MatrixMut::strided(out, tokens, self.key_dim, inner).set(1.0, probabilities, &v);
        }
    }

    /// Adds a head's biases by relative position to its scores from token number `first` on.
    fn add_position(&self, table: Option<&[f32]>, head: usize, scores: &mut [f32], first: usize) {
        if let (Some(position), Some(table)) = (self.position, table) {
            let table = &table[head * position.offsets()..][..position.offsets()];
            position.add(table, scores, self.tokens, first);
        }
    }

    /// Scores → probabilities; returns them after dropout, which needs `dropped` for room.
    fn softmax<'a>(
        &self,
        scores: &'a mut [f32],
        head: usize,
        key: Option<u64>,
        dropped: &'a mut [f32],
    ) -> &'a [f32] {
        softmax(scores, self.tokens, self.mask_diagonal.then_some(0));
        self.drop(scores, head, key, dropped)
    }

    /// A head's probabilities after dropout.
    fn drop<'a>(
        &self,
        probabilities: &'a [f32],
        head: usize,
        key: Option<u64>,
        dropped: &'a mut [f32],
    ) -> &'a [f32] {
        let Some(key) = key.filter(|_| !self.dropout.is_zero()) else {
            return probabilities;
        };
        self.dropout
            .apply(key, head * self.square(), probabilities, dropped);
        dropped
    }

    /// One image, back: `d_out` is `[token, head, key]`; `d_qkv` is written, and the gradients of
    /// `scale` and `position` are added to `d_scale` and `d_position`. The other arguments are the forward pass's.
    #[expect(clippy::too_many_arguments, reason = "what came in and what goes back")]
    pub fn backward(
        &self,
        qkv: &[f32],
        scale: &[f32],
        probabilities: &[f32],
        d_out: &[f32],
        d_qkv: &mut [f32],
        d_scale: &mut [f32],
        mut d_position: Option<&mut [f32]>,
        key: Option<u64>,
        scratch: &mut [f32],
    ) {
        let (tokens, square, inner) = (self.tokens, self.square(), self.inner());
        let (dropped, scratch) = scratch.split_at_mut(square);
        let d_scores = &mut scratch[..square];
        for (head, probabilities) in probabilities.chunks_exact(square).enumerate() {
            let [q, k, v] = [0, 1, 2].map(|which| self.view(qkv, which, head));
            let d_out = &d_out[head * self.key_dim..];
            let d_out = Matrix::strided(d_out, tokens, self.key_dim, inner);
            let dropped = self.drop(probabilities, head, key, dropped);
            let dropped_matrix = Matrix::new(dropped, tokens, tokens);
            let operand = |matrix| self.precision.operand(matrix);
            self.view_mut(d_qkv, 2, head)
                .set(1.0, dropped_matrix.t(), &operand(d_out));
            MatrixMut::new(d_scores, tokens, tokens).set(1.0, d_out, &operand(v.t()));
            softmax_backward(probabilities, dropped, d_scores, tokens);
            if let (Some(position), Some(table)) = (self.position, &mut d_position) {
                let table = &mut table[head * position.offsets()..][..position.offsets()];
                position.add_back(d_scores, tokens, table);
            }
            let d_scores = Matrix::new(d_scores, tokens, tokens);
            self.view_mut(d_qkv, 0, head)
                .set(scale[head], d_scores, &operand(k));
            self.view_mut(d_qkv, 1, head)
                .set(scale[head], d_scores.t(), &operand(q));
            // Σ d(scores) ∘ q · kᵀ = Σ q ∘ (d(scores) · k), and the latter is dq / scale. (A factor of
            // exactly 0, which no draw or step of training meets, stays as it is.)
            let first = head * self.key_dim;
            let mut along = [0.0];
            dot_strided(
                &qkv[first..],
                &d_qkv[first..],
                self.key_dim,
                3 * inner,
                &mut along,
            );
            let [along] = along;
            if scale[head] != 0.0 {
                d_scale[head] += along / scale[head];
            }
        }
    }
}

dispatched! {
    /// Rows of scores → rows of probabilities. With `masked`, the first row's token, no token
    /// attends to itself.
    fn softmax(scores: &mut [f32], tokens: usize, masked: Option<usize>) {
        for (number, row) in scores.chunks_exact_mut(tokens).enumerate() {
            if let Some(first) = masked {
                row[first + number] = f32::NEG_INFINITY;
            }
            let most = max(row);
            let scale = 1.0 / replace_and_sum(row, |score| exp(score - most));
            for score in row.iter_mut() {
                *score *= scale;
            }
        }
    }
}

dispatched! {
    /// Gradients of the probabilities after dropout → gradients of the scores, in place:
    /// p ∘ (dp − Σ p ∘ dp) a row, where p ∘ dp = dropped ∘ d(dropped).
    fn softmax_backward(probabilities: &[f32], dropped: &[f32], d: &mut [f32], tokens: usize) {
        let rows = probabilities.chunks_exact(tokens).zip(dropped.chunks_exact(tokens));
        for ((p, dropped), d) in rows.zip(d.chunks_exact_mut(tokens)) {
            let along = dot(dropped, d);
            for ((d, p), dropped) in d.iter_mut().zip(p).zip(dropped) {
                *d = dropped.mul_add(*d, -(p * along));
            }
        }
    }
}

dispatched! {
    /// Sum of the products of two matrices' elements, of rows `stride` apart.
    fn dot_strided(a: &[f32], b: &[f32], width: usize, stride: usize, total: &mut [f32; 1]) {
        for (a, b) in a.chunks(stride).zip(b.chunks(stride)) {
            total[0] += dot(&a[..width], &b[..width]);
        }
    }
}
