//! The sizes of a Swin Transformer, as a recipe has them.

use serde::{Deserialize, Serialize};
use smallvit_kernels::windows::Windows;

use super::checks::{self, LARGEST_IMAGE, MOST_BLOCKS, WIDEST_MLP, WIDEST_TOKEN, refuse};
use super::config::{Cut, FamilyConfig};
use crate::error::Result;

/// The sizes of a Swin Transformer: one entry a stage in `dims`, `depths` and `heads`. The defaults are
/// those of the code of arXiv 2112.13492 for 32 pixels; for 64 it has `patch_size` 4.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SwinConfig {
    /// Pixels a side of the images that go in; others are resized to it.
    pub image_size: usize,
    /// Pixels a side of a patch; it divides `image_size`.
    pub patch_size: usize,
    /// Numbers in a token, stage by stage; from one stage to the next four tokens become one.
    pub dims: Vec<usize>,
    /// Blocks, stage by stage.
    pub depths: Vec<usize>,
    /// Attention heads, stage by stage; each divides its stage's dim.
    pub heads: Vec<usize>,
    /// Tokens a side of the windows in which tokens attend to each other; where a stage's grid is no
    /// larger, all of its tokens do.
    pub window: usize,
    /// Width of the hidden layer of a block's MLP as a multiple of the stage's dim.
    pub mlp_ratio: usize,
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

impl Default for SwinConfig {
    fn default() -> Self {
        Self {
            image_size: 32,
            patch_size: 2,
            dims: vec![96, 192, 384],
            depths: vec![2, 6, 4],
            heads: vec![3, 6, 12],
            window: 4,
            mlp_ratio: 2,
            dropout: 0.0,
            head_dropout: 0.0,
            stochastic_depth: 0.1,
            layer_norm_epsilon: 1e-5,
        }
    }
}

/// One stage of a Swin Transformer.
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
    /// Tokens along a side of its windows.
    pub window: usize,
}

impl Stage {
    /// The windows of one of its blocks: every second block's are shifted by half a window, unless there
    /// is but one.
    pub fn windows(&self, block: usize) -> Windows {
        let shifted = block % 2 == 1 && self.window < self.side;
        Windows {
            height: self.side,
            width: self.side,
            side: self.window,
            shift: if shifted { self.window / 2 } else { 0 },
        }
    }
}

impl SwinConfig {
    /// The stages, first to last; a side is halved from one to the next.
    pub fn stages(&self) -> Vec<Stage> {
        let stage = |number: usize| {
            let side = (self.image_size / self.patch_size) >> number;
            Stage {
                side,
                dim: self.dims[number],
                depth: self.depths[number],
                heads: self.heads[number],
                window: self.window.min(side),
            }
        };
        (0..self.dims.len()).map(stage).collect()
    }

    fn check_sizes(&self) -> Result<()> {
        checks::sizes(&[
            ("image_size", self.image_size, LARGEST_IMAGE),
            ("patch_size", self.patch_size, self.image_size),
            ("window", self.window, LARGEST_IMAGE),
            ("mlp_ratio", self.mlp_ratio, WIDEST_MLP),
        ])?;
        checks::stages([
            ("dims", &self.dims, 1, WIDEST_TOKEN),
            ("depths", &self.depths, 1, MOST_BLOCKS),
            ("heads", &self.heads, 1, MOST_BLOCKS),
        ])?;
        Ok(())
    }

    fn check_stages(&self, spt: bool, lsa: bool) -> Result<()> {
        checks::shifts(spt, "patch_size", self.patch_size)?;
        checks::pyramid(self.image_size, self.patch_size, self.dims.len())?;
        for (number, stage) in self.stages().into_iter().enumerate() {
            let number = number + 1;
            if !stage.dim.is_multiple_of(stage.heads) {
                return refuse(
                    "heads",
                    format!(
                        "{} heads do not divide {} in stage {number}",
                        stage.heads, stage.dim
                    ),
                    "choose a divisor of the stage's dim",
                );
            }
            if !stage.side.is_multiple_of(stage.window) {
                return refuse(
                    "window",
                    format!(
                        "stage {number} has a grid of {0} × {0} tokens, which windows of {1} × {1} do not fill",
                        stage.side, stage.window
                    ),
                    format!("choose a divisor of {}, or larger than it", stage.side),
                );
            }
            let together = stage.window * stage.window;
            if lsa && together < 2 {
                return refuse(
                    "window",
                    format!(
                        "Locality Self-Attention needs two tokens or more, and a window of stage {number} has one"
                    ),
                    "choose larger windows or images, fewer stages, or model.lsa = false",
                );
            }
            checks::scores(
                "window",
                stage.heads,
                stage.side * stage.side,
                together,
                "choose smaller windows or larger patches",
            )?;
        }
        Ok(())
    }
}

impl FamilyConfig for SwinConfig {
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

    fn check(&self, spt: bool, lsa: bool) -> Result<()> {
        self.check_sizes()?;
        self.check_stages(spt, lsa)?;
        let rates = [self.dropout, self.head_dropout, self.stochastic_depth];
        checks::rates(rates, None, self.layer_norm_epsilon)
    }

    fn fields_behind(&self, parameter: &str) -> &'static [&'static str] {
        let has = |part: &str| parameter.split('.').any(|own| own == part);
        if has("embedding") {
            &["patch_size", "dims"]
        } else if has("relative_position") {
            &["window", "heads", "depths"]
        } else if has("mlp") {
            &["mlp_ratio", "dims", "depths"]
        } else if has("attention") || has("merge") || has("head") {
            &["dims", "depths"]
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
    fn windows_are_no_larger_than_the_grid_and_shifted_in_every_second_block() {
        let stages = SwinConfig::default().stages();
        assert_eq!([16, 8, 4], [0, 1, 2].map(|n: usize| stages[n].side));
        let shifts = |stage: usize| [0, 1, 2, 3].map(|block| stages[stage].windows(block).shift);
        assert_eq!(shifts(0), [0, 2, 0, 2]);
        // One window.
        assert_eq!(shifts(2), [0, 0, 0, 0]);
        let config = SwinConfig {
            window: 8,
            ..SwinConfig::default()
        };
        assert_eq!(
            [8, 8, 4],
            [0, 1, 2].map(|n: usize| config.stages()[n].window)
        );
    }

    #[test]
    fn what_cannot_be_built_is_refused_with_a_remedy() {
        let changes: [Refused<SwinConfig>; 17] = [
            (|c| c.image_size = 0, "image_size", "1 to 4096"),
            (|c| c.image_size = 36, "image_size", "a multiple of 8"),
            (|c| c.patch_size = 33, "patch_size", "1 to 32"),
            (|c| c.patch_size = 1, "patch_size", "model.spt = false"),
            (|c| c.window = 0, "window", "1 to 4096"),
            (|c| c.window = 3, "window", "a divisor of 16"),
            (|c| c.window = 1, "window", "model.lsa = false"),
            (|c| c.mlp_ratio = 65, "mlp_ratio", "1 to 64"),
            (|c| c.dims = vec![], "dims", "one value a stage"),
            (|c| c.dims[0] = 0, "dims", "1 to 65536"),
            (|c| c.depths = vec![2], "depths", "one value a stage"),
            (|c| c.depths[1] = 0, "depths", "1 to 1024"),
            (|c| c.heads[2] = 7, "heads", "a divisor"),
            (|c| c.dropout = 1.0, "dropout", "less than 1"),
            (|c| c.stochastic_depth = 1.0, "stochastic_depth", "less"),
            (|c| c.head_dropout = -1.0, "head_dropout", "0 (off)"),
            (|c| c.layer_norm_epsilon = 0.0, "layer_norm_epsilon", "1e-6"),
        ];
        assert_refused(&changes);
        let alone = SwinConfig {
            window: 1,
            ..SwinConfig::default()
        };
        assert!(alone.check(true, false).is_ok());
    }
}
