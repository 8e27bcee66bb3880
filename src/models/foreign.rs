//! Models that other programs trained, from safetensors files that name their weights as those
//! programs do and carry their configuration and normalization.

use std::path::Path;

use serde::Deserialize;

use super::file::{Contents, ModelInfo};
use super::{InitialWeights, ModelConfig, Pool, Temperature, VitConfig};
use crate::error::{Error, Result};
use crate::params::{Arrays, keras, pytorch};

/// A model in this program's terms: what it needs to know, and its weights.
pub struct Foreign {
    /// Configuration, classes, normalization.
    pub info: ModelInfo,
    /// By this program's names.
    pub weights: Arrays,
}

/// The classes' names: those given, of which there must be as many as classes, or their numbers.
fn classes(file: &Path, given: Vec<String>, count: usize) -> Result<Vec<String>> {
    if !(2..=1 << 20).contains(&count) {
        return Err(Error::model(
            file.display(),
            format!("its configuration says {count} classes"),
            "write the configuration that belongs to the weights",
        ));
    }
    if given.is_empty() {
        return Ok((0..count).map(|class| class.to_string()).collect());
    }
    if given.len() == count {
        return Ok(given);
    }
    Err(Error::recipe(
        "classes",
        format!("{} names for {count} classes", given.len()),
        "name each class once, in the order of the class numbers",
    ))
}

/// The metadata's `config`, in the words of the Keras example.
#[derive(Deserialize)]
struct KerasConfig {
    num_classes: usize,
    input: [usize; 3],
    image_size: usize,
    patch_size: usize,
    layers: usize,
    projection_dim: usize,
    num_heads: usize,
    key_dim: usize,
    transformer_units: Vec<usize>,
    mlp_head_units: Vec<usize>,
    #[serde(default = "epsilon")]
    layer_norm_eps: f64,
}

fn epsilon() -> f64 {
    1e-6
}

/// A model of the Keras example: weights as `weights.block0.attention.query.kernel`, the
/// normalization as `normalization.mean` and `.variance`, the configuration as JSON in the
/// metadata's `config`.
///
/// # Errors
/// [`Error::Model`] where something of it is missing or impossible, [`Error::Recipe`] where there
/// are not as many `class_names` as classes.
pub fn from_keras(file: &Path, class_names: Vec<String>) -> Result<Foreign> {
    let mut contents = Contents::read(file)?;
    let config: KerasConfig = contents.json("config")?;
    let refuse = |problem: String, remedy: &str| Error::model(file.display(), problem, remedy);
    let units = &config.transformer_units;
    let &[mlp_width, last] = &units[..] else {
        return Err(refuse(
            format!("its transformer_units {units:?} are not two widths"),
            "only blocks whose MLP has two layers can be imported",
        ));
    };
    if last != config.projection_dim {
        return Err(refuse(
            format!(
                "the last of its transformer_units, {last}, is not projection_dim = {}",
                config.projection_dim
            ),
            "an MLP's output is added to the tokens, so it must be as wide as they are",
        ));
    }
    let weights = contents.take("weights")?;
    let mut normalization = contents.take("normalization")?;
    let mut channels = |name: &str| match normalization.remove(name) {
        Some(array) => Ok(array.values),
        None => Err(refuse(
            format!("there is no normalization.{name}"),
            "write the Normalization layer's mean and variance into the file",
        )),
    };
    let (mean, variance) = (channels("mean")?, channels("variance")?);
    let info = ModelInfo {
        config: ModelConfig {
            spt: weights.contains_key("patch.layer_norm.gamma"),
            lsa: weights.contains_key("block0.attention.tau"),
            arch: VitConfig {
                image_size: config.image_size,
                patch_size: config.patch_size,
                dim: config.projection_dim,
                depth: config.layers,
                heads: config.num_heads,
                key_dim: config.key_dim,
                mlp_width,
                head: config.mlp_head_units,
                layer_norm_epsilon: config.layer_norm_eps,
                ..VitConfig::default()
            }
            .into(),
        },
        input: config.input,
        classes: classes(file, class_names, config.num_classes)?,
        mean,
        variance,
    };
    let weights = keras::translate(weights);
    Ok(Foreign { info, weights })
}

/// The metadata's `config`: the arguments of the paper's `ViT`.
#[derive(Deserialize)]
struct PaperConfig {
    img_size: usize,
    patch_size: usize,
    num_classes: usize,
    dim: usize,
    depth: usize,
    heads: usize,
    dim_head: usize,
    mlp_dim_ratio: usize,
    #[serde(rename = "is_SPT")]
    spt: bool,
    #[serde(rename = "is_LSA")]
    lsa: bool,
    #[serde(default)]
    stochastic_depth: f64,
}

/// The metadata's `normalization`: of a pixel divided by 255.
#[derive(Deserialize)]
struct PaperNormalization {
    mean: Vec<f64>,
    std: Vec<f64>,
}

/// A model of the paper's code (arXiv 2112.13492): weights as
/// `weight.transformer.layers.0.0.fn.to_qkv.weight`, and in the metadata the `family`, the
/// `config` (JSON, its constructor's arguments) and the `normalization` (JSON, `mean` and `std` of
/// pixel / 255). So far its ViT can be read.
///
/// # Errors
/// As [`from_keras`].
pub fn from_pytorch(file: &Path, class_names: Vec<String>) -> Result<Foreign> {
    let mut contents = Contents::read(file)?;
    let family = contents.text("family").unwrap_or("vit");
    if family != "vit" {
        return Err(Error::model(
            file.display(),
            format!("it is a {family}, and no model of that family can be built yet"),
            "import a ViT of the paper's code",
        ));
    }
    let config: PaperConfig = contents.json("config")?;
    let normalization: PaperNormalization = contents.json("normalization")?;
    let info = ModelInfo {
        config: ModelConfig {
            spt: config.spt,
            lsa: config.lsa,
            arch: VitConfig {
                image_size: config.img_size,
                patch_size: config.patch_size,
                dim: config.dim,
                depth: config.depth,
                heads: config.heads,
                key_dim: config.dim_head,
                mlp_width: config.dim.saturating_mul(config.mlp_dim_ratio),
                mlp_second_gelu: false,
                qkv_bias: false,
                temperature: Temperature::Head,
                relative_position: false,
                pool: Pool::Class,
                head: vec![],
                dropout: 0.0,
                head_dropout: 0.0,
                stochastic_depth: config.stochastic_depth,
                layer_scale: None,
                layer_norm_epsilon: 1e-5,
                initial: InitialWeights::Paper,
            }
            .into(),
        },
        input: [config.img_size, config.img_size, 3],
        classes: classes(file, class_names, config.num_classes)?,
        mean: normalization
            .mean
            .iter()
            .map(|mean| (255.0 * mean) as f32)
            .collect(),
        variance: normalization
            .std
            .iter()
            .map(|deviation| (255.0 * deviation).powi(2) as f32)
            .collect(),
    };
    let weights = pytorch::vit(contents.take("weight")?, 3);
    Ok(Foreign { info, weights })
}
