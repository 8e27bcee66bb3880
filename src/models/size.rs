//! What a model takes, told before anything of it is made.

use std::collections::BTreeMap;

use super::{Model, ModelConfig};
use crate::augment::loader;
use crate::error::{Error, Result};
use crate::params;
use crate::strict;

/// The largest model that is built: its weights are 4 GiB, and training keeps five times that.
pub const MOST_PARAMETERS: u64 = 1 << 30;

/// The most that a training step keeps of one image, in bytes.
pub const MOST_KEPT: u64 = 1 << 32;

/// Bytes of the program itself, and of what its threads work in.
const PROGRAM: u64 = 64 << 20;

/// What a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelSize {
    /// Trainable parameters.
    pub parameters: u64,
    /// Multiplications of one image's forward pass, in all matrix products.
    pub macs: u64,
    /// Bytes that a training step keeps of one image from the forward to the backward pass.
    pub kept: u64,
    /// Bytes of one image that wait in the classifier until the whole batch has passed.
    pub waiting: u64,
    /// Bytes of one image as the model takes it.
    pub image: u64,
}

impl ModelSize {
    /// Bytes of the weights, and so of a model's file.
    pub fn weights(&self) -> u64 {
        4 * self.parameters
    }

    /// Bytes of the largest file that training writes: the weights, both moments, and the averaged
    /// weights, where there are any.
    pub fn checkpoint(&self, averaged: bool) -> u64 {
        self.weights() * if averaged { 4 } else { 3 }
    }

    /// Bytes of memory that training takes, about, besides the data set: weights and moments, their
    /// gradients and those of the parts that are added to them, what is kept of the images that go
    /// through the model at once, what waits of the whole batch, and the batches that are made
    /// ahead. (A checkpoint is written from where its numbers lie.)
    pub fn training(
        &self,
        batch: usize,
        micro_batch: usize,
        threads: usize,
        averaged: bool,
    ) -> u64 {
        let (batch, micro_batch, threads) = (batch as u64, micro_batch as u64, threads as u64);
        // As `train::workers` cuts a batch.
        let at_once = micro_batch
            .min(batch.div_ceil(4))
            .max(1)
            .saturating_mul(threads);
        let batches = loader::batches_at_once(threads as usize, self.image.saturating_mul(batch));
        let images = self.kept.saturating_mul(at_once.min(batch));
        let batch = self
            .waiting
            .saturating_add(self.image.saturating_mul(batches))
            .saturating_mul(batch);
        let weights = PROGRAM + self.checkpoint(averaged) + 3 * self.weights();
        weights.saturating_add(images).saturating_add(batch)
    }
}

impl ModelConfig {
    /// What the model takes for images of so many channels and so many classes. Nothing of it is
    /// made, but the configuration must have passed [`ModelConfig::check`].
    pub fn size(&self, channels: usize, classes: usize) -> ModelSize {
        self.outline(channels, classes).size()
    }

    /// As [`ModelConfig::check`], and refuses what would be too large with these channels and
    /// classes.
    ///
    /// # Errors
    /// [`Error::Recipe`], with the field that is most to blame.
    pub fn check_for(&self, channels: usize, classes: usize) -> Result<()> {
        self.check_fields()?;
        let outline = self.outline(channels, classes);
        let size = outline.size();
        if size.parameters > MOST_PARAMETERS {
            let (name, count) = largest(&params::shapes(&outline));
            return Err(self.too_large(
                &name,
                format!(
                    "the model would have {} parameters, {count} of them in {name}; at most \
                     {MOST_PARAMETERS} are built",
                    size.parameters
                ),
            ));
        }
        if size.kept > MOST_KEPT {
            return Err(self.too_large(
                "",
                format!(
                    "a training step would keep {} MB of each image; at most {} are kept",
                    size.kept >> 20,
                    MOST_KEPT >> 20
                ),
            ));
        }
        Ok(())
    }

    /// The model with nothing in it yet.
    fn outline(&self, channels: usize, classes: usize) -> Model {
        Model::blank(self, channels, classes, &burn::tensor::Device::flex())
    }

    /// `parameter` is the one that has most of the numbers, or empty.
    fn too_large(&self, parameter: &str, problem: String) -> Error {
        let fields = self.fields_behind(parameter).iter();
        let fields: Vec<String> = fields.map(|field| format!("model.{field}")).collect();
        let (field, all) = (fields[0].clone(), strict::alternatives(&fields));
        let remedy = match parameter.starts_with("head.logits") {
            true => format!("take fewer classes, or make smaller what they are told by: {all}"),
            false => format!("choose a smaller {all}"),
        };
        Error::recipe(field, problem, remedy)
    }
}

/// The name, repeated layers' as `blocks.*`, that has most numbers, and how many.
fn largest(shapes: &[(String, Vec<usize>)]) -> (String, u64) {
    let mut counts = BTreeMap::<String, u64>::new();
    for (name, shape) in shapes {
        let parts = name.split('.');
        let parts = parts.map(|part| part.parse::<usize>().map_or(part, |_| "*"));
        let name = parts.collect::<Vec<_>>().join(".");
        *counts.entry(name).or_default() += shape.iter().map(|&n| n as u64).product::<u64>();
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Pool, Temperature, VitConfig};
    use burn::tensor::Device;

    fn configs() -> Vec<ModelConfig> {
        let mut all = vec![];
        for number in 0..48_usize {
            let (spt, lsa) = (number % 2 == 0, number / 2 % 2 == 0);
            let arch = VitConfig {
                image_size: [8, 12, 24][number % 3],
                patch_size: 4,
                dim: 6 + number,
                depth: 1 + number % 3,
                heads: 1 + number % 4,
                key_dim: 3 + number % 5,
                mlp_width: 5 + number % 7,
                qkv_bias: number % 5 != 0,
                temperature: [Temperature::Head, Temperature::Layer][number / 3 % 2],
                relative_position: number % 4 == 1,
                pool: [Pool::Flatten, Pool::Class, Pool::Mean][number / 4 % 3],
                head: [vec![], vec![9], vec![9, 7]][number / 5 % 3].clone(),
                layer_scale: (number % 3 == 1).then_some(0.1),
                ..VitConfig::default()
            };
            let arch = arch.into();
            all.push(ModelConfig { spt, lsa, arch });
        }
        all
    }

    #[test]
    fn a_models_size_and_names_are_told_without_making_it() {
        for (number, config) in configs().iter().enumerate() {
            let (channels, classes) = ([1, 3][number % 2], 2 + number);
            config.check_for(channels, classes).unwrap();
            let model = Model::new(config, channels, classes, 1, &Device::flex());
            let weights = params::weights(&model);
            let numbers: usize = weights.values().map(|array| array.values.len()).sum();
            let size = config.size(channels, classes);
            assert_eq!(size.parameters, numbers as u64);
            assert_eq!(size.parameters, model.parameters());
            assert_eq!(size.macs, model.macs());
            let shapes = params::shapes(&config.outline(channels, classes));
            assert_eq!(shapes.len(), weights.len());
            for (name, shape) in shapes {
                assert_eq!(weights[&name].shape, shape, "{name}");
            }
        }
    }

    #[test]
    fn the_largest_that_passes_takes_no_memory_to_be_measured() {
        // 4 GB of weights, and a thousand blocks: both would be felt.
        for (dim, depth, mlp_width) in [(16384, 1, 8192), (64, 1024, 4096)] {
            let config = ModelConfig {
                arch: VitConfig {
                    image_size: 24,
                    dim,
                    depth,
                    mlp_width,
                    head: vec![],
                    pool: Pool::Mean,
                    ..VitConfig::default()
                }
                .into(),
                ..ModelConfig::default()
            };
            config.check().unwrap();
            assert!(config.size(3, 1 << 12).parameters > 1 << 28);
        }
    }

    #[test]
    fn what_is_too_large_names_what_makes_it_so() {
        type Change = fn(&mut VitConfig);
        let refused = |change: Change, classes: usize| {
            let mut vit = VitConfig::default();
            change(&mut vit);
            let config = ModelConfig {
                arch: vit.into(),
                ..ModelConfig::default()
            };
            let error = config.check_for(3, classes).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            format!("{error}; {}", error.remedy())
        };
        let changes: [(Change, usize, &str, &str); 6] = [
            (|c| c.dim = 1 << 16, 2, "model.head: ", "model.dim or"),
            (
                |c| c.mlp_width = 1 << 20,
                2,
                "model.mlp_width: ",
                "blocks.*.mlp.",
            ),
            (
                |c| c.head = vec![1 << 20],
                2,
                "model.head: ",
                "head.hidden.*.kernel",
            ),
            (|_| {}, 1 << 21, "model.head: ", "fewer classes"),
            (
                |c| (c.image_size, c.patch_size, c.depth) = (4096, 64, 64),
                2,
                "model.image_size: ",
                "MB of each image",
            ),
            (
                |c| (c.heads, c.key_dim) = (1024, 1 << 16),
                2,
                "model.dim: ",
                "model.key_dim",
            ),
        ];
        for (change, classes, field, part) in changes {
            let message = refused(change, classes);
            assert!(message.starts_with(field), "{message}");
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn memory_is_told_about_as_it_was_measured() {
        let quickstart = VitConfig {
            image_size: 32,
            patch_size: 4,
            depth: 4,
            key_dim: 16,
            head: vec![128],
            ..VitConfig::default()
        };
        let plain_head = VitConfig {
            head: vec![],
            pool: Pool::Mean,
            ..VitConfig::default()
        };
        // By `smallvit bench` with two threads, in MB.
        for (vit, batch, micro_batch, measured) in [
            (VitConfig::default(), 256, 16, 880),
            (VitConfig::default(), 4096, 16, 1757),
            (plain_head, 256, 64, 1392),
            (quickstart, 64, 32, 122),
        ] {
            let config = ModelConfig {
                arch: vit.into(),
                ..ModelConfig::default()
            };
            let told = config.size(3, 100).training(batch, micro_batch, 2, false);
            let ratio = told as f64 / (1e6 * f64::from(measured));
            assert!((0.9..1.15).contains(&ratio), "{told} {measured}");
        }
    }
}
