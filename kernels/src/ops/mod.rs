//! Operations on one image's numbers, one a file: what a model is made of.
//!
//! An operation is a function from rows to rows: an image's pixels, or its tokens, `[row, width]`.
//! Each has its forward pass, its pass without a backward pass, which threads may share, its
//! backward pass, and says itself what parameters and how much room it needs ([`ImageOp`]). They
//! are put together to a [`Chain`], which takes one image through all of them before it touches
//! the next.
//!
//! | operation | in → out | what it computes |
//! |---|---|---|
//! | [`Embedding`](embedding::Embedding) | grid → tokens | patches, plain or with their shifted versions, normalised, projected |
//! | [`Sequence`](sequence::Sequence) | tokens → tokens | a class token in front, positions added |
//! | [`Norm`](norm::Norm) | tokens → tokens | LN(x) |
//! | [`AttentionResidual`](attention::AttentionResidual) | tokens → tokens | x + attention(LN(x)), all tokens to each other or in windows |
//! | [`TalkingResidual`](talking::TalkingResidual) | tokens → tokens | x + attention(LN(x)) whose heads talk to each other, of all tokens or of the first |
//! | [`Unfold`](unfold::Unfold) | grid → tokens | overlapping patches as they are |
//! | [`TokenAttention`](token_attention::TokenAttention) | tokens → tokens | v + attention(LN(x)) of one head |
//! | [`First`](first::First) | tokens → tokens | another operation on the first token alone |
//! | [`MlpResidual`](mlp::MlpResidual) | tokens → tokens | x + MLP(LN(x)) |
//! | [`Downsample`](downsample::Downsample) | tokens → tokens | a quarter of a grid's tokens, by convolution; a class token apart |
//! | [`Pooling`](pooling::Pooling) | tokens → features | normalised, then all, the class token, or the mean |
//!
//! **A new one** is a file here with an `impl ImageOp`, a line in this table, and a row in
//! `tests/ops.rs`, which holds it to a plain double-precision reference and its gradients to that
//! reference's central differences.

pub mod attention;
pub mod chain;
mod class_row;
pub mod downsample;
pub mod embedding;
pub mod first;
pub mod mlp;
pub mod norm;
pub mod pooling;
pub mod residual;
pub mod sequence;
pub mod talking;
pub mod token_attention;
pub mod unfold;
pub mod weights;

use std::fmt::Debug;
use std::sync::Arc;

pub use chain::{Chain, ChainWeights, Stage};
pub use residual::Residual;
pub use weights::{Direction, Values, Weights};

use crate::simd::dispatched;

/// A parameter: the leaf of its name, and its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// As in `norm.gamma`; what stands before it is the model's.
    pub name: &'static str,
    /// Length of each axis, row major. Kernels are (in, out).
    pub shape: Vec<usize>,
}

impl ParameterSpec {
    /// A parameter of this name and shape.
    pub fn new(name: &'static str, shape: impl Into<Vec<usize>>) -> Self {
        Self {
            name,
            shape: shape.into(),
        }
    }

    /// How many numbers it has.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// How many numbers an operation takes, gives and needs for one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Rows that come in.
    pub rows_in: usize,
    /// Width of each.
    pub width_in: usize,
    /// Rows that go out.
    pub rows_out: usize,
    /// Width of each.
    pub width_out: usize,
    /// What the forward pass keeps for the backward pass.
    pub kept: usize,
    /// Room for either of the two.
    pub scratch: usize,
}

impl Sizes {
    /// Numbers that come in.
    pub fn input(&self) -> usize {
        self.rows_in * self.width_in
    }

    /// Numbers that go out.
    pub fn output(&self) -> usize {
        self.rows_out * self.width_out
    }
}

/// Of which rows a row of the result is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Of the same row alone.
    Row,
    /// Of the same row, and of what every row [shares](ImageOp::share): so many numbers a row.
    Shared(usize),
    /// Of any.
    All,
}

/// An operation on one image. It knows nothing of threads; whoever calls it spreads images, or in
/// [`infer`](ImageOp::infer) an image's rows, over them.
///
/// All slices are row major, and as long as [`sizes`](ImageOp::sizes) says; the methods panic on
/// others.
pub trait ImageOp: Debug + Send + Sync {
    /// The parameters, in the order in which everything here has them.
    fn parameters(&self) -> Vec<ParameterSpec>;

    /// Where random numbers are drawn in training, by name; [`forward`](ImageOp::forward) gets a
    /// key for each.
    fn sites(&self) -> &'static [&'static str] {
        &[]
    }

    /// What one image takes.
    fn sizes(&self) -> Sizes;

    /// Multiplications of one image's forward pass, in all matrix products.
    fn macs(&self) -> u64;

    /// The parameters prepared for many images in one direction.
    fn weights(&self, values: Vec<Arc<dyn Values>>, direction: Direction) -> Weights;

    /// One image: `x` → `y`. What the backward pass needs is left in `kept`. Without `keys`
    /// nothing is dropped. `scratch` holds anything.
    fn forward(
        &self,
        weights: &Weights,
        x: &[f32],
        y: &mut [f32],
        kept: &mut [f32],
        keys: Option<&[u64]>,
        scratch: &mut [f32],
    );

    /// One image, back: `dy` → `dx`, which is written. Gradients of parameters are
    /// added to `sums`, which are as long as [`sums`](ImageOp::sums) says. `weights` are of [`Direction::Backward`]; `x`, `kept` and `keys` are the forward pass's.
    #[expect(clippy::too_many_arguments, reason = "what came in and what goes back")]
    fn backward(
        &self,
        weights: &Weights,
        sums: &mut [Vec<f32>],
        x: &[f32],
        kept: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        keys: Option<&[u64]>,
        scratch: &mut [f32],
    );

    /// Whether [`backward`](ImageOp::backward) takes an empty `dx`, and then leaves out what only its
    /// input's gradient needs: of an operation that images may go into.
    fn skips_input_gradient(&self) -> bool {
        false
    }

    /// Lengths of what gradients are summed up in over images: the parameters' own, unless
    /// [`gradients`](ImageOp::gradients) makes them of something else.
    fn sums(&self) -> Vec<usize> {
        self.parameters().iter().map(ParameterSpec::count).collect()
    }

    /// The gradients of the parameters from the sums over all images.
    fn gradients(&self, _weights: &Weights, sums: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        sums
    }

    /// Of which rows a row of the result is made.
    fn reach(&self) -> Reach;

    /// Of an operation of [`Reach::Shared`]: what some rows of `x` give to all, into `shared`,
    /// which is theirs.
    fn share(&self, _weights: &Weights, _x: &[f32], _shared: &mut [f32], _scratch: &mut [f32]) {}

    /// Some rows of the result, from number `first` on, into `y`, nothing dropped and nothing
    /// kept. `x` begins with row number `x_first` and, where the [reach](ImageOp::reach) asks for
    /// it, is whole; `shared` is whole.
    #[expect(clippy::too_many_arguments, reason = "where each of the three begins")]
    fn infer(
        &self,
        weights: &Weights,
        x: &[f32],
        x_first: usize,
        shared: &[f32],
        first: usize,
        y: &mut [f32],
        scratch: &mut [f32],
    );

    /// Room that [`share`](ImageOp::share) and [`infer`](ImageOp::infer) need for so many rows.
    fn inference_scratch(&self, rows: usize) -> usize;
}

/// Cuts `length` numbers off the front.
fn take<'a>(rest: &mut &'a mut [f32], length: usize) -> &'a mut [f32] {
    let (part, after) = std::mem::take(rest).split_at_mut(length);
    *rest = after;
    part
}

/// The same of what is only read.
fn split<'a>(rest: &mut &'a [f32], length: usize) -> &'a [f32] {
    let (part, after) = rest.split_at(length);
    *rest = after;
    part
}

dispatched! {
    /// Every row of `target` becomes that of `rows`, plus `scale` times `row`.
    fn add_row(target: &mut [f32], rows: &[f32], scale: f32, row: &[f32]) {
        let width = row.len();
        for (target, from) in target.chunks_exact_mut(width).zip(rows.chunks_exact(width)) {
            for i in 0..width {
                target[i] = scale.mul_add(row[i], from[i]);
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
