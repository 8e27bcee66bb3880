#![no_main]
//! MNIST's four files.
use libfuzzer_sys::fuzz_target;
use smallvit::data::idx;
use smallvit_fuzz::{data_set, file, folder, parts};

const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];
const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

fuzz_target!(|bytes: &[u8]| {
    let contents: [&[u8]; 4] = parts(bytes);
    for (name, bytes) in FILES.iter().zip(contents) {
        file(&format!("idx/{name}"), bytes);
    }
    data_set(idx::read("mnist", &DIGITS, &folder().join("idx")));
});
