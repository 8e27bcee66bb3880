//! The versions of what is kept: recipes, run folders and model files, and how those of an
//! earlier version become the present one's.
//!
//! Schema 1 had no number of its own, and one family of models; its `[model]` table said
//! `tokenizer`, `attention` and `mlp`, the widths of all of an MLP's layers. Schema 2 has the
//! [`ModelConfig`](crate::models::ModelConfig) of now.

use toml::{Table, Value};

use crate::error::{Error, Result};

/// The version that this program writes, and the latest that it reads.
pub const SCHEMA: u32 = 2;

/// What is wrong with a file of this schema, if anything is, and what to do about it.
pub fn refusal(schema: u32) -> Option<(String, &'static str)> {
    match schema {
        0 => Some((
            "there is no schema 0".into(),
            "it is damaged, or was edited: the first schema is 1",
        )),
        1..=SCHEMA => None,
        _ => Some((
            format!("written by a newer smallvit (schema {schema}; this one reads up to {SCHEMA})"),
            "update the program, or choose a file that this version can read",
        )),
    }
}

/// Takes the field `schema` out of a table, if there is one.
///
/// # Errors
/// [`Error::Recipe`] where it is no schema that this program reads.
pub fn take_schema(table: &mut Table) -> Result<Option<u32>> {
    let Some(value) = table.remove("schema") else {
        return Ok(None);
    };
    let Some(schema) = value.as_integer().and_then(|n| u32::try_from(n).ok()) else {
        return Err(Error::recipe(
            "schema",
            format!("{value} is no number of a schema"),
            format!("leave it out, or write {SCHEMA}"),
        ));
    };
    match refusal(schema) {
        Some((problem, remedy)) => Err(Error::recipe("schema", problem, remedy)),
        None => Ok(Some(schema)),
    }
}

/// Makes a whole recipe of schema 1 one of the present schema.
pub fn upgrade_recipe(recipe: &mut Table) -> Result<()> {
    match recipe.get_mut("model") {
        Some(Value::Table(model)) => upgrade_model(model),
        _ => Ok(()),
    }
}

/// Makes a `[model]` table, or a model file's `config`, of schema 1 one of the present schema.
///
/// # Errors
/// [`Error::Recipe`] for a model that is not built any more.
pub fn upgrade_model(model: &mut Table) -> Result<()> {
    for field in ["tokenizer", "attention", "mlp"] {
        let Some(value) = model.remove(field) else {
            continue;
        };
        let (field, value) = replacement(field, &value, model.get("dim"))?;
        model.insert(field.into(), value);
    }
    // What schema 1 could not choose.
    let fixed = [
        ("family", Value::from("vit")),
        ("mlp_second_gelu", true.into()),
        ("qkv_bias", true.into()),
        ("temperature", "layer".into()),
        ("relative_position", false.into()),
        ("pool", "flatten".into()),
        ("stochastic_depth", 0.0.into()),
        ("layer_scale", crate::strict::OFF.into()),
        ("initial", "keras".into()),
    ];
    model.extend(fixed.map(|(field, value)| (field.to_owned(), value)));
    Ok(())
}

/// Refuses fields of schema 1 in a recipe that says it is of the present one, and names those that
/// took their place.
pub fn refuse_old_fields(recipe: &Table) -> Result<()> {
    let Some(Value::Table(model)) = recipe.get("model") else {
        return Ok(());
    };
    for (field, instead) in [
        ("tokenizer", "model.spt = true, or false for plain patches"),
        (
            "attention",
            "model.lsa = true, or false for plain attention",
        ),
        (
            "mlp",
            "model.mlp_width, the width of the MLP's hidden layer",
        ),
    ] {
        let Some(value) = model.get(field) else {
            continue;
        };
        let instead = match replacement(field, value, model.get("dim")) {
            Ok((field, value)) => format!("model.{field} = {value}"),
            Err(_) => instead.into(),
        };
        return Err(Error::recipe(
            format!("model.{field}"),
            "this field is gone",
            format!("write instead {instead}"),
        ));
    }
    Ok(())
}

/// The field and value of now that mean what an old field meant.
fn replacement(field: &str, value: &Value, dim: Option<&Value>) -> Result<(&'static str, Value)> {
    let refuse = |problem: String| {
        let remedy = "use the version of smallvit that wrote it";
        Err(Error::recipe(format!("model.{field}"), problem, remedy))
    };
    match (field, value.as_str()) {
        ("tokenizer", Some("shifted")) => Ok(("spt", true.into())),
        ("tokenizer", Some("plain")) => Ok(("spt", false.into())),
        ("attention", Some("locality")) => Ok(("lsa", true.into())),
        ("attention", Some("plain")) => Ok(("lsa", false.into())),
        ("mlp", _) => match value.as_array().map(Vec::as_slice) {
            Some([width, last]) if dim.is_none_or(|dim| dim == last) => {
                Ok(("mlp_width", width.clone()))
            }
            Some([_, last]) => refuse(format!(
                "the MLP's last width, {last}, is not the tokens', to which it is added"
            )),
            Some(_) => refuse(format!(
                "an MLP of widths {value} is not built any more: it has two layers now"
            )),
            None => refuse(format!("{value} is no list of widths")),
        },
        _ => refuse(format!("{value} is no choice that there was")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{ModelConfig, VitConfig};

    fn upgraded(text: &str) -> Result<ModelConfig> {
        let mut table: Table = text.parse().unwrap();
        upgrade_model(&mut table)?;
        ModelConfig::read(Value::Table(table), "model", &Table::new())
    }

    #[test]
    fn every_model_of_schema_1_becomes_one_of_now() {
        for (tokenizer, spt) in [("plain", false), ("shifted", true)] {
            for (attention, lsa) in [("plain", false), ("locality", true)] {
                let text = format!(
                    "tokenizer = \"{tokenizer}\"\nattention = \"{attention}\"\nimage_size = 32\n\
                     patch_size = 4\ndim = 48\ndepth = 2\nheads = 3\nkey_dim = 5\nmlp = [7, 48]\n\
                     head = [9]\ndropout = 0.2\nhead_dropout = 0.3\nlayer_norm_epsilon = 1e-5"
                );
                let expected = VitConfig {
                    image_size: 32,
                    patch_size: 4,
                    dim: 48,
                    depth: 2,
                    heads: 3,
                    key_dim: 5,
                    mlp_width: 7,
                    head: vec![9],
                    dropout: 0.2,
                    head_dropout: 0.3,
                    layer_norm_epsilon: 1e-5,
                    ..VitConfig::default()
                };
                let config = upgraded(&text).unwrap();
                assert_eq!((config.spt, config.lsa), (spt, lsa));
                assert_eq!(config.arch, expected.into());
            }
        }
    }

    #[test]
    fn what_is_not_built_any_more_is_refused() {
        for (text, problem) in [
            (
                "mlp = [8, 8, 8]\ndim = 8",
                "model.mlp: an MLP of widths [8, 8, 8]",
            ),
            ("mlp = [8]\ndim = 8", "model.mlp: an MLP of widths [8] "),
            (
                "mlp = [8, 9]\ndim = 8",
                "model.mlp: the MLP's last width, 9",
            ),
            ("mlp = 8", "model.mlp: 8 is no list"),
            ("tokenizer = \"overlapping\"", "model.tokenizer: "),
            ("attention = 3", "model.attention: 3 is no choice"),
        ] {
            let error = upgraded(text).unwrap_err();
            assert!(error.to_string().starts_with(problem), "{error}");
            assert!(error.remedy().contains("that wrote it"));
        }
    }

    #[test]
    fn old_fields_name_those_of_now() {
        for (text, field, instead) in [
            (
                "model.tokenizer = \"shifted\"",
                "tokenizer",
                "model.spt = true",
            ),
            (
                "model.tokenizer = \"x\"",
                "tokenizer",
                "model.spt = true, or",
            ),
            (
                "model.attention = \"plain\"",
                "attention",
                "model.lsa = false",
            ),
            ("model.mlp = [16, 8]", "mlp", "model.mlp_width = 16"),
            ("model.mlp = [16]", "mlp", "model.mlp_width, the width"),
        ] {
            let error = refuse_old_fields(&text.parse().unwrap()).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("model.{field}: this field is gone")
            );
            assert!(error.remedy().contains(instead), "{}", error.remedy());
        }
        assert!(refuse_old_fields(&"model.mlp_width = 3".parse().unwrap()).is_ok());
        assert!(refuse_old_fields(&Table::new()).is_ok());
    }

    #[test]
    fn schemas_are_told_apart() {
        let take = |text: &str| take_schema(&mut text.parse().unwrap());
        assert_eq!(take("").unwrap(), None);
        assert_eq!(take("schema = 1").unwrap(), Some(1));
        assert_eq!(take("schema = 2").unwrap(), Some(2));
        let error = take("schema = 3").unwrap_err();
        assert_eq!(
            error.to_string(),
            "schema: written by a newer smallvit (schema 3; this one reads up to 2)"
        );
        assert!(error.remedy().contains("update the program"));
        for text in [
            "schema = 0",
            "schema = -1",
            "schema = \"2\"",
            "schema = 2.0",
        ] {
            assert!(take(text).is_err(), "{text}");
        }
    }
}
