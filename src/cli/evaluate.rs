//! `smallvit evaluate`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use smallvit::data::Dataset;
use smallvit::models::file::{Contents, ModelInfo};
use smallvit::report::picture::confusion;
use smallvit::report::table;
use smallvit::train::evaluate::each_image;
use smallvit::train::folder::RunFolder;
use smallvit::train::metrics::{Sums, image_loss, rank};
use smallvit::train::prepare::{self, Prepared};
use smallvit::train::recipe::Recipe;
use smallvit::train::workers::Workers;
use smallvit::{Error, Result};

use super::options::{DataOptions, DeviceOption, Threads};
use super::output::{self, note};

/// Evaluate a trained model: accuracy, a table of classes, a confusion matrix.
#[derive(Args)]
pub struct Arguments {
    /// A run folder, or a model's safetensors file.
    model: PathBuf,
    #[command(flatten)]
    data: DataOptions,
    /// Which images.
    #[arg(long, value_enum, default_value_t = Part::Test)]
    split: Part,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    device: DeviceOption,
    /// Where the confusion matrix is drawn, as PNG or SVG [default: confusion.png in the run folder,
    /// or here].
    #[arg(long, short, value_name = "FILE", value_parser = super::picture_file)]
    out: Option<PathBuf>,
    #[command(flatten)]
    threads: Threads,
    /// Print the numbers as JSON.
    #[arg(long)]
    json: bool,
}

/// Which weights of a run.
#[derive(Args)]
pub struct Which {
    /// Of a run folder: the weights of the best or of the last epoch.
    #[arg(long, value_enum, default_value_t = Checkpoint::Best)]
    pub checkpoint: Checkpoint,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Checkpoint {
    Best,
    Last,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    Test,
    Validation,
}

impl Which {
    /// The model file that a path means: itself, or the run folder's.
    pub fn file(&self, path: &Path) -> Result<PathBuf> {
        if !path.is_dir() {
            return Ok(path.to_path_buf());
        }
        let run = RunFolder(path.to_path_buf());
        let file = match self.checkpoint {
            Checkpoint::Best => run.best(),
            Checkpoint::Last => run.last(),
        };
        let imported = path.join("model.safetensors");
        if file.exists() {
            Ok(file)
        } else if imported.exists() {
            Ok(imported)
        } else {
            let inner = ["sl-vit", "vit"].map(|name| path.join(name));
            let remedy = match inner.iter().find(|folder| folder.is_dir()) {
                Some(folder) => {
                    format!("a comparison holds a run a model: try {}", folder.display())
                }
                None => {
                    "give the folder of a run that has finished an epoch, or a model file".into()
                }
            };
            Err(Error::model(
                path.display(),
                "there is no model in it",
                remedy,
            ))
        }
    }
}

pub fn run(arguments: Arguments) -> Result<()> {
    let device = arguments.device.open()?;
    let path = arguments.which.file(&arguments.model)?;
    let mut contents = Contents::read(&path)?;
    let (info, model) = contents.model(&device)?;
    let recipe = contents
        .text("recipe")
        .map(|text| Recipe::parse(text, path.display()).map(|restored| restored.recipe))
        .transpose()?;
    let set = match (&arguments.data.data, &recipe) {
        (Some(set), _) => set.clone(),
        (None, Some(recipe)) => recipe.data.set.clone(),
        (None, None) => {
            return Err(Error::recipe(
                "--data",
                "an imported model does not say what to evaluate it on",
                "add --data SET",
            ));
        }
    };
    let recipe = recipe.unwrap_or_default();
    let dataset = arguments.data.load(&set, info.input[0])?;
    check_kind(&set, &dataset, &info)?;
    let trained_on = contents.text("fingerprint") == Some(&dataset.fingerprint());
    let part = part(dataset, &recipe, arguments.split, trained_on, &set)?;

    let classes = info.classes.len();
    let mut sums = Sums::default();
    let mut confused = vec![0u64; classes * classes];
    let mut top5 = vec![0u64; classes];
    let mut not_numbers = 0;
    let workers = Workers::new(arguments.threads.count(), recipe.train.micro_batch, device)?;
    let size = info.config.image_size();
    let shape = [size, size, info.input[2]];
    let preprocess = std::sync::Arc::new(info.preprocess());
    each_image(
        &workers,
        &model,
        &part,
        &preprocess,
        shape,
        |logits, label| {
            sums.add(image_loss(logits, label as usize), logits, &[label]);
            let first = (0..classes).find(|&class| rank(logits, class) == Some(0));
            match first {
                Some(first) => confused[label as usize * classes + first] += 1,
                None => not_numbers += 1,
            }
            let rank = rank(logits, label as usize);
            top5[label as usize] += u64::from(rank.is_some_and(|rank| rank < 5));
        },
    )?;
    if not_numbers > 0 {
        return Err(Error::model(
            path.display(),
            format!("its answer to {not_numbers} images is not a number"),
            "take another checkpoint",
        ));
    }
    let means = sums.means();
    let counts = |class: usize| &confused[class * classes..][..classes];
    let recall = |class: usize| {
        let all: u64 = counts(class).iter().sum();
        (all, 100.0 * counts(class)[class] as f64 / all as f64)
    };
    let precision = |class: usize| {
        let all: u64 = (0..classes).map(|other| counts(other)[class]).sum();
        100.0 * counts(class)[class] as f64 / all as f64
    };
    if arguments.json {
        let per_class: Vec<_> = (0..classes)
            .map(|class| {
                let (images, recall) = recall(class);
                serde_json::json!({
                    "class": info.classes[class], "images": images, "top1": recall,
                    "top5": 100.0 * top5[class] as f64 / images as f64,
                    "precision": precision(class),
                })
            })
            .collect();
        output::print(serde_json::json!({
            "images": sums.images, "loss": means.loss, "top1": means.top1, "top5": means.top5,
            "classes": per_class, "confusion": confused,
        }));
    } else {
        let percent = |value: f64| {
            if value.is_nan() {
                "–".into()
            } else {
                format!("{value:.2} %")
            }
        };
        let rows: Vec<Vec<String>> = (0..classes)
            .map(|class| {
                let (images, recall) = recall(class);
                vec![
                    info.classes[class].clone(),
                    images.to_string(),
                    percent(recall),
                    percent(100.0 * top5[class] as f64 / images as f64),
                    percent(precision(class)),
                ]
            })
            .collect();
        output::print(table::plain(
            &["class", "images", "top-1", "top-5", "precision"],
            &rows,
        ));
        output::print(format!(
            "\n{} on {} images of {set}: loss {:.4}, top-1 {:.2} %, top-5 {:.2} %",
            info.config.name(),
            sums.images,
            means.loss,
            means.top1,
            means.top5
        ));
    }
    let picture = arguments.out.unwrap_or_else(|| {
        let folder = arguments
            .model
            .is_dir()
            .then_some(arguments.model.as_path());
        folder.unwrap_or(Path::new(".")).join("confusion.png")
    });
    let title = format!("{} on {set}: top-1 {:.2} %", info.config.name(), means.top1);
    super::tell_missing(&confusion::draw(
        &title,
        &info.classes,
        &confused,
        &picture,
    )?);
    if !arguments.json {
        output::print(format!("the confusion matrix is in {}", picture.display()));
    }
    Ok(())
}

/// Refuses images of another kind than the model's.
fn check_kind(set: &str, dataset: &Dataset, info: &ModelInfo) -> Result<()> {
    let images = &dataset.train.images;
    let input = [images.height, images.width, images.channels];
    // A model imported without names has its classes' numbers for them.
    let mut numbers = (0..).zip(&info.classes);
    let unnamed = numbers.all(|(number, name)| *name == number.to_string());
    let (theirs, ours) = (&dataset.classes, &info.classes);
    let problem = if input != info.input {
        format!(
            "{set} has images of {input:?}, the model was trained for {:?}",
            info.input
        )
    } else if theirs.len() != ours.len() {
        format!(
            "{set} has {} classes, the model {}",
            theirs.len(),
            ours.len()
        )
    } else if let Some((theirs, ours)) = theirs.iter().zip(ours).find(|(a, b)| a != b)
        && !unnamed
    {
        format!("{set} has a class {theirs} where the model has {ours}")
    } else {
        return Ok(());
    };
    Err(Error::recipe(
        "--data",
        problem,
        "evaluate it on images of the kind it was trained on, with classes of the same names in \
         the same order",
    ))
}

/// The images to evaluate on. Those that a run held out can be told only where it is the same
/// data; of other data without test images, all are new to the model.
fn part(
    dataset: Dataset,
    recipe: &Recipe,
    asked: Part,
    trained_on: bool,
    set: &str,
) -> Result<prepare::Subset> {
    if trained_on || (asked == Part::Test && dataset.test.is_some()) {
        let prepared = Prepared::new(dataset, recipe)?;
        return Ok(match asked {
            Part::Test => prepared.test,
            Part::Validation => prepared.validation,
        });
    }
    let split = match (asked, dataset.validation) {
        (Part::Validation, Some(validation)) => validation,
        (Part::Validation, None) => {
            return Err(Error::recipe(
                "--split",
                format!("{set} has no validation images, and is not what the model was trained on"),
                "leave --split out",
            ));
        }
        (Part::Test, _) => {
            note!("{set} has no test images of its own and was not trained on: all are taken");
            dataset.train
        }
    };
    let samples = (0..split.len() as u32).collect();
    let split = std::sync::Arc::new(split);
    Ok(prepare::Subset { split, samples })
}
