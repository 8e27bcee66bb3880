//! The families of models, one file a family, reading from top to bottom like the paper's figure;
//! their sizes ([`config`]), what they take ([`size`]), and their files ([`mod@file`]).
//!
//! **A new family** is a file here with its layers from [`crate::nn`], a struct of its sizes, a
//! variant of [`Model`], and a line in [`config`]'s registry; its names (`sl-…`) follow.

pub mod block;
pub mod cait;
pub mod cait_config;
mod checks;
pub mod config;
pub mod file;
pub mod foreign;
pub mod hybrid;
pub mod hybrid_config;
pub mod look;
pub mod pit;
pub mod pit_config;
pub mod size;
pub mod swin;
pub mod swin_config;
pub mod t2t;
pub mod t2t_config;
pub mod vit;
pub mod vit_config;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use smallvit_kernels::matrix::Precision;
use smallvit_kernels::ops::Chain;

pub use cait::Cait;
pub use cait_config::{CaitConfig, SelfScores};
pub use config::{Architecture, Family, FamilyConfig, ModelConfig, ModelName};
pub use hybrid::Hybrid;
pub use hybrid_config::{HybridConfig, HybridPool};
pub use pit::Pit;
pub use pit_config::PitConfig;
pub use size::ModelSize;
pub use swin::Swin;
pub use swin_config::SwinConfig;
pub use t2t::T2t;
pub use t2t_config::T2tConfig;
pub use vit::Vit;
pub use vit_config::{InitialWeights, Pool, Temperature, VitConfig};

use crate::nn::head::Head;
use crate::nn::{Attending, Context, Layer, fused};
use crate::params::init::Initialiser;

/// A model of any family.
#[derive(Module, Debug)]
pub enum Model {
    /// A Vision Transformer.
    Vit(Vit),
    /// A Tokens-to-Token Vision Transformer.
    T2t(T2t),
    /// A class-attention Vision Transformer.
    Cait(Cait),
    /// A Pooling-based Vision Transformer.
    Pit(Pit),
    /// A Swin Transformer.
    Swin(Swin),
    /// A hybrid of convolutions and attention.
    Hybrid(Hybrid),
}

/// What is known of one of a model's layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerReport {
    /// Its path, as `blocks.3.attention`.
    pub path: String,
    /// Which chain it belongs to, by number: the layers of one are a single operation on the CPU.
    pub chain: usize,
    /// Multiplications of one image's forward pass, in all matrix products.
    pub macs: u64,
}

impl Model {
    /// A model with fresh weights.
    ///
    /// `config` must have passed [`ModelConfig::check`].
    pub fn new(
        config: &ModelConfig,
        channels: usize,
        classes: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let init = Initialiser::new(seed, device);
        Self::build(config, channels, classes, &init)
    }

    /// The same with 0 for all that would be drawn, for weights that are loaded. A parameter takes no
    /// memory until its value is asked for.
    pub fn blank(config: &ModelConfig, channels: usize, classes: usize, device: &Device) -> Self {
        Self::build(config, channels, classes, &Initialiser::blank(device))
    }

    fn build(config: &ModelConfig, channels: usize, classes: usize, init: &Initialiser) -> Self {
        match &config.arch {
            Architecture::Vit(own) => Self::Vit(Vit::new(own, config, channels, classes, init)),
            Architecture::T2t(own) => Self::T2t(T2t::new(own, config, channels, classes, init)),
            Architecture::Cait(own) => Self::Cait(Cait::new(own, config, channels, classes, init)),
            Architecture::Pit(own) => Self::Pit(Pit::new(own, config, channels, classes, init)),
            Architecture::Swin(own) => Self::Swin(Swin::new(own, config, channels, classes, init)),
            Architecture::Hybrid(own) => {
                Self::Hybrid(Hybrid::new(own, config, channels, classes, init))
            }
        }
    }

    /// Normalised and resized images `[image, row, column, channel]` → logits `[image, class]`.
    pub fn forward(&self, images: Tensor<4>, context: &mut Context) -> Tensor<2> {
        let tokens = self.embed(images, context);
        let encoded = self.encode(tokens, context);
        self.classify(encoded, context)
    }

    /// Images `[image, row, column, channel]` → what the encoder takes, `[image, token, dim]`: the first
    /// chain.
    pub fn embed(&self, images: Tensor<4>, context: &mut Context) -> Tensor<3> {
        let [count, height, width, channels] = images.dims();
        let pixels = images.reshape([count, height * width, channels]);
        fused::run(&self.parts().0[0], pixels, context)
    }

    /// The encoder: `[image, token, dim]` → the same, or, of a pyramid, fewer and wider tokens. All chains
    /// but the first and the last.
    pub fn encode(&self, tokens: Tensor<3>, context: &mut Context) -> Tensor<3> {
        let (chains, _) = self.parts();
        let encoder = chains[1..chains.len() - 1].iter();
        encoder.fold(tokens, |x, chain| fused::run(chain, x, context))
    }

    /// The encoder's tokens → logits `[image, class]`: the last chain, and the classifier.
    pub fn classify(&self, encoded: Tensor<3>, context: &mut Context) -> Tensor<2> {
        let (chains, head) = self.parts();
        let features = fused::run(&chains[chains.len() - 1], encoded, context);
        head.forward(features.flatten(1, 2), context)
    }

    /// The layers that images go through one by one, those of a chain as one: the embedding first, the
    /// pooling last. And the classifier.
    fn parts(&self) -> (Vec<Vec<&dyn Layer>>, &Head) {
        match self {
            Self::Vit(model) => (model.chains(), &model.head),
            Self::T2t(model) => (model.chains(), &model.head),
            Self::Cait(model) => (model.chains(), &model.head),
            Self::Pit(model) => (model.chains(), &model.head),
            Self::Swin(model) => (model.chains(), &model.head),
            Self::Hybrid(model) => (model.chains(), &model.head),
        }
    }

    /// The attentions in order, each with its path.
    pub fn attentions(&self) -> Vec<(&str, Attending)> {
        let (chains, _) = self.parts();
        let layers = chains.into_iter().flatten();
        layers
            .filter_map(|layer| Some((layer.path(), layer.attention()?)))
            .collect()
    }

    /// Trainable parameters.
    pub fn parameters(&self) -> u64 {
        self.num_params() as u64
    }

    /// Multiplications of one image's forward pass, in all matrix products; each comes with an
    /// addition, and a training step takes three times as many.
    pub fn macs(&self) -> u64 {
        self.report().iter().map(|layer| layer.macs).sum()
    }

    /// What the model takes. No parameter's value is asked for.
    pub fn size(&self) -> ModelSize {
        let (chains, head) = self.parts();
        let sizes = |layers: &Vec<&dyn Layer>| {
            let operations = layers.iter().map(|layer| layer.operation(Precision::F32));
            Chain::new(operations.collect()).sizes()
        };
        let chains: Vec<_> = chains.iter().map(sizes).collect();
        // A chain keeps its operations' numbers and what goes out.
        let kept = chains.iter().map(|sizes| sizes.kept + sizes.output());
        let bytes = |numbers: usize| 4 * numbers as u64;
        ModelSize {
            parameters: self.parameters(),
            macs: self.macs(),
            kept: bytes(kept.sum::<usize>() + 2 * head.waiting()),
            waiting: bytes(head.waiting()),
            image: bytes(chains[0].input()),
        }
    }

    /// The layers in order, the classifier last.
    pub fn report(&self) -> Vec<LayerReport> {
        let (chains, head) = self.parts();
        let of_layer = |chain: usize, layer: &dyn Layer| LayerReport {
            path: layer.path().to_owned(),
            chain,
            macs: layer.operation(Precision::F32).macs(),
        };
        let mut all = vec![];
        for (chain, layers) in chains.iter().enumerate() {
            all.extend(layers.iter().map(|layer| of_layer(chain, *layer)));
        }
        all.push(LayerReport {
            path: "head".into(),
            chain: chains.len(),
            macs: head.macs(),
        });
        all
    }

    /// What is computed by what: by this project's kernels on the CPU, a chain in brackets, unless
    /// `composed` operations are asked for; else by Burn's operations for the device.
    ///
    /// There is no third way: a layer without a kernel does not compile.
    pub fn computed_by(&self, device: &Device, composed: bool) -> String {
        let mut chains: Vec<Vec<String>> = vec![];
        for LayerReport { path, chain, .. } in self.report() {
            // Repeated layers by one name: blocks.*.attention.
            let parts = path.split('.');
            let parts = parts.map(|part| part.parse::<usize>().map_or(part, |_| "*"));
            let path = parts.collect::<Vec<_>>().join(".");
            match chains.get_mut(chain) {
                Some(layers) => layers.push(path),
                None => chains.push(vec![path]),
            }
        }
        let mut text: Vec<(usize, String)> = vec![];
        for chain in chains {
            let chain = format!("[{}]", chain.join(", "));
            match text.last_mut() {
                Some((times, last)) if *last == chain => *times += 1,
                _ => text.push((1, chain)),
            }
        }
        let text = text.into_iter().map(|(times, chain)| match times {
            1 => chain,
            _ => format!("{times} × {chain}"),
        });
        let text = text.collect::<Vec<_>>().join(" ");
        if device.clone().without_autodiff() == Device::flex() && !composed {
            format!("by smallvit's kernels: {text}")
        } else {
            format!("by Burn's own operations: {text}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params;

    /// The paper's ViT as its code builds it.
    fn paper(image_size: usize, idea: bool) -> ModelConfig {
        ModelConfig {
            spt: idea,
            lsa: idea,
            arch: VitConfig {
                image_size,
                patch_size: image_size / 8,
                dim: 192,
                depth: 9,
                heads: 12,
                key_dim: 16,
                mlp_width: 384,
                mlp_second_gelu: false,
                qkv_bias: false,
                temperature: Temperature::Head,
                pool: Pool::Class,
                head: vec![],
                initial: InitialWeights::Paper,
                layer_norm_epsilon: 1e-5,
                ..VitConfig::default()
            }
            .into(),
        }
    }

    fn model(config: &ModelConfig, classes: usize, seed: u64) -> Model {
        config.check().unwrap();
        Model::new(config, 3, classes, seed, &Device::flex())
    }

    #[test]
    fn parameters_and_macs_are_those_of_the_papers_code_and_of_the_keras_example() {
        // Counted in the paper's code: 32 pixels with 10 and 100 classes, 64 with 200.
        for (size, classes, idea, parameters, millions) in [
            (32, 10, false, 2_692_426, None),
            (32, 10, true, 2_729_878, None),
            (32, 100, false, 2_709_796, Some(187.73)),
            (32, 100, true, 2_747_248, Some(190.09)),
            (64, 200, false, 2_756_744, Some(189.52)),
            (64, 200, true, 2_906_228, Some(198.96)),
        ] {
            let model = model(&paper(size, idea), classes, 0);
            assert_eq!(model.parameters(), parameters);
            if let Some(millions) = millions {
                let found = model.macs() as f64 / 1e6;
                assert!((found - millions).abs() < 0.005, "{found} {millions}");
            }
        }
        let keras = ModelConfig::default();
        assert_eq!(model(&keras, 100, 0).parameters(), 21_787_748);
    }

    #[test]
    fn the_zoo_has_the_parameters_and_macs_of_the_papers_code() {
        // Plain and SL-, of 32 pixels with 10 and 100 classes and of 64 with 200: parameters, and millions of
        // multiplications of the last two.
        type Counts = ([u64; 3], [f64; 2]);
        // A normalisation that T2T's code has and never reads.
        let unread = 2 * 9 * 64;
        let zoo: [(Family, [Counts; 2]); 4] = [
            (
                Family::T2t,
                [
                    (
                        [6_486_080, 6_509_210, 6_659_262].map(|all| all - unread),
                        [457.23, 636.35],
                    ),
                    (
                        [6_507_081, 6_530_211, 6_680_264].map(|all| all - unread),
                        [462.54, 657.58],
                    ),
                ],
            ),
            (
                Family::Cait,
                [
                    ([9_020_618, 9_037_988, 9_084_936], [595.71, 597.50]),
                    ([9_058_066, 9_075_436, 9_234_416], [598.07, 606.94]),
                ],
            ),
            (
                Family::Pit,
                [
                    ([6_972_586, 7_007_236, 7_049_192], [274.42, 275.35]),
                    ([8_642_014, 8_676_664, 8_732_804], [317.90, 322.37]),
                ],
            ),
            (
                Family::Swin,
                [
                    ([7_073_188, 7_107_838, 7_149_794], [240.98, 241.90]),
                    ([8_562_166, 8_596_816, 8_652_956], [279.91, 284.37]),
                ],
            ),
        ];
        for (family, counts) in zoo {
            for (idea, (parameters, millions)) in [false, true].into_iter().zip(counts) {
                let sizes = [(32, 10), (32, 100), (64, 200)];
                for (number, (size, classes)) in sizes.into_iter().enumerate() {
                    let config = ModelConfig {
                        spt: idea,
                        lsa: idea,
                        arch: Architecture::preset(family, size),
                    };
                    let size = config.size(3, classes);
                    let what = format!("{} {number}", config.name());
                    assert_eq!(size.parameters, parameters[number], "{what}");
                    if number > 0 {
                        let found = size.macs as f64 / 1e6;
                        let expected = millions[number - 1];
                        assert!(
                            (found - expected).abs() < 0.006,
                            "{what}: {found} {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn every_parameter_has_the_name_that_its_stream_is_keyed_by() {
        // Drawn by name: were the names that layers are given not those of the fields, then a
        // parameter's numbers would not be those of its own stream.
        let config = paper(32, true);
        let weights = params::weights(&model(&config, 10, 7));
        let mut drawn = 0;
        for (name, array) in &weights {
            let key = crate::random::name_key(&params::first_name(name));
            let purpose = crate::random::Purpose::Initialise;
            let mut stream = crate::random::Stream::new(7, purpose, 0, key);
            let first = stream.normal() as f32;
            let constant = array.values.iter().all(|v| *v == array.values[0]);
            if !constant {
                let ratio = array.values[0] / first;
                assert!((0.01..=1.01).contains(&ratio), "{name}: {ratio}");
                let second = stream.normal() as f32;
                let other = array.values[1] / second;
                assert!(
                    (ratio - other).abs() < 1e-4 * ratio,
                    "{name}: {ratio} {other}"
                );
                drawn += 1;
            }
        }
        // Projection, class token, positions, four kernels a block, logits.
        assert_eq!(drawn, 3 + 4 * 9 + 1);
    }

    #[test]
    fn models_of_one_seed_share_what_both_have() {
        let weights = |idea, layer_scale| {
            let mut config = paper(32, idea);
            let Architecture::Vit(vit) = &mut config.arch else {
                unreachable!("the paper's is a ViT")
            };
            vit.layer_scale = layer_scale;
            params::weights(&model(&config, 10, 3))
        };
        let (plain, both) = (weights(false, None), weights(true, Some(0.1)));
        let mut shared = 0;
        for (name, array) in &plain {
            let other = &both[name];
            if other.shape == array.shape {
                assert_eq!(array, other, "{name}");
                shared += 1;
            }
        }
        // All but the projection's kernel, which has another shape.
        assert_eq!(shared, plain.len() - 1);
        assert_ne!(params::weights(&model(&paper(32, false), 10, 4)), plain);
    }

    #[test]
    fn what_is_computed_by_what_is_said_in_one_line() {
        let model = model(&paper(32, true), 10, 0);
        assert_eq!(
            model.computed_by(&Device::flex(), false),
            "by smallvit's kernels: [embedding, sequence] \
             9 × [blocks.*.attention, blocks.*.mlp] [pooling] [head]"
        );
        let composed = model.computed_by(&Device::flex(), true);
        assert!(composed.starts_with("by Burn's own operations: [embedding"));
    }
}
