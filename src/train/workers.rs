//! A batch through the model on all cores, with the same bits whatever their number.
//!
//! A batch is cut into micro-batches, of a size that follows from the batch alone. Each goes
//! forward and backward on one thread, and the gradients are added in the order of the
//! micro-batches. So neither the number of threads nor their timing shows in a result; memory
//! follows the micro-batch, not the batch; and operations that the backend runs on one core keep
//! all cores busy.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use burn::tensor::{Device, Tensor, TensorData};
use smallvit_kernels::matrix::Precision;

use super::metrics::cross_entropy;
use crate::augment::loader::Batch;
use crate::error::{Error, Result};
use crate::model::fused::deferred::{self, Deferred};
use crate::model::weights::{self, Array, EachParameter, MapParameter};
use crate::model::{Pass, Vit};

/// Gradients by parameter, flat.
pub type Gradients = BTreeMap<String, Tensor<1>>;

/// Threads that take micro-batches.
pub struct Workers {
    /// One thread each: what a backend would spread over cores stays on the worker's.
    pools: Vec<rayon::ThreadPool>,
    /// All threads, for few images, whose operations share them.
    together: rayon::ThreadPool,
    micro_batch: usize,
    device: Device,
    composed: bool,
    precision: Precision,
}

/// What a training batch came to.
pub struct Outcome {
    /// Mean loss over the batch.
    pub loss: f64,
    /// `[image, class]`.
    pub logits: Vec<f32>,
    /// Of the mean loss.
    pub gradients: Gradients,
}

impl Workers {
    /// `threads` workers on micro-batches of at most `micro_batch` images. A GPU has one worker,
    /// since it spreads a micro-batch by itself.
    pub fn new(threads: usize, micro_batch: usize, device: Device) -> Result<Self> {
        let threads = if device == super::device::cpu() {
            threads
        } else {
            1
        };
        let threads = threads.max(1);
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pools: Result<Vec<_>, _> = (0..threads).map(|_| pool(1)).collect();
        let refuse = |error: rayon::ThreadPoolBuildError| {
            Error::recipe(
                "--threads",
                format!("{threads} threads cannot be started ({error})"),
                "ask for fewer",
            )
        };
        Ok(Self {
            pools: pools.map_err(refuse)?,
            together: pool(threads).map_err(refuse)?,
            micro_batch: micro_batch.max(1),
            device,
            composed: false,
            precision: Precision::F32,
        })
    }

    /// Trains with products in this precision; inference stays in float32. Refused where this
    /// machine cannot: see [`device::check_precision`](super::device::check_precision).
    pub fn in_precision(mut self, precision: Precision) -> Result<Self> {
        super::device::check_precision(precision, &self.device)?;
        self.precision = precision;
        Ok(self)
    }

    /// Computes by the backend's own operations, without this project's kernels: to compare.
    pub fn composed(mut self) -> Self {
        self.composed = true;
        self
    }

    /// Images that go through the model at once, of so many: a micro-batch, or less where that
    /// would leave threads idle. Threads do not count here, for the same bits at any number.
    fn part(&self, images: usize) -> usize {
        let least_parts = if self.device == super::device::cpu() {
            4
        } else {
            1
        };
        self.micro_batch.min(images.div_ceil(least_parts)).max(1)
    }

    /// Does `work` for 0..items and hands the results to `collect` in that order.
    fn in_order<T: Send>(
        &self,
        items: usize,
        work: impl Fn(usize) -> T + Sync,
        collect: impl FnMut(T) + Send,
    ) {
        let next = AtomicUsize::new(0);
        // Finished out of order, waiting for their turn; and who collects.
        let waiting = Mutex::new((0, BTreeMap::new(), collect));
        let run = || {
            loop {
                let item = next.fetch_add(1, Ordering::Relaxed);
                if item >= items {
                    return;
                }
                let result = work(item);
                // Poisoned only by a panic, which ends the program anyway.
                let mut guard = waiting.lock().unwrap_or_else(|e| e.into_inner());
                let (turn, results, collect) = &mut *guard;
                results.insert(item, result);
                while let Some(result) = results.remove(turn) {
                    collect(result);
                    *turn += 1;
                }
            }
        };
        thread::scope(|scope| {
            for pool in self.pools.iter().take(items) {
                scope.spawn(|| pool.install(run));
            }
        });
    }

    /// Loss, logits and gradients of a training batch. `model` is without autodiff; `shape` is
    /// an image's rows, columns and channels; `step` names the dropout masks.
    pub fn train(
        &self,
        model: &Vit,
        batch: &Batch,
        shape: [usize; 3],
        smoothing: f64,
        seed: u64,
        step: u64,
    ) -> Outcome {
        let images = batch.labels.len();
        let mut loss = 0.0;
        let mut logits = Vec::new();
        let gradients = self.gradients(
            model,
            images,
            |first| Pass::training(seed, step, first),
            |model, pass, first, count| {
                let labels = &batch.labels[first..][..count];
                let input = self.input(&batch.images, shape, first, count);
                let logits = model.forward(input.autodiff(), pass);
                let share = count as f64 / images as f64;
                let loss = cross_entropy(logits.clone(), labels, smoothing) * share;
                (loss, Array::of(logits).values)
            },
            |part, scores| {
                loss += f64::from(part);
                logits.extend(scores);
            },
        );
        Outcome {
            loss,
            logits,
            gradients,
        }
    }

    /// Gradients of the sum of what `loss` makes of each micro-batch: of its first image's number
    /// and how many they are. `each` gets the losses, and whatever came with them, in order.
    pub fn gradients<T: Send>(
        &self,
        model: &Vit,
        images: usize,
        pass: impl Fn(usize) -> Pass + Sync,
        loss: impl Fn(&Vit, &mut Pass, usize, usize) -> (Tensor<1>, T) + Sync,
        mut each: impl FnMut(f32, T) + Send,
    ) -> Gradients {
        let mut gradients = Gradients::new();
        let deferred = Deferred::default();
        let part = self.part(images);
        self.in_order(
            images.div_ceil(part),
            |number| {
                let first = number * part;
                // Leaves of its own, on the same numbers: graphs that share a leaf would wait
                // for each other.
                let model = weights::map(model.clone(), &mut OwnLeaves);
                let mut pass = pass(first)
                    .deferring(&deferred)
                    .in_precision(self.precision);
                if self.composed {
                    pass = pass.composed();
                }
                let (loss, with) = loss(&model, &mut pass, first, part.min(images - first));
                let value = Array::of(loss.clone()).values[0];
                let gradients = gradients_of(&model, loss.backward());
                (value, with, gradients)
            },
            |(value, with, part)| {
                each(value, with);
                add(&mut gradients, part);
            },
        );
        self.add_deferred(deferred, &mut gradients);
        gradients
    }

    /// Forms the weight gradients that waited for the whole batch.
    fn add_deferred(&self, deferred: Deferred, gradients: &mut Gradients) {
        for layer in deferred.layers() {
            let mut kernel = Vec::with_capacity(layer.input() * layer.output());
            self.in_order(
                layer.input().div_ceil(deferred::ROWS),
                |part| layer.kernel_rows(part, self.precision),
                |rows| kernel.extend(rows),
            );
            for (leaf, values) in [("kernel", kernel), ("bias", layer.bias())] {
                let length = [values.len()];
                let data = TensorData::new(values, length);
                let name = format!("{}.{leaf}", layer.name);
                gradients.insert(name, Tensor::from_data(data, &self.device));
            }
        }
    }

    /// Logits `[image, class]` of preprocessed images, without dropout.
    pub fn infer(&self, model: &Vit, images: &[f32], shape: [usize; 3]) -> Vec<f32> {
        let count = images.len() / shape.iter().product::<usize>();
        let part = |number: usize| {
            let first = number * self.micro_batch;
            let input = self.input(images, shape, first, self.micro_batch.min(count - first));
            let mut pass = Pass::inference();
            if self.composed {
                pass = pass.composed();
            }
            Array::of(model.forward(input, &mut pass)).values
        };
        if count <= self.micro_batch {
            return self.together.install(|| part(0));
        }
        let mut logits = Vec::new();
        self.in_order(count.div_ceil(self.micro_batch), part, |part| {
            logits.extend(part);
        });
        logits
    }

    fn input(
        &self,
        images: &[f32],
        [h, w, c]: [usize; 3],
        first: usize,
        count: usize,
    ) -> Tensor<4> {
        let pixels = &images[first * h * w * c..][..count * h * w * c];
        Tensor::from_data(
            TensorData::new(pixels.to_vec(), [count, h, w, c]),
            &self.device,
        )
    }

    /// Where the model is computed.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.pools.len()
    }
}

/// Adds the gradients of another part of the batch.
fn add(sums: &mut Gradients, part: Gradients) {
    for (name, gradient) in part {
        let sum = match sums.remove(&name) {
            Some(sum) => sum + gradient,
            None => gradient,
        };
        sums.insert(name, sum);
    }
}

struct OwnLeaves;

impl MapParameter for OwnLeaves {
    fn map<const D: usize>(&mut self, _: &str, value: Tensor<D>) -> Tensor<D> {
        value.autodiff().require_grad()
    }
}

/// Each parameter's gradient, without autodiff; none where a parameter took no part.
pub fn gradients_of(model: &Vit, mut gradients: burn::tensor::Gradients) -> Gradients {
    struct Collect<'a> {
        gradients: &'a mut burn::tensor::Gradients,
        flat: Gradients,
    }
    impl EachParameter for Collect<'_> {
        fn visit<const D: usize>(&mut self, name: &str, value: Tensor<D>) {
            if let Some(gradient) = value.grad_remove(self.gradients) {
                let length = gradient.shape().num_elements();
                self.flat.insert(name.into(), gradient.reshape([length]));
            }
        }
    }
    let mut collect = Collect {
        gradients: &mut gradients,
        flat: Gradients::new(),
    };
    weights::for_each(model, &mut collect);
    collect.flat
}
