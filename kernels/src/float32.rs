//! Products in float32.
//!
//! The right operand lies in panels of up to four of the widest vectors of columns. A few rows of the
//! left one meet a panel at a time, with all their sums in registers; its numbers are taken from where
//! they lie, one after another.
//!
//! Each result is one chain of fused multiply-adds from 0, in the order of the inner dimension; it is
//! then scaled, and added to something, in one more. So neither the sizes of tiles, nor how many rows a
//! product is divided into, nor the level of SIMD changes a bit of it.

use crate::matrix::{Matrix, Start};
use crate::room::{give_back, room};
use crate::turn::turn;

/// Numbers that a panel's width is a multiple of: the widest vector there is.
const LANES: usize = 16;
/// Vectors of so many numbers side by side in a panel, at most, for AVX-512: with as many sums for each of
/// six rows, and a number of the left operand, they take 29 of its 32 registers.
const MOST_VECTORS: usize = 4;

/// A right operand in panels, for many products: `[panel, row, column]`, 0 beyond the last column.
pub(crate) struct Panels {
    numbers: Vec<f32>,
    width: usize,
    pub rows: usize,
    pub columns: usize,
}

impl Panels {
    pub fn new(matrix: Matrix) -> Self {
        let width = panel_width(matrix.columns, Level::best());
        let length = matrix.columns.div_ceil(width) * matrix.rows * width;
        let mut numbers = room(length);
        if width == LANES && matrix.column_stride == 1 {
            pack_rows(matrix, &mut numbers[..length]);
        } else {
            for (panel, to) in panels(&mut numbers, matrix.rows * width, matrix.columns, width) {
                pack(matrix, panel, width, to);
            }
        }
        Self {
            numbers,
            width,
            rows: matrix.rows,
            columns: matrix.columns,
        }
    }

    /// `c`, rows `stride` apart, becomes start + scale · left · self.
    pub fn multiply(&self, left: Matrix, start: Start, scale: f32, c: &mut [f32], stride: usize) {
        self.multiply_by(Level::best(), left, start, scale, c, stride);
    }

    fn multiply_by(
        &self,
        level: Level,
        left: Matrix,
        start: Start,
        scale: f32,
        c: &mut [f32],
        stride: usize,
    ) {
        let Self {
            width,
            rows,
            columns,
            ..
        } = *self;
        if left.rows == 0 {
            return;
        }
        for first in (0..columns).step_by(width) {
            let panel = Panel {
                numbers: &self.numbers[first * rows..][..rows * width],
                stride: width,
                depth: rows,
                columns: width.min(columns - first),
            };
            let start = start.after(first);
            panel.multiply(level, left, start, scale, &mut c[first..], stride);
        }
    }
}

impl Drop for Panels {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.numbers));
    }
}

/// The same with a right operand that no other product needs: each panel is made when it is met.
pub(crate) fn multiply_once(
    left: Matrix,
    right: Matrix,
    start: Start,
    scale: f32,
    c: &mut [f32],
    stride: usize,
) {
    multiply_once_by(Level::best(), left, right, start, scale, c, stride);
}

fn multiply_once_by(
    level: Level,
    left: Matrix,
    right: Matrix,
    start: Start,
    scale: f32,
    c: &mut [f32],
    stride: usize,
) {
    /// Rows of the left operand for which it is not worth the while to copy the right one.
    const FEW: usize = 12;
    if left.rows == 0 {
        return;
    }
    let width = panel_width(right.columns, level);
    let mut numbers = room(right.rows * width);
    for first in (0..right.columns).step_by(width) {
        let columns = width.min(right.columns - first);
        let lies_well = right.column_stride == 1 && columns.is_multiple_of(LANES);
        let panel = if lies_well && left.rows <= FEW {
            Panel {
                numbers: &right.data[first.min(right.data.len())..],
                stride: right.row_stride,
                depth: right.rows,
                columns,
            }
        } else {
            let to = &mut numbers[..right.rows * width];
            pack(right, first, width, to);
            Panel {
                numbers: to,
                stride: width,
                depth: right.rows,
                columns,
            }
        };
        let start = start.after(first);
        panel.multiply(level, left, start, scale, &mut c[first..], stride);
    }
    give_back(numbers);
}

/// Columns of a panel: as many vectors as a level's tiles have side by side, and about as many in each
/// panel. (So what a tile reads of a panel lies without gaps: rows further apart, by a power of two,
/// would share few places of the nearest cache.)
fn panel_width(columns: usize, level: Level) -> usize {
    let most = match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => MOST_VECTORS,
        _ => 1,
    };
    let vectors = columns.div_ceil(LANES).max(1);
    LANES * vectors.div_ceil(vectors.div_ceil(most))
}

/// Each panel's first column, and the numbers of it.
fn panels(
    numbers: &mut [f32],
    length: usize,
    columns: usize,
    width: usize,
) -> impl Iterator<Item = (usize, &mut [f32])> {
    let first = (0..columns).step_by(width);
    // A panel without rows has no numbers.
    first.zip(numbers.chunks_mut(length.max(1)))
}

/// By what products are computed.
#[derive(Clone, Copy, Debug)]
enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Level {
    /// Those that this processor has, the fastest first.
    fn all() -> impl Iterator<Item = Self> {
        let all = [
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512, is_x86_feature_detected!("avx512f")),
            #[cfg(target_arch = "x86_64")]
            (
                Self::Avx2,
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            ),
            (Self::Portable, true),
        ];
        all.into_iter()
            .filter_map(|(level, has)| has.then_some(level))
    }

    fn best() -> Self {
        Self::all().next().unwrap_or(Self::Portable)
    }
}

/// Some columns of a right operand, rows `stride` apart. Behind the last one there is room, or another
/// number, up to a multiple of a vector.
#[derive(Clone, Copy)]
struct Panel<'a> {
    numbers: &'a [f32],
    stride: usize,
    depth: usize,
    columns: usize,
}

/// What a panel's product is made of, for the levels' functions, which do not look whether they fit.
struct Product<'a> {
    left: Matrix<'a>,
    panel: Panel<'a>,
    start: Start<'a>,
    scale: f32,
    c: &'a mut [f32],
    stride: usize,
}

impl Panel<'_> {
    fn multiply(
        self,
        level: Level,
        left: Matrix,
        start: Start,
        scale: f32,
        c: &mut [f32],
        stride: usize,
    ) {
        let Self {
            numbers,
            stride: apart,
            depth,
            columns,
        } = self;
        if left.rows == 0 || columns == 0 {
            return;
        }
        // What the functions below rely on, and a product of views that fit has anyway.
        assert_eq!(left.columns, depth);
        assert!((left.rows - 1) * stride + columns <= c.len());
        if let Some(last) = depth.checked_sub(1) {
            assert!(last * apart + columns.next_multiple_of(LANES) <= numbers.len());
            let last_left = (left.rows - 1) * left.row_stride + last * left.column_stride;
            assert!(last_left < left.data.len());
        }
        if let Start::Row(row) = start {
            assert!(columns <= row.len());
        }
        let product = Product {
            left,
            panel: self,
            start,
            scale,
            c,
            stride,
        };
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                assert!(is_x86_feature_detected!("avx512f"));
                // SAFETY: the processor has just been found to have it, and the product's parts fit.
                unsafe { avx512::multiply(product) }
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => {
                assert!(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"));
                // SAFETY: as above.
                unsafe { avx2::multiply(product) }
            }
            Level::Portable => portable::multiply(product),
        }
    }
}

/// Defines a level's `multiply` from its vectors: so many lanes, `$most` of them side by side, and for
/// each number of those how many rows.
#[cfg(target_arch = "x86_64")]
macro_rules! level {
    (
        $level:ident, $features:literal, $lanes:literal, $most:literal, $rows:expr,
        $zero:ident, $load:ident, $store:ident, $splat:ident, $fma:ident, $mul:ident,
        $some:ident, $load_some:ident, $store_some:ident
    ) => {
        mod $level {
            use std::arch::x86_64::*;

            use super::{Product, Start, ends::*};

            const LANES: usize = $lanes;

            /// # Safety
            /// The product's parts must fit, as `Panel::multiply` has it.
            #[target_feature(enable = $features)]
            pub unsafe fn multiply(mut product: Product) {
                let columns = product.panel.columns;
                for first in (0..columns).step_by($most * LANES) {
                    let count = columns - first;
                    // SAFETY: so many columns are there from the first one on.
                    unsafe {
                        match count.div_ceil(LANES) {
                            1 => strip::<1>(&mut product, first, count),
                            2 => strip::<2>(&mut product, first, count),
                            3 if $most > 2 => strip::<3>(&mut product, first, count),
                            _ => strip::<$most>(&mut product, first, count.min($most * LANES)),
                        }
                    }
                }
            }

            /// All rows of some vectors of columns.
            ///
            /// # Safety
            /// As of `multiply`; `count` columns from `first` on are the panel's.
            #[target_feature(enable = $features)]
            unsafe fn strip<const VECTORS: usize>(
                product: &mut Product,
                first: usize,
                count: usize,
            ) {
                let rows = product.left.rows;
                let across = product.left.column_stride != 1;
                let most: usize = const { $rows[VECTORS - 1] };
                let mut row = 0;
                while row < rows {
                    // SAFETY: so many rows are there.
                    unsafe {
                        macro_rules! tile {
                            ($count:literal) => {{
                                match across {
                                    true => {
                                        tile::<$count, VECTORS, true>(product, row, first, count)
                                    }
                                    false => {
                                        tile::<$count, VECTORS, false>(product, row, first, count)
                                    }
                                }
                                $count
                            }};
                        }
                        row += match rows - row {
                            8.. if most >= 8 => tile!(8),
                            6.. => tile!(6),
                            4.. => tile!(4),
                            2.. => tile!(2),
                            _ => tile!(1),
                        };
                    }
                }
            }

            /// So many rows of so many vectors of columns.
            ///
            /// # Safety
            /// As of `strip`; ROWS rows from `row` on are the left operand's.
            #[target_feature(enable = $features)]
            unsafe fn tile<const ROWS: usize, const VECTORS: usize, const ACROSS: bool>(
                product: &mut Product,
                row: usize,
                first: usize,
                count: usize,
            ) {
                let Product {
                    left,
                    panel,
                    start,
                    scale,
                    ..
                } = *product;
                let mut sums = [[$zero(); VECTORS]; ROWS];
                // SAFETY: everything that is read and written lies within the parts that were found to
                // fit: ROWS rows from `row` on, `count` columns from `first` on, and what fills up the
                // panel's last vector. (Where there is no depth, nothing is read, and the pointers lead nowhere.)
                unsafe {
                    let from = left.data.as_ptr().wrapping_add(row * left.row_stride);
                    let mut rows = [from; ROWS];
                    for (number, row) in rows.iter_mut().enumerate() {
                        *row = from.wrapping_add(number * left.row_stride);
                    }
                    let mut right = panel.numbers.as_ptr().wrapping_add(first);
                    let mut column = from;
                    for depth in 0..panel.depth {
                        let mut vectors = [$zero(); VECTORS];
                        for (number, vector) in vectors.iter_mut().enumerate() {
                            *vector = $load(right.add(number * LANES));
                        }
                        for (number, sums) in sums.iter_mut().enumerate() {
                            let factor = match ACROSS {
                                true => *column.add(number),
                                false => *rows[number].add(depth),
                            };
                            let factor = $splat(factor);
                            for (sum, vector) in sums.iter_mut().zip(vectors) {
                                *sum = $fma(factor, vector, *sum);
                            }
                        }
                        right = right.wrapping_add(panel.stride);
                        column = column.wrapping_add(left.column_stride);
                    }
                    let scale = $splat(scale);
                    for (number, sums) in sums.iter().enumerate() {
                        let at = (row + number) * product.stride + first;
                        let c = product.c.as_mut_ptr().add(at);
                        for (number, sum) in sums.iter().enumerate() {
                            let at = number * LANES;
                            let c = c.add(at);
                            if at + LANES <= count {
                                let value = match start {
                                    Start::Zero => $mul(scale, *sum),
                                    Start::Itself => $fma(scale, *sum, $load(c)),
                                    Start::Row(row) => {
                                        $fma(scale, *sum, $load(row.as_ptr().add(first + at)))
                                    }
                                };
                                $store(c, value);
                            } else {
                                let some = $some(count - at);
                                let value = match start {
                                    Start::Zero => $mul(scale, *sum),
                                    Start::Itself => $fma(scale, *sum, $load_some(some, c)),
                                    Start::Row(row) => {
                                        let row = row.as_ptr().add(first + at);
                                        $fma(scale, *sum, $load_some(some, row))
                                    }
                                };
                                $store_some(c, some, value);
                            }
                        }
                    }
                }
            }
        }
    };
}

/// Vectors of which only the first lanes count.
#[cfg(target_arch = "x86_64")]
mod ends {
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn some16(count: usize) -> __mmask16 {
        (1 << count) - 1
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    pub fn some8(count: usize) -> __m256i {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
    }

    /// # Safety
    /// The lanes that count must be there.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub unsafe fn load_some8(some: __m256i, from: *const f32) -> __m256 {
        // SAFETY: the caller's.
        unsafe { _mm256_maskload_ps(from, some) }
    }
}

#[cfg(target_arch = "x86_64")]
level!(
    avx512,
    "avx512f",
    16,
    4,
    [8, 8, 8, 6],
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_mul_ps,
    some16,
    _mm512_maskz_loadu_ps,
    _mm512_mask_storeu_ps
);

#[cfg(target_arch = "x86_64")]
level!(
    avx2,
    "avx2,fma",
    8,
    2,
    [8, 6, 6, 6],
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    _mm256_mul_ps,
    some8,
    load_some8,
    _mm256_maskstore_ps
);

/// The same by arrays, which a compiler may make vectors of.
mod portable {
    use super::{LANES, Product, Start};

    const ROWS: usize = 4;

    pub fn multiply(mut product: Product) {
        for first in (0..product.panel.columns).step_by(LANES) {
            let rows = product.left.rows;
            for row in (0..rows / ROWS * ROWS).step_by(ROWS) {
                tile::<ROWS>(&mut product, row, first);
            }
            for row in rows / ROWS * ROWS..rows {
                tile::<1>(&mut product, row, first);
            }
        }
    }

    fn tile<const R: usize>(product: &mut Product, row: usize, first: usize) {
        let Product {
            left,
            panel,
            start,
            scale,
            ..
        } = *product;
        let mut sums = [[0.0f32; LANES]; R];
        for depth in 0..panel.depth {
            let right = &panel.numbers[depth * panel.stride + first..][..LANES];
            for (number, sums) in sums.iter_mut().enumerate() {
                let at = (row + number) * left.row_stride + depth * left.column_stride;
                let factor = left.data[at];
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = factor.mul_add(*right, *sum);
                }
            }
        }
        let count = LANES.min(panel.columns - first);
        for (number, sums) in sums.iter().enumerate() {
            let c = &mut product.c[(row + number) * product.stride + first..][..count];
            for (column, (c, sum)) in c.iter_mut().zip(sums).enumerate() {
                *c = match start {
                    Start::Zero => scale * sum,
                    Start::Itself => scale.mul_add(*sum, *c),
                    Start::Row(row) => scale.mul_add(*sum, row[first + column]),
                };
            }
        }
    }
}

/// All panels' numbers, where each is one vector wide: row by row, so that they come from memory in the
/// order in which they lie.
fn pack_rows(matrix: Matrix, to: &mut [f32]) {
    let panel = matrix.rows * LANES;
    for row in 0..matrix.rows {
        let (vectors, rest) = matrix.row(row).as_chunks::<LANES>();
        let mut at = row * LANES;
        for vector in vectors {
            to[at..at + LANES].copy_from_slice(vector);
            at += panel;
        }
        if !rest.is_empty() {
            let (numbers, zeros) = to[at..at + LANES].split_at_mut(rest.len());
            numbers.copy_from_slice(rest);
            zeros.fill(0.0);
        }
    }
}

/// A panel's numbers: columns from `first` on, 0 beyond the last one.
fn pack(matrix: Matrix, first: usize, width: usize, to: &mut [f32]) {
    let Matrix {
        data,
        rows,
        columns,
        row_stride,
        column_stride,
    } = matrix;
    let columns = width.min(columns - first);
    if rows == 0 {
        return;
    }
    if column_stride == 1 {
        if columns == LANES && width == LANES {
            let rows = to.as_chunks_mut::<LANES>().0.iter_mut().take(rows);
            for (row, to) in rows.enumerate() {
                let from = &data[row * row_stride + first..];
                *to = *from
                    .first_chunk()
                    .expect("the matrix lies within its slice");
            }
            return;
        }
        for (row, to) in to.chunks_exact_mut(width).take(rows).enumerate() {
            let (numbers, rest) = to.split_at_mut(columns);
            numbers.copy_from_slice(&data[row * row_stride + first..][..columns]);
            rest.fill(0.0);
        }
        return;
    }
    let from = &data[first * column_stride..];
    turn(from, column_stride, columns, rows, to, width);
    if columns < width {
        for to in to.chunks_exact_mut(width).take(rows) {
            to[columns..].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dropout::bits;

    /// Numbers of many sizes, whose sums depend on their order.
    fn numbers(key: u64, count: usize) -> Vec<f32> {
        let number = |i| {
            let random = bits(key, i);
            let size = 2f32.powi((random % 12) as i32 - 6);
            size * ((random >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
        };
        (0..count as u64).map(number).collect()
    }

    /// A matrix, or the transpose of one, with gaps between its rows; NaN there would show in a result
    /// that takes them in.
    struct Gapped {
        values: Vec<f32>,
        rows: usize,
        columns: usize,
        turned: bool,
    }

    impl Gapped {
        fn new(key: u64, rows: usize, columns: usize, turned: bool) -> Self {
            let (lying, long) = if turned {
                (columns, rows)
            } else {
                (rows, columns)
            };
            let mut values = vec![f32::NAN; lying * (long + 3)];
            let numbers = numbers(key, lying * long);
            for row in 0..lying {
                values[row * (long + 3)..][..long].copy_from_slice(&numbers[row * long..][..long]);
            }
            Self {
                values,
                rows,
                columns,
                turned,
            }
        }

        fn view(&self) -> Matrix<'_> {
            let (rows, columns) = (self.rows, self.columns);
            match self.turned {
                true => Matrix::strided(&self.values, columns, rows, rows + 3).t(),
                false => Matrix::strided(&self.values, rows, columns, columns + 3),
            }
        }

        fn at(&self, row: usize, column: usize) -> f32 {
            match self.turned {
                true => self.values[column * (self.rows + 3) + row],
                false => self.values[row * (self.columns + 3) + column],
            }
        }
    }

    #[test]
    fn products_have_the_bits_of_their_definition_at_every_level() {
        // All remainders of tiles, vectors and panels; turned squares and what is left of them.
        let shapes = [
            (1, 1, 1),
            (2, 3, 5),
            (3, 2, 16),
            (5, 7, 17),
            (5, 7, 65),
            (0, 3, 130),
            (6, 64, 33),
            (7, 9, 48),
            (8, 8, 64),
            (13, 16, 65),
            (12, 20, 96),
            (25, 5, 130),
            (14, 33, 144),
            (0, 3, 4),
            (3, 3, 0),
            (9, 0, 5),
        ];
        for (key, (rows, depth, columns)) in shapes.into_iter().enumerate() {
            for layout in 0..4 {
                let a = Gapped::new(2 * key as u64, rows, depth, layout & 1 != 0);
                let b = Gapped::new(2 * key as u64 + 1, depth, columns, layout & 2 != 0);
                let (row, before) = (numbers(98, columns), numbers(99, rows * (columns + 1)));
                let panels = Panels::new(b.view());
                for start in [Start::Zero, Start::Itself, Start::Row(&row)] {
                    let mut expected = before.clone();
                    for r in 0..rows {
                        for c in 0..columns {
                            let chain = |sum: f32, k| a.at(r, k).mul_add(b.at(k, c), sum);
                            let sum = (0..depth).fold(0.0, chain);
                            let to = &mut expected[r * (columns + 1) + c];
                            *to = match start {
                                Start::Zero => 0.75 * sum,
                                Start::Itself => 0.75f32.mul_add(sum, *to),
                                Start::Row(row) => 0.75f32.mul_add(sum, row[c]),
                            };
                        }
                    }
                    let check = |found: Vec<f32>, how: &str| {
                        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                            assert_eq!(
                                found.to_bits(),
                                expected.to_bits(),
                                "{how} {rows}×{depth}×{columns} {layout} {i}: {found} {expected}"
                            );
                        }
                    };
                    for level in Level::all() {
                        let mut c = before.clone();
                        panels.multiply_by(level, a.view(), start, 0.75, &mut c, columns + 1);
                        check(c, &format!("{level:?}"));
                        let (a, b) = (a.view(), b.view());
                        let mut c = before.clone();
                        multiply_once_by(level, a, b, start, 0.75, &mut c, columns + 1);
                        check(c, &format!("{level:?}, once"));
                    }
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn panels_share_the_vectors_evenly() {
        for (columns, width) in [
            (1, 16),
            (16, 16),
            (17, 32),
            (64, 64),
            (65, 48),
            (144, 48),
            (768, 64),
        ] {
            assert_eq!(panel_width(columns, Level::Avx512), width, "{columns}");
            assert_eq!(panel_width(columns, Level::Avx2), LANES, "{columns}");
        }
    }
}
