//! Sweeps: many runs of one document, each combination of its lists with each other.
//!
//! ```toml
//! recipes = ["quickstart"]                # built-in recipes, or files
//! models = ["vit", "sl-vit"]              # else the recipe's own
//! seeds = 3                               # each with so many, from the recipe's on
//! set = ["train.epochs=20"]               # of all runs
//!
//! [grid]                                  # each value of one with each of the others
//! "train.learning_rate" = [1e-3, 3e-3]
//!
//! [[variants]]                            # besides, each of these with all of that
//! name = "crop"
//! set = ["augment.crop_padding=4"]
//! ```
//!
//! Without variants there is one that changes nothing.

use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::recipe::Recipe;
use crate::error::{Error, Result};
use crate::input;
use crate::models::ModelName;

/// A sweep's document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sweep {
    /// The recipes.
    pub recipes: Vec<String>,
    /// The models; each recipe's own where there are none.
    pub models: Vec<ModelName>,
    /// Each run with so many seeds, from its recipe's on.
    pub seeds: u64,
    /// Settings of all runs, `field=value`.
    pub set: Vec<String>,
    /// Fields, each with its values.
    pub grid: Table,
    /// Settings that belong together.
    pub variants: Vec<Variant>,
}

/// Settings that belong together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// What tables call it.
    pub name: String,
    /// `field=value`.
    #[serde(default)]
    pub set: Vec<String>,
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            recipes: vec!["quickstart".into()],
            models: vec![],
            seeds: 1,
            set: vec![],
            grid: Table::new(),
            variants: vec![],
        }
    }
}

/// What runs that differ in their seed alone share.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What tells it from the others, as `vit, train.learning_rate=0.001`; empty where there is one.
    pub label: String,
    /// With the first seed.
    pub recipe: Recipe,
}

/// The most runs of a sweep.
const MOST_RUNS: usize = 10_000;

/// The longest document that is read, in bytes.
const LONGEST: u64 = 1 << 20;

impl Sweep {
    /// Reads a document. `path` is a file of TOML.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Recipe`] for what is no sweep.
    pub fn read(path: &Path) -> Result<(Self, String)> {
        let text = input::text(path, LONGEST)?;
        let place = path.display().to_string();
        let refuse = |problem: String, remedy: &str| Err(Error::recipe(&place, problem, remedy));
        let sweep: Self = match toml::from_str(&text) {
            Ok(sweep) => sweep,
            Err(error) => {
                return refuse(
                    format!("this is no sweep: {}", error.message()),
                    "its fields are recipes, models, seeds, set, [grid] and [[variants]]",
                );
            }
        };
        if sweep.recipes.is_empty() || sweep.seeds == 0 {
            let problem = "there is nothing to run in it: no recipe, or no seed".into();
            return refuse(problem, "leave recipes and seeds out, or give one at least");
        }
        for (field, values) in &sweep.grid {
            if !matches!(values, Value::Array(values) if !values.is_empty()) {
                return refuse(
                    format!("grid.{field} is no list of values"),
                    "write the values between brackets: \"train.learning_rate\" = [1e-3, 3e-3]",
                );
            }
        }
        let runs = sweep.count();
        if runs > MOST_RUNS {
            let problem = format!("it has {runs} runs");
            return refuse(problem, &format!("make it {MOST_RUNS} at most"));
        }
        Ok((sweep, text))
    }

    /// How many runs it has.
    fn count(&self) -> usize {
        let values = self.grid.values().filter_map(Value::as_array);
        let lists = values.map(Vec::len).chain([
            self.recipes.len(),
            self.models.len().max(1),
            self.variants.len().max(1),
            usize::try_from(self.seeds).unwrap_or(usize::MAX),
        ]);
        lists.fold(1, usize::saturating_mul)
    }

    /// The cases in their order: the last field of the grid changes fastest. `more` are settings of all,
    /// which stand above those of the document.
    ///
    /// # Errors
    /// [`Error::Recipe`] of the first run that cannot be.
    pub fn cases(&self, more: &[String]) -> Result<Vec<Case>> {
        let plain = Variant {
            name: String::new(),
            set: vec![],
        };
        let variants = match self.variants.is_empty() {
            true => vec![plain],
            false => self.variants.clone(),
        };
        let models: Vec<Option<ModelName>> = match self.models.is_empty() {
            true => vec![None],
            false => self.models.iter().copied().map(Some).collect(),
        };
        let mut cases = vec![];
        for recipe in &self.recipes {
            for &model in &models {
                for variant in &variants {
                    for settings in self.combinations() {
                        let mut parts = vec![];
                        parts.extend((self.recipes.len() > 1).then(|| recipe.clone()));
                        parts.extend(model.map(|model| model.to_string()));
                        parts.extend((self.variants.len() > 1).then(|| variant.name.clone()));
                        // What has one value tells nothing apart.
                        let told = settings.iter().zip(self.grid.values());
                        let told = told.filter(|(_, values)| length(values) > 1);
                        parts.extend(told.map(|(setting, _)| setting.clone()));
                        let all = [&self.set, &variant.set, &settings, more].concat();
                        let recipe = loaded(recipe, model, &all)?;
                        cases.push(Case {
                            label: parts.join(", "),
                            recipe,
                        });
                    }
                }
            }
        }
        Ok(cases)
    }

    /// Each combination of the grid, as settings in its order; one without any where it is empty.
    fn combinations(&self) -> Vec<Vec<String>> {
        let mut all = vec![vec![]];
        for (field, values) in &self.grid {
            let values = values.as_array().map_or(&[][..], Vec::as_slice);
            let with = |settings: &Vec<String>| -> Vec<Vec<String>> {
                let each = |value| [settings.clone(), vec![format!("{field}={value}")]].concat();
                values.iter().map(each).collect()
            };
            all = all.iter().flat_map(with).collect();
        }
        all
    }
}

/// A recipe with settings, for this model: settings of a model of another family are that one's.
fn loaded(name: &str, model: Option<ModelName>, settings: &[String]) -> Result<Recipe> {
    let Some(model) = model else {
        return Recipe::load(name, settings);
    };
    let own = Recipe::load(name, &[])?.model;
    let other = (own.name().family != model.family).then(|| own.named(model));
    let mut recipe = Recipe::load_for(name, other.as_ref(), settings)?;
    recipe.model = recipe.model.named(model);
    recipe.check()?;
    Ok(recipe)
}

fn length(values: &Value) -> usize {
    values.as_array().map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Sweep> {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("sweep.toml");
        std::fs::write(&path, text).unwrap();
        Sweep::read(&path).map(|(sweep, _)| sweep)
    }

    #[test]
    fn each_is_combined_with_each_other_in_order() {
        let sweep = read(
            r#"
            models = ["vit", "sl-vit"]
            seeds = 2
            set = ["train.epochs=7"]
            [grid]
            "train.learning_rate" = [0.001, 0.002]
            "train.batch" = [32]
            [[variants]]
            name = "plain"
            [[variants]]
            name = "crop"
            set = ["augment.crop_padding=4"]
            "#,
        )
        .unwrap();
        let cases = sweep.cases(&["train.weight_decay=0.5".into()]).unwrap();
        assert_eq!((cases.len(), sweep.count()), (8, 16));
        let labels: Vec<&str> = cases.iter().map(|case| case.label.as_str()).collect();
        assert_eq!(labels[0], "vit, plain, train.learning_rate=0.001");
        assert_eq!(labels[1], "vit, plain, train.learning_rate=0.002");
        assert_eq!(labels[7], "sl-vit, crop, train.learning_rate=0.002");
        let last = &cases[7].recipe;
        assert_eq!((last.train.epochs, last.train.batch), (7, 32));
        assert_eq!(
            (last.train.learning_rate, last.train.weight_decay),
            (0.002, 0.5)
        );
        assert_eq!(last.augment.crop_padding, 4);
        assert_eq!(last.model.name().to_string(), "sl-vit");
        assert_eq!(cases[0].recipe.augment.crop_padding, 0);
        // One run of nothing but the recipe.
        let cases = read("").unwrap().cases(&[]).unwrap();
        assert_eq!((cases.len(), cases[0].label.as_str()), (1, ""));
        assert_eq!(cases[0].recipe, Recipe::load("quickstart", &[]).unwrap());
    }

    #[test]
    fn settings_of_a_model_are_those_of_the_family_that_is_trained() {
        let sweep = "models = [\"sl-hybrid\"]\nset = [\"model.dims=[32,64]\"]";
        let cases = read(sweep).unwrap().cases(&[]).unwrap();
        let model = toml::to_string(&cases[0].recipe.model).unwrap();
        assert!(model.contains("dims = [32, 64]"), "{model}");
    }

    #[test]
    fn what_is_no_sweep_is_refused() {
        for (text, problem) in [
            ("seed = 3", "unknown field `seed`"),
            ("seeds = 0", "nothing to run"),
            ("recipes = []", "nothing to run"),
            ("models = [\"resnet\"]", "no model of this name"),
            (
                "[grid]\n\"train.epochs\" = 3",
                "grid.train.epochs is no list",
            ),
            (
                "[grid]\n\"train.epochs\" = []",
                "grid.train.epochs is no list",
            ),
            ("seeds = 20000", "it has 20000 runs"),
            ("[[variants]]\nset = []", "missing field `name`"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        let sweep = read("[grid]\n\"train.epoch\" = [3]").unwrap();
        let error = sweep.cases(&[]).unwrap_err().to_string();
        assert!(error.starts_with("train.epoch: "), "{error}");
    }
}
