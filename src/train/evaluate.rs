//! How good a model is on images that it was not trained on: without augmentation or dropout.

use std::sync::Arc;

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
        |logits, label| {
            sums.add(image_loss(logits, label as usize), logits, &[label]);
        },
    )?;
    Ok(sums)
}

/// Every image's logits and label, in order.
pub fn each_image(
    workers: &Workers,
    model: &Model,
    subset: &Subset,
    preprocess: &Arc<Preprocess>,
    shape: [usize; 3],
    mut each: impl FnMut(&[f32], u32),
) -> Result<()> {
    let loader = Loader::start(
        subset.split.clone(),
        Sampler::in_order(&subset.samples, BATCH),
        preprocess.clone(),
        None,
        workers.threads(),
    )?;
    let (inference, mut images) = (workers.inference(model, shape), 0);
    for batch in loader {
        let logits = inference.logits(&batch.images);
        let classes = logits.len() / batch.targets.len();
        let labels = batch.targets.dominant();
        for (logits, &label) in logits.chunks_exact(classes).zip(&*labels) {
            each(logits, label);
        }
        images += labels.len();
    }
    whole(
        "the images to evaluate on",
        images as u64,
        subset.samples.len() as u64,
    )
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
