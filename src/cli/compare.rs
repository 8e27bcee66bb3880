//! `smallvit compare`: several models from the same seed.

use std::path::PathBuf;

use clap::Args;
use smallvit::atomic;
use smallvit::input;
use smallvit::models::ModelName;
use smallvit::train::checkpoint;
use smallvit::train::device::check_precision;
use smallvit::train::folder::RunFolder;
use smallvit::train::recipe::Recipe;
use smallvit::train::result::{RunResult, write_result};
use smallvit::train::room::{self, Disk};
use smallvit::train::run;
use smallvit::{Error, Result};

use super::dataset::{self, DataOptions};
use super::hints;
use super::options::{self, RecipeOptions, RunOptions};
use super::show::draw_patches;
use super::signals;
use super::train::{
    Job, draw_curves, drawn_again, print_plans, print_results, refuse_lost, run_plan, tell_sizes,
};

/// Train several models from the same seed and compare them.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    recipe: RecipeOptions,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    run: RunOptions,
    /// Which models.
    #[arg(long, value_delimiter = ',', default_value = "vit,sl-vit", help = format!("Which: {}", ModelName::list()), value_parser = hints::value::<ModelName>)]
    models: Vec<ModelName>,
    /// Go on with the comparison in this folder.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["recipe", "settings", "epochs", "batch", "lr", "seed", "data", "models", "out", "dry_run"])]
    resume: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let Arguments {
        recipe,
        data,
        run,
        models,
        resume,
    } = arguments;
    check_models(&models, "--models")?;
    let (folder, recipe, models) = match resume {
        Some(folder) => {
            let folder = RunFolder(folder);
            let models = resumed_models(&folder)?;
            let mut run = Recipe::restore(&folder.recipe())?.to_go_on(folder.0.display())?;
            recipe.precision.resume(&mut run)?;
            (Some(folder), run, models)
        }
        None => (
            None,
            recipe.load(data.data.as_deref(), run.quiet || run.json)?,
            models,
        ),
    };
    // Refused before any work.
    if folder.is_none() {
        run.check_out()?;
    }
    check_precision(recipe.train.precision, &run.device.open()?)?;
    let dataset = data.load(&recipe.data.set, dataset::square(&recipe))?;
    let mut prepared = dataset::prepared(dataset, &recipe)?;
    if run.dry_run {
        let mut plans = vec![];
        for model in models {
            let mut recipe = recipe.clone();
            recipe.model = recipe.model.named(model);
            prepared.info.config = recipe.model.clone();
            plans.push(run_plan(&recipe, &prepared, &run)?);
        }
        print_plans(&plans, &run);
        return Ok(());
    }
    let of_model = |folder: &RunFolder, model: ModelName| {
        let mut recipe = recipe.clone();
        recipe.model = recipe.model.named(model);
        (recipe, RunFolder(folder.0.join(model.to_string())))
    };
    // All of them, before the first takes its hours, and before a new folder is made.
    let place = folder.clone().unwrap_or_else(|| {
        let out = run.out.clone();
        RunFolder(out.unwrap_or_else(|| "runs".into()))
    });
    let (mut disks, mut written) = (vec![], 0);
    for &model in &models {
        let (recipe, own) = of_model(&place, model);
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
        let names = serde_json::json!(models).to_string();
        atomic::write(&folder.models(), names.as_bytes())?;
        atomic::write(&folder.recipe(), recipe.to_toml().as_bytes())?;
    }
    tell_sizes(&prepared, &run);
    let stop = signals::stop_flag();
    let mut job = Job {
        options: &run,
        data_options: &data,
        stop: &stop,
        resume_command: format!("smallvit compare --resume {}", options::quoted(&folder.0)),
        from: checkpoint::From::Last,
        models_after: models.len() as u64,
    };
    let mut runs = vec![];
    for &model in &models {
        job.models_after -= 1;
        let (recipe, model_folder) = of_model(&folder, model);
        prepared.info.config = recipe.model.clone();
        let done = job.run(&recipe, &prepared, &model_folder)?;
        runs.push(done);
    }
    let results: Vec<RunResult> = runs.iter().map(|(result, _)| result.clone()).collect();
    if !ended {
        write_result(&folder.result(), &results)?;
    }
    // The numbers first: they are what matters.
    print_results(&results, &folder, &run);
    for (model, done) in models.iter().zip(&runs) {
        let (recipe, own) = of_model(&folder, *model);
        let drawn = draw_curves(&own, &recipe, std::slice::from_ref(done));
        drawn_again(drawn, ended, &own, "curves.png")?;
    }
    let drawn = draw_curves(&folder, &recipe, &runs);
    drawn_again(drawn, ended, &folder, "curves.png")?;
    // Why it works: what a token sees with and without shifted patches.
    const PATCHES: &str = "patches.png";
    let drawn = draw_patches(
        &prepared.name,
        &prepared.train.split,
        &prepared.info.classes,
        &recipe,
        prepared.train.samples[0] as usize,
        &folder.0.join(PATCHES),
    );
    drawn_again(drawn.map(|_| ()), ended, &folder, PATCHES)?;
    refuse_lost(&results, &folder)
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

/// The models of an earlier comparison.
fn resumed_models(folder: &RunFolder) -> Result<Vec<ModelName>> {
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
    let models: Vec<ModelName> = serde_json::from_str(&text).map_err(|error| {
        Error::model(
            path.display(),
            error.to_string(),
            "write the models into it as they were, for example [\"vit\",\"sl-vit\"]",
        )
    })?;
    check_models(&models, &path.display().to_string())?;
    Ok(models)
}
