//! y = x + s · γ ∘ (heads(LN(x)) · kernel + bias): the transformer's first residual.
//!
//! Multi-head self-attention (Vaswani and others, arXiv 1706.03762, section 3.2) in a pre-norm
//! block (Dosovitskiy and others, arXiv 2010.11929, equation 2), plain or as Locality
//! Self-Attention (arXiv 2112.13492, section 3.2): a learned temperature, and no token attends to
//! itself. The heart of it, between the projections, is [`crate::attention`].

use std::sync::Arc;

use super::residual::{add_times, scale_and_add, scale_back, scaled};
use super::weights::Source;
use super::{
    Direction, ImageOp, ParameterSpec, Reach, Residual, Sizes, Values, Weights, add_row, add_rows,
    split, take,
};
use crate::attention::{Attention, Bias};
use crate::math::add;
use crate::matrix::{Matrix, MatrixMut, Operand};
use crate::norm;
use crate::windows::Windows;

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
    /// The windows, of which each attends to itself alone; none where all tokens attend to each other.
    pub windows: Option<Windows>,
    /// Width of a token.
    pub dim: usize,
    /// Whether the projections to queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Of the scores.
    pub temperature: Temperature,
    /// ε of the layer normalisation.
    pub epsilon: f32,
    /// Whether the branch is LN(x) + attention(LN(x)), as in the T2T of arXiv 2112.13492's code.
    pub adds_normal: bool,
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

// Places of what is derived.
/// The scores' factors, a head each.
const SCALES: usize = 0;
/// The kernel of queries, keys and values, `[dim, head, (q, k, v), key]`: the parameter has the heads
/// last but one.
const BY_HEAD: usize = 1;
/// Its bias, the same way.
const BIAS_BY_HEAD: usize = 2;

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

    /// What the heads gather; the branch, where γ's gradient needs it; queries, keys and values,
    /// `[head, token, (q, k, v), key]`, and probabilities, `[head, token, token]` or `[head, window, token,
    /// token]`, unless these are made again.
    fn kept(&self) -> [usize; 4] {
        let (tokens, inner) = (self.tokens(), self.attention.inner());
        let branch = match self.residual.layer_scale {
            true => tokens * self.dim,
            false => 0,
        };
        let kept = usize::from(!self.attention.precision.makes_again());
        [
            tokens * inner,
            branch,
            kept * tokens * 3 * inner,
            kept * self.attention.heads * tokens * self.attention.tokens,
        ]
    }

    /// An image's tokens.
    fn tokens(&self) -> usize {
        match self.windows {
            Some(windows) => windows.height * windows.width,
            None => self.attention.tokens,
        }
    }

    // Places of the kernels.

    /// A head's part of the kernel of queries, keys and values.
    fn qkv(&self, head: usize) -> usize {
        head
    }

    /// The output's kernel on the way forward; on the way back a head's part of it.
    fn output(&self, head: usize) -> usize {
        self.attention.heads + head
    }

    /// Of the way back, where it makes again: what `qkv` is on the way forward.
    fn qkv_again(&self, head: usize) -> usize {
        2 * self.attention.heads + head
    }

    /// Columns in the parameter's order, (q, k, v), head, key, with the heads first.
    fn by_head(&self, values: &[f32]) -> Vec<f32> {
        let mut all = Vec::with_capacity(values.len());
        for row in values.chunks_exact(3 * self.attention.inner()) {
            for head in 0..self.attention.heads {
                for which in 0..3 {
                    let part = which * self.attention.heads + head;
                    all.extend(&row[part * self.attention.key_dim..][..self.attention.key_dim]);
                }
            }
        }
        all
    }

    /// And back.
    fn by_part(&self, values: &[f32]) -> Vec<f32> {
        let mut all = Vec::with_capacity(values.len());
        for row in values.chunks_exact(3 * self.attention.inner()) {
            for which in 0..3 {
                for head in 0..self.attention.heads {
                    let part = 3 * head + which;
                    all.extend(&row[part * self.attention.key_dim..][..self.attention.key_dim]);
                }
            }
        }
        all
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

    /// x + s · γ ∘ (gathered · kernel + bias), LN(x) in the brackets where it is `normal`; the branch alone
    /// goes to `branch` where γ is there.
    #[expect(clippy::too_many_arguments, reason = "what comes in and what goes out")]
    fn project(
        &self,
        weights: &Weights,
        gathered: &[f32],
        x: &[f32],
        normal: Option<&[f32]>,
        s: f32,
        y: &mut [f32],
        branch: &mut [f32],
    ) {
        let places = self.places();
        let (tokens, inner) = (x.len() / self.dim, self.attention.inner());
        let gathered = Matrix::new(gathered, tokens, inner);
        let (kernel, bias) = (
            weights.kernel(self.output(0)),
            weights.parameter(places.output_bias),
        );
        if self.residual.layer_scale {
            MatrixMut::new(branch, tokens, self.dim).set_with(Some(bias), gathered, kernel);
            normal.iter().for_each(|normal| add(branch, normal));
            scale_and_add(x, s, weights.parameter(places.layer_scale), branch, y);
        } else {
            add_row(y, x, s, bias);
            MatrixMut::new(y, tokens, self.dim).add(s, gathered, kernel);
            normal.iter().for_each(|normal| add_times(y, s, normal));
        }
    }

    /// Normalised tokens → a head's queries, keys and values, in rows `stride` apart.
    fn project_in(
        &self,
        weights: &Weights,
        kernel: &Operand,
        head: usize,
        normal: &[f32],
        qkv: &mut [f32],
        stride: usize,
    ) {
        let (tokens, width) = (normal.len() / self.dim, 3 * self.attention.key_dim);
        let bias = self.qkv_bias.then(|| weights.derived(BIAS_BY_HEAD));
        MatrixMut::strided(qkv, tokens, width, stride).set_with(
            bias.map(|bias| &bias[head * width..][..width]),
            Matrix::new(normal, tokens, self.dim),
            kernel,
        );
    }

    /// A head's biases by relative position.
    fn position<'a>(&self, weights: &'a Weights, head: usize) -> Option<&'a [f32]> {
        let position = self.attention.position?;
        let table = weights.parameter(self.places().position?);
        Some(&table[head * position.offsets()..][..position.offsets()])
    }

    /// A head of one image, `[token, (q, k, v), key]` → its part of `gathered`, window by window where there
    /// are any. `probabilities` is the head's of what is kept.
    #[expect(clippy::too_many_arguments, reason = "what comes in and what goes out")]
    fn attend(
        &self,
        weights: &Weights,
        head: usize,
        qkv: &[f32],
        mut probabilities: Option<&mut [f32]>,
        gathered: &mut [f32],
        key: Option<u64>,
        mut scratch: &mut [f32],
    ) {
        let Attention {
            tokens,
            heads,
            key_dim,
            ..
        } = self.attention;
        let (inner, width) = (self.attention.inner(), 3 * key_dim);
        let scale = weights.derived(SCALES)[head];
        let gathered = &mut gathered[head * key_dim..];
        let bias = Bias {
            position: self.position(weights, head),
            regions: None,
        };
        let Some(windows) = self.windows else {
            let qkv = Matrix::new(qkv, tokens, width);
            return self.attention.forward(
                head,
                qkv,
                scale,
                bias,
                probabilities,
                gathered,
                inner,
                key,
                scratch,
            );
        };
        let own = take(&mut scratch, tokens * width);
        let out = take(&mut scratch, tokens * key_dim);
        for window in 0..windows.count() {
            let regions = windows.regions(window);
            let bias = Bias {
                regions: regions.as_deref(),
                ..bias
            };
            let square = probabilities.as_mut().map(|all| take(all, tokens * tokens));
            windows.gather(window, qkv, width, width, own);
            self.attention.forward(
                window * heads + head,
                Matrix::new(own, tokens, width),
                scale,
                bias,
                square,
                out,
                key_dim,
                key,
                scratch,
            );
            windows.scatter(window, out, key_dim, gathered, inner);
        }
    }

    /// And back: `d_out`, `[token, key]` → `d_qkv`, which is written; returns the gradient of the head's
    /// factor of its scores.
    #[expect(clippy::too_many_arguments, reason = "what came in and what goes back")]
    fn attend_back(
        &self,
        weights: &Weights,
        head: usize,
        qkv: &[f32],
        mut probabilities: Option<&[f32]>,
        d_out: &[f32],
        d_qkv: &mut [f32],
        mut d_position: Option<&mut [f32]>,
        key: Option<u64>,
        mut scratch: &mut [f32],
    ) -> f32 {
        let Attention {
            tokens,
            heads,
            key_dim,
            ..
        } = self.attention;
        let width = 3 * key_dim;
        let scale = weights.derived(SCALES)[head];
        let bias = Bias {
            position: self.position(weights, head),
            regions: None,
        };
        let Some(windows) = self.windows else {
            return self.attention.backward(
                head,
                Matrix::new(qkv, tokens, width),
                scale,
                bias,
                probabilities,
                Matrix::new(d_out, tokens, key_dim),
                d_qkv,
                d_position,
                key,
                scratch,
            );
        };
        let own = take(&mut scratch, tokens * width);
        let d_own = take(&mut scratch, tokens * width);
        let out = take(&mut scratch, tokens * key_dim);
        let mut d_scale = 0.0;
        for window in 0..windows.count() {
            let regions = windows.regions(window);
            let bias = Bias {
                regions: regions.as_deref(),
                ..bias
            };
            let square = probabilities
                .as_mut()
                .map(|all| split(all, tokens * tokens));
            windows.gather(window, qkv, width, width, own);
            windows.gather(window, d_out, key_dim, key_dim, out);
            d_scale += self.attention.backward(
                window * heads + head,
                Matrix::new(own, tokens, width),
                scale,
                bias,
                square,
                Matrix::new(out, tokens, key_dim),
                d_own,
                d_position.as_deref_mut(),
                key,
                scratch,
            );
            windows.scatter(window, d_own, width, d_qkv, width);
        }
        d_scale
    }

    /// A head's part of what the tokens from number `first` on gather, as many as `gathered` has rows, nothing
    /// dropped. `qkv` are the whole image's, `[token, head, (q, k, v), key]`.
    fn attend_only(
        &self,
        weights: &Weights,
        head: usize,
        qkv: &[f32],
        first: usize,
        gathered: &mut [f32],
        mut scratch: &mut [f32],
    ) {
        let Attention {
            tokens, key_dim, ..
        } = self.attention;
        let (inner, width) = (self.attention.inner(), 3 * key_dim);
        let rows = gathered.len() / inner;
        let scale = weights.derived(SCALES)[head];
        let gathered = &mut gathered[head * key_dim..];
        let bias = Bias {
            position: self.position(weights, head),
            regions: None,
        };
        let Some(windows) = self.windows else {
            let qkv = Matrix::new(qkv, tokens, 3 * inner).from_column(head * width, width);
            return self
                .attention
                .infer(qkv, scale, bias, first, rows, gathered, inner, scratch);
        };
        let own = take(&mut scratch, tokens * width);
        let out = take(&mut scratch, tokens * key_dim);
        let asked = |token: &usize| (first..first + rows).contains(token);
        for window in 0..windows.count() {
            if !windows.members(window).any(|token| asked(&token)) {
                continue;
            }
            let regions = windows.regions(window);
            let bias = Bias {
                regions: regions.as_deref(),
                ..bias
            };
            windows.gather(window, &qkv[head * width..], 3 * inner, width, own);
            let own = Matrix::new(own, tokens, width);
            self.attention
                .infer(own, scale, bias, 0, tokens, out, key_dim, scratch);
            for (token, out) in windows.members(window).zip(out.chunks_exact(key_dim)) {
                if asked(&token) {
                    gathered[(token - first) * inner..][..key_dim].copy_from_slice(out);
                }
            }
        }
    }

    /// Room for a window's queries, keys, values, their gradients, and what is gathered.
    fn window_scratch(&self) -> usize {
        let Attention {
            tokens, key_dim, ..
        } = self.attention;
        self.windows.map_or(0, |_| 7 * tokens * key_dim)
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
        let tokens = self.tokens();
        Sizes {
            rows_in: tokens,
            width_in: self.dim,
            rows_out: tokens,
            width_out: self.dim,
            kept: self.kept().iter().sum(),
            scratch: self.attention.scratch()
                + self.window_scratch()
                + tokens * (3 * self.dim + 7 * self.attention.key_dim)
                + self.attention.heads
                + 2 * self.dim,
        }
    }

    fn macs(&self) -> u64 {
        let (tokens, inner) = (self.tokens(), self.attention.inner());
        (4 * tokens * self.dim * inner + 2 * tokens * self.attention.tokens * inner) as u64
    }

    fn weights(&self, values: Vec<Arc<dyn Values>>, direction: Direction) -> Weights {
        let Attention { heads, key_dim, .. } = self.attention;
        let (inner, places) = (self.attention.inner(), self.places());
        let scales = self.scales(&values);
        let kernel = self.by_head(values[QKV_KERNEL].values());
        let bias = places.qkv_bias.map(|at| self.by_head(values[at].values()));
        let mut weights = Weights::new(values, direction, self.attention.precision);
        weights.derive(scales);
        weights.derive(kernel);
        if let Some(bias) = bias {
            weights.derive(bias);
        }
        let by_head = Source::Derived(BY_HEAD);
        let output = Source::Parameter(places.output_kernel);
        let (back, width) = (direction == Direction::Backward, 3 * key_dim);
        for head in 0..heads {
            weights.add_part(by_head, self.dim, heads * width, |all| {
                let part = all.from_column(head * width, width);
                if back { part.t() } else { part }
            });
        }
        if !back {
            weights.add_kernel(output, inner, self.dim);
            return weights;
        }
        for head in 0..heads {
            weights.add_part(output, inner, self.dim, |all| {
                all.from_row(head * key_dim, key_dim).t()
            });
        }
        // What is kept is not made again.
        let again = if self.attention.precision.makes_again() {
            heads
        } else {
            0
        };
        for head in 0..again {
            weights.add_part(by_head, self.dim, heads * width, |all| {
                all.from_column(head * width, width)
            });
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
        let (tokens, width) = (self.tokens(), 3 * self.attention.key_dim);
        let [gathered, branch, qkv, probabilities] =
            self.kept().map(|length| take(&mut kept, length));
        let normal = take(&mut scratch, x.len());
        let passing = take(&mut scratch, tokens * width);
        let mut of_heads = qkv.chunks_exact_mut(tokens * width);
        let mut squares = probabilities.chunks_exact_mut(tokens * self.attention.tokens);
        let (gamma, beta) = (weights.parameter(GAMMA), weights.parameter(BETA));
        norm::forward(x, gamma, beta, self.epsilon, normal);
        for head in 0..self.attention.heads {
            let kernel = weights.kernel(self.qkv(head));
            let qkv = of_heads.next().unwrap_or(&mut *passing);
            self.project_in(weights, kernel, head, normal, qkv, width);
            let (square, key) = (squares.next(), key(PROBABILITIES_SITE));
            self.attend(weights, head, qkv, square, gathered, key, scratch);
        }
        let normal = self.adds_normal.then_some(&*normal);
        self.project(weights, gathered, x, normal, s, y, branch);
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
        let (tokens, key_dim) = (self.tokens(), self.attention.key_dim);
        let (inner, dim, width) = (self.attention.inner(), self.dim, 3 * key_dim);
        let [gathered, branch, qkv, probabilities] =
            self.kept().map(|length| split(&mut kept, length));
        let d_branch = take(&mut scratch, tokens * dim);
        let normal = take(&mut scratch, tokens * dim);
        let d_normal = take(&mut scratch, tokens * dim);
        let again = take(&mut scratch, tokens * width);
        let mut of_heads = qkv.chunks_exact(tokens * width);
        let mut squares = probabilities.chunks_exact(tokens * self.attention.tokens);
        let d_qkv = take(&mut scratch, tokens * width);
        let d_out = take(&mut scratch, tokens * key_dim);
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
        let from_normal = self.adds_normal.then_some(&*d_branch);
        let d_branch = Matrix::new(d_branch, tokens, dim);
        MatrixMut::new(&mut sums[places.output_kernel], inner, dim).add(
            1.0,
            Matrix::new(gathered, tokens, inner).t(),
            &self.attention.precision.once(d_branch),
        );
        let (gamma, beta) = (weights.parameter(GAMMA), weights.parameter(BETA));
        norm::forward(x, gamma, beta, self.epsilon, normal);
        for (head, d_scale) in d_scales.iter_mut().enumerate() {
            let qkv = match of_heads.next() {
                Some(kept) => kept,
                None => {
                    let kernel = weights.kernel(self.qkv_again(head));
                    self.project_in(weights, kernel, head, normal, again, width);
                    &*again
                }
            };
            let kernel = weights.kernel(self.output(head));
            MatrixMut::new(d_out, tokens, key_dim).set(1.0, d_branch, kernel);
            let d_position = places.position.map(|place| {
                let offsets = sums[place].len() / self.attention.heads;
                &mut sums[place][head * offsets..][..offsets]
            });
            *d_scale = self.attend_back(
                weights,
                head,
                qkv,
                squares.next(),
                d_out,
                d_qkv,
                d_position,
                key(PROBABILITIES_SITE),
                scratch,
            );
            if let Some(place) = places.qkv_bias {
                add_rows(&mut sums[place][head * width..][..width], d_qkv);
            }
            let d_qkv = Matrix::new(d_qkv, tokens, width);
            let sum = &mut sums[QKV_KERNEL][head * width..];
            MatrixMut::strided(sum, dim, width, 3 * inner).add(
                1.0,
                Matrix::new(normal, tokens, dim).t(),
                &self.attention.precision.once(d_qkv),
            );
            let (to, kernel) = (
                MatrixMut::new(d_normal, tokens, dim),
                weights.kernel(self.qkv(head)),
            );
            match head {
                0 => to.set(1.0, d_qkv, kernel),
                _ => to.add(1.0, d_qkv, kernel),
            }
        }
        from_normal.iter().for_each(|d| add(d_normal, d));
        if let Some(place) = places.temperature {
            self.add_temperature(weights, d_scales, &mut sums[place]);
        }
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

    /// Sums have the heads first.
    fn gradients(&self, _: &Weights, mut sums: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        for place in [Some(QKV_KERNEL), self.places().qkv_bias]
            .into_iter()
            .flatten()
        {
            sums[place] = self.by_part(&sums[place]);
        }
        sums
    }

    fn reach(&self) -> Reach {
        Reach::Shared(3 * self.attention.inner())
    }

    /// Queries, keys and values: `[token, head, (q, k, v), key]`.
    fn share(&self, weights: &Weights, x: &[f32], qkv: &mut [f32], mut scratch: &mut [f32]) {
        let normal = take(&mut scratch, x.len());
        let (gamma, beta) = (weights.parameter(GAMMA), weights.parameter(BETA));
        norm::forward(x, gamma, beta, self.epsilon, normal);
        let width = 3 * self.attention.key_dim;
        for head in 0..self.attention.heads {
            let (kernel, qkv) = (weights.kernel(self.qkv(head)), &mut qkv[head * width..]);
            let stride = self.attention.heads * width;
            self.project_in(weights, kernel, head, normal, qkv, stride);
        }
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
        let rows = x.len() / self.dim;
        let gathered = take(&mut scratch, rows * self.attention.inner());
        let branch = take(&mut scratch, x.len());
        let normal = take(&mut scratch, usize::from(self.adds_normal) * x.len());
        if self.adds_normal {
            let (gamma, beta) = (weights.parameter(GAMMA), weights.parameter(BETA));
            norm::forward(x, gamma, beta, self.epsilon, normal);
        }
        for head in 0..self.attention.heads {
            self.attend_only(weights, head, qkv, first, gathered, scratch);
        }
        let normal = self.adds_normal.then_some(&*normal);
        self.project(weights, gathered, x, normal, 1.0, y, branch);
    }

    fn inference_scratch(&self, rows: usize) -> usize {
        // Of a window all rows of scores, where any is asked for.
        let scores = match self.windows {
            Some(_) => self.attention.tokens.pow(2),
            None => rows * self.attention.tokens,
        };
        let rows_of_branch = (1 + usize::from(self.adds_normal)) * rows;
        rows_of_branch * self.dim + rows * self.attention.inner() + scores + self.window_scratch()
    }
}
