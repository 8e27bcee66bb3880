//! Muon's direction (Jordan and others, 2024, *Muon: An optimizer for hidden layers in neural
//! networks*): the momentum of a matrix's gradient with all its singular values brought near 1, by
//! five steps of an iteration that needs products alone:
//!
//! ```text
//! X ← U / ‖U‖            U = the momentum, once more ahead (Nesterov)
//! five times             A = X · Xᵀ,  X ← a · X + (b · A + c · A²) · X
//! ```
//!
//! With its (a, b, c) singular values come to lie within some 0.7 and 1.2, soon, instead of at 1, late.

use crate::matrix::{Matrix, MatrixMut, Operand, Precision};
use crate::simd::dispatched;

/// a, b and c.
pub const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// How often.
pub const ITERATIONS: usize = 5;

dispatched! {
    /// m ← m + (1 − β)(g − m), with g times `clip`; `direction` becomes g + β · (m − g).
    pub fn momentum(beta: f32, clip: f32, g: &[f32], m: &mut [f32], direction: &mut [f32]) {
        for ((g, m), direction) in g.iter().zip(m).zip(direction) {
            let g = clip * g;
            *m = (1.0 - beta).mul_add(g - *m, *m);
            *direction = beta.mul_add(*m - g, g);
        }
    }
}

dispatched! {
    /// w ← keep · w − rate · direction
    pub fn step(keep: f32, rate: f32, w: &mut [f32], direction: &[f32]) {
        for (w, direction) in w.iter_mut().zip(direction) {
            *w = keep.mul_add(*w, -(rate * direction));
        }
    }
}

fn packed(matrix: Matrix) -> Operand<'static> {
    Precision::F32.operand(matrix)
}

/// `x`, of so many rows and columns, becomes the same with all singular values near 1. All zeros stay
/// so.
pub fn orthogonalise(x: &mut [f32], rows: usize, columns: usize) {
    let [a, b, c] = COEFFICIENTS;
    let squares: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let scale = (1.0 / (squares.sqrt() + 1e-7)) as f32;
    x.iter_mut().for_each(|x| *x *= scale);
    // The products with the shorter side are the smaller ones.
    let tall = rows > columns;
    let side = rows.min(columns);
    let (mut gram, mut polynomial) = (vec![0.0; side * side], vec![0.0; side * side]);
    let mut next = vec![0.0; x.len()];
    for _ in 0..ITERATIONS {
        let own = Matrix::new(x, rows, columns);
        let (left, right) = if tall { (own.t(), own) } else { (own, own.t()) };
        MatrixMut::new(&mut gram, side, side).set(1.0, left, &packed(right));
        let square = Matrix::new(&gram, side, side);
        for (to, from) in polynomial.iter_mut().zip(&gram) {
            *to = b * from;
        }
        MatrixMut::new(&mut polynomial, side, side).add(c, square, &packed(square));
        for (to, from) in next.iter_mut().zip(x.iter()) {
            *to = a * from;
        }
        let polynomial = Matrix::new(&polynomial, side, side);
        let sum = MatrixMut::new(&mut next, rows, columns);
        if tall {
            sum.add(1.0, own, &packed(polynomial));
        } else {
            sum.add(1.0, polynomial, &packed(own));
        }
        x.copy_from_slice(&next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<f32> {
        let number = |i| (crate::dropout::bits(3, i) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        (0..count as u64).map(number).collect()
    }

    /// Row-major a · b in double precision.
    fn product(a: &[f64], b: &[f64], inner: usize) -> Vec<f64> {
        let columns = b.len() / inner;
        let at = |row: &[f64], column: usize| -> f64 {
            (0..inner).map(|i| row[i] * b[i * columns + column]).sum()
        };
        let row = |row: &[f64]| {
            (0..columns)
                .map(|column| at(row, column))
                .collect::<Vec<_>>()
        };
        a.chunks(inner).flat_map(row).collect()
    }

    fn transposed(a: &[f64], columns: usize) -> Vec<f64> {
        let column = |column: usize| a.iter().skip(column).step_by(columns).copied();
        (0..columns).flat_map(column).collect()
    }

    #[test]
    fn singular_values_come_near_one_as_in_double_precision() {
        for (rows, columns) in [(1, 1), (7, 19), (24, 24), (40, 11)] {
            let mut x = numbers(rows * columns);
            let mut exact: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
            orthogonalise(&mut x, rows, columns);
            let norm = exact.iter().map(|v| v * v).sum::<f64>().sqrt() + 1e-7;
            exact.iter_mut().for_each(|v| *v /= norm);
            let [a, b, c] = COEFFICIENTS.map(f64::from);
            for _ in 0..ITERATIONS {
                let gram = product(&exact, &transposed(&exact, columns), columns);
                let square = product(&gram, &gram, rows);
                let polynomial: Vec<f64> = gram
                    .iter()
                    .zip(square)
                    .map(|(g, s)| b * g + c * s)
                    .collect();
                let moved = product(&polynomial, &exact, rows);
                exact
                    .iter_mut()
                    .zip(moved)
                    .for_each(|(x, moved)| *x = a * *x + moved);
            }
            for (found, exact) in x.iter().zip(&exact) {
                // The iteration makes more of differences along small singular values.
                assert!((f64::from(*found) - exact).abs() < 1e-3, "{found} {exact}");
            }
            // Σ of the squares of as many singular values as there are.
            let squares: f32 = x.iter().map(|v| v * v).sum();
            let mean = squares / rows.min(columns) as f32;
            assert!((0.45..1.45).contains(&mean), "{mean}");
        }
        let mut zeros = vec![0.0; 12];
        orthogonalise(&mut zeros, 3, 4);
        assert_eq!(zeros, [0.0; 12]);
    }

    #[test]
    fn momentum_and_step_are_their_formulas() {
        let (mut m, mut direction) = (vec![1.0, -2.0], vec![0.0; 2]);
        momentum(0.75, 0.5, &[4.0, 8.0], &mut m, &mut direction);
        // g = 2 and 4; m = 0.75 m + 0.25 g; direction = 0.25 g + 0.75 m.
        assert_eq!(m, [1.25, -0.5]);
        assert_eq!(direction, [1.4375, 0.625]);
        let mut w = vec![2.0, -4.0];
        step(0.5, 2.0, &mut w, &direction);
        assert_eq!(w, [-1.875, -3.25]);
    }
}
