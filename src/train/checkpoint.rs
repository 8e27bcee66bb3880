//! Everything a run needs to go on as if it had never stopped, in one file.

use std::path::Path;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::history::Epoch;
use super::metrics::Sums;
use super::optimizer::{AdamW, AdamWConfig};
use crate::error::{Error, Result};
use crate::model::Vit;
use crate::model::file::{self, Contents, ModelInfo};
use crate::model::weights::Arrays;

/// Where a run stands, besides weights and moments. All random draws are functions of the recipe's
/// seed and these counters, so there is no generator's state to keep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps taken since the beginning of the run.
    pub step: u64,
    /// Whole epochs done.
    pub epochs: u64,
    /// Steps taken in the epoch that is under way.
    pub epoch_steps: u64,
    /// What the epoch under way has summed up.
    pub sums: Sums,
    /// Seconds spent on the epoch under way.
    pub epoch_seconds: f64,
    /// Seconds spent on the whole run.
    pub seconds: f64,
    /// Seconds of each step so far.
    pub step_seconds: Vec<f32>,
    /// The epochs done.
    pub history: Vec<Epoch>,
    /// The data set's digest.
    pub fingerprint: String,
}

/// Writes a checkpoint, with what else is to be known of the model. `path` is at every moment either the checkpoint before or this one.
pub fn save(
    path: &Path,
    info: &ModelInfo,
    weights: &Arrays,
    optimizer: &AdamW,
    state: &State,
    more: &[(&str, String)],
) -> Result<()> {
    let (_, first, second) = optimizer.state();
    let json = |value: serde_json::Result<String>| value.expect("plain data becomes JSON");
    let own = [
        ("model", json(serde_json::to_string(info))),
        ("state", json(serde_json::to_string(state))),
    ];
    file::write(
        path,
        &[
            ("weights", weights),
            ("moment1", &first),
            ("moment2", &second),
        ],
        &[&own, more].concat(),
    )
}

/// Reads a checkpoint back. It must be of the same model and data as the run that goes on.
pub fn load(
    path: &Path,
    info: &ModelInfo,
    fingerprint: &str,
    adamw: AdamWConfig,
    device: &Device,
) -> Result<(Vit, AdamW, State)> {
    let place = path.display();
    let mut contents = Contents::read(path)?;
    let saved: ModelInfo = contents.json("model")?;
    let state: State = contents.json("state")?;
    if state.fingerprint != fingerprint || saved != *info {
        return Err(Error::model(
            place,
            "the data or the model is not what this run began with",
            "bring back the data set as it was, or begin a new run",
        ));
    }
    let model = info.with_weights(&contents.take("weights")?, place.to_string(), device)?;
    let (first, second) = if state.step == 0 {
        Default::default()
    } else {
        (contents.take("moment1")?, contents.take("moment2")?)
    };
    let optimizer = AdamW::with_state(adamw, state.step, &first, &second, &model, place)?;
    Ok((model, optimizer, state))
}
