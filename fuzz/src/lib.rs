//! What the fuzz targets share: a reader gets its input as a file, may not take more than a
//! gigabyte, and says what it refuses in words that a terminal can show.

use std::alloc::System;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cap::Cap;
use smallvit::data::pictures::Square;
use smallvit::data::{Dataset, LoadOptions};
use smallvit::{Error, Result};

/// An allocation past the bound fails, which ends the process: a find.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, 1 << 30);

/// This process's own folder, in memory where the system has such a place.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let home = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let folder = home.join(format!("smallvit-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the inputs");
        folder
    })
}

/// The input as a file of this name.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("a folder for the inputs");
    }
    fs::write(&path, bytes).expect("room for the input");
    path
}

/// The input in so many parts, at the lines that hold nothing but `--8<--`.
pub fn parts<const N: usize>(bytes: &[u8]) -> [&[u8]; N] {
    const MARK: &[u8] = b"--8<--\n";
    let mut rest = bytes;
    std::array::from_fn(|part| {
        let found = rest.windows(MARK.len()).position(|window| window == MARK);
        match found.filter(|_| part + 1 < N) {
            Some(place) => {
                let (before, after) = rest.split_at(place);
                rest = &after[MARK.len()..];
                before
            }
            None => std::mem::take(&mut rest),
        }
    })
}

/// A refusal has something to say, and nothing in it that would steer a terminal.
pub fn refusal(error: &Error) {
    let words = format!("{error}\n{}", error.remedy());
    assert!(!error.to_string().is_empty());
    steers_nothing(&words);
}

/// No control characters but the end of a line.
pub fn steers_nothing(words: impl Display) {
    let words = words.to_string();
    let control = words.chars().find(|&c| c.is_control() && c != '\n');
    assert_eq!(control, None, "{words:?}");
}

/// A data set is either refused, or what the rest of the program relies on.
pub fn data_set(read: Result<Dataset>) {
    match read.and_then(|data| data.check().map(|()| data)) {
        Ok(data) => assert!(!data.train.is_empty()),
        Err(error) => refusal(&error),
    }
}

/// A safetensors file with this header, and as many zeros after it as the header's largest number
/// says, up to a megabyte.
pub fn safetensors(header: &[u8]) -> Vec<u8> {
    let digits = header.split(|byte| !byte.is_ascii_digit());
    let numbers = digits.filter_map(|run| std::str::from_utf8(run).ok()?.parse::<usize>().ok());
    let zeros = numbers.max().unwrap_or(0).min(1 << 20);
    let length = (header.len() as u64).to_le_bytes();
    let mut bytes = [&length[..], header].concat();
    bytes.resize(bytes.len() + zeros, 0);
    bytes
}

/// What a user gets who asks for this data set, as `csv:PATH`; pictures are brought to 4 × 4 pixels.
pub fn load(kind: &str, path: &Path) -> Result<Dataset> {
    let options = LoadOptions {
        square: Square::new(4),
        ..LoadOptions::default()
    };
    let spec = format!("{kind}:{}", path.display()).parse()?;
    smallvit::data::load(&spec, &options, &mut |_| ())
}

/// Two small pictures in a folder, for those formats that are lists of pictures.
pub fn two_pictures(folder: &str) {
    static BYTES: [&[u8]; 2] = [
        include_bytes!("../seeds/picture/rgb.png"),
        include_bytes!("../seeds/picture/grey.jpeg"),
    ];
    for (name, bytes) in ["a.png", "b.png"].iter().zip(BYTES) {
        file(&format!("{folder}/{name}"), bytes);
    }
}
