//! # smallvit
//!
//! Trains Vision Transformers from scratch on small image sets, with Shifted Patch Tokenization
//! and Locality Self-Attention (Lee, Lee, Song: *Vision Transformer for Small-Size Datasets*,
//! arXiv 2112.13492).
//!
//! Data flows one way: [`data`] → [`augment`] → [`model`] → [`train`] → [`report`]; the `cli`
//! is the only part that sees them all.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod augment;
pub mod data;
pub mod error;
pub mod model;
pub mod random;
pub mod report;
pub mod train;

pub use error::{Error, Result};
