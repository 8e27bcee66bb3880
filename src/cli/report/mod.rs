//! `smallvit report`, and the page that every training and comparison writes at its end.

mod results;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use smallvit::models::ModelName;
use smallvit::models::file;
use smallvit::models::look::Look;
use smallvit::report::page::{
    self, Class, Classes, Drawn, Mistake, Mistakes, Model, Report, Temperatures,
};
use smallvit::report::picture::seeds::{self, Ahead};
use smallvit::report::picture::sheet::SheetImage;
use smallvit::report::picture::{confusion, reliability, token};
use smallvit::train::answers::Answers;
use smallvit::train::device;
use smallvit::train::folder::RunFolder;
use smallvit::train::history::{self, Epoch};
use smallvit::train::prepare::Prepared;
use smallvit::train::recipe::{BUILT_IN, Recipe};
use smallvit::train::result::{RunResult, read_result};
use smallvit::train::trials::{Difference, Spread};
use smallvit::{Error, Result, atomic, words};

use super::charts::{self, Line};
use super::dataset::{self, CopyOptions};
use super::explain::{Seen, looked};
use super::hints;
use super::options;
use super::output::{self, note};
use super::{compare, evaluate};

/// Mistakes that a page shows.
const MISTAKES: usize = 20;

/// Write a page about runs: curves, classes, confusion, the worst mistakes, what a token sees, the recipe.
///
/// The page is one HTML file that needs no network. `train` and `compare` write one at their end; this command
/// writes it again, or one about several runs. A run that still goes on is shown as far as it is.
#[derive(Args)]
pub struct Arguments {
    /// Run folders, and folders of comparisons.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    #[command(flatten)]
    copy: CopyOptions,
    /// The file to write [default: report.html in the folder, or here where there are several].
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let out = match (arguments.out, arguments.runs.as_slice()) {
        (Some(out), _) => out,
        (None, [run]) => RunFolder(run.clone()).report(),
        (None, _) => "report.html".into(),
    };
    atomic::check_writable(&out)?;
    let entries = gathered(&arguments.runs)?;
    // The images are those of the last model's first run, whose mistakes are shown.
    let data = match shown(&entries) {
        Some(entry) if entry.result.is_some() => loaded(entry, &arguments.copy)?,
        _ => None,
    };
    let report = report(&entries, data.as_ref())?;
    atomic::write(&out, page::page(&report)?.as_bytes())?;
    output::prose(format!(
        "{}: {}",
        output::name(out.display()),
        report.finding
    ));
    Ok(())
}

/// An entry's data set, divided as its run did; none, and told, where it is not there or not the same any more.
fn loaded(entry: &Entry, copy: &CopyOptions) -> Result<Option<Prepared>> {
    let recipe = &entry.recipe;
    let dataset = match copy.load(&recipe.data.set, dataset::square(recipe)) {
        Ok(dataset) => dataset,
        Err(error) => {
            note!("the page has no pictures: {}", hints::message(&error));
            return Ok(None);
        }
    };
    let best = entry.run.best();
    let known = file::Contents::read(&best).ok();
    let known = known.and_then(|contents| contents.text("fingerprint").map(str::to_owned));
    if known.is_some_and(|known| known != dataset.fingerprint()) {
        note!(
            "the page has no pictures: {} has changed since the run",
            recipe.data.set
        );
        return Ok(None);
    }
    Prepared::new(dataset, recipe).map(Some)
}

/// Writes the page of what has just ended into its folder. What was trained is worth more than its page: where
/// that cannot be written, it is told.
pub fn write(folder: &RunFolder, runs: &[RunFolder], data: &Prepared, quiet: bool) {
    let written = entries(runs).and_then(|entries| {
        let again = match shown(&entries) {
            Some(entry) => Some(data.again(&entry.recipe)?),
            None => None,
        };
        let report = report(&entries, again.as_ref())?;
        atomic::write(&folder.report(), page::page(&report)?.as_bytes())
    });
    match written {
        Ok(()) if !quiet => output::prose(format!(
            "{} shows it all",
            output::name(folder.report().display())
        )),
        Ok(()) => {}
        Err(error) => note!("no page was written: {}", hints::message(&error)),
    }
}

/// A run as a page shows it.
pub struct Entry {
    /// Where it lies.
    pub run: RunFolder,
    /// What tells it from runs of other models or recipes.
    pub label: String,
    /// How it was trained.
    pub recipe: Recipe,
    /// What it came to, once it has.
    pub result: Option<RunResult>,
    /// What it has done.
    pub history: Vec<Epoch>,
    /// What its best epoch's weights say to the test images.
    pub answers: Option<Answers>,
}

/// The runs that paths mean.
pub fn gathered(paths: &[PathBuf]) -> Result<Vec<Entry>> {
    let mut runs = vec![];
    for path in paths {
        let folder = RunFolder(path.clone());
        if folder.models().exists() {
            runs.extend(compare::runs_in(&folder)?);
        } else if folder.recipe().exists() {
            runs.push(folder);
        } else {
            return Err(Error::model(
                path.display(),
                "there is no run in it",
                "give a folder that `smallvit train` or `smallvit compare` wrote",
            ));
        }
    }
    entries(&runs)
}

/// The runs that have begun.
pub fn entries(runs: &[RunFolder]) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = vec![];
    for run in runs {
        if let Some(entry) = entry(run)? {
            entries.push(entry);
        }
    }
    if entries.is_empty() {
        let folder = runs.first().map(|run| run.0.display().to_string());
        return Err(Error::model(
            folder.unwrap_or_default(),
            "no run in it has begun",
            "wait for its first epoch",
        ));
    }
    // One model by several recipes: the folders tell them apart.
    let model = |entry: &Entry| entry.recipe.model.name();
    let clash = entries.iter().any(|one| {
        let others = entries.iter().filter(|other| model(other) == model(one));
        others.into_iter().any(|other| {
            !other
                .recipe
                .with_seed(one.recipe.train.seed)
                .differences(&one.recipe)
                .is_empty()
        })
    });
    if clash {
        for entry in &mut entries {
            let folder = entry
                .run
                .0
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            entry.label = match folder == entry.label {
                true => entry.run.0.display().to_string(),
                false => format!("{folder} ({})", entry.label),
            };
        }
    }
    Ok(entries)
}

/// A run as it stands; none of one that has not begun.
fn entry(run: &RunFolder) -> Result<Option<Entry>> {
    if !run.recipe().exists() {
        return Ok(None);
    }
    let recipe = Recipe::restore(&run.recipe())?.recipe;
    let result = match run.result().exists() {
        true => read_result(&run.result())?.pop(),
        false => None,
    };
    let history = match run.history().exists() {
        true => history::read(&run.history())?,
        false => vec![],
    };
    let classes = classes(run);
    let answers = match (result.is_some() && run.answers().exists(), &classes) {
        (true, Some(classes)) => Some(Answers::read(&run.answers(), classes.len())?),
        _ => None,
    };
    Ok(Some(Entry {
        run: run.clone(),
        label: recipe.model.name().to_string(),
        recipe,
        result,
        history,
        answers,
    }))
}

/// The names of a run's classes, where a model of it is there.
fn classes(run: &RunFolder) -> Option<Vec<String>> {
    let models = [run.best(), run.last(), run.previous()];
    models.iter().find_map(|path| {
        let contents = file::Contents::read(path).ok()?;
        Some(contents.info().ok()?.classes)
    })
}

/// Runs of one label, which differ in their seeds.
struct Group<'a> {
    model: Model,
    runs: Vec<&'a Entry>,
}

fn groups(entries: &[Entry]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group> = vec![];
    for entry in entries {
        match groups
            .iter_mut()
            .find(|group| group.model.name == entry.label)
        {
            Some(group) => group.runs.push(entry),
            None => groups.push(Group {
                model: Model {
                    name: entry.label.clone(),
                    colour: groups.len(),
                },
                runs: vec![entry],
            }),
        }
    }
    groups
}

/// The run whose mistakes are shown: the first of the last model.
fn shown(entries: &[Entry]) -> Option<&Entry> {
    groups(entries).last().map(|group| group.runs[0])
}

impl Group<'_> {
    fn results(&self) -> Vec<&RunResult> {
        let results = self.runs.iter().filter_map(|run| run.result.as_ref());
        results.collect()
    }

    fn tests(&self) -> Vec<f64> {
        self.results()
            .iter()
            .map(|result| result.test_top1)
            .collect()
    }

    fn answers(&self) -> Vec<&Answers> {
        self.runs
            .iter()
            .filter_map(|run| run.answers.as_ref())
            .collect()
    }

    /// All answers as those of one model.
    fn all_answers(&self) -> Option<Answers> {
        let all = self.answers();
        Some(Answers {
            classes: all.first()?.classes,
            rows: all
                .iter()
                .flat_map(|answers| answers.rows.iter().copied())
                .collect(),
        })
    }

    fn history(&self) -> Vec<Epoch> {
        let histories: Vec<&[Epoch]> = self.runs.iter().map(|run| run.history.as_slice()).collect();
        charts::mean(&histories)
    }
}

/// A page about these runs. With the data of the [`shown`] one it has pictures, too.
pub fn report(entries: &[Entry], data: Option<&Prepared>) -> Result<Report> {
    let groups = groups(entries);
    let first = &entries[0];
    let histories: Vec<Vec<Epoch>> = groups.iter().map(Group::history).collect();
    let lines = groups
        .iter()
        .zip(&histories)
        .filter(|(_, history)| !history.is_empty());
    let lines: Vec<Line> = lines
        .map(|(group, history)| Line {
            label: group.model.name.clone(),
            history,
        })
        .collect();
    let charts = if lines.is_empty() {
        vec![]
    } else {
        charts::all(&lines)
    };
    let seeds = groups
        .iter()
        .map(|group| group.runs.len())
        .max()
        .unwrap_or(1);
    let mut report = Report {
        title: title(entries),
        finding: finding(&groups),
        facts: facts(entries),
        results: results::table(&groups),
        seeds: seeds_figure(&groups)?,
        large_charts: 2,
        charts,
        charts_note: match seeds {
            1 => "A dot marks the epoch whose weights were kept: the best one on the validation images.".into(),
            _ => "Means over the seeds. A dot marks where they are best.".into(),
        },
        why_lower: why_lower(&first.recipe, &histories),
        classes: class_table(&groups),
        temperatures: temperatures(&groups),
        recipe: Some(recipe(entries, &groups)),
        footer: format!(
            "Made by smallvit {} from {}.",
            env!("CARGO_PKG_VERSION"),
            words::listed(entries.iter().map(|entry| entry.run.0.display()), 4)
        ),
        ..Report::default()
    };
    for group in &groups {
        let Some(answers) = group.all_answers() else {
            continue;
        };
        let Some(names) = classes(&group.runs[0].run) else {
            continue;
        };
        let title = format!("Confusion matrix of {}", group.model.name);
        report.confusion.push(Drawn {
            model: group.model.clone(),
            picture: confusion::matrix(&title, &names, &answers.confusion())?,
        });
        let title = format!("Confidence of {}", group.model.name);
        report.reliability.push(Drawn {
            model: group.model.clone(),
            picture: reliability::plot(
                &title,
                &evaluate::reliability_bins(&answers),
                group.model.colour,
            )?,
        });
    }
    if let (Some(data), Some(entry)) = (data, shown(entries)) {
        report.mistakes = mistakes(entry, data, groups.len() > 1, seeds > 1)?;
        report.token = Some(token_figure(entry, data)?);
    }
    Ok(report)
}

fn title(entries: &[Entry]) -> String {
    let set = |entry: &Entry| entry.recipe.data.set.clone();
    let mut recipes: Vec<&str> = entries
        .iter()
        .map(|entry| entry.recipe.name.as_str())
        .collect();
    recipes.dedup();
    let mut sets: Vec<String> = entries.iter().map(set).collect();
    sets.dedup();
    format!(
        "{} on {}",
        words::listed(recipes, 3),
        words::listed(sets, 3)
    )
}

/// What came out, in a sentence.
fn finding(groups: &[Group]) -> String {
    let ended = groups.iter().filter(|group| !group.results().is_empty());
    let ended: Vec<&Group> = ended.collect();
    let running = groups
        .iter()
        .flat_map(|group| &group.runs)
        .filter(|run| run.result.is_none())
        .count();
    let mut said = match ended.as_slice() {
        [] => {
            let runs = groups.iter().flat_map(|group| &group.runs);
            let best = runs.filter_map(|run| {
                let best = run.history.get(history::best(&run.history)?)?;
                Some((run, best))
            });
            let best = best.max_by(|a, b| a.1.validation.top1.total_cmp(&b.1.validation.top1));
            match best {
                Some((run, best)) => format!(
                    "{} has {:.2} % of the validation images right after epoch {}.",
                    run.label, best.validation.top1, best.epoch
                ),
                None => "No epoch has ended yet.".into(),
            }
        }
        [one] => {
            let result = one.results()[0];
            match Spread::of(&one.tests()) {
                Some(spread) if spread.runs > 1 => format!(
                    "{} has {:.2} ± {:.2} % of the test images right, mean ± deviation of {} seeds.",
                    one.model.name, spread.mean, spread.deviation, spread.runs
                ),
                _ => format!(
                    "{} has {} of {} right.",
                    one.model.name,
                    super::train::accuracy(result),
                    match result.test_images {
                        Some(images) => words::counted(images, "test image"),
                        None => "the test images".into(),
                    }
                ),
            }
        }
        [than, others @ ..] => {
            let sentence = |of: &&Group| match Difference::paired(&of.tests(), &than.tests()) {
                Some(difference) => difference.sentence(&of.model.name, &than.model.name),
                None => {
                    let (own, other) = (of.tests()[0], than.tests()[0]);
                    let (ahead, behind) = match own >= other {
                        true => (&of.model.name, &than.model.name),
                        false => (&than.model.name, &of.model.name),
                    };
                    format!(
                        "{ahead} is ahead of {behind} by {:.2} points of test top-1. One seed each does not tell \
                         whether that is more than chance; --seeds 5 would.",
                        (own - other).abs()
                    )
                }
            };
            others.iter().map(sentence).collect::<Vec<_>>().join(" ")
        }
    };
    if running > 0 {
        let runs = words::counted(running as u64, "run");
        said += &format!(" {runs} still to end.");
    }
    said
}

fn facts(entries: &[Entry]) -> Vec<(String, String)> {
    let mut facts = vec![];
    let mut add = |what: &str, value: String| facts.push((what.to_owned(), value));
    let first = &entries[0];
    let results: Vec<&RunResult> = entries
        .iter()
        .filter_map(|entry| entry.result.as_ref())
        .collect();
    let written = |entry: &Entry| {
        fs::metadata(entry.run.result())
            .and_then(|file| file.modified())
            .ok()
    };
    if let Some(last) = entries.iter().filter_map(written).max()
        && let Ok(time) = jiff::Timestamp::try_from(last)
    {
        let day = time
            .to_zoned(jiff::tz::TimeZone::system())
            .strftime("%-d %B %Y");
        add("", day.to_string());
    }
    let mut processors: Vec<&str> = results
        .iter()
        .filter_map(|r| r.processor.as_deref())
        .collect();
    processors.sort_unstable();
    processors.dedup();
    if !processors.is_empty() {
        add("on", words::listed(processors, 3));
    }
    add("in", first.recipe.train.precision.to_string());
    if let Some(result) = results.first() {
        let images = |images: Option<u64>| images.map(words::count).unwrap_or_else(|| "–".into());
        add("chosen on", format!("{} images", images(result.val_images)));
        add(
            "tested on",
            format!("{} images", images(result.test_images)),
        );
    }
    let mut seeds: Vec<u64> = entries
        .iter()
        .map(|entry| entry.recipe.train.seed)
        .collect();
    seeds.sort_unstable();
    seeds.dedup();
    let label = if seeds.len() == 1 { "seed" } else { "seeds" };
    add(label, words::listed(seeds, 5));
    facts
}

/// Each seed's accuracy, where there are several.
fn seeds_figure(groups: &[Group]) -> Result<Option<(smallvit::report::picture::Picture, String)>> {
    let seeds: Vec<u64> = groups[0]
        .runs
        .iter()
        .map(|run| run.recipe.train.seed)
        .collect();
    let whole = groups
        .iter()
        .all(|group| group.tests().len() == seeds.len());
    if seeds.len() < 2 || !whole {
        return Ok(None);
    }
    let trials: Vec<seeds::Trials> = groups
        .iter()
        .map(|group| seeds::Trials {
            label: group.model.name.clone(),
            values: group.tests(),
            colour: group.model.colour,
        })
        .collect();
    let than = &groups[0];
    let ahead: Vec<Ahead> = groups[1..]
        .iter()
        .filter_map(|group| {
            let difference = Difference::paired(&group.tests(), &than.tests())?;
            Some(Ahead {
                label: format!("{} − {}", group.model.name, than.model.name),
                mean: difference.mean,
                interval: [difference.low, difference.high],
            })
        })
        .collect();
    let said = match ahead.is_empty() {
        true => "Test top-1 of each seed; the thick mark is their mean.",
        false => {
            "Test top-1 of each seed; thin lines join runs of one seed, thick marks are means. Below, the mean \
             difference and its 95 % interval (Student's t of the paired differences)."
        }
    };
    let picture = seeds::picture("Test top-1 of each seed", &seeds, &trials, &ahead)?;
    Ok(Some((picture, said.to_owned())))
}

/// Why a model may be better on images that it was not trained on; of a recipe in which nothing makes training
/// harder, or of curves that never cross, nothing.
fn why_lower(recipe: &Recipe, histories: &[Vec<Epoch>]) -> Vec<String> {
    let crosses = histories
        .iter()
        .flatten()
        .any(|e| e.validation.loss < e.train.loss);
    if !crosses {
        return vec![];
    }
    let mut said = vec![];
    let mut add = |sentence: &str| said.push(sentence.to_owned());
    let augment = &recipe.augment;
    if augment.mix.is_some() {
        add(
            "Training images are mixtures of two, which no answer fits wholly: the training loss cannot come near 0.",
        );
    }
    let turned = augment.rotation > 0.0 || augment.zoom > 0.0 || augment.crop_padding > 0;
    let edited = augment.auto_augment.is_some()
        || augment.rand_augment.is_some()
        || augment.timm_rand_augment.is_some()
        || augment.trivial_augment.is_some()
        || augment.jitter.is_some()
        || augment.erasing.is_some()
        || augment.resized_crop.is_some();
    if turned || edited {
        add(
            "Training images are moved, turned or otherwise altered, which makes them harder; validation images are not.",
        );
    }
    if recipe.train.label_smoothing > 0.0 {
        add(
            "The training loss is against smoothed labels, the validation loss against the plain ones.",
        );
    }
    let table = recipe.to_toml();
    let drops = |field: &str| {
        let value = table
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{field} = ")));
        value
            .and_then(|value| value.parse().ok())
            .is_some_and(|rate: f64| rate > 0.0)
    };
    if ["dropout", "head_dropout", "stochastic_depth"]
        .into_iter()
        .any(drops)
    {
        add("Dropout hides a part of the network while it trains, and nothing of it afterwards.");
    }
    add(
        "And the training loss is the mean over an epoch, in which the network became better, while the validation loss \
         is measured at its end.",
    );
    said
}

fn class_table(groups: &[Group]) -> Option<Classes> {
    let groups: Vec<&Group> = groups
        .iter()
        .filter(|group| !group.answers().is_empty())
        .collect();
    let names = classes(&groups.first()?.runs[0].run)?;
    // [model][seed][class]
    let of_classes: Vec<Vec<Vec<_>>> = groups
        .iter()
        .map(|group| {
            group
                .answers()
                .iter()
                .map(|answers| answers.of_classes())
                .collect()
        })
        .collect();
    let mean = |values: Vec<f64>| {
        let told: Vec<f64> = values
            .into_iter()
            .filter(|value| value.is_finite())
            .collect();
        told.iter().sum::<f64>() / told.len() as f64
    };
    let rows = (0..names.len()).map(|class| Class {
        name: names[class].clone(),
        images: of_classes[0].iter().map(|all| all[class].images).sum(),
        shares: of_classes
            .iter()
            .map(|seeds| {
                let of = |value: fn(&smallvit::train::answers::ClassAnswers) -> f64| {
                    mean(seeds.iter().map(|all| value(&all[class])).collect())
                };
                [of(|c| c.recall), of(|c| c.precision), of(|c| c.f1)]
            })
            .collect(),
    });
    let several = groups.iter().any(|group| group.answers().len() > 1);
    Some(Classes {
        models: groups.iter().map(|group| group.model.clone()).collect(),
        rows: rows.collect(),
        note: format!(
            "Of the test images, in percent{}. The classes that are recognised least come first.",
            if several {
                ", means over the seeds; images of all seeds"
            } else {
                ""
            }
        ),
    })
}

/// The worst mistakes of a run, with the attention that they were made under.
fn mistakes(entry: &Entry, data: &Prepared, models: bool, seeds: bool) -> Result<Option<Mistakes>> {
    let Some(answers) = &entry.answers else {
        return Ok(None);
    };
    let device = device::cpu();
    let (info, model) = file::open(&entry.run.best(), &device)?;
    let images = &data.test.split.images;
    let shape = [images.height, images.width, images.channels];
    if shape != info.input {
        return Ok(None);
    }
    let (mut all, mut through) = (vec![], true);
    for row in answers.mistakes(MISTAKES) {
        if row.image as usize >= data.test.split.len() {
            return Ok(None);
        }
        let pixels = images.image(row.image as usize);
        let (look, seen) = looked(&info, &model, pixels, &device);
        let map = overall(&look);
        through &= look.rollout().is_some();
        let name = |class: u32| info.classes[class as usize].clone();
        all.push(Mistake {
            image: SheetImage {
                caption: String::new(),
                height: shape[0],
                width: shape[1],
                channels: shape[2],
                pixels: pixels.to_vec(),
            },
            attention: map.map(|(values, grid)| seen.under("", &values, grid)),
            number: row.image,
            class: name(row.class),
            answer: row.answer.map(name).unwrap_or_default(),
            confidence: row.confidence,
        });
    }
    let whose = match (models, seeds) {
        (false, false) => String::new(),
        (_, false) => format!("Of {}. ", entry.label),
        _ => format!("Of {} with seed {}. ", entry.label, entry.recipe.train.seed),
    };
    let looked = match (
        all.first().is_some_and(|m: &Mistake| m.attention.is_some()),
        through,
    ) {
        (false, _) => "",
        (true, true) => "Beside each image: where the model looked, through all of its layers.",
        (true, false) => "Beside each image: where the model's last layer looked.",
    };
    Ok(Some(Mistakes {
        note: format!("{whose}{looked}"),
        all,
    }))
}

/// Where a model looked, all in all: through all layers where that can be said, else in the last.
fn overall(look: &Look) -> Option<(Vec<f32>, [usize; 2])> {
    let last = look.layers.last()?;
    let values = look.rollout().unwrap_or_else(|| last.received(None));
    Some((values, last.grid))
}

/// What a token of a run's model sees of its first training image.
fn token_figure(
    entry: &Entry,
    data: &Prepared,
) -> Result<(smallvit::report::picture::Picture, String)> {
    let images = &data.train.split.images;
    let shape = [images.height, images.width, images.channels];
    let config = &entry.recipe.model;
    let index = data.train.samples[0] as usize;
    let seen = Seen::new(images.image(index), shape, config.image_size());
    let cut = config.cut();
    let token = seen.token(cut, config.spt, None);
    let numbers = cut.patch * cut.patch * images.channels;
    let said = match config.spt {
        true => format!(
            "With Shifted Patch Tokenization a token sees its own patch and what is half a patch away on the \
             diagonals: 5 × {numbers} numbers, of which a layer makes {}. Training image {index}.",
            cut.dim
        ),
        false => format!(
            "A token sees its own patch alone: {numbers} numbers, of which a layer makes {}. Training image \
             {index}.",
            cut.dim
        ),
    };
    Ok((token::picture("", &token)?, said))
}

fn temperatures(groups: &[Group]) -> Vec<Temperatures> {
    let with_lsa = groups.iter().filter(|group| group.runs[0].recipe.model.lsa);
    let of_group = |group: &Group| {
        let (_, model) = file::open(&group.runs[0].run.best(), &device::cpu()).ok()?;
        let layers = model.attentions().into_iter();
        Some(Temperatures {
            model: group.model.clone(),
            sharpness: layers
                .filter_map(|(_, attention)| attention.sharpness())
                .collect(),
        })
    };
    with_lsa
        .filter_map(of_group)
        .filter(|of| !of.sharpness.is_empty())
        .collect()
}

fn recipe(entries: &[Entry], groups: &[Group]) -> page::Recipe {
    let recipe = &entries[0].recipe;
    let built_in = BUILT_IN.iter().find(|(name, _)| *name == recipe.name);
    let base = built_in.and_then(|(name, _)| Recipe::load(name, &[]).ok());
    let (base, name) = match base {
        Some(base) => (base, recipe.name.clone()),
        None => (Recipe::default(), "the recipe without fields".into()),
    };
    let mut here = recipe.clone();
    if groups.len() > 1 {
        // A comparison's models are said beside the recipe.
        here.model.spt = base.model.spt;
        here.model.lsa = base.model.lsa;
    }
    let mut differences = here.different_fields(&base);
    if recipe.data.set != base.data.set {
        differences.insert(
            0,
            (
                "data.set".into(),
                base.data.set.clone(),
                recipe.data.set.clone(),
            ),
        );
    }
    page::Recipe {
        base: name,
        differences,
        command: command(entries, groups),
        text: recipe.to_toml(),
    }
}

/// The command that makes the same again.
fn command(entries: &[Entry], groups: &[Group]) -> Vec<String> {
    let first = &entries[0];
    let file = |path: &Path| options::quoted(path).to_string();
    let mut models: Vec<ModelName> = groups
        .iter()
        .map(|g| g.runs[0].recipe.model.name())
        .collect();
    models.dedup();
    if entries.len() == 1 {
        let recipe = format!("--recipe {}", file(&first.run.recipe()));
        return vec!["smallvit train".into(), recipe];
    }
    let models: Vec<String> = models.iter().map(ModelName::to_string).collect();
    let seeds = groups
        .iter()
        .map(|group| group.runs.len())
        .max()
        .unwrap_or(1);
    vec![
        "smallvit compare".into(),
        format!("--recipe {}", file(&first.run.recipe())),
        format!("--models {}", models.join(",")),
        format!("--seeds {seeds}"),
    ]
}
