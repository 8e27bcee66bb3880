//! Bytes on disk → images and labels.
//!
//! [`load()`] takes a [`Spec`](catalogue::Spec), as `cifar100` or `folder:PATH`, and gives a
//! [`Dataset`]: 8-bit images in memory, all of one size, and class numbers. On the way,
//! [`catalogue`] knows the named data sets and [`search`] where a copy may already lie; `fetch` and
//! `download` bring one (with the feature `download`); and each format is read by a file of its own
//! ([`cifar`] with [`pickle`], [`idx`], [`embedded`], [`folder`], [`csv`], [`npz`], [`svhn`],
//! [`tiny_imagenet`]); [`pictures`] decodes files of one picture each. [`statistics`] and [`split`]
//! are what training asks of a data set, [`remarks`] what its user should know.

mod arrays;
pub mod catalogue;
pub mod cifar;
pub mod csv;
#[cfg(feature = "download")]
pub mod download;
pub mod embedded;
#[cfg(feature = "download")]
pub mod fetch;
mod files;
pub mod folder;
pub mod idx;
mod listed;
mod load;
pub mod npz;
pub mod pickle;
pub mod pictures;
pub mod remarks;
pub mod search;
pub mod split;
pub mod statistics;
pub mod svhn;
pub mod tiny_imagenet;

pub use load::{LoadOptions, Loading, Progress, load};
pub use pictures::Skipped;

use std::collections::HashSet;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::words;

/// Images of one size, 8 bits a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// Rows of an image, in pixels.
    pub height: usize,
    /// Columns of an image, in pixels.
    pub width: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// `[image, row, column, channel]`, without gaps.
    pub pixels: Vec<u8>,
}

impl Images {
    /// How many images there are.
    pub fn len(&self) -> usize {
        self.pixels
            .len()
            .checked_div(self.image_bytes())
            .unwrap_or(0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// Bytes of one image.
    pub fn image_bytes(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// One image: `[row, column, channel]`. Panics past the end, as a slice does.
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.image_bytes()..][..self.image_bytes()]
    }
}

/// Images with their classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// The pictures.
    pub images: Images,
    /// One class number an image, each below the number of classes.
    pub labels: Vec<u32>,
    /// The files that the images came from, where each has its own; otherwise empty.
    pub files: Vec<PathBuf>,
}

impl Split {
    /// How many labelled images there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// What is wrong with it, if anything is.
    fn problem(&self, classes: usize) -> Option<String> {
        let images = &self.images;
        let bytes = images.image_bytes();
        if self.is_empty() {
            return Some("there is no image".to_owned());
        }
        if !matches!(images.channels, 1 | 3) {
            let channels = images.channels;
            return Some(format!(
                "an image has {channels} channels; 1 or 3 can be used"
            ));
        }
        if bytes == 0 || !images.pixels.len().is_multiple_of(bytes) {
            let pixels = images.pixels.len();
            return Some(format!(
                "{pixels} bytes are not whole images of {bytes} bytes"
            ));
        }
        if images.len() != self.len() {
            let (images, labels) = (images.len(), self.len());
            return Some(format!("there are {images} images but {labels} labels"));
        }
        let image = self.labels.iter().position(|&l| l as usize >= classes)?;
        let label = self.labels[image];
        Some(format!(
            "label {label} of image {image}, but there are only {classes} classes"
        ))
    }
}

/// A data set, whole, in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dataset {
    /// What it was asked for as: `cifar100`, `folder:PATH`.
    pub name: String,
    /// The classes' names, by class number.
    pub classes: Vec<String>,
    /// What may be trained on.
    pub train: Split,
    /// A validation split the data set brings itself (a folder's `val`).
    pub validation: Option<Split>,
    /// What is read once, at the end.
    pub test: Option<Split>,
    /// Pictures that were passed over, each with the reason.
    pub skipped: Vec<Skipped>,
    /// What else its user should know: a sentence each.
    pub notes: Vec<String>,
}

impl Dataset {
    /// The splits there are, each with its name: `train`, `validation`, `test`.
    pub fn splits(&self) -> impl Iterator<Item = (&'static str, &Split)> {
        [
            ("train", Some(&self.train)),
            ("validation", self.validation.as_ref()),
            ("test", self.test.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, split)| split.map(|split| (name, split)))
    }

    /// Proves what the rest of the program relies on: at least two classes; in each split at least
    /// one image, as many labels as images, and each label below the number of classes; images of
    /// one size, grey or RGB, in all splits.
    ///
    /// # Errors
    /// [`Error::Data`] with the split, and the image where it is one image's fault.
    pub fn check(&self) -> Result<()> {
        let error = |place: String, problem: String| {
            let remedy = "use a data set of at least two classes, with images of one size and one \
                          label an image";
            Err(Error::data(place, problem, remedy))
        };
        let classes = self.classes.len();
        if classes < 2 {
            let problem = format!("{classes} class(es): there is nothing to tell apart");
            return error(self.name.clone(), problem);
        }
        let mut names = HashSet::new();
        for (number, name) in self.classes.iter().enumerate() {
            let problem = match (name.is_empty(), names.insert(name)) {
                (true, _) => format!("class {number} has no name"),
                (_, false) => format!("two classes are called {name:?}"),
                _ => continue,
            };
            return error(self.name.clone(), problem);
        }
        let shape = |split: &Split| {
            let images = &split.images;
            (images.height, images.width, images.channels)
        };
        for (name, split) in self.splits() {
            let place = format!("{}, {name} split", self.name);
            if let Some(problem) = split.problem(classes) {
                return error(place, problem);
            }
            if shape(split) != shape(&self.train) {
                let ((h, w, c), (th, tw, tc)) = (shape(split), shape(&self.train));
                let problem = format!("images are {h}×{w}×{c}, those to train on {th}×{tw}×{tc}");
                return error(place, problem);
            }
        }
        Ok(())
    }

    /// All of its images as images to train on, those of its own validation and test splits last.
    pub fn joined(mut self) -> Self {
        let others = [self.validation.take(), self.test.take()];
        for other in others.into_iter().flatten() {
            let whole = &mut self.train;
            // Files are told only where every image has one.
            match whole.files.is_empty() || other.files.is_empty() {
                true => whole.files.clear(),
                false => whole.files.extend(other.files),
            }
            whole.images.pixels.extend(other.images.pixels);
            whole.labels.extend(other.labels);
        }
        self
    }

    /// Refuses a data set of which a picture was passed over.
    ///
    /// # Errors
    /// [`Error::Data`] with how many there are, and the first of them.
    pub fn refuse_skipped(&self) -> Result<()> {
        const NAMED: usize = 3;
        if self.skipped.is_empty() {
            return Ok(());
        }
        let count = words::counted(self.skipped.len() as u64, "picture");
        let named = words::listed(&self.skipped, NAMED);
        let problem = format!("{count} cannot be used: {named}");
        let remedy = "replace or remove them, or allow pictures to be passed over";
        Err(Error::data(&self.name, problem, remedy))
    }

    /// A name for the exact data: hexadecimal SHA-256 over the shape, the labels and the pixels of
    /// every split. Two data sets train alike when theirs are equal.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for (name, split) in self.splits() {
            let images = &split.images;
            hash.update(name);
            for size in [split.len(), images.height, images.width, images.channels] {
                hash.update((size as u64).to_le_bytes());
            }
            for label in &split.labels {
                hash.update(label.to_le_bytes());
            }
            hash.update(&images.pixels);
        }
        hex(&hash.finalize())
    }
}

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(labels: &[u32]) -> Split {
        Split {
            images: Images {
                height: 1,
                width: 2,
                channels: 3,
                pixels: (0..labels.len() * 6).map(|i| i as u8).collect(),
            },
            labels: labels.to_vec(),
            files: vec![],
        }
    }

    fn dataset() -> Dataset {
        Dataset {
            name: "toy".into(),
            classes: vec!["a".into(), "b".into()],
            train: split(&[0, 1, 1]),
            test: Some(split(&[1])),
            ..Dataset::default()
        }
    }

    #[test]
    fn check_names_the_split_and_the_image() {
        assert!(dataset().check().is_ok());
        let broken = |change: fn(&mut Dataset)| {
            let mut data = dataset();
            change(&mut data);
            data.check().unwrap_err().to_string()
        };
        let message = broken(|data| data.train.labels[2] = 7);
        assert_eq!(
            message,
            "toy, train split: label 7 of image 2, but there are only 2 classes"
        );
        assert!(broken(|data| data.classes.truncate(1)).contains("1 class"));
        assert!(
            broken(|data| data.classes[1] = "a".into()).contains("two classes are called \"a\"")
        );
        assert!(broken(|data| data.classes[1].clear()).contains("class 1 has no name"));
        assert!(broken(|data| data.test = Some(split(&[]))).contains("test split: there is no"));
        assert!(broken(|data| data.train.labels.push(0)).contains("3 images but 4 labels"));
        assert!(broken(|data| _ = data.train.images.pixels.pop()).contains("not whole images"));
        let other_size = broken(|data| {
            let mut test = split(&[1]);
            (test.images.height, test.images.width) = (2, 1);
            data.test = Some(test);
        });
        assert!(other_size.contains("2×1×3"), "{other_size}");
    }

    #[test]
    fn the_fingerprint_sees_every_part() {
        let original = dataset().fingerprint();
        assert_eq!(original.len(), 64);
        assert_eq!(original, dataset().fingerprint());
        let changes: [fn(&mut Dataset); 5] = [
            |data| data.train.labels[0] = 1,
            |data| data.train.images.pixels[3] ^= 1,
            |data| data.test = None,
            |data| data.validation = data.test.take(),
            |data| (data.train.images.height, data.train.images.width) = (2, 1),
        ];
        for change in changes {
            let mut data = dataset();
            change(&mut data);
            assert_ne!(data.fingerprint(), original);
        }
    }
}
