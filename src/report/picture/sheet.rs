//! Sheets of images: augmented samples, attention maps.

use std::path::Path;

use super::canvas::{Align, Canvas, GREY, INK, Lettering};
use super::{MissingLetters, Picture};
use crate::error::{Error, Result};

/// An image with a line or two of text below it.
#[derive(Clone, Debug)]
pub struct SheetImage {
    /// What it shows; may be empty.
    pub caption: String,
    /// Rows, in pixels.
    pub height: usize,
    /// Columns, in pixels.
    pub width: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// `[row, column, channel]`, without gaps.
    pub pixels: Vec<u8>,
    /// Lines that are drawn across it, down as well as along: at which parts of its sides.
    pub borders: Vec<f64>,
}

const MARGIN: f64 = 28.0;
const GAP: f64 = 14.0;
const HEADING: f64 = 44.0;
const CAPTION_LINE: f64 = 18.0;
const CAPTION_LINES: usize = 3;
/// Room enough for a word or two below the smallest images.
const NARROWEST: f64 = 96.0;
const CAPTION: Lettering = Lettering {
    size: 13.0,
    bold: false,
    colour: GREY,
    align: Align::Middle,
    turned: false,
};

/// Draws images and writes them as SVG, PNG or JPEG.
///
/// # Errors
///
/// As [`images`] and [`Picture::save`].
pub fn draw_images(
    title: &str,
    images: &[SheetImage],
    columns: usize,
    magnification: usize,
    path: &Path,
) -> Result<MissingLetters> {
    self::images(title, images, columns, magnification)?.save(path)
}

/// Draws images in rows of `columns`, each pixel magnified to a square of `magnification` pixels.
///
/// No title is drawn if it is empty. Images may differ in size.
///
/// # Errors
///
/// If there is no image, one has not as many bytes as its sizes say, or the picture would be
/// enormous.
pub fn images(
    title: &str,
    images: &[SheetImage],
    columns: usize,
    magnification: usize,
) -> Result<Picture> {
    if images.is_empty() {
        return Err(nothing_to_draw());
    }
    for image in images {
        let expected = [image.height, image.width, image.channels];
        check(&image.caption, image.channels, &expected, &image.pixels)?;
    }
    let magnification = magnification.max(1);
    let columns = columns.clamp(1, images.len());
    let magnified = |pixels: usize| pixels as f64 * magnification as f64;
    let cell = largest(images.iter().map(|image| magnified(image.width))).max(NARROWEST);
    let captions: Vec<Vec<String>> = images
        .iter()
        .map(|image| CAPTION.wrap(&image.caption, cell, CAPTION_LINES))
        .collect();
    let rows: Vec<(&[SheetImage], &[Vec<String>])> = images
        .chunks(columns)
        .zip(captions.chunks(columns))
        .collect();
    let image_height =
        |row: &[SheetImage]| largest(row.iter().map(|image| magnified(image.height)));
    let row_height = |row: &(&[SheetImage], &[Vec<String>])| {
        let lines = row.1.iter().map(Vec::len).max().unwrap_or(0);
        image_height(row.0) + lines as f64 * CAPTION_LINE + if lines > 0 { 8.0 } else { 0.0 }
    };
    let width = 2.0 * MARGIN + columns as f64 * (cell + GAP) - GAP;
    let heading = if title.is_empty() { 0.0 } else { HEADING };
    let height =
        heading + 2.0 * MARGIN + rows.iter().map(|row| row_height(row) + GAP).sum::<f64>() - GAP;
    let mut canvas = Canvas::new(width, height)?;
    draw_heading(&mut canvas, title, width);

    let mut top = MARGIN + heading;
    for row in &rows {
        for (column, (image, caption)) in row.0.iter().zip(row.1).enumerate() {
            let left = MARGIN + column as f64 * (cell + GAP);
            let at = (left + ((cell - magnified(image.width)) / 2.0).floor(), top);
            let shape = (image.height, image.width, image.channels);
            canvas.image(at, shape, &image.pixels, magnification)?;
            let (width, height) = (magnified(image.width), magnified(image.height));
            for part in &image.borders {
                let (x, y) = (at.0 + part * width, at.1 + part * height);
                for line in [
                    [(x, at.1), (x, at.1 + height)],
                    [(at.0, y), (at.0 + width, y)],
                ] {
                    canvas.line(&line, 1.0, INK);
                }
            }
            let below = top + image_height(row.0) + 14.0;
            for (line, text) in caption.iter().enumerate() {
                let y = below + line as f64 * CAPTION_LINE;
                canvas.text((left + cell / 2.0, y), text, CAPTION);
            }
        }
        top += row_height(row) + GAP;
    }
    Ok(canvas.finished(title, ""))
}

fn largest(lengths: impl Iterator<Item = f64>) -> f64 {
    lengths.fold(0.0, f64::max)
}

fn draw_heading(canvas: &mut Canvas, title: &str, width: f64) {
    let lettering = Lettering::new(20.0, INK).bold();
    let text = lettering.cut(title, width - 2.0 * MARGIN);
    canvas.text((MARGIN, MARGIN + 8.0), &text, lettering);
}

fn nothing_to_draw() -> Error {
    Error::data("picture", "there is no image to draw", "give at least one")
}

/// Whether an image has as many bytes as its sizes say.
fn check(name: &str, channels: usize, sizes: &[usize], pixels: &[u8]) -> Result<()> {
    let expected = sizes
        .iter()
        .try_fold(1usize, |bytes, &size| bytes.checked_mul(size))
        .unwrap_or(0);
    let shape = || {
        let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
        sizes.join(" × ")
    };
    let problem = match channels {
        _ if expected == 0 || expected != pixels.len() => {
            format!("{} bytes for {}", pixels.len(), shape())
        }
        1 | 3 => return Ok(()),
        _ => format!("{channels} channels"),
    };
    Err(Error::data(
        format!("image “{name}”"),
        problem,
        "give rows × columns × channels bytes, with one channel or three",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(caption: &str, height: usize, width: usize, value: u8) -> SheetImage {
        SheetImage {
            caption: caption.to_owned(),
            height,
            width,
            channels: 1,
            pixels: vec![value; height * width],
            borders: vec![],
        }
    }

    fn rendered(picture: Result<Picture>) -> image::RgbImage {
        let (png, _) = picture.unwrap().png().unwrap();
        image::load_from_memory(&png).unwrap().to_rgb8()
    }

    /// Where a grey appears: how many pixels, and the rows and columns they span.
    fn found(picture: &image::RgbImage, value: u8) -> (usize, u32, u32) {
        let places: Vec<(u32, u32)> = picture
            .enumerate_pixels()
            .filter(|(_, _, pixel)| pixel.0 == [value; 3])
            .map(|(x, y, _)| (x, y))
            .collect();
        let span =
            |values: Vec<u32>| values.iter().max().unwrap() - values.iter().min().unwrap() + 1;
        (
            places.len(),
            span(places.iter().map(|p| p.1).collect()),
            span(places.iter().map(|p| p.0).collect()),
        )
    }

    #[test]
    fn borders_are_lines_across_an_image() {
        let mut image = grey("", 32, 32, 200);
        image.borders = vec![0.25, 0.75];
        let picture = rendered(super::images("", &[image], 1, 4));
        let (plain, rows, columns) = found(&picture, 200);
        assert_eq!((rows, columns), (128, 128));
        // Four lines of a pixel's width, which may lie between two.
        let drawn = 128 * 128 - plain;
        assert!((4 * 128 - 4..=8 * 128).contains(&drawn), "{drawn}");
    }

    #[test]
    fn images_are_magnified_and_wrap_into_rows() {
        // Greys that no letter's edge is likely to have, and no caption beside them.
        let images = [grey("", 4, 6, 1), grey("", 4, 6, 2), grey("", 2, 3, 3)];
        let picture = rendered(super::images("", &images, 2, 5));
        assert_eq!(found(&picture, 1), (20 * 30, 20, 30));
        assert_eq!(found(&picture, 2), (20 * 30, 20, 30));
        assert_eq!(found(&picture, 3), (10 * 15, 10, 15));
        assert_eq!(
            f64::from(picture.width()),
            2.0 * MARGIN + 2.0 * NARROWEST + GAP
        );
        assert_eq!(
            f64::from(picture.height()),
            2.0 * MARGIN + 20.0 + GAP + 10.0
        );
    }

    #[test]
    fn captions_and_titles_take_room() {
        let without = rendered(super::images("", &[grey("", 9, 9, 1)], 1, 1));
        let with = rendered(super::images("title", &[grey("caption", 9, 9, 1)], 4, 1));
        assert_eq!(
            f64::from(with.height() - without.height()),
            HEADING + CAPTION_LINE + 8.0
        );
    }

    #[test]
    fn images_of_the_wrong_size_are_named() {
        let mut image = grey("the third", 4, 4, 0);
        image.pixels.pop();
        let error = super::images("", &[image], 1, 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "image “the third”: 15 bytes for 4 × 4 × 1"
        );
        let mut image = grey("x", 4, 4, 0);
        (image.width, image.channels) = (2, 2);
        assert!(super::images("", &[image], 1, 1).is_err());
    }

    #[test]
    fn no_images_and_enormous_sheets_are_errors() {
        assert!(super::images("", &[], 1, 1).is_err());
        assert!(super::images("", &[grey("", 4, 4, 0)], 1, 1 << 20).is_err());
    }
}
