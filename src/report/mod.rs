//! Histories and images → pictures, tables and TensorBoard files.
//!
//! `picture` draws SVG and PNG, and `page` writes HTML around them (both with the feature `cli`), [`table`] and [`ascii`] write text,
//! [`tensorboard`] writes event files. Each takes plain numbers, names and bytes; none knows where
//! they come from. Only `picture` needs a renderer and fonts.

pub mod ascii;
#[cfg(feature = "cli")]
pub mod page;
#[cfg(feature = "cli")]
pub mod picture;
pub mod table;
pub mod tensorboard;
