//! y = v + attention(q, k, v) · kernel + bias with (q, k, v) = LN(x) · kernel: T2T's token transformer
//! (Yuan and others, *Tokens-to-Token ViT*, arXiv 2101.11986, section 3.1, in its code's form), whose
//! attention has one head and makes tokens narrower, so that its shortcut is around v and not around x.

use std::sync::Arc;

use super::attention::Temperature;
use super::weights::Source;
use super::{
    Direction, ImageOp, ParameterSpec, Reach, Sizes, Values, Weights, add_rows, split, take,
};
use crate::attention::{Attention, Bias};
use crate::math::add;
use crate::matrix::{Matrix, MatrixMut};
use crate::norm;

/// An attention of one head with the shortcut around its values.
#[derive(Clone, Copy, Debug)]
pub struct TokenAttention {
    /// Between the projections, of one head; as wide as it is, tokens go out.
    pub attention: Attention,
    /// Width of a token that comes in.
    pub dim: usize,
    /// Of the scores.
    pub temperature: Temperature,
    /// ε of the layer normalisation.
    pub epsilon: f32,
}

// Places of the parameters, of which the last need not be there.
const GAMMA: usize = 0;
const BETA: usize = 1;
const QKV: usize = 2;
const OUTPUT: usize = 3;
const OUTPUT_BIAS: usize = 4;
const TEMPERATURE: usize = 5;

// The place of what is derived: the scores' factor.
const SCALE: usize = 0;

// Places of the kernels.
const QKV_KERNEL: usize = 0;
const OUTPUT_KERNEL: usize = 1;

impl TokenAttention {
    fn width(&self) -> usize {
        self.attention.key_dim
    }

    fn learned(&self) -> bool {
        matches!(self.temperature, Temperature::Learned { .. })
    }

    /// Queries, keys and values; probabilities; what is gathered.
    fn kept(&self) -> [usize; 3] {
        let tokens = self.attention.tokens;
        [
            tokens * 3 * self.width(),
            tokens * tokens,
            tokens * self.width(),
        ]
    }

    fn normalise(&self, weights: &Weights, x: &[f32], y: &mut [f32]) {
        let (gamma, beta) = (weights.parameter(GAMMA), weights.parameter(BETA));
        norm::forward(x, gamma, beta, self.epsilon, y);
    }

    /// LN(x) · kernel of some tokens; `normal` is room.
    fn project_in(&self, weights: &Weights, x: &[f32], qkv: &mut [f32], normal: &mut [f32]) {
        let rows = x.len() / self.dim;
        let normal = &mut normal[..x.len()];
        self.normalise(weights, x, normal);
        MatrixMut::new(qkv, rows, 3 * self.width()).set(
            1.0,
            Matrix::new(normal, rows, self.dim),
            weights.kernel(QKV_KERNEL),
        );
    }

    /// v + gathered · kernel + bias; `qkv` are the same tokens'.
    fn project(&self, weights: &Weights, qkv: &[f32], gathered: &[f32], y: &mut [f32]) {
        let (width, rows) = (self.width(), gathered.len() / self.width());
        MatrixMut::new(y, rows, width).set_with(
            Some(weights.parameter(OUTPUT_BIAS)),
            Matrix::new(gathered, rows, width),
            weights.kernel(OUTPUT_KERNEL),
        );
        for (y, qkv) in y.chunks_exact_mut(width).zip(qkv.chunks_exact(3 * width)) {
            add(y, &qkv[2 * width..]);
        }
    }
}

impl ImageOp for TokenAttention {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let (dim, width) = (self.dim, self.width());
        let mut all = vec![
            ParameterSpec::new("norm.gamma", [dim]),
            ParameterSpec::new("norm.beta", [dim]),
            ParameterSpec::new("qkv.kernel", [dim, 3 * width]),
            ParameterSpec::new("output.kernel", [width, width]),
            ParameterSpec::new("output.bias", [width]),
        ];
        if self.learned() {
            all.push(ParameterSpec::new("temperature", [1]));
        }
        all
    }

    fn sites(&self) -> &'static [&'static str] {
        &["dropout"]
    }

    fn sizes(&self) -> Sizes {
        assert_eq!(self.attention.heads, 1);
        let (tokens, width) = (self.attention.tokens, self.width());
        Sizes {
            rows_in: tokens,
            width_in: self.dim,
            rows_out: tokens,
            width_out: width,
            kept: self.kept().iter().sum(),
            scratch: self.attention.scratch() + tokens * (2 * self.dim + 4 * width) + 2 * self.dim,
        }
    }

    fn macs(&self) -> u64 {
        let (tokens, width) = (self.attention.tokens, self.width());
        (tokens * width * (3 * self.dim + width + 2 * tokens)) as u64
    }

    fn weights(&self, values: Vec<Arc<dyn Values>>, direction: Direction) -> Weights {
        let scale = match self.temperature {
            Temperature::Constant(scale) => scale,
            Temperature::Learned { .. } => values[TEMPERATURE].values()[0],
        };
        let mut weights = Weights::new(values, direction, self.attention.precision);
        weights.derive(vec![scale]);
        weights.add_kernel(Source::Parameter(QKV), self.dim, 3 * self.width());
        weights.add_kernel(Source::Parameter(OUTPUT), self.width(), self.width());
        weights
    }

    fn forward(
        &self,
        weights: &Weights,
        x: &[f32],
        y: &mut [f32],
        mut kept: &mut [f32],
        keys: Option<&[u64]>,
        mut scratch: &mut [f32],
    ) {
        let [qkv, probabilities, gathered] = self.kept().map(|length| take(&mut kept, length));
        let normal = take(&mut scratch, x.len());
        let (tokens, width) = (self.attention.tokens, self.width());
        self.project_in(weights, x, qkv, normal);
        self.attention.forward(
            0,
            Matrix::new(qkv, tokens, 3 * width),
            weights.derived(SCALE)[0],
            Bias::default(),
            Some(probabilities),
            gathered,
            width,
            keys.map(|keys| keys[0]),
            scratch,
        );
        self.project(weights, qkv, gathered, y);
    }

    fn backward(
        &self,
        weights: &Weights,
        sums: &mut [Vec<f32>],
        x: &[f32],
        mut kept: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        keys: Option<&[u64]>,
        mut scratch: &mut [f32],
    ) {
        let (tokens, dim, width) = (self.attention.tokens, self.dim, self.width());
        let [qkv, probabilities, gathered] = self.kept().map(|length| split(&mut kept, length));
        let normal = take(&mut scratch, tokens * dim);
        let d_normal = take(&mut scratch, tokens * dim);
        let d_gathered = take(&mut scratch, tokens * width);
        let d_qkv = take(&mut scratch, tokens * 3 * width);
        let (row1, row2) = (take(&mut scratch, dim), take(&mut scratch, dim));
        let once = |matrix| self.attention.precision.once(matrix);
        let d = Matrix::new(dy, tokens, width);
        add_rows(&mut sums[OUTPUT_BIAS], dy);
        MatrixMut::new(&mut sums[OUTPUT], width, width).add(
            1.0,
            Matrix::new(gathered, tokens, width).t(),
            &once(d),
        );
        MatrixMut::new(d_gathered, tokens, width).set(1.0, d, weights.kernel(OUTPUT_KERNEL));
        let d_scale = self.attention.backward(
            0,
            Matrix::new(qkv, tokens, 3 * width),
            weights.derived(SCALE)[0],
            Bias::default(),
            Some(probabilities),
            Matrix::new(d_gathered, tokens, width),
            d_qkv,
            None,
            keys.map(|keys| keys[0]),
            scratch,
        );
        if self.learned() {
            sums[TEMPERATURE][0] += d_scale;
        }
        for (d_qkv, dy) in d_qkv
            .chunks_exact_mut(3 * width)
            .zip(dy.chunks_exact(width))
        {
            add(&mut d_qkv[2 * width..], dy);
        }
        self.normalise(weights, x, normal);
        let d_qkv = Matrix::new(d_qkv, tokens, 3 * width);
        MatrixMut::new(&mut sums[QKV], dim, 3 * width).add(
            1.0,
            Matrix::new(normal, tokens, dim).t(),
            &once(d_qkv),
        );
        MatrixMut::new(d_normal, tokens, dim).set(1.0, d_qkv, weights.kernel(QKV_KERNEL));
        dx.fill(0.0);
        let [d_gamma, d_beta, ..] = sums else {
            unreachable!("there are five sums or more")
        };
        norm::backward(
            x,
            weights.parameter(GAMMA),
            self.epsilon,
            d_normal,
            dx,
            d_gamma,
            d_beta,
            row1,
            row2,
        );
    }

    fn reach(&self) -> Reach {
        Reach::Shared(3 * self.width())
    }

    fn share(&self, weights: &Weights, x: &[f32], qkv: &mut [f32], scratch: &mut [f32]) {
        self.project_in(weights, x, qkv, scratch);
    }

    fn infer(
        &self,
        weights: &Weights,
        _: &[f32],
        _: usize,
        qkv: &[f32],
        first: usize,
        y: &mut [f32],
        mut scratch: &mut [f32],
    ) {
        let (tokens, width) = (self.attention.tokens, self.width());
        let rows = y.len() / width;
        let gathered = take(&mut scratch, rows * width);
        self.attention.infer(
            Matrix::new(qkv, tokens, 3 * width),
            weights.derived(SCALE)[0],
            Bias::default(),
            first,
            rows,
            gathered,
            width,
            scratch,
        );
        let own = &qkv[first * 3 * width..][..rows * 3 * width];
        self.project(weights, own, gathered, y);
    }

    fn inference_scratch(&self, rows: usize) -> usize {
        (rows * self.dim).max(rows * (self.width() + self.attention.tokens))
    }
}
