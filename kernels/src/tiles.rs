//! Products of numbers rounded to bfloat16 by AMX, a matrix unit that newer Xeons have.
//!
//! Its registers are tiles of 16 rows of 64 bytes: of sums, or of 16 pairs of bfloat16, neighbours along
//! the inner dimension. One instruction (TDPBF16PS) adds the product of two such tiles to one of sums:
//! each sum gets, of the 16 pairs, the products of their first numbers, added up one after another, plus
//! those of their second numbers, likewise. It rounds after each fused multiply-add and both additions,
//! and takes numbers below 1.2e-38 for 0. Software can do the same, slowly, bit for bit but for those.
//! (So the sums have another order than the vector instruction's, [`crate::bf16`].)
//!
//! Inner dimensions are filled up to whole tiles with 0. A product's scale is multiplied into the left
//! operand before that is rounded. What a product begins with (0, a row, or what is there) stands in the
//! tile of sums before the first instruction.

use std::sync::OnceLock;

use crate::matrix::{Matrix, Start};
use crate::room::{give_back, room};
use crate::turn::turn;

/// Rows of a tile, and words in each: pairs of bfloat16, or sums.
const SIDE: usize = 16;
/// Columns that the words of a right operand are grouped by: two tiles.
const PANEL: usize = 2 * SIDE;
/// Words of the left operand that are packed at once, for them to stay in cache.
const LEFT_WORDS: usize = 1 << 16;

/// Who multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Tiles,
    Software,
}

/// Whether the processor has the unit, and the system lets this process use it.
pub(crate) fn available() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(unit::enable)
}

/// A right operand: `[panel, pair, column]`, 0 beyond the last column and row.
pub(crate) struct Packed {
    words: Vec<u32>,
    unit: Unit,
    pub rows: usize,
    pub columns: usize,
}

impl Packed {
    /// Panics where the unit is not [available].
    pub fn new(matrix: Matrix, unit: Unit) -> Self {
        assert!(unit == Unit::Software || available());
        let (rows, columns) = (matrix.rows, matrix.columns);
        let length = columns.div_ceil(PANEL) * padded_pairs(rows) * PANEL;
        let mut words = room(length);
        pack_right(matrix, &mut words[..length]);
        Self {
            words,
            unit,
            rows,
            columns,
        }
    }

    /// `c`, rows `stride` apart, becomes start + (scale · left) · self.
    pub fn multiply(&self, left: Matrix, start: Start, scale: f32, c: &mut [f32], stride: usize) {
        if left.rows == 0 || self.columns == 0 {
            return;
        }
        assert_eq!(left.columns, self.rows);
        assert!((left.rows - 1) * stride + self.columns <= c.len());
        let pairs = padded_pairs(self.rows);
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
        let chunk = (LEFT_WORDS / pairs).max(1).next_multiple_of(2 * SIDE);
        let most = chunk.min(left.rows.next_multiple_of(SIDE)) * pairs;
        let mut words = room(most);
        for first in (0..left.rows).step_by(chunk) {
            let rows = chunk.min(left.rows - first);
            let part = Matrix {
                data: &left.data[first * left.row_stride..],
                rows,
                ..left
            };
            let words = &mut words[..rows.next_multiple_of(SIDE) * pairs];
            pack_left(part, scale, pairs, words);
            let c = &mut c[first * stride..];
            match self.unit {
                Unit::Tiles => unit::multiply(words, rows, self, pairs, start, c, stride),
                Unit::Software => software::multiply(words, rows, self, pairs, start, c, stride),
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

/// Pairs along an inner dimension, filled up to whole tiles.
fn padded_pairs(depth: usize) -> usize {
    depth.div_ceil(2).next_multiple_of(SIDE)
}

/// What the unit does, one number at a time.
mod software {
    use super::{PANEL, Packed, SIDE, Start};
    use crate::bf16::halves;

    pub fn multiply(
        left: &[u32],
        rows: usize,
        right: &Packed,
        pairs: usize,
        start: Start,
        c: &mut [f32],
        stride: usize,
    ) {
        for panel in 0..right.columns.div_ceil(PANEL) {
            let words = &right.words[panel * pairs * PANEL..][..pairs * PANEL];
            let columns = PANEL.min(right.columns - panel * PANEL);
            let start = start.after(panel * PANEL);
            for (row, left) in left.chunks_exact(pairs).take(rows).enumerate() {
                let c = &mut c[row * stride + panel * PANEL..][..columns];
                match start {
                    Start::Zero => c.fill(0.0),
                    Start::Itself => {}
                    Start::Row(row) => c.copy_from_slice(&row[..columns]),
                }
                let tiles = left.chunks_exact(SIDE);
                for (left, words) in tiles.zip(words.chunks_exact(SIDE * PANEL)) {
                    for (column, c) in c.iter_mut().enumerate() {
                        let mut sums = [0.0f32; 2];
                        for (pair, left) in left.iter().enumerate() {
                            let (a, b) = (halves(*left), halves(words[pair * PANEL + column]));
                            for half in 0..2 {
                                sums[half] = a[half].mul_add(b[half], sums[half]);
                            }
                        }
                        *c += sums[0] + sums[1];
                    }
                }
            }
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod unit {
    use std::arch::asm;
    use std::arch::x86_64::__cpuid_count;

    use super::{PANEL, Packed, SIDE, Start};

    /// Bytes of a tile's row.
    const ROW: usize = 64;

    /// Asks the system for the unit; says whether there is one.
    pub fn enable() -> bool {
        const BF16: u32 = 1 << 22;
        const TILES: u32 = 1 << 24;
        /// arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA)
        const ARCH_PRCTL: i64 = 158;
        const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
        const XTILE_DATA: i64 = 18;
        let vectors = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512bf16");
        let features = __cpuid_count(7, 0).edx;
        if !vectors || features & (BF16 | TILES) != BF16 | TILES {
            return false;
        }
        let answer: i64;
        // SAFETY: a system call that reads and writes no memory of this process; the kernel refuses it
        // where it knows no tiles. It overwrites two registers, which are named.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => answer,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XTILE_DATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        answer == 0
    }

    /// How the tiles are divided: all eight of 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    static CONFIGURATION: Configuration = Configuration {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [
            ROW as u16, ROW as u16, ROW as u16, ROW as u16, ROW as u16, ROW as u16, ROW as u16,
            ROW as u16, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    /// The tiles of this thread while they are divided. What else runs until then (copies of memory, at
    /// most) leaves them as they are; they hold nothing between two blocks.
    struct Tiles;

    impl Tiles {
        fn divide() -> Self {
            assert!(super::available());
            // SAFETY: the processor has tiles. What they are divided into is constant and valid.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack, readonly)) };
            Self
        }
    }

    impl Drop for Tiles {
        fn drop(&mut self) {
            // SAFETY: the tiles are not used any more.
            unsafe { asm!("tilerelease", options(nomem, nostack)) };
        }
    }

    /// What a block of one or two tiles of rows by one or two tiles of columns is made of. Distances are
    /// in bytes.
    #[derive(Clone, Copy)]
    struct Block {
        /// What the sums begin with, and how far its rows are apart: 0 where all are the same. Null
        /// where they begin with 0.
        start: *const f32,
        start_apart: usize,
        left: *const u32,
        left_apart: usize,
        right: *const u32,
        /// Tiles along the inner dimension.
        depth: usize,
        sums: *mut f32,
        sums_apart: usize,
    }

    pub fn multiply(
        left: &[u32],
        rows: usize,
        right: &Packed,
        pairs: usize,
        start: Start,
        c: &mut [f32],
        stride: usize,
    ) {
        let padded_rows = rows.next_multiple_of(SIDE);
        let panels = right.columns.div_ceil(PANEL);
        assert!(pairs.is_multiple_of(SIDE) && pairs > 0);
        assert!(left.len() >= padded_rows * pairs);
        assert!(right.words.len() >= panels * pairs * PANEL);
        assert!((rows - 1) * stride + right.columns <= c.len());
        // Where a block is not whole, its sums go through here.
        let mut apart = [[0.0f32; PANEL]; 2 * SIDE];
        let _tiles = Tiles::divide();
        for panel in 0..panels {
            let words = &right.words[panel * pairs * PANEL..][..pairs * PANEL];
            let columns = PANEL.min(right.columns - panel * PANEL);
            let start = start.after(panel * PANEL);
            let across = columns.div_ceil(SIDE);
            for row in (0..rows).step_by(2 * SIDE) {
                let count = (2 * SIDE).min(rows - row);
                let down = count.div_ceil(SIDE);
                let is_whole = count == down * SIDE && columns == across * SIDE;
                let at = row * stride + panel * PANEL;
                let c = &mut c[at..][..(count - 1) * stride + columns];
                let left = &left[row * pairs..][..down * SIDE * pairs];
                let mut block = Block {
                    start: std::ptr::null(),
                    start_apart: 0,
                    left: left.as_ptr(),
                    left_apart: 4 * pairs,
                    right: words.as_ptr(),
                    depth: pairs / SIDE,
                    sums: c.as_mut_ptr(),
                    sums_apart: 4 * stride,
                };
                let mut row_apart = [0.0; PANEL];
                if !is_whole {
                    if let Start::Itself = start {
                        for (apart, c) in apart.iter_mut().zip(c.chunks(stride)) {
                            apart[..columns].copy_from_slice(&c[..columns]);
                        }
                    }
                    (block.sums, block.sums_apart) = (apart.as_mut_ptr().cast(), 4 * PANEL);
                }
                match start {
                    Start::Zero => {}
                    Start::Itself => {
                        (block.start, block.start_apart) = (block.sums, block.sums_apart);
                    }
                    Start::Row(row) if is_whole => block.start = row[..columns].as_ptr(),
                    Start::Row(row) => {
                        row_apart[..columns].copy_from_slice(&row[..columns]);
                        block.start = row_apart.as_ptr();
                    }
                }
                // SAFETY: the tiles are divided as the blocks take them. `left` has `down` tiles of
                // rows of `pairs` words, `words` as many pairs of two tiles of columns. What the sums
                // begin with, and the sums, are so many tiles of `c`, which is whole, or of `apart`;
                // or a row of so many tiles, for all.
                unsafe {
                    match (down, across) {
                        (2, 2) => four(block),
                        (2, _) => upright(block),
                        (_, 2) => lying(block),
                        _ => one(block),
                    }
                }
                if !is_whole {
                    for (apart, c) in apart.iter().zip(c.chunks_mut(stride)).take(count) {
                        c[..columns].copy_from_slice(&apart[..columns]);
                    }
                }
            }
        }
    }

    /// Defines a block's function from its instructions: what loads or zeroes the sums, one step along
    /// the inner dimension, and what stores them.
    macro_rules! block {
        ($(#[$doc:meta])* $name:ident, [$($load:literal)*], [$($zero:literal)*], [$($step:literal)*], [$($store:literal)*]) => {
            $(#[$doc])*
            ///
            /// # Safety
            /// The tiles are divided, and the block's parts are as long as it takes.
            #[inline(always)]
            unsafe fn $name(block: Block) {
                let Block { start, start_apart, left, left_apart, right, depth, sums, sums_apart } =
                    block;
                // SAFETY: what is read and written is the block's.
                unsafe {
                    asm!(
                        "test {start}, {start}",
                        "jz 3f",
                        $($load,)*
                        "jmp 2f",
                        "3:",
                        $($zero,)*
                        "2:",
                        $($step,)*
                        "add {left}, 64",
                        "add {left2}, 64",
                        "add {right}, 2048",
                        "dec {depth}",
                        "jnz 2b",
                        $($store,)*
                        "/* {start2} {sums2} */",
                        start = in(reg) start,
                        start2 = in(reg) start.wrapping_byte_add(SIDE * start_apart),
                        start_apart = in(reg) start_apart,
                        left = inout(reg) left => _,
                        left2 = inout(reg) left.wrapping_byte_add(SIDE * left_apart) => _,
                        left_apart = in(reg) left_apart,
                        right = inout(reg) right => _,
                        right_apart = in(reg) 4 * PANEL,
                        depth = inout(reg) depth => _,
                        sums = in(reg) sums,
                        sums2 = in(reg) sums.wrapping_byte_add(SIDE * sums_apart),
                        sums_apart = in(reg) sums_apart,
                        out("tmm0") _,
                        out("tmm1") _,
                        out("tmm2") _,
                        out("tmm3") _,
                        out("tmm4") _,
                        out("tmm5") _,
                        out("tmm6") _,
                        out("tmm7") _,
                        options(nostack),
                    );
                }
            }
        };
    }

    block! {
        /// Two tiles down, two across.
        four,
        ["tileloadd tmm0, [{start} + {start_apart} * 1]"
         "tileloadd tmm1, [{start} + {start_apart} * 1 + 64]"
         "tileloadd tmm2, [{start2} + {start_apart} * 1]"
         "tileloadd tmm3, [{start2} + {start_apart} * 1 + 64]"],
        ["tilezero tmm0" "tilezero tmm1" "tilezero tmm2" "tilezero tmm3"],
        ["tileloadd tmm4, [{left} + {left_apart} * 1]"
         "tileloadd tmm6, [{right} + {right_apart} * 1]"
         "tdpbf16ps tmm0, tmm4, tmm6"
         "tileloadd tmm7, [{right} + {right_apart} * 1 + 64]"
         "tdpbf16ps tmm1, tmm4, tmm7"
         "tileloadd tmm5, [{left2} + {left_apart} * 1]"
         "tdpbf16ps tmm2, tmm5, tmm6"
         "tdpbf16ps tmm3, tmm5, tmm7"],
        ["tilestored [{sums} + {sums_apart} * 1], tmm0"
         "tilestored [{sums} + {sums_apart} * 1 + 64], tmm1"
         "tilestored [{sums2} + {sums_apart} * 1], tmm2"
         "tilestored [{sums2} + {sums_apart} * 1 + 64], tmm3"]
    }

    block! {
        /// Two tiles down, one across.
        upright,
        ["tileloadd tmm0, [{start} + {start_apart} * 1]"
         "tileloadd tmm2, [{start2} + {start_apart} * 1]"],
        ["tilezero tmm0" "tilezero tmm2"],
        ["tileloadd tmm4, [{left} + {left_apart} * 1]"
         "tileloadd tmm6, [{right} + {right_apart} * 1]"
         "tdpbf16ps tmm0, tmm4, tmm6"
         "tileloadd tmm5, [{left2} + {left_apart} * 1]"
         "tdpbf16ps tmm2, tmm5, tmm6"],
        ["tilestored [{sums} + {sums_apart} * 1], tmm0"
         "tilestored [{sums2} + {sums_apart} * 1], tmm2"]
    }

    block! {
        /// One tile down, two across.
        lying,
        ["tileloadd tmm0, [{start} + {start_apart} * 1]"
         "tileloadd tmm1, [{start} + {start_apart} * 1 + 64]"],
        ["tilezero tmm0" "tilezero tmm1"],
        ["tileloadd tmm4, [{left} + {left_apart} * 1]"
         "tileloadd tmm6, [{right} + {right_apart} * 1]"
         "tdpbf16ps tmm0, tmm4, tmm6"
         "tileloadd tmm7, [{right} + {right_apart} * 1 + 64]"
         "tdpbf16ps tmm1, tmm4, tmm7"],
        ["tilestored [{sums} + {sums_apart} * 1], tmm0"
         "tilestored [{sums} + {sums_apart} * 1 + 64], tmm1"]
    }

    block! {
        /// One tile.
        one,
        ["tileloadd tmm0, [{start} + {start_apart} * 1]"],
        ["tilezero tmm0"],
        ["tileloadd tmm4, [{left} + {left_apart} * 1]"
         "tileloadd tmm6, [{right} + {right_apart} * 1]"
         "tdpbf16ps tmm0, tmm4, tmm6"],
        ["tilestored [{sums} + {sums_apart} * 1], tmm0"]
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod unit {
    use super::{Packed, Start};

    pub fn enable() -> bool {
        false
    }

    pub fn multiply(_: &[u32], _: usize, _: &Packed, _: usize, _: Start, _: &mut [f32], _: usize) {
        unreachable!("`available` is asked before")
    }
}

/// `[row, pair]`, rows and pairs filled up to whole tiles.
fn pack_left(matrix: Matrix, scale: f32, pairs: usize, words: &mut [u32]) {
    let Matrix {
        data,
        rows,
        columns,
        row_stride,
        column_stride,
    } = matrix;
    let own = columns.div_ceil(2);
    if column_stride == 1 {
        for (row, words) in words.chunks_exact_mut(pairs).take(rows).enumerate() {
            let (words, rest) = words.split_at_mut(own);
            convert::along(&data[row * row_stride..][..columns], scale, words);
            rest.fill(0);
        }
    } else {
        // `[pair, row]`, some pairs at a time, then turned.
        let mut strip = room(SIDE * rows);
        for first in (0..pairs).step_by(SIDE) {
            let strip = &mut strip[..SIDE * rows];
            for (pair, words) in strip.chunks_exact_mut(rows).enumerate() {
                let row = 2 * (first + pair);
                across(data, row, columns, column_stride, scale, words);
            }
            turn(strip, rows, SIDE, rows, &mut words[first..], pairs);
        }
        give_back(strip);
    }
    words[rows * pairs..].fill(0);
}

/// `[panel, pair, column]`, columns and pairs filled up to whole panels and tiles.
fn pack_right(matrix: Matrix, words: &mut [u32]) {
    let Matrix {
        data,
        rows,
        columns,
        row_stride,
        column_stride,
    } = matrix;
    let pairs = padded_pairs(rows);
    if pairs == 0 {
        return;
    }
    for (panel, words) in words.chunks_exact_mut(pairs * PANEL).enumerate() {
        let first = panel * PANEL;
        let count = PANEL.min(columns - first);
        if column_stride == 1 {
            for (pair, words) in words.chunks_exact_mut(PANEL).enumerate() {
                let (words, rest) = words.split_at_mut(count);
                across(&data[first..], 2 * pair, rows, row_stride, 1.0, words);
                rest.fill(0);
            }
        } else {
            let own = rows.div_ceil(2);
            let mut along = room(count * own);
            for (column, along) in along[..count * own].chunks_exact_mut(own).enumerate() {
                let from = (first + column) * column_stride;
                convert::along(&data[from..][..rows], 1.0, along);
            }
            if own < pairs || count < PANEL {
                words.fill(0);
            }
            turn(&along, own, count, own, words, PANEL);
            give_back(along);
        }
    }
}

/// Pairs across two rows, `row` and the next of so many; beyond the last there is 0.
fn across(data: &[f32], row: usize, rows: usize, stride: usize, scale: f32, words: &mut [u32]) {
    match rows.saturating_sub(row) {
        0 => words.fill(0),
        1 => {
            let first = &data[row * stride..][..words.len()];
            convert::across(first, None, scale, words);
        }
        _ => {
            let first = &data[row * stride..][..words.len()];
            let second = &data[(row + 1) * stride..][..words.len()];
            convert::across(first, Some(second), scale, words);
        }
    }
}

/// float32 → pairs of bfloat16.
mod convert {
    use crate::bf16::pair;
    #[cfg(target_arch = "x86_64")]
    use std::arch::x86_64::*;

    /// Neighbours in a row, each times `scale`; behind the last of an odd number there is 0.
    pub fn along(values: &[f32], scale: f32, words: &mut [u32]) {
        #[cfg(target_arch = "x86_64")]
        if super::available() {
            // SAFETY: where there are tiles, the processor has the vector instructions, too.
            return unsafe { vectors_along(values, scale, words) };
        }
        for (pair_of, word) in values.chunks(2).zip(words) {
            *word = pair(
                scale * pair_of[0],
                pair_of.get(1).map_or(0.0, |x| scale * x),
            );
        }
    }

    /// Neighbours in two rows, or those of one and 0, each times `scale`.
    pub fn across(first: &[f32], second: Option<&[f32]>, scale: f32, words: &mut [u32]) {
        #[cfg(target_arch = "x86_64")]
        if super::available() {
            // SAFETY: as above.
            return unsafe { vectors_across(first, second, scale, words) };
        }
        for at in 0..words.len() {
            words[at] = pair(scale * first[at], second.map_or(0.0, |row| scale * row[at]));
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn vectors_along(values: &[f32], scale: f32, words: &mut [u32]) {
        let scale = _mm512_set1_ps(scale);
        let words = &mut words[..values.len().div_ceil(2)];
        for (values, words) in values.chunks(32).zip(words.chunks_mut(16)) {
            let (some, more) = values.split_at(values.len().min(16));
            // SAFETY: only the lanes of numbers and words that are there are read and written.
            unsafe {
                let low = _mm512_maskz_loadu_ps(lanes(some.len()), some.as_ptr());
                let high = _mm512_maskz_loadu_ps(lanes(more.len()), more.as_ptr());
                let (low, high) = (_mm512_mul_ps(scale, low), _mm512_mul_ps(scale, high));
                let rounded = bits(_mm512_cvtne2ps_pbh(high, low));
                let to = words.as_mut_ptr().cast();
                _mm512_mask_storeu_epi32(to, lanes(words.len()), rounded);
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn vectors_across(first: &[f32], second: Option<&[f32]>, scale: f32, words: &mut [u32]) {
        let scale = _mm512_set1_ps(scale);
        // 0, 16, 1, 17, …: the first row's numbers are in the lower half.
        let order = _mm512_set_epi32(
            0x1f_000f, 0x1e_000e, 0x1d_000d, 0x1c_000c, 0x1b_000b, 0x1a_000a, 0x19_0009, 0x18_0008,
            0x17_0007, 0x16_0006, 0x15_0005, 0x14_0004, 0x13_0003, 0x12_0002, 0x11_0001, 0x10_0000,
        );
        let first = &first[..words.len()];
        let second = second.map(|second| &second[..words.len()]);
        for (number, words) in words.chunks_mut(16).enumerate() {
            let (at, lanes) = (16 * number, lanes(words.len()));
            // SAFETY: only the lanes of numbers and words that are there are read and written.
            unsafe {
                let load = |row: &[f32]| _mm512_maskz_loadu_ps(lanes, row.as_ptr().add(at));
                let first = _mm512_mul_ps(scale, load(first));
                let second = match second {
                    Some(second) => _mm512_mul_ps(scale, load(second)),
                    None => _mm512_setzero_ps(),
                };
                let rounded = bits(_mm512_cvtne2ps_pbh(second, first));
                let turned = _mm512_permutexvar_epi16(order, rounded);
                _mm512_mask_storeu_epi32(words.as_mut_ptr().cast(), lanes, turned);
            }
        }
    }

    /// The first so many lanes of sixteen, or all.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn lanes(count: usize) -> __mmask16 {
        ((1u32 << count.min(16)) - 1) as __mmask16
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn bits(rounded: __m512bh) -> __m512i {
        // SAFETY: both types are 512 bits, any of which are valid.
        unsafe { std::mem::transmute(rounded) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dropout::bits;
    use crate::matrix::{MatrixMut, Precision};

    /// Numbers of many sizes, whose sums depend on their order.
    fn numbers(key: u64, count: usize) -> Vec<f32> {
        let number = |i| {
            let random = bits(key, i);
            let size = 2f32.powi((random % 12) as i32 - 6);
            size * ((random >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
        };
        (0..count as u64).map(number).collect()
    }

    /// To bfloat16 and back, by arithmetic in double precision.
    fn rounded(x: f32) -> f32 {
        if x == 0.0 {
            return x;
        }
        let x = f64::from(x);
        let step = 2f64.powi(x.abs().log2().floor() as i32 - 7);
        ((x / step).round_ties_even() * step) as f32
    }

    #[test]
    fn products_have_the_bits_of_their_definition() {
        // All remainders of tiles, panels and pairs; more left words than are packed at once.
        let shapes = [
            (1, 1, 1),
            (2, 3, 5),
            (16, 32, 16),
            (15, 31, 17),
            (17, 33, 15),
            (32, 64, 32),
            (33, 65, 33),
            (48, 40, 48),
            (31, 2, 70),
            (144, 64, 40),
            (2100, 70, 3),
            (0, 3, 4),
            (3, 3, 0),
            (9, 0, 5),
        ];
        let precisions = [Precision::Bf16AmxEmulated, Precision::Bf16Amx];
        for (key, (rows, depth, columns)) in shapes.into_iter().enumerate() {
            for layout in 0..4 {
                let (a_turned, b_turned) = (layout & 1 != 0, layout & 2 != 0);
                let shape = |turned, rows, columns| match turned {
                    true => (columns, rows),
                    false => (rows, columns),
                };
                // Gaps between rows; NaN there would show in a result that reads them.
                let gapped = |(rows, columns): (usize, usize), key| {
                    let mut values = vec![f32::NAN; rows * (columns + 3)];
                    let numbers = numbers(key, rows * columns);
                    for row in 0..rows {
                        values[row * (columns + 3)..][..columns]
                            .copy_from_slice(&numbers[row * columns..][..columns]);
                    }
                    values
                };
                let (a_shape, b_shape) = (
                    shape(a_turned, rows, depth),
                    shape(b_turned, depth, columns),
                );
                let a = gapped(a_shape, 2 * key as u64);
                let b = gapped(b_shape, 2 * key as u64 + 1);
                let view = |values, (rows, columns), turned| {
                    let view = Matrix::strided(values, rows, columns, columns + 3);
                    if turned { view.t() } else { view }
                };
                let (a, b) = (view(&a, a_shape, a_turned), view(&b, b_shape, b_turned));
                let scale = 0.7f32;
                let at = |m: Matrix, r: usize, c: usize, scale: f32| {
                    if r < m.rows && c < m.columns {
                        rounded(scale * m.data[r * m.row_stride + c * m.column_stride])
                    } else {
                        0.0
                    }
                };
                let (row, before) = (numbers(98, columns), numbers(99, rows * (columns + 1)));
                for start in [Start::Zero, Start::Itself, Start::Row(&row)] {
                    let expected = |r: usize, c: usize| {
                        let mut sum = match start {
                            Start::Zero => 0.0,
                            Start::Itself => before[r * (columns + 1) + c],
                            Start::Row(row) => row[c],
                        };
                        for first in (0..depth).step_by(2 * SIDE) {
                            let half = |half: usize| {
                                let step = |sum: f32, pair: usize| {
                                    let k = first + 2 * pair + half;
                                    at(a, r, k, scale).mul_add(at(b, k, c, 1.0), sum)
                                };
                                (0..SIDE).fold(0.0f32, step)
                            };
                            sum += half(0) + half(1);
                        }
                        sum
                    };
                    let expected: Vec<f32> = (0..rows * columns)
                        .map(|i| expected(i / columns, i % columns))
                        .collect();
                    for precision in precisions.into_iter().filter(|p| p.available()) {
                        let unit = match precision {
                            Precision::Bf16Amx => Unit::Tiles,
                            _ => Unit::Software,
                        };
                        let mut c = before.clone();
                        Packed::new(b, unit).multiply(a, start, scale, &mut c, columns + 1);
                        for (i, expected) in expected.iter().enumerate() {
                            let found = c[i / columns * (columns + 1) + i % columns];
                            assert_eq!(
                                found.to_bits(),
                                expected.to_bits(),
                                "{precision:?} {rows}×{depth}×{columns} {layout} {i}: {found} {expected}"
                            );
                        }
                        for r in 0..rows {
                            let gap = r * (columns + 1) + columns;
                            assert_eq!(c[gap], before[gap], "between the rows");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        for precision in [Precision::Bf16AmxEmulated, Precision::Bf16Amx] {
            if !precision.available() {
                continue;
            }
            let b = [1.0, 0.0, f32::INFINITY, f32::NAN];
            let right = precision.operand(Matrix::new(&b, 1, 4));
            let mut c = [0.0; 4];
            MatrixMut::new(&mut c, 1, 4).set(1.0, Matrix::new(&[2.0], 1, 1), &right);
            assert_eq!((c[0], c[1], c[2]), (2.0, 0.0, f32::INFINITY));
            assert!(c[3].is_nan());
        }
    }
}
