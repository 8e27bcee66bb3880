//! The `[augment]` table of a recipe.

use serde::{Deserialize, Serialize};

use super::batch::mix::Mixing;
use super::floats::erasing::Erasing;
use super::pixels::crop::Fill;
use super::{Boxed, batch, floats, pixels};
use crate::error::{Error, Result};
use crate::strict;

/// What training images go through besides normalisation and resizing, in the order of the fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Mirror left and right with probability ½.
    pub flip: bool,
    /// Random crop: as many pixels are added on every side as this says, and an image of the old
    /// size is cut out anywhere; 0 is off. 4 is usual for images of 32 pixels.
    pub crop_padding: usize,
    /// What the crop's padding is filled with.
    pub crop_fill: Fill,
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
    /// Everything off.
    pub fn none() -> Self {
        Self {
            flip: false,
            crop_padding: 0,
            crop_fill: Fill::Zero,
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
        all(&pixels::operations(self))?;
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
        all(&pixels::operations(self), input)?;
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
        for augmentation in [all, Augmentation::default(), Augmentation::none()] {
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
