//! Muon on a model's matrices (Jordan and others, 2024, *Muon: An optimizer for hidden layers in neural
//! networks*; the direction: [`smallvit_kernels::muon`]):
//!
//! ```text
//! m ← m + (1 − β) (g − m)
//! w ← w − decay · w − rate · 0.2 · √max(rows, columns) · orthogonalised(g + β (m − g))
//! ```
//!
//! The factor makes a step as large as AdamW's usually is, so that its rate and decay serve (Liu and
//! others, *Muon is Scalable for LLM Training*, arXiv 2502.16982, section 2.2).

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use smallvit_kernels::muon as kernel;

use crate::params::Array;

/// How large a step is beside one with singular values of 1.
const SIZE: f64 = 0.2;

/// The matrices that a parameter holds side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Matrices {
    rows: usize,
    /// Of each.
    columns: usize,
    count: usize,
}

impl Matrices {
    /// Those of a parameter that Muon steps: a kernel between the first layer and the classifier, which
    /// mixes channels. Queries, keys and values are three, or keys and values two.
    pub fn of(name: &str, shape: &[usize]) -> Option<Self> {
        let &[rows, columns] = shape else { return None };
        let first = name.split('.').next().unwrap_or_default();
        let ends = ["embedding", "stem", "sequence", "head"];
        let of_one_channel = ["mixing.kernel", "taps.kernel", "score.kernel"];
        let hidden = name.ends_with(".kernel")
            && !ends.contains(&first)
            && !of_one_channel.iter().any(|end| name.ends_with(end));
        let count = match name {
            name if name.ends_with("qkv.kernel") => 3,
            name if name.ends_with("key_value.kernel") => 2,
            _ => 1,
        };
        hidden.then_some(Self {
            rows,
            columns: columns / count,
            count,
        })
    }

    /// All of their numbers.
    pub fn numbers(self) -> usize {
        self.rows * self.columns * self.count
    }

    /// What an orthogonalised direction is multiplied by.
    fn size(self) -> f64 {
        SIZE * (self.rows.max(self.columns) as f64).sqrt()
    }

    /// Calls `each` with every row of a matrix: where it lies in the parameter, and in the matrix alone.
    fn rows_of(self, number: usize, mut each: impl FnMut(usize, usize)) {
        for row in 0..self.rows {
            each(
                (row * self.count + number) * self.columns,
                row * self.columns,
            );
        }
    }
}

/// Of each parameter's gradient and momentum: its direction, and the momentum now. Gradients are
/// multiplied by `clip` beforehand.
///
/// A matrix is one thread's, so that the bits do not depend on how many there are.
pub(super) fn directions(
    all: Vec<(Matrices, Tensor<1>, Tensor<1>)>,
    beta: f64,
    clip: f64,
) -> Vec<(Tensor<1>, Tensor<1>)> {
    let mut found = vec![];
    let (mut waiting, mut alone) = (vec![], vec![]);
    for (matrices, gradient, momentum) in all {
        if gradient.device() != Device::flex() {
            found.push(composed(matrices, gradient, momentum, beta, clip));
            continue;
        }
        let (g, mut m) = (Array::of(gradient).values, Array::of(momentum).values);
        let mut direction = vec![0.0; g.len()];
        kernel::momentum(beta as f32, clip as f32, &g, &mut m, &mut direction);
        for number in 0..matrices.count {
            let mut own = vec![0.0; matrices.rows * matrices.columns];
            matrices.rows_of(number, |there, here| {
                let row = &direction[there..][..matrices.columns];
                own[here..][..matrices.columns].copy_from_slice(row);
            });
            alone.push((matrices, own));
        }
        waiting.push((matrices, direction, m));
    }
    alone.par_iter_mut().for_each(|(matrices, own)| {
        kernel::orthogonalise(own, matrices.rows, matrices.columns);
        let size = matrices.size() as f32;
        own.iter_mut().for_each(|number| *number *= size);
    });
    let mut alone = alone.into_iter();
    for (matrices, mut direction, m) in waiting {
        for (number, (_, own)) in alone.by_ref().take(matrices.count).enumerate() {
            matrices.rows_of(number, |there, here| {
                let row = &own[here..][..matrices.columns];
                direction[there..][..matrices.columns].copy_from_slice(row);
            });
        }
        found.push((tensor(direction), tensor(m)));
    }
    found
}

/// The same by the device's own operations.
fn composed(
    matrices: Matrices,
    gradient: Tensor<1>,
    momentum: Tensor<1>,
    beta: f64,
    clip: f64,
) -> (Tensor<1>, Tensor<1>) {
    let Matrices {
        rows,
        columns,
        count,
    } = matrices;
    let g = gradient * clip;
    let m = momentum.clone() + (g.clone() - momentum) * (1.0 - beta);
    let direction = g.clone() + (m.clone() - g) * beta;
    let each = (0..count).map(|number| {
        let whole = direction.clone().reshape([rows, count * columns]);
        let own = whole.narrow(1, number * columns, columns);
        orthogonalised(own, rows > columns) * matrices.size()
    });
    let direction = Tensor::cat(each.collect(), 1);
    (direction.reshape([matrices.numbers()]), m)
}

/// [`kernel::orthogonalise`] by tensors.
fn orthogonalised(x: Tensor<2>, tall: bool) -> Tensor<2> {
    let norm = (x.clone() * x.clone()).sum().sqrt() + 1e-7;
    let mut x = x / norm.unsqueeze();
    if tall {
        x = x.transpose();
    }
    let [a, b, c] = kernel::COEFFICIENTS.map(f64::from);
    for _ in 0..kernel::ITERATIONS {
        let gram = x.clone().matmul(x.clone().transpose());
        let polynomial = gram.clone() * b + gram.clone().matmul(gram) * c;
        x = x.clone() * a + polynomial.matmul(x);
    }
    if tall { x.transpose() } else { x }
}

/// A step of a parameter along its direction.
pub(super) fn step(value: Tensor<1>, direction: Tensor<1>, rate: f64, decay: f64) -> Tensor<1> {
    if value.device() != Device::flex() {
        return value * (1.0 - decay) - direction * rate;
    }
    // The weights have no other owner, and are not copied.
    let (mut w, direction) = (Array::of(value).values, Array::of(direction).values);
    kernel::step((1.0 - decay) as f32, rate as f32, &mut w, &direction);
    tensor(w)
}

fn tensor(values: Vec<f32>) -> Tensor<1> {
    let length = [values.len()];
    Tensor::from_data(TensorData::new(values, length), &Device::flex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoders_matrices_are_muons() {
        let of = |name: &str, shape: &[usize]| {
            let matrices = Matrices::of(name, shape);
            matrices.map(|m| (m.rows, m.columns, m.count))
        };
        assert_eq!(
            of("blocks.0.attention.qkv.kernel", &[8, 36]),
            Some((8, 12, 3))
        );
        assert_eq!(of("blocks.0.mlp.hidden.kernel", &[8, 20]), Some((8, 20, 1)));
        let asked = "class_blocks.1.attention.key_value.kernel";
        assert_eq!(of(asked, &[8, 24]), Some((8, 12, 2)));
        let merge = "stages.1.merge.projection.kernel";
        assert_eq!(of(merge, &[40, 6]), Some((40, 6, 1)));
        for name in [
            "embedding.projection.kernel",
            "stem.projection.kernel",
            "stages.0.blocks.1.mlp.mixing.kernel",
            "stages.1.downsample.taps.kernel",
            "blocks.0.attention.mix_before",
            "pooling.score.kernel",
            "head.hidden.0.kernel",
            "head.logits.kernel",
            "sequence.position",
            "blocks.0.attention.relative_position",
        ] {
            assert_eq!(of(name, &[9, 12]), None, "{name}");
        }
        assert_eq!(of("blocks.0.mlp.hidden.bias", &[8]), None);
    }

    #[test]
    fn by_kernels_and_composed_are_the_same() {
        for (rows, columns, count) in [(6, 10, 3), (11, 5, 1)] {
            let matrices = Matrices {
                rows,
                columns,
                count,
            };
            let wave = |speed: f32| {
                let values = (0..matrices.numbers()).map(|i| (i as f32 * speed).sin());
                tensor(values.collect())
            };
            let kernels = directions(vec![(matrices, wave(0.3), wave(0.7))], 0.9, 0.5);
            let (direction, momentum) = composed(matrices, wave(0.3), wave(0.7), 0.9, 0.5);
            let (by_kernels, momentum_by_kernels) = kernels.into_iter().next().unwrap();
            for (a, b) in [(by_kernels, direction), (momentum_by_kernels, momentum)] {
                let most: f32 = (a - b).abs().max().into_scalar();
                assert!(most < 2e-3, "{most}"); // small singular values are made large
            }
        }
    }
}
