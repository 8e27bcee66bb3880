//! The layers that models are made of, in the field's terms: each with its formula, its shapes, its
//! source, and its two forms.
//!
//! - **Composed**: by the backend's own operations. It is the layer's definition here, and the path
//!   of GPUs and of [traced](Context::traced) passes.
//! - **Fused**: an operation of `smallvit_kernels::ops` on one image at a time. Several layers in a
//!   row are run as one chain (`fused`), so that an image stays in a core's cache.
//!
//! Both draw the same random numbers, and `tests/fused.rs` holds them together. The classifier's
//! dense layers ([`head`]) work on a micro-batch instead, and form their weight gradients once a batch.
//!
//! | layer | file |
//! |---|---|
//! | patches, Shifted Patch Tokenization | [`embedding`] |
//! | class token, positions | [`sequence`] |
//! | self-attention, Locality Self-Attention, in windows or not, with its residual | [`attention`] |
//! | attention whose heads talk, class attention, with its residual | [`talking`] |
//! | T2T's soft splits | [`soft_split`] |
//! | MLP with its residual | [`mlp`] |
//! | a quarter of a grid's tokens, by convolution | [`downsample`] |
//! | normalisation by itself | [`norm`] |
//! | normalisation and pooling | [`pooling`] |
//! | the classifier | [`head`] |
//! | dense, layer normalisation, GELU | [`basic`] |
//!
//! **A new layer** is a file here with an `impl` [`Layer`], an operation in `kernels/src/ops`, and
//! its rows in `kernels/tests/ops.rs` and `tests/fused.rs`.

pub mod attention;
pub mod basic;
mod buffer;
pub mod context;
mod deferred;
pub mod downsample;
pub mod embedding;
pub(crate) mod fused;
pub mod head;
pub mod mlp;
pub mod norm;
pub mod pooling;
pub mod residual;
pub mod sequence;
pub mod soft_split;
pub mod step;
pub mod talking;

use burn::backend::DispatchTensor;
use burn::module::Param;
use burn::tensor::Tensor;
use smallvit_kernels::matrix::Precision;
use smallvit_kernels::ops::ImageOp;
use smallvit_kernels::windows::Windows;

pub use context::Context;
pub use step::Step;

/// A layer on an image's rows, pixels or tokens: `[image, row, width]` → `[image, row, width]`.
pub trait Layer {
    /// Where it stands in the model, as `blocks.3.attention`: what the names of its parameters, of
    /// its sites of random numbers and of its intermediates begin with.
    fn path(&self) -> &str;

    /// The kernel that serves it on the CPU.
    fn operation(&self, precision: Precision) -> Box<dyn ImageOp>;

    /// Its parameters' values, with the names that the operation has for them, in its order.
    fn parameters(&self) -> Vec<NamedValue>;

    /// What is known of the attention that it is, for whoever wants to see where a model looks; none of other
    /// layers. A [traced](Context::traced) pass keeps its `PATH.probabilities`, `[image, (head, token),
    /// token]`.
    fn attention(&self) -> Option<Attending> {
        None
    }

    /// By the backend's own operations.
    fn composed(&self, x: Tensor<3>, context: &mut Context) -> Tensor<3>;
}

/// What is known of an attention without an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Attending {
    /// Heads.
    pub heads: usize,
    /// What each head's scores are multiplied by, in units of the plain factor; none where no temperature
    /// is learned.
    pub sharpness: Option<Vec<f64>>,
    /// Whether the first token, a class token, attends to the others, and those to nothing.
    pub of_class: bool,
    /// The windows in which tokens attend to each other; none where all attend to all.
    pub windows: Option<Windows>,
}

/// The leaf of a parameter's name, and its value.
pub type NamedValue = (&'static str, DispatchTensor);

/// A parameter's value outside of any graph.
fn value<const D: usize>(name: &'static str, param: &Param<Tensor<D>>) -> NamedValue {
    (name, param.val().without_autodiff().into_dispatch())
}
