//! TrivialAugment, with its wide ranges (Müller and Hutter, arXiv 2103.10158), as torchvision has it: one edit,
//! drawn evenly from fourteen, at a strength drawn evenly from 0 to 30 thirtieths.
//!
//! On images of 32 pixels its translation, of up to 32 pixels, may move all of an image out.

use serde::{Deserialize, Serialize};

use super::edit::{Kind, Moved, Ranges};
use super::geometry::Sampling;
use crate::augment::{Augmentation, Boxed, Canvas, Operation};
use crate::random::Stream;

/// TrivialAugment's parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrivialAugment {
    /// How pixels between pixels are made.
    pub sampling: Sampling,
    /// What comes in from outside, in each channel: 0 is black.
    pub outside: u8,
}

/// TrivialAugment, where the recipe asks for it.
pub(super) fn of(recipe: &Augmentation) -> Option<Boxed<Canvas<u8>>> {
    let policy = recipe.trivial_augment.clone()?;
    Some(Box::new(policy))
}

impl Operation<Canvas<u8>> for TrivialAugment {
    fn name(&self) -> &'static str {
        "trivial_augment"
    }

    fn apply(&self, image: &mut Canvas<u8>, shape: [usize; 3], stream: &mut Stream) {
        let kind = Kind::OF_RANDOM[stream.below(Kind::OF_RANDOM.len())];
        let strength = stream.below(31) as f64 / 30.0;
        let edit = kind.at(strength, stream.unit() < 0.5, &Ranges::WIDE);
        let moved = Moved::drawn(self.sampling, self.outside, stream);
        edit.apply(image, shape, moved);
    }
}
