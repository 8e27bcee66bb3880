//! The encoder block. Dropout masks are those of the composed operations, by the same keys.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, Backend, Dispatch, ExtensionType, Flex, TensorMetadata, backend_extension,
};
use burn::tensor::Tensor;
use rayon::prelude::*;
use smallvit_kernels::attention::Attention;
use smallvit_kernels::block::{Block, Keys, Parameters};
use smallvit_kernels::dropout::Rate;

use super::{Buffer, Flat, slice, tensor};
use crate::model::Pass;
use crate::model::encoder::EncoderBlock;

/// The block, whose MLP must have two layers, on `[image, token, dim]`.
pub fn forward(block: &EncoderBlock, x: Tensor<3>, pass: &mut Pass) -> Tensor<3> {
    let [images, tokens, dim] = x.dims();
    let EncoderBlock {
        layer_norm1,
        attention,
        layer_norm2,
        mlp,
    } = block;
    let [first, second] = &mlp.layers[..] else {
        unreachable!("the caller asks for two layers");
    };
    let scale = match &attention.tau {
        Some(tau) => tau.val().recip().expand([attention.heads]),
        None => Tensor::full(
            [attention.heads],
            1.0 / (attention.key_dim as f32).sqrt(),
            &x.device(),
        ),
    };
    // One product for all three.
    let qkv = [&attention.query, &attention.key, &attention.value];
    let kernel = Tensor::cat(qkv.map(|dense| dense.kernel.val()).into(), 1);
    let bias = Tensor::cat(qkv.map(|dense| dense.bias.val()).into(), 0);
    let mut keys = || pass.dropout_keys(images);
    let keys = match (keys(), keys(), keys()) {
        (Some(attention), Some(mlp1), Some(mlp2)) => attention
            .into_iter()
            .zip(mlp1)
            .zip(mlp2)
            .map(|((attention, mlp1), mlp2)| Keys {
                attention,
                mlp1,
                mlp2,
            })
            .collect(),
        _ => vec![],
    };
    let what = Block {
        attention: Attention {
            tokens,
            heads: attention.heads,
            key_dim: attention.key_dim,
            mask_diagonal: attention.tau.is_some(),
            dropout: Rate::new(attention.dropout),
            precision: pass.precision(),
        },
        dim,
        hidden: first.bias.dims()[0],
        second_gelu: true,
        epsilon: layer_norm1.epsilon as f32,
        dropout: Rate::new(mlp.dropout),
    };
    let tensors = BlockTensors {
        gamma1: layer_norm1.gamma.val().into_dispatch(),
        beta1: layer_norm1.beta.val().into_dispatch(),
        qkv_kernel: kernel.into_dispatch(),
        qkv_bias: bias.into_dispatch(),
        scale: scale.into_dispatch(),
        out_kernel: attention.output.kernel.val().into_dispatch(),
        out_bias: attention.output.bias.val().into_dispatch(),
        gamma2: layer_norm2.gamma.val().into_dispatch(),
        beta2: layer_norm2.beta.val().into_dispatch(),
        mlp1_kernel: first.kernel.val().into_dispatch(),
        mlp1_bias: first.bias.val().into_dispatch(),
        mlp2_kernel: second.kernel.val().into_dispatch(),
        mlp2_bias: second.bias.val().into_dispatch(),
    };
    let y = <Dispatch as FusedBlock>::encoder_block(x.into_dispatch(), tensors, what, keys);
    Tensor::from_dispatch(y)
}

/// The parameters of a block, in the kernel's order.
#[derive(ExtensionType)]
pub struct BlockTensors<B: Backend> {
    gamma1: FloatTensor<B>,
    beta1: FloatTensor<B>,
    qkv_kernel: FloatTensor<B>,
    qkv_bias: FloatTensor<B>,
    scale: FloatTensor<B>,
    out_kernel: FloatTensor<B>,
    out_bias: FloatTensor<B>,
    gamma2: FloatTensor<B>,
    beta2: FloatTensor<B>,
    mlp1_kernel: FloatTensor<B>,
    mlp1_bias: FloatTensor<B>,
    mlp2_kernel: FloatTensor<B>,
    mlp2_bias: FloatTensor<B>,
}

const PARAMETERS: usize = 13;

impl<B: Backend> BlockTensors<B> {
    fn into_array(self) -> [FloatTensor<B>; PARAMETERS] {
        [
            self.gamma1,
            self.beta1,
            self.qkv_kernel,
            self.qkv_bias,
            self.scale,
            self.out_kernel,
            self.out_bias,
            self.gamma2,
            self.beta2,
            self.mlp1_kernel,
            self.mlp1_bias,
            self.mlp2_kernel,
            self.mlp2_bias,
        ]
    }
}

fn by_name<T>(
    [g1, b1, qkv, qkv_bias, scale, ok, ob, g2, b2, k1, c1, k2, c2]: [T; PARAMETERS],
) -> Parameters<T> {
    Parameters {
        gamma1: g1,
        beta1: b1,
        qkv_kernel: qkv,
        qkv_bias,
        scale,
        out_kernel: ok,
        out_bias: ob,
        gamma2: g2,
        beta2: b2,
        mlp1_kernel: k1,
        mlp1_bias: c1,
        mlp2_kernel: k2,
        mlp2_bias: c2,
    }
}

/// The block as an operation.
#[backend_extension(Flex, Autodiff)]
pub trait FusedBlock: Backend {
    /// `x`, `[image, token, dim]` → the same shape. There are as many `keys` as images, or none
    /// where nothing is dropped.
    fn encoder_block(
        x: FloatTensor<Self>,
        #[extension_type] parameters: BlockTensors<Self>,
        block: Block,
        keys: Vec<Keys>,
    ) -> FloatTensor<Self>;
}

impl FusedBlock for Flex {
    fn encoder_block(
        x: Flat,
        parameters: BlockTensors<Self>,
        block: Block,
        keys: Vec<Keys>,
    ) -> Flat {
        let parameters = parameters.into_array().map(|p| p.to_contiguous());
        infer(&x.to_contiguous(), &parameters, &block, &keys)
    }
}

impl<C: CheckpointStrategy> FusedBlock for Autodiff<Flex, C> {
    fn encoder_block(
        x: FloatTensor<Self>,
        parameters: BlockTensors<Self>,
        block: Block,
        keys: Vec<Keys>,
    ) -> FloatTensor<Self> {
        let (x, x_guard) = x.into_parts();
        let x = x.to_contiguous();
        let parts = parameters.into_array().map(|p| p.into_parts());
        let parameters = parts.each_ref().map(|(value, _)| value.to_contiguous());
        let mut guards = parts.into_iter().map(|(_, guard)| guard);
        let mut x_guard = Some(x_guard);
        let nodes: [_; PARAMETERS + 1] = std::array::from_fn(|_| {
            let guard = x_guard.take().or_else(|| guards.next());
            guard.expect("there is a guard an input")
        });
        match BlockStep.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::UnTracked(prep) => prep.finish(infer(&x, &parameters, &block, &keys)),
            OpsKind::Tracked(prep) => {
                let mut saved = Buffer::take(block.saved() * x.shape()[0]);
                let y = forward_and_save(&x, &parameters, &block, &keys, &mut saved.0);
                let state = Saved {
                    block,
                    keys,
                    x,
                    parameters,
                    saved: Arc::new(saved),
                };
                prep.finish(state, y)
            }
        }
    }
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Debug)]
struct Saved {
    block: Block,
    keys: Vec<Keys>,
    x: Flat,
    parameters: [Flat; PARAMETERS],
    saved: Arc<Buffer>,
}

#[derive(Debug)]
struct BlockStep;

impl Backward<Flex, { PARAMETERS + 1 }> for BlockStep {
    type State = Saved;

    fn backward(
        self,
        ops: Ops<Saved, { PARAMETERS + 1 }>,
        gradients: &mut Gradients,
        _: &mut Checkpointer,
    ) {
        let dy = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let (dx, d_parameters) = backward(&ops.state, &dy);
        let all = std::iter::once(dx).chain(d_parameters);
        for (parent, gradient) in ops.parents.iter().zip(all) {
            if let Some(parent) = parent {
                gradients.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

/// The forward pass, which fills `saved` for the backward pass.
fn forward_and_save(
    x: &Flat,
    parameters: &[Flat; PARAMETERS],
    block: &Block,
    keys: &[Keys],
    saved: &mut [f32],
) -> Flat {
    let parameters = by_name(parameters.each_ref().map(slice));
    let weights = block.weights(&parameters);
    let values = slice(x);
    let image = block.attention.tokens * block.dim;
    let mut y = vec![0.0; values.len()];
    let mut scratch = Buffer::take(block.scratch());
    let images = values.chunks_exact(image).zip(y.chunks_exact_mut(image));
    for (number, ((x, y), saved)) in images
        .zip(saved.chunks_exact_mut(block.saved()))
        .enumerate()
    {
        let keys = keys.get(number).copied();
        block.forward(&weights, x, y, saved, keys, &mut scratch.0);
    }
    tensor(y, x.shape())
}

/// The forward pass alone.
fn infer(x: &Flat, parameters: &[Flat; PARAMETERS], block: &Block, keys: &[Keys]) -> Flat {
    /// Fewer images than these are cut into parts, which threads share.
    const FEW: usize = 8;
    /// Tokens of a part, about. A fixed number, for the same bits at any number of threads.
    const PART: usize = 32;
    if !keys.is_empty() {
        let mut unused = Buffer::take(block.saved() * x.shape()[0]);
        return forward_and_save(x, parameters, block, keys, &mut unused.0);
    }
    let parameters = by_name(parameters.each_ref().map(slice));
    let weights = block.weights(&parameters);
    let values = slice(x);
    let tokens = block.attention.tokens;
    let parts = if x.shape()[0] < FEW {
        (tokens / PART).max(1)
    } else {
        1
    };
    let rows = tokens.div_ceil(parts);
    let scratch = block.inference_scratch(rows);
    let (part, width) = (rows * block.dim, 3 * block.attention.inner());
    let mut y = vec![0.0; values.len()];
    let mut qkv = Buffer::take(tokens * width);
    let image = tokens * block.dim;
    for (x, y) in values.chunks_exact(image).zip(y.chunks_exact_mut(image)) {
        let project = |(x, qkv): (&[f32], &mut [f32])| {
            block.project(&weights, x, qkv, &mut Buffer::take(scratch).0);
        };
        x.par_chunks(part)
            .zip(qkv.0.par_chunks_mut(rows * width))
            .for_each(project);
        let finish = |(number, (x, y)): (usize, (&[f32], &mut [f32]))| {
            let room = &mut Buffer::take(scratch).0;
            block.finish(&weights, &qkv.0, number * rows, x, y, room);
        };
        x.par_chunks(part)
            .zip(y.par_chunks_mut(part))
            .enumerate()
            .for_each(finish);
    }
    tensor(y, x.shape())
}

fn backward(state: &Saved, dy: &Flat) -> (Flat, [Flat; PARAMETERS]) {
    let Saved { block, keys, x, .. } = state;
    let parameters = by_name(state.parameters.each_ref().map(slice));
    let weights = block.transposed(&parameters);
    let mut buffers = state
        .parameters
        .each_ref()
        .map(|p| vec![0.0f32; p.shape().num_elements()]);
    let mut gradients = by_name(buffers.each_mut().map(|b| &mut b[..]));
    let image = block.attention.tokens * block.dim;
    let mut dx = vec![0.0; slice(x).len()];
    let mut scratch = Buffer::take(block.scratch());
    let images = slice(x)
        .chunks_exact(image)
        .zip(slice(dy).chunks_exact(image));
    for (number, ((x, dy), dx)) in images.zip(dx.chunks_exact_mut(image)).enumerate() {
        let saved = &state.saved.0[number * block.saved()..][..block.saved()];
        let keys = keys.get(number).copied();
        block.backward(
            &weights,
            &mut gradients,
            x,
            saved,
            dy,
            dx,
            keys,
            &mut scratch.0,
        );
    }
    let mut shapes = state.parameters.each_ref().map(|p| p.shape()).into_iter();
    let gradients = buffers.map(|values| {
        let shape = shapes.next().expect("there is a shape a parameter");
        tensor(values, shape)
    });
    (tensor(dx, x.shape()), gradients)
}
