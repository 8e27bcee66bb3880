//! Lion's step (Chen and others, *Symbolic Discovery of Optimization Algorithms*, arXiv 2302.06675,
//! algorithm 2), one pass over memory: it reads w, g and m and writes w and m.

use crate::simd::dispatched;

/// What a step multiplies by.
#[derive(Clone, Copy, Debug)]
pub struct Lion {
    /// 1 − β₁: the gradient's share of the direction.
    pub first: f32,
    /// 1 − β₂: the gradient's share of the momentum.
    pub second: f32,
    /// The learning rate.
    pub rate: f32,
    /// 1 − decay.
    pub keep: f32,
    /// What gradients are multiplied by beforehand.
    pub clip: f32,
}

dispatched! {
    /// w ← keep · w − rate · sign(m + (1 − β₁)(g − m)); m ← m + (1 − β₂)(g − m). The sign of 0 is 0.
    pub fn step(constants: &Lion, w: &mut [f32], g: &[f32], m: &mut [f32]) {
        let c = *constants;
        for ((w, g), m) in w.iter_mut().zip(g).zip(m) {
            let apart = c.clip.mul_add(*g, -*m);
            let direction = c.first.mul_add(apart, *m);
            let step = if direction == 0.0 { 0.0 } else { c.rate.copysign(direction) };
            *w = c.keep.mul_add(*w, -step);
            *m = c.second.mul_add(apart, *m);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_equals_double_precision() {
        let c = Lion {
            first: 0.1,
            second: 0.01,
            rate: 1e-3,
            keep: 0.999,
            clip: 0.5,
        };
        let wave = |i: usize, speed: f64| (i as f64 * speed).sin() as f32;
        let mut w: Vec<f32> = (0..77).map(|i| wave(i, 0.3)).collect();
        let mut m: Vec<f32> = (0..77).map(|i| 0.1 * wave(i, 0.7)).collect();
        let mut g: Vec<f32> = (0..77).map(|i| wave(i, 1.9)).collect();
        // A direction that is none.
        (m[5], g[5]) = (0.0, 0.0);
        let before: Vec<[f64; 3]> = (0..77).map(|i| [w[i], m[i], g[i]].map(f64::from)).collect();
        step(&c, &mut w, &g, &mut m);
        for (i, [w0, m0, g0]) in before.into_iter().enumerate() {
            let g = 0.5 * g0;
            let direction = 0.9 * m0 + 0.1 * g;
            let sign = if direction == 0.0 {
                0.0
            } else {
                direction.signum()
            };
            for (found, expected) in [
                (w[i], 0.999 * w0 - 1e-3 * sign),
                (m[i], 0.99 * m0 + 0.01 * g),
            ] {
                assert!((f64::from(found) - expected).abs() < 1e-7, "{i}");
            }
        }
    }
}
