//! The sizes of a hybrid, as a recipe has them.

use serde::{Deserialize, Serialize};

use super::checks::{self, LARGEST_IMAGE, MOST_BLOCKS, WIDEST_MLP, WIDEST_TOKEN, refuse};
use super::config::{Cut, FamilyConfig};
use super::vit_config::Temperature;
use crate::error::Result;
use crate::strict;

/// What of the last stage's tokens the classifier is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HybridPool {
    /// Their mean.
    Mean,
    /// Their mean with learned weights: sequence pooling (Hassani et al., arXiv 2104.05704).
    Sequence,
}

/// The sizes of a hybrid of convolutions and attention: one entry a stage in `dims`, `depths` and
/// `expansions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HybridConfig {
    /// Pixels a side of the images that go in; others are resized to it.
    pub image_size: usize,
    /// Pixels a side of the stem's convolution.
    pub stem_patch: usize,
    /// Pixels from one of its places to the next; at most `stem_patch`.
    pub stem_stride: usize,
    /// Numbers in a token, stage by stage; from one stage to the next four tokens become one.
    pub dims: Vec<usize>,
    /// Blocks, stage by stage.
    pub depths: Vec<usize>,
    /// Width of the hidden layer of a block's MLP as a multiple of the stage's dim, stage by stage.
    pub expansions: Vec<usize>,
    /// How many stages, from the first on, have no attention: their blocks are convolutions.
    pub convolution_stages: usize,
    /// Numbers in an attention head's query, key and value; it divides the dims of stages with
    /// attention.
    pub head_dim: usize,
    /// What Locality Self-Attention learns; nothing without it.
    pub temperature: Temperature,
    /// Whether a bias is learned for each head and relative position in the grid of tokens, and
    /// added to the scores.
    pub relative_position: bool,
    /// What of the last stage's tokens the classifier is given.
    pub pool: HybridPool,
    /// Dropout rate of attention probabilities and of the blocks' MLPs; 0 is off.
    pub dropout: f64,
    /// Dropout rate in front of the classifier; 0 is off.
    pub head_dropout: f64,
    /// Probability with which an image goes past a residual in training, the same in every layer
    /// (Huang et al., arXiv 1603.09382); 0 is off.
    pub stochastic_depth: f64,
    /// First value of the learned factors by which each residual's channels are multiplied
    /// (Touvron et al., arXiv 2103.17239).
    #[serde(serialize_with = "strict::or_off")]
    pub layer_scale: Option<f64>,
    /// ε of the layer normalisations.
    pub layer_norm_epsilon: f64,
}

impl Default for HybridConfig {
    fn default() -> Self {
        Self {
            image_size: 32,
            stem_patch: 3,
            stem_stride: 2,
            dims: vec![64, 160],
            depths: vec![2, 4],
            expansions: vec![3, 2],
            convolution_stages: 1,
            head_dim: 32,
            temperature: Temperature::Head,
            relative_position: false,
            pool: HybridPool::Sequence,
            dropout: 0.0,
            head_dropout: 0.0,
            stochastic_depth: 0.0,
            layer_scale: None,
            layer_norm_epsilon: 1e-6,
        }
    }
}

/// One stage of a hybrid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Tokens along a side of its grid.
    pub side: usize,
    /// Numbers in a token.
    pub dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Width of the hidden layer of a block's MLP.
    pub hidden: usize,
    /// Whether its blocks have attention.
    pub attention: bool,
}

impl HybridConfig {
    /// Pixels of zeros on every side of the image: as many as make its grid one of
    /// `image_size / stem_stride` a side, where `stem_patch` allows it.
    pub fn stem_padding(&self) -> usize {
        (self.stem_patch - self.stem_stride).div_ceil(2)
    }

    /// The stages, first to last; a side is halved from one to the next.
    pub fn stages(&self) -> Vec<Stage> {
        let room = self.image_size + 2 * self.stem_padding() - self.stem_patch;
        let first = room / self.stem_stride + 1;
        (0..self.dims.len())
            .map(|number| Stage {
                side: first >> number,
                dim: self.dims[number],
                depth: self.depths[number],
                hidden: self.dims[number] * self.expansions[number],
                attention: number >= self.convolution_stages,
            })
            .collect()
    }

    fn check_sizes(&self) -> Result<()> {
        checks::sizes(&[
            ("image_size", self.image_size, LARGEST_IMAGE),
            ("stem_patch", self.stem_patch, self.image_size),
            ("stem_stride", self.stem_stride, self.stem_patch),
            ("head_dim", self.head_dim, WIDEST_TOKEN),
        ])?;
        checks::stages([
            ("dims", &self.dims, 1, WIDEST_TOKEN),
            ("depths", &self.depths, 0, MOST_BLOCKS),
            ("expansions", &self.expansions, 1, WIDEST_MLP),
        ])?;
        let stages = self.dims.len();
        if self.convolution_stages > stages {
            return refuse(
                "convolution_stages",
                format!("{} of {stages} stages", self.convolution_stages),
                format!("choose 0 to {stages}"),
            );
        }
        Ok(())
    }

    fn check_stages(&self, spt: bool, lsa: bool) -> Result<()> {
        if self.stem_stride == 1 && self.stem_patch.is_multiple_of(2) {
            return refuse(
                "stem_patch",
                format!("{} pixels have no middle one", self.stem_patch),
                "choose an odd number where stem_stride is 1",
            );
        }
        checks::shifts(spt, "stem_patch", self.stem_patch)?;
        let stages = self.stages();
        for (number, stage) in stages.iter().enumerate() {
            let last = number + 1 == stages.len();
            if !last && (stage.side < 2 || stage.side % 2 == 1) {
                return refuse(
                    "image_size",
                    format!(
                        "stage {} has a grid of {1} × {1} tokens, of which four cannot become one",
                        number + 1,
                        stage.side
                    ),
                    format!(
                        "choose a multiple of {}, or fewer stages",
                        self.stem_stride << (stages.len() - 1)
                    ),
                );
            }
            if !stage.attention {
                continue;
            }
            let tokens = stage.side * stage.side;
            if stage.dim % self.head_dim != 0 {
                return refuse(
                    "head_dim",
                    format!("heads of {} do not divide {}", self.head_dim, stage.dim),
                    "choose a divisor of all dims of stages with attention",
                );
            }
            if (lsa || self.relative_position) && tokens < 2 {
                return refuse(
                    "image_size",
                    format!("attention in stage {} has one token alone", number + 1),
                    "choose larger images, fewer stages, or more convolution_stages",
                );
            }
            checks::scores(
                "convolution_stages",
                stage.dim / self.head_dim,
                tokens,
                tokens,
                "let attention begin in a later stage, or choose a larger stem_stride",
            )?;
        }
        Ok(())
    }
}

impl FamilyConfig for HybridConfig {
    fn example() -> Self {
        Self {
            layer_scale: Some(0.1),
            ..Self::default()
        }
    }

    fn cut(&self) -> Cut {
        Cut {
            patch: self.stem_patch,
            stride: self.stem_stride,
            padding: self.stem_padding(),
            dim: self.dims.first().copied().unwrap_or_default(),
        }
    }

    fn check(&self, spt: bool, lsa: bool) -> Result<()> {
        self.check_sizes()?;
        self.check_stages(spt, lsa)?;
        let rates = [self.dropout, self.head_dropout, self.stochastic_depth];
        checks::rates(rates, self.layer_scale, self.layer_norm_epsilon)
    }

    fn fields_behind(&self, parameter: &str) -> &'static [&'static str] {
        let has = |part: &str| parameter.split('.').any(|own| own == part);
        if has("stem") {
            &["stem_patch", "dims"]
        } else if has("relative_position") {
            &["image_size", "dims", "depths"]
        } else if has("mlp") {
            &["expansions", "dims", "depths"]
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
    fn a_stage_has_a_quarter_of_the_tokens_of_the_one_before() {
        let config = HybridConfig {
            dims: vec![48, 128, 256],
            depths: vec![2, 4, 2],
            expansions: vec![3, 2, 4],
            ..HybridConfig::default()
        };
        let stages = config.stages();
        assert_eq!([16, 8, 4], [0, 1, 2].map(|n: usize| stages[n].side));
        assert_eq!([144, 256, 1024], [0, 1, 2].map(|n: usize| stages[n].hidden));
        assert_eq!(
            [false, true, true],
            [0, 1, 2].map(|n: usize| stages[n].attention)
        );
        for (patch, stride, padding, side) in [(3, 1, 1, 32), (4, 4, 0, 8), (5, 2, 2, 16)] {
            let config = HybridConfig {
                stem_patch: patch,
                stem_stride: stride,
                ..HybridConfig::default()
            };
            assert_eq!(config.stem_padding(), padding);
            assert_eq!(config.stages()[0].side, side);
        }
    }

    #[test]
    fn what_cannot_be_built_is_refused_with_a_remedy() {
        let changes: [Refused<HybridConfig>; 17] = [
            (|c| c.image_size = 0, "image_size", "1 to 4096"),
            (|c| c.stem_patch = 33, "stem_patch", "1 to 32"),
            (|c| c.stem_stride = 4, "stem_stride", "1 to 3"),
            (
                |c| (c.stem_patch, c.stem_stride) = (1, 1),
                "stem_patch",
                "model.spt = false",
            ),
            (|c| c.head_dim = 0, "head_dim", "1 to 65536"),
            (|c| c.head_dim = 48, "head_dim", "divisor"),
            (|c| c.dims = vec![], "dims", "one value a stage"),
            (|c| c.dims = vec![0, 32], "dims", "1 to 65536"),
            (|c| c.depths = vec![2], "depths", "one value a stage"),
            (|c| c.depths = vec![2, 1025], "depths", "0 to 1024"),
            (|c| c.expansions = vec![0, 2], "expansions", "1 to 64"),
            (|c| c.convolution_stages = 3, "convolution_stages", "0 to 2"),
            (|c| c.image_size = 34, "image_size", "a multiple of 4"),
            (
                |c| (c.image_size, c.convolution_stages) = (1024, 0),
                "convolution_stages",
                "later stage",
            ),
            (|c| c.dropout = 1.0, "dropout", "less than 1"),
            (|c| c.layer_scale = Some(0.0), "layer_scale", "\"off\""),
            (|c| c.layer_norm_epsilon = 0.0, "layer_norm_epsilon", "1e-6"),
        ];
        assert_refused(&changes);
    }

    #[test]
    fn attention_of_one_token_alone_is_refused_only_where_something_asks_for_two() {
        let mut config = HybridConfig {
            image_size: 4,
            ..HybridConfig::default()
        };
        assert!(config.check(true, true).is_err());
        assert!(config.check(true, false).is_ok());
        config.convolution_stages = 2;
        assert!(config.check(true, true).is_ok());
    }
}
