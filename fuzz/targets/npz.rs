#![no_main]
//! NumPy's archive of arrays.
use libfuzzer_sys::fuzz_target;
use smallvit_fuzz::{data_set, file, load};

fuzz_target!(|bytes: &[u8]| {
    data_set(load("npz", &file("arrays.npz", bytes)));
});
