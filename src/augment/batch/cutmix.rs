//! CutMix: a rectangle of every image is its partner's, and the partner's target weighs as much as
//! the rectangle's part of the area (Yun et al., arXiv 1905.04899).
//!
//! With λ ~ Beta(α, α): h = ⌊H √(1 − λ)⌋ and w = ⌊W √(1 − λ)⌋, a centre uniform over the image's
//! pixels, ⌊h/2⌋ and ⌊w/2⌋ either way of it, cut off at the edges; then λ ← 1 − area / HW. One λ,
//! rectangle and permutation a batch.

use super::{Batch, with_partners};
use crate::augment::Rectangle;
use crate::random::Stream;

/// The rectangle for this λ.
pub fn rectangle([height, width, _]: [usize; 3], weight: f64, stream: &mut Stream) -> Rectangle {
    let side = (1.0 - weight).max(0.0).sqrt();
    let mut span = |length: usize| {
        let half = (length as f64 * side) as usize / 2;
        let centre = stream.below(length);
        (centre.saturating_sub(half), (centre + half).min(length))
    };
    let ((top, bottom), (left, right)) = (span(height), span(width));
    Rectangle {
        top,
        left,
        height: bottom - top,
        width: right - left,
    }
}

/// Puts the partner's rectangle into every image; `partners` is a permutation of the batch.
pub fn cutmix(batch: &mut Batch, shape: [usize; 3], rectangle: Rectangle, partners: &[usize]) {
    let [height, width, channels] = shape;
    let (begin, length) = (rectangle.left * channels, rectangle.width * channels);
    with_partners(&mut batch.images, partners, |image, partner| {
        for row in rectangle.top..rectangle.top + rectangle.height {
            let part = row * width * channels + begin..row * width * channels + begin + length;
            image[part.clone()].copy_from_slice(&partner[part]);
        }
    });
    let area = (rectangle.height * rectangle.width) as f64 / (height * width) as f64;
    batch.targets.pair(partners, (1.0 - area) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::Targets;
    use crate::random::Purpose;

    #[test]
    fn the_rectangle_is_the_partners_and_weighs_its_area() {
        // Image n has the numbers 100 n + 10 · row + column.
        let number = |n: usize, row: usize, column: usize| (100 * n + 10 * row + column) as f32;
        let image = |n: usize| (0..20).map(move |i| number(n, i / 5, i % 5));
        let mut batch = Batch {
            images: (0..3).flat_map(image).collect(),
            targets: vec![7, 8, 9].into(),
        };
        let rectangle = Rectangle {
            top: 1,
            left: 2,
            height: 2,
            width: 3,
        };
        cutmix(&mut batch, [4, 5, 1], rectangle, &[2, 0, 1]);
        for (n, partner) in [2, 0, 1].into_iter().enumerate() {
            for (i, &found) in batch.images[20 * n..][..20].iter().enumerate() {
                let (row, column) = (i / 5, i % 5);
                let inside = (1..3).contains(&row) && column >= 2;
                let expected = number(if inside { partner } else { n }, row, column);
                assert_eq!(found, expected);
            }
        }
        let targets = Targets::Mixed {
            a: vec![7, 8, 9],
            b: vec![9, 7, 8],
            weight_a: vec![0.7; 3], // 1 − 6 / 20
        };
        assert_eq!(batch.targets, targets);
    }

    #[test]
    fn sides_follow_the_weight_and_the_edges_cut() {
        let mut whole = 0;
        let mut clipped = 0;
        for sample in 0..2000 {
            let mut stream = Stream::named(3, Purpose::Mix, &[0, sample], "mix");
            // √0.25 of 32 and 20: sides of 16 and 10, centres anywhere.
            let r = rectangle([32, 20, 3], 0.75, &mut stream);
            assert!((8..=16).contains(&r.height) && (5..=10).contains(&r.width));
            assert!(r.top + r.height <= 32 && r.left + r.width <= 20);
            match (r.height, r.width) {
                (16, 10) => whole += 1,
                _ => clipped += 1,
            }
        }
        // Whole where the centre's row is in 8..=24 and its column in 5..=15: 17/32 · 11/20.
        let expected = 2000.0 * 17.0 / 32.0 * 11.0 / 20.0;
        assert!(
            (f64::from(whole) - expected).abs() < 102.0,
            "{whole} {clipped}"
        );
        let mut stream = Stream::named(3, Purpose::Mix, &[0, 0], "mix");
        assert_eq!(rectangle([32, 32, 3], 1.0, &mut stream).height, 0);
        let r = rectangle([32, 32, 3], 0.0, &mut stream);
        assert!(r.height >= 16 && r.width >= 16);
    }
}
