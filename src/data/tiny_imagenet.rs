//! Tiny-ImageNet (Le and Yang: *Tiny ImageNet Visual Recognition Challenge*, 2015), and what is laid
//! out like it:
//!
//! ```text
//! PATH/wnids.txt                        the classes, one identifier a line
//! PATH/words.txt                        identifier, tab, names (optional)
//! PATH/train/n01443537/images/*.JPEG
//! PATH/val/images/*.JPEG
//! PATH/val/val_annotations.txt          file, tab, identifier, …
//! ```
//!
//! Nobody but its authors has the labels of its `test`, so that the literature reports accuracy on
//! `val`: here `val` is what is tested on, and images to validate on are held out of `train`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::listed::{List, Lists};
use super::pictures::{Decoded, Square};
use super::{Dataset, files};
use crate::error::{Error, Result};
use crate::{input, words};

const ENDINGS: [&str; 3] = ["jpeg", "jpg", "png"];
const CLASSES: &str = "wnids.txt";
const NAMES: &str = "words.txt";
const ANNOTATIONS: &str = "val_annotations.txt";

/// Whether a folder is laid out so.
pub(super) fn is_it(folder: &Path) -> bool {
    folder.join(CLASSES).is_file() && folder.join("val").join(ANNOTATIONS).is_file()
}

/// Reads all images, each brought to a square as [`pictures::read`](super::pictures::read) does.
/// Classes are in the order of `wnids.txt`, and called by the first of their names in `words.txt`,
/// or by their identifiers. An image that cannot be decoded is passed over.
///
/// # Errors
/// [`Error::Data`] for a file or folder that is missing, for a class without images, and for a line
/// that names no image or class that is there, with the line; [`Error::Io`] for what cannot be
/// read; and as [`pictures::read`](super::pictures::read).
pub fn read(path: &Path, square: Square, decoded: &mut Decoded) -> Result<Dataset> {
    let identifiers = identifiers(&path.join(CLASSES))?;
    let mut train = List::new();
    for (number, identifier) in (0..).zip(&identifiers) {
        let folder = path.join("train").join(identifier);
        let images = images(&folder)?;
        train.extend(images.into_iter().map(|image| (number, image)));
    }
    let test = annotated(&path.join("val"), &identifiers)?;
    let lists = Lists {
        name: format!("tiny-imagenet:{}", path.display()),
        classes: names(&path.join(NAMES), &identifiers)?,
        splits: [train, List::new(), test],
        notes: unlisted(&path.join("train"), &identifiers)?,
        ..Lists::default()
    };
    lists.read(square, decoded)
}

/// The lines of a text file that have something in them, each with its number, counted from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines.filter(|(_, line)| !line.is_empty())
}

fn line_error(file: &Path, line: usize, problem: String) -> Error {
    let place = format!("{}, line {line}", file.display());
    Error::data(
        place,
        problem,
        "the file is damaged: unpack the data set again",
    )
}

fn identifiers(file: &Path) -> Result<Vec<String>> {
    let text = input::text(file, files::LONGEST_LIST)?;
    let mut seen = HashMap::new();
    let mut identifiers = Vec::new();
    for (line, identifier) in lines(&text) {
        if !is_plain(identifier) {
            return Err(line_error(
                file,
                line,
                format!("{identifier:?} is no class"),
            ));
        }
        if let Some(first) = seen.insert(identifier, line) {
            let problem = format!("{identifier} is in line {first} already");
            return Err(line_error(file, line, problem));
        }
        identifiers.push(identifier.to_owned());
    }
    if identifiers.len() < 2 {
        let problem = format!(
            "it has {} class(es): nothing to tell apart",
            identifiers.len()
        );
        let remedy = "one identifier a line was expected, as n01443537";
        return Err(Error::data(file.display(), problem, remedy));
    }
    Ok(identifiers)
}

/// Whether a name leads to nothing but a file or folder of that name.
fn is_plain(name: &str) -> bool {
    !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
}

/// What the classes are called; two of the same name are told apart by their identifiers.
fn names(file: &Path, identifiers: &[String]) -> Result<Vec<String>> {
    if !file.exists() {
        return Ok(identifiers.to_vec());
    }
    let text = input::text(file, files::LONGEST_LIST)?;
    let called: HashMap<&str, &str> = lines(&text)
        .filter_map(|(_, line)| line.split_once('\t'))
        .map(|(identifier, names)| (identifier, names.split(',').next().unwrap_or(names).trim()))
        .collect();
    let name = |identifier: &String| match called.get(identifier.as_str()) {
        Some(name) if !name.is_empty() => (*name).to_owned(),
        _ => identifier.clone(),
    };
    let names: Vec<String> = identifiers.iter().map(name).collect();
    let mut times = BTreeMap::new();
    names
        .iter()
        .for_each(|name| *times.entry(name).or_insert(0) += 1);
    let distinct = |(name, identifier): (&String, &String)| match times[name] {
        1 => name.clone(),
        _ => format!("{name} ({identifier})"),
    };
    Ok(names.iter().zip(identifiers).map(distinct).collect())
}

/// What is told of folders that look like classes and are none.
fn unlisted(train: &Path, identifiers: &[String]) -> Result<Vec<String>> {
    let known: HashSet<&str> = identifiers.iter().map(String::as_str).collect();
    let mut unlisted = Vec::new();
    for entry in fs::read_dir(train).map_err(Error::io("list", train))? {
        let path = entry.map_err(Error::io("list", train))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !known.contains(&*name) && path.join("images").is_dir() {
            unlisted.push(name.into_owned());
        }
    }
    unlisted.sort_unstable();
    Ok(match unlisted.is_empty() {
        true => Vec::new(),
        false => vec![format!(
            "{}: passed over, for they are not in {CLASSES}: {}",
            train.display(),
            words::listed(unlisted, 3)
        )],
    })
}

/// The images of a class, in the order of their names.
fn images(folder: &Path) -> Result<Vec<PathBuf>> {
    let folder = folder.join("images");
    let remedy = "the copy is incomplete: unpack the data set again";
    if !folder.is_dir() {
        return Err(Error::data(
            folder.display(),
            "this folder is missing",
            remedy,
        ));
    }
    let mut images = Vec::new();
    for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
        let path = entry.map_err(Error::io("list", &folder))?.path();
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && ENDINGS.iter().any(|&known| ending == known) {
            images.push(path);
        }
    }
    if images.is_empty() {
        return Err(Error::data(
            folder.display(),
            "there is no image in it",
            remedy,
        ));
    }
    images.sort_unstable();
    Ok(images)
}

/// The images of `val`, with the classes that its list gives them.
fn annotated(folder: &Path, identifiers: &[String]) -> Result<List> {
    let file = folder.join(ANNOTATIONS);
    if !file.is_file() {
        let remedy = "unpack the data set again; where val was sorted into class folders, read it \
                      as folder:PATH";
        return Err(Error::data(file.display(), "this file is missing", remedy));
    }
    let numbers: HashMap<&str, u32> = identifiers.iter().map(String::as_str).zip(0..).collect();
    let text = input::text(&file, files::LONGEST_LIST)?;
    let mut list = List::new();
    for (line, annotation) in lines(&text) {
        let mut columns = annotation.split('\t').map(str::trim);
        let (name, identifier) = (columns.next(), columns.next());
        let (Some(name), Some(identifier)) = (name, identifier) else {
            let problem = "a file, a tab and a class were expected".to_owned();
            return Err(line_error(&file, line, problem));
        };
        let Some(&number) = numbers.get(identifier) else {
            let problem = format!("{identifier:?} is not in {CLASSES}");
            return Err(line_error(&file, line, problem));
        };
        let image = folder.join("images").join(name);
        if !is_plain(name) || !image.is_file() {
            let problem = format!(
                "there is no image {name:?} in {}",
                folder.join("images").display()
            );
            return Err(line_error(&file, line, problem));
        }
        list.push((number, image));
    }
    if list.is_empty() {
        let remedy = "unpack the data set again";
        return Err(Error::data(file.display(), "the file is empty", remedy));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::super::listed::tests::picture;
    use super::*;

    fn copy() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            fs::create_dir_all(folder.path().join("val")).unwrap();
            fs::write(folder.path().join(name), text).unwrap();
        };
        write("wnids.txt", "n2\nn1\nn3\n");
        write("words.txt", "n1\tcrane\nn2\tcrane, bird\nn4\tx\n");
        write(
            "val/val_annotations.txt",
            "val_1.png\tn1\t0\t0\t9\t9\nval_0.png\tn2\t0\t0\t9\t9\n",
        );
        for (path, value) in [
            ("train/n1/images/n1_0.png", 10),
            ("train/n1/images/n1_1.png", 11),
            ("train/n2/images/n2_0.png", 20),
            ("train/n3/images/n3_0.png", 30),
            ("val/images/val_0.png", 40),
            ("val/images/val_1.png", 41),
        ] {
            picture(&folder.path().join(path), value);
        }
        write("train/n1/n1_boxes.txt", "n1_0.png\t0\t0\t9\t9\n");
        folder
    }

    fn read_it(folder: &tempfile::TempDir) -> Result<Dataset> {
        read(folder.path(), Square::new(8), &mut |_, _| ())
    }

    #[test]
    fn its_val_is_what_is_tested_on() {
        let folder = copy();
        assert!(is_it(folder.path()));
        let data = read_it(&folder).unwrap();
        data.check().unwrap();
        assert_eq!(data.classes, ["crane (n2)", "crane (n1)", "n3"]);
        assert_eq!(data.train.labels, [0, 1, 1, 2]);
        let values = |split: &super::super::Split| -> Vec<u8> {
            (0..split.len()).map(|i| split.images.image(i)[0]).collect()
        };
        assert_eq!(values(&data.train), [20, 10, 11, 30]);
        let test = data.test.unwrap();
        assert_eq!((values(&test), test.labels), (vec![41, 40], vec![1, 0]));
        assert_eq!(data.validation, None);
        fs::remove_file(folder.path().join("words.txt")).unwrap();
        assert_eq!(read_it(&folder).unwrap().classes, ["n2", "n1", "n3"]);
    }

    #[test]
    fn half_a_copy_is_refused() {
        for (gone, part) in [
            ("wnids.txt", "check the path"),
            ("val/val_annotations.txt", "folder:PATH"),
            ("train/n3", "this folder is missing"),
            ("train/n3/images/n3_0.png", "no image in it"),
            (
                "val/images/val_1.png",
                "line 1: there is no image \"val_1.png\"",
            ),
        ] {
            let folder = copy();
            let path = folder.path().join(gone);
            match path.is_dir() {
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
            let error = read_it(&folder).unwrap_err();
            let told = format!("{error}; {}", error.remedy());
            assert!(told.contains(part), "{told}");
        }
        assert!(read(Path::new("nowhere"), Square::new(8), &mut |_, _| ()).is_err());
    }

    #[test]
    fn a_folder_that_is_no_class_is_told() {
        let folder = copy();
        picture(&folder.path().join("train/n9/images/n9_0.png"), 1);
        let data = read_it(&folder).unwrap();
        assert!(data.notes[0].ends_with("wnids.txt: n9"), "{:?}", data.notes);
        assert_eq!(data.train.len(), 4);
    }

    #[test]
    fn damaged_lists_are_refused_with_the_line() {
        let annotations = "val/val_annotations.txt";
        for (name, text, part) in [
            ("wnids.txt", &b""[..], "0 class(es)"),
            ("wnids.txt", b"n1\n", "1 class(es)"),
            ("wnids.txt", b"n1\nn2\nn1\n", "line 3: n1 is in line 1"),
            (
                "wnids.txt",
                b"n1\n../../etc\n",
                "line 2: \"../../etc\" is no class",
            ),
            ("wnids.txt", b"n1\n..\n", "line 2: \"..\" is no class"),
            ("wnids.txt", b"n1\n\xff\n", "no text in UTF-8"),
            (annotations, b"", "the file is empty"),
            (
                annotations,
                b"val_0.png\tn1\nval_1.png n2\n",
                "line 2: a file, a tab",
            ),
            (
                annotations,
                b"val_0.png\tn9\n",
                "line 1: \"n9\" is not in wnids.txt",
            ),
            (
                annotations,
                b"../images/val_0.png\tn1\n",
                "line 1: there is no image",
            ),
            (
                annotations,
                b"/etc/passwd\tn1\n",
                "line 1: there is no image",
            ),
        ] {
            let folder = copy();
            fs::write(folder.path().join(name), text).unwrap();
            let error = read_it(&folder).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
