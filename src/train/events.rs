//! A run in TensorBoard's event files.

use std::path::PathBuf;

use super::history::Epoch;
use super::observer::{Begin, Observer};
use super::state::Counters;
use super::step::StepOutcome;
use crate::error::Result;
use crate::report::tensorboard::EventWriter;

/// Writes loss, learning rate and gradient norm of each step; loss and accuracies, the weights' norm and the
/// temperature of each epoch.
pub struct EventFile {
    folder: PathBuf,
    name: String,
    writer: Option<EventWriter>,
}

impl EventFile {
    /// A new file in this folder, begun when the run begins; `name` is the model's.
    pub fn new(folder: PathBuf, name: impl ToString) -> Self {
        Self {
            folder,
            name: name.to_string(),
            writer: None,
        }
    }
}

impl Observer for EventFile {
    fn begin(&mut self, begin: &Begin) -> Result<()> {
        let mut writer = EventWriter::create(&self.folder, &self.name)?;
        if begin.from.step > 0 {
            // What a killed run wrote after its last checkpoint does not count.
            writer.restart_at(begin.from.step + 1)?;
        }
        self.writer = Some(writer);
        Ok(())
    }

    fn step(&mut self, counters: &Counters, step: &StepOutcome) -> Result<()> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        writer.scalar(counters.step, "step/loss", step.loss)?;
        writer.scalar(counters.step, "step/learning_rate", step.rate)?;
        writer.scalar(counters.step, "step/gradient_norm", step.gradient_norm)
    }

    fn saved(&mut self) -> Result<()> {
        match &mut self.writer {
            Some(writer) => writer.flush(),
            None => Ok(()),
        }
    }

    fn epoch(&mut self, epoch: &Epoch) -> Result<()> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        for (part, metrics) in [("train", epoch.train), ("validation", epoch.validation)] {
            writer.scalar(epoch.step, &format!("loss/{part}"), metrics.loss)?;
            writer.scalar(epoch.step, &format!("top1/{part}"), metrics.top1)?;
            writer.scalar(epoch.step, &format!("top5/{part}"), metrics.top5)?;
        }
        let of_weights = [
            ("weights/norm", epoch.weight_norm),
            ("weights/temperature", epoch.temperature),
        ];
        for (name, value) in of_weights {
            if let Some(value) = value {
                writer.scalar(epoch.step, name, value)?;
            }
        }
        writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Model;
    use crate::train::metrics::Metrics;
    use crate::train::testing;

    #[test]
    fn steps_and_epochs_are_seen_once_they_are_saved() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut file = EventFile::new(dir.path().join("run"), "vit");
        let mut counters = Counters {
            step: 6,
            ..Counters::default()
        };
        let recipe = testing::recipe();
        let device = crate::train::device::cpu();
        let begin = Begin {
            recipe: &recipe,
            steps_per_epoch: 7,
            model: &Model::new(&recipe.model, 3, 2, 0, &device),
            classes: 2,
            device: &device,
            from: &counters.clone(),
        };
        file.begin(&begin).unwrap();
        let path = file.writer.as_ref().unwrap().path().to_owned();
        let read = || std::fs::read(&path).unwrap();
        let count = |bytes: &[u8], wanted: &str| {
            let windows = bytes.windows(wanted.len());
            windows.filter(|w| *w == wanted.as_bytes()).count()
        };
        let metrics = Metrics {
            loss: 1.0,
            top1: 2.0,
            top5: 3.0,
        };
        counters.step = 7;
        let step = StepOutcome {
            loss: 1.0,
            rate: 0.1,
            gradient_norm: 2.5,
            means: metrics,
            seconds: 0.0,
        };
        file.step(&counters, &step).unwrap();
        file.saved().unwrap();
        let bytes = read();
        assert_eq!(count(&bytes, "step/loss"), 1);
        assert_eq!(count(&bytes, "step/learning_rate"), 1);
        assert_eq!(count(&bytes, "step/gradient_norm"), 1);
        // An event of step 7 that says that a session starts: field 2 is 7, field 7 a message of 2
        // bytes, whose field 1 is 1 (event.proto).
        assert_eq!(count(&bytes, "\x10\x07\x3a\x02\x08\x01"), 1);
        let epoch = Epoch {
            epoch: 1,
            step: 7,
            learning_rate: 0.1,
            train: metrics,
            validation: metrics,
            seconds: 1.0,
            images_per_second: 1.0,
            gradient_norm: Some(2.5),
            weight_norm: Some(7.0),
            temperature: None,
        };
        file.epoch(&epoch).unwrap();
        let bytes = read();
        assert_eq!(count(&bytes, "weights/norm"), 1);
        assert_eq!(count(&bytes, "weights/temperature"), 0);
        for tag in ["loss", "top1", "top5"] {
            for part in ["train", "validation"] {
                assert_eq!(count(&bytes, &format!("{tag}/{part}")), 1, "{tag} {part}");
            }
        }
    }
}
