//! The sizes of a T2T-ViT, as a recipe has them.

use serde::{Deserialize, Serialize};

use super::checks::{self, LARGEST_IMAGE, MOST_BLOCKS, WIDEST_MLP, WIDEST_TOKEN, refuse};
use super::config::{Cut, FamilyConfig};
use crate::error::Result;

/// Cells a side of a soft split's patches.
pub(super) const PATCH: usize = 3;
/// Cells from one to the next.
pub(super) const STRIDE: usize = 2;
/// Cells of zeros around the grid.
pub(super) const PADDING: usize = 1;

/// The sizes of a T2T-ViT. The defaults are those of the code of arXiv 2112.13492 for 32 pixels; for 64
/// it has `soft_splits` 3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct T2tConfig {
    /// Pixels a side of the images that go in; others are resized to it.
    pub image_size: usize,
    /// Soft splits: each halves the grid's sides by overlapping patches of 3 × 3. Between two of them
    /// their tokens attend to each other.
    pub soft_splits: usize,
    /// Numbers in a token between the soft splits.
    pub token_dim: usize,
    /// Numbers in a token behind them.
    pub dim: usize,
    /// Encoder blocks.
    pub depth: usize,
    /// Attention heads in a block; they divide `dim`.
    pub heads: usize,
    /// Width of the hidden layer of a block's MLP as a multiple of `dim`.
    pub mlp_ratio: usize,
    /// Whether a block's attention adds its normalised input to its output, a second shortcut, as the code
    /// of arXiv 2112.13492 has it and T2T-ViT does not.
    pub second_shortcut: bool,
    /// Dropout rate of attention probabilities and of the blocks' MLPs; 0 is off.
    pub dropout: f64,
    /// Dropout rate in front of the classifier; 0 is off.
    pub head_dropout: f64,
    /// Probability with which an image goes past a residual of the last block in training; that of
    /// those before grows evenly from 0 (Huang et al., arXiv 1603.09382). 0 is off.
    pub stochastic_depth: f64,
    /// ε of the layer normalisations.
    pub layer_norm_epsilon: f64,
}

impl Default for T2tConfig {
    fn default() -> Self {
        Self {
            image_size: 32,
            soft_splits: 2,
            token_dim: 64,
            dim: 256,
            depth: 12,
            heads: 4,
            mlp_ratio: 2,
            second_shortcut: true,
            dropout: 0.0,
            head_dropout: 0.0,
            stochastic_depth: 0.1,
            layer_norm_epsilon: 1e-5,
        }
    }
}

impl T2tConfig {
    /// Cells along a side of the grid before each soft split, and tokens along a side behind the last.
    pub fn sides(&self) -> Vec<usize> {
        let next = |side: &usize| Some(side.div_ceil(STRIDE));
        let sides = std::iter::successors(Some(self.image_size), next);
        sides.take(self.soft_splits + 1).collect()
    }

    /// Tokens that go through the encoder: the patches', and the class token.
    pub fn sequence(&self) -> usize {
        1 + self.sides()[self.soft_splits].pow(2)
    }

    fn check_sizes(&self) -> Result<()> {
        checks::sizes(&[
            ("image_size", self.image_size, LARGEST_IMAGE),
            ("soft_splits", self.soft_splits, MOST_SPLITS),
            ("token_dim", self.token_dim, WIDEST_TOKEN),
            ("dim", self.dim, WIDEST_TOKEN),
            ("depth", self.depth, MOST_BLOCKS),
            ("heads", self.heads, MOST_BLOCKS),
            ("mlp_ratio", self.mlp_ratio, WIDEST_MLP),
        ])?;
        if !self.dim.is_multiple_of(self.heads) {
            return refuse(
                "heads",
                format!("{} heads do not divide {}", self.heads, self.dim),
                "choose a divisor of model.dim",
            );
        }
        Ok(())
    }

    fn check_tokens(&self, lsa: bool) -> Result<()> {
        let sides = self.sides();
        let between = &sides[1..self.soft_splits];
        if lsa && between.last().is_some_and(|&side| side < 2) {
            return refuse(
                "soft_splits",
                "Locality Self-Attention needs two tokens or more, and between the last soft splits there is one",
                "choose fewer soft splits or larger images, or model.lsa = false",
            );
        }
        let attentions = between.iter().map(|side| (1, side * side));
        for (heads, tokens) in attentions.chain([(self.heads, self.sequence())]) {
            let remedy = "choose smaller images";
            checks::scores("image_size", heads, tokens, tokens, remedy)?;
        }
        Ok(())
    }
}

/// The most soft splits.
const MOST_SPLITS: usize = 8;

impl FamilyConfig for T2tConfig {
    fn preset(image_size: usize) -> Self {
        match image_size {
            64 => Self {
                image_size,
                soft_splits: 3,
                ..Self::default()
            },
            _ => Self::default(),
        }
    }

    fn cut(&self) -> Cut {
        Cut {
            patch: PATCH,
            stride: STRIDE,
            padding: PADDING,
            dim: match self.soft_splits {
                1 => self.dim,
                _ => self.token_dim,
            },
        }
    }

    fn check(&self, _: bool, lsa: bool) -> Result<()> {
        self.check_sizes()?;
        self.check_tokens(lsa)?;
        let rates = [self.dropout, self.head_dropout, self.stochastic_depth];
        checks::rates(rates, None, self.layer_norm_epsilon)
    }

    fn fields_behind(&self, parameter: &str) -> &'static [&'static str] {
        let has = |part: &str| parameter.split('.').any(|own| own == part);
        if has("splits") || has("embedding") {
            &["token_dim", "dim"]
        } else if has("mlp") {
            &["mlp_ratio", "dim", "depth"]
        } else if has("attention") || has("head") {
            &["dim", "depth"]
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
    fn each_soft_split_halves_the_grid() {
        let mut config = T2tConfig::default();
        assert_eq!((config.sides(), config.sequence()), (vec![32, 16, 8], 65));
        (config.image_size, config.soft_splits) = (64, 3);
        assert_eq!(config.sides(), [64, 32, 16, 8]);
        config.image_size = 33;
        assert_eq!(config.sides(), [33, 17, 9, 5]);
    }

    #[test]
    fn what_cannot_be_built_is_refused_with_a_remedy() {
        let changes: [Refused<T2tConfig>; 14] = [
            (|c| c.image_size = 0, "image_size", "1 to 4096"),
            (|c| c.image_size = 2048, "image_size", "smaller images"),
            (|c| c.soft_splits = 0, "soft_splits", "1 to 8"),
            (|c| c.soft_splits = 8, "soft_splits", "model.lsa = false"),
            (|c| c.token_dim = 0, "token_dim", "1 to 65536"),
            (|c| c.dim = 0, "dim", "1 to 65536"),
            (|c| c.depth = 0, "depth", "1 to 1024"),
            (|c| c.heads = 0, "heads", "1 to 1024"),
            (|c| c.heads = 3, "heads", "a divisor"),
            (|c| c.mlp_ratio = 0, "mlp_ratio", "1 to 64"),
            (|c| c.dropout = 1.0, "dropout", "less than 1"),
            (|c| c.head_dropout = -1.0, "head_dropout", "0 (off)"),
            (|c| c.stochastic_depth = 1.0, "stochastic_depth", "less"),
            (|c| c.layer_norm_epsilon = 0.0, "layer_norm_epsilon", "1e-6"),
        ];
        assert_refused(&changes);
    }
}
