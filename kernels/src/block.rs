//! The encoder block: y = x + Attention(LN(x)), then y + MLP(LN(y)).

use crate::attention::Attention;
use crate::dropout::Rate;
use crate::math::{add, gelu, multiply};
use crate::matrix::{Matrix, MatrixMut, Right};
use crate::norm;
use crate::simd::dispatched;

/// What a block does, and its sizes.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Between the projections.
    pub attention: Attention,
    /// Width of a token.
    pub dim: usize,
    /// Width of the MLP's hidden layer.
    pub hidden: usize,
    /// Whether a GELU also follows the MLP's second layer.
    pub second_gelu: bool,
    /// ε of both layer normalisations.
    pub epsilon: f32,
    /// Dropout after each of the MLP's layers.
    pub dropout: Rate,
}

/// A block's parameters or, as `Parameters<&mut [f32]>`, their gradients. Kernels are (in, out).
pub struct Parameters<T> {
    /// First layer normalisation, `[dim]`.
    pub gamma1: T,
    /// First layer normalisation, `[dim]`.
    pub beta1: T,
    /// Query, key and value side by side, `[dim, 3 · heads · key_dim]`.
    pub qkv_kernel: T,
    /// Query, key and value, `[3 · heads · key_dim]`.
    pub qkv_bias: T,
    /// 1 / τ, `[heads]`.
    pub scale: T,
    /// After the heads, `[heads · key_dim, dim]`.
    pub out_kernel: T,
    /// After the heads, `[dim]`.
    pub out_bias: T,
    /// Second layer normalisation, `[dim]`.
    pub gamma2: T,
    /// Second layer normalisation, `[dim]`.
    pub beta2: T,
    /// MLP, `[dim, hidden]`.
    pub mlp1_kernel: T,
    /// MLP, `[hidden]`.
    pub mlp1_bias: T,
    /// MLP, `[hidden, dim]`.
    pub mlp2_kernel: T,
    /// MLP, `[dim]`.
    pub mlp2_bias: T,
}

/// A block's parameters, made ready to be multiplied by many images' tokens.
pub struct Weights<'a> {
    parameters: &'a Parameters<&'a [f32]>,
    qkv: Right<'a>,
    out: Right<'a>,
    mlp1: Right<'a>,
    mlp2: Right<'a>,
}

/// The same for the backward pass.
pub struct TransposedWeights<'a>(Weights<'a>);

/// The dropout masks' keys of one image.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// Attention probabilities, over `[head, token, token]`.
    pub attention: u64,
    /// After the MLP's first layer, over `[token, hidden]`.
    pub mlp1: u64,
    /// After the MLP's second layer, over `[token, dim]`.
    pub mlp2: u64,
}

/// What the forward pass of an image leaves for the backward pass.
struct Saved<'a> {
    qkv: &'a mut [f32],
    probabilities: &'a mut [f32],
    attended: &'a mut [f32],
    /// x + attention.
    middle: &'a mut [f32],
    /// The MLP's hidden layer after GELU and dropout.
    hidden: &'a mut [f32],
    /// GELU's derivative there, times the mask.
    slope1: &'a mut [f32],
    /// The same after the second layer.
    slope2: &'a mut [f32],
}

impl Block {
    fn lengths(&self) -> [usize; 7] {
        let Attention { tokens, heads, .. } = self.attention;
        let inner = self.attention.inner();
        [
            tokens * 3 * inner,
            heads * tokens * tokens,
            tokens * inner,
            tokens * self.dim,
            tokens * self.hidden,
            tokens * self.hidden,
            tokens * self.dim,
        ]
    }

    /// Numbers that an image's forward pass saves.
    pub fn saved(&self) -> usize {
        self.lengths().iter().sum()
    }

    /// Room that the passes need beside their arguments.
    pub fn scratch(&self) -> usize {
        let tokens = self.attention.tokens;
        let inner = self.attention.inner();
        let wide = self.dim.max(self.hidden);
        self.attention.scratch() + tokens * (3 * self.dim + 2 * wide + 4 * inner) + 2 * self.dim
    }

    fn split<'a>(&self, mut saved: &'a mut [f32]) -> Saved<'a> {
        let [qkv, probabilities, attended, middle, hidden, slope1, slope2] =
            self.lengths().map(|length| take(&mut saved, length));
        Saved {
            qkv,
            probabilities,
            attended,
            middle,
            hidden,
            slope1,
            slope2,
        }
    }

    /// What the forward passes need of the parameters.
    pub fn weights<'a>(&self, parameters: &'a Parameters<&'a [f32]>) -> Weights<'a> {
        self.made_ready(parameters, |kernel| kernel)
    }

    /// What the backward pass needs of the parameters.
    pub fn transposed<'a>(&self, parameters: &'a Parameters<&'a [f32]>) -> TransposedWeights<'a> {
        TransposedWeights(self.made_ready(parameters, Matrix::t))
    }

    fn made_ready<'a>(
        &self,
        parameters: &'a Parameters<&'a [f32]>,
        view: impl Fn(Matrix<'a>) -> Matrix<'a>,
    ) -> Weights<'a> {
        let (dim, hidden, inner) = (self.dim, self.hidden, self.attention.inner());
        let right = |kernel: &'a [f32], input: usize, output: usize| {
            let kernel = view(Matrix::new(kernel, input, output));
            self.attention.precision.right(kernel)
        };
        Weights {
            parameters,
            qkv: right(parameters.qkv_kernel, dim, 3 * inner),
            out: right(parameters.out_kernel, inner, dim),
            mlp1: right(parameters.mlp1_kernel, dim, hidden),
            mlp2: right(parameters.mlp2_kernel, hidden, dim),
        }
    }

    /// One image: `x` → `y`, both `[token, dim]`. `saved` has [`Block::saved`] numbers, which
    /// [`Block::backward`] reads again; without `keys` nothing is dropped.
    pub fn forward(
        &self,
        weights: &Weights,
        x: &[f32],
        y: &mut [f32],
        saved: &mut [f32],
        keys: Option<Keys>,
        mut scratch: &mut [f32],
    ) {
        let p = weights.parameters;
        let tokens = self.attention.tokens;
        let inner = self.attention.inner();
        let (dim, hidden) = (self.dim, self.hidden);
        let saved = self.split(saved);
        self.project(weights, x, saved.qkv, scratch);
        let normal = take(&mut scratch, tokens * dim);
        self.attention.forward(
            saved.qkv,
            p.scale,
            saved.probabilities,
            saved.attended,
            keys.map(|keys| keys.attention),
            scratch,
        );

        add_row(saved.middle, x, p.out_bias);
        MatrixMut::new(saved.middle, tokens, dim).add(
            1.0,
            Matrix::new(saved.attended, tokens, inner),
            &weights.out,
        );

        norm::forward(saved.middle, p.gamma2, p.beta2, self.epsilon, normal);
        fill_rows(saved.hidden, p.mlp1_bias);
        MatrixMut::new(saved.hidden, tokens, hidden).add(
            1.0,
            Matrix::new(normal, tokens, dim),
            &weights.mlp1,
        );
        let dropout = |key: Option<u64>, mask: &mut [f32]| match key {
            Some(key) if !self.dropout.is_zero() => self.dropout.mask(key, 0, mask),
            _ => mask.fill(1.0),
        };
        dropout(keys.map(|keys| keys.mlp1), saved.slope1);
        activate(saved.hidden, saved.slope1);
        fill_rows(y, p.mlp2_bias);
        MatrixMut::new(y, tokens, dim).add(
            1.0,
            Matrix::new(saved.hidden, tokens, hidden),
            &weights.mlp2,
        );
        dropout(keys.map(|keys| keys.mlp2), saved.slope2);
        if self.second_gelu {
            activate(y, saved.slope2);
        } else {
            multiply(y, saved.slope2);
        }
        add(y, saved.middle);
    }

    /// Queries, keys and values of some tokens: `x`, `[token, dim]` → `qkv`,
    /// `[token, (q, k, v), head, key]`. The first half of a pass without a backward pass, whose
    /// second is [`Block::finish`]; tokens may be taken in parts, by several threads.
    pub fn project(&self, weights: &Weights, x: &[f32], qkv: &mut [f32], mut scratch: &mut [f32]) {
        let p = weights.parameters;
        let (tokens, width) = (x.len() / self.dim, 3 * self.attention.inner());
        let normal = take(&mut scratch, x.len());
        norm::forward(x, p.gamma1, p.beta1, self.epsilon, normal);
        fill_rows(qkv, p.qkv_bias);
        MatrixMut::new(qkv, tokens, width).add(
            1.0,
            Matrix::new(normal, tokens, self.dim),
            &weights.qkv,
        );
    }

    /// All that follows on [`Block::project`], without dropout, for the tokens from number `first`
    /// on: `x` and `y` are theirs, `qkv` is the whole image's.
    pub fn finish(
        &self,
        weights: &Weights,
        qkv: &[f32],
        first: usize,
        x: &[f32],
        y: &mut [f32],
        mut scratch: &mut [f32],
    ) {
        let p = weights.parameters;
        let (dim, hidden, inner) = (self.dim, self.hidden, self.attention.inner());
        let tokens = x.len() / dim;
        let attended = take(&mut scratch, tokens * inner);
        let middle = take(&mut scratch, tokens * dim);
        let normal = take(&mut scratch, tokens * dim);
        let activated = take(&mut scratch, tokens * hidden);

        self.attention.infer(qkv, p.scale, first, attended, scratch);
        add_row(middle, x, p.out_bias);
        MatrixMut::new(middle, tokens, dim).add(
            1.0,
            Matrix::new(attended, tokens, inner),
            &weights.out,
        );
        norm::forward(middle, p.gamma2, p.beta2, self.epsilon, normal);
        fill_rows(activated, p.mlp1_bias);
        MatrixMut::new(activated, tokens, hidden).add(
            1.0,
            Matrix::new(normal, tokens, dim),
            &weights.mlp1,
        );
        apply_gelu(activated);
        fill_rows(y, p.mlp2_bias);
        MatrixMut::new(y, tokens, dim).add(
            1.0,
            Matrix::new(activated, tokens, hidden),
            &weights.mlp2,
        );
        if self.second_gelu {
            apply_gelu(y);
        }
        add(y, middle);
    }

    /// Room that [`Block::project`] and [`Block::finish`] need for so many tokens.
    pub fn inference_scratch(&self, tokens: usize) -> usize {
        let Attention { tokens: all, .. } = self.attention;
        tokens * (2 * self.dim + self.attention.inner() + self.hidden + all)
    }

    /// One image, back: `dy` → `dx`, both `[token, dim]`; gradients of the parameters are added to
    /// `gradients`. `saved` and `keys` are the forward pass's.
    #[expect(clippy::too_many_arguments, reason = "what came in and what goes back")]
    pub fn backward(
        &self,
        weights: &TransposedWeights,
        gradients: &mut Parameters<&mut [f32]>,
        x: &[f32],
        saved: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        keys: Option<Keys>,
        mut scratch: &mut [f32],
    ) {
        let (weights, g) = (&weights.0, gradients);
        let p = weights.parameters;
        let right = |values, width| {
            let matrix = Matrix::new(values, self.attention.tokens, width);
            self.attention.precision.right(matrix)
        };
        let tokens = self.attention.tokens;
        let inner = self.attention.inner();
        let (dim, hidden) = (self.dim, self.hidden);
        let mut rest = saved;
        let [
            qkv,
            probabilities,
            attended,
            middle,
            activated,
            slope1,
            slope2,
        ] = self.lengths().map(|length| {
            let (part, after) = rest.split_at(length);
            rest = after;
            part
        });
        let normal = take(&mut scratch, tokens * dim);
        let d_normal = take(&mut scratch, tokens * dim);
        let d2 = take(&mut scratch, tokens * dim);
        let d1 = take(&mut scratch, tokens * hidden);
        let d_attended = take(&mut scratch, tokens * inner);
        let d_qkv = take(&mut scratch, tokens * 3 * inner);
        let row1 = take(&mut scratch, dim);
        let row2 = take(&mut scratch, dim);

        // The MLP.
        d2.copy_from_slice(dy);
        multiply(d2, slope2);
        add_rows(g.mlp2_bias, d2);
        norm::forward(middle, p.gamma2, p.beta2, self.epsilon, normal);
        MatrixMut::new(g.mlp2_kernel, hidden, dim).add(
            1.0,
            Matrix::new(activated, tokens, hidden).t(),
            &right(d2, dim),
        );
        MatrixMut::new(d1, tokens, hidden).set(1.0, Matrix::new(d2, tokens, dim), &weights.mlp2);
        multiply(d1, slope1);
        add_rows(g.mlp1_bias, d1);
        MatrixMut::new(g.mlp1_kernel, dim, hidden).add(
            1.0,
            Matrix::new(normal, tokens, dim).t(),
            &right(d1, hidden),
        );
        MatrixMut::new(d_normal, tokens, dim).set(
            1.0,
            Matrix::new(d1, tokens, hidden),
            &weights.mlp1,
        );
        // From here on dx is the gradient of `middle`.
        dx.copy_from_slice(dy);
        norm::backward(
            middle,
            p.gamma2,
            self.epsilon,
            d_normal,
            dx,
            g.gamma2,
            g.beta2,
            row1,
            row2,
        );
        add_rows(g.out_bias, dx);
        norm::forward(x, p.gamma1, p.beta1, self.epsilon, normal);

        // The attention.
        MatrixMut::new(g.out_kernel, inner, dim).add(
            1.0,
            Matrix::new(attended, tokens, inner).t(),
            &right(dx, dim),
        );
        MatrixMut::new(d_attended, tokens, inner).set(
            1.0,
            Matrix::new(dx, tokens, dim),
            &weights.out,
        );
        self.attention.backward(
            qkv,
            p.scale,
            probabilities,
            d_attended,
            d_qkv,
            g.scale,
            keys.map(|keys| keys.attention),
            scratch,
        );
        add_rows(g.qkv_bias, d_qkv);
        MatrixMut::new(g.qkv_kernel, dim, 3 * inner).add(
            1.0,
            Matrix::new(normal, tokens, dim).t(),
            &right(d_qkv, 3 * inner),
        );
        MatrixMut::new(d_normal, tokens, dim).set(
            1.0,
            Matrix::new(d_qkv, tokens, 3 * inner),
            &weights.qkv,
        );
        norm::backward(
            x,
            p.gamma1,
            self.epsilon,
            d_normal,
            dx,
            g.gamma1,
            g.beta1,
            row1,
            row2,
        );
    }
}

/// Cuts `length` numbers off the front.
fn take<'a>(rest: &mut &'a mut [f32], length: usize) -> &'a mut [f32] {
    let (part, after) = std::mem::take(rest).split_at_mut(length);
    *rest = after;
    part
}

/// Every row becomes `row`.
fn fill_rows(rows: &mut [f32], row: &[f32]) {
    for target in rows.chunks_exact_mut(row.len()) {
        target.copy_from_slice(row);
    }
}

dispatched! {
    /// Every row of `target` becomes that of `rows`, plus `row`.
    fn add_row(target: &mut [f32], rows: &[f32], row: &[f32]) {
        let width = row.len();
        for (target, from) in target.chunks_exact_mut(width).zip(rows.chunks_exact(width)) {
            for i in 0..width {
                target[i] = from[i] + row[i];
            }
        }
    }
}

dispatched! {
    /// Adds every row to `sum`.
    fn add_rows(sum: &mut [f32], rows: &[f32]) {
        for row in rows.chunks_exact(sum.len()) {
            for (sum, value) in sum.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

dispatched! {
    /// Each value becomes its GELU.
    fn apply_gelu(values: &mut [f32]) {
        for value in values {
            *value = gelu(*value).0;
        }
    }
}

dispatched! {
    /// Each value becomes its GELU times the mask, the mask GELU's derivative there times itself.
    fn activate(values: &mut [f32], masks: &mut [f32]) {
        for (value, mask) in values.iter_mut().zip(masks) {
            let (activated, derivative) = gelu(*value);
            (*value, *mask) = (activated * *mask, derivative * *mask);
        }
    }
}
