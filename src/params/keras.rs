//! Keras's names and layouts, which this program's files of schema 1 have, too.
//!
//! Keras keeps queries, keys and values apart, and an attention kernel's heads and widths on two
//! axes: (dim, heads, key_dim) and (heads, key_dim, dim). Here the three are one matrix side by
//! side, and heads and widths one axis.

use std::collections::BTreeMap;

use super::{Array, Arrays};

/// Arrays by Keras's names → by this program's. Names that no model of Keras's has stay as they
/// are; what is missing or of a wrong shape shows when the model takes them. Arrays may be without
/// their numbers.
pub fn translate(arrays: Arrays) -> Arrays {
    let mut ours = Arrays::new();
    // By the joined array's name: queries, keys, values.
    let mut joined: BTreeMap<String, [Option<Array>; 3]> = BTreeMap::new();
    for (name, array) in arrays {
        match renamed(&name) {
            Renamed::Whole(name) => {
                let array = if name.ends_with("attention.output.kernel") {
                    merge_first(array)
                } else if name.ends_with("temperature") {
                    one_axis(array)
                } else {
                    array
                };
                ours.insert(name, array);
            }
            Renamed::Third(name, place) => {
                let array = if name.ends_with("kernel") {
                    merge_last(array)
                } else {
                    one_axis(array)
                };
                joined.entry(name).or_default()[place] = Some(array);
            }
        }
    }
    for (name, thirds) in joined {
        if let Some(array) = join(thirds) {
            ours.insert(name, array);
        }
    }
    ours
}

enum Renamed {
    Whole(String),
    /// Of queries, keys and values.
    Third(String, usize),
}

fn renamed(name: &str) -> Renamed {
    let parts: Vec<&str> = name.split('.').collect();
    let block = |part: &str| part.strip_prefix("block").map(str::to_owned);
    let dense = |part: &str| -> Option<usize> { part.strip_prefix("dense")?.parse().ok() };
    let whole = match parts[..] {
        ["patch", "layer_norm", leaf] => format!("embedding.norm.{leaf}"),
        ["patch", "projection", leaf] => format!("embedding.projection.{leaf}"),
        ["position_embedding"] => "sequence.position".into(),
        ["final_layer_norm", leaf] => format!("pooling.norm.{leaf}"),
        ["head", layer, leaf] => match dense(layer) {
            Some(number) if number > 0 => format!("head.hidden.{}.{leaf}", number - 1),
            _ => name.into(),
        },
        [first, ref rest @ ..] => match (block(first), rest) {
            (Some(block), ["attention", third @ ("query" | "key" | "value"), leaf]) => {
                let place = ["query", "key", "value"].iter().position(|t| t == third);
                let name = format!("blocks.{block}.attention.qkv.{leaf}");
                return Renamed::Third(name, place.unwrap_or_default());
            }
            (Some(block), rest) => match of_block(rest) {
                Some(rest) => format!("blocks.{block}.{rest}"),
                None => name.into(),
            },
            _ => name.into(),
        },
        [] => name.into(),
    };
    Renamed::Whole(whole)
}

fn of_block(rest: &[&str]) -> Option<String> {
    Some(match rest {
        ["layer_norm1", leaf] => format!("attention.norm.{leaf}"),
        ["layer_norm2", leaf] => format!("mlp.norm.{leaf}"),
        ["attention", "output", leaf] => format!("attention.output.{leaf}"),
        ["attention", "tau"] => "attention.temperature".into(),
        ["mlp", "dense1", leaf] => format!("mlp.hidden.{leaf}"),
        ["mlp", "dense2", leaf] => format!("mlp.output.{leaf}"),
        _ => return None,
    })
}

/// All axes but the first as one, or but the last: what belongs to heads and widths.
fn merge_last(array: Array) -> Array {
    let shape = array.shape.clone();
    match shape[..] {
        [first, ref rest @ ..] if !rest.is_empty() => array.reshaped([first, product(rest)]),
        _ => array,
    }
}

fn merge_first(array: Array) -> Array {
    let shape = array.shape.clone();
    match shape[..] {
        [ref rest @ .., last] if !rest.is_empty() => array.reshaped([product(rest), last]),
        _ => array,
    }
}

fn one_axis(array: Array) -> Array {
    let count = product(&array.shape);
    array.reshaped([count])
}

/// Axes of a strange file may have any lengths, as long as one is 0.
fn product(axes: &[usize]) -> usize {
    axes.iter()
        .fold(1, |product: usize, &axis| product.saturating_mul(axis))
}

/// Queries, keys and values side by side; nothing where one is missing or unlike the others.
fn join(thirds: [Option<Array>; 3]) -> Option<Array> {
    let [Some(query), Some(key), Some(value)] = thirds else {
        return None;
    };
    let all = [query, key, value];
    if all.iter().any(|array| array.shape != all[0].shape) {
        return None;
    }
    let width = *all[0].shape.last()?;
    let rows = all[0].values.len().checked_div(width)?;
    let mut values = vec![];
    for row in 0..rows {
        for third in &all {
            values.extend(&third.values[row * width..][..width]);
        }
    }
    let mut shape = all[0].shape.clone();
    *shape.last_mut()? = width.saturating_mul(3);
    Some(Array { shape, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(shape: &[usize], first: f32) -> Array {
        let count: usize = shape.iter().product();
        Array {
            shape: shape.to_vec(),
            values: (0..count).map(|i| first + i as f32).collect(),
        }
    }

    #[test]
    fn queries_keys_and_values_stand_side_by_side() {
        let mut keras = Arrays::new();
        for (place, third) in ["query", "key", "value"].iter().enumerate() {
            let first = 100.0 * place as f32;
            let name = format!("block7.attention.{third}");
            keras.insert(format!("{name}.kernel"), array(&[2, 2, 3], first));
            keras.insert(format!("{name}.bias"), array(&[2, 3], first));
        }
        keras.insert(
            "block7.attention.output.kernel".into(),
            array(&[2, 3, 4], 0.0),
        );
        keras.insert("head.dense2.bias".into(), array(&[5], 0.0));
        keras.insert("strange".into(), array(&[1], 0.0));
        let ours = translate(keras);
        let qkv = &ours["blocks.7.attention.qkv.kernel"];
        assert_eq!(qkv.shape, [2, 18]);
        assert_eq!(qkv.values[..7], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 100.0]);
        assert_eq!(qkv.values[18..20], [6.0, 7.0]);
        let bias = &ours["blocks.7.attention.qkv.bias"];
        assert_eq!((&bias.shape[..], bias.values[12]), (&[18][..], 200.0));
        assert_eq!(ours["blocks.7.attention.output.kernel"].shape, [6, 4]);
        assert!(ours.contains_key("head.hidden.1.bias") && ours.contains_key("strange"));
        assert_eq!(ours.len(), 5);
    }

    #[test]
    fn a_third_without_the_others_is_left_out() {
        let keras = [("block0.attention.query.bias".to_owned(), array(&[4], 0.0))];
        assert!(translate(keras.into()).is_empty());
    }
}
