//! Every reader of files from elsewhere, on bytes: what it refuses, it refuses in words that a terminal
//! can show, and what it takes, the rest of the program can rely on.
//!
//! The fuzz targets give them bytes that nobody has seen before; `tests/seeds.rs` all that are in
//! `seeds`, among them what was found to go wrong.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Once, OnceLock};

use smallvit::data::cifar::{self, Cifar, Layout};
use smallvit::data::idx;
use smallvit::data::pictures::{self, Square};
use smallvit::data::{Dataset, LoadOptions};
use smallvit::models::file as model_file;
use smallvit::models::foreign::{self, Foreign, Given};
use smallvit::train::device;
use smallvit::train::recipe::Recipe;
use smallvit::{Error, Result};

/// A reader's name, and the reader.
type Named = (&'static str, fn(&[u8]));

/// All of them by name.
pub const ALL: [Named; 14] = [
    ("archive", archive),
    ("cifar", cifar),
    ("csv", csv),
    ("idx", mnist),
    ("keras", keras),
    ("model", model),
    ("npz", npz),
    ("pickle", pickle),
    ("picture", picture),
    ("pytorch", pytorch),
    ("recipe", recipe),
    ("settings", settings),
    ("svhn", svhn),
    ("tiny_imagenet", tiny_imagenet),
];

/// CIFAR-100's archive.
pub fn archive(bytes: &[u8]) {
    let path = file("cifar-100-python.tar.gz", bytes);
    data_set(cifar::read(Cifar::Hundred, Layout::Python, &path));
}

/// CIFAR-100's binary files: one to train on, one to test on.
pub fn cifar(bytes: &[u8]) {
    let [train, test] = parts(bytes);
    file("cifar/train.bin", train);
    file("cifar/test.bin", test);
    let folder = folder().join("cifar");
    data_set(cifar::read(Cifar::Hundred, Layout::Binary, &folder));
}

/// A table of paths and labels, beside two pictures.
pub fn csv(bytes: &[u8]) {
    static PICTURES: Once = Once::new();
    PICTURES.call_once(|| two_pictures("csv"));
    data_set(load("csv", &file("csv/table.csv", bytes)));
}

/// MNIST's four files.
pub fn mnist(bytes: &[u8]) {
    const FILES: [&str; 4] = [
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ];
    const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let contents: [&[u8]; 4] = parts(bytes);
    for (name, bytes) in FILES.iter().zip(contents) {
        file(&format!("idx/{name}"), bytes);
    }
    data_set(idx::read("mnist", &DIGITS, &folder().join("idx")));
}

/// A model's file of Keras, as [`model`]'s: a header, then zeros.
pub fn keras(bytes: &[u8]) {
    let path = file("keras.safetensors", &safetensors(bytes));
    built(foreign::from_keras(&path, Given::default()), &path);
}

/// A model's file of PyTorch, likewise.
pub fn pytorch(bytes: &[u8]) {
    let path = file("pytorch.safetensors", &safetensors(bytes));
    built(foreign::from_pytorch(&path, Given::default()), &path);
}

fn built(read: Result<Foreign>, path: &Path) {
    let built = read.and_then(|foreign| {
        let Foreign { info, weights, .. } = foreign;
        info.with_weights(&weights, path.display(), &device::cpu())
    });
    if let Err(error) = built {
        refusal(&error);
    }
}

/// A model's file: the input is its header, and what the header promises follows as zeros (up to a
/// megabyte, so that some promises are not kept).
pub fn model(bytes: &[u8]) {
    let path = file("model.safetensors", &safetensors(bytes));
    match model_file::open(&path, &device::cpu()) {
        Ok((info, model)) => {
            steers_nothing(info.config.name());
            assert!(model.parameters() > 0);
        }
        Err(error) => refusal(&error),
    }
}

/// NumPy's archive of arrays.
pub fn npz(bytes: &[u8]) {
    data_set(load("npz", &file("arrays.npz", bytes)));
}

/// CIFAR-100's Python files: the same pickle to train and to test on.
pub fn pickle(bytes: &[u8]) {
    file("pickle/train", bytes);
    file("pickle/test", bytes);
    let folder = folder().join("pickle");
    data_set(cifar::read(Cifar::Hundred, Layout::Python, &folder));
}

/// One picture.
pub fn picture(bytes: &[u8]) {
    let path = file("picture", bytes);
    match pictures::decode(&path, Square::new(8)) {
        Ok(image) => assert_eq!(image.dimensions(), (8, 8)),
        Err(problem) => assert!(!problem.is_empty()),
    }
}

/// A recipe's file, as a user writes one and as a run has written it.
pub fn recipe(bytes: &[u8]) {
    let path = file("recipe.toml", bytes);
    match Recipe::load(&path.display().to_string(), &[]) {
        Ok(recipe) => {
            let written = recipe.to_toml();
            let again = Recipe::parse(&written, "written").expect("what was written can be read");
            assert_eq!(again.recipe, recipe);
        }
        Err(error) => refusal(&error),
    }
    if let Err(error) = Recipe::restore(&path) {
        refusal(&error);
    }
}

/// Settings on top of a recipe, a line each.
pub fn settings(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let settings: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Err(error) = Recipe::load("quickstart", &settings) {
        refusal(&error);
    }
}

/// SVHN's MATLAB file.
pub fn svhn(bytes: &[u8]) {
    data_set(load("svhn", &file("train_32x32.mat", bytes)));
}

/// Tiny-ImageNet's three lists, beside two classes of two pictures each.
pub fn tiny_imagenet(bytes: &[u8]) {
    static PICTURES: Once = Once::new();
    PICTURES.call_once(|| {
        for class in ["n01443537", "n01629819"] {
            two_pictures(&format!("tiny/train/{class}/images"));
        }
        two_pictures("tiny/val/images");
    });
    let [classes, words, annotations] = parts(bytes);
    file("tiny/wnids.txt", classes);
    file("tiny/words.txt", words);
    file("tiny/val/val_annotations.txt", annotations);
    data_set(load("tiny-imagenet", &folder().join("tiny")));
}

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
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("a folder for the inputs");
    }
    fs::write(&path, bytes).expect("room for the input");
    path
}

/// The input in so many parts, at the lines that hold nothing but `--8<--`.
fn parts<const N: usize>(bytes: &[u8]) -> [&[u8]; N] {
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
fn refusal(error: &Error) {
    let words = format!("{error}\n{}", error.remedy());
    assert!(!error.to_string().is_empty());
    steers_nothing(&words);
}

/// No control characters but the end of a line.
fn steers_nothing(words: impl Display) {
    let words = words.to_string();
    let control = words.chars().find(|&c| c.is_control() && c != '\n');
    assert_eq!(control, None, "{words:?}");
}

/// A data set is either refused, or what the rest of the program relies on.
fn data_set(read: Result<Dataset>) {
    match read.and_then(|data| data.check().map(|()| data)) {
        Ok(data) => assert!(!data.train.is_empty()),
        Err(error) => refusal(&error),
    }
}

/// A safetensors file with this header, and as many zeros after it as the header's largest number
/// says, up to a megabyte.
fn safetensors(header: &[u8]) -> Vec<u8> {
    let digits = header.split(|byte| !byte.is_ascii_digit());
    let numbers = digits.filter_map(|run| std::str::from_utf8(run).ok()?.parse::<usize>().ok());
    let zeros = numbers.max().unwrap_or(0).min(1 << 20);
    let length = (header.len() as u64).to_le_bytes();
    let mut bytes = [&length[..], header].concat();
    bytes.resize(bytes.len() + zeros, 0);
    bytes
}

/// What a user gets who asks for this data set, as `csv:PATH`; pictures are brought to 4 × 4 pixels.
fn load(kind: &str, path: &Path) -> Result<Dataset> {
    let options = LoadOptions {
        square: Square::new(4),
        ..LoadOptions::default()
    };
    let spec = format!("{kind}:{}", path.display()).parse()?;
    smallvit::data::load(&spec, &options, &mut |_| ())
}

/// Two small pictures in a folder, for those formats that are lists of pictures.
fn two_pictures(folder: &str) {
    static BYTES: [&[u8]; 2] = [
        include_bytes!("../seeds/picture/rgb.png"),
        include_bytes!("../seeds/picture/grey.jpeg"),
    ];
    for (name, bytes) in ["a.png", "b.png"].iter().zip(BYTES) {
        file(&format!("{folder}/{name}"), bytes);
    }
}
