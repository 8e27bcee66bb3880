//! What several commands share.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use clap::Args;
use smallvit::atomic;
use smallvit::data::catalogue::Spec;
use smallvit::models::{ModelConfig, ModelName};
use smallvit::train::device;
use smallvit::train::folder::RunFolder;
use smallvit::train::init::InitRecipe;
use smallvit::train::recipe::{DataRecipe, Recipe};
use smallvit::train::workers::Workers;
use smallvit::{Error, Result};
use smallvit_kernels::matrix::Precision;

use super::hints;
use super::output::note;

/// Which recipe, with which changes.
#[derive(Args, Clone)]
pub struct RecipeOptions {
    /// A built-in recipe (see `smallvit recipes`) or a TOML file [default: quickstart; of CIFAR keras-2022, of
    /// other data small].
    #[arg(long, value_name = "NAME|FILE")]
    pub recipe: Option<String>,
    /// Override a field of the recipe, for example train.epochs=5; may be repeated.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub settings: Vec<String>,
    /// Times through the training images; short for --set train.epochs=N. Of a training that this
    /// makes shorter, the warm-up keeps its share.
    #[arg(long, value_name = "N", value_parser = whole(1, 100_000), allow_hyphen_values = true)]
    pub epochs: Option<u64>,
    /// Images a step; short for --set train.batch=N.
    #[arg(long, value_name = "N", value_parser = whole(1, 1 << 20), allow_hyphen_values = true)]
    pub batch: Option<u64>,
    /// The (highest) learning rate; short for --set train.learning_rate=X.
    #[arg(long, value_name = "X", value_parser = rate, allow_hyphen_values = true)]
    pub lr: Option<f64>,
    /// The seed of every random draw; short for --set train.seed=N.
    #[arg(long, value_name = "N", value_parser = whole(0, i64::MAX as u64), allow_hyphen_values = true)]
    pub seed: Option<u64>,
    /// As many epochs as fit into so many minutes a run; short for --set choose.minutes=M.
    #[arg(long, value_name = "M", value_parser = minutes, allow_hyphen_values = true, conflicts_with = "epochs")]
    pub minutes: Option<f64>,
    /// As many epochs as take so much arithmetic a run, in PFLOP (10¹⁵ additions and multiplications of products):
    /// the same for each model of a comparison; short for --set choose.pflop=X.
    #[arg(long, value_name = "X", value_parser = minutes, allow_hyphen_values = true, conflicts_with_all = ["epochs", "minutes"])]
    pub pflop: Option<f64>,
    #[command(flatten)]
    pub precision: PrecisionOption,
}

/// How products are multiplied.
#[derive(Args, Clone)]
pub struct PrecisionOption {
    /// How a training step's products are multiplied [default: f32]; short for --set
    /// train.precision=NAME. bf16 needs a processor with AVX-512 BF16, bf16-amx one with AMX, which is
    /// much faster; bf16-emulated and bf16-amx-emulated compute the same bits on any, slowly.
    #[arg(long)]
    pub precision: Option<Precision>,
}

/// How products are multiplied where nothing is trained.
#[derive(Args, Clone)]
pub struct InferencePrecision {
    /// How products are multiplied. bf16 needs a processor with AVX-512 BF16, bf16-amx one with AMX;
    /// bf16-emulated and bf16-amx-emulated compute the same bits on any, slowly. A model's accuracy hardly
    /// changes by it, but answers are not those of f32 to the last digit.
    #[arg(long, default_value_t)]
    pub precision: Precision,
}

impl InferencePrecision {
    /// Workers that compute so.
    pub fn workers(&self, threads: &Threads, device: Device) -> Result<Workers> {
        let workers = Workers::new(threads.count(), 1, device)?.inferring_in(self.precision);
        workers.map_err(|error| match error {
            Error::Recipe {
                problem, remedy, ..
            } => Error::recipe("--precision", problem, remedy),
            other => other,
        })
    }
}

impl PrecisionOption {
    /// As a recipe's setting.
    pub fn setting(&self) -> Option<String> {
        let name = self.precision?;
        Some(format!("train.precision=\"{name}\""))
    }

    /// For a run that goes on, which must stay the same run.
    pub fn resume(&self, recipe: &mut Recipe) -> Result<()> {
        let began = recipe.train.precision;
        let asked = self.precision.unwrap_or(began);
        if !began.equals(asked) {
            return Err(Error::recipe(
                "--precision",
                format!("the run began in {began}, and would be another in {asked}"),
                "leave it out",
            ));
        }
        recipe.train.precision = asked;
        Ok(())
    }
}

impl RecipeOptions {
    /// The recipe with its changes; `data` is `--data`.
    pub fn load(&self, data: Option<&str>, quiet: bool) -> Result<Recipe> {
        self.load_for(data, None, quiet)
    }

    /// The same for a model of this name, whose fields are then those that `--set` changes.
    pub fn load_named(
        &self,
        data: Option<&str>,
        model: Option<ModelName>,
        quiet: bool,
    ) -> Result<Recipe> {
        let Some(model) = model else {
            return self.load(data, quiet);
        };
        let own = recipe(self.name(data), &[])?.model;
        let mut recipe = match own.name().family == model.family {
            true => self.load(data, quiet)?,
            false => self.load_for(data, Some(&own.named(model)), quiet)?,
        };
        recipe.model = recipe.model.named(model);
        Ok(recipe)
    }

    /// The recipe's name or file: the one that is asked for, or that of the data.
    fn name(&self, data: Option<&str>) -> &str {
        let set = setting(&self.settings, "data.set").map(|set| set.trim_matches(['"', '\'']));
        match (&self.recipe, data.or(set)) {
            (Some(name), _) => name,
            // The Keras example's own data with its own recipe.
            (None, Some("cifar100" | "cifar10")) => "keras-2022",
            (None, None | Some("sign-digits")) => "quickstart",
            (None, Some(_)) => "small",
        }
    }

    /// All that was set, by flags, too.
    pub fn all_settings(&self) -> Vec<String> {
        let mut settings = self.settings.clone();
        settings.extend(self.epochs.map(|epochs| format!("train.epochs={epochs}")));
        settings.extend(self.batch.map(|batch| format!("train.batch={batch}")));
        settings.extend(self.lr.map(|rate| format!("train.learning_rate={rate:?}")));
        settings.extend(self.seed.map(|seed| format!("train.seed={seed}")));
        settings.extend(self.precision.setting());
        settings.extend(self.minutes.map(|m| format!("choose.minutes={m:?}")));
        settings.extend(self.pflop.map(|x| format!("choose.pflop={x:?}")));
        settings
    }

    /// The recipe with its changes, and another model in place of its own, which `--set` still changes.
    pub fn load_for(
        &self,
        data: Option<&str>,
        model: Option<&ModelConfig>,
        quiet: bool,
    ) -> Result<Recipe> {
        let name = self.name(data);
        let mut settings = self.all_settings();
        let is_set = |name| setting(&settings, name).is_some();
        if (is_set("train.epochs") && self.minutes.is_none()) || is_set("choose.pflop") {
            // Who says how many epochs, or how much work, has chosen.
            settings.push("choose.minutes=0.0".into());
        }
        settings.extend(shorter_warmup(name, &settings, quiet));
        if let Some(set) = data {
            // As TOML text, so that no path is taken for anything but a string.
            settings.push(format!("data.set={}", toml::Value::from(set)));
        }
        let mut recipe = self::recipe_for(name, model, &settings)?;
        keep_others_division(&mut recipe, name, &settings, quiet)?;
        recipe.data.set = absolute(&recipe.data.set)?;
        if let Some(init) = &mut recipe.train.init
            && init.sha256.is_empty()
        {
            let file = Path::new(&init.file);
            let file = file.canonicalize().map_err(Error::io("find", file))?;
            *init = InitRecipe::of(&file)?;
        }
        Ok(recipe)
    }
}

/// A recipe may divide its own set anew, as the quickstart does; another set keeps its own division, and the
/// usual shares, unless settings say otherwise.
fn keep_others_division(
    recipe: &mut Recipe,
    name: &str,
    settings: &[String],
    quiet: bool,
) -> Result<()> {
    let own = self::recipe(name, &[])?.data;
    let is_set = |field: &str| setting(settings, field).is_some();
    if !own.redivide || recipe.data.set == own.set || is_set("data.redivide") {
        return Ok(());
    }
    let usual = DataRecipe::default();
    recipe.data.redivide = false;
    if !is_set("data.test") {
        recipe.data.test = usual.test;
    }
    if !is_set("data.validation") {
        recipe.data.validation = usual.validation;
    }
    if !quiet {
        note!("{name} divides its own images anew; these keep their division (data.redivide)");
    }
    Ok(())
}

/// What a field is set to, by the last that says so.
fn setting<'a>(settings: &'a [String], field: &str) -> Option<&'a str> {
    settings.iter().rev().find_map(|setting| {
        let (name, value) = setting.split_once('=')?;
        (name.trim() == field).then_some(value.trim())
    })
}

/// The warm-up for a training that settings make shorter than the recipe's own, and say nothing of
/// its warm-up: the same share of it.
fn shorter_warmup(name: &str, settings: &[String], quiet: bool) -> Option<String> {
    let of = |field: &str| setting(settings, field);
    let own = Recipe::load(name, &[]).ok()?.train;
    let epochs: f64 = of("train.epochs")?.parse().ok()?;
    let share = epochs / own.epochs as f64;
    let is_warmed = own.schedule.is_warmed() && own.warmup_epochs > 0.0;
    if !is_warmed || share >= 1.0 || share <= 0.0 || of("train.warmup_epochs").is_some() {
        return None;
    }
    let warmup = own.warmup_epochs * share;
    if !quiet {
        note!(
            "the warm-up is shortened with the training, from {} to {warmup} epochs \
         (--set train.warmup_epochs=… sets it)",
            own.warmup_epochs
        );
    }
    Some(format!("train.warmup_epochs={warmup:?}"))
}

/// A path as a shell takes it.
pub fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:@,".contains(c);
    match path.chars().all(plain) && !path.is_empty() {
        true => path,
        false => format!("'{}'", path.replace('\'', "'\\''")),
    }
}

/// For clap: a whole number within bounds, which may be written `1e3`.
pub fn whole(least: u64, most: u64) -> impl Fn(&str) -> Result<u64, String> + Clone {
    move |text| {
        let number = text.parse().ok().or_else(|| {
            let number: f64 = text.parse().ok()?;
            let is_whole = number.fract() == 0.0 && (0.0..=2f64.powi(53)).contains(&number);
            is_whole.then_some(number as u64)
        });
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("choose a whole number from {least} to {most}"))
    }
}

/// For clap: minutes, or PFLOP.
fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok();
    minutes
        .filter(|&minutes| minutes > 0.0 && minutes <= 1e6)
        .ok_or_else(|| "choose a number above 0, and at most 1e6".into())
}

/// For clap: a learning rate.
fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok();
    rate.filter(|&rate| rate > 0.0 && rate <= 100.0)
        .ok_or_else(|| "choose a number above 0, and at most 100".into())
}

/// How many threads work.
#[derive(Args, Clone)]
pub struct Threads {
    /// Threads; 0 is one a core [default: 0].
    #[arg(long = "threads", value_name = "N", value_parser = a_number_of_threads, allow_hyphen_values = true)]
    pub asked: Option<usize>,
}

impl Threads {
    /// How many, for what is ours and for what the backend spreads over cores by itself.
    pub fn count(&self) -> usize {
        let threads = match self.asked {
            None | Some(0) => cores(),
            Some(threads) => threads,
        };
        // An error means that the backend already has its threads; then they are as many as there
        // are cores.
        let _ = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global();
        threads
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// More threads than cores only wait for each other; a few times as many may be tried.
fn a_number_of_threads(text: &str) -> Result<usize, String> {
    let most = (4 * cores()).max(64) as u64;
    let threads = whole(0, most)(text)
        .map_err(|problem| format!("{problem}; 0 is one a core, which are {} here", cores()))?;
    Ok(threads as usize)
}

/// The recipe of that name or in that file, with its settings.
pub fn recipe(name: &str, settings: &[String]) -> Result<Recipe> {
    recipe_for(name, None, settings)
}

/// The same with another model in place of its own.
pub fn recipe_for(name: &str, model: Option<&ModelConfig>, settings: &[String]) -> Result<Recipe> {
    Recipe::load_for(name, model, settings).map_err(|error| match &error {
        // It is the file as a whole that cannot be read.
        Error::Recipe { field, .. } if field == name => hints::and(
            error,
            "`smallvit recipes quickstart --full` shows a whole one",
        ),
        _ => error,
    })
}

/// Where the model is computed.
#[derive(Args, Clone)]
pub struct DeviceOption {
    /// cpu, or in a build with the feature wgpu: gpu, gpu:1, …
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
}

impl DeviceOption {
    /// The device, open.
    pub fn open(&self) -> Result<Device> {
        let kind = self.device.split(':').next();
        device::open(&self.device).map_err(|error| match kind {
            Some("gpu") if !cfg!(feature = "wgpu") => {
                hints::and(error, "cargo build --release --features wgpu")
            }
            Some("cuda") if !cfg!(feature = "cuda") => {
                hints::and(error, "cargo build --release --features cuda")
            }
            _ => error,
        })
    }
}

/// How a run works and tells.
#[derive(Args, Clone)]
pub struct RunOptions {
    /// Where the run is written [default: runs/<time>-<recipe>-<data>].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub threads: Threads,
    #[command(flatten)]
    pub device: DeviceOption,
    /// Say what the run would take (parameters, time, memory, disk), from a few steps that are
    /// thrown away; write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Say nothing but the result.
    #[arg(long, short, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say also what is computed by what, and how much it is.
    #[arg(long, short)]
    pub verbose: bool,
    /// Print the result as JSON, and progress as JSON lines.
    #[arg(long)]
    pub json: bool,
}

impl RunOptions {
    /// Refuses a folder that could not be written in, or holds something.
    pub fn check_out(&self) -> Result<()> {
        let Some(out) = &self.out else {
            return atomic::check_folder(Path::new("runs"));
        };
        atomic::check_folder(out)?;
        if RunFolder(out.clone()).is_unused() {
            return Ok(());
        }
        Err(Error::recipe(
            "--out",
            format!("{} is not empty, it may already hold a run", out.display()),
            "choose another folder, or go on with the run: --resume DIR",
        ))
    }

    /// The folder of a new run; it must not hold another.
    pub fn folder(&self, recipe: &Recipe) -> Result<PathBuf> {
        let (out, asked) = match &self.out {
            Some(out) => (out.clone(), true),
            None => {
                // A clock may be anywhere.
                let now = jiff::Zoned::try_from(std::time::SystemTime::now());
                let time = now.map_or("run".into(), |now| {
                    now.strftime("%Y%m%d-%H%M%S").to_string()
                });
                let safe = |name: &str| -> String {
                    let tail = name.rsplit(['/', '\\']).find(|part| !part.is_empty());
                    let keep = |c: char| if c.is_alphanumeric() { c } else { '-' };
                    tail.unwrap_or("data").chars().map(keep).collect()
                };
                let (recipe, data) = (safe(&recipe.name), safe(&recipe.data.set));
                (
                    Path::new("runs").join(format!("{time}-{recipe}-{data}")),
                    false,
                )
            }
        };
        if asked {
            std::fs::create_dir_all(&out).map_err(Error::io("create", &out))?;
            return Ok(out);
        }
        std::fs::create_dir_all("runs").map_err(Error::io("create", "runs"))?;
        // Runs that start in the same second get folders of their own.
        for number in 1.. {
            let mut name = out.clone().into_os_string();
            if number > 1 {
                name.push(format!("-{number}"));
            }
            match std::fs::create_dir(&name) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                created => {
                    created.map_err(Error::io("create", &name))?;
                    return Ok(name.into());
                }
            }
        }
        unreachable!("one of the names is free")
    }
}

/// `folder:PATH` and its like with the path made absolute, so that the run's recipe means the same
/// files wherever it is read. What is no data set is left to the recipe's own check.
pub fn absolute(set: &str) -> Result<String> {
    let Ok(Spec::Files(format, path)) = set.parse() else {
        return Ok(set.to_owned());
    };
    let absolute = std::path::absolute(&path).map_err(Error::io("find", &path))?;
    // Without what is no part of it, as a `/` at its end.
    let plain = absolute.components().collect();
    Ok(Spec::Files(format, plain).to_string())
}
