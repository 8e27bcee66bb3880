#![no_main]
//! A model's file: the input is its header, and what the header promises follows as zeros (up to a
//! megabyte, so that some promises are not kept).
use libfuzzer_sys::fuzz_target;
use smallvit::models::file;
use smallvit::train::device;
use smallvit_fuzz::{refusal, steers_nothing};

fuzz_target!(|bytes: &[u8]| {
    let path = smallvit_fuzz::file("model.safetensors", &smallvit_fuzz::safetensors(bytes));
    match file::open(&path, &device::cpu()) {
        Ok((info, model)) => {
            steers_nothing(info.config.name());
            assert!(model.parameters() > 0);
        }
        Err(error) => refusal(&error),
    }
});
