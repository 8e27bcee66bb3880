//! Everything a run needs to go on as if it had never stopped, in one file; and when it is written.
//!
//! A checkpoint is a model file, with the groups of arrays `weights`, `moment1`, `moment2` and, where
//! the recipe averages weights, `average`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::tensor::Device;

use super::average::Average;
use super::folder::RunFolder;
use super::history::{self, Epoch};
use super::prepare::Prepared;
use super::recipe::Recipe;
use super::state::{Counters, TrainState, optimizer};
use super::step::diverged;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::models::file::{self, Contents};
use crate::params::{self, Views};
use crate::{input, words};

/// When a checkpoint is due within an epoch. After every epoch there is one anyway.
pub struct Policy {
    most: Duration,
    saved: Instant,
}

impl Policy {
    /// At most so many minutes after the last one; the first counts from now.
    pub fn every(minutes: f64) -> Self {
        Self {
            most: Duration::from_secs_f64((60.0 * minutes).clamp(0.0, 1e9)),
            saved: Instant::now(),
        }
    }

    /// Whether it is time.
    pub fn due(&self) -> bool {
        self.saved.elapsed() > self.most
    }

    /// One was written just now.
    pub fn saved(&mut self) {
        self.saved = Instant::now();
    }
}

/// What a file in a run's folder says of where it comes from, besides the state.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// The run's folder.
    pub folder: &'a RunFolder,
    /// How it is trained.
    pub recipe: &'a Recipe,
    /// On what.
    pub data: &'a Prepared,
}

impl Origin<'_> {
    /// With it the same images are held out when the model is evaluated later.
    fn metadata(&self) -> [(&'static str, String); 2] {
        [
            ("recipe", self.recipe.to_toml()),
            ("fingerprint", self.data.fingerprint.clone()),
        ]
    }
}

/// Where a run goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// From the last checkpoint.
    #[default]
    Last,
    /// From the one before it: the steps in between are taken again, with the same bits.
    Previous,
    /// From the weights of the best epoch, at that epoch, with an optimizer (and averages) that
    /// begin afresh: another run from there on.
    Best,
}

/// The state that a folder's run goes on with, or a new one where there is no checkpoint yet.
///
/// # Errors
/// [`Error::Model`] for a checkpoint that is damaged, with the ways out that there are;
/// [`Error::Recipe`] for one of another recipe, [`Error::Data`] for one of other data.
pub fn state(origin: Origin, from: From, device: &Device) -> Result<TrainState> {
    let Origin {
        folder,
        recipe,
        data,
    } = origin;
    match from {
        From::Last => {
            // A kill between two renamings leaves only the others.
            let all = [folder.last(), folder.next(), folder.previous()];
            match all.iter().find(|path| path.exists()) {
                Some(path) => {
                    load(path, origin, device).map_err(|error| with_ways_out(error, folder))
                }
                None => {
                    refuse_to_begin_anew(folder)?;
                    TrainState::new(recipe, &data.info, &data.fingerprint, device)
                }
            }
        }
        From::Previous if !folder.previous().exists() => Err(Error::model(
            folder.previous().display(),
            "there is no checkpoint before the last one",
            "go on from the last, or from the best",
        )),
        From::Previous => {
            let state = load(&folder.previous(), origin, device)?;
            folder.set_aside(&folder.last())?;
            Ok(state)
        }
        From::Best => {
            let state = restarted(origin, device)?;
            // What is not gone on from must not be taken for part of the run later; and at every
            // moment there is something to go on from.
            write_state(&state, &Weights::of(&state), origin, &folder.next())?;
            folder.set_aside(&folder.last())?;
            folder.set_aside(&folder.previous())?;
            let last = folder.last();
            fs::rename(folder.next(), &last).map_err(Error::io("write", last))?;
            Ok(state)
        }
    }
}

/// Refuses a new beginning over a best model of a later epoch than the first, which it would
/// replace (the first epoch's is written before there is any checkpoint), and over a history.
fn refuse_to_begin_anew(folder: &RunFolder) -> Result<()> {
    let best = folder.best();
    let counters = match best.exists().then(|| Contents::read(&best)) {
        Some(Ok(contents)) => contents.json::<Counters>("state").ok(),
        _ => None,
    };
    if let Some(counters) = counters
        && counters.epochs > 1
    {
        return Err(Error::model(
            folder.last().display(),
            format!(
                "it is gone, and there is a best model of epoch {}",
                counters.epochs
            ),
            "bring it back; or go on from the best epoch's weights, as another run (best)",
        ));
    }
    // A row is written after the epoch's checkpoint.
    let lines = input::text(&folder.history(), 1 << 26).map_or(0, |text| text.lines().count());
    if lines > 1 {
        return Err(Error::model(
            folder.checkpoints().display(),
            format!(
                "the checkpoints are gone, and {} knows of {}",
                folder.history().display(),
                words::counted(lines as u64 - 1, "epoch")
            ),
            "bring one back; or begin a new run, in another folder",
        ));
    }
    Ok(())
}

/// An error about a checkpoint that cannot be used as a file, with what else there is to go on from.
fn with_ways_out(error: Error, folder: &RunFolder) -> Error {
    let Error::Model {
        place,
        problem,
        remedy,
    } = error
    else {
        return error;
    };
    let mut ways = vec![];
    if folder.previous().exists() {
        ways.push("from the checkpoint before it, with the same bits (previous)");
    }
    if folder.best().exists() {
        ways.push("from the best epoch's weights, as another run (best)");
    }
    if ways.is_empty() {
        return Error::Model {
            place,
            problem,
            remedy,
        };
    }
    Error::model(place, problem, format!("go on {}", ways.join(", or ")))
}

/// The best epoch's weights, where the run stood then, with an optimizer that begins afresh.
fn restarted(origin: Origin, device: &Device) -> Result<TrainState> {
    let Origin { folder, recipe, .. } = origin;
    let path = folder.best();
    let mut contents = Contents::read(&path)?;
    let mut counters = counters(&contents, &path, origin)?;
    counters.restarted = counters.step;
    let place = path.display().to_string();
    let info = &origin.data.info;
    let model = info.with_weights(&contents.take("weights")?, place, device)?;
    let optimizer = optimizer(recipe, &model)?;
    let average = recipe.train.average.clone();
    let average = average.map(|average| Average::new(average, &model));
    Ok(TrainState::of(model, optimizer, average, counters))
}

/// The best epoch's model, for inference.
///
/// # Errors
/// As for a checkpoint to go on from; [`Error::Model`] where it is of another epoch.
pub fn best(origin: Origin, history: &[Epoch], device: &Device) -> Result<Model> {
    let mut contents = open_best(origin, history)?;
    contents.model(device).map(|(_, model)| model)
}

/// Why the best of these epochs' weights cannot be had, if they cannot, as far as it shows without reading
/// them.
pub fn best_problem(origin: Origin, history: &[Epoch]) -> Option<Error> {
    history::best(history)?;
    open_best(origin, history).err()
}

fn open_best(origin: Origin, history: &[Epoch]) -> Result<Contents> {
    let path = origin.folder.best();
    let contents = Contents::read(&path)?;
    let found = counters(&contents, &path, origin)?.epochs;
    let best = history::best(history).map(|index| history[index].epoch);
    // A run that was killed between the two files has the best of an epoch that it repeats.
    if best.is_some_and(|best| best != found) && found <= history.len() as u64 {
        let problem = format!("it is of epoch {found}, and another one was the best");
        return Err(Error::model(
            path.display(),
            problem,
            "bring back the right one",
        ));
    }
    Ok(contents)
}

/// The first of a folder's checkpoints that can be read: the last, the previous, the best.
fn any(folder: &RunFolder) -> Option<(PathBuf, Contents)> {
    let all = [
        folder.last(),
        folder.next(),
        folder.previous(),
        folder.best(),
    ];
    all.into_iter()
        .find_map(|path| Contents::read(&path).ok().map(|contents| (path, contents)))
}

/// Refuses a recipe, from this file, that would make another run of the one that has begun in this
/// folder.
pub fn check_recipe(folder: &RunFolder, recipe: &Recipe, file: &Path) -> Result<()> {
    match any(folder) {
        Some((path, contents)) => same_recipe(&contents, &path, file, recipe),
        None => Ok(()),
    }
}

/// The epochs that a run has done; none where no checkpoint of it can be read.
pub fn history(folder: &RunFolder) -> Vec<Epoch> {
    let state = any(folder).and_then(|(_, contents)| contents.json::<Counters>("state").ok());
    state.map(|counters| counters.history).unwrap_or_default()
}

fn same_recipe(contents: &Contents, path: &Path, file: &Path, recipe: &Recipe) -> Result<()> {
    let Some(text) = contents.text("recipe") else {
        return Ok(());
    };
    let began = Recipe::parse(text, path.display())?.recipe;
    let differences = recipe.differences(&began);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::recipe(
        file.display().to_string(),
        format!(
            "this is not the recipe that the run began with: {}",
            differences.join("; ")
        ),
        "put back what was; or begin a new run with this recipe, in another folder",
    ))
}

/// Where the run stood, if it is the one that goes on.
fn counters(contents: &Contents, path: &Path, origin: Origin) -> Result<Counters> {
    let Origin {
        folder,
        recipe,
        data,
    } = origin;
    let saved = contents.info()?;
    let counters: Counters = contents.json("state")?;
    same_recipe(contents, path, &folder.recipe(), recipe)?;
    if counters.history.len() as u64 != counters.epochs {
        return Err(Error::model(
            path.display(),
            "it does not know all of its epochs",
            "go on from another checkpoint",
        ));
    }
    if counters.fingerprint != data.fingerprint || saved != data.info {
        return Err(Error::data(
            path.display(),
            "the data or the model is not what this run began with",
            "bring back the data set as it was, or begin a new run",
        ));
    }
    Ok(counters)
}

/// Writes the last checkpoint, within an epoch.
pub fn save_step(state: &TrainState, origin: Origin) -> Result<()> {
    save_last(state, &Weights::of(state), origin)
}

/// Writes the best model, if the epoch just ended is the best so far, and the last checkpoint.
pub fn save_epoch(state: &TrainState, origin: Origin) -> Result<()> {
    let weights = Weights::of(state);
    let history = &state.counters.history;
    // The best weights first: a run that is killed between the two repeats the epoch.
    if history::best(history) == history.len().checked_sub(1) {
        let (path, info) = (origin.folder.best(), &origin.data.info);
        let metadata = [&origin.metadata()[..], &[state_json(state)]].concat();
        file::save(&path, info, weights.judged(), &metadata)?;
    }
    save_last(state, &weights, origin)
}

/// A state's weights, where they lie.
struct Weights {
    own: Views,
    average: Option<Views>,
}

impl Weights {
    fn of(state: &TrainState) -> Self {
        let average = state.average.as_ref();
        Self {
            own: params::views(state.model()),
            average: average.map(|average| params::views(&average.model(state.model()))),
        }
    }

    fn judged(&self) -> &Views {
        self.average.as_ref().unwrap_or(&self.own)
    }
}

/// Writes the last checkpoint. Where two are kept, the one before becomes the previous one.
fn save_last(state: &TrainState, weights: &Weights, origin: Origin) -> Result<()> {
    let folder = origin.folder;
    let (last, next) = (folder.last(), folder.next());
    if origin.recipe.train.keep < 2 || !last.exists() {
        write_state(state, weights, origin, &last)?;
        // Of a run that was killed between the two renamings below.
        return match fs::remove_file(&next) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io("remove", &next)(error))
            }
            _ => Ok(()),
        };
    }
    // All that can fail for want of room comes first. A kill between the two renamings leaves the
    // new one under its other name.
    write_state(state, weights, origin, &next)?;
    fs::rename(&last, folder.previous()).map_err(Error::io("move", &last))?;
    fs::rename(&next, &last).map_err(Error::io("move", &next))
}

/// Writes a checkpoint, unless it would be no use.
fn write_state(state: &TrainState, weights: &Weights, origin: Origin, path: &Path) -> Result<()> {
    let (first, second) = state.optimizer.moments();
    let views = [&weights.own, &first, &second];
    let mut views = views.iter().flat_map(|views| views.values());
    if !views.all(|view| view.numbers().iter().all(|value| value.is_finite())) {
        return Err(diverged(&state.counters));
    }
    let mut groups = vec![("weights", &weights.own)];
    if !first.is_empty() {
        groups.push(("moment1", &first));
    }
    if !second.is_empty() {
        groups.push(("moment2", &second));
    }
    groups.extend(weights.average.as_ref().map(|average| ("average", average)));
    let info = serde_json::to_string(&origin.data.info).expect("plain data becomes JSON");
    let metadata = [
        &[("model", info), state_json(state)][..],
        &origin.metadata(),
    ]
    .concat();
    file::write(path, &groups, &metadata)
}

fn state_json(state: &TrainState) -> (&'static str, String) {
    let json = serde_json::to_string(&state.counters);
    ("state", json.expect("plain data becomes JSON"))
}

/// Reads a checkpoint back. It must be of the same recipe, model and data as the run that goes on.
pub fn load(path: &Path, origin: Origin, device: &Device) -> Result<TrainState> {
    let Origin { recipe, data, .. } = origin;
    let (place, info) = (path.display(), &data.info);
    let mut contents = Contents::read(path)?;
    let counters = counters(&contents, path, origin)?;
    let weights = contents.take("weights")?;
    // A checkpoint may be of the moment at which the optimizer began.
    let steps = counters.step - counters.restarted.min(counters.step);
    let (first, second) = if steps == 0 {
        Default::default()
    } else {
        let second = match contents.has("moment2") {
            true => contents.take("moment2")?,
            // Of an optimizer that has none: else it is missed below.
            false => Default::default(),
        };
        (contents.take("moment1")?, second)
    };
    let averaged = match contents.has("average") {
        true => Some(contents.take("average")?),
        false => None,
    };
    for moments in [&first, &second] {
        params::check_numbers(moments, &place)?;
    }
    let model = info.with_weights(&weights, place.to_string(), device)?;
    let optimizer = optimizer(recipe, &model)?.restore(steps, (&first, &second), &model, &place)?;
    let average = match (&recipe.train.average, averaged) {
        (Some(average), Some(saved)) => {
            Some(Average::restore(average.clone(), &saved, &model, &place)?)
        }
        (None, None) => None,
        (asked, _) => {
            let problem = if asked.is_some() {
                "the recipe asks for averaged weights (train.average), and there are none in it"
            } else {
                "there are averaged weights in it, and the recipe has no train.average"
            };
            let remedy = "leave train.average as the run began, or begin a new run";
            return Err(Error::model(place, problem, remedy));
        }
    };
    Ok(TrainState::of(model, optimizer, average, counters))
}
