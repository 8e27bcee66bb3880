//! Who is told how a run goes: a terminal, a table, TensorBoard's files. The loop knows none of them.

use burn::tensor::Device;

use super::history::Epoch;
use super::recipe::Recipe;
use super::state::Counters;
use super::step::StepOutcome;
use crate::error::Result;
use crate::models::Model;

/// What a run tells while it works. An error ends the run; what was saved before is kept.
pub trait Observer {
    /// Before the first step, or before the first after a checkpoint.
    fn begin(&mut self, _begin: &Begin) -> Result<()> {
        Ok(())
    }

    /// After each step.
    fn step(&mut self, _counters: &Counters, _step: &StepOutcome) -> Result<()> {
        Ok(())
    }

    /// After a checkpoint within an epoch: what was told so far will not be told again.
    fn saved(&mut self) -> Result<()> {
        Ok(())
    }

    /// After each epoch and its checkpoint.
    fn epoch(&mut self, _epoch: &Epoch) -> Result<()> {
        Ok(())
    }
}

/// What is known before the first step.
pub struct Begin<'a> {
    /// How the run is trained.
    pub recipe: &'a Recipe,
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
    /// The model, as training begins.
    pub model: &'a Model,
    /// How many classes there are.
    pub classes: usize,
    /// Where it is computed.
    pub device: &'a Device,
    /// Where the run goes on; all 0 at its beginning.
    pub from: &'a Counters,
}

/// Tells each observer, in order.
pub fn tell(
    observers: &mut [&mut dyn Observer],
    mut what: impl FnMut(&mut dyn Observer) -> Result<()>,
) -> Result<()> {
    observers
        .iter_mut()
        .try_for_each(|observer| what(&mut **observer))
}
