//! The stages in their order, with the streams they draw from.

use super::batch::{self, Batch};
use super::{Augmentation, Boxed, Canvas, Preprocess, floats, pixels};
use crate::random::{Purpose, Stream};

/// The augmentation of an epoch: what is done, and the streams it draws from.
#[derive(Clone, Debug)]
pub struct EpochAugmentation {
    /// What is done.
    pub augmentation: Augmentation,
    /// The run's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
}

/// One appearance of a sample in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The sample's number in the split.
    pub sample: u32,
    /// Which of the sample's appearances it is, where there are several (repeated augmentation,
    /// Hoffer et al., arXiv 1901.09335): each is augmented by draws of its own. Else 0.
    pub repeat: u32,
}

impl Instance {
    /// The only appearance of a sample.
    pub fn once(sample: u32) -> Self {
        Self { sample, repeat: 0 }
    }
}

/// The operations of an epoch, ready to run, with buffers that serve all its images.
pub struct Pipeline {
    seed: u64,
    epoch: u64,
    pixels: Vec<Boxed<Canvas<u8>>>,
    floats: Vec<Boxed<Canvas<f32>>>,
    batch: Vec<Boxed<Batch>>,
    pixel_canvas: Canvas<u8>,
    float_canvas: Canvas<f32>,
    normalised: Vec<f32>,
}

impl Pipeline {
    /// Without `epoch` images are only preprocessed.
    pub fn new(epoch: Option<EpochAugmentation>) -> Self {
        let epoch = epoch.unwrap_or(EpochAugmentation {
            augmentation: Augmentation::none(),
            seed: 0,
            epoch: 0,
        });
        let augmentation = &epoch.augmentation;
        Self {
            seed: epoch.seed,
            epoch: epoch.epoch,
            pixels: pixels::operations(augmentation, epoch.epoch),
            floats: floats::operations(augmentation),
            batch: batch::operations(augmentation),
            pixel_canvas: Canvas::default(),
            float_canvas: Canvas::default(),
            normalised: Vec::new(),
        }
    }

    /// One image, from its pixels to what the model sees, before the batch is mixed.
    pub fn image(&mut self, pixels: &[u8], preprocess: &Preprocess, instance: Instance) -> &[f32] {
        let (seed, epoch) = (self.seed, self.epoch);
        let stream = |name: &str, epoch: u64| {
            let of = [epoch, instance.sample.into(), instance.repeat.into()];
            Stream::named(seed, Purpose::Augment, &of, name)
        };

        let pixels = if self.pixels.is_empty() {
            pixels
        } else {
            self.pixel_canvas.load(pixels);
            for operation in &self.pixels {
                let mut stream = stream(operation.name(), operation.draws_of(epoch));
                operation.apply(&mut self.pixel_canvas, preprocess.input, &mut stream);
            }
            self.pixel_canvas.image()
        };
        let output = self.float_canvas.room(preprocess.output_len());
        preprocess.apply_with(pixels, output, &mut self.normalised);
        for operation in &self.floats {
            let mut stream = stream(operation.name(), operation.draws_of(epoch));
            operation.apply(&mut self.float_canvas, preprocess.output(), &mut stream);
        }
        self.float_canvas.image()
    }

    /// What is done to a whole batch; `shape` is an image's rows, columns and channels, `number` the
    /// batch's own in its epoch.
    pub fn batch(&self, batch: &mut Batch, shape: [usize; 3], number: usize) {
        for operation in &self.batch {
            let of = [self.epoch, number as u64];
            let mut stream = Stream::named(self.seed, Purpose::Mix, &of, operation.name());
            operation.apply(batch, shape, &mut stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::augment::batch::mix::Mixing;
    use crate::augment::floats::erasing::Erasing;

    /// Every operation there is.
    fn everything() -> Augmentation {
        Augmentation {
            crop_padding: 2,
            rotation: 0.1,
            erasing: Some(Erasing {
                probability: 0.5,
                ..Erasing::default()
            }),
            ..Augmentation::everything()
        }
    }

    fn pipeline(augmentation: Augmentation) -> Pipeline {
        Pipeline::new(Some(EpochAugmentation {
            augmentation,
            seed: 5,
            epoch: 2,
        }))
    }

    fn preprocess() -> Preprocess {
        Preprocess {
            input: [8, 8, 3],
            image_size: 12,
            mean: vec![127.0, 100.0, 90.0],
            variance: vec![4000.0, 3000.0, 2000.0],
        }
    }

    fn pixels() -> Vec<u8> {
        (0..8 * 8 * 3).map(|i| (i * i * 7 % 251) as u8).collect()
    }

    fn augmented(augmentation: Augmentation, sample: u32) -> Vec<f32> {
        let mut pipeline = pipeline(augmentation);
        // The buffers are dirty.
        pipeline.image(&[255; 8 * 8 * 3], &preprocess(), Instance::once(99));
        let instance = Instance::once(sample);
        pipeline.image(&pixels(), &preprocess(), instance).to_vec()
    }

    #[test]
    fn a_sample_is_augmented_the_same_way_every_time_and_like_no_other() {
        let mut plain = vec![0.0; preprocess().output_len()];
        preprocess().apply(&pixels(), &mut plain);
        assert_eq!(augmented(Augmentation::none(), 17), plain);
        let seventeen = augmented(everything(), 17);
        assert_eq!(augmented(everything(), 17), seventeen);
        assert_ne!(augmented(everything(), 18), seventeen);
        assert_ne!(seventeen, plain);
    }

    #[test]
    fn names_are_unique() {
        let pipeline = pipeline(everything());
        fn names<T>(operations: &[Boxed<T>]) -> Vec<&'static str> {
            operations
                .iter()
                .map(|operation| operation.name())
                .collect()
        }
        let all = [
            names(&pipeline.pixels),
            names(&pipeline.floats),
            names(&pipeline.batch),
        ];
        // The names of every operation there has been, which are part of what a seed means.
        let expected = [
            &[
                "flip",
                "crop",
                "resized_crop",
                "auto_augment",
                "rand_augment",
                "timm_rand_augment",
                "trivial_augment",
                "jitter",
            ][..],
            &["rotation", "zoom", "erasing"],
            &["mix"],
        ];
        assert_eq!(all, expected);
        let unique: BTreeSet<&str> = all.iter().flatten().copied().collect();
        assert_eq!(unique.len(), all.iter().flatten().count());
    }

    /// What an operation does to an image is what it does alone with its own stream, whichever
    /// others are on: the whole is the composition of its parts.
    #[test]
    fn every_operation_draws_as_if_it_were_alone() {
        fn alone<T: Copy + Default>(
            operation: &Boxed<Canvas<T>>,
            image: &[T],
            shape: [usize; 3],
            sample: u32,
        ) -> Vec<T> {
            let mut canvas = Canvas::default();
            canvas.load(image);
            let of = [2, sample.into(), 0];
            let mut stream = Stream::named(5, Purpose::Augment, &of, operation.name());
            operation.apply(&mut canvas, shape, &mut stream);
            canvas.image().to_vec()
        }
        type Switch = fn(&mut Augmentation);
        let switches: [(&str, Switch); 11] = [
            ("flip", |a| a.flip = false),
            ("crop", |a| a.crop_padding = 0),
            ("resized_crop", |a| a.resized_crop = None),
            ("auto_augment", |a| a.auto_augment = None),
            ("rand_augment", |a| a.rand_augment = None),
            ("timm_rand_augment", |a| a.timm_rand_augment = None),
            ("trivial_augment", |a| a.trivial_augment = None),
            ("jitter", |a| a.jitter = None),
            ("rotation", |a| a.rotation = 0.0),
            ("zoom", |a| a.zoom = 0.0),
            ("erasing", |a| a.erasing = None),
        ];
        let whole = pipeline(everything());
        let mut changed = 0;
        for sample in 0..3 {
            for set in 0..1u32 << switches.len() {
                let mut augmentation = everything();
                let mut off = vec![];
                for (i, (name, switch)) in switches.iter().enumerate() {
                    if set & 1 << i != 0 {
                        switch(&mut augmentation);
                        off.push(*name);
                    }
                }
                // By the operations of the recipe in which all are on, without those.
                let one = |name: &'static str| !off.contains(&name);
                let mut expected = pixels();
                for operation in whole.pixels.iter().filter(|o| one(o.name())) {
                    expected = alone(operation, &expected, [8, 8, 3], sample);
                }
                let mut floats = vec![0.0; 12 * 12 * 3];
                preprocess().apply(&expected, &mut floats);
                for operation in whole.floats.iter().filter(|o| one(o.name())) {
                    floats = alone(operation, &floats, [12, 12, 3], sample);
                }
                assert_eq!(augmented(augmentation, sample), floats, "{off:?}");
                changed += u32::from(floats != augmented(everything(), sample));
            }
        }
        // Nearly all sets of switches change an image.
        assert!(changed > 3 * 2000, "{changed}");
    }

    #[test]
    fn mixing_draws_by_batch_and_epoch() {
        let mixed = |augmentation: Augmentation, epoch, number| {
            let mut batch = Batch {
                images: (0..6 * 12).map(|i| i as f32).collect(),
                targets: vec![0, 1, 2, 3, 4, 5].into(),
            };
            let epoch = EpochAugmentation {
                augmentation,
                seed: 5,
                epoch,
            };
            Pipeline::new(Some(epoch)).batch(&mut batch, [2, 2, 3], number);
            batch
        };
        let all = mixed(everything(), 2, 3);
        assert_ne!(mixed(everything(), 2, 4), all);
        assert_ne!(mixed(everything(), 3, 3), all);
        let only_mix = Augmentation {
            mix: Some(Mixing::default()),
            ..Augmentation::none()
        };
        assert_eq!(mixed(only_mix, 2, 3), all);
    }
}
