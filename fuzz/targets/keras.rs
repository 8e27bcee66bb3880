#![no_main]
smallvit_fuzz::target!(keras);
