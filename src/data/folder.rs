//! A folder of class folders of pictures.
//!
//! ```text
//! PATH/cat/1.png               PATH/train/cat/1.png
//! PATH/dog/2.jpg       or      PATH/val/cat/7.png       (or validation, or valid; optional)
//!                              PATH/test/dog/9.jpg      (optional)
//! ```
//!
//! `train`, `val` and `test` may be written in capitals. A class's pictures may lie in folders of
//! their own, `cat/2023/1.png`. Classes and files are taken in the order of their names, so that the
//! result does not depend on the file system. Files that begin with a dot, and what systems put
//! into folders by themselves, are no part of it; nor is what is no picture by its name (a file
//! whose name has no ending is looked into). Pictures that are passed over are reported in [`Dataset::skipped`].

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::Dataset;
use super::listed::{List, Lists, SPLITS};
use super::pictures::{self, Decoded, Skipped, Square};
use crate::error::{Error, Result};
use crate::words;

/// Endings of what is read.
const READ: [&str; 8] = ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "gif"];

/// Endings of pictures that are not.
const NOT_READ: [&str; 25] = [
    "tif", "tiff", "heic", "heif", "avif", "jxl", "svg", "tga", "psd", "exr", "hdr", "qoi", "ppm",
    "pgm", "pbm", "pnm", "ico", "jp2", "cr2", "cr3", "nef", "dng", "raw", "dds", "apng",
];

/// Endings of what has to be unpacked.
const ARCHIVES: [&str; 6] = ["zip", "tar", "tgz", "gz", "7z", "rar"];

/// What systems and unpackers leave in folders.
const LITTER: [&str; 6] = [
    "__macosx",
    "thumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "system volume information",
    "@eadir",
];

/// Folders in folders that are looked into.
const DEEPEST: usize = 32;

const LAYOUT: &str = "expected PATH/CLASS/*.png (or .jpg, .webp, .bmp, .gif), or \
                      PATH/train/CLASS/*.png with val and test beside train; a table of files and \
                      classes is read as csv:FILE";

/// Reads all pictures below `path`, each brought to the square. One that cannot be decoded is passed
/// over, as is a picture beside the class folders, and one of a format that is not read.
///
/// # Errors
/// [`Error::Data`] for a folder that is missing, empty or not laid out as above, for fewer than two
/// classes, for a class without a usable picture to train on, and for a class to validate or test
/// on that is not among those to train on; [`Error::Recipe`] for a square that cannot be; [`Error::Io`] for a folder that cannot be listed.
pub fn read(path: &Path, square: Square, decoded: &mut Decoded) -> Result<Dataset> {
    if !path.is_dir() {
        return Err(no_folder(path));
    }
    let all = list(path)?;
    let mut lists = Lists {
        name: format!("folder:{}", path.display()),
        ..Lists::default()
    };
    let [train, validation, test] = splits(path, &all)?;
    let folders = match train {
        Some(train) => {
            lists.skipped.extend(beside(&all));
            let used = [Some(&train), validation.as_ref(), test.as_ref()];
            let is_used = |name: &String| used.iter().flatten().any(|used| used.ends_with(name));
            for name in all.folders.iter().filter(|name| !is_used(name)) {
                let other = path.join(name);
                lists.skipped.extend(beside(&list_deep(&other)?));
                let note = format!("{} is no split, and is passed over", other.display());
                lists.notes.push(note);
            }
            [Some(train), validation, test]
        }
        None => [Some(path.to_path_buf()), None, None],
    };
    let train = folders[0].as_deref().unwrap_or(path);
    lists.classes = classes(train)?;
    lists.notes.extend(all_alike(train, &lists.classes)?);
    for (number, folder) in folders.iter().enumerate() {
        if let Some(folder) = folder {
            lists.splits[number] = split(folder, &lists.classes, number == 0, &mut lists.skipped)?;
        }
    }
    lists.read(square, decoded)
}

fn no_folder(path: &Path) -> Error {
    let ending = ending(path);
    let (problem, remedy) = match path.is_file() {
        true if ARCHIVES.contains(&&*ending) => (
            "this is an archive, not a folder",
            "unpack it, and name the folder that comes out",
        ),
        true if ending == "csv" => ("this is no folder", "a table is read as csv:FILE"),
        true if ending == "npz" => ("this is no folder", "arrays are read as npz:FILE"),
        true => ("this is no folder", "check the path"),
        false => ("there is no such folder", "check the path"),
    };
    Error::data(path.display(), problem, remedy)
}

/// The folders of the splits, where there are folders to train, validate and test on.
fn splits(path: &Path, all: &Listing) -> Result<[Option<PathBuf>; 3]> {
    let mut found = SPLITS.map(|names| {
        let is_it = |folder: &&String| names.contains(&&*folder.to_lowercase());
        all.folders.iter().filter(is_it).collect::<Vec<_>>()
    });
    let only_splits = found.iter().flatten().count() == all.folders.len();
    let to_train = found[0].first().copied();
    // A class may be called "train"; a folder of class folders may not be a class.
    for folders in &mut found {
        let mut kept = vec![];
        for folder in folders.drain(..) {
            if !list(&path.join(folder))?.folders.is_empty() {
                kept.push(folder);
            }
        }
        *folders = kept;
    }
    for folders in &found {
        if let [first, second, ..] = folders[..] {
            return Err(Error::data(
                path.join(second).display(),
                format!("{first:?} is there, too: which of them is it?"),
                "rename or remove one of them",
            ));
        }
    }
    if let Some(train) = to_train
        && only_splits
        && found[0].is_empty()
    {
        let problem = "there is no class folder in it";
        return Err(Error::data(path.join(train).display(), problem, LAYOUT));
    }
    let [train, validation, test] = found.map(|folders| folders.first().map(|f| path.join(f)));
    if train.is_none()
        && let Some(other) = validation.as_ref().or(test.as_ref())
    {
        return Err(Error::data(
            path.display(),
            format!("there is no folder `train` beside {}", other.display()),
            format!(
                "to evaluate on it alone, name it: folder:{}; to train, {LAYOUT}",
                other.display()
            ),
        ));
    }
    Ok([train, validation, test])
}

/// All pictures in a folder and in those in it, by the endings of their names, those of formats that
/// are not read among them; sorted. A folder in it that cannot be listed is named itself.
///
/// # Errors
/// [`Error::Io`] for a folder that cannot be listed.
pub fn pictures(folder: &Path) -> Result<Vec<PathBuf>> {
    let inside = each_inside(folder)?.into_iter();
    let mut all: Vec<PathBuf> = inside
        .flat_map(|(path, listing)| match listing {
            Ok(listing) => [listing.pictures, listing.unread].concat(),
            Err(_) => vec![path],
        })
        .collect();
    all.sort_unstable();
    Ok(all)
}

/// The names of a split's class folders, sorted.
fn classes(folder: &Path) -> Result<Vec<String>> {
    let listing = list(folder)?;
    let names = listing.folders;
    let (problem, remedy) = match &names[..] {
        [] if listing.archives && listing.pictures.is_empty() => (
            "there is nothing in it but an archive".to_owned(),
            "unpack it, and name the folder that comes out".to_owned(),
        ),
        [] if listing.pictures.is_empty() => (
            "there is no class folder in it".to_owned(),
            LAYOUT.to_owned(),
        ),
        [] => (
            "there are pictures in it, but no folder of a class".to_owned(),
            format!("put the pictures of each class into a folder of its own: {LAYOUT}"),
        ),
        [one] => {
            let hint = match unwrapped(folder.join(one))? {
                Some(inner) => format!("did you mean folder:{}?", inner.display()),
                None => LAYOUT.to_owned(),
            };
            (
                format!("there is only one class, {one:?}: nothing to tell apart"),
                hint,
            )
        }
        _ => return Ok(names),
    };
    Err(Error::data(folder.display(), problem, remedy))
}

/// The first folder, of one that holds nothing but a folder, and so on, that may be a data set.
fn unwrapped(mut folder: PathBuf) -> Result<Option<PathBuf>> {
    for _ in 0..DEEPEST {
        let further = list(&folder)?.folders;
        let is_train = |name: &String| SPLITS[0].contains(&&*name.to_lowercase());
        match &further[..] {
            [] => break,
            [one] if !is_train(one) => folder.push(one),
            _ => return Ok(Some(folder)),
        }
    }
    Ok(None)
}

/// What is told where all class folders hold the same folders and nothing else: these may be the
/// classes, and those splits by other names.
fn all_alike(folder: &Path, classes: &[String]) -> Result<Option<String>> {
    let mut alike: Option<Vec<String>> = None;
    for class in classes {
        let listing = list(&folder.join(class))?;
        let other = alike.is_some_and(|alike| alike != listing.folders);
        if other || listing.folders.len() < 2 || !listing.pictures.is_empty() {
            return Ok(None);
        }
        alike = Some(listing.folders);
    }
    Ok(alike.map(|inner| {
        let [classes, inner] = [classes, &inner].map(|names| words::listed(names, 3));
        format!("the classes are {classes}; if they are splits, and {inner} the classes: {LAYOUT}")
    }))
}

/// A folder's entries that are of account, sorted by name.
#[derive(Default)]
struct Listing {
    folders: Vec<String>,
    /// Pictures that are read.
    pictures: Vec<PathBuf>,
    /// Pictures of other formats.
    unread: Vec<PathBuf>,
    /// Whether there is an archive.
    archives: bool,
}

fn list(folder: &Path) -> Result<Listing> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || LITTER.contains(&&*name.to_lowercase()) {
            continue;
        }
        let ending = ending(&path);
        if path.is_dir() {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                let problem = "the folder's name is not UTF-8";
                return Err(Error::data(path.display(), problem, "rename it"));
            };
            listing.folders.push(name.to_owned());
        } else if READ.contains(&&*ending)
            || ending.is_empty() && pictures::begins_as_picture(&path)
        {
            listing.pictures.push(path);
        } else if NOT_READ.contains(&&*ending) {
            listing.unread.push(path);
        } else {
            listing.archives |= ARCHIVES.contains(&&*ending);
        }
    }
    listing.folders.sort_unstable();
    listing.pictures.sort_unstable();
    listing.unread.sort_unstable();
    Ok(listing)
}

/// What a file's name ends in, in small letters.
fn ending(path: &Path) -> String {
    let ending = path.extension().unwrap_or_default();
    ending.to_string_lossy().to_lowercase()
}

/// All pictures in a folder and in those in it, each folder once, whatever links lead to it.
fn list_deep(folder: &Path) -> Result<Listing> {
    let mut all = Listing::default();
    for (_, listing) in each_inside(folder)? {
        let listing = listing?;
        all.pictures.extend(listing.pictures);
        all.unread.extend(listing.unread);
    }
    Ok(all)
}

/// A folder and those in it, and what is in each; only this folder itself must be one that can be
/// listed.
fn each_inside(folder: &Path) -> Result<Vec<(PathBuf, Result<Listing>)>> {
    fn add(
        folder: PathBuf,
        depth: usize,
        seen: &mut HashSet<PathBuf>,
        to: &mut Vec<(PathBuf, Result<Listing>)>,
    ) {
        let own = match fs::canonicalize(&folder) {
            Ok(own) => own,
            Err(error) => {
                let error = Error::io("list", &folder)(error);
                return to.push((folder, Err(error)));
            }
        };
        if !seen.insert(own.clone()) {
            return;
        }
        if depth > DEEPEST {
            let problem = format!("it lies more than {DEEPEST} folders deep");
            let error = Error::data(folder.display(), problem, "move it up");
            return to.push((folder, Err(error)));
        }
        let listing = list(&folder);
        let inner = listing.as_ref().map_or(vec![], |listing| {
            let paths = listing.folders.iter().map(|name| folder.join(name));
            paths.collect::<Vec<_>>()
        });
        to.push((folder, listing));
        for inner in inner {
            // By a link to a folder around this one, pictures of all classes would be of this.
            let leads_out = fs::canonicalize(&inner).is_ok_and(|inner| own.starts_with(inner));
            if !leads_out {
                add(inner, depth + 1, seen, to);
            }
        }
    }
    let mut all = Vec::new();
    add(folder.to_owned(), 0, &mut HashSet::new(), &mut all);
    // The folder itself comes first.
    if all[0].1.is_err() {
        all.swap_remove(0).1?;
    }
    Ok(all)
}

/// Pictures that lie where none is looked for.
fn beside(listing: &Listing) -> impl Iterator<Item = Skipped> {
    let all = listing.pictures.iter().chain(&listing.unread);
    all.map(|path| Skipped {
        path: path.clone(),
        reason: "it lies beside the folders, and in none of a class".into(),
    })
}

/// All pictures of one split; those that are passed over go to `skipped`. To train on, every class
/// must have one.
fn split(
    folder: &Path,
    classes: &[String],
    train: bool,
    skipped: &mut Vec<Skipped>,
) -> Result<List> {
    let listing = list(folder)?;
    let unknown = listing.folders.iter().find(|name| !classes.contains(name));
    if let Some(unknown) = unknown {
        return Err(Error::data(
            folder.join(unknown).display(),
            format!(
                "class {unknown:?} is not among the {} to train on",
                classes.len()
            ),
            "rename the folder as in train, or remove it",
        ));
    }
    skipped.extend(beside(&listing));
    let mut files = List::new();
    for (label, class) in (0..).zip(classes) {
        let class_folder = folder.join(class);
        if !class_folder.is_dir() {
            continue;
        }
        let listing = list_deep(&class_folder)?;
        if listing.pictures.is_empty() && train {
            let problem = "there is no picture of this class";
            let remedy = "put pictures into it, or take the folder away";
            return Err(Error::data(class_folder.display(), problem, remedy));
        }
        skipped.extend(listing.unread.into_iter().map(|path| Skipped {
            path,
            reason: "pictures of this format are not read".into(),
        }));
        files.extend(listing.pictures.into_iter().map(|path| (label, path)));
    }
    match files.is_empty() {
        true => Err(Error::data(
            folder.display(),
            "there is no picture in it",
            LAYOUT,
        )),
        false => Ok(files),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, GrayImage, Luma, LumaA, Rgb, RgbImage, RgbaImage};

    fn rgb(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            Rgb([(x * 5 + y) as u8, (y * 9) as u8, (x * y % 251) as u8])
        })
    }

    /// Saves images, each at its path below a new folder.
    fn folder(files: &[(&str, DynamicImage)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, image) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            image
                .save_with_format(
                    &path,
                    match path.extension().unwrap().to_str().unwrap() {
                        "jpg" | "jpeg" | "JPG" => image::ImageFormat::Jpeg,
                        _ => image::ImageFormat::Png,
                    },
                )
                .unwrap();
        }
        folder
    }

    fn flat() -> tempfile::TempDir {
        folder(&[
            ("dog/b.PNG", rgb(8, 8).into()),
            ("dog/a.png", rgb(20, 30).into()),
            ("cat/z.jpg", rgb(16, 9).into()),
            ("cat/.hidden.png", rgb(2, 2).into()),
        ])
    }

    fn read_at(path: &Path, side: usize) -> Result<Dataset> {
        read(path, Square::new(side), &mut |_, _| ())
    }

    fn problem(folder: &tempfile::TempDir) -> String {
        let error = read_at(folder.path(), 8).unwrap_err();
        assert!(!error.remedy().is_empty());
        error.to_string()
    }

    #[test]
    fn a_flat_folder() {
        let folder = flat();
        fs::write(folder.path().join("dog/notes.txt"), "hello").unwrap();
        fs::write(folder.path().join("README.md"), "hello").unwrap();
        let data = read_at(folder.path(), 8).unwrap();
        data.check().unwrap();
        assert_eq!(data.name, format!("folder:{}", folder.path().display()));
        assert_eq!(data.classes, ["cat", "dog"]);
        assert_eq!(data.train.labels, [0, 1, 1]);
        assert_eq!((data.validation, data.test), (None, None));
        // An image of the right size comes through untouched, and in the order of names.
        assert_eq!(data.train.images.image(2), &rgb(8, 8).as_raw()[..]);
        // What is no picture is no picture passed over.
        assert_eq!(data.skipped, []);
    }

    #[test]
    fn a_folder_with_splits() {
        let image = || DynamicImage::from(rgb(8, 8));
        for val in SPLITS[1] {
            let folder = folder(&[
                ("train/a/1.png", image()),
                ("train/b/1.png", image()),
                ("train/c/1.png", image()),
                (&format!("{val}/c/1.png"), image()),
                ("test/b/1.png", image()),
                ("test/a/1.png", image()),
            ]);
            let data = read_at(folder.path(), 4).unwrap();
            data.check().unwrap();
            assert_eq!(data.train.labels, [0, 1, 2]);
            assert_eq!(data.validation.unwrap().labels, [2]);
            assert_eq!(data.test.unwrap().labels, [0, 1]);

            fs::create_dir(folder.path().join("test/zebra")).unwrap();
            let error = problem(&folder);
            assert!(error.contains("\"zebra\" is not among the 3"), "{error}");
        }
    }

    #[test]
    fn a_class_may_be_called_train() {
        let image = || DynamicImage::from(rgb(8, 8));
        let folder = folder(&[("car/1.png", image()), ("train/1.png", image())]);
        assert_eq!(read_at(folder.path(), 8).unwrap().classes, ["car", "train"]);
    }

    #[test]
    fn resizing_is_pillows_bicubic() {
        // Pillow: Image.fromarray(a).crop((5, 0, 25, 20)).resize((4, 4), Image.BICUBIC), where
        // a[y, x] = (5 x + y, 9 y, x y % 251) mod 256. It rounds between its two passes: ±1.
        const PILLOW: [u8; 48] = [
            38, 19, 15, 61, 19, 25, 88, 19, 36, 111, 19, 47, 43, 62, 49, 66, 62, 82, 93, 62, 122,
            116, 62, 158, 48, 109, 86, 71, 109, 148, 98, 109, 177, 121, 109, 110, 53, 152, 124, 76,
            152, 181, 103, 152, 78, 126, 152, 105,
        ];
        let folder = folder(&[
            ("a/1.png", rgb(30, 20).into()),
            ("b/1.png", rgb(4, 4).into()),
        ]);
        let data = read_at(folder.path(), 4).unwrap();
        for (&got, expected) in data.train.images.image(0).iter().zip(PILLOW) {
            assert!(
                got.abs_diff(expected) <= 1,
                "{:?}",
                data.train.images.image(0)
            );
        }
    }

    #[test]
    fn every_colour_type_becomes_rgb() {
        let grey = GrayImage::from_pixel(4, 4, Luma([77]));
        let clear = RgbaImage::from_fn(4, 4, |x, _| {
            image::Rgba([10, 20, 30, [0, 255, 51, 51][x as usize]])
        });
        let grey_alpha = image::GrayAlphaImage::from_pixel(4, 4, LumaA([0, 0]));
        let deep = image::ImageBuffer::from_pixel(4, 4, Rgb([0u16, 257 * 100, 65535]));
        let folder = folder(&[
            ("a/1.png", grey.clone().into()),
            ("a/2.png", clear.into()),
            ("a/3.png", grey_alpha.into()),
            ("b/4.png", DynamicImage::ImageRgb16(deep)),
            ("b/5.jpeg", grey.into()),
        ]);
        let data = read_at(folder.path(), 4).unwrap();
        let image = |number| &data.train.images.image(number)[..12];
        assert_eq!(image(0), [77; 12]);
        // 51/255 is a fifth: 10/5 + 255·4/5 = 206.
        assert_eq!(
            image(1),
            [255, 255, 255, 10, 20, 30, 206, 208, 210, 206, 208, 210]
        );
        assert_eq!(image(2), [255; 12]);
        assert_eq!(image(3)[..3], [0, 100, 255]);
        assert!(image(4).iter().all(|&c| c.abs_diff(77) <= 1));
    }

    #[test]
    fn exif_orientation_is_respected() {
        let folder = folder(&[
            ("a/1.jpg", rgb(32, 32).into()),
            ("b/1.jpg", rgb(32, 32).into()),
        ]);
        // An EXIF segment after the start marker, with orientation 3: turned by 180°.
        let path = folder.path().join("b/1.jpg");
        let plain = fs::read(&path).unwrap();
        let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0";
        fs::write(&path, [&plain[..2], exif, &plain[2..]].concat()).unwrap();
        let data = read_at(folder.path(), 32).unwrap();
        let pixels = |image| data.train.images.image(image).as_chunks::<3>().0;
        let turned: Vec<_> = pixels(1).iter().rev().copied().collect();
        assert_eq!(pixels(0), turned);
    }

    #[test]
    fn a_damaged_image_is_passed_over_or_refused() {
        let folder = flat();
        let damaged = folder.path().join("dog/c.png");
        let whole = fs::read(folder.path().join("dog/a.png")).unwrap();
        fs::write(&damaged, &whole[..whole.len() / 2]).unwrap();
        fs::write(folder.path().join("dog/d.jpg"), "no image").unwrap();
        let data = read_at(folder.path(), 8).unwrap();
        assert_eq!(data.train.labels, [0, 1, 1]);
        assert_eq!(data.skipped.len(), 2);
        assert_eq!(data.skipped[0].path, damaged);
        let error = data.refuse_skipped().unwrap_err().to_string();
        assert!(error.contains("2 pictures cannot be used"), "{error}");
        assert!(error.contains(&damaged.display().to_string()), "{error}");

        fs::write(folder.path().join("cat/z.jpg"), "no image").unwrap();
        let error = problem(&folder);
        assert!(
            error.contains("class \"cat\": no picture to train on can be decoded ("),
            "{error}"
        );
    }

    #[test]
    fn a_jpeg_cut_short_is_damaged() {
        let folder = flat();
        let whole = fs::read(folder.path().join("cat/z.jpg")).unwrap();
        // After an extra segment with the thumbnail's end in it.
        let thumbnail = [&whole[..2], b"\xff\xe1\x00\x04\xff\xd9", &whole[2..]].concat();
        for (number, bytes) in [&whole, &thumbnail].into_iter().enumerate() {
            for keep in [20, bytes.len() / 2, bytes.len() - 2] {
                let name = format!("dog/{number}-{keep}.jpg");
                fs::write(folder.path().join(name), &bytes[..keep]).unwrap();
            }
            fs::write(folder.path().join(format!("cat/{number}.jpg")), bytes).unwrap();
        }
        let data = read_at(folder.path(), 8).unwrap();
        assert_eq!(data.train.labels, [0, 0, 0, 1, 1]);
        assert_eq!(data.skipped.len(), 6);
    }

    #[test]
    fn a_decompression_bomb_is_refused() {
        let folder = flat();
        // A PNG whose header claims 60,000 × 60,000 pixels (10.8 GB).
        let path = folder.path().join("dog/bomb.png");
        let mut png = fs::read(folder.path().join("dog/b.PNG")).unwrap();
        png[16..20].copy_from_slice(&60_000u32.to_be_bytes());
        png[20..24].copy_from_slice(&60_000u32.to_be_bytes());
        let mut crc = flate2::Crc::new();
        crc.update(&png[12..29]);
        png[29..33].copy_from_slice(&crc.sum().to_be_bytes());
        fs::write(&path, png).unwrap();
        let data = read_at(folder.path(), 8).unwrap();
        assert_eq!(data.train.len(), 3);
        assert!(
            data.skipped[0].reason.contains("limit"),
            "{:?}",
            data.skipped
        );
    }

    #[test]
    fn folders_that_are_no_data_set_are_refused() {
        let empty = tempfile::tempdir().unwrap();
        assert!(problem(&empty).contains("there is no class folder in it"));
        let missing = read_at(&empty.path().join("nowhere"), 8).unwrap_err();
        assert!(
            missing
                .to_string()
                .ends_with("nowhere: there is no such folder")
        );
        let image = || DynamicImage::from(rgb(8, 8));
        let one = folder(&[("cat/1.png", image())]);
        assert!(problem(&one).contains("only one class, \"cat\""));
        let hollow = folder(&[("cat/1.png", image()), ("dog/1.png", image())]);
        fs::remove_file(hollow.path().join("dog/1.png")).unwrap();
        assert!(problem(&hollow).contains("dog: there is no picture of this class"));
        let twice = folder(&[
            ("train/a/1.png", image()),
            ("train/b/1.png", image()),
            ("val/a/1.png", image()),
            ("valid/a/1.png", image()),
        ]);
        assert!(problem(&twice).contains("which of them is it?"));
        assert!(read_at(one.path(), 0).is_err());
    }

    #[test]
    fn pictures_in_deeper_folders_are_of_their_class() {
        let image = || DynamicImage::from(rgb(8, 8));
        let folder = folder(&[
            ("cat/1.png", image()),
            ("dog/2023/may/1.png", image()),
            ("dog/2022/2.png", image()),
        ]);
        let data = read_at(folder.path(), 8).unwrap();
        assert_eq!(data.train.labels, [0, 1, 1]);
        assert!(data.train.files[1].ends_with("dog/2022/2.png"));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_circles_end() {
        use std::os::unix::fs::symlink;
        let image = || DynamicImage::from(rgb(8, 8));
        let folder = folder(&[("cat/1.png", image()), ("dog/1.png", image())]);
        for (target, link) in [("..", "dog/up"), (".", "dog/same"), ("../..", "dog/out")] {
            symlink(target, folder.path().join(link)).unwrap();
        }
        symlink("../cat/1.png", folder.path().join("dog/2.png")).unwrap();
        symlink("3.png", folder.path().join("dog/3.png")).unwrap();
        let data = read_at(folder.path(), 8).unwrap();
        assert_eq!(data.train.labels, [0, 1, 1]);
        assert_eq!(data.skipped.len(), 1, "{:?}", data.skipped);
        assert!(data.skipped[0].path.ends_with("dog/3.png"));
    }

    #[test]
    fn splits_may_be_written_in_capitals_and_litter_is_none() {
        let image = || DynamicImage::from(rgb(8, 8));
        let folder = folder(&[
            ("Train/a/1.png", image()),
            ("Train/b/1.png", image()),
            ("VALID/a/1.png", image()),
            ("TEST/b/1.png", image()),
            ("__MACOSX/a/1.png", image()),
            ("Train/a/.DS_Store.png", image()),
            ("Train/__MACOSX/1.png", image()),
            ("extra/a/1.png", image()),
        ]);
        for name in ["Thumbs.db", "desktop.ini", ".DS_Store", "Train/b/Thumbs.db"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let data = read_at(folder.path(), 8).unwrap();
        assert_eq!(data.classes, ["a", "b"]);
        assert_eq!(data.train.len(), 2);
        assert_eq!(data.validation.unwrap().labels, [0]);
        assert_eq!(data.test.unwrap().labels, [1]);
        assert_eq!(data.skipped.len(), 1);
        assert!(data.skipped[0].path.ends_with("extra/a/1.png"));
        assert_eq!(data.notes.len(), 1);
        assert!(
            data.notes[0].contains("extra is no split"),
            "{:?}",
            data.notes
        );
        fs::create_dir_all(folder.path().join("train/a")).unwrap();
        assert!(problem(&folder).contains("which of them is it?"));
    }

    #[test]
    fn what_lies_beside_the_classes_is_told_or_refused_with_the_remedy() {
        let image = || DynamicImage::from(rgb(8, 8));
        let beside = folder(&[
            ("cat/1.png", image()),
            ("dog/1.png", image()),
            ("3.png", image()),
        ]);
        fs::write(beside.path().join("cat/2.tiff"), "II").unwrap();
        let data = read_at(beside.path(), 8).unwrap();
        assert_eq!(data.skipped.len(), 2);
        let error = data.refuse_skipped().unwrap_err().to_string();
        assert!(error.contains("2 pictures cannot be used"), "{error}");
        assert!(
            error.contains("3.png: it lies beside the folders"),
            "{error}"
        );
        assert!(error.contains("2.tiff: pictures of this format"), "{error}");

        let loose = folder(&[("1.png", image()), ("2.png", image())]);
        let error = read_at(loose.path(), 8).unwrap_err();
        assert!(
            error.to_string().contains("no folder of a class"),
            "{error}"
        );
        assert!(error.remedy().contains("csv:FILE"), "{}", error.remedy());

        let wrapped = folder(&[("data/cat/1.png", image()), ("data/dog/1.png", image())]);
        let error = read_at(wrapped.path(), 8).unwrap_err();
        let inner = format!(
            "did you mean folder:{}?",
            wrapped.path().join("data").display()
        );
        assert_eq!(error.remedy(), inner);

        let headless = folder(&[("test/cat/1.png", image()), ("test/dog/1.png", image())]);
        assert!(problem(&headless).contains("no folder `train` beside"));

        let zip = loose.path().join("pets.ZIP");
        fs::write(&zip, "PK").unwrap();
        let error = read_at(&zip, 8).unwrap_err();
        assert!(error.remedy().contains("unpack it"), "{error}");
    }

    #[test]
    fn folders_of_splits_need_class_folders() {
        let image = || DynamicImage::from(rgb(8, 8));
        for others in [&["test/1.png"][..], &["test/a/1.png", "val/a/1.png"], &[]] {
            let files = others.iter().chain(&["train/1.png"]);
            let files: Vec<_> = files.map(|path| (*path, image())).collect();
            let error = problem(&folder(&files));
            assert!(
                error.ends_with("train: there is no class folder in it"),
                "{error}"
            );
        }
        let unknown = folder(&[
            ("first/a/1.png", image()),
            ("first/b/1.png", image()),
            ("second/a/1.png", image()),
            ("second/b/1.png", image()),
        ]);
        let notes = read_at(unknown.path(), 8).unwrap().notes;
        assert!(
            notes[0].starts_with("the classes are first, second; if they are splits, and a, b")
        );
        let wrapped = folder(&[("pets/Train/a/1.png", image())]);
        let error = read_at(wrapped.path(), 8).unwrap_err();
        assert!(
            error.remedy().starts_with("did you mean folder:"),
            "{error}"
        );
        let wrapped = folder(&[("a/b/cat/1.png", image()), ("a/b/dog/1.png", image())]);
        let error = read_at(wrapped.path(), 8).unwrap_err();
        assert!(error.remedy().ends_with("a/b?"), "{}", error.remedy());
        let packed = tempfile::tempdir().unwrap();
        fs::write(packed.path().join("pets.tar.gz"), "").unwrap();
        let error = read_at(packed.path(), 8).unwrap_err();
        assert!(
            error.to_string().contains("nothing in it but an archive"),
            "{error}"
        );
    }

    #[test]
    fn a_picture_whose_name_has_no_ending_is_one() {
        let image = || DynamicImage::from(rgb(8, 8));
        let folder = folder(&[("cat/1.png", image()), ("dog/1.png", image())]);
        fs::rename(
            folder.path().join("dog/1.png"),
            folder.path().join("dog/n02085620"),
        )
        .unwrap();
        for other in ["dog/LICENSE", "dog/empty"] {
            fs::write(folder.path().join(other), &other[4..8]).unwrap();
        }
        let data = read_at(folder.path(), 8).unwrap();
        assert_eq!(data.train.labels, [0, 1]);
        assert_eq!(data.skipped, []);
    }

    #[cfg(unix)]
    #[test]
    fn names_of_any_kind_are_taken_or_refused_in_words() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;
        let image = || DynamicImage::from(rgb(2, 2));
        let wild = folder(&[("a\u{1b}[2J/1.png", image()), ("b\n/1.png", image())]);
        let path = |name: &[u8]| wild.path().join(OsStr::from_bytes(name));
        fs::rename(path(b"b\n/1.png"), path(b"b\n/\xff.png")).unwrap();
        let data = read_at(wild.path(), 2).unwrap();
        assert_eq!((data.classes.len(), data.train.len()), (2, 2));
        fs::create_dir(path(b"c\xff")).unwrap();
        assert!(problem(&wild).contains("not UTF-8"));
    }
}
