//! Operations on a whole batch, which mix its images and their targets.

pub mod cutmix;
pub mod mix;
pub mod mixup;

use super::{Augmentation, Boxed, Targets};

/// Images ready for the model, and what they are to be taken for.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[image, row, column, channel]`.
    pub images: Vec<f32>,
    /// A target an image.
    pub targets: Targets,
}

/// Those that a recipe asks for, in their order.
pub fn operations(recipe: &Augmentation) -> Vec<Boxed<Batch>> {
    [mix::of(recipe)].into_iter().flatten().collect()
}

/// Changes every image by its partner as that was before any change; `partners` is a permutation
/// of the images' numbers. An image that is its own partner stays as it is.
fn with_partners(
    images: &mut [f32],
    partners: &[usize],
    mut change: impl FnMut(&mut [f32], &[f32]),
) {
    let length = images.len() / partners.len().max(1);
    let of = |image: usize| image * length..(image + 1) * length;
    let mut done = vec![false; partners.len()];
    let mut kept = Vec::with_capacity(length);
    // Along each cycle of the permutation a partner is still unchanged when its turn has not come;
    // only the cycle's first image must be kept for its last. So no copy of the batch is needed.
    for first in 0..partners.len() {
        if done[first] || partners[first] == first {
            continue;
        }
        kept.clear();
        kept.extend_from_slice(&images[of(first)]);
        let mut image = first;
        while partners[image] != first {
            let partner = partners[image];
            let [own, other] = images
                .get_disjoint_mut([of(image), of(partner)])
                .expect("in a permutation no two images have one partner");
            change(own, other);
            done[image] = true;
            image = partner;
        }
        change(&mut images[of(image)], &kept);
        done[image] = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partners_are_taken_as_they_were() {
        // Cycles of three, two and one.
        let partners = [2, 4, 5, 3, 1, 0];
        let before: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut images = before.clone();
        with_partners(&mut images, &partners, |image, partner| {
            for (a, b) in image.iter_mut().zip(partner) {
                *a += 100.0 * b;
            }
        });
        let expected: Vec<f32> = (0..12)
            .map(|i| match partners[i / 2] {
                own if own == i / 2 => before[i],
                partner => before[i] + 100.0 * before[2 * partner + i % 2],
            })
            .collect();
        assert_eq!(images, expected);
        with_partners(&mut [], &[], |_, _| unreachable!());
    }
}
