//! `smallvit train`: one model.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use clap::{Args, ValueEnum};
use smallvit::models::ModelName;
use smallvit::models::file::Contents;
use smallvit::report::picture::curves::{self, Figure, StrokeNames};
use smallvit::train::checkpoint;
use smallvit::train::choose;
use smallvit::train::device::{self, check_precision};
use smallvit::train::events::EventFile;
use smallvit::train::folder::RunFolder;
use smallvit::train::history::{self, Epoch, HistoryFile};
use smallvit::train::init::InitRecipe;
use smallvit::train::plan::{self, Plan};
use smallvit::train::prepare::Prepared;
use smallvit::train::recipe::Recipe;
use smallvit::train::result::{RunResult, read_result};
use smallvit::train::run::{self, Run};
use smallvit::words;
use smallvit::{Error, Result};

use super::charts;
use super::dataset::{self, DataOptions};
use super::evaluate::{Checkpoint, Which};
use super::hints;
use super::options::{self, RecipeOptions, RunOptions};
use super::output::{self, note};
use super::progress::Progress;
use super::report;
use super::signals;

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
    /// Begin with the weights of a run (its best epoch's), or of a model's file, wherever they fit: fine-tune.
    /// The model is then that one's, whatever the recipe says, but for what --set and --model change; with
    /// other classes the classifier's last layer begins afresh.
    #[arg(long, value_name = "RUN|FILE")]
    init: Option<PathBuf>,
    /// Go on with the run in this folder.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["recipe", "settings", "epochs", "batch", "lr", "seed", "minutes", "pflop", "data", "model", "init", "out", "dry_run"])]
    resume: Option<PathBuf>,
    /// From which checkpoint.
    #[arg(long, value_enum, default_value_t, requires = "resume")]
    from: Start,
}

/// From which checkpoint a run goes on.
#[derive(Clone, Copy, Default, ValueEnum)]
pub enum Start {
    /// The last one.
    #[default]
    Last,
    /// The one before it: the same bits, some steps again.
    Previous,
    /// The best epoch's weights; the optimizer begins afresh, so it is another run from there.
    Best,
}

impl From<Start> for checkpoint::From {
    fn from(start: Start) -> Self {
        match start {
            Start::Last => Self::Last,
            Start::Previous => Self::Previous,
            Start::Best => Self::Best,
        }
    }
}

pub fn run(arguments: Arguments) -> Result<()> {
    let Arguments {
        recipe: options,
        data,
        run,
        model,
        init,
        resume,
        from,
    } = arguments;
    let (folder, mut recipe) = match resume {
        Some(folder) => {
            let (folder, mut run) = resumed(folder, from)?;
            options.precision.resume(&mut run)?;
            (Some(folder), run)
        }
        None => {
            let quiet = run.quiet || run.json;
            let mut recipe = match &init {
                Some(from) => initialised(&options, data.data.as_deref(), from, quiet)?,
                None => options.load_named(data.data.as_deref(), model, quiet)?,
            };
            if let (Some(_), Some(model)) = (&init, model) {
                recipe.model = recipe.model.named(model);
            }
            (None, recipe)
        }
    };
    // Refused before any work.
    if folder.is_none() {
        run.check_out()?;
    }
    check_precision(recipe.train.precision, &run.device.open()?)?;
    let dataset = data.load(&recipe.data.set, dataset::square(&recipe));
    let dataset = dataset.map_err(|error| match &folder {
        Some(folder) => hints::and(
            error,
            &format!(
                "where the data set has moved, data.set in {} may follow it",
                folder.recipe().display()
            ),
        ),
        None => error,
    })?;
    let mut prepared = dataset::prepared(dataset, &recipe)?;
    choose(&mut recipe, &mut prepared, &options.all_settings(), &run)?;
    if let (None, Some(init)) = (&folder, &recipe.train.init) {
        // What fits is told, and refused, before any work.
        let (_, taken) = init.begin(prepared.info.init(recipe.train.seed, &device::cpu()))?;
        if !(run.quiet || run.json) {
            note!("{}: {}", init.file, taken.told());
        }
    }
    if run.dry_run {
        let plan = run_plan(&recipe, &prepared, &run)?;
        print_plans(&[plan], &run, 1);
        return Ok(());
    }
    let is_new = folder.is_none() && !run.out.as_ref().is_some_and(|out| out.exists());
    let folder = match folder {
        Some(folder) => folder,
        None => RunFolder(run.folder(&recipe)?),
    };
    tell_sizes(&prepared, &run);
    let stop = signals::stop_flag();
    let job = Job {
        options: &run,
        data_options: &data,
        stop: &stop,
        resume_command: format!("smallvit train --resume {}", options::quoted(&folder.0)),
        from: from.into(),
        models_after: 0,
    };
    let ended = folder.result().exists();
    let done = job.run(&recipe, &prepared, &folder);
    if done.is_err() && is_new {
        // A folder that was made for it, and in which nothing was written, need not stay.
        let _ = std::fs::remove_dir(&folder.0);
    }
    let (result, history) = done?;
    // The numbers first: they are what matters.
    print_results(std::slice::from_ref(&result), &folder, &run);
    let drawn = draw_curves(&folder, &recipe, &[(result.clone(), history)]);
    drawn_again(drawn, ended, &folder, "curves.png")?;
    if !ended || !folder.report().exists() {
        let runs = std::slice::from_ref(&folder);
        report::write(&folder, runs, &prepared, run.quiet || run.json);
    }
    refuse_lost(&[result], &folder)
}

/// Chooses what the recipe leaves to be chosen, and says what and why.
/// What `settings` say stands above what is chosen.
pub fn choose(
    recipe: &mut Recipe,
    data: &mut Prepared,
    settings: &[String],
    options: &RunOptions,
) -> Result<()> {
    if !recipe.choose.is_open() {
        return Ok(());
    }
    // Of epochs and minutes (or work) the recipe was told which it is to be.
    let epochs = if recipe.choose.minutes > 0.0 || recipe.choose.pflop > 0.0 {
        "train.epochs"
    } else {
        "choose."
    };
    let asked = |setting: &&String| {
        let name = setting.split('=').next().unwrap_or_default().trim();
        !name.starts_with("choose.") && name != epochs
    };
    let settings: Vec<String> = settings.iter().filter(asked).cloned().collect();
    if recipe.choose.sizes && recipe.data.folder_size == 0 {
        // Pictures stay of the size that they were read in, whatever the model's becomes.
        recipe.data.folder_size = recipe.model.image_size();
    }
    let mut chosen = choose::sizes(recipe, data);
    if !chosen.is_empty() {
        *recipe = recipe.with(&settings)?;
        *data = data.again(recipe)?;
    }
    if recipe.choose.minutes > 0.0 {
        data.info.config = recipe.model.clone();
        let plan = run_plan(recipe, data, options)?;
        chosen.extend(choose::epochs(recipe, &plan));
    }
    chosen.extend(choose::arithmetic(recipe, data));
    chosen.extend(choose::augmentation(recipe));
    *recipe = recipe.with(&settings)?;
    if !options.quiet && !options.json && !chosen.is_empty() {
        let but = match settings.is_empty() {
            true => "",
            false => " (but for what is set)",
        };
        note!("chosen{but}: {}", chosen.join("; "));
    }
    Ok(())
}

/// The recipe of a training that begins with a model's weights: with that model.
fn initialised(
    options: &RecipeOptions,
    data: Option<&str>,
    from: &Path,
    quiet: bool,
) -> Result<Recipe> {
    let which = Which {
        checkpoint: Checkpoint::Best,
    };
    let file = which.file(from)?;
    let file = file.canonicalize().map_err(Error::io("find", &file))?;
    let config = Contents::read(&file)?.info()?.config;
    let mut recipe = options.load_for(data, Some(&config), quiet)?;
    // The model is the file's.
    recipe.choose.sizes = false;
    recipe.train.init = Some(InitRecipe::of(&file)?);
    Ok(recipe)
}

/// Of a run that had ended before, and is shown again, a picture that is there need not be drawn: the run
/// may lie where nothing can be written.
pub fn drawn_again(
    drawn: Result<()>,
    ended: bool,
    folder: &RunFolder,
    picture: &str,
) -> Result<()> {
    match drawn {
        Err(error) if ended && folder.0.join(picture).is_file() => {
            note!("not drawn again: {}", hints::message(&error));
            Ok(())
        }
        drawn => drawn,
    }
}

/// Fails where best epochs' weights were lost: all else is printed and written by now.
pub fn refuse_lost(results: &[RunResult], folder: &RunFolder) -> Result<()> {
    let lost: Vec<String> = results.iter().filter_map(lost_best).collect();
    if lost.is_empty() {
        return Ok(());
    }
    Err(Error::model(
        folder.0.display(),
        lost.join("; "),
        "the last epoch's model is whole; to have the best one, bring back the file, take \
         result.json away and go on with the run",
    ))
}

/// What is to be said of a result whose best epoch's weights were lost.
fn lost_best(result: &RunResult) -> Option<String> {
    let why = result.best_lost.as_ref()?;
    Some(format!(
        "{}: the best epoch's weights are lost ({why}); what is said of the best epoch is of the \
         last one",
        result.model
    ))
}

/// How many images there are for what.
pub fn tell_sizes(data: &Prepared, options: &RunOptions) {
    if !options.quiet && !options.json {
        note!(
            "{}: {} to train on, {} to choose on, {} to test on; {} classes",
            data.name,
            words::counted(data.train.samples.len() as u64, "image"),
            data.validation.samples.len(),
            data.test.samples.len(),
            data.info.classes.len()
        );
    }
}

/// What a run would take.
pub fn run_plan(recipe: &Recipe, data: &Prepared, options: &RunOptions) -> Result<Plan> {
    if !options.quiet && !options.json {
        let size = recipe
            .model
            .size(data.info.input[2], data.info.classes.len());
        note!(
            "{}: {} parameters; measuring a few steps",
            recipe.model.name(),
            words::count(size.parameters)
        );
    }
    plan::plan(&Run {
        recipe,
        data,
        folder: &RunFolder(options.out.clone().unwrap_or("runs".into())),
        threads: options.threads.count(),
        device: options.device.open()?,
        stop: &AtomicBool::new(false),
        resume_command: String::new(),
        from: checkpoint::From::Last,
    })
}

/// Prints what runs would take, a model a run, each with so many seeds.
pub fn print_plans(plans: &[Plan], options: &RunOptions, seeds: u64) {
    if options.json {
        output::print(serde_json::json!({ "models": plans, "seeds": seeds }));
        return;
    }
    let rows: Vec<Vec<String>> = plans
        .iter()
        .map(|plan| {
            vec![
                plan.model.to_string(),
                words::count(plan.parameters),
                format!("{:.1}", plan.macs as f64 / 1e6),
                words::count(plan.epochs),
                words::seconds(plan.seconds_per_step),
                words::seconds(plan.seconds),
                words::bytes(plan.memory_bytes),
                words::bytes(plan.disk_bytes),
            ]
        })
        .collect();
    let header = [
        "model",
        "parameters",
        "mega-MACs",
        "epochs",
        "a step",
        "time",
        "memory",
        "disk",
    ];
    output::table(&header, &rows);
    let steps = |plan: &Plan| words::counted(plan.steps_per_epoch, "step");
    let most = plans.iter().map(|plan| plan.most_disk_bytes).max();
    output::prose(format!(
        "\n{} an epoch; {} in all{}. Measured on a few steps, which were thrown away; no run was written. \
         mega-MACs: million multiplications and additions an image, forward. While a checkpoint is written, a run has {} on disk.",
        plans.first().map(steps).unwrap_or_default(),
        words::seconds(seeds as f64 * plans.iter().map(|plan| plan.seconds).sum::<f64>()),
        match seeds {
            1 => String::new(),
            _ => format!(", of {seeds} seeds"),
        },
        words::bytes(most.unwrap_or_default())
    ));
}

/// The run in a folder, and its recipe. What would be refused later is refused before the data set is
/// read.
fn resumed(folder: PathBuf, from: Start) -> Result<(RunFolder, Recipe)> {
    let folder = RunFolder(folder);
    if folder.models().exists() {
        return Err(Error::model(
            folder.0.display(),
            "this is a comparison, not a single run",
            format!(
                "go on with: smallvit compare --resume {}",
                options::quoted(&folder.0)
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
    // A run that has ended may lie where nothing can be written.
    if !folder.result().exists() {
        drop(folder.lock()?);
    }
    checkpoint::check_recipe(&folder, &recipe, &folder.recipe())?;
    if folder.result().exists() && !matches!(from, Start::Last) {
        return Err(Error::recipe(
            "--from",
            "this run has ended, and its result is there",
            "leave it out, to see the result; or take result.json away, to train on from there",
        ));
    }
    Ok((folder, recipe))
}

/// What the runs of a command share.
pub struct Job<'a> {
    pub options: &'a RunOptions,
    pub data_options: &'a DataOptions,
    pub stop: &'a AtomicBool,
    /// The command that would go on, as far as it goes without options.
    pub resume_command: String,
    /// From which checkpoint.
    pub from: checkpoint::From,
    /// How many models are still to come after this one.
    pub models_after: u64,
}

impl Job<'_> {
    /// Trains one model from where its folder stands, and returns its result and history.
    pub fn run(
        &self,
        recipe: &Recipe,
        data: &Prepared,
        folder: &RunFolder,
    ) -> Result<(RunResult, Vec<Epoch>)> {
        if folder.result().exists() {
            let mut results = read_result(&folder.result())?;
            let result = results.pop().ok_or_else(|| {
                Error::model(
                    folder.result().display(),
                    "there is no result in it",
                    "take away the file; the run writes it again",
                )
            })?;
            // Checkpoints may have been dropped since, but for the best epoch's.
            let table = history::read(&folder.history());
            return Ok((
                result,
                table.unwrap_or_else(|_| checkpoint::history(folder)),
            ));
        }
        let name = recipe.model.name();
        let mut table = HistoryFile::new(folder.history());
        let mut events = EventFile::new(folder.0.clone(), name);
        let mut progress = Progress::new(name, self.options, self.models_after);
        let run = Run {
            recipe,
            data,
            folder,
            threads: self.options.threads.count(),
            device: self.options.device.open()?,
            stop: self.stop,
            resume_command: self.resume_command(),
            from: self.from,
        };
        let begun = checkpoint::history(folder);
        let origin = checkpoint::Origin {
            folder,
            recipe,
            data,
        };
        // Of other data or another recipe, the run itself is about to be refused.
        let lost = checkpoint::best_problem(origin, &begun);
        if let Some(error @ (Error::Io { .. } | Error::Model { .. })) = lost {
            note!(
                "{name}: the best epoch's weights are lost ({error}); unless a later epoch is better, \
                 the result will be the last one's"
            );
        }
        let result = run::train(&run, &mut [&mut table, &mut events, &mut progress]);
        if let Err(Error::Io { source, .. }) = &result
            && matches!(
                source.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            )
            && folder.last().exists()
        {
            note!(
                "{name}: once there is room, go on with: {}",
                self.resume_command()
            );
        }
        let result = result.map_err(|error| with_flags(error, folder))?;
        Ok((result, checkpoint::history(folder)))
    }

    fn resume_command(&self) -> String {
        let mut command = self.resume_command.clone();
        if let Some(dir) = &self.data_options.copy.data_dir {
            command += &format!(" --data-dir {}", options::quoted(dir));
        }
        if self.data_options.copy.strict {
            command += " --strict";
        }
        if self.data_options.copy.offline {
            command += " --offline";
        }
        if let Some(threads) = self.options.threads.asked {
            command += &format!(" --threads {threads}");
        }
        if self.options.device.device != "cpu" {
            command += &format!(" --device {}", self.options.device.device);
        }
        command
    }
}

/// How to say from which checkpoint, for an error that names some.
fn with_flags(error: Error, folder: &RunFolder) -> Error {
    match &error {
        Error::Model { remedy, .. }
            if remedy.ends_with("(best)") || remedy.ends_with("(previous)") =>
        {
            hints::and(
                error,
                &format!(
                    "smallvit train --resume {} --from previous|best",
                    options::quoted(&folder.0)
                ),
            )
        }
        _ => error,
    }
}

/// `curves.png`: losses, accuracies and rates of one model or more.
pub fn draw_curves(
    folder: &RunFolder,
    recipe: &Recipe,
    runs: &[(RunResult, Vec<Epoch>)],
) -> Result<()> {
    if let Some((result, _)) = runs.iter().find(|(_, history)| history.is_empty()) {
        note!(
            "{}: no checkpoint is there any more, and so no curves are drawn",
            result.model
        );
        return Ok(());
    }
    let figure = Figure {
        title: format!("{} on {}", recipe.name, recipe.data.set),
        subtitle: runs
            .iter()
            .map(|(r, _)| format!("{} test top-1 {}", r.model, accuracy(r)))
            .collect::<Vec<_>>()
            .join("  ·  "),
        panels: charts::usual(&charts::of_results(runs)),
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
    let top5 = results.iter().any(|result| result.test_top5.is_some());
    let mut header = vec!["model", "parameters", "epoch", "val top-1", "test top-1"];
    header.extend(top5.then_some("top-5"));
    header.extend(["s/step", "time"]);
    let percent = |value: f64| format!("{value:.2} %");
    let rows: Vec<Vec<String>> = results
        .iter()
        .map(|r| {
            let mut row = vec![
                r.model.to_string(),
                words::count(r.parameters),
                r.best_epoch.to_string(),
                percent(r.val_top1),
                accuracy(r),
            ];
            row.extend(top5.then(|| r.test_top5.map_or("–".into(), percent)));
            row.extend([
                format!("{:.3}", r.seconds_per_step),
                words::seconds(r.seconds),
            ]);
            row
        })
        .collect();
    output::table(&header, &rows);
    let last: Vec<String> = results.iter().map(|r| percent(r.last_test_top1)).collect();
    output::prose(format!(
        "\nTest accuracies (± standard error) are of the epoch that was best on the validation \
         images; the test images were read once, at the end. The last epoch has {}.\n\
         The run is in {1}; its curves are {1}/curves.png",
        last.join(" and "),
        folder.0.display()
    ));
    tell_lost_and_restarted(results);
}

/// What is to be known of runs that did not go straight through.
pub fn tell_lost_and_restarted(results: &[RunResult]) {
    for result in results {
        // At once, in case something else fails before the end.
        if let Some(lost) = lost_best(result) {
            note!("{lost}");
        }
        if let Some(step) = result.restarted_at_step {
            note!(
                "{} went on from the best epoch's weights at step {step}, with an optimizer that \
                 began afresh",
                result.model
            );
        }
    }
}

/// The test accuracy with its standard error, where the result knows of how many images it is.
pub fn accuracy(result: &RunResult) -> String {
    match result.test_top1_standard_error {
        Some(error) => words::accuracy(result.test_top1, error),
        None => format!("{:.2} %", result.test_top1),
    }
}
