//! Random resized crop: a rectangle of the image, drawn to the image's size (Szegedy and others, arXiv
//! 1409.4842, as torchvision has it).
//!
//! Up to ten times: area a = HW · U(a₀, a₁), aspect ratio r = exp U(ln r₀, ln r₁), width w = round √(a · r), height
//! h = round √(a / r); the first that fits is put at a uniform place. Where none of them does, the largest in the
//! middle whose ratio is allowed. It is resized as Pillow does it, to the last bit: by the triangle filter, wider
//! where the rectangle is larger than what it becomes.

use serde::{Deserialize, Serialize};

use crate::augment::recipe::ordered;
use crate::augment::{Augmentation, Boxed, Canvas, Operation, Rectangle};
use crate::error::Result;
use crate::random::Stream;

/// Its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResizedCrop {
    /// The rectangle's least and largest area, as parts of the image's.
    pub area: [f64; 2],
    /// Its least and largest ratio of width to height.
    pub ratio: [f64; 2],
}

impl Default for ResizedCrop {
    fn default() -> Self {
        Self {
            area: [0.08, 1.0],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
        }
    }
}

/// The crop, where the recipe asks for it.
pub(super) fn of(recipe: &Augmentation) -> Option<Boxed<Canvas<u8>>> {
    let crop = recipe.resized_crop.clone()?;
    Some(Box::new(crop))
}

impl Operation<Canvas<u8>> for ResizedCrop {
    fn name(&self) -> &'static str {
        "resized_crop"
    }

    fn apply(&self, image: &mut Canvas<u8>, shape: [usize; 3], stream: &mut Stream) {
        let rectangle = self.rectangle(shape, stream);
        image.redraw(|from, to| resize(from, shape, rectangle, to));
    }

    fn check(&self) -> Result<()> {
        ordered(
            "resized_crop.area",
            self.area,
            1.0,
            "give the least and the largest part of the image, more than 0 and at most 1: \
             [0.08, 1] is usual, [0.8, 1] for small images",
        )?;
        ordered(
            "resized_crop.ratio",
            self.ratio,
            1e6,
            "give the least and the largest width / height, more than 0: [0.75, 1.33] is usual",
        )
    }
}

impl ResizedCrop {
    fn rectangle(&self, [height, width, _]: [usize; 3], stream: &mut Stream) -> Rectangle {
        let [least, most] = self.area;
        let [narrowest, widest] = self.ratio.map(f64::ln);
        let mut within = |low: f64, high: f64| low + (high - low) * f64::from(stream.unit());
        let drawn = (0..10).find_map(|_| {
            let area = within(least, most) * (height * width) as f64;
            let ratio = within(narrowest, widest).exp();
            let w = (area * ratio).sqrt().round_ties_even() as usize;
            let h = (area / ratio).sqrt().round_ties_even() as usize;
            ((1..=width).contains(&w) && (1..=height).contains(&h)).then_some((h, w))
        });
        if let Some((h, w)) = drawn {
            return Rectangle {
                top: stream.below(height - h + 1),
                left: stream.below(width - w + 1),
                height: h,
                width: w,
            };
        }
        let own = width as f64 / height as f64;
        let side = |length: f64| (length.round_ties_even() as usize).max(1);
        let (h, w) = if own < self.ratio[0] {
            (side(width as f64 / self.ratio[0]).min(height), width)
        } else if own > self.ratio[1] {
            (height, side(height as f64 * self.ratio[1]).min(width))
        } else {
            (height, width)
        };
        Rectangle {
            top: (height - h) / 2,
            left: (width - w) / 2,
            height: h,
            width: w,
        }
    }
}

/// Draws a rectangle of the image to the image's size: across, then down, each time to eight bits.
pub fn resize(image: &[u8], [height, width, channels]: [usize; 3], part: Rectangle, to: &mut [u8]) {
    let (across, down) = (Taps::new(part.width, width), Taps::new(part.height, height));
    let line = width * channels;
    let mut rows = vec![0; part.height * line];
    for (row, wide) in rows.chunks_exact_mut(line).enumerate() {
        let from = &image[(part.top + row) * line + part.left * channels..];
        for (taps, pixel) in across.of.iter().zip(wide.chunks_exact_mut(channels)) {
            for (channel, value) in pixel.iter_mut().enumerate() {
                *value = taps.sum(|place| from[place * channels + channel]);
            }
        }
    }
    for (taps, line_to) in down.of.iter().zip(to.chunks_exact_mut(line)) {
        for (place, value) in line_to.iter_mut().enumerate() {
            *value = taps.sum(|row| rows[row * line + place]);
        }
    }
}

/// For each output pixel of an axis, which input pixels it is made of.
struct Taps {
    of: Vec<Tap>,
}

struct Tap {
    first: usize,
    /// In 2⁻²².
    weights: Vec<i32>,
}

const BITS: u32 = 22;

impl Taps {
    fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let support = scale.max(1.0);
        let tap = |place: usize| {
            let centre = (place as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let last = ((centre + support + 0.5) as usize).min(from);
            let weight = |x: usize| {
                let distance = (x as f64 - centre + 0.5) / support;
                (1.0 - distance.abs()).max(0.0)
            };
            let weights: Vec<f64> = (first..last).map(weight).collect();
            let sum: f64 = weights.iter().sum();
            let fixed = |w: &f64| (0.5 + w / sum * f64::from(1 << BITS)) as i32;
            Tap {
                first,
                weights: weights.iter().map(fixed).collect(),
            }
        };
        Self {
            of: (0..to).map(tap).collect(),
        }
    }
}

impl Tap {
    fn sum(&self, value: impl Fn(usize) -> u8) -> u8 {
        let mut sum = 1 << (BITS - 1);
        for (place, weight) in (self.first..).zip(&self.weights) {
            sum += i32::from(value(place)) * weight;
        }
        (sum >> BITS).clamp(0, 255) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    #[test]
    fn a_rectangle_lies_within_its_bounds() {
        let crop = ResizedCrop::default();
        let (mut smallest, mut largest) = (f64::INFINITY, 0.0f64);
        for sample in 0..2000 {
            let mut stream = Stream::named(3, Purpose::Augment, &[0, sample, 0], crop.name());
            let found = crop.rectangle([40, 60, 3], &mut stream);
            assert!(found.top + found.height <= 40 && found.left + found.width <= 60);
            let area = (found.height * found.width) as f64 / 2400.0;
            (smallest, largest) = (smallest.min(area), largest.max(area));
            let ratio = found.width as f64 / found.height as f64;
            // Of whole pixels.
            assert!((0.65..=1.5).contains(&ratio), "{found:?}");
        }
        assert!(smallest < 0.1 && largest > 0.6, "{smallest} {largest}");
        // What never fits: the largest in the middle.
        let mut stream = Stream::named(3, Purpose::Augment, &[0, 0, 0], crop.name());
        let all = ResizedCrop {
            area: [1.0, 1.0],
            ..crop
        };
        let found = all.rectangle([10, 40, 3], &mut stream);
        assert_eq!(
            (found.top, found.left, found.height, found.width),
            (0, 13, 10, 13)
        );
    }

    #[test]
    fn a_whole_image_stays() {
        let image: Vec<u8> = (0..60).collect();
        let whole = Rectangle {
            top: 0,
            left: 0,
            height: 4,
            width: 5,
        };
        let mut to = vec![0; 60];
        resize(&image, [4, 5, 3], whole, &mut to);
        assert_eq!(to, image);
    }
}
