//! Products of numbers rounded to bfloat16, summed in float32.
//!
//! A bfloat16 is the upper half of a float32, rounded to the nearest, ties to even; subnormal
//! numbers become 0. Neighbours along the inner dimension share a 32-bit word, the first in the
//! lower half, as the processor's instruction (VDPBF16PS) takes them: for each lane of a vector
//! it adds the product of the upper halves to a sum, then that of the lower halves. The product
//! of two bfloat16 is a float32, so each step rounds once. Software can do the same, slowly: the
//! results are the same, bit for bit, as long as no product or sum falls below 1.2e-38, where the
//! instruction has 0.

use crate::matrix::{Matrix, Start};
use crate::room::{give_back, room};
use crate::simd::dispatched;

/// Columns that the words of a right operand are grouped by: two of the widest vectors.
const PANEL: usize = 32;
/// Rows of the left operand that meet a panel at once: with the panel's two vectors sixteen sums,
/// which hide the instruction's latency and leave registers for what is loaded.
const TILE: usize = 8;
/// Words of the left operand that are packed at once, for them to stay in cache.
const LEFT_WORDS: usize = 1 << 15;

/// Who multiplies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Instruction,
    Software,
}

/// Whether the processor has the instruction.
pub(crate) fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    let found = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let found = false;
    found
}

/// A right operand: `[panel, pair, column]`, 0 beyond the last column and row.
pub(crate) struct Packed {
    words: Vec<u32>,
    unit: Unit,
    pub rows: usize,
    pub columns: usize,
}

impl Packed {
    pub fn new(matrix: Matrix, unit: Unit) -> Self {
        let length = matrix.columns.div_ceil(PANEL) * matrix.rows.div_ceil(2) * PANEL;
        let mut words = room(length);
        pack_right(matrix, &mut words[..length]);
        Self {
            words,
            unit,
            rows: matrix.rows,
            columns: matrix.columns,
        }
    }

    /// `c`, rows `stride` apart, becomes start + scale · left · self.
    pub fn multiply(&self, left: Matrix, start: Start, scale: f32, c: &mut [f32], stride: usize) {
        if left.rows == 0 || self.columns == 0 {
            return;
        }
        let pairs = self.rows.div_ceil(2);
        if pairs == 0 {
            for c in c.chunks_mut(stride).take(left.rows) {
                match start {
                    Start::Zero => c[..self.columns].fill(0.0),
                    Start::Itself => {}
                    Start::Row(row) => c[..self.columns].copy_from_slice(&row[..self.columns]),
                }
            }
            return;
        }
        let chunk = (LEFT_WORDS / pairs).max(1).next_multiple_of(TILE);
        let mut words = room(chunk.min(left.rows) * pairs);
        for first in (0..left.rows).step_by(chunk) {
            let rows = chunk.min(left.rows - first);
            let part = Matrix {
                data: &left.data[first * left.row_stride..],
                rows,
                ..left
            };
            let words = &mut words[..rows * pairs];
            pack_left(part, words);
            // As `pack_left` lays them out.
            let strides = if left.column_stride == 1 {
                Strides {
                    row: pairs,
                    pair: 1,
                }
            } else {
                Strides { row: 1, pair: rows }
            };
            let apart: Vec<[f32; 2]> = match self.unit {
                Unit::Instruction => vec![],
                Unit::Software => words.iter().copied().map(halves).collect(),
            };
            for panel in 0..self.columns.div_ceil(PANEL) {
                let right = &self.words[panel * pairs * PANEL..][..pairs * PANEL];
                let columns = PANEL.min(self.columns - panel * PANEL);
                for row in (0..rows).step_by(TILE) {
                    let count = TILE.min(rows - row);
                    let mut sums = [[0.0; PANEL]; TILE];
                    let sums = &mut sums[..count];
                    let at = row * strides.row;
                    match self.unit {
                        Unit::Instruction => {
                            instruction::multiply(&words[at..], strides, right, columns, sums);
                        }
                        Unit::Software => {
                            software::multiply(&apart[at..], strides, right, columns, sums);
                        }
                    }
                    let c = &mut c[(first + row) * stride + panel * PANEL..];
                    put(sums, columns, start.after(panel * PANEL), scale, c, stride);
                }
            }
        }
        give_back(words);
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.words));
    }
}

dispatched! {
    /// The result's numbers from their sums.
    fn put(
        sums: &[[f32; PANEL]],
        columns: usize,
        start: Start,
        scale: f32,
        c: &mut [f32],
        stride: usize,
    ) {
        for (sums, c) in sums.iter().zip(c.chunks_mut(stride)) {
            let c = c[..columns].iter_mut().zip(sums);
            match start {
                Start::Zero => c.for_each(|(c, sum)| *c = 0.0 + scale * sum),
                Start::Itself => c.for_each(|(c, sum)| *c += scale * sum),
                Start::Row(row) => c
                    .zip(row)
                    .for_each(|((c, sum), row)| *c = row + scale * sum),
            }
        }
    }
}

/// Where words of the left operand lie.
#[derive(Clone, Copy)]
struct Strides {
    row: usize,
    pair: usize,
}

/// The two numbers in a word.
#[inline(always)]
pub(crate) fn halves(word: u32) -> [f32; 2] {
    [word << 16, word & 0xffff_0000].map(f32::from_bits)
}

/// What the instruction does, one number at a time.
mod software {
    use super::{PANEL, Strides, halves};
    use crate::simd::dispatched;

    /// Rows that are taken together, and columns: as many sums as AVX2 has registers for.
    const ROWS: usize = 4;
    const COLUMNS: usize = PANEL / 2;

    /// Sums of the left operand's first rows, taken apart, as many as there are `sums`.
    pub fn multiply(
        left: &[[f32; 2]],
        strides: Strides,
        right: &[u32],
        columns: usize,
        sums: &mut [[f32; PANEL]],
    ) {
        for (number, sums) in sums.chunks_mut(ROWS).enumerate() {
            let left = &left[ROWS * number * strides.row..];
            match <&mut [_; ROWS]>::try_from(&mut *sums) {
                Ok(sums) => some_rows(left, strides, right, columns, sums),
                Err(_) => {
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let left = &left[row * strides.row..];
                        one_row(left, strides, right, columns, std::array::from_mut(sums));
                    }
                }
            }
        }
    }

    dispatched! {
        fn some_rows(
            left: &[[f32; 2]],
            strides: Strides,
            right: &[u32],
            columns: usize,
            sums: &mut [[f32; PANEL]; ROWS],
        ) {
            rows(left, strides, right, columns, sums);
        }
    }

    dispatched! {
        fn one_row(
            left: &[[f32; 2]],
            strides: Strides,
            right: &[u32],
            columns: usize,
            sums: &mut [[f32; PANEL]; 1],
        ) {
            rows(left, strides, right, columns, sums);
        }
    }

    #[inline(always)]
    fn rows<const N: usize>(
        left: &[[f32; 2]],
        strides: Strides,
        right: &[u32],
        columns: usize,
        sums: &mut [[f32; PANEL]; N],
    ) {
        let (panel, _) = right.as_chunks::<PANEL>();
        for half in 0..columns.div_ceil(COLUMNS) {
            let mut part = [[0.0f32; COLUMNS]; N];
            for (pair, words) in panel.iter().enumerate() {
                let mut low = [0.0f32; COLUMNS];
                let mut high = [0.0f32; COLUMNS];
                for lane in 0..COLUMNS {
                    [low[lane], high[lane]] = halves(words[half * COLUMNS + lane]);
                }
                for (row, part) in part.iter_mut().enumerate() {
                    let [left_low, left_high] = left[row * strides.row + pair * strides.pair];
                    for lane in 0..COLUMNS {
                        let sum = left_high.mul_add(high[lane], part[lane]);
                        part[lane] = left_low.mul_add(low[lane], sum);
                    }
                }
            }
            for (part, sums) in part.iter().zip(&mut *sums) {
                sums[half * COLUMNS..][..COLUMNS].copy_from_slice(part);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod instruction {
    use super::{PANEL, Strides};
    use std::arch::x86_64::*;

    /// Sums of the left operand's first rows, as many as there are `sums`.
    pub fn multiply(
        left: &[u32],
        strides: Strides,
        right: &[u32],
        columns: usize,
        mut sums: &mut [[f32; PANEL]],
    ) {
        assert!(super::available(), "the processor has the instruction");
        let wide = columns > PANEL / 2;
        let mut first = 0;
        while !sums.is_empty() {
            let left = &left[first * strides.row..];
            // SAFETY: the processor has just been found to have what `rows` is compiled for.
            let done = unsafe {
                match (sums.len(), wide) {
                    (8.., true) => rows::<8, 2>(left, strides, right, sums),
                    (8.., false) => rows::<8, 1>(left, strides, right, sums),
                    (4.., true) => rows::<4, 2>(left, strides, right, sums),
                    (4.., false) => rows::<4, 1>(left, strides, right, sums),
                    (2.., true) => rows::<2, 2>(left, strides, right, sums),
                    (2.., false) => rows::<2, 1>(left, strides, right, sums),
                    (_, true) => rows::<1, 2>(left, strides, right, sums),
                    (_, false) => rows::<1, 1>(left, strides, right, sums),
                }
            };
            first += done;
            sums = &mut sums[done..];
        }
    }

    /// Sums of some rows and of one or two vectors of columns; returns how many rows.
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn rows<const ROWS: usize, const VECTORS: usize>(
        left: &[u32],
        strides: Strides,
        right: &[u32],
        sums: &mut [[f32; PANEL]],
    ) -> usize {
        const { assert!(ROWS > 0 && VECTORS * 16 <= PANEL) };
        let (panel, _) = right.as_chunks::<PANEL>();
        if let Some(last) = panel.len().checked_sub(1) {
            assert!((ROWS - 1) * strides.row + last * strides.pair < left.len());
        }
        let bf16 = |words: __m512i| {
            // SAFETY: both types are 512 bits, any of which are valid.
            unsafe { std::mem::transmute::<__m512i, __m512bh>(words) }
        };
        let mut part = [[_mm512_setzero_ps(); VECTORS]; ROWS];
        for (pair, words) in panel.iter().enumerate() {
            let mut right = [_mm512_setzero_si512(); VECTORS];
            for (vector, right) in right.iter_mut().enumerate() {
                // SAFETY: `words` are PANEL, which is VECTORS · 16 or more.
                *right = unsafe { _mm512_loadu_si512(words.as_ptr().add(16 * vector).cast()) };
            }
            for (row, part) in part.iter_mut().enumerate() {
                let at = row * strides.row + pair * strides.pair;
                // SAFETY: the last of these was found to lie in the slice above.
                let word = unsafe { *left.get_unchecked(at) };
                let left = bf16(_mm512_set1_epi32(word as i32));
                for (part, right) in part.iter_mut().zip(right) {
                    *part = _mm512_dpbf16_ps(*part, left, bf16(right));
                }
            }
        }
        for (part, sums) in part.iter().zip(&mut sums[..ROWS]) {
            for (part, sums) in part.iter().zip(sums.as_chunks_mut::<16>().0) {
                // SAFETY: `sums` is a chunk of sixteen floats.
                unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), *part) };
            }
        }
        ROWS
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod instruction {
    use super::{PANEL, Strides};

    pub fn multiply(_: &[u32], _: Strides, _: &[u32], _: usize, _: &mut [[f32; PANEL]]) {
        unreachable!("`available` is asked before")
    }
}

/// The upper half of `x`, rounded, in its place; the lower half is 0.
#[inline(always)]
fn round(x: f32) -> u32 {
    const SIGN: u32 = 0x8000_0000;
    const EXPONENT: u32 = 0x7f80_0000;
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let quiet = bits | 0x0040_0000;
    let value = if bits & !SIGN > EXPONENT {
        quiet
    } else {
        rounded
    };
    let subnormal = bits & EXPONENT == 0;
    (if subnormal { bits & SIGN } else { value }) & 0xffff_0000
}

#[inline(always)]
pub(crate) fn pair(first: f32, second: f32) -> u32 {
    round(first) >> 16 | round(second)
}

dispatched! {
    /// `[row, pair]` where a row's elements are neighbours in the matrix, else `[pair, row]`.
    fn pack_left(matrix: Matrix, words: &mut [u32]) {
        let Matrix { data, rows, columns, row_stride, column_stride } = matrix;
        let pairs = columns.div_ceil(2);
        if pairs == 0 {
            return;
        }
        if column_stride == 1 {
            for (row, words) in words.chunks_exact_mut(pairs).enumerate() {
                pack_along(&data[row * row_stride..][..columns], words);
            }
        } else {
            for (number, words) in words.chunks_exact_mut(rows).enumerate() {
                let at = 2 * number * column_stride;
                let next = (2 * number + 1 < columns).then_some(column_stride);
                pack_across(&data[at..], next, words);
            }
        }
    }
}

/// Pairs that are turned at once.
const STEP: usize = 32;

dispatched! {
    /// `[panel, pair, column]`.
    fn pack_right(matrix: Matrix, words: &mut [u32]) {
        let Matrix { data, rows, columns, row_stride, column_stride } = matrix;
        let pairs = rows.div_ceil(2);
        if pairs == 0 {
            return;
        }
        for (panel, words) in words.chunks_exact_mut(pairs * PANEL).enumerate() {
            let first_column = panel * PANEL;
            let count = PANEL.min(columns - first_column);
            if count < PANEL {
                words.fill(0);
            }
            if column_stride == 1 {
                for (number, words) in words.chunks_exact_mut(PANEL).enumerate() {
                    let at = 2 * number * row_stride + first_column;
                    let next = (2 * number + 1 < rows).then_some(row_stride);
                    pack_across(&data[at..], next, &mut words[..count]);
                }
            } else {
                // Rounded along the columns, as they lie, then turned, some pairs at a time.
                let mut along = [[0; STEP]; PANEL];
                for (step, words) in words.chunks_mut(STEP * PANEL).enumerate() {
                    let at = 2 * STEP * step;
                    let length = (2 * STEP).min(rows - at);
                    for (column, along) in along[..count].iter_mut().enumerate() {
                        let from = (first_column + column) * column_stride + at;
                        pack_along(&data[from..][..length], &mut along[..length.div_ceil(2)]);
                    }
                    for (pair, words) in words.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
                        for (word, along) in words.iter_mut().zip(&along) {
                            *word = along[pair];
                        }
                    }
                }
            }
        }
    }
}

/// Neighbours in a row.
#[inline(always)]
fn pack_along(values: &[f32], words: &mut [u32]) {
    let (both, rest) = values.as_chunks::<2>();
    for ([first, second], word) in both.iter().zip(&mut *words) {
        *word = pair(*first, *second);
    }
    if let ([last], Some(word)) = (rest, words.last_mut()) {
        *word = pair(*last, 0.0);
    }
}

/// Neighbours in two rows, the second `next` further; or the last of an odd number of rows.
#[inline(always)]
fn pack_across(data: &[f32], next: Option<usize>, words: &mut [u32]) {
    let first = &data[..words.len()];
    if let Some(next) = next {
        let second = &data[next..][..words.len()];
        for ((first, second), word) in first.iter().zip(second).zip(words) {
            *word = pair(*first, *second);
        }
    } else {
        for (first, word) in first.iter().zip(words) {
            *word = pair(*first, 0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dropout::bits;
    use crate::matrix::{MatrixMut, Precision};

    /// bfloat16 by arithmetic in double precision.
    fn rounded(x: f32) -> f32 {
        if !x.is_normal() {
            return if x.is_finite() { x * 0.0 } else { x };
        }
        let x = f64::from(x);
        let step = 2f64.powi(x.abs().log2().floor() as i32 - 7);
        // From 2^128 on the cast is infinite, as it should be.
        ((x / step).round_ties_even() * step) as f32
    }

    #[test]
    fn rounding_is_to_nearest_ties_to_even() {
        let mut cases = vec![
            0.0,
            -0.0,
            1.0,
            1.0 + 1.0 / 256.0,
            1.0 + 3.0 / 256.0,
            -1.0 - 1.0 / 256.0,
            1.0 + 1.0 / 256.0 + f32::EPSILON,
            f32::MAX,
            f32::MIN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MIN_POSITIVE,
            f32::MIN_POSITIVE / 2.0,
            -1e-45,
            3.389e38,
            3.4e38,
        ];
        cases.extend((0..100_000).map(|i| f32::from_bits(bits(1, i) as u32)));
        for x in cases {
            let found = f32::from_bits(round(x));
            let expected = rounded(x);
            let same = found.to_bits() == expected.to_bits() || x.is_nan() && found.is_nan();
            assert!(same, "{x:e}: {found:e}, {expected:e}");
        }
    }

    /// Numbers of many sizes, whose sums depend on their order.
    fn numbers(key: u64, count: usize) -> Vec<f32> {
        let number = |i| {
            let random = bits(key, i);
            let size = 2f32.powi((random % 12) as i32 - 6);
            size * ((random >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
        };
        (0..count as u64).map(number).collect()
    }

    fn precisions() -> impl Iterator<Item = Precision> {
        let all = [Precision::Bf16Emulated, Precision::Bf16];
        all.into_iter().filter(|precision| precision.available())
    }

    #[test]
    fn products_have_the_bits_of_their_definition() {
        // All remainders of tiles, panels and pairs; more left words than are packed at once.
        let shapes = [
            (1, 1, 1),
            (2, 3, 5),
            (3, 2, 16),
            (5, 7, 17),
            (7, 64, 33),
            (8, 9, 32),
            (15, 16, 48),
            (9, 1, 70),
            (600, 130, 3),
            (0, 3, 4),
            (3, 3, 0),
            (9, 0, 5),
        ];
        for (key, (rows, depth, columns)) in shapes.into_iter().enumerate() {
            for layout in 0..4 {
                // Gaps between rows; NaN there would show in a result that reads them.
                let wide = |rows: usize, columns: usize, key| {
                    let mut values = vec![f32::NAN; rows * (columns + 3)];
                    let numbers = numbers(key, rows * columns);
                    for row in 0..rows {
                        values[row * (columns + 3)..][..columns]
                            .copy_from_slice(&numbers[row * columns..][..columns]);
                    }
                    values
                };
                let (a_t, b_t) = (layout & 1 != 0, layout & 2 != 0);
                let shape = |t, rows, columns| if t { (columns, rows) } else { (rows, columns) };
                let (a_shape, b_shape) = (shape(a_t, rows, depth), shape(b_t, depth, columns));
                let a = wide(a_shape.0, a_shape.1, 2 * key as u64);
                let b = wide(b_shape.0, b_shape.1, 2 * key as u64 + 1);
                let view = |values, (rows, columns), t| {
                    let view = Matrix::strided(values, rows, columns, columns + 3);
                    if t { view.t() } else { view }
                };
                let (a, b) = (view(&a, a_shape, a_t), view(&b, b_shape, b_t));
                let at = |m: Matrix, r: usize, c: usize| {
                    if r < m.rows && c < m.columns {
                        rounded(m.data[r * m.row_stride + c * m.column_stride])
                    } else {
                        0.0
                    }
                };
                let before = numbers(99, rows * columns);
                let expected = |r: usize, c: usize, keep: bool| {
                    let mut sum = 0.0f32;
                    for k in (0..depth).step_by(2) {
                        // Products of two bfloat16 are exact.
                        sum += at(a, r, k + 1) * at(b, k + 1, c);
                        sum += at(a, r, k) * at(b, k, c);
                    }
                    let before = if keep { before[r * columns + c] } else { 0.0 };
                    before + 0.75 * sum
                };
                for precision in precisions() {
                    let right = precision.operand(b);
                    let row = numbers(98, columns);
                    let mut c = before.clone();
                    let plain = MatrixMut::new(&mut c, rows, columns);
                    plain.set_with(Some(&row), a, &right);
                    for (i, found) in c.iter().enumerate() {
                        let sum = expected(i / columns, i % columns, false) / 0.75;
                        let error = (found - (row[i % columns] + sum)).abs();
                        assert!(error <= 1e-5 * found.abs().max(1.0), "{found} {sum}");
                    }
                    for keep in [false, true] {
                        let mut c = before.clone();
                        let to = MatrixMut::new(&mut c, rows, columns);
                        if keep {
                            to.add(0.75, a, &right);
                        } else {
                            to.set(0.75, a, &right);
                        }
                        for (i, found) in c.iter().enumerate() {
                            let expected = expected(i / columns, i % columns, keep);
                            assert_eq!(
                                found.to_bits(),
                                expected.to_bits(),
                                "{precision:?} {rows}×{depth}×{columns} {layout} {i}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        for precision in precisions() {
            let b = [1.0, 0.0, f32::INFINITY, f32::NAN];
            let right = precision.operand(Matrix::new(&b, 1, 4));
            let mut c = [0.0; 4];
            MatrixMut::new(&mut c, 1, 4).set(1.0, Matrix::new(&[2.0], 1, 1), &right);
            assert_eq!((c[0], c[1], c[2]), (2.0, 0.0, f32::INFINITY));
            assert!(c[3].is_nan());
        }
    }
}
