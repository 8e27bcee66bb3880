//! A batch through the model on all cores, with the same bits whatever their number.
//!
//! A batch is cut into micro-batches, of a size that follows from the batch alone. Each goes
//! forward and backward on one thread, and the gradients are added in a [`Tree`], whose shape, too,
//! follows from the batch alone. So neither the number of threads nor their timing shows in a result;
//! memory follows the micro-batch, not the batch; and operations that the backend runs on one core keep
//! all cores busy.
//!
//! The classifier's weight gradients are no such sum: inputs and output gradients wait ([`Step::deferred`])
//! until all images have passed, and one product over the whole batch forms them. Its unit of work is a
//! fixed number of the kernel's rows, not of images, and each row sums over all images in their order;
//! so these bits do not depend on threads either.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use burn::tensor::{Device, Tensor, TensorData};
use smallvit_kernels::matrix::Precision;

use super::gradients::{Gradients, used_twice};
use super::metrics::{LossConfig, cross_entropy};
use super::tree::Tree;
use crate::augment::loader::Batch;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::nn::{Context, Step};
use crate::params::{self, Array, MapParameter};

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
    inference: Precision,
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
                "threads",
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
            inference: Precision::F32,
        })
    }

    /// Infers with products in this precision; otherwise in float32, whatever it trains in. Refused where
    /// this machine cannot, as by [`Workers::in_precision`].
    pub fn inferring_in(mut self, precision: Precision) -> Result<Self> {
        super::device::check_precision(precision, &self.device)?;
        self.inference = precision;
        Ok(self)
    }

    /// Trains with products in this precision. Refused where this machine cannot: see [`device::check_precision`](super::device::check_precision).
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
    fn micro_batch_of(&self, images: usize) -> usize {
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
        match items {
            // What the one item itself can share, all threads do.
            1 => self.together.install(run),
            _ => on_each(&self.pools[..self.pools.len().min(items)], &run),
        }
    }

    /// Loss, logits and gradients of a training batch. `model` is without autodiff; `shape` is
    /// an image's rows, columns and channels; `step` names the dropout masks.
    pub fn train(
        &self,
        model: &Model,
        batch: &Batch,
        shape: [usize; 3],
        loss: &LossConfig,
        seed: u64,
        step: u64,
    ) -> Result<Outcome> {
        let images = batch.targets.len();
        let how = loss;
        let mut loss = 0.0;
        let mut logits = Vec::new();
        let gradients = self.gradients(
            model,
            images,
            |first| Context::training(seed, step, first),
            |model, pass, first, count| {
                let targets = batch.targets.slice(first, count);
                let input = self.input(&batch.images, shape, first, count);
                let logits = model.forward(input.autodiff(), pass);
                let share = count as f64 / images as f64;
                let loss = cross_entropy(logits.clone(), &targets, how) * share;
                (loss, Array::of(logits).values)
            },
            |part, scores| {
                loss += f64::from(part);
                logits.extend(scores);
            },
        )?;
        Ok(Outcome {
            loss,
            logits,
            gradients,
        })
    }

    /// Gradients of the sum of what `loss` makes of each micro-batch: of its first image's number
    /// and how many they are. `each` gets the losses, and whatever came with them, in order. Those of
    /// the classifier's kernels are [deferred](crate::nn::head::DeferredGradient).
    pub fn gradients<T: Send>(
        &self,
        model: &Model,
        images: usize,
        context: impl Fn(usize) -> Context + Sync,
        loss: impl Fn(&Model, &mut Context, usize, usize) -> (Tensor<1>, T) + Sync,
        mut each: impl FnMut(f32, T) + Send,
    ) -> Result<Gradients> {
        let step = Arc::new(Step::default());
        let part = self.micro_batch_of(images);
        let parts = images.div_ceil(part);
        let sums = Tree::new(parts);
        let mut failed = None;
        self.in_order(
            parts,
            |number| {
                let first = number * part;
                let mut context = self.configured(context(first)).within(&step);
                let count = part.min(images - first);
                let (value, with, gradients) = if self.fused() {
                    by_kernels(&step, first, || loss(model, &mut context, first, count))?
                } else {
                    by_graph(model, |model| loss(model, &mut context, first, count))?
                };
                sums.put(number, gradients, Gradients::plus);
                Ok((value, with))
            },
            |result: Result<(f32, T)>| match result {
                Ok((value, with)) => each(value, with),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            },
        );
        if let Some(error) = failed {
            return Err(error);
        }
        let mut gradients = sums.root().unwrap_or_default();
        for layer in step.deferred().layers(self.precision) {
            let length = [layer.bias.len()];
            let data = TensorData::new(layer.bias, length);
            let bias = Tensor::<1>::from_data(data, &self.device);
            gradients.insert(format!("{}.kernel", layer.name), layer.kernel)?;
            gradients.insert(format!("{}.bias", layer.name), bias)?;
        }
        match step.used_twice().pop() {
            Some(name) => Err(used_twice(&name)),
            None => Ok(gradients),
        }
    }

    /// Whether the kernels compute the model, and no parameter is in Burn's graph.
    fn fused(&self) -> bool {
        !self.composed && self.device == super::device::cpu()
    }

    /// A training pass as these workers compute it.
    fn configured(&self, context: Context) -> Context {
        let context = context.in_precision(self.precision);
        if self.composed {
            context.composed()
        } else {
            context
        }
    }

    /// Does what is not a micro-batch's, such as the optimizer's step, with as many threads.
    pub fn together<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.together.install(work)
    }

    /// A model ready to answer, on images of so many rows, columns and channels.
    pub fn inference<'a>(&'a self, model: &'a Model, shape: [usize; 3]) -> Inference<'a> {
        Inference {
            workers: self,
            model,
            shape,
            step: Arc::default(),
        }
    }

    /// Logits `[image, class]` of preprocessed images, without dropout. For more than one call see
    /// [`Workers::inference`].
    pub fn infer(&self, model: &Model, images: &[f32], shape: [usize; 3]) -> Vec<f32> {
        self.inference(model, shape).logits(images)
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

/// Runs `work` in every pool at once, and returns when it is done in all of them.
fn on_each(pools: &[rayon::ThreadPool], work: &(impl Fn() + Sync)) {
    if let [pool, rest @ ..] = pools {
        pool.in_place_scope(|scope| {
            scope.spawn(|_| work());
            on_each(rest, work);
        });
    }
}

/// A model ready to answer: what is made of its weights is made once, by the first call.
pub struct Inference<'a> {
    workers: &'a Workers,
    model: &'a Model,
    shape: [usize; 3],
    step: Arc<Step>,
}

impl Inference<'_> {
    /// Logits `[image, class]` of preprocessed images, without dropout. Threads share each operation's
    /// images, so that weights come from memory once for all of them.
    pub fn logits(&self, images: &[f32]) -> Vec<f32> {
        /// Images that go through the model at once. A fixed number, for the same bits at any number of
        /// threads.
        const AT_ONCE: usize = 256;
        let Self { workers, shape, .. } = *self;
        let count = images.len() / shape.iter().product::<usize>();
        let part = |first: usize| {
            let input = workers.input(images, shape, first, AT_ONCE.min(count - first));
            let mut context = Context::inference()
                .sharing(&self.step)
                .in_precision(workers.inference);
            if workers.composed {
                context = context.composed();
            }
            Array::of(self.model.forward(input, &mut context)).values
        };
        let firsts = (0..count).step_by(AT_ONCE);
        workers.together.install(|| firsts.flat_map(part).collect())
    }
}

/// One micro-batch's loss, what came with it, and its gradients, which the kernels hand to the step.
fn by_kernels<T>(
    step: &Step,
    first_image: usize,
    loss: impl FnOnce() -> (Tensor<1>, T),
) -> Result<(f32, T, Gradients)> {
    let (loss, with) = loss();
    let value = Array::of(loss.clone()).values[0];
    drop(loss.backward());
    let mut gradients = Gradients::default();
    for (name, values) in step.take(first_image) {
        let length = [values.len()];
        let data = TensorData::new(values, length);
        gradients.insert(name, Tensor::from_data(data, &super::device::cpu()))?;
    }
    Ok((value, with, gradients))
}

/// The same by Burn's graph.
fn by_graph<T>(
    model: &Model,
    loss: impl FnOnce(&Model) -> (Tensor<1>, T),
) -> Result<(f32, T, Gradients)> {
    // Leaves of its own, on the same numbers: graphs that share a leaf would wait for each other.
    let model = params::map(model.clone(), &mut OwnLeaves);
    let (loss, with) = loss(&model);
    let value = Array::of(loss.clone()).values[0];
    let gradients = Gradients::of(&model, loss.backward())?;
    Ok((value, with, gradients))
}

struct OwnLeaves;

impl MapParameter for OwnLeaves {
    fn map<const D: usize>(&mut self, _: &str, value: Tensor<D>) -> Tensor<D> {
        value.autodiff().require_grad()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::Targets;
    use crate::train::{device, testing};

    #[test]
    fn a_weight_that_is_used_twice_is_named() {
        let recipe = testing::recipe();
        let data = testing::prepared(&recipe);
        let model = data.info.init(1, &device::cpu());
        let images = || Tensor::<4>::ones([2, 8, 8, 3], &device::cpu()).autodiff();
        let targets = Targets::Hard(vec![0, 1]);
        let workers = || Workers::new(1, 2, device::cpu()).unwrap();
        for workers in [workers(), workers().composed()] {
            let times = |times: usize, encoder: bool| {
                workers.gradients(
                    &model,
                    2,
                    |first| Context::training(1, 0, first),
                    |model, context, first, count| {
                        let mut x = model.embed(images().narrow(0, 0, count), context);
                        for _ in 0..if encoder { times } else { 1 } {
                            x = model.encode(x, context);
                        }
                        let mut logits = model.classify(x.clone(), context);
                        for _ in 1..if encoder { 1 } else { times } {
                            logits = logits + model.classify(x.clone(), context);
                        }
                        let targets = targets.slice(first, count);
                        (cross_entropy(logits, &targets, &LossConfig::default()), ())
                    },
                    |_, ()| (),
                )
            };
            assert!(times(1, true).is_ok());
            let error = times(2, true).unwrap_err();
            assert!(error.to_string().contains("used twice"), "{error}");
            assert!(error.to_string().starts_with("blocks.0."), "{error}");
            let error = times(2, false).unwrap_err();
            assert!(error.to_string().contains("used twice"), "{error}");
        }
    }
}
