//! Every seed of the fuzz targets through its reader: real files, and what was once found to go wrong.

// Nothing of the fuzz targets' crate but this file, which needs no fuzzer.
#[path = "../fuzz/src/readers.rs"]
mod readers;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn every_reader_takes_or_refuses_its_seeds() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, read) in readers::ALL {
        let mut count = 0;
        for seed in fs::read_dir(seeds.join(name)).unwrap() {
            let path = seed.unwrap().path();
            let began = Instant::now();
            read(&fs::read(&path).unwrap());
            // Many times what any takes: a hang shows, a busy machine does not.
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{}",
                path.display()
            );
            count += 1;
        }
        assert!(count > 0, "{name} has no seeds");
    }
    fs::remove_dir_all(readers::folder()).unwrap();
}
