#![no_main]
//! CIFAR-100's Python files: the same pickle to train and to test on.
use libfuzzer_sys::fuzz_target;
use smallvit::data::cifar::{self, Cifar, Layout};
use smallvit_fuzz::{data_set, file, folder};

fuzz_target!(|bytes: &[u8]| {
    file("pickle/train", bytes);
    file("pickle/test", bytes);
    data_set(cifar::read(
        Cifar::Hundred,
        Layout::Python,
        &folder().join("pickle"),
    ));
});
