//! Where the files of a run lie.

use std::path::PathBuf;

/// The files of one model's run.
#[derive(Clone, Debug)]
pub struct RunFolder(pub PathBuf);

impl RunFolder {
    /// The recipe, every field written out.
    pub fn recipe(&self) -> PathBuf {
        self.0.join("recipe.toml")
    }

    /// Which models a comparison is of; only in the folder of one.
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

    /// The folder of [`last`](Self::last) and [`best`](Self::best).
    pub fn checkpoints(&self) -> PathBuf {
        self.0.join("checkpoints")
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
}
