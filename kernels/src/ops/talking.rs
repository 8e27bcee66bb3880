//! y = x + s · γ ∘ (heads · kernel + bias), where the heads talk to each other: CaiT's attentions (Touvron
//! and others, *Going deeper with Image Transformers*, arXiv 2103.17239, section 2).
//!
//! Either all tokens attend to all, LN(x) to LN(x); or a class token in front, LN(class), attends to the
//! others, and alone becomes another. These are taken as they come, not normalised and without the class
//! token among them, as the code of arXiv 2112.13492 has it. The heart of it, between the projections, is
//! [`crate::talking`].

use std::sync::Arc;

use super::attention::Temperature;
use super::residual::{scale_and_add, scale_back, scaled};
use super::weights::Source;
use super::{
    Direction, ImageOp, ParameterSpec, Reach, Residual, Sizes, Values, Weights, add_row, add_rows,
    split, take,
};
use crate::matrix::{Matrix, MatrixMut};
use crate::norm;
use crate::talking::{Mixing, Talking};

/// The residual of an attention whose heads talk.
#[derive(Clone, Copy, Debug)]
pub struct TalkingResidual {
    /// Between the projections.
    pub attention: Talking,
    /// Width of a token.
    pub dim: usize,
    /// Of each head's scores.
    pub temperature: Temperature,
    /// ε of the layer normalisation.
    pub epsilon: f32,
    /// How the branch is added.
    pub residual: Residual,
}

// Places of the parameters, of which not all need be there.
const GAMMA: usize = 0;
const BETA: usize = 1;
const QUERY: usize = 2;
const KEY_VALUE: usize = 3;
const BEFORE: usize = 4;
const AFTER: usize = 5;
const OUTPUT: usize = 6;
const OUTPUT_BIAS: usize = 7;
const TEMPERATURE: usize = 8;

// The place of what is derived: the scores' factors, a head each.
const SCALES: usize = 0;

// Places of the kernels.
const QUERY_KERNEL: usize = 0;
const KEY_VALUE_KERNEL: usize = 1;
const OUTPUT_KERNEL: usize = 2;

// Places of the keys.
const PROBABILITIES_SITE: usize = 0;
const DEPTH_SITE: usize = 1;

impl TalkingResidual {
    /// Whether the first token asks alone, and is not asked.
    fn of_class(&self) -> bool {
        self.attention.keys < self.attention.tokens
    }

    fn learned(&self) -> bool {
        matches!(self.temperature, Temperature::Learned { .. })
    }

    fn layer_scale(&self) -> usize {
        TEMPERATURE + usize::from(self.learned())
    }

    /// Queries, keys and values; scores; probabilities; what is gathered; the branch, where γ's gradient
    /// needs it.
    fn kept(&self) -> [usize; 5] {
        let Talking {
            tokens, queries, ..
        } = self.attention;
        let (inner, scores) = (self.attention.inner(), self.attention.scores());
        let branch = usize::from(self.residual.layer_scale) * queries * self.dim;
        [tokens * 3 * inner, scores, scores, queries * inner, branch]
    }

    fn mixing<'a>(&self, weights: &'a Weights) -> Mixing<'a> {
        Mixing {
            scales: weights.derived(SCALES),
            before: weights.parameter(BEFORE),
            after: weights.parameter(AFTER),
        }
    }

    fn normalise(&self, weights: &Weights, x: &[f32], y: &mut [f32]) {
        let (gamma, beta) = (weights.parameter(GAMMA), weights.parameter(BETA));
        norm::forward(x, gamma, beta, self.epsilon, y);
    }

    /// Of rows `[token, (q, k, v), (head, key)]`: what the tokens from number `first` on give, as many as `x`
    /// has. `normal` is room for what of them is normalised.
    fn project_in(
        &self,
        weights: &Weights,
        x: &[f32],
        first: usize,
        qkv: &mut [f32],
        normal: &mut [f32],
    ) {
        let (dim, inner) = (self.dim, self.attention.inner());
        let rows = x.len() / dim;
        // How many of these tokens ask, and from which on they are asked.
        let ask = self.attention.queries.saturating_sub(first).min(rows);
        let asked = (self.attention.tokens - self.attention.keys)
            .saturating_sub(first)
            .min(rows);
        let normal = &mut normal[..ask * dim];
        self.normalise(weights, &x[..ask * dim], normal);
        if ask > 0 {
            MatrixMut::strided(qkv, ask, inner, 3 * inner).set(
                1.0,
                Matrix::new(normal, ask, dim),
                weights.kernel(QUERY_KERNEL),
            );
        }
        if asked < rows {
            let from = match self.of_class() {
                true => &x[asked * dim..],
                false => &normal[asked * dim..],
            };
            let to = &mut qkv[(3 * asked + 1) * inner..];
            MatrixMut::strided(to, rows - asked, 2 * inner, 3 * inner).set(
                1.0,
                Matrix::new(from, rows - asked, dim),
                weights.kernel(KEY_VALUE_KERNEL),
            );
        }
    }

    /// x + s · γ ∘ (gathered · kernel + bias) of tokens that ask; the branch alone goes to `branch` where γ is.
    fn project(
        &self,
        weights: &Weights,
        gathered: &[f32],
        x: &[f32],
        s: f32,
        y: &mut [f32],
        branch: &mut [f32],
    ) {
        let (rows, inner) = (x.len() / self.dim, self.attention.inner());
        let gathered = Matrix::new(gathered, rows, inner);
        let (kernel, bias) = (
            weights.kernel(OUTPUT_KERNEL),
            weights.parameter(OUTPUT_BIAS),
        );
        if self.residual.layer_scale {
            MatrixMut::new(branch, rows, self.dim).set_with(Some(bias), gathered, kernel);
            let gamma = weights.parameter(self.layer_scale());
            scale_and_add(x, s, gamma, branch, y);
        } else {
            add_row(y, x, s, bias);
            MatrixMut::new(y, rows, self.dim).add(s, gathered, kernel);
        }
    }
}

impl ImageOp for TalkingResidual {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let (dim, inner, heads) = (self.dim, self.attention.inner(), self.attention.heads);
        let mut all = vec![
            ParameterSpec::new("norm.gamma", [dim]),
            ParameterSpec::new("norm.beta", [dim]),
            ParameterSpec::new("query.kernel", [dim, inner]),
            ParameterSpec::new("key_value.kernel", [dim, 2 * inner]),
            ParameterSpec::new("mix_before", [heads, heads]),
            ParameterSpec::new("mix_after", [heads, heads]),
            ParameterSpec::new("output.kernel", [inner, dim]),
            ParameterSpec::new("output.bias", [dim]),
        ];
        if self.learned() {
            all.push(ParameterSpec::new("temperature", [heads]));
        }
        if self.residual.layer_scale {
            all.push(ParameterSpec::new("layer_scale", [dim]));
        }
        all
    }

    fn sites(&self) -> &'static [&'static str] {
        &["dropout", "stochastic_depth"]
    }

    fn sizes(&self) -> Sizes {
        let Talking {
            tokens, queries, ..
        } = self.attention;
        let inner = self.attention.inner();
        Sizes {
            rows_in: tokens,
            width_in: self.dim,
            rows_out: tokens,
            width_out: self.dim,
            kept: self.kept().iter().sum(),
            scratch: 3 * self.attention.scores()
                + 3 * queries * self.dim
                + queries * inner
                + tokens * 3 * inner
                + self.attention.heads
                + 2 * self.dim,
        }
    }

    fn macs(&self) -> u64 {
        let Talking { queries, keys, .. } = self.attention;
        let projections = 2 * (queries + keys) * self.dim * self.attention.inner();
        (projections + self.attention.macs()) as u64
    }

    fn weights(&self, values: Vec<Arc<dyn Values>>, direction: Direction) -> Weights {
        let (inner, heads) = (self.attention.inner(), self.attention.heads);
        let scales = match self.temperature {
            Temperature::Constant(scale) => vec![scale; heads],
            Temperature::Learned { .. } => values[TEMPERATURE].values().to_vec(),
        };
        let mut weights = Weights::new(values, direction, self.attention.precision);
        weights.derive(scales);
        weights.add_kernel(Source::Parameter(QUERY), self.dim, inner);
        weights.add_kernel(Source::Parameter(KEY_VALUE), self.dim, 2 * inner);
        weights.add_kernel(Source::Parameter(OUTPUT), inner, self.dim);
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
        let [qkv, scores, probabilities, gathered, branch] =
            self.kept().map(|length| take(&mut kept, length));
        let ask = self.attention.queries * self.dim;
        let normal = take(&mut scratch, ask);
        let mixing = self.mixing(weights);
        self.project_in(weights, x, 0, qkv, normal);
        self.attention.attend(qkv, mixing, 0, scores, probabilities);
        let key = key(PROBABILITIES_SITE);
        self.attention
            .gather(qkv, mixing, probabilities, gathered, key, scratch);
        let ((x, rest), (y, y_rest)) = (x.split_at(ask), y.split_at_mut(ask));
        self.project(weights, gathered, x, s, y, branch);
        y_rest.copy_from_slice(rest);
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
        dx.copy_from_slice(dy);
        let Some(s) = self.residual.factor(key(DEPTH_SITE)) else {
            return;
        };
        let Talking {
            tokens,
            queries,
            keys: asked,
            heads,
            ..
        } = self.attention;
        let (dim, inner) = (self.dim, self.attention.inner());
        let [qkv, scores, probabilities, gathered, branch] =
            self.kept().map(|length| split(&mut kept, length));
        let d_branch = take(&mut scratch, queries * dim);
        let normal = take(&mut scratch, queries * dim);
        let d_normal = take(&mut scratch, queries * dim);
        let d_gathered = take(&mut scratch, queries * inner);
        let d_qkv = take(&mut scratch, tokens * 3 * inner);
        let d_scales = take(&mut scratch, heads);
        let (row1, row2) = (take(&mut scratch, dim), take(&mut scratch, dim));
        let once = |matrix| self.attention.precision.once(matrix);

        let (own, dy) = (&x[..queries * dim], &dy[..queries * dim]);
        if self.residual.layer_scale {
            let place = self.layer_scale();
            let gamma = weights.parameter(place);
            scale_back(s, gamma, branch, dy, d_branch, &mut sums[place]);
        } else {
            scaled(s, dy, d_branch);
        }
        add_rows(&mut sums[OUTPUT_BIAS], d_branch);
        let d_branch = Matrix::new(d_branch, queries, dim);
        MatrixMut::new(&mut sums[OUTPUT], inner, dim).add(
            1.0,
            Matrix::new(gathered, queries, inner).t(),
            &once(d_branch),
        );
        MatrixMut::new(d_gathered, queries, inner).set(
            1.0,
            d_branch,
            weights.kernel(OUTPUT_KERNEL),
        );
        d_scales.fill(0.0);
        let [before, after] = &mut sums[BEFORE..=AFTER] else {
            unreachable!("there are two of them")
        };
        self.attention.backward(
            qkv,
            self.mixing(weights),
            scores,
            probabilities,
            d_gathered,
            d_qkv,
            [d_scales, before, after],
            key(PROBABILITIES_SITE),
            scratch,
        );
        if self.learned() {
            for (sum, d_scale) in sums[TEMPERATURE].iter_mut().zip(d_scales) {
                *sum += *d_scale;
            }
        }

        self.normalise(weights, own, normal);
        let first = tokens - asked;
        let d_query = Matrix::strided(d_qkv, queries, inner, 3 * inner);
        let d_key_value = &d_qkv[(3 * first + 1) * inner..];
        let d_key_value = Matrix::strided(d_key_value, asked, 2 * inner, 3 * inner);
        let from = match self.of_class() {
            true => &x[first * dim..],
            false => &*normal,
        };
        MatrixMut::new(&mut sums[QUERY], dim, inner).add(
            1.0,
            Matrix::new(normal, queries, dim).t(),
            &once(d_query),
        );
        MatrixMut::new(&mut sums[KEY_VALUE], dim, 2 * inner).add(
            1.0,
            Matrix::new(from, asked, dim).t(),
            &once(d_key_value),
        );
        let (query, key_value) = (
            weights.kernel(QUERY_KERNEL),
            weights.kernel(KEY_VALUE_KERNEL),
        );
        MatrixMut::new(d_normal, queries, dim).set(1.0, d_query, query);
        let to = match self.of_class() {
            true => &mut dx[first * dim..],
            false => &mut *d_normal,
        };
        MatrixMut::new(to, asked, dim).add(1.0, d_key_value, key_value);
        let [d_gamma, d_beta, ..] = sums else {
            unreachable!("there are eight sums or more")
        };
        norm::backward(
            own,
            weights.parameter(GAMMA),
            self.epsilon,
            d_normal,
            &mut dx[..queries * dim],
            d_gamma,
            d_beta,
            row1,
            row2,
        );
    }

    fn reach(&self) -> Reach {
        match self.of_class() {
            true => Reach::All,
            false => Reach::Shared(3 * self.attention.inner()),
        }
    }

    fn share(&self, weights: &Weights, x: &[f32], qkv: &mut [f32], scratch: &mut [f32]) {
        // All of these tokens ask and are asked.
        self.project_in(weights, x, 0, qkv, scratch);
    }

    fn infer(
        &self,
        weights: &Weights,
        x: &[f32],
        x_first: usize,
        shared: &[f32],
        first: usize,
        y: &mut [f32],
        mut scratch: &mut [f32],
    ) {
        let Talking {
            tokens,
            queries,
            keys,
            heads,
            ..
        } = self.attention;
        let (dim, inner) = (self.dim, self.attention.inner());
        let mixing = self.mixing(weights);
        let own = &x[(first - x_first) * dim..][..y.len()];
        // How many of these rows ask.
        let ask = queries.saturating_sub(first).min(y.len() / dim);
        let (y, y_rest) = y.split_at_mut(ask * dim);
        let (own, rest) = own.split_at(ask * dim);
        y_rest.copy_from_slice(rest);
        if ask == 0 {
            return;
        }
        let qkv = match self.of_class() {
            true => {
                let qkv = take(&mut scratch, tokens * 3 * inner);
                let normal = take(&mut scratch, dim);
                self.project_in(weights, x, 0, qkv, normal);
                &*qkv
            }
            false => shared,
        };
        let scores = take(&mut scratch, heads * ask * keys);
        let probabilities = take(&mut scratch, heads * ask * keys);
        let gathered = take(&mut scratch, ask * inner);
        let branch = take(&mut scratch, ask * dim);
        self.attention
            .attend(qkv, mixing, first, scores, probabilities);
        self.attention
            .gather(qkv, mixing, probabilities, gathered, None, scratch);
        self.project(weights, gathered, own, 1.0, y, branch);
    }

    fn inference_scratch(&self, rows: usize) -> usize {
        let Talking {
            tokens,
            queries,
            keys,
            heads,
            ..
        } = self.attention;
        let ask = rows.min(queries);
        let inner = self.attention.inner();
        let own = match self.of_class() {
            true => tokens * 3 * inner + self.dim,
            false => rows * self.dim,
        };
        own + 4 * heads * ask * keys + ask * (inner + self.dim)
    }
}
