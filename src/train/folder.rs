//! Where the files of a run lie, and who may write them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::atomic;
use crate::error::{Error, Result};
use crate::lock::Lock;

const LOCK: &str = ".lock";
const CHECKPOINTS: &str = "checkpoints";

/// The files of one model's run.
#[derive(Clone, Debug)]
pub struct RunFolder(pub PathBuf);

impl RunFolder {
    /// The recipe, every field written out.
    pub fn recipe(&self) -> PathBuf {
        self.0.join("recipe.toml")
    }

    /// Which models a comparison is of, and with how many seeds; only in the folder of one.
    pub fn models(&self) -> PathBuf {
        self.0.join("models.json")
    }

    /// A row an epoch.
    pub fn history(&self) -> PathBuf {
        self.0.join("history.csv")
    }

    /// What the run came to.
    pub fn result(&self) -> PathBuf {
        self.0.join("result.json")
    }

    /// What the best epoch's weights say to each test image: a row an image.
    pub fn answers(&self) -> PathBuf {
        self.0.join("answers.csv")
    }

    /// The page that shows the run.
    pub fn report(&self) -> PathBuf {
        self.0.join("report.html")
    }

    /// The folder of [`last`](Self::last) and [`best`](Self::best).
    pub fn checkpoints(&self) -> PathBuf {
        self.0.join(CHECKPOINTS)
    }

    /// The state after the last checkpoint.
    pub fn last(&self) -> PathBuf {
        self.checkpoints().join("last.safetensors")
    }

    /// The weights of the best epoch on the validation images; the averaged ones where the recipe
    /// asks for averages.
    pub fn best(&self) -> PathBuf {
        self.checkpoints().join("best.safetensors")
    }

    /// The checkpoint before [`last`](Self::last), where the recipe keeps two.
    pub fn previous(&self) -> PathBuf {
        self.checkpoints().join("previous.safetensors")
    }

    /// A new checkpoint, whole, for the moment in which the last one becomes the previous one.
    pub fn next(&self) -> PathBuf {
        self.checkpoints().join("next.safetensors")
    }

    /// Whether there is nothing in the folder, or no folder, or nothing but what a run leaves that is
    /// killed before it has written a file.
    pub fn is_unused(&self) -> bool {
        let inside = |folder: &Path, allowed: &[&str]| {
            let Ok(entries) = fs::read_dir(folder) else {
                return true;
            };
            entries.flatten().all(|entry| {
                let name = entry.file_name();
                atomic::is_temporary(&name) || allowed.iter().any(|&allowed| name == allowed)
            })
        };
        inside(&self.0, &[LOCK, CHECKPOINTS]) && inside(&self.checkpoints(), &[LOCK])
    }

    /// Gives a checkpoint another name, where it is in nobody's way and not lost.
    pub fn set_aside(&self, checkpoint: &Path) -> Result<()> {
        let name = |number: u32| checkpoint.with_extension(format!("aside-{number}.safetensors"));
        let free = (1..).map(name).find(|aside| !aside.exists());
        match fs::rename(checkpoint, free.expect("one of the names is free")) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io("move", checkpoint)(error))
            }
            _ => Ok(()),
        }
    }

    /// Takes the folder, which must be there, for this process to write in, until the result is
    /// dropped or the process ends, however it ends. Where the file system has no locks, nobody
    /// is kept out.
    ///
    /// # Errors
    /// [`Error::Model`] while another process has it; [`Error::Io`] where nothing can be written.
    pub fn lock(&self) -> Result<Lock> {
        Lock::take(&self.0.join(LOCK), |holder| {
            let holder = match holder {
                Some(number) => format!("process {number}"),
                None => "another process".into(),
            };
            Err(Error::model(
                self.0.display(),
                format!("{holder} is at work on this run"),
                "wait for it or end it, or take another folder; what it saved stays",
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn what_a_run_leaves_that_had_not_begun_is_no_run() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder(dir.path().join("run"));
        assert!(folder.is_unused());
        fs::create_dir_all(folder.checkpoints()).unwrap();
        drop(folder.lock().unwrap());
        let left = folder.checkpoints().join(".smallvit-a1.tmp");
        fs::write(&left, "half").unwrap();
        assert!(folder.is_unused());
        fs::write(folder.last(), "").unwrap();
        assert!(!folder.is_unused());
        fs::remove_file(folder.last()).unwrap();
        fs::write(folder.0.join("notes.txt"), "").unwrap();
        assert!(!folder.is_unused());
    }

    #[test]
    fn a_folder_has_one_writer_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder(dir.path().to_path_buf());
        let lock = folder.lock().unwrap();
        let error = folder.lock().unwrap_err().to_string();
        let holder = format!("process {} is at work", process::id());
        assert!(error.contains(&holder), "{error}");
        drop(lock);
        folder.lock().unwrap();
        assert!(RunFolder(dir.path().join("none")).lock().is_err());
    }
}
