//! How far a model's confidence can be trusted: the accuracy of answers against the confidence they were given with.

use std::path::Path;

use super::canvas::{Align, Canvas, FAINT, GREY, INK, Lettering, palette};
use super::{MissingLetters, Picture};
use crate::error::Result;
use crate::words::counted;

/// Answers of about the same confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// How many there are.
    pub images: u64,
    /// Their mean confidence, in percent.
    pub confidence: f64,
    /// How many of them are right, in percent.
    pub accuracy: f64,
}

const MARGIN: f64 = 32.0;
/// The side of the plot.
const SIDE: f64 = 360.0;
/// Of fewer answers than this part of all, the share that is right says little.
const FEW: f64 = 0.005;
/// The height of the strip that shows how many answers there are.
const STRIP: f64 = 54.0;

/// Draws a reliability diagram and writes it as SVG, PNG or JPEG.
///
/// # Errors
///
/// As [`picture`] and [`Picture::save`].
pub fn draw(title: &str, bins: &[Bin], path: &Path) -> Result<MissingLetters> {
    picture(title, bins)?.save(path)
}

/// Draws a reliability diagram: a dot a bin of half a percent of the answers or more, joined to the diagonal on which it would lie if its confidence were
/// right; below, how many answers each has.
///
/// # Errors
///
/// None but of a picture that would be enormous, which this is not.
pub fn picture(title: &str, bins: &[Bin]) -> Result<Picture> {
    drawn(title, bins, 0, true)
}

/// The same without its heading and in another colour of the palette, for a page.
///
/// # Errors
///
/// As [`picture`].
pub fn plot(title: &str, bins: &[Bin], colour: usize) -> Result<Picture> {
    drawn(title, bins, colour, false)
}

fn drawn(title: &str, bins: &[Bin], colour: usize, alone: bool) -> Result<Picture> {
    let (heading, note) = (Lettering::new(20.0, INK).bold(), Lettering::new(14.0, GREY));
    let margin = if alone { MARGIN } else { 8.0 };
    let (left, top) = (margin + 66.0, margin + if alone { 62.0 } else { 0.0 });
    let (right, bottom) = (left + SIDE, top + SIDE);
    let width = right + margin + 20.0;
    let strip = bottom + 16.0;
    let mut canvas = Canvas::new(width, strip + STRIP + 62.0)?;
    let said = "below the diagonal: more confident than right";
    if alone {
        let text = heading.cut(title, width - 2.0 * margin);
        canvas.text((margin, margin), &text, heading);
        canvas.text((margin, margin + 28.0), said, note);
    }
    let place = |confidence: f64, accuracy: f64| {
        (
            left + confidence / 100.0 * SIDE,
            bottom - accuracy / 100.0 * SIDE,
        )
    };
    for percent in [0.0, 20.0, 40.0, 60.0, 80.0, 100.0] {
        let (x, y) = place(percent, percent);
        canvas.line(&[(left, y), (right, y)], 1.0, FAINT);
        canvas.line(&[(x, top), (x, bottom)], 1.0, FAINT);
        let tick = format!("{percent:.0} %");
        canvas.text((left - 10.0, y), &tick, note.align(Align::End));
        canvas.text((x, strip + STRIP + 14.0), &tick, note.align(Align::Middle));
    }
    canvas.dashed_line(&[(left, bottom), (right, top)], 1.5, (5.0, 5.0), GREY);
    let most = bins.iter().map(|bin| bin.images).max().unwrap_or(1).max(1) as f64;
    let all: u64 = bins.iter().map(|bin| bin.images).sum();
    let tells = |bin: &&Bin| bin.images as f64 >= FEW * all as f64;
    for bin in bins {
        let at = place(bin.confidence, bin.accuracy);
        let name = format!(
            "{} with a mean confidence of {:.1} %: {:.1} % are right",
            counted(bin.images, "answer"),
            bin.confidence,
            bin.accuracy
        );
        canvas.named(&name, |canvas| {
            if tells(&bin) {
                canvas.line(&[place(bin.confidence, bin.confidence), at], 3.0, FAINT);
                canvas.dot(at, 5.5, palette(colour));
            }
            let height = (bin.images as f64 / most * STRIP).max(1.0);
            let foot = strip + STRIP;
            canvas.rectangle(
                (at.0 - 7.0, foot - height),
                (at.0 + 7.0, foot),
                palette(colour),
            );
        });
    }
    let joined: Vec<(f64, f64)> = bins
        .iter()
        .filter(tells)
        .map(|b| place(b.confidence, b.accuracy))
        .collect();
    if joined.len() > 1 {
        canvas.line(&joined, 1.6, palette(colour));
    }
    canvas.line(&[(left, strip + STRIP), (right, strip + STRIP)], 1.0, GREY);
    let label = Lettering::new(15.0, INK).align(Align::Middle);
    canvas.text((margin, (top + bottom) / 2.0), "right", label.turned());
    let below = (((left + right) / 2.0), strip + STRIP + 40.0);
    canvas.text(below, "confidence; how many answers have it", label);
    Ok(canvas.finished(title, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_lies_where_its_numbers_say() {
        let bins = [
            Bin {
                images: 10,
                confidence: 50.0,
                accuracy: 25.0,
            },
            Bin {
                images: 40,
                confidence: 90.0,
                accuracy: 80.0,
            },
        ];
        let picture = picture("a model", &bins).unwrap();
        assert!(
            picture
                .svg()
                .contains("10 answers with a mean confidence of 50.0 %: 25.0 % are right")
        );
        // The plot begins at (98, 94) and is 360 pixels a side.
        assert!(
            picture.svg().contains(r#"cx="278" cy="364""#),
            "{}",
            picture.svg()
        );
        assert!(picture.png().unwrap().1.is_empty());
        self::picture("none", &[]).unwrap();
    }
}
