//! Dense layers with many weights and few rows, as a classifier's on flattened tokens.
//!
//! Such a product is bound by how the weights come from memory, so both directions read them
//! row by row, as they lie.

use crate::matrix::{Matrix, MatrixMut, Precision};

/// Rows of the kernel that are taken together: few enough for a block of them to stay in cache
/// while every row of x meets it.
const ROWS: usize = 64;

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
    for from in (0..input).step_by(ROWS) {
        let count = ROWS.min(input - from);
        let x = Matrix::strided(&x[from..], rows, count, input);
        let kernel = Matrix::strided(&kernel[from * output + first..], count, columns, output);
        MatrixMut::new(y, rows, columns).add(1.0, x, &precision.right(kernel));
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
        &precision.right(dy.t()),
    );
    for (row, dx) in dx.chunks_exact_mut(input).enumerate() {
        for (dx, column) in dx.iter_mut().zip(transposed.chunks_exact(rows)) {
            *dx = column[row];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let mut dx = vec![f32::NAN; rows * input];
            let mut scratch = vec![f32::NAN; rows * input];
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
                }
                for i in 0..input {
                    let expected: f64 = (0..output)
                        .map(|o| product(dy[row * output + o], kernel[i * output + o]))
                        .sum();
                    assert!((f64::from(dx[row * input + i]) - expected).abs() < 2e-5);
                }
            }
        }
    }
}
