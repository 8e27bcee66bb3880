//! The tokenizer. Images get no gradients.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};
use smallvit_kernels::matrix::Precision;
use smallvit_kernels::tokenizer::{Parameters, Tokenizer as Kernel};

use super::{Flat, slice, tensor};
use crate::model::config::Tokenization;
use crate::model::tokenizer::Tokenizer;

/// `[image, row, column, channel]` → `[image, token, dim]`.
pub fn forward(tokenizer: &Tokenizer, images: Tensor<4>, precision: Precision) -> Tensor<3> {
    let [_, size, _, channels] = images.dims();
    let [width, dim] = tokenizer.projection.kernel.dims();
    let kernel = Kernel {
        size,
        channels,
        patch: tokenizer.patch_size,
        shifted: tokenizer.tokenization == Tokenization::Shifted,
        epsilon: tokenizer
            .layer_norm
            .as_ref()
            .map_or(0.0, |norm| norm.epsilon) as f32,
        dim,
        precision,
    };
    let device = images.device();
    let (gamma, beta) = match &tokenizer.layer_norm {
        Some(norm) => (norm.gamma.val(), norm.beta.val()),
        None => (
            Tensor::ones([width], &device),
            Tensor::zeros([width], &device),
        ),
    };
    Tensor::from_dispatch(<Dispatch as FusedTokenizer>::tokenize(
        images.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        tokenizer.projection.kernel.val().into_dispatch(),
        tokenizer.projection.bias.val().into_dispatch(),
        kernel,
    ))
}

#[backend_extension(Flex, Autodiff)]
trait FusedTokenizer: Backend {
    fn tokenize(
        images: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        what: Kernel,
    ) -> FloatTensor<Self>;
}

impl FusedTokenizer for Flex {
    fn tokenize(
        images: Flat,
        gamma: Flat,
        beta: Flat,
        kernel: Flat,
        bias: Flat,
        what: Kernel,
    ) -> Flat {
        let parameters = [gamma, beta, kernel, bias].map(|p| p.to_contiguous());
        run(&images.to_contiguous(), &parameters, &what)
    }
}

impl<C: CheckpointStrategy> FusedTokenizer for Autodiff<Flex, C> {
    fn tokenize(
        images: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        what: Kernel,
    ) -> FloatTensor<Self> {
        let images = images.into_primitive().to_contiguous();
        let parts = [gamma, beta, kernel, bias].map(|p| p.into_parts());
        let parameters = parts.each_ref().map(|(value, _)| value.to_contiguous());
        let nodes = parts.map(|(_, guard)| guard);
        let tokens = run(&images, &parameters, &what);
        match TokenizerStep.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::UnTracked(prep) => prep.finish(tokens),
            OpsKind::Tracked(prep) => prep.finish((images, parameters, what), tokens),
        }
    }
}

#[derive(Debug)]
struct TokenizerStep;

impl Backward<Flex, 4> for TokenizerStep {
    type State = (Flat, [Flat; 4], Kernel);

    fn backward(self, ops: Ops<Self::State, 4>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (images, parameters, what) = ops.state;
        let d_tokens = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let mut buffers = parameters.each_ref().map(|p| vec![0.0; slice(p).len()]);
        let mut g = by_name(buffers.each_mut().map(|buffer| &mut buffer[..]));
        let p = by_name(parameters.each_ref().map(slice));
        what.backward(&p, &mut g, slice(&images), slice(&d_tokens));
        let shapes = parameters.each_ref().map(|p| p.shape());
        for ((parent, values), shape) in ops.parents.iter().zip(buffers).zip(shapes) {
            if let Some(parent) = parent {
                gradients.register::<Flex>(parent.id, tensor(values, shape));
            }
        }
    }
}

fn by_name<T>([gamma, beta, kernel, bias]: [T; 4]) -> Parameters<T> {
    Parameters {
        gamma,
        beta,
        kernel,
        bias,
    }
}

fn run(images: &Flat, parameters: &[Flat; 4], what: &Kernel) -> Flat {
    let count = images.shape()[0];
    let shape = [count, what.tokens(), what.dim];
    let mut tokens = vec![0.0; shape.iter().product()];
    let parameters = by_name(parameters.each_ref().map(slice));
    what.forward(&parameters, slice(images), &mut tokens);
    tensor(tokens, Shape::from(shape))
}
