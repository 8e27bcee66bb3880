//! Images → images, as Keras's preprocessing layers do it; one file a transform.
//!
//! All images here are `[row, column, channel]` in 32-bit floats, and every transform is a pure
//! function: the random ones take their numbers from a [`Stream`] of the sample's own. The order
//! is the seed's: normalise, resize, flip, rotate, zoom.

pub mod affine;
pub mod loader;
pub mod resize;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::random::Stream;
use affine::Affine;

/// What training images go through besides normalisation and resizing; the `[augment]` table of
/// a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// Mirror left and right with probability ½.
    pub flip: bool,
    /// Rotation, uniform within ± this part of a full turn; 0 is off.
    pub rotation: f64,
    /// Zoom, height and width each uniform within 1 ± this; 0 is off.
    pub zoom: f64,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self {
            flip: true,
            rotation: 0.02,
            zoom: 0.2,
        }
    }
}

impl Augmentation {
    /// Refuses what cannot be done, naming the field and the remedy.
    pub fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.rotation) {
            return Err(Error::recipe(
                "augment.rotation",
                format!("{} is out of range", self.rotation),
                "choose 0 (off) to 1, in full turns: 0.02 is ±7.2 degrees",
            ));
        }
        if !(0.0..1.0).contains(&self.zoom) {
            return Err(Error::recipe(
                "augment.zoom",
                format!("{} is out of range", self.zoom),
                "choose 0 (off) or more, and less than 1: 0.2 is ±20 %",
            ));
        }
        Ok(())
    }
}

/// What every image goes through, in training and after: normalisation, then resizing.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    /// Rows, columns and channels of the images that come in.
    pub input: [usize; 3],
    /// Pixels a side of the images that go out.
    pub image_size: usize,
    /// Mean of each channel over the training images, in units of 0..255.
    pub mean: Vec<f32>,
    /// Variance of each channel over the training images.
    pub variance: Vec<f32>,
}

impl Preprocess {
    /// Numbers in an image that goes out.
    pub fn output_len(&self) -> usize {
        self.image_size * self.image_size * self.input[2]
    }

    /// (x − mean) / √variance, then bilinear resizing: 8-bit pixels → `output`.
    pub fn apply(&self, pixels: &[u8], output: &mut [f32]) {
        let [height, width, channels] = self.input;
        let size = self.image_size;
        if [height, width] == [size, size] {
            self.normalise(pixels, output);
            return;
        }
        let mut normalised = vec![0.0; pixels.len()];
        self.normalise(pixels, &mut normalised);
        resize::bilinear(&normalised, [height, width, channels], [size, size], output);
    }

    fn normalise(&self, pixels: &[u8], output: &mut [f32]) {
        let channels = self.input[2];
        // Keras: the deviation is at least its epsilon, 1e-7.
        let deviation: Vec<f32> = self.variance.iter().map(|v| v.sqrt().max(1e-7)).collect();
        for (pixel, out) in pixels
            .chunks_exact(channels)
            .zip(output.chunks_exact_mut(channels))
        {
            for (c, (&value, out)) in pixel.iter().zip(out).enumerate() {
                *out = (f32::from(value) - self.mean[c]) / deviation[c];
            }
        }
    }
}

/// Augments one preprocessed square image in place, with numbers from the sample's stream.
///
/// The numbers are drawn in a fixed order and number, whatever is switched off, so that switching
/// one transform leaves the others' draws as they were.
pub fn augment(
    image: &mut Vec<f32>,
    size: usize,
    channels: usize,
    augmentation: &Augmentation,
    stream: &mut Stream,
) {
    let flip = stream.unit() < 0.5;
    let mut within = |limit: f64| stream.uniform(-limit as f32, limit as f32);
    let turn = within(augmentation.rotation);
    let (height_zoom, width_zoom) = (within(augmentation.zoom), within(augmentation.zoom));

    if augmentation.flip && flip {
        flip_horizontally(image, size, channels);
    }
    if augmentation.rotation > 0.0 {
        let rotation = Affine::rotation(turn * std::f32::consts::TAU, size, size);
        *image = affine::transform(image, [size, size, channels], &rotation);
    }
    if augmentation.zoom > 0.0 {
        let zoom = Affine::zoom(1.0 + height_zoom, 1.0 + width_zoom, size, size);
        *image = affine::transform(image, [size, size, channels], &zoom);
    }
}

/// Mirrors left and right, in place.
pub fn flip_horizontally(image: &mut [f32], width: usize, channels: usize) {
    for row in image.chunks_exact_mut(width * channels) {
        for column in 0..width / 2 {
            for c in 0..channels {
                row.swap(column * channels + c, (width - 1 - column) * channels + c);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    #[test]
    fn flipping_mirrors_columns_and_keeps_channels_together() {
        let mut image = vec![
            1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0,
        ];
        flip_horizontally(&mut image, 3, 2);
        assert_eq!(
            image,
            [
                5.0, 6.0, 3.0, 4.0, 1.0, 2.0, 11.0, 12.0, 9.0, 10.0, 7.0, 8.0
            ]
        );
    }

    #[test]
    fn a_sample_is_augmented_the_same_way_every_time_and_draws_are_independent_of_switches() {
        let source: Vec<f32> = (0..8 * 8 * 3).map(|i| (i as f32 * 0.37).sin()).collect();
        let run = |augmentation: &Augmentation| {
            let mut image = source.clone();
            let mut stream = Stream::new(5, Purpose::Augment, 2, 17);
            augment(&mut image, 8, 3, augmentation, &mut stream);
            (image, stream.next())
        };
        let all = Augmentation::default();
        let off = Augmentation {
            flip: false,
            rotation: 0.0,
            zoom: 0.0,
        };
        assert_eq!(run(&all), run(&all));
        assert_ne!(run(&all).0, source);
        assert_eq!(run(&off).0, source);
        assert_eq!(run(&all).1, run(&off).1);
    }

    #[test]
    fn preprocessing_adapts_to_the_channels() {
        let preprocess = Preprocess {
            input: [1, 2, 2],
            image_size: 1,
            mean: vec![100.0, 50.0],
            variance: vec![4.0, 0.0],
        };
        let mut out = [0.0; 2];
        preprocess.apply(&[102, 50, 106, 50], &mut out);
        // Both columns weigh ½ where two pixels become one.
        assert_eq!(out, [2.0, 0.0]);
    }
}
