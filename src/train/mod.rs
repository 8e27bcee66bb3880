//! Training: [`recipe`], [`schedule`], [`optimizer`], [`metrics`], [`checkpoint`], and the loop,
//! [`fit`].

pub mod checkpoint;
pub mod device;
pub mod fit;
pub mod history;
pub mod metrics;
pub mod optimizer;
pub mod prepare;
pub mod recipe;
pub mod schedule;
pub mod workers;
