//! Batches for the trainer, made ahead of it on worker threads.
//!
//! Batch k is made by worker k mod n, which holds it until it is asked for: so batches come out in
//! order, whatever the number of workers, and each has one, in the making or waiting. A dropped
//! [`Loader`] ends its workers.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

pub use super::batch::Batch;
pub use super::{EpochAugmentation, Instance};
use super::{Pipeline, Preprocess, Targets};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};

/// Threads that make batches of so many bytes, of so many that could: not so many that what waits is more
/// than a model's weights would be.
fn workers(threads: usize, batch_bytes: u64) -> usize {
    /// Bytes of the batches that wait, about.
    const WAITING: u64 = 1 << 28;
    let fitting = WAITING / batch_bytes.max(1);
    threads.min(fitting as usize).max(1)
}

/// Batches of so many bytes that there are at once: one in use, and one of each thread of the loader.
pub fn batches_at_once(threads: usize, batch_bytes: u64) -> u64 {
    1 + workers(threads, batch_bytes) as u64
}

/// Which samples, in which order, how many at a time.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// Which sample is when trained on, and which copy of it.
    pub order: Vec<Instance>,
    /// Samples in a batch; the last batch may be smaller.
    pub batch: usize,
    /// Batches to leave out at the beginning (a resumed epoch).
    pub skip: usize,
}

impl Sampler {
    /// The samples shuffled for this epoch, as every run with this seed shuffles them.
    pub fn shuffled(samples: &[u32], batch: usize, seed: u64, epoch: u64, skip: usize) -> Self {
        let mut order = samples.to_vec();
        Stream::new(seed, Purpose::Shuffle, epoch, 0).shuffle(&mut order);
        Self {
            skip,
            ..Self::in_order(&order, batch)
        }
    }

    /// As [`shuffled`](Self::shuffled), with as many samples of each class as of the others: of a class
    /// of many, others in each epoch; of a class of few, each several times, as copies that are augmented by
    /// draws of their own. `labels` are of the whole split.
    pub fn balanced(
        samples: &[u32],
        labels: &[u32],
        batch: usize,
        seed: u64,
        epoch: u64,
        skip: usize,
    ) -> Self {
        let mut of_classes: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for &sample in samples {
            let class = labels[sample as usize];
            of_classes.entry(class).or_default().push(sample);
        }
        let classes = of_classes.len();
        let mut order = vec![];
        for (number, (class, mut own)) in of_classes.into_iter().enumerate() {
            Stream::new(seed, Purpose::Shuffle, epoch, 1 + u64::from(class)).shuffle(&mut own);
            // What does not divide evenly goes to other classes from epoch to epoch.
            let turn = (number as u64 + epoch) % classes as u64;
            let share = samples.len() / classes;
            let count = share + usize::from((turn as usize) < samples.len() % classes);
            order.extend((0..count).map(|place| Instance {
                sample: own[place % own.len()],
                repeat: (place / own.len()) as u32,
            }));
        }
        Stream::new(seed, Purpose::Shuffle, epoch, 0).shuffle(&mut order);
        Self { order, batch, skip }
    }

    /// Each sample so many times one after another, of which as many in all as there were: so an epoch sees
    /// fewer samples, in several augmentations each (Hoffer and others, arXiv 1901.09335).
    pub fn repeated(mut self, times: usize) -> Self {
        let each = |instance: &Instance| {
            let Instance { sample, repeat } = *instance;
            let copy = move |copy| Instance {
                sample,
                repeat: repeat * times as u32 + copy,
            };
            (0..times as u32).map(copy)
        };
        self.order = self
            .order
            .iter()
            .flat_map(each)
            .take(self.order.len())
            .collect();
        self
    }

    /// The samples as they come.
    pub fn in_order(samples: &[u32], batch: usize) -> Self {
        Self {
            order: samples.iter().copied().map(Instance::once).collect(),
            batch,
            skip: 0,
        }
    }
}

/// An iterator over batches.
pub struct Loader {
    channels: Vec<Receiver<Batch>>,
    workers: Vec<JoinHandle<()>>,
    next: usize,
}

impl Loader {
    /// Starts at most so many threads on the sampler, fewer where batches are large. Without `epoch` the
    /// images are only preprocessed.
    ///
    /// # Errors
    /// [`Error::Recipe`] where the system does not let so many threads start.
    pub fn start(
        split: Arc<Split>,
        sampler: Sampler,
        preprocess: Arc<Preprocess>,
        epoch: Option<EpochAugmentation>,
        threads: usize,
    ) -> Result<Self> {
        let batch = sampler.batch.min(sampler.order.len()) * preprocess.output_len();
        let workers = workers(threads, 4 * batch as u64);
        let sampler = Arc::new(sampler);
        let started: io::Result<Vec<_>> = (0..workers)
            .map(|worker| {
                let (sender, receiver) = sync_channel(0);
                let (split, sampler) = (split.clone(), sampler.clone());
                let (preprocess, epoch) = (preprocess.clone(), epoch.clone());
                let work = move || {
                    let mut pipeline = Pipeline::new(epoch);
                    let batches = sampler.order.chunks(sampler.batch).enumerate();
                    let own = batches.skip(sampler.skip + worker).step_by(workers);
                    for (number, instances) in own {
                        let batch = of(&split, instances, &preprocess, &mut pipeline, number);
                        if sender.send(batch).is_err() {
                            return; // the loader is gone
                        }
                    }
                };
                Ok((receiver, thread::Builder::new().spawn(work)?))
            })
            .collect();
        let started = started.map_err(|error| {
            let problem = format!("{workers} threads more cannot be started ({error})");
            Error::recipe("threads", problem, "ask for fewer")
        })?;
        let (channels, workers) = started.into_iter().unzip();
        Ok(Self {
            channels,
            workers,
            next: 0,
        })
    }
}

impl Iterator for Loader {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let channel = self.next % self.channels.len();
        self.next += 1;
        self.channels[channel].recv().ok()
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.channels.clear();
        for worker in self.workers.drain(..) {
            // A worker can only fail by a broken invariant, which its own panic has reported.
            let _ = worker.join();
        }
    }
}

/// The first batch of an epoch, or of none, made of these samples here and now.
pub fn make(
    split: &Split,
    samples: &[u32],
    preprocess: &Preprocess,
    epoch: Option<&EpochAugmentation>,
) -> Batch {
    let instances: Vec<_> = samples.iter().copied().map(Instance::once).collect();
    let mut pipeline = Pipeline::new(epoch.cloned());
    of(split, &instances, preprocess, &mut pipeline, 0)
}

/// A batch and its number in the epoch.
fn of(
    split: &Split,
    instances: &[Instance],
    preprocess: &Preprocess,
    pipeline: &mut Pipeline,
    number: usize,
) -> Batch {
    let mut images = Vec::with_capacity(instances.len() * preprocess.output_len());
    for &instance in instances {
        let pixels = split.images.image(instance.sample as usize);
        images.extend_from_slice(pipeline.image(pixels, preprocess, instance));
    }
    let label = |instance: &Instance| split.labels[instance.sample as usize];
    let mut batch = Batch {
        images,
        targets: Targets::Hard(instances.iter().map(label).collect()),
    };
    pipeline.batch(&mut batch, preprocess.output(), number);
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::Augmentation;
    use crate::augment::batch::mix::Mixing;
    use crate::augment::floats::erasing::Erasing;
    use crate::data::Images;

    const SAMPLES: u32 = 23;

    fn split() -> Split {
        Split {
            images: Images {
                height: 2,
                width: 2,
                channels: 1,
                pixels: (0..SAMPLES * 4).map(|i| i as u8).collect(),
            },
            labels: (0..SAMPLES).collect(),
            ..Split::default()
        }
    }

    fn start(
        sampler: impl FnOnce(&[u32]) -> Sampler,
        mix: Option<Mixing>,
        workers: usize,
    ) -> Loader {
        let preprocess = Preprocess {
            input: [2, 2, 1],
            image_size: 4,
            mean: vec![10.0],
            variance: vec![9.0],
        };
        let samples: Vec<u32> = (0..SAMPLES).collect();
        let augmentation = Augmentation {
            crop_padding: 1,
            erasing: Some(Erasing::default()),
            mix,
            ..Augmentation::default()
        };
        let epoch = EpochAugmentation {
            augmentation,
            seed: 1,
            epoch: 4,
        };
        let sampler = sampler(&samples);
        let split = Arc::new(split());
        Loader::start(split, sampler, Arc::new(preprocess), Some(epoch), workers).unwrap()
    }

    /// The epoch's batches after the first `skip`.
    fn batches(mix: Option<Mixing>, workers: usize, skip: usize) -> Vec<Batch> {
        start(|s| Sampler::shuffled(s, 5, 1, 4, skip), mix, workers).collect()
    }

    #[test]
    fn an_epoch_has_every_sample_once() {
        let epoch = batches(None, 2, 0);
        assert_eq!(epoch.len(), 5);
        assert_eq!(epoch[4].targets.len(), 3);
        assert_eq!(epoch[0].images.len(), 5 * 16);
        let labels = epoch.iter().flat_map(|batch| match &batch.targets {
            Targets::Hard(labels) => labels.clone(),
            Targets::Mixed { .. } => panic!("mixed without being asked to"),
        });
        let mut labels: Vec<u32> = labels.collect();
        labels.sort_unstable();
        assert_eq!(labels, (0..SAMPLES).collect::<Vec<_>>());
    }

    #[test]
    fn batches_depend_neither_on_the_number_of_workers_nor_on_resumption() {
        for mix in [None, Some(Mixing::default())] {
            let one = batches(mix.clone(), 1, 0);
            assert_eq!(one.len(), 5);
            let mixed = |batch: &Batch| matches!(batch.targets, Targets::Mixed { .. });
            assert!(one.iter().all(|batch| mixed(batch) == mix.is_some()));
            for workers in [2, 3, 7] {
                assert_eq!(batches(mix.clone(), workers, 0), one);
            }
            for skip in 1..=5 {
                assert_eq!(batches(mix.clone(), 2, skip), one[skip..]);
            }
        }
        // Neighbouring batches are mixed by draws of their own.
        let mixup = Mixing {
            cutmix_alpha: 0.0,
            ..Mixing::default()
        };
        let weights = batches(Some(mixup), 1, 0)
            .into_iter()
            .map(|batch| match batch.targets {
                Targets::Mixed { weight_a, .. } => weight_a[0].to_bits(),
                Targets::Hard(_) => panic!("not mixed"),
            });
        let weights: std::collections::BTreeSet<u32> = weights.collect();
        assert_eq!(weights.len(), 5);
    }

    #[test]
    fn repeats_of_a_sample_are_augmented_apart_from_each_other() {
        let repeated = |repeats: [u32; 2]| {
            let order = repeats
                .map(|repeat| Instance { sample: 9, repeat })
                .to_vec();
            let sampler = |_: &[u32]| Sampler {
                order,
                batch: 2,
                skip: 0,
            };
            let batch = start(sampler, None, 1).next().unwrap();
            assert_eq!(batch.targets, vec![9, 9].into());
            let (first, second) = batch.images.split_at(16);
            (first.to_vec(), second.to_vec())
        };
        let (first, second) = repeated([0, 1]);
        assert_ne!(first, second);
        assert_eq!(repeated([1, 1]), (second.clone(), second));
    }

    #[test]
    fn repeated_samples_follow_one_another_and_fill_an_epoch() {
        let once = Sampler::shuffled(&[1, 2, 3, 4, 5, 6, 7], 3, 9, 2, 0);
        let samples: Vec<u32> = once.order.iter().map(|i| i.sample).collect();
        assert_eq!(once.clone().repeated(1).order, once.order);
        let thrice = once.repeated(3).order;
        let found: Vec<_> = thrice.iter().map(|i| (i.sample, i.repeat)).collect();
        let [a, b, c] = [samples[0], samples[1], samples[2]];
        let expected = [(a, 0), (a, 1), (a, 2), (b, 0), (b, 1), (b, 2), (c, 0)];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_dropped_loader_ends_its_workers() {
        let mut loader = start(|s| Sampler::in_order(s, 5), None, 3);
        loader.next();
        drop(loader); // joins: a worker that went on sending would hang here
    }

    #[test]
    fn a_balanced_epoch_has_as_many_of_each_class() {
        // Class 0 has 20 samples, class 1 two, class 3 one.
        let labels: Vec<u32> = (0..23)
            .map(|i| [0, 1, 3][(i / 20 + i / 22) as usize])
            .collect();
        let samples: Vec<u32> = (0..23).collect();
        let mut seen = std::collections::BTreeSet::new();
        for epoch in 0..6 {
            let sampler = Sampler::balanced(&samples, &labels, 4, 7, epoch, 1);
            assert_eq!(
                (sampler.batch, sampler.skip, sampler.order.len()),
                (4, 1, 23)
            );
            let of = |class: u32| -> Vec<u32> {
                let samples = sampler.order.iter().map(|instance| instance.sample);
                samples
                    .filter(|&sample| labels[sample as usize] == class)
                    .collect()
            };
            let counts = [0, 1, 3].map(|class| of(class).len());
            assert!(
                counts.iter().all(|count| [7, 8].contains(count)),
                "{counts:?}"
            );
            let distinct: std::collections::BTreeSet<_> =
                sampler.order.iter().map(|i| (i.sample, i.repeat)).collect();
            assert_eq!(distinct.len(), 23, "copies are told apart");
            seen.extend(of(0));
            let again = Sampler::balanced(&samples, &labels, 4, 7, epoch, 1);
            assert_eq!(again.order, sampler.order);
        }
        assert!(seen.len() > 15, "other samples of a large class each time");
        let doubled = Sampler::balanced(&samples, &labels, 4, 7, 0, 0).repeated(2);
        let distinct: std::collections::BTreeSet<_> =
            doubled.order.iter().map(|i| (i.sample, i.repeat)).collect();
        assert_eq!(distinct.len(), 23);
    }
}
