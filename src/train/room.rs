//! Room on disk, asked for before a run begins.

use std::fs;
use std::path::Path;

use super::folder::RunFolder;
use super::run::Run;
use crate::error::{Error, Result};
use crate::report::table;

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
    pub fn of(run: &Run) -> Self {
        let info = &run.data.info;
        let size = info.config.size(info.input[2], info.classes.len());
        let train = &run.recipe.train;
        Self {
            checkpoint: size.checkpoint(train.average.is_some()),
            best: size.weights(),
            keep: train.keep as u64,
        }
    }

    /// What lies in the folder in the end.
    pub fn kept(self) -> u64 {
        self.keep * self.checkpoint + self.best
    }

    /// The most at any moment: a file is whole beside the one that it replaces.
    pub fn most(self) -> u64 {
        self.kept() + self.checkpoint
    }
}

/// Refuses a run whose files have no room on the disk of its folder.
pub fn check(run: &Run) -> Result<()> {
    let disk = Disk::of(run);
    let folder = &run.folder.0;
    // A system that does not tell is no reason to refuse.
    match fs4::available_space(folder) {
        Ok(free) => refuse(folder, disk, free + written(run.folder)),
        Err(_) => Ok(()),
    }
}

/// Bytes of what the run has written and will replace.
fn written(folder: &RunFolder) -> u64 {
    let files = [folder.last(), folder.previous(), folder.best()];
    let sizes = files
        .iter()
        .filter_map(|file| Some(fs::metadata(file).ok()?.len()));
    sizes.sum()
}

fn refuse(folder: &Path, disk: Disk, free: u64) -> Result<()> {
    if disk.most() <= free {
        return Ok(());
    }
    let mut remedy = "free some space, or choose another folder".to_owned();
    if disk.keep > 1 {
        remedy += "; train.keep=1 keeps one checkpoint less";
    }
    Err(Error::data(
        folder.display(),
        format!(
            "the run would write {} ({} of {} each, the best weights of {}, and one more while \
             it is written), and there is room for {}",
            table::bytes(disk.most()),
            table::counted(disk.keep, "checkpoint"),
            table::bytes(disk.checkpoint),
            table::bytes(disk.best),
            table::bytes(free)
        ),
        remedy,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_room_is_refused_with_numbers() {
        let disk = Disk {
            checkpoint: 300_000_000,
            best: 100_000_000,
            keep: 2,
        };
        assert_eq!((disk.kept(), disk.most()), (700_000_000, 1_000_000_000));
        let folder = Path::new("run");
        assert!(refuse(folder, disk, disk.most()).is_ok());
        let error = refuse(folder, disk, disk.most() - 1).unwrap_err();
        assert!(
            error.to_string().contains("2 checkpoints of 300 MB"),
            "{error}"
        );
        assert!(error.remedy().contains("train.keep=1"));
        let one = Disk { keep: 1, ..disk };
        assert!(
            refuse(folder, one, 0)
                .unwrap_err()
                .remedy()
                .ends_with("folder")
        );
    }

    #[test]
    fn what_is_there_already_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder(dir.path().to_path_buf());
        assert_eq!(written(&folder), 0);
        fs::create_dir(folder.checkpoints()).unwrap();
        fs::write(folder.last(), [0; 100]).unwrap();
        fs::write(folder.best(), [0; 23]).unwrap();
        assert_eq!(written(&folder), 123);
    }
}
