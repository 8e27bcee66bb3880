//! A CSV file of pictures' paths and labels.
//!
//! ```text
//! path,label,split
//! cats/1.png,cat,train
//! "dogs/a, b.jpg",dog,val
//! ```
//!
//! The first line names the columns, in any order and among others: a path (`path`, `file`,
//! `filename`, `image` or the like), a label (`label`, `class` or the like) and, where there is one,
//! a split (`split`, `set`, `subset`) with `train`, `val` (`valid`, `validation`, `dev`) or `test`
//! in it. Where it does not, the columns are a path, a label and perhaps a split, in that order.
//! Paths are relative to the file's folder. Labels are the classes' names, in the order of their
//! names, or of their numbers where all are numbers. Where the first line has no comma in it,
//! semicolons or tabs may stand between the columns.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ::csv::{Position, ReaderBuilder, StringRecord, Trim};

use super::listed::{List, Lists, SPLITS};
use super::pictures::{Decoded, Square};
use super::{Dataset, files};
use crate::error::{Error, Result};
use crate::{input, words};

/// What the columns are called, in small letters.
const PATH: [&str; 9] = [
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "img",
];
const LABEL: [&str; 6] = [
    "label",
    "class",
    "category",
    "class_name",
    "label_name",
    "target",
];
const SPLIT: [&str; 4] = ["split", "set", "subset", "partition"];

/// How many lines a message names.
const NAMED: usize = 3;

/// Reads all pictures that the file names, each brought to a square as
/// [`pictures::read`](super::pictures::read) does. A picture that cannot be decoded is passed over.
///
/// # Errors
/// [`Error::Data`], with the line, for a file without such columns or rows, for a row of other
/// columns, without a label, with a word that is no split, with a picture that is not there or was
/// named before, or with a class that is not among those to train on; for fewer than two classes;
/// and as [`pictures::read`](super::pictures::read). [`Error::Io`] for a file that cannot be read.
pub fn read(path: &Path, square: Square, decoded: &mut Decoded) -> Result<Dataset> {
    let (rows, notes) = rows(path)?;
    refuse_repeated(path, &rows)?;
    refuse_missing(path, &rows)?;
    let classes = classes(&rows);
    if classes.len() < 2 {
        let problem = match classes.first() {
            Some(only) => format!("there is only one class, {only:?}: nothing to tell apart"),
            None => "there is no row to train on in it".to_owned(),
        };
        let remedy = "give pictures of at least two classes, in rows path,label";
        return Err(Error::data(path.display(), problem, remedy));
    }
    let numbers: HashMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();
    let mut splits: [List; 3] = Default::default();
    for row in &rows {
        let Some(&number) = numbers.get(row.label.as_str()) else {
            let problem = format!("class {:?} is not among those to train on", row.label);
            let remedy = "train on a picture of it, too, or leave the row out";
            return Err(Error::data(place(path, row.line), problem, remedy));
        };
        splits[row.split].push((number, row.path.clone()));
    }
    let lists = Lists {
        name: format!("csv:{}", path.display()),
        classes,
        splits,
        notes,
        ..Lists::default()
    };
    lists.read(square, decoded)
}

/// One picture.
struct Row {
    /// Counted from 1.
    line: u64,
    path: PathBuf,
    label: String,
    /// A place in [`SPLITS`].
    split: usize,
}

fn place(path: &Path, line: u64) -> String {
    format!("{}, line {line}", path.display())
}

/// The rows, and what the user should know of them.
fn rows(path: &Path) -> Result<(Vec<Row>, Vec<String>)> {
    let text = input::text(path, files::LONGEST_LIST)?;
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .delimiter(delimiter(&text))
        .trim(Trim::All)
        .from_reader(text.as_bytes());
    let mut columns = None;
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    for record in reader.records() {
        let record = record.map_err(|error| unreadable(path, &text, &error))?;
        let columns = match &columns {
            Some(columns) => columns,
            None => {
                let (found, named) = Columns::of(&record, path)?;
                let found = columns.insert(found);
                if named {
                    continue;
                }
                notes.push(format!(
                    "{}: its first line names no columns; they are taken for path,label{}",
                    path.display(),
                    found.split.map_or("", |_| ",split")
                ));
                found
            }
        };
        rows.push(columns.row(&record, path, line(&text, record.position()))?);
    }
    Ok((rows, notes))
}

/// What stands between columns: a comma, or where the first line has none, what it has of those that
/// spreadsheets write instead.
fn delimiter(text: &str) -> u8 {
    let first = text.lines().find(|line| !line.is_empty()).unwrap_or("");
    let has = |delimiter: &&u8| first.contains(char::from(**delimiter));
    *b",;\t".iter().find(has).unwrap_or(&b',')
}

/// The line that a record begins in. Its position is where the one before it ended, with empty lines
/// to come.
fn line(text: &str, position: Option<&Position>) -> u64 {
    let Some(position) = position else { return 1 };
    let rest = text.as_bytes().iter().skip(position.byte() as usize);
    let empty = rest.take_while(|byte| b"\r\n".contains(byte));
    position.line() + empty.filter(|&&byte| byte == b'\n').count() as u64
}

fn unreadable(path: &Path, text: &str, error: &::csv::Error) -> Error {
    let problem = match error.kind() {
        ::csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("{len} columns, where the first line has {expected_len}"),
        _ => error.to_string(),
    };
    let remedy = "write path,label, and quotes around what has a comma in it";
    Error::data(place(path, line(text, error.position())), problem, remedy)
}

/// Which column is what.
struct Columns {
    path: usize,
    label: usize,
    split: Option<usize>,
}

impl Columns {
    /// By the first line, and whether it is their names.
    fn of(first: &StringRecord, file: &Path) -> Result<(Self, bool)> {
        let names: Vec<String> = first.iter().map(str::to_lowercase).collect();
        let find = |known: &[&str]| names.iter().position(|name| known.contains(&name.as_str()));
        if let (Some(path), Some(label)) = (find(&PATH), find(&LABEL)) {
            let split = find(&SPLIT);
            return Ok((Self { path, label, split }, true));
        }
        if let 2 | 3 = names.len()
            && !names
                .iter()
                .any(|name| [&PATH[..], &LABEL].concat().contains(&name.as_str()))
        {
            let split = (names.len() == 3).then_some(2);
            let (path, label) = (0, 1);
            return Ok((Self { path, label, split }, false));
        }
        let columns = first.iter().collect::<Vec<_>>().join(", ");
        let problem = format!("its columns, {columns:?}, are not known to be paths and labels");
        let remedy = "let the first line name them: path,label or path,label,split";
        Err(Error::data(file.display(), problem, remedy))
    }

    fn row(&self, record: &StringRecord, file: &Path, line: u64) -> Result<Row> {
        let error =
            |problem: String, remedy: &str| Err(Error::data(place(file, line), problem, remedy));
        let (path, label) = (&record[self.path], &record[self.label]);
        if path.is_empty() || label.is_empty() {
            let what = if path.is_empty() { "path" } else { "label" };
            return error(
                format!("there is no {what}"),
                "give both, or leave the row out",
            );
        }
        let word = self.split.map_or("train", |split| &record[split]);
        let lower = word.to_lowercase();
        let split = SPLITS
            .iter()
            .position(|words| words.contains(&lower.as_str()));
        let Some(split) = split else {
            let problem = format!("{word:?} is no split");
            return error(problem, "write train, val or test");
        };
        Ok(Row {
            line,
            path: file.parent().unwrap_or(Path::new("")).join(path),
            label: label.to_owned(),
            split,
        })
    }
}

fn refuse_repeated(file: &Path, rows: &[Row]) -> Result<()> {
    let mut first = HashMap::new();
    for row in rows {
        if let Some(line) = first.insert(&row.path, row.line) {
            let problem = format!("{} is in line {line} already", row.path.display());
            let remedy = "name each picture once, with one label";
            return Err(Error::data(place(file, row.line), problem, remedy));
        }
    }
    Ok(())
}

fn refuse_missing(file: &Path, rows: &[Row]) -> Result<()> {
    let missing = rows.iter().filter(|row| !row.path.is_file());
    let named = missing.map(|row| format!("{} (line {})", row.path.display(), row.line));
    let named = words::listed(named, NAMED);
    if named.is_empty() {
        return Ok(());
    }
    Err(Error::data(
        file.display(),
        format!("these pictures are not there: {named}"),
        "paths are relative to the folder of the CSV file: bring the files, or mend the rows",
    ))
}

/// The classes to train on.
fn classes(rows: &[Row]) -> Vec<String> {
    let trained = rows.iter().filter(|row| row.split == 0);
    let mut classes: Vec<String> = trained.map(|row| row.label.clone()).collect();
    classes.sort_unstable();
    classes.dedup();
    let number = |class: &String| class.parse::<i64>().ok();
    if classes.iter().all(|class| number(class).is_some()) {
        classes.sort_by_key(number);
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::super::listed::tests::picture;
    use super::*;
    use std::fs;

    /// A folder with pictures of the values 0 to 5, and a CSV file.
    fn folder(csv: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        for value in 0..6u8 {
            picture(&folder.path().join(format!("pictures/{value}.png")), value);
        }
        let path = folder.path().join("list.csv");
        fs::write(&path, csv).unwrap();
        (folder, path)
    }

    fn read_it(csv: &str) -> Result<Dataset> {
        let (_folder, path) = folder(csv);
        read_at(&path)
    }

    fn read_at(path: &Path) -> Result<Dataset> {
        read(path, Square::new(8), &mut |_, _| ())
    }

    fn told(csv: &str) -> String {
        let error = read_it(csv).unwrap_err();
        format!("{error}; {}", error.remedy())
    }

    /// The value of each picture.
    fn values(data: &super::super::Split) -> Vec<u8> {
        (0..data.len()).map(|i| data.images.image(i)[0]).collect()
    }

    #[test]
    fn columns_are_found_by_their_names() {
        let csv = "\u{feff}Split, id ,CLASS,Filename\n\
                   train,7,dog,pictures/0.png\n\
                   Training,8,cat,pictures/1.png\n\
                   dev,9,\"dog\",pictures/2.png\n\n\
                   TEST,10,cat,\"pictures/3.png\"\n";
        let data = read_it(csv).unwrap();
        data.check().unwrap();
        assert_eq!(data.classes, ["cat", "dog"]);
        assert_eq!(data.train.labels, [1, 0]);
        assert_eq!(values(&data.train), [0, 1]);
        let (validation, test) = (data.validation.unwrap(), data.test.unwrap());
        assert_eq!((validation.labels, test.labels), (vec![1], vec![0]));
        assert_eq!(data.name.split(':').next(), Some("csv"));
    }

    #[test]
    fn semicolons_and_tabs_are_told_from_commas() {
        for between in [";", "\t"] {
            let csv = "path|label\npictures/0.png|cat, grey\npictures/1.png|dog\n";
            let data = read_it(&csv.replace('|', between)).unwrap();
            assert_eq!(data.classes, ["cat, grey", "dog"]);
        }
        assert!(read_it("path,label\npictures/0.png;cat\n").is_err());
    }

    #[test]
    fn without_names_a_path_and_a_label_are_expected() {
        let data = read_it("pictures/0.png,10\npictures/1.png,9\npictures/2.png,10").unwrap();
        // In the order of numbers.
        assert_eq!(data.classes, ["9", "10"]);
        assert_eq!(data.train.labels, [1, 0, 1]);
        assert!(
            data.notes[0].ends_with("taken for path,label"),
            "{:?}",
            data.notes
        );
        assert_eq!((data.validation, data.test), (None, None));
        let data = read_it("pictures/0.png,a,train\npictures/1.png,b,train\npictures/2.png,a,val");
        assert_eq!(data.unwrap().validation.unwrap().labels, [0]);
    }

    #[test]
    fn a_path_may_lead_anywhere() {
        let (folder, path) = folder("");
        let absolute = folder.path().join("pictures/0.png");
        let csv = format!(
            "path,label\n{},a\n./pictures/../pictures/1.png,b",
            absolute.display()
        );
        fs::write(&path, csv).unwrap();
        assert_eq!(values(&read_at(&path).unwrap().train), [0, 1]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let begin = "path,label,split\npictures/0.png,a,train\npictures/1.png,b,train\n";
        for (rest, parts) in [
            ("pictures/2.png,a", ["line 4", "2 columns"]),
            (
                "pictures/2.png,a,holdout",
                ["line 4: \"holdout\"", "train, val or test"],
            ),
            ("pictures/2.png,a,", ["line 4: \"\"", "train, val or test"]),
            ("pictures/2.png,,train", ["line 4", "no label"]),
            (",a,train", ["line 4", "no path"]),
            (
                "pictures/2.png,c,test",
                ["line 4: class \"c\"", "not among"],
            ),
            ("pictures/0.png,b,test", ["line 4", "in line 2 already"]),
            ("none.png,a,test", ["none.png (line 4)", "relative"]),
            (
                "\r\n\nnone.png,a,test\npictures,b,test",
                ["none.png (line 6)", "pictures (line 7)"],
            ),
        ] {
            let told = told(&format!("{begin}{rest}\n"));
            for part in parts {
                assert!(told.contains(part), "{told}");
            }
        }
        let many: Vec<_> = (0..9).map(|i| format!("none{i}.png,a,test\n")).collect();
        assert!(told(&format!("{begin}{}", many.concat())).contains("and 6 more"));
    }

    #[test]
    fn what_is_no_list_of_pictures_is_refused() {
        for (csv, part) in [
            ("", "no row"),
            ("path,label\n", "no row"),
            (
                "path,label,split\npictures/0.png,a,test",
                "no row to train on",
            ),
            (
                "pictures/0.png,a\npictures/1.png,a",
                "only one class, \"a\"",
            ),
            ("pictures/0.png|a\npictures/1.png|b", "path,label"),
            ("file,when\npictures/0.png,a", "not known"),
            ("a,b,c,d\n1,2,3,4", "not known"),
        ] {
            let told = told(csv);
            assert!(told.contains(part), "{told}");
        }
        let (folder, path) = folder("");
        fs::write(&path, b"path,label\npictures/0.png,\xff\n").unwrap();
        let error = read_at(&path).unwrap_err().to_string();
        assert!(error.contains("no text in UTF-8"), "{error}");
        assert!(read_at(folder.path()).is_err());
        assert!(read_at(&folder.path().join("none.csv")).is_err());
    }

    #[test]
    fn a_damaged_picture_is_passed_over() {
        let rows = "pictures/0.png,a\npictures/1.png,b\npictures/bad.png,a\n";
        let (folder, path) = folder(rows);
        fs::write(folder.path().join("pictures/bad.png"), b"no picture").unwrap();
        let data = read_at(&path).unwrap();
        assert_eq!((data.train.len(), data.skipped.len()), (2, 1));
        assert!(data.skipped[0].path.ends_with("bad.png"));
        fs::write(folder.path().join("pictures/1.png"), b"no picture").unwrap();
        let error = read_at(&path).unwrap_err().to_string();
        assert!(error.contains("class \"b\""), "{error}");
    }
}
