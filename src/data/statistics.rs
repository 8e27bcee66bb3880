//! Means, variances and class counts of a data set.
//!
//! The mean and the *population* variance of each channel over all pixels of all images are what
//! Keras's `Normalization` layer learns in `adapt`: with them an image is brought to
//! (pixel − mean) / √variance. The sums are exact integers, so that the result depends on neither
//! order nor platform.

use super::Images;

/// Mean and population variance of each channel, over pixels in 0..=255.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// One mean a channel, in 0..=255.
    pub mean: Vec<f64>,
    /// One variance a channel, in squared pixel values.
    pub variance: Vec<f64>,
}

impl Statistics {
    /// Over all images. With no image, mean and variance are 0.
    pub fn of(images: &Images) -> Self {
        Self::over(images.channels, std::iter::once(&images.pixels[..]))
    }

    /// Over the images with these numbers, as what is left to train on after a
    /// [hold-out](super::split::hold_out). Panics on a number past the end, as a slice does.
    pub fn of_subset(images: &Images, indices: &[u32]) -> Self {
        let chosen = indices.iter().map(|&index| images.image(index as usize));
        Self::over(images.channels, chosen)
    }

    fn over<'a>(channels: usize, slices: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut count = 0;
        let mut sum = vec![0u64; channels];
        let mut squares = vec![0u64; channels];
        for pixels in slices {
            for pixel in pixels.chunks_exact(channels) {
                count += 1;
                for (channel, &value) in pixel.iter().enumerate() {
                    sum[channel] += u64::from(value);
                    squares[channel] += u64::from(value) * u64::from(value);
                }
            }
        }
        let n = f64::max(count as f64, 1.0);
        let mean = sum.iter().map(|&sum| sum as f64 / n).collect();
        // n Σx² − (Σx)², in integers: the difference of two large near-equal numbers.
        let variance = sum
            .iter()
            .zip(&squares)
            .map(|(&sum, &squares)| {
                let spread = u128::from(squares) * count - u128::from(sum) * u128::from(sum);
                spread as f64 / (n * n)
            })
            .collect();
        Self { mean, variance }
    }
}

/// How many labels each of the `classes` classes has. Labels past the end are not counted.
pub fn class_counts(labels: &[u32], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    for &label in labels {
        if let Some(count) = counts.get_mut(label as usize) {
            *count += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_variance_are_numpys() {
        // numpy: a = (np.arange(2*3*2*3) * 37 + 11) % 256 as uint8, shape (2, 3, 2, 3);
        // a.mean((0, 1, 2)), a.var((0, 1, 2)) in float64.
        let images = Images {
            height: 3,
            width: 2,
            channels: 3,
            pixels: (0..36).map(|i| ((i * 37 + 11) % 256) as u8).collect(),
        };
        let close = |got: &[f64], expected: [f64; 3]| {
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() < 1e-9, "{got} {expected}");
            }
        };
        let all = Statistics::of(&images);
        close(&all.mean, [130.83333333333334, 125.16666666666667, 119.5]);
        close(
            &all.variance,
            [5847.472222222222, 5847.472222222223, 5107.916666666667],
        );
        assert_eq!(Statistics::of_subset(&images, &[1, 0]), all);
        close(
            &Statistics::of_subset(&images, &[1]).mean,
            [143.83333333333334, 138.16666666666666, 132.5],
        );
    }

    #[test]
    fn nothing_to_count_is_no_error() {
        let none = Statistics::of(&Images {
            channels: 1,
            ..Images::default()
        });
        assert_eq!((none.mean[0], none.variance[0]), (0.0, 0.0));
        assert_eq!(class_counts(&[0, 2, 2, 9], 3), [1, 0, 2]);
    }
}
