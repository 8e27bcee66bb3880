//! AutoAugment (Cubuk and others, arXiv 1805.09501): one of twenty-five pairs of edits, drawn evenly; each of the
//! two is done with its own probability, at its own strength, those with a sign in a random direction. The pairs
//! were found by search on a data set, and serve others like it.

use serde::{Deserialize, Serialize};

use super::edit::Kind::{
    self, AutoContrast, Brightness, Contrast, Equalize, Invert, Posterize, Rotate, Saturation,
    Sharpness, ShearX, ShearY, Solarize, TranslateX, TranslateY,
};
use super::edit::{Edit, Moved, Ranges};
use super::geometry::Sampling;
use crate::augment::{Augmentation, Boxed, Canvas, Operation};
use crate::random::Stream;

/// AutoAugment's parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoAugment {
    /// Which pairs.
    pub policy: Policy,
    /// In whose reading.
    pub variant: Variant,
}

/// The data set on which the pairs were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// CIFAR-10.
    #[default]
    Cifar10,
    /// SVHN: house numbers.
    Svhn,
    /// ImageNet.
    Imagenet,
}

/// Details that programs differ in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Torchvision's: the nearest pixel, black outside.
    #[default]
    Torchvision,
    /// That of the code of arXiv 2112.13492: grey outside, rotation counterclockwise alone, bicubic shearing,
    /// solarize from 256 − 256 · level / 9 on.
    SptLsa,
}

/// AutoAugment, where the recipe asks for it.
pub(super) fn of(recipe: &Augmentation) -> Option<Boxed<Canvas<u8>>> {
    let policy = recipe.auto_augment.clone()?;
    Some(Box::new(policy))
}

impl Operation<Canvas<u8>> for AutoAugment {
    fn name(&self) -> &'static str {
        "auto_augment"
    }

    fn apply(&self, image: &mut Canvas<u8>, shape: [usize; 3], stream: &mut Stream) {
        let pairs = self.policy.pairs();
        let ranges = Ranges::ordinary(shape);
        for (kind, tenths, level) in pairs[stream.below(pairs.len())] {
            let (chance, negative) = (stream.unit(), stream.unit() < 0.5);
            if f64::from(chance) < f64::from(tenths) / 10.0 {
                let (edit, moved) = self.variant.edit(kind, level, negative, &ranges);
                edit.apply(image, shape, moved);
            }
        }
    }
}

impl Variant {
    /// The edit of this kind and level, 0 to 9, and how it moves pixels.
    fn edit(self, kind: Kind, level: u8, negative: bool, ranges: &Ranges) -> (Edit, Moved) {
        let strength = f64::from(level) / 9.0;
        let edit = kind.at(strength, negative, ranges);
        let moved = |sampling, outside| Moved { sampling, outside };
        match (self, edit) {
            (Self::Torchvision, edit) => (edit, moved(Sampling::Nearest, 0)),
            (Self::SptLsa, Edit::Rotate(degrees)) => {
                (Edit::Rotate(degrees.abs()), moved(Sampling::Nearest, 128))
            }
            (Self::SptLsa, Edit::Solarize(_)) => {
                let edit = Edit::Solarize(256.0 - 256.0 * strength);
                (edit, moved(Sampling::Nearest, 128))
            }
            (Self::SptLsa, Edit::ShearX(_) | Edit::ShearY(_)) => {
                (edit, moved(Sampling::Bicubic, 128))
            }
            (Self::SptLsa, edit) => (edit, moved(Sampling::Nearest, 128)),
        }
    }
}

/// An edit's kind, its probability in tenths, and its level, 0 to 9.
type Step = (Kind, u8, u8);

impl Policy {
    pub(super) fn pairs(self) -> &'static [[Step; 2]; 25] {
        match self {
            Self::Cifar10 => &CIFAR10,
            Self::Svhn => &SVHN,
            Self::Imagenet => &IMAGENET,
        }
    }
}

#[rustfmt::skip]
const CIFAR10: [[Step; 2]; 25] = [
    [(Invert, 1, 0), (Contrast, 2, 6)],
    [(Rotate, 7, 2), (TranslateX, 3, 9)],
    [(Sharpness, 8, 1), (Sharpness, 9, 3)],
    [(ShearY, 5, 8), (TranslateY, 7, 9)],
    [(AutoContrast, 5, 0), (Equalize, 9, 0)],
    [(ShearY, 2, 7), (Posterize, 3, 7)],
    [(Saturation, 4, 3), (Brightness, 6, 7)],
    [(Sharpness, 3, 9), (Brightness, 7, 9)],
    [(Equalize, 6, 0), (Equalize, 5, 0)],
    [(Contrast, 6, 7), (Sharpness, 6, 5)],
    [(Saturation, 7, 7), (TranslateX, 5, 8)],
    [(Equalize, 3, 0), (AutoContrast, 4, 0)],
    [(TranslateY, 4, 3), (Sharpness, 2, 6)],
    [(Brightness, 9, 6), (Saturation, 2, 8)],
    [(Solarize, 5, 2), (Invert, 0, 0)],
    [(Equalize, 2, 0), (AutoContrast, 6, 0)],
    [(Equalize, 2, 0), (Equalize, 6, 0)],
    [(Saturation, 9, 9), (Equalize, 6, 0)],
    [(AutoContrast, 8, 0), (Solarize, 2, 8)],
    [(Brightness, 1, 3), (Saturation, 7, 0)],
    [(Solarize, 4, 5), (AutoContrast, 9, 0)],
    [(TranslateY, 9, 9), (TranslateY, 7, 9)],
    [(AutoContrast, 9, 0), (Solarize, 8, 3)],
    [(Equalize, 8, 0), (Invert, 1, 0)],
    [(TranslateY, 7, 9), (AutoContrast, 9, 0)],
];

#[rustfmt::skip]
const SVHN: [[Step; 2]; 25] = [
    [(ShearX, 9, 4), (Invert, 2, 0)],
    [(ShearY, 9, 8), (Invert, 7, 0)],
    [(Equalize, 6, 0), (Solarize, 6, 6)],
    [(Invert, 9, 0), (Equalize, 6, 0)],
    [(Equalize, 6, 0), (Rotate, 9, 3)],
    [(ShearX, 9, 4), (AutoContrast, 8, 0)],
    [(ShearY, 9, 8), (Invert, 4, 0)],
    [(ShearY, 9, 5), (Solarize, 2, 6)],
    [(Invert, 9, 0), (AutoContrast, 8, 0)],
    [(Equalize, 6, 0), (Rotate, 9, 3)],
    [(ShearX, 9, 4), (Solarize, 3, 3)],
    [(ShearY, 8, 8), (Invert, 7, 0)],
    [(Equalize, 9, 0), (TranslateY, 6, 6)],
    [(Invert, 9, 0), (Equalize, 6, 0)],
    [(Contrast, 3, 3), (Rotate, 8, 4)],
    [(Invert, 8, 0), (TranslateY, 0, 2)],
    [(ShearY, 7, 6), (Solarize, 4, 8)],
    [(Invert, 6, 0), (Rotate, 8, 4)],
    [(ShearY, 3, 7), (TranslateX, 9, 3)],
    [(ShearX, 1, 6), (Invert, 6, 0)],
    [(Solarize, 7, 2), (TranslateY, 6, 7)],
    [(ShearY, 8, 4), (Invert, 8, 0)],
    [(ShearX, 7, 9), (TranslateY, 8, 3)],
    [(ShearY, 8, 5), (AutoContrast, 7, 0)],
    [(ShearX, 7, 2), (Invert, 1, 0)],
];

#[rustfmt::skip]
const IMAGENET: [[Step; 2]; 25] = [
    [(Posterize, 4, 8), (Rotate, 6, 9)],
    [(Solarize, 6, 5), (AutoContrast, 6, 0)],
    [(Equalize, 8, 0), (Equalize, 6, 0)],
    [(Posterize, 6, 7), (Posterize, 6, 6)],
    [(Equalize, 4, 0), (Solarize, 2, 4)],
    [(Equalize, 4, 0), (Rotate, 8, 8)],
    [(Solarize, 6, 3), (Equalize, 6, 0)],
    [(Posterize, 8, 5), (Equalize, 10, 0)],
    [(Rotate, 2, 3), (Solarize, 6, 8)],
    [(Equalize, 6, 0), (Posterize, 4, 6)],
    [(Rotate, 8, 8), (Saturation, 4, 0)],
    [(Rotate, 4, 9), (Equalize, 6, 0)],
    [(Equalize, 0, 0), (Equalize, 8, 0)],
    [(Invert, 6, 0), (Equalize, 10, 0)],
    [(Saturation, 6, 4), (Contrast, 10, 8)],
    [(Rotate, 8, 8), (Saturation, 10, 2)],
    [(Saturation, 8, 8), (Solarize, 8, 7)],
    [(Sharpness, 4, 7), (Invert, 6, 0)],
    [(ShearX, 6, 5), (Equalize, 10, 0)],
    [(Saturation, 4, 0), (Equalize, 6, 0)],
    [(Equalize, 4, 0), (Solarize, 2, 4)],
    [(Solarize, 6, 5), (AutoContrast, 6, 0)],
    [(Invert, 6, 0), (Equalize, 10, 0)],
    [(Saturation, 6, 4), (Contrast, 10, 8)],
    [(Equalize, 8, 0), (Equalize, 6, 0)],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_differ_where_they_should() {
        let ranges = Ranges::ordinary([32, 32, 3]);
        let edit = |variant: Variant, kind, level| variant.edit(kind, level, true, &ranges);
        let (torchvision, paper) = (Variant::Torchvision, Variant::SptLsa);
        let (black, grey) = (0, 128);
        let of = |(edit, moved): (Edit, Moved)| (edit, moved.sampling, moved.outside);
        let nearest = Sampling::Nearest;
        let turned = |degrees, outside| (Edit::Rotate(degrees), nearest, outside);
        assert_eq!(of(edit(torchvision, Rotate, 9)), turned(-30.0, black));
        assert_eq!(of(edit(paper, Rotate, 9)), turned(30.0, grey));
        assert_eq!(edit(torchvision, Solarize, 0).0, Edit::Solarize(255.0));
        assert_eq!(edit(paper, Solarize, 0).0, Edit::Solarize(256.0));
        assert_eq!(edit(paper, ShearX, 9).1.sampling, Sampling::Bicubic);
        let moved = (Edit::TranslateX(-14.0), nearest, grey);
        assert_eq!(of(edit(paper, TranslateX, 9)), moved);
    }
}
