//! Recipes: everything that decides how a run goes, as one TOML document.
//!
//! The built-in recipes lie under `recipes/` and are part of the program; their opening comments
//! are their documentation. A recipe need only give what differs from the defaults here.

use std::path::Path;

use serde::{Deserialize, Serialize};
use smallvit_kernels::matrix::Precision;
use toml::{Table, Value};

use super::optimizer::{AdamWConfig, DecayOn, DecayScale};
use super::schedule::{Schedule, ScheduleKind};
use crate::augment::Augmentation;
use crate::data::split::Method;
use crate::error::{Error, Result};
use crate::model::ModelConfig;

/// The built-in recipes: name and text.
pub const BUILT_IN: [(&str, &str); 4] = [
    ("quickstart", include_str!("../../recipes/quickstart.toml")),
    ("keras-2022", include_str!("../../recipes/keras-2022.toml")),
    (
        "keras-2022-cosine",
        include_str!("../../recipes/keras-2022-cosine.toml"),
    ),
    ("keras-3", include_str!("../../recipes/keras-3.toml")),
];

/// Which images, and what is held out of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    /// `sign-digits`, `cifar100`, `folder:PATH`, …
    pub set: String,
    /// Part of the training images held out for validation, where the set brings none.
    pub validation: f64,
    /// How they are chosen.
    pub holdout: Method,
    /// Part of the images held out for the test, where the set brings no test images.
    pub test: f64,
    /// Pixels a side to which a folder's images are brought; 0 is `model.image_size`.
    pub folder_size: usize,
}

impl Default for DataRecipe {
    fn default() -> Self {
        Self {
            set: "sign-digits".into(),
            validation: 0.1,
            holdout: Method::Stratified,
            test: 0.15,
            folder_size: 0,
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
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// How the model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainRecipe {
    /// Names every random stream of the run.
    pub seed: u64,
    /// Times through the training images.
    pub epochs: u64,
    /// Images a step.
    pub batch: usize,
    /// Most images that go through the model at once; smaller takes less memory, and the batch's
    /// gradients are the sum of its parts'.
    pub micro_batch: usize,
    /// Of a step's products. Weights, moments and everything between the products are float32
    /// always, and so is evaluation.
    #[serde(default, with = "precision_name")]
    pub precision: Precision,
    /// Shape of the learning rate over the steps.
    pub schedule: ScheduleKind,
    /// The (highest) learning rate.
    pub learning_rate: f64,
    /// Where a warm-up begins.
    pub warmup_rate: f64,
    /// Length of the warm-up.
    pub warmup_epochs: f64,
    /// Length of the schedule as a multiple of the training: with more than 1 it ends early.
    pub schedule_length: f64,
    /// AdamW's β₁.
    pub beta1: f64,
    /// AdamW's β₂.
    pub beta2: f64,
    /// AdamW's ε.
    pub epsilon: f64,
    /// AdamW's λ.
    pub weight_decay: f64,
    /// What λ is multiplied by.
    pub decay_scale: DecayScale,
    /// Which parameters decay.
    pub decay_on: DecayOn,
    /// Largest norm of all gradients together; 0 is off.
    pub clip_norm: f64,
    /// Label smoothing ε.
    pub label_smoothing: f64,
    /// Most minutes between two checkpoints; there is one after every epoch anyway.
    pub checkpoint_minutes: f64,
}

impl Default for TrainRecipe {
    fn default() -> Self {
        Self {
            seed: 42,
            epochs: 50,
            batch: 256,
            micro_batch: 32,
            precision: Precision::F32,
            schedule: ScheduleKind::Constant,
            learning_rate: 1e-3,
            warmup_rate: 0.0,
            warmup_epochs: 0.0,
            schedule_length: 1.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-7,
            weight_decay: 1e-4,
            decay_scale: DecayScale::LearningRate,
            decay_on: DecayOn::All,
            clip_norm: 0.0,
            label_smoothing: 0.0,
            checkpoint_minutes: 10.0,
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
}

impl Recipe {
    /// The recipe with this name or in this file, with `key=value` settings on top. Refuses
    /// unknown fields, wrong types and impossible combinations, naming field and remedy.
    pub fn load(name_or_file: &str, settings: &[String]) -> Result<Self> {
        let built_in = BUILT_IN.iter().find(|(name, _)| *name == name_or_file);
        let (name, text) = match built_in {
            Some((name, text)) => (name.to_string(), text.to_string()),
            None => Self::read(name_or_file)?,
        };
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
            Error::recipe(
                name_or_file,
                format!("this is not TOML: {}", error.to_string().trim_end()),
                "mend the line; `smallvit recipes quickstart --full` shows a whole recipe",
            )
        })?;
        table.insert("name".into(), Value::String(name));
        for setting in settings {
            set(&mut table, setting)?;
        }
        let mut whole = defaults();
        merge(&mut whole, table, "")?;
        let recipe: Self = whole.try_into().map_err(|error: toml::de::Error| {
            Error::recipe(
                name_or_file,
                error.to_string().trim_end().replace('\n', " "),
                "`smallvit recipes quickstart --full` shows every field",
            )
        })?;
        recipe.check()?;
        Ok(recipe)
    }

    /// The recipe as a run folder keeps it: every field, none changed.
    pub fn restore(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Self::parse(&text, path.display())
    }

    /// A recipe that a run has written; `place` is for the message.
    pub fn parse(text: &str, place: impl ToString) -> Result<Self> {
        let recipe: Self = toml::from_str(text).map_err(|error| {
            Error::model(
                place,
                error.to_string().trim_end().replace('\n', " "),
                "a run folder's recipe must stay as the run wrote it",
            )
        })?;
        recipe.check()?;
        Ok(recipe)
    }

    fn read(file: &str) -> Result<(String, String)> {
        let path = Path::new(file);
        if !file.contains(['/', '\\', '.']) && !path.exists() {
            let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            return Err(Error::recipe(
                "--recipe",
                format!("there is no recipe `{file}`"),
                format!("choose {}, or give a file", names.join(", ")),
            ));
        }
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok((stem.into_owned(), text))
    }

    /// The recipe as TOML, every field written out.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe is plain data")
    }

    /// Refuses impossible combinations, naming the field and the remedy.
    pub fn check(&self) -> Result<()> {
        self.model.check()?;
        self.augment.check()?;
        let train = &self.train;
        let refuse =
            |field: &str, problem: String, remedy: &str| Err(Error::recipe(field, problem, remedy));
        for (field, value) in [
            ("train.epochs", train.epochs),
            ("train.batch", train.batch as u64),
            ("train.micro_batch", train.micro_batch as u64),
        ] {
            if value == 0 {
                return refuse(field, "it is 0".into(), "choose 1 or more");
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
            ("train.schedule_length", train.schedule_length, true, 1e6),
            ("train.epsilon", train.epsilon, true, 1.0),
            ("train.weight_decay", train.weight_decay, false, 100.0),
            ("train.clip_norm", train.clip_norm, false, 1e12),
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
                    format!("{value} is out of range"),
                    remedy,
                ));
            }
        }
        for (field, value) in [
            ("train.beta1", train.beta1),
            ("train.beta2", train.beta2),
            ("train.label_smoothing", train.label_smoothing),
            ("data.validation", self.data.validation),
            ("data.test", self.data.test),
        ] {
            if !(0.0..1.0).contains(&value) {
                return refuse(
                    field,
                    format!("{value} is out of range"),
                    "choose 0 or more, and less than 1",
                );
            }
        }
        if self.data.validation == 0.0 || self.data.test == 0.0 {
            let empty = if self.data.test == 0.0 {
                "data.test"
            } else {
                "data.validation"
            };
            return refuse(
                empty,
                "nothing would be held out, so no epoch could be chosen without the test images"
                    .into(),
                "keep both data.validation and data.test above 0, for example 0.1",
            );
        }
        if train.precision != Precision::F32 && self.model.mlp.len() != 2 {
            return refuse(
                "train.precision",
                "bfloat16 products are those of encoder blocks whose MLP has two layers".into(),
                "give model.mlp two widths, or set train.precision to f32",
            );
        }
        let most = train.epochs as f64 * train.schedule_length.min(1.0);
        if train.schedule == ScheduleKind::WarmupCosine && train.warmup_epochs > most {
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

    /// The learning rates of a run with so many steps an epoch.
    pub fn schedule(&self, steps_per_epoch: u64) -> Schedule {
        let steps = |epochs: f64| (epochs * steps_per_epoch as f64).floor() as u64;
        let train = &self.train;
        Schedule {
            kind: train.schedule,
            peak: train.learning_rate,
            warmup_rate: train.warmup_rate,
            warmup_steps: steps(train.warmup_epochs),
            total_steps: steps(train.epochs as f64 * train.schedule_length),
        }
    }

    /// The optimizer's constants.
    pub fn adamw(&self) -> AdamWConfig {
        let train = &self.train;
        AdamWConfig {
            beta1: train.beta1,
            beta2: train.beta2,
            epsilon: train.epsilon,
            weight_decay: train.weight_decay,
            decay_scale: train.decay_scale,
            decay_on: train.decay_on,
            clip_norm: train.clip_norm,
        }
    }
}

/// The defaults as TOML: what fields there are, and of which type.
fn defaults() -> Table {
    Table::try_from(Recipe::default()).expect("a recipe is plain data")
}

/// Puts `key=value` into a table; the value is TOML, or a bare word.
fn set(table: &mut Table, setting: &str) -> Result<()> {
    let Some((key, text)) = setting.split_once('=') else {
        return Err(Error::recipe(
            "--set",
            format!("`{setting}` has no ="),
            "write for example --set train.epochs=5",
        ));
    };
    let (key, text) = (key.trim(), text.trim());
    let value = format!("value = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.into()));
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let mut place = table;
    for part in parts {
        let inner = place
            .entry(part)
            .or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = inner else {
            return Err(unknown(key));
        };
        place = inner;
    }
    place.insert(last.into(), value);
    Ok(())
}

/// Puts a recipe's fields over the defaults, refusing what is not among them.
fn merge(whole: &mut Table, table: Table, path: &str) -> Result<()> {
    for (key, value) in table {
        let field = format!("{path}{key}");
        let Some(default) = whole.get_mut(&key) else {
            return Err(unknown(&field));
        };
        match (default, value) {
            (Value::Table(default), Value::Table(value)) => {
                merge(default, value, &format!("{field}."))?;
            }
            // 1 may stand for 1.0.
            (default @ Value::Float(_), Value::Integer(value)) => {
                *default = Value::Float(value as f64);
            }
            (default, value) if default.same_type(&value) => *default = value,
            (default, value) => {
                return Err(Error::recipe(
                    field,
                    format!("{value} is of type {}", value.type_str()),
                    format!("give it as {}, such as {default}", default.type_str()),
                ));
            }
        }
    }
    Ok(())
}

fn unknown(field: &str) -> Error {
    fn names(table: &Table, path: &str, all: &mut Vec<String>) {
        for (key, value) in table {
            match value {
                Value::Table(inner) => names(inner, &format!("{path}{key}."), all),
                _ => all.push(format!("{path}{key}")),
            }
        }
    }
    let mut all = vec![];
    names(&defaults(), "", &mut all);
    let leaf = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let score = |name: &String| {
        strsim::jaro_winkler(name, field).max(strsim::jaro_winkler(&leaf(name), &leaf(field)))
    };
    let near = all
        .iter()
        .max_by(|a, b| score(a).total_cmp(&score(b)))
        .filter(|name| score(name) > 0.8);
    let remedy = match near {
        Some(name) => format!("did you mean {name}?"),
        None => format!("the fields are {}", all.join(", ")),
    };
    Error::recipe(field, "there is no such field", remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(settings: &[&str]) -> (String, String) {
        let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
        let error = Recipe::load("keras-2022", &settings).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        (error.to_string(), error.remedy().to_string())
    }

    #[test]
    fn every_built_in_recipe_is_whole_and_survives_its_run_folder() {
        for (name, text) in BUILT_IN {
            let recipe = Recipe::load(name, &[]).unwrap();
            assert_eq!(recipe.name, name);
            assert!(
                text.starts_with("# "),
                "{name} opens with its documentation"
            );
            assert_eq!(toml::from_str::<Recipe>(&recipe.to_toml()).unwrap(), recipe);
        }
    }

    #[test]
    fn the_cosine_recipe_has_the_seeds_steps() {
        // int(50000 / 256 · 50) and a tenth of it, with 176 steps an epoch for 45,000 images.
        let schedule = Recipe::load("keras-2022-cosine", &[])
            .unwrap()
            .schedule(176);
        assert_eq!((schedule.total_steps, schedule.warmup_steps), (9765, 976));
    }

    #[test]
    fn settings_override_fields() {
        let settings = [
            "train.epochs=3",
            "model.mlp=[32, 16]",
            "model.dim=16",
            "data.set=cifar10",
        ];
        let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
        let recipe = Recipe::load("keras-2022", &settings).unwrap();
        assert_eq!(recipe.train.epochs, 3);
        assert_eq!(recipe.model.mlp, [32, 16]);
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
            (&["train.batch=0"], "train.batch:", "1 or more"),
            (&["model.patch_size=7"], "model.patch_size:", "divides 72"),
            (
                &["train.schedule=warmup-cosine", "train.warmup_epochs=60"],
                "train.warmup_epochs:",
                "50 or less",
            ),
            (&["train.epochs=many"], "train.epochs:", "integer"),
            (
                &["train.learning_rate=nan"],
                "train.learning_rate:",
                "more than 0",
            ),
            (&["model.mlp=[128, 32]"], "model.mlp:", "[128, 64]"),
            (&["model.dropout=1.0"], "model.dropout:", "less than 1"),
            (&["augment.zoom=1.5"], "augment.zoom:", "less than 1"),
            (&["nonsense"], "--set:", "train.epochs=5"),
        ] {
            let (problem, help) = refused(settings);
            assert!(problem.starts_with(field), "{problem}");
            assert!(help.contains(remedy), "{help}");
        }
    }
}
