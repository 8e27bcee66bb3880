//! Street View House Numbers, cropped (Netzer et al.: *Reading Digits in Natural Images with
//! Unsupervised Feature Learning*, 2011): MATLAB files with the arrays `X`, images of shape
//! (height, width, 3, n) in `uint8`, and `y`, their labels: 1 to 9, and 10 for the digit 0.
//!
//! Of MATLAB's format, level 5, only arrays of numbers are read, compressed or not. A file is a
//! header of 128 bytes and elements; an element is a tag (kind, length) and its bytes, padded to a
//! multiple of 8; an array is an element of elements: flags, sizes, name, numbers, the first size
//! running fastest (The MathWorks: *MAT-File Format*). This is a reader of our own because those
//! there are as crates unfold compressed elements without a bound.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::ZlibDecoder;

use super::arrays::{self, Array, Axes, Element, shape};
use super::{Dataset, Split, files};
use crate::error::{Error, Result};
use crate::input;

const TRAIN: &str = "train_32x32.mat";
const TEST: &str = "test_32x32.mat";
const EXTRA: &str = "extra_32x32.mat";

/// MATLAB leaves a last axis of length 1 out.
const AXES: Axes = Axes {
    image: 3,
    row: 0,
    column: 1,
    channel: Some(2),
};

/// Reads a folder with `train_32x32.mat` and `test_32x32.mat`, or one such file, all of whose images
/// are then to train on. `extra_32x32.mat` is passed over. The classes are the digits.
///
/// # Errors
/// [`Error::Data`] for a file that is missing, cut short, of another format or without the two
/// arrays, and for a label that is none, with the file and the row; [`Error::Io`] for one that
/// cannot be read.
pub fn read(path: &Path) -> Result<Dataset> {
    let (train, test) = match path.is_dir() {
        true => (need(path, TRAIN)?, Some(need(path, TEST)?)),
        false => (path.to_path_buf(), None),
    };
    let extra = path.join(EXTRA);
    Ok(Dataset {
        name: format!("svhn:{}", path.display()),
        classes: (0..10).map(|digit| digit.to_string()).collect(),
        train: read_split(&train)?,
        validation: None,
        test: test.map(|test| read_split(&test)).transpose()?,
        notes: match extra.is_file() {
            true => vec![format!(
                "{} is not read: only train and test are",
                extra.display()
            )],
            false => Vec::new(),
        },
        ..Dataset::default()
    })
}

/// A file of a folder, which must be there.
fn need(folder: &Path, name: &str) -> Result<std::path::PathBuf> {
    let path = folder.join(name);
    match path.is_file() {
        true => Ok(path),
        false => Err(Error::data(
            path.display(),
            "this file is missing",
            format!("a folder of {TRAIN} and {TEST} was expected, or one such file"),
        )),
    }
}

fn read_split(path: &Path) -> Result<Split> {
    /// Longer than the longest of the set's own files, `extra`.
    const LONGEST: u64 = 2_000_000_000;
    let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    if length > LONGEST {
        let problem = format!("it has {length} bytes, and at most {LONGEST} are read");
        return Err(Error::data(
            path.display(),
            problem,
            "the set's own files are smaller: fetch it again",
        ));
    }
    let [images, labels] = arrays(path, ["X", "y"])?;
    let mut numbers = labels.labels()?;
    for (row, label) in numbers.iter_mut().enumerate() {
        *label = match *label {
            10 => 0,
            0..10 => *label,
            _ => {
                let problem = format!("label {label} in row {row} (counted from 0) is no digit");
                let remedy = "labels are 1 to 9, and 10 for the digit 0";
                return Err(Error::data(labels.place, problem, remedy));
            }
        };
    }
    if !matches!(images.shape[..], [_, _, 1 | 3] | [_, _, 1 | 3, _]) {
        let problem = format!(
            "its shape is {}; (height, width, 3, n) was expected",
            shape(&images.shape)
        );
        return Err(Error::data(
            images.place,
            problem,
            "permute it to such a shape",
        ));
    }
    arrays::split(images.images(AXES)?, &numbers, &labels.place)
}

/// The arrays of these names, all of which must be in the file.
fn arrays<const N: usize>(path: &Path, names: [&str; N]) -> Result<[Array; N]> {
    let error = |problem: String| {
        let remedy = "it is damaged or incomplete, or no MATLAB file: fetch or save it again";
        Error::data(path.display(), problem, remedy)
    };
    let mut file = Mat::open(path)?;
    let mut found = names.map(|_| None);
    while let Some((name, array)) = file.next(&names).map_err(error)? {
        let place = names.iter().position(|&wanted| wanted == name);
        found[place.expect("only these are read")] = Some(array);
    }
    if let Some(missing) = found.iter().position(Option::is_none) {
        let problem = format!("there is no array {:?} in it", names[missing]);
        let remedy = format!("arrays {} were expected", names.join(" and "));
        return Err(Error::data(path.display(), problem, remedy));
    }
    Ok(found.map(|array| array.expect("none is missing")))
}

/// Kinds of elements.
const COMPRESSED: u32 = 15;
const MATRIX: u32 = 14;

/// A file, at one of its elements. What is wrong with it is told without its name.
struct Mat {
    file: BufReader<File>,
    place: String,
    big_endian: bool,
    /// Bytes that an array may have.
    most: u64,
}

impl Mat {
    fn open(path: &Path) -> Result<Self> {
        let (file, length) = input::open(path)?;
        let most = files::may_unfold_to(length);
        let mut file = BufReader::new(file);
        let mut header = Vec::new();
        let read = file.by_ref().take(128).read_to_end(&mut header);
        read.map_err(Error::io("read", path))?;
        let (problem, remedy) = match header.get(124..) {
            _ if header.starts_with(b"MATLAB 7.3") || header.starts_with(b"\x89HDF") => (
                "this is a file of MATLAB 7.3 (HDF5), which is not read",
                "save it again in MATLAB: save(file, \"X\", \"y\", \"-v7\")",
            ),
            Some([_, 1, b'I', b'M'] | [1, _, b'M', b'I']) => {
                return Ok(Self {
                    file,
                    place: path.display().to_string(),
                    big_endian: header[126] == b'M',
                    most,
                });
            }
            _ => (
                "this is no MATLAB file, level 5",
                "give SVHN's train_32x32.mat, or the folder that it is in",
            ),
        };
        Err(Error::data(path.display(), problem, remedy))
    }

    /// The next array of one of these names; `None` at the end.
    fn next(&mut self, names: &[&str]) -> Result<Option<(String, Array)>, String> {
        while let Some(tag) = Tag::read(&mut self.file, self.big_endian)? {
            let mut element = self.file.by_ref().take(tag.bytes);
            let mut parts = Parts {
                place: &self.place,
                big_endian: self.big_endian,
                most: self.most,
                names,
            };
            let array = match tag.kind {
                _ if tag.short.is_some() => None,
                MATRIX => parts.array(&mut element)?,
                COMPRESSED => {
                    let mut unfolded = ZlibDecoder::new(&mut element);
                    match Tag::read(&mut unfolded, self.big_endian)? {
                        Some(Tag {
                            kind: MATRIX,
                            bytes,
                            short: None,
                        }) => parts.array(&mut unfolded.take(bytes))?,
                        _ => None,
                    }
                }
                _ => None,
            };
            if tag.short.is_none() {
                io::copy(&mut element, &mut io::sink()).map_err(damaged)?;
                if element.limit() > 0 {
                    return Err("the file ends inside of an element".to_owned());
                }
            }
            if array.is_some() {
                return Ok(array);
            }
        }
        Ok(None)
    }
}

fn damaged(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the file ends inside of an element".to_owned(),
        _ => format!("it cannot be unpacked: {error}"),
    }
}

/// What is before an element's bytes.
struct Tag {
    kind: u32,
    bytes: u64,
    /// The bytes themselves where there are at most four: they are in the tag.
    short: Option<[u8; 4]>,
}

impl Tag {
    /// `None` at the end.
    fn read(from: &mut impl Read, big_endian: bool) -> Result<Option<Self>, String> {
        let mut tag = Vec::new();
        from.take(8).read_to_end(&mut tag).map_err(damaged)?;
        let Some((&kind, rest)) = tag.split_first_chunk() else {
            return match tag.is_empty() {
                true => Ok(None),
                false => Err("the file ends inside of an element".to_owned()),
            };
        };
        let Some(&last) = rest.first_chunk() else {
            return Err("the file ends inside of an element".to_owned());
        };
        let number = |bytes: [u8; 4]| match big_endian {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        };
        let (kind, bytes) = (number(kind), number(last));
        Ok(Some(match kind >> 16 {
            0 => Self {
                kind,
                bytes: u64::from(bytes),
                short: None,
            },
            bytes => Self {
                kind: kind & 0xffff,
                bytes: u64::from(bytes.min(4)),
                short: Some(last),
            },
        }))
    }

    /// What the elements of an array are that has its numbers in this.
    fn element(&self) -> Option<Element> {
        let integer = |bytes, signed| Some(Element::Integer { bytes, signed });
        match self.kind {
            1 => integer(1, true),
            2 => integer(1, false),
            3 => integer(2, true),
            4 => integer(2, false),
            5 => integer(4, true),
            6 => integer(4, false),
            7 => Some(Element::Float { bytes: 4 }),
            9 => Some(Element::Float { bytes: 8 }),
            12 => integer(8, true),
            13 => integer(8, false),
            _ => None,
        }
    }

    /// The element's bytes, up to `most` of them.
    fn content(&self, from: &mut impl Read, most: u64) -> Result<Vec<u8>, String> {
        if let Some(short) = self.short {
            return Ok(short[..self.bytes as usize].to_vec());
        }
        if self.bytes > most {
            return Err(format!("an element claims to have {} bytes", self.bytes));
        }
        let padded = self.bytes.next_multiple_of(8);
        let mut content = Vec::new();
        from.take(padded)
            .read_to_end(&mut content)
            .map_err(damaged)?;
        if (content.len() as u64) < self.bytes {
            return Err("the file ends inside of an element".to_owned());
        }
        content.truncate(self.bytes as usize);
        Ok(content)
    }
}

/// What is needed to read the parts of an array.
struct Parts<'a> {
    place: &'a str,
    big_endian: bool,
    most: u64,
    names: &'a [&'a str],
}

impl Parts<'_> {
    /// The array, if it has one of the names that are wanted.
    fn array(&mut self, from: &mut impl Read) -> Result<Option<(String, Array)>, String> {
        /// Longer than all flags, shapes and names.
        const SHORT: u64 = 1024;
        let mut part = |most| {
            let tag = Tag::read(from, self.big_endian)?;
            let tag = tag.ok_or("an array ends before its numbers")?;
            let content = tag.content(from, most)?;
            Ok::<_, String>((tag, content))
        };
        let (_, flags) = part(SHORT)?;
        let (_, sizes) = part(SHORT)?;
        let (_, name) = part(SHORT)?;
        let name = String::from_utf8_lossy(&name).into_owned();
        if !self.names.contains(&name.as_str()) {
            return Ok(None);
        }
        let flags = flags.first_chunk().map(|&flags| self.number(flags));
        const COMPLEX: u32 = 0x800;
        // Of the classes, 6 to 15 are full arrays of numbers.
        if !flags.is_some_and(|flags| (6..=15).contains(&(flags & 0xff)) && flags & COMPLEX == 0) {
            return Err(format!("{name:?} is no array of plain numbers"));
        }
        let sizes = sizes.as_chunks().0.iter();
        let sizes: Vec<usize> = sizes.map(|&size| self.number(size) as usize).collect();
        let (tag, bytes) = part(self.most)?;
        let element = tag.element();
        let element = element.ok_or_else(|| format!("{name:?} is no array of numbers"))?;
        let expected = sizes
            .iter()
            .try_fold(element.bytes(), |bytes, &size| bytes.checked_mul(size));
        if expected != Some(bytes.len()) || bytes.is_empty() {
            let (got, sizes) = (bytes.len(), shape(&sizes));
            return Err(format!(
                "{name:?} has {got} bytes, which its shape, {sizes}, does not"
            ));
        }
        let array = Array {
            place: format!("{name} in {}", self.place),
            shape: sizes,
            element,
            big_endian: self.big_endian,
            first_runs_fastest: true,
            bytes,
        };
        Ok(Some((name, array)))
    }

    fn number(&self, bytes: [u8; 4]) -> u32 {
        match self.big_endian {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::ZlibEncoder};
    use std::fs;
    use std::io::Write;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/readers");

    fn told(result: Result<Dataset>) -> String {
        let error = result.unwrap_err();
        format!("{error}; {}", error.remedy())
    }

    fn header() -> Vec<u8> {
        let mut header = b"MATLAB 5.0 MAT-file".to_vec();
        header.resize(124, b' ');
        header.extend([0, 1, b'I', b'M']);
        header
    }

    fn element(kind: u32, bytes: &[u8]) -> Vec<u8> {
        let mut element = kind.to_le_bytes().to_vec();
        element.extend((bytes.len() as u32).to_le_bytes());
        element.extend(bytes);
        element.resize(element.len().next_multiple_of(8), 0);
        element
    }

    /// An array of a class, with its numbers as elements of a kind.
    fn matrix(class: u8, sizes: &[i32], name: &str, kind: u32, bytes: &[u8]) -> Vec<u8> {
        let sizes: Vec<u8> = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
        let parts = [
            element(6, &[class, 0, 0, 0, 0, 0, 0, 0]),
            element(5, &sizes),
            element(1, name.as_bytes()),
            element(kind, bytes),
        ];
        element(14, &parts.concat())
    }

    fn compressed(matrix: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(matrix).unwrap();
        let mut element = element(15, &encoder.finish().unwrap());
        // Compressed elements are not padded.
        let length = u32::from_le_bytes(element[4..8].try_into().unwrap());
        element.truncate(8 + length as usize);
        element
    }

    fn read_of(elements: &[Vec<u8>]) -> Result<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mat");
        fs::write(&path, [header(), elements.concat()].concat()).unwrap();
        read(&path)
    }

    /// Two images of 2×2 pixels, and their labels.
    fn x() -> Vec<u8> {
        matrix(9, &[2, 2, 3, 2], "X", 2, &(0..24).collect::<Vec<u8>>())
    }

    fn y(labels: &[u8]) -> Vec<u8> {
        matrix(9, &[labels.len() as i32, 1], "y", 2, labels)
    }

    /// See tests/fixtures/readers/make.py.
    #[test]
    fn what_scipy_saves_is_read() {
        let folder = Path::new(FIXTURES).join("svhn");
        let data = read(&folder).unwrap();
        data.check().unwrap();
        assert_eq!(data.classes[9], "9");
        assert_eq!(data.train.labels, [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]);
        let test = data.test.unwrap();
        assert_eq!(test.labels, [1, 2, 3, 4, 5]);
        assert_eq!((test.images.height, test.images.channels), (4, 3));
        assert!(test.images.pixels.iter().copied().eq(0..240));

        let one = read(&folder.join(TRAIN)).unwrap();
        assert_eq!((one.train, one.test), (data.train, None));
        // Not compressed, numbers of another class, another array before.
        let plain = read(&Path::new(FIXTURES).join("plain.mat")).unwrap();
        assert_eq!(plain.train.labels, [1, 0]);
        assert!(plain.train.images.pixels.iter().copied().eq(0..96));
    }

    #[test]
    fn half_a_copy_is_refused_and_what_is_extra_told() {
        let folder = tempfile::tempdir().unwrap();
        assert!(told(read(folder.path())).contains("train_32x32.mat: this file is missing"));
        let train = [header(), x(), y(&[1, 10])].concat();
        fs::write(folder.path().join(TRAIN), &train).unwrap();
        assert!(told(read(folder.path())).contains("test_32x32.mat: this file is missing"));
        fs::write(folder.path().join(TEST), &train).unwrap();
        assert!(read(folder.path()).unwrap().notes.is_empty());
        fs::write(folder.path().join(EXTRA), b"x").unwrap();
        assert_eq!(read(folder.path()).unwrap().notes.len(), 1);
        assert!(told(read(&folder.path().join("none.mat"))).contains("check the path"));
    }

    #[test]
    fn arrays_that_are_not_svhns_are_refused() {
        let data = read_of(&[compressed(&x()), y(&[1, 10])]).unwrap();
        assert_eq!(data.train.labels, [1, 0]);
        assert_eq!(data.train.images.image(0)[..4], [0, 4, 8, 2]);
        for (elements, part) in [
            (vec![], "no array \"X\""),
            (vec![x()], "no array \"y\""),
            (vec![x(), y(&[1])], "1 labels for 2 images"),
            (vec![x(), y(&[1, 11])], "label 11 in row 1"),
            (
                vec![matrix(9, &[2, 2, 6], "X", 2, &[0; 24]), y(&[1])],
                "(2, 2, 6)",
            ),
            (
                vec![matrix(9, &[2, 2, 4, 2], "X", 2, &[0; 32]), y(&[1, 2])],
                "(2, 2, 4, 2)",
            ),
            (
                vec![matrix(6, &[2, 2, 3, 2], "X", 9, &[0; 192]), y(&[1, 2])],
                "float64; uint8",
            ),
            (
                vec![matrix(9, &[2, 2, 3, 2], "X", 2, &[0; 23]), y(&[1, 2])],
                "has 23 bytes",
            ),
            (
                vec![matrix(9, &[i32::MAX; 4], "X", 2, &[0; 24])],
                "has 24 bytes",
            ),
            (vec![matrix(9, &[-1; 4], "X", 2, &[0; 24])], "has 24 bytes"),
            (vec![matrix(9, &[0, 0, 3, 0], "X", 2, &[])], "has 0 bytes"),
            (
                vec![matrix(1, &[1, 1], "X", 14, &[0; 24])],
                "no array of plain numbers",
            ),
            (
                vec![matrix(9, &[2, 2, 3, 2], "X", 14, &[0; 24])],
                "no array of numbers",
            ),
        ] {
            let told = told(read_of(&elements));
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mat");
        let mut hdf5 = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".to_vec();
        hdf5.resize(2000, 0);
        for (bytes, part) in [
            (&b""[..], "no MATLAB file"),
            (b"<html>404</html>", "no MATLAB file"),
            (&[0; 500], "no MATLAB file"),
            (&hdf5, "\"-v7\""),
            (b"\x89HDF\r\n\x1a\n", "\"-v7\""),
        ] {
            fs::write(&path, bytes).unwrap();
            let told = told(read(&path));
            assert!(told.contains(part), "{told}");
        }
    }

    /// Any byte may be any other, and a file may end anywhere.
    #[test]
    fn damage_never_panics() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mat");
        for name in ["svhn/test_32x32.mat", "plain.mat"] {
            let whole = fs::read(Path::new(FIXTURES).join(name)).unwrap();
            for at in 0..whole.len() {
                fs::write(&path, &whole[..at]).unwrap();
                assert!(read(&path).is_err());
                let mut damaged = whole.clone();
                damaged[at] ^= 0xff;
                fs::write(&path, damaged).unwrap();
                if let Ok(data) = read(&path) {
                    _ = data.check();
                }
            }
        }
    }
}
