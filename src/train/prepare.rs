//! A data set prepared for a recipe: what is trained on, validated on and tested on.

use std::sync::Arc;

use super::recipe::Recipe;
use crate::augment::Preprocess;
use crate::data::split::{self, Method};
use crate::data::statistics::Statistics;
use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
use crate::models::file::ModelInfo;

/// Samples of a split, by number.
#[derive(Clone)]
pub struct Subset {
    /// The images.
    pub split: Arc<Split>,
    /// Which of them.
    pub samples: Vec<u32>,
}

/// Everything of a data set that a run needs.
pub struct Prepared {
    /// What the data set was asked for as.
    pub name: String,
    /// A digest of every image and label: a resumed run must find the same.
    pub fingerprint: String,
    /// Trained on.
    pub train: Subset,
    /// Chosen on.
    pub validation: Subset,
    /// Read once, at the end.
    pub test: Subset,
    /// Sizes, classes and normalization, with the recipe's model.
    pub info: ModelInfo,
}

impl Prepared {
    /// Divides and measures a data set as the recipe says. The normalization is adapted on all
    /// images that are not for the test, those held out for validation included, as in the Keras example.
    pub fn new(dataset: Dataset, recipe: &Recipe) -> Result<Self> {
        dataset.check()?;
        let (height, width) = (dataset.train.images.height, dataset.train.images.width);
        if height != width {
            return Err(Error::data(
                &dataset.name,
                format!("its images are {height}×{width} pixels, and only squares are taken"),
                "cut them to squares; a folder of pictures is cut by itself",
            ));
        }
        let (channels, size) = (dataset.train.images.channels, recipe.model.image_size());
        recipe
            .augment
            .check_images([height, width, channels], [size, size, channels])?;
        let fingerprint = dataset.fingerprint();
        let classes = dataset.classes.len();
        let seed = recipe.train.seed;
        let whole = Arc::new(dataset.train);
        let all = |split: &Split| (0..split.len() as u32).collect::<Vec<_>>();

        let (mut samples, test) = match dataset.test {
            Some(test) => {
                let samples = all(&test);
                let split = Arc::new(test);
                (all(&whole), Subset { split, samples })
            }
            None => {
                let labels = &whole.labels;
                let (rest, samples) =
                    split::hold_out(labels, classes, recipe.data.test, Method::Stratified, seed)
                        .map_err(named("data.test"))?;
                let split = whole.clone();
                (rest, Subset { split, samples })
            }
        };
        let statistics = Statistics::of_subset(&whole.images, &samples);
        let validation = match dataset.validation {
            Some(validation) => {
                let samples = all(&validation);
                let split = Arc::new(validation);
                Subset { split, samples }
            }
            None => {
                let method = recipe.data.holdout;
                let labels: Vec<u32> = samples
                    .iter()
                    .map(|&sample| whole.labels[sample as usize])
                    .collect();
                let fraction = recipe.data.validation;
                // Another stream than the test's, so that the two choices are unrelated.
                let (rest, held) =
                    split::hold_out(&labels, classes, fraction, method, seed.wrapping_add(1))
                        .map_err(named("data.validation"))?;
                let pick = |numbers: Vec<u32>| -> Vec<u32> {
                    numbers.into_iter().map(|n| samples[n as usize]).collect()
                };
                let held = pick(held);
                samples = pick(rest);
                Subset {
                    split: whole.clone(),
                    samples: held,
                }
            }
        };
        let images = &whole.images;
        let info = ModelInfo {
            config: recipe.model.clone(),
            input: [images.height, images.width, images.channels],
            classes: dataset.classes,
            mean: statistics.mean.iter().map(|&m| m as f32).collect(),
            variance: statistics.variance.iter().map(|&v| v as f32).collect(),
        };
        Ok(Self {
            name: dataset.name,
            fingerprint,
            train: Subset {
                split: whole,
                samples,
            },
            validation,
            test,
            info,
        })
    }

    /// What every image goes through.
    pub fn preprocess(&self) -> Arc<Preprocess> {
        Arc::new(self.info.preprocess())
    }
}

/// A hold-out's error, under the name of the recipe's field.
fn named(field: &'static str) -> impl Fn(Error) -> Error {
    move |error| match error {
        Error::Recipe {
            problem, remedy, ..
        } => Error::recipe(field, problem, remedy),
        other => other,
    }
}
