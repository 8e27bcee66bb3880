//! `smallvit evaluate`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use smallvit::atomic;
use smallvit::data::catalogue::Spec;
use smallvit::data::pictures::Square;
use smallvit::data::{Dataset, Images};
use smallvit::models::ModelName;
use smallvit::models::file::{Contents, ModelInfo};
use smallvit::report::picture::{confusion, reliability};
use smallvit::train::answers::{Answer, Answers, ClassAnswers};
use smallvit::train::evaluate::each_image;
use smallvit::train::folder::RunFolder;
use smallvit::train::metrics::{Metrics, Sums, image_loss, standard_error};
use smallvit::train::prepare::{self, Prepared};
use smallvit::train::recipe::Recipe;
use smallvit::words;
use smallvit::{Error, Result};

use super::classes::Matching;
use super::compare;
use super::dataset::DataOptions;
use super::options::{self, DeviceOption, InferencePrecision, Threads};
use super::output::{self, note};

/// Evaluate a trained model: accuracy, macro-F1, calibration, a table of classes, a confusion matrix.
///
/// Of a comparison's folder, every run's model, a row each.
///
/// The data's classes are the model's by their names, in whatever order; some of the model's may be
/// missing. Accuracies carry their standard error; the share of the five likeliest is left out (in
/// JSON null) where the model knows five classes or fewer.
#[derive(Args)]
pub struct Arguments {
    /// A run folder, a comparison's, or a model's safetensors file.
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
    /// Where it is drawn how far the model's confidence can be trusted [default: reliability.png in the run
    /// folder; nowhere for a model's file].
    #[arg(long, value_name = "FILE", value_parser = super::picture_file())]
    reliability: Option<PathBuf>,
    /// Also list so many of the wrong answers, the most confident ones.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = options::whole(0, u32::MAX.into()), allow_hyphen_values = true)]
    mistakes: u64,
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

/// Mistakes that the JSON names.
const WORST: usize = 20;

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
    for picture in [&arguments.out, &arguments.reliability]
        .into_iter()
        .flatten()
    {
        output::reserve(picture)?;
    }
    let folder = RunFolder(arguments.model.clone());
    if folder.models().exists() {
        return compared(&arguments, &folder);
    }
    let evaluated = evaluated(&arguments, &arguments.model, None)?;
    let told = evaluated.told(arguments.mistakes);
    if arguments.json {
        output::print(told.json());
    } else {
        told.print();
        if arguments.mistakes > 0 {
            told.print_mistakes(arguments.mistakes as usize);
        }
    }
    evaluated.draw(&arguments, &arguments.model)
}

/// Evaluates every model of a comparison.
fn compared(arguments: &Arguments, folder: &RunFolder) -> Result<()> {
    if arguments.out.is_some() || arguments.reliability.is_some() {
        return Err(Error::recipe(
            "--out",
            "a comparison has pictures a model, and each lies in its run's folder",
            "leave it out, or evaluate one run",
        ));
    }
    let (mut loaded, mut json, mut rows) = (Loaded::None, vec![], vec![]);
    if arguments.mistakes > 0 && !arguments.json {
        return Err(Error::recipe(
            "--mistakes",
            "a comparison's models each have their own",
            "leave it out, or evaluate one run; --json names twenty of each",
        ));
    }
    let runs = compare::runs_in(folder)?;
    let (there, missing): (Vec<_>, Vec<_>) = runs
        .into_iter()
        .partition(|run| arguments.which.file(&run.0).is_ok());
    if there.is_empty() {
        // Says what is missing.
        arguments.which.file(&folder.0)?;
    }
    for run in &missing {
        note!("{}: it has no model yet, and is left out", run.0.display());
    }
    for run in there {
        let evaluated = evaluated(arguments, &run.0, Some(&mut loaded))?;
        let told = evaluated.told(arguments.mistakes);
        let means = told.answers.means();
        if arguments.json {
            let mut of = told.json();
            of["folder"] = run.0.display().to_string().into();
            of["seed"] = evaluated.seed.into();
            json.push(of);
        }
        let images = told.answers.rows.len() as u64;
        let accuracy = |percent| words::accuracy(percent, standard_error(percent, images));
        rows.push(vec![
            evaluated.info.config.name().to_string(),
            evaluated.seed.to_string(),
            words::count(images),
            format!("{:.4}", means.loss),
            accuracy(means.top1),
            if told.answers.tells_top5() {
                accuracy(means.top5)
            } else {
                "–".into()
            },
            words::percent(told.answers.macro_f1() / 100.0),
            format!("{:.2}", told.answers.calibration().error),
        ]);
        if told.mirrored.images > 0 {
            let row = rows.last_mut().expect("a row was pushed");
            row.push(accuracy(told.mirrored.means().top1));
        }
        evaluated.draw(arguments, &run.0)?;
    }
    if arguments.json {
        output::print(json!({ "runs": json }));
        return Ok(());
    }
    let mut header = vec![
        "model",
        "seed",
        "images",
        "loss",
        "top-1",
        "top-5",
        "macro-F1",
        "calibration error",
    ];
    header.extend(arguments.flip.then_some("top-1 with mirror images"));
    output::table(&header, &rows);
    output::prose(
        "\nCalibration error in points; accuracies ± standard error. Each run's folder has its confusion matrix \
         and its reliability.",
    );
    Ok(())
}

/// A data set, and what it was asked for as.
type Loaded = Option<(String, Square, Dataset)>;

/// A model and its answers.
struct Evaluated {
    info: ModelInfo,
    set: String,
    seed: u64,
    answers: Answers,
    mirrored: Sums,
}

/// Evaluates the model that a path means. For the next one, its data set may be kept.
fn evaluated(
    arguments: &Arguments,
    model: &Path,
    mut loaded: Option<&mut Loaded>,
) -> Result<Evaluated> {
    let device = arguments.device.open()?;
    let path = arguments.which.file(model)?;
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
    let dataset = match loaded.as_mut().and_then(|loaded| loaded.take()) {
        Some((name, square, dataset)) if name == set && square == info.square() => dataset,
        _ => arguments.data.load(&set, info.square())?,
    };
    if let Some(loaded) = loaded {
        *loaded = Some((set.clone(), info.square(), dataset.clone()));
    }
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

    let (mut answers, mut mirrored) = (Answers::new(info.classes.len()), Sums::default());
    let workers = arguments.precision.workers(&arguments.threads, device)?;
    let size = info.config.image_size();
    let shape = [size, size, info.input[2]];
    let preprocess = std::sync::Arc::new(info.preprocess());
    let mut samples = part.samples.iter();
    each_image(
        &workers,
        &model,
        &part,
        &preprocess,
        shape,
        arguments.flip,
        |logits, with_mirror, label| {
            let (image, class) = (samples.next(), classes[label as usize]);
            answers.add(*image.expect("an image is a sample"), logits, class);
            if let Some(logits) = with_mirror {
                mirrored.add(image_loss(logits, class), logits, &[class as u32]);
            }
        },
    )?;
    if answers.not_numbers() > 0 {
        let problem = format!(
            "its answer to {} is not a number",
            words::counted(answers.not_numbers(), "image")
        );
        let remedy = "take another checkpoint";
        return Err(Error::model(path.display(), problem, remedy));
    }
    Ok(Evaluated {
        info,
        set,
        seed: recipe.train.seed,
        answers,
        mirrored,
    })
}

impl Evaluated {
    fn told(&self, mistakes: u64) -> Told<'_> {
        let mistakes = mistakes as usize;
        Told {
            info: &self.info,
            set: &self.set,
            mistakes,
            answers: &self.answers,
            mirrored: self.mirrored,
        }
    }

    /// Draws the confusion matrix and the reliability: where they are asked for, or in a run's folder.
    fn draw(&self, arguments: &Arguments, model: &Path) -> Result<()> {
        let (set, name) = (&self.set, self.info.config.name());
        let top1 = words::percent(self.answers.means().top1 / 100.0);
        let out = arguments.out.clone();
        if let Some(picture) = out.or_else(|| usual_picture(model, "confusion.png", "-o")) {
            let title = format!("{name} on {set}: top-1 {top1}");
            let confused = self.answers.confusion();
            super::tell_missing(&confusion::draw(
                &title,
                &self.info.classes,
                &confused,
                &picture,
            )?);
            if !arguments.json && model == arguments.model {
                let picture = output::name(picture.display());
                output::prose(format!("the confusion matrix is in {picture}"));
            }
        }
        let out = arguments.reliability.clone();
        if let Some(picture) =
            out.or_else(|| usual_picture(model, "reliability.png", "--reliability"))
        {
            let title = format!("{name} on {set}: confidence and accuracy");
            let bins = reliability_bins(&self.answers);
            super::tell_missing(&reliability::draw(&title, &bins, &picture)?);
        }
        Ok(())
    }
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

/// Where a picture goes unless something else is asked for; nowhere, where that cannot be written: the
/// numbers are what matters.
fn usual_picture(model: &Path, name: &str, flag: &str) -> Option<PathBuf> {
    if !model.is_dir() {
        return None;
    }
    let picture = model.join(name);
    let error = atomic::check_writable(&picture).err();
    if let Some(error) = &error {
        note!("{name} is not drawn: {error}; {flag} FILE draws it elsewhere");
    }
    error.is_none().then_some(picture)
}

/// The bins that have answers in them, as they are drawn.
pub fn reliability_bins(answers: &Answers) -> Vec<reliability::Bin> {
    let bins = answers.calibration().bins.into_iter();
    let drawn = bins.map(|bin| reliability::Bin {
        images: bin.images,
        confidence: bin.confidence,
        accuracy: bin.accuracy,
    });
    drawn.filter(|bin| bin.images > 0).collect()
}

/// What is printed of a model's answers.
struct Told<'a> {
    info: &'a ModelInfo,
    set: &'a str,
    /// How many are asked for.
    mistakes: usize,
    answers: &'a Answers,
    /// Of each image's answer together with that to its mirror image, where it is asked for.
    mirrored: Sums,
}

impl Told<'_> {
    /// Numbers that are none, as the accuracy on no image, are null.
    fn json(&self) -> Value {
        let (answers, means) = (self.answers, self.answers.means());
        let images = answers.rows.len() as u64;
        let tells_top5 = answers.tells_top5();
        let top5 = tells_top5.then_some(means.top5);
        let name = |class: u32| &self.info.classes[class as usize];
        let of_class = |(of, name): (ClassAnswers, &String)| {
            json!({
                "class": name, "images": of.images, "top1": of.recall,
                "top5": tells_top5.then_some(of.top5), "precision": of.precision, "f1": of.f1,
            })
        };
        let of_classes = answers.of_classes().into_iter().zip(&self.info.classes);
        let classes: Vec<_> = of_classes.map(of_class).collect();
        let mistakes = answers
            .mistakes(self.mistakes.max(WORST))
            .into_iter()
            .map(|row| {
                json!({
                    "image": row.image, "class": name(row.class), "answer": row.answer.map(name),
                    "confidence": row.confidence,
                })
            });
        let confused = answers.confusion();
        let confused: Vec<&[u64]> = confused.chunks_exact(answers.classes.max(1)).collect();
        let mut json = json!({
            "model": self.info.config.name(), "data": self.set,
            "images": images, "loss": means.loss,
            "top1": means.top1, "top1_standard_error": standard_error(means.top1, images),
            "top5": top5, "top5_standard_error": top5.map(|top5| standard_error(top5, images)),
            "macro_f1": answers.macro_f1(), "calibration": answers.calibration(),
            "classes": classes, "confusion": confused, "mistakes": mistakes.collect::<Vec<_>>(),
        });
        if self.mirrored.images > 0 {
            let means = self.mirrored.means();
            json["with_mirror"] = json!({
                "loss": means.loss, "top1": means.top1,
                "top5": tells_top5.then_some(means.top5),
            });
        }
        json
    }

    fn print(&self) {
        let answers = self.answers;
        let tells_top5 = answers.tells_top5();
        let percent = |percent: f64| words::percent(percent / 100.0);
        let row = |(of, name): (ClassAnswers, &String)| {
            let cells = [
                Some(name.clone()),
                Some(words::count(of.images)),
                Some(percent(of.recall)),
                tells_top5.then(|| percent(of.top5)),
                Some(percent(of.precision)),
                Some(percent(of.f1)),
            ];
            cells.into_iter().flatten().collect()
        };
        let of_classes = answers.of_classes().into_iter().zip(&self.info.classes);
        let rows: Vec<Vec<String>> = of_classes.map(row).collect();
        let mut header = vec!["class", "images", "top-1", "top-5", "precision", "F1"];
        header.retain(|&heading| tells_top5 || heading != "top-5");
        output::table(&header, &rows);
        let images = answers.rows.len() as u64;
        let accuracy = |percent| words::accuracy(percent, standard_error(percent, images));
        let numbers = |means: Metrics| {
            let top5 = match tells_top5 {
                true => format!(", top-5 {}", accuracy(means.top5)),
                false => String::new(),
            };
            let (loss, top1) = (means.loss, accuracy(means.top1));
            format!("loss {loss:.4}, top-1 {top1}{top5}")
        };
        output::prose(format!(
            "\n{} on {} of {}: {}; macro-F1 {}, calibration error {:.2} points",
            self.info.config.name(),
            words::counted(images, "image"),
            self.set,
            numbers(answers.means()),
            percent(answers.macro_f1()),
            answers.calibration().error,
        ));
        if self.mirrored.images > 0 {
            let numbers = numbers(self.mirrored.means());
            output::prose(format!(
                "together with each image's mirror image: {numbers}"
            ));
        }
    }

    /// The most confident of the wrong answers.
    fn print_mistakes(&self, most: usize) {
        let name = |class: u32| self.info.classes[class as usize].clone();
        let row = |row: &Answer| {
            vec![
                row.image.to_string(),
                name(row.class),
                row.answer.map(name).unwrap_or_default(),
                words::percent(row.confidence),
            ]
        };
        let rows: Vec<Vec<String>> = self.answers.mistakes(most).iter().map(row).collect();
        output::print("");
        output::table(&["image", "class", "taken for", "confidence"], &rows);
    }
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

    use smallvit::data::pictures::Fit;
    use smallvit::models::ModelConfig;

    fn told<'a>(info: &'a ModelInfo, answers: &'a Answers) -> Told<'a> {
        Told {
            info,
            set: "the data",
            mistakes: 0,
            answers,
            mirrored: Sums::default(),
        }
    }

    fn info(classes: usize) -> ModelInfo {
        ModelInfo {
            config: ModelConfig::default(),
            input: [32, 32, 3],
            fit: Fit::Crop,
            classes: (0..classes).map(|class| format!("class {class}")).collect(),
            mean: vec![0.0; 3],
            variance: vec![1.0; 3],
        }
    }

    #[test]
    fn shares_are_of_each_class_and_come_with_their_error() {
        let info = info(6);
        let mut answers = Answers::new(6);
        answers.add(0, &[9.0, 1.0, 0.0, 0.0, 0.0, 0.0], 0);
        answers.add(1, &[9.0, 1.0, 0.0, 0.0, 0.0, 0.0], 1);
        answers.add(2, &[0.0, 9.0, 0.0, 0.0, 0.0, 0.0], 1);
        answers.add(3, &[9.0, 8.0, 7.0, 6.0, 5.0, 0.0], 5);
        let json = told(&info, &answers).json();
        assert_eq!((&json["top1"], &json["top5"]), (&50.0.into(), &75.0.into()));
        assert_eq!(json["top1_standard_error"], 25.0);
        assert_eq!(json["classes"][1]["top1"], 50.0);
        assert_eq!(json["classes"][0]["precision"], 100.0 / 3.0);
        assert_eq!(json["confusion"][5][0], 1);
        assert_eq!(json["mistakes"][0]["answer"], "class 0");
        // Nothing is known of a class without images.
        assert!(json["classes"][2]["top1"].is_null());
    }

    #[test]
    fn numbers_that_are_none_are_null() {
        let info = info(2);
        let json = told(&info, &Answers::new(2)).json();
        for key in ["loss", "top1", "top1_standard_error", "top5", "macro_f1"] {
            assert!(json[key].is_null(), "{key}");
        }
        assert!(json["calibration"]["error"].is_null());
    }
}
