//! What every image goes through, in training and after.

use super::resize;

/// Normalisation, then resizing: x ← (x − mean) / √variance, channel by channel, as Keras's
/// `Normalization`; then bilinearly to a square ([`resize`]).
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
    /// Rows, columns and channels of an image that goes out.
    pub fn output(&self) -> [usize; 3] {
        [self.image_size, self.image_size, self.input[2]]
    }

    /// Numbers in an image that goes out.
    pub fn output_len(&self) -> usize {
        self.output().iter().product()
    }

    /// 8-bit pixels → `output`.
    pub fn apply(&self, pixels: &[u8], output: &mut [f32]) {
        self.apply_with(pixels, output, &mut Vec::new());
    }

    /// As [`apply`](Self::apply), with a buffer that serves many images.
    pub fn apply_with(&self, pixels: &[u8], output: &mut [f32], buffer: &mut Vec<f32>) {
        let [height, width, _] = self.input;
        let size = self.image_size;
        if [height, width] == [size, size] {
            self.normalise(pixels, output);
            return;
        }
        buffer.resize(pixels.len(), 0.0);
        self.normalise(pixels, buffer);
        resize::bilinear(buffer, self.input, [size, size], output);
    }

    fn normalise(&self, pixels: &[u8], output: &mut [f32]) {
        let channels = self.input[2];
        let deviation: Vec<f32> = self.deviation().collect();
        for (pixel, out) in pixels
            .chunks_exact(channels)
            .zip(output.chunks_exact_mut(channels))
        {
            for (c, (&value, out)) in pixel.iter().zip(out).enumerate() {
                *out = (f32::from(value) - self.mean[c]) / deviation[c];
            }
        }
    }

    /// Normalised numbers as pixels again, to look at: what lies outside 0..=255 is cut off.
    pub fn to_pixels(&self, normalised: &[f32]) -> Vec<u8> {
        let deviation: Vec<f32> = self.deviation().collect();
        let channels = self.input[2];
        let pixel = |(i, value): (usize, &f32)| {
            let c = i % channels;
            (value * deviation[c] + self.mean[c])
                .round()
                .clamp(0.0, 255.0) as u8
        };
        normalised.iter().enumerate().map(pixel).collect()
    }

    fn deviation(&self) -> impl Iterator<Item = f32> {
        // Keras: the deviation is at least its epsilon, 1e-7.
        self.variance.iter().map(|v| v.sqrt().max(1e-7))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(preprocess.to_pixels(&out), [104, 50]);
    }

    #[test]
    fn what_is_normalised_comes_back_as_the_same_pixels() {
        let preprocess = Preprocess {
            input: [16, 16, 1],
            image_size: 16,
            mean: vec![120.7],
            variance: vec![4011.3],
        };
        let pixels: Vec<u8> = (0..=255).collect();
        let mut out = [0.0; 256];
        preprocess.apply(&pixels, &mut out);
        assert_eq!(preprocess.to_pixels(&out), pixels);
        assert_eq!(preprocess.to_pixels(&[-9.0, 9.0]), [0, 255]);
    }
}
