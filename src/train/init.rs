//! Training that begins with weights that are there: of another run, or of a file.
//!
//! Every parameter of the model whose name and shape the file has begins with the file's numbers; any
//! other with fresh ones, as the classifier's last layer where there are other classes.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::input;
use crate::models::Model;
use crate::models::file::Contents;
use crate::params::{self, Arrays, MapParameter};
use crate::words;

/// What weights a training begins with; the `[train.init]` table of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitRecipe {
    /// A model's safetensors file.
    pub file: String,
    /// SHA-256 of the file, so that the run can be made again; empty is any.
    #[serde(default)]
    pub sha256: String,
}

/// Which parameters began with a file's numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    /// How many parameters did.
    pub parameters: usize,
    /// How many there are.
    pub of: usize,
    /// The part of all numbers that they have.
    pub share: f64,
    /// Those that began with fresh numbers, and why.
    pub fresh: Vec<String>,
}

impl InitRecipe {
    /// This file, as it is now.
    pub fn of(file: &Path) -> Result<Self> {
        Ok(Self {
            file: file.display().to_string(),
            sha256: sha256(file)?,
        })
    }

    /// A model of fresh weights with the file's numbers where they fit.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Model`] for a file that cannot be read, is no model, is not the one
    /// that the recipe means, or has nothing that the model could begin with.
    pub fn begin(&self, model: Model) -> Result<(Model, Taken)> {
        let path = Path::new(&self.file);
        if !self.sha256.is_empty() && self.sha256 != sha256(path)? {
            return Err(Error::model(
                &self.file,
                "this is not the file that the recipe means (train.init.sha256)",
                "bring that file back, or begin a new run from this one",
            ));
        }
        let mut contents = Contents::read(path)?;
        let group = match contents.has("average") {
            true => "average",
            false => "weights",
        };
        let weights = contents.take(group)?;
        params::check_numbers(&weights, &self.file)?;
        let mut fill = Fill {
            weights: &weights,
            taken: Taken::default(),
            numbers: 0,
            filled: 0,
            beyond_head: false,
        };
        let model = params::map(model, &mut fill);
        let Fill {
            mut taken,
            numbers,
            filled,
            beyond_head,
            ..
        } = fill;
        if !beyond_head {
            return Err(Error::model(
                &self.file,
                "no weights in it fit the model, but perhaps the classifier's",
                "give the file of a model of the same family and sizes, or choose the model that the \
                 file is of",
            ));
        }
        taken.share = filled as f64 / numbers as f64;
        Ok((model, taken))
    }
}

impl Taken {
    /// In a sentence.
    pub fn told(&self) -> String {
        let share = words::percent(self.share);
        let begun = format!(
            "{} of {} parameters begin with the file's weights ({share} of all numbers)",
            self.parameters, self.of
        );
        match self.fresh.len() {
            0 => begun,
            _ => format!("{begun}; fresh: {}", words::listed(&self.fresh, 3)),
        }
    }
}

fn sha256(file: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let (mut from, _) = input::open(file)?;
    let mut some = vec![0; 1 << 16];
    loop {
        let length = from.read(&mut some).map_err(Error::io("read", file))?;
        if length == 0 {
            break;
        }
        hash.update(&some[..length]);
    }
    let bytes = hash.finalize();
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Puts numbers where they fit.
struct Fill<'a> {
    weights: &'a Arrays,
    taken: Taken,
    /// Of the model.
    numbers: usize,
    filled: usize,
    /// Whether something but the classifier was filled.
    beyond_head: bool,
}

impl MapParameter for Fill<'_> {
    fn map<const D: usize>(&mut self, name: &str, value: Tensor<D>) -> Tensor<D> {
        let shape = value.dims();
        let count: usize = shape.iter().product();
        self.taken.of += 1;
        self.numbers += count;
        match self.weights.get(name) {
            Some(array) if array.shape == shape => {
                self.taken.parameters += 1;
                self.filled += count;
                self.beyond_head |= !name.starts_with("head.");
                let data = TensorData::new(array.values.clone(), shape);
                Tensor::from_data(data, &value.device())
            }
            found => {
                let why = match found {
                    Some(array) => format!("{name} ({:?} there, {shape:?} here)", array.shape),
                    None => name.to_owned(),
                };
                self.taken.fresh.push(why);
                value
            }
        }
    }
}

/// How deep in the model each parameter lies: 0 for what images meet first, and one more for each block
/// or merge; the most for the pooling and the classifier. What stands before the first block counts as
/// one.
pub fn depths<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let names: Vec<&str> = names.collect();
    // Blocks and what is between them, in the model's order.
    let splits = names.iter().any(|name| name.starts_with("splits."));
    let key = |name: &str| -> Option<Vec<usize>> {
        let parts: Vec<&str> = name.split('.').collect();
        let number = |at: usize| parts.get(at).and_then(|part| part.parse().ok());
        match parts.as_slice() {
            ["splits", ..] => Some(vec![0, number(1)?]),
            ["embedding" | "sequence", ..] if splits => Some(vec![0, usize::MAX]),
            ["blocks", ..] => Some(vec![1, number(1)?]),
            ["stages", _, "merge" | "downsample", ..] => Some(vec![1, number(1)?]),
            ["stages", _, "blocks", ..] => Some(vec![1, number(1)?, number(3)?]),
            ["class_token", ..] => Some(vec![2]),
            ["class_blocks", ..] => Some(vec![2, number(1)?]),
            _ => None,
        }
    };
    let mut layers: Vec<Vec<usize>> = names.iter().filter_map(|name| key(name)).collect();
    layers.sort();
    layers.dedup();
    let depth = |name: &str| match key(name) {
        Some(key) => 1 + layers.iter().position(|layer| *layer == key).unwrap_or(0),
        None if name.starts_with("head.") || name.starts_with("pooling.") => 1 + layers.len(),
        None => 0,
    };
    names
        .into_iter()
        .map(|name| (name.to_owned(), depth(name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::models::file::{self, ModelInfo};
    use crate::params::{views, weights};
    use crate::train::testing;

    fn model(classes: usize, seed: u64) -> Model {
        Model::new(&testing::recipe().model, 3, classes, seed, &Device::flex())
    }

    fn save(model: &Model, classes: usize) -> (tempfile::TempDir, InitRecipe) {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("model.safetensors");
        let info = ModelInfo {
            config: testing::recipe().model,
            input: [8, 8, 3],
            fit: Default::default(),
            classes: (0..classes).map(|class| class.to_string()).collect(),
            mean: vec![0.0; 3],
            variance: vec![1.0; 3],
        };
        file::save(&path, &info, &views(model), &[]).unwrap();
        let init = InitRecipe::of(&path).unwrap();
        (dir, init)
    }

    #[test]
    fn all_but_a_head_of_other_classes_begins_with_the_files_weights() {
        let (_dir, init) = save(&model(5, 1), 5);
        let there = weights(&model(5, 1));
        let (begun, taken) = init.begin(model(5, 2)).unwrap();
        assert_eq!(weights(&begun), there);
        assert_eq!((taken.parameters, taken.share), (taken.of, 1.0));
        let (begun, taken) = init.begin(model(7, 2)).unwrap();
        let fresh = weights(&model(7, 2));
        let mut kept = 0;
        for (name, array) in weights(&begun) {
            match name.starts_with("head.logits.") {
                true => assert_eq!(array, fresh[&name]),
                false => {
                    assert_eq!(array, there[&name]);
                    kept += 1;
                }
            }
        }
        assert_eq!((taken.parameters, taken.of), (kept, kept + 2));
        let told = taken.told();
        assert!(
            told.contains("head.logits.kernel ([16, 5] there, [16, 7] here)"),
            "{told}"
        );
    }

    #[test]
    fn another_file_and_another_kind_of_model_are_refused() {
        let (_dir, mut init) = save(&model(5, 1), 5);
        init.sha256 = "00".into();
        let error = init.begin(model(5, 2)).unwrap_err().to_string();
        assert!(
            error.contains("not the file that the recipe means"),
            "{error}"
        );
        init.sha256.clear();
        assert!(init.begin(model(5, 2)).is_ok());
        let mut config = testing::recipe().model;
        config = config.named("sl-hybrid".parse().unwrap());
        let other = Model::new(&config, 3, 5, 0, &Device::flex());
        let error = init.begin(other).unwrap_err().to_string();
        assert!(error.contains("no weights in it fit"), "{error}");
    }

    #[test]
    fn depth_counts_blocks_and_merges() {
        let names = [
            "stem.projection.kernel",
            "stages.0.blocks.0.mlp.norm.gamma",
            "stages.0.blocks.1.mlp.norm.gamma",
            "stages.1.merge.norm.gamma",
            "stages.1.blocks.0.attention.norm.gamma",
            "pooling.norm.gamma",
            "head.logits.bias",
        ];
        let depths = depths(names.into_iter());
        assert_eq!(names.map(|name| depths[name]), [0, 1, 2, 3, 4, 5, 5]);
        let names = [
            "embedding.norm.beta",
            "sequence.position",
            "blocks.10.mlp.norm.beta",
        ];
        let depths = super::depths(names.into_iter().chain(["blocks.2.mlp.norm.beta"]));
        assert_eq!(names.map(|name| depths[name]), [0, 0, 2]);
        // A T2T's splits come before its embedding, a CaiT's class token behind its blocks.
        let names = [
            "splits.0.mlp.norm.beta",
            "embedding.projection.bias",
            "blocks.0.mlp.norm.beta",
        ];
        let depths = super::depths(names.into_iter());
        assert_eq!(names.map(|name| depths[name]), [1, 2, 3]);
        let names = [
            "embedding.projection.bias",
            "blocks.1.mlp.norm.beta",
            "class_token.class_token",
            "class_blocks.0.mlp.norm.beta",
            "head.logits.bias",
        ];
        let depths = super::depths(names.into_iter());
        assert_eq!(names.map(|name| depths[name]), [0, 1, 2, 3, 4]);
    }
}
