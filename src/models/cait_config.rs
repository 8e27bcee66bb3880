//! The sizes of a CaiT, as a recipe has them.

use serde::{Deserialize, Serialize};

use super::checks::{self, LARGEST_IMAGE, MOST_BLOCKS, WIDEST_LAYER, WIDEST_TOKEN, refuse};
use super::config::{Cut, FamilyConfig};
use crate::error::Result;

/// What Locality Self-Attention does, where heads talk, with the scores of tokens with themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SelfScores {
    /// Next to 0 in each head, before the heads are mixed: what the code of arXiv 2112.13492 does, whose
    /// −1e-9 was likely meant to be −1e9.
    Zero,
    /// −∞ once the heads are mixed: no token attends to itself.
    Masked,
}

/// The sizes of a CaiT. The defaults are those of the code of arXiv 2112.13492 for 32 pixels; for 64 it
/// has `patch_size` 8.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaitConfig {
    /// Pixels a side of the images that go in; others are resized to it.
    pub image_size: usize,
    /// Pixels a side of a patch; it divides `image_size`.
    pub patch_size: usize,
    /// Numbers in a token.
    pub dim: usize,
    /// Blocks among the patches' tokens.
    pub depth: usize,
    /// Blocks in which a class token attends to them.
    pub class_depth: usize,
    /// Attention heads in a block.
    pub heads: usize,
    /// Numbers in a head's query, key and value.
    pub key_dim: usize,
    /// Width of the hidden layer of a block's MLP.
    pub mlp_width: usize,
    /// What Locality Self-Attention does with the scores of tokens with themselves; nothing without it.
    pub self_scores: SelfScores,
    /// Dropout rate of attention probabilities and of the blocks' MLPs; 0 is off.
    pub dropout: f64,
    /// Dropout rate in front of the classifier; 0 is off.
    pub head_dropout: f64,
    /// Probability with which an image goes past a residual in training, the same in every layer
    /// (Huang et al., arXiv 1603.09382); 0 is off.
    pub stochastic_depth: f64,
    /// ε of the layer normalisations.
    pub layer_norm_epsilon: f64,
}

impl Default for CaitConfig {
    fn default() -> Self {
        Self {
            image_size: 32,
            patch_size: 4,
            dim: 192,
            depth: 24,
            class_depth: 2,
            heads: 4,
            key_dim: 64,
            mlp_width: 384,
            self_scores: SelfScores::Zero,
            dropout: 0.0,
            head_dropout: 0.0,
            stochastic_depth: 0.1,
            layer_norm_epsilon: 1e-5,
        }
    }
}

impl CaitConfig {
    /// Patch tokens an image.
    pub fn tokens(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// First value of the factors by which the residuals of block `number`, from 0, of its stack are
    /// multiplied: the deeper, the smaller (Touvron et al., arXiv 2103.17239, section 2.1).
    pub fn layer_scale(number: usize) -> f64 {
        match number {
            ..18 => 0.1,
            18..24 => 1e-5,
            _ => 1e-6,
        }
    }

    fn check_sizes(&self) -> Result<()> {
        checks::sizes(&[
            ("image_size", self.image_size, LARGEST_IMAGE),
            ("patch_size", self.patch_size, self.image_size),
            ("dim", self.dim, WIDEST_TOKEN),
            ("depth", self.depth, MOST_BLOCKS),
            ("class_depth", self.class_depth, MOST_BLOCKS),
            ("heads", self.heads, MOST_BLOCKS),
            ("key_dim", self.key_dim, WIDEST_TOKEN),
            ("mlp_width", self.mlp_width, WIDEST_LAYER),
        ])?;
        Ok(())
    }

    fn check_tokens(&self, spt: bool, lsa: bool) -> Result<()> {
        checks::shifts(spt, "patch_size", self.patch_size)?;
        checks::patches(self.image_size, self.patch_size)?;
        if lsa && self.tokens() < 2 {
            return refuse(
                "patch_size",
                "Locality Self-Attention needs two tokens or more, and there is one",
                "choose a smaller patch size, or model.lsa = false",
            );
        }
        checks::scores(
            "patch_size",
            self.heads,
            self.tokens(),
            self.tokens(),
            "choose larger patches or smaller images",
        )
    }
}

impl FamilyConfig for CaitConfig {
    fn preset(image_size: usize) -> Self {
        match image_size {
            64 => Self {
                image_size,
                patch_size: 8,
                ..Self::default()
            },
            _ => Self::default(),
        }
    }

    fn cut(&self) -> Cut {
        Cut::patches(self.patch_size, self.dim)
    }

    fn check(&self, spt: bool, lsa: bool) -> Result<()> {
        self.check_sizes()?;
        self.check_tokens(spt, lsa)?;
        let rates = [self.dropout, self.head_dropout, self.stochastic_depth];
        checks::rates(rates, None, self.layer_norm_epsilon)
    }

    fn fields_behind(&self, parameter: &str) -> &'static [&'static str] {
        let has = |part: &str| parameter.split('.').any(|own| own == part);
        if has("embedding") {
            &["patch_size", "dim"]
        } else if has("sequence") {
            &["image_size", "dim"]
        } else if has("mlp") {
            &["mlp_width", "dim", "depth"]
        } else if has("attention") {
            &["dim", "heads", "key_dim", "depth"]
        } else if has("head") {
            &["dim"]
        } else {
            &["image_size", "dim", "depth"]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::checks::{Refused, assert_refused};

    #[test]
    fn deep_layers_begin_small() {
        let numbers = [0, 17, 18, 23, 24].map(CaitConfig::layer_scale);
        assert_eq!(numbers, [0.1, 0.1, 1e-5, 1e-5, 1e-6]);
    }

    #[test]
    fn what_cannot_be_built_is_refused_with_a_remedy() {
        let changes: [Refused<CaitConfig>; 15] = [
            (|c| c.image_size = 0, "image_size", "1 to 4096"),
            (|c| c.patch_size = 33, "patch_size", "1 to 32"),
            (|c| c.patch_size = 5, "patch_size", "divides 32"),
            (|c| c.patch_size = 1, "patch_size", "model.spt = false"),
            (|c| c.patch_size = 32, "patch_size", "model.lsa = false"),
            (|c| c.dim = 0, "dim", "1 to 65536"),
            (|c| c.depth = 0, "depth", "1 to 1024"),
            (|c| c.class_depth = 0, "class_depth", "1 to 1024"),
            (|c| c.heads = 0, "heads", "1 to 1024"),
            (|c| c.key_dim = 0, "key_dim", "1 to 65536"),
            (|c| c.mlp_width = 0, "mlp_width", "1 to 1048576"),
            (|c| c.image_size = 4096, "patch_size", "larger patches"),
            (|c| c.dropout = 1.0, "dropout", "less than 1"),
            (|c| c.stochastic_depth = 1.0, "stochastic_depth", "less"),
            (|c| c.layer_norm_epsilon = 0.0, "layer_norm_epsilon", "1e-6"),
        ];
        assert_refused(&changes);
    }
}
