//! The bridge from layers to kernels: a chain of operations on one image each is one operation of
//! Burn on a micro-batch.
//!
//! To Burn it is a backend extension: the Flex backend runs the chain, image by image, and the
//! autodiff backend its hand-written backward pass. Only the images' numbers go through Burn's
//! graph; gradients of parameters are handed to the [`Step`], because a graph's node has a fixed
//! number of parents, and a chain any number of parameters. Other devices take the composed
//! operations.

use std::sync::{Arc, Mutex};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, Backend, BackendTypes, Dispatch, DispatchTensor, Flex, TensorMetadata,
    backend_extension,
};
use burn::tensor::{Device, Shape, Tensor, TensorData};
use rayon::prelude::*;
use smallvit_kernels::matrix::Precision;
use smallvit_kernels::ops::{Chain, ChainWeights, Direction, Stage, Values};

use super::buffer::Buffer;
use super::step::{Prepared, Step};
use super::{Context, Layer};
use crate::params::Array;

/// The CPU backend's tensor.
pub(super) type Flat = <Flex as BackendTypes>::FloatTensorPrimitive;

/// Whether a tensor lives where the kernels run.
pub(super) fn can<const D: usize>(x: &Tensor<D>) -> bool {
    x.device().without_autodiff() == Device::flex()
}

/// A contiguous tensor's numbers.
pub(super) fn slice(tensor: &Flat) -> &[f32] {
    tensor
        .as_slice()
        .expect("the model's tensors are 32-bit floats, and these were made contiguous")
}

/// A tensor of these numbers.
pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Flat {
    Flat::from_data(TensorData::new(values, shape.into()))
}

/// A parameter's numbers, kept as the tensor that has them.
struct Held(Flat);

impl Values for Held {
    fn values(&self) -> &[f32] {
        slice(&self.0)
    }
}

/// A parameter's numbers, where they lie.
fn hold(parameter: DispatchTensor) -> Arc<dyn Values> {
    let slot = Slot::default();
    <Dispatch as Reveal>::reveal(parameter, slot.clone());
    let tensor = slot.0.lock().unwrap_or_else(|e| e.into_inner()).take();
    Arc::new(Held(tensor.expect("the CPU's backend puts it there")))
}

/// A tensor's numbers: where they lie, if that is where the kernels run, else a copy.
pub(crate) fn held<const D: usize>(tensor: Tensor<D>) -> Arc<dyn Values> {
    match can(&tensor) {
        true => hold(tensor.without_autodiff().into_dispatch()),
        false => Arc::new(Array::of(tensor).values),
    }
}

/// Where [`Reveal`] puts a tensor.
#[derive(Clone, Default)]
struct Slot(Arc<Mutex<Option<Flat>>>);

/// Shows the backend's own tensor behind one of any backend.
#[backend_extension(Flex)]
trait Reveal: Backend {
    fn reveal(tensor: FloatTensor<Self>, slot: Slot) -> FloatTensor<Self>;
}

impl Reveal for Flex {
    fn reveal(tensor: Flat, slot: Slot) -> Flat {
        let own = tensor.to_contiguous();
        *slot.0.lock().unwrap_or_else(|e| e.into_inner()) = Some(own);
        tensor
    }
}

/// Layers one after another, `[image, row, width]` → `[image, row, width]`: as one operation where
/// the kernels run, else composed.
pub(crate) fn run(layers: &[&dyn Layer], x: Tensor<3>, context: &mut Context) -> Tensor<3> {
    if !context.fuses(&x) {
        return layers.iter().fold(x, |x, layer| {
            context.note_use(layer.path());
            layer.composed(x, context)
        });
    }
    let [images, rows, width] = x.dims();
    // All that the operations are made of, but for the model itself.
    let paths: Vec<&str> = layers.iter().map(|layer| layer.path()).collect();
    let key = format!("{} in {}", paths.join(", "), context.precision());
    let prepared = context
        .step()
        .chain(&key, || prepare(layers, context.precision()));
    let sizes = prepared.chain.sizes();
    assert_eq!((rows, width), (sizes.rows_in, sizes.width_in), "{key}");
    let keys = keys(&prepared.sites, images, context);
    // A node of the graph has a tracked parent, or no backward pass: images, which have no
    // gradient, are leaves.
    let input_gradient = x.is_tracked();
    let x = if context.trains() && !input_gradient {
        x.autodiff().require_grad()
    } else {
        x
    };
    let call = Call {
        prepared,
        keys,
        step: context.step().clone(),
        first_image: context.first_image(),
        input_gradient,
    };
    let y = <Dispatch as ImageChain>::image_chain(x.into_dispatch(), call);
    Tensor::from_dispatch(y)
}

/// The layers' operations as a chain, with their parameters' values and all full names.
fn prepare(layers: &[&dyn Layer], precision: Precision) -> Prepared {
    let ops = layers.iter().map(|layer| layer.operation(precision));
    let chain = Chain::new(ops.collect());
    let (mut names, mut values, mut sites) = (vec![], vec![], vec![]);
    for ((layer, specs), of_layer) in layers.iter().zip(chain.parameters()).zip(chain.sites()) {
        let full = |leaf: &str| format!("{}.{leaf}", layer.path());
        let own = layer.parameters();
        // Two of one shape in each other's places would train, wrongly.
        let order = own.iter().map(|(name, _)| *name);
        assert!(order.eq(specs.iter().map(|spec| spec.name)));
        names.extend(own.iter().map(|(name, _)| full(name)));
        values.extend(own.into_iter().map(|(_, value)| hold(value)));
        sites.extend(of_layer.iter().map(|site| full(site)));
    }
    Prepared::new(chain, values, names, sites)
}

/// Of each image, the keys of all sites; none where nothing is dropped.
fn keys(sites: &[String], images: usize, context: &Context) -> Option<Vec<Vec<u64>>> {
    let mut of_images = vec![vec![]; images];
    for site in sites {
        let keys = context.keys(site, images)?;
        for (of_image, key) in of_images.iter_mut().zip(keys) {
            of_image.push(key);
        }
    }
    (!sites.is_empty()).then_some(of_images)
}

/// One use of a chain.
#[derive(Clone, Debug)]
struct Call {
    prepared: Arc<Prepared>,
    /// Of each image, those of all sites.
    keys: Option<Vec<Vec<u64>>>,
    step: Arc<Step>,
    first_image: usize,
    /// Whether anybody wants the gradient of what comes in.
    input_gradient: bool,
}

impl Call {
    fn keys(&self, image: usize) -> Option<&[u64]> {
        self.keys.as_ref().map(|keys| &keys[image][..])
    }

    fn output(&self, images: usize) -> Shape {
        let sizes = self.prepared.chain.sizes();
        Shape::from([images, sizes.rows_out, sizes.width_out])
    }
}

/// A chain as an operation.
#[backend_extension(Flex, Autodiff)]
trait ImageChain: Backend {
    /// `x`, `[image, row, width]`, through the chain.
    fn image_chain(x: FloatTensor<Self>, call: Call) -> FloatTensor<Self>;
}

impl ImageChain for Flex {
    fn image_chain(x: Flat, call: Call) -> Flat {
        let x = x.to_contiguous();
        if call.keys.is_some() {
            let kept = call.prepared.chain.sizes().kept * x.shape()[0];
            return forward(&x, &call, &mut Buffer::take(kept));
        }
        infer(&x, &call)
    }
}

impl<C: CheckpointStrategy> ImageChain for Autodiff<Flex, C> {
    fn image_chain(x: FloatTensor<Self>, call: Call) -> FloatTensor<Self> {
        let (x, guard) = x.into_parts();
        let x = x.to_contiguous();
        let mut kept = Buffer::take(call.prepared.chain.sizes().kept * x.shape()[0]);
        let y = forward(&x, &call, &mut kept);
        match ChainStep.prepare::<C>([guard]).compute_bound().stateful() {
            OpsKind::UnTracked(prep) => prep.finish(y),
            OpsKind::Tracked(prep) => {
                let state = Saved {
                    call,
                    x,
                    kept: Arc::new(kept),
                };
                prep.finish(state, y)
            }
        }
    }
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Debug)]
struct Saved {
    call: Call,
    x: Flat,
    kept: Arc<Buffer>,
}

#[derive(Debug)]
struct ChainStep;

impl Backward<Flex, 1> for ChainStep {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let dy = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let dx = backward(&ops.state, &dy);
        if let ([Some(parent)], Some(dx)) = (&ops.parents, dx) {
            gradients.register::<Flex>(parent.id, dx);
        }
    }
}

/// The forward pass, which fills `kept` for the backward pass.
fn forward(x: &Flat, call: &Call, kept: &mut Buffer) -> Flat {
    let chain = &call.prepared.chain;
    let weights = call.prepared.weights(Direction::Forward);
    let sizes = chain.sizes();
    let images = x.shape()[0];
    let mut y = vec![0.0; images * sizes.output()];
    let mut scratch = Buffer::take(sizes.scratch);
    let kept = kept.numbers();
    for (number, x) in slice(x).chunks_exact(sizes.input()).enumerate() {
        let y = &mut y[number * sizes.output()..][..sizes.output()];
        let kept = &mut kept[number * sizes.kept..][..sizes.kept];
        let keys = call.keys(number);
        chain.forward(weights, x, y, kept, keys, scratch.numbers());
    }
    tensor(y, call.output(images))
}

/// The backward pass: parameters' gradients go to the step, the input's is returned, if anybody
/// wants it.
fn backward(saved: &Saved, dy: &Flat) -> Option<Flat> {
    let Saved { call, x, .. } = saved;
    let chain = &call.prepared.chain;
    let weights = call.prepared.weights(Direction::Backward);
    let sizes = chain.sizes();
    let mut sums = chain.sums();
    let skipped = !call.input_gradient && chain.skips_input_gradient();
    let mut dx = match skipped {
        true => vec![],
        false => vec![0.0; slice(x).len()],
    };
    let mut scratch = Buffer::take(sizes.scratch);
    let images = slice(x)
        .chunks_exact(sizes.input())
        .zip(slice(dy).chunks_exact(sizes.output()));
    for (number, (x, dy)) in images.enumerate() {
        let kept = &saved.kept.get()[number * sizes.kept..][..sizes.kept];
        let dx = match dx.is_empty() {
            true => &mut [][..],
            false => &mut dx[number * sizes.input()..][..sizes.input()],
        };
        let (keys, scratch) = (call.keys(number), scratch.numbers());
        chain.backward(weights, &mut sums, x, kept, dy, dx, keys, scratch);
    }
    let gradients = chain.gradients(weights, sums);
    for (name, gradient) in call.prepared.parameters.iter().zip(gradients) {
        call.step.hand_over(call.first_image, name, gradient);
    }
    call.input_gradient.then(|| tensor(dx, x.shape()))
}

/// The pass without a backward pass. Threads share the rows of few images.
fn infer(x: &Flat, call: &Call) -> Flat {
    /// Fewer images than these are cut into portions, which threads share.
    const FEW: usize = 8;
    /// Rows of a portion, about. A fixed number, for the same bits at any number of threads.
    const ROWS: usize = 32;
    let chain = &call.prepared.chain;
    let weights = call.prepared.weights(Direction::Forward);
    let sizes = chain.sizes();
    let images = x.shape()[0];
    let stages = chain.stages();
    let mut y = vec![0.0; images * sizes.output()];
    // Threads share images, or the rows of each of few.
    let few = images < FEW;
    let portions = |rows: usize| if few { (rows / ROWS).max(1) } else { 1 };
    let image = |(x, y)| infer_image(chain, &stages, weights, portions, x, y);
    let inputs = slice(x);
    if few {
        let outputs = y.chunks_exact_mut(sizes.output());
        inputs
            .chunks_exact(sizes.input())
            .zip(outputs)
            .for_each(image);
    } else {
        let outputs = y.par_chunks_exact_mut(sizes.output());
        inputs
            .par_chunks_exact(sizes.input())
            .zip(outputs)
            .for_each(image);
    }
    tensor(y, call.output(images))
}

/// One image through all stages, each in as many portions as `portions` makes of its rows.
fn infer_image(
    chain: &Chain,
    stages: &[Stage],
    weights: &ChainWeights,
    portions: impl Fn(usize) -> usize,
    x: &[f32],
    y: &mut [f32],
) {
    let mut between: Option<Buffer> = None;
    let mut shared = Buffer::take(0);
    for (number, stage) in stages.iter().enumerate() {
        let mut to_share = Buffer::take(stage.rows * stage.shared);
        let rows = stage.rows.div_ceil(portions(stage.rows));
        let x = between.as_ref().map_or(x, |between| between.get());
        if number + 1 == stages.len() {
            run_stage(chain, stage, weights, rows, x, &shared, y, &mut to_share);
        } else {
            let mut out = Buffer::take(stage.rows * stage.width);
            let to = out.numbers();
            run_stage(chain, stage, weights, rows, x, &shared, to, &mut to_share);
            if stage.width > 0 {
                between = Some(out);
            }
        }
        shared = to_share;
    }
}

/// A stage of the chain, `rows` at a time.
#[expect(clippy::too_many_arguments, reason = "two things in, two things out")]
fn run_stage(
    chain: &Chain,
    stage: &Stage,
    weights: &ChainWeights,
    rows: usize,
    x: &[f32],
    shared: &Buffer,
    y: &mut [f32],
    to_share: &mut Buffer,
) {
    let scratch = chain.inference_scratch(stage, rows);
    let portion = |(number, (y, to_share)): (usize, (&mut [f32], &mut [f32]))| {
        let first = number * rows;
        let rows = rows.min(stage.rows - first);
        let mut scratch = Buffer::take(scratch);
        let (shared, scratch) = (shared.get(), scratch.numbers());
        chain.infer(stage, weights, x, shared, first, rows, y, to_share, scratch);
    };
    let portions = stage.rows.div_ceil(rows);
    let y = chunks(y, rows * stage.width, portions);
    let to_share = chunks(to_share.numbers(), rows * stage.shared, portions);
    y.into_par_iter()
        .zip(to_share)
        .enumerate()
        .for_each(portion);
}

/// So many parts of this length, or as many empty ones; the last may be shorter.
fn chunks(values: &mut [f32], length: usize, count: usize) -> Vec<&mut [f32]> {
    match length {
        0 => (0..count).map(|_| &mut [][..]).collect(),
        _ => values.chunks_mut(length).collect(),
    }
}
