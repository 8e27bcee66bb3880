//! Groups of parameters, by patterns over their names: how much a parameter decays, and how fast it
//! learns.
//!
//! ```toml
//! [[train.groups]]
//! pattern = "sequence.position"
//! decay = 0.0
//!
//! [[train.groups]]
//! pattern = "blocks.*.attention.temperature"
//! rate = 0.1
//! ```
//!
//! In a pattern `*` stands for any characters, dots included, and `?` for one. The first group whose
//! pattern matches a parameter's name is the parameter's; to the rest the recipe's learning rate and
//! decay apply as they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::gradients::{Parameter, parameters};
use super::init::depths;
use super::optimizer::DecayOn;
use crate::error::{Error, Result};
use crate::models::{Model, ModelConfig};

/// A group of parameters; an entry of `train.groups`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRecipe {
    /// Which: a pattern over parameters' names.
    pub pattern: String,
    /// What their weight decay is multiplied by. Without it they decay as `train.decay_on` says;
    /// given, it wins over that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay: Option<f64>,
    /// What their learning rate is multiplied by, and with it a decay that scales with the rate.
    #[serde(default = "one")]
    pub rate: f64,
}

fn one() -> f64 {
    1.0
}

impl GroupRecipe {
    /// Refuses impossible values; `number` is the group's in the recipe, from 0.
    pub fn check(&self, number: usize) -> Result<()> {
        let refuse = |field: &str, problem: String, remedy: &str| {
            let field = format!("train.groups[{number}].{field}");
            Err(Error::recipe(field, problem, remedy))
        };
        if self.pattern.is_empty() {
            return refuse(
                "pattern",
                "it is empty".into(),
                "write for example \"*.bias\"",
            );
        }
        for (field, value) in [("decay", self.decay), ("rate", Some(self.rate))] {
            if let Some(value) = value
                && !(0.0..=1e6).contains(&value)
            {
                let problem = format!("{value} is out of range");
                return refuse(field, problem, "choose 0 (none) or more, and at most 1e6");
            }
        }
        Ok(())
    }
}

/// What a parameter's decay and learning rate are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Of the weight decay; 0 where it does not decay.
    pub decay: f64,
    /// Of the learning rate.
    pub rate: f64,
}

/// The scales of each of a model's parameters, by name.
pub type Scales = BTreeMap<String, Scale>;

/// The parameters that a recipe's groups may speak of: those of its model with both of the paper's
/// ideas. Their names depend neither on channels and classes nor on first values.
pub fn known(model: &ModelConfig) -> Result<Vec<Parameter>> {
    let mut config = model.clone();
    config.spt |= config.cut().patch > 1;
    config.lsa = true;
    parameters(&Model::blank(&config, 3, 2, &super::device::cpu()))
}

/// Finds each parameter's group. A pattern that would change nothing of all that are `known` to the
/// recipe, because it matches none or only those of groups before it, is refused: those of the
/// model with every idea that the recipe's could have, so that one recipe serves plain models, too.
pub fn resolve(
    groups: &[GroupRecipe],
    decay_on: DecayOn,
    parameters: &[Parameter],
    known: &[Parameter],
) -> Result<Scales> {
    let mut used = vec![false; groups.len()];
    for parameter in known {
        if let Some(number) = group_of(groups, parameter) {
            used[number] = true;
        }
    }
    if let Some(number) = used.iter().position(|used| !used) {
        return Err(useless(number, &groups[number].pattern, known));
    }
    let scale = |parameter: &Parameter| {
        let decays = decay_on == DecayOn::All || parameter.shape.len() > 1;
        let group = group_of(groups, parameter).map(|number| &groups[number]);
        let scale = Scale {
            decay: group
                .and_then(|group| group.decay)
                .unwrap_or(if decays { 1.0 } else { 0.0 }),
            rate: group.map_or(1.0, |group| group.rate),
        };
        (parameter.name.clone(), scale)
    };
    Ok(parameters.iter().map(scale).collect())
}

/// Multiplies each parameter's rate by this for every layer that lies behind it, so that what images meet
/// first learns slowest and the classifier at the whole rate: for weights that have learned already
/// (Clark and others, *ELECTRA*, arXiv 2003.10555, appendix B; Bao and others, *BEiT*, arXiv 2106.08254).
pub fn decay_by_depth(scales: &mut Scales, factor: f64) {
    if factor == 1.0 {
        return;
    }
    let depths = depths(scales.keys().map(String::as_str));
    let deepest = depths.values().copied().max().unwrap_or(0);
    for (name, scale) in scales {
        scale.rate *= factor.powi((deepest - depths[name]) as i32);
    }
}

/// The first group that a parameter matches.
fn group_of(groups: &[GroupRecipe], parameter: &Parameter) -> Option<usize> {
    groups
        .iter()
        .position(|group| matches(&group.pattern, &parameter.name))
}

/// The error for a pattern that changes nothing.
fn useless(number: usize, pattern: &str, parameters: &[Parameter]) -> Error {
    let field = format!("train.groups[{number}].pattern");
    let names = || parameters.iter().map(|parameter| parameter.name.as_str());
    if names().any(|name| matches(pattern, name)) {
        return Error::recipe(
            field,
            format!("all that `{pattern}` matches belongs to a group before it"),
            "put it before the wider pattern, or take it away",
        );
    }
    // Most alike first: each part of the pattern with the part of the name that it is most like.
    let wanted = || {
        pattern
            .split(['.', '*', '?'])
            .filter(|part| !part.is_empty())
    };
    let likeness = |name: &str| -> f64 {
        let best = |part| {
            let parts = name.split('.').map(|own| strsim::jaro_winkler(own, part));
            parts.fold(0.0, f64::max)
        };
        wanted().map(best).sum()
    };
    let mut near: Vec<&str> = names().collect();
    near.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
    near.truncate(4);
    Error::recipe(
        field,
        format!("`{pattern}` matches none of the model's parameters"),
        format!(
            "their names are such as {}; * stands for any characters, ? for one",
            near.join(", ")
        ),
    )
}

/// Whether a pattern with `*` and `?` matches the whole name.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    // Which beginnings of the name the pattern so far matches.
    let name: Vec<char> = name.chars().collect();
    let mut matched = vec![false; name.len() + 1];
    matched[0] = true;
    for wanted in pattern {
        if wanted == '*' {
            let first = matched.iter().position(|&m| m).unwrap_or(matched.len());
            matched[first..].fill(true);
        } else {
            for end in (1..=name.len()).rev() {
                let fits = wanted == '?' || wanted == name[end - 1];
                matched[end] = matched[end - 1] && fits;
            }
            matched[0] = false;
        }
    }
    matched[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_decay_slows_what_lies_before_the_classifier() {
        let names = [
            "embedding.norm.gamma",
            "blocks.0.mlp.norm.gamma",
            "head.logits.bias",
        ];
        let scale = Scale {
            decay: 1.0,
            rate: 3.0,
        };
        let mut scales: Scales = names.map(|name| (name.to_owned(), scale)).into();
        decay_by_depth(&mut scales, 0.5);
        assert_eq!(names.map(|name| scales[name].rate), [0.75, 1.5, 3.0]);
        assert!(scales.values().all(|scale| scale.decay == 1.0));
    }

    fn group(pattern: &str, decay: Option<f64>, rate: f64) -> GroupRecipe {
        GroupRecipe {
            pattern: pattern.into(),
            decay,
            rate,
        }
    }

    fn model() -> Vec<Parameter> {
        [
            ("patch.projection.kernel", vec![12, 8]),
            ("patch.projection.bias", vec![8]),
            ("position_embedding", vec![4, 8]),
            ("blocks.0.attention.temperature", vec![1]),
            ("block10.attention.tau", vec![1]),
        ]
        .into_iter()
        .map(|(name, shape)| Parameter {
            name: name.into(),
            shape,
        })
        .collect()
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "a.b", true),
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("*.b", "x.a.b", true),
            ("*.b", "b", false),
            ("blocks.?.tau", "blocks.1.tau", true),
            ("blocks.?.tau", "blocks.10.tau", false),
            ("blocks.*.tau", "blocks.10.tau", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("a**", "a", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn the_first_group_that_matches_is_a_parameters() {
        let groups = [
            group("blocks.0.*", None, 0.5),
            group("*.tau", Some(1.0), 0.1),
            group("*embedding", Some(0.0), 1.0),
        ];
        let all = resolve(&groups, DecayOn::All, &model(), &model()).unwrap();
        let of = |scales: &Scales, name: &str| (scales[name].decay, scales[name].rate);
        assert_eq!(all.len(), 5);
        assert_eq!(of(&all, "blocks.0.attention.temperature"), (1.0, 0.5));
        assert_eq!(of(&all, "block10.attention.tau"), (1.0, 0.1));
        assert_eq!(of(&all, "position_embedding"), (0.0, 1.0));
        assert_eq!(of(&all, "patch.projection.bias"), (1.0, 1.0));
        // What has one axis does not decay, but for a group that says so.
        let matrices = resolve(&groups, DecayOn::Matrices, &model(), &model()).unwrap();
        assert_eq!(of(&matrices, "blocks.0.attention.temperature"), (0.0, 0.5));
        assert_eq!(of(&matrices, "block10.attention.tau"), (1.0, 0.1));
        assert_eq!(of(&matrices, "patch.projection.kernel"), (1.0, 1.0));
        assert_eq!(of(&matrices, "patch.projection.bias"), (0.0, 1.0));
    }

    #[test]
    fn a_pattern_that_changes_nothing_is_refused() {
        let refused = |groups: &[GroupRecipe]| {
            let error = resolve(groups, DecayOn::All, &model(), &model()).unwrap_err();
            (error.to_string(), error.remedy().to_owned())
        };
        let (problem, remedy) = refused(&[group("*.tau", None, 1.0), group("*.taus", None, 1.0)]);
        assert!(problem.starts_with("train.groups[1].pattern:"), "{problem}");
        assert!(problem.contains("`*.taus`"), "{problem}");
        assert!(
            remedy.contains("blocks.0.attention.temperature"),
            "{remedy}"
        );
        let (problem, _) = refused(&[group("*", None, 1.0), group("*.tau", None, 1.0)]);
        assert!(problem.contains("a group before it"), "{problem}");
    }

    #[test]
    fn a_group_is_read_from_toml_and_checked() {
        let group: GroupRecipe = toml::from_str("pattern = \"*.bias\"\nrate = 2.0").unwrap();
        assert_eq!(group, self::group("*.bias", None, 2.0));
        assert!(toml::from_str::<GroupRecipe>("pattern = \"a\"\nlr = 1.0").is_err());
        for (group, field) in [
            (self::group("", None, 1.0), "pattern:"),
            (self::group("*", Some(-1.0), 1.0), "decay:"),
            (self::group("*", None, f64::NAN), "rate:"),
        ] {
            let error = group.check(3).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("train.groups[3].{field}")),
                "{error}"
            );
        }
    }
}
