//! Picture files → squares of one size.
//!
//! PNG, JPEG, WebP, BMP and GIF (its first frame) are read; what a file holds counts, not what its
//! name ends in. Every picture becomes RGB, as large as a [`Square`] says: EXIF orientation is
//! respected, transparency laid over white, grey made RGB.
//!
//! A file of a few kilobytes can claim to hold gigabytes. So a picture is refused by its header if it
//! has more than [`MOST_PIXELS`], or takes more than [`MOST_BYTES`] as it is decoded; and all that are
//! decoded at the same time share the memory that one of the largest takes.

use std::array;
use std::borrow::Cow;
use std::fmt;
use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::thread;

use image::imageops::{self, FilterType};
use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb, RgbImage,
};
use serde::{Deserialize, Serialize};

use super::{Images, Split};
use crate::error::{Error, Result, printable};
use crate::{input, memory};

/// Pixels that a picture may have: 67 million, 8192 × 8192.
pub const MOST_PIXELS: u64 = 1 << 26;

/// Bytes that a decoded picture may take: 268 million, which 16 bits a channel reach with a quarter of
/// [`MOST_PIXELS`] and 8 bits a channel do not.
pub const MOST_BYTES: u64 = 1 << 28;

/// Bytes that a picture's file may have.
const LONGEST_FILE: u64 = MOST_BYTES;

/// Bytes that what a PNG says of itself (its colour profile, its texts, packed) may take, and a row of
/// it.
const MOST_OF_A_PNG_HEADER: u64 = 1 << 24;

/// The largest square, in pixels a side.
const LARGEST_SIDE: usize = 4096;

/// A large picture is averaged in blocks that leave at least so many of them, a side, to a pixel of its
/// square.
const FINE: u32 = 32;

/// What lies beside a picture that is padded: middle grey.
const PADDING: Rgb<u8> = Rgb([128; 3]);

/// How a picture that is not square becomes one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Its largest centred square is cut out.
    #[default]
    Crop,
    /// The whole of it is brought to the square; its proportions are lost.
    Squash,
    /// The whole of it, in its proportions, is put in the middle; what is left beside it is middle
    /// grey (128).
    Pad,
}

impl Fit {
    const ALL: [Self; 3] = [Self::Crop, Self::Squash, Self::Pad];

    fn name(self) -> &'static str {
        match self {
            Self::Crop => "crop",
            Self::Squash => "squash",
            Self::Pad => "pad",
        }
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fit {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|fit| fit.name() == name);
        let problem = || format!("there is no way `{name}` to make a picture square");
        found.ok_or_else(|| Error::recipe("data.fit", problem(), "choose crop, squash or pad"))
    }
}

/// The square that every picture becomes, by an anti-aliased bicubic filter. A picture of that size
/// already is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Square {
    /// Pixels a side, from 1 to 4096.
    pub side: usize,
    /// What is done with pictures of other proportions.
    pub fit: Fit,
}

impl Square {
    /// A square of so many pixels a side, cut out of the middle.
    pub fn new(side: usize) -> Self {
        let fit = Fit::default();
        Self { side, fit }
    }

    fn problem(self) -> Option<String> {
        let side = self.side;
        let possible = (1..=LARGEST_SIDE).contains(&side);
        (!possible).then(|| format!("pictures cannot be brought to {side}×{side} pixels"))
    }
}

/// A file that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let words = format!("{}: {}", self.path.display(), self.reason);
        f.write_str(&printable(&words))
    }
}

/// What is told as pictures are decoded: how many are, and how many there are in all.
pub type Decoded<'a> = dyn FnMut(usize, usize) + 'a;

/// Decodes files, each with its class number, on all cores. The images are in the order of the files,
/// without those that cannot be decoded, which are returned beside them.
///
/// # Errors
/// [`Error::Recipe`] for a square that cannot be; [`Error::Data`] where all the images together do not
/// fit into memory.
pub fn read(
    files: &[(u32, PathBuf)],
    square: Square,
    decoded: &mut Decoded,
) -> Result<(Split, Vec<Skipped>)> {
    if let Some(problem) = square.problem() {
        let remedy = format!("use a size from 1 to {LARGEST_SIDE}");
        return Err(Error::recipe("image size", problem, remedy));
    }
    let side = square.side;
    let bytes = side * side * 3;
    let mut pixels = room_for(files.len(), side)?;
    let mut skipped = Vec::new();
    let mut kept = vec![true; files.len()];
    each(
        files,
        square,
        |number, image| match image {
            Ok(image) => pixels[number * bytes..][..bytes].copy_from_slice(&image),
            Err(reason) => {
                kept[number] = false;
                skipped.push((number, reason));
            }
        },
        decoded,
    );
    skipped.sort_unstable();
    // What is kept moves up to fill the gaps.
    let kept: Vec<usize> = (0..files.len()).filter(|&number| kept[number]).collect();
    for (to, &from) in kept.iter().enumerate() {
        if to != from {
            pixels.copy_within(from * bytes..(from + 1) * bytes, to * bytes);
        }
    }
    pixels.truncate(kept.len() * bytes);
    let images = Images {
        height: side,
        width: side,
        channels: 3,
        pixels,
    };
    let split = Split {
        images,
        labels: kept.iter().map(|&number| files[number].0).collect(),
        files: kept.iter().map(|&number| files[number].1.clone()).collect(),
    };
    let skip = |(number, reason): (usize, String)| Skipped {
        path: files[number].1.clone(),
        reason,
    };
    Ok((split, skipped.into_iter().map(skip).collect()))
}

/// Zeros for so many squares, if there is memory for them.
fn room_for(images: usize, side: usize) -> Result<Vec<u8>> {
    let mut pixels = Vec::new();
    let bytes = images.saturating_mul(side * side * 3);
    // A system may promise what it does not have, and end the program later.
    let free = memory::available().unwrap_or(u64::MAX);
    if bytes as u64 > free || pixels.try_reserve_exact(bytes).is_err() {
        return Err(Error::data(
            format!("{images} pictures of {side}×{side} pixels"),
            format!(
                "they take {} MB of memory, more than is free",
                bytes / 1_000_000
            ),
            "choose a smaller size, or fewer pictures",
        ));
    }
    pixels.resize(bytes, 0);
    Ok(pixels)
}

/// Decodes files on all cores, and hands each to `take` in whatever order they are done.
fn each(
    files: &[(u32, PathBuf)],
    square: Square,
    mut take: impl FnMut(usize, Result<RgbImage, String>),
    decoded: &mut Decoded,
) {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    // A bound, so that images do not pile up.
    let (send, receive) = mpsc::sync_channel(2 * threads);
    let mut take = |done, number, image| {
        take(number, image);
        decoded(done, files.len());
    };
    thread::scope(|scope| {
        let mut started = 0;
        for _ in 0..threads.min(files.len()) {
            let (next, send) = (&next, send.clone());
            let work = move || {
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && let Some((_, path)) = files.get(number)
                    && send.send((number, decode(path, square))).is_ok()
                {}
            };
            // A system that has no more threads has some, or this one.
            started += usize::from(thread::Builder::new().spawn_scoped(scope, work).is_ok());
        }
        drop(send);
        if started == 0 {
            for (number, (_, path)) in files.iter().enumerate() {
                take(number + 1, number, decode(path, square));
            }
        }
        for (done, (number, image)) in (1..).zip(receive) {
            take(done, number, image);
        }
    });
}

/// Whether a file begins as a picture does, of a format that is read or not.
pub fn begins_as_picture(path: &Path) -> bool {
    let mut begin = Vec::new();
    let read = input::open(path).map(|(file, _)| file.take(32).read_to_end(&mut begin));
    matches!(read, Ok(Ok(_))) && image::guess_format(&begin).is_ok()
}

/// One picture file → RGB, as [`read`] does with each.
///
/// # Errors
/// Why it cannot be read or decoded.
pub fn decode(path: &Path, square: Square) -> Result<RgbImage, String> {
    if let Some(problem) = square.problem() {
        return Err(problem);
    }
    let (bytes, room_of_file) = contents(path)?;
    let (image, _room) = image(&bytes)?;
    drop((bytes, room_of_file));
    Ok(fitted(image, square))
}

/// The same of a picture file's bytes.
///
/// # Errors
/// Why they cannot be decoded.
pub fn decode_bytes(bytes: &[u8], square: Square) -> Result<RgbImage, String> {
    if let Some(problem) = square.problem() {
        return Err(problem);
    }
    let (image, _room) = image(bytes)?;
    Ok(fitted(image, square))
}

/// Decoded and upright, in whatever colours it has; and the room that it takes until it is cut to size.
fn image(bytes: &[u8]) -> Result<(DynamicImage, Room), String> {
    if is_cut_short(bytes) {
        return Err("the image ends before its last row".into());
    }
    let mut decoder = decoder(bytes)?;
    // What decoders keep beside the picture, and a turned or cut copy of it, take as much again; a grey
    // one, too, becomes RGB, or with an alpha channel RGBA.
    let (width, height) = decoder.dimensions();
    let channels = if decoder.color_type().has_alpha() {
        4
    } else {
        3
    };
    let as_rgb = channels * u64::from(width) * u64::from(height);
    let room = DECODED.take(2 * decoder.total_bytes().max(as_rgb));
    let words = |error: ImageError| error.to_string().trim_end().to_owned();
    let orientation = decoder.orientation().map_err(words)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(words)?;
    image.apply_orientation(orientation);
    Ok((image, room))
}

fn contents(path: &Path) -> Result<(Vec<u8>, Room), String> {
    let (file, length) = input::open(path).map_err(|error| match error {
        Error::Io { source, .. } => source.to_string(),
        error => error.to_string(),
    })?;
    if length > LONGEST_FILE {
        return Err(format!(
            "a file of {length} bytes, and at most {LONGEST_FILE} are read"
        ));
    }
    let room = FILES.take(length);
    let mut bytes = Vec::with_capacity(length as usize);
    let read = file.take(LONGEST_FILE).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    Ok((bytes, room))
}

/// What decodes a picture whose header is read, and is within bounds.
fn decoder(bytes: &[u8]) -> Result<impl ImageDecoder, String> {
    let format = image::guess_format(bytes).map_err(|_| "this is no picture".to_owned())?;
    if !format.reading_enabled() {
        let name = format.extensions_str().first().unwrap_or(&"such");
        return Err(format!("{name} pictures are not read"));
    }
    let mut limits = Limits::default();
    // The PNG decoder counts all but the picture.
    limits.max_alloc = Some(match format {
        ImageFormat::Png => MOST_OF_A_PNG_HEADER,
        _ => MOST_BYTES,
    });
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| error.to_string())?;
    let ((width, height), bytes) = (decoder.dimensions(), decoder.total_bytes());
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MOST_PIXELS || bytes > MOST_BYTES {
        return Err(format!(
            "it has {width}×{height} pixels, {bytes} bytes, over the limit of {MOST_PIXELS} pixels \
             and {MOST_BYTES} bytes"
        ));
    }
    match pixels {
        0 => Err("it has no pixel".into()),
        _ => Ok(decoder),
    }
}

/// Memory that threads share. Who takes of both takes of `FILES` first, so nobody waits in a circle.
struct Memory {
    free: Mutex<u64>,
    given_back: Condvar,
}

/// For files as they are.
static FILES: Memory = Memory::new(LONGEST_FILE);
/// For pictures.
static DECODED: Memory = Memory::new(2 * MOST_BYTES);

impl Memory {
    const fn new(bytes: u64) -> Self {
        Self {
            free: Mutex::new(bytes),
            given_back: Condvar::new(),
        }
    }

    /// Waits until so many bytes, no more than there are in all, are free.
    fn take(&'static self, bytes: u64) -> Room {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = self.given_back.wait_while(free, |free| *free < bytes);
        *enough.unwrap_or_else(PoisonError::into_inner) -= bytes;
        Room { bytes, of: self }
    }
}

/// What one thread has of it, until this is dropped.
struct Room {
    bytes: u64,
    of: &'static Memory,
}

impl Drop for Room {
    fn drop(&mut self) {
        let free = self.of.free.lock();
        *free.unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.of.given_back.notify_all();
    }
}

/// The square of a picture.
fn fitted(image: DynamicImage, square: Square) -> RgbImage {
    let image = over_white(image);
    let (width, height) = image.dimensions();
    let side = square.side as u32;
    match square.fit {
        Fit::Crop => {
            let cut = width.min(height);
            let window = Window {
                left: (width - cut) / 2,
                top: (height - cut) / 2,
                width: cut,
                height: cut,
            };
            resized(&image, window, side, side)
        }
        Fit::Squash => resized(&image, Window::whole(&image), side, side),
        Fit::Pad => {
            let longest = u64::from(width.max(height));
            let scaled = |length: u32| {
                let length = u64::from(length) * u64::from(side) + longest / 2;
                (length / longest).max(1) as u32
            };
            let (width, height) = (scaled(width), scaled(height));
            let image = resized(&image, Window::whole(&image), width, height);
            let mut canvas = RgbImage::from_pixel(side, side, PADDING);
            let (left, top) = ((side - width) / 2, (side - height) / 2);
            imageops::replace(&mut canvas, &image, left.into(), top.into());
            canvas
        }
    }
}

/// A part of a picture.
#[derive(Clone, Copy)]
struct Window {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

impl Window {
    fn whole(image: &RgbImage) -> Self {
        let (width, height) = image.dimensions();
        Self {
            left: 0,
            top: 0,
            width,
            height,
        }
    }
}

/// A part of a picture in another size.
fn resized(image: &RgbImage, window: Window, width: u32, height: u32) -> RgbImage {
    // Of so large a picture the filter would weigh each pixel for nothing that is seen afterwards:
    // means of its blocks come first. No pixel is copied before.
    let blocks = |from: u32, to: u32| from / (from / to / FINE).max(1);
    let (columns, rows) = (blocks(window.width, width), blocks(window.height, height));
    let is_whole =
        (window.left, window.top) == (0, 0) && (window.width, window.height) == image.dimensions();
    let image = match (columns, rows) == (window.width, window.height) {
        true if is_whole => Cow::Borrowed(image),
        true => Cow::Owned(cut(image, window)),
        false => Cow::Owned(means(image, window, columns, rows)),
    };
    if image.dimensions() == (width, height) {
        return image.into_owned();
    }
    // The filter brings columns to their height first. Those of a very wide image would take much
    // more memory than it.
    if image.width() > image.height() {
        let upright = imageops::rotate90(&*image);
        let upright = imageops::resize(&upright, height, width, FilterType::CatmullRom);
        return imageops::rotate270(&upright);
    }
    imageops::resize(&*image, width, height, FilterType::CatmullRom)
}

/// A copy of a part.
fn cut(image: &RgbImage, window: Window) -> RgbImage {
    let Window {
        left,
        top,
        width,
        height,
    } = window;
    imageops::crop_imm(image, left, top, width, height).to_image()
}

/// The means of so many blocks side by side and one below another, which all of a part is divided
/// into.
fn means(image: &RgbImage, window: Window, columns: u32, rows: u32) -> RgbImage {
    let bounds = |of: u32, parts: u32| -> Vec<usize> {
        let bound = |part: u32| u64::from(part) * u64::from(of) / u64::from(parts);
        (0..=parts).map(|part| bound(part) as usize).collect()
    };
    let across = bounds(window.width, columns);
    let line = 3 * image.width() as usize;
    let mut means = RgbImage::new(columns, rows);
    // A block has far fewer pixels than 2³² / 255: the smallest number of blocks is 32.
    let mut sums = vec![0u32; 3 * columns as usize];
    let lines = means.chunks_exact_mut(sums.len());
    for (means, down) in lines.zip(bounds(window.height, rows).windows(2)) {
        sums.fill(0);
        for y in down[0]..down[1] {
            let start = (window.top as usize + y) * line + 3 * window.left as usize;
            let pixels = &image.as_raw()[start..][..3 * window.width as usize];
            for (sum, across) in sums.chunks_exact_mut(3).zip(across.windows(2)) {
                let mut block = [0; 3];
                for pixel in pixels[3 * across[0]..3 * across[1]].as_chunks::<3>().0 {
                    block = array::from_fn(|c| block[c] + u32::from(pixel[c]));
                }
                sum.iter_mut()
                    .zip(block)
                    .for_each(|(sum, block)| *sum += block);
            }
        }
        let blocks = means.chunks_exact_mut(3).zip(sums.chunks_exact(3));
        for ((mean, sum), across) in blocks.zip(across.windows(2)) {
            let count = ((down[1] - down[0]) * (across[1] - across[0])) as u32;
            for (mean, sum) in mean.iter_mut().zip(sum) {
                *mean = ((sum + count / 2) / count) as u8;
            }
        }
    }
    means
}

/// Whether it is a JPEG that lacks its end. The decoder would fill what is missing with grey and say nothing.
fn is_cut_short(jpeg: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    if !jpeg.starts_with(&[0xff, 0xd8]) {
        return false;
    }
    // Segments, after the two bytes that start the file: 0xff, kind, length (with its own two
    // bytes), content. A thumbnail with an end of its own lies inside of one.
    let mut rest = &jpeg[2..];
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
    // Not even a scan: the decoder says it better.
    false
}

fn over_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let rgba = image.into_rgba8();
    let (width, height) = rgba.dimensions();
    // In place: a large picture is not kept twice.
    let mut bytes = rgba.into_raw();
    let pixels = bytes.len() / 4;
    for pixel in 0..pixels {
        let [red, green, blue, alpha] = array::from_fn(|c| u32::from(bytes[4 * pixel + c]));
        let over = |c: u32| ((c * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        bytes[3 * pixel..][..3].copy_from_slice(&[red, green, blue].map(over));
    }
    bytes.truncate(3 * pixels);
    RgbImage::from_raw(width, height, bytes).expect("three bytes a pixel")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::ImageFormat;

    use super::*;

    /// Red on the left, green in the middle, blue on the right: each a third.
    fn flag(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, _| match 3 * x / width {
            0 => Rgb([255, 0, 0]),
            1 => Rgb([0, 255, 0]),
            _ => Rgb([0, 0, 255]),
        })
    }

    fn saved(image: &RgbImage, format: ImageFormat) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        // Whatever the name says.
        let path = folder.path().join("picture.png");
        image.save_with_format(&path, format).unwrap();
        (folder, path)
    }

    #[test]
    fn what_is_not_square_becomes_so_as_asked() {
        let (_folder, path) = saved(&flag(36, 12), ImageFormat::Png);
        let fitted = |fit| decode(&path, Square { side: 12, fit }).unwrap();
        let crop = fitted(Fit::Crop);
        assert!(crop.pixels().all(|pixel| pixel.0 == [0, 255, 0]));
        let squash = fitted(Fit::Squash);
        assert_eq!(squash.get_pixel(1, 6).0, [255, 0, 0]);
        assert_eq!(squash.get_pixel(10, 0).0, [0, 0, 255]);
        let pad = fitted(Fit::Pad);
        for (x, y, colour) in [
            (6, 0, [128; 3]),
            (6, 11, [128; 3]),
            (1, 6, [255, 0, 0]),
            (6, 6, [0, 255, 0]),
            (10, 5, [0, 0, 255]),
        ] {
            assert_eq!(pad.get_pixel(x, y).0, colour, "{x} {y}");
        }
        // A square is a square, however it is made.
        let (_folder, path) = saved(&flag(12, 12), ImageFormat::Png);
        for fit in Fit::ALL {
            assert_eq!(
                decode(&path, Square { side: 12, fit }).unwrap(),
                flag(12, 12)
            );
            assert_eq!(fit.to_string().parse::<Fit>().unwrap(), fit);
        }
        assert!(
            "stretch"
                .parse::<Fit>()
                .unwrap_err()
                .remedy()
                .contains("squash")
        );
    }

    #[test]
    fn of_pictures_that_move_the_first_is_read() {
        use image::codecs::gif::GifEncoder;
        use image::{Frame, Rgba, RgbaImage};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("moving.gif");
        let frame = |red| Frame::new(RgbaImage::from_pixel(6, 6, Rgba([red, 0, 0, 255])));
        GifEncoder::new(fs::File::create(&path).unwrap())
            .encode_frames([frame(250), frame(5)])
            .unwrap();
        let found = decode(&path, Square::new(6)).unwrap();
        assert!(found.pixels().all(|pixel| pixel.0[0] > 200), "{found:?}");
    }

    #[test]
    fn five_formats_are_read_whatever_the_name_says() {
        let image = flag(12, 12);
        for format in [
            ImageFormat::Png,
            ImageFormat::Jpeg,
            ImageFormat::WebP,
            ImageFormat::Bmp,
            ImageFormat::Gif,
        ] {
            let (_folder, path) = saved(&image, format);
            let found = decode(&path, Square::new(12)).unwrap();
            let near = |(a, b): (&u8, &u8)| a.abs_diff(*b) < 40;
            let same = found.iter().zip(image.iter()).filter(|pair| near(*pair));
            assert!(same.count() > 3 * 144 * 8 / 10, "{format:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.png");
        fs::write(&path, "hello").unwrap();
        assert_eq!(
            decode(&path, Square::new(4)).unwrap_err(),
            "this is no picture"
        );
        fs::write(&path, "II*\0\x08\0\0\0").unwrap();
        let error = decode(&path, Square::new(4)).unwrap_err();
        assert_eq!(error, "tiff pictures are not read");
    }

    #[test]
    fn pictures_of_too_many_pixels_are_refused_by_their_header() {
        let (_folder, path) = saved(&flag(3, 3), ImageFormat::Png);
        let small = fs::read(&path).unwrap();
        for (width, height) in [
            (12_000u32, 12_000u32),
            (60_000, 60_000),
            (1 << 27, 1),
            (9000, 9000),
        ] {
            let mut png = small.clone();
            png[16..20].copy_from_slice(&width.to_be_bytes());
            png[20..24].copy_from_slice(&height.to_be_bytes());
            let mut crc = flate2::Crc::new();
            crc.update(&png[12..29]);
            png[29..33].copy_from_slice(&crc.sum().to_be_bytes());
            fs::write(&path, png).unwrap();
            let error = decode(&path, Square::new(4)).unwrap_err().to_lowercase();
            assert!(error.contains("limit"), "{width}×{height}: {error}");
        }
    }

    #[test]
    fn blocks_of_a_large_picture_are_averaged_first_and_nothing_is_seen_of_it() {
        let large = RgbImage::from_fn(1500, 1400, |x, y| {
            Rgb([(x / 6) as u8, (y / 6) as u8, ((x + y) / 12) as u8])
        });
        let whole = imageops::resize(&large, 12, 12, FilterType::CatmullRom);
        let found = resized(&large, Window::whole(&large), 12, 12);
        let most = found
            .iter()
            .zip(whole.iter())
            .map(|(a, b)| a.abs_diff(*b))
            .max();
        assert!(most <= Some(1), "{most:?}");
        // A part of it is what that part is by itself.
        let part = Window {
            left: 37,
            top: 101,
            width: 1300,
            height: 1201,
        };
        let alone = cut(&large, part);
        assert_eq!(
            resized(&large, part, 12, 12),
            resized(&alone, Window::whole(&alone), 12, 12)
        );
        let two = RgbImage::from_fn(3, 2, |x, y| Rgb([x as u8, y as u8 * 10, 7]));
        let mean = means(&two, Window::whole(&two), 1, 1);
        assert_eq!(mean.get_pixel(0, 0).0, [1, 5, 7]);
    }

    #[test]
    fn what_cannot_be_decoded_leaves_no_gap() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<(u32, PathBuf)> = (0..40)
            .map(|number| {
                let path = folder.path().join(format!("{number}.png"));
                match number % 5 {
                    3 => fs::write(&path, "no picture").unwrap(),
                    _ => RgbImage::from_pixel(4, 4, Rgb([number as u8; 3]))
                        .save(&path)
                        .unwrap(),
                }
                (number, path)
            })
            .collect();
        let mut told = 0;
        let (split, skipped) = read(&files, Square::new(4), &mut |done, of| {
            assert_eq!(of, 40);
            told = told.max(done);
        })
        .unwrap();
        assert_eq!((told, skipped.len(), split.len()), (40, 8, 32));
        for (image, &label) in split.labels.iter().enumerate() {
            assert_ne!(label % 5, 3);
            assert_eq!(split.images.image(image), [label as u8; 48]);
            assert_eq!(split.files[image], files[label as usize].1);
        }
    }

    #[test]
    fn more_pictures_than_memory_holds_are_refused_before_any_is_read() {
        for images in [usize::MAX, 1 << 26] {
            let error = room_for(images, 4096).unwrap_err().to_string();
            assert!(error.ends_with("more than is free"), "{error}");
        }
    }
}
