#![no_main]
//! SVHN's MATLAB file.
use libfuzzer_sys::fuzz_target;
use smallvit_fuzz::{data_set, file, load};

fuzz_target!(|bytes: &[u8]| {
    data_set(load("svhn", &file("train_32x32.mat", bytes)));
});
