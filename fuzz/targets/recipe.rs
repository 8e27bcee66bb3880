#![no_main]
//! A recipe's file, as a user writes one and as a run has written it.
use libfuzzer_sys::fuzz_target;
use smallvit::train::recipe::Recipe;
use smallvit_fuzz::{file, refusal};

fuzz_target!(|bytes: &[u8]| {
    let path = file("recipe.toml", bytes);
    match Recipe::load(&path.display().to_string(), &[]) {
        Ok(recipe) => {
            let written = recipe.to_toml();
            let again = Recipe::parse(&written, "written").expect("what was written can be read");
            assert_eq!(again.recipe, recipe);
        }
        Err(error) => refusal(&error),
    }
    if let Err(error) = Recipe::restore(&path) {
        refusal(&error);
    }
});
