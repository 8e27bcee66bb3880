#![no_main]
//! A table of paths and labels, beside two pictures.
use libfuzzer_sys::fuzz_target;
use smallvit_fuzz::{data_set, file, load, two_pictures};

fuzz_target!(init: two_pictures("csv"), |bytes: &[u8]| {
    data_set(load("csv", &file("csv/table.csv", bytes)));
});
