//! Pictures that a list names, decoded into a data set.

use std::path::PathBuf;

use super::pictures::{self, Decoded, Square};
use super::statistics::class_counts;
use super::{Dataset, Split};
use crate::error::{Error, Result};

/// Pictures, each with its class's number.
pub(super) type List = Vec<(u32, PathBuf)>;

/// Which pictures are in which split, and what they are called together.
pub(super) struct Lists {
    /// `csv:FILE` and the like.
    pub name: String,
    /// The names of the classes, by number.
    pub classes: Vec<String>,
    pub train: List,
    pub validation: List,
    pub test: List,
    /// What the user should know of the list.
    pub notes: Vec<String>,
}

impl Lists {
    /// Decodes all pictures as [`pictures::read`] does; a list without any is no split.
    pub fn read(self, square: Square, decoded: &mut Decoded) -> Result<Dataset> {
        let mut skipped = Vec::new();
        let mut read = |split: &str, list: List| match list.is_empty() {
            true => Ok(None),
            false => {
                let (read, damaged) = pictures::read(&list, square, decoded)?;
                skipped.extend(damaged);
                let place = format!("{}, {split} split", self.name);
                match read.is_empty() {
                    true => Err(none_decodes(place, "image")),
                    false => Ok(Some(read)),
                }
            }
        };
        let train = read("train", self.train)?.unwrap_or_default();
        let validation = read("validation", self.validation)?;
        let test = read("test", self.test)?;
        each_has_one(&self.name, &self.classes, &train)?;
        Ok(Dataset {
            name: self.name,
            classes: self.classes,
            train,
            validation,
            test,
            skipped,
            notes: self.notes,
        })
    }
}

/// Refuses a class without an image to train on.
fn each_has_one(name: &str, classes: &[String], train: &Split) -> Result<()> {
    let counts = class_counts(&train.labels, classes.len());
    match counts.iter().position(|&count| count == 0) {
        Some(empty) => {
            let place = format!("{name}, class {:?}", classes[empty]);
            Err(none_decodes(place, "image to train on"))
        }
        None => Ok(()),
    }
}

fn none_decodes(place: String, what: &str) -> Error {
    let problem = format!("there is no {what} that can be decoded");
    Error::data(
        place,
        problem,
        "replace the damaged files, or leave them out",
    )
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
