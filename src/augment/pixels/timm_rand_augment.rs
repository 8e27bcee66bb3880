//! RandAugment as timm has it, in its setting `rand-m9-mstd0.5-inc1`, which DeiT (arXiv 2012.12877), CCT and
//! many others train with: some edits, each drawn evenly from fifteen, with replacement, and done with
//! probability ½; its magnitude is drawn from a normal distribution and kept within 0 to 10.
//!
//! With m the magnitude and a random sign: rotated by ±3m degrees, sheared by ±0.03m, moved by
//! ±0.045m of the image's side, brightness and its like max(0.1, 1 ± 0.09m), 4 − ⌊0.4m⌋ bits kept, inverted from
//! 256 − ⌊25.6m⌋ on, ⌊11m⌋ added to the darker half. Torchvision's operation of this name is
//! [`rand_augment`](super::rand_augment).

use serde::{Deserialize, Serialize};

use super::edit::{Edit, Moved};
use super::geometry::Sampling;
use crate::augment::recipe::in_range;
use crate::augment::{Augmentation, Boxed, Canvas, Operation};
use crate::error::Result;
use crate::random::Stream;

/// Its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimmRandAugment {
    /// Edits an image.
    pub edits: usize,
    /// Mean strength, of 0 to 10.
    pub magnitude: f64,
    /// The strength's deviation; 0 is always the mean.
    pub deviation: f64,
    /// Of each edit to be done.
    pub probability: f64,
    /// How pixels between pixels are made.
    pub sampling: Sampling,
    /// What comes in from outside, in each channel: 128 is grey.
    pub outside: u8,
}

impl Default for TimmRandAugment {
    fn default() -> Self {
        Self {
            edits: 2,
            magnitude: 9.0,
            deviation: 0.5,
            probability: 0.5,
            sampling: Sampling::Either,
            outside: 128,
        }
    }
}

/// It, where the recipe asks for it.
pub(super) fn of(recipe: &Augmentation) -> Option<Boxed<Canvas<u8>>> {
    let policy = recipe.timm_rand_augment.clone()?;
    Some(Box::new(policy))
}

/// How many there are to choose from.
const EDITS: usize = 15;

/// The edit of this number, at a magnitude of 0 to 10.
fn edit(number: usize, magnitude: f64, negative: bool, [height, width, _]: [usize; 3]) -> Edit {
    let strength = magnitude / 10.0;
    let signed = |most: f64| {
        if negative {
            -most * strength
        } else {
            most * strength
        }
    };
    let factor = (1.0 + signed(0.9)).max(0.1);
    match number {
        0 => Edit::AutoContrast,
        1 => Edit::Equalize,
        2 => Edit::Invert,
        3 => Edit::Rotate(signed(30.0)),
        4 => Edit::Posterize(4 - (4.0 * strength) as u32),
        5 => Edit::Solarize(256.0 - (256.0 * strength).floor()),
        6 => Edit::SolarizeAdd((110.0 * strength) as u8),
        7 => Edit::Saturation(factor),
        8 => Edit::Contrast(factor),
        9 => Edit::Brightness(factor),
        10 => Edit::Sharpness(factor),
        11 => Edit::ShearX(signed(0.3)),
        12 => Edit::ShearY(signed(0.3)),
        13 => Edit::TranslateX(signed(0.45) * width as f64),
        _ => Edit::TranslateY(signed(0.45) * height as f64),
    }
}

impl Operation<Canvas<u8>> for TimmRandAugment {
    fn name(&self) -> &'static str {
        "timm_rand_augment"
    }

    fn apply(&self, image: &mut Canvas<u8>, shape: [usize; 3], stream: &mut Stream) {
        for _ in 0..self.edits {
            let number = stream.below(EDITS);
            if f64::from(stream.unit()) >= self.probability {
                continue;
            }
            let magnitude = self.magnitude + self.deviation * stream.normal();
            let edit = edit(
                number,
                magnitude.clamp(0.0, 10.0),
                stream.unit() < 0.5,
                shape,
            );
            let moved = Moved::drawn(self.sampling, self.outside, stream);
            edit.apply(image, shape, moved);
        }
    }

    fn check(&self) -> Result<()> {
        in_range(
            "timm_rand_augment.edits",
            self.edits as f64,
            (1..=EDITS).contains(&self.edits),
            "choose 1 to 15; 2 is usual",
        )?;
        in_range(
            "timm_rand_augment.magnitude",
            self.magnitude,
            (0.0..=10.0).contains(&self.magnitude),
            "choose 0 to 10; 9 is usual",
        )?;
        in_range(
            "timm_rand_augment.deviation",
            self.deviation,
            (0.0..=10.0).contains(&self.deviation),
            "choose 0 (off) to 10; 0.5 is usual",
        )?;
        in_range(
            "timm_rand_augment.probability",
            self.probability,
            (0.0..=1.0).contains(&self.probability),
            "choose 0 to 1; 0.5 is usual",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_at_nine_are_those_of_its_setting() {
        let at = |number, negative| edit(number, 9.0, negative, [32, 64, 3]);
        assert_eq!(at(3, false), Edit::Rotate(27.0));
        assert_eq!(at(3, true), Edit::Rotate(-27.0));
        assert_eq!(at(4, false), Edit::Posterize(1));
        assert_eq!(at(5, false), Edit::Solarize(26.0)); // 256 − 230
        assert_eq!(at(6, false), Edit::SolarizeAdd(99));
        let close = |edit: Edit, expected: f64| match edit {
            Edit::Saturation(x) | Edit::ShearX(x) | Edit::TranslateX(x) | Edit::TranslateY(x) => {
                assert!((x - expected).abs() < 1e-12, "{x}");
            }
            other => panic!("{other:?}"),
        };
        close(at(7, false), 1.81);
        close(at(7, true), 0.19);
        close(edit(7, 10.0, true, [32, 32, 3]), 0.1);
        close(at(11, true), -0.27);
        close(at(13, false), 0.405 * 64.0);
        close(at(14, false), 0.405 * 32.0);
    }
}
