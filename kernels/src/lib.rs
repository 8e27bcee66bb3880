//! Fused forward and backward passes of small Vision Transformers on a CPU.
//!
//! Plain functions over slices of `f32`, row major; they know nothing of any framework, keep no
//! state but buffers to use again, start no threads and draw no random numbers but those of [`dropout`]'s counters. A
//! caller spreads images over threads.
//!
//! [`ops`] are the parts that models are made of, on one image each. One image's working set fits
//! a core's second-level cache, so a chain of operations takes one image through all of them before
//! the next is touched; gradients of weights are added image by image, in order. [`dense`] is the
//! exception: a classifier's layers have too many weights to pass through the cache once an image,
//! and work on many at once. The rest is the ground that both stand on.

#![warn(missing_docs)]
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod adamw;
pub mod attention;
mod bf16;
pub mod dense;
pub mod depthwise;
pub mod dropout;
mod float32;
pub mod lion;
pub mod math;
pub mod matrix;
pub mod muon;
pub mod norm;
pub mod ops;
mod room;
mod simd;
pub mod talking;
mod tiles;
mod turn;
pub mod windows;
