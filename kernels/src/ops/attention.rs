//! y = x + s · γ ∘ (heads(LN(x)) · kernel + bias): the transformer's first residual.
//!
//! Multi-head self-attention (Vaswani and others, arXiv 1706.03762, section 3.2) in a pre-norm
//! block (Dosovitskiy and others, arXiv 2010.11929, equation 2), plain or as Locality
//! Self-Attention (arXiv 2112.13492, section 3.2): a learned temperature, and no token attends to
//! itself. The heart of it, between the projections, is [`crate::attention`].

use std::sync::Arc;

use super::residual::{scale_and_add, scale_back, scaled};
use super::weights::Source;
use super::{
    Direction, ImageOp, ParameterSpec, Reach, Residual, Sizes, Values, Weights, add_row, add_rows,
    split, take,
};
use crate::attention::Attention;
use crate::matrix::{Matrix, MatrixMut, Operand};
use crate::norm;

/// What scores are multiplied by before the softmax.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Temperature {
    /// This number.
    Constant(f32),
    /// A learned number.
    Learned {
        /// One for each head, or one for all.
        each_head: bool,
        /// Whether scores are divided by it instead.
        divides: bool,
    },
}

/// The residual of a self-attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionResidual {
    /// Between the projections.
    pub attention: Attention,
    /// Width of a token.
    pub dim: usize,
    /// Whether the projections to queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Of the scores.
    pub temperature: Temperature,
    /// ε of the layer normalisation.
    pub epsilon: f32,
    /// How the branch is added.
    pub residual: Residual,
}

/// Places of the parameters, which are not all there.
struct Places {
    qkv_bias: Option<usize>,
    temperature: Option<usize>,
    position: Option<usize>,
    output_kernel: usize,
    output_bias: usize,
    layer_scale: usize,
}

const GAMMA: usize = 0;
const BETA: usize = 1;
const QKV_KERNEL: usize = 2;

// Places of the kernels.
const QKV: usize = 0;
const OUTPUT: usize = 1;
/// Of the way back: what QKV is on the way forward.
const QKV_AGAIN: usize = 2;

/// Place of the scores' factors, a head each, among what is derived.
const SCALES: usize = 0;

// Places of the keys.
const PROBABILITIES_SITE: usize = 0;
const DEPTH_SITE: usize = 1;

impl AttentionResidual {
    fn places(&self) -> Places {
        let mut next = QKV_KERNEL + 1;
        let mut place = |there: bool| {
            next += usize::from(there);
            there.then_some(next - 1)
        };
        let qkv_bias = place(self.qkv_bias);
        let temperature = place(matches!(self.temperature, Temperature::Learned { .. }));
        let position = place(self.attention.position.is_some());
        Places {
            qkv_bias,
            temperature,
            position,
            output_kernel: next,
            output_bias: next + 1,
            layer_scale: next + 2,
        }
    }

    /// Queries, keys and values; probabilities, unless these are made again; what the heads gather; the
    /// branch, where γ's gradient needs it.
    fn kept(&self) -> [usize; 4] {
        let Attention { tokens, heads, .. } = self.attention;
        let kept = usize::from(!self.attention.precision.makes_again());
        let inner = self.attention.inner();
        let branch = if self.residual.layer_scale {
            tokens * self.dim
        } else {
            0
        };
        [
            kept * tokens * 3 * inner,
            kept * heads * tokens * tokens,
            tokens * inner,
            branch,
        ]
    }

    /// Numbers of queries, keys and values where they are made again.
    fn again(&self) -> usize {
        let again = usize::from(self.attention.precision.makes_again());
        again * self.attention.tokens * 3 * self.attention.inner()
    }

    /// What each head's scores are multiplied by.
    fn scales(&self, values: &[Arc<dyn Values>]) -> Vec<f32> {
        let heads = self.attention.heads;
        match (self.temperature, self.places().temperature) {
            (Temperature::Learned { divides, .. }, Some(place)) => {
                let learned = values[place].values();
                let scale = |head: usize| {
                    let tau = learned[head % learned.len()];
                    if divides { 1.0 / tau } else { tau }
                };
                (0..heads).map(scale).collect()
            }
            (Temperature::Constant(scale), _) => vec![scale; heads],
            (Temperature::Learned { .. }, None) => unreachable!("a learned one has its place"),
        }
    }

    /// Adds the temperatures' gradients, from those of the scores' factors.
    fn add_temperature(&self, weights: &Weights, d_scales: &[f32], sum: &mut [f32]) {
        let scales = weights.derived(SCALES);
        let temperatures = sum.len();
        for (head, (d_scale, scale)) in d_scales.iter().zip(scales).enumerate() {
            sum[head % temperatures] += match self.temperature {
                // d(1 / τ) = −dτ / τ².
                Temperature::Learned { divides: true, .. } => -d_scale * scale * scale,
                _ => *d_scale,
            };
        }
    }

    /// x + s · γ ∘ (gathered · kernel + bias); the branch alone goes to `branch` where γ is there.
    fn project(
        &self,
        weights: &Weights,
        gathered: &[f32],
        x: &[f32],
        s: f32,
        y: &mut [f32],
        branch: &mut [f32],
    ) {
        let places = self.places();
        let (tokens, inner) = (x.len() / self.dim, self.attention.inner());
        let gathered = Matrix::new(gathered, tokens, inner);
        let (kernel, bias) = (
            weights.kernel(OUTPUT),
            weights.parameter(places.output_bias),
        );
        if self.residual.layer_scale {
            MatrixMut::new(branch, tokens, self.dim).set_with(Some(bias), gathered, kernel);
            scale_and_add(x, s, weights.parameter(places.layer_scale), branch, y);
        } else {
            add_row(y, x, s, bias);
            MatrixMut::new(y, tokens, self.dim).add(s, gathered, kernel);
        }
    }

    /// Normalised tokens → queries, keys and values.
    fn project_in(&self, weights: &Weights, kernel: &Operand, normal: &[f32], qkv: &mut [f32]) {
        let (tokens, width) = (normal.len() / self.dim, 3 * self.attention.inner());
        let bias = self.places().qkv_bias;
        MatrixMut::new(qkv, tokens, width).set_with(
            bias.map(|place| weights.parameter(place)),
            Matrix::new(normal, tokens, self.dim),
            kernel,
        );
    }

    fn position<'a>(&self, weights: &'a Weights) -> Option<&'a [f32]> {
        self.places().position.map(|place| weights.parameter(place))
    }
}

impl ImageOp for AttentionResidual {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let (dim, inner, heads) = (self.dim, self.attention.inner(), self.attention.heads);
        let mut all = vec![
            ParameterSpec::new("norm.gamma", [dim]),
            ParameterSpec::new("norm.beta", [dim]),
            ParameterSpec::new("qkv.kernel", [dim, 3 * inner]),
        ];
        if self.qkv_bias {
            all.push(ParameterSpec::new("qkv.bias", [3 * inner]));
        }
        if let Temperature::Learned { each_head, .. } = self.temperature {
            let count = if each_head { heads } else { 1 };
            all.push(ParameterSpec::new("temperature", [count]));
        }
        if let Some(position) = self.attention.position {
            all.push(ParameterSpec::new(
                "relative_position",
                [heads, position.offsets()],
            ));
        }
        all.push(ParameterSpec::new("output.kernel", [inner, dim]));
        all.push(ParameterSpec::new("output.bias", [dim]));
        if self.residual.layer_scale {
            all.push(ParameterSpec::new("layer_scale", [dim]));
        }
        all
    }

    fn sites(&self) -> &'static [&'static str] {
        &["dropout", "stochastic_depth"]
    }

    fn sizes(&self) -> Sizes {
        let (tokens, inner) = (self.attention.tokens, self.attention.inner());
        Sizes {
            rows_in: tokens,
            width_in: self.dim,
            rows_out: tokens,
            width_out: self.dim,
            kept: self.kept().iter().sum(),
            scratch: self.attention.scratch()
                + tokens * (3 * self.dim + 4 * inner)
                + self.again()
                + 2 * self.dim
                + self.attention.heads,
        }
    }

    fn macs(&self) -> u64 {
        let (tokens, inner) = (self.attention.tokens, self.attention.inner());
        (4 * tokens * self.dim * inner + 2 * tokens * tokens * inner) as u64
    }

    fn weights(&self, values: Vec<Arc<dyn Values>>, direction: Direction) -> Weights {
        let inner = self.attention.inner();
        let scales = self.scales(&values);
        let mut weights = Weights::new(values, direction, self.attention.precision);
        weights.derive(scales);
        weights.add_kernel(Source::Parameter(QKV_KERNEL), self.dim, 3 * inner);
        let output = Source::Parameter(self.places().output_kernel);
        weights.add_kernel(output, inner, self.dim);
        if weights.makes_again() {
            weights.add_kernel_as_is(Source::Parameter(QKV_KERNEL), self.dim, 3 * inner);
        }
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
        let key = |site: usize| keys.map(|keys| keys[site]);
        let Some(s) = self.residual.factor(key(DEPTH_SITE)) else {
            y.copy_from_slice(x);
            return;
        };
        let [qkv, probabilities, gathered, branch] =
            self.kept().map(|length| take(&mut kept, length));
        let qkv = match qkv.is_empty() {
            true => take(&mut scratch, self.again()),
            false => qkv,
        };
        self.share(weights, x, qkv, scratch);
        self.attention.forward(
            qkv,
            weights.derived(SCALES),
            self.position(weights),
            Some(probabilities).filter(|kept| !kept.is_empty()),
            gathered,
            key(PROBABILITIES_SITE),
            scratch,
        );
        self.project(weights, gathered, x, s, y, branch);
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
        let key = |site: usize| keys.map(|keys| keys[site]);
        let Some(s) = self.residual.factor(key(DEPTH_SITE)) else {
            dx.copy_from_slice(dy);
            return;
        };
        let places = self.places();
        let (tokens, inner, dim) = (self.attention.tokens, self.attention.inner(), self.dim);
        let operand = |values, width| {
            let matrix = Matrix::new(values, tokens, width);
            self.attention.precision.once(matrix)
        };
        let [qkv, probabilities, gathered, branch] =
            self.kept().map(|length| split(&mut kept, length));
        let qkv_again = take(&mut scratch, self.again());
        let d_branch = take(&mut scratch, tokens * dim);
        let normal = take(&mut scratch, tokens * dim);
        let d_normal = take(&mut scratch, tokens * dim);
        let d_gathered = take(&mut scratch, tokens * inner);
        let d_qkv = take(&mut scratch, tokens * 3 * inner);
        let d_scales = take(&mut scratch, self.attention.heads);
        let (row1, row2) = (take(&mut scratch, dim), take(&mut scratch, dim));

        if self.residual.layer_scale {
            let gamma = weights.parameter(places.layer_scale);
            let d_gamma = &mut sums[places.layer_scale];
            scale_back(s, gamma, branch, dy, d_branch, d_gamma);
        } else {
            scaled(s, dy, d_branch);
        }
        add_rows(&mut sums[places.output_bias], d_branch);
        MatrixMut::new(&mut sums[places.output_kernel], inner, dim).add(
            1.0,
            Matrix::new(gathered, tokens, inner).t(),
            &operand(d_branch, dim),
        );
        MatrixMut::new(d_gathered, tokens, inner).set(
            1.0,
            Matrix::new(d_branch, tokens, dim),
            weights.kernel(OUTPUT),
        );
        let (gamma, beta) = (weights.parameter(GAMMA), weights.parameter(BETA));
        norm::forward(x, gamma, beta, self.epsilon, normal);
        let qkv = match qkv.is_empty() {
            true => {
                self.project_in(weights, weights.kernel(QKV_AGAIN), normal, qkv_again);
                qkv_again
            }
            false => qkv,
        };
        d_scales.fill(0.0);
        let d_position = places.position.map(|place| &mut sums[place][..]);
        self.attention.backward(
            qkv,
            weights.derived(SCALES),
            self.position(weights),
            Some(probabilities).filter(|kept| !kept.is_empty()),
            d_gathered,
            d_qkv,
            d_scales,
            d_position,
            key(PROBABILITIES_SITE),
            scratch,
        );
        if let Some(place) = places.temperature {
            self.add_temperature(weights, d_scales, &mut sums[place]);
        }
        if let Some(place) = places.qkv_bias {
            add_rows(&mut sums[place], d_qkv);
        }
        MatrixMut::new(&mut sums[QKV_KERNEL], dim, 3 * inner).add(
            1.0,
            Matrix::new(normal, tokens, dim).t(),
            &operand(d_qkv, 3 * inner),
        );
        MatrixMut::new(d_normal, tokens, dim).set(
            1.0,
            Matrix::new(d_qkv, tokens, 3 * inner),
            weights.kernel(QKV),
        );
        dx.copy_from_slice(dy);
        let [d_gamma, d_beta, ..] = sums else {
            unreachable!("there are five sums or more")
        };
        norm::backward(
            x,
            gamma,
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
        Reach::Shared(3 * self.attention.inner())
    }

    /// Queries, keys and values: `[token, (q, k, v), head, key]`.
    fn share(&self, weights: &Weights, x: &[f32], qkv: &mut [f32], mut scratch: &mut [f32]) {
        let normal = take(&mut scratch, x.len());
        let (gamma, beta) = (weights.parameter(GAMMA), weights.parameter(BETA));
        norm::forward(x, gamma, beta, self.epsilon, normal);
        self.project_in(weights, weights.kernel(QKV), normal, qkv);
    }

    fn infer(
        &self,
        weights: &Weights,
        x: &[f32],
        x_first: usize,
        qkv: &[f32],
        first: usize,
        y: &mut [f32],
        mut scratch: &mut [f32],
    ) {
        let x = &x[(first - x_first) * self.dim..][..y.len()];
        let tokens = x.len() / self.dim;
        let gathered = take(&mut scratch, tokens * self.attention.inner());
        let branch = take(&mut scratch, x.len());
        let (scales, position) = (weights.derived(SCALES), self.position(weights));
        self.attention
            .infer(qkv, scales, position, first, gathered, scratch);
        self.project(weights, gathered, x, 1.0, y, branch);
    }

    fn inference_scratch(&self, rows: usize) -> usize {
        rows * (self.dim + self.attention.inner() + self.attention.tokens)
    }
}
