//! Pictures that a list names, decoded into a data set.

use std::path::PathBuf;

use super::Dataset;
use super::pictures::{self, Decoded, Skipped, Square};
use super::statistics::class_counts;
use crate::error::{Error, Result};

/// The words for the splits to train, validate and test on, in small letters; the usual one first.
pub(super) const SPLITS: [&[&str]; 3] = [
    &["train", "training"],
    &["val", "validation", "valid", "dev"],
    &["test", "testing"],
];

/// Pictures, each with its class's number.
pub(super) type List = Vec<(u32, PathBuf)>;

/// Which pictures are in which split, and what they are called together.
#[derive(Default)]
pub(super) struct Lists {
    /// `csv:FILE` and the like.
    pub name: String,
    /// The names of the classes, by number.
    pub classes: Vec<String>,
    /// In the order of [`SPLITS`]. An empty list is no split.
    pub splits: [List; 3],
    /// What was passed over already.
    pub skipped: Vec<Skipped>,
    /// What the user should know of the lists.
    pub notes: Vec<String>,
}

impl Lists {
    /// Decodes all pictures as [`pictures::read`] does.
    ///
    /// # Errors
    /// [`Error::Data`] for a split of which no picture can be decoded, and for a class without one to
    /// train on; and as [`pictures::read`].
    pub fn read(self, square: Square, decoded: &mut Decoded) -> Result<Dataset> {
        let Self {
            name,
            classes,
            splits,
            mut skipped,
            notes,
        } = self;
        let mut read = |number: usize| {
            let list = &splits[number];
            if list.is_empty() {
                return Ok(None);
            }
            let (split, damaged) = pictures::read(list, square, decoded)?;
            if split.is_empty() {
                let place = format!("{name}, {} split", SPLITS[number][0]);
                return Err(none_decodes(place, "no picture", damaged.first()));
            }
            skipped.extend(damaged);
            Ok(Some(split))
        };
        let (train, validation, test) = (read(0)?.unwrap_or_default(), read(1)?, read(2)?);
        let counts = class_counts(&train.labels, classes.len());
        if let Some(empty) = counts.iter().position(|&count| count == 0) {
            // Every picture of it was passed over.
            let of_it = |(class, _): &&(u32, PathBuf)| *class as usize == empty;
            let path = splits[0].iter().find(of_it).map(|(_, path)| path);
            let first = skipped.iter().find(|skipped| Some(&skipped.path) == path);
            let place = format!("{name}, class {:?}", classes[empty]);
            return Err(none_decodes(place, "no picture to train on", first));
        }
        Ok(Dataset {
            name,
            classes,
            train,
            validation,
            test,
            skipped,
            notes,
        })
    }
}

fn none_decodes(place: String, what: &str, first: Option<&Skipped>) -> Error {
    let such_as = first.map_or(String::new(), |first| format!(" ({first})"));
    let problem = format!("{what} can be decoded{such_as}");
    let remedy = "replace the damaged files, or leave them out";
    Error::data(place, problem, remedy)
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use image::{Rgb, RgbImage};

    /// Saves a picture of one colour, and makes the folders that it is in.
    pub fn picture(path: &Path, value: u8) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let picture = RgbImage::from_pixel(8, 8, Rgb([value; 3]));
        picture.save(path).unwrap();
    }
}
