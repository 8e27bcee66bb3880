#![no_main]
smallvit_fuzz::target!(tiny_imagenet);
