//! One pass through a model: whether it trains, which random numbers it draws, and what it keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use smallvit_kernels::dropout::Rate;
use smallvit_kernels::matrix::Precision;

use super::fused;
use super::step::Step;
use crate::params::first_name;
use crate::random::{self, Purpose, Stream};

/// What a model's layers need to know of the pass that they are in: one micro-batch going forward,
/// and, in training, back again.
#[derive(Default)]
pub struct Context {
    random: Option<Masks>,
    trace: Option<BTreeMap<String, Tensor<3>>>,
    step: Arc<Step>,
    trains: bool,
    composed: bool,
    precision: Precision,
}

/// Names the random numbers of a micro-batch.
#[derive(Clone, Copy)]
struct Masks {
    seed: u64,
    step: u64,
    first_image: usize,
}

impl Context {
    /// No gradients, nothing dropped.
    pub fn inference() -> Self {
        Self::default()
    }

    /// Dropout and stochastic depth are on, with the random numbers of this step (counted from the
    /// beginning of the run); `first_image` is the place of the first image in the step's batch.
    pub fn training(seed: u64, step: u64, first_image: usize) -> Self {
        Self {
            random: Some(Masks {
                seed,
                step,
                first_image,
            }),
            ..Self::default()
        }
    }

    /// Shares with the other micro-batches of a step what is made of the weights once, and hands
    /// it the gradients: without a step the kernels run only where no gradients are asked for.
    pub fn within(mut self, step: &Arc<Step>) -> Self {
        self.step = step.clone();
        self.trains = self.random.is_some();
        self
    }

    /// Shares with other passes of the same model what is made of its weights once.
    pub fn sharing(mut self, step: &Arc<Step>) -> Self {
        self.step = step.clone();
        self
    }

    /// Products by the kernels in this precision; composed operations stay in float32.
    pub fn in_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// By the backend's own operations alone, without this project's kernels.
    pub fn composed(mut self) -> Self {
        self.composed = true;
        self
    }

    /// Keeps every named intermediate; only composed operations have them.
    pub fn traced(mut self) -> Self {
        self.trace = Some(BTreeMap::new());
        self.composed()
    }

    /// What [`Context::traced`] kept, by name: a layer's path for what goes out of it, and below it
    /// what is inside, as `embedding.patches`; each `[image, token, channel]`.
    pub fn into_trace(self) -> BTreeMap<String, Tensor<3>> {
        self.trace.unwrap_or_default()
    }

    /// Whether intermediates are kept.
    pub(super) fn is_traced(&self) -> bool {
        self.trace.is_some()
    }

    /// Keeps an intermediate, where they are kept.
    pub(super) fn keep(&mut self, name: impl FnOnce() -> String, value: &Tensor<3>) {
        if let Some(trace) = &mut self.trace {
            trace.insert(name(), value.clone());
        }
    }

    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    /// The step that the pass belongs to.
    pub(super) fn step(&self) -> &Arc<Step> {
        &self.step
    }

    /// Whether the step takes gradients.
    pub(super) fn trains(&self) -> bool {
        self.trains
    }

    /// Notes that a layer is computed by composed operations, once for each micro-batch.
    pub(super) fn note_use(&self, layer: &str) {
        if self.trains {
            self.step.note_use(self.first_image(), layer);
        }
    }

    /// The place of the first image in the step's batch.
    pub(super) fn first_image(&self) -> usize {
        self.random.map_or(0, |masks| masks.first_image)
    }

    /// Whether what follows on `x` is computed by this project's kernels: on the CPU, unless
    /// composed operations were asked for, or gradients without a [step](Context::within) to take
    /// them.
    pub(super) fn fuses<const D: usize>(&self, x: &Tensor<D>) -> bool {
        !self.composed && fused::can(x) && (self.trains || !x.is_autodiff())
    }

    /// The keys of a site's random numbers in this pass: one an image, or none where nothing is
    /// dropped.
    ///
    /// They are a function of (seed, step, the site's name, image): adding a layer, or cutting the
    /// batch in another way, leaves all others as they were.
    pub(super) fn keys(&self, site: &str, images: usize) -> Option<Vec<u64>> {
        let masks = self.random?;
        let site = random::name_key(&first_name(site));
        let key = Stream::new(masks.seed, Purpose::Dropout, masks.step, site).key();
        let images = masks.first_image..masks.first_image + images;
        Some(images.map(|image| random::at(key, image as u64)).collect())
    }

    /// Dropout (Srivastava and others, 2014), inverted: in training, each element is 0 with
    /// probability `rate` and otherwise divided by 1 − `rate`; else nothing happens.
    ///
    /// The first axis is the image. The probability is met to 1 / 65,536.
    pub(super) fn dropout<const D: usize>(&self, x: Tensor<D>, rate: f64, site: &str) -> Tensor<D> {
        let shape = x.dims();
        self.masked(x, shape, rate, site)
    }

    /// Stochastic depth (Huang and others, arXiv 1603.09382): in training an image's branch is 0
    /// with probability `rate`, and otherwise divided by 1 − `rate`.
    pub(super) fn stochastic_depth(&self, x: Tensor<3>, rate: f64, site: &str) -> Tensor<3> {
        let shape = [x.dims()[0], 1, 1];
        self.masked(x, shape, rate, site)
    }

    /// Times a site's mask of this shape, an image's from the image's key.
    fn masked<const D: usize>(
        &self,
        x: Tensor<D>,
        shape: [usize; D],
        rate: f64,
        site: &str,
    ) -> Tensor<D> {
        let rate = Rate::new(rate);
        let Some(keys) = self.keys(site, shape[0]).filter(|_| !rate.is_zero()) else {
            return x;
        };
        let elements: usize = shape[1..].iter().product();
        let mut mask = vec![0.0; shape[0] * elements];
        for (key, mask) in keys.into_iter().zip(mask.chunks_exact_mut(elements)) {
            rate.mask(key, 0, mask);
        }
        let mask: Tensor<D> = Tensor::from_data(TensorData::new(mask, shape), &x.device());
        x * mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn a_mask_drops_what_it_should_and_is_this_programs_generator() {
        let mut long = vec![0.0; 400_000];
        Rate::new(0.1).mask(99, 0, &mut long);
        let kept = long.iter().filter(|&&m| m > 0.0).count() as f64 / 400_000.0;
        // Deviation of the mean: 0.0005; five of them.
        assert!((kept - 0.9).abs() < 0.0025, "{kept}");
        for counter in 0..100 {
            assert_eq!(
                smallvit_kernels::dropout::bits(99, counter),
                random::at(99, counter)
            );
        }
    }

    #[test]
    fn dropout_does_not_depend_on_how_a_batch_is_cut_but_on_the_site() {
        let device = Device::flex();
        let drop = |first, images, site: &str| {
            let ones = Tensor::<2>::ones([images, 10], &device);
            let context = Context::training(1, 2, first);
            let dropped = context.dropout(ones, 0.5, site);
            dropped.into_data().try_into_vec::<f32>().unwrap()
        };
        let parts = [drop(0, 2, "a"), drop(2, 3, "a")].concat();
        assert_eq!(drop(0, 5, "a"), parts);
        assert_ne!(drop(0, 5, "a"), drop(0, 5, "b"));
    }
}
