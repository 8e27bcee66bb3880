//! The fused operations against the composed ones, over random shapes, with dropout on.
//!
//! Left out are shapes whose layer normalisations are of numbers that are equal or only two or
//! three: there float32 itself has no digits to agree on.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::*;
use smallvit::augment::Targets;
use smallvit::augment::loader::Batch;
use smallvit::models::{
    Architecture, CaitConfig, Family, HybridConfig, HybridPool, Model, ModelConfig, ModelName,
    PitConfig, Pool, SelfScores, SwinConfig, T2tConfig, Temperature, VitConfig,
};
use smallvit::nn::Context;
use smallvit::params::{self, Array, MapParameter};
use smallvit::random::{Purpose, Stream};
use smallvit::train::gradients::Gradients;
use smallvit::train::metrics::{LossConfig, cross_entropy};
use smallvit::train::workers::Workers;
use smallvit_kernels::matrix::Precision;

/// Leaves that require gradients, moved off their initial values so that no gradient is zero by
/// symmetry.
struct Leaves(Stream);

impl MapParameter for Leaves {
    fn map<const D: usize>(&mut self, _: &str, value: Tensor<D>) -> Tensor<D> {
        let shape = value.dims();
        let mut values = Array::of(value).values;
        values
            .iter_mut()
            .for_each(|v| *v += self.0.uniform(-0.1, 0.1));
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }
}

struct Track;

/// A family's model of these sizes.
fn sized(config: impl Into<Architecture>) -> ModelConfig {
    ModelConfig {
        arch: config.into(),
        ..ModelConfig::default()
    }
}

/// The ideas of one of the first four names, in another family.
fn ideas(number: usize, family: Family) -> ModelName {
    ModelName {
        family,
        ..ModelName::ALL[number]
    }
}

impl MapParameter for Track {
    fn map<const D: usize>(&mut self, _: &str, value: Tensor<D>) -> Tensor<D> {
        value.autodiff().require_grad()
    }
}

fn agree(found: &[f32], expected: &[f32], scale: f32) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        // Two orders of adding up some hundred to thousand products in float32; what is 0 in theory
        // (a key's bias moves all scores of a query alike) is noise of 1e-7 in both.
        prop_assert!((a - b).abs() <= 5e-4 * scale.max(1e-2), "{} {}", a, b);
    }
    Ok(())
}

/// A model of fresh weights by kernels and by composed operations: loss, logits and gradients in
/// training, logits without.
fn compare(
    config: &ModelConfig,
    channels: usize,
    images: usize,
    micro_batch: usize,
    seed: u64,
) -> Result<(), TestCaseError> {
    config.check().unwrap();
    let size = config.image_size();
    let mut stream = Stream::new(seed, Purpose::Show, 0, 0);
    let batch = Batch {
        images: (0..images * size * size * channels)
            .map(|_| stream.uniform(-2.0, 2.0))
            .collect(),
        targets: Targets::Hard((0..images as u32).map(|i| i % 5).collect()),
    };
    let model = params::map(
        Model::new(config, channels, 5, seed, &Device::flex()),
        &mut Leaves(stream),
    );

    let workers = Workers::new(2, micro_batch, Device::flex()).unwrap();
    let fused = workers
        .train(
            &model,
            &batch,
            [size, size, channels],
            &LossConfig::smoothed(0.1),
            seed,
            3,
        )
        .unwrap();

    let tracked = params::map(model.clone(), &mut Track);
    let data = TensorData::new(batch.images.clone(), [images, size, size, channels]);
    let input = Tensor::<4>::from_data(data, &Device::flex()).autodiff();
    let mut context = Context::training(seed, 3, 0).composed();
    let logits = tracked.forward(input, &mut context);
    let loss = cross_entropy(logits.clone(), &batch.targets, &LossConfig::smoothed(0.1));
    let expected_loss = Array::of(loss.clone()).values;
    let expected = Gradients::of(&tracked, loss.backward()).unwrap();

    agree(&[fused.loss as f32], &expected_loss, 1.0)?;
    agree(&fused.logits, &Array::of(logits).values, 1.0)?;
    let mut found: BTreeMap<_, _> = fused.gradients.formed().collect();
    prop_assert_eq!(found.len(), expected.len());
    for (name, expected) in expected.formed() {
        let expected = Array::of(expected).values;
        let scale = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        agree(
            &Array::of(found.remove(&name).unwrap()).values,
            &expected,
            scale,
        )?;
    }
    // Without dropout and gradients, too.
    let found = workers.infer(&model, &batch.images, [size, size, channels]);
    let data = TensorData::new(batch.images, [images, size, size, channels]);
    let input = Tensor::<4>::from_data(data, &Device::flex());
    let logits = model.forward(input, &mut Context::inference().composed());
    agree(&found, &Array::of(logits).values, 1.0)?;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fused_and_composed_agree(
        model in 0usize..4,
        patch_size in 2usize..6,
        grid in 2usize..5,
        channels in prop_oneof![Just(1usize), Just(3)],
        dim in 4usize..20,
        depth in 1usize..3,
        heads in 1usize..4,
        key_dim in 1usize..12,
        hidden in 1usize..30,
        images in 1usize..7,
        micro_batch in 1usize..5,
        dropout in prop_oneof![Just(0.0), Just(0.3)],
        seed in 0u64..1000,
        pool in prop_oneof![
            Just(Pool::Flatten),
            Just(Pool::Class),
            Just(Pool::Mean),
            Just(Pool::Sequence),
        ],
        temperature in prop_oneof![Just(Temperature::Layer), Just(Temperature::Head)],
        // A second GELU, biases of queries, keys and values, relative positions, LayerScale,
        // stochastic depth.
        switches in 0u32..32,
    ) {
        let switch = |number: u32| switches & 1 << number != 0;
        let config = sized(VitConfig {
            image_size: patch_size * grid,
            patch_size,
            dim,
            depth,
            heads,
            key_dim,
            mlp_width: hidden,
            head: vec![8],
            dropout,
            head_dropout: dropout,
            pool,
            temperature,
            mlp_second_gelu: switch(0),
            qkv_bias: switch(1),
            relative_position: switch(2),
            layer_scale: switch(3).then_some(0.5),
            stochastic_depth: if switch(4) { 0.3 } else { 0.0 },
            // Not so small that the deviation of few numbers makes gradients explode.
            layer_norm_epsilon: 1e-2,
            ..VitConfig::default()
        })
        .named(ModelName::ALL[model]);
        compare(&config, channels, images, micro_batch, seed)?;
    }

    #[test]
    fn hybrids_fused_and_composed_agree(
        model in 0usize..4,
        (stem_patch, stem_stride) in prop_oneof![Just((3usize, 2usize)), Just((3, 1)), Just((4, 4)), Just((5, 2))],
        grid in 1usize..4,
        channels in prop_oneof![Just(1usize), Just(3)],
        dims in prop::collection::vec(2usize..6, 1..4),
        convolution_stages in 0usize..4,
        head_dim in 2usize..4,
        images in 1usize..7,
        micro_batch in 1usize..5,
        dropout in prop_oneof![Just(0.0), Just(0.3)],
        seed in 0u64..1000,
        // Relative positions, LayerScale, stochastic depth, sequence pooling, one temperature a layer.
        switches in 0u32..32,
    ) {
        let switch = |number: u32| switches & 1 << number != 0;
        let stages = dims.len();
        let config = sized(HybridConfig {
                // No smaller than the stem's convolution.
                image_size: (stem_stride * (grid + 2)) << (stages - 1),
                stem_patch,
                stem_stride,
                dims: dims.iter().map(|dim| dim * head_dim).collect(),
                depths: (0..stages).map(|stage| (dims[stage] + stage) % 3).collect(),
                expansions: (0..stages).map(|stage| 1 + stage % 2).collect(),
                convolution_stages: convolution_stages.min(stages),
                head_dim,
                relative_position: switch(0),
                layer_scale: switch(1).then_some(0.5),
                stochastic_depth: if switch(2) { 0.3 } else { 0.0 },
                pool: if switch(3) { HybridPool::Mean } else { HybridPool::Sequence },
                temperature: if switch(4) { Temperature::Layer } else { Temperature::Head },
                dropout,
                head_dropout: dropout,
                layer_norm_epsilon: 1e-2,
            });
        let config = config.named(ideas(model, Family::Hybrid));
        compare(&config, channels, images, micro_batch, seed)?;
    }

    #[test]
    fn t2ts_fused_and_composed_agree(
        model in 0usize..4,
        image_size in 5usize..14,
        soft_splits in 1usize..3,
        channels in prop_oneof![Just(1usize), Just(3)],
        token_dim in 4usize..9,
        key_dim in 2usize..6,
        heads in 2usize..4,
        depth in 1usize..3,
        second_shortcut in prop::bool::ANY,
        images in 1usize..5,
        micro_batch in 1usize..5,
        dropout in prop_oneof![Just(0.0), Just(0.3)],
        stochastic_depth in prop_oneof![Just(0.0), Just(0.3)],
        seed in 0u64..1000,
    ) {
        let config = sized(T2tConfig {
            image_size,
            soft_splits,
            token_dim,
            dim: key_dim * heads,
            depth,
            heads,
            mlp_ratio: 2,
            second_shortcut,
            dropout,
            head_dropout: dropout,
            stochastic_depth,
            layer_norm_epsilon: 1e-2,
        });
        let config = config.named(ideas(model, Family::T2t));
        compare(&config, channels, images, micro_batch, seed)?;
    }

    #[test]
    fn caits_fused_and_composed_agree(
        model in 0usize..4,
        patch_size in 2usize..5,
        grid in 2usize..4,
        channels in prop_oneof![Just(1usize), Just(3)],
        dim in 4usize..12,
        depth in 1usize..3,
        class_depth in 1usize..3,
        heads in 1usize..4,
        key_dim in 1usize..6,
        masked in prop::bool::ANY,
        images in 1usize..5,
        micro_batch in 1usize..5,
        dropout in prop_oneof![Just(0.0), Just(0.3)],
        stochastic_depth in prop_oneof![Just(0.0), Just(0.3)],
        seed in 0u64..1000,
    ) {
        let config = sized(CaitConfig {
            image_size: patch_size * grid,
            patch_size,
            dim,
            depth,
            class_depth,
            heads,
            key_dim,
            mlp_width: 2 * dim,
            self_scores: if masked { SelfScores::Masked } else { SelfScores::Zero },
            dropout,
            head_dropout: dropout,
            stochastic_depth,
            layer_norm_epsilon: 1e-2,
        });
        let config = config.named(ideas(model, Family::Cait));
        compare(&config, channels, images, micro_batch, seed)?;
    }

    #[test]
    fn pits_fused_and_composed_agree(
        model in 0usize..4,
        patch_size in 2usize..4,
        grid in 1usize..4,
        channels in prop_oneof![Just(1usize), Just(3)],
        dim in 4usize..9,
        stages in prop::collection::vec((1usize..3, 1usize..4, 1usize..3), 1..4),
        head_dim in 1usize..6,
        images in 1usize..5,
        micro_batch in 1usize..5,
        dropout in prop_oneof![Just(0.0), Just(0.3)],
        stochastic_depth in prop_oneof![Just(0.0), Just(0.3)],
        seed in 0u64..1000,
    ) {
        let mut width = dim;
        let config = sized(PitConfig {
            image_size: (patch_size * grid) << (stages.len() - 1),
            patch_size,
            dims: stages.iter().map(|(.., times)| {
                width *= times;
                width
            }).collect(),
            depths: stages.iter().map(|(depth, ..)| *depth).collect(),
            heads: stages.iter().map(|(_, heads, _)| *heads).collect(),
            head_dim,
            mlp_ratio: 2,
            dropout,
            head_dropout: dropout,
            stochastic_depth,
            layer_norm_epsilon: 1e-2,
        });
        let config = config.named(ideas(model, Family::Pit));
        compare(&config, channels, images, micro_batch, seed)?;
    }

    #[test]
    fn swins_fused_and_composed_agree(
        model in 0usize..4,
        patch_size in 2usize..4,
        window in 2usize..4,
        // Windows along a side of the last stage.
        across in 1usize..3,
        channels in prop_oneof![Just(1usize), Just(3)],
        stages in prop::collection::vec((2usize..5, 1usize..3, 1usize..4), 1..4),
        images in 1usize..5,
        micro_batch in 1usize..5,
        dropout in prop_oneof![Just(0.0), Just(0.3)],
        stochastic_depth in prop_oneof![Just(0.0), Just(0.3)],
        seed in 0u64..1000,
    ) {
        let config = sized(SwinConfig {
            image_size: (patch_size * window * across) << (stages.len() - 1),
            patch_size,
            dims: stages.iter().map(|(key_dim, heads, _)| 2 * key_dim * heads).collect(),
            depths: stages.iter().map(|(.., depth)| *depth).collect(),
            heads: stages.iter().map(|(_, heads, _)| *heads).collect(),
            window,
            mlp_ratio: 2,
            dropout,
            head_dropout: dropout,
            stochastic_depth,
            layer_norm_epsilon: 1e-2,
        });
        let config = config.named(ideas(model, Family::Swin));
        compare(&config, channels, images, micro_batch, seed)?;
    }
}

#[test]
fn bfloat16_products_stay_near_float32s_on_any_number_of_threads() {
    // With 16 tokens, and with 64, which are more than go through softmax together.
    let cases = [24, 48].map(|image_size| ModelName::ALL.map(|name| (image_size, name)));
    for (image_size, name) in cases.concat() {
        let config = match name.family {
            Family::Vit => sized(VitConfig {
                image_size,
                patch_size: 6,
                dim: 24,
                depth: 2,
                heads: 3,
                key_dim: 8,
                mlp_width: 40,
                head: vec![32],
                ..VitConfig::default()
            }),
            Family::T2t => sized(T2tConfig {
                image_size,
                token_dim: 8,
                dim: 24,
                depth: 2,
                heads: 3,
                ..T2tConfig::default()
            }),
            Family::Cait => sized(CaitConfig {
                image_size,
                patch_size: 6,
                dim: 24,
                depth: 2,
                class_depth: 1,
                heads: 3,
                key_dim: 8,
                mlp_width: 40,
                ..CaitConfig::default()
            }),
            Family::Pit => sized(PitConfig {
                image_size,
                patch_size: 6,
                dims: vec![16, 32],
                depths: vec![1, 1],
                heads: vec![2, 4],
                head_dim: 8,
                ..PitConfig::default()
            }),
            Family::Swin => sized(SwinConfig {
                image_size,
                patch_size: 6,
                dims: vec![16, 24],
                depths: vec![2, 1],
                heads: vec![2, 3],
                window: 2,
                ..SwinConfig::default()
            }),
            Family::Hybrid => sized(HybridConfig {
                image_size,
                dims: vec![16, 24],
                depths: vec![1, 2],
                head_dim: 8,
                ..HybridConfig::default()
            }),
        }
        .named(name);
        let mut stream = Stream::new(7, Purpose::Show, 0, 0);
        let images = 12;
        let batch = Batch {
            images: (0..images * image_size * image_size * 3)
                .map(|_| stream.uniform(-2.0, 2.0))
                .collect(),
            targets: Targets::Hard((0..images as u32).map(|i| i % 5).collect()),
        };
        let model = Model::new(&config, 3, 5, 7, &Device::flex());
        let model = params::map(model, &mut Leaves(stream));
        let train = |threads, precision| {
            let workers = Workers::new(threads, 4, Device::flex()).unwrap();
            let workers = workers.in_precision(precision).unwrap();
            let outcome = workers
                .train(
                    &model,
                    &batch,
                    [image_size, image_size, 3],
                    &LossConfig::smoothed(0.1),
                    7,
                    3,
                )
                .unwrap();
            let gradients: Vec<_> = outcome
                .gradients
                .formed()
                .map(|(name, gradient)| (name, Array::of(gradient).values))
                .collect();
            (outcome.loss, gradients)
        };
        let (loss, exact) = train(1, Precision::F32);
        for precision in [Precision::Bf16Emulated, Precision::Bf16AmxEmulated] {
            let (rounded_loss, rounded) = train(1, precision);
            assert!(train(2, precision).1 == rounded);
            // A number is rounded by at most 2⁻⁹ of itself.
            assert!((loss - rounded_loss).abs() < 0.02, "{loss} {rounded_loss}");
            assert_eq!(exact.len(), rounded.len());
            for ((name, exact), (_, rounded)) in exact.iter().zip(&rounded) {
                assert_eq!(exact.len(), rounded.len(), "{name}");
                let norm =
                    |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>();
                let size = norm(&mut exact.iter().copied()).sqrt();
                let apart = norm(&mut exact.iter().zip(rounded).map(|(a, b)| a - b)).sqrt();
                // A temperature's is one number, a difference of many that are rounded: of so many
                // more that its size says nothing, with 64 tokens.
                let most = match name.ends_with("temperature") {
                    true if image_size > 24 => continue,
                    true => 0.2,
                    false => 0.05,
                };
                assert!(apart < most * size, "{name}: {apart} of {size}");
                assert!(apart > 0.0, "{name} was not rounded");
            }
        }
    }
}
