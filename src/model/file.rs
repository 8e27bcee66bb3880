//! A model in a file: weights, configuration, class names and normalization together, as
//! safetensors. A trained model, a checkpoint and an imported model are all such files, so each
//! is all that a prediction needs.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use burn::tensor::Device;
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::weights::{self, Array, Arrays};
use super::{ModelConfig, Vit};
use crate::augment::Preprocess;
use crate::error::{Error, Result};

/// What a model needs to know besides its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Sizes and switches.
    pub config: ModelConfig,
    /// Rows, columns and channels of the images it was trained on, before resizing.
    pub input: [usize; 3],
    /// The classes' names, by class number.
    pub classes: Vec<String>,
    /// Mean of each channel of the training images, in units of 0..255.
    pub mean: Vec<f32>,
    /// Variance of each channel of the training images.
    pub variance: Vec<f32>,
}

impl ModelInfo {
    /// What an image goes through before the model.
    pub fn preprocess(&self) -> Preprocess {
        Preprocess {
            input: self.input,
            image_size: self.config.image_size,
            mean: self.mean.clone(),
            variance: self.variance.clone(),
        }
    }

    /// A model of this kind with fresh weights.
    pub fn init(&self, seed: u64, device: &Device) -> Vit {
        Vit::new(
            &self.config,
            self.input[2],
            self.classes.len(),
            seed,
            device,
        )
    }

    /// A model of this kind with these weights, for inference on `device`.
    pub fn with_weights(
        &self,
        weights: &Arrays,
        place: impl ToString,
        device: &Device,
    ) -> Result<Vit> {
        self.check(&place)?;
        weights::load(self.init(0, device), weights, place)
    }

    fn check(&self, place: &impl ToString) -> Result<()> {
        let refuse = |problem: String| {
            Err(Error::model(
                place.to_string(),
                problem,
                "the file was not written whole by this program; take another",
            ))
        };
        if let Err(error) = self.config.check() {
            return refuse(error.to_string());
        }
        let [height, width, channels] = self.input;
        if height != width || !(1..=1 << 14).contains(&height) || !matches!(channels, 1 | 3) {
            return refuse(format!(
                "its images are {height}×{width} pixels with {channels} channels, not squares of \
                 1 or 3"
            ));
        }
        let mut normalization = self.mean.iter().chain(&self.variance);
        if !normalization.all(|n| n.is_finite()) || self.variance.iter().any(|&v| v < 0.0) {
            return refuse("its normalization is no mean and variance".into());
        }
        if self.mean.len() != channels || self.variance.len() != channels {
            return refuse(format!(
                "its normalization does not have {channels} channels"
            ));
        }
        if self.classes.len() < 2 {
            return refuse("it has fewer than two classes".into());
        }
        Ok(())
    }
}

/// A safetensors file, read: groups of arrays (`weights.…`, `moment1.…`) and JSON values.
pub struct Contents {
    arrays: HashMap<String, Arrays>,
    metadata: HashMap<String, String>,
    place: String,
}

impl Contents {
    /// Reads a file whole. Fails with [`Error::Io`], or [`Error::Model`] where it is no
    /// safetensors file, is damaged, or has weights that are not 32-bit floats.
    pub fn read(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        let broken = |problem: String| {
            Error::model(
                &place,
                problem,
                "take another checkpoint, or train again; a run folder keeps `best` and `last`",
            )
        };
        let invalid = |error| broken(format!("this is not a whole safetensors file ({error})"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(invalid)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let file = SafeTensors::deserialize(&bytes).map_err(invalid)?;
        let mut arrays: HashMap<String, Arrays> = HashMap::new();
        for (name, view) in file.tensors() {
            let Some((group, name)) = name.split_once('.') else {
                continue;
            };
            if view.dtype() != Dtype::F32 {
                if group == "weights" {
                    return Err(broken(format!("{name} is {:?}, not F32", view.dtype())));
                }
                continue; // something beside a model, as labels or pixels
            }
            let values = view
                .data()
                .as_chunks()
                .0
                .iter()
                .map(|&four| f32::from_le_bytes(four))
                .collect();
            let array = Array {
                shape: view.shape().to_vec(),
                values,
            };
            arrays
                .entry(group.into())
                .or_default()
                .insert(name.into(), array);
        }
        Ok(Self {
            arrays,
            metadata,
            place,
        })
    }

    /// The arrays whose names begin with `group` and a dot, without it.
    pub fn take(&mut self, group: &str) -> Result<Arrays> {
        self.arrays.remove(group).ok_or_else(|| {
            Error::model(
                &self.place,
                format!("there are no {group} in it"),
                "choose a model or checkpoint file",
            )
        })
    }

    /// The model for inference.
    pub fn model(&mut self, device: &Device) -> Result<(ModelInfo, Vit)> {
        let info: ModelInfo = self.json("model")?;
        let model = info.with_weights(&self.take("weights")?, &self.place, device)?;
        Ok((info, model))
    }

    /// The text kept under `key`.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The value kept under `key`.
    pub fn json<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        let problem = match self.text(key).map(serde_json::from_str) {
            Some(Ok(value)) => return Ok(value),
            Some(Err(error)) => format!("its `{key}` cannot be read ({error})"),
            None => format!("it has no `{key}`"),
        };
        Err(Error::model(
            &self.place,
            problem,
            "choose a file that this version of the program wrote, or `import keras` first",
        ))
    }
}

struct Numbers<'a>(&'a Array);

impl View for Numbers<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.0.shape
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        let bytes = self.0.values.iter().flat_map(|value| value.to_le_bytes());
        bytes.collect::<Vec<u8>>().into()
    }
    fn data_len(&self) -> usize {
        4 * self.0.values.len()
    }
}

/// Writes groups of arrays and JSON values so that `path` is at every moment either its old
/// contents or its new ones, whole: to a temporary name beside it, synced, renamed.
pub fn write(path: &Path, groups: &[(&str, &Arrays)], metadata: &[(&str, String)]) -> Result<()> {
    let tensors = groups.iter().flat_map(|(group, arrays)| {
        arrays
            .iter()
            .map(move |(name, array)| (format!("{group}.{name}"), Numbers(array)))
    });
    let metadata = metadata
        .iter()
        .map(|(key, value)| (key.to_string(), value.clone()))
        .collect();
    let bytes = safetensors::serialize(tensors, Some(metadata))
        .expect("names are unique and lengths fit their shapes");
    write_atomically(path, &bytes)
}

/// As [`std::fs::write`], but `path` is at every moment either its old contents or its new ones.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| {
        // What is half-written is of no use to anyone, and the room may be needed.
        let _ = fs::remove_file(&temporary);
        Error::io("write", path)(error)
    })?;
    fs::rename(&temporary, path).map_err(Error::io("write", path))
}

/// Writes a model, with what else is to be known of it.
pub fn save(
    path: &Path,
    info: &ModelInfo,
    weights: &Arrays,
    more: &[(&str, String)],
) -> Result<()> {
    let info = serde_json::to_string(info).expect("plain data can be written as JSON");
    let metadata = [&[("model", info)], more].concat();
    write(path, &[("weights", weights)], &metadata)
}

/// Reads a model for inference.
pub fn open(path: &Path, device: &Device) -> Result<(ModelInfo, Vit)> {
    Contents::read(path)?.model(device)
}
