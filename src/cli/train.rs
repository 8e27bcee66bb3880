//! `smallvit train`: one model.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use clap::Args;
use smallvit::models::ModelName;
use smallvit::report::picture::curves::{self, Axis, Figure, Panel, Series, Stroke, StrokeNames};
use smallvit::report::table;
use smallvit::train::device::check_precision;
use smallvit::train::events::EventFile;
use smallvit::train::folder::RunFolder;
use smallvit::train::history::{Epoch, HistoryFile};
use smallvit::train::prepare::Prepared;
use smallvit::train::recipe::Recipe;
use smallvit::train::result::{RunResult, read_result};
use smallvit::train::run::{self, Run};
use smallvit::train::state::Counters;
use smallvit::{Error, Result};

use super::hints;
use super::options::{self, DataOptions, RecipeOptions, RunOptions};
use super::output;
use super::progress::Progress;

/// Train one model, or go on with a run.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    recipe: RecipeOptions,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    run: RunOptions,
    /// Which model, in place of the recipe's.
    #[arg(long, help = format!("{} [default: as the recipe says]", ModelName::list()), value_parser = hints::value::<ModelName>)]
    model: Option<ModelName>,
    /// Go on with the run in this folder, from its last checkpoint.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["recipe", "settings", "seed", "data", "model", "out"])]
    resume: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let Arguments {
        recipe,
        data,
        run,
        model,
        resume,
    } = arguments;
    let (folder, recipe) = match resume {
        Some(folder) => {
            let (folder, mut run) = resumed(folder)?;
            recipe.precision.resume(&mut run)?;
            (folder, run)
        }
        None => {
            let mut recipe = recipe.load(data.data.as_deref())?;
            if let Some(model) = model {
                recipe.model = recipe.model.named(model);
            }
            (None, recipe)
        }
    };
    // Refused before any work.
    check_precision(recipe.train.precision, &run.device.open()?)?;
    let dataset = data.load(&recipe.data.set, options::folder_size(&recipe))?;
    let prepared = Prepared::new(dataset, &recipe)?;
    let folder = match folder {
        Some(folder) => folder,
        None => RunFolder(run.folder(&recipe)?),
    };
    let stop = options::stop_flag();
    let resume = format!("smallvit train --resume {}", folder.0.display());
    let (result, history) = model_run(&recipe, &prepared, &folder, &run, &data, &stop, resume)?;
    draw_curves(&folder, &recipe, &[(result.clone(), history)])?;
    print_results(&[result], &folder, &run);
    Ok(())
}

/// The run in a folder, and its recipe.
fn resumed(folder: PathBuf) -> Result<(Option<RunFolder>, Recipe)> {
    let folder = RunFolder(folder);
    if folder.models().exists() {
        return Err(Error::model(
            folder.0.display(),
            "this is a comparison, not a single run",
            format!(
                "go on with: smallvit compare --resume {}",
                folder.0.display()
            ),
        ));
    }
    if !folder.recipe().exists() {
        return Err(Error::model(
            folder.0.display(),
            "there is no recipe.toml in it, so no run to go on with",
            "give the folder that `smallvit train` wrote",
        ));
    }
    let recipe = Recipe::restore(&folder.recipe())?.to_go_on(folder.0.display())?;
    Ok((Some(folder), recipe))
}

/// Trains one model from where its folder stands, and returns its result and history.
pub fn model_run(
    recipe: &Recipe,
    data: &Prepared,
    folder: &RunFolder,
    options: &RunOptions,
    data_options: &DataOptions,
    stop: &AtomicBool,
    mut resume_command: String,
) -> Result<(RunResult, Vec<Epoch>)> {
    if let Some(dir) = &data_options.data_dir {
        resume_command += &format!(" --data-dir {}", dir.display());
    }
    if data_options.strict {
        resume_command += " --strict";
    }
    if let Some(threads) = options.threads {
        resume_command += &format!(" --threads {threads}");
    }
    if options.device.device != "cpu" {
        resume_command += &format!(" --device {}", options.device.device);
    }
    let name = recipe.model.name();
    let mut table = HistoryFile::new(folder.history());
    let mut events = EventFile::new(folder.0.clone(), name);
    let mut progress = Progress::new(name, options);
    let run = Run {
        recipe,
        data,
        folder,
        threads: options.threads(),
        device: options.device.open()?,
        stop,
        resume_command,
    };
    let result = if folder.result().exists() {
        let mut results = read_result(&folder.result())?;
        results.pop().ok_or_else(|| {
            Error::model(
                folder.result().display(),
                "there is no result in it",
                "take away the file; the run writes it again",
            )
        })?
    } else {
        run::train(&run, &mut [&mut table, &mut events, &mut progress])?
    };
    Ok((result, history(folder)?))
}

/// The epochs of a run.
pub fn history(folder: &RunFolder) -> Result<Vec<Epoch>> {
    let contents = smallvit::models::file::Contents::read(&folder.last())?;
    let counters: Counters = contents.json("state")?;
    Ok(counters.history)
}

/// `curves.png`: losses, accuracies and rates of one model or more.
pub fn draw_curves(
    folder: &RunFolder,
    recipe: &Recipe,
    runs: &[(RunResult, Vec<Epoch>)],
) -> Result<()> {
    type Value = fn(&Epoch) -> f64;
    let panel = |title: &str, y_axis: Axis, solid: Value, dashed: Option<Value>| {
        let mut panel = Panel {
            title: title.into(),
            x_label: "epoch".into(),
            y_axis,
            ..Panel::default()
        };
        for (colour, (result, history)) in runs.iter().enumerate() {
            let lines = [(Some(solid), Stroke::Solid), (dashed, Stroke::Dashed)];
            for (value, stroke) in lines {
                let Some(value) = value else { continue };
                panel.series.push(Series {
                    label: result.model.to_string(),
                    points: history.iter().map(|e| (e.epoch as f64, value(e))).collect(),
                    stroke,
                    colour,
                });
            }
        }
        panel
    };
    let figure = Figure {
        title: format!("{} on {}", recipe.name, recipe.data.set),
        subtitle: runs
            .iter()
            .map(|(r, _)| format!("{} test top-1 {:.2} %", r.model, r.test_top1))
            .collect::<Vec<_>>()
            .join("  ·  "),
        panels: vec![
            panel(
                "Loss",
                Axis::Fitted,
                |e| e.validation.loss,
                Some(|e| e.train.loss),
            ),
            panel(
                "Top-1, %",
                Axis::Percent,
                |e| e.validation.top1,
                Some(|e| e.train.top1),
            ),
            panel(
                "Top-5, %",
                Axis::Percent,
                |e| e.validation.top5,
                Some(|e| e.train.top5),
            ),
            panel("Learning rate", Axis::FromZero, |e| e.learning_rate, None),
        ],
        columns: 2,
        strokes: Some(StrokeNames {
            solid: "validation".into(),
            dashed: "training".into(),
        }),
    };
    super::tell_missing(&curves::draw(&figure, &folder.0.join("curves.png"))?);
    Ok(())
}

/// The table of results, or the JSON.
pub fn print_results(results: &[RunResult], folder: &RunFolder, options: &RunOptions) {
    if options.json {
        output::print(
            serde_json::json!({ "models": results, "folder": folder.0.display().to_string() }),
        );
        return;
    }
    let header = [
        "model",
        "parameters",
        "best epoch",
        "val top-1",
        "val top-5",
        "test top-1",
        "test top-5",
        "last epoch's test top-1",
        "s/step",
        "time",
    ];
    let percent = |value: f64| format!("{value:.2} %");
    let rows: Vec<Vec<String>> = results
        .iter()
        .map(|r| {
            vec![
                r.model.to_string(),
                table::count(r.parameters),
                r.best_epoch.to_string(),
                percent(r.val_top1),
                percent(r.val_top5),
                percent(r.test_top1),
                percent(r.test_top5),
                percent(r.last_test_top1),
                format!("{:.3}", r.seconds_per_step),
                table::seconds(r.seconds),
            ]
        })
        .collect();
    output::table(&header, &rows);
    output::prose(format!(
        "\nTest accuracies are of the epoch that was best on the validation images; the test \
         images were read once, at the end.\nThe run is in {0}; its curves are {0}/curves.png",
        folder.0.display()
    ));
}
