//! Dense layers whose weight gradients wait for the whole batch.
//!
//! A batch goes through the model in micro-batches. The weight gradient of a layer with many
//! weights and few rows a micro-batch, as the classifier's, costs more memory traffic than
//! arithmetic when it is formed and added for each of them. Here the backward pass only keeps the
//! layer's input x and the gradient dy of its output; the kernel's gradient, xᵀ · dy over all rows, is
//! a [`DeferredGradient`], which the optimizer forms some rows at a time, and never has whole.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};
use rayon::prelude::*;
use smallvit_kernels::dense as kernels;
use smallvit_kernels::matrix::{Matrix, Operand, Precision};

use super::basic::Dense;
use super::buffer::Buffer;
use super::fused::{Flat, slice, tensor};

/// Inputs and output gradients of layers, by the layer's name and the micro-batch's first image.
#[derive(Clone, Debug, Default)]
pub struct Deferred(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// Inputs and output gradients.
    layers: BTreeMap<Place, (Flat, Flat)>,
    /// Layers that one micro-batch went through twice.
    twice: Vec<String>,
}

/// A layer's name, and the micro-batch's first image.
type Place = (String, usize);

/// Rows of a kernel's gradient that are formed at once: whole tiles of a product, few enough to stay in
/// cache until they are used.
const ROWS: usize = 48;

/// What a layer's kernel and bias get from the whole batch.
pub struct DeferredLayer {
    /// Its name.
    pub name: String,
    /// The kernel's gradient.
    pub kernel: DeferredGradient,
    /// The bias's gradient: the sum of dy over the images.
    pub bias: Vec<f32>,
}

/// A kernel's gradient that is not formed yet: xᵀ · dy over the images of a batch.
pub struct DeferredGradient {
    /// `[image, in]` of each micro-batch.
    x: Vec<Flat>,
    dy: OutputGradient,
}

/// `[image, out]`.
enum OutputGradient {
    /// Packed, for products.
    Packed(Operand<'static>),
    /// As it lies, of few images: that many, and the numbers.
    Few(usize, Vec<f32>),
}

impl OutputGradient {
    fn new(dy: Vec<f32>, output: usize, precision: Precision) -> Self {
        let rows = dy.len() / output;
        if are_few(rows, precision) {
            return Self::Few(rows, dy);
        }
        Self::Packed(precision.operand(Matrix::new(&dy, rows, output)))
    }

    fn columns(&self) -> usize {
        match self {
            Self::Packed(dy) => dy.columns(),
            Self::Few(rows, dy) => dy.len() / rows,
        }
    }
}

impl Deferred {
    /// The layers that waited, whole, for products in this precision.
    pub fn layers(&self, precision: Precision) -> Vec<DeferredLayer> {
        let mut kept = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let mut layers: BTreeMap<String, (Vec<Flat>, Vec<Flat>)> = BTreeMap::new();
        for ((name, _), (x, dy)) in std::mem::take(&mut kept.layers) {
            let (all_x, all_dy) = layers.entry(name).or_default();
            all_x.push(x);
            all_dy.push(dy);
        }
        let layer = |(name, (x, dy)): (_, (_, Vec<Flat>))| {
            let output = dy[0].shape()[1];
            let dy = dy.iter().map(slice).collect::<Vec<_>>().concat();
            let mut bias = vec![0.0; output];
            for row in dy.chunks_exact(output) {
                smallvit_kernels::math::add(&mut bias, row);
            }
            let dy = OutputGradient::new(dy, output, precision);
            let kernel = DeferredGradient { x, dy };
            DeferredLayer { name, kernel, bias }
        };
        layers.into_iter().map(layer).collect()
    }

    /// Layers that were used twice: their gradients are not to be trusted.
    pub fn used_twice(&self) -> Vec<String> {
        let kept = self.0.lock().unwrap_or_else(|e| e.into_inner());
        kept.twice.clone()
    }
}

impl DeferredGradient {
    /// How many numbers it has.
    pub fn length(&self) -> usize {
        let [input, output] = self.shape();
        input * output
    }

    /// How many numbers a part has; the last one may have fewer.
    pub fn part_length(&self) -> usize {
        ROWS * self.dy.columns()
    }

    /// The kernel's inputs and outputs.
    fn shape(&self) -> [usize; 2] {
        [self.x[0].shape()[1], self.dy.columns()]
    }

    /// Forms a part, the one that begins with number `part` times [`part_length`](Self::part_length),
    /// and gives it to `with`.
    pub fn part<T>(&self, part: usize, with: impl FnOnce(&[f32]) -> T) -> T {
        let first = part * self.part_length();
        let mut buffer = Buffer::take(self.part_length().min(self.length() - first));
        let gradient = buffer.numbers();
        let x: Vec<&[f32]> = self.x.iter().map(slice).collect();
        match &self.dy {
            OutputGradient::Packed(dy) => kernels::gradient(&x, dy, part * ROWS, gradient),
            OutputGradient::Few(rows, dy) => {
                kernels::stream_gradient(&x, dy, part * ROWS, gradient, *rows);
            }
        }
        with(gradient)
    }

    /// The whole of it, by the threads that there are.
    pub fn whole(&self) -> Vec<f32> {
        let mut whole = vec![0.0; self.length()];
        let parts = whole.par_chunks_mut(self.part_length()).enumerate();
        parts.for_each(|(number, part)| self.part(number, |values| part.copy_from_slice(values)));
        whole
    }
}

impl fmt::Debug for DeferredGradient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_tuple("DeferredGradient");
        f.field(&self.shape()).finish()
    }
}

/// x · kernel + bias; `kernel` and `bias` get no gradients but through `deferred`.
pub(super) fn dense(
    dense: &Dense,
    x: Tensor<2>,
    place: Place,
    precision: Precision,
    deferred: &Deferred,
) -> Tensor<2> {
    let (kernel, bias) = (dense.kernel.val(), bias(dense));
    let y = <Dispatch as DeferredDense>::deferred_dense(
        x.into_dispatch(),
        kernel.without_autodiff().autodiff().into_dispatch(),
        bias.without_autodiff().autodiff().into_dispatch(),
        place,
        precision,
        deferred.clone(),
    );
    Tensor::from_dispatch(y)
}

/// x · kernel + bias, without gradients.
pub(super) fn inference(dense: &Dense, x: Tensor<2>, precision: Precision) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as DeferredDense>::deferred_dense(
        x.into_dispatch(),
        dense.kernel.val().into_dispatch(),
        bias(dense).into_dispatch(),
        Default::default(),
        precision,
        Deferred::default(),
    ))
}

fn bias(dense: &Dense) -> Tensor<1> {
    let bias = dense.bias.as_ref();
    bias.expect("the classifier's layers have biases").val()
}

#[backend_extension(Flex, Autodiff)]
trait DeferredDense: Backend {
    fn deferred_dense(
        x: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        place: Place,
        precision: Precision,
        deferred: Deferred,
    ) -> FloatTensor<Self>;
}

impl DeferredDense for Flex {
    fn deferred_dense(
        x: Flat,
        kernel: Flat,
        bias: Flat,
        _: Place,
        precision: Precision,
        _: Deferred,
    ) -> Flat {
        let (x, kernel, bias) = (
            x.to_contiguous(),
            kernel.to_contiguous(),
            bias.to_contiguous(),
        );
        product(&x, &kernel, &bias, precision)
    }
}

impl<C: CheckpointStrategy> DeferredDense for Autodiff<Flex, C> {
    fn deferred_dense(
        x: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        place: Place,
        precision: Precision,
        deferred: Deferred,
    ) -> FloatTensor<Self> {
        let (x, guard) = x.into_parts();
        let x = x.to_contiguous();
        let kernel = kernel.into_primitive().to_contiguous();
        let bias = bias.into_primitive().to_contiguous();
        let y = product(&x, &kernel, &bias, precision);
        match DenseStep.prepare::<C>([guard]).compute_bound().stateful() {
            OpsKind::UnTracked(prep) => prep.finish(y),
            OpsKind::Tracked(prep) => prep.finish((x, kernel, place, precision, deferred), y),
        }
    }
}

/// x · kernel + bias, shared by the threads that there are.
fn product(x: &Flat, kernel: &Flat, bias: &Flat, precision: Precision) -> Flat {
    let rows = x.shape()[0];
    let (x, kernel, bias) = (slice(x), slice(kernel), slice(bias));
    let y = if are_few(rows, precision) {
        by_inputs(x, kernel, bias, rows)
    } else {
        by_columns(x, kernel, bias, rows, precision)
    };
    tensor(y, Shape::from([rows, bias.len()]))
}

/// Inputs that a thread takes at a time of few rows: a fixed number, for the same bits at any number of threads.
const INPUTS: usize = 512;

/// Whether the kernel's way from memory is all that counts with so many rows.
fn are_few(rows: usize, precision: Precision) -> bool {
    const FEW: usize = 4;
    rows <= FEW && precision == Precision::F32
}

/// Some inputs a thread: each reads a part of the kernel from one end to the other.
fn by_inputs(x: &[f32], kernel: &[f32], bias: &[f32], rows: usize) -> Vec<f32> {
    let output = bias.len();
    let sums: Vec<Vec<f32>> = kernel
        .par_chunks(INPUTS * output)
        .enumerate()
        .map(|(part, kernel)| {
            let mut sum = vec![0.0; rows * output];
            kernels::stream(x, kernel, part * INPUTS, &mut sum, rows);
            sum
        })
        .collect();
    let mut y = bias.repeat(rows);
    for sum in sums {
        smallvit_kernels::math::add(&mut y, &sum);
    }
    y
}

/// dy · kernelᵀ, in the same way. `scratch` has as many numbers as `dx`.
fn back_by_inputs(dy: &[f32], kernel: &[f32], dx: &mut [f32], scratch: &mut [f32], rows: usize) {
    let (input, output) = (dx.len() / rows, dy.len() / rows);
    scratch
        .par_chunks_mut(INPUTS * rows)
        .zip(kernel.par_chunks(INPUTS * output))
        .for_each(|(back, kernel)| kernels::stream_back(dy, kernel, back, rows));
    for (row, dx) in dx.chunks_exact_mut(input).enumerate() {
        for (dx, back) in dx.iter_mut().zip(scratch.chunks_exact(rows)) {
            *dx = back[row];
        }
    }
}

/// Some columns a thread: how many does not change a bit of any.
fn by_columns(
    x: &[f32],
    kernel: &[f32],
    bias: &[f32],
    rows: usize,
    precision: Precision,
) -> Vec<f32> {
    /// What a thread's columns are a multiple of.
    const COLUMNS: usize = 64;
    let output = bias.len();
    let each = output.div_ceil(rayon::current_num_threads());
    let each = each.next_multiple_of(COLUMNS);
    let strip = |first: usize| {
        let mut y = vec![0.0; rows * each.min(output - first)];
        kernels::forward(precision, x, kernel, bias, first, &mut y, rows);
        y
    };
    if each >= output {
        return strip(0);
    }
    let firsts: Vec<usize> = (0..output).step_by(each).collect();
    let strips: Vec<Vec<f32>> = firsts.into_par_iter().map(strip).collect();
    let mut y = Vec::with_capacity(rows * output);
    for row in 0..rows {
        for strip in &strips {
            let columns = strip.len() / rows;
            y.extend(&strip[row * columns..][..columns]);
        }
    }
    y
}

#[derive(Debug)]
struct DenseStep;

impl Backward<Flex, 1> for DenseStep {
    type State = (Flat, Flat, Place, Precision, Deferred);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (x, kernel, place, precision, deferred) = ops.state;
        let dy = gradients.consume::<Flex>(&ops.node).to_contiguous();
        // Behind a GELU whose input is far below 0, the gradient is next to nothing.
        let mut values = slice(&dy).to_vec();
        smallvit_kernels::math::flush(&mut values);
        let dy = tensor(values, dy.shape());
        if let [Some(parent)] = &ops.parents {
            let shape = x.shape();
            let mut dx = vec![0.0; shape.num_elements()];
            let mut scratch = Buffer::take(dx.len());
            let (rows, scratch) = (shape[0], scratch.numbers());
            let (dy, kernel) = (slice(&dy), slice(&kernel));
            if are_few(rows, precision) {
                back_by_inputs(dy, kernel, &mut dx, scratch, rows);
            } else {
                kernels::backward(precision, dy, kernel, &mut dx, scratch, rows);
            }
            gradients.register::<Flex>(parent.id, tensor(dx, shape));
        }
        let mut kept = deferred.0.lock().unwrap_or_else(|e| e.into_inner());
        let name = place.0.clone();
        if kept.layers.insert(place, (x, dy)).is_some() {
            kept.twice.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layers_gradients_are_those_of_all_its_images() {
        let (images, input, output) = (3, 2 * ROWS + 7, 5);
        let wave = |n: usize, speed: f32| -> Vec<f32> {
            (0..n).map(|i| (i as f32 * speed).sin()).collect()
        };
        let (x, dy) = (wave(images * input, 0.3), wave(images * output, 0.7));
        let piece = |values: &[f32], first: usize, count: usize, width: usize| {
            let values = values[first * width..][..count * width].to_vec();
            tensor(values, [count, width])
        };
        let deferred = Deferred::default();
        // The second micro-batch is ready first.
        for (first, count) in [(2, 1), (0, 2)] {
            let pieces = (
                piece(&x, first, count, input),
                piece(&dy, first, count, output),
            );
            let mut kept = deferred.0.lock().unwrap();
            kept.layers.insert(("layer".into(), first), pieces);
        }
        let layers = deferred.layers(Precision::F32);
        let [layer] = &layers[..] else {
            panic!("one layer: {}", layers.len());
        };
        assert_eq!(layer.name, "layer");
        assert_eq!(layer.kernel.length(), input * output);
        let whole = layer.kernel.whole();
        for i in 0..input {
            for o in 0..output {
                let product = |n: usize| x[n * input + i] * dy[n * output + o];
                let expected: f32 = (0..images).map(product).sum();
                assert!((whole[i * output + o] - expected).abs() < 1e-6);
            }
        }
        layer
            .kernel
            .part(2, |last| assert_eq!(last, &whole[2 * ROWS * output..]));
        for (o, bias) in layer.bias.iter().enumerate() {
            let expected: f32 = (0..images).map(|n| dy[n * output + o]).sum();
            assert!((bias - expected).abs() < 1e-6);
        }
        assert!(deferred.layers(Precision::F32).is_empty());
    }
}
