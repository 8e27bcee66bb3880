#![no_main]
//! Settings on top of a recipe, a line each.
use libfuzzer_sys::fuzz_target;
use smallvit::train::recipe::Recipe;
use smallvit_fuzz::refusal;

fuzz_target!(|text: &str| {
    let settings: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Err(error) = Recipe::load("quickstart", &settings) {
        refusal(&error);
    }
});
