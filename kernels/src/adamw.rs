//! The optimizer's step, one pass over memory: it reads w, g, m and v and writes w, m and v.

use crate::simd::dispatched;

/// What a step multiplies by.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// 1 − β₁.
    pub first: f32,
    /// 1 − β₂.
    pub second: f32,
    /// rate · √(1 − β₂ᵗ) / (1 − β₁ᵗ).
    pub alpha: f32,
    /// Added to √v.
    pub epsilon: f32,
    /// 1 − decay.
    pub keep: f32,
    /// What gradients are multiplied by beforehand.
    pub clip: f32,
}

dispatched! {
    /// w ← keep · w; m ← m + (1 − β₁)(g − m); v ← v + (1 − β₂)(g² − v); w ← w − α m / (√v + ε).
    pub fn step(constants: &AdamW, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        let c = *constants;
        for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
            let g = c.clip * g;
            *m = c.first.mul_add(g - *m, *m);
            *v = c.second.mul_add(g.mul_add(g, -*v), *v);
            *w = c.keep.mul_add(*w, -(c.alpha * *m / (v.sqrt() + c.epsilon)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_equals_double_precision() {
        let c = AdamW {
            first: 0.1,
            second: 0.001,
            alpha: 3e-4,
            epsilon: 1e-7,
            keep: 0.999,
            clip: 0.5,
        };
        let wave = |i: usize, speed: f64| ((i as f64 * speed).sin()) as f32;
        let mut w: Vec<f32> = (0..77).map(|i| wave(i, 0.3)).collect();
        let mut m: Vec<f32> = (0..77).map(|i| 0.1 * wave(i, 0.7)).collect();
        let mut v: Vec<f32> = (0..77).map(|i| 0.01 * wave(i, 1.1).powi(2)).collect();
        let g: Vec<f32> = (0..77).map(|i| wave(i, 1.9)).collect();
        let before: Vec<[f64; 4]> = (0..77)
            .map(|i| [w[i], m[i], v[i], g[i]].map(f64::from))
            .collect();
        step(&c, &mut w, &g, &mut m, &mut v);
        for (i, [w0, m0, v0, g0]) in before.into_iter().enumerate() {
            let g = 0.5 * g0;
            let m1 = m0 + 0.1 * (g - m0);
            let v1 = v0 + 0.001 * (g * g - v0);
            let w1 = 0.999 * w0 - 3e-4 * m1 / (v1.sqrt() + 1e-7);
            for (found, expected) in [(w[i], w1), (m[i], m1), (v[i], v1)] {
                assert!((f64::from(found) - expected).abs() < 1e-7 * expected.abs().max(1.0));
            }
        }
    }
}
