//! Recipes: everything that decides how a run goes, as one TOML document.
//!
//! The built-in recipes lie under `recipes/` and are part of the program; their opening comments
//! are their documentation. A recipe need only give what differs from the defaults here.
//!
//! An optional field (`model.layer_scale`) is set by giving it a value, and taken away with
//! `"off"`. A recipe may say of which [`SCHEMA`] it is; one that does not is of the present one. In
//! a run folder the field is always there, but for runs of schema 1, which had none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use smallvit_kernels::matrix::Precision;
use toml::{Table, Value};

use super::average::AverageRecipe;
use super::choose::ChooseRecipe;
use super::device;
use super::groups::{self, GroupRecipe};
use super::init::InitRecipe;
use super::metrics::LossConfig;
use super::optimizer::{DecayOn, DecayScale, OptimizerConfig, Rule};
use super::schedule::{Schedule, ScheduleKind};
use crate::augment::{Augmentation, EpochAugmentation};
use crate::data::pictures::Fit;
use crate::data::split::Method;
use crate::error::{Error, Result, printable};
use crate::input;
use crate::memory;
use crate::migrate::{self, SCHEMA};
use crate::models::{Family, Model, ModelConfig};
use crate::params;
use crate::settings;
use crate::strict;

/// The built-in recipes: name and text.
pub const BUILT_IN: [(&str, &str); 8] = [
    ("quickstart", include_str!("../../recipes/quickstart.toml")),
    ("small", include_str!("../../recipes/small.toml")),
    ("keras-2022", include_str!("../../recipes/keras-2022.toml")),
    (
        "keras-2022-cosine",
        include_str!("../../recipes/keras-2022-cosine.toml"),
    ),
    ("keras-3", include_str!("../../recipes/keras-3.toml")),
    ("paper", include_str!("../../recipes/paper.toml")),
    ("paper-100", include_str!("../../recipes/paper-100.toml")),
    ("zoo", include_str!("../../recipes/zoo.toml")),
];

/// Which images, and what is held out of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataRecipe {
    /// `sign-digits`, `cifar100`, `folder:PATH`, …
    pub set: String,
    /// Part of the training images held out for validation, where the set brings none.
    pub validation: f64,
    /// How they are chosen.
    pub holdout: Method,
    /// Part of the images held out for the test, where the set brings no test images.
    pub test: f64,
    /// Divide a set anew that brings its own test or validation images, as if they were all of one kind:
    /// for a test on more images than it has for that.
    pub redivide: bool,
    /// Pixels a side to which a folder's images are brought; 0 is `model.image_size`.
    pub folder_size: usize,
    /// How a folder's images that are not square become so.
    pub fit: Fit,
}

impl Default for DataRecipe {
    fn default() -> Self {
        Self {
            set: "sign-digits".into(),
            validation: 0.1,
            holdout: Method::Stratified,
            test: 0.15,
            redivide: false,
            folder_size: 0,
            fit: Fit::Crop,
        }
    }
}

/// A precision as its name.
mod precision_name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Precision;

    pub fn serialize<S: Serializer>(precision: &Precision, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(precision)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Precision, D::Error> {
        let name = String::deserialize(from)?;
        name.parse()
            .map_err(|_| D::Error::unknown_variant(&name, &Precision::NAMES))
    }
}

/// What is done where some classes have many more images than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// Nothing: each image counts the same, and a class as its images do.
    None,
    /// A class's term of the loss counts the more, the fewer images it has: images / (classes · its
    /// images), so that all classes count the same.
    Weights,
    /// An epoch has as many images as ever, and as many of each class: of a class of few, images come
    /// several times, each time augmented anew.
    Sampling,
}

/// How the model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainRecipe {
    /// Names every random stream of the run.
    pub seed: u64,
    /// With how many seeds a comparison trains each model, from `seed` on.
    pub seeds: u64,
    /// Times through the training images.
    pub epochs: u64,
    /// The training ends after so many epochs without a better validation accuracy than before; 0 is
    /// off.
    pub patience: u64,
    /// Images a step.
    pub batch: usize,
    /// Most images that go through the model at once; smaller takes less memory, and the batch's
    /// gradients are the sum of its parts'.
    pub micro_batch: usize,
    /// Of a step's products. Weights, moments and everything between the products are float32
    /// always, and so is evaluation.
    #[serde(with = "precision_name")]
    pub precision: Precision,
    /// Shape of the learning rate over the steps.
    pub schedule: ScheduleKind,
    /// The (highest) learning rate.
    pub learning_rate: f64,
    /// Where a warm-up begins.
    pub warmup_rate: f64,
    /// Length of the warm-up.
    pub warmup_epochs: f64,
    /// Where the schedule ends.
    pub final_rate: f64,
    /// How often the schedule falls again from the highest rate, after equal parts of the steps.
    pub restarts: u64,
    /// Length of the schedule as a multiple of the training: with more than 1 it ends early.
    pub schedule_length: f64,
    /// What steps the weights.
    pub optimizer: Rule,
    /// Muon's β.
    pub momentum: f64,
    /// β₁ of AdamW and Lion.
    pub beta1: f64,
    /// β₂ of AdamW and Lion; 0.99 is usual for Lion.
    pub beta2: f64,
    /// AdamW's ε.
    pub epsilon: f64,
    /// λ.
    pub weight_decay: f64,
    /// What λ is multiplied by.
    pub decay_scale: DecayScale,
    /// Which parameters decay.
    pub decay_on: DecayOn,
    /// Largest norm of all gradients together; 0 is off.
    pub clip_norm: f64,
    /// Progressive resizing: with how many pixels a side images go into the model at first; 0 is off. For
    /// models whose weights do not depend on the image's size: hybrids without relative positions.
    pub first_size: usize,
    /// For which part of the epochs.
    pub first_share: f64,
    /// Label smoothing ε.
    pub label_smoothing: f64,
    /// What is done where some classes have many more images than others.
    pub balance: Balance,
    /// Most minutes between two checkpoints; there is one after every epoch anyway.
    pub checkpoint_minutes: f64,
    /// How many of the last checkpoints are kept, 1 or 2: with 2, a damaged one has one before it
    /// to go on from.
    pub keep: usize,
    /// Parameters whose decay or learning rate differs.
    #[serde(default)]
    pub groups: Vec<GroupRecipe>,
    /// Multiplies the learning rate of a parameter for every layer that lies behind it; 1 is off. 0.75 is
    /// usual for weights that have learned already (`init`).
    pub layer_decay: f64,
    /// Weights to begin with; fresh ones without it.
    #[serde(default, serialize_with = "strict::or_off")]
    pub init: Option<InitRecipe>,
    /// Averaged weights; none without it.
    #[serde(default, serialize_with = "strict::or_off")]
    pub average: Option<AverageRecipe>,
}

impl Default for TrainRecipe {
    fn default() -> Self {
        Self {
            seed: 42,
            seeds: 1,
            epochs: 50,
            patience: 0,
            batch: 256,
            micro_batch: 16,
            precision: Precision::F32,
            schedule: ScheduleKind::Constant,
            learning_rate: 1e-3,
            warmup_rate: 0.0,
            warmup_epochs: 0.0,
            final_rate: 0.0,
            restarts: 0,
            schedule_length: 1.0,
            optimizer: Rule::Adamw,
            momentum: 0.95,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-7,
            weight_decay: 1e-4,
            decay_scale: DecayScale::LearningRate,
            decay_on: DecayOn::All,
            clip_norm: 0.0,
            first_size: 0,
            first_share: 0.5,
            label_smoothing: 0.0,
            balance: Balance::None,
            checkpoint_minutes: 10.0,
            keep: 2,
            groups: vec![],
            layer_decay: 1.0,
            init: None,
            average: None,
        }
    }
}

/// A whole recipe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// The built-in recipe's name or the file's stem.
    pub name: String,
    /// Which images.
    pub data: DataRecipe,
    /// What happens to them.
    pub augment: Augmentation,
    /// Into which model they go.
    pub model: ModelConfig,
    /// How it is trained.
    pub train: TrainRecipe,
    /// What is chosen when a run begins.
    pub choose: ChooseRecipe,
}

/// A recipe that a run has written.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    /// The recipe, in the terms of now.
    pub recipe: Recipe,
    /// The schema it was written in.
    pub schema: u32,
}

impl Restored {
    /// The recipe of a run that is to go on. Refuses one of an earlier schema: its random draws
    /// are not made any more, so it would become another run. `place` is for the message.
    pub fn to_go_on(self, place: impl ToString) -> Result<Recipe> {
        if self.schema == SCHEMA {
            return Ok(self.recipe);
        }
        Err(Error::model(
            place,
            format!(
                "an earlier smallvit began this run (schema {}; this one goes on with {SCHEMA}), \
                 and it would go on as another run",
                self.schema
            ),
            "its models predict and evaluate as before; begin a new run, or go on with the \
             version that began it",
        ))
    }
}

impl Recipe {
    /// The recipe with this name or in this file, with `field=value` settings on top. Refuses
    /// unknown fields, wrong types and impossible combinations, naming field and remedy.
    ///
    /// A setting's field is a path, `train.epochs` or `train.groups[0].pattern`; its value is
    /// TOML, or a bare word. `field=off` takes an optional field away.
    pub fn load(name_or_file: &str, settings: &[String]) -> Result<Self> {
        Self::load_for(name_or_file, None, settings)
    }

    /// The same with another model in place of its own, which settings still change.
    pub fn load_for(
        name_or_file: &str,
        model: Option<&ModelConfig>,
        settings: &[String],
    ) -> Result<Self> {
        let built_in = BUILT_IN.iter().find(|(name, _)| *name == name_or_file);
        let (name, text) = match built_in {
            Some((name, text)) => (name.to_string(), text.to_string()),
            None => Self::read_file(name_or_file)?,
        };
        let mut table: Table = text
            .parse()
            .map_err(|error| not_toml(name_or_file, &error))?;
        if migrate::take_schema(&mut table)? == Some(1) {
            migrate::upgrade_recipe(&mut table)?;
        }
        table.insert("name".into(), Value::String(name));
        if let Some(model) = model {
            let model = Value::try_from(model).expect("a model's configuration is plain data");
            table.insert("model".into(), model);
        }
        for setting in settings {
            settings::set(&mut table, setting)?;
        }
        if table.contains_key("schema") {
            return Err(Error::recipe(
                "schema",
                "it is the version of a file, and cannot be set",
                "leave it out",
            ));
        }
        migrate::refuse_old_fields(&table)?;
        Self::read(table)
    }

    /// In which fields this recipe would make another run than `began`, as `train.epochs: 3, now 5`.
    ///
    /// A data set may have moved, for its images are compared by themselves; when checkpoints are
    /// written, and how many are kept, changes none; and a precision may be emulated.
    pub fn differences(&self, began: &Self) -> Vec<String> {
        let different = self.different_fields(began).into_iter();
        different
            .map(|(name, began, now)| format!("{name}: {began}, now {now}"))
            .collect()
    }

    /// The same fields, each with its value in `began` and here.
    pub fn different_fields(&self, began: &Self) -> Vec<(String, String, String)> {
        let mut now = self.clone();
        now.name.clone_from(&began.name);
        now.data.set.clone_from(&began.data.set);
        now.train.checkpoint_minutes = began.train.checkpoint_minutes;
        now.train.keep = began.train.keep;
        now.train.seeds = began.train.seeds;
        if let (Some(now), Some(began)) = (&mut now.train.init, &began.train.init) {
            // It may have moved, too.
            now.file.clone_from(&began.file);
        }
        if now.train.precision.equals(began.train.precision) {
            now.train.precision = began.train.precision;
        }
        let [now, began] = [&now, began].map(|recipe| {
            let table = Table::try_from(recipe).expect("a recipe is plain data");
            let mut fields = BTreeMap::new();
            flatten("", Value::Table(table), &mut fields);
            fields
        });
        let names: BTreeSet<&String> = now.keys().chain(began.keys()).collect();
        let of = |fields: &BTreeMap<String, Value>, name: &String| {
            fields.get(name).map_or("off".into(), Value::to_string)
        };
        let pairs = names
            .into_iter()
            .map(|name| (name, of(&began, name), of(&now, name)));
        let different = pairs.filter(|(_, began, now)| began != now);
        different
            .map(|(name, began, now)| (name.clone(), began, now))
            .collect()
    }

    /// Reads the recipe that a run has written into its folder.
    pub fn restore(path: &Path) -> Result<Restored> {
        let text = input::text(path, LONGEST)?;
        Self::parse(&text, path.display())
    }

    /// Reads a recipe that a run has written; `place` is for the message.
    pub fn parse(text: &str, place: impl ToString) -> Result<Restored> {
        const KEEP: &str = "a run's recipe must stay as the run wrote it";
        let place = place.to_string();
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
            let problem = error.to_string().trim_end().replace('\n', " ");
            Error::model(&place, problem, KEEP)
        })?;
        if table.is_empty() {
            return Err(Error::model(&place, "there is nothing in it", KEEP));
        }
        let schema = match table.remove("schema") {
            None => 1,
            Some(value) => {
                let schema = value.as_integer().and_then(|n| u32::try_from(n).ok());
                let schema = schema.ok_or_else(|| {
                    Error::model(&place, format!("its schema is {value}, no number"), KEEP)
                })?;
                if let Some((problem, remedy)) = migrate::refusal(schema) {
                    return Err(Error::model(&place, problem, remedy));
                }
                schema
            }
        };
        let upgraded = match schema {
            1 => migrate::upgrade_recipe(&mut table),
            _ => Ok(()),
        };
        let recipe = upgraded.and_then(|()| Self::read(table));
        match recipe {
            Ok(recipe) => Ok(Restored { recipe, schema }),
            Err(error) => Err(Error::model(place, error.to_string(), KEEP)),
        }
    }

    /// Reads a whole recipe of the present schema, and checks it.
    fn read(mut table: Table) -> Result<Self> {
        let model = table
            .remove("model")
            .unwrap_or_else(|| Value::Table(Table::new()));
        let known = known(ModelConfig::family_of(&model, "model")?);
        let model = ModelConfig::read(model, "model", &known)?;
        let mut recipe: Self = strict::read(Value::Table(table), "", &known)?;
        recipe.model = model;
        recipe.check()?;
        Ok(recipe)
    }

    /// A recipe in which every optional field has a value, to show what there is: the fields'
    /// names are suggested for unknown ones, the values shown for those of a wrong type.
    pub fn example(family: Family) -> Self {
        let group = GroupRecipe {
            pattern: "*.bias".into(),
            decay: Some(0.0),
            rate: 1.0,
        };
        Self {
            model: ModelConfig::example(family),
            augment: Augmentation::everything(),
            train: TrainRecipe {
                groups: vec![group],
                average: Some(AverageRecipe::default()),
                init: Some(InitRecipe {
                    file: "runs/first/checkpoints/best.safetensors".into(),
                    sha256: String::new(),
                }),
                ..TrainRecipe::default()
            },
            ..Self::default()
        }
    }

    fn read_file(file: &str) -> Result<(String, String)> {
        let path = Path::new(file);
        if !file.contains(['/', '\\', '.']) && !path.exists() {
            let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            let names = match strict::nearest(file, names.iter().copied()) {
                Some(near) => format!("did you mean {near}? There are {}", names.join(", ")),
                None => format!("choose {}", names.join(", ")),
            };
            return Err(Error::recipe(
                "recipe",
                format!("there is no recipe `{file}`"),
                format!("{names}; or give a file"),
            ));
        }
        let text = input::text(path, LONGEST)?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok((stem.into_owned(), text))
    }

    /// The recipe as TOML, its schema first and every field written out.
    pub fn to_toml(&self) -> String {
        let fields = toml::to_string(self).expect("a recipe is plain data");
        format!("schema = {SCHEMA}\n{fields}")
    }

    /// Refuses impossible combinations, naming the field and the remedy.
    pub fn check(&self) -> Result<()> {
        self.model.check()?;
        self.augment.check()?;
        self.check_ranges()?;
        self.check_shares()?;
        self.check_groups()?;
        self.choose.check()?;
        if let Some(average) = &self.train.average {
            average.check()?;
        }
        self.check_clean_epochs()?;
        self.check_first_size()?;
        self.check_warmup()
    }

    /// Refuses a model that is too large with so many channels and classes, and training on so many
    /// images that would take more memory than is free, where the system tells, with `beside` so many
    /// bytes for something else.
    pub fn check_memory(
        &self,
        channels: usize,
        classes: usize,
        images: usize,
        threads: usize,
        beside: u64,
    ) -> Result<()> {
        self.model.check_for(channels, classes)?;
        let size = self.model.size(channels, classes);
        let train = &self.train;
        let told = |batch| {
            let averaged = train.average.is_some();
            size.training(batch, train.micro_batch, threads, averaged)
        };
        let needed = told(train.batch.min(images)).saturating_add(beside);
        let Some(free) = memory::available().filter(|free| needed > *free) else {
            return Ok(());
        };
        let field = if told(1) > needed / 2 {
            "model"
        } else {
            "train.batch"
        };
        Err(Error::recipe(
            field,
            format!(
                "training would need about {} MB of memory, and {} MB are free",
                needed >> 20,
                free >> 20
            ),
            "choose a smaller model, train.batch or train.micro_batch, or fewer threads",
        ))
    }

    /// Numbers, each by itself.
    fn check_ranges(&self) -> Result<()> {
        let train = &self.train;
        for (field, value, least, most) in [
            // Each has its row in every checkpoint.
            ("train.epochs", train.epochs, 1, 100_000),
            ("train.seeds", train.seeds, 1, 1000),
            ("train.batch", train.batch as u64, 1, 1 << 20),
            ("train.micro_batch", train.micro_batch as u64, 1, 1 << 20),
            ("train.keep", train.keep as u64, 1, 2),
            ("data.folder_size", self.data.folder_size as u64, 0, 4096),
        ] {
            if !(least..=most).contains(&value) {
                return Err(Error::recipe(
                    field,
                    format!("{value} is out of range"),
                    format!("choose {least} to {most}"),
                ));
            }
        }
        for (field, value, above_zero, most) in [
            ("train.learning_rate", train.learning_rate, true, 100.0),
            (
                "train.warmup_rate",
                train.warmup_rate,
                false,
                train.learning_rate,
            ),
            ("train.warmup_epochs", train.warmup_epochs, false, 1e9),
            (
                "train.final_rate",
                train.final_rate,
                false,
                train.learning_rate,
            ),
            ("train.restarts", train.restarts as f64, false, 1e6),
            ("train.schedule_length", train.schedule_length, true, 1e6),
            ("train.epsilon", train.epsilon, true, 1.0),
            ("train.weight_decay", train.weight_decay, false, 100.0),
            ("train.clip_norm", train.clip_norm, false, 1e12),
            ("train.layer_decay", train.layer_decay, true, 1.0),
            (
                "train.checkpoint_minutes",
                train.checkpoint_minutes,
                true,
                1e9,
            ),
        ] {
            let low_enough = value <= most;
            let high_enough = if above_zero {
                value > 0.0
            } else {
                value >= 0.0
            };
            if !(low_enough && high_enough) {
                let least = if above_zero {
                    "more than 0"
                } else {
                    "0 or more"
                };
                let remedy = format!("choose {least}, and at most {most}");
                return Err(Error::recipe(
                    field,
                    format!("{value:?} is out of range"),
                    remedy,
                ));
            }
        }
        Ok(())
    }

    /// Numbers that are shares of one, and what must be left to choose and to test on.
    fn check_shares(&self) -> Result<()> {
        let train = &self.train;
        for (field, value) in [
            ("train.momentum", train.momentum),
            ("train.beta1", train.beta1),
            ("train.beta2", train.beta2),
            ("train.label_smoothing", train.label_smoothing),
            ("train.first_share", train.first_share),
            ("data.validation", self.data.validation),
            ("data.test", self.data.test),
        ] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::recipe(
                    field,
                    format!("{value:?} is out of range"),
                    "choose 0 or more, and less than 1",
                ));
            }
        }
        if self.data.validation == 0.0 || self.data.test == 0.0 {
            let empty = if self.data.test == 0.0 {
                "data.test"
            } else {
                "data.validation"
            };
            return Err(Error::recipe(
                empty,
                "nothing would be held out, so no epoch could be chosen without the test images",
                "keep both data.validation and data.test above 0, for example 0.1",
            ));
        }
        Ok(())
    }

    fn check_groups(&self) -> Result<()> {
        let train = &self.train;
        if train.groups.len() > MOST_GROUPS {
            return Err(Error::recipe(
                "train.groups",
                format!("there are {} of them", train.groups.len()),
                format!("write at most {MOST_GROUPS}: * in a pattern stands for any characters"),
            ));
        }
        for (number, group) in train.groups.iter().enumerate() {
            group.check(number)?;
            if group.pattern.len() > LONGEST_PATTERN {
                return Err(Error::recipe(
                    format!("train.groups[{number}].pattern"),
                    format!("it is {} bytes long", group.pattern.len()),
                    format!("write at most {LONGEST_PATTERN}: no parameter's name is as long"),
                ));
            }
        }
        if !train.groups.is_empty() {
            let known = groups::known(&self.model)?;
            groups::resolve(&train.groups, train.decay_on, &known, &known)?;
        }
        Ok(())
    }

    fn check_clean_epochs(&self) -> Result<()> {
        let (clean, all) = (self.augment.clean_epochs, self.train.epochs);
        if clean <= all {
            return Ok(());
        }
        Err(Error::recipe(
            "augment.clean_epochs",
            format!("{clean} clean epochs are more than the training's {all}"),
            "choose 0 (off) or a tenth of train.epochs",
        ))
    }

    fn check_first_size(&self) -> Result<()> {
        let size = self.train.first_size;
        if size == 0 {
            return Ok(());
        }
        let refuse =
            |problem: String, remedy: &str| Err(Error::recipe("train.first_size", problem, remedy));
        if size > self.model.image_size() {
            let problem = format!("{size} is more than model.image_size");
            return refuse(problem, "choose a smaller one, or 0 (off)");
        }
        let small = self.model.sized(size);
        if let Err(error) = small.check() {
            let problem = format!("the model takes no images of {size} pixels ({error})");
            return refuse(
                problem,
                "choose a size that model.image_size could have, or 0 (off)",
            );
        }
        let shapes =
            |model: &ModelConfig| params::shapes(&Model::blank(model, 3, 2, &device::cpu()));
        if shapes(&small) != shapes(&self.model) {
            return refuse(
                "the model's weights have other shapes with other image sizes".into(),
                "take a hybrid without relative positions, or 0 (off)",
            );
        }
        Ok(())
    }

    /// Pixels a side of the images that go into the model in an epoch, counted from 0.
    pub fn image_size(&self, epoch: u64) -> usize {
        let first = (self.train.first_share * self.train.epochs as f64).round() as u64;
        match self.train.first_size {
            size if size > 0 && epoch < first => size,
            _ => self.model.image_size(),
        }
    }

    fn check_warmup(&self) -> Result<()> {
        let train = &self.train;
        let most = train.epochs as f64 * train.schedule_length.min(1.0);
        if train.schedule.is_warmed() && train.warmup_epochs > most {
            return Err(Error::recipe(
                "train.warmup_epochs",
                format!(
                    "a warm-up of {} epochs is longer than the training of {most}",
                    train.warmup_epochs
                ),
                format!("set train.warmup_epochs to {most} or less, or raise train.epochs"),
            ));
        }
        Ok(())
    }

    /// The same with these settings on top, as [`load`](Self::load) takes them.
    pub fn with(&self, settings: &[String]) -> Result<Self> {
        let mut table = Table::try_from(self).expect("a recipe is plain data");
        for setting in settings {
            settings::set(&mut table, setting)?;
        }
        Self::read(table)
    }

    /// The same with another seed.
    pub fn with_seed(&self, seed: u64) -> Self {
        let mut recipe = self.clone();
        recipe.train.seed = seed;
        recipe
    }

    /// The same with the seed that comes so many after its own; what a file can hold is gone round.
    pub fn with_seed_after(&self, number: u64) -> Self {
        let mut recipe = self.clone();
        recipe.train.seed = recipe.train.seed.wrapping_add(number) & i64::MAX as u64;
        recipe
    }

    /// What training images go through in an epoch, counted from 0.
    pub fn augmentation(&self, epoch: u64) -> EpochAugmentation {
        let clean = epoch + self.augment.clean_epochs >= self.train.epochs;
        EpochAugmentation {
            augmentation: if clean && self.augment.clean_epochs > 0 {
                Augmentation::none()
            } else {
                self.augment.clone()
            },
            seed: self.train.seed,
            epoch,
        }
    }

    /// What the loss makes of targets, with so many training images of each class.
    pub fn loss(&self, counts: &[usize]) -> LossConfig {
        let present = counts.iter().filter(|&&count| count > 0).count() as f64;
        let share = counts.iter().sum::<usize>() as f64 / present;
        let weight = |&count: &usize| match count {
            0 => 1.0,
            count => (share / count as f64) as f32,
        };
        LossConfig {
            smoothing: self.train.label_smoothing,
            class_weights: match self.train.balance {
                Balance::Weights => counts.iter().map(weight).collect(),
                Balance::None | Balance::Sampling => vec![],
            },
        }
    }

    /// The learning rates of a run with so many steps an epoch.
    pub fn schedule(&self, steps_per_epoch: u64) -> Schedule {
        let steps = |epochs: f64| (epochs * steps_per_epoch as f64).floor() as u64;
        let train = &self.train;
        Schedule {
            kind: train.schedule,
            peak: train.learning_rate,
            warmup_rate: train.warmup_rate,
            warmup_steps: steps(train.warmup_epochs),
            final_rate: train.final_rate,
            restarts: train.restarts,
            total_steps: steps(train.epochs as f64 * train.schedule_length),
        }
    }

    /// The optimizer's constants.
    pub fn optimizer(&self) -> OptimizerConfig {
        let train = &self.train;
        OptimizerConfig {
            rule: train.optimizer,
            momentum: train.momentum,
            beta1: train.beta1,
            beta2: train.beta2,
            epsilon: train.epsilon,
            weight_decay: train.weight_decay,
            decay_scale: train.decay_scale,
            clip_norm: train.clip_norm,
        }
    }
}

/// The longest recipe that is read, in bytes: a thousand times as long as any that makes sense.
const LONGEST: u64 = 1 << 20;

/// The most groups of parameters, each of which is compared with every name.
const MOST_GROUPS: usize = 256;

/// The longest pattern of a group, in bytes.
const LONGEST_PATTERN: usize = 256;

/// The parser's words on lines of their own, which point at the place, where that can be shown.
fn not_toml(name: &str, error: &toml::de::Error) -> Error {
    /// Characters of a line that is shown.
    const WIDEST: usize = 200;
    let mut text = error.to_string();
    if text.lines().any(|line| line.len() > WIDEST) {
        text = error.message().to_owned();
    }
    let lines: Vec<_> = text.trim_end().lines().map(printable).collect();
    Error::Recipe {
        field: printable(name).into_owned(),
        problem: format!("this is not TOML: {}", lines.join("\n")),
        remedy: "mend the line; the built-in recipes show how it is written".into(),
    }
}

/// A value's fields by their paths, as `train.groups[0].rate`.
fn flatten(path: &str, value: Value, fields: &mut BTreeMap<String, Value>) {
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(&format!("{path}{dot}{name}"), value, fields);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_table) => {
            for (number, value) in list.into_iter().enumerate() {
                flatten(&format!("{path}[{number}]"), value, fields);
            }
        }
        value => _ = fields.insert(path.into(), value),
    }
}

/// Every field there is, with an example.
fn known(family: Family) -> Table {
    let mut known = Table::try_from(Recipe::example(family)).expect("a recipe is plain data");
    known.insert("schema".into(), Value::Integer(SCHEMA.into()));
    known
}

#[cfg(test)]
mod tests {
    use serde::de::value::Error as Refusal;
    use serde::de::{Deserializer, Error as _, Visitor};
    use serde::forward_to_deserialize_any;

    use super::*;
    use crate::models::{Architecture, InitialWeights, Pool, Temperature, VitConfig};

    fn load(name: &str, settings: &[&str]) -> Result<Recipe> {
        let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
        Recipe::load(name, &settings)
    }

    fn vit(recipe: &Recipe) -> &VitConfig {
        let Architecture::Vit(vit) = &recipe.model.arch else {
            panic!("{} is no ViT", recipe.name)
        };
        vit
    }

    #[test]
    fn every_built_in_recipe_is_whole_and_survives_its_run_folder() {
        for (name, text) in BUILT_IN {
            let recipe = load(name, &[]).unwrap();
            assert_eq!(recipe.name, name);
            assert!(text.contains("\nschema = 2\n"), "{name} has its schema");
            assert!(
                text.starts_with("# "),
                "{name} opens with its documentation"
            );
            let written = recipe.to_toml();
            assert!(written.starts_with("schema = 2\n"), "{written}");
            let restored = Recipe::parse(&written, "run").unwrap();
            assert_eq!(restored.schema, SCHEMA);
            assert_eq!(restored.clone().to_go_on("run").unwrap(), recipe);
            assert_eq!(restored.recipe, recipe);
        }
    }

    #[test]
    fn what_would_make_another_run_is_told_by_field() {
        let began = load("quickstart", &[]).unwrap();
        assert_eq!(began.differences(&began), [""; 0]);
        let same = [
            "train.keep=1",
            "train.checkpoint_minutes=3",
            "data.set=folder:x",
        ];
        assert_eq!(
            load("quickstart", &same).unwrap().differences(&began),
            [""; 0]
        );
        let now = load(
            "quickstart",
            &[
                "train.epochs=5",
                "train.groups[0].pattern=*.bias",
                "train.groups[0].decay=0",
                "model.head=[8]",
                "augment.erasing={}",
                "train.precision=bf16-emulated",
            ],
        );
        let differences = now.unwrap().differences(&began);
        assert!(
            differences.contains(&"train.epochs: 80, now 5".to_owned()),
            "{differences:?}"
        );
        assert!(differences.contains(&"model.head: [128], now [8]".to_owned()));
        for field in [
            "train.groups[0].pattern",
            "augment.erasing.",
            "train.precision",
        ] {
            assert!(
                differences.iter().any(|d| d.starts_with(field)),
                "{field} {differences:?}"
            );
        }
    }

    #[test]
    fn the_built_in_recipes_models_are_what_they_were() {
        let of_vits = BUILT_IN.into_iter().filter(|(name, _)| *name != "small");
        for (name, _) in of_vits {
            let recipe = load(name, &[]).unwrap();
            let expected = match name {
                "quickstart" => VitConfig {
                    image_size: 32,
                    patch_size: 4,
                    depth: 4,
                    key_dim: 16,
                    head: vec![128],
                    dropout: 0.0,
                    head_dropout: 0.4,
                    ..VitConfig::default()
                },
                // Held to the paper's code by parameters and multiplications in `models`.
                "paper" | "paper-100" | "zoo" => VitConfig {
                    image_size: 32,
                    patch_size: 4,
                    dim: 192,
                    depth: 9,
                    heads: 12,
                    key_dim: 16,
                    mlp_width: 384,
                    mlp_second_gelu: false,
                    qkv_bias: false,
                    temperature: Temperature::Head,
                    pool: Pool::Class,
                    head: vec![],
                    dropout: 0.0,
                    head_dropout: 0.0,
                    stochastic_depth: 0.1,
                    initial: InitialWeights::Paper,
                    layer_norm_epsilon: 1e-5,
                    ..VitConfig::default()
                },
                _ => VitConfig::default(),
            };
            assert_eq!(*vit(&recipe), expected, "{name}");
            assert_eq!(recipe.model.name().to_string(), "sl-vit");
        }
    }

    #[test]
    fn a_run_folder_writes_out_optional_fields_that_are_off() {
        let off = load("quickstart", &[]).unwrap();
        assert!(off.to_toml().contains("\nlayer_scale = \"off\"\n"));
        let on = load("quickstart", &["model.layer_scale=1e-4"]).unwrap();
        assert_eq!(vit(&on).layer_scale, Some(1e-4));
        let restored = Recipe::parse(&on.to_toml(), "run").unwrap();
        assert_eq!(restored.recipe, on);
    }

    #[test]
    fn the_cosine_recipe_has_keras_s_steps() {
        // int(50000 / 256 · 50) and a tenth of it, with 176 steps an epoch for 45,000 images.
        let schedule = load("keras-2022-cosine", &[]).unwrap().schedule(176);
        assert_eq!((schedule.total_steps, schedule.warmup_steps), (9765, 976));
    }

    #[test]
    fn weights_make_all_classes_count_the_same() {
        let counts = [6, 0, 2, 1];
        let loss = |balance: &str| load("quickstart", &[balance]).unwrap().loss(&counts);
        let loss_weights = loss("train.balance=weights").class_weights;
        // Nine images of three classes: each counts as three.
        assert_eq!(loss_weights, [0.5, 1.0, 1.5, 3.0]);
        for other in ["none", "sampling"] {
            let loss = loss(&format!("train.balance={other}"));
            assert_eq!(loss, LossConfig::smoothed(0.1));
        }
    }

    #[test]
    fn the_last_epochs_are_clean() {
        let recipe = load("keras-2022", &["train.epochs=10", "augment.clean_epochs=2"]).unwrap();
        let none = Augmentation::none();
        let clean = |epoch| recipe.augmentation(epoch).augmentation == none;
        assert!(!clean(0) && !clean(7) && clean(8) && clean(9));
        let never = load("keras-2022", &["train.epochs=10"]).unwrap();
        assert_eq!(never.augmentation(9).augmentation, never.augment);
        let error = load("keras-2022", &["augment.clean_epochs=51"]).unwrap_err();
        assert!(
            error.to_string().starts_with("augment.clean_epochs:"),
            "{error}"
        );
    }

    #[test]
    fn settings_override_fields() {
        let settings = [
            "train.epochs=3",
            "model.mlp_width=32",
            "model.dim=16",
            "model.lsa=false",
            "model.head=[]",
            "model.pool=mean",
            "train.learning_rate=1",
            "train.precision=bf16",
            "data.set=cifar10",
        ];
        let recipe = load("keras-2022", &settings).unwrap();
        assert_eq!(recipe.train.epochs, 3);
        assert_eq!(recipe.train.learning_rate, 1.0);
        assert_eq!(recipe.train.precision, Precision::Bf16);
        assert_eq!((vit(&recipe).mlp_width, vit(&recipe).dim), (32, 16));
        assert!(vit(&recipe).head.is_empty());
        assert_eq!(vit(&recipe).pool, Pool::Mean);
        assert_eq!(recipe.model.name().to_string(), "spt-vit");
        assert_eq!(recipe.data.set, "cifar10");
    }

    #[test]
    fn what_cannot_be_is_refused_by_name_with_a_remedy() {
        for (settings, field, remedy) in [
            (
                &["train.epoch=5"][..],
                "train.epoch:",
                "did you mean train.epochs?",
            ),
            (&["epochs=5"], "epochs:", "did you mean train.epochs?"),
            (&["shema=2"], "shema:", "did you mean schema?"),
            (&["train.batch=0"], "train.batch: 0 is out", "1 to 1048576"),
            (&["train.batch=-1"], "train.batch: -1 is out", "such as 256"),
            (&["model.patch_size=7"], "model.patch_size:", "divides 72"),
            (
                &["train.schedule=warmup-cosine", "train.warmup_epochs=60"],
                "train.warmup_epochs:",
                "50 or less",
            ),
            (&["train.epochs=many"], "train.epochs:", "whole number"),
            (
                &["train.learning_rate=nan"],
                "train.learning_rate:",
                "more than 0",
            ),
            (
                &["train.precision=bf61"],
                "train.precision:",
                "did you mean \"bf16\"?",
            ),
            (&["data.holdout=first"], "data.holdout:", "last"),
            (&["model.mlp=[128, 64]"], "model.mlp:", "mlp_width = 128"),
            (
                &["model.tokenizer=plain"],
                "model.tokenizer:",
                "spt = false",
            ),
            (
                &["model.family=swim"],
                "model.family:",
                "did you mean swin?",
            ),
            (&["model.family=rnn"], "model.family:", "choose vit"),
            (&["model=5"], "model: 5 is a whole number", "give a table"),
            (&["model.dropout=1.0"], "model.dropout:", "less than 1"),
            (&["augment.zoom=1.5"], "augment.zoom:", "less than 1"),
            (&["nonsense"], "setting:", "train.epochs=5"),
        ] {
            let error = load("keras-2022", settings).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let (problem, help) = (error.to_string(), error.remedy());
            assert!(problem.starts_with(field), "{problem}");
            assert!(help.contains(remedy), "{problem}: {help}");
        }
        let error = load("quickstar", &[]).unwrap_err();
        assert!(error.remedy().starts_with("did you mean quickstart?"));
    }

    #[test]
    fn a_file_is_read_in_the_schema_that_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.toml");
        let file = path.to_str().unwrap();
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            load(file, &["train.epochs=7"])
        };
        let old = "[model]\ndim = 32\nmlp = [48, 32]\ntokenizer = \"plain\"\n";
        let upgraded = read(&format!("schema = 1\n{old}")).unwrap();
        assert_eq!(upgraded.name, "mine");
        assert_eq!(upgraded.train.epochs, 7);
        assert_eq!(vit(&upgraded).mlp_width, 48);
        assert_eq!(upgraded.model.name().to_string(), "lsa-vit");
        // Without a schema it is of now, and so are its fields.
        let error = read(old).unwrap_err();
        assert!(error.to_string().ends_with("this field is gone"), "{error}");
        let now = "[model]\ndim = 32\nmlp_width = 48\nspt = false\n";
        assert_eq!(read(now).unwrap(), upgraded);
        assert_eq!(read(&format!("schema = 2\n{now}")).unwrap(), upgraded);
        let error = read(&format!("schema = 3\n{now}")).unwrap_err();
        assert!(error.to_string().contains("a newer smallvit"), "{error}");
        let error = read(&format!("schema = 0\n{now}")).unwrap_err();
        assert!(error.remedy().contains("the first schema is 1"));
        let error = read("train = ").unwrap_err();
        assert!(error.to_string().contains("not TOML"), "{error}");
    }

    #[test]
    fn a_run_of_schema_1_is_read_but_does_not_go_on() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/schema1/run/recipe.toml");
        let restored = Recipe::restore(&path).unwrap();
        assert_eq!(restored.schema, 1);
        let expected = VitConfig {
            image_size: 32,
            patch_size: 8,
            dim: 8,
            depth: 2,
            heads: 2,
            key_dim: 4,
            mlp_width: 16,
            head: vec![16],
            dropout: 0.0,
            head_dropout: 0.0,
            ..VitConfig::default()
        };
        assert_eq!(*vit(&restored.recipe), expected);
        assert_eq!(restored.recipe.model.name().to_string(), "sl-vit");
        assert_eq!(restored.recipe.train.learning_rate, 0.02);
        assert_eq!(restored.recipe.train.clip_norm, 1.0);
        let error = restored.to_go_on("run").unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().starts_with("run: "), "{error}");
        assert!(error.remedy().contains("begin a new run"));
        let error = Recipe::parse(" \n", "run").unwrap_err();
        assert_eq!(error.to_string(), "run: there is nothing in it");
    }

    #[test]
    fn a_run_folder_that_cannot_be_read_says_where_and_why() {
        let text = load("quickstart", &[]).unwrap().to_toml();
        for (from, to, problem) in [
            (
                "schema = 2",
                "schema = 3",
                "run: written by a newer smallvit",
            ),
            ("schema = 2", "schema = \"x\"", "run: its schema is \"x\""),
            ("epochs = 80", "epochs = 0", "run: train.epochs: 0 is out"),
            ("epochs = 80", "epoch = 80", "run: train.epoch: there is no"),
            ("epochs = 80", "epochs 80", "run: TOML parse error"),
        ] {
            assert!(text.contains(from), "{from}");
            let error = Recipe::parse(&text.replacen(from, to, 1), "run").unwrap_err();
            assert_eq!(error.exit_code(), 1);
            assert!(error.to_string().starts_with(problem), "{error}");
        }
    }

    /// Asks a struct for the names of its fields.
    struct Names<'a>(&'a mut Vec<&'static str>);

    impl<'de> Deserializer<'de> for Names<'_> {
        type Error = Refusal;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refusal> {
            Err(Refusal::custom("no struct"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Refusal> {
            self.0.extend(fields);
            Err(Refusal::custom("that is all"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
            option unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier
            ignored_any
        }
    }

    #[test]
    fn the_example_has_every_field() {
        fn has_all<'de, T: Deserialize<'de>>(table: &Value) {
            let mut names = vec![];
            assert!(T::deserialize(Names(&mut names)).is_err());
            assert!(!names.is_empty());
            for name in names {
                let value = table.get(name).unwrap_or_else(|| panic!("no {name}"));
                assert_ne!(value.as_str(), Some(strict::OFF), "{name}");
                assert!(
                    value.as_array().is_none_or(|list| !list.is_empty()),
                    "{name}"
                );
            }
        }
        let known = Value::Table(known(Family::Vit));
        has_all::<Recipe>(&known);
        has_all::<DataRecipe>(&known["data"]);
        has_all::<Augmentation>(&known["augment"]);
        has_all::<VitConfig>(&known["model"]);
        has_all::<TrainRecipe>(&known["train"]);
    }

    /// Every field of the example that is no table, by its path.
    fn fields(table: &Table, path: &str, all: &mut Vec<String>) {
        for (name, value) in table {
            match value {
                Value::Table(inner) => fields(inner, &format!("{path}{name}."), all),
                Value::Array(_) => {
                    all.extend([format!("{path}{name}"), format!("{path}{name}[0]")])
                }
                _ => all.push(format!("{path}{name}")),
            }
        }
    }

    #[test]
    fn every_field_takes_a_value_that_makes_sense_or_says_what_is_allowed() {
        let known = known(Family::Vit);
        let mut all = vec![];
        fields(&known, "", &mut all);
        all.retain(|field| field != "schema");
        let groups = ["pattern", "decay", "rate"].map(|name| format!("train.groups[0].{name}"));
        all.extend(groups);
        assert!(all.len() > 60, "{}", all.len());
        let mut accepted = 0;
        for field in &all {
            for value in [
                "-1",
                "0",
                "0.5",
                "1e18",
                "1e400",
                "-1e400",
                "9223372036854775807",
                "x",
                "\"\"",
                "nan",
                "-nan",
                "inf",
                "-inf",
                "[]",
                "[[]]",
                "{}",
                "true",
                "off",
                "1979-05-27",
                "1e3",
                "-0.0",
                "\"\u{7}\"",
            ] {
                let setting = format!("{field}={value}");
                let error = match load("quickstart", &[&setting]) {
                    Ok(_) => {
                        accepted += 1;
                        continue;
                    }
                    Err(error) => error,
                };
                let message = error.to_string();
                assert_eq!(error.exit_code(), 2, "{setting}: {message}");
                // A value may also be at odds with another field, or make a list of too few.
                let table = field.split(['.', '[']).next().unwrap();
                assert!(message.starts_with(table), "{setting}: {message}");
                assert!(!error.remedy().is_empty(), "{setting}: {message}");
                assert!(!message.contains(char::is_control), "{setting}: {message}");
            }
        }
        // Whatever is accepted would also be read back.
        assert!(accepted > 100, "{accepted}");
    }

    #[test]
    fn whole_numbers_may_be_written_with_an_exponent() {
        let recipe = load(
            "quickstart",
            &["train.epochs=1e3", "model.head=[1e2, 64.0]"],
        )
        .unwrap();
        assert_eq!(recipe.train.epochs, 1000);
        assert_eq!(vit(&recipe).head, [100, 64]);
        for (setting, problem) in [
            ("train.epochs=1.5", "1.5 is not a whole number"),
            ("train.epochs=1e-3", "0.001 is not a whole number"),
            ("train.epochs=nan", "NaN is not a whole number"),
            ("train.epochs=1e300", "1e300 is out of range"),
            ("train.epochs=1e15", "1000000000000000 is out of range"),
            ("train.seed=-1e3", "-1000 is out of range"),
        ] {
            let message = load("quickstart", &[setting]).unwrap_err().to_string();
            assert!(message.contains(problem), "{message}");
        }
    }

    #[test]
    fn recipe_files_that_are_none_are_refused_quickly() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.toml");
        let refused = |text: &[u8]| {
            std::fs::write(&path, text).unwrap();
            let began = std::time::Instant::now();
            let error = load(path.to_str().unwrap(), &[]).unwrap_err();
            assert!(began.elapsed().as_secs() < 2, "{error}");
            error.to_string()
        };
        let many = |text: &str, count: usize| text.repeat(count).into_bytes();
        for (text, problem) in [
            (
                many("# a comment\n", 1_000_000),
                "longer than 1048576 bytes",
            ),
            (many("[", 100_000), "not TOML"),
            ([b"a = ".to_vec(), many("[", 100_000)].concat(), "not TOML"),
            (
                [b"a = ".to_vec(), many("{a=", 100_000)].concat(),
                "not TOML",
            ),
            (
                [many("a.", 100_000), b"a = 1".to_vec()].concat(),
                "not TOML",
            ),
            (
                [b"[".to_vec(), many("a.", 100_000), b"a]".to_vec()].concat(),
                "not TOML",
            ),
            (
                many("[[train.groups]]\npattern = \"*\"\n", 30_000),
                "there are 30000",
            ),
            (
                [many("x", 1_000_000), b" = 1".to_vec()].concat(),
                "no such field",
            ),
            (b"train.epochs = 3\0".to_vec(), "not TOML"),
            (b"train.epochs = \"\x1b[2J\"".to_vec(), "not TOML"),
            (vec![0xff; 100], "UTF-8"),
            (
                [b"model.head = [".to_vec(), many("1,", 1000), b"]".to_vec()].concat(),
                "model.head: 1000 hidden layers",
            ),
            (
                [
                    b"[[train.groups]]\npattern = \"".to_vec(),
                    many("*a", 100_000),
                    b"\"".to_vec(),
                ]
                .concat(),
                "train.groups[0].pattern: it is 200000 bytes",
            ),
        ] {
            let message = refused(&text);
            assert!(message.contains(problem), "{problem}: {message}");
            let wild = |c: char| c.is_control() && c != '\n';
            assert!(!message.contains(wild), "{message:?}");
            assert!(message.len() < 5_000, "{}", message.len());
        }
        // Windows's line ends and byte order mark are no trouble.
        std::fs::write(&path, "\u{feff}[train]\r\nepochs = 3\r\n").unwrap();
        assert_eq!(load(path.to_str().unwrap(), &[]).unwrap().train.epochs, 3);
        let deep = format!("{}a=1", "a.".repeat(100_000));
        let error = load("quickstart", &[&deep]).unwrap_err();
        assert!(error.to_string().contains("more than 16 parts"));
        let error = load("quickstart", &["train.groups[3].rate=1"]).unwrap_err();
        assert!(
            error.remedy().contains("the list is empty"),
            "{}",
            error.remedy()
        );
    }

    #[test]
    fn no_damage_to_a_recipe_is_more_than_an_error() {
        use crate::random::{Purpose, Stream};
        let whole = Recipe::example(Family::Vit).to_toml();
        let words = [
            "-", "0", "9", "e9", ".", "\"", "[", "]", "{", "}", "=", "\n", "nan", "inf", "\0",
            "\u{1b}",
        ];
        for case in 0..3000 {
            let mut stream = Stream::new(2, Purpose::Show, case, 0);
            let mut text: Vec<char> = whole.chars().collect();
            for _ in 0..1 + stream.next() % 3 {
                let place = stream.next() as usize % text.len();
                let end = (place + stream.next() as usize % 3).min(text.len());
                let word = words[stream.next() as usize % words.len()];
                text.splice(place..end, word.chars());
            }
            let text: String = text.into_iter().collect();
            if let Err(error) = Recipe::parse(&text, "run") {
                assert!(!error.to_string().contains(char::is_control), "{error:?}");
            }
        }
    }
}
