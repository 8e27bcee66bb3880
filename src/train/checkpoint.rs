//! Everything a run needs to go on as if it had never stopped, in one file; and when it is written.
//!
//! A checkpoint is a model file, with the groups of arrays `weights`, `moment1`, `moment2` and, where
//! the recipe averages weights, `average`.

use std::path::Path;
use std::time::{Duration, Instant};

use burn::tensor::Device;

use super::average::Average;
use super::folder::RunFolder;
use super::history;
use super::prepare::Prepared;
use super::recipe::Recipe;
use super::state::{Counters, TrainState, optimizer};
use super::step::diverged;
use crate::error::{Error, Result};
use crate::models::file::{self, Contents, ModelInfo};
use crate::params::{self, Arrays};

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

/// The state of a folder's last checkpoint, or a new one where there is none yet.
pub fn last_or_new(origin: Origin, device: &Device) -> Result<TrainState> {
    let Origin {
        folder,
        recipe,
        data,
    } = origin;
    if folder.last().exists() {
        load(
            &folder.last(),
            recipe,
            &data.info,
            &data.fingerprint,
            device,
        )
    } else {
        TrainState::new(recipe, &data.info, &data.fingerprint, device)
    }
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
        file::save(&path, info, weights.judged(), &origin.metadata())?;
    }
    save_last(state, &weights, origin)
}

/// A state's weights as arrays.
struct Weights {
    own: Arrays,
    average: Option<Arrays>,
}

impl Weights {
    fn of(state: &TrainState) -> Self {
        let average = state.average.as_ref();
        Self {
            own: params::weights(state.model()),
            average: average.map(|average| params::weights(&average.model(state.model()))),
        }
    }

    fn judged(&self) -> &Arrays {
        self.average.as_ref().unwrap_or(&self.own)
    }
}

/// Writes the last checkpoint, unless it would replace a good one by one that is no use.
fn save_last(state: &TrainState, weights: &Weights, origin: Origin) -> Result<()> {
    let mut values = weights.own.values().flat_map(|array| &array.values);
    if !values.all(|value| value.is_finite()) {
        return Err(diverged(&state.counters));
    }
    let (first, second) = state.optimizer.moments();
    let mut groups = vec![
        ("weights", &weights.own),
        ("moment1", &first),
        ("moment2", &second),
    ];
    groups.extend(weights.average.as_ref().map(|average| ("average", average)));
    let json = |value: serde_json::Result<String>| value.expect("plain data becomes JSON");
    let own = [
        ("model", json(serde_json::to_string(&origin.data.info))),
        ("state", json(serde_json::to_string(&state.counters))),
    ];
    let metadata = [&own[..], &origin.metadata()].concat();
    file::write(&origin.folder.last(), &groups, &metadata)
}

/// Reads a checkpoint back. It must be of the same model and data as the run that goes on.
pub fn load(
    path: &Path,
    recipe: &Recipe,
    info: &ModelInfo,
    fingerprint: &str,
    device: &Device,
) -> Result<TrainState> {
    let place = path.display();
    let mut contents = Contents::read(path)?;
    let saved = contents.info()?;
    let counters: Counters = contents.json("state")?;
    if counters.fingerprint != fingerprint || saved != *info {
        return Err(Error::model(
            place,
            "the data or the model is not what this run began with",
            "bring back the data set as it was, or begin a new run",
        ));
    }
    let model = info.with_weights(&contents.take("weights")?, place.to_string(), device)?;
    let (first, second) = if counters.step == 0 {
        Default::default()
    } else {
        (contents.take("moment1")?, contents.take("moment2")?)
    };
    for moments in [&first, &second] {
        params::check_numbers(moments, &place)?;
    }
    let optimizer =
        optimizer(recipe, &model)?.restore(counters.step, (&first, &second), &model, &place)?;
    let average = match (&recipe.train.average, contents.take("average")) {
        (Some(average), Ok(saved)) => {
            Some(Average::restore(average.clone(), &saved, &model, &place)?)
        }
        (None, Err(_)) => None,
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
