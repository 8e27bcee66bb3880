//! Training, to be read in this order: [`run`] goes through the epochs, [`epoch`] through the
//! batches of one, and [`step`] takes one batch. What they work on is [`state`]; what they tell goes
//! to each [`observer`].
//!
//! | of a run | |
//! |---|---|
//! | how | [`recipe`], [`schedule`], [`groups`] (decay and rate of some parameters), [`device`] |
//! | on what | [`prepare`] (training, validation and test images) |
//! | a step | [`workers`] (micro-batches on threads), [`tree`] (their sum), [`gradients`], [`optimizer`], [`average`] |
//! | how good | [`metrics`], [`evaluate`], [`answers`] (image by image) |
//! | what it leaves | [`folder`], [`checkpoint`], [`history`], [`events`], [`result`]; several of them: [`trials`] |
//! | what it costs | [`clock`], [`memory`](crate::memory), [`room`] (on disk); [`plan`] (beforehand) |

pub mod answers;
pub mod average;
pub mod checkpoint;
pub mod choose;
pub mod clock;
pub mod device;
pub mod epoch;
pub mod evaluate;
pub mod events;
pub mod folder;
pub mod gradients;
pub mod groups;
pub mod history;
pub mod init;
pub mod metrics;
mod muon;
pub mod norms;
pub mod observer;
pub mod optimizer;
pub mod plan;
pub mod prepare;
pub mod recipe;
pub mod result;
pub mod room;
pub mod run;
pub mod schedule;
pub mod state;
pub mod step;
pub mod sweep;
pub mod tree;
pub mod trials;
pub mod workers;

#[cfg(test)]
mod testing;
