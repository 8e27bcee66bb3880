//! Mixup: x ← λ x + (1 − λ) x\[π\], and the targets alike, with one λ ~ Beta(α, α) and one permutation
//! π a batch (Zhang et al., arXiv 1710.09412).

use super::{Batch, with_partners};

/// Mixes every image with its partner; `partners` is a permutation of the batch.
pub fn mixup(batch: &mut Batch, weight: f32, partners: &[usize]) {
    with_partners(&mut batch.images, partners, |image, partner| {
        for (own, other) in image.iter_mut().zip(partner) {
            *own = weight * *own + (1.0 - weight) * other;
        }
    });
    batch.targets.pair(partners, weight);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::Targets;

    #[test]
    fn images_and_targets_are_weighed_alike() {
        let mut batch = Batch {
            images: vec![0.0, 8.0, 100.0, 200.0, -4.0, 4.0],
            targets: vec![3, 1, 2].into(),
        };
        mixup(&mut batch, 0.75, &[1, 2, 0]);
        assert_eq!(batch.images, [25.0, 56.0, 74.0, 151.0, -3.0, 5.0]);
        let targets = Targets::Mixed {
            a: vec![3, 1, 2],
            b: vec![1, 2, 3],
            weight_a: vec![0.75; 3],
        };
        assert_eq!(batch.targets, targets);
    }
}
