//! What the micro-batches of one training step share: weights prepared once, and the gradients
//! that the kernels hand out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use smallvit_kernels::ops::{Chain, ChainWeights, Direction, Values};

use super::deferred::Deferred;

/// A chain of operations with what is made of it once a step.
pub(super) struct Prepared {
    pub chain: Chain,
    values: Vec<Arc<dyn Values>>,
    /// Full names of the parameters.
    pub parameters: Vec<String>,
    /// Full names of the sites of random numbers.
    pub sites: Vec<String>,
    forward: OnceLock<ChainWeights>,
    backward: OnceLock<ChainWeights>,
}

impl Prepared {
    /// A chain with its parameters' numbers and their full names, and the full names of its sites.
    pub fn new(
        chain: Chain,
        values: Vec<Arc<dyn Values>>,
        parameters: Vec<String>,
        sites: Vec<String>,
    ) -> Self {
        Self {
            chain,
            values,
            parameters,
            sites,
            forward: OnceLock::new(),
            backward: OnceLock::new(),
        }
    }

    /// The weights for a direction, made by whoever asks first.
    pub fn weights(&self, direction: Direction) -> &ChainWeights {
        let place = match direction {
            Direction::Forward => &self.forward,
            Direction::Backward => &self.backward,
        };
        place.get_or_init(|| self.chain.weights(self.values.clone(), direction))
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.parameters).finish()
    }
}

/// What the kernels made of a micro-batch: gradients by parameter, flat.
pub type KernelGradients = BTreeMap<String, Vec<f32>>;

/// What a step's micro-batches share. The model must stay as it is while it lives.
#[derive(Default)]
pub struct Step {
    chains: Mutex<HashMap<String, Arc<Prepared>>>,
    /// Gradients by the first image of the micro-batch they come from.
    gradients: Mutex<HashMap<usize, KernelGradients>>,
    /// Layers that a micro-batch, by its first image, went through by composed operations.
    uses: Mutex<HashSet<(usize, String)>>,
    /// Parameters, or layers, that a micro-batch would have had two gradients for.
    twice: Mutex<Vec<String>>,
    deferred: Deferred,
}

impl Step {
    /// A chain by a key that names all it is made of, made by whoever asks first.
    pub(super) fn chain(&self, key: &str, make: impl FnOnce() -> Prepared) -> Arc<Prepared> {
        let mut chains = held(&self.chains);
        if let Some(chain) = chains.get(key) {
            return chain.clone();
        }
        let chain = Arc::new(make());
        chains.insert(key.to_owned(), chain.clone());
        chain
    }

    /// Notes that the micro-batch that begins with this image goes through a layer by composed
    /// operations, whose gradients Burn would add up without a word.
    pub(super) fn note_use(&self, first_image: usize, layer: &str) {
        if !held(&self.uses).insert((first_image, layer.to_owned())) {
            held(&self.twice).push(layer.to_owned());
        }
    }

    /// Hands over a parameter's gradient of the micro-batch that begins with this image.
    pub(super) fn hand_over(&self, first_image: usize, name: &str, gradient: Vec<f32>) {
        let mut gradients = held(&self.gradients);
        let own = gradients.entry(first_image).or_default();
        if own.insert(name.to_owned(), gradient).is_some() {
            held(&self.twice).push(name.to_owned());
        }
    }

    /// The gradients that the kernels made for the micro-batch that begins with this image.
    pub fn take(&self, first_image: usize) -> KernelGradients {
        held(&self.gradients)
            .remove(&first_image)
            .unwrap_or_default()
    }

    /// Parameters that were used twice: their gradients are not to be trusted.
    pub fn used_twice(&self) -> Vec<String> {
        let mut all = held(&self.twice).clone();
        all.extend(self.deferred.used_twice());
        all
    }

    /// Dense layers whose weight gradients wait for the whole batch.
    pub fn deferred(&self) -> &Deferred {
        &self.deferred
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").finish_non_exhaustive()
    }
}

/// Poisoned only by a panic, which ends the program anyway.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
