//! Colour jitter, as torchvision has it: brightness, contrast, saturation and hue, each changed at random, in a
//! random order.

use serde::{Deserialize, Serialize};

use super::colour;
use crate::augment::recipe::in_range;
use crate::augment::{Augmentation, Boxed, Canvas, Operation};
use crate::error::Result;
use crate::random::Stream;

/// How much each may change; 0 is off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jitter {
    /// Brightness times a factor within 1 ± this, and at least 0.
    pub brightness: f64,
    /// Contrast, likewise.
    pub contrast: f64,
    /// Saturation, likewise.
    pub saturation: f64,
    /// Hue, by up to this part of a full turn either way.
    pub hue: f64,
}

/// The jitter, where the recipe asks for it.
pub(super) fn of(recipe: &Augmentation) -> Option<Boxed<Canvas<u8>>> {
    let jitter = recipe.jitter.clone()?;
    Some(Box::new(jitter))
}

impl Operation<Canvas<u8>> for Jitter {
    fn name(&self) -> &'static str {
        "jitter"
    }

    fn apply(&self, image: &mut Canvas<u8>, [.., channels]: [usize; 3], stream: &mut Stream) {
        let mut order = [0, 1, 2, 3];
        stream.shuffle(&mut order);
        let image = image.image_mut();
        for which in order {
            let most = [self.brightness, self.contrast, self.saturation, self.hue][which];
            let drawn = f64::from(stream.unit());
            if most == 0.0 {
                continue;
            }
            let least = (1.0 - most).max(0.0);
            let factor = least + (1.0 + most - least) * drawn;
            match which {
                0 => colour::brightness(image, factor),
                1 => colour::contrast(image, channels, factor),
                2 => colour::saturation(image, channels, factor),
                _ => {
                    let turn = (most * (2.0 * drawn - 1.0) * 255.0) as i32;
                    colour::hue(image, channels, turn.rem_euclid(256) as u8);
                }
            }
        }
    }

    fn check(&self) -> Result<()> {
        for (field, value, most) in [
            ("brightness", self.brightness, 10.0),
            ("contrast", self.contrast, 10.0),
            ("saturation", self.saturation, 10.0),
            ("hue", self.hue, 0.5),
        ] {
            in_range(
                &format!("jitter.{field}"),
                value,
                (0.0..=most).contains(&value),
                &format!("choose 0 (off) to {most}; 0.3 is usual, 0.1 for the hue"),
            )?;
        }
        Ok(())
    }
}
