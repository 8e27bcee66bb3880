//! Horizontal flip: with probability ½, out\[y, x\] = in\[y, W − 1 − x\].

use crate::augment::{Augmentation, Boxed, Canvas, Operation};
use crate::random::Stream;

/// The flip, which has no parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flip;

/// The flip, where the recipe asks for it.
pub(super) fn of(recipe: &Augmentation) -> Option<Boxed<Canvas<u8>>> {
    recipe.flip.then(|| Box::new(Flip) as _)
}

impl Operation<Canvas<u8>> for Flip {
    fn name(&self) -> &'static str {
        "flip"
    }

    fn apply(&self, image: &mut Canvas<u8>, shape: [usize; 3], stream: &mut Stream) {
        if stream.unit() < 0.5 {
            mirror(image.image_mut(), shape);
        }
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
                Flip.apply(&mut canvas, [1, 2, 1], &mut stream);
                canvas.image() == [2, 1]
            })
            .count();
        // Five deviations: 5 · √250.
        assert!(flipped.abs_diff(500) < 80, "{flipped}");
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
