#![no_main]
smallvit_fuzz::target!(picture);
