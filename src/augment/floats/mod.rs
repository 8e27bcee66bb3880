//! Operations on normalised and resized images, as the model will see them; one file each.

pub mod affine;
pub mod erasing;
pub mod rotation;
pub mod zoom;

use super::{Augmentation, Boxed, Canvas};

/// Those that a recipe asks for, in their order.
pub fn operations(recipe: &Augmentation) -> Vec<Boxed<Canvas<f32>>> {
    [
        rotation::of(recipe),
        zoom::of(recipe),
        erasing::of(recipe), //
    ]
    .into_iter()
    .flatten()
    .collect()
}
