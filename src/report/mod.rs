//! Histories and images → pictures, tables and TensorBoard files.
//!
//! [`curves`], [`confusion`] and [`sheet`] draw PNG pictures, [`table`] and [`ascii`] write text,
//! [`tensorboard`] writes event files. Each takes plain numbers, names and bytes; none knows where
//! they come from. A picture is written beside its place and then renamed, so a reader never finds
//! half of one.

pub mod ascii;
mod canvas;
pub mod confusion;
pub mod curves;
pub mod sheet;
pub mod table;
pub mod tensorboard;
