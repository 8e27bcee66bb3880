//! Matrix products on strided views.

use std::fmt;
use std::str::FromStr;

use crate::{bf16, float32, tiles};

/// A matrix in a slice: element (r, c) lies at r · row stride + c · column stride.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    /// 1, or the row stride is.
    pub(crate) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after another, without gaps.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows `row_stride` elements apart.
    ///
    /// Panics where the last element would lie outside of the slice.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self {
            data,
            rows,
            columns,
            row_stride: fitting(data.len(), rows, columns, row_stride).expect(OUTSIDE),
            column_stride: 1,
        }
    }

    /// Some rows, from number `first` on.
    ///
    /// Panics where there are not as many.
    pub fn from_row(self, first: usize, rows: usize) -> Self {
        assert!(
            self.rows
                .checked_sub(first)
                .is_some_and(|rest| rows <= rest)
        );
        // Behind the last row there may be nothing, not even the gap.
        let start = (first * self.row_stride).min(self.data.len());
        Self {
            data: &self.data[start..],
            rows,
            ..self
        }
    }

    /// Some columns, from number `first` on, of rows that lie as such.
    ///
    /// Panics where there are not as many, or columns do.
    pub fn from_column(self, first: usize, columns: usize) -> Self {
        assert!(self.column_stride == 1);
        assert!(
            self.columns
                .checked_sub(first)
                .is_some_and(|rest| columns <= rest)
        );
        let data = &self.data[first.min(self.data.len())..];
        Self::strided(data, self.rows, columns, self.row_stride.max(columns))
    }

    /// A row's numbers.
    ///
    /// Panics where columns lie as such.
    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        assert!(self.column_stride == 1 && row < self.rows);
        &self.data[row * self.row_stride..][..self.columns]
    }

    /// The transpose, on the same numbers.
    pub fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// How the numbers of a product are multiplied. They are always added in float32. Its names are
/// `f32`, `bf16`, `bf16-emulated`, `bf16-amx` and `bf16-amx-emulated`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    #[default]
    F32,
    /// Rounded to bfloat16, by the instruction that takes two at a time.
    Bf16,
    /// The same by software: slower than float32, but on any processor.
    Bf16Emulated,
    /// Rounded to bfloat16, by the matrix unit that newer Xeons have, which adds up in another order.
    Bf16Amx,
    /// The same by software.
    Bf16AmxEmulated,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(Self::NAMES[*self as usize])
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().position(|&own| own == name);
        found.map(|place| Self::ALL[place]).ok_or_else(|| {
            let names = Self::NAMES.join(", ");
            format!("there is no precision `{name}`; the choices are {names}")
        })
    }
}

impl Precision {
    /// The names of all of them.
    pub const NAMES: [&str; 5] = [
        "f32",
        "bf16",
        "bf16-emulated",
        "bf16-amx",
        "bf16-amx-emulated",
    ];

    /// All of them, in the order of their names.
    pub const ALL: [Self; 5] = [
        Self::F32,
        Self::Bf16,
        Self::Bf16Emulated,
        Self::Bf16Amx,
        Self::Bf16AmxEmulated,
    ];

    /// Whether products have the same bits in another precision (but for numbers below 1.2e-38,
    /// where the bfloat16 instruction has 0).
    pub fn equals(self, other: Self) -> bool {
        let arithmetic = |precision| match precision {
            Self::F32 => 0,
            Self::Bf16 | Self::Bf16Emulated => 1,
            Self::Bf16Amx | Self::Bf16AmxEmulated => 2,
        };
        arithmetic(self) == arithmetic(other)
    }

    /// Whether this processor can: only what is not emulated asks for more than float32.
    pub fn available(self) -> bool {
        match self {
            Self::F32 | Self::Bf16Emulated | Self::Bf16AmxEmulated => true,
            Self::Bf16 => bf16::available(),
            Self::Bf16Amx => tiles::available(),
        }
    }

    /// Whether what the forward pass made is made again on the way back, and not kept: where products
    /// cost so little that numbers come from memory no sooner.
    pub fn makes_again(self) -> bool {
        matches!(self, Self::Bf16Amx | Self::Bf16AmxEmulated)
    }

    /// A right operand of products in this precision: made once, for many of them.
    ///
    /// Panics where the precision is not [available](Precision::available).
    pub fn operand<'a>(self, matrix: Matrix) -> Operand<'a> {
        assert!(
            self.available(),
            "this processor does not multiply in {self}"
        );
        Operand(match self {
            Self::F32 => Kind::F32(float32::Panels::new(matrix)),
            Self::Bf16 => Kind::Bf16(bf16::Packed::new(matrix, bf16::Unit::Instruction)),
            Self::Bf16Emulated => Kind::Bf16(bf16::Packed::new(matrix, bf16::Unit::Software)),
            Self::Bf16Amx => Kind::Tiles(tiles::Packed::new(matrix, tiles::Unit::Tiles)),
            Self::Bf16AmxEmulated => Kind::Tiles(tiles::Packed::new(matrix, tiles::Unit::Software)),
        })
    }

    /// The same for a single product, which may take the matrix as it lies.
    pub fn once(self, matrix: Matrix<'_>) -> Operand<'_> {
        match self {
            Self::F32 => Operand(Kind::Once(matrix)),
            _ => self.operand(matrix),
        }
    }
}

/// The right operand of products, which decides their precision.
pub struct Operand<'a>(Kind<'a>);

enum Kind<'a> {
    F32(float32::Panels),
    Once(Matrix<'a>),
    Bf16(bf16::Packed),
    Tiles(tiles::Packed),
}

impl Operand<'_> {
    /// Its rows: what is summed over.
    pub fn rows(&self) -> usize {
        self.shape().0
    }

    /// Its columns.
    pub fn columns(&self) -> usize {
        self.shape().1
    }

    fn shape(&self) -> (usize, usize) {
        match &self.0 {
            Kind::F32(b) => (b.rows, b.columns),
            Kind::Once(b) => (b.rows, b.columns),
            Kind::Bf16(b) => (b.rows, b.columns),
            Kind::Tiles(b) => (b.rows, b.columns),
        }
    }
}

/// What a product's result is added to.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Nothing.
    Zero,
    /// What is there already.
    Itself,
    /// A row, the same for all.
    Row(&'a [f32]),
}

impl Start<'_> {
    /// The same for the columns after so many.
    pub fn after(self, columns: usize) -> Self {
        match self {
            Self::Row(row) => Self::Row(&row[columns..]),
            other => other,
        }
    }
}

/// A matrix that a product is written to.
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// Rows one after another, without gaps.
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows `row_stride` elements apart.
    ///
    /// Panics where the last element would lie outside of the slice.
    pub fn strided(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        let row_stride = fitting(data.len(), rows, columns, row_stride).expect(OUTSIDE);
        Self {
            data,
            rows,
            columns,
            row_stride,
        }
    }

    /// self = scale · a · b
    pub fn set(self, scale: f32, a: Matrix, b: &Operand) {
        self.product(Start::Zero, scale, a, b);
    }

    /// self += scale · a · b
    pub fn add(self, scale: f32, a: Matrix, b: &Operand) {
        self.product(Start::Itself, scale, a, b);
    }

    /// Each row of self becomes `row` + that of a · b, or the latter where there is no row.
    ///
    /// Panics where the row is not as long as those of self.
    pub fn set_with(self, row: Option<&[f32]>, a: Matrix, b: &Operand) {
        let start = match row {
            Some(row) => {
                assert_eq!(row.len(), self.columns);
                Start::Row(row)
            }
            None => Start::Zero,
        };
        self.product(start, 1.0, a, b);
    }

    fn product(self, start: Start, scale: f32, a: Matrix, b: &Operand) {
        let (rows, columns) = b.shape();
        assert_eq!((self.rows, self.columns), (a.rows, columns));
        assert_eq!(a.columns, rows);
        let (c, stride) = (self.data, self.row_stride);
        match &b.0 {
            Kind::F32(b) => b.multiply(a, start, scale, c, stride),
            Kind::Once(b) => float32::multiply_once(a, *b, start, scale, c, stride),
            Kind::Bf16(b) => b.multiply(a, start, scale, c, stride),
            Kind::Tiles(b) => b.multiply(a, start, scale, c, stride),
        }
    }
}

const OUTSIDE: &str = "a view lies within its slice";

/// The distance of rows, if every element lies within `length`. Where there are fewer than two rows,
/// or nothing in them, any would do, and it is made a small one.
fn fitting(length: usize, rows: usize, columns: usize, row_stride: usize) -> Option<usize> {
    if rows == 0 || columns == 0 {
        return Some(0);
    }
    // Rows do not overlap; so no product of sizes is more than a slice's length.
    if rows > 1 && row_stride < columns {
        return None;
    }
    let last_row = (rows - 1).checked_mul(row_stride)?;
    let end = last_row.checked_add(columns)?;
    let stride = if rows == 1 { columns } else { row_stride };
    (end <= length).then_some(stride)
}

/// Products a second, in units of 10⁹ multiplications and additions, that one thread reaches on
/// matrices that stay in its second-level cache: the ceiling for everything that multiplies.
pub fn ceiling(precision: Precision, seconds: f64) -> f64 {
    const SIDE: usize = 256;
    let a: Vec<f32> = (0..SIDE * SIDE).map(|i| (i % 7) as f32).collect();
    let mut c = vec![0.0; SIDE * SIDE];
    let view = Matrix::new(&a, SIDE, SIDE);
    let operand = precision.operand(view);
    let began = std::time::Instant::now();
    let mut rounds = 0;
    while began.elapsed().as_secs_f64() < seconds {
        for _ in 0..8 {
            MatrixMut::new(&mut c, SIDE, SIDE).set(1.0, view, &operand);
            std::hint::black_box(&c);
        }
        rounds += 8;
    }
    2e-9 * (rounds * SIDE * SIDE * SIDE) as f64 / began.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precisions_have_their_own_names() {
        for (place, precision) in Precision::ALL.into_iter().enumerate() {
            assert_eq!(precision as usize, place);
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        assert_eq!(Precision::Bf16AmxEmulated.to_string(), "bf16-amx-emulated");
        assert!(
            "bf17"
                .parse::<Precision>()
                .unwrap_err()
                .contains("bf16-amx,")
        );
    }

    #[test]
    fn products_of_strided_and_transposed_views() {
        // a is 2×3 in rows of 4, b is 3×2 given as its transpose.
        let a = [1.0, 2.0, 3.0, -9.0, 4.0, 5.0, 6.0];
        let b = [1.0, 0.0, 2.0, 0.0, 1.0, 1.0];
        let mut c = [10.0; 5];
        let a = Matrix::strided(&a, 2, 3, 4);
        let b = Precision::F32.operand(Matrix::new(&b, 2, 3).t());
        MatrixMut::strided(&mut c, 2, 2, 3).set(1.0, a, &b);
        assert_eq!(c, [7.0, 5.0, 10.0, 16.0, 11.0]);
        MatrixMut::strided(&mut c, 2, 2, 3).add(2.0, a, &b);
        assert_eq!(c, [21.0, 15.0, 10.0, 48.0, 33.0]);
    }

    #[test]
    #[should_panic]
    fn a_view_past_the_end_is_refused() {
        Matrix::strided(&[0.0; 6], 2, 3, 4);
    }

    #[test]
    fn only_views_that_fit_are_made_whatever_the_numbers() {
        let most = usize::MAX;
        let numbers = [
            0,
            1,
            2,
            3,
            5,
            8,
            13,
            most / 3,
            most / 2,
            most / 2 + 2,
            most - 1,
            most,
        ];
        for rows in numbers {
            for columns in numbers {
                for stride in numbers {
                    let end = (rows as u128).saturating_sub(1) * stride as u128 + columns as u128;
                    let apart = rows < 2 || stride >= columns;
                    let fits = rows == 0 || columns == 0 || (apart && end <= 13);
                    let found = fitting(13, rows, columns, stride);
                    assert_eq!(found.is_some(), fits, "{rows} {columns} {stride}");
                    // What the product is told of has a place in the slice.
                    assert!(found.is_none_or(|stride| stride <= 13), "{rows} {columns}");
                }
            }
        }
        let data = [0.0; 13];
        for (rows, columns, stride) in [(3, 3, 5), (4, 1, 4), (1, 13, most), (2, 0, most)] {
            let view = Matrix::strided(&data, rows, columns, stride);
            for first in 0..=rows {
                for count in 0..=rows - first {
                    let part = view.from_row(first, count);
                    assert!(fitting(part.data.len(), count, columns, part.row_stride).is_some());
                }
            }
        }
    }

    #[test]
    #[should_panic]
    fn rows_that_are_counted_past_every_number_are_refused() {
        Matrix::new(&[0.0; 6], 2, 3).from_row(2, usize::MAX);
    }
}
