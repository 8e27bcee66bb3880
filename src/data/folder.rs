//! A folder of class folders of PNG and JPEG images.
//!
//! ```text
//! PATH/cat/1.png               PATH/train/cat/1.png
//! PATH/dog/2.jpg       or      PATH/val/cat/7.png       (or validation, or valid; optional)
//!                              PATH/test/dog/9.jpg      (optional)
//! ```
//!
//! Classes and files are taken in the order of their names, so that the result does not depend on
//! the file system. Hidden files are ignored; whatever else is passed over is reported in
//! [`Dataset::skipped`].

use std::fs;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::thread;

use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, ImageResult, Limits, RgbImage};

use super::{Dataset, Images, Split};
use crate::error::{Error, Result};

const VALIDATION: [&str; 3] = ["val", "validation", "valid"];
const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];
const LAYOUT: &str =
    "expected PATH/CLASS/*.png (or .jpg), or PATH/train/CLASS/*.png with val and test beside train";

/// Reads all images below `path` as RGB, each brought to `size`×`size`: the largest centred square,
/// resized with an anti-aliased bicubic filter (an image of that size already is left as it is).
/// EXIF orientation is respected, transparency laid over white, grey made RGB. An image that cannot
/// be decoded is passed over, or with `strict` refused.
///
/// # Errors
/// [`Error::Data`] for a folder that is missing, empty or not laid out as above, for fewer than two
/// classes, for a class without a usable image to train on, for a class to validate or test on
/// that is not among those to train on, and with `strict` for the first image that cannot be
/// decoded; [`Error::Recipe`] for a `size` outside 1..=4096; [`Error::Io`] for a folder that cannot
/// be listed.
pub fn read(path: &Path, size: usize, strict: bool) -> Result<Dataset> {
    let mut reader = Reader::new(size, strict)?;
    if !path.is_dir() {
        let problem = match path.exists() {
            true => "this is no folder",
            false => "there is no such folder",
        };
        return Err(Error::data(path.display(), problem, "check the path"));
    }
    // A class may be called "train"; a folder of class folders may not be a class.
    let train_folder = path.join("train");
    let has_splits = train_folder.is_dir() && !list(&train_folder)?.folders.is_empty();
    let (train_folder, others) = match has_splits {
        true => (
            train_folder,
            [validation_folder(path)?, sub_folder(path, "test")],
        ),
        false => (path.to_path_buf(), [None, None]),
    };
    let classes = classes(&train_folder)?;
    let train = reader.read_split(&train_folder, &classes, true)?;
    let mut others =
        others.map(|folder| folder.map(|folder| reader.read_split(&folder, &classes, false)));
    Ok(Dataset {
        name: format!("folder:{}", path.display()),
        validation: others[0].take().transpose()?,
        test: others[1].take().transpose()?,
        classes,
        train,
        skipped: reader.skipped,
    })
}

/// The pictures that lie in a folder, by the endings of their names; sorted.
///
/// # Errors
/// [`Error::Io`] for a folder that cannot be listed.
pub fn pictures(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(list(folder)?.images)
}

fn sub_folder(path: &Path, name: &str) -> Option<PathBuf> {
    let folder = path.join(name);
    folder.is_dir().then_some(folder)
}

fn validation_folder(path: &Path) -> Result<Option<PathBuf>> {
    let mut found = VALIDATION.iter().filter_map(|name| sub_folder(path, name));
    let first = found.next();
    if let (Some(first), Some(second)) = (&first, found.next()) {
        return Err(Error::data(
            second.display(),
            format!(
                "{} is there, too: which is to validate on?",
                first.display()
            ),
            "rename or remove one of them",
        ));
    }
    Ok(first)
}

/// The names of a split's class folders, sorted.
fn classes(folder: &Path) -> Result<Vec<String>> {
    let names = list(folder)?.folders;
    let problem = match names.len() {
        0 => "there is no class folder in it".to_owned(),
        1 => format!(
            "there is only one class, {:?}: nothing to tell apart",
            names[0]
        ),
        _ => return Ok(names),
    };
    Err(Error::data(folder.display(), problem, LAYOUT))
}

/// A folder's entries that are not hidden, sorted by name.
struct Listing {
    folders: Vec<String>,
    images: Vec<PathBuf>,
    /// How many other files there are.
    others: usize,
}

fn list(folder: &Path) -> Result<Listing> {
    let mut listing = Listing {
        folders: Vec::new(),
        images: Vec::new(),
        others: 0,
    };
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        if path.is_dir() {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                let problem = "the folder's name is not UTF-8";
                return Err(Error::data(path.display(), problem, "rename it"));
            };
            listing.folders.push(name.to_owned());
        } else if EXTENSIONS.iter().any(|&known| extension == known) {
            listing.images.push(path);
        } else {
            listing.others += 1;
        }
    }
    listing.folders.sort_unstable();
    listing.images.sort_unstable();
    Ok(listing)
}

/// Decodes pictures, and remembers those that were passed over.
pub(super) struct Reader {
    size: u32,
    strict: bool,
    pub skipped: Vec<String>,
}

impl Reader {
    pub fn new(size: usize, strict: bool) -> Result<Self> {
        if !(1..=4096).contains(&size) {
            let problem = format!("images cannot be brought to {size}×{size} pixels");
            return Err(Error::recipe(
                "image size",
                problem,
                "use a size from 1 to 4096",
            ));
        }
        Ok(Self {
            size: size as u32,
            strict,
            skipped: Vec::new(),
        })
    }

    /// All images of one split. To train on, every class must have one.
    fn read_split(&mut self, folder: &Path, classes: &[String], train: bool) -> Result<Split> {
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
        let mut others = listing.others + listing.images.len();
        let mut files = Vec::new();
        for (label, class) in (0u32..).zip(classes) {
            let class_folder = folder.join(class);
            if !class_folder.is_dir() {
                continue;
            }
            let listing = list(&class_folder)?;
            if listing.images.is_empty() && train {
                let problem = match listing.folders.is_empty() {
                    true => "this class has no .png or .jpg image",
                    false => "this class has no image of its own, only folders",
                };
                return Err(Error::data(class_folder.display(), problem, LAYOUT));
            }
            others += listing.others + listing.folders.len();
            files.extend(listing.images.into_iter().map(|path| (label, path)));
        }
        if others > 0 {
            let folder = folder.display();
            self.skipped.push(format!(
                "{others} other file(s) or folder(s) in {folder}: not a class's .png or .jpg"
            ));
        }
        let split = self.decode_all(&files)?;
        if split.is_empty() {
            let problem = "there is no image in it that can be used";
            return Err(Error::data(folder.display(), problem, LAYOUT));
        }
        if train {
            let counts = super::statistics::class_counts(&split.labels, classes.len());
            if let Some(empty) = counts.iter().position(|&count| count == 0) {
                return Err(Error::data(
                    folder.join(&classes[empty]).display(),
                    "no image of this class can be decoded",
                    "replace the damaged files, or remove the folder",
                ));
            }
        }
        Ok(split)
    }

    /// Decodes on all cores, each thread a run of neighbouring files, so that order is kept.
    pub fn decode_all(&mut self, files: &[(u32, PathBuf)]) -> Result<Split> {
        let size = self.size;
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let run = files.len().div_ceil(threads).max(1);
        let decoded: Vec<_> = thread::scope(|scope| {
            let workers: Vec<_> = files
                .chunks(run)
                .map(|files| {
                    scope.spawn(move || {
                        let decode = |(_, path): &(u32, PathBuf)| decode(path, size);
                        files.iter().map(decode).collect::<Vec<_>>()
                    })
                })
                .collect();
            let join = |worker: thread::ScopedJoinHandle<'_, Vec<ImageResult<RgbImage>>>| {
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            workers.into_iter().flat_map(join).collect()
        });
        let side = size as usize;
        let mut split = Split {
            images: Images {
                height: side,
                width: side,
                channels: 3,
                pixels: Vec::with_capacity(files.len() * side * side * 3),
            },
            labels: Vec::with_capacity(files.len()),
        };
        for ((label, path), image) in files.iter().zip(decoded) {
            match image {
                Ok(image) => {
                    split.images.pixels.extend_from_slice(&image);
                    split.labels.push(*label);
                }
                Err(error) if self.strict => {
                    let problem = format!("this image cannot be decoded: {error}");
                    let remedy = "replace or remove it, or allow damaged images to be passed over";
                    return Err(Error::data(path.display(), problem, remedy));
                }
                Err(error) => self.skipped.push(format!("{}: {error}", path.display())),
            }
        }
        Ok(split)
    }
}

/// One PNG or JPEG file → `size`×`size` RGB, as [`read`] does with each image.
///
/// # Errors
/// When the file cannot be read, is no PNG or JPEG, ends too early, or claims more pixels than fit
/// in 512 MiB.
pub fn decode(path: &Path, size: u32) -> ImageResult<RgbImage> {
    let bytes = fs::read(path)?;
    // Many a .jpg is a PNG: the content counts. The reader's limits refuse decompression bombs.
    let reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format()?;
    if reader.format() == Some(ImageFormat::Jpeg) && is_cut_short(&bytes) {
        let error = "the image ends before its last row";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error).into());
    }
    let mut decoder = reader.into_decoder()?;
    Limits::default().reserve(decoder.total_bytes())?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    // Cut before resizing: an image a pixel high and very wide would be resized to a huge one.
    let side = image.width().min(image.height());
    let (left, top) = ((image.width() - side) / 2, (image.height() - side) / 2);
    let image = over_white(image.crop_imm(left, top, side, side));
    if side == size {
        return Ok(image);
    }
    Ok(imageops::resize(&image, size, size, FilterType::CatmullRom))
}

/// Whether a JPEG lacks its end. The decoder would fill what is missing with grey and say nothing.
fn is_cut_short(jpeg: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    // Segments, after the two bytes that start the file: 0xff, kind, length (with its own two
    // bytes), content. A thumbnail with an end of its own lies inside of one.
    let mut rest = &jpeg[jpeg.len().min(2)..];
    while let [0xff, kind, high, low, ..] = *rest {
        if kind == START_OF_SCAN {
            // In what follows the byte 0xff stands only before a marker or a zero.
            return !rest.windows(2).any(|pair| pair == [0xff, 0xd9]);
        }
        let skip = match kind {
            0xff => 1,
            _ => 2 + usize::from(u16::from_be_bytes([high, low])),
        };
        rest = rest.get(skip..).unwrap_or_default();
    }
    // Not even a scan, or no JPEG: the decoder says it better.
    false
}

fn over_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let rgba = image.into_rgba8();
    let mut rgb = RgbImage::new(rgba.width(), rgba.height());
    for (to, from) in rgb.pixels_mut().zip(rgba.pixels()) {
        let [red, green, blue, alpha] = from.0.map(u32::from);
        to.0 = [red, green, blue].map(|c| ((c * alpha + 255 * (255 - alpha) + 127) / 255) as u8);
    }
    rgb
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, Luma, LumaA, Rgb, RgbaImage};

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

    fn problem(folder: &tempfile::TempDir) -> String {
        let error = read(folder.path(), 8, false).unwrap_err();
        assert!(!error.remedy().is_empty());
        error.to_string()
    }

    #[test]
    fn a_flat_folder() {
        let folder = flat();
        fs::write(folder.path().join("dog/notes.txt"), "hello").unwrap();
        fs::write(folder.path().join("README.md"), "hello").unwrap();
        let data = read(folder.path(), 8, true).unwrap();
        data.check().unwrap();
        assert_eq!(data.name, format!("folder:{}", folder.path().display()));
        assert_eq!(data.classes, ["cat", "dog"]);
        assert_eq!(data.train.labels, [0, 1, 1]);
        assert_eq!((data.validation, data.test), (None, None));
        // An image of the right size comes through untouched, and in the order of names.
        assert_eq!(data.train.images.image(2), &rgb(8, 8).as_raw()[..]);
        assert_eq!(data.skipped.len(), 1);
        assert!(data.skipped[0].starts_with("2 other"), "{:?}", data.skipped);
    }

    #[test]
    fn a_folder_with_splits() {
        let image = || DynamicImage::from(rgb(8, 8));
        for val in VALIDATION {
            let folder = folder(&[
                ("train/a/1.png", image()),
                ("train/b/1.png", image()),
                ("train/c/1.png", image()),
                (&format!("{val}/c/1.png"), image()),
                ("test/b/1.png", image()),
                ("test/a/1.png", image()),
            ]);
            let data = read(folder.path(), 4, true).unwrap();
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
        assert_eq!(
            read(folder.path(), 8, true).unwrap().classes,
            ["car", "train"]
        );
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
        let data = read(folder.path(), 4, true).unwrap();
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
        let data = read(folder.path(), 4, true).unwrap();
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
        let data = read(folder.path(), 32, true).unwrap();
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
        let data = read(folder.path(), 8, false).unwrap();
        assert_eq!(data.train.labels, [0, 1, 1]);
        assert_eq!(data.skipped.len(), 2);
        assert!(data.skipped[0].starts_with(&damaged.display().to_string()));
        let error = read(folder.path(), 8, true).unwrap_err().to_string();
        assert!(error.starts_with(&damaged.display().to_string()), "{error}");

        fs::write(folder.path().join("cat/z.jpg"), "no image").unwrap();
        let error = problem(&folder);
        assert!(
            error.contains("cat: no image of this class can be"),
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
        let data = read(folder.path(), 8, false).unwrap();
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
        let data = read(folder.path(), 8, false).unwrap();
        assert_eq!(data.train.len(), 3);
        assert!(
            data.skipped[0].to_lowercase().contains("limit") || data.skipped[0].contains("emory"),
            "{:?}",
            data.skipped
        );
    }

    #[test]
    fn folders_that_are_no_data_set_are_refused() {
        let empty = tempfile::tempdir().unwrap();
        assert!(problem(&empty).contains("there is no class folder in it"));
        let missing = read(&empty.path().join("nowhere"), 8, false).unwrap_err();
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
        assert!(problem(&hollow).contains("dog: this class has no .png"));
        let nested = folder(&[("cat/1.png", image()), ("dog/big/1.png", image())]);
        assert!(problem(&nested).contains("only folders"));
        let twice = folder(&[
            ("train/a/1.png", image()),
            ("train/b/1.png", image()),
            ("val/a/1.png", image()),
            ("valid/a/1.png", image()),
        ]);
        assert!(problem(&twice).contains("which is to validate on"));
        assert!(read(one.path(), 0, false).is_err());
    }
}
