//! The sizes of a Vision Transformer.

use serde::{Deserialize, Serialize};

use super::checks::{self, LARGEST_IMAGE, MOST_BLOCKS, WIDEST_LAYER, WIDEST_TOKEN, refuse};
use super::config::{Cut, FamilyConfig};
use crate::error::Result;
use crate::strict;

/// What Locality Self-Attention learns in place of the constant 1 / √key_dim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Temperature {
    /// One τ a layer, by which the queries are divided, √key_dim at first: the Keras example's.
    Layer,
    /// One τ a head, by which the scores are multiplied, 1 / √key_dim at first: the paper's.
    Head,
}

/// What of the encoder's output the classifier is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// All tokens, one after another.
    Flatten,
    /// The class token: a learned one that stands before the patches'.
    Class,
    /// The mean of all tokens.
    Mean,
    /// A mean of all tokens whose weights are learned: sequence pooling (Hassani et al., arXiv
    /// 2104.05704).
    Sequence,
}

/// How weights begin. Biases are 0, layer normalisations 1 and 0 in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitialWeights {
    /// As Keras: Glorot uniform kernels, position embedding and class token uniform in ±0.05.
    Keras,
    /// As the paper's code: Glorot (Xavier) normal kernels, position embedding and class token
    /// normal with deviation 1.
    Paper,
}

/// The sizes of a Vision Transformer; the defaults are the Keras example's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VitConfig {
    /// Pixels a side of the images that go in; others are resized to it.
    pub image_size: usize,
    /// Pixels a side of a patch; it divides `image_size`.
    pub patch_size: usize,
    /// Numbers in a token.
    pub dim: usize,
    /// Encoder blocks.
    pub depth: usize,
    /// Attention heads in a block.
    pub heads: usize,
    /// Numbers in a head's query, key and value.
    pub key_dim: usize,
    /// Width of the hidden layer of a block's MLP.
    pub mlp_width: usize,
    /// Whether a GELU follows the MLP's second layer, too, as in the Keras example.
    pub mlp_second_gelu: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// What Locality Self-Attention learns; nothing without it.
    pub temperature: Temperature,
    /// Whether a bias is learned for each head and relative position in the grid of tokens, and
    /// added to the scores.
    pub relative_position: bool,
    /// What of the encoder's output the classifier is given.
    pub pool: Pool,
    /// Widths of the classifier's hidden layers; none is a classifier of one layer.
    pub head: Vec<usize>,
    /// Dropout rate of attention probabilities and of the blocks' MLPs; 0 is off.
    pub dropout: f64,
    /// Dropout rate in the classifier; 0 is off.
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
    /// How weights begin.
    pub initial: InitialWeights,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            image_size: 72,
            patch_size: 6,
            dim: 64,
            depth: 8,
            heads: 4,
            key_dim: 64,
            mlp_width: 128,
            mlp_second_gelu: true,
            qkv_bias: true,
            temperature: Temperature::Layer,
            relative_position: false,
            pool: Pool::Flatten,
            head: vec![2048, 1024],
            dropout: 0.1,
            head_dropout: 0.5,
            stochastic_depth: 0.0,
            layer_scale: None,
            layer_norm_epsilon: 1e-6,
            initial: InitialWeights::Keras,
        }
    }
}

impl VitConfig {
    /// Patch tokens an image.
    pub fn tokens(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// Tokens that go through the encoder: the patches', and the class token where there is one.
    pub fn sequence(&self) -> usize {
        self.tokens() + usize::from(self.pool == Pool::Class)
    }

    /// Numbers that the classifier is given of an image.
    pub fn features(&self) -> usize {
        match self.pool {
            Pool::Flatten => self.tokens() * self.dim,
            Pool::Class | Pool::Mean | Pool::Sequence => self.dim,
        }
    }

    fn check_sizes(&self) -> Result<()> {
        checks::sizes(&[
            ("image_size", self.image_size, LARGEST_IMAGE),
            ("patch_size", self.patch_size, self.image_size),
            ("dim", self.dim, WIDEST_TOKEN),
            ("depth", self.depth, MOST_BLOCKS),
            ("heads", self.heads, MOST_BLOCKS),
            ("key_dim", self.key_dim, WIDEST_TOKEN),
            ("mlp_width", self.mlp_width, WIDEST_LAYER),
        ])?;
        if self.head.len() > MOST_LAYERS {
            return refuse(
                "head",
                format!("{} hidden layers are out of range", self.head.len()),
                format!("give at most {MOST_LAYERS} widths; none is a classifier of one layer"),
            );
        }
        if self
            .head
            .iter()
            .any(|&width| width == 0 || width > WIDEST_LAYER)
        {
            return refuse(
                "head",
                format!("{:?} has a width that is out of range", self.head),
                format!("choose widths from 1 to {WIDEST_LAYER}"),
            );
        }
        Ok(())
    }

    fn check_tokens(&self, spt: bool, lsa: bool) -> Result<()> {
        checks::shifts(spt, "patch_size", self.patch_size)?;
        checks::patches(self.image_size, self.patch_size)?;
        if lsa && self.sequence() < 2 {
            return refuse(
                "patch_size",
                "Locality Self-Attention needs two tokens or more, and there is one",
                "choose a smaller patch size, or model.lsa = false",
            );
        }
        checks::scores(
            "patch_size",
            self.heads,
            self.sequence(),
            self.sequence(),
            "choose larger patches or smaller images",
        )?;
        if self.relative_position && self.tokens() < 2 {
            return refuse(
                "relative_position",
                "relative positions need two patches or more, and there is one",
                "choose a smaller patch size, or false",
            );
        }
        Ok(())
    }
}

/// The most hidden layers that a classifier has.
const MOST_LAYERS: usize = 64;

impl FamilyConfig for VitConfig {
    fn example() -> Self {
        Self {
            layer_scale: Some(1e-4),
            ..Self::default()
        }
    }

    fn cut(&self) -> Cut {
        Cut::patches(self.patch_size, self.dim)
    }

    fn check(&self, spt: bool, lsa: bool) -> Result<()> {
        self.check_sizes()?;
        self.check_tokens(spt, lsa)?;
        let rates = [self.dropout, self.head_dropout, self.stochastic_depth];
        checks::rates(rates, self.layer_scale, self.layer_norm_epsilon)
    }

    fn fields_behind(&self, parameter: &str) -> &'static [&'static str] {
        const TOKENS: &[&str] = &["image_size", "dim", "depth"];
        let flat = self.pool == Pool::Flatten;
        let part = parameter
            .split('.')
            .find(|part| !matches!(*part, "blocks" | "*") && part.parse::<usize>().is_err());
        match part.unwrap_or_default() {
            "embedding" => &["patch_size", "dim"],
            "sequence" => &["image_size", "dim"],
            "attention" if parameter.ends_with("relative_position") => {
                &["image_size", "heads", "depth"]
            }
            "attention" => &["dim", "heads", "key_dim", "depth"],
            "mlp" => &["mlp_width", "dim", "depth"],
            "head" if !self.head.is_empty() && !flat => &["head", "dim"],
            "head" if !self.head.is_empty() => &["head", "dim", "image_size"],
            "head" if flat => &["dim", "image_size"],
            "head" => &["dim"],
            _ => TOKENS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::checks::{Refused, assert_refused};

    /// The paper's ViT for images of 32 pixels.
    fn paper() -> VitConfig {
        VitConfig {
            image_size: 32,
            patch_size: 4,
            dim: 192,
            depth: 9,
            heads: 12,
            key_dim: 16,
            mlp_width: 384,
            pool: Pool::Class,
            head: vec![],
            ..VitConfig::default()
        }
    }

    #[test]
    fn the_class_token_counts_in_the_sequence_alone() {
        let mut config = paper();
        assert_eq!((config.tokens(), config.sequence()), (64, 65));
        assert_eq!(config.features(), 192);
        config.pool = Pool::Mean;
        assert_eq!((config.sequence(), config.features()), (64, 192));
        config.pool = Pool::Flatten;
        assert_eq!((config.sequence(), config.features()), (64, 64 * 192));
    }

    #[test]
    fn what_cannot_be_built_is_refused_with_a_remedy() {
        let changes: [Refused<VitConfig>; 19] = [
            (|c| c.image_size = 5000, "image_size", "1 to 4096"),
            (|c| c.patch_size = 0, "patch_size", "1 to 72"),
            (|c| c.patch_size = 73, "patch_size", "1 to 72"),
            (|c| c.patch_size = 7, "patch_size", "divides 72"),
            (|c| c.patch_size = 72, "patch_size", "model.lsa = false"),
            (|c| c.dim = 0, "dim", "1 to 65536"),
            (|c| c.depth = 0, "depth", "1 to 1024"),
            (|c| c.heads = 0, "heads", "1 to 1024"),
            (|c| c.key_dim = 0, "key_dim", "1 to 65536"),
            (|c| c.mlp_width = 0, "mlp_width", "1 to 1048576"),
            (|c| c.head = vec![8, 0], "head", "1 to 1048576"),
            (|c| c.dropout = 1.0, "dropout", "less than 1"),
            (|c| c.head_dropout = f64::NAN, "head_dropout", "0 (off)"),
            (|c| c.stochastic_depth = -0.1, "stochastic_depth", "0 (off)"),
            (|c| c.stochastic_depth = 1.0, "stochastic_depth", "less"),
            (|c| c.layer_scale = Some(0.0), "layer_scale", "\"off\""),
            (|c| c.layer_scale = Some(f64::NAN), "layer_scale", "1e-4"),
            (|c| c.layer_norm_epsilon = 0.0, "layer_norm_epsilon", "1e-6"),
            (|c| c.layer_norm_epsilon = 1.0, "layer_norm_epsilon", "1e-6"),
        ];
        assert_refused(&changes);
    }

    #[test]
    fn one_patch_will_do_where_nothing_asks_for_two_tokens() {
        let mut config = VitConfig {
            patch_size: 72,
            ..VitConfig::default()
        };
        assert!(config.check(true, false).is_ok());
        config.relative_position = true;
        let error = config.check(true, false).unwrap_err();
        assert!(error.to_string().starts_with("model.relative_position: "));
        // With a class token there are two tokens, but still one patch.
        config.pool = Pool::Class;
        assert!(config.check(true, false).is_err());
        config.relative_position = false;
        assert!(config.check(true, true).is_ok());
    }
}
