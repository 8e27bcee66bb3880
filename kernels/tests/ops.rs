//! Every operation against a plain double-precision reference, and its gradients against that
//! reference's central differences, with dropout on, for even and odd shapes; alone, and in chains.

use std::sync::Arc;

use smallvit_kernels::attention::{Attention, Position};
use smallvit_kernels::depthwise::Grid;
use smallvit_kernels::dropout::{Rate, bits};
use smallvit_kernels::matrix::Precision;
use smallvit_kernels::ops::attention::{AttentionResidual, Temperature};
use smallvit_kernels::ops::downsample::Downsample;
use smallvit_kernels::ops::embedding::Embedding;
use smallvit_kernels::ops::first::First;
use smallvit_kernels::ops::mlp::MlpResidual;
use smallvit_kernels::ops::norm::Norm;
use smallvit_kernels::ops::pooling::{Pool, Pooling};
use smallvit_kernels::ops::sequence::{Positions, Sequence};
use smallvit_kernels::ops::talking::TalkingResidual;
use smallvit_kernels::ops::token_attention::TokenAttention;
use smallvit_kernels::ops::unfold::Unfold;
use smallvit_kernels::ops::{Chain, ChainWeights, Direction, ImageOp, Residual, Values};
use smallvit_kernels::talking::{Diagonal, Talking};
use smallvit_kernels::windows::Windows;

/// Numbers in ±`size`, by SplitMix64, rounded to float32, so that both sides compute with the same.
fn numbers(key: u64, count: usize, size: f64) -> Vec<f64> {
    let number = |i| size * (2.0 * (bits(key, i) >> 11) as f64 / (1u64 << 53) as f64 - 1.0);
    (0..count as u64)
        .map(|i| f64::from(number(i) as f32))
        .collect()
}

fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

/// A few places, the first and last among them.
fn pick(length: usize) -> impl Iterator<Item = usize> {
    let step = (length / 7).max(1);
    (0..length).step_by(step).chain([length - 1])
}

// ---- The references: parameters by name, an image's numbers → what the operation makes of them.

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

fn dense(x: &[f64], kernel: &[f64], bias: Option<&Vec<f64>>, output: usize) -> Vec<f64> {
    let input = kernel.len() / output;
    let at = |row: &[f64], o: usize| -> f64 {
        let products = (0..input).map(|i| row[i] * kernel[i * output + o]);
        bias.map_or(0.0, |bias| bias[o]) + products.sum::<f64>()
    };
    x.chunks(input)
        .flat_map(|row| (0..output).map(move |o| at(row, o)))
        .collect()
}

fn mask(rate: Rate, key: Option<u64>, length: usize) -> Vec<f64> {
    let mut mask = vec![1.0; length];
    if let Some(key) = key {
        rate.mask(key, 0, &mut mask);
    }
    mask.into_iter().map(f64::from).collect()
}

/// Parameters of one operation.
struct Named<'a> {
    names: Vec<&'static str>,
    values: &'a [Vec<f64>],
}

impl Named<'_> {
    fn get(&self, name: &str) -> Option<&Vec<f64>> {
        let place = self.names.iter().position(|&own| own == name);
        place.map(|place| &self.values[place])
    }

    fn need(&self, name: &str) -> &Vec<f64> {
        self.get(name).unwrap_or_else(|| panic!("{name}"))
    }
}

/// An operation that has a reference.
trait Referenced: ImageOp {
    fn reference(&self, p: &Named, x: &[f64], keys: Option<&[u64]>) -> Vec<f64>;
}

/// x + s · γ ∘ branch.
fn residual(
    how: &Residual,
    p: &Named,
    x: &[f64],
    branch: &[f64],
    dim: usize,
    key: Option<u64>,
) -> Vec<f64> {
    let s = mask(how.depth, key, 1)[0];
    let gamma = |i: usize| p.get("layer_scale").map_or(1.0, |gamma| gamma[i % dim]);
    (0..x.len())
        .map(|i| x[i] + s * gamma(i) * branch[i])
        .collect()
}

impl Referenced for AttentionResidual {
    fn reference(&self, p: &Named, x: &[f64], keys: Option<&[u64]>) -> Vec<f64> {
        let Attention {
            tokens: together,
            heads,
            key_dim,
            ..
        } = self.attention;
        let inner = heads * key_dim;
        let tokens = x.len() / self.dim;
        // Of each token: which window it is in, where in it, and in which of the regions that a shift makes.
        let place = |token: usize| -> (usize, usize, (usize, usize)) {
            let Some(windows) = self.windows else {
                return (0, token, (0, 0));
            };
            let Windows {
                height,
                width,
                side,
                shift,
            } = windows;
            // Where the token is once the grid is rolled.
            let row = (token / width + height - shift) % height;
            let column = (token % width + width - shift) % width;
            let window = row / side * (width / side) + column / side;
            let region = |at: usize, length: usize| {
                usize::from(shift > 0 && at >= length - side) + usize::from(at >= length - shift)
            };
            let region = (region(row, height), region(column, width));
            (window, row % side * side + column % side, region)
        };
        let epsilon = f64::from(self.epsilon);
        let normal = layer_norm(x, p.need("norm.gamma"), p.need("norm.beta"), epsilon);
        let qkv = dense(&normal, p.need("qkv.kernel"), p.get("qkv.bias"), 3 * inner);
        let dropped = mask(
            self.attention.dropout,
            keys.map(|keys| keys[0]),
            heads * tokens * together,
        );
        let scale = |head: usize| match self.temperature {
            Temperature::Constant(scale) => f64::from(scale),
            Temperature::Learned { each_head, divides } => {
                let tau = p.need("temperature")[if each_head { head } else { 0 }];
                if divides { 1.0 / tau } else { tau }
            }
        };
        let bias = |head: usize, query: usize, key: usize| -> f64 {
            let ((_, query, region), (_, key, other)) = (place(query), place(key));
            let apart = if region == other { 0.0 } else { -100.0 };
            let Some(Position {
                height,
                width,
                before,
            }) = self.attention.position
            else {
                return apart;
            };
            if query < before || key < before {
                return apart;
            }
            let cell = |token: usize| ((token - before) / width, (token - before) % width);
            let ((r, c), (key_r, key_c)) = (cell(query), cell(key));
            let rows = r + height - 1 - key_r;
            let columns = c + width - 1 - key_c;
            let offsets = (2 * height - 1) * (2 * width - 1);
            apart + p.need("relative_position")[head * offsets + rows * (2 * width - 1) + columns]
        };
        let mut gathered = vec![0.0; tokens * inner];
        for head in 0..heads {
            for i in 0..tokens {
                let of = |which: usize, token: usize, c: usize| {
                    qkv[token * 3 * inner + which * inner + head * key_dim + c]
                };
                let (window, own, _) = place(i);
                let power = |j: usize| -> f64 {
                    if place(j).0 != window || self.attention.mask_diagonal && i == j {
                        return 0.0;
                    }
                    let product: f64 = (0..key_dim).map(|c| of(0, i, c) * of(1, j, c)).sum();
                    (product * scale(head) + bias(head, i, j)).exp()
                };
                let sum: f64 = (0..tokens).map(power).sum();
                for j in 0..tokens {
                    if place(j).0 != window {
                        continue;
                    }
                    let mask = ((window * heads + head) * together + own) * together + place(j).1;
                    let mask = dropped[mask];
                    for c in 0..key_dim {
                        gathered[i * inner + head * key_dim + c] +=
                            power(j) / sum * mask * of(2, j, c);
                    }
                }
            }
        }
        let mut branch = dense(
            &gathered,
            p.need("output.kernel"),
            p.get("output.bias"),
            self.dim,
        );
        if self.adds_normal {
            branch.iter_mut().zip(&normal).for_each(|(b, n)| *b += n);
        }
        let key = keys.map(|keys| keys[1]);
        residual(&self.residual, p, x, &branch, self.dim, key)
    }
}

/// u + depthwise convolution of u + bias.
fn mixed(u: &[f64], grid: Grid, kernel: &[f64], bias: &[f64]) -> Vec<f64> {
    let channels = bias.len();
    let at = |row: isize, column: isize, channel: usize| -> f64 {
        let inside = |at: isize, length: usize| (0..length as isize).contains(&at);
        if !inside(row, grid.height) || !inside(column, grid.width) {
            return 0.0;
        }
        u[(row as usize * grid.width + column as usize) * channels + channel]
    };
    let number = |place: usize| -> f64 {
        let (cell, channel) = (place / channels, place % channels);
        let (row, column) = ((cell / grid.width) as isize, (cell % grid.width) as isize);
        let tap = |tap: usize| {
            let (down, right) = (tap as isize / 3 - 1, tap as isize % 3 - 1);
            kernel[tap * channels + channel] * at(row + down, column + right, channel)
        };
        u[place] + bias[channel] + (0..9).map(tap).sum::<f64>()
    };
    (0..u.len()).map(number).collect()
}

impl Referenced for TalkingResidual {
    fn reference(&self, p: &Named, x: &[f64], keys: Option<&[u64]>) -> Vec<f64> {
        let Talking {
            tokens,
            queries,
            keys: asked,
            heads,
            key_dim,
            diagonal,
            ..
        } = self.attention;
        let (dim, inner) = (self.dim, heads * key_dim);
        let (gamma, beta) = (p.need("norm.gamma"), p.need("norm.beta"));
        let normal = layer_norm(&x[..queries * dim], gamma, beta, self.epsilon.into());
        // A class token attends to the others as they are.
        let context = match asked < tokens {
            true => &x[(tokens - asked) * dim..],
            false => &normal,
        };
        let q = dense(&normal, p.need("query.kernel"), None, inner);
        let kv = dense(context, p.need("key_value.kernel"), None, 2 * inner);
        let square = queries * asked;
        let mut scores = vec![0.0; heads * square];
        for (place, score) in scores.iter_mut().enumerate() {
            let (head, i, j) = (place / square, place / asked % queries, place % asked);
            let scale = match self.temperature {
                Temperature::Constant(scale) => f64::from(scale),
                Temperature::Learned { .. } => p.need("temperature")[head],
            };
            let products = (0..key_dim).map(|c| {
                let c = head * key_dim + c;
                q[i * inner + c] * kv[j * 2 * inner + c]
            });
            *score = match diagonal {
                Diagonal::Zero if i == j => f64::from(-1e-9f32),
                _ => scale * products.sum::<f64>(),
            };
        }
        let mixed = |from: &[f64], weights: &[f64]| -> Vec<f64> {
            let number = |place: usize| {
                let (g, rest) = (place / square, place % square);
                (0..heads)
                    .map(|h| weights[h * heads + g] * from[h * square + rest])
                    .sum()
            };
            (0..from.len()).map(number).collect()
        };
        let mut powers = mixed(&scores, p.need("mix_before"));
        for (place, power) in powers.iter_mut().enumerate() {
            let itself = place / asked % queries == place % asked;
            *power = match diagonal == Diagonal::Masked && itself {
                true => 0.0,
                false => power.exp(),
            };
        }
        for row in powers.chunks_mut(asked) {
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|power| *power /= sum);
        }
        let probabilities = mixed(&powers, p.need("mix_after"));
        let key = keys.map(|keys| keys[0]);
        let dropped = mask(self.attention.dropout, key, probabilities.len());
        let mut gathered = vec![0.0; queries * inner];
        for (place, (probability, mask)) in probabilities.iter().zip(&dropped).enumerate() {
            let (head, i, j) = (place / square, place / asked % queries, place % asked);
            for c in head * key_dim..(head + 1) * key_dim {
                gathered[i * inner + c] += probability * mask * kv[(2 * j + 1) * inner + c];
            }
        }
        let (kernel, bias) = (p.need("output.kernel"), p.get("output.bias"));
        let branch = dense(&gathered, kernel, bias, dim);
        let (own, rest) = x.split_at(queries * dim);
        let key = keys.map(|keys| keys[1]);
        let mut y = residual(&self.residual, p, own, &branch, dim, key);
        y.extend(rest);
        y
    }
}

impl Referenced for First {
    fn reference(&self, p: &Named, x: &[f64], keys: Option<&[u64]>) -> Vec<f64> {
        // What it is tested with.
        let (first, rest) = x.split_at(7);
        let mut y = mlp(1, 7, 11).reference(p, first, keys);
        y.extend(rest);
        y
    }
}

impl Referenced for Unfold {
    fn reference(&self, _: &Named, x: &[f64], _: Option<&[u64]>) -> Vec<f64> {
        let mut embedding = embedding(self.height, self.width, self.patch);
        embedding.channels = self.channels;
        (embedding.stride, embedding.padding) = (self.stride, self.padding);
        (embedding.shifted, embedding.norm, embedding.bias) = (self.shifted, false, false);
        // Projected by the identity.
        let width = self.sizes().width_out;
        embedding.dim = width;
        let identity = (0..width * width).map(|i| f64::from(u8::from(i % (width + 1) == 0)));
        let values = [identity.collect()];
        let names = vec!["projection.kernel"];
        embedding.reference(
            &Named {
                names,
                values: &values,
            },
            x,
            None,
        )
    }
}

impl Referenced for TokenAttention {
    fn reference(&self, p: &Named, x: &[f64], keys: Option<&[u64]>) -> Vec<f64> {
        let Attention {
            tokens,
            key_dim: width,
            ..
        } = self.attention;
        let (gamma, beta) = (p.need("norm.gamma"), p.need("norm.beta"));
        let normal = layer_norm(x, gamma, beta, self.epsilon.into());
        let qkv = dense(&normal, p.need("qkv.kernel"), None, 3 * width);
        let of = |which: usize, token: usize, c: usize| qkv[(3 * token + which) * width + c];
        let scale = match self.temperature {
            Temperature::Constant(scale) => f64::from(scale),
            Temperature::Learned { .. } => p.need("temperature")[0],
        };
        let key = keys.map(|keys| keys[0]);
        let dropped = mask(self.attention.dropout, key, tokens * tokens);
        let mut gathered = vec![0.0; tokens * width];
        for i in 0..tokens {
            let power = |j: usize| -> f64 {
                if self.attention.mask_diagonal && i == j {
                    return 0.0;
                }
                let products = (0..width).map(|c| of(0, i, c) * of(1, j, c));
                (scale * products.sum::<f64>()).exp()
            };
            let sum: f64 = (0..tokens).map(power).sum();
            for j in 0..tokens {
                for c in 0..width {
                    gathered[i * width + c] +=
                        power(j) / sum * dropped[i * tokens + j] * of(2, j, c);
                }
            }
        }
        let (kernel, bias) = (p.need("output.kernel"), p.get("output.bias"));
        let branch = dense(&gathered, kernel, bias, width);
        let add = |(place, branch): (usize, f64)| branch + of(2, place / width, place % width);
        branch.into_iter().enumerate().map(add).collect()
    }
}

impl Referenced for MlpResidual {
    fn reference(&self, p: &Named, x: &[f64], keys: Option<&[u64]>) -> Vec<f64> {
        let key = |site: usize| keys.map(|keys| keys[site]);
        let epsilon = f64::from(self.epsilon);
        let normal = layer_norm(x, p.need("norm.gamma"), p.need("norm.beta"), epsilon);
        let dropped = mask(self.dropout, key(0), self.tokens * self.hidden);
        let mut hidden = dense(
            &normal,
            p.need("hidden.kernel"),
            p.get("hidden.bias"),
            self.hidden,
        );
        if let Some(grid) = self.mixing {
            let (kernel, bias) = (p.need("mixing.kernel"), p.need("mixing.bias"));
            hidden = mixed(&hidden, grid, kernel, bias);
        }
        let hidden: Vec<f64> = hidden
            .iter()
            .zip(&dropped)
            .map(|(&u, mask)| u * cumulative(u) * mask)
            .collect();
        let dropped = mask(self.dropout, key(1), self.tokens * self.dim);
        let branch: Vec<f64> = dense(
            &hidden,
            p.need("output.kernel"),
            p.get("output.bias"),
            self.dim,
        )
        .iter()
        .zip(&dropped)
        .map(|(&u, mask)| {
            mask * if self.second_gelu {
                u * cumulative(u)
            } else {
                u
            }
        })
        .collect();
        residual(&self.residual, p, x, &branch, self.dim, key(2))
    }
}

/// What becomes of the class token in front of a grid, if there is one, and the grid.
fn class_apart<'a>(
    there: bool,
    p: &Named,
    x: &'a [f64],
    channels: usize,
    dim: usize,
) -> (Vec<f64>, &'a [f64]) {
    if !there {
        return (vec![], x);
    }
    let (class, grid) = x.split_at(channels);
    let (kernel, bias) = (p.need("class.kernel"), p.get("class.bias"));
    (dense(class, kernel, bias, dim), grid)
}

impl Referenced for Downsample {
    fn reference(&self, p: &Named, x: &[f64], _: Option<&[u64]>) -> Vec<f64> {
        let (channels, dim) = (self.channels, self.dim);
        let (mut y, x) = class_apart(self.class_token, p, x, channels, dim);
        let Grid { height, width } = self.grid;
        let at = |row: isize, column: isize, channel: usize| -> f64 {
            let inside = |at: isize, length: usize| (0..length as isize).contains(&at);
            if !inside(row, height) || !inside(column, width) {
                return 0.0;
            }
            x[(row as usize * width + column as usize) * channels + channel]
        };
        let mut wide = vec![];
        for row in (0..height as isize).step_by(2) {
            for column in (0..width as isize).step_by(2) {
                for number in 0..dim {
                    // Numbers 0, 1, … of the first channel, then those of the next.
                    let channel = number * channels / dim;
                    let tap = |tap: usize| {
                        let (down, right) = (tap as isize / 3 - 1, tap as isize % 3 - 1);
                        let kernel = p.need("taps.kernel")[tap * dim + number];
                        kernel * at(row + down, column + right, channel)
                    };
                    wide.push(p.need("taps.bias")[number] + (0..9).map(tap).sum::<f64>());
                }
            }
        }
        let (kernel, bias) = (p.need("projection.kernel"), p.get("projection.bias"));
        y.extend(dense(&wide, kernel, bias, dim));
        y
    }
}

impl Referenced for Embedding {
    fn reference(&self, p: &Named, x: &[f64], _: Option<&[u64]>) -> Vec<f64> {
        let (mut y, x) = class_apart(self.class_token, p, x, self.channels, self.dim);
        let by = (self.patch / 2) as isize;
        let mut shifts = vec![(0, 0)];
        if self.shifted {
            // The content moves left-up, left-down, right-up, right-down.
            shifts.extend([(by, by), (-by, by), (by, -by), (-by, -by)]);
        }
        let inside = |y: isize, x_at: isize| {
            y >= 0 && x_at >= 0 && (y as usize) < self.height && (x_at as usize) < self.width
        };
        let cell = |y: isize, x_at: isize, c: usize| -> f64 {
            if inside(y, x_at) {
                x[(y as usize * self.width + x_at as usize) * self.channels + c]
            } else {
                0.0
            }
        };
        let mut patches = vec![];
        let last = |length: usize| length + 2 * self.padding - self.patch;
        for top in (0..=last(self.height)).step_by(self.stride) {
            for left in (0..=last(self.width)).step_by(self.stride) {
                for v in 0..self.patch {
                    for u in 0..self.patch {
                        for (down, right) in &shifts {
                            let y = (top + v) as isize - self.padding as isize;
                            let x_at = (left + u) as isize - self.padding as isize;
                            // Around the grid there are zeros, however it is shifted.
                            let own = f64::from(u8::from(inside(y, x_at)));
                            let (y, x_at) = (y + down, x_at + right);
                            patches.extend((0..self.channels).map(|c| own * cell(y, x_at, c)));
                        }
                    }
                }
            }
        }
        if self.norm {
            let (gamma, beta) = (p.need("norm.gamma"), p.need("norm.beta"));
            patches = layer_norm(&patches, gamma, beta, self.epsilon.into());
        }
        let (kernel, bias) = (p.need("projection.kernel"), p.get("projection.bias"));
        y.extend(dense(&patches, kernel, bias, self.dim));
        y
    }
}

impl Referenced for Norm {
    fn reference(&self, p: &Named, x: &[f64], _: Option<&[u64]>) -> Vec<f64> {
        layer_norm(x, p.need("gamma"), p.need("beta"), self.epsilon.into())
    }
}

impl Referenced for Sequence {
    fn reference(&self, p: &Named, x: &[f64], _: Option<&[u64]>) -> Vec<f64> {
        let class = p.get("class_token").cloned().unwrap_or_default();
        let tokens = class.iter().chain(x).enumerate();
        let position = |place: usize| match &self.positions {
            Positions::Learned => p.need("position")[place],
            Positions::Fixed(positions) => f64::from(positions[place]),
            Positions::None => 0.0,
        };
        tokens.map(|(place, x)| x + position(place)).collect()
    }
}

impl Referenced for Pooling {
    fn reference(&self, p: &Named, x: &[f64], _: Option<&[u64]>) -> Vec<f64> {
        let normal = layer_norm(
            x,
            p.need("norm.gamma"),
            p.need("norm.beta"),
            self.epsilon.into(),
        );
        match self.pool {
            Pool::Flatten => normal,
            Pool::Class => normal[..self.dim].to_vec(),
            Pool::Mean => (0..self.dim)
                .map(|i| {
                    let column = normal.iter().skip(i).step_by(self.dim);
                    column.sum::<f64>() / self.tokens as f64
                })
                .collect(),
            Pool::Sequence => {
                let powers: Vec<f64> = dense(&normal, p.need("score.kernel"), None, 1)
                    .iter()
                    .map(|score| score.exp())
                    .collect();
                let sum: f64 = powers.iter().sum();
                (0..self.dim)
                    .map(|i| {
                        let column = normal.iter().skip(i).step_by(self.dim);
                        column.zip(&powers).map(|(x, p)| x * p / sum).sum()
                    })
                    .collect()
            }
        }
    }
}

// ---- The comparison.

/// A chain with its references.
struct Case {
    links: Vec<Box<dyn Referenced>>,
    chain: Chain,
    parameters: Vec<Vec<f64>>,
    keys: Option<Vec<u64>>,
}

impl Case {
    fn new(links: Vec<Box<dyn Referenced>>, ops: Vec<Box<dyn ImageOp>>, dropping: bool) -> Self {
        let chain = Chain::new(ops);
        let specs: Vec<_> = chain.parameters().into_iter().flatten().collect();
        let parameters = specs
            .iter()
            .enumerate()
            .map(|(i, spec)| {
                let mut values = numbers(i as u64, spec.count(), 0.5);
                let moved = match spec.name {
                    name if name.ends_with("gamma") => 1.0,
                    "temperature" => 0.75,
                    _ => 0.0,
                };
                values
                    .iter_mut()
                    .for_each(|v| *v = f64::from((*v * (1.0 - moved / 4.0) + moved) as f32));
                values
            })
            .collect();
        let sites: usize = chain.sites().iter().map(|sites| sites.len()).sum();
        let keys = dropping.then(|| (0..sites as u64).map(|site| 11 + site).collect());
        Self {
            links,
            chain,
            parameters,
            keys,
        }
    }

    fn reference(&self, parameters: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
        let (mut x, mut first, mut site) = (x.to_vec(), 0, 0);
        for link in &self.links {
            let names: Vec<_> = link.parameters().iter().map(|spec| spec.name).collect();
            let values = &parameters[first..][..names.len()];
            first += names.len();
            let sites = link.sites().len();
            let keys = self.keys.as_ref().map(|keys| &keys[site..][..sites]);
            site += sites;
            x = link.reference(&Named { names, values }, &x, keys);
        }
        x
    }

    fn weights(&self, direction: Direction) -> ChainWeights {
        let share = |values: &Vec<f64>| Arc::new(single(values)) as Arc<dyn Values>;
        self.chain
            .weights(self.parameters.iter().map(share).collect(), direction)
    }

    fn check(self) {
        let sizes = self.chain.sizes();
        let x = numbers(100, sizes.input(), 2.0);
        let of_loss = numbers(101, sizes.output(), 1.0); // the loss is Σ of_loss ∘ y
        let (x32, dy) = (single(&x), single(&of_loss));
        let keys = self.keys.as_deref();
        let mut y = vec![f32::NAN; sizes.output()];
        // Not a number wherever a pass reads what it has not written.
        let mut kept = vec![f32::NAN; sizes.kept];
        let mut scratch = vec![f32::NAN; sizes.scratch];
        let forward = self.weights(Direction::Forward);
        self.chain
            .forward(&forward, &x32, &mut y, &mut kept, keys, &mut scratch);
        let expected = self.reference(&self.parameters, &x);
        assert_eq!(y.len(), expected.len());
        for (found, expected) in y.iter().zip(&expected) {
            // Sums of some hundred products of numbers around 1, in float32.
            let error = (f64::from(*found) - expected).abs();
            assert!(error < 3e-5, "{found} {expected}");
        }
        if keys.is_none() {
            self.infer_in_portions(&forward, &x32, &expected);
        }

        let mut sums = self.chain.sums();
        let mut dx = vec![f32::NAN; x.len()];
        scratch.fill(f32::NAN);
        let back = self.weights(Direction::Backward);
        self.chain.backward(
            &back,
            &mut sums,
            &x32,
            &kept,
            &dy,
            &mut dx,
            keys,
            &mut scratch,
        );
        let gradients = self.chain.gradients(&back, sums);
        self.compare(&x, &of_loss, &dx, &gradients);
    }

    /// Gradients against central differences.
    fn compare(&self, x: &[f64], of_loss: &[f64], dx: &[f32], gradients: &[Vec<f32>]) {
        let loss = |parameters: &[Vec<f64>], x: &[f64]| -> f64 {
            let y = self.reference(parameters, x);
            y.iter().zip(of_loss).map(|(y, w)| y * w).sum()
        };
        let step = 1e-4;
        let agree = |what: &str, found: f32, difference: f64, size: f64| {
            // Central differences err by step² ≈ 1e-8; the rest is float32.
            let error = (f64::from(found) - difference).abs();
            assert!(error < 1e-4 * size.max(1.0), "{what}: {found} {difference}");
        };
        let mut moved = x.to_vec();
        for i in pick(x.len()) {
            moved[i] = x[i] + step;
            let above = loss(&self.parameters, &moved);
            moved[i] = x[i] - step;
            let difference = (above - loss(&self.parameters, &moved)) / (2.0 * step);
            moved[i] = x[i];
            agree("x", dx[i], difference, 1.0);
        }
        let names = self.chain.parameters().into_iter().flatten();
        let mut moved = self.parameters.clone();
        assert_eq!(gradients.len(), moved.len());
        for (place, spec) in names.enumerate() {
            assert_eq!(gradients[place].len(), moved[place].len());
            let size = gradients[place].iter().fold(0.0f32, |m, g| m.max(g.abs()));
            for i in pick(moved[place].len()) {
                let value = moved[place][i];
                moved[place][i] = value + step;
                let above = loss(&moved, x);
                moved[place][i] = value - step;
                let difference = (above - loss(&moved, x)) / (2.0 * step);
                moved[place][i] = value;
                let what = format!("{} {i}", spec.name);
                agree(&what, gradients[place][i], difference, size.into());
            }
        }
    }

    /// The pass without a backward pass, all rows at once and a few at a time.
    fn infer_in_portions(&self, weights: &ChainWeights, x: &[f32], expected: &[f64]) {
        for portion in [usize::MAX, 3, 1] {
            let mut x = x.to_vec();
            let mut shared = vec![];
            for stage in self.chain.stages() {
                let mut y = vec![f32::NAN; stage.rows * stage.width];
                let mut to_share = vec![f32::NAN; stage.rows * stage.shared];
                let mut first = 0;
                while first < stage.rows {
                    let rows = portion.min(stage.rows - first);
                    let room = self.chain.inference_scratch(&stage, rows);
                    let y = &mut y[first * stage.width..][..rows * stage.width];
                    let to_share = &mut to_share[first * stage.shared..][..rows * stage.shared];
                    let mut scratch = vec![f32::NAN; room];
                    self.chain.infer(
                        &stage,
                        weights,
                        &x,
                        &shared,
                        first,
                        rows,
                        y,
                        to_share,
                        &mut scratch,
                    );
                    first += rows;
                }
                shared = to_share;
                if stage.width > 0 {
                    x = y;
                }
            }
            assert_eq!(x.len(), expected.len());
            for (found, expected) in x.iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 3e-5);
            }
        }
    }
}

/// The operations as a chain, without dropout and with it.
macro_rules! check {
    ($($op:expr),+ $(,)?) => {
        for dropping in [false, true] {
            Case::new(vec![$(Box::new($op)),+], vec![$(Box::new($op)),+], dropping).check();
        }
    };
}

fn attention(tokens: usize, dim: usize, heads: usize, key_dim: usize) -> AttentionResidual {
    AttentionResidual {
        attention: Attention {
            tokens,
            heads,
            key_dim,
            mask_diagonal: true,
            position: None,
            dropout: Rate::new(0.2),
            precision: Precision::F32,
        },
        windows: None,
        dim,
        qkv_bias: true,
        temperature: Temperature::Learned {
            each_head: false,
            divides: true,
        },
        epsilon: 1e-6,
        adds_normal: false,
        residual: Residual::plain(),
    }
}

fn mlp(tokens: usize, dim: usize, hidden: usize) -> MlpResidual {
    MlpResidual {
        tokens,
        dim,
        hidden,
        mixing: None,
        second_gelu: true,
        epsilon: 1e-6,
        dropout: Rate::new(0.3),
        residual: Residual::plain(),
        precision: Precision::F32,
    }
}

fn embedding(height: usize, width: usize, patch: usize) -> Embedding {
    Embedding {
        height,
        width,
        channels: 3,
        patch,
        stride: patch,
        padding: 0,
        class_token: false,
        shifted: true,
        norm: true,
        bias: true,
        // Not so small that the gradients of rows that are nearly constant explode.
        epsilon: 1e-2,
        dim: 9,
        precision: Precision::F32,
    }
}

fn scaled(rate: f64) -> Residual {
    Residual {
        layer_scale: true,
        depth: Rate::new(rate),
    }
}

#[test]
fn locality_attention() {
    check!(attention(9, 16, 2, 8));
    check!(attention(5, 7, 3, 5));
}

#[test]
fn attention_over_more_tokens_than_go_together() {
    for tokens in [25, 49, 50] {
        check!(attention(tokens, 6, 2, 3));
    }
    let mut op = attention(65, 6, 2, 3);
    op.attention.position = Some(Position {
        height: 8,
        width: 8,
        before: 1,
    });
    op.residual = scaled(0.2);
    check!(op);
}

#[test]
fn plain_attention() {
    let mut op = attention(16, 32, 4, 8);
    op.attention.mask_diagonal = false;
    op.temperature = Temperature::Constant(0.35);
    check!(op);
    op.qkv_bias = false;
    check!(op);
}

#[test]
fn the_papers_attention() {
    let mut op = attention(17, 24, 6, 4);
    op.qkv_bias = false;
    op.temperature = Temperature::Learned {
        each_head: true,
        divides: false,
    };
    check!(op);
    // A draw that keeps the branch, and one that leaves it out: keys are 11 and 12.
    op.residual.depth = Rate::new(0.1);
    check!(op);
    op.residual.depth = Rate::new(0.999);
    check!(op);
}

#[test]
fn attention_with_positions_and_layer_scale() {
    for before in [0, 1] {
        let mut op = attention(12 + before, 10, 2, 4);
        op.attention.position = Some(Position {
            height: 3,
            width: 4,
            before,
        });
        op.residual = scaled(0.2);
        check!(op);
        op.attention.mask_diagonal = false;
        check!(op);
    }
}

#[test]
fn attention_with_a_second_shortcut() {
    let mut op = attention(6, 8, 2, 4);
    op.adds_normal = true;
    check!(op);
    op.residual.depth = Rate::new(0.1);
    check!(op);
    op.residual = scaled(0.2);
    check!(op);
}

fn talking(tokens: usize, queries: usize, keys: usize) -> TalkingResidual {
    TalkingResidual {
        attention: Talking {
            tokens,
            queries,
            keys,
            heads: 3,
            key_dim: 4,
            diagonal: Diagonal::Stays,
            dropout: Rate::new(0.2),
            precision: Precision::F32,
        },
        dim: 7,
        temperature: Temperature::Learned {
            each_head: true,
            divides: false,
        },
        epsilon: 1e-5,
        residual: Residual::plain(),
    }
}

#[test]
fn talking_heads() {
    for diagonal in [Diagonal::Stays, Diagonal::Zero, Diagonal::Masked] {
        let mut op = talking(6, 6, 6);
        op.attention.diagonal = diagonal;
        check!(op);
        op.residual = scaled(0.2);
        check!(op);
        op.temperature = Temperature::Constant(0.4);
        check!(op);
    }
}

#[test]
fn class_attention() {
    let mut op = talking(6, 1, 5);
    check!(op);
    op.residual = scaled(0.2);
    check!(op);
    op.residual.depth = Rate::new(0.999);
    check!(op);
}

#[test]
fn operations_on_the_first_token_alone() {
    let first = || First {
        op: Box::new(mlp(1, 7, 11)),
        tokens: 5,
    };
    check!(first());
}

#[test]
fn soft_splits() {
    for (height, width, shifted) in [(4, 4, false), (5, 7, true)] {
        check!(Unfold {
            height,
            width,
            channels: 2,
            patch: 3,
            stride: 2,
            padding: 1,
            shifted,
        });
    }
}

#[test]
fn token_transformers() {
    for mask_diagonal in [false, true] {
        let mut op = TokenAttention {
            attention: attention(6, 0, 1, 5).attention,
            dim: 9,
            temperature: Temperature::Constant(0.4),
            epsilon: 1e-5,
        };
        op.attention.mask_diagonal = mask_diagonal;
        check!(op);
        op.temperature = Temperature::Learned {
            each_head: true,
            divides: false,
        };
        check!(op);
    }
}

#[test]
fn attention_in_windows() {
    for (height, width, side, shift) in [(4, 6, 2, 0), (4, 4, 2, 1), (6, 3, 3, 1), (4, 8, 4, 2)] {
        let mut op = attention(side * side, 6, 2, 3);
        op.windows = Some(Windows {
            height,
            width,
            side,
            shift,
        });
        check!(op);
        op.attention.position = Some(Position {
            height: side,
            width: side,
            before: 0,
        });
        op.temperature = Temperature::Learned {
            each_head: true,
            divides: false,
        };
        op.residual = scaled(0.2);
        check!(op);
        op.attention.mask_diagonal = false;
        check!(op);
    }
}

#[test]
fn norms() {
    check!(Norm {
        tokens: 6,
        dim: 5,
        epsilon: 1e-5,
    });
}

#[test]
fn no_rate_is_no_dropout() {
    let mut op = attention(6, 8, 2, 4);
    op.attention.dropout = Rate::new(0.0);
    check!(op);
    let mut op = mlp(6, 8, 8);
    op.dropout = Rate::new(0.0);
    check!(op);
    op.second_gelu = false;
    check!(op);
}

#[test]
fn mlps_with_one_gelu_and_two() {
    check!(mlp(9, 16, 24));
    let mut op = mlp(5, 7, 11);
    op.second_gelu = false;
    check!(op);
    op.residual = scaled(0.2);
    check!(op);
    op.residual.depth = Rate::new(0.999);
    check!(op);
    op.second_gelu = true;
    op.residual.depth = Rate::new(0.0);
    check!(op);
}

#[test]
fn embeddings_plain_and_shifted() {
    check!(embedding(12, 12, 4));
    check!(embedding(6, 10, 2));
    let mut op = embedding(12, 9, 3);
    (op.shifted, op.norm) = (false, false);
    check!(op);
    op.norm = true;
    op.bias = false;
    check!(op);
    (op.shifted, op.norm) = (true, false);
    check!(op);
}

#[test]
fn merges_that_a_class_token_goes_past() {
    let mut op = embedding(4, 6, 2);
    op.class_token = true;
    check!(op);
    op.bias = false;
    check!(op);
    for (height, width) in [(4, 4), (2, 5), (1, 3)] {
        for class_token in [true, false] {
            check!(Downsample {
                grid: Grid { height, width },
                class_token,
                channels: 5,
                dim: 10,
                precision: Precision::F32,
            });
        }
    }
}

#[test]
fn overlapping_embeddings_are_convolutions() {
    for (height, width, patch, stride, padding) in
        [(6, 8, 3, 2, 1), (5, 4, 3, 1, 1), (7, 6, 4, 3, 0)]
    {
        for shifted in [true, false] {
            let mut op = embedding(height, width, patch);
            (op.stride, op.padding) = (stride, padding);
            op.shifted = shifted;
            check!(op);
            op.norm = false;
            check!(op);
        }
    }
}

#[test]
fn mlps_that_mix_over_a_grid() {
    for (height, width) in [(3, 3), (2, 5), (6, 1), (1, 4)] {
        let mut op = mlp(height * width, 6, 11);
        op.mixing = Some(Grid { height, width });
        check!(op);
        (op.second_gelu, op.residual) = (false, scaled(0.2));
        check!(op);
        op.dropout = Rate::new(0.0);
        check!(op);
    }
}

#[test]
fn sequences_with_and_without_a_class_token() {
    let fixed = Positions::Fixed(single(&numbers(7, 6 * 7, 1.0)).into());
    for class_token in [false, true] {
        for positions in [Positions::Learned, fixed.clone(), Positions::None] {
            check!(Sequence {
                tokens: 5,
                dim: 7,
                class_token,
                positions: positions.clone(),
            });
        }
    }
}

#[test]
fn pools() {
    for pool in [Pool::Flatten, Pool::Class, Pool::Mean, Pool::Sequence] {
        check!(Pooling {
            tokens: 6,
            dim: 5,
            epsilon: 1e-5,
            pool,
        });
    }
}

#[test]
fn a_whole_encoder_as_one_chain() {
    let first = attention(7, 9, 3, 4);
    let mut second = first;
    second.residual = scaled(0.3);
    let merged = Embedding {
        height: 1,
        width: 7,
        channels: 9,
        patch: 1,
        stride: 1,
        shifted: false,
        ..embedding(1, 7, 1)
    };
    check!(
        embedding(4, 6, 2),
        Sequence {
            tokens: 6,
            dim: 9,
            class_token: true,
            positions: Positions::Learned,
        },
        first,
        mlp(7, 9, 13),
        second,
        merged,
        mlp(7, 9, 5),
        Pooling {
            tokens: 7,
            dim: 9,
            epsilon: 1e-2,
            pool: Pool::Class,
        },
    );
}

#[test]
#[should_panic]
fn a_chain_that_does_not_fit_is_refused() {
    Chain::new(vec![
        Box::new(attention(5, 8, 2, 4)),
        Box::new(mlp(5, 9, 4)),
    ]);
}
