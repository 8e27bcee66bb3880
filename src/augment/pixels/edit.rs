//! What a policy does to an image: one of sixteen edits, with its amount, and the ranges from which the
//! policies of AutoAugment's family take the amounts.

use super::colour;
use super::geometry::{Affine, Sampling};
use crate::augment::Canvas;
use crate::random::Stream;

/// A change of an image, with its amount.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Edit {
    /// None.
    Identity,
    /// A row goes to the left by so many times its distance from the top.
    ShearX(f64),
    /// A column goes up by so many times its distance from the left.
    ShearY(f64),
    /// To the right, in pixels.
    TranslateX(f64),
    /// Down, in pixels.
    TranslateY(f64),
    /// Counterclockwise, in degrees.
    Rotate(f64),
    /// 1 is no change, 0 black.
    Brightness(f64),
    /// 1 is no change, 0 grey.
    Saturation(f64),
    /// 1 is no change, 0 plain.
    Contrast(f64),
    /// 1 is no change, 0 smoothed.
    Sharpness(f64),
    /// Bits that stay.
    Posterize(u32),
    /// From which brightness on the image is inverted.
    Solarize(f64),
    /// What is added to the darker half of the values.
    SolarizeAdd(u8),
    /// Each channel stretched to the whole range.
    AutoContrast,
    /// Each channel's histogram flattened.
    Equalize,
    /// The negative.
    Invert,
}

/// How an edit that moves pixels does it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moved {
    /// How pixels between pixels are made; decided.
    pub sampling: Sampling,
    /// What comes in from outside, in each channel.
    pub outside: u8,
}

impl Moved {
    /// As asked for, where the stream decides what the sampling leaves open.
    pub fn drawn(sampling: Sampling, outside: u8, stream: &mut Stream) -> Self {
        Self {
            sampling: sampling.decided(stream),
            outside,
        }
    }
}

impl Edit {
    /// Does it.
    pub fn apply(self, canvas: &mut Canvas<u8>, shape: [usize; 3], moved: Moved) {
        let [.., channels] = shape;
        let draw = |canvas: &mut Canvas<u8>, affine: Affine| {
            canvas.redraw(|from, to| {
                affine.draw(from, shape, moved.sampling, moved.outside, to);
            });
        };
        match self {
            Self::Identity => (),
            Self::ShearX(amount) => draw(canvas, Affine::shear_x(amount)),
            Self::ShearY(amount) => draw(canvas, Affine::shear_y(amount)),
            Self::TranslateX(pixels) => draw(canvas, Affine::shift(-pixels, 0.0)),
            Self::TranslateY(pixels) => draw(canvas, Affine::shift(0.0, -pixels)),
            Self::Rotate(degrees) => draw(canvas, Affine::rotation(degrees, shape)),
            Self::Brightness(factor) => colour::brightness(canvas.image_mut(), factor),
            Self::Saturation(factor) => colour::saturation(canvas.image_mut(), channels, factor),
            Self::Contrast(factor) => colour::contrast(canvas.image_mut(), channels, factor),
            Self::Sharpness(factor) => {
                canvas.redraw(|from, to| colour::sharpness(from, shape, factor, to));
            }
            Self::Posterize(bits) => colour::posterize(canvas.image_mut(), bits),
            Self::Solarize(threshold) => colour::solarize(canvas.image_mut(), threshold),
            Self::SolarizeAdd(add) => colour::solarize_add(canvas.image_mut(), add),
            Self::AutoContrast => colour::autocontrast(canvas.image_mut(), channels),
            Self::Equalize => colour::equalize(canvas.image_mut(), channels),
            Self::Invert => colour::invert(canvas.image_mut()),
        }
    }
}

/// An edit without its amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Edit::Identity`]
    Identity,
    /// [`Edit::ShearX`]
    ShearX,
    /// [`Edit::ShearY`]
    ShearY,
    /// [`Edit::TranslateX`]
    TranslateX,
    /// [`Edit::TranslateY`]
    TranslateY,
    /// [`Edit::Rotate`]
    Rotate,
    /// [`Edit::Brightness`]
    Brightness,
    /// [`Edit::Saturation`]
    Saturation,
    /// [`Edit::Contrast`]
    Contrast,
    /// [`Edit::Sharpness`]
    Sharpness,
    /// [`Edit::Posterize`]
    Posterize,
    /// [`Edit::Solarize`]
    Solarize,
    /// [`Edit::AutoContrast`]
    AutoContrast,
    /// [`Edit::Equalize`]
    Equalize,
    /// [`Edit::Invert`]
    Invert,
}

impl Kind {
    /// Those that RandAugment and TrivialAugment choose from.
    pub const OF_RANDOM: [Self; 14] = [
        Self::Identity,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
        Self::Rotate,
        Self::Brightness,
        Self::Saturation,
        Self::Contrast,
        Self::Sharpness,
        Self::Posterize,
        Self::Solarize,
        Self::AutoContrast,
        Self::Equalize,
    ];

    /// The edit at a strength of 0 to 1; what has a sign is negative if so asked.
    pub fn at(self, strength: f64, negative: bool, ranges: &Ranges) -> Edit {
        let signed = |most: f64| {
            let amount = most * strength;
            if negative { -amount } else { amount }
        };
        let [across, down] = ranges.translate;
        let factor = 1.0 + signed(ranges.enhance);
        match self {
            Self::Identity => Edit::Identity,
            Self::ShearX => Edit::ShearX(signed(ranges.shear)),
            Self::ShearY => Edit::ShearY(signed(ranges.shear)),
            // Whole pixels.
            Self::TranslateX => Edit::TranslateX(signed(across).trunc()),
            Self::TranslateY => Edit::TranslateY(signed(down).trunc()),
            Self::Rotate => Edit::Rotate(signed(ranges.rotate)),
            Self::Brightness => Edit::Brightness(factor),
            Self::Saturation => Edit::Saturation(factor),
            Self::Contrast => Edit::Contrast(factor),
            Self::Sharpness => Edit::Sharpness(factor),
            Self::Posterize => {
                Edit::Posterize(8 - (ranges.posterize * strength).round_ties_even() as u32)
            }
            Self::Solarize => Edit::Solarize(255.0 - 255.0 * strength),
            Self::AutoContrast => Edit::AutoContrast,
            Self::Equalize => Edit::Equalize,
            Self::Invert => Edit::Invert,
        }
    }
}

/// The amounts at a strength of 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranges {
    /// Of shearing.
    pub shear: f64,
    /// Across and down, in pixels.
    pub translate: [f64; 2],
    /// In degrees.
    pub rotate: f64,
    /// By which brightness, saturation, contrast and sharpness differ from 1.
    pub enhance: f64,
    /// Bits that go.
    pub posterize: f64,
}

impl Ranges {
    /// AutoAugment's and RandAugment's. A translation is 150 pixels of an image of 331, as on ImageNet.
    pub fn ordinary([height, width, _]: [usize; 3]) -> Self {
        let part = |side: usize| 150.0 / 331.0 * side as f64;
        Self {
            shear: 0.3,
            translate: [part(width), part(height)],
            rotate: 30.0,
            enhance: 0.9,
            posterize: 4.0,
        }
    }

    /// TrivialAugment's wide ones.
    pub const WIDE: Self = Self {
        shear: 0.99,
        translate: [32.0; 2],
        rotate: 135.0,
        enhance: 0.99,
        posterize: 6.0,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_the_policies() {
        let shape = [32, 64, 3];
        let at = |kind: Kind, level: f64| kind.at(level / 9.0, true, &Ranges::ordinary(shape));
        assert_eq!(at(Kind::TranslateX, 9.0), Edit::TranslateX(-29.0));
        assert_eq!(at(Kind::TranslateY, 9.0), Edit::TranslateY(-14.0));
        assert_eq!(at(Kind::Rotate, 9.0), Edit::Rotate(-30.0));
        assert_eq!(at(Kind::Posterize, 7.0), Edit::Posterize(5)); // 4 · 7 / 9 = 3.1
        assert_eq!(at(Kind::Posterize, 9.0), Edit::Posterize(4));
        assert_eq!(at(Kind::Solarize, 0.0), Edit::Solarize(255.0));
        assert_eq!(at(Kind::Solarize, 9.0), Edit::Solarize(0.0));
        let Edit::Saturation(factor) = at(Kind::Saturation, 3.0) else {
            panic!("saturation")
        };
        assert!((factor - 0.7).abs() < 1e-12);
        let wide = |kind: Kind, level: f64| kind.at(level / 30.0, false, &Ranges::WIDE);
        assert_eq!(wide(Kind::Posterize, 30.0), Edit::Posterize(2));
        assert_eq!(wide(Kind::TranslateX, 15.0), Edit::TranslateX(16.0));
        assert_eq!(wide(Kind::Rotate, 20.0), Edit::Rotate(90.0));
    }
}
