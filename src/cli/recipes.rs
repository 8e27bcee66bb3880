//! `smallvit recipes`.

use clap::Args;
use smallvit::Result;
use smallvit::train::recipe::BUILT_IN;

use super::options;
use super::output;

/// List the built-in recipes, or print one.
#[derive(Args)]
pub struct Arguments {
    /// Print this recipe with its documentation.
    name: Option<String>,
    /// Print every field, defaults included.
    #[arg(long, requires = "name")]
    full: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let Some(name) = arguments.name else {
        for (name, text) in BUILT_IN {
            let first = text.lines().next().unwrap_or_default();
            output::print(format!("{name:20}{}", first.trim_start_matches("# ")));
        }
        return Ok(());
    };
    let recipe = options::recipe(&name, &[])?;
    match BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
        Some((_, text)) if !arguments.full => output::print(text),
        _ => output::print(recipe.to_toml()),
    }
    Ok(())
}
