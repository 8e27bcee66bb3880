//! CIFAR-10 and CIFAR-100 (Krizhevsky: *Learning Multiple Layers of Features from Tiny Images*,
//! 2009), in the two layouts their author publishes.
//!
//! *Binary*: a file is records without gaps; a record is one byte of label (CIFAR-10) or two
//! (CIFAR-100: coarse, fine), then 3,072 bytes of pixels. *Python*: a file is a pickled dict with
//! `data`, 3,072 columns of pixels, and `labels` or `fine_labels`; it is read by an interpreter
//! that can run nothing ([`pickle`]). In both, an image's pixels are planar: 1,024
//! red, 1,024 green, 1,024 blue bytes, each row by row.

use std::path::Path;

use super::files::Files;
use super::pickle::{self, Value};
use super::{Dataset, Images, Split};
use crate::error::{Error, Result};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const PIXELS: usize = 3 * PLANE;

/// Which of the two sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cifar {
    /// CIFAR-10: 50,000 + 10,000 images of 10 classes.
    Ten,
    /// CIFAR-100: 50,000 + 10,000 images of 100 (fine) classes.
    Hundred,
}

/// Which of the two layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Fixed-size records.
    Binary,
    /// Pickled dicts.
    Python,
}

impl Cifar {
    /// The name a user asks for it by: `cifar10`, `cifar100`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ten => "cifar10",
            Self::Hundred => "cifar100",
        }
    }

    /// The official class names, by class number.
    pub fn classes(self) -> &'static [&'static str] {
        match self {
            Self::Ten => &CIFAR_10,
            Self::Hundred => &CIFAR_100,
        }
    }

    /// The files of a layout that must be there: those to train on, and the one to test on.
    pub(super) fn files(self, layout: Layout) -> (&'static [&'static str], &'static str) {
        match (self, layout) {
            (Self::Ten, Layout::Binary) => (
                &[
                    "data_batch_1.bin",
                    "data_batch_2.bin",
                    "data_batch_3.bin",
                    "data_batch_4.bin",
                    "data_batch_5.bin",
                ],
                "test_batch.bin",
            ),
            (Self::Ten, Layout::Python) => (
                &[
                    "data_batch_1",
                    "data_batch_2",
                    "data_batch_3",
                    "data_batch_4",
                    "data_batch_5",
                ],
                "test_batch",
            ),
            (Self::Hundred, Layout::Binary) => (&["train.bin"], "test.bin"),
            (Self::Hundred, Layout::Python) => (&["train"], "test"),
        }
    }

    /// The file of a layout with the class names, which need not be there.
    pub(super) fn names_file(self, layout: Layout) -> &'static str {
        match (self, layout) {
            (Self::Ten, Layout::Binary) => "batches.meta.txt",
            (Self::Ten, Layout::Python) => "batches.meta",
            (Self::Hundred, Layout::Binary) => "fine_label_names.txt",
            (Self::Hundred, Layout::Python) => "meta",
        }
    }

    /// Label bytes before a binary record's pixels.
    fn label_bytes(self) -> usize {
        match self {
            Self::Ten => 1,
            Self::Hundred => 2,
        }
    }

    /// Images in an official file, for messages.
    fn official_records(self, file: &str) -> usize {
        match self {
            Self::Hundred if file.starts_with("train") => 50_000,
            _ => 10_000,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Ten => Self::Hundred,
            Self::Hundred => Self::Ten,
        }
    }
}

/// Reads a set from the folder, or the `.tar.gz` archive, that its files lie in. Class names come
/// from the copy where it has them, else from [`Cifar::classes`]. Images are 32×32 RGB.
///
/// # Errors
/// [`Error::Data`] for a file that is missing, empty, cut short or of another layout, and for a
/// label out of range, with the file and the record; [`Error::Io`] for one that cannot be read.
pub fn read(set: Cifar, layout: Layout, path: &Path) -> Result<Dataset> {
    let (train_files, test_file) = set.files(layout);
    let names_file = set.names_file(layout);
    let wanted = [train_files, &[test_file, names_file]].concat();
    let mut files = Files::open(path, &wanted)?;
    let mut read_split = |names: &[&str]| {
        let mut split = Split::default();
        (split.images.height, split.images.width) = (SIDE, SIDE);
        split.images.channels = 3;
        for name in names {
            let bytes = files.need(name)?;
            let place = files.place(name);
            match layout {
                Layout::Binary => read_records(set, &bytes, name, &place, &mut split)?,
                Layout::Python => read_batch(set, &bytes, &place, &mut split)?,
            }
        }
        Ok(split)
    };
    let train = read_split(train_files)?;
    let test = read_split(&[test_file])?;
    let classes = match files.get(names_file)? {
        None => set.classes().iter().map(|&name| name.to_owned()).collect(),
        Some(bytes) => {
            let place = files.place(names_file);
            let names = match layout {
                Layout::Binary => text_names(&bytes),
                Layout::Python => pickled_names(set, &bytes, &place)?,
            };
            let (got, expected) = (names.len(), set.classes().len());
            if got != expected {
                let problem = format!("{got} class names; {expected} were expected");
                return Err(Error::data(
                    place,
                    problem,
                    "delete it to use the official names",
                ));
            }
            names
        }
    };
    Ok(Dataset {
        name: set.name().to_owned(),
        classes,
        train,
        validation: None,
        test: Some(test),
        ..Dataset::default()
    })
}

/// Adds the records of a binary file.
fn read_records(set: Cifar, bytes: &[u8], name: &str, place: &str, out: &mut Split) -> Result<()> {
    let record_bytes = set.label_bytes() + PIXELS;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record_bytes) {
        let got = bytes.len();
        let records = set.official_records(name);
        let expected = records * record_bytes;
        let problem = match got {
            0 => format!("the file is empty; {expected} bytes were expected"),
            _ => format!(
                "{got} bytes are not whole records of {record_bytes}; the official file has \
                 {expected} ({records} records)"
            ),
        };
        let other = set.other();
        let remedy = if got > 0 && got.is_multiple_of(other.label_bytes() + PIXELS) {
            format!("it looks like {0}: ask for {0}", other.name())
        } else {
            "it is cut short or damaged: delete it and fetch it again".to_owned()
        };
        return Err(Error::data(place, problem, remedy));
    }
    out.images.pixels.reserve_exact(bytes.len());
    for (record, chunk) in bytes.chunks_exact(record_bytes).enumerate() {
        let (label, planar) = chunk.split_at(set.label_bytes());
        // A coarse label out of range betrays a file of some other kind.
        if let [coarse, _] = label
            && *coarse >= COARSE
        {
            return Err(bad_label(
                place,
                record,
                "coarse label",
                i64::from(*coarse),
                COARSE,
            ));
        }
        let label = label[label.len() - 1];
        out.labels
            .push(checked_label(set, place, record, i64::from(label))?);
        interleave(planar, &mut out.images);
    }
    Ok(())
}

/// Adds the records of a pickled batch.
fn read_batch(set: Cifar, bytes: &[u8], place: &str, out: &mut Split) -> Result<()> {
    let error = |problem: String| {
        let name = set.name();
        let remedy = format!(
            "check that it is a file of {name}'s python layout, or delete it and fetch it again"
        );
        Error::data(place, problem, remedy)
    };
    if bytes.is_empty() {
        return Err(error("the file is empty".to_owned()));
    }
    let pickle = pickle::parse(bytes, place)?;
    let root = pickle.root();
    let get = |key: &str| {
        let value = root.get(key);
        value.ok_or_else(|| error(format!("there is no {key:?} in it")))
    };
    let labels_key = match set {
        Cifar::Ten => "labels",
        Cifar::Hundred => "fine_labels",
    };
    let labels = get(labels_key)?;
    let data = get("data")?;
    let Some(([records, PIXELS], planar)) = data.array() else {
        let problem = format!("\"data\" is {data}; an array of {PIXELS} columns was expected");
        return Err(error(problem));
    };
    let labels = labels.items().ok_or_else(|| {
        error(format!(
            "{labels_key:?} is {labels}; a list of numbers was expected"
        ))
    })?;
    if labels.len() != *records || *records == 0 {
        let labels = labels.len();
        return Err(error(format!(
            "it has {records} images and {labels} labels"
        )));
    }
    for (record, label) in labels.enumerate() {
        let label = label.integer().ok_or_else(|| {
            error(format!(
                "the label in record {record} is {label}, not a number"
            ))
        })?;
        out.labels.push(checked_label(set, place, record, label)?);
    }
    out.images.pixels.reserve_exact(planar.len());
    for planar in planar.chunks_exact(PIXELS) {
        interleave(planar, &mut out.images);
    }
    Ok(())
}

const COARSE: u8 = 20;

fn checked_label(set: Cifar, place: &str, record: usize, label: i64) -> Result<u32> {
    let classes = set.classes().len() as u8;
    match u32::try_from(label) {
        Ok(number) if number < u32::from(classes) => Ok(number),
        _ => Err(bad_label(place, record, "label", label, classes)),
    }
}

fn bad_label(place: &str, record: usize, what: &str, label: i64, classes: u8) -> Error {
    Error::data(
        place,
        format!(
            "{what} {label} in record {record} (counted from 0), but there are only {classes} classes"
        ),
        "the file is damaged or belongs to another data set: delete it and fetch it again",
    )
}

/// `[channel, row, column]` → `[row, column, channel]`.
fn interleave(planar: &[u8], images: &mut Images) {
    let (red, rest) = planar.split_at(PLANE);
    let (green, blue) = rest.split_at(PLANE);
    let pixels = red.iter().zip(green).zip(blue);
    images
        .pixels
        .extend(pixels.flat_map(|((&r, &g), &b)| [r, g, b]));
}

/// One name a line; the official `batches.meta.txt` ends in an empty one.
fn text_names(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes)
        .lines()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

fn pickled_names(set: Cifar, bytes: &[u8], place: &str) -> Result<Vec<String>> {
    let key = match set {
        Cifar::Ten => "label_names",
        Cifar::Hundred => "fine_label_names",
    };
    let pickle = pickle::parse(bytes, place)?;
    let names = pickle.root().get(key);
    let names = names.and_then(|names| names.items()?.map(Value::text).collect());
    names.ok_or_else(|| {
        let problem = format!("there is no list of names {key:?} in it");
        Error::data(place, problem, "delete it to use the official names")
    })
}

const CIFAR_10: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

#[rustfmt::skip]
const CIFAR_100: [&str; 100] = [
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup",
    "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house",
    "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man",
    "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid",
    "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy",
    "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal",
    "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar",
    "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman",
    "worm",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The pixels and the fine label of the fixtures' records; see tests/fixtures/pickle/make.py.
    fn synthetic(record: usize) -> (u32, Vec<u8>) {
        let pixel = |k: usize| ((31 * record + 7 * k + k / 256) % 256) as u8;
        let label = ((37 * record + 5) % 100) as u32;
        (label, (0..PIXELS).map(pixel).collect())
    }

    fn binary(set: Cifar, records: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &record in records {
            let (label, pixels) = synthetic(record);
            match set {
                Cifar::Ten => bytes.push(label as u8 % 10),
                Cifar::Hundred => bytes.extend([record as u8 % 20, label as u8]),
            }
            bytes.extend(pixels);
        }
        bytes
    }

    fn assert_record(split: &Split, at: usize, record: usize) {
        let (_, planar) = synthetic(record);
        let image = split.images.image(at);
        for (row, column, channel) in [(0, 0, 0), (0, 1, 0), (1, 0, 2), (31, 31, 1), (17, 5, 2)] {
            assert_eq!(
                image[(row * 32 + column) * 3 + channel],
                planar[channel * 1024 + row * 32 + column],
            );
        }
    }

    fn hundred_folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("train.bin"),
            binary(Cifar::Hundred, &[0, 1, 2]),
        )
        .unwrap();
        fs::write(
            folder.path().join("test.bin"),
            binary(Cifar::Hundred, &[3, 4]),
        )
        .unwrap();
        folder
    }

    fn read_hundred(folder: &tempfile::TempDir) -> Result<Dataset> {
        read(Cifar::Hundred, Layout::Binary, folder.path())
    }

    #[test]
    fn binary_cifar_100() {
        let folder = hundred_folder();
        let data = read_hundred(&folder).unwrap();
        data.check().unwrap();
        let test = data.test.as_ref().unwrap();
        assert_eq!(data.train.labels, [5, 42, 79]);
        assert_eq!(test.labels, [16, 53]);
        for record in 0..3 {
            assert_record(&data.train, record, record);
        }
        assert_record(test, 1, 4);
        assert_eq!(data.classes[79], "spider");

        let names: Vec<String> = (0..100).map(|i| format!("name {i}")).collect();
        let names_file = folder.path().join("fine_label_names.txt");
        fs::write(&names_file, names.join("\r\n") + "\r\n\r\n").unwrap();
        assert_eq!(read_hundred(&folder).unwrap().classes, names);
        fs::write(&names_file, "one\ntwo\n").unwrap();
        let error = read_hundred(&folder).unwrap_err().to_string();
        assert!(
            error.contains("fine_label_names.txt: 2 class names"),
            "{error}"
        );
    }

    #[test]
    fn binary_cifar_10() {
        let folder = tempfile::tempdir().unwrap();
        let (train, test) = Cifar::Ten.files(Layout::Binary);
        for (record, name) in train.iter().chain([&test]).enumerate() {
            fs::write(folder.path().join(name), binary(Cifar::Ten, &[record])).unwrap();
        }
        let data = read(Cifar::Ten, Layout::Binary, folder.path()).unwrap();
        data.check().unwrap();
        assert_eq!(data.train.labels, [5, 2, 9, 6, 3]);
        assert_record(&data.train, 4, 4);
        assert_record(data.test.as_ref().unwrap(), 0, 5);
        assert_eq!(data.classes[0], "airplane");

        let gone = folder.path().join("data_batch_3.bin");
        fs::remove_file(&gone).unwrap();
        let error = read(Cifar::Ten, Layout::Binary, folder.path()).unwrap_err();
        let expected = format!("{}: this file is missing", gone.display());
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn an_archive_is_read_as_a_folder_is() {
        let folder = hundred_folder();
        let path = folder.path().join("cifar-100-binary.tar.gz");
        let archive = super::super::files::tests::archive(&[
            (
                "cifar-100-binary/train.bin",
                &binary(Cifar::Hundred, &[0, 1, 2]),
            ),
            (
                "cifar-100-binary/test.bin",
                &binary(Cifar::Hundred, &[3, 4]),
            ),
        ]);
        fs::write(&path, archive).unwrap();
        let archived = read(Cifar::Hundred, Layout::Binary, &path).unwrap();
        assert_eq!(archived, read_hundred(&folder).unwrap());
    }

    #[test]
    fn damage_is_placed() {
        let folder = hundred_folder();
        let train = folder.path().join("train.bin");
        let whole = fs::read(&train).unwrap();
        let complain = |bytes: &[u8]| {
            fs::write(&train, bytes).unwrap();
            let error = read_hundred(&folder).unwrap_err();
            assert!(error.to_string().contains("train.bin"), "{error}");
            assert!(!error.remedy().is_empty());
            format!("{error}; {}", error.remedy())
        };
        let short = complain(&whole[..whole.len() - 1]);
        assert!(
            short.contains("9221 bytes are not whole records of 3074"),
            "{short}"
        );
        assert!(short.contains("153700000 (50000 records)"), "{short}");
        assert!(complain(&[]).contains("the file is empty"));
        let other = complain(&binary(Cifar::Ten, &[0]));
        assert!(other.contains("ask for cifar10"), "{other}");

        let mut mislabelled = whole.clone();
        mislabelled[2 * 3074 + 1] = 137;
        let label = complain(&mislabelled);
        assert!(label.contains("label 137 in record 2"), "{label}");
        assert!(label.contains("only 100 classes"), "{label}");
        mislabelled[3074] = 20;
        assert!(complain(&mislabelled).contains("coarse label 20 in record 1"));
    }

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pickle");

    #[test]
    fn python_files_as_published() {
        let folder = Path::new(FIXTURES);
        let python = folder.join("cifar-100-python");
        let mut data = read(Cifar::Hundred, Layout::Python, &python).unwrap();
        assert_eq!(data.classes[7], "fine_07");
        // The fixture's names are not the official ones; all else equals the binary layout.
        data.classes = CIFAR_100.map(str::to_owned).to_vec();
        assert_eq!(data, read_hundred(&hundred_folder()).unwrap());

        let python = folder.join("cifar-10-batches-py");
        let data = read(Cifar::Ten, Layout::Python, &python).unwrap();
        data.check().unwrap();
        assert_eq!(data.classes, CIFAR_10);
        assert_eq!(data.train.labels, [0, 1, 2, 3, 4]);
        assert_eq!(data.test.as_ref().unwrap().labels, [7]);
        assert_record(&data.train, 4, 4);
        assert_record(data.test.as_ref().unwrap(), 0, 5);
    }

    #[test]
    fn python_files_saved_again() {
        let expected = read_hundred(&hundred_folder()).unwrap().train;
        let folder = tempfile::tempdir().unwrap();
        let test = Path::new(FIXTURES).join("cifar-100-python/test");
        fs::copy(test, folder.path().join("test")).unwrap();
        for name in [
            "protocol2",
            "protocol3",
            "protocol4",
            "protocol5",
            "protocol5-numpy1",
            "bytes-keys",
            "fortran",
        ] {
            let fixture = Path::new(FIXTURES).join(name);
            fs::copy(fixture, folder.path().join("train")).unwrap();
            let data = read(Cifar::Hundred, Layout::Python, folder.path()).unwrap();
            assert_eq!(data.train, expected, "{name}");
            assert_eq!(data.classes[0], "apple");
        }
    }

    #[test]
    fn python_files_of_another_set_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let batch = Path::new(FIXTURES).join("cifar-10-batches-py/test_batch");
        fs::copy(&batch, folder.path().join("train")).unwrap();
        let error = read(Cifar::Hundred, Layout::Python, folder.path()).unwrap_err();
        assert!(
            error.to_string().contains("no \"fine_labels\" in it"),
            "{error}"
        );

        let place = "train";
        let mut out = Split::default();
        // {'fine_labels': [100], 'data': 3}, then with a list where the array should be.
        let error = read_batch(
            Cifar::Hundred,
            b"\x80\x02}(U\x0bfine_labels]KdaU\x04dataK\x03u.",
            place,
            &mut out,
        );
        let error = error.unwrap_err().to_string();
        assert!(error.contains("\"data\" is a number"), "{error}");
    }

    #[test]
    fn the_fine_names_are_in_official_order() {
        assert!(CIFAR_100.is_sorted());
        assert_eq!(CIFAR_100[19], "cattle");
        assert_eq!(CIFAR_100[99], "worm");
    }
}
