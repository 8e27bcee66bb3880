//! The sizes and switches of a model; the `[model]` table of a recipe.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How an image becomes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tokenization {
    /// Patches, projected: the vanilla ViT.
    Plain,
    /// Shifted Patch Tokenization.
    Shifted,
}

/// How tokens attend to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttentionKind {
    /// Multi-head attention with the constant temperature √key_dim.
    Plain,
    /// Locality Self-Attention: a learned temperature, and no token attends to itself.
    Locality,
}

/// The models by their usual names: which of the paper's two ideas each has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelName {
    /// Neither.
    Vit,
    /// Shifted Patch Tokenization alone.
    SptVit,
    /// Locality Self-Attention alone.
    LsaVit,
    /// Both.
    SlVit,
}

impl ModelName {
    /// All of them, plainest first.
    pub const ALL: [Self; 4] = [Self::Vit, Self::SptVit, Self::LsaVit, Self::SlVit];

    /// The two switches that make it.
    pub fn switches(self) -> (Tokenization, AttentionKind) {
        use {AttentionKind as A, Tokenization as T};
        match self {
            Self::Vit => (T::Plain, A::Plain),
            Self::SptVit => (T::Shifted, A::Plain),
            Self::LsaVit => (T::Plain, A::Locality),
            Self::SlVit => (T::Shifted, A::Locality),
        }
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Vit => "vit",
            Self::SptVit => "spt-vit",
            Self::LsaVit => "lsa-vit",
            Self::SlVit => "sl-vit",
        })
    }
}

impl FromStr for ModelName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|model| model.to_string() == name)
            .ok_or_else(|| {
                Error::recipe(
                    "--model",
                    format!("there is no model `{name}`"),
                    "choose vit, spt-vit, lsa-vit or sl-vit",
                )
            })
    }
}

/// Every size of the model. The default is the seed's SL-ViT for 32-pixel images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// How an image becomes tokens.
    pub tokenizer: Tokenization,
    /// How tokens attend to each other.
    pub attention: AttentionKind,
    /// Pixels a side to which images are resized before they are cut.
    pub image_size: usize,
    /// Pixels a side of a patch.
    pub patch_size: usize,
    /// Width of a token.
    pub dim: usize,
    /// Encoder blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of a head's queries, keys and values.
    pub key_dim: usize,
    /// Widths of the MLP's layers in a block; the last is `dim`.
    pub mlp: Vec<usize>,
    /// Widths of the classifier's hidden layers; may be empty.
    pub head: Vec<usize>,
    /// Dropout in the blocks: on the attention probabilities and after each MLP layer.
    pub dropout: f64,
    /// Dropout in the classifier: on its input and after each hidden layer.
    pub head_dropout: f64,
    /// ε of every layer normalisation.
    pub layer_norm_epsilon: f64,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            tokenizer: Tokenization::Shifted,
            attention: AttentionKind::Locality,
            image_size: 72,
            patch_size: 6,
            dim: 64,
            depth: 8,
            heads: 4,
            key_dim: 64,
            mlp: vec![128, 64],
            head: vec![2048, 1024],
            dropout: 0.1,
            head_dropout: 0.5,
            layer_norm_epsilon: 1e-6,
        }
    }
}

impl ModelConfig {
    /// Tokens an image.
    pub fn tokens(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// Multiplications of an image's forward pass, in all matrix products; a training step takes
    /// three times as many, and each comes with an addition.
    pub fn products(&self, channels: usize, classes: usize) -> u64 {
        let dense = |input: usize, widths: &[usize]| -> usize {
            let inputs = std::iter::once(&input).chain(widths);
            inputs.zip(widths).map(|(a, b)| a * b).sum()
        };
        let (tokens, inner) = (self.tokens(), self.heads * self.key_dim);
        let versions = if self.tokenizer == Tokenization::Shifted {
            5
        } else {
            1
        };
        let patch = self.patch_size * self.patch_size * channels * versions;
        let block = 4 * self.dim * inner + 2 * tokens * inner + dense(self.dim, &self.mlp);
        let flat = tokens * self.dim;
        let last = self.head.last().copied().unwrap_or(flat);
        let head = dense(flat, &self.head) + last * classes;
        (tokens * (patch * self.dim + self.depth * block) + head) as u64
    }

    /// Parameters, but for the terms that are small beside the others.
    fn approximate_parameters(&self) -> u128 {
        let product = |a: usize, b: usize| a as u128 * b as u128;
        let dense = |input: usize, widths: &[usize]| -> u128 {
            let inputs = std::iter::once(&input).chain(widths);
            inputs.zip(widths).map(|(&a, &b)| product(a, b)).sum()
        };
        let block = 4 * product(self.dim * self.heads, self.key_dim) + dense(self.dim, &self.mlp);
        let tokenizer = product(15 * self.patch_size * self.patch_size, self.dim);
        tokenizer + block * self.depth as u128 + dense(self.tokens() * self.dim, &self.head)
    }

    /// The model's name by its two switches.
    pub fn name(&self) -> ModelName {
        let switches = (self.tokenizer, self.attention);
        ModelName::ALL
            .into_iter()
            .find(|name| name.switches() == switches)
            .expect("the four names cover the four combinations")
    }

    /// The same sizes with another model's switches.
    pub fn named(&self, name: ModelName) -> Self {
        let (tokenizer, attention) = name.switches();
        Self {
            tokenizer,
            attention,
            ..self.clone()
        }
    }

    /// Refuses what cannot be built, naming the field and the remedy.
    pub fn check(&self) -> Result<()> {
        let refuse = |field: &str, problem: String, remedy: String| {
            Err(Error::recipe(format!("model.{field}"), problem, remedy))
        };
        for (field, value, most) in [
            ("image_size", self.image_size, 4096),
            ("patch_size", self.patch_size, self.image_size),
            ("dim", self.dim, 1 << 16),
            ("depth", self.depth, 1024),
            ("heads", self.heads, 1024),
            ("key_dim", self.key_dim, 1 << 16),
        ] {
            if value == 0 || value > most {
                return refuse(
                    field,
                    format!("{value} is out of range"),
                    format!("choose 1 to {most}"),
                );
            }
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            let near = self.image_size / self.patch_size * self.patch_size;
            return refuse(
                "patch_size",
                format!(
                    "an image of {0}×{0} pixels cannot be cut into patches of {1}×{1}",
                    self.image_size, self.patch_size
                ),
                format!(
                    "choose a patch size that divides {}, or model.image_size = {} or {}",
                    self.image_size,
                    near,
                    near + self.patch_size
                ),
            );
        }
        if self.attention == AttentionKind::Locality && self.tokens() < 2 {
            return refuse(
                "patch_size",
                "Locality Self-Attention needs two tokens or more, and there is one".into(),
                "choose a smaller patch size, or model.attention = \"plain\"".into(),
            );
        }
        if self.mlp.last() != Some(&self.dim) {
            return refuse(
                "mlp",
                format!(
                    "the last width of {:?} is not model.dim = {}, to which the MLP's output is \
                     added",
                    self.mlp, self.dim
                ),
                format!("write for example mlp = [{}, {}]", 2 * self.dim, self.dim),
            );
        }
        for (field, widths) in [("mlp", &self.mlp), ("head", &self.head)] {
            if widths.iter().any(|&width| width == 0 || width > 1 << 20) {
                return refuse(
                    field,
                    format!("{widths:?} has a width that is out of range"),
                    format!("choose widths from 1 to {}", 1 << 20),
                );
            }
        }
        let parameters = self.approximate_parameters();
        if parameters > 1 << 30 {
            return refuse(
                "dim",
                format!("the model would have about {parameters} parameters"),
                "choose smaller widths: a thousand million is the most that is built".into(),
            );
        }
        for (field, rate) in [
            ("dropout", self.dropout),
            ("head_dropout", self.head_dropout),
        ] {
            if !(0.0..1.0).contains(&rate) {
                return refuse(
                    field,
                    format!("{rate} is not a dropout rate"),
                    "choose 0 (off) or more, and less than 1".into(),
                );
            }
        }
        if !(self.layer_norm_epsilon > 0.0 && self.layer_norm_epsilon < 1.0) {
            return refuse(
                "layer_norm_epsilon",
                format!("{} is out of range", self.layer_norm_epsilon),
                "choose a small positive number, such as 1e-6".into(),
            );
        }
        Ok(())
    }
}
