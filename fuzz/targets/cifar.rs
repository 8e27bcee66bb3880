#![no_main]
//! CIFAR-100's binary files: one to train on, one to test on.
use libfuzzer_sys::fuzz_target;
use smallvit::data::cifar::{self, Cifar, Layout};
use smallvit_fuzz::{data_set, file, folder, parts};

fuzz_target!(|bytes: &[u8]| {
    let [train, test] = parts(bytes);
    file("cifar/train.bin", train);
    file("cifar/test.bin", test);
    data_set(cifar::read(
        Cifar::Hundred,
        Layout::Binary,
        &folder().join("cifar"),
    ));
});
