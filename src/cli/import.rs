//! `smallvit import`.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Deserialize;
use smallvit::model::file::{self, Contents, ModelInfo};
use smallvit::model::{AttentionKind, ModelConfig, Tokenization, weights};
use smallvit::train::device;
use smallvit::{Error, Result};

/// Bring in a model from elsewhere.
#[derive(Subcommand)]
pub enum Command {
    /// A model of the Keras example, as safetensors: the weights named and laid out as Keras has
    /// them (`weights.block0.attention.query.kernel`: (dim, heads, key_dim), …), the
    /// normalization as `normalization.mean` and `.variance`, the configuration as JSON in the
    /// metadata's `config`.
    Keras {
        /// The file.
        file: PathBuf,
        /// The folder to write, for `predict` and `evaluate`.
        #[arg(long, short, value_name = "DIR")]
        out: PathBuf,
        /// The classes' names, separated by commas [default: 0, 1, 2, …].
        #[arg(long, value_delimiter = ',', value_name = "NAMES")]
        classes: Vec<String>,
    },
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

pub fn run(command: Command) -> Result<()> {
    let Command::Keras { file, out, classes } = command;
    let mut contents = Contents::read(&file)?;
    let config: KerasConfig = contents.json("config")?;
    let weights = contents.take("weights")?;
    let mut normalization = contents.take("normalization")?;
    let mut channel_values = |name: &str| {
        normalization
            .remove(name)
            .map(|array| array.values)
            .ok_or_else(|| {
                Error::model(
                    file.display(),
                    format!("there is no normalization.{name}"),
                    "write the Normalization layer's mean and variance into the file",
                )
            })
    };
    let (mean, variance) = (channel_values("mean")?, channel_values("variance")?);
    let info = ModelInfo {
        config: ModelConfig {
            tokenizer: if weights.contains_key("patch.layer_norm.gamma") {
                Tokenization::Shifted
            } else {
                Tokenization::Plain
            },
            attention: if weights.contains_key("block0.attention.tau") {
                AttentionKind::Locality
            } else {
                AttentionKind::Plain
            },
            image_size: config.image_size,
            patch_size: config.patch_size,
            dim: config.projection_dim,
            depth: config.layers,
            heads: config.num_heads,
            key_dim: config.key_dim,
            mlp: config.transformer_units,
            head: config.mlp_head_units,
            dropout: 0.1,
            head_dropout: 0.5,
            layer_norm_epsilon: config.layer_norm_eps,
        },
        input: config.input,
        classes: match classes[..] {
            [] => (0..config.num_classes)
                .map(|class| class.to_string())
                .collect(),
            _ => classes,
        },
        mean,
        variance,
    };
    if info.classes.len() != config.num_classes {
        return Err(Error::recipe(
            "--classes",
            format!(
                "{} names for {} classes",
                info.classes.len(),
                config.num_classes
            ),
            "name each class once, in the order of the class numbers",
        ));
    }
    let model = info.with_weights(&weights, file.display(), &device::cpu())?;
    std::fs::create_dir_all(&out).map_err(Error::io("create", &out))?;
    let path = out.join("model.safetensors");
    file::save(&path, &info, &weights::weights(&model), &[])?;
    super::print(format!("{} is in {}", info.config.name(), path.display()));
    Ok(())
}
