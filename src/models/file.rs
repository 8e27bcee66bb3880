//! A model in a file: weights, configuration, class names and normalization together, as
//! safetensors. A trained model, a checkpoint and an imported model are all such files, so each
//! is all that a prediction needs.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use burn::tensor::Device;
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use toml::{Table, Value};

use super::{Model, ModelConfig};
use crate::atomic;
use crate::augment::Preprocess;
use crate::error::{Error, Result};
use crate::migrate::{self, SCHEMA};
use crate::params::{self, Array, Arrays, keras};

/// What a model needs to know besides its weights.
///
/// In a file it is JSON, with the [`SCHEMA`] it was written in; one without is of schema 1, and is
/// read as what it means now.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Read")]
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

/// As it is written.
#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    config: &'a ModelConfig,
    input: [usize; 3],
    classes: &'a [String],
    mean: &'a [f32],
    variance: &'a [f32],
}

impl Serialize for ModelInfo {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let written = Written {
            schema: SCHEMA,
            config: &self.config,
            input: self.input,
            classes: &self.classes,
            mean: &self.mean,
            variance: &self.variance,
        };
        written.serialize(to)
    }
}

/// The schema alone, whatever else there is.
#[derive(Deserialize)]
struct Schema {
    #[serde(default = "first")]
    schema: u32,
}

fn first() -> u32 {
    1
}

/// As it is read.
#[derive(Deserialize)]
struct Read {
    #[serde(default = "first")]
    schema: u32,
    config: Table,
    input: [usize; 3],
    classes: Vec<String>,
    mean: Vec<f32>,
    variance: Vec<f32>,
}

/// What is wrong, and what to do about it.
fn whole(error: Error) -> String {
    format!("{error}; {}", error.remedy())
}

impl TryFrom<Read> for ModelInfo {
    type Error = String;

    fn try_from(read: Read) -> Result<Self, String> {
        let mut config = read.config;
        if let Some(problem) = migrate::refusal(read.schema) {
            return Err(problem);
        }
        if read.schema == 1 {
            migrate::upgrade_model(&mut config).map_err(whole)?;
        }
        let config =
            ModelConfig::read(Value::Table(config), "model", &Table::new()).map_err(whole)?;
        Ok(Self {
            config,
            input: read.input,
            classes: read.classes,
            mean: read.mean,
            variance: read.variance,
        })
    }
}

impl ModelInfo {
    /// What an image goes through before the model.
    pub fn preprocess(&self) -> Preprocess {
        Preprocess {
            input: self.input,
            image_size: self.config.image_size(),
            mean: self.mean.clone(),
            variance: self.variance.clone(),
        }
    }

    /// A model of this kind with fresh weights.
    pub fn init(&self, seed: u64, device: &Device) -> Model {
        Model::new(
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
    ) -> Result<Model> {
        self.check(&place)?;
        let blank = Model::blank(&self.config, self.input[2], self.classes.len(), device);
        params::load(blank, weights, place)
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

/// Groups whose arrays must be 32-bit floats: passed over, they would be missing or replaced.
const NUMBERS: [&str; 6] = [
    "weights",
    "weight",
    "average",
    "moment1",
    "moment2",
    "normalization",
];

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
                if NUMBERS.contains(&group) {
                    let problem = format!("{group}.{name} is {:?}, not F32", view.dtype());
                    return Err(broken(problem));
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

    /// The model for inference: of a run that averages its weights, with the averaged ones, by which
    /// the run is judged.
    pub fn model(&mut self, device: &Device) -> Result<(ModelInfo, Model)> {
        let info = self.info()?;
        let weights = self.take("average").or_else(|_| self.take("weights"))?;
        let weights = match self.schema() {
            1 => keras::translate(weights),
            _ => weights,
        };
        let model = info.with_weights(&weights, &self.place, device)?;
        Ok((info, model))
    }

    /// What the model needs to know besides its weights. A file of a newer schema says so.
    pub fn info(&self) -> Result<ModelInfo> {
        // Before all else: a newer file may have anything in it.
        if let Some(problem) = migrate::refusal(self.schema()) {
            return Err(Error::model(&self.place, problem, migrate::UPDATE));
        }
        self.json("model")
    }

    /// The schema that the model was written in.
    pub fn schema(&self) -> u32 {
        self.json("model")
            .map_or(migrate::SCHEMA, |Schema { schema }| schema)
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
            "choose a file that this version of the program wrote or imported",
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
    atomic::write(path, &bytes)
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
pub fn open(path: &Path, device: &Device) -> Result<(ModelInfo, Model)> {
    Contents::read(path)?.model(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::VitConfig;

    fn schema_1() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/schema1/run/checkpoints/best.safetensors")
    }

    #[test]
    fn a_file_of_schema_1_is_read_as_what_it_means_now() {
        let info = Contents::read(&schema_1()).unwrap().info().unwrap();
        let config = ModelConfig {
            spt: true,
            lsa: true,
            arch: VitConfig {
                image_size: 32,
                patch_size: 8,
                dim: 8,
                depth: 2,
                heads: 2,
                key_dim: 4,
                mlp_width: 16,
                head: vec![16],
                dropout: 0.0,
                head_dropout: 0.0,
                ..VitConfig::default()
            }
            .into(),
        };
        let expected = ModelInfo {
            config,
            input: [32, 32, 3],
            classes: (0..10).map(|class| class.to_string()).collect(),
            mean: vec![171.89986, 164.52286, 157.0101],
            variance: vec![1217.5764, 1545.7915, 2165.1714],
        };
        assert_eq!(info, expected);
        // And written as one of now.
        let written = serde_json::to_string(&info).unwrap();
        assert!(written.starts_with("{\"schema\":2,\"config\":{\"family\":\"vit\","));
        assert_eq!(serde_json::from_str::<ModelInfo>(&written).unwrap(), info);
    }

    #[test]
    fn a_file_that_cannot_be_read_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let refused = |info: &str| {
            write(&path, &[], &[("model", info.to_owned())]).unwrap();
            let error = Contents::read(&path).unwrap().info().unwrap_err();
            assert_eq!(error.exit_code(), 1);
            (error.to_string(), error.remedy().to_owned())
        };
        let (problem, remedy) = refused("{\"schema\":3,\"backbone\":[]}");
        assert!(
            problem.ends_with("written by a newer smallvit (schema 3; this one reads up to 2)"),
            "{problem}"
        );
        assert!(remedy.contains("update the program"), "{remedy}");
        let info = |config: &str| {
            format!(
                "{{\"schema\":2,\"config\":{config},\"input\":[8,8,1],\"classes\":[],\
                 \"mean\":[],\"variance\":[]}}"
            )
        };
        let (problem, _) = refused(&info("{\"dimm\":3}"));
        assert!(problem.contains("model.dimm: there is no"), "{problem}");
        let (problem, _) = refused(&info("{\"family\":\"x\"}"));
        assert!(problem.contains("model.family: there is no"), "{problem}");
        let (problem, _) = refused("{\"config\":{\"dim\":8,\"mlp\":[8]}}");
        assert!(problem.contains("missing field"), "{problem}");
    }
}
