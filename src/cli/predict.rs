//! `smallvit predict`.

use std::path::{Path, PathBuf};

use clap::Args;
use rayon::prelude::*;
use serde_json::{Value, json};
use smallvit::data::{folder, pictures};
use smallvit::models::file::{self, ModelInfo};
use smallvit::train::metrics::probabilities;
use smallvit::words;
use smallvit::{Error, Result};

use super::evaluate::Which;
use super::options::{DeviceOption, InferencePrecision, Threads};
use super::output::{self, note};

/// Pictures that are read and answered at a time, and the most bytes that they may take.
const AT_ONCE: usize = 256;
const BYTES_AT_ONCE: usize = 64 << 20;

/// Classes that are named for a picture.
const LIKELIEST: usize = 5;

/// Say what is in pictures.
///
/// A picture that cannot be read costs an error, and the exit status 1, but not the answers of the
/// others.
#[derive(Args)]
pub struct Arguments {
    /// A run folder, or a model's safetensors file.
    model: PathBuf,
    /// Picture files, of any size; a folder stands for the pictures in it.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    device: DeviceOption,
    #[command(flatten)]
    precision: InferencePrecision,
    #[command(flatten)]
    threads: Threads,
    /// Print a JSON array with an object a picture: its name as `image`, and its `likeliest`
    /// classes and `logits`, or the `error`.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let device = arguments.device.open()?;
    let path = arguments.which.file(&arguments.model)?;
    let (info, model) = file::open(&path, &device)?;
    let workers = arguments.precision.workers(&arguments.threads, device)?;
    let size = info.config.image_size();
    let shape = [size, size, info.input[2]];
    let bytes = size_of::<f32>() * shape.iter().product::<usize>();
    let inference = workers.inference(&model, shape);
    let images = files(&arguments.images);
    let mut answers = Answers::new(&info, images.len(), arguments.json);
    for paths in images.chunks((BYTES_AT_ONCE / bytes).clamp(1, AT_ONCE)) {
        let inputs: Vec<Result<Vec<f32>>> =
            paths.par_iter().map(|path| read(path, &info)).collect();
        let pixels: Vec<f32> = inputs.iter().flatten().flatten().copied().collect();
        let logits = inference.logits(&pixels);
        let mut logits = logits.chunks_exact(info.classes.len());
        for (path, input) in paths.iter().zip(inputs) {
            answers.print(path, input.and_then(|_| finite(path, logits.next())));
        }
        if output::is_broken() {
            break; // Nobody reads on.
        }
    }
    answers.end()
}

/// The pictures that were asked for. A folder without any, or that cannot be looked into, stays, and
/// is told of as a picture that cannot be read.
fn files(asked: &[PathBuf]) -> Vec<PathBuf> {
    let in_folder = |path: &PathBuf| {
        let pictures = folder::pictures(path).unwrap_or_default();
        if pictures.is_empty() {
            vec![path.clone()]
        } else {
            pictures
        }
    };
    let files = asked.iter().flat_map(|path| match path.is_dir() {
        true => in_folder(path),
        false => vec![path.clone()],
    });
    files.collect()
}

/// A picture as the model takes it: as its training images were, and normalised.
fn read(path: &Path, info: &ModelInfo) -> Result<Vec<f32>> {
    let refuse = |problem: String, remedy: &str| Error::data(path.display(), problem, remedy);
    if path.is_dir() {
        folder::pictures(path)?;
        let remedy = "name a folder with pictures in it";
        return Err(refuse("there is no picture in this folder".into(), remedy));
    }
    let image = pictures::decode(path, info.square()).map_err(|error| {
        let problem = format!("this cannot be read as a picture ({error})");
        refuse(problem, "give a picture file")
    })?;
    let pixels = match info.input[2] {
        // ITU-R BT.601's luma, as the image crate's own conversion.
        1 => image::DynamicImage::ImageRgb8(image)
            .into_luma8()
            .into_raw(),
        _ => image.into_raw(),
    };
    let preprocess = info.preprocess();
    let mut input = vec![0.0; preprocess.output_len()];
    preprocess.apply(&pixels, &mut input);
    Ok(input)
}

/// An image's logits, if they are numbers.
fn finite<'a>(path: &Path, logits: Option<&'a [f32]>) -> Result<&'a [f32]> {
    let finite = logits.filter(|logits| logits.iter().all(|logit| logit.is_finite()));
    finite.ok_or_else(|| {
        let problem = "the model's answer to it is not a number";
        Error::model(path.display(), problem, "take another checkpoint")
    })
}

/// What is printed of the pictures, one after another.
struct Answers<'a> {
    info: &'a ModelInfo,
    json: bool,
    images: usize,
    printed: usize,
    failed: usize,
    /// Why the only picture has no answer.
    error: Option<Error>,
}

impl<'a> Answers<'a> {
    fn new(info: &'a ModelInfo, images: usize, json: bool) -> Self {
        if json {
            output::print("[");
        }
        Self {
            info,
            json,
            images,
            printed: 0,
            failed: 0,
            error: None,
        }
    }

    fn print(&mut self, path: &Path, answer: Result<&[f32]>) {
        self.printed += 1;
        if self.json {
            let comma = if self.printed < self.images { "," } else { "" };
            output::print(format!("{}{comma}", self.json(path, &answer)));
        } else if let Ok(logits) = &answer {
            output::print(output::name(path.display()));
            for (class, probability) in self.likeliest(logits) {
                let probability = words::percent(probability);
                output::print(format!("  {probability:>9}  {}", output::name(class)));
            }
        }
        let Err(error) = answer else { return };
        self.failed += 1;
        if self.images > 1 {
            note!("smallvit: {error}");
        } else {
            self.error = Some(error);
        }
    }

    fn json(&self, path: &Path, answer: &Result<&[f32]>) -> Value {
        // A name need not be Unicode.
        let image = path.display().to_string();
        let logits = match answer {
            Ok(logits) => logits,
            Err(error) => return json!({ "image": image, "error": error.to_string() }),
        };
        let likeliest: Vec<_> = self
            .likeliest(logits)
            .map(|(class, probability)| json!({ "class": class, "probability": probability }))
            .collect();
        json!({ "image": image, "likeliest": likeliest, "logits": logits })
    }

    /// Classes and their probabilities, the likeliest first.
    fn likeliest(&self, logits: &[f32]) -> impl Iterator<Item = (&'a str, f64)> {
        let probabilities = probabilities(logits);
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        order.truncate(LIKELIEST);
        let classes = &self.info.classes;
        order
            .into_iter()
            .map(move |class| (classes[class].as_str(), probabilities[class]))
    }

    /// Tells whether each picture has its answer.
    fn end(self) -> Result<()> {
        if self.json {
            output::print("]");
        }
        match (self.error, self.failed) {
            (Some(error), _) => Err(error),
            (None, 0) => Ok(()),
            (None, failed) => Err(Error::data(
                "pictures",
                format!("{failed} of {} have no answer", self.images),
                "the others are answered; what is wrong with each is said above",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_number_is_none() {
        let path = Path::new("a.png");
        assert_eq!(finite(path, Some(&[1.0, -2.0])).unwrap(), [1.0, -2.0]);
        for logits in [[f32::NAN, 1.0], [1.0, f32::INFINITY]] {
            let error = finite(path, Some(&logits)).unwrap_err();
            assert!(error.to_string().contains("a.png"), "{error}");
            assert_eq!(error.exit_code(), 1);
        }
    }
}
