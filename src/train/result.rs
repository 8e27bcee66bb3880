//! What a run came to: `result.json`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::error::{Error, Result};
use crate::input;
use crate::models::ModelName;

/// What one model's run came to. Accuracies are in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// The model's name.
    pub model: ModelName,
    /// Trainable parameters.
    pub parameters: u64,
    /// The recipe's name.
    pub recipe: String,
    /// The data set.
    pub data: String,
    /// The seed.
    pub seed: u64,
    /// Epochs trained.
    pub epochs: u64,
    /// The epoch with the highest validation top-1.
    pub best_epoch: u64,
    /// Of the best epoch.
    pub val_top1: f64,
    /// Of the best epoch; none where there are five classes or fewer.
    pub val_top5: Option<f64>,
    /// Of the best epoch's weights.
    pub test_top1: f64,
    /// Its standard error, in points.
    #[serde(default)]
    pub test_top1_standard_error: Option<f64>,
    /// Of the best epoch's weights; none where there are five classes or fewer.
    pub test_top5: Option<f64>,
    /// Of the last epoch's weights.
    pub last_test_top1: f64,
    /// Of the last epoch's weights; none where there are five classes or fewer.
    pub last_test_top5: Option<f64>,
    /// Images chosen on.
    #[serde(default)]
    pub val_images: Option<u64>,
    /// Images tested on.
    #[serde(default)]
    pub test_images: Option<u64>,
    /// Why the best epoch's weights could not be read, where that is so: what is said of the best
    /// epoch is of the last one then.
    #[serde(default)]
    pub best_lost: Option<String>,
    /// The step at which the run went on from the best epoch's weights with an optimizer that
    /// began afresh; none in a run that did not.
    #[serde(default)]
    pub restarted_at_step: Option<u64>,
    /// Of training and validation, pauses between resumptions excluded.
    pub seconds: f64,
    /// Median over the steps.
    pub seconds_per_step: f64,
    /// Largest resident memory while this model trained; none where the system does not tell.
    pub peak_rss_bytes: Option<u64>,
    /// What the run ended on; none where the system does not tell.
    #[serde(default)]
    pub processor: Option<String>,
    /// This program's version.
    pub version: String,
}

/// Writes `result.json`: `{"models": […]}`, one entry for `train`, one a model for `compare`.
pub fn write_result(path: &Path, results: &[RunResult]) -> Result<()> {
    let json = serde_json::json!({ "models": results });
    let text = serde_json::to_string_pretty(&json).expect("plain data becomes JSON");
    atomic::write(path, (text + "\n").as_bytes())
}

/// The results in a `result.json`.
pub fn read_result(path: &Path) -> Result<Vec<RunResult>> {
    #[derive(Deserialize)]
    struct Document {
        models: Vec<RunResult>,
    }
    let text = input::text(path, 1 << 24)?;
    let document: Document = serde_json::from_str(&text).map_err(|error| {
        Error::model(
            path.display(),
            error.to_string(),
            "take away the file; the run writes it again",
        )
    })?;
    Ok(document.models)
}
