//! `smallvit sweep`: many runs from one document.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use smallvit::atomic;
use smallvit::data::pictures::Square;
use smallvit::input;
use smallvit::train::checkpoint;
use smallvit::train::device::check_precision;
use smallvit::train::folder::RunFolder;
use smallvit::train::prepare::Prepared;
use smallvit::train::recipe::Recipe;
use smallvit::train::result::{RunResult, read_result};
use smallvit::train::sweep::{Case, Sweep};
use smallvit::train::trials::{Difference, Spread};
use smallvit::words;
use smallvit::{Error, Result};

use super::dataset::{self, DataOptions};
use super::hints;
use super::options::{self, RunOptions};
use super::output::{self, note};
use super::signals;
use super::train::{Job, draw_curves, drawn_again, tell_lost_and_restarted, tell_sizes};

/// Train many models from one document: each combination of recipes, models, settings and seeds.
///
/// Runs are numbered folders of --out. Those that have ended are passed over, one that was stopped
/// goes on: the same command again finishes a sweep, and with --index each machine takes the runs that
/// it is given. The table is of validation accuracies, by which one chooses; each run's test accuracy
/// stands in its result.json. Without --out they are in runs/<the document's name>; --dry-run lists them.
#[derive(Args)]
pub struct Arguments {
    /// The sweep, as TOML: recipes, models, seeds, set, [grid], [[variants]].
    #[arg(value_name = "SWEEP.toml")]
    sweep: PathBuf,
    /// Override a field of every run's recipe; may be repeated.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    settings: Vec<String>,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    run: RunOptions,
    /// Only the run of this number, from 1 on; may be repeated.
    #[arg(long, value_name = "N")]
    index: Vec<usize>,
    /// Keep the last checkpoints of runs that have ended; else the best epoch's model alone stays.
    #[arg(long)]
    keep_checkpoints: bool,
}

/// One run of a sweep.
struct Planned<'a> {
    case: &'a Case,
    recipe: Recipe,
    folder: RunFolder,
}

/// What all runs of a case came to.
#[derive(Serialize)]
struct Summary<'a> {
    label: &'a str,
    recipe: &'a str,
    model: String,
    parameters: u64,
    val_top1: Spread,
    test_top1: Spread,
    seconds: f64,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let Arguments {
        sweep: path,
        mut settings,
        data,
        run,
        index,
        keep_checkpoints,
    } = arguments;
    let (sweep, text) = Sweep::read(&path)?;
    if let Some(set) = &data.data {
        settings.push(format!("data.set={}", toml::Value::from(set.as_str())));
    }
    let mut cases = sweep.cases(&settings)?;
    for case in &mut cases {
        case.recipe.data.set = options::absolute(&case.recipe.data.set)?;
    }
    let out = run.out.clone().unwrap_or_else(|| {
        let stem = path.file_stem().unwrap_or_default();
        Path::new("runs").join(stem)
    });
    let runs = planned(&cases, sweep.seeds, &out);
    if let Some(wrong) = index
        .iter()
        .find(|&&number| !(1..=runs.len()).contains(&number))
    {
        return Err(Error::recipe(
            "--index",
            format!("there is no run {wrong}"),
            format!("choose 1 to {}", runs.len()),
        ));
    }
    for planned in &runs {
        if planned.recipe.choose.is_open() {
            return Err(Error::recipe(
                "choose",
                "a sweep's runs are to be told beforehand, and this recipe leaves sizes or epochs to be \
                 chosen",
                "set choose.sizes=false, choose.minutes=0, choose.pflop=0, choose.augmentation=false and train.epochs; `smallvit train --dry-run` \
                 says what would be chosen",
            ));
        }
        check_precision(planned.recipe.train.precision, &run.device.open()?)?;
    }
    if run.dry_run {
        return tell_runs(&runs, &run);
    }
    let folder = RunFolder(out);
    begin(&folder, &text)?;
    for planned in &runs {
        // Those that have ended, too: with other settings they would be taken for what they are not.
        checkpoint::check_recipe(&planned.folder, &planned.recipe, &planned.folder.recipe())?;
        refuse_other_data(planned)?;
    }
    let stop = signals::stop_flag();
    let mut job = Job {
        options: &run,
        data_options: &data,
        stop: &stop,
        resume_command: resume_command(&path, &folder, &settings, &index, keep_checkpoints),
        from: checkpoint::From::Last,
        models_after: 0,
    };
    let asked = |number: usize| index.is_empty() || index.contains(&(number + 1));
    let waiting = |planned: &Planned| !planned.folder.result().exists();
    let chosen = runs.iter().enumerate().filter(|(number, _)| asked(*number));
    let chosen: Vec<_> = chosen.filter(|(_, planned)| waiting(planned)).collect();
    job.models_after = chosen.len() as u64;
    let mut loaded = Loaded::default();
    let mut diverged = vec![];
    for (number, planned) in chosen {
        job.models_after -= 1;
        let recipe = &planned.recipe;
        let (prepared, is_new) = loaded.prepare(recipe, &data)?;
        if !run.quiet && !run.json {
            let (number, label) = (number + 1, &planned.case.label);
            let of = if label.is_empty() { "" } else { ": " };
            note!(
                "run {number} of {}{of}{label}, seed {}",
                runs.len(),
                recipe.train.seed
            );
        }
        if is_new {
            tell_sizes(prepared, &run);
        }
        let done = match job.run(recipe, prepared, &planned.folder) {
            Err(error @ Error::Diverged { .. }) => {
                // The others may fare better.
                note!("run {}: {}", number + 1, hints::message(&error));
                diverged.push(number + 1);
                continue;
            }
            done => done?,
        };
        let drawn = draw_curves(&planned.folder, recipe, &[done]);
        drawn_again(drawn, false, &planned.folder, "curves.png")?;
        if !keep_checkpoints {
            drop_checkpoints(&planned.folder)?;
        }
    }
    tell(&cases, &runs, &folder, &run)?;
    if diverged.is_empty() {
        return Ok(());
    }
    Err(Error::Diverged {
        place: folder.0.display().to_string(),
        problem: format!(
            "of these runs nothing came: {}",
            words::listed(&diverged, 20)
        ),
        remedy: "all others stand; leave out what made them diverge, such as a learning rate, in \
                 another sweep"
            .into(),
    })
}

/// Refuses a run that has begun on another data set: where one may have moved, a sweep's runs are compared.
fn refuse_other_data(planned: &Planned) -> Result<()> {
    let path = planned.folder.recipe();
    if !path.exists() {
        return Ok(());
    }
    let began = Recipe::restore(&path)?.recipe.data.set;
    if began == planned.recipe.data.set {
        return Ok(());
    }
    Err(Error::recipe(
        "data.set",
        format!("{} was trained on {began}", planned.folder.0.display()),
        "give the same data, or another folder",
    ))
}

/// The runs: all seeds of a case, then those of the next.
fn planned<'a>(cases: &'a [Case], seeds: u64, out: &Path) -> Vec<Planned<'a>> {
    let count = cases.len() * seeds as usize;
    let digits = count.to_string().len().max(3);
    let mut runs = vec![];
    for case in cases {
        for number in 0..seeds {
            let name = format!("{:0digits$}", runs.len() + 1);
            runs.push(Planned {
                case,
                recipe: case.recipe.with_seed_after(number),
                folder: RunFolder(out.join(name)),
            });
        }
    }
    runs
}

/// The sweep's folder, with the document in it: another one would number other runs.
fn begin(folder: &RunFolder, text: &str) -> Result<()> {
    let own = folder.0.join("sweep.toml");
    std::fs::create_dir_all(&folder.0).map_err(Error::io("create", &folder.0))?;
    if !own.exists() {
        if !folder.is_unused() {
            return Err(Error::recipe(
                "--out",
                format!("{} is not empty, and holds no sweep", folder.0.display()),
                "choose another folder",
            ));
        }
        return atomic::write(&own, text.as_bytes());
    }
    if input::text(&own, 1 << 20)? == text {
        return Ok(());
    }
    Err(Error::recipe(
        "--out",
        format!(
            "{} holds another sweep: its sweep.toml differs",
            folder.0.display()
        ),
        "choose another folder, or bring the document back to what it was",
    ))
}

/// The data set that was read last, divided for the run at hand.
#[derive(Default)]
struct Loaded {
    key: Option<(String, Square, bool)>,
    prepared: Option<Prepared>,
}

impl Loaded {
    /// For this recipe; and whether the data set has just been read.
    fn prepare(&mut self, recipe: &Recipe, data: &DataOptions) -> Result<(&Prepared, bool)> {
        let square = dataset::square(recipe);
        let key = (recipe.data.set.clone(), square, recipe.data.redivide);
        let is_new = self.key.as_ref() != Some(&key);
        let prepared = match &self.prepared {
            Some(prepared) if !is_new => prepared.again(recipe)?,
            _ => dataset::prepared(data.load(&recipe.data.set, square)?, recipe)?,
        };
        self.key = Some(key);
        Ok((self.prepared.insert(prepared), is_new))
    }
}

/// Takes away what only a run that goes on needs.
fn drop_checkpoints(folder: &RunFolder) -> Result<()> {
    for file in [folder.last(), folder.previous(), folder.next()] {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &file)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn resume_command(
    sweep: &Path,
    folder: &RunFolder,
    settings: &[String],
    index: &[usize],
    keep_checkpoints: bool,
) -> String {
    let mut command = format!(
        "smallvit sweep {} --out {}",
        options::quoted(sweep),
        options::quoted(&folder.0)
    );
    for setting in settings {
        command += &format!(" --set {}", options::quoted(Path::new(setting)));
    }
    for number in index {
        command += &format!(" --index {number}");
    }
    if keep_checkpoints {
        command += " --keep-checkpoints";
    }
    command
}

/// The runs that there would be.
fn tell_runs(runs: &[Planned], options: &RunOptions) -> Result<()> {
    let row = |(number, planned): (usize, &Planned)| {
        vec![
            (number + 1).to_string(),
            planned.recipe.name.clone(),
            planned.recipe.model.name().to_string(),
            planned.recipe.train.seed.to_string(),
            planned.case.label.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = runs.iter().enumerate().map(row).collect();
    if options.json {
        output::print(serde_json::json!({ "runs": rows }));
        return Ok(());
    }
    output::table(&["run", "recipe", "model", "seed", "what differs"], &rows);
    output::prose(
        "\nNothing was trained. `smallvit train --dry-run` measures what one run would take.",
    );
    Ok(())
}

/// What the runs came to that have ended.
fn tell(cases: &[Case], runs: &[Planned], folder: &RunFolder, options: &RunOptions) -> Result<()> {
    let mut of_cases: Vec<(&Case, Vec<RunResult>)> =
        cases.iter().map(|case| (case, vec![])).collect();
    let mut left = 0;
    for planned in runs {
        if !planned.folder.result().exists() {
            left += 1;
            continue;
        }
        let result = read_result(&planned.folder.result())?;
        let own = of_cases
            .iter_mut()
            .find(|(case, _)| std::ptr::eq(*case, planned.case));
        if let Some((_, results)) = own {
            results.extend(result);
        }
    }
    let all: Vec<RunResult> = of_cases
        .iter()
        .flat_map(|(_, results)| results.clone())
        .collect();
    let spread = |results: &[RunResult], of: fn(&RunResult) -> f64| {
        Spread::of(&results.iter().map(of).collect::<Vec<_>>())
    };
    let summaries: Vec<Summary> = of_cases
        .iter()
        .filter_map(|(case, results)| {
            Some(Summary {
                label: &case.label,
                recipe: &case.recipe.name,
                model: case.recipe.model.name().to_string(),
                parameters: results.first()?.parameters,
                val_top1: spread(results, |result| result.val_top1)?,
                test_top1: spread(results, |result| result.test_top1)?,
                seconds: results.iter().map(|result| result.seconds).sum(),
            })
        })
        .collect();
    let json = serde_json::json!({
        "cases": summaries, "left": left, "folder": folder.0.display().to_string(),
    });
    let text = format!("{json:#}\n");
    atomic::write(&folder.0.join("summary.json"), text.as_bytes())?;
    if options.json {
        output::print(json);
        return Ok(());
    }
    let mut ranked: Vec<&Summary> = summaries.iter().collect();
    ranked.sort_by(|a, b| b.val_top1.mean.total_cmp(&a.val_top1.mean));
    let rows: Vec<Vec<String>> = ranked
        .iter()
        .map(|summary| {
            vec![
                named(summary),
                words::count(summary.parameters),
                summary.val_top1.runs.to_string(),
                percent(summary.val_top1),
                words::seconds(summary.seconds / summary.val_top1.runs as f64),
            ]
        })
        .collect();
    output::table(&["case", "parameters", "runs", "val top-1", "a run"], &rows);
    let mut text = match (ranked.as_slice(), sentence(&of_cases)) {
        (_, Some(sentence)) => format!("\n{sentence} "),
        ([_, _, ..], None) => {
            "\nThe order may be chance: the best two have no two seeds in common as yet (seeds = 3 \
             in the sweep). "
                .into()
        }
        _ => "\n".into(),
    };
    text += "Accuracies are on the validation images, by which one chooses; mean ± deviation over the \
             seeds. ";
    if left > 0 {
        text += &format!(
            "Not yet there: {}; the same command goes on. ",
            words::counted(left, "run")
        );
    }
    text += &format!(
        "The runs are in {0}, all numbers in {0}/summary.json",
        folder.0.display()
    );
    output::prose(text);
    tell_lost_and_restarted(&all);
    Ok(())
}

fn named(summary: &Summary) -> String {
    match summary.label {
        "" => format!("{}, {}", summary.model, summary.recipe),
        label => label.to_owned(),
    }
}

fn percent(spread: Spread) -> String {
    match spread.runs {
        1 => format!("{:.2} %", spread.mean),
        _ => format!("{:.2} ± {:.2} %", spread.mean, spread.deviation),
    }
}

/// Whether the best case is better than the next one by more than chance, where both have the same seeds.
fn sentence(of_cases: &[(&Case, Vec<RunResult>)]) -> Option<String> {
    type Ranked<'a> = (&'a Case, Vec<f64>, Vec<u64>);
    let mut ranked: Vec<Ranked> = of_cases
        .iter()
        .filter(|(_, results)| !results.is_empty())
        .map(|(case, results)| {
            let values = results.iter().map(|r| r.val_top1).collect();
            (*case, values, results.iter().map(|r| r.seed).collect())
        })
        .collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    ranked.sort_by(|a, b| mean(&b.1).total_cmp(&mean(&a.1)));
    let [(first, own, seeds), (second, other, other_seeds), ..] = ranked.as_slice() else {
        return None;
    };
    // Run by run of the same seed.
    if seeds != other_seeds {
        return None;
    }
    let difference = Difference::paired(own, other)?;
    let real = match difference.is_real() {
        true => "more than chance",
        false => "which may be chance",
    };
    Some(format!(
        "Best is “{}”, {:.2} points before “{}” (95 % interval {:.2} to {:.2}): {real}.",
        first.label, difference.mean, second.label, difference.low, difference.high
    ))
}
