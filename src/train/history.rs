//! What a run has done, an epoch a row.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::metrics::Metrics;
use super::observer::{Begin, Observer};
use crate::atomic;
use crate::error::{Error, Result};

/// One epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: u64,
    /// Steps taken since the beginning of the run.
    pub step: u64,
    /// Learning rate of the epoch's last step.
    pub learning_rate: f64,
    /// Over the augmented training images, each before the step it took part in.
    pub train: Metrics,
    /// Over the validation images, after the epoch.
    pub validation: Metrics,
    /// Time of the epoch, validation included.
    pub seconds: f64,
    /// Training images a second, validation excluded.
    pub images_per_second: f64,
    /// Norm of all gradients together, before they were clipped: mean over the steps. None of an
    /// epoch that an earlier version trained.
    #[serde(default)]
    pub gradient_norm: Option<f64>,
    /// Norm of all weights together, after the epoch.
    #[serde(default)]
    pub weight_norm: Option<f64>,
    /// Mean of the temperatures that Locality Self-Attention learns, after the epoch; none without it.
    #[serde(default)]
    pub temperature: Option<f64>,
}

/// Keeps `history.csv`: a row an epoch, those before a resumption included.
pub struct HistoryFile {
    path: PathBuf,
    epochs: Vec<Epoch>,
}

impl HistoryFile {
    /// The table in this file, which the first epoch writes.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            epochs: vec![],
        }
    }
}

impl Observer for HistoryFile {
    fn begin(&mut self, begin: &Begin) -> Result<()> {
        self.epochs.clone_from(&begin.from.history);
        if self.epochs.is_empty() {
            return Ok(());
        }
        // For a run that was killed between its last checkpoint and this file.
        write(&self.path, &self.epochs)
    }

    fn epoch(&mut self, epoch: &Epoch) -> Result<()> {
        self.epochs.push(*epoch);
        write(&self.path, &self.epochs)
    }
}

/// Writes `history.csv`.
///
/// # Errors
/// [`Error::Data`] where it is something else than a file: a pipe would wait for its reader;
/// [`Error::Io`] where it cannot be written.
pub fn write(path: &Path, epochs: &[Epoch]) -> Result<()> {
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let problem = "the run's table is to be here, and this is no file";
        return Err(Error::data(path.display(), problem, "take it away"));
    }
    let mut csv = String::from(
        "epoch,step,learning_rate,loss,top1,top5,val_loss,val_top1,val_top5,seconds,\
         images_per_second,gradient_norm,weight_norm,temperature\n",
    );
    for e in epochs {
        let (t, v) = (e.train, e.validation);
        let some = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        csv += &format!(
            "{},{},{},{},{},{},{},{},{},{:.3},{:.1},{},{},{}\n",
            e.epoch,
            e.step,
            e.learning_rate,
            t.loss,
            t.top1,
            t.top5,
            v.loss,
            v.top1,
            v.top5,
            e.seconds,
            e.images_per_second,
            some(e.gradient_norm),
            some(e.weight_norm),
            some(e.temperature)
        );
    }
    atomic::write(path, csv.as_bytes())
}

/// The epoch with the highest validation top-1, the first among equals: where it stands.
pub fn best(epochs: &[Epoch]) -> Option<usize> {
    let top1 = |i: &usize| epochs[*i].validation.top1;
    (0..epochs.len()).reduce(|best, i| if top1(&i) > top1(&best) { i } else { best })
}

/// Whether so many epochs have passed since the best one; never with 0.
pub fn is_stale(epochs: &[Epoch], patience: u64) -> bool {
    let since = best(epochs).map_or(0, |best| epochs.len() - 1 - best);
    patience > 0 && since as u64 >= patience
}
