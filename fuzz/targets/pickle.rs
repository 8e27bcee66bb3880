#![no_main]
smallvit_fuzz::target!(pickle);
