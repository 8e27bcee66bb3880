//! The sheet of paper under every picture: rectangles, lines, dots, images and text, saved as PNG.
//!
//! The bitmap backend of plotters neither smooths wide lines nor places glyphs between pixels. So
//! everything is drawn several times larger and averaged down on saving.
//!
//! Lengths are in pixels of the finished picture, x to the right and y downwards.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::{fs, io};

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use plotters::backend::{BitMapBackend, DrawingBackend};
use plotters::style::{FontDesc, FontFamily, FontStyle, RGBColor, register_font};

use crate::error::{Error, Result};

/// Red, green, blue.
pub(super) type Colour = [u8; 3];

pub(super) const WHITE: Colour = [255; 3];
/// Titles and other text that is read first.
pub(super) const INK: Colour = [33, 37, 41];
/// Labels and captions.
pub(super) const GREY: Colour = [92, 99, 106];
/// Grid lines and frames.
pub(super) const FAINT: Colour = [226, 229, 233];

/// The colour-blind safe palette of Okabe and Ito (2008), without its yellow, which white swallows.
const PALETTE: [Colour; 7] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [230, 159, 0],
    [86, 180, 233],
    [0, 0, 0],
];

/// The palette's colour of that number, starting again after the last.
pub(super) fn palette(index: usize) -> Colour {
    PALETTE[index % PALETTE.len()]
}

/// How text looks and where its position lies in it.
#[derive(Clone, Copy)]
pub(super) struct Lettering {
    /// Pixels an em.
    pub size: f64,
    pub bold: bool,
    pub colour: Colour,
    pub align: Align,
    /// Whether it reads upwards.
    pub turned: bool,
}

/// Which end of a text its position names.
#[derive(Clone, Copy)]
pub(super) enum Align {
    Start,
    Middle,
    End,
}

impl Lettering {
    /// Plain text of that size, starting at its position.
    pub fn new(size: f64, colour: Colour) -> Self {
        Self {
            size,
            bold: false,
            colour,
            align: Align::Start,
            turned: false,
        }
    }

    pub fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    pub fn align(self, align: Align) -> Self {
        Self { align, ..self }
    }

    pub fn turned(self) -> Self {
        Self {
            turned: true,
            ..self
        }
    }

    /// The font, at a size for `scale` canvas pixels a picture pixel.
    fn font(&self, scale: f64) -> FontDesc<'static> {
        let style = match self.bold {
            true => FontStyle::Bold,
            false => FontStyle::Normal,
        };
        register_fonts();
        FontDesc::new(
            FontFamily::Name(FAMILY),
            self.size * LINE_PER_EM * scale,
            style,
        )
    }

    /// How long a text is.
    pub fn width(&self, text: &str) -> f64 {
        // Measured large, because the layout is rounded to whole pixels.
        let scale = 8.0;
        match self.font(scale).layout_box(text) {
            Ok(((left, _), (right, _))) => f64::from(right - left) / scale,
            // Only a font that was never registered; a test shows that it was.
            Err(_) => 0.0,
        }
    }

    /// The text, or as much of it as fits, ending in "…".
    pub fn cut(&self, text: &str, width: f64) -> String {
        if self.width(text) <= width {
            return text.to_owned();
        }
        let letters: Vec<char> = text.chars().collect();
        let shortened = |kept: usize| {
            letters[..kept]
                .iter()
                .collect::<String>()
                .trim_end()
                .to_owned()
                + "…"
        };
        let kept = (0..letters.len())
            .rev()
            .find(|&kept| self.width(&shortened(kept)) <= width)
            .unwrap_or(0);
        shortened(kept)
    }

    /// The text in lines of at most that width, broken between words, at most `lines` of them.
    pub fn wrap(&self, text: &str, width: f64, lines: usize) -> Vec<String> {
        let mut wrapped: Vec<String> = Vec::new();
        for word in text.split_whitespace() {
            let longer = wrapped
                .last()
                .map(|line| format!("{line} {word}"))
                .filter(|line| self.width(line) <= width);
            match (longer, wrapped.last_mut()) {
                (Some(longer), Some(line)) => *line = longer,
                _ => wrapped.push(word.to_owned()),
            }
        }
        if wrapped.len() > lines {
            let rest = wrapped.split_off(lines.saturating_sub(1)).join(" ");
            wrapped.push(rest);
        }
        for line in &mut wrapped {
            *line = self.cut(line, width);
        }
        wrapped
    }
}

const FAMILY: &str = "smallvit";
/// plotters counts a font's size from ascent to descent; DejaVu's are 0.928 and 0.236 em.
const LINE_PER_EM: f64 = 1.164;
/// Half the height of DejaVu's capitals, in em: what lies between a line's middle and its baseline.
const HALF_CAPITAL: f64 = 0.365;

/// The usual empty space on either side of a letter of DejaVu, in em. plotters leaves out the one on
/// the left, so that a text begins and ends too early.
const BEARING: f64 = 0.08;

/// Makes the embedded fonts known to plotters, once. (It has none of its own, and a machine may
/// have none either.)
fn register_fonts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let faces: [(FontStyle, &'static [u8]); 2] = [
            (
                FontStyle::Normal,
                include_bytes!("../../assets/DejaVuSans-subset.ttf"),
            ),
            (
                FontStyle::Bold,
                include_bytes!("../../assets/DejaVuSans-Bold-subset.ttf"),
            ),
        ];
        for (style, bytes) in faces {
            // Fails only on bytes that are no font; a test shows that these are.
            let _ = register_font(FAMILY, style, bytes);
        }
    });
}

/// A picture in the making.
pub(super) struct Canvas {
    width: usize,
    height: usize,
    /// Canvas pixels a picture pixel, along each side.
    scale: usize,
    pixels: Vec<u8>,
}

/// The largest picture, in pixels.
const LARGEST: usize = 100_000_000;
/// Above this, drawing larger would take too much memory.
const SMOOTHED: usize = 10_000_000;

impl Canvas {
    /// A white sheet. Refuses one that no viewer would open.
    pub fn new(width: f64, height: f64) -> Result<Self> {
        let (width, height) = (width.ceil() as usize, height.ceil() as usize);
        let area = width.saturating_mul(height);
        if area > LARGEST || area == 0 {
            return Err(Error::data(
                "picture",
                format!("it would be {width} × {height} pixels"),
                "ask for fewer images, fewer columns or a smaller magnification",
            ));
        }
        let scale = if area > SMOOTHED { 1 } else { 3 };
        Ok(Self {
            width,
            height,
            scale,
            pixels: vec![255; area * scale * scale * 3],
        })
    }

    fn backend(&mut self) -> BitMapBackend<'_> {
        let size = (
            (self.width * self.scale) as u32,
            (self.height * self.scale) as u32,
        );
        BitMapBackend::with_buffer(&mut self.pixels, size)
    }

    fn to_canvas(&self, value: f64) -> i32 {
        (value * self.scale as f64).round() as i32
    }

    /// A filled rectangle between two corners.
    pub fn rectangle(&mut self, (x0, y0): (f64, f64), (x1, y1): (f64, f64), colour: Colour) {
        let upper_left = (self.to_canvas(x0), self.to_canvas(y0));
        let lower_right = (self.to_canvas(x1), self.to_canvas(y1));
        ignore(
            self.backend()
                .draw_rect(upper_left, lower_right, &opaque(colour), true),
        );
    }

    /// A round dot.
    pub fn dot(&mut self, (x, y): (f64, f64), radius: f64, colour: Colour) {
        let centre = (self.to_canvas(x), self.to_canvas(y));
        let radius = self.to_canvas(radius).unsigned_abs();
        ignore(
            self.backend()
                .draw_circle(centre, radius, &opaque(colour), true),
        );
    }

    /// A line through the points, with round corners and ends.
    pub fn line(&mut self, points: &[(f64, f64)], width: f64, colour: Colour) {
        for pair in points.windows(2) {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let length = (x1 - x0).hypot(y1 - y0);
            if length == 0.0 {
                continue;
            }
            let (across_x, across_y) = (
                (y1 - y0) / length * width / 2.0,
                (x0 - x1) / length * width / 2.0,
            );
            let corners = [
                (x0 + across_x, y0 + across_y),
                (x1 + across_x, y1 + across_y),
                (x1 - across_x, y1 - across_y),
                (x0 - across_x, y0 - across_y),
            ]
            .map(|(x, y)| (self.to_canvas(x), self.to_canvas(y)));
            ignore(self.backend().fill_polygon(corners, &opaque(colour)));
        }
        for &point in points {
            self.dot(point, width / 2.0, colour);
        }
    }

    /// As [`Canvas::line`], broken into strokes of length `on` with gaps of length `off`.
    pub fn dashed_line(
        &mut self,
        points: &[(f64, f64)],
        width: f64,
        (on, off): (f64, f64),
        colour: Colour,
    ) {
        for stroke in dashes(points, on, off) {
            self.line(&stroke, width, colour);
        }
    }

    /// An image of `[row, column, channel]` bytes, each pixel a square of `magnification` pixels.
    pub fn image(
        &mut self,
        (left, top): (f64, f64),
        (height, width, channels): (usize, usize, usize),
        pixels: &[u8],
        magnification: usize,
    ) {
        let side = magnification as f64;
        for row in 0..height {
            for column in 0..width {
                let pixel = &pixels[(row * width + column) * channels..][..channels];
                // Grey: the one channel three times.
                let colour = [pixel[0], pixel[channels / 2], pixel[channels - 1]];
                let corner = (left + column as f64 * side, top + row as f64 * side);
                self.rectangle(corner, (corner.0 + side, corner.1 + side), colour);
            }
        }
    }

    /// A text; `y` (`x`, if it is turned) is the middle of its capital letters.
    pub fn text(&mut self, (x, y): (f64, f64), text: &str, lettering: Lettering) {
        let scale = self.scale as f64;
        let font = lettering.font(scale);
        let length = lettering.width(text);
        let start = match lettering.align {
            Align::Start => 0.0,
            Align::Middle => -length / 2.0 + BEARING * lettering.size,
            Align::End => -length + 2.0 * BEARING * lettering.size,
        };
        // plotters puts the baseline half the font's size below the position it is given.
        let baseline = HALF_CAPITAL * lettering.size * scale - font.get_size() / 2.0;
        let from = ((start * scale).round() as i32, baseline.round() as i32);
        let (x, y) = (self.to_canvas(x), self.to_canvas(y));
        let drawn = font.draw(text, from, |along, down, coverage| {
            let place = match lettering.turned {
                false => (x + along, y + down),
                true => (x + down, y - along),
            };
            self.blend(place, lettering.colour, coverage);
            Ok::<(), Infallible>(())
        });
        ignore(drawn);
    }

    fn blend(&mut self, (x, y): (i32, i32), colour: Colour, coverage: f32) {
        let inside = |value: i32, end: usize| usize::try_from(value).ok().filter(|&v| v < end);
        let (Some(x), Some(y)) = (
            inside(x, self.width * self.scale),
            inside(y, self.height * self.scale),
        ) else {
            return;
        };
        let coverage = coverage.clamp(0.0, 1.0);
        let at = (y * self.width * self.scale + x) * 3;
        for (below, above) in self.pixels[at..at + 3].iter_mut().zip(colour) {
            let mixed = f32::from(*below) * (1.0 - coverage) + f32::from(above) * coverage;
            *below = mixed.round() as u8;
        }
    }

    /// The finished picture's pixels, `[row, column, channel]`.
    fn averaged(self) -> Vec<u8> {
        if self.scale == 1 {
            return self.pixels;
        }
        let (scale, stride) = (self.scale, self.width * self.scale * 3);
        let area = (scale * scale) as u32;
        let mut picture = Vec::with_capacity(self.width * self.height * 3);
        for y in 0..self.height {
            for x in 0..self.width {
                for channel in 0..3 {
                    let sum: u32 = (0..scale)
                        .flat_map(|dy| (0..scale).map(move |dx| (dy, dx)))
                        .map(|(dy, dx)| {
                            let at = (y * scale + dy) * stride + (x * scale + dx) * 3 + channel;
                            u32::from(self.pixels[at])
                        })
                        .sum();
                    picture.push(((sum + area / 2) / area) as u8);
                }
            }
        }
        picture
    }

    /// Writes the picture as PNG.
    pub fn save(self, path: &Path) -> Result<()> {
        let (width, height) = (self.width as u32, self.height as u32);
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(&self.averaged(), width, height, ExtendedColorType::Rgb8)
            .map_err(io::Error::other)
            .map_err(Error::io("encode", path))?;
        write_whole(path, &bytes)
    }
}

fn opaque([r, g, b]: Colour) -> RGBColor {
    RGBColor(r, g, b)
}

/// Drawing into memory cannot fail, though plotters' signatures allow for it.
fn ignore<T, E>(result: std::result::Result<T, E>) {
    let _ = result;
}

/// The strokes of a dashed line through the points.
fn dashes(points: &[(f64, f64)], on: f64, off: f64) -> Vec<Vec<(f64, f64)>> {
    let mut strokes = Vec::new();
    let mut stroke: Vec<(f64, f64)> = points.first().copied().into_iter().collect();
    let mut drawing = true;
    let mut left = on;
    for pair in points.windows(2) {
        let (mut from, to) = (pair[0], pair[1]);
        let mut length = (to.0 - from.0).hypot(to.1 - from.1);
        while length > left {
            let share = left / length;
            from = (
                from.0 + (to.0 - from.0) * share,
                from.1 + (to.1 - from.1) * share,
            );
            length -= left;
            if drawing {
                stroke.push(from);
                strokes.push(std::mem::take(&mut stroke));
            } else {
                stroke = vec![from];
            }
            drawing = !drawing;
            left = if drawing { on } else { off };
        }
        left -= length;
        if drawing {
            stroke.push(to);
        }
    }
    if stroke.len() > 1 {
        strokes.push(stroke);
    }
    strokes
}

/// Writes a file under another name and renames it, so that nobody finds half of it.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = partial_name(path);
    let written = fs::write(&partial, bytes)
        .map_err(Error::io("write", path))
        .and_then(|()| fs::rename(&partial, path).map_err(Error::io("write", path)));
    if written.is_err() {
        // The first failure is the one worth telling.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn partial_name(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.partial", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(canvas: Canvas) -> image::RgbImage {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        canvas.save(&path).unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "the partial file is gone");
        image::open(&path).unwrap().to_rgb8()
    }

    #[test]
    fn a_rectangle_fills_exactly_its_pixels() {
        let mut canvas = Canvas::new(6.0, 5.0).unwrap();
        canvas.rectangle((1.0, 2.0), (4.0, 4.0), [10, 20, 30]);
        for (x, y, pixel) in saved(canvas).enumerate_pixels() {
            let inside = (1..4).contains(&x) && (2..4).contains(&y);
            assert_eq!(
                pixel.0,
                if inside { [10, 20, 30] } else { WHITE },
                "{x} {y}"
            );
        }
    }

    #[test]
    fn an_image_comes_back_magnified_and_unchanged() {
        let pixels: Vec<u8> = (0..2 * 3 * 3).map(|i| i * 13).collect();
        let mut canvas = Canvas::new(8.0, 6.0).unwrap();
        canvas.image((1.0, 1.0), (2, 3, 3), &pixels, 2);
        let picture = saved(canvas);
        for row in 0..4 {
            for column in 0..6 {
                let at = (row / 2 * 3 + column / 2) * 3;
                let pixel = picture.get_pixel(column as u32 + 1, row as u32 + 1);
                assert_eq!(pixel.0, pixels[at..at + 3], "{row} {column}");
            }
        }
    }

    #[test]
    fn a_grey_image_has_three_equal_channels() {
        let mut canvas = Canvas::new(2.0, 1.0).unwrap();
        canvas.image((0.0, 0.0), (1, 2, 1), &[7, 200], 1);
        let picture = saved(canvas);
        assert_eq!(picture.get_pixel(0, 0).0, [7; 3]);
        assert_eq!(picture.get_pixel(1, 0).0, [200; 3]);
    }

    #[test]
    fn a_line_is_as_wide_as_asked() {
        let mut canvas = Canvas::new(60.0, 60.0).unwrap();
        canvas.line(&[(10.0, 10.0), (50.0, 50.0)], 4.0, [0; 3]);
        let picture = saved(canvas);
        // Ink = length × width + the area of the two round ends, within the roundness of small
        // dots (5 %).
        let ink: f64 = picture
            .pixels()
            .map(|pixel| 1.0 - f64::from(pixel.0[0]) / 255.0)
            .sum();
        let expected = 40.0 * 2f64.sqrt() * 4.0 + std::f64::consts::PI * 4.0;
        assert!((ink / expected - 1.0).abs() < 0.05, "{ink} {expected}");
    }

    #[test]
    fn both_faces_have_the_letters_we_use_and_differ() {
        let plain = Lettering::new(20.0, INK);
        let drawn = |letter: char, lettering: Lettering| {
            let mut canvas = Canvas::new(30.0, 30.0).unwrap();
            canvas.text((5.0, 15.0), &letter.to_string(), lettering);
            canvas.averaged()
        };
        for lettering in [plain, plain.bold()] {
            let missing = drawn('\u{10FFFF}', lettering);
            for letter in "Aé%ſŁτ−–…×²·μΩЖ≤".chars() {
                let letter_drawn = drawn(letter, lettering);
                assert!(letter_drawn.iter().any(|&byte| byte < 128), "{letter}");
                assert!(letter_drawn != missing, "{letter}");
            }
        }
        assert!(plain.bold().width("accuracy") > plain.width("accuracy"));
    }

    #[test]
    fn text_is_centred_on_its_position() {
        for turned in [false, true] {
            let mut canvas = Canvas::new(100.0, 100.0).unwrap();
            let mut lettering = Lettering::new(24.0, [0; 3]).align(Align::Middle);
            lettering.turned = turned;
            canvas.text((50.0, 50.0), "HOH", lettering);
            let picture = saved(canvas);
            let ink: Vec<(u32, u32)> = picture
                .enumerate_pixels()
                .filter(|(_, _, pixel)| pixel.0[0] < 128)
                .map(|(x, y, _)| (x, y))
                .collect();
            let middle = |values: Vec<u32>| {
                let (low, high) = (values.iter().min().unwrap(), values.iter().max().unwrap());
                f64::from(low + high + 1) / 2.0
            };
            // A pixel, for the rounding of glyph positions.
            assert!((middle(ink.iter().map(|p| p.0).collect()) - 50.0).abs() <= 1.0);
            assert!((middle(ink.iter().map(|p| p.1).collect()) - 50.0).abs() <= 1.0);
        }
    }

    #[test]
    fn long_text_is_cut_and_wrapped_to_fit() {
        let lettering = Lettering::new(13.0, INK);
        assert_eq!(lettering.cut("short", 200.0), "short");
        let cut = lettering.cut("a rather long class name", 80.0);
        assert!(cut.ends_with('…') && lettering.width(&cut) <= 80.0, "{cut}");
        let lines = lettering.wrap("crop, flip, colour and whatever else there is", 80.0, 3);
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| lettering.width(line) <= 80.0));
        assert!(lines[2].ends_with('…'));
    }

    #[test]
    fn dashes_have_the_asked_lengths_round_corners_too() {
        let strokes = dashes(&[(0.0, 0.0), (10.0, 0.0), (10.0, 10.0)], 8.0, 4.0);
        assert_eq!(strokes[0], [(0.0, 0.0), (8.0, 0.0)]);
        assert_eq!(strokes[1], [(10.0, 2.0), (10.0, 10.0)]);
        assert_eq!(strokes.len(), 2);
        assert!(dashes(&[(1.0, 1.0)], 8.0, 4.0).is_empty());
    }

    #[test]
    fn a_picture_too_large_or_in_no_folder_is_an_error() {
        assert!(Canvas::new(1e6, 1e6).is_err());
        assert!(Canvas::new(0.0, 5.0).is_err());
        let folder = tempfile::tempdir().unwrap();
        let canvas = Canvas::new(2.0, 2.0).unwrap();
        let error = canvas.save(&folder.path().join("none/a.png")).unwrap_err();
        assert!(matches!(error, Error::Io { .. }));
    }
}
