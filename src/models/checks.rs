//! What sizes of a model are refused for, of whatever family: each names the field (`model.dim`) and the remedy.

use crate::error::{Error, Result};
use crate::strict::OFF;

/// The largest image that goes into a model, in pixels a side.
pub const LARGEST_IMAGE: usize = 4096;

/// The most numbers in a token, or in a head's query.
pub const WIDEST_TOKEN: usize = 1 << 16;

/// The widest dense layer that is built.
pub const WIDEST_LAYER: usize = 1 << 20;

/// The most blocks in a row, and the most heads in one.
pub const MOST_BLOCKS: usize = 1024;

/// The widest hidden layer of an MLP, as a multiple of its tokens'.
pub const WIDEST_MLP: usize = 64;

/// Scores an image in one layer, of all heads: 2²⁸ are 1 GB.
const MOST_SCORES: u128 = 1 << 28;

/// The most stages.
const MOST_STAGES: usize = 8;

/// Refuses a value of a model's field.
pub fn refuse(field: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Result<()> {
    let field = format!("model.{field}");
    Err(Error::recipe(field, problem.into(), remedy.into()))
}

/// Refuses sizes that are 0 or more than the most.
pub fn sizes(fields: &[(&str, usize, usize)]) -> Result<()> {
    match fields
        .iter()
        .find(|(_, value, most)| !(1..=*most).contains(value))
    {
        Some((field, value, most)) => refuse(
            field,
            format!("{value} is out of range"),
            format!("choose 1 to {most}"),
        ),
        None => Ok(()),
    }
}

/// Refuses stages whose fields differ in length, the first of them `dims`, or have a value that is less than the
/// least or more than the most.
pub fn stages<const N: usize>(fields: [(&str, &[usize], usize, usize); N]) -> Result<()> {
    let stages = fields[0].1.len();
    let all = fields.map(|(field, ..)| field);
    for (field, values, least, most) in fields {
        if values.len() != stages || !(1..=MOST_STAGES).contains(&stages) {
            let [others @ .., last] = &all[..] else {
                unreachable!("there are dims")
            };
            let others = others.join(", ");
            return refuse(
                field,
                format!("{} values for {stages} stages", values.len()),
                format!("give {others} and {last} one value a stage, 1 to {MOST_STAGES} stages"),
            );
        }
        if let Some(value) = values.iter().find(|value| !(least..=most).contains(*value)) {
            return refuse(
                field,
                format!("{value} is out of range"),
                format!("choose {least} to {most} for each stage"),
            );
        }
    }
    Ok(())
}

/// Refuses patches that are too small to be shifted.
pub fn shifts(spt: bool, field: &str, patch: usize) -> Result<()> {
    match spt && patch < 2 {
        true => refuse(
            field,
            "Shifted Patch Tokenization shifts by half a patch, and a patch is one pixel",
            "choose 2 or more, or model.spt = false",
        ),
        false => Ok(()),
    }
}

/// Refuses images that patches which do not overlap leave a rest of.
pub fn patches(image: usize, patch: usize) -> Result<()> {
    let near = image / patch * patch;
    match image.is_multiple_of(patch) {
        true => Ok(()),
        false => refuse(
            "patch_size",
            format!(
                "an image of {image} × {image} pixels cannot be cut into patches of {patch} × {patch}"
            ),
            format!(
                "choose a patch size that divides {image}, or model.image_size = {near} or {}",
                near + patch
            ),
        ),
    }
}

/// Refuses images whose patches' grid cannot be halved from each stage to the next.
pub fn pyramid(image: usize, patch: usize, stages: usize) -> Result<()> {
    let whole = patch << (stages - 1);
    let near = (image / whole).max(1) * whole;
    match image.is_multiple_of(whole) {
        true => Ok(()),
        false => refuse(
            "image_size",
            format!(
                "{image} × {image} pixels cannot be cut into patches of {patch} of which four become one {} times",
                stages - 1
            ),
            format!(
                "choose a multiple of {whole}, such as {near}, smaller patches, or fewer stages"
            ),
        ),
    }
}

/// Refuses attention that would not fit into memory: `heads` heads, in which `queries` tokens each attend to
/// `keys`.
pub fn scores(field: &str, heads: usize, queries: usize, keys: usize, remedy: &str) -> Result<()> {
    let scores = heads as u128 * queries as u128 * keys as u128;
    match scores > MOST_SCORES {
        true => refuse(
            field,
            format!(
                "{queries} tokens that each attend to {keys} in {heads} heads are {scores} scores an image"
            ),
            format!("{remedy}: {MOST_SCORES} is the most"),
        ),
        false => Ok(()),
    }
}

/// Refuses rates of dropout and stochastic depth, first values of LayerScale, and ε's that cannot be.
pub fn rates(
    [dropout, head_dropout, stochastic_depth]: [f64; 3],
    layer_scale: Option<f64>,
    layer_norm_epsilon: f64,
) -> Result<()> {
    for (field, rate, what) in [
        ("dropout", dropout, "no dropout rate"),
        ("head_dropout", head_dropout, "no dropout rate"),
        (
            "stochastic_depth",
            stochastic_depth,
            "no probability for leaving out a residual",
        ),
    ] {
        // Rates are met to 1 / 65,536; above this, next to nothing would be left.
        if !(0.0..=0.999).contains(&rate) {
            return refuse(
                field,
                format!("{rate} is {what}"),
                "choose 0 (off) or more, and less than 1 (0.999 is the most)",
            );
        }
    }
    if let Some(scale) = layer_scale
        && !(scale > 0.0 && scale <= 1.0)
    {
        return refuse(
            "layer_scale",
            format!("{scale} is out of range"),
            format!("choose more than 0 and at most 1, such as 1e-4, or \"{OFF}\""),
        );
    }
    if !(1e-12..1.0).contains(&layer_norm_epsilon) {
        return refuse(
            "layer_norm_epsilon",
            format!("{layer_norm_epsilon} is out of range"),
            "choose a small positive number, such as 1e-6",
        );
    }
    Ok(())
}

/// For tests: a change of a family's default sizes, the field that is named when it is refused, and words of the
/// remedy.
#[cfg(test)]
pub type Refused<C> = (fn(&mut C), &'static str, &'static str);

/// For tests: holds a family's sizes to that.
#[cfg(test)]
pub fn assert_refused<C: super::FamilyConfig>(changes: &[Refused<C>]) {
    assert!(C::default().check(true, true).is_ok());
    assert!(C::example().check(true, true).is_ok());
    for (change, field, remedy) in changes {
        let mut config = C::default();
        change(&mut config);
        let error = config.check(true, true).unwrap_err();
        let problem = error.to_string();
        let named = format!("model.{field}: ");
        assert!(problem.starts_with(&named), "{problem}");
        let found = error.remedy();
        assert!(found.contains(remedy), "{problem}: {found}");
    }
}
