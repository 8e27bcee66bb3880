//! What a recipe leaves to be chosen when a run begins, from its data and from the time that it may take:
//! sizes and epochs, so that one recipe serves a few hundred pictures and twenty thousand.
//!
//! What is chosen stands in the run's own recipe, where nothing is left to choose.

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::prepare::Prepared;
use super::recipe::Recipe;
use crate::error::{Error, Result};
use crate::models::Architecture;
use crate::words;

/// What is chosen; the `[choose]` table of a recipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChooseRecipe {
    /// Image size, a hybrid's stages, the batch and the padding of crops, from the images and how many
    /// there are.
    pub sizes: bool,
    /// As many epochs as fit into so many minutes, measured on a few steps, with the warm-up and the
    /// averaged weights' decay for them (not Lookahead's); 0 leaves them as the recipe says.
    pub minutes: f64,
    /// As many epochs as take so many PFLOP, 10¹⁵ additions and multiplications of products (six for each of the model's
    /// multiplications and each image that it is trained on), with the warm-up's share; 0 leaves them as the
    /// recipe says. Models of a comparison are each given as much.
    pub pflop: f64,
    /// Whether TrivialAugment is left out of a training too short for it.
    pub augmentation: bool,
}

/// The largest image that is taken as it is; larger ones are brought to this size.
const LARGEST: usize = 64;

/// The fewest and the most epochs that are chosen. More than these are not known to help.
const EPOCHS: [f64; 2] = [3.0, 500.0];

/// With fewer epochs than these TrivialAugment costs more than it gives.
const ENOUGH_TO_AUGMENT: u64 = 40;

/// The part of a run that warms up.
const WARMUP: f64 = 0.05;

/// The part of a run's steps that averaged weights are over.
const AVERAGED: f64 = 0.03;

impl ChooseRecipe {
    /// Whether anything is left to choose.
    pub fn is_open(&self) -> bool {
        self.sizes || self.minutes > 0.0 || self.pflop > 0.0 || self.augmentation
    }

    /// Refuses impossible values, naming the field.
    pub fn check(&self) -> Result<()> {
        for (field, value) in [
            ("choose.minutes", self.minutes),
            ("choose.pflop", self.pflop),
        ] {
            if !(0.0..=1e6).contains(&value) {
                return Err(Error::recipe(
                    field,
                    format!("{value:?} is out of range"),
                    "choose 0 (off) or more, and at most 1e6",
                ));
            }
        }
        if self.minutes > 0.0 && self.pflop > 0.0 {
            return Err(Error::recipe(
                "choose.pflop",
                "epochs are to be chosen by minutes, too",
                "choose one of them: choose.minutes = 0 or choose.pflop = 0",
            ));
        }
        Ok(())
    }
}

/// Chooses sizes for these images; says in words what was chosen and why. Nothing where the recipe
/// leaves nothing to choose.
pub fn sizes(recipe: &mut Recipe, data: &Prepared) -> Vec<String> {
    if !recipe.choose.sizes {
        return vec![];
    }
    recipe.choose.sizes = false;
    let (images, side) = (data.train.samples.len(), data.info.input[0]);
    // Three stages take grids that halve twice, after a stem that halves once. PiT and Swin have 16 patches
    // a side of two pixels or of four.
    let whole = match recipe.model.arch {
        Architecture::Pit(_) | Architecture::Swin(_) => 32,
        _ => 8,
    };
    let size = side.clamp(16, LARGEST).next_multiple_of(whole);
    match &mut recipe.model.arch {
        Architecture::Hybrid(own) => {
            own.image_size = size;
            if size > 32 {
                // One stage more, a narrow one, so that attention has as many tokens as with small images.
                own.dims = vec![32, 64, 128];
                own.depths = vec![1, 2, 4];
                own.expansions = vec![3, 3, 2];
                own.convolution_stages = 2;
            } else {
                own.dims = vec![64, 128];
                own.depths = vec![2, 4];
                own.expansions = vec![3, 2];
                own.convolution_stages = 1;
            }
        }
        Architecture::Vit(own) => {
            own.image_size = size;
            own.patch_size = size / 8;
        }
        Architecture::T2t(own) => {
            own.image_size = size;
            own.soft_splits = if size > 32 { 3 } else { 2 };
        }
        Architecture::Cait(own) => {
            own.image_size = size;
            own.patch_size = size / 8;
        }
        Architecture::Pit(own) => {
            own.image_size = size;
            own.patch_size = size / 16;
        }
        Architecture::Swin(own) => {
            own.image_size = size;
            own.patch_size = size / 16;
        }
    }
    let batch = (images / 64).next_power_of_two().clamp(16, 64);
    recipe.train.batch = batch;
    if recipe.augment.crop_padding > 0 {
        recipe.augment.crop_padding = size.min(side) / 8;
    }
    vec![
        format!("images of {size} pixels a side, which come with {side}"),
        format!(
            "batches of {batch}: some fifty steps an epoch or more with {}, of 16 to 64 images",
            words::counted(images as u64, "image")
        ),
    ]
}

/// Chooses epochs for the minutes that a run may take, by what its plan has measured; says so.
pub fn epochs(recipe: &mut Recipe, plan: &Plan) -> Option<String> {
    let minutes = std::mem::take(&mut recipe.choose.minutes);
    if minutes == 0.0 {
        return None;
    }
    let [fewest, most] = EPOCHS;
    let once = plan.seconds - plan.epochs as f64 * plan.seconds_per_epoch;
    let fitting = ((60.0 * minutes - once) / plan.seconds_per_epoch).floor();
    let epochs = fitting.clamp(fewest, most);
    let train = &mut recipe.train;
    train.epochs = epochs as u64;
    train.warmup_epochs = WARMUP * epochs;
    let steps = epochs * plan.steps_per_epoch as f64;
    if let Some(average) = &mut train.average
        && average.lookahead == 0
    {
        // As many digits as one would write.
        let decay = (1.0 - 1.0 / (AVERAGED * steps)).clamp(0.9, 0.9999);
        average.decay = (decay * 1e4).round() / 1e4;
    }
    let why = match fitting {
        fitting if fitting > most => "the most that this chooses",
        fitting if fitting < fewest => "the fewest that make sense; it will take longer",
        _ => "as many as fit",
    };
    Some(format!(
        "{} of {} for {minutes} minutes: {why}",
        words::counted(train.epochs, "epoch"),
        words::seconds(plan.seconds_per_epoch)
    ))
}

/// Chooses epochs for the arithmetic that a run may take; says so. (Images that are smaller at first count as if
/// they were not.)
pub fn arithmetic(recipe: &mut Recipe, data: &Prepared) -> Option<String> {
    let pflop = std::mem::take(&mut recipe.choose.pflop);
    if pflop == 0.0 {
        return None;
    }
    let size = recipe
        .model
        .size(data.info.input[2], data.info.classes.len());
    let of_epoch = 6e-15 * size.macs as f64 * data.train.samples.len() as f64;
    // Half of an epoch more or less is no other amount of work; none at all would be.
    let epochs = (pflop / of_epoch).round().clamp(1.0, 1e5);
    let train = &mut recipe.train;
    train.warmup_epochs *= epochs / train.epochs as f64;
    train.epochs = epochs as u64;
    Some(format!(
        "{} for {pflop} PFLOP: {of_epoch:.2e} each",
        words::counted(train.epochs, "epoch")
    ))
}

/// Leaves TrivialAugment out of a training that is too short for it; says so.
pub fn augmentation(recipe: &mut Recipe) -> Option<String> {
    let asked = std::mem::take(&mut recipe.choose.augmentation);
    let epochs = recipe.train.epochs;
    if !asked || epochs >= ENOUGH_TO_AUGMENT {
        return None;
    }
    recipe.augment.trivial_augment.take()?;
    Some(format!(
        "no TrivialAugment: {} are too few for it",
        words::counted(epochs, "epoch")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::testing;

    fn plan(seconds_per_epoch: f64) -> Plan {
        Plan {
            model: testing::recipe().model.name(),
            parameters: 1,
            macs: 1,
            epochs: 2,
            steps_per_epoch: 10,
            seconds_per_step: 0.1,
            seconds_per_epoch,
            seconds: 2.0 * seconds_per_epoch + 6.0,
            memory_bytes: 1,
            disk_bytes: 1,
            most_disk_bytes: 1,
        }
    }

    #[test]
    fn as_many_epochs_as_fit_are_chosen_once() {
        let mut recipe = testing::recipe();
        recipe.train.average = Some(Default::default());
        assert_eq!(epochs(&mut recipe, &plan(3.0)), None);
        recipe.choose.minutes = 5.1;
        let told = epochs(&mut recipe, &plan(3.0)).unwrap();
        assert!(told.starts_with("100 epochs of 3"), "{told}");
        assert_eq!(
            (recipe.train.epochs, recipe.train.warmup_epochs),
            (100, 5.0)
        );
        // Over 30 of the 1,000 steps.
        assert_eq!(recipe.train.average.as_ref().unwrap().decay, 0.9667);
        assert!(!recipe.choose.is_open());
        for (minutes, chosen, why) in [(0.01, 3, "longer"), (1e5, 500, "most")] {
            recipe.choose.minutes = minutes;
            let told = epochs(&mut recipe, &plan(3.0)).unwrap();
            assert_eq!(recipe.train.epochs, chosen);
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn models_are_given_as_many_epochs_as_take_the_same_arithmetic() {
        let mut recipe = testing::recipe();
        let data = testing::prepared(&recipe);
        assert_eq!(arithmetic(&mut recipe, &data), None);
        (recipe.train.epochs, recipe.train.warmup_epochs) = (10, 2.0);
        let size = recipe
            .model
            .size(data.info.input[2], data.info.classes.len());
        let of_epoch = 6e-15 * size.macs as f64 * data.train.samples.len() as f64;
        recipe.choose.pflop = 25.3 * of_epoch;
        recipe.check().unwrap();
        let told = arithmetic(&mut recipe, &data).unwrap();
        assert!(told.starts_with("25 epochs for "), "{told}");
        assert_eq!((recipe.train.epochs, recipe.train.warmup_epochs), (25, 5.0));
        assert!(!recipe.choose.is_open());
        recipe.choose.pflop = 1e-9 * of_epoch;
        arithmetic(&mut recipe, &data).unwrap();
        assert_eq!((recipe.train.epochs, recipe.train.warmup_epochs), (1, 0.2));
        (recipe.choose.pflop, recipe.choose.minutes) = (1.0, 1.0);
        let error = recipe.check().unwrap_err();
        assert!(error.to_string().starts_with("choose.pflop: "), "{error}");
    }

    #[test]
    fn a_short_training_goes_without_strong_augmentation() {
        for (epochs, left_out) in [(39, true), (40, false)] {
            let setting = format!("train.epochs={epochs}");
            let mut recipe = Recipe::load("small", &[setting]).unwrap();
            assert_eq!(augmentation(&mut recipe).is_some(), left_out);
            assert_eq!(recipe.augment.trivial_augment.is_none(), left_out);
            assert!(!recipe.choose.augmentation);
            assert_eq!(augmentation(&mut recipe), None);
        }
    }

    #[test]
    fn sizes_are_chosen_by_the_images() {
        let mut recipe = testing::recipe();
        let data = testing::prepared(&recipe);
        assert!(sizes(&mut recipe, &data).is_empty());
        recipe.choose.sizes = true;
        assert_eq!(sizes(&mut recipe, &data).len(), 2);
        // The tests' images have 8 pixels a side, and there are some forty of them.
        assert_eq!((recipe.model.image_size(), recipe.train.batch), (16, 16));
        recipe.check().unwrap();
        assert!(!recipe.choose.is_open());
        let mut data = testing::prepared(&testing::recipe());
        for side in [28, 32, 33, 64, 200] {
            data.info.input = [side, side, 3];
            let mut recipe = Recipe::load("small", &[]).unwrap();
            sizes(&mut recipe, &data);
            recipe.check().unwrap();
            let size = recipe.model.image_size();
            assert!(size >= side.min(64) && size < side + 8 && size <= 64);
            assert_eq!(recipe.augment.crop_padding, side.min(size) / 8);
        }
    }
}
