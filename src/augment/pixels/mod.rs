//! Operations on 8-bit pixels, before anything else; one file each. Policies draw from the edits of [`edit`],
//! which change [`colour`] or [`geometry`].

pub mod auto_augment;
pub mod colour;
pub mod crop;
pub mod edit;
pub mod flip;
pub mod geometry;
#[cfg(test)]
mod golden;
pub mod jitter;
pub mod rand_augment;
pub mod resized_crop;
pub mod timm_rand_augment;
pub mod trivial_augment;

use super::{Augmentation, Boxed, Canvas};

/// Those that a recipe asks for in an epoch, in their order.
pub fn operations(recipe: &Augmentation, epoch: u64) -> Vec<Boxed<Canvas<u8>>> {
    [
        flip::of(recipe, epoch),
        crop::of(recipe),
        resized_crop::of(recipe),
        auto_augment::of(recipe),
        rand_augment::of(recipe),
        timm_rand_augment::of(recipe),
        trivial_augment::of(recipe),
        jitter::of(recipe),
    ]
    .into_iter()
    .flatten()
    .collect()
}
