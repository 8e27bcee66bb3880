//! A data set prepared for a recipe: what is trained on, validated on and tested on.

use std::sync::Arc;

use super::recipe::Recipe;
use crate::augment::Preprocess;
use crate::data::split::{self, Method};
use crate::data::statistics::{Statistics, class_counts};
use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
use crate::models::file::ModelInfo;
use crate::words;

/// Samples of a split, by number.
#[derive(Clone)]
pub struct Subset {
    /// The images.
    pub split: Arc<Split>,
    /// Which of them.
    pub samples: Vec<u32>,
}

impl Subset {
    fn labels(&self) -> impl Iterator<Item = u32> {
        let samples = self.samples.iter();
        samples.map(|&sample| self.split.labels[sample as usize])
    }

    /// How many there are of each of so many classes.
    pub fn class_counts(&self, classes: usize) -> Vec<usize> {
        let labels: Vec<u32> = self.labels().collect();
        class_counts(&labels, classes)
    }
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

/// A data set with the parts that it brings itself.
struct Whole {
    name: String,
    fingerprint: String,
    classes: Vec<String>,
    train: Arc<Split>,
    validation: Option<Subset>,
    test: Option<Subset>,
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
        // Of the set as it comes, however it is divided.
        let fingerprint = dataset.fingerprint();
        let dataset = match recipe.data.redivide {
            true => dataset.joined(),
            false => dataset,
        };
        Self::divided(
            Whole {
                name: dataset.name,
                fingerprint,
                classes: dataset.classes,
                train: Arc::new(dataset.train),
                validation: dataset.validation.map(entire),
                test: dataset.test.map(entire),
            },
            recipe,
        )
    }

    /// The same data set divided again, for another recipe on the same images: what the recipe before held
    /// out of them is held out of the whole again.
    pub fn again(&self, recipe: &Recipe) -> Result<Self> {
        let whole = &self.train.split;
        let brought = |part: &Subset| (!Arc::ptr_eq(&part.split, whole)).then(|| part.clone());
        Self::divided(
            Whole {
                name: self.name.clone(),
                fingerprint: self.fingerprint.clone(),
                classes: self.info.classes.clone(),
                train: whole.clone(),
                validation: brought(&self.validation),
                test: brought(&self.test),
            },
            recipe,
        )
    }

    fn divided(dataset: Whole, recipe: &Recipe) -> Result<Self> {
        let classes = dataset.classes.len();
        let seed = recipe.train.seed;
        let whole = dataset.train;
        let images = &whole.images;
        let (channels, size) = (images.channels, recipe.model.image_size());
        recipe.model.check_for(channels, classes)?;
        let input = [images.height, images.width, channels];
        recipe.augment.check_images(input, [size, size, channels])?;
        let all = everything(&whole);
        let (samples, test) = match dataset.test {
            Some(test) => (all, test),
            None => {
                let part = (recipe.data.test, Method::Stratified, seed);
                hold_out(&whole, &all, classes, part).map_err(named("data.test"))?
            }
        };
        let statistics = Statistics::of_subset(&whole.images, &samples);
        let (samples, validation) = match dataset.validation {
            Some(validation) => (samples, validation),
            None => {
                // Another stream than the test's, so that the two choices are unrelated.
                let seed = seed.wrapping_add(1);
                let part = (recipe.data.validation, recipe.data.holdout, seed);
                hold_out(&whole, &samples, classes, part).map_err(named("data.validation"))?
            }
        };
        let info = ModelInfo {
            config: recipe.model.clone(),
            input,
            fit: recipe.data.fit,
            classes: dataset.classes,
            mean: statistics.mean.iter().map(|&m| m as f32).collect(),
            variance: statistics.variance.iter().map(|&v| v as f32).collect(),
        };
        Ok(Self {
            name: dataset.name,
            fingerprint: dataset.fingerprint,
            train: Subset {
                split: whole,
                samples,
            },
            validation,
            test,
            info,
        })
    }

    /// What its user should know of the division, a sentence each: classes of which no image is left
    /// to train, validate or test on.
    pub fn remarks(&self) -> Vec<String> {
        let parts = [
            ("train", &self.train),
            ("validate", &self.validation),
            ("test", &self.test),
        ];
        let remark = |(purpose, part): (&str, &Subset)| {
            let counts = part.class_counts(self.info.classes.len());
            let lacking = self.info.classes.iter().zip(counts);
            let lacking: Vec<&String> = lacking
                .filter_map(|(class, count)| (count == 0).then_some(class))
                .collect();
            let problem = match lacking.len() {
                0 => return None,
                1 => "1 class has".to_owned(),
                count => format!("{count} classes have"),
            };
            let lacking = words::listed(lacking, 3);
            Some(format!("{problem} no image to {purpose} on: {lacking}"))
        };
        parts.into_iter().filter_map(remark).collect()
    }

    /// What every image goes through.
    pub fn preprocess(&self) -> Arc<Preprocess> {
        Arc::new(self.info.preprocess())
    }
}

/// The numbers of all samples.
fn everything(split: &Split) -> Vec<u32> {
    (0..split.len() as u32).collect()
}

/// A split as a subset of itself.
fn entire(split: Split) -> Subset {
    let samples = everything(&split);
    let split = Arc::new(split);
    Subset { split, samples }
}

/// Divides samples of a split by a fraction, a method and a seed: what stays, and what is held out.
fn hold_out(
    split: &Arc<Split>,
    samples: &[u32],
    classes: usize,
    (fraction, method, seed): (f64, Method, u64),
) -> Result<(Vec<u32>, Subset)> {
    let label = |&sample: &u32| split.labels[sample as usize];
    let labels: Vec<u32> = samples.iter().map(label).collect();
    let (rest, held) = split::hold_out(&labels, classes, fraction, method, seed)?;
    let pick = |numbers: Vec<u32>| numbers.into_iter().map(|n| samples[n as usize]).collect();
    let held = Subset {
        split: split.clone(),
        samples: pick(held),
    };
    Ok((pick(rest), held))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Images;

    #[test]
    fn a_set_with_its_own_test_is_divided_anew_where_that_is_asked_for() {
        let split = |first: u32, count: u32| Split {
            images: Images {
                height: 8,
                width: 8,
                channels: 1,
                pixels: (0..count * 64).map(|at| (first + at / 64) as u8).collect(),
            },
            labels: (first..first + count).map(|image| image % 2).collect(),
            ..Split::default()
        };
        let dataset = Dataset {
            classes: ["cat", "dog"].map(String::from).to_vec(),
            train: split(0, 60),
            test: Some(split(60, 20)),
            ..Dataset::default()
        };
        let prepared = |redivide: bool| {
            let settings = [
                "model.image_size=8".into(),
                "model.patch_size=4".into(),
                "data.test=0.5".into(),
                "data.validation=0.25".into(),
                format!("data.redivide={redivide}"),
            ];
            let recipe = Recipe::load("quickstart", &settings).unwrap();
            Prepared::new(dataset.clone(), &recipe).unwrap()
        };
        let (own, anew) = (prepared(false), prepared(true));
        let sizes = |data: &Prepared| {
            [&data.train, &data.validation, &data.test].map(|part| part.samples.len())
        };
        assert_eq!((sizes(&own), sizes(&anew)), ([44, 16, 20], [30, 10, 40]));
        assert_eq!(own.fingerprint, anew.fingerprint, "it is the same data");
        // Every image is somewhere, once, with its label.
        let parts = [&anew.train, &anew.validation, &anew.test];
        let mut seen: Vec<(u8, u32)> = parts
            .iter()
            .flat_map(|part| {
                part.samples
                    .iter()
                    .map(move |&sample| (part, sample as usize))
            })
            .map(|(part, sample)| {
                (
                    part.split.images.image(sample)[0],
                    part.split.labels[sample],
                )
            })
            .collect();
        seen.sort();
        assert!(
            seen.into_iter()
                .eq((0..80u8).map(|image| (image, u32::from(image) % 2)))
        );
    }

    #[test]
    fn classes_that_a_division_leaves_without_images_are_told() {
        let labels: Vec<u32> = (0..21).map(|image| image / 10).collect();
        let images = Images {
            height: 8,
            width: 8,
            channels: 1,
            pixels: (0..21 * 64).map(|pixel| pixel as u8).collect(),
        };
        let train = Split {
            images,
            labels,
            ..Split::default()
        };
        let dataset = Dataset {
            classes: ["cat", "dog", "bird"].map(String::from).to_vec(),
            train,
            ..Dataset::default()
        };
        let recipe = |holdout: &str| {
            let settings = ["model.image_size=8", "model.patch_size=4", holdout];
            Recipe::load("quickstart", &settings.map(String::from)).unwrap()
        };
        let remarks = |holdout: &str| {
            let prepared = Prepared::new(dataset.clone(), &recipe(holdout)).unwrap();
            prepared.remarks()
        };
        let of_one = [
            "1 class has no image to validate on: bird",
            "1 class has no image to test on: bird",
        ];
        assert_eq!(remarks("data.holdout=stratified"), of_one);
        let last = remarks("data.holdout=last");
        assert_eq!(last[0], "1 class has no image to train on: bird");
        assert_eq!(last[1], "1 class has no image to validate on: cat");
    }
}
