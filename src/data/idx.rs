//! MNIST's IDX files (LeCun, Cortes, Burges), which Fashion-MNIST uses, too.
//!
//! A file is two zero bytes, 8 for "8-bit unsigned", the number of dimensions, each dimension as a
//! big-endian 32-bit number, and then the elements, the last dimension running fastest.

use std::path::Path;

use super::files::{Files, gunzip};
use super::{Dataset, Images, Split};
use crate::error::{Error, Result};

/// The official names, each also with `.gz`: images and labels to train on, then to test on.
pub(super) const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// More than MNIST (47 MB) by far, and a bound on what malicious gzip can unfold to.
const LARGEST: u64 = 1 << 30;

/// Reads the four files of MNIST, or of a set laid out like it, from a folder; each may be
/// gzipped. Images are grey, of the size the files say.
///
/// # Errors
/// [`Error::Data`] for a file that is missing, empty, cut short or no IDX file, and for a label
/// that has no class, with the file and the record; [`Error::Io`] for one that cannot be read.
pub fn read(name: &str, classes: &[&str], folder: &Path) -> Result<Dataset> {
    let mut files = Files::open(folder, &[])?;
    let [train_images, train_labels, test_images, test_labels] = FILES;
    let mut read_split = |images: &str, labels: &str| {
        let (sizes, pixels, images_place) = read_file::<3>(&mut files, images)?;
        let (_, labels, place) = read_file::<1>(&mut files, labels)?;
        if labels.len() != sizes[0] {
            let problem = format!("{} labels for {} images", labels.len(), sizes[0]);
            let remedy = "the two files do not belong together: delete both and fetch them again";
            return Err(Error::data(place, problem, remedy));
        }
        if pixels.is_empty() {
            let remedy = "delete it and fetch it again";
            return Err(Error::data(images_place, "there is no image in it", remedy));
        }
        let wrong = |&label: &u8| usize::from(label) >= classes.len();
        if let Some(record) = labels.iter().position(wrong) {
            let (label, classes) = (labels[record], classes.len());
            let problem = format!(
                "label {label} in record {record} (counted from 0), but there are only {classes} \
                 classes"
            );
            let remedy =
                "the file is damaged or belongs to another data set: delete it and fetch it again";
            return Err(Error::data(place, problem, remedy));
        }
        Ok(Split {
            images: Images {
                height: sizes[1],
                width: sizes[2],
                channels: 1,
                pixels,
            },
            labels: labels.into_iter().map(u32::from).collect(),
            ..Split::default()
        })
    };
    Ok(Dataset {
        name: name.to_owned(),
        classes: classes.iter().map(|&class| class.to_owned()).collect(),
        train: read_split(train_images, train_labels)?,
        validation: None,
        test: Some(read_split(test_images, test_labels)?),
        ..Dataset::default()
    })
}

/// A file's dimensions, its elements, and its name for messages.
fn read_file<const N: usize>(
    files: &mut Files,
    name: &str,
) -> Result<([usize; N], Vec<u8>, String)> {
    let gzipped = format!("{name}.gz");
    let (bytes, place) = match files.get(&gzipped)? {
        Some(bytes) => (bytes, files.place(&gzipped)),
        None => (files.need(name)?, files.place(name)),
    };
    let error = |problem: String| {
        let remedy = "it is damaged, or another kind of file: delete it and fetch it again";
        Error::data(&place, problem, remedy)
    };
    if bytes.is_empty() {
        return Err(error("the file is empty".to_owned()));
    }
    let unzipped = |bytes: Vec<u8>, most: u128| {
        let bytes = gunzip(bytes, most.min(u128::from(LARGEST)) as u64);
        bytes.map_err(|e| error(format!("it cannot be unzipped: {e}")))
    };
    let header = 4 + 4 * N;
    // No more is unfolded than the header says, which a few of the bytes hold.
    let some = bytes[..bytes.len().min(1 << 16)].to_vec();
    let begin = unzipped(some, header as u128)?;
    if begin.len() < header || begin[..4] != [0, 0, 8, N as u8] {
        let start = &begin[..begin.len().min(4)];
        let expected = super::hex(&[0, 0, 8, N as u8]);
        let start = super::hex(start);
        return Err(error(format!(
            "it starts with {start}; an IDX file of bytes in {N} dimension(s) starts with {expected}"
        )));
    }
    let mut sizes = [0; N];
    for (size, bytes) in sizes.iter_mut().zip(begin[4..header].as_chunks().0) {
        *size = u32::from_be_bytes(*bytes) as usize;
    }
    // In 128 bits: three sizes of 32 bits each.
    let expected: u128 = sizes.iter().map(|&size| size as u128).product();
    let zipped = bytes.starts_with(&[0x1f, 0x8b]);
    let mut bytes = unzipped(bytes, header as u128 + expected + 1)?;
    let got = bytes.len() - header;
    if got as u128 != expected {
        let more = if zipped && got as u128 > expected {
            " or more"
        } else {
            ""
        };
        return Err(error(format!(
            "{got}{more} bytes after the header; {expected} were expected for {sizes:?}"
        )));
    }
    bytes.drain(..header);
    Ok((sizes, bytes, place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::fs;
    use std::io::Write;

    fn idx(sizes: &[u32], elements: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        sizes
            .iter()
            .for_each(|size| bytes.extend(size.to_be_bytes()));
        bytes.extend(elements);
        bytes
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let pixels: Vec<u8> = (0..18).collect();
        let contents = [
            idx(&[3, 2, 3], &pixels),
            idx(&[3], &[0, 2, 1]),
            idx(&[1, 2, 3], &pixels[..6]),
            idx(&[1], &[2]),
        ];
        for (name, bytes) in FILES.iter().zip(contents) {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    fn read_it(folder: &tempfile::TempDir) -> Result<Dataset> {
        read("mnist", &["a", "b", "c"], folder.path())
    }

    #[test]
    fn no_more_is_unfolded_than_the_header_says() {
        let folder = tempfile::tempdir().unwrap();
        for name in FILES {
            // A header of two, or of two images of one pixel, and then 64 MB.
            let dimensions = if name.contains("idx3") { 3 } else { 1 };
            let mut bytes = vec![0, 0, 8, dimensions, 0, 0, 0, 2];
            for _ in 1..dimensions {
                bytes.extend([0, 0, 0, 1]);
            }
            bytes.resize(1 << 26, 0);
            let path = folder.path().join(format!("{name}.gz"));
            let mut gz = GzEncoder::new(fs::File::create(path).unwrap(), Compression::fast());
            gz.write_all(&bytes).unwrap();
            gz.finish().unwrap();
        }
        let error = read("x", &["a", "b"], folder.path()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(": 3 or more bytes after the header; 2 were"),
            "{error}"
        );
    }

    #[test]
    fn plain_and_gzipped_files_are_equal() {
        let folder = folder();
        let data = read_it(&folder).unwrap();
        data.check().unwrap();
        let images = &data.train.images;
        assert_eq!((images.height, images.width, images.channels), (2, 3, 1));
        assert_eq!(images.image(1), [6, 7, 8, 9, 10, 11]);
        assert_eq!(data.train.labels, [0, 2, 1]);
        assert_eq!(data.test.as_ref().unwrap().labels, [2]);

        for name in FILES {
            let plain = folder.path().join(name);
            let mut gz = GzEncoder::new(Vec::new(), Compression::default());
            gz.write_all(&fs::read(&plain).unwrap()).unwrap();
            let gzipped = folder.path().join(format!("{name}.gz"));
            fs::write(gzipped, gz.finish().unwrap()).unwrap();
            fs::remove_file(plain).unwrap();
        }
        assert_eq!(read_it(&folder).unwrap(), data);
    }

    #[test]
    fn damage_is_placed() {
        let complain = |file: usize, bytes: &[u8]| {
            let folder = folder();
            fs::write(folder.path().join(FILES[file]), bytes).unwrap();
            let error = read_it(&folder).unwrap_err().to_string();
            assert!(error.contains(FILES[file]), "{error}");
            error
        };
        let short = complain(0, &idx(&[3, 2, 3], &[0; 17]));
        assert!(
            short.contains("17 bytes after the header; 18 were"),
            "{short}"
        );
        let huge = complain(0, &idx(&[u32::MAX; 3], &[0; 18]));
        assert!(huge.contains("18 bytes after"), "{huge}");
        let swapped = complain(0, &idx(&[3], &[0, 1, 2]));
        assert!(swapped.contains("starts with 00000801"), "{swapped}");
        assert!(complain(1, &[]).contains("empty"));
        assert!(complain(1, &[0, 0]).contains("starts with 0000"));
        assert!(complain(1, &[0x1f, 0x8b, 8, 0]).contains("cannot be unzipped"));
        let label = complain(1, &idx(&[3], &[0, 3, 1]));
        assert!(label.contains("label 3 in record 1"), "{label}");
        assert!(complain(1, &idx(&[2], &[0, 1])).contains("2 labels for 3 images"));

        let folder = folder();
        fs::remove_file(folder.path().join(FILES[2])).unwrap();
        let error = read_it(&folder).unwrap_err().to_string();
        assert!(
            error.contains("t10k-images") && error.contains("missing"),
            "{error}"
        );
    }
}
