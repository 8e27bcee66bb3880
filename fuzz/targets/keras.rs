#![no_main]
//! A model's file of Keras, as `model`'s: a header, then zeros.
use libfuzzer_sys::fuzz_target;
use smallvit::models::foreign::{self, Foreign, Given};
use smallvit::train::device;
use smallvit_fuzz::refusal;

fuzz_target!(|bytes: &[u8]| {
    let path = smallvit_fuzz::file("keras.safetensors", &smallvit_fuzz::safetensors(bytes));
    let read = foreign::from_keras(&path, Given::default());
    let built = read.and_then(|foreign| {
        let Foreign { info, weights, .. } = foreign;
        info.with_weights(&weights, path.display(), &device::cpu())
    });
    if let Err(error) = built {
        refusal(&error);
    }
});
