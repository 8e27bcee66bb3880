//! Holding out a part of the training images for validation.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};

/// Which images are held out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// The last ones, in the data set's own order: Keras's `validation_split`.
    Last,
    /// The same share of every class, drawn at random.
    Stratified,
}

/// Divides images into those to train on and those held out; returns the numbers of both, each in
/// ascending order.
///
/// [`Method::Last`] trains on the first ⌊n (1 − `fraction`)⌋ images, as Keras rounds, and has no
/// use for the seed. [`Method::Stratified`] holds out `fraction` of each class, rounded to the
/// nearest number of images, but never a class's last image. A `fraction` of 0 holds nothing out.
///
/// # Errors
/// [`Error::Recipe`] when `fraction` is outside [0, 1) or leaves one side without an image;
/// [`Error::Data`] when a label is not below `classes`.
pub fn hold_out(
    labels: &[u32],
    classes: usize,
    fraction: f64,
    method: Method,
    seed: u64,
) -> Result<(Vec<u32>, Vec<u32>)> {
    let error = |problem: String, remedy: &str| Err(Error::recipe("hold-out", problem, remedy));
    if !(0.0..1.0).contains(&fraction) {
        let problem = format!("a fraction of {fraction} cannot be held out");
        return error(problem, "use a fraction from 0 up to, but not including, 1");
    }
    let all = 0..labels.len() as u32;
    if fraction == 0.0 {
        return Ok((all.collect(), Vec::new()));
    }
    let held_out = match method {
        Method::Last => {
            let first = (labels.len() as f64 * (1.0 - fraction)).floor() as u32;
            (first..all.end).collect()
        }
        Method::Stratified => stratified(labels, classes, fraction, seed)?,
    };
    if held_out.is_empty() || held_out.len() == labels.len() {
        let n = labels.len();
        let problem = format!("a fraction of {fraction} of {n} images leaves one side empty");
        return error(problem, "use another fraction, or more images");
    }
    let mut next = held_out.iter().copied().peekable();
    let train = all
        .filter(|image| next.next_if_eq(image).is_none())
        .collect();
    Ok((train, held_out))
}

fn stratified(labels: &[u32], classes: usize, fraction: f64, seed: u64) -> Result<Vec<u32>> {
    let mut members = vec![Vec::new(); classes];
    for (image, &label) in (0u32..).zip(labels) {
        let Some(class) = members.get_mut(label as usize) else {
            return Err(Error::data(
                format!("image {image}"),
                format!("label {label}, but there are only {classes} classes"),
                "check the labels",
            ));
        };
        class.push(image);
    }
    let mut held_out = Vec::new();
    for (class, images) in members.iter_mut().enumerate() {
        let share = (images.len() as f64 * fraction).round() as usize;
        let share = share.min(images.len().saturating_sub(1));
        // A stream a class: a class's draw does not change when another class gains an image.
        Stream::new(seed, Purpose::Split, 0, class as u64).shuffle(images);
        held_out.extend_from_slice(&images[..share]);
    }
    held_out.sort_unstable();
    Ok(held_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::statistics::class_counts;

    fn labels(n: u32, classes: u32) -> Vec<u32> {
        (0..n).map(|i| i * i % classes).collect()
    }

    #[test]
    fn last_is_keras_validation_split() {
        // int(math.floor(n * (1.0 - fraction))) in Python.
        for (n, fraction, first) in [
            (50_000, 0.1, 45_000),
            (1651, 0.1, 1485),
            (10, 0.3, 7),
            (10, 0.9, 0),
            (100, 0.29, 71),
            (3, 0.5, 1),
        ] {
            let result = hold_out(&labels(n, 2), 2, fraction, Method::Last, 1);
            if first == 0 {
                assert!(result.is_err(), "{n} {fraction}");
                continue;
            }
            let (train, held_out) = result.unwrap();
            assert_eq!(train, (0..first).collect::<Vec<_>>(), "{n} {fraction}");
            assert_eq!(held_out, (first..n).collect::<Vec<_>>(), "{n} {fraction}");
        }
    }

    #[test]
    fn stratified_takes_the_same_share_of_every_class() {
        let labels: Vec<u32> = (0..1000)
            .map(|i| [0, 1, 1, 2, 2, 2, 2, 0, 1, 1][i % 10])
            .collect();
        let (train, held_out) = hold_out(&labels, 4, 0.1, Method::Stratified, 5).unwrap();
        let of = |images: &[u32]| {
            let labels: Vec<u32> = images.iter().map(|&i| labels[i as usize]).collect();
            class_counts(&labels, 4)
        };
        assert_eq!(of(&held_out), [20, 40, 40, 0]);
        assert_eq!(of(&train), [180, 360, 360, 0]);
        assert!(held_out.is_sorted() && train.is_sorted());
        let mut both = [train.clone(), held_out.clone()].concat();
        both.sort_unstable();
        assert_eq!(both, (0..1000).collect::<Vec<_>>());

        let again = |seed| hold_out(&labels, 4, 0.1, Method::Stratified, seed).unwrap();
        assert_eq!(again(5).1, held_out);
        assert_ne!(again(6).1, held_out);
    }

    #[test]
    fn a_class_keeps_an_image_to_train_on() {
        let (train, held_out) = hold_out(&[0, 1, 1], 2, 0.9, Method::Stratified, 1).unwrap();
        assert_eq!(held_out.len(), 1);
        assert!(train.contains(&0));
    }

    #[test]
    fn what_cannot_be_held_out_is_refused() {
        for fraction in [-0.1, 1.0, 1.5, f64::NAN] {
            let error = hold_out(&[0, 1], 2, fraction, Method::Last, 1).unwrap_err();
            assert!(error.to_string().contains("cannot be held out"), "{error}");
        }
        let empty = hold_out(&[0, 1, 0, 1], 2, 0.1, Method::Stratified, 1).unwrap_err();
        assert!(empty.to_string().contains("one side empty"), "{empty}");
        let label = hold_out(&[0, 7], 2, 0.5, Method::Stratified, 1).unwrap_err();
        assert!(label.to_string().contains("label 7"), "{label}");
        assert_eq!(
            hold_out(&[0, 1], 2, 0.0, Method::Stratified, 1).unwrap(),
            (vec![0, 1], vec![])
        );
    }
}
