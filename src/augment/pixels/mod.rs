//! Operations on 8-bit pixels, before anything else; one file each.

pub mod crop;
pub mod flip;

use super::{Augmentation, Boxed, Canvas};

/// Those that a recipe asks for, in their order.
pub fn operations(recipe: &Augmentation) -> Vec<Boxed<Canvas<u8>>> {
    [
        flip::of(recipe), //
        crop::of(recipe),
    ]
    .into_iter()
    .flatten()
    .collect()
}
