//! Layer normalisation of rows: ŷ = (x − mean) / √(variance + ε), y = ŷ · gamma + beta.

use crate::math::{dot, sum, sum_of};
use crate::simd::dispatched;

/// Each row of `x` into `y`.
pub fn forward(x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32, y: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if vectors::serve(gamma.len()) {
        // SAFETY: the processor has just been found to have what the function is compiled for.
        return unsafe { vectors::forward(x, gamma, beta, epsilon, y) };
    }
    forward_by_loops(x, gamma, beta, epsilon, y);
}

dispatched! {
    fn forward_by_loops(x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32, y: &mut [f32]) {
        let width = gamma.len();
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let (mean, scale) = moments(x, epsilon);
            for (((y, x), gamma), beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                *y = ((x - mean) * scale).mul_add(*gamma, *beta);
            }
        }
    }
}

/// Adds to `dx` what comes back from `dy`, and the gradients of gamma and beta to theirs.
/// `normal` and `weighted` are room for one row each.
#[expect(clippy::too_many_arguments, reason = "what came in and what goes back")]
pub fn backward(
    x: &[f32],
    gamma: &[f32],
    epsilon: f32,
    dy: &[f32],
    dx: &mut [f32],
    d_gamma: &mut [f32],
    d_beta: &mut [f32],
    normal: &mut [f32],
    weighted: &mut [f32],
) {
    assert_eq!((d_gamma.len(), d_beta.len()), (gamma.len(), gamma.len()));
    #[cfg(target_arch = "x86_64")]
    if vectors::serve(gamma.len()) {
        // SAFETY: as in `forward`.
        return unsafe { vectors::backward(x, gamma, epsilon, dy, dx, d_gamma, d_beta) };
    }
    backward_by_loops(x, gamma, epsilon, dy, dx, d_gamma, d_beta, normal, weighted);
}

dispatched! {
    fn backward_by_loops(
        x: &[f32],
        gamma: &[f32],
        epsilon: f32,
        dy: &[f32],
        dx: &mut [f32],
        d_gamma: &mut [f32],
        d_beta: &mut [f32],
        normal: &mut [f32],
        weighted: &mut [f32],
    ) {
        let width = gamma.len();
        // Slices that are known to be of one length need no checks in the loops.
        let (d_gamma, d_beta) = (&mut d_gamma[..width], &mut d_beta[..width]);
        let (normal, weighted) = (&mut normal[..width], &mut weighted[..width]);
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
        for ((x, dy), dx) in rows.zip(dx.chunks_exact_mut(width)) {
            let (x, dy, dx) = (&x[..width], &dy[..width], &mut dx[..width]);
            let (mean, scale) = moments(x, epsilon);
            for i in 0..width {
                normal[i] = (x[i] - mean) * scale;
                weighted[i] = dy[i] * gamma[i];
                d_gamma[i] = dy[i].mul_add(normal[i], d_gamma[i]);
                d_beta[i] += dy[i];
            }
            let along_one = sum(weighted) / width as f32;
            let along_normal = dot(weighted, normal) / width as f32;
            for i in 0..width {
                let rest = weighted[i] - along_one;
                dx[i] = scale.mul_add((-normal[i]).mul_add(along_normal, rest), dx[i]);
            }
        }
    }
}

/// Mean, and 1 / √(variance + ε).
#[inline(always)]
fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
    let width = x.len() as f32;
    let mean = sum(x) / width;
    let variance = sum_of(x, |x| (x - mean) * (x - mean)) / width;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// The loops above for AVX-512 and rows of whole vectors.
#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::*;

    use crate::simd::avx512::{self, load, store, sum};

    /// Rows that go through each pass before the next: what one waits for, its sums, is so done beside
    /// the others'.
    const TOGETHER: usize = 16;

    pub fn serve(width: usize) -> bool {
        width > 0 && width.is_multiple_of(16) && avx512::available()
    }

    /// Of each row the mean, and 1 / √(variance + ε).
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    #[inline]
    fn moments(x: &[f32], width: usize, epsilon: f32) -> ([f32; TOGETHER], [f32; TOGETHER]) {
        let (mut means, mut scales) = ([0.0; TOGETHER], [0.0; TOGETHER]);
        for (x, mean) in x.chunks_exact(width).zip(&mut means) {
            let mut sums = _mm512_setzero_ps();
            for x in x.as_chunks::<16>().0 {
                sums = _mm512_add_ps(sums, load(x));
            }
            *mean = sum(sums) / width as f32;
        }
        for ((x, mean), scale) in x.chunks_exact(width).zip(means).zip(&mut scales) {
            let mean = _mm512_set1_ps(mean);
            let mut sums = _mm512_setzero_ps();
            for x in x.as_chunks::<16>().0 {
                let off = _mm512_sub_ps(load(x), mean);
                sums = _mm512_add_ps(sums, _mm512_mul_ps(off, off));
            }
            *scale = 1.0 / (sum(sums) / width as f32 + epsilon).sqrt();
        }
        (means, scales)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub fn forward(x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32, y: &mut [f32]) {
        let width = gamma.len();
        let (gamma, beta) = (gamma.as_chunks::<16>().0, beta.as_chunks::<16>().0);
        let blocks = x.chunks(TOGETHER * width);
        for (x, y) in blocks.zip(y.chunks_mut(TOGETHER * width)) {
            let (means, scales) = moments(x, width, epsilon);
            let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
            for ((x, y), (mean, scale)) in rows.zip(means.into_iter().zip(scales)) {
                let (mean, scale) = (_mm512_set1_ps(mean), _mm512_set1_ps(scale));
                let numbers = x.as_chunks::<16>().0.iter().zip(y.as_chunks_mut::<16>().0);
                for ((x, y), (gamma, beta)) in numbers.zip(gamma.iter().zip(beta)) {
                    let normal = _mm512_mul_ps(_mm512_sub_ps(load(x), mean), scale);
                    store(y, _mm512_fmadd_ps(normal, load(gamma), load(beta)));
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub fn backward(
        x: &[f32],
        gamma: &[f32],
        epsilon: f32,
        dy: &[f32],
        dx: &mut [f32],
        d_gamma: &mut [f32],
        d_beta: &mut [f32],
    ) {
        let width = gamma.len();
        let gamma = gamma.as_chunks::<16>().0;
        let blocks = x.chunks(TOGETHER * width).zip(dy.chunks(TOGETHER * width));
        for ((x, dy), dx) in blocks.zip(dx.chunks_mut(TOGETHER * width)) {
            let (means, scales) = moments(x, width, epsilon);
            let rows = || x.chunks_exact(width).zip(dy.chunks_exact(width));
            let of_rows = || means.into_iter().zip(scales);
            // Some columns of all rows at a time, whose sums stay in registers.
            let sums = d_gamma.as_chunks_mut::<16>().0.iter_mut();
            let sums = sums.zip(d_beta.as_chunks_mut::<16>().0).take(gamma.len());
            for (column, (d_gamma, d_beta)) in sums.enumerate() {
                let (mut of_gamma, mut of_beta) = (load(d_gamma), load(d_beta));
                for ((x, dy), (mean, scale)) in rows().zip(of_rows()) {
                    let x = load(&x.as_chunks::<16>().0[column]);
                    let dy = load(&dy.as_chunks::<16>().0[column]);
                    let off = _mm512_sub_ps(x, _mm512_set1_ps(mean));
                    let normal = _mm512_mul_ps(off, _mm512_set1_ps(scale));
                    of_gamma = _mm512_fmadd_ps(dy, normal, of_gamma);
                    of_beta = _mm512_add_ps(of_beta, dy);
                }
                store(d_gamma, of_gamma);
                store(d_beta, of_beta);
            }
            let mut along = [[0.0f32; 2]; TOGETHER];
            for (((x, dy), (mean, scale)), along) in rows().zip(of_rows()).zip(&mut along) {
                let (mean, scale) = (_mm512_set1_ps(mean), _mm512_set1_ps(scale));
                let (mut one, mut normals) = (_mm512_setzero_ps(), _mm512_setzero_ps());
                let numbers = x.as_chunks::<16>().0.iter().zip(dy.as_chunks::<16>().0);
                for ((x, dy), gamma) in numbers.zip(gamma) {
                    let normal = _mm512_mul_ps(_mm512_sub_ps(load(x), mean), scale);
                    let weighted = _mm512_mul_ps(load(dy), load(gamma));
                    one = _mm512_add_ps(one, weighted);
                    normals = _mm512_fmadd_ps(weighted, normal, normals);
                }
                *along = [one, normals].map(|sums| sum(sums) / width as f32);
            }
            let rows = rows().zip(dx.chunks_exact_mut(width));
            for (((x, dy), dx), ((mean, scale), along)) in rows.zip(of_rows().zip(along)) {
                let [one, normals] = along.map(|along| _mm512_set1_ps(along));
                let (mean, scale) = (_mm512_set1_ps(mean), _mm512_set1_ps(scale));
                let numbers = x.as_chunks::<16>().0.iter().zip(dy.as_chunks::<16>().0);
                let numbers = numbers.zip(dx.as_chunks_mut::<16>().0);
                for (((x, dy), dx), gamma) in numbers.zip(gamma) {
                    let normal = _mm512_mul_ps(_mm512_sub_ps(load(x), mean), scale);
                    let weighted = _mm512_mul_ps(load(dy), load(gamma));
                    let rest = _mm512_fnmadd_ps(normal, normals, _mm512_sub_ps(weighted, one));
                    store(dx, _mm512_fmadd_ps(scale, rest, load(dx)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_have_the_same_bits_by_vectors_and_by_loops() {
        for (rows, width) in [(1, 16), (3, 48), (16, 64), (37, 64), (65, 192), (5, 24)] {
            let wave = |speed: f32, n: usize| -> Vec<f32> {
                (0..n).map(|i| (i as f32 * speed).sin() + 0.3).collect()
            };
            let (x, dy) = (wave(0.7, rows * width), wave(1.9, rows * width));
            let (gamma, beta) = (wave(0.3, width), wave(1.1, width));
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            let run = |by_loops: bool| {
                let mut y = vec![f32::NAN; rows * width];
                let (mut dx, mut d_gamma, mut d_beta) = (dy.clone(), gamma.clone(), beta.clone());
                let (mut row1, mut row2) = (vec![f32::NAN; width], vec![f32::NAN; width]);
                let (forward, backward): (fn(_, _, _, _, _), fn(_, _, _, _, _, _, _, _, _)) =
                    match by_loops {
                        true => (forward_by_loops, backward_by_loops),
                        false => (forward, backward),
                    };
                forward(&x, &gamma, &beta, 1e-6, &mut y);
                backward(
                    &x,
                    &gamma,
                    1e-6,
                    &dy,
                    &mut dx,
                    &mut d_gamma,
                    &mut d_beta,
                    &mut row1,
                    &mut row2,
                );
                [y, dx, d_gamma, d_beta].map(|values| bits(&values))
            };
            assert_eq!(run(true), run(false), "{rows} {width}");
        }
    }
}
