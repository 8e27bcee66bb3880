#![no_main]
//! One picture.
use libfuzzer_sys::fuzz_target;
use smallvit::data::pictures::{self, Square};
use smallvit_fuzz::file;

fuzz_target!(|bytes: &[u8]| {
    let path = file("picture", bytes);
    if let Ok(image) = pictures::decode(&path, Square::new(8)) {
        assert_eq!(image.dimensions(), (8, 8));
    }
});
