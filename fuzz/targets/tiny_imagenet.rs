#![no_main]
//! Tiny-ImageNet's three lists, beside two classes of two pictures each.
use libfuzzer_sys::fuzz_target;
use smallvit_fuzz::{data_set, file, folder, load, parts, two_pictures};

fn pictures() {
    for class in ["n01443537", "n01629819"] {
        two_pictures(&format!("tiny/train/{class}/images"));
    }
    two_pictures("tiny/val/images");
}

fuzz_target!(init: pictures(), |bytes: &[u8]| {
    let [classes, words, annotations] = parts(bytes);
    file("tiny/wnids.txt", classes);
    file("tiny/words.txt", words);
    file("tiny/val/val_annotations.txt", annotations);
    data_set(load("tiny-imagenet", &folder().join("tiny")));
});
