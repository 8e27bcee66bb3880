//! Fused forward and backward passes of small Vision Transformers on a CPU.
//!
//! Plain functions over slices of `f32`, row major; they know nothing of any framework, keep no
//! state, start no threads and draw no random numbers but those of [`dropout`]'s counters. A
//! caller spreads images over threads.
//!
//! One image's working set fits a core's second-level cache, so each kernel takes one image
//! through all its operations before it touches the next; gradients of weights are added image
//! by image, in order.

#![warn(missing_docs)]
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod adamw;
pub mod attention;
mod bf16;
pub mod block;
pub mod dense;
pub mod dropout;
pub mod math;
pub mod matrix;
pub mod norm;
mod simd;
pub mod tokenizer;
