//! `smallvit report`, and the page that every training and comparison writes at its end.

mod figures;
mod results;
mod words;

use std::path::{Path, PathBuf};

use clap::Args;
use smallvit::models::ModelName;
use smallvit::models::file;
use smallvit::report::page::{self, Drawn, Model, Report};
use smallvit::report::picture::{confusion, reliability};
use smallvit::train::answers::Answers;
use smallvit::train::folder::RunFolder;
use smallvit::train::history::{self, Epoch};
use smallvit::train::prepare::Prepared;
use smallvit::train::recipe::{BUILT_IN, Recipe};
use smallvit::train::result::{RunResult, read_result};
use smallvit::{Error, Result, atomic};

use super::charts::{self, Line};
use super::dataset::{self, CopyOptions};
use super::hints;
use super::options;
use super::output::{self, note};
use super::{compare, evaluate};

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
    let entries = gathered(&arguments.runs)?;
    atomic::check_writable(&out)?;
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
    let make = || {
        entries(runs).and_then(|entries| {
            let again = match shown(&entries) {
                Some(entry) => Some(data.again(&entry.recipe)?),
                None => None,
            };
            let report = report(&entries, again.as_ref())?;
            atomic::write(&folder.report(), page::page(&report)?.as_bytes())
        })
    };
    let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(make));
    let written = made.unwrap_or_else(|_| {
        let remedy = "this is a fault of the program; please report it with the message above";
        Err(Error::data(
            folder.report().display(),
            "its making broke off",
            remedy,
        ))
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
    /// The names of its classes, once a model of it is there.
    pub classes: Option<Vec<String>>,
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
        let place = |run: &RunFolder| run.0.canonicalize().unwrap_or_else(|_| run.0.clone());
        if entries.iter().any(|entry| place(&entry.run) == place(run)) {
            continue; // named twice
        }
        match entry(run) {
            Ok(Some(entry)) => entries.push(entry),
            Ok(None) => {}
            // Of several, the others are shown.
            Err(error) if runs.len() > 1 => note!("left out: {}", hints::message(&error)),
            Err(error) => return Err(error),
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
    // Runs of one label are one model's with several seeds. Where they are not, their folders tell them apart.
    let are_seeds = |one: &Entry, other: &Entry| {
        let recipe = other.recipe.with_seed(one.recipe.train.seed);
        recipe.data.set == one.recipe.data.set
            && recipe.differences(&one.recipe).is_empty()
            && (one.classes.is_none() || other.classes.is_none() || one.classes == other.classes)
    };
    let is_other = |(at, entry): (usize, &Entry)| {
        let before = || {
            entries[..at]
                .iter()
                .filter(|other| other.label == entry.label)
        };
        let seed = |entry: &Entry| entry.recipe.train.seed;
        before()
            .next()
            .is_some_and(|first| !are_seeds(first, entry))
            || before().any(|other| seed(other) == seed(entry))
    };
    if entries.iter().enumerate().any(is_other) {
        let short = |entry: &Entry| {
            let folder = entry.run.0.file_name().unwrap_or_default();
            format!("{} ({})", folder.to_string_lossy(), entry.label)
        };
        let mut labels: Vec<String> = entries.iter().map(short).collect();
        let is_twice = |label: &String| labels.iter().filter(|other| *other == label).count() > 1;
        if labels.iter().any(is_twice) {
            labels = entries
                .iter()
                .map(|entry| entry.run.0.display().to_string())
                .collect();
        }
        for (entry, label) in entries.iter_mut().zip(labels) {
            entry.label = label;
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
    // What is not there, or damaged, is not shown; the rest is.
    let history = history::read(&run.history()).unwrap_or_default();
    let classes = classes(run);
    let answers = match (result.is_some() && run.answers().exists(), &classes) {
        (true, Some(classes)) => Answers::read(&run.answers(), classes.len()).ok(),
        _ => None,
    };
    Ok(Some(Entry {
        run: run.clone(),
        label: recipe.model.name().to_string(),
        recipe,
        result,
        history,
        answers,
        classes,
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
        let results = self.results().into_iter();
        results.map(|result| result.test_top1).collect()
    }

    /// Test accuracies of the seeds that another group has ended with, too: this one's and the other's.
    fn beside(&self, other: &Group) -> (Vec<f64>, Vec<f64>) {
        let of = |group: &Group, seed| {
            let mut runs = group.runs.iter();
            let run = runs.find(|run| run.recipe.train.seed == seed)?;
            Some(run.result.as_ref()?.test_top1)
        };
        let seeds = self.runs.iter().map(|run| run.recipe.train.seed);
        seeds
            .filter_map(|seed| Some((of(self, seed)?, of(other, seed)?)))
            .unzip()
    }

    fn classes(&self) -> Option<&Vec<String>> {
        self.runs.iter().find_map(|run| run.classes.as_ref())
    }

    fn answers(&self) -> Vec<&Answers> {
        let answers = self.runs.iter().filter_map(|run| run.answers.as_ref());
        answers.collect()
    }

    /// All answers as those of one model.
    fn all_answers(&self) -> Option<Answers> {
        let all = self.answers();
        let rows = all.iter().flat_map(|answers| answers.rows.iter().copied());
        Some(Answers {
            classes: all.first()?.classes,
            rows: rows.collect(),
        })
    }

    /// The runs whose curves are shown: those that have ended, or, before any has, all that have begun.
    fn drawn(&self) -> Vec<&[Epoch]> {
        let of = |ended: bool| -> Vec<&[Epoch]> {
            let runs = self
                .runs
                .iter()
                .filter(|run| run.result.is_some() || !ended);
            let histories = runs.map(|run| run.history.as_slice());
            histories.filter(|history| !history.is_empty()).collect()
        };
        match of(true) {
            ended if ended.is_empty() => of(false),
            ended => ended,
        }
    }
}

/// Whether accuracies of these can be put beside each other: they are of the same classes of the same data.
fn are_comparable(groups: &[Group]) -> bool {
    let first = &groups[0];
    let set = |group: &Group| group.runs[0].recipe.data.set.clone();
    groups.iter().all(|group| {
        set(group) == set(first)
            && match (group.classes(), first.classes()) {
                (Some(own), Some(others)) => own == others,
                _ => true,
            }
    })
}

/// A page about these runs. With the data of the [`shown`] one it has pictures, too.
pub fn report(entries: &[Entry], data: Option<&Prepared>) -> Result<Report> {
    let groups = groups(entries);
    let first = &entries[0];
    let histories: Vec<Vec<Epoch>> = groups
        .iter()
        .map(|group| charts::mean(&group.drawn()))
        .collect();
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
        .map(|group| group.drawn().len())
        .max()
        .unwrap_or(1);
    let mut report = Report {
        title: words::title(entries),
        finding: words::finding(&groups),
        facts: words::facts(entries),
        results: results::table(&groups),
        seeds: figures::seeds_figure(&groups)?,
        large_charts: 2,
        charts,
        charts_note: match seeds {
            0 | 1 => "A dot marks the epoch whose weights were kept: the best one on the validation images.".into(),
            _ => format!("Means over {seeds} seeds. A dot marks where they are best."),
        },
        why_lower: words::why_lower(&first.recipe, &histories),
        classes: figures::class_table(&groups),
        temperatures: figures::temperatures(&groups),
        recipe: recipe(entries, &groups),
        footer: format!(
            "Made by smallvit {} from {}.",
            env!("CARGO_PKG_VERSION"),
            smallvit::words::listed(entries.iter().map(|entry| entry.run.0.display()), 4)
        ),
        ..Report::default()
    };
    for group in &groups {
        let Some(answers) = group.all_answers() else {
            continue;
        };
        let Some(names) = group.classes() else {
            continue;
        };
        let title = format!("Confusion matrix of {}", group.model.name);
        report.confusion.push(Drawn {
            model: group.model.clone(),
            picture: confusion::matrix(&title, names, &answers.confusion())?,
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
        report.mistakes =
            figures::mistakes(entry, data, groups.len() > 1, groups[0].runs.len() > 1)?;
        report.token = figures::token_figure(entry, data)?;
    }
    Ok(report)
}

/// How it was made; none where that is to be said of each run.
fn recipe(entries: &[Entry], groups: &[Group]) -> Option<page::Recipe> {
    let recipe = &entries[0].recipe;
    let is_same = |entry: &Entry| {
        let mut other = entry.recipe.with_seed(recipe.train.seed);
        (other.model.spt, other.model.lsa) = (recipe.model.spt, recipe.model.lsa);
        other.data.set == recipe.data.set && other.differences(recipe).is_empty()
    };
    if !entries.iter().all(is_same) {
        return None;
    }
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
    Some(page::Recipe {
        base: name,
        differences,
        command: command(entries, groups),
        text: recipe.to_toml(),
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use smallvit::train::result::write_result;

    /// A run that has ended, as far as a page needs it.
    fn ended(folder: &Path, model: &str, seed: u64, rate: f64, test_top1: f64) -> RunFolder {
        let run = RunFolder(folder.to_path_buf());
        std::fs::create_dir_all(folder).unwrap();
        let settings = [
            format!("train.seed={seed}"),
            format!("train.learning_rate={rate}"),
        ];
        let mut recipe = Recipe::load("quickstart", &settings).unwrap();
        recipe.model = recipe.model.named(model.parse().unwrap());
        std::fs::write(run.recipe(), recipe.to_toml()).unwrap();
        let result = serde_json::json!({
            "model": model, "parameters": 1000, "recipe": "quickstart", "data": "sign-digits", "seed": seed,
            "epochs": 2, "best_epoch": 1, "val_top1": 50.0, "val_top5": null, "test_top1": test_top1,
            "test_top5": null, "last_test_top1": 1.0, "last_test_top5": null, "seconds": 1.0,
            "seconds_per_step": 0.1, "peak_rss_bytes": null, "version": "0",
        });
        write_result(&run.result(), &[serde_json::from_value(result).unwrap()]).unwrap();
        run
    }

    fn said(runs: &[RunFolder]) -> (Vec<String>, String) {
        let entries = entries(runs).unwrap();
        let groups = groups(&entries);
        let names = groups.iter().map(|group| group.model.name.clone());
        (names.collect(), words::finding(&groups))
    }

    #[test]
    fn seeds_are_paired_by_their_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let run = |name: &str, model: &str, seed, test| {
            ended(&dir.path().join(name), model, seed, 1e-3, test)
        };
        // In another order, and one more.
        let runs = [
            run("a", "vit", 1, 60.0),
            run("b", "vit", 2, 70.0),
            run("c", "vit", 3, 90.0),
            run("d", "sl-vit", 2, 72.0),
            run("e", "sl-vit", 1, 62.0),
        ];
        let (names, finding) = said(&runs);
        assert_eq!(names, ["vit", "sl-vit"]);
        assert!(
            finding.contains("by 2.00 points of test top-1 (2 seeds, 95 % interval 2.00 to 2.00)"),
            "{finding}"
        );
        // Seeds that none shares tell nothing.
        let (_, finding) = said(&[runs[0].clone(), runs[2].clone(), runs[3].clone()]);
        assert!(finding.contains("no seeds in common"), "{finding}");
        // A run that is named twice is one.
        let (_, finding) = said(&[runs[0].clone(), runs[0].clone()]);
        assert!(finding.starts_with("vit has 60.00 %"), "{finding}");
    }

    #[test]
    fn what_differs_in_more_than_the_seed_is_no_seed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let slow = ended(&at("x/slow"), "vit", 1, 1e-4, 50.0);
        let fast = ended(&at("x/fast"), "vit", 2, 1e-3, 60.0);
        let (names, _) = said(&[slow.clone(), fast]);
        assert_eq!(names, ["slow (vit)", "fast (vit)"]);
        // Folders of one name, as two sweeps have them.
        let other = ended(&at("y/slow"), "vit", 1, 1e-3, 60.0);
        let (names, _) = said(&[slow.clone(), other.clone()]);
        assert_eq!(
            names,
            [slow.0.display().to_string(), other.0.display().to_string()]
        );
        // The same seed twice.
        let again = ended(&at("x/again"), "vit", 1, 1e-4, 51.0);
        assert_eq!(said(&[slow.clone(), again]).0.len(), 2);
        let none = RunFolder(at("nothing"));
        assert!(entries(std::slice::from_ref(&none)).is_err());
        assert_eq!(said(&[slow, none]).0, ["vit"]);
    }
}
