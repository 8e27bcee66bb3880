//! Bytes on disk → images and labels.
//!
//! One file a format ([`cifar`], [`pickle`], [`idx`], [`folder`]); [`source`] knows the named data
//! sets, where a copy may already lie and where it can be had; [`download`] brings it.
//! Everything ends as a [`Dataset`]: 8-bit images in memory, all of one size, and class numbers.

use crate::error::{Error, Result};

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
}

/// A data set, whole, in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Files that were passed over, each with the reason.
    pub skipped: Vec<String>,
}
