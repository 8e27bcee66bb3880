//! `smallvit compare`: several models from the same seed, or from several.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use smallvit::atomic;
use smallvit::input;
use smallvit::models::ModelName;
use smallvit::train::checkpoint;
use smallvit::train::choose;
use smallvit::train::device::check_precision;
use smallvit::train::folder::RunFolder;
use smallvit::train::history::Epoch;
use smallvit::train::prepare::Prepared;
use smallvit::train::recipe::Recipe;
use smallvit::train::result::{RunResult, write_result};
use smallvit::train::room::{self, Disk};
use smallvit::train::run;
use smallvit::train::trials::{Difference, Spread};
use smallvit::words;
use smallvit::{Error, Result};

use super::charts;
use super::dataset::{self, DataOptions};
use super::hints;
use super::options::{self, RecipeOptions, RunOptions};
use super::output::{self, note};
use super::report;
use super::show::{draw_token, draws_tokens};
use super::signals;
use super::train::{
    Job, draw_curves, drawn_again, print_plans, print_results, refuse_lost, run_plan,
    tell_lost_and_restarted, tell_sizes,
};

/// Train several models from the same seed, or from several, and compare them.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    recipe: RecipeOptions,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    run: RunOptions,
    /// Which models.
    #[arg(long, value_delimiter = ',', help = format!("Which: {} [default: the recipe's without and with both ideas, as vit,sl-vit]", ModelName::list()), value_parser = hints::value::<ModelName>)]
    models: Vec<ModelName>,
    /// Train each model with so many seeds, from the recipe's on, and say whether the difference is more
    /// than chance [default: as the recipe says]; short for --set train.seeds=N.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Go on with the comparison in this folder.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["recipe", "settings", "epochs", "batch", "lr", "seed", "minutes", "pflop", "data", "models", "seeds", "out", "dry_run"])]
    resume: Option<PathBuf>,
}

/// What is compared; `models.json`. Without seeds it is the list of the models alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Compared {
    Models(Vec<ModelName>),
    Seeds { models: Vec<ModelName>, seeds: u64 },
}

impl Compared {
    fn new(models: Vec<ModelName>, seeds: u64) -> Self {
        match seeds {
            1 => Self::Models(models),
            _ => Self::Seeds { models, seeds },
        }
    }

    /// Refuses a comparison of nothing, of one model twice, or of numbers of seeds that make no sense.
    fn check(&self, models: &str, seeds: &str) -> Result<()> {
        /// More than anyone has time for, and few enough to be listed.
        const MOST: u64 = 1000;
        check_models(self.models(), models)?;
        if (1..=MOST).contains(&self.seeds()) {
            return Ok(());
        }
        Err(Error::recipe(
            seeds,
            format!("{} seeds are out of range", self.seeds()),
            format!("choose 1 to {MOST}; with 3 to 10 a difference can be told from chance"),
        ))
    }

    fn models(&self) -> &[ModelName] {
        match self {
            Self::Models(models) | Self::Seeds { models, .. } => models,
        }
    }

    fn seeds(&self) -> u64 {
        match self {
            Self::Models(_) => 1,
            Self::Seeds { seeds, .. } => *seeds,
        }
    }

    /// The runs in their order: all models of a seed, then those of the next. A run's recipe with its seed, its
    /// model, and its folder in the comparison's.
    fn places(&self, recipe: &Recipe, folder: &RunFolder) -> Vec<(Recipe, ModelName, RunFolder)> {
        let mut all = vec![];
        for number in 0..self.seeds() {
            let recipe = recipe.with_seed_after(number);
            let seed = recipe.train.seed;
            let place = match self.seeds() {
                1 => folder.0.clone(),
                _ => folder.0.join(format!("seed-{seed}")),
            };
            for &model in self.models() {
                let own = RunFolder(place.join(model.to_string()));
                all.push((recipe.clone(), model, own));
            }
        }
        all
    }

    /// The same, with each run's recipe.
    fn runs(
        &self,
        recipe: &Recipe,
        data: &Prepared,
        folder: &RunFolder,
    ) -> Vec<(Recipe, RunFolder)> {
        let places = self.places(recipe, folder).into_iter();
        let run = |(recipe, model, own): (Recipe, _, _)| (recipe_of(&recipe, data, model), own);
        places.map(run).collect()
    }
}

/// A model's recipe in a comparison, with as many epochs as take the work that each is given.
fn recipe_of(recipe: &Recipe, data: &Prepared, model: ModelName) -> Recipe {
    let mut recipe = recipe.clone();
    recipe.model = recipe.model.named(model);
    choose::arithmetic(&mut recipe, data);
    recipe
}

pub fn run(arguments: Arguments) -> Result<()> {
    let Arguments {
        recipe: options,
        data,
        run,
        models,
        seeds,
        resume,
    } = arguments;
    if !models.is_empty() {
        Compared::new(models.clone(), seeds.unwrap_or(1)).check("--models", "--seeds")?;
    }
    let (folder, mut recipe, compared) = match resume {
        Some(folder) => {
            let folder = RunFolder(folder);
            let compared = resumed(&folder)?;
            let mut run = Recipe::restore(&folder.recipe())?.to_go_on(folder.0.display())?;
            options.precision.resume(&mut run)?;
            (Some(folder), run, compared)
        }
        None => {
            let mut recipe = options.load(data.data.as_deref(), run.quiet || run.json)?;
            recipe.train.seeds = seeds.unwrap_or(recipe.train.seeds);
            let family = recipe.model.name().family;
            let usual = [false, true].map(|idea| ModelName {
                spt: idea,
                lsa: idea,
                family,
            });
            let models = if models.is_empty() {
                usual.to_vec()
            } else {
                models
            };
            let asked = Compared::new(models, recipe.train.seeds);
            asked.check("--models", "--seeds")?;
            (None, recipe, asked)
        }
    };
    // Refused before any work.
    if folder.is_none() {
        run.check_out()?;
    }
    check_precision(recipe.train.precision, &run.device.open()?)?;
    let dataset = data.load(&recipe.data.set, dataset::square(&recipe))?;
    let mut prepared = dataset::prepared(dataset, &recipe)?;
    if let Some(&last) = compared.models().last()
        && recipe.choose.is_open()
    {
        // By the model that does the most, and the same for all; but epochs for as much work are each one's own.
        let pflop = std::mem::take(&mut recipe.choose.pflop);
        let own = recipe.model.clone();
        recipe.model = own.named(last);
        super::train::choose(&mut recipe, &mut prepared, &options.all_settings(), &run)?;
        recipe.model = match last.family == own.name().family {
            true => recipe.model.named(own.name()),
            false => own,
        };
        recipe.choose.pflop = pflop;
    }
    if run.dry_run {
        let mut plans = vec![];
        for &model in compared.models() {
            let recipe = recipe_of(&recipe, &prepared, model);
            prepared.info.config = recipe.model.clone();
            plans.push(run_plan(&recipe, &prepared, &run)?);
        }
        print_plans(&plans, &run, compared.seeds());
        return Ok(());
    }
    // All of them, before the first takes its hours, and before a new folder is made.
    let place = folder.clone().unwrap_or_else(|| {
        let out = run.out.clone();
        RunFolder(out.unwrap_or_else(|| "runs".into()))
    });
    let (mut disks, mut written) = (vec![], 0);
    for (recipe, own) in compared.runs(&recipe, &prepared, &place) {
        checkpoint::check_recipe(&own, &recipe, &place.recipe())?;
        check_own_recipe(&own, &recipe)?;
        if !own.result().exists() {
            prepared.info.config = recipe.model.clone();
            run::check_memory(&recipe, &prepared, run.threads.count(), &run.device.open()?)?;
            disks.push(Disk::of(&recipe, &prepared.info));
            written += run::written(&own, checkpoint::From::Last);
        }
    }
    room::check(&place.0, &disks, written)?;
    let folder = match folder {
        Some(folder) => folder,
        None => RunFolder(run.folder(&recipe)?),
    };
    // A comparison that has ended may lie where nothing can be written.
    let ended = disks.is_empty() && folder.result().exists();
    let _lock = if ended { None } else { Some(folder.lock()?) };
    if !ended {
        atomic::sweep(&folder.0);
        // First what makes a comparison of it: with the recipe alone, it would be a single run.
        let names = serde_json::json!(compared).to_string();
        atomic::write(&folder.models(), names.as_bytes())?;
        atomic::write(&folder.recipe(), recipe.to_toml().as_bytes())?;
    }
    tell_sizes(&prepared, &run);
    let stop = signals::stop_flag();
    let runs = compared.runs(&recipe, &prepared, &folder);
    let mut job = Job {
        options: &run,
        data_options: &data,
        stop: &stop,
        resume_command: format!("smallvit compare --resume {}", options::quoted(&folder.0)),
        from: checkpoint::From::Last,
        models_after: runs.len() as u64,
    };
    let mut done: Vec<Done> = vec![];
    let mut seed = recipe.train.seed;
    for (recipe, own) in &runs {
        job.models_after -= 1;
        if recipe.train.seed != seed {
            seed = recipe.train.seed;
            prepared = prepared.again(recipe)?;
        }
        if compared.seeds() > 1 && !run.quiet && !run.json && !own.result().exists() {
            note!(
                "seed {seed}, {}: run {} of {}",
                recipe.model.name(),
                done.len() + 1,
                runs.len()
            );
        }
        prepared.info.config = recipe.model.clone();
        done.push(job.run(recipe, &prepared, own)?);
    }
    let results: Vec<RunResult> = done.iter().map(|(result, _)| result.clone()).collect();
    if !ended {
        write_result(&folder.result(), &results)?;
    }
    // The numbers first: they are what matters.
    let shown = if compared.seeds() == 1 {
        print_results(&results, &folder, &run);
        done.clone()
    } else {
        print_trials(&compared, &results, &folder, &run);
        let models = compared.models().iter();
        models.map(|&model| mean_run(&done, model)).collect()
    };
    for ((recipe, own), done) in runs.iter().zip(&done) {
        let drawn = draw_curves(own, recipe, std::slice::from_ref(done));
        drawn_again(drawn, ended, own, "curves.png")?;
    }
    let drawn = draw_curves(&folder, &recipe, &shown);
    drawn_again(drawn, ended, &folder, "curves.png")?;
    // Why it works: what a token sees with and without shifted patches.
    const PATCHES: &str = "patches.png";
    if draws_tokens(&recipe) {
        let drawn = draw_token(
            &prepared.name,
            &prepared.train.split,
            &prepared.info.classes,
            &recipe,
            prepared.train.samples[0] as usize,
            None,
            &folder.0.join(PATCHES),
        );
        drawn_again(drawn.map(|_| ()), ended, &folder, PATCHES)?;
    }
    if !ended || !folder.report().exists() {
        let runs: Vec<RunFolder> = runs.iter().map(|(_, own)| own.clone()).collect();
        for own in &runs {
            report::write(own, std::slice::from_ref(own), &prepared, true);
        }
        report::write(&folder, &runs, &prepared, run.quiet || run.json);
    }
    refuse_lost(&results, &folder)
}

/// A run's result, and its history.
type Done = (RunResult, Vec<Epoch>);

/// A model's runs with all seeds as one: the means of its results and of its histories.
fn mean_run(done: &[Done], model: ModelName) -> Done {
    let own: Vec<&Done> = done.iter().filter(|(r, _)| r.model == model).collect();
    let mean =
        |of: &dyn Fn(&Done) -> f64| own.iter().map(|done| of(done)).sum::<f64>() / own.len() as f64;
    let (first, _) = own[0];
    let result = RunResult {
        test_top1: mean(&|(result, _)| result.test_top1),
        test_top1_standard_error: None,
        ..first.clone()
    };
    let histories: Vec<&[Epoch]> = own.iter().map(|(_, history)| history.as_slice()).collect();
    (result, charts::mean(&histories))
}

/// A model's runs with all seeds.
#[derive(Serialize)]
struct Trials {
    model: ModelName,
    parameters: u64,
    val_top1: Spread,
    test_top1: Spread,
    seconds: f64,
}

/// A model beside the first one.
#[derive(Serialize)]
struct Beside {
    model: ModelName,
    than: ModelName,
    #[serde(flatten)]
    difference: Difference,
    is_real: bool,
}

/// The table of several seeds' results, or the JSON.
fn print_trials(
    compared: &Compared,
    results: &[RunResult],
    folder: &RunFolder,
    options: &RunOptions,
) {
    let of = |model: ModelName, value: fn(&RunResult) -> f64| -> Vec<f64> {
        let own = results.iter().filter(|result| result.model == model);
        own.map(value).collect()
    };
    let models = compared.models();
    let trials: Vec<Trials> = models
        .iter()
        .filter_map(|&model| {
            let one = results.iter().find(|result| result.model == model)?;
            Some(Trials {
                model,
                parameters: one.parameters,
                val_top1: Spread::of(&of(model, |r| r.val_top1))?,
                test_top1: Spread::of(&of(model, |r| r.test_top1))?,
                seconds: of(model, |r| r.seconds).iter().sum(),
            })
        })
        .collect();
    let (than, others) = models.split_first().expect("there is a model");
    let beside: Vec<Beside> = others
        .iter()
        .filter_map(|&model| {
            let test = |model| of(model, |r: &RunResult| r.test_top1);
            let difference = Difference::paired(&test(model), &test(*than))?;
            Some(Beside {
                model,
                than: *than,
                is_real: difference.is_real(),
                difference,
            })
        })
        .collect();
    if options.json {
        output::print(serde_json::json!({
            "models": results,
            "trials": trials,
            "differences": beside,
            "folder": folder.0.display().to_string(),
        }));
        return;
    }
    let spread = |of: &Spread| format!("{:.2} ± {:.2} %", of.mean, of.deviation);
    let rows: Vec<Vec<String>> = trials
        .iter()
        .map(|of| {
            vec![
                of.model.to_string(),
                words::count(of.parameters),
                of.test_top1.runs.to_string(),
                spread(&of.val_top1),
                spread(&of.test_top1),
                format!("{:.2}–{:.2} %", of.test_top1.least, of.test_top1.most),
                words::seconds(of.seconds),
            ]
        })
        .collect();
    let header = [
        "model",
        "parameters",
        "seeds",
        "val top-1",
        "test top-1",
        "lowest–highest",
        "time",
    ];
    output::table(&header, &rows);
    output::print("");
    for beside in &beside {
        let (model, than) = (beside.model.to_string(), beside.than.to_string());
        output::prose(beside.difference.sentence(&model, &than));
    }
    output::prose(format!(
        "Mean ± standard deviation over the seeds; test accuracies are of each run's best epoch on its \
         validation images, and the test images were read once, at its end.\n\
         The runs are in {0}, a folder a seed; the curves, means over the seeds, are {0}/curves.png",
        folder.0.display()
    ));
    tell_lost_and_restarted(results);
}

/// Refuses a model's run whose recipe is not the comparison's, as it is after an edit.
fn check_own_recipe(own: &RunFolder, recipe: &Recipe) -> Result<()> {
    if !own.recipe().exists() {
        return Ok(());
    }
    let differences = Recipe::restore(&own.recipe())?.recipe.differences(recipe);
    match differences.is_empty() {
        true => Ok(()),
        false => Err(Error::recipe(
            own.recipe().display().to_string(),
            format!(
                "this is not the comparison's recipe: {}",
                differences.join("; ")
            ),
            "put back what was, or begin a new comparison",
        )),
    }
}

/// Refuses a comparison of nothing, and of one model twice.
fn check_models(models: &[ModelName], place: &str) -> Result<()> {
    if models.is_empty() {
        return Err(Error::recipe(
            place,
            "there is no model",
            "name one or more",
        ));
    }
    for (i, model) in models.iter().enumerate() {
        if models[..i].contains(model) {
            let problem = format!("{model} is there twice");
            return Err(Error::recipe(place, problem, "name each model once"));
        }
    }
    Ok(())
}

/// The runs of a comparison that has at least begun, in their order.
pub fn runs_in(folder: &RunFolder) -> Result<Vec<RunFolder>> {
    let compared = resumed(folder)?;
    let recipe = Recipe::restore(&folder.recipe())?.recipe;
    let places = compared.places(&recipe, folder).into_iter();
    Ok(places.map(|(_, _, own)| own).collect())
}

/// What an earlier comparison is of.
fn resumed(folder: &RunFolder) -> Result<Compared> {
    let path = folder.models();
    if !path.exists() {
        let remedy = if folder.recipe().exists() {
            format!(
                "go on with: smallvit train --resume {}",
                options::quoted(&folder.0)
            )
        } else {
            "give the folder that `smallvit compare` wrote".into()
        };
        return Err(Error::model(
            folder.0.display(),
            "there is no comparison in it",
            remedy,
        ));
    }
    let text = input::text(&path, 1 << 16)?;
    let refuse = |error: serde_json::Error| {
        Error::model(
            path.display(),
            error.to_string(),
            "write the models into it as they were, for example [\"vit\",\"sl-vit\"], or with three \
             seeds {\"models\":[\"vit\",\"sl-vit\"],\"seeds\":3}",
        )
    };
    let compared: Compared = serde_json::from_str(&text).map_err(refuse)?;
    let place = path.display().to_string();
    compared.check(&place, &place)?;
    Ok(compared)
}
