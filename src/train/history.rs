//! What a run has done, an epoch a row.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::metrics::Metrics;
use super::observer::{Begin, Observer};
use crate::atomic;
use crate::error::{Error, Result};
use crate::input;

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

/// Reads `history.csv`, also while a run goes on writing it.
///
/// # Errors
/// [`Error::Io`] where there is none, [`Error::Data`] where it is no such table.
pub fn read(path: &Path) -> Result<Vec<Epoch>> {
    /// A row has less than 300 bytes: a million epochs.
    const LARGEST: u64 = 1 << 28;
    let refuse = |problem: String| {
        let remedy = "it is made of the run's checkpoint; take it away to do without";
        Error::data(path.display(), problem, remedy)
    };
    let text = input::text(path, LARGEST)?;
    let rows = csv::Reader::from_reader(text.as_bytes()).into_deserialize();
    rows.map(|row: std::result::Result<Row, csv::Error>| {
        Ok(row.map_err(|e| refuse(e.to_string()))?.into())
    })
    .collect()
}

/// A row of the table.
#[derive(Deserialize)]
struct Row {
    epoch: u64,
    step: u64,
    learning_rate: f64,
    loss: f64,
    top1: f64,
    top5: f64,
    val_loss: f64,
    val_top1: f64,
    val_top5: f64,
    seconds: f64,
    images_per_second: f64,
    #[serde(default)]
    gradient_norm: Option<f64>,
    #[serde(default)]
    weight_norm: Option<f64>,
    #[serde(default)]
    temperature: Option<f64>,
}

impl From<Row> for Epoch {
    fn from(row: Row) -> Self {
        let metrics = |loss, top1, top5| Metrics { loss, top1, top5 };
        Self {
            epoch: row.epoch,
            step: row.step,
            learning_rate: row.learning_rate,
            train: metrics(row.loss, row.top1, row.top5),
            validation: metrics(row.val_loss, row.val_top1, row.val_top5),
            seconds: row.seconds,
            images_per_second: row.images_per_second,
            gradient_norm: row.gradient_norm,
            weight_norm: row.weight_norm,
            temperature: row.temperature,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let metrics = |loss| Metrics {
            loss,
            top1: 12.5,
            top5: 50.0,
        };
        let epoch = |epoch, gradient_norm| Epoch {
            epoch,
            step: 5 * epoch,
            learning_rate: 1e-3,
            train: metrics(2.25),
            validation: metrics(2.0),
            seconds: 1.5,
            images_per_second: 100.0,
            gradient_norm,
            weight_norm: None,
            temperature: gradient_norm,
        };
        let epochs = [epoch(1, None), epoch(2, Some(0.125))];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.csv");
        write(&path, &epochs).unwrap();
        assert_eq!(read(&path).unwrap(), epochs);
        // As an earlier version wrote it.
        let old = "epoch,step,learning_rate,loss,top1,top5,val_loss,val_top1,val_top5,seconds,images_per_second\n\
                   1,5,0.001,2.25,12.5,50,2,12.5,50,1.5,100\n";
        std::fs::write(&path, old).unwrap();
        assert_eq!(read(&path).unwrap(), epochs[..1]);
        std::fs::write(&path, "epoch,step\n1,x\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("history.csv"), "{error}");
    }
}
