//! The `[augment]` table of a recipe.

use serde::{Deserialize, Serialize};

use super::batch::mix::Mixing;
use super::floats::erasing::Erasing;
use super::pixels::auto_augment::AutoAugment;
use super::pixels::crop::Fill;
use super::pixels::jitter::Jitter;
use super::pixels::rand_augment::RandAugment;
use super::pixels::resized_crop::ResizedCrop;
use super::pixels::timm_rand_augment::TimmRandAugment;
use super::pixels::trivial_augment::TrivialAugment;
use super::{Boxed, batch, floats, pixels};
use crate::error::{Error, Result};
use crate::strict;

/// What training images go through besides normalisation and resizing, in the order of the fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// How often a sample comes in an epoch, each time augmented anew; an epoch has as many images as ever, and
    /// so fewer samples. 1 is off.
    pub repeats: usize,
    /// So many last epochs see the images as they are: the model ends on what it will be tested on.
    pub clean_epochs: u64,
    /// Mirror left and right with probability ½.
    pub flip: bool,
    /// With `flip`: each sample is mirrored in every other epoch, from one of the first two on.
    pub alternating_flip: bool,
    /// Random crop: as many pixels are added on every side as this says, and an image of the old
    /// size is cut out anywhere; 0 is off. 4 is usual for images of 32 pixels.
    pub crop_padding: usize,
    /// What the crop's padding is filled with.
    pub crop_fill: Fill,
    /// Random resized crop; absent is off.
    #[serde(serialize_with = "strict::or_off")]
    pub resized_crop: Option<ResizedCrop>,
    /// AutoAugment; absent is off.
    #[serde(serialize_with = "strict::or_off")]
    pub auto_augment: Option<AutoAugment>,
    /// RandAugment in torchvision's meaning; absent is off.
    #[serde(serialize_with = "strict::or_off")]
    pub rand_augment: Option<RandAugment>,
    /// RandAugment in timm's meaning; absent is off.
    #[serde(serialize_with = "strict::or_off")]
    pub timm_rand_augment: Option<TimmRandAugment>,
    /// TrivialAugment with its wide ranges; absent is off.
    #[serde(serialize_with = "strict::or_off")]
    pub trivial_augment: Option<TrivialAugment>,
    /// Colour jitter; absent is off.
    #[serde(serialize_with = "strict::or_off")]
    pub jitter: Option<Jitter>,
    /// Rotation, uniform within ± this part of a full turn; 0 is off.
    pub rotation: f64,
    /// Zoom, height and width each uniform within 1 ± this; 0 is off.
    pub zoom: f64,
    /// Random erasing; absent is off.
    #[serde(serialize_with = "strict::or_off")]
    pub erasing: Option<Erasing>,
    /// Mixup and CutMix; absent is off.
    #[serde(serialize_with = "strict::or_off")]
    pub mix: Option<Mixing>,
}

impl Default for Augmentation {
    /// What the Keras example does.
    fn default() -> Self {
        Self {
            flip: true,
            rotation: 0.02,
            zoom: 0.2,
            ..Self::none()
        }
    }
}

impl Augmentation {
    /// Everything on, with usual parameters: an example of each field.
    pub fn everything() -> Self {
        Self {
            repeats: 3,
            crop_padding: 4,
            resized_crop: Some(ResizedCrop::default()),
            auto_augment: Some(AutoAugment::default()),
            rand_augment: Some(RandAugment::default()),
            timm_rand_augment: Some(TimmRandAugment::default()),
            trivial_augment: Some(TrivialAugment::default()),
            jitter: Some(Jitter {
                brightness: 0.3,
                contrast: 0.3,
                saturation: 0.3,
                hue: 0.1,
            }),
            erasing: Some(Erasing::default()),
            mix: Some(Mixing::default()),
            ..Self::default()
        }
    }

    /// Everything off.
    pub fn none() -> Self {
        Self {
            repeats: 1,
            clean_epochs: 0,
            flip: false,
            alternating_flip: false,
            crop_padding: 0,
            crop_fill: Fill::Zero,
            resized_crop: None,
            auto_augment: None,
            rand_augment: None,
            timm_rand_augment: None,
            trivial_augment: None,
            jitter: None,
            rotation: 0.0,
            zoom: 0.0,
            erasing: None,
            mix: None,
        }
    }

    /// Refuses what cannot be done, naming the field and the remedy.
    ///
    /// # Errors
    /// [`Error::Recipe`].
    pub fn check(&self) -> Result<()> {
        fn all<Subject>(operations: &[Boxed<Subject>]) -> Result<()> {
            operations.iter().try_for_each(|each| each.check())
        }
        in_range(
            "repeats",
            self.repeats as f64,
            (1..=100).contains(&self.repeats),
            "choose 1 (off) to 100; 3 is usual",
        )?;
        if self.alternating_flip && !self.flip {
            return Err(Error::recipe(
                "augment.alternating_flip",
                "it is on, and augment.flip is off",
                "switch augment.flip on, or this off",
            ));
        }
        all(&pixels::operations(self, 0))?;
        all(&floats::operations(self))?;
        all(&batch::operations(self))
    }

    /// Refuses images that cannot be augmented like this. `input` is the rows, columns and channels
    /// as the data set has them, `output` as the model sees them.
    ///
    /// # Errors
    /// [`Error::Recipe`].
    pub fn check_images(&self, input: [usize; 3], output: [usize; 3]) -> Result<()> {
        fn all<Subject>(operations: &[Boxed<Subject>], shape: [usize; 3]) -> Result<()> {
            let mut operations = operations.iter();
            operations.try_for_each(|each| each.check_images(shape))
        }
        all(&pixels::operations(self, 0), input)?;
        all(&floats::operations(self), output)?;
        all(&batch::operations(self), output)
    }
}

/// Refuses a value of `field` that is not `allowed`.
pub(super) fn in_range(field: &str, value: f64, allowed: bool, remedy: &str) -> Result<()> {
    if allowed {
        return Ok(());
    }
    let problem = format!("{value:?} is out of range");
    Err(Error::recipe(format!("augment.{field}"), problem, remedy))
}

/// Refuses a value of `field` that is no range of numbers above 0, up to `most`.
pub(super) fn ordered(field: &str, [low, high]: [f64; 2], most: f64, remedy: &str) -> Result<()> {
    if 0.0 < low && low <= high && high <= most {
        return Ok(());
    }
    let problem = format!("[{low}, {high}] is no range that can be used");
    Err(Error::recipe(format!("augment.{field}"), problem, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Augmentation, String> {
        let table: toml::Table = text.parse().unwrap();
        let read = strict::read(table.into(), "augment", &toml::Table::new());
        let checked = read.and_then(|read: Augmentation| read.check().map(|()| read));
        checked.map_err(|error| format!("{error}; {}", error.remedy()))
    }

    #[test]
    fn a_table_needs_only_what_differs_and_survives_its_run_folder() {
        assert_eq!(parse("").unwrap(), Augmentation::default());
        assert_eq!(
            parse("jitter = {}").unwrap().jitter,
            Some(Jitter::default())
        );
        let text = "
            flip = false
            crop_padding = 4
            crop_fill = 'reflect'
            [erasing]
            probability = 0.5
            fill = 'mean'
            [mix]
            mixup_alpha = 0
            ";
        let all = parse(text).unwrap();
        assert_eq!((all.flip, all.crop_padding), (false, 4));
        assert_eq!(all.crop_fill, Fill::Reflect);
        assert_eq!(all.zoom, 0.2);
        let erasing = all.erasing.as_ref().unwrap();
        assert_eq!((erasing.probability, erasing.area[0]), (0.5, 0.02));
        let mix = all.mix.as_ref().unwrap();
        assert_eq!((mix.mixup_alpha, mix.cutmix_alpha), (0.0, 1.0));
        for augmentation in [
            all,
            Augmentation::default(),
            Augmentation::none(),
            Augmentation::everything(),
        ] {
            let text = toml::to_string(&augmentation).unwrap();
            assert_eq!(parse(&text).unwrap(), augmentation);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name_with_a_remedy() {
        for (text, field, remedy) in [
            ("flop = true", "flop", "flip"),
            ("rotation = -0.1", "augment.rotation: -0.1", "0.02"),
            ("rotation = nan", "augment.rotation: NaN", "0 (off)"),
            ("zoom = 1.0", "augment.zoom: 1", "less than 1"),
            ("crop_fill = 'black'", "black", "reflect"),
            (
                "[erasing]\nprobability = 1.5",
                "augment.erasing.probability: 1.5",
                "0 to 1",
            ),
            (
                "[erasing]\narea = [0.4, 0.2]",
                "augment.erasing.area: ",
                "0.02",
            ),
            ("[erasing]\narea = [0, 0.2]", "augment.erasing.area: ", "0"),
            (
                "[erasing]\nratio = [0.0, 2.0]",
                "augment.erasing.ratio: ",
                "0.3",
            ),
            ("[erasing]\nsize = 3", "size", "probability"),
            ("repeats = 0", "augment.repeats: 0", "1 (off)"),
            (
                "flip = false\nalternating_flip = true",
                "augment.alternating_flip: ",
                "augment.flip",
            ),
            (
                "[resized_crop]\narea = [0.5, 1.5]",
                "augment.resized_crop.area: ",
                "0.08",
            ),
            (
                "[resized_crop]\nratio = [-1, 1]",
                "augment.resized_crop.ratio: ",
                "0.75",
            ),
            ("[auto_augment]\npolicy = 'cifar100'", "cifar100", "cifar10"),
            (
                "[rand_augment]\nmagnitude = 31",
                "augment.rand_augment.magnitude: 31",
                "0 to 30",
            ),
            (
                "[rand_augment]\nedits = 0",
                "augment.rand_augment.edits: 0",
                "1 to 14",
            ),
            (
                "[timm_rand_augment]\nmagnitude = 11",
                "augment.timm_rand_augment.magnitude: 11",
                "0 to 10",
            ),
            (
                "[timm_rand_augment]\nprobability = 2",
                "augment.timm_rand_augment.probability: 2",
                "0 to 1",
            ),
            (
                "[trivial_augment]\noutside = 300",
                "augment.trivial_augment.outside: 300",
                "255",
            ),
            ("[jitter]\nhue = 0.6", "augment.jitter.hue: 0.6", "0.5"),
            (
                "[mix]\nprobability = -1",
                "augment.mix.probability: -1",
                "0 to 1",
            ),
            (
                "[mix]\nmixup_alpha = -0.2",
                "augment.mix.mixup_alpha: -0.2",
                "0 (off)",
            ),
            (
                "[mix]\ncutmix_alpha = inf",
                "augment.mix.cutmix_alpha: inf",
                "0 (off)",
            ),
            (
                "[mix]\ncutmix_share = 2",
                "augment.mix.cutmix_share: 2",
                "0 to 1",
            ),
            (
                "[mix]\nmixup_alpha = 0\ncutmix_alpha = 0",
                "augment.mix: ",
                "leave out",
            ),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(field), "{text}: {message}");
            assert!(message.contains(remedy), "{text}: {message}");
        }
    }

    #[test]
    fn a_crop_that_may_show_nothing_of_an_image_is_refused_once_its_size_is_known() {
        let augmentation = Augmentation {
            crop_padding: 8,
            ..Augmentation::none()
        };
        let check = |side| augmentation.check_images([side, side, 3], [72, 72, 3]);
        assert!(check(9).is_ok());
        let message = check(8).unwrap_err();
        assert!(message.to_string().starts_with("augment.crop_padding: 8"));
        assert!(message.remedy().contains('7'), "{}", message.remedy());
    }
}
