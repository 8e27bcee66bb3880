//! The fuzz targets: each is one of the [`readers`], which may not take more than a gigabyte.

use std::alloc::System;

use cap::Cap;

pub mod readers;

/// An allocation past the bound fails, which ends the process: a find.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, 1 << 30);

/// A fuzz target that is the reader of this name.
#[macro_export]
macro_rules! target {
    ($reader:ident) => {
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $crate::readers::$reader(bytes));
    };
}
