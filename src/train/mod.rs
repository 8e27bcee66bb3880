//! Training: recipe, schedule, optimizer, metrics, and the loop.

pub mod metrics;
pub mod optimizer;
pub mod schedule;
pub mod workers;
