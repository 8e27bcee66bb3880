//! `smallvit recipes`.

use clap::Args;
use serde_json::{Value, json};
use smallvit::train::recipe::BUILT_IN;
use smallvit::{Error, Result};

use super::options;
use super::output;

/// List the built-in recipes, or print one.
#[derive(Args)]
pub struct Arguments {
    /// Print this recipe with its documentation: one of the list, or a TOML file.
    name: Option<String>,
    /// Print every field, defaults included.
    #[arg(long, requires = "name")]
    full: bool,
    /// Print JSON: the list, or every field of the recipe.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    match arguments.name {
        None => list(arguments.json),
        Some(name) => show(&name, arguments.full, arguments.json)?,
    }
    Ok(())
}

fn list(json: bool) {
    let all = BUILT_IN.map(|(name, text)| {
        let first = text.lines().next().unwrap_or_default();
        (name, first.trim_start_matches("# "))
    });
    if json {
        let recipe = |(name, description)| json!({ "name": name, "description": description });
        return output::print(json!(all.map(recipe)));
    }
    let rows = all.map(|(name, description)| vec![name.to_owned(), description.to_owned()]);
    output::table(&["recipe", "what it is"], &rows);
}

fn show(name: &str, full: bool, json: bool) -> Result<()> {
    let recipe = options::recipe(name, &[])?;
    let built_in = BUILT_IN.iter().find(|(built_in, _)| *built_in == name);
    match built_in {
        _ if json => output::print(as_json(&recipe.to_toml())?),
        Some((_, text)) if !full => output::print(text),
        _ => output::print(recipe.to_toml()),
    }
    Ok(())
}

/// The same fields, the schema's number among them, as JSON.
fn as_json(toml: &str) -> Result<Value> {
    toml::from_str(toml).map_err(|error| {
        let problem = format!("it cannot be written as JSON: {error}");
        Error::recipe("recipe", problem, "print it without --json")
    })
}
