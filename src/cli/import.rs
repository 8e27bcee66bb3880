//! `smallvit import`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use smallvit::atomic;
use smallvit::models;
use smallvit::models::foreign::{Foreign, from_keras, from_pytorch};
use smallvit::params;
use smallvit::train::device;
use smallvit::{Error, Result};

use super::output;

/// Bring in a model from elsewhere.
#[derive(Subcommand)]
pub enum Command {
    /// A model of the Keras example, as safetensors: the weights named and laid out as Keras has
    /// them (`weights.block0.attention.query.kernel`: (dim, heads, key_dim), …), the
    /// normalization as `normalization.mean` and `.variance`, the configuration as JSON in the
    /// metadata's `config`.
    Keras(Arguments),
    /// A ViT of the paper's code, as safetensors: the weights named and laid out as PyTorch has
    /// them (`weight.transformer.layers.0.0.fn.to_qkv.weight`: (out, in), …), the configuration
    /// (the constructor's arguments) and the normalization (mean and std of pixel / 255) as JSON in
    /// the metadata's `config` and `normalization`.
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
}

type Read = fn(&Path, Vec<String>) -> Result<Foreign>;

pub fn run(command: Command) -> Result<()> {
    let (read, arguments) = match command {
        Command::Keras(arguments) => (from_keras as Read, arguments),
        Command::Pytorch(arguments) => (from_pytorch as Read, arguments),
    };
    let Arguments { file, out, classes } = arguments;
    atomic::check_folder(&out)?;
    let Foreign { info, weights } = read(&file, classes)?;
    // Built once, so that a file whose weights do not fit is refused here and not later.
    let model = info.with_weights(&weights, file.display(), &device::cpu())?;
    std::fs::create_dir_all(&out).map_err(Error::io("create", &out))?;
    let path = out.join("model.safetensors");
    models::file::save(&path, &info, &params::weights(&model), &[])?;
    output::print(format!("{} is in {}", info.config.name(), path.display()));
    Ok(())
}
