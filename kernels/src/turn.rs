//! Transposes.

/// Side of the squares that are turned at once.
const SQUARE: usize = 8;

/// `to`, `[column, row]` in rows `width` apart, from `[row, column]` in rows `stride` apart: of numbers
/// of four bytes.
pub(crate) fn turn<T: Copy>(
    from: &[T],
    stride: usize,
    rows: usize,
    columns: usize,
    to: &mut [T],
    width: usize,
) {
    const { assert!(size_of::<T>() == 4) };
    #[cfg(target_arch = "x86_64")]
    let squares = is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    let squares = false;
    let (whole_rows, whole_columns) = match squares {
        true => (rows / SQUARE * SQUARE, columns / SQUARE * SQUARE),
        false => (0, 0),
    };
    #[cfg(target_arch = "x86_64")]
    if whole_rows > 0 && whole_columns > 0 {
        assert!((whole_rows - 1) * stride + whole_columns <= from.len());
        assert!((whole_columns - 1) * width + whole_rows <= to.len());
        // SAFETY: the processor was found to have AVX2, and all squares lie in both slices.
        unsafe { turned::squares(from, stride, whole_rows, whole_columns, to, width) };
    }
    // What is left: whole rows, or their ends.
    for row in 0..rows {
        let done = if row < whole_rows { whole_columns } else { 0 };
        for column in done..columns {
            to[column * width + row] = from[row * stride + column];
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod turned {
    use std::arch::x86_64::*;

    use super::SQUARE;

    /// # Safety
    /// Rows and columns are multiples of 8, and within both slices, whose elements are of four bytes.
    #[target_feature(enable = "avx2")]
    pub unsafe fn squares<T>(
        from: &[T],
        stride: usize,
        rows: usize,
        columns: usize,
        to: &mut [T],
        width: usize,
    ) {
        for row in (0..rows).step_by(SQUARE) {
            for column in (0..columns).step_by(SQUARE) {
                // SAFETY: the square lies in both.
                unsafe {
                    let from = from.as_ptr().add(row * stride + column);
                    let to = to.as_mut_ptr().add(column * width + row);
                    square(from.cast(), stride, to.cast(), width);
                    square(from.add(4).cast(), stride, to.add(4 * width).cast(), width);
                }
            }
        }
    }

    /// Eight rows of four numbers → four rows of eight.
    ///
    /// # Safety
    /// All of them must be there.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn square(from: *const f32, stride: usize, to: *mut f32, width: usize) {
        // SAFETY: the caller's.
        unsafe {
            let both = |row: usize| {
                let low = _mm256_castps128_ps256(_mm_loadu_ps(from.add(row * stride)));
                _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(from.add((row + 4) * stride)))
            };
            let (r0, r1, r2, r3) = (both(0), both(1), both(2), both(3));
            let (a, b) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpackhi_ps(r0, r1));
            let (c, d) = (_mm256_unpacklo_ps(r2, r3), _mm256_unpackhi_ps(r2, r3));
            _mm256_storeu_ps(to, _mm256_shuffle_ps::<0x44>(a, c));
            _mm256_storeu_ps(to.add(width), _mm256_shuffle_ps::<0xee>(a, c));
            _mm256_storeu_ps(to.add(2 * width), _mm256_shuffle_ps::<0x44>(b, d));
            _mm256_storeu_ps(to.add(3 * width), _mm256_shuffle_ps::<0xee>(b, d));
        }
    }
}
