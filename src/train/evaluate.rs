//! How good a model is on images that it was not trained on: without augmentation or dropout.

use std::sync::Arc;

use super::answers::Answers;
use super::metrics::{Sums, image_loss};
use super::prepare::Subset;
use super::workers::Workers;
use crate::augment::Preprocess;
use crate::augment::loader::{Loader, Sampler};
use crate::error::{Error, Result};
use crate::models::Model;

/// Images that go through the loader at once.
const BATCH: usize = 256;

/// Loss and accuracies of a model on a part of a data set.
pub fn evaluate(
    workers: &Workers,
    model: &Model,
    subset: &Subset,
    preprocess: &Arc<Preprocess>,
    shape: [usize; 3],
) -> Result<Sums> {
    let mut sums = Sums::default();
    each_image(
        workers,
        model,
        subset,
        preprocess,
        shape,
        false,
        |logits, _, label| {
            sums.add(image_loss(logits, label as usize), logits, &[label]);
        },
    )?;
    Ok(sums)
}

/// What a model of so many classes says to each image of a part of a data set.
pub fn answers(
    workers: &Workers,
    model: &Model,
    subset: &Subset,
    preprocess: &Arc<Preprocess>,
    shape: [usize; 3],
    classes: usize,
) -> Result<Answers> {
    let mut answers = Answers::new(classes);
    let mut samples = subset.samples.iter();
    each_image(
        workers,
        model,
        subset,
        preprocess,
        shape,
        false,
        |logits, _, label| {
            let image = samples.next().expect("an image is a sample");
            answers.add(*image, logits, label as usize);
        },
    )?;
    Ok(answers)
}

/// Every image's logits and label, in order. Where `mirrored`, between them the mean of its logits and
/// those of its mirror image.
pub fn each_image(
    workers: &Workers,
    model: &Model,
    subset: &Subset,
    preprocess: &Arc<Preprocess>,
    shape: [usize; 3],
    mirrored: bool,
    mut each: impl FnMut(&[f32], Option<&[f32]>, u32),
) -> Result<()> {
    let loader = Loader::start(
        subset.split.clone(),
        Sampler::in_order(&subset.samples, BATCH),
        preprocess.clone(),
        None,
        workers.threads(),
    )?;
    let (inference, mut images) = (workers.inference(model, shape), 0);
    for mut batch in loader {
        let logits = inference.logits(&batch.images);
        let classes = logits.len() / batch.targets.len();
        let means = mirrored.then(|| {
            mirror(&mut batch.images, shape);
            let of_mirrors = inference.logits(&batch.images);
            let pairs = logits.iter().zip(of_mirrors);
            pairs.map(|(a, b)| 0.5 * (a + b)).collect::<Vec<f32>>()
        });
        let labels = batch.targets.dominant();
        for (image, (logits, &label)) in logits.chunks_exact(classes).zip(&*labels).enumerate() {
            let means = means
                .as_ref()
                .map(|means| &means[image * classes..][..classes]);
            each(logits, means, label);
        }
        images += labels.len();
    }
    whole(
        "the images to evaluate on",
        images as u64,
        subset.samples.len() as u64,
    )
}

/// Left and right in each image change places.
fn mirror(images: &mut [f32], [_, width, channels]: [usize; 3]) {
    for row in images.chunks_exact_mut(width * channels) {
        for left in 0..width / 2 {
            let right = width - 1 - left;
            let (before, after) = row.split_at_mut(right * channels);
            before[left * channels..][..channels].swap_with_slice(&mut after[..channels]);
        }
    }
}

/// Refuses to go on where a loader ended early: unreachable unless one of its threads died, which
/// has said why.
pub(super) fn whole(place: &str, found: u64, expected: u64) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::data(
        place,
        format!("the loader ended after {found} of {expected}"),
        "this is a fault of the program; please report it with the message above",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_turns_each_row_of_each_image() {
        let mut images: Vec<f32> = (0..12).map(|i| i as f32).collect();
        // Two images of one row of three pixels with two channels.
        mirror(&mut images, [1, 3, 2]);
        assert_eq!(
            images,
            [4.0, 5.0, 2.0, 3.0, 0.0, 1.0, 10.0, 11.0, 8.0, 9.0, 6.0, 7.0]
        );
    }
}
