//! `smallvit predict`.

use std::path::{Path, PathBuf};

use clap::Args;
use smallvit::data::folder;
use smallvit::models::file::{self, ModelInfo};
use smallvit::report::table;
use smallvit::train::metrics::probabilities;
use smallvit::train::workers::Workers;
use smallvit::{Error, Result};

use super::evaluate::Which;
use super::options::{DeviceOption, Threads};
use super::output;

/// Say what is in pictures.
#[derive(Args)]
pub struct Arguments {
    /// A run folder, or a model's safetensors file.
    model: PathBuf,
    /// PNG or JPEG files, of any size.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    device: DeviceOption,
    #[command(flatten)]
    threads: Threads,
    /// Print JSON, with the logits.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let device = arguments.device.open()?;
    let path = arguments.which.file(&arguments.model)?;
    let (info, model) = file::open(&path, &device)?;
    let workers = Workers::new(arguments.threads.count(), 32, device)?;
    let size = info.config.image_size();
    let preprocess = info.preprocess();
    let mut images = vec![0.0; arguments.images.len() * preprocess.output_len()];
    for (path, image) in arguments
        .images
        .iter()
        .zip(images.chunks_exact_mut(preprocess.output_len()))
    {
        preprocess.apply(&read(path, &info)?, image);
    }
    let logits = workers.infer(&model, &images, [size, size, info.input[2]]);

    let mut documents = vec![];
    for (path, logits) in arguments
        .images
        .iter()
        .zip(logits.chunks_exact(info.classes.len()))
    {
        let probabilities = probabilities(logits);
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        order.truncate(5);
        if arguments.json {
            let likeliest: Vec<_> = order
                .iter()
                .map(|&class| {
                    let probability = probabilities[class];
                    serde_json::json!({ "class": info.classes[class], "probability": probability })
                })
                .collect();
            documents.push(serde_json::json!({
                "image": path, "likeliest": likeliest, "logits": logits,
            }));
        } else {
            output::print(path.display());
            for class in order {
                let probability = table::percent(probabilities[class]);
                output::print(format!("  {probability:>9}  {}", info.classes[class]));
            }
        }
    }
    if arguments.json {
        output::print(serde_json::Value::from(documents));
    }
    Ok(())
}

/// A picture as the model's training images were: square, of their size and channels.
pub fn read(path: &Path, info: &ModelInfo) -> Result<Vec<u8>> {
    let [height, _, channels] = info.input;
    let image = folder::decode(path, height as u32).map_err(|error| {
        Error::data(
            path.display(),
            format!("this cannot be read as a picture ({error})"),
            "give a PNG or JPEG file",
        )
    })?;
    Ok(match channels {
        // ITU-R BT.601's luma, as the image crate's own conversion.
        1 => image::DynamicImage::ImageRgb8(image)
            .into_luma8()
            .into_raw(),
        _ => image.into_raw(),
    })
}
