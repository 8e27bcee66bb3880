//! RandAugment (Cubuk and others, arXiv 1909.13719), as torchvision has it: some edits, one after another, each
//! drawn evenly from fourteen, with replacement, at one strength, in one of its two directions.
//!
//! timm's operation of this name is another: see [`timm_rand_augment`](super::timm_rand_augment). A magnitude of 9
//! here turns by 9 degrees, there by 27.

use serde::{Deserialize, Serialize};

use super::edit::{Kind, Moved, Ranges};
use super::geometry::Sampling;
use crate::augment::recipe::in_range;
use crate::augment::{Augmentation, Boxed, Canvas, Operation};
use crate::error::Result;
use crate::random::Stream;

/// RandAugment's parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandAugment {
    /// Edits an image.
    pub edits: usize,
    /// How strong they are, of 0 to 30.
    pub magnitude: f64,
    /// How pixels between pixels are made.
    pub sampling: Sampling,
    /// What comes in from outside, in each channel: 0 is black.
    pub outside: u8,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self {
            edits: 2,
            magnitude: 9.0,
            sampling: Sampling::Nearest,
            outside: 0,
        }
    }
}

/// RandAugment, where the recipe asks for it.
pub(super) fn of(recipe: &Augmentation) -> Option<Boxed<Canvas<u8>>> {
    let policy = recipe.rand_augment.clone()?;
    Some(Box::new(policy))
}

impl Operation<Canvas<u8>> for RandAugment {
    fn name(&self) -> &'static str {
        "rand_augment"
    }

    fn apply(&self, image: &mut Canvas<u8>, shape: [usize; 3], stream: &mut Stream) {
        let ranges = Ranges::ordinary(shape);
        for _ in 0..self.edits {
            let kind = Kind::OF_RANDOM[stream.below(Kind::OF_RANDOM.len())];
            let edit = kind.at(self.magnitude / 30.0, stream.unit() < 0.5, &ranges);
            let moved = Moved::drawn(self.sampling, self.outside, stream);
            edit.apply(image, shape, moved);
        }
    }

    fn check(&self) -> Result<()> {
        in_range(
            "rand_augment.edits",
            self.edits as f64,
            (1..=14).contains(&self.edits),
            "choose 1 to 14; 1 and 2 are usual",
        )?;
        in_range(
            "rand_augment.magnitude",
            self.magnitude,
            (0.0..=30.0).contains(&self.magnitude),
            "choose 0 to 30; 9 is usual",
        )
    }
}
