//! The block against a plain double-precision reference, and its gradients against that
//! reference's central differences, with dropout on, for even and odd shapes.

use smallvit_kernels::attention::Attention;
use smallvit_kernels::block::{Block, Keys, Parameters, Weights};
use smallvit_kernels::dropout::{Rate, bits};
use smallvit_kernels::matrix::Precision;

/// Numbers in ±`size`, by SplitMix64.
fn numbers(key: u64, count: usize, size: f64) -> Vec<f64> {
    (0..count as u64)
        .map(|i| size * (2.0 * (bits(key, i) >> 11) as f64 / (1u64 << 53) as f64 - 1.0))
        .collect()
}

fn lengths(b: &Block) -> [usize; 13] {
    let (d, i, m) = (b.dim, b.attention.inner(), b.hidden);
    [
        d,
        d,
        3 * d * i,
        3 * i,
        b.attention.heads,
        i * d,
        d,
        d,
        d,
        d * m,
        m,
        m * d,
        d,
    ]
}

/// The parameters, in the order of [`lengths`], from slices of any kind.
fn parameters<T>(all: Vec<T>) -> Parameters<T> {
    let mut all = all.into_iter();
    let mut next = || all.next().unwrap();
    Parameters {
        gamma1: next(),
        beta1: next(),
        qkv_kernel: next(),
        qkv_bias: next(),
        scale: next(),
        out_kernel: next(),
        out_bias: next(),
        gamma2: next(),
        beta2: next(),
        mlp1_kernel: next(),
        mlp1_bias: next(),
        mlp2_kernel: next(),
        mlp2_bias: next(),
    }
}

/// Φ(x) by Simpson's rule, to about 1e-13.
fn cumulative(x: f64) -> f64 {
    let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let n = 400;
    let h = x / f64::from(n);
    let inner: f64 = (1..n)
        .map(|i| density(h * f64::from(i)) * if i % 2 == 1 { 4.0 } else { 2.0 })
        .sum();
    0.5 + h / 3.0 * (density(0.0) + inner + density(x))
}

fn layer_norm(x: &[f64], gamma: &[f64], beta: &[f64], epsilon: f64) -> Vec<f64> {
    let width = gamma.len();
    x.chunks(width)
        .flat_map(|row| {
            let mean = row.iter().sum::<f64>() / width as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            let normal = row
                .iter()
                .map(move |x| (x - mean) / (variance + epsilon).sqrt());
            let y: Vec<f64> = normal
                .zip(gamma)
                .zip(beta)
                .map(|((n, g), b)| n * g + b)
                .collect();
            y
        })
        .collect()
}

fn dense(x: &[f64], kernel: &[f64], bias: &[f64]) -> Vec<f64> {
    let output = bias.len();
    let input = kernel.len() / output;
    x.chunks(input)
        .flat_map(|row| {
            (0..output).map(move |o| {
                bias[o]
                    + (0..input)
                        .map(|i| row[i] * kernel[i * output + o])
                        .sum::<f64>()
            })
        })
        .collect()
}

/// Masks of the three dropouts, or ones.
struct Masks([Vec<f64>; 3]);

fn masks(b: &Block, keys: Option<Keys>) -> Masks {
    let Attention {
        tokens,
        heads,
        dropout,
        ..
    } = b.attention;
    let mask = |rate: Rate, key: Option<u64>, length: usize| {
        let mut mask = vec![1.0; length];
        if let Some(key) = key {
            rate.mask(key, 0, &mut mask);
        }
        mask.into_iter().map(f64::from).collect()
    };
    Masks([
        mask(dropout, keys.map(|k| k.attention), heads * tokens * tokens),
        mask(b.dropout, keys.map(|k| k.mlp1), tokens * b.hidden),
        mask(b.dropout, keys.map(|k| k.mlp2), tokens * b.dim),
    ])
}

fn reference(b: &Block, all: &[Vec<f64>], x: &[f64], masks: &Masks) -> Vec<f64> {
    let p = parameters(all.iter().collect());
    let Attention {
        tokens,
        heads,
        key_dim,
        mask_diagonal,
        ..
    } = b.attention;
    let inner = heads * key_dim;
    let epsilon = f64::from(b.epsilon);
    let normal = layer_norm(x, p.gamma1, p.beta1, epsilon);
    let qkv = dense(&normal, p.qkv_kernel, p.qkv_bias);
    let mut attended = vec![0.0; tokens * inner];
    for head in 0..heads {
        for i in 0..tokens {
            let at = |token: usize, c: usize| token * inner + head * key_dim + c;
            let of = |which: usize, token: usize, c: usize| {
                qkv[token * 3 * inner + which * inner + head * key_dim + c]
            };
            let score = |j: usize| -> f64 {
                let product: f64 = (0..key_dim).map(|c| of(0, i, c) * of(1, j, c)).sum();
                product * p.scale[head]
            };
            let power = |j: usize| {
                if mask_diagonal && i == j {
                    0.0
                } else {
                    score(j).exp()
                }
            };
            let sum: f64 = (0..tokens).map(power).sum();
            for j in 0..tokens {
                let mask = masks.0[0][(head * tokens + i) * tokens + j];
                for c in 0..key_dim {
                    attended[at(i, c)] += power(j) / sum * mask * of(2, j, c);
                }
            }
        }
    }
    let middle: Vec<f64> = dense(&attended, p.out_kernel, p.out_bias)
        .iter()
        .zip(x)
        .map(|(a, x)| a + x)
        .collect();
    let normal = layer_norm(&middle, p.gamma2, p.beta2, epsilon);
    let hidden: Vec<f64> = dense(&normal, p.mlp1_kernel, p.mlp1_bias)
        .iter()
        .zip(&masks.0[1])
        .map(|(&u, mask)| u * cumulative(u) * mask)
        .collect();
    dense(&hidden, p.mlp2_kernel, p.mlp2_bias)
        .iter()
        .zip(&masks.0[2])
        .zip(&middle)
        .map(|((&u, mask), middle)| {
            middle + mask * if b.second_gelu { u * cumulative(u) } else { u }
        })
        .collect()
}

fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

fn check(b: Block, keys: Option<Keys>) {
    let tokens = b.attention.tokens;
    // Rounded to float32 first, so that both sides compute with the same numbers.
    let round = |values: Vec<f64>| -> Vec<f64> {
        values.into_iter().map(|v| f64::from(v as f32)).collect()
    };
    let mut all: Vec<Vec<f64>> = lengths(&b)
        .iter()
        .enumerate()
        .map(|(i, &length)| round(numbers(i as u64, length, 0.5)))
        .collect();
    for i in [0, 7] {
        all[i].iter_mut().for_each(|gamma| *gamma += 1.0);
    }
    all[4]
        .iter_mut()
        .for_each(|scale| *scale = 0.75 + 0.5 * *scale);
    let x = round(numbers(100, tokens * b.dim, 2.0));
    let weights = round(numbers(101, tokens * b.dim, 1.0)); // the loss is Σ weights ∘ y
    let masks = masks(&b, keys);

    let single_parameters: Vec<Vec<f32>> = all.iter().map(|p| single(p)).collect();
    let p = parameters(single_parameters.iter().map(|p| &p[..]).collect());
    let (x32, dy) = (single(&x), single(&weights));
    let mut y = vec![0.0; x.len()];
    // Not a number wherever a pass reads what it has not written.
    let mut saved = vec![f32::NAN; b.saved()];
    let mut scratch = vec![f32::NAN; b.scratch()];
    b.forward(&b.weights(&p), &x32, &mut y, &mut saved, keys, &mut scratch);
    let expected = reference(&b, &all, &x, &masks);
    for (found, expected) in y.iter().zip(&expected) {
        // Sums of some hundred products of numbers around 1, in float32.
        assert!(
            (f64::from(*found) - expected).abs() < 2e-5,
            "{found} {expected}"
        );
    }
    if keys.is_none() {
        infer_in_parts(&b, &b.weights(&p), &x32, &expected);
    }

    let mut gradients: Vec<Vec<f32>> = lengths(&b).iter().map(|&n| vec![0.0; n]).collect();
    let mut dx = vec![f32::NAN; x.len()];
    scratch.fill(f32::NAN);
    let mut g = parameters(gradients.iter_mut().map(|g| &mut g[..]).collect());
    b.backward(
        &b.transposed(&p),
        &mut g,
        &x32,
        &saved,
        &dy,
        &mut dx,
        keys,
        &mut scratch,
    );

    let loss = |all: &[Vec<f64>], x: &[f64]| -> f64 {
        let y = reference(&b, all, x, &masks);
        y.iter().zip(&weights).map(|(y, w)| y * w).sum()
    };
    let step = 1e-4;
    let compare = |what: &str, found: f32, difference: f64, size: f64| {
        // Central differences err by step² ≈ 1e-8; the rest is float32.
        let error = (f64::from(found) - difference).abs();
        assert!(error < 1e-4 * size.max(1.0), "{what}: {found} {difference}");
    };
    let mut both = x.clone();
    for i in pick(x.len()) {
        both[i] = x[i] + step;
        let above = loss(&all, &both);
        both[i] = x[i] - step;
        let difference = (above - loss(&all, &both)) / (2.0 * step);
        both[i] = x[i];
        compare("x", dx[i], difference, 1.0);
    }
    for parameter in 0..13 {
        let size = gradients[parameter]
            .iter()
            .fold(0.0f32, |m, g| m.max(g.abs()));
        for i in pick(all[parameter].len()) {
            let value = all[parameter][i];
            all[parameter][i] = value + step;
            let above = loss(&all, &x);
            all[parameter][i] = value - step;
            let difference = (above - loss(&all, &x)) / (2.0 * step);
            all[parameter][i] = value;
            compare(
                &format!("parameter {parameter} {i}"),
                gradients[parameter][i],
                difference,
                size.into(),
            );
        }
    }
}

/// The pass without a backward pass, all tokens at once and a few at a time.
fn infer_in_parts(b: &Block, p: &Weights, x: &[f32], expected: &[f64]) {
    let tokens = b.attention.tokens;
    let width = 3 * b.attention.inner();
    for rows in [tokens, 3, 1] {
        let mut scratch = vec![f32::NAN; b.inference_scratch(rows)];
        let mut qkv = vec![f32::NAN; tokens * width];
        for (x, qkv) in x.chunks(rows * b.dim).zip(qkv.chunks_mut(rows * width)) {
            b.project(p, x, qkv, &mut scratch);
        }
        let mut y = vec![f32::NAN; x.len()];
        let parts = x.chunks(rows * b.dim).zip(y.chunks_mut(rows * b.dim));
        for (number, (x, y)) in parts.enumerate() {
            b.finish(p, &qkv, number * rows, x, y, &mut scratch);
        }
        for (found, expected) in y.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 2e-5);
        }
    }
}

/// A few places, the first and last among them.
fn pick(length: usize) -> impl Iterator<Item = usize> {
    let step = (length / 7).max(1);
    (0..length).step_by(step).chain([length - 1])
}

fn block(tokens: usize, dim: usize, heads: usize, key_dim: usize, hidden: usize) -> Block {
    Block {
        attention: Attention {
            tokens,
            heads,
            key_dim,
            mask_diagonal: true,
            dropout: Rate::new(0.2),
            precision: Precision::F32,
        },
        dim,
        hidden,
        second_gelu: true,
        epsilon: 1e-6,
        dropout: Rate::new(0.3),
    }
}

const KEYS: Keys = Keys {
    attention: 11,
    mlp1: 12,
    mlp2: 13,
};

#[test]
fn locality_attention_with_dropout() {
    check(block(9, 16, 2, 8, 24), Some(KEYS));
}

#[test]
fn plain_attention_without_dropout() {
    let mut b = block(16, 32, 4, 8, 64);
    b.attention.mask_diagonal = false;
    check(b, None);
}

#[test]
fn locality_attention_without_dropout() {
    let mut b = block(10, 7, 3, 5, 11);
    b.second_gelu = false;
    check(b, None);
}

#[test]
fn odd_sizes_one_gelu() {
    let mut b = block(5, 7, 3, 5, 11);
    b.second_gelu = false;
    check(b, Some(KEYS));
}

#[test]
fn the_papers_shape_of_heads() {
    check(block(17, 24, 6, 4, 48), Some(KEYS));
}

#[test]
fn no_rate_is_no_dropout() {
    let mut b = block(6, 8, 2, 4, 8);
    (b.attention.dropout, b.dropout) = (Rate::new(0.0), Rate::new(0.0));
    check(b, Some(KEYS));
}
