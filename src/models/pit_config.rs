//! The sizes of a Pooling-based Vision Transformer, as a recipe has them.

use serde::{Deserialize, Serialize};

use super::checks::{self, LARGEST_IMAGE, MOST_BLOCKS, WIDEST_MLP, WIDEST_TOKEN, refuse};
use super::config::{Cut, FamilyConfig};
use crate::error::Result;

/// The sizes of a PiT: one entry a stage in `dims`, `depths` and `heads`. The defaults are those of the
/// code of arXiv 2112.13492 for 32 pixels; for 64 it has `patch_size` 4.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PitConfig {
    /// Pixels a side of the images that go in; others are resized to it.
    pub image_size: usize,
    /// Pixels a side of a patch; it divides `image_size`.
    pub patch_size: usize,
    /// Numbers in a token, stage by stage, each a multiple of the one before; from one stage to the next
    /// four tokens become one.
    pub dims: Vec<usize>,
    /// Blocks, stage by stage.
    pub depths: Vec<usize>,
    /// Attention heads, stage by stage.
    pub heads: Vec<usize>,
    /// Numbers in a head's query, key and value.
    pub head_dim: usize,
    /// Width of the hidden layer of a block's MLP as a multiple of the stage's dim.
    pub mlp_ratio: usize,
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

impl Default for PitConfig {
    fn default() -> Self {
        Self {
            image_size: 32,
            patch_size: 2,
            dims: vec![96, 192, 384],
            depths: vec![2, 6, 4],
            heads: vec![2, 4, 8],
            head_dim: 48,
            mlp_ratio: 2,
            dropout: 0.0,
            head_dropout: 0.0,
            stochastic_depth: 0.1,
            layer_norm_epsilon: 1e-5,
        }
    }
}

/// One stage of a PiT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Tokens along a side of its grid.
    pub side: usize,
    /// Numbers in a token.
    pub dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
}

impl Stage {
    /// The grid's tokens, and the class token.
    pub fn tokens(&self) -> usize {
        1 + self.side * self.side
    }
}

impl PitConfig {
    /// The stages, first to last; a side is halved from one to the next.
    pub fn stages(&self) -> Vec<Stage> {
        let stage = |number: usize| Stage {
            side: (self.image_size / self.patch_size) >> number,
            dim: self.dims[number],
            depth: self.depths[number],
            heads: self.heads[number],
        };
        (0..self.dims.len()).map(stage).collect()
    }

    fn check_sizes(&self) -> Result<()> {
        checks::sizes(&[
            ("image_size", self.image_size, LARGEST_IMAGE),
            ("patch_size", self.patch_size, self.image_size),
            ("head_dim", self.head_dim, WIDEST_TOKEN),
            ("mlp_ratio", self.mlp_ratio, WIDEST_MLP),
        ])?;
        checks::stages([
            ("dims", &self.dims, 1, WIDEST_TOKEN),
            ("depths", &self.depths, 1, MOST_BLOCKS),
            ("heads", &self.heads, 1, MOST_BLOCKS),
        ])?;
        match self.dims.windows(2).find(|pair| pair[1] % pair[0] != 0) {
            Some(pair) => refuse(
                "dims",
                format!("{} is no multiple of {}", pair[1], pair[0]),
                "choose for each stage a multiple of the one before",
            ),
            None => Ok(()),
        }
    }

    fn check_stages(&self, spt: bool) -> Result<()> {
        checks::shifts(spt, "patch_size", self.patch_size)?;
        checks::pyramid(self.image_size, self.patch_size, self.dims.len())?;
        for stage in self.stages() {
            checks::scores(
                "patch_size",
                stage.heads,
                stage.tokens(),
                stage.tokens(),
                "choose larger patches or smaller images",
            )?;
        }
        Ok(())
    }
}

impl FamilyConfig for PitConfig {
    fn preset(image_size: usize) -> Self {
        match image_size {
            64 => Self {
                image_size,
                patch_size: 4,
                ..Self::default()
            },
            _ => Self::default(),
        }
    }

    fn cut(&self) -> Cut {
        Cut::patches(
            self.patch_size,
            self.dims.first().copied().unwrap_or_default(),
        )
    }

    fn check(&self, spt: bool, _: bool) -> Result<()> {
        self.check_sizes()?;
        self.check_stages(spt)?;
        let rates = [self.dropout, self.head_dropout, self.stochastic_depth];
        checks::rates(rates, None, self.layer_norm_epsilon)
    }

    fn fields_behind(&self, parameter: &str) -> &'static [&'static str] {
        let has = |part: &str| parameter.split('.').any(|own| own == part);
        if has("embedding") {
            &["patch_size", "dims"]
        } else if has("mlp") {
            &["mlp_ratio", "dims", "depths"]
        } else if has("attention") {
            &["dims", "heads", "head_dim", "depths"]
        } else if has("merge") || has("downsample") || has("head") {
            &["dims"]
        } else {
            &["image_size", "dims", "depths"]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::checks::{Refused, assert_refused};

    #[test]
    fn a_stage_has_a_quarter_of_the_grid_of_the_one_before_and_the_class_token() {
        let stages = PitConfig::default().stages();
        assert_eq!([257, 65, 17], [0, 1, 2].map(|n: usize| stages[n].tokens()));
    }

    #[test]
    fn what_cannot_be_built_is_refused_with_a_remedy() {
        let changes: [Refused<PitConfig>; 16] = [
            (|c| c.image_size = 0, "image_size", "1 to 4096"),
            (|c| c.image_size = 36, "image_size", "a multiple of 8"),
            (|c| c.patch_size = 33, "patch_size", "1 to 32"),
            (|c| c.patch_size = 1, "patch_size", "model.spt = false"),
            (|c| c.head_dim = 0, "head_dim", "1 to 65536"),
            (|c| c.mlp_ratio = 65, "mlp_ratio", "1 to 64"),
            (|c| c.dims = vec![], "dims", "one value a stage"),
            (|c| c.dims[1] = 100, "dims", "a multiple"),
            (|c| c.depths = vec![2], "depths", "one value a stage"),
            (|c| c.depths[1] = 0, "depths", "1 to 1024"),
            (|c| c.heads[2] = 0, "heads", "1 to 1024"),
            (|c| c.image_size = 1024, "patch_size", "larger patches"),
            (|c| c.dropout = 1.0, "dropout", "less than 1"),
            (|c| c.stochastic_depth = 1.0, "stochastic_depth", "less"),
            (|c| c.head_dropout = -1.0, "head_dropout", "0 (off)"),
            (|c| c.layer_norm_epsilon = 0.0, "layer_norm_epsilon", "1e-6"),
        ];
        assert_refused(&changes);
    }
}
