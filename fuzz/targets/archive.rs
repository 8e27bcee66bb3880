#![no_main]
//! CIFAR-100's archive.
use libfuzzer_sys::fuzz_target;
use smallvit::data::cifar::{self, Cifar, Layout};
use smallvit_fuzz::{data_set, file};

fuzz_target!(|bytes: &[u8]| {
    let path = file("cifar-100-python.tar.gz", bytes);
    data_set(cifar::read(Cifar::Hundred, Layout::Python, &path));
});
