//! Room on disk, asked for before a run begins.

use std::path::Path;

use super::recipe::Recipe;
use crate::error::{Error, Result};
use crate::models::file::ModelInfo;
use crate::{memory, words};

/// Bytes of all that a run writes beside its weights: curves, tables, files' headers.
const BESIDE: u64 = 1_000_000;

/// What a run writes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// One checkpoint: weights, moments, and averages where there are any.
    pub checkpoint: u64,
    /// The best epoch's weights.
    pub best: u64,
    /// How many checkpoints are kept.
    pub keep: u64,
}

impl Disk {
    /// Of a run.
    pub fn of(recipe: &Recipe, info: &ModelInfo) -> Self {
        let size = recipe.model.size(info.input[2], info.classes.len());
        Self {
            checkpoint: size.checkpoint(recipe.train.average.is_some()),
            best: size.weights(),
            keep: recipe.train.keep as u64,
        }
    }

    /// What lies in the folder in the end.
    pub fn kept(self) -> u64 {
        self.keep * self.checkpoint + self.best
    }

    /// The most at any moment: a file is whole beside the one that it replaces.
    pub fn most(self) -> u64 {
        self.kept() + self.checkpoint + BESIDE
    }
}

/// Refuses runs, one after another, whose files have no room on the disk of this folder, which need
/// not be there yet; so many bytes of them are written already.
pub fn check(folder: &Path, runs: &[Disk], written: u64) -> Result<()> {
    // A system that does not tell is no reason to refuse.
    match memory::free_on_disk(folder) {
        Some(free) => refuse(folder, runs, free.saturating_add(written)),
        None => Ok(()),
    }
}

fn refuse(folder: &Path, runs: &[Disk], free: u64) -> Result<()> {
    let kept: u64 = runs.iter().map(|run| run.kept() + BESIDE).sum();
    let one = runs.iter().map(|run| run.checkpoint).max().unwrap_or(0);
    let most = kept + one;
    if most <= free {
        return Ok(());
    }
    let mut remedy = "free some space, or choose another folder".to_owned();
    if runs.iter().any(|run| run.keep > 1) {
        remedy += "; train.keep=1 keeps one checkpoint less";
    }
    Err(Error::data(
        folder.display(),
        format!(
            "the {} would write {} (checkpoints of {}, one more while it is written, the best \
             weights, and curves), and there is room for {}",
            if runs.len() == 1 { "run" } else { "runs" },
            words::bytes(most),
            words::bytes(one),
            words::bytes(free)
        ),
        remedy,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_without_room_are_refused_with_numbers() {
        let disk = Disk {
            checkpoint: 300_000_000,
            best: 100_000_000,
            keep: 2,
        };
        assert_eq!((disk.kept(), disk.most()), (700_000_000, 1_001_000_000));
        let folder = Path::new("run");
        assert!(refuse(folder, &[disk], disk.most()).is_ok());
        let error = refuse(folder, &[disk], disk.most() - 1).unwrap_err();
        assert!(
            error.to_string().contains("checkpoints of 300 MB"),
            "{error}"
        );
        assert!(error.remedy().contains("train.keep=1"));
        let one = Disk { keep: 1, ..disk };
        assert!(
            refuse(folder, &[one], 0)
                .unwrap_err()
                .remedy()
                .ends_with("folder")
        );
        assert!(refuse(folder, &[disk, one], 1_401_999_999).is_err());
        assert!(refuse(folder, &[disk, one], 1_402_000_000).is_ok());
        // Whatever disk this is, it has not so much room.
        let large = Disk {
            best: 1 << 60,
            ..disk
        };
        let nowhere = Path::new("not/there/yet");
        assert!(check(nowhere, &[large], 0).is_err());
        assert!(check(nowhere, &[large], 1 << 61).is_ok());
    }
}
