//! The names and layouts of the paper's code (arXiv 2112.13492), which is written in PyTorch.
//!
//! Its linear layers are (out, in), here they are (in, out). Its Shifted Patch Tokenization joins
//! the image with its shifts right-down, left-down, right-up and left-up, here the order is
//! left-up, left-down, right-up, right-down (Keras's): the first and the last change places in all
//! that runs over a patch's numbers.

use super::{Array, Arrays};

/// Versions of a shifted patch: itself and its shifts.
const VERSIONS: usize = 5;

/// A ViT's arrays by the paper's code's names → by this program's; `channels` are an image's.
/// Names that its ViT does not have stay as they are, and show when the model takes them.
pub fn vit(arrays: Arrays, channels: usize) -> Arrays {
    let one = |(name, array): (String, Array)| match renamed(&name) {
        Some((name, layout)) => (name, layout.of(array, channels)),
        None => (name, array),
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
    /// (out, in).
    Linear,
    /// Over a patch's numbers.
    Patch,
    /// (out, patch's numbers).
    PatchLinear,
}

impl Layout {
    fn of(self, array: Array, channels: usize) -> Array {
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
            (Self::Patch, [_]) => reordered(array, channels),
            (Self::PatchLinear, [_, _]) => reordered(transposed(array), channels),
            _ => array,
        }
    }
}

fn renamed(name: &str) -> Option<(String, Layout)> {
    use Layout::*;
    let parts: Vec<&str> = name.split('.').collect();
    let norm = |leaf: &str| match leaf {
        "weight" => Some("gamma"),
        "bias" => Some("beta"),
        _ => None,
    };
    let linear = |leaf: &str, kernel: Layout| match leaf {
        "weight" => Some(("kernel", kernel)),
        "bias" => Some(("bias", Same)),
        _ => None,
    };
    Some(match parts[..] {
        ["cls_token"] => ("sequence.class_token".into(), Flat),
        ["pos_embedding"] => ("sequence.position".into(), Unbatched),
        ["to_patch_embedding", "1", leaf] => {
            let (leaf, layout) = linear(leaf, Linear)?;
            (format!("embedding.projection.{leaf}"), layout)
        }
        ["to_patch_embedding", "merging", "1", leaf] => {
            (format!("embedding.norm.{}", norm(leaf)?), Patch)
        }
        ["to_patch_embedding", "merging", "2", leaf] => {
            let (leaf, layout) = linear(leaf, PatchLinear)?;
            (format!("embedding.projection.{leaf}"), layout)
        }
        ["transformer", "layers", block, ref rest @ ..] => {
            let (rest, layout) = match rest {
                ["0", "norm", leaf] => (format!("attention.norm.{}", norm(leaf)?), Same),
                ["1", "norm", leaf] => (format!("mlp.norm.{}", norm(leaf)?), Same),
                ["0", "fn", "scale"] => ("attention.temperature".into(), Flat),
                ["0", "fn", "to_qkv", leaf] => {
                    let (leaf, layout) = linear(leaf, Linear)?;
                    (format!("attention.qkv.{leaf}"), layout)
                }
                ["0", "fn", "to_out", "0", leaf] => {
                    let (leaf, layout) = linear(leaf, Linear)?;
                    (format!("attention.output.{leaf}"), layout)
                }
                ["1", "fn", "net", layer @ ("0" | "3"), leaf] => {
                    let layer = if *layer == "0" { "hidden" } else { "output" };
                    let (leaf, layout) = linear(leaf, Linear)?;
                    (format!("mlp.{layer}.{leaf}"), layout)
                }
                _ => return None,
            };
            (format!("blocks.{block}.{rest}"), layout)
        }
        ["mlp_head", "0", leaf] => (format!("pooling.norm.{}", norm(leaf)?), Same),
        ["mlp_head", "1", leaf] => {
            let (leaf, layout) = linear(leaf, Linear)?;
            (format!("head.logits.{leaf}"), layout)
        }
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

/// The first axis, (row, column, version, channel) of a patch, with the versions in this program's
/// order.
fn reordered(array: Array, channels: usize) -> Array {
    let width: usize = array.shape[1..].iter().product();
    let versions = VERSIONS * channels;
    if !array.shape[0].is_multiple_of(versions) {
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
        let ours = vit(theirs, 1);
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
}
