//! `smallvit predict`.

use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rayon::prelude::*;
use serde_json::{Value, json};
use smallvit::data::{folder, pictures};
use smallvit::models::file::{self, ModelInfo};
use smallvit::train::metrics::probabilities;
use smallvit::words;
use smallvit::{Error, Result};

use super::evaluate::Which;
use super::options::{self, DeviceOption, InferencePrecision, Threads};
use super::output::{self, note};

/// Pictures that are read and answered at a time, and the most bytes that they may take.
const AT_ONCE: usize = 256;
const BYTES_AT_ONCE: usize = 64 << 20;

/// The name under which a picture comes from standard input.
const STANDARD_INPUT: &str = "-";

/// From how many pictures on a bar shows how many are done.
const MANY: usize = 50;

/// Say what is in pictures.
///
/// A picture that cannot be read costs an error, and the exit status 1, but not the answers of the
/// others.
#[derive(Args)]
pub struct Arguments {
    /// A run folder, or a model's safetensors file.
    model: PathBuf,
    /// Picture files, of any size. A folder stands for the pictures in it, a pattern such as 'pets/**/*.jpg' for
    /// those that it fits, and - for one picture on standard input.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// How many classes are named for a picture.
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = options::whole(1, u32::MAX.into()), allow_hyphen_values = true)]
    top: u64,
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
    /// Print CSV: image, rank (from 1), class, probability, error; a row a class that is named, and one a
    /// picture that has no answer.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// How answers are printed.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Text,
    Json,
    Csv,
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
    let style = match (arguments.json, arguments.csv) {
        (true, _) => Style::Json,
        (_, true) => Style::Csv,
        _ => Style::Text,
    };
    let mut answers = Answers::new(&info, images.len(), arguments.top as usize, style);
    let bar = bar(images.len());
    for paths in images.chunks((BYTES_AT_ONCE / bytes).clamp(1, AT_ONCE)) {
        let inputs: Vec<Result<Vec<f32>>> =
            paths.par_iter().map(|path| read(path, &info)).collect();
        let pixels: Vec<f32> = inputs.iter().flatten().flatten().copied().collect();
        let logits = inference.logits(&pixels);
        let mut logits = logits.chunks_exact(info.classes.len());
        for (path, input) in paths.iter().zip(inputs) {
            answers.print(path, input.and_then(|_| finite(path, logits.next())));
            bar.inc(1);
        }
        if output::is_broken() {
            break; // Nobody reads on.
        }
    }
    bar.finish_and_clear();
    answers.end()
}

/// A bar for many pictures, where the answers do not go to the same terminal.
fn bar(images: usize) -> ProgressBar {
    let target = match images >= MANY && output::is_live() && !io::stdout().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let style = "pictures {bar:30} {pos}/{len} ETA {eta}";
    let style = ProgressStyle::with_template(style).expect("the template is well-formed");
    ProgressBar::with_draw_target(Some(images as u64), target).with_style(style)
}

/// The files that a pattern fits, in order; none where it is no pattern.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    // A file may have any name, that of a pattern, too.
    let text = pattern
        .to_str()
        .filter(|text| text.contains(['*', '?', '[']) && !pattern.exists());
    let found = text.and_then(|text| glob::glob(text).ok());
    let found = found.into_iter().flatten().flatten();
    found.filter(|path| path.is_file()).collect()
}

/// The pictures that were asked for. A folder without any, or that cannot be looked into, and a pattern that
/// nothing fits, stay, and are told of as pictures that cannot be read.
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
        false => match matching(path) {
            found if found.is_empty() => vec![path.clone()],
            found => found,
        },
    });
    files.collect()
}

/// A picture as the model takes it: as its training images were, and normalised.
fn read(path: &Path, info: &ModelInfo) -> Result<Vec<f32>> {
    let pixels = pixels(path, info)?;
    let preprocess = info.preprocess();
    let mut input = vec![0.0; preprocess.output_len()];
    preprocess.apply(&pixels, &mut input);
    Ok(input)
}

/// A picture's pixels, of the size and with the channels that the model's training images had.
pub fn pixels(path: &Path, info: &ModelInfo) -> Result<Vec<u8>> {
    let refuse = |problem: String, remedy: &str| Error::data(path.display(), problem, remedy);
    if path.is_dir() {
        folder::pictures(path)?;
        let remedy = "name a folder with pictures in it";
        return Err(refuse("there is no picture in this folder".into(), remedy));
    }
    let image = match path.as_os_str() == STANDARD_INPUT {
        true => standard_input().and_then(|bytes| pictures::decode_bytes(&bytes, info.square())),
        false => pictures::decode(path, info.square()),
    };
    let image = image.map_err(|error| {
        let problem = format!("this cannot be read as a picture ({error})");
        refuse(problem, "give a picture file")
    })?;
    Ok(in_channels(image, info))
}

/// What lies on standard input.
fn standard_input() -> Result<Vec<u8>, String> {
    let mut bytes = vec![];
    let read = io::stdin()
        .lock()
        .take(pictures::MOST_BYTES)
        .read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// A decoded picture's bytes, in the model's channels.
pub fn in_channels(image: image::RgbImage, info: &ModelInfo) -> Vec<u8> {
    match info.input[2] {
        // ITU-R BT.601's luma, as the image crate's own conversion.
        1 => image::DynamicImage::ImageRgb8(image)
            .into_luma8()
            .into_raw(),
        _ => image.into_raw(),
    }
}

/// A model's classes and their probabilities, the likeliest first, at most so many.
pub fn likeliest(logits: &[f32], most: usize) -> Vec<(usize, f64)> {
    let probabilities = probabilities(logits);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    order.truncate(most);
    let named = order.into_iter().map(|class| (class, probabilities[class]));
    named.collect()
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
    style: Style,
    top: usize,
    images: usize,
    printed: usize,
    failed: usize,
    /// Why the only picture has no answer.
    error: Option<Error>,
}

impl<'a> Answers<'a> {
    fn new(info: &'a ModelInfo, images: usize, top: usize, style: Style) -> Self {
        match style {
            Style::Json => output::print("["),
            Style::Csv => output::print("image,rank,class,probability,error"),
            Style::Text => {}
        }
        Self {
            info,
            style,
            top,
            images,
            printed: 0,
            failed: 0,
            error: None,
        }
    }

    fn print(&mut self, path: &Path, answer: Result<&[f32]>) {
        self.printed += 1;
        match self.style {
            Style::Json => {
                let comma = if self.printed < self.images { "," } else { "" };
                output::print(format!("{}{comma}", self.json(path, &answer)));
            }
            Style::Csv => output::print(self.csv(path, &answer)),
            Style::Text => self.text(path, &answer),
        }
        let Err(error) = answer else { return };
        self.failed += 1;
        if self.images > 1 {
            note!("smallvit: {error}");
        } else {
            self.error = Some(error);
        }
    }

    fn text(&self, path: &Path, answer: &Result<&[f32]>) {
        let Ok(logits) = answer else { return };
        output::print(output::name(path.display()));
        for (class, probability) in self.likeliest(logits) {
            let probability = words::percent(probability);
            output::print(format!("  {probability:>9}  {}", output::name(class)));
        }
    }

    fn csv(&self, path: &Path, answer: &Result<&[f32]>) -> String {
        // A name need not be Unicode.
        let image = path.display().to_string();
        let mut rows = csv::WriterBuilder::new().flexible(true).from_writer(vec![]);
        let written = match answer {
            Ok(logits) => {
                (1..)
                    .zip(self.likeliest(logits))
                    .try_for_each(|(rank, (class, share))| {
                        let rank: u32 = rank;
                        rows.write_record([
                            &image,
                            &rank.to_string(),
                            class,
                            &share.to_string(),
                            "",
                        ])
                    })
            }
            Err(error) => rows.write_record([&image, "", "", "", &error.to_string()]),
        };
        let bytes = written.ok().and_then(|()| rows.into_inner().ok());
        let text = String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
        text.trim_end_matches('\n').to_owned()
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
    fn likeliest(&self, logits: &[f32]) -> impl Iterator<Item = (&'a str, f64)> + use<'a> {
        let classes = &self.info.classes;
        let named = likeliest(logits, self.top).into_iter();
        named.map(move |(class, share)| (classes[class].as_str(), share))
    }

    /// Tells whether each picture has its answer.
    fn end(self) -> Result<()> {
        if self.style == Style::Json {
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
