//! Dense layers with many weights and few rows, as a classifier's on flattened tokens.
//!
//! Such a product is bound by how the weights come from memory, so both directions read them
//! row by row, as they lie.

use crate::math::dot;
use crate::matrix::{Matrix, MatrixMut, Operand, Precision};
use crate::room::{give_back, room};
use crate::simd::dispatched;

/// Rows of the kernel that are taken together: few enough for a block of them to stay in cache
/// while every row of x meets it, and odd, so that its panels do not lie a power of two apart.
const ROWS: usize = 97;

/// Some columns of x · kernel + bias: `x` is `[row, in]`, `kernel` `[in, out]`; `y` is
/// `[row, columns]`, those from `first` on.
pub fn forward(
    precision: Precision,
    x: &[f32],
    kernel: &[f32],
    bias: &[f32],
    first: usize,
    y: &mut [f32],
    rows: usize,
) {
    let (input, output) = (x.len() / rows, bias.len());
    let columns = y.len() / rows;
    for row in y.chunks_exact_mut(columns) {
        row.copy_from_slice(&bias[first..first + columns]);
    }
    // A block's inputs: in x they lie far apart, and often by a power of two.
    let mut some = room::<f32>(rows * ROWS);
    for from in (0..input).step_by(ROWS) {
        let count = ROWS.min(input - from);
        for (to, x) in some.chunks_exact_mut(count).zip(x.chunks_exact(input)) {
            to.copy_from_slice(&x[from..from + count]);
        }
        let x = Matrix::new(&some[..rows * count], rows, count);
        let kernel = Matrix::strided(&kernel[from * output + first..], count, columns, output);
        MatrixMut::new(y, rows, columns).add(1.0, x, &precision.operand(kernel));
    }
    give_back(some);
}

dispatched! {
    /// Adds to `y` what some of the inputs give, those from `first` on: `x` is `[row, in]`,
    /// `kernel` are their rows of the kernel, `[some, out]`, `y` is `[row, out]`. In float32.
    ///
    /// For so few rows that the kernel's way from memory is all that counts: it is read from one
    /// end to the other, four rows at a time.
    pub fn stream(x: &[f32], kernel: &[f32], first: usize, y: &mut [f32], rows: usize) {
        const TOGETHER: usize = 4;
        let (input, output) = (x.len() / rows, y.len() / rows);
        for (number, kernel) in kernel.chunks(TOGETHER * output).enumerate() {
            let first = first + TOGETHER * number;
            for (x, y) in x.chunks_exact(input).zip(y.chunks_exact_mut(output)) {
                let x = &x[first..][..kernel.len() / output];
                if let [x0, x1, x2, x3] = *x {
                    let (k0, rest) = kernel.split_at(output);
                    let (k1, rest) = rest.split_at(output);
                    let (k2, k3) = rest.split_at(output);
                    for ((((y, k0), k1), k2), k3) in y.iter_mut().zip(k0).zip(k1).zip(k2).zip(k3) {
                        let sum = x1.mul_add(*k1, x0.mul_add(*k0, *y));
                        *y = x3.mul_add(*k3, x2.mul_add(*k2, sum));
                    }
                } else {
                    for (x, kernel) in x.iter().zip(kernel.chunks_exact(output)) {
                        for (y, kernel) in y.iter_mut().zip(kernel) {
                            *y = x.mul_add(*kernel, *y);
                        }
                    }
                }
            }
        }
    }
}

dispatched! {
    /// dyᵀ's way back through some rows of the kernel, in float32: `dy` is `[row, out]`, `kernel`
    /// `[some, out]`, `back` `[some, row]`, the transpose of those columns of dx.
    ///
    /// For as few rows as [`stream`]: a product's tiles would be empty but for some columns.
    pub fn stream_back(dy: &[f32], kernel: &[f32], back: &mut [f32], rows: usize) {
        let output = dy.len() / rows;
        for (kernel, back) in kernel.chunks_exact(output).zip(back.chunks_exact_mut(rows)) {
            for (dy, back) in dy.chunks_exact(output).zip(back) {
                *back = dot(kernel, dy);
            }
        }
    }
}

/// dx = dy · kernelᵀ: `dy` is `[row, out]`, `dx` `[row, in]`; `scratch` has as many numbers as
/// `dx`.
pub fn backward(
    precision: Precision,
    dy: &[f32],
    kernel: &[f32],
    dx: &mut [f32],
    scratch: &mut [f32],
    rows: usize,
) {
    let (input, output) = (dx.len() / rows, dy.len() / rows);
    // The transpose is four times as fast to form, and small.
    let transposed = &mut scratch[..dx.len()];
    let dy = Matrix::new(dy, rows, output);
    MatrixMut::new(transposed, input, rows).set(
        1.0,
        Matrix::new(kernel, input, output),
        &precision.once(dy.t()),
    );
    for (row, dx) in dx.chunks_exact_mut(input).enumerate() {
        for (dx, column) in dx.iter_mut().zip(transposed.chunks_exact(rows)) {
            *dx = column[row];
        }
    }
}

/// Some rows of the gradient of the kernel, xᵀ · dy: those from `first` on, into `gradient`, `[some, out]`.
/// `x` is `[row, in]` in pieces, one after another, `dy` `[row, out]`, packed once for all rows of the
/// gradient.
pub fn gradient(x: &[&[f32]], dy: &Operand, first: usize, gradient: &mut [f32]) {
    /// Rows at a time: whole tiles, of inputs that stay in cache.
    const ROWS: usize = 48;
    let (rows, output) = (dy.rows(), dy.columns());
    let input = x.iter().map(|x| x.len()).sum::<usize>() / rows;
    let mut some = room::<f32>(rows * ROWS);
    for (number, gradient) in gradient.chunks_mut(ROWS * output).enumerate() {
        let (first, count) = (first + number * ROWS, gradient.len() / output);
        let inputs = x.iter().flat_map(|x| x.chunks_exact(input));
        for (to, x) in some.chunks_exact_mut(count).zip(inputs) {
            to.copy_from_slice(&x[first..first + count]);
        }
        let x = Matrix::new(&some[..rows * count], rows, count);
        MatrixMut::new(gradient, count, output).set(1.0, x.t(), dy);
    }
    give_back(some);
}

dispatched! {
    /// The same in float32 of few rows, `dy` as it lies: no more than writing the gradient.
    pub fn stream_gradient(x: &[&[f32]], dy: &[f32], first: usize, gradient: &mut [f32], rows: usize) {
        let output = dy.len() / rows;
        let input = x.iter().map(|x| x.len()).sum::<usize>() / rows;
        for (number, gradient) in gradient.chunks_exact_mut(output).enumerate() {
            let column = x.iter().flat_map(|x| x.chunks_exact(input)).map(|x| x[first + number]);
            for (row, (x, dy)) in column.zip(dy.chunks_exact(output)).enumerate() {
                if row == 0 {
                    for (g, dy) in gradient.iter_mut().zip(dy) {
                        *g = x * dy;
                    }
                } else {
                    for (g, dy) in gradient.iter_mut().zip(dy) {
                        *g = x.mul_add(*dy, *g);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gradient_of_few_rows_has_the_bits_of_the_product() {
        let (input, output) = (60, 37);
        for rows in [1, 2, 3, 4] {
            let wave = |n: usize, speed: f32| -> Vec<f32> {
                (0..n).map(|i| (i as f32 * speed).sin()).collect()
            };
            let (x, dy) = (wave(rows * input, 0.3), wave(rows * output, 1.9));
            let (one, rest) = x.split_at(input);
            let pieces = [one, rest];
            let packed = Precision::F32.operand(Matrix::new(&dy, rows, output));
            let (mut product, mut streamed) =
                (vec![f32::NAN; 50 * output], vec![f32::NAN; 50 * output]);
            gradient(&pieces, &packed, 10, &mut product);
            stream_gradient(&pieces, &dy, 10, &mut streamed, rows);
            assert_eq!(product, streamed, "{rows}");
            let expected: f32 = (0..rows)
                .map(|n| x[n * input + 59] * dy[n * output + 5])
                .sum();
            assert!((streamed[49 * output + 5] - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn both_directions_equal_double_precision() {
        for (rows, input, output) in [(1, 5, 3), (3, 200, 33), (7, 64, 17), (4, 130, 64)] {
            let wave = |n: usize, speed: f32| -> Vec<f32> {
                (0..n).map(|i| (i as f32 * speed).sin()).collect()
            };
            let (x, kernel) = (wave(rows * input, 0.3), wave(input * output, 0.7));
            let (bias, dy) = (wave(output, 1.3), wave(rows * output, 1.9));
            let first = output / 3;
            let mut y = vec![f32::NAN; rows * (output - first)];
            forward(Precision::F32, &x, &kernel, &bias, first, &mut y, rows);
            let mut streamed: Vec<f32> = bias.repeat(rows);
            let (part, rest) = kernel.split_at(input / 2 * output);
            stream(&x, part, 0, &mut streamed, rows);
            stream(&x, rest, input / 2, &mut streamed, rows);
            let mut dx = vec![f32::NAN; rows * input];
            let mut scratch = vec![f32::NAN; rows * input];
            let mut streamed_back = vec![f32::NAN; rows * input];
            stream_back(&dy, &kernel, &mut streamed_back, rows);
            backward(Precision::F32, &dy, &kernel, &mut dx, &mut scratch, rows);
            let product = |a: f32, b: f32| f64::from(a) * f64::from(b);
            for row in 0..rows {
                for column in first..output {
                    let sum: f64 = (0..input)
                        .map(|i| product(x[row * input + i], kernel[i * output + column]))
                        .sum();
                    let found = y[row * (output - first) + column - first];
                    let expected = sum + f64::from(bias[column]);
                    assert!((f64::from(found) - expected).abs() < 2e-5);
                    let found = streamed[row * output + column];
                    assert!((f64::from(found) - expected).abs() < 2e-5);
                }
                for i in 0..input {
                    let expected: f64 = (0..output)
                        .map(|o| product(dy[row * output + o], kernel[i * output + o]))
                        .sum();
                    assert!((f64::from(dx[row * input + i]) - expected).abs() < 2e-5);
                    let back = streamed_back[i * rows + row];
                    assert!((f64::from(back) - expected).abs() < 2e-5);
                }
            }
        }
    }
}
