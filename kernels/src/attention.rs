//! The heart of attention: softmax(scale · q · kᵀ) · v in each head, between the projections.

use crate::dropout::Rate;
use crate::math::{dot, exp_negative, max, replace_and_sum};
use crate::matrix::{Matrix, MatrixMut, Operand, Precision};
#[cfg(target_arch = "x86_64")]
use crate::simd::avx512;
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

    /// Adds to a head's table what comes back from rows of its scores, those from token number `first` on.
    fn add_back(&self, d_scores: &[f32], tokens: usize, first: usize, d_table: &mut [f32]) {
        for (number, row) in d_scores.chunks_exact(tokens).enumerate() {
            let Some(query) = (first + number).checked_sub(self.before) else {
                continue;
            };
            self.runs(query, |keys, place| {
                let biases = d_table[..=place].iter_mut().rev();
                for (bias, score) in biases.zip(&row[keys]) {
                    *bias += score;
                }
            });
        }
    }
}

/// What is added to the scores of tokens that lie in different regions of a window: low enough that next to
/// nothing is left of their probability, where there is another token to attend to.
pub const APART: f32 = -100.0;

/// What is added to a head's scores before the softmax.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bias<'a> {
    /// The head's `[offset]`, by relative position.
    pub position: Option<&'a [f32]>,
    /// The region of each token: between two of different ones, [`APART`] is added.
    pub regions: Option<&'a [u8]>,
}

/// Adds [`APART`] to rows of scores, those from token number `first` on, where regions differ.
fn keep_apart(regions: &[u8], scores: &mut [f32], first: usize) {
    let rows = scores.chunks_exact_mut(regions.len());
    for (row, own) in rows.zip(&regions[first..]) {
        for (score, region) in row.iter_mut().zip(regions) {
            if region != own {
                *score += APART;
            }
        }
    }
}

/// Rows of scores that go through softmax, dropout and the products together: few enough to stay in the
/// cache nearest to the core, enough that keys' and values' gradients, which are read and written for
/// each block, do not weigh, and whole tiles for AMX.
const ROWS: usize = 48;

/// What an attention does.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Tokens that attend to each other: an image's, or a window's.
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
        3 * ROWS.min(self.tokens) * self.tokens
    }

    /// Queries (0), keys (1) or values (2) of a head's `[token, (q, k, v), key]`.
    fn part<'a>(&self, qkv: Matrix<'a>, which: usize) -> Matrix<'a> {
        qkv.from_column(which * self.key_dim, self.key_dim)
    }

    /// A head of one image: `qkv` is its `[token, (q, k, v), key]`, `scale` what its scores are
    /// multiplied by, `bias` what is added to them; `out`, `[token, key]` in rows `stride` apart, is
    /// written, and `probabilities`, `[token, token]` before dropout, where they are to be kept.
    /// `key` names the dropout mask, over the probabilities of all heads (where there are windows, of all
    /// heads of one after the other, and `head` is counted through them); without it nothing is dropped.
    #[expect(clippy::too_many_arguments, reason = "what comes in and what goes out")]
    pub fn forward(
        &self,
        head: usize,
        qkv: Matrix,
        scale: f32,
        bias: Bias,
        mut probabilities: Option<&mut [f32]>,
        out: &mut [f32],
        stride: usize,
        key: Option<u64>,
        scratch: &mut [f32],
    ) {
        let all = self.tokens;
        let (block, room) = scratch.split_at_mut(ROWS.min(all) * all);
        let [q, k, v] = [0, 1, 2].map(|which| self.part(qkv, which));
        let (k_t, v) = (self.precision.operand(k.t()), self.precision.operand(v));
        for first in (0..all).step_by(ROWS) {
            let rows = ROWS.min(all - first);
            let scores = match &mut probabilities {
                Some(kept) => &mut kept[first * all..],
                None => &mut block[..],
            };
            let scores = &mut scores[..rows * all];
            self.probabilities(scale, bias, first, q, &k_t, scores);
            let dropped = self.drop(scores, head, first, key, room);
            let out = &mut out[first * stride..];
            let out = MatrixMut::strided(out, rows, self.key_dim, stride);
            out.set(1.0, Matrix::new(dropped, rows, all), &v);
        }
    }

    /// Probabilities of the tokens from number `first` on, as many as there is room for.
    fn probabilities(
        &self,
        scale: f32,
        bias: Bias,
        first: usize,
        q: Matrix,
        k_t: &Operand,
        scores: &mut [f32],
    ) {
        let all = self.tokens;
        let rows = scores.len() / all;
        MatrixMut::new(scores, rows, all).set(scale, q.from_row(first, rows), k_t);
        if let (Some(position), Some(table)) = (self.position, bias.position) {
            position.add(table, scores, all, first);
        }
        if let Some(regions) = bias.regions {
            keep_apart(regions, scores, first);
        }
        softmax(scores, all, self.mask_diagonal.then_some(first));
    }

    /// What the tokens from number `first` on gather in a head, as many as `rows`, without dropout:
    /// `out`, `[token, key]` in rows `stride` apart, is theirs, `qkv` the whole image's.
    /// `scratch` has room for a block of scores.
    #[expect(clippy::too_many_arguments, reason = "what comes in and what goes out")]
    pub fn infer(
        &self,
        qkv: Matrix,
        scale: f32,
        bias: Bias,
        first: usize,
        rows: usize,
        out: &mut [f32],
        stride: usize,
        scratch: &mut [f32],
    ) {
        let all = self.tokens;
        let [q, k, v] = [0, 1, 2].map(|which| self.part(qkv, which));
        let (k_t, v) = (self.precision.operand(k.t()), self.precision.operand(v));
        for done in (0..rows).step_by(ROWS) {
            let rows = ROWS.min(rows - done);
            let scores = &mut scratch[..rows * all];
            self.probabilities(scale, bias, first + done, q, &k_t, scores);
            let out = &mut out[done * stride..];
            let out = MatrixMut::strided(out, rows, self.key_dim, stride);
            out.set(1.0, Matrix::new(scores, rows, all), &v);
        }
    }

    /// A head's probabilities, those from token number `first` on, after dropout, which needs room for
    /// them.
    fn drop<'a>(
        &self,
        probabilities: &'a [f32],
        head: usize,
        first: usize,
        key: Option<u64>,
        room: &'a mut [f32],
    ) -> &'a [f32] {
        let Some(key) = key.filter(|_| !self.dropout.is_zero()) else {
            return probabilities;
        };
        let dropped = &mut room[..probabilities.len()];
        let element = head * self.square() + first * self.tokens;
        self.dropout.apply(key, element, probabilities, dropped);
        dropped
    }

    /// A head of one image, back: `d_out` is `[token, key]`; `d_qkv`, `[token, (q, k, v), key]`, is
    /// written, and the gradient of the biases by relative position is added to `d_position`. Returns that of
    /// `scale`. The other arguments are the forward pass's. Where probabilities were not kept, they are
    /// made again, a block at a time.
    #[expect(clippy::too_many_arguments, reason = "what came in and what goes back")]
    pub fn backward(
        &self,
        head: usize,
        qkv: Matrix,
        scale: f32,
        bias: Bias,
        probabilities: Option<&[f32]>,
        d_out: Matrix,
        d_qkv: &mut [f32],
        mut d_position: Option<&mut [f32]>,
        key: Option<u64>,
        scratch: &mut [f32],
    ) -> f32 {
        let (tokens, width) = (self.tokens, self.key_dim);
        let block = ROWS.min(tokens) * tokens;
        let (again, scratch) = scratch.split_at_mut(block);
        let (room, scratch) = scratch.split_at_mut(block);
        let d_scores = &mut scratch[..block];
        let [q, k, v] = [0, 1, 2].map(|which| self.part(qkv, which));
        let operand = |matrix| self.precision.operand(matrix);
        let k_t = probabilities.is_none().then(|| operand(k.t()));
        let (k, v_t) = (operand(k), operand(v.t()));
        for first in (0..tokens).step_by(ROWS) {
            let rows = ROWS.min(tokens - first);
            let probabilities = match (probabilities, &k_t) {
                (None, Some(k_t)) => {
                    let again = &mut again[..rows * tokens];
                    self.probabilities(scale, bias, first, q, k_t, again);
                    &*again
                }
                (kept, _) => {
                    let kept = kept.expect("they are kept, or keys were packed");
                    &kept[first * tokens..][..rows * tokens]
                }
            };
            let d_scores = &mut d_scores[..rows * tokens];
            let (q, d_out) = (q.from_row(first, rows), d_out.from_row(first, rows));
            let dropped = self.drop(probabilities, head, first, key, room);
            MatrixMut::new(d_scores, rows, tokens).set(1.0, d_out, &v_t);
            softmax_backward(probabilities, dropped, d_scores, tokens);
            if let (Some(position), Some(table)) = (self.position, &mut d_position) {
                position.add_back(d_scores, tokens, first, table);
            }
            let dropped = Matrix::new(dropped, rows, tokens);
            let d_scores = Matrix::new(d_scores, rows, tokens);
            let (d_k, d_v) = (1, 2);
            for (which, left, scale, right) in [
                (d_v, dropped, 1.0, self.precision.once(d_out)),
                (d_k, d_scores, scale, self.precision.once(q)),
            ] {
                let to = &mut d_qkv[which * width..];
                let to = MatrixMut::strided(to, tokens, width, 3 * width);
                match first {
                    0 => to.set(scale, left.t(), &right),
                    _ => to.add(scale, left.t(), &right),
                }
            }
            let to = &mut d_qkv[first * 3 * width..];
            MatrixMut::strided(to, rows, width, 3 * width).set(scale, d_scores, &k);
        }
        // Σ d(scores) ∘ q · kᵀ = Σ q ∘ (d(scores) · k), and the latter is dq / scale. (A factor of
        // exactly 0, which no draw or step of training meets, stays as it is.)
        let mut along = [0.0];
        let d_q = Matrix::strided(d_qkv, tokens, width, 3 * width);
        dot_rows(q, d_q, &mut along);
        if scale == 0.0 { 0.0 } else { along[0] / scale }
    }
}

/// Rows of scores → rows of probabilities. With `masked`, the first row's token, no token attends to
/// itself.
pub(crate) fn softmax(scores: &mut [f32], tokens: usize, masked: Option<usize>) {
    #[cfg(target_arch = "x86_64")]
    if avx512::available() {
        // SAFETY: the processor has just been found to have what the function is compiled for.
        return unsafe { vectors::softmax(scores, tokens, masked) };
    }
    softmax_by_loops(scores, tokens, masked);
}

dispatched! {
    fn softmax_by_loops(scores: &mut [f32], tokens: usize, masked: Option<usize>) {
        for (number, row) in scores.chunks_exact_mut(tokens).enumerate() {
            if let Some(first) = masked {
                row[first + number] = f32::NEG_INFINITY;
            }
            let most = max(row);
            let scale = 1.0 / replace_and_sum(row, |score| exp_negative(score - most));
            for score in row.iter_mut() {
                *score *= scale;
            }
        }
    }
}

/// The loops above for AVX-512, which a compiler makes half as fast.
#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::*;
    use std::f32::consts::LOG2_E;

    use crate::math::{LN2_HIGH, LN2_LOW, ROUND, SERIES, SMALLEST};
    use crate::simd::avx512::{lanes, load, load_some, store, store_some, sum};

    /// Rows that go through each of the three passes before the next: what one row waits for (its
    /// maximum, its sum) is so done beside the others'.
    const TOGETHER: usize = 16;

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub fn softmax(scores: &mut [f32], tokens: usize, masked: Option<usize>) {
        let nothing = _mm512_set1_ps(f32::NEG_INFINITY);
        for (block, scores) in scores.chunks_mut(TOGETHER * tokens).enumerate() {
            if let Some(first) = masked {
                let first = first + block * TOGETHER;
                for (number, row) in scores.chunks_exact_mut(tokens).enumerate() {
                    row[first + number] = f32::NEG_INFINITY;
                }
            }
            let mut of_rows = [0.0f32; TOGETHER];
            for (row, of_row) in scores.chunks_exact(tokens).zip(&mut of_rows) {
                let (chunks, rest) = row.as_chunks::<16>();
                let mut most = load_some(rest, nothing);
                for chunk in chunks {
                    // Where either is no number, the second: the row is none then, whichever it is.
                    most = _mm512_max_ps(load(chunk), most);
                }
                *of_row = _mm512_reduce_max_ps(most);
            }
            for (row, of_row) in scores.chunks_exact_mut(tokens).zip(&mut of_rows) {
                let most = _mm512_set1_ps(*of_row);
                let (chunks, rest) = row.as_chunks_mut::<16>();
                let mut sums = _mm512_setzero_ps();
                for chunk in chunks {
                    let value = exp_negative(_mm512_sub_ps(load(chunk), most));
                    sums = _mm512_add_ps(sums, value);
                    store(chunk, value);
                }
                if !rest.is_empty() {
                    let value = exp_negative(_mm512_sub_ps(load_some(rest, nothing), most));
                    sums = _mm512_mask_add_ps(sums, lanes(rest), sums, value);
                    store_some(rest, value);
                }
                *of_row = 1.0 / sum(sums);
            }
            for (row, of_row) in scores.chunks_exact_mut(tokens).zip(of_rows) {
                let scale = _mm512_set1_ps(of_row);
                let (chunks, rest) = row.as_chunks_mut::<16>();
                for chunk in chunks {
                    store(chunk, _mm512_mul_ps(load(chunk), scale));
                }
                let value = _mm512_mul_ps(load_some(rest, nothing), scale);
                store_some(rest, value);
            }
        }
    }

    /// `math::exp_negative` of sixteen numbers.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn exp_negative(x: __m512) -> __m512 {
        let [smallest, round] = [SMALLEST, ROUND].map(|x| _mm512_set1_ps(x));
        // The second where x is no number.
        let clamped = _mm512_max_ps(smallest, x);
        let shifted = _mm512_fmadd_ps(clamped, _mm512_set1_ps(LOG2_E), round);
        let n = _mm512_sub_ps(shifted, round);
        let r = _mm512_fmadd_ps(n, _mm512_set1_ps(-LN2_HIGH), clamped);
        let r = _mm512_fmadd_ps(n, _mm512_set1_ps(-LN2_LOW), r);
        let mut p = _mm512_set1_ps(SERIES[0]);
        for term in &SERIES[1..] {
            p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(*term));
        }
        let one = _mm512_set1_ps(1.0);
        p = _mm512_fmadd_ps(p, r, one);
        p = _mm512_fmadd_ps(p, r, one);
        let power = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
        let power = _mm512_add_epi32(power, _mm512_castps_si512(one));
        let value = _mm512_mul_ps(p, _mm512_castsi512_ps(power));
        // Also kept where x is no number.
        let kept = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, smallest);
        _mm512_maskz_mov_ps(kept, value)
    }
}

dispatched! {
    /// Gradients of the probabilities after dropout → gradients of the scores, in place:
    /// p ∘ (dp − Σ p ∘ dp) a row, where p ∘ dp = dropped ∘ d(dropped).
    pub(crate) fn softmax_backward(probabilities: &[f32], dropped: &[f32], d: &mut [f32], tokens: usize) {
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
    /// Sum of the products of two matrices' elements.
    fn dot_rows(a: Matrix, b: Matrix, total: &mut [f32; 1]) {
        for row in 0..a.rows {
            total[0] += dot(a.row(row), b.row(row));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_has_the_same_bits_by_vectors_and_by_loops() {
        for tokens in [1, 2, 5, 15, 16, 17, 31, 64, 65, 144, 197] {
            let rows = 37.min(tokens);
            let score = |i: usize| ((i * 7919) % 1009) as f32 / 7.0 - 60.0;
            let scores: Vec<f32> = (0..rows * tokens).map(score).collect();
            for masked in [None, (tokens > 1).then_some(tokens - rows)] {
                let (mut found, mut expected) = (scores.clone(), scores.clone());
                softmax(&mut found, tokens, masked);
                softmax_by_loops(&mut expected, tokens, masked);
                let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&found), bits(&expected), "{tokens} {masked:?}");
                for row in found.chunks(tokens) {
                    assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                }
            }
        }
        // One that is no number leaves no probability.
        for tokens in [3, 40] {
            for place in [0, tokens / 2, tokens - 1] {
                for bits in [0x7fc0_0000, 0xffff_ffff] {
                    let mut lost = vec![1.0; tokens];
                    lost[place] = f32::from_bits(bits);
                    softmax(&mut lost, tokens, None);
                    assert!(lost.iter().all(|p| p.is_nan()), "{lost:?}");
                }
            }
        }
    }
}
