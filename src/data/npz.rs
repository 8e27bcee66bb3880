//! NumPy's `.npz` files: a zip archive of arrays, as `numpy.savez` and `numpy.savez_compressed`
//! write them.
//!
//! The arrays are found by the names that are usual:
//!
//! | split | images | labels |
//! |---|---|---|
//! | to train on | `x_train`, `train_images`, `images`, `x`, `arr_0` | `y_train`, `train_labels`, `labels`, `y`, `arr_1` |
//! | to validate on | `x_val`, `val_images` | `y_val`, `val_labels` |
//! | to test on | `x_test`, `test_images` | `y_test`, `test_labels` |
//!
//! in capitals, too (`X_train`). Those are Keras's names and MedMNIST's among others. Images are
//! `uint8`, of shape (n, height, width) or, with 1 or 3 channels, (n, height, width, channels) or
//! (n, channels, height, width): the axis of length 1 or 3 is the channels'. Labels are whole
//! numbers from 0, of shape (n,) or (n, 1). Text in `classes` or `class_names` names the classes, by
//! number; without it their names are the numbers.
//!
//! Arrays of Python's objects are not read: they are pickles, which can run anything. An array's
//! header is believed only as far as the bytes that follow bear it out. The format: NumPy's
//! documentation, *numpy.lib.format*.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::arrays::{self, Array, Axes, Element, shape};
use super::{Dataset, Split, files};
use crate::error::{Error, Result};
use crate::{input, words};

/// How many names a message lists.
const NAMED: usize = 10;

/// Names of images and of their labels, the usual first.
type Names = &'static [(&'static str, &'static str)];

const TRAIN: Names = &[
    ("x_train", "y_train"),
    ("train_images", "train_labels"),
    ("images", "labels"),
    ("x", "y"),
    ("arr_0", "arr_1"),
];
const VALIDATION: Names = &[("x_val", "y_val"), ("val_images", "val_labels")];
const TEST: Names = &[("x_test", "y_test"), ("test_images", "test_labels")];
const CLASSES: [&str; 2] = ["classes", "class_names"];

/// NumPy's own headers have 128 bytes.
const LARGEST_HEADER: usize = 1 << 16;

/// Reads a file's images, labels and, if it has them, class names.
///
/// # Errors
/// [`Error::Data`] for a file that is no zip archive, is cut short or has no images to train on
/// under a usual name, and for an array of another type or shape, with its name and what to do;
/// [`Error::Io`] for a file that cannot be read.
pub fn read(path: &Path) -> Result<Dataset> {
    let mut file = Npz::open(path)?;
    let Some(train) = file.split(TRAIN)? else {
        let usual: Vec<_> = TRAIN.iter().map(|(images, _)| *images).collect();
        let problem = match file.names.is_empty() {
            true => "there is no array in it".to_owned(),
            false => format!(
                "there are no images to train on among its arrays: {}",
                words::listed(file.names.iter().map(|(name, _)| name), NAMED)
            ),
        };
        let remedy = format!(
            "name them {}, their labels y_train and so on",
            usual.join(" or ")
        );
        return Err(Error::data(path.display(), problem, remedy));
    };
    let validation = file.split(VALIDATION)?;
    let test = file.split(TEST)?;
    let splits = [Some(&train), validation.as_ref(), test.as_ref()];
    let classes = match file.classes()? {
        Some(names) => names,
        None => {
            let labels = splits.iter().flatten().flat_map(|split| &split.labels);
            let last = labels.max().copied().unwrap_or(0);
            (0..=last).map(|class| class.to_string()).collect()
        }
    };
    Ok(Dataset {
        name: format!("npz:{}", path.display()),
        classes,
        train,
        validation,
        test,
        notes: file.unread(),
        ..Dataset::default()
    })
}

struct Npz {
    place: String,
    archive: ZipArchive<BufReader<File>>,
    /// Each array's name in small letters, and its file's in the archive.
    names: Vec<(String, String)>,
    /// Which of them were read.
    read: Vec<String>,
    /// Bytes that an array may have.
    most: u64,
}

impl Npz {
    fn open(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let (file, length) = input::open(path)?;
        let most = files::may_unfold_to(length);
        let archive =
            ZipArchive::new(BufReader::new(file)).map_err(|error| broken(&place, &error))?;
        let array = |file: std::borrow::Cow<str>| {
            let name = file.strip_suffix(".npy")?;
            Some((name.to_lowercase(), file.into_owned()))
        };
        let files = archive.file_names().filter_map(Result::ok);
        let mut names: Vec<_> = files.filter_map(array).collect();
        names.sort_unstable();
        Ok(Self {
            place,
            archive,
            names,
            read: Vec::new(),
            most,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|(known, _)| known == name)
    }

    /// The images and labels under the first of these names that is there.
    fn split(&mut self, names: Names) -> Result<Option<Split>> {
        let Some((x, y)) = names.iter().find(|(images, _)| self.has(images)) else {
            return Ok(None);
        };
        let Some(labels) = self.array(y)? else {
            let problem = format!("it has images, {x}, but no labels for them, {y}");
            return Err(Error::data(
                &self.place,
                problem,
                format!("save {y} beside {x}"),
            ));
        };
        let numbers = labels.labels()?;
        let images = self.array(x)?.expect("it was just found");
        let axes = axes(&images)?;
        arrays::split(images.images(axes)?, &numbers, &labels.place).map(Some)
    }

    fn classes(&mut self) -> Result<Option<Vec<String>>> {
        let Some(name) = CLASSES.into_iter().find(|name| self.has(name)) else {
            return Ok(None);
        };
        let array = self.array(name)?.expect("it was just found");
        array.texts().map(Some).ok_or_else(|| {
            let problem = "the names of the classes were expected, as text";
            Error::data(
                &array.place,
                problem,
                "save them as text, or rename the array",
            )
        })
    }

    /// What the user should know: which arrays have no name that is known.
    fn unread(&self) -> Vec<String> {
        let unread = self
            .names
            .iter()
            .filter(|(name, _)| !self.read.contains(name));
        let unread: Vec<_> = unread.map(|(name, _)| name.as_str()).collect();
        match unread.is_empty() {
            true => Vec::new(),
            false => vec![format!(
                "{}: not read: {}",
                self.place,
                words::listed(unread, NAMED)
            )],
        }
    }

    /// An array by its name in small letters; `None` if there is none.
    fn array(&mut self, name: &str) -> Result<Option<Array>> {
        let Some((_, file)) = self.names.iter().find(|(known, _)| known == name) else {
            return Ok(None);
        };
        self.read.push(name.to_owned());
        let place = format!("{file} in {}", self.place);
        let entry = self.archive.by_name(file);
        let mut entry = entry.map_err(|error| broken(&place, &error))?;
        read_npy(&mut entry, place, self.most).map(Some)
    }
}

fn broken(place: &str, error: &ZipError) -> Error {
    let remedy = "it is damaged or incomplete, or no .npz file: save it again with numpy.savez";
    Error::data(
        place,
        format!("this is no whole zip archive: {error}"),
        remedy,
    )
}

/// Which axis of an array of images is what.
fn axes(array: &Array) -> Result<Axes> {
    let error = |remedy: &str| {
        let problem = format!(
            "its shape is {}; (n, height, width), or one with 1 or 3 channels last or second, was \
             expected",
            shape(&array.shape)
        );
        Err(Error::data(&array.place, problem, remedy))
    };
    let axes = |row, column, channel| {
        Ok(Axes {
            image: 0,
            row,
            column,
            channel,
        })
    };
    match array.shape[..] {
        [_, _, _] => axes(1, 2, None),
        [_, 1 | 3, _, 1 | 3] => {
            error("both may be the channels: leave the axis of a grey image out")
        }
        [_, _, _, 1 | 3] => axes(1, 2, Some(3)),
        [_, 1 | 3, _, _] => axes(2, 3, Some(1)),
        [_, _, _, 4] | [_, 4, _, _] => error("leave transparency out: x[..., :3]"),
        [_, _] => error("give rows of pixels their height and width: x.reshape(-1, 28, 28)"),
        _ => error("give it such a shape"),
    }
}

/// One `.npy` file, which an archive's entry is, of up to `most` bytes of elements.
fn read_npy(file: &mut impl Read, place: String, most: u64) -> Result<Array> {
    let error = |problem: String| {
        let remedy = "it is damaged, or no array: save it again with numpy.savez";
        Error::data(&place, problem, remedy)
    };
    let short = |_| error("it ends, or is damaged, before its header does".to_owned());
    let mut start = [0; 8];
    file.read_exact(&mut start).map_err(short)?;
    let [magic @ .., major, _] = start;
    if &magic != b"\x93NUMPY" {
        return Err(error("it does not start as an array of NumPy".to_owned()));
    }
    let mut length = [0; 4];
    let counted = if major == 1 { 2 } else { 4 };
    file.read_exact(&mut length[..counted]).map_err(short)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LARGEST_HEADER {
        return Err(error(format!("its header claims to have {length} bytes")));
    }
    let mut header = vec![0; length];
    file.read_exact(&mut header).map_err(short)?;
    let header = String::from_utf8_lossy(&header).replace('"', "'");
    let (element, big_endian, first_runs_fastest, sizes) = parse(&header).map_err(|problem| {
        let remedy = match problem.contains("objects") {
            true => "save numbers, or text, instead of objects",
            false => "save it as uint8, or labels as int64",
        };
        Error::data(&place, problem, remedy)
    })?;
    let bytes = sizes
        .iter()
        .try_fold(element.bytes() as u64, |bytes, &size| {
            bytes.checked_mul(size as u64)
        });
    let bytes = match bytes {
        Some(0) => {
            let problem = format!("its shape is {}: there is nothing in it", shape(&sizes));
            return Err(Error::data(&place, problem, "check how it was made"));
        }
        Some(bytes) if bytes <= most => bytes,
        _ => {
            let problem = format!(
                "{} of {} bytes each are more than an array of this file may unfold to, {} MB",
                shape(&sizes),
                element.bytes(),
                most / 1_000_000
            );
            return Err(Error::data(
                &place,
                problem,
                "save it with numpy.savez, uncompressed",
            ));
        }
    };
    let mut elements = Vec::new();
    let read = file.take(bytes + 1).read_to_end(&mut elements);
    read.map_err(|e| error(format!("it cannot be unpacked: {e}")))?;
    if elements.len() as u64 != bytes {
        let more = if elements.len() as u64 > bytes {
            "more than "
        } else {
            ""
        };
        let got = bytes.min(elements.len() as u64);
        return Err(error(format!(
            "{more}{got} bytes after the header; {bytes} were expected for {}",
            shape(&sizes)
        )));
    }
    Ok(Array {
        place,
        shape: sizes,
        element,
        big_endian,
        first_runs_fastest,
        bytes: elements,
    })
}

/// A header, which is a dict of Python: the elements, whether their highest byte comes first,
/// whether the first index runs fastest, and the shape.
fn parse(header: &str) -> Result<(Element, bool, bool, Vec<usize>), String> {
    let value = |key: &str| {
        let rest = header.split_once(&format!("'{key}'"));
        let rest = rest.and_then(|(_, rest)| rest.trim_start().strip_prefix(':'));
        let rest = rest.map(str::trim_start);
        rest.ok_or_else(|| format!("its header has no {key:?}"))
    };
    let descr = value("descr")?;
    let descr = descr
        .strip_prefix('\'')
        .and_then(|rest| rest.split_once('\''));
    let (descr, _) =
        descr.ok_or("its elements are records of several values, which are not read")?;
    if descr.ends_with('O') {
        return Err(
            "it has Python's objects in it, which are not read: they can run anything".into(),
        );
    }
    let element = element(descr);
    let element =
        element.ok_or_else(|| format!("its elements are {descr:?}, which are not read"))?;
    let fortran = value("fortran_order")?.starts_with("True");
    let sizes = value("shape")?
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(')'));
    let sizes = sizes.and_then(|(sizes, _)| {
        let sizes = sizes
            .split(',')
            .map(str::trim)
            .filter(|size| !size.is_empty());
        sizes.map(|size| size.parse().ok()).collect()
    });
    let sizes = sizes.ok_or("its header has no shape that can be read")?;
    Ok((element, descr.starts_with('>'), fortran, sizes))
}

/// A type as NumPy writes it: `|u1`, `<i8`, `<U12`.
fn element(descr: &str) -> Option<Element> {
    let descr = descr.trim_start_matches(['<', '>', '|', '=']);
    let kind = descr.chars().next()?;
    let size: usize = descr[kind.len_utf8()..].parse().ok()?;
    match (kind, size) {
        ('u' | 'i', 1 | 2 | 4 | 8) => Some(Element::Integer {
            bytes: size,
            signed: kind == 'i',
        }),
        ('f', 4 | 8) => Some(Element::Float { bytes: size }),
        ('U', 0..=1024) => Some(Element::Text { characters: size }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::write::{SimpleFileOptions, ZipWriter};

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/readers");

    fn fixture(name: &str) -> Result<Dataset> {
        read(&Path::new(FIXTURES).join(name))
    }

    fn npy(descr: &str, fortran: bool, shape: &str, bytes: &[u8]) -> Vec<u8> {
        let fortran = if fortran { "True" } else { "False" };
        let header =
            format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}");
        let mut npy = b"\x93NUMPY\x01\x00".to_vec();
        npy.extend((header.len() as u16).to_le_bytes());
        npy.extend(header.as_bytes());
        npy.extend(bytes);
        npy
    }

    /// An archive of these `.npy` files, read.
    fn read_of(files: &[(&str, &[u8])]) -> Result<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        for (name, bytes) in files {
            let name = format!("{name}.npy");
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
        read(&path)
    }

    /// Two images of 2×2 pixels as this array.
    fn read_images(descr: &str, shape: &str, bytes: &[u8]) -> Result<Dataset> {
        let labels = npy("'|u1'", false, "(2,)", &[0, 1]);
        read_of(&[("x", &npy(descr, false, shape, bytes)), ("y", &labels)])
    }

    fn read_labels(descr: &str, shape: &str, bytes: &[u8]) -> Result<Dataset> {
        let images = npy("'|u1'", false, "(2, 2, 2)", &[0; 8]);
        read_of(&[("x", &images), ("y", &npy(descr, false, shape, bytes))])
    }

    fn told(result: Result<Dataset>) -> String {
        let error = result.unwrap_err();
        format!("{error}; {}", error.remedy())
    }

    /// See tests/fixtures/readers/make.py.
    #[test]
    fn what_numpy_saves_is_read() {
        let keras = fixture("keras.npz").unwrap();
        keras.check().unwrap();
        assert_eq!(keras.classes, ["red", "grün", "blue"]);
        assert_eq!(keras.train.labels, [0, 1, 2, 0, 1, 2]);
        let test = keras.test.as_ref().unwrap();
        assert_eq!(test.labels, [2, 1, 0]);
        let images = &test.images;
        assert_eq!((images.height, images.width, images.channels), (4, 4, 3));
        assert!(images.pixels.iter().copied().eq(0..144));

        let medical = fixture("medmnist.npz").unwrap();
        medical.check().unwrap();
        assert_eq!(medical.classes, ["0", "1", "2", "3"]);
        assert_eq!(medical.train.labels, [0, 3, 0, 3]);
        assert_eq!(medical.train.images.channels, 1);
        assert_eq!(medical.validation.unwrap().labels, [0, 3]);
        assert_eq!(medical.test.unwrap().labels, [0]);

        // The same numbers in another order are the same images.
        let order = fixture("order.npz").unwrap();
        assert_eq!(order.train, keras.train);
    }

    #[test]
    fn other_arrays_are_refused_with_what_to_do() {
        for (file, parts) in [
            ("float.npz", ["float32; uint8", "(x * 255)"]),
            ("onehot.npz", ["(2, 2); (n,)", "argmax"]),
            ("objects.npz", ["objects", "numbers"]),
            ("unnamed.npz", ["names, pictures", "x_train"]),
        ] {
            let told = told(fixture(file));
            for part in parts {
                assert!(told.contains(part), "{told}");
            }
        }
        let pixels = [0; 200];
        for (shape, part) in [
            ("(2, 4)", "height and width"),
            ("(2, 2, 2, 4)", "[..., :3]"),
            ("(2, 3, 2, 3)", "both may be the channels"),
            ("(2, 2, 2, 5)", "(2, 2, 2, 5)"),
            ("(2, 2, 2, 1, 1)", "give it such a shape"),
            ("(2,)", "(2,)"),
            ("()", "()"),
        ] {
            let sizes = shape.trim_matches(['(', ')']).split(',');
            let sizes = sizes.filter_map(|size| size.trim().parse::<usize>().ok());
            let told = told(read_images("'|u1'", shape, &pixels[..sizes.product()]));
            assert!(told.contains(part), "{told}");
        }
        assert!(told(read_images("'|b1'", "(2, 2, 2)", &[0; 8])).contains("|b1"));
        assert!(told(read_images("'<i2'", "(2, 2, 2)", &[0; 16])).contains("int16; uint8"));
        assert!(told(read_labels("'|i1'", "(2,)", &[0, 0xff])).contains("label -1 in row 1"));
        assert!(told(read_labels("'|u1'", "(3,)", &[0; 3])).contains("3 labels for 2 images"));
        let far = told(read_labels("'<u4'", "(2,)", &[0, 0, 0, 0, 0, 0, 0, 9]));
        assert!(far.contains("label 150994944 in row 1"), "{far}");
        assert!(told(read_labels("'<U1'", "(2,)", &[0; 8])).contains("no whole number"));
        let images = npy("'|u1'", false, "(2, 2, 2)", &[0; 8]);
        assert!(told(read_of(&[("x_train", &images)])).contains("no labels for them, y_train"));
        assert!(told(read_of(&[])).contains("no array in it"));
    }

    #[test]
    fn a_header_is_not_believed() {
        let bytes = [0; 8];
        for (shape, part) in [
            ("(2, 2, 3)", "8 bytes after the header; 12 were"),
            ("(2, 2, 1)", "more than 4 bytes"),
            ("(0, 2, 2)", "nothing in it"),
            ("(2, 70000, 70000)", "may unfold to"),
            ("(4294967296, 4294967296, 4294967296)", "may unfold to"),
            ("(2, 2, -2)", "no shape"),
            ("(2, 2", "no shape"),
            ("2", "no shape"),
        ] {
            let told = told(read_images("'|u1'", shape, &bytes));
            assert!(told.contains(part), "{told}");
        }
        for descr in [
            "'|u9'",
            "'é1'",
            "''",
            "'<U99999999999999999999'",
            "'<M8[s]'",
            "'<f2'",
        ] {
            assert!(told(read_images(descr, "(2, 2, 2)", &bytes)).contains("not read"));
        }
        assert!(told(read_images("[('a', '<i4')]", "(2,)", &bytes)).contains("records"));
        let labels = npy("'|u1'", false, "(2,)", &[0, 1]);
        for (file, part) in [
            (&b""[..], "before its header does"),
            (b"\x93NUMPY\x01\x00\xff\xff{", "before its header does"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "claims to have"),
            (b"\x93NUMPY\x01\x00\x02\x00{}", "no \"descr\""),
            (b"<html>404 not found", "not start as an array"),
        ] {
            let told = told(read_of(&[("x", file), ("y", &labels)]));
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        assert!(told(read(&path)).contains("check the path"));
        assert!(told(read(folder.path())).contains("it is a folder"));
        for bytes in [&b""[..], b"PK", b"<html>404</html>", &[0; 100]] {
            std::fs::write(&path, bytes).unwrap();
            assert!(told(read(&path)).contains("no whole zip archive"));
        }
    }

    /// Any byte may be any other, and a file may end anywhere.
    #[test]
    fn damage_never_panics() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        for name in ["keras.npz", "order.npz"] {
            let whole = std::fs::read(Path::new(FIXTURES).join(name)).unwrap();
            for at in 0..whole.len() {
                std::fs::write(&path, &whole[..at]).unwrap();
                assert!(read(&path).is_err());
                let mut damaged = whole.clone();
                damaged[at] ^= 0xff;
                std::fs::write(&path, damaged).unwrap();
                if let Ok(data) = read(&path) {
                    _ = data.check();
                }
            }
        }
    }
}
