//! What a page says in words: its title, what came out, what else is to be known.

use std::fs;

use smallvit::train::history::{self, Epoch};
use smallvit::train::recipe::Recipe;
use smallvit::train::result::RunResult;
use smallvit::train::trials::{Difference, Spread};
use smallvit::words;

use super::{Entry, Group, are_comparable};
use crate::cli::train::accuracy;

/// What a page is of.
pub fn title(entries: &[Entry]) -> String {
    let set = |entry: &Entry| entry.recipe.data.set.clone();
    let mut recipes: Vec<&str> = entries
        .iter()
        .map(|entry| entry.recipe.name.as_str())
        .collect();
    recipes.dedup();
    let mut sets: Vec<String> = entries.iter().map(set).collect();
    sets.dedup();
    format!(
        "{} on {}",
        words::listed(recipes, 3),
        words::listed(sets, 3)
    )
}

/// What came out, in a sentence.
pub fn finding(groups: &[Group]) -> String {
    let ended = groups.iter().filter(|group| !group.results().is_empty());
    let ended: Vec<&Group> = ended.collect();
    let running = groups
        .iter()
        .flat_map(|group| &group.runs)
        .filter(|run| run.result.is_none())
        .count();
    let mut said = match ended.as_slice() {
        [] => {
            let runs = groups.iter().flat_map(|group| &group.runs);
            let best = runs.filter_map(|run| {
                let best = run.history.get(history::best(&run.history)?)?;
                Some((run, best, run.history.last()?))
            });
            let best = best.max_by(|a, b| a.1.validation.top1.total_cmp(&b.1.validation.top1));
            match best {
                Some((run, best, last)) => format!(
                    "{} is at epoch {} of {}; at best it had {:.2} % of the validation images right, after epoch {}.",
                    run.label,
                    last.epoch,
                    run.recipe.train.epochs,
                    best.validation.top1,
                    best.epoch
                ),
                None => "No epoch has ended yet.".into(),
            }
        }
        [one] => {
            let result = one.results()[0];
            match Spread::of(&one.tests()) {
                Some(spread) if spread.runs > 1 => format!(
                    "{} has {:.2} ± {:.2} % of the test images right, mean ± deviation of {} seeds.",
                    one.model.name, spread.mean, spread.deviation, spread.runs
                ),
                _ => format!(
                    "{} has {} of {} right.",
                    one.model.name,
                    accuracy(result),
                    match result.test_images {
                        Some(images) => words::counted(images, "test image"),
                        None => "the test images".into(),
                    }
                ),
            }
        }
        _ if !are_comparable(groups) => {
            let each = ended.iter().filter_map(|group| {
                let spread = Spread::of(&group.tests())?;
                let set = &group.runs[0].recipe.data.set;
                Some(format!(
                    "{} has {:.2} % of {set} right.",
                    group.model.name, spread.mean
                ))
            });
            each.collect::<Vec<_>>().join(" ")
        }
        [than, others @ ..] => {
            let sentence = |of: &&Group| {
                let (own, other) = of.beside(than);
                if let Some(difference) = Difference::paired(&own, &other) {
                    return difference.sentence(&of.model.name, &than.model.name);
                }
                let ([own], [other]) = (own.as_slice(), other.as_slice()) else {
                    return format!(
                        "{} and {} have no seeds in common that would tell them apart.",
                        of.model.name, than.model.name
                    );
                };
                let (ahead, behind) = match own >= other {
                    true => (&of.model.name, &than.model.name),
                    false => (&than.model.name, &of.model.name),
                };
                format!(
                    "{ahead} is ahead of {behind} by {:.2} points of test top-1. One seed each does not tell whether \
                     that is more than chance; --seeds 5 would.",
                    (own - other).abs()
                )
            };
            others.iter().map(sentence).collect::<Vec<_>>().join(" ")
        }
    };
    if running > 0 {
        let runs = words::counted(running as u64, "run");
        said += &format!(" {runs} under way.");
    }
    said
}

/// What else is to be known, as (what, value).
pub fn facts(entries: &[Entry]) -> Vec<(String, String)> {
    let mut facts = vec![];
    let mut add = |what: &str, value: String| facts.push((what.to_owned(), value));
    let first = &entries[0];
    let results: Vec<&RunResult> = entries
        .iter()
        .filter_map(|entry| entry.result.as_ref())
        .collect();
    let written = |entry: &Entry| {
        fs::metadata(entry.run.result())
            .and_then(|file| file.modified())
            .ok()
    };
    if let Some(last) = entries.iter().filter_map(written).max()
        && let Ok(time) = jiff::Timestamp::try_from(last)
    {
        let day = time
            .to_zoned(jiff::tz::TimeZone::system())
            .strftime("%-d %B %Y");
        add("", day.to_string());
    }
    let mut processors: Vec<&str> = results
        .iter()
        .filter_map(|r| r.processor.as_deref())
        .collect();
    processors.sort_unstable();
    processors.dedup();
    if !processors.is_empty() {
        add("on", words::listed(processors, 3));
    }
    add("in", first.recipe.train.precision.to_string());
    if let Some(result) = results.first() {
        let images = |images: Option<u64>| images.map(words::count).unwrap_or_else(|| "–".into());
        add("chosen on", format!("{} images", images(result.val_images)));
        add(
            "tested on",
            format!("{} images", images(result.test_images)),
        );
    }
    let mut seeds: Vec<u64> = entries
        .iter()
        .map(|entry| entry.recipe.train.seed)
        .collect();
    seeds.sort_unstable();
    seeds.dedup();
    let label = if seeds.len() == 1 { "seed" } else { "seeds" };
    add(label, words::listed(seeds, 5));
    facts
}

/// Why a model may be better on images that it was not trained on; of a recipe in which nothing makes training
/// harder, or of curves that never cross, nothing.
pub fn why_lower(recipe: &Recipe, histories: &[Vec<Epoch>]) -> Vec<String> {
    let crosses = histories
        .iter()
        .flatten()
        .any(|e| e.validation.loss < e.train.loss);
    if !crosses {
        return vec![];
    }
    let mut said = vec![];
    let mut add = |sentence: &str| said.push(sentence.to_owned());
    let augment = &recipe.augment;
    if augment.mix.is_some() {
        add(
            "Training images are mixtures of two, which no answer fits wholly: the training loss cannot come near 0.",
        );
    }
    let turned = augment.rotation > 0.0 || augment.zoom > 0.0 || augment.crop_padding > 0;
    let edited = augment.auto_augment.is_some()
        || augment.rand_augment.is_some()
        || augment.timm_rand_augment.is_some()
        || augment.trivial_augment.is_some()
        || augment.jitter.is_some()
        || augment.erasing.is_some()
        || augment.resized_crop.is_some();
    if turned || edited {
        add(
            "Training images are moved, turned or otherwise altered, which makes them harder; validation images are not.",
        );
    }
    if recipe.train.label_smoothing > 0.0 {
        add(
            "The training loss is against smoothed labels, the validation loss against the plain ones.",
        );
    }
    let table = recipe.to_toml();
    let drops = |field: &str| {
        let value = table
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{field} = ")));
        value
            .and_then(|value| value.parse().ok())
            .is_some_and(|rate: f64| rate > 0.0)
    };
    if ["dropout", "head_dropout", "stochastic_depth"]
        .into_iter()
        .any(drops)
    {
        add("Dropout hides a part of the network while it trains, and nothing of it afterwards.");
    }
    add(
        "And the training loss is the mean over an epoch, in which the network became better, while the validation loss \
         is measured at its end.",
    );
    said
}
