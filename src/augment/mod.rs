//! Images → images, and targets → targets: preprocessing, augmentation, and the loader that makes
//! batches of them.
//!
//! Images are `[row, column, channel]`. One goes through, in this order:
//!
//! 1. [`pixels`]: operations on 8-bit pixels as the data set has them: flip, crops, policies, colour jitter;
//! 2. [`Preprocess`]: normalised, then resized (every image, in training and after);
//! 3. [`floats`]: operations on what the model would see: rotation, zoom, erasing;
//! 4. [`batch`]: operations on a whole batch, which may change its [`Targets`]: Mixup, CutMix.
//!
//! What is done is a recipe's [`Augmentation`]; a [`Pipeline`] does it, and the [`loader`] runs one
//! on each of its threads. Every operation is a pure function of what it works on, its parameters
//! and a random stream of its own, named by the run's seed, the epoch, the sample, the repeat (which
//! copy of a sample that comes more than once), and the operation's [name](Operation::name). On a
//! batch, the batch's number in the epoch takes the place of sample and repeat. So an operation that
//! is switched on or off, or comes in later, leaves the draws of all others as they were.
//!
//! # A new operation
//!
//! One new file, which knows everything about it, and a line in each of three lists:
//!
//! - `pixels/invert.rs` (say) holds the formula and its source, the parameters (a serde struct with
//!   the literature's defaults, where one number isn't enough), the transform as a plain function,
//!   tests against a closed form, an [`Operation`] that draws and calls it, whose `check` refuses
//!   impossible parameters, and `of`: the operation as a recipe asks for it, if it does;
//! - in its stage's `mod.rs`, `pub mod invert;`, and `invert::of(recipe)` in `operations`, at the
//!   place where its turn comes;
//! - in [`Augmentation`], its field.
//!
//! Policies (AutoAugment, RandAugment, TrivialAugment) are such files, too.

pub mod batch;
pub mod floats;
pub mod loader;
mod pipeline;
pub mod pixels;
mod preprocess;
mod recipe;
pub mod resize;
mod targets;

pub use pipeline::{EpochAugmentation, Instance, Pipeline};
pub use preprocess::Preprocess;
pub use recipe::Augmentation;
pub use targets::Targets;

use crate::error::Result;
use crate::random::Stream;

/// One step of the augmentation, with its parameters. `Subject` is what the stage works on:
/// [`Canvas<u8>`](Canvas), [`Canvas<f32>`](Canvas) or [`Batch`](batch::Batch).
pub trait Operation<Subject>: Send + Sync {
    /// Keys the operation's random stream: no two operations may share it, and it never changes.
    fn name(&self) -> &'static str;

    /// Does it, in place. `shape` is an image's rows, columns and channels.
    fn apply(&self, subject: &mut Subject, shape: [usize; 3], stream: &mut Stream);

    /// The epoch whose draws it uses in this one: its own, unless what it does goes on from epoch to epoch.
    fn draws_of(&self, epoch: u64) -> u64 {
        epoch
    }

    /// Refuses parameters that cannot be, naming the recipe's field and the remedy.
    ///
    /// # Errors
    /// [`Error::Recipe`](crate::Error::Recipe).
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Refuses images that the operation would make useless.
    ///
    /// # Errors
    /// [`Error::Recipe`](crate::Error::Recipe).
    fn check_images(&self, shape: [usize; 3]) -> Result<()> {
        let _ = shape;
        Ok(())
    }
}

/// An operation that a recipe asks for.
pub type Boxed<Subject> = Box<dyn Operation<Subject>>;

/// One image, and a second buffer for operations that cannot work in place. Serves one image after
/// another, so that none allocates.
#[derive(Clone, Debug, Default)]
pub struct Canvas<T> {
    image: Vec<T>,
    spare: Vec<T>,
}

impl<T: Copy + Default> Canvas<T> {
    /// Takes an image in, in place of the one before.
    pub fn load(&mut self, image: &[T]) {
        self.image.clear();
        self.image.extend_from_slice(image);
    }

    /// Room for an image of `length` numbers, to write into; they are what they were before.
    fn room(&mut self, length: usize) -> &mut [T] {
        self.image.resize(length, T::default());
        &mut self.image
    }

    /// The image.
    pub fn image(&self) -> &[T] {
        &self.image
    }

    /// The image, to work on in place.
    pub fn image_mut(&mut self) -> &mut [T] {
        &mut self.image
    }

    /// `draw` makes the new image from the old one. It must write every number of the new one,
    /// which begins with whatever an earlier image left there.
    pub fn redraw(&mut self, draw: impl FnOnce(&[T], &mut [T])) {
        self.spare.resize(self.image.len(), T::default());
        draw(&self.image, &mut self.spare);
        std::mem::swap(&mut self.image, &mut self.spare);
    }
}

/// A part of an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    /// Its first row.
    pub top: usize,
    /// Its first column.
    pub left: usize,
    /// Its rows.
    pub height: usize,
    /// Its columns.
    pub width: usize,
}
