//! Horizontal flip: with probability ½, out\[y, x\] = in\[y, W − 1 − x\].
//!
//! Alternating (Jordan, arXiv 2404.00498, section 3.6): a sample is mirrored in its first epoch with
//! probability ½, and from then on in every other epoch, so that two epochs show each sample both ways.

use crate::augment::{Augmentation, Boxed, Canvas, Operation};
use crate::random::Stream;

/// The flip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flip {
    /// The epoch, where the flip alternates.
    pub alternating: Option<u64>,
}

/// The flip, where the recipe asks for it.
pub(super) fn of(recipe: &Augmentation, epoch: u64) -> Option<Boxed<Canvas<u8>>> {
    let alternating = recipe.alternating_flip.then_some(epoch);
    recipe.flip.then(|| Box::new(Flip { alternating }) as _)
}

impl Operation<Canvas<u8>> for Flip {
    fn name(&self) -> &'static str {
        "flip"
    }

    fn apply(&self, image: &mut Canvas<u8>, shape: [usize; 3], stream: &mut Stream) {
        let first = stream.unit() < 0.5;
        let odd = self.alternating.is_some_and(|epoch| epoch % 2 == 1);
        if first != odd {
            mirror(image.image_mut(), shape);
        }
    }

    fn draws_of(&self, epoch: u64) -> u64 {
        // Alternating, by what was drawn at first.
        if self.alternating.is_some() { 0 } else { epoch }
    }
}

/// Mirrors left and right, in place.
pub fn mirror<T>(image: &mut [T], [_, width, channels]: [usize; 3]) {
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
    use crate::augment::resize;
    use crate::random::Purpose;

    #[test]
    fn flipping_mirrors_columns_and_keeps_channels_together() {
        let mut image = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        mirror(&mut image, [2, 3, 2]);
        assert_eq!(image, [5, 6, 3, 4, 1, 2, 11, 12, 9, 10, 7, 8]);
    }

    #[test]
    fn half_of_the_images_are_flipped() {
        let flipped = (0..1000)
            .filter(|&sample| {
                let mut canvas = Canvas::default();
                canvas.load(&[1, 2]);
                let mut stream = Stream::named(3, Purpose::Augment, &[0, sample, 0], "flip");
                let flip = Flip { alternating: None };
                flip.apply(&mut canvas, [1, 2, 1], &mut stream);
                canvas.image() == [2, 1]
            })
            .count();
        // Five deviations: 5 · √250.
        assert!(flipped.abs_diff(500) < 80, "{flipped}");
    }

    #[test]
    fn alternating_shows_every_sample_both_ways() {
        use crate::augment::{EpochAugmentation, Instance, Pipeline, Preprocess};
        let preprocess = Preprocess {
            input: [1, 2, 1],
            image_size: 2,
            mean: vec![0.0],
            variance: vec![1.0],
        };
        let shown = |alternating_flip, epoch, sample| {
            let augmentation = Augmentation {
                flip: true,
                alternating_flip,
                ..Augmentation::none()
            };
            let mut pipeline = Pipeline::new(Some(EpochAugmentation {
                augmentation,
                seed: 7,
                epoch,
            }));
            let image = pipeline.image(&[10, 20], &preprocess, Instance::once(sample));
            image[0] > image[1]
        };
        let mut at_first = 0;
        for sample in 0..200 {
            let first = shown(true, 0, sample);
            at_first += usize::from(first);
            for epoch in 1..5 {
                assert_eq!(shown(true, epoch, sample), first != (epoch % 2 == 1));
            }
        }
        // Five deviations: 5 · √50.
        assert!(at_first.abs_diff(100) < 36, "{at_first}");
        let again = (0..200).filter(|&s| shown(false, 0, s) == shown(false, 1, s));
        assert!(again.count() > 50, "else it is drawn anew");
    }

    /// Why flipping may come before resizing.
    #[test]
    fn a_mirror_commutes_with_resizing() {
        let image: Vec<f32> = (0..7 * 7 * 3).map(|i| (i as f32 * 0.37).sin()).collect();
        for size in [5, 12] {
            let resized = |image: &[f32]| {
                let mut out = vec![0.0; size * size * 3];
                resize::bilinear(image, [7, 7, 3], [size, size], &mut out);
                out
            };
            let mut first = image.clone();
            mirror(&mut first, [7, 7, 3]);
            let first = resized(&first);
            let mut last = resized(&image);
            mirror(&mut last, [size, size, 3]);
            assert_eq!(first.len(), last.len());
            // Weights of up to 1 from positions of up to 7 in 32-bit floats.
            assert!(first.iter().zip(&last).all(|(a, b)| (a - b).abs() < 5e-6));
        }
    }
}
