//! `smallvit evaluate`.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use smallvit::atomic;
use smallvit::data::catalogue::Spec;
use smallvit::data::{Dataset, Images};
use smallvit::models::ModelName;
use smallvit::models::file::{Contents, ModelInfo};
use smallvit::report::picture::confusion;
use smallvit::train::evaluate::each_image;
use smallvit::train::folder::RunFolder;
use smallvit::train::metrics::{Sums, image_loss, rank, standard_error};
use smallvit::train::prepare::{self, Prepared};
use smallvit::train::recipe::Recipe;
use smallvit::words;
use smallvit::{Error, Result};

use super::classes::Matching;
use super::dataset::DataOptions;
use super::options::{DeviceOption, InferencePrecision, Threads};
use super::output::{self, note};

/// Evaluate a trained model: accuracy, a table of classes, a confusion matrix.
///
/// The data's classes are the model's by their names, in whatever order; some of the model's may be
/// missing. Accuracies carry their standard error; the share of the five likeliest is left out (in
/// JSON null) where the model knows five classes or fewer.
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
    matching: Matching,
    #[command(flatten)]
    which: Which,
    /// Also report the accuracy of each image's answer together with that to its mirror image (the mean
    /// of both logits); the other numbers stay without it. Takes twice as long.
    #[arg(long)]
    flip: bool,
    #[command(flatten)]
    device: DeviceOption,
    #[command(flatten)]
    precision: InferencePrecision,
    /// Where the confusion matrix is drawn, as PNG, JPEG or SVG [default: confusion.png in the run
    /// folder; nowhere for a model's file].
    #[arg(long, short, value_name = "FILE", value_parser = super::picture_file())]
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

/// A model's run in a comparison's folder, which with several seeds has a folder for each.
fn run_within(comparison: &Path) -> Option<PathBuf> {
    let mut places = vec![comparison.to_path_buf()];
    let entries = std::fs::read_dir(comparison)
        .into_iter()
        .flatten()
        .flatten();
    let seed = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("seed-")
    };
    let mut seeds: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(seed).collect();
    seeds.sort();
    places.extend(seeds);
    // The models with most of the paper in them first.
    let names: Vec<String> = ModelName::ALL
        .iter()
        .rev()
        .map(ModelName::to_string)
        .collect();
    let mut runs = places
        .iter()
        .flat_map(|place| names.iter().map(|name| place.join(name)));
    runs.find(|folder| folder.is_dir())
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
            let remedy = match run_within(path) {
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
    if let Some(out) = &arguments.out {
        output::reserve(out)?;
    }
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
    let from_elsewhere = recipe.is_none();
    let recipe = recipe.unwrap_or_default();
    let dataset = arguments.data.load(&set, info.square())?;
    check_images(&set, &dataset, &info)?;
    let classes = arguments
        .matching
        .of(&set, &dataset.classes, &info.classes, from_elsewhere)?;
    let trained_on = contents.text("fingerprint") == Some(&dataset.fingerprint());
    let known = match trained_on {
        true => Known::TrainedOn,
        false if !from_elsewhere && is_same_place(&set, &recipe.data.set) => Known::Changed,
        false => Known::New,
    };
    let part = part(dataset, &recipe, arguments.split, known, &set)?;
    if part.samples.is_empty() {
        let problem = "there is no image to evaluate on";
        return Err(Error::data(&set, problem, "choose another --split"));
    }

    let mut answers = Answers::new(&info.classes);
    let workers = arguments.precision.workers(&arguments.threads, device)?;
    let size = info.config.image_size();
    let shape = [size, size, info.input[2]];
    let preprocess = std::sync::Arc::new(info.preprocess());
    each_image(
        &workers,
        &model,
        &part,
        &preprocess,
        shape,
        arguments.flip,
        |logits, with_mirror, label| answers.add(logits, with_mirror, classes[label as usize]),
    )?;
    if answers.not_numbers > 0 {
        let problem = format!(
            "its answer to {} is not a number",
            words::counted(answers.not_numbers, "image")
        );
        let remedy = "take another checkpoint";
        return Err(Error::model(path.display(), problem, remedy));
    }
    if arguments.json {
        output::print(answers.json());
    } else {
        answers.print(info.config.name(), &set);
    }
    let Some(picture) = arguments.out.or_else(|| usual_picture(&arguments.model)) else {
        return Ok(());
    };
    let top1 = answers.sums.means().top1;
    let title = format!("{} on {set}: top-1 {top1:.2} %", info.config.name());
    let missing = confusion::draw(&title, &info.classes, &answers.confused, &picture)?;
    super::tell_missing(&missing);
    if !arguments.json {
        let picture = output::name(picture.display());
        output::prose(format!("the confusion matrix is in {picture}"));
    }
    Ok(())
}

/// Whether two data sets are the same one, however their paths are written.
fn is_same_place(one: &str, other: &str) -> bool {
    let place = |set: &str| match set.parse() {
        Ok(Spec::Files(format, path)) => {
            // What is not there any more is known by its name alone.
            let path = path.canonicalize().or_else(|_| std::path::absolute(&path));
            path.ok()
                .map(|path| Spec::Files(format, path.components().collect()))
        }
        Ok(named) => Some(named),
        Err(_) => None,
    };
    one == other || place(one).is_some_and(|one| place(other) == Some(one))
}

/// Where the confusion matrix goes unless something else is asked for; nowhere, where that cannot
/// be written: the numbers are what matters.
fn usual_picture(model: &Path) -> Option<PathBuf> {
    if !model.is_dir() {
        return None;
    }
    let picture = model.join("confusion.png");
    let error = atomic::check_writable(&picture).err();
    if let Some(error) = &error {
        note!("no confusion matrix is drawn: {error}; -o FILE draws it elsewhere");
    }
    error.is_none().then_some(picture)
}

/// What a model said to a data set's images.
struct Answers<'a> {
    classes: &'a [String],
    sums: Sums,
    /// How many images of one class were taken for another: `[class, answer]`.
    confused: Vec<u64>,
    /// How many of a class's images had it among the five likeliest.
    top5: Vec<u64>,
    not_numbers: u64,
    /// Of each image's answer together with that to its mirror image, where it is asked for.
    mirrored: Sums,
}

impl<'a> Answers<'a> {
    fn new(classes: &'a [String]) -> Self {
        Self {
            classes,
            sums: Sums::default(),
            confused: vec![0; classes.len() * classes.len()],
            top5: vec![0; classes.len()],
            not_numbers: 0,
            mirrored: Sums::default(),
        }
    }

    /// An image's logits, perhaps those with its mirror image, and its class.
    fn add(&mut self, logits: &[f32], with_mirror: Option<&[f32]>, class: usize) {
        let label = class as u32;
        if let Some(logits) = with_mirror {
            self.mirrored
                .add(image_loss(logits, class), logits, &[label]);
        }
        self.sums.add(image_loss(logits, class), logits, &[label]);
        let classes = self.classes.len();
        match (0..classes).find(|&class| rank(logits, class) == Some(0)) {
            Some(first) => self.confused[class * classes + first] += 1,
            None => self.not_numbers += 1,
        }
        self.top5[class] += u64::from(rank(logits, class).is_some_and(|rank| rank < 5));
    }

    /// How many images there are of a class.
    fn images(&self, class: usize) -> u64 {
        let classes = self.classes.len();
        self.confused[class * classes..][..classes].iter().sum()
    }

    fn right(&self, class: usize) -> u64 {
        self.confused[class * self.classes.len() + class]
    }

    /// Percent of a class's images that were taken for it.
    fn recall(&self, class: usize) -> f64 {
        share(self.right(class), self.images(class))
    }

    /// Percent of the images taken for a class that are of it.
    fn precision(&self, class: usize) -> f64 {
        let column = self.confused.iter().skip(class);
        share(self.right(class), column.step_by(self.classes.len()).sum())
    }

    /// Percent of a class's images that have it among the five likeliest, where that says something.
    fn top5(&self, class: usize) -> Option<f64> {
        let top5 = share(self.top5[class], self.images(class));
        self.tells_top5().then_some(top5)
    }

    /// Among five classes, each is always one of the five likeliest.
    fn tells_top5(&self) -> bool {
        self.classes.len() > 5
    }

    /// Numbers that are none, as the accuracy on no image, are null.
    fn json(&self) -> Value {
        let (means, images) = (self.sums.means(), self.sums.images);
        let top5 = self.tells_top5().then_some(means.top5);
        let of_class = |(class, name): (usize, &String)| {
            json!({
                "class": name, "images": self.images(class), "top1": self.recall(class),
                "top5": self.top5(class), "precision": self.precision(class),
            })
        };
        let classes: Vec<_> = self.classes.iter().enumerate().map(of_class).collect();
        let mut json = json!({
            "images": images, "loss": means.loss,
            "top1": means.top1, "top1_standard_error": standard_error(means.top1, images),
            "top5": top5, "top5_standard_error": top5.map(|top5| standard_error(top5, images)),
            "classes": classes, "confusion": self.confused,
        });
        if self.mirrored.images > 0 {
            let means = self.mirrored.means();
            json["with_mirror"] = json!({
                "loss": means.loss, "top1": means.top1,
                "top5": self.tells_top5().then_some(means.top5),
            });
        }
        json
    }

    fn print(&self, model: impl Display, set: &str) {
        let percent = |percent: f64| words::percent(percent / 100.0);
        let row = |class: usize| {
            let top5 = self.top5(class).map(percent);
            let cells = [
                Some(self.classes[class].clone()),
                Some(words::count(self.images(class))),
                Some(percent(self.recall(class))),
                top5,
                Some(percent(self.precision(class))),
            ];
            cells.into_iter().flatten().collect()
        };
        let rows: Vec<Vec<String>> = (0..self.classes.len()).map(row).collect();
        let mut header = vec!["class", "images", "top-1", "top-5", "precision"];
        if !self.tells_top5() {
            header.retain(|&heading| heading != "top-5");
        }
        output::table(&header, &rows);
        let images = self.sums.images;
        let accuracy = |percent| words::accuracy(percent, standard_error(percent, images));
        let numbers = |sums: &Sums| {
            let means = sums.means();
            let top5 = match self.tells_top5() {
                true => format!(", top-5 {}", accuracy(means.top5)),
                false => String::new(),
            };
            format!(
                "loss {:.4}, top-1 {}{top5}",
                means.loss,
                accuracy(means.top1)
            )
        };
        output::prose(format!(
            "\n{model} on {} of {set}: {}",
            words::counted(images, "image"),
            numbers(&self.sums),
        ));
        if self.mirrored.images > 0 {
            output::prose(format!(
                "together with each image's mirror image: {}",
                numbers(&self.mirrored)
            ));
        }
    }
}

/// In percent.
fn share(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole as f64
}

/// Refuses images of another kind than the model's.
fn check_images(set: &str, dataset: &Dataset, info: &ModelInfo) -> Result<()> {
    let Images {
        height,
        width,
        channels,
        ..
    } = dataset.train.images;
    if [height, width, channels] == info.input {
        return Ok(());
    }
    let kind = |[height, width, channels]: [usize; 3]| {
        let channels = words::counted(channels as u64, "channel");
        format!("{height}×{width} pixels and {channels}")
    };
    Err(Error::recipe(
        "--data",
        format!(
            "{set} has images of {}, the model was trained on {}",
            kind([height, width, channels]),
            kind(info.input)
        ),
        "evaluate it on images of the kind it was trained on",
    ))
}

/// Whether a model has seen a data set.
#[derive(Clone, Copy, PartialEq)]
enum Known {
    /// It was trained on a part of it.
    TrainedOn,
    /// The same, but images have changed since.
    Changed,
    /// It is another data set.
    New,
}

/// The images to evaluate on. Those that a run held out can be told only where it is the same
/// data; of other data without test images, all are new to the model.
fn part(
    dataset: Dataset,
    recipe: &Recipe,
    asked: Part,
    known: Known,
    set: &str,
) -> Result<prepare::Subset> {
    if known == Known::TrainedOn {
        let prepared = Prepared::new(dataset, recipe)?;
        return Ok(match asked {
            Part::Test => prepared.test,
            Part::Validation => prepared.validation,
        });
    }
    let told = dataset.test.is_some() && !recipe.data.redivide;
    if known == Known::Changed && (asked == Part::Validation || !told) {
        return Err(Error::data(
            set,
            "its images are not those that the run began with, and which of them the model was trained \
             on cannot be told any more",
            "bring them back as they were, or name images that it has not seen: --data SET",
        ));
    }
    let split = match (asked, dataset.validation, dataset.test) {
        (Part::Test, _, Some(test)) => test,
        (Part::Validation, Some(validation), _) => validation,
        (Part::Validation, None, _) => {
            return Err(Error::recipe(
                "--split",
                format!("{set} has no validation images, and is not what the model was trained on"),
                "leave --split out",
            ));
        }
        (Part::Test, _, None) => {
            note!("{set} has no test images of its own and was not trained on: all are taken");
            dataset.train
        }
    };
    let samples = (0..split.len() as u32).collect();
    let split = std::sync::Arc::new(split);
    Ok(prepare::Subset { split, samples })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("class {class}")).collect()
    }

    #[test]
    fn shares_are_of_each_class_and_come_with_their_error() {
        let classes = names(6);
        let mut answers = Answers::new(&classes);
        for (logits, class) in [
            ([9.0, 1.0, 0.0, 0.0, 0.0, 0.0], 0),
            ([9.0, 1.0, 0.0, 0.0, 0.0, 0.0], 1),
            ([0.0, 9.0, 0.0, 0.0, 0.0, 0.0], 1),
            ([9.0, 8.0, 7.0, 6.0, 5.0, 0.0], 5),
        ] {
            answers.add(&logits, None, class);
        }
        let json = answers.json();
        assert_eq!((&json["top1"], &json["top5"]), (&50.0.into(), &75.0.into()));
        assert_eq!(json["top1_standard_error"], 25.0);
        assert_eq!(json["classes"][1]["top1"], 50.0);
        assert_eq!(json["classes"][0]["precision"], 100.0 / 3.0);
        assert_eq!(json["classes"][5]["top5"], 0.0);
        // Nothing is known of a class without images.
        assert!(json["classes"][2]["top1"].is_null());
    }

    #[test]
    fn what_is_no_number_is_counted_and_null() {
        let classes = names(2);
        let mut answers = Answers::new(&classes);
        let json = answers.json();
        for key in ["loss", "top1", "top1_standard_error", "top5"] {
            assert!(json[key].is_null(), "{key}");
        }
        answers.add(&[f32::NAN, 1.0], None, 1);
        assert_eq!(answers.not_numbers, 1);
        assert!(answers.json()["loss"].is_null());
    }
}
