//! `smallvit import`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use smallvit::atomic;
use smallvit::models;
use smallvit::models::foreign::{Foreign, Given, from_keras, from_pytorch};
use smallvit::params;
use smallvit::train::device;
use smallvit::train::folder::RunFolder;
use smallvit::{Error, Result};

use super::output::{self, note};

/// Bring in a model from elsewhere.
#[derive(Subcommand)]
pub enum Command {
    /// A model of the Keras example, as safetensors: the weights named and laid out as Keras has
    /// them (`weights.block0.attention.query.kernel`: (dim, heads, key_dim), …), the
    /// normalization as `normalization.mean` and `.variance`, the configuration as JSON in the
    /// metadata's `config`.
    Keras(Arguments),
    /// A ViT, T2T, CaiT, PiT or Swin of the paper's code, as safetensors: the weights named and laid out
    /// as PyTorch has them (`weight.transformer.layers.0.0.fn.to_qkv.weight`: (out, in), …); in the
    /// metadata the `family` (vit, t2t, cait, pit or swin), and as JSON the `config` (the constructor's
    /// arguments) and the `normalization` (mean and std of pixel / 255).
    Pytorch(Arguments),
}

#[derive(Args)]
pub struct Arguments {
    /// The file.
    file: PathBuf,
    /// The folder to write, for `predict` and `evaluate`.
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// The classes' names, separated by commas [default: 0, 1, 2, …].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    classes: Vec<String>,
    /// Dropout rate of attention and of the blocks' MLPs, which bears on training alone [default:
    /// the file's].
    #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
    dropout: Option<f64>,
    /// Dropout rate in the classifier [default: the file's].
    #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
    head_dropout: Option<f64>,
    /// Replace a model that was imported into the folder before.
    #[arg(long)]
    force: bool,
}

type Read = fn(&Path, Given) -> Result<Foreign>;

pub fn run(command: Command) -> Result<()> {
    let (read, arguments) = match command {
        Command::Keras(arguments) => (from_keras as Read, arguments),
        Command::Pytorch(arguments) => (from_pytorch as Read, arguments),
    };
    let Arguments { file, out, .. } = arguments;
    let path = out.join("model.safetensors");
    check_out(&out, &path, arguments.force)?;
    atomic::check_folder(&out)?;
    let given = Given {
        classes: arguments.classes,
        dropout: arguments.dropout,
        head_dropout: arguments.head_dropout,
    };
    let Foreign {
        info,
        weights,
        assumed,
    } = read(&file, given)?;
    // Built once, so that a file whose weights do not fit is refused here and not later.
    let model = info.with_weights(&weights, file.display(), &device::cpu())?;
    std::fs::create_dir_all(&out).map_err(Error::io("create", &out))?;
    models::file::save(&path, &info, &params::views(&model), &[])?;
    if !assumed.is_empty() {
        note!(
            "not in the file, and taken as its code's defaults: {}; --dropout and --head-dropout \
             set rates, which bear on training alone",
            assumed.join(", ")
        );
    }
    output::print(format!("{} is in {}", info.config.name(), path.display()));
    Ok(())
}

/// Refuses to replace a model, or to put one where a run's own would be found before it.
fn check_out(out: &Path, path: &Path, force: bool) -> Result<()> {
    if RunFolder(out.to_path_buf()).recipe().exists() {
        return Err(Error::recipe(
            "--out",
            format!(
                "{} holds a run, whose models would be found instead",
                out.display()
            ),
            "choose another folder",
        ));
    }
    if path.exists() && !force {
        return Err(Error::recipe(
            "--out",
            format!("{} is there already", path.display()),
            "choose another folder, or replace it: --force",
        ));
    }
    Ok(())
}
