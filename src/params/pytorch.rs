//! The names and layouts of the paper's code (arXiv 2112.13492), which is written in PyTorch.
//!
//! Its linear layers are (out, in), here they are (in, out). Its Shifted Patch Tokenization joins
//! the image with its shifts right-down, left-down, right-up and left-up, here the order is
//! left-up, left-down, right-up, right-down (Keras's): the first and the last change places in all
//! that runs over a patch's numbers.

use super::{Array, Arrays};
use crate::models::Family;

/// Versions of a shifted patch: itself and its shifts.
const VERSIONS: usize = 5;

/// A model's arrays by the names of the paper's code → by this program's; `channels` are an image's. Names
/// that its models of the family do not have stay as they are, and show when the model takes them.
pub fn translate(family: Family, arrays: Arrays, channels: usize) -> Arrays {
    let rename = match family {
        Family::T2t => t2t,
        Family::Cait => cait,
        Family::Pit => pit,
        Family::Swin => swin,
        Family::Vit | Family::Hybrid => vit,
    };
    let one = |(name, array): (String, Array)| {
        let parts: Vec<&str> = name.split('.').collect();
        match rename(&parts) {
            Some((name, layout)) => (name, layout.of(array, channels)),
            None => (name, array),
        }
    };
    arrays.into_iter().map(one).collect()
}

/// How an array lies.
#[derive(Clone, Copy)]
enum Layout {
    /// As here.
    Same,
    /// The first axis, of length 1, is a batch's.
    Unbatched,
    /// One axis, whatever there were.
    Flat,
    /// (out, in), or another matrix on its side.
    Linear,
    /// (out, channel, row, column).
    Convolution,
    /// (out, 1, row, column).
    Depthwise,
    /// Over the numbers of an image's patch with its shifts.
    Patch,
    /// (out, the same).
    PatchLinear,
    /// Over the numbers of four tokens with their shifts.
    Merge,
    /// (out, the same).
    MergeLinear,
    /// Over the numbers of an overlapping patch of 3 × 3, channel by channel.
    Unfolded,
    /// (out, the same).
    UnfoldedLinear,
    /// Over those of an image's, perhaps with its shifts.
    UnfoldedImage,
    /// (out, the same).
    UnfoldedImageLinear,
    /// Over the numbers of four tokens, column by column.
    Four,
    /// (out, the same).
    FourLinear,
}

impl Layout {
    fn of(self, array: Array, channels: usize) -> Array {
        // Four tokens, five versions of each.
        let merged = |array: &Array| array.shape[0] / (4 * VERSIONS);
        match (self, &array.shape[..]) {
            (Self::Unbatched, [1, rest @ ..]) => {
                let rest = rest.to_vec();
                array.reshaped(rest)
            }
            (Self::Flat, _) => {
                let count = array.values.len();
                array.reshaped([count])
            }
            (Self::Linear, [_, _]) => transposed(array),
            (Self::Convolution, &[out, channels, rows, columns]) => {
                let cells = rows * columns;
                // (out, (channel, cell)) → (out, (cell, channel)).
                let place = |i: usize| {
                    let (row, rest) = (i / (cells * channels), i % (cells * channels));
                    (row * channels + rest % channels) * cells + rest / channels
                };
                let values = (0..array.values.len()).map(|i| array.values[place(i)]);
                transposed(Array {
                    shape: vec![out, channels * cells],
                    values: values.collect(),
                })
            }
            (Self::Depthwise, &[out, 1, rows, columns]) => {
                transposed(array.reshaped([out, rows * columns]))
            }
            (Self::Patch, [_]) => reordered(array, channels),
            (Self::PatchLinear, [_, _]) => reordered(transposed(array), channels),
            (Self::Merge, [_]) => {
                let channels = merged(&array);
                reordered(array, channels)
            }
            (Self::MergeLinear, [_, _]) => {
                let array = transposed(array);
                let channels = merged(&array);
                reordered(array, channels)
            }
            (Self::Unfolded, [_]) => channels_last(array),
            (Self::UnfoldedLinear, [_, _]) => channels_last(transposed(array)),
            (Self::UnfoldedImage, [_]) => versions_in_order(channels_last(array), channels),
            (Self::UnfoldedImageLinear, [_, _]) => {
                versions_in_order(channels_last(transposed(array)), channels)
            }
            (Self::Four, [_]) => by_rows(array),
            (Self::FourLinear, [_, _]) => by_rows(transposed(array)),
            _ => array,
        }
    }
}

/// A layer normalisation's parameter.
fn norm(leaf: &str) -> Option<&'static str> {
    match leaf {
        "weight" => Some("gamma"),
        "bias" => Some("beta"),
        _ => None,
    }
}

/// A linear layer's parameter, whose weight lies so.
fn linear(leaf: &str, weight: Layout) -> Option<(&'static str, Layout)> {
    match leaf {
        "weight" => Some(("kernel", weight)),
        "bias" => Some(("bias", Layout::Same)),
        _ => None,
    }
}

/// A parameter of layer `name` with its leaf and layout.
fn of_linear(name: &str, leaf: &str, weight: Layout) -> Option<(String, Layout)> {
    let (leaf, layout) = linear(leaf, weight)?;
    Some((format!("{name}.{leaf}"), layout))
}

fn vit(parts: &[&str]) -> Option<(String, Layout)> {
    use Layout::*;
    Some(match parts {
        ["cls_token"] => ("sequence.class_token".into(), Flat),
        ["pos_embedding"] => ("sequence.position".into(), Unbatched),
        ["to_patch_embedding", "1", leaf] => of_linear("embedding.projection", leaf, Linear)?,
        ["to_patch_embedding", "merging", "1", leaf] => {
            (format!("embedding.norm.{}", norm(leaf)?), Patch)
        }
        ["to_patch_embedding", "merging", "2", leaf] => {
            of_linear("embedding.projection", leaf, PatchLinear)?
        }
        ["transformer", "layers", block, rest @ ..] => {
            let (rest, layout) = pre_norm(rest)?;
            (format!("blocks.{block}.{rest}"), layout)
        }
        ["mlp_head", "0", leaf] => (format!("pooling.norm.{}", norm(leaf)?), Same),
        ["mlp_head", "1", leaf] => of_linear("head.logits", leaf, Linear)?,
        _ => return None,
    })
}

/// A block of its ViT.
fn pre_norm(parts: &[&str]) -> Option<(String, Layout)> {
    use Layout::*;
    Some(match parts {
        ["0", "norm", leaf] => (format!("attention.norm.{}", norm(leaf)?), Same),
        ["1", "norm", leaf] => (format!("mlp.norm.{}", norm(leaf)?), Same),
        ["0", "fn", "scale"] => ("attention.temperature".into(), Flat),
        ["0", "fn", "to_qkv", leaf] => of_linear("attention.qkv", leaf, Linear)?,
        ["0", "fn", "to_out", "0", leaf] => of_linear("attention.output", leaf, Linear)?,
        ["1", "fn", "net", "0", leaf] => of_linear("mlp.hidden", leaf, Linear)?,
        ["1", "fn", "net", "3", leaf] => of_linear("mlp.output", leaf, Linear)?,
        _ => return None,
    })
}

fn t2t(parts: &[&str]) -> Option<(String, Layout)> {
    use Layout::*;
    Some(match parts {
        ["tokens_to_token", "project", leaf] => {
            of_linear("embedding.projection", leaf, UnfoldedLinear)?
        }
        ["tokens_to_token", attention, rest @ ..] => {
            let number: usize = attention.strip_prefix("attention")?.parse().ok()?;
            let split = number.checked_sub(1)?;
            let (vector, matrix) = match split {
                0 => (UnfoldedImage, UnfoldedImageLinear),
                _ => (Unfolded, UnfoldedLinear),
            };
            let (rest, layout) = match rest {
                ["norm1", leaf] => (format!("attention.norm.{}", norm(leaf)?), vector),
                ["attn", "qkv", leaf] => of_linear("attention.qkv", leaf, matrix)?,
                _ => timm(rest)?,
            };
            (format!("splits.{split}.{rest}"), layout)
        }
        ["cls_token"] => ("sequence.class_token".into(), Flat),
        ["blocks", block, rest @ ..] => {
            let (rest, layout) = timm(rest)?;
            (format!("blocks.{block}.{rest}"), layout)
        }
        ["norm", leaf] => (format!("pooling.norm.{}", norm(leaf)?), Same),
        ["head", leaf] => of_linear("head.logits", leaf, Linear)?,
        _ => return None,
    })
}

fn cait(parts: &[&str]) -> Option<(String, Layout)> {
    use Layout::*;
    Some(match parts {
        ["cls_token"] => ("class_token.class_token".into(), Flat),
        ["to_patch_embedding", "0", rest @ ..] => {
            return vit(&[&["to_patch_embedding"], rest].concat());
        }
        [
            stack @ ("patch_transformer" | "cls_transformer"),
            "layers",
            block,
            rest @ ..,
        ] => {
            let stack = match *stack {
                "patch_transformer" => "blocks",
                _ => "class_blocks",
            };
            let (rest, layout) = match rest {
                ["0", "scale"] => ("attention.layer_scale".into(), Flat),
                ["1", "scale"] => ("mlp.layer_scale".into(), Flat),
                ["0", "fn", "norm", leaf] => (format!("attention.norm.{}", norm(leaf)?), Same),
                ["1", "fn", "norm", leaf] => (format!("mlp.norm.{}", norm(leaf)?), Same),
                ["0", "fn", "fn", "scale"] => ("attention.temperature".into(), Flat),
                ["0", "fn", "fn", "mix_heads_pre_attn"] => ("attention.mix_before".into(), Same),
                ["0", "fn", "fn", "mix_heads_post_attn"] => ("attention.mix_after".into(), Same),
                ["0", "fn", "fn", "to_q", leaf] => of_linear("attention.query", leaf, Linear)?,
                ["0", "fn", "fn", "to_kv", leaf] => of_linear("attention.key_value", leaf, Linear)?,
                ["0", "fn", "fn", "to_out", "0", leaf] => {
                    of_linear("attention.output", leaf, Linear)?
                }
                ["1", "fn", "fn", "net", "0", leaf] => of_linear("mlp.hidden", leaf, Linear)?,
                ["1", "fn", "fn", "net", "3", leaf] => of_linear("mlp.output", leaf, Linear)?,
                _ => return None,
            };
            (format!("{stack}.{block}.{rest}"), layout)
        }
        _ => return vit(parts),
    })
}

fn pit(parts: &[&str]) -> Option<(String, Layout)> {
    use Layout::*;
    Some(match parts {
        ["to_patch_embedding", "0", leaf] => of_linear("embedding.projection", leaf, Convolution)?,
        // Blocks and what is between them are counted together.
        ["layers", number, rest @ ..] => {
            let number: usize = number.parse().ok()?;
            let stage = format!("stages.{}", number.div_ceil(2));
            let (rest, layout) = match rest {
                ["layers", block, rest @ ..] if number.is_multiple_of(2) => {
                    let (rest, layout) = pre_norm(rest)?;
                    (format!("blocks.{block}.{rest}"), layout)
                }
                ["downsample", "net", "0", leaf] => of_linear("downsample.taps", leaf, Depthwise)?,
                ["downsample", "net", "1", leaf] => {
                    of_linear("downsample.projection", leaf, Convolution)?
                }
                ["cls_ff", leaf] => of_linear("downsample.class", leaf, Linear)?,
                ["merging", "1", leaf] => (format!("merge.norm.{}", norm(leaf)?), Merge),
                ["merging", "2", leaf] => of_linear("merge.projection", leaf, MergeLinear)?,
                ["class_linear", leaf] => of_linear("merge.class", leaf, Linear)?,
                _ => return None,
            };
            (format!("{stage}.{rest}"), layout)
        }
        _ => return vit(parts),
    })
}

fn swin(parts: &[&str]) -> Option<(String, Layout)> {
    use Layout::*;
    Some(match parts {
        ["patch_embed", "proj", leaf] => of_linear("embedding.projection", leaf, Convolution)?,
        ["patch_embed", "norm", leaf] => (format!("norm.{}", norm(leaf)?), Same),
        ["patch_embed", "merging", "1", leaf] => (format!("embedding.norm.{}", norm(leaf)?), Patch),
        ["patch_embed", "merging", "2", leaf] => {
            of_linear("embedding.projection", leaf, PatchLinear)?
        }
        ["absolute_pos_embed"] => ("sequence.position".into(), Unbatched),
        ["layers", stage, "blocks", block, rest @ ..] => {
            let (rest, layout) = timm(rest)?;
            (format!("stages.{stage}.blocks.{block}.{rest}"), layout)
        }
        // What stands at the end of a stage there begins the next one here.
        ["layers", stage, "downsample", rest @ ..] => {
            let merge = format!("stages.{}.merge", stage.parse::<usize>().ok()? + 1);
            match rest {
                ["norm", leaf] => (format!("{merge}.norm.{}", norm(leaf)?), Four),
                ["reduction", leaf] => of_linear(&format!("{merge}.projection"), leaf, FourLinear)?,
                ["merging", "1", leaf] => (format!("{merge}.norm.{}", norm(leaf)?), Merge),
                ["merging", "2", leaf] => {
                    of_linear(&format!("{merge}.projection"), leaf, MergeLinear)?
                }
                _ => return None,
            }
        }
        ["norm", leaf] => (format!("pooling.norm.{}", norm(leaf)?), Same),
        ["head", leaf] => of_linear("head.logits", leaf, Linear)?,
        _ => return None,
    })
}

/// A block by the names of timm, which its Swin and T2T have.
fn timm(parts: &[&str]) -> Option<(String, Layout)> {
    use Layout::*;
    Some(match parts {
        ["norm1", leaf] => (format!("attention.norm.{}", norm(leaf)?), Same),
        ["norm2", leaf] => (format!("mlp.norm.{}", norm(leaf)?), Same),
        ["attn", "qkv", leaf] => of_linear("attention.qkv", leaf, Linear)?,
        ["attn", "proj", leaf] => of_linear("attention.output", leaf, Linear)?,
        ["attn", "scale"] => ("attention.temperature".into(), Flat),
        ["attn", "relative_position_bias_table"] => ("attention.relative_position".into(), Linear),
        ["mlp", "fc1", leaf] => of_linear("mlp.hidden", leaf, Linear)?,
        ["mlp", "fc2", leaf] => of_linear("mlp.output", leaf, Linear)?,
        _ => return None,
    })
}

/// `[rows, columns]` → `[columns, rows]`.
fn transposed(array: Array) -> Array {
    let [rows, columns] = array.shape[..] else {
        return array;
    };
    if array.values.is_empty() {
        return array.reshaped([columns, rows]);
    }
    let column = |c: usize| (0..rows).map(move |r| r * columns + c);
    let places = (0..columns).flat_map(column);
    Array {
        shape: vec![columns, rows],
        values: places.map(|place| array.values[place]).collect(),
    }
}

/// The first axis, (channel, cell) of a patch of 3 × 3, as (cell, channel).
fn channels_last(array: Array) -> Array {
    const CELLS: usize = 9;
    let width: usize = array.shape[1..].iter().product();
    if !array.shape[0].is_multiple_of(CELLS) {
        return array;
    }
    let channels = array.shape[0] / CELLS;
    let from = |row: usize| row % channels * CELLS + row / channels;
    let rows = (0..array.shape[0]).map(|row| &array.values[from(row) * width..][..width]);
    Array {
        shape: array.shape.clone(),
        values: rows.flatten().copied().collect(),
    }
}

/// What an overlapping patch of an image is over, with its versions, if it has any, in this program's order.
fn versions_in_order(array: Array, channels: usize) -> Array {
    match array.shape[0] == 9 * VERSIONS * channels {
        true => reordered(array, channels),
        false => array,
    }
}

/// The first axis, four tokens column by column, with them row by row.
fn by_rows(array: Array) -> Array {
    let quarter = array.values.len() / 4;
    if !array.shape[0].is_multiple_of(4) {
        return array;
    }
    let parts = [0, 2, 1, 3].map(|part| &array.values[part * quarter..][..quarter]);
    Array {
        values: parts.concat(),
        ..array
    }
}

/// The first axis, (row, column, version, channel) of a patch, with the versions in this program's
/// order.
fn reordered(array: Array, channels: usize) -> Array {
    let width: usize = array.shape[1..].iter().product();
    let versions = VERSIONS * channels;
    if versions == 0 || !array.shape[0].is_multiple_of(versions) {
        return array;
    }
    let from = |row: usize| {
        let (pixel, version, channel) = (row / versions, row % versions / channels, row % channels);
        // Left-up and right-down change places.
        let version = match version {
            1 => 4,
            4 => 1,
            other => other,
        };
        (pixel * VERSIONS + version) * channels + channel
    };
    let rows = (0..array.shape[0]).map(|row| &array.values[from(row) * width..][..width]);
    Array {
        shape: array.shape.clone(),
        values: rows.flatten().copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_become_this_programs() {
        // Two pixels of one channel, five versions each, on the way to one number.
        let array = |shape: &[usize], count: usize| Array {
            shape: shape.to_vec(),
            values: (0..count).map(|i| i as f32).collect(),
        };
        let theirs = Arrays::from([
            (
                "to_patch_embedding.merging.2.weight".into(),
                array(&[1, 10], 10),
            ),
            ("mlp_head.1.weight".into(), array(&[2, 3], 6)),
            ("pos_embedding".into(), array(&[1, 2, 2], 4)),
            (
                "transformer.layers.3.1.fn.net.3.bias".into(),
                array(&[2], 2),
            ),
            ("unknown".into(), array(&[1], 1)),
        ]);
        let ours = translate(Family::Vit, theirs, 1);
        let kernel = &ours["embedding.projection.kernel"];
        assert_eq!(kernel.shape, [10, 1]);
        let order = [0.0, 4.0, 2.0, 3.0, 1.0, 5.0, 9.0, 7.0, 8.0, 6.0];
        assert_eq!(kernel.values, order);
        let logits = &ours["head.logits.kernel"];
        assert_eq!(logits.shape, [3, 2]);
        assert_eq!(logits.values, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(ours["sequence.position"].shape, [2, 2]);
        assert!(ours.contains_key("blocks.3.mlp.output.bias") && ours.contains_key("unknown"));
    }

    #[test]
    fn convolutions_and_merges_become_this_programs() {
        let array = |shape: &[usize]| Array {
            shape: shape.to_vec(),
            values: (0..shape.iter().product()).map(|i| i as f32).collect(),
        };
        let theirs = Arrays::from([
            // One number of two channels, a row and two columns.
            ("patch_embed.proj.weight".into(), array(&[1, 2, 1, 2])),
            ("layers.0.downsample.norm.weight".into(), array(&[8])),
            (
                "layers.0.downsample.reduction.weight".into(),
                array(&[1, 4]),
            ),
            ("layers.1.downsample.merging.1.bias".into(), array(&[20])),
        ]);
        let ours = translate(Family::Swin, theirs, 2);
        let convolution = &ours["embedding.projection.kernel"];
        assert_eq!(convolution.shape, [4, 1]);
        assert_eq!(convolution.values, [0.0, 2.0, 1.0, 3.0]);
        let gamma = &ours["stages.1.merge.norm.gamma"].values;
        assert_eq!(*gamma, [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
        let kernel = &ours["stages.1.merge.projection.kernel"];
        assert_eq!(
            (&kernel.shape[..], &kernel.values[..]),
            (&[4, 1][..], &[0.0, 2.0, 1.0, 3.0][..])
        );
        let beta = &ours["stages.2.merge.norm.beta"].values;
        assert_eq!(beta[..7], [0.0, 4.0, 2.0, 3.0, 1.0, 5.0, 9.0]);
    }
}
