//! Where a model looks: the attention of every layer and head for one image.
//!
//! The numbers are those of composed operations, which keep what is between the products; the answer is the
//! same as that of the kernels within rounding.

use burn::tensor::{Device, Tensor, TensorData};

use super::Model;
use crate::nn::Context;
use crate::params::Array;

/// What one attention of a model paid attention to in one image.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionMap {
    /// Its path, as `blocks.3.attention`.
    pub path: String,
    /// Heads.
    pub heads: usize,
    /// Rows and columns of tokens.
    pub grid: [usize; 2],
    /// Tokens in front of those of the grid: 1 with a class token, else 0.
    pub before: usize,
    /// Whether only the token in front attends to others, as in class attention.
    pub of_class: bool,
    /// Rows (and columns) before which another window begins, where tokens attend to each other in windows.
    pub borders: Vec<usize>,
    /// What the scores of each head are multiplied by, in units of the plain 1 / √key_dim: above 1 attention is
    /// sharper, below 1 more even. None where no temperature is learned.
    pub sharpness: Option<Vec<f64>>,
    /// `[head, query token, key token]`: each query's probabilities, which sum to 1.
    pub values: Vec<f32>,
}

impl AttentionMap {
    fn cells(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    fn tokens(&self) -> usize {
        self.before + self.cells()
    }

    /// The heads that are asked for: one, or all of them.
    fn of_heads(&self, head: Option<usize>) -> std::ops::Range<usize> {
        head.map_or(0..self.heads, |head| head..head + 1)
    }

    /// The attention from one token (counted with those in front of the grid) to each cell of the grid, row by
    /// row: of one head, or the mean of all.
    pub fn from(&self, head: Option<usize>, token: usize) -> Vec<f32> {
        let (tokens, heads) = (self.tokens(), self.of_heads(head));
        let count = heads.len() as f32;
        let mut sums = vec![0.0; self.cells()];
        for head in heads {
            let row = &self.values[(head * tokens + token) * tokens..][..tokens];
            for (sum, value) in sums.iter_mut().zip(&row[self.before..]) {
                *sum += value / count;
            }
        }
        sums
    }

    /// The attention that each cell of the grid is paid by the grid's other tokens and itself: the mean over
    /// them, of one head or of all. In class attention, what the class token pays it.
    pub fn received(&self, head: Option<usize>) -> Vec<f32> {
        if self.of_class {
            return self.from(head, 0);
        }
        let cells = self.cells();
        let mut means = vec![0.0; cells];
        for token in self.before..self.tokens() {
            for (mean, value) in means.iter_mut().zip(self.from(head, token)) {
                *mean += value / cells as f32;
            }
        }
        means
    }
}

/// What a model looks at in one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// The model's answer: a number a class.
    pub logits: Vec<f32>,
    /// The attentions, in the order in which the image passes them. Of a pyramid, their grids differ.
    pub layers: Vec<AttentionMap>,
    /// How much each token counts in the answer, where the pooling says so (sequence pooling).
    pub shares: Option<Vec<f32>>,
}

impl Look {
    /// Attention through all layers (Abnar and Zuidema, *Quantifying Attention Flow in Transformers*,
    /// arXiv 2005.00928, section 3): each layer is ½ the mean of its heads and ½ the shortcut around it, and the
    /// layers are multiplied. For each cell of the grid, how much of it there is in what the classifier sees:
    /// the class token; the tokens by their shares; or the mean of all. None where there is no attention, or
    /// the grid becomes another on the way. (A class token may come in on the way, as CaiT's does.)
    pub fn rollout(&self) -> Option<Vec<f32>> {
        let (first, last) = (self.layers.first()?, self.layers.last()?);
        if self.layers.iter().any(|map| map.grid != first.grid) {
            return None;
        }
        let tokens = last.tokens();
        let mut looks = match (&self.shares, last.before) {
            (Some(shares), _) => shares.clone(),
            (None, 0) => vec![1.0 / tokens as f32; tokens],
            (None, _) => (0..tokens).map(|token| f32::from(token == 0)).collect(),
        };
        // A row vector through the layers from the last to the first.
        for map in self.layers.iter().rev() {
            // What came in after this layer is of no cell.
            let tokens = map.tokens();
            let later = looks.len() - tokens;
            looks.drain(..later);
            let mut before: Vec<f32> = looks.iter().map(|look| 0.5 * look).collect();
            for head in 0..map.heads {
                for (query, look) in looks.iter().enumerate() {
                    let row = &map.values[(head * tokens + query) * tokens..][..tokens];
                    let weight = 0.5 * look / map.heads as f32;
                    for (sum, value) in before.iter_mut().zip(row) {
                        *sum += weight * value;
                    }
                }
            }
            looks = before;
        }
        Some(looks.split_off(first.before))
    }
}

/// A class token's probabilities of the other tokens, `[head, token]`, as those of all tokens of all: the others
/// keep to themselves.
fn of_class(values: &[f32], tokens: usize) -> Vec<f32> {
    let mut all = vec![];
    for values in values.chunks_exact(tokens) {
        all.push(0.0);
        all.extend(values);
        for token in 1..=tokens {
            all.extend((0..=tokens).map(|other| f32::from(other == token)));
        }
    }
    all
}

/// Looks at one image as the model takes it, normalised: `[row, column, channel]`.
pub fn look(model: &Model, image: &[f32], shape: [usize; 3], device: &Device) -> Look {
    let [height, width, channels] = shape;
    let data = TensorData::new(image.to_vec(), [1, height, width, channels]);
    let mut context = Context::inference().traced();
    let logits = model.forward(Tensor::from_data(data, device), &mut context);
    let mut trace = context.into_trace();
    let layers = model.attentions().into_iter().map(|(path, attention)| {
        let values = trace.remove(&format!("{path}.probabilities"));
        let values = values.expect("a traced attention keeps its probabilities");
        let [_, rows, tokens] = values.dims();
        let values = Array::of(values).values;
        let (tokens, values) = match attention.of_class {
            true => (1 + tokens, of_class(&values, tokens)),
            false => (tokens, values),
        };
        // All tokens of the grid, or one in front of them.
        let side = tokens.isqrt();
        AttentionMap {
            path: path.to_owned(),
            heads: match attention.of_class {
                true => rows,
                false => rows / tokens,
            },
            grid: [side, side],
            before: tokens - side * side,
            of_class: attention.of_class,
            borders: attention
                .windows
                .map_or(vec![], |windows| windows.borders()),
            sharpness: attention.sharpness,
            values,
        }
    });
    Look {
        logits: Array::of(logits).values,
        layers: layers.collect(),
        shares: trace
            .remove("pooling.shares")
            .map(|shares| Array::of(shares).values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{CaitConfig, ModelConfig, Pool, SwinConfig, VitConfig};

    fn seen(pool: Pool, lsa: bool) -> Look {
        let config = ModelConfig {
            spt: true,
            lsa,
            arch: VitConfig {
                image_size: 8,
                patch_size: 4,
                dim: 8,
                depth: 2,
                heads: 2,
                key_dim: 4,
                mlp_width: 8,
                pool,
                head: vec![],
                ..VitConfig::default()
            }
            .into(),
        };
        seen_by(&config)
    }

    fn seen_by(config: &ModelConfig) -> Look {
        config.check().unwrap();
        let model = Model::new(config, 3, 5, 1, &Device::flex());
        let image: Vec<f32> = (0..8 * 8 * 3).map(|i| (i % 7) as f32 - 3.0).collect();
        look(&model, &image, [8, 8, 3], &Device::flex())
    }

    #[test]
    fn every_query_pays_one_whole_and_with_lsa_nothing_to_itself() {
        for (pool, lsa, before) in [(Pool::Class, false, 1), (Pool::Flatten, true, 0)] {
            let look = seen(pool, lsa);
            assert_eq!((look.layers.len(), look.logits.len()), (2, 5));
            for (number, map) in look.layers.iter().enumerate() {
                assert_eq!(map.path, format!("blocks.{number}.attention"));
                assert_eq!((map.grid, map.before, map.heads), ([2, 2], before, 2));
                let tokens = 4 + before;
                for (row, values) in map.values.chunks_exact(tokens).enumerate() {
                    assert!((values.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                    assert_eq!(values[row % tokens] == 0.0, lsa);
                }
                // At first a learned temperature is the plain one.
                let plain = map
                    .sharpness
                    .as_deref()
                    .is_none_or(|of| of.iter().all(|s| (s - 1.0).abs() < 1e-6));
                assert!(plain && map.sharpness.is_some() == lsa);
            }
            let rollout = look.rollout().unwrap();
            assert_eq!(rollout.len(), 4);
            let sum: f32 = rollout.iter().sum();
            // What is left is the class token's own.
            assert!(if before == 0 {
                (sum - 1.0).abs() < 1e-5
            } else {
                sum < 1.0 && sum > 0.3
            });
        }
    }

    #[test]
    fn in_windows_tokens_look_at_none_beyond_their_borders() {
        let swin = SwinConfig {
            image_size: 8,
            patch_size: 2,
            dims: vec![8],
            depths: vec![2],
            heads: vec![2],
            window: 2,
            ..SwinConfig::default()
        };
        for lsa in [false, true] {
            let arch = swin.clone().into();
            let config = ModelConfig {
                spt: true,
                lsa,
                arch,
            };
            let look = seen_by(&config);
            for (map, borders) in look.layers.iter().zip([vec![2], vec![1, 3]]) {
                assert_eq!((map.grid, map.before), ([4, 4], 0));
                assert_eq!(map.borders, borders);
                // Which window a row or a column lies in.
                let part = |at: usize| borders.iter().filter(|&&border| border <= at).count();
                let window = |token: usize| (part(token / 4), part(token % 4));
                for token in 0..16 {
                    let paid = map.from(None, token);
                    assert!((paid.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                    let same = |other: &usize| window(*other) == window(token);
                    let alone = (0..16).filter(same).count() == 1;
                    for (other, paid) in paid.into_iter().enumerate() {
                        // A token that has a region to itself and may not look at itself looks at others. (Else
                        // e⁻¹⁰⁰ may be left of another region.)
                        let expected = same(&other) && !(lsa && other == token);
                        assert!(
                            (paid > 1e-9) == expected || (alone && lsa),
                            "{token} {other}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn of_class_attention_the_class_tokens_is_shown() {
        let cait = CaitConfig {
            image_size: 8,
            patch_size: 4,
            dim: 8,
            depth: 1,
            class_depth: 1,
            heads: 2,
            key_dim: 4,
            mlp_width: 8,
            ..CaitConfig::default()
        };
        let config = ModelConfig {
            spt: false,
            lsa: true,
            arch: cait.into(),
        };
        let look = seen_by(&config);
        let [patches, class] = &look.layers[..] else {
            panic!("{:?}", look.layers)
        };
        assert_eq!((patches.before, patches.of_class), (0, false));
        assert_eq!(
            (class.before, class.of_class, class.grid),
            (1, true, [2, 2])
        );
        let received = class.received(Some(1));
        assert_eq!(received, class.values[25..][1..5]);
        assert!((received.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(received.iter().any(|share| (share - 0.25).abs() > 1e-4));
        assert!(look.rollout().is_some());
    }

    /// Two tokens, two heads, two layers.
    fn by_hand(values: [[f32; 8]; 2], shares: Option<Vec<f32>>) -> Look {
        let layers = values.map(|values| AttentionMap {
            path: String::new(),
            heads: 2,
            grid: [1, 2],
            before: 0,
            of_class: false,
            borders: vec![],
            sharpness: None,
            values: values.to_vec(),
        });
        Look {
            logits: vec![],
            layers: layers.to_vec(),
            shares,
        }
    }

    #[test]
    fn maps_and_rollout_by_hand() {
        let first = [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0];
        let second = [0.5, 0.5, 0.5, 0.5, 1.0, 0.0, 0.0, 1.0];
        let look = by_hand([first, second], Some(vec![1.0, 0.0]));
        let map = &look.layers[0];
        assert_eq!(map.from(Some(0), 0), [0.0, 1.0]);
        assert_eq!(map.from(None, 0), [0.5, 0.5]);
        assert_eq!(map.received(Some(0)), [0.5, 0.5]);
        assert_eq!(map.received(None), [0.75, 0.25]);
        // Second layer: ½ · mean [0.75, 0.25; 0.25, 0.75] + ½ · I; row 0: [0.875, 0.125].
        // First: ½ · mean [0.5, 0.5; 1, 0] + ½ · I = [0.75, 0.25; 0.5, 0.5].
        let expected = [0.875 * 0.75 + 0.125 * 0.5, 0.875 * 0.25 + 0.125 * 0.5];
        let rollout = look.rollout().unwrap();
        assert!(
            rollout
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-6)
        );
        let mut pyramid = by_hand([first, second], None);
        pyramid.layers[1].grid = [2, 1];
        assert_eq!(pyramid.rollout(), None);
    }
}
