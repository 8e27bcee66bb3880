//! Batches for the trainer, made ahead of it on worker threads.
//!
//! Batch k is made by worker k mod n and waits in that worker's own channel, so batches come out
//! in order, whatever the number of workers, and at most [`AHEAD`] of each worker's wait at a
//! time: memory stays bounded. A dropped [`Loader`] ends its workers.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use super::{Augmentation, Preprocess, augment};
use crate::data::Split;
use crate::random::{Purpose, Stream};

/// Finished batches that wait in a worker's channel.
pub const AHEAD: usize = 1;

/// Images ready for the model, and their classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[image, row, column, channel]`.
    pub images: Vec<f32>,
    /// A class an image.
    pub labels: Vec<u32>,
}

/// Which samples, in which order, how many at a time.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Sample numbers in the split.
    pub order: Vec<u32>,
    /// Samples in a batch; the last batch may be smaller.
    pub batch: usize,
    /// Batches to leave out at the beginning (a resumed epoch).
    pub skip: usize,
}

impl Plan {
    /// The samples shuffled for this epoch, as every run with this seed shuffles them.
    pub fn shuffled(samples: &[u32], batch: usize, seed: u64, epoch: u64, skip: usize) -> Self {
        let mut order = samples.to_vec();
        Stream::new(seed, Purpose::Shuffle, epoch, 0).shuffle(&mut order);
        Self { order, batch, skip }
    }

    /// The samples as they come.
    pub fn in_order(samples: &[u32], batch: usize) -> Self {
        Self {
            order: samples.to_vec(),
            batch,
            skip: 0,
        }
    }
}

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

/// An iterator over batches.
pub struct Loader {
    channels: Vec<Receiver<Batch>>,
    workers: Vec<JoinHandle<()>>,
    next: usize,
}

impl Loader {
    /// Starts `workers` threads on the plan. Without `epoch` the images are only preprocessed.
    pub fn start(
        split: Arc<Split>,
        plan: Plan,
        preprocess: Arc<Preprocess>,
        epoch: Option<EpochAugmentation>,
        workers: usize,
    ) -> Self {
        let workers = workers.max(1);
        let plan = Arc::new(plan);
        let (channels, workers) = (0..workers)
            .map(|worker| {
                let (sender, receiver) = sync_channel(AHEAD);
                let (split, plan) = (split.clone(), plan.clone());
                let (preprocess, epoch) = (preprocess.clone(), epoch.clone());
                let work = move || {
                    let batches = plan.order.chunks(plan.batch).skip(plan.skip);
                    for samples in batches.skip(worker).step_by(workers) {
                        let batch = make(&split, samples, &preprocess, epoch.as_ref());
                        if sender.send(batch).is_err() {
                            return; // the loader is gone
                        }
                    }
                };
                (receiver, thread::spawn(work))
            })
            .unzip();
        Self {
            channels,
            workers,
            next: 0,
        }
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

/// One batch.
pub fn make(
    split: &Split,
    samples: &[u32],
    preprocess: &Preprocess,
    epoch: Option<&EpochAugmentation>,
) -> Batch {
    let length = preprocess.output_len();
    let mut images = Vec::with_capacity(samples.len() * length);
    let mut image = vec![0.0; length];
    for &sample in samples {
        preprocess.apply(split.images.image(sample as usize), &mut image);
        if let Some(epoch) = epoch {
            let mut stream =
                Stream::new(epoch.seed, Purpose::Augment, epoch.epoch, u64::from(sample));
            augment(
                &mut image,
                preprocess.image_size,
                preprocess.input[2],
                &epoch.augmentation,
                &mut stream,
            );
        }
        images.extend_from_slice(&image);
    }
    Batch {
        images,
        labels: samples
            .iter()
            .map(|&sample| split.labels[sample as usize])
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Images;

    fn start(workers: usize, skip: usize) -> Loader {
        let images = Images {
            height: 2,
            width: 2,
            channels: 1,
            pixels: (0..23 * 4).map(|i| i as u8).collect(),
        };
        let split = Split {
            images,
            labels: (0..23).collect(),
        };
        let preprocess = Preprocess {
            input: [2, 2, 1],
            image_size: 4,
            mean: vec![10.0],
            variance: vec![9.0],
        };
        let samples: Vec<u32> = (0..23).collect();
        let epoch = EpochAugmentation {
            augmentation: Augmentation::default(),
            seed: 1,
            epoch: 4,
        };
        Loader::start(
            Arc::new(split),
            Plan::shuffled(&samples, 5, 1, 4, skip),
            Arc::new(preprocess),
            Some(epoch),
            workers,
        )
    }

    #[test]
    fn batches_do_not_depend_on_the_number_of_workers() {
        let one: Vec<Batch> = start(1, 0).collect();
        assert_eq!(one.len(), 5);
        assert_eq!(one[4].labels.len(), 3);
        assert_eq!(one[0].images.len(), 5 * 16);
        let mut labels: Vec<u32> = one.iter().flat_map(|b| b.labels.clone()).collect();
        labels.sort_unstable();
        assert_eq!(labels, (0..23).collect::<Vec<_>>());
        for workers in [2, 3, 7] {
            assert_eq!(start(workers, 0).collect::<Vec<_>>(), one);
        }
        assert_eq!(start(2, 3).collect::<Vec<_>>(), one[3..]);
    }

    #[test]
    fn a_dropped_loader_ends_its_workers() {
        let mut loader = start(3, 0);
        loader.next();
        drop(loader); // joins: a worker that went on sending would hang here
    }
}
