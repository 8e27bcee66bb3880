//! What one token is made of: its patch of the image, or, with Shifted Patch Tokenization, its patch of the image and
//! of its four shifted versions, and the vector that they become.

use std::path::Path;

use super::canvas::{Canvas, GREY, INK, Lettering, WHITE, palette};
use super::{MissingLetters, Picture};
use crate::error::{Error, Result};

/// An image as one view of it shows it: itself, or shifted.
#[derive(Clone, Debug)]
pub struct View {
    /// What is done to it.
    pub name: String,
    /// `[row, column, channel]`.
    pub pixels: Vec<u8>,
}

/// One token of an image.
#[derive(Clone, Debug)]
pub struct Token {
    /// The image's side, in pixels.
    pub size: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// The image itself first.
    pub views: Vec<View>,
    /// The side of the token's patch, in pixels.
    pub patch: usize,
    /// Row and column of the patch's first pixel.
    pub at: [usize; 2],
    /// How many numbers a token has in the end.
    pub dim: usize,
}

const MARGIN: f64 = 28.0;
const GAP: f64 = 26.0;
/// About how large a view is drawn.
const VIEW: usize = 180;
/// About how large a patch is drawn.
const PATCH: usize = 96;
/// A number of the vector, in pixels across: as wide as they all have room in a row, between these bounds.
const NUMBER: (f64, f64) = (2.5, 10.0);
/// The height of a row of them.
const ROW: f64 = 16.0;
/// Beyond, the vector is drawn as so many numbers only.
const MOST_NUMBERS: usize = 1 << 14;

impl Token {
    /// The numbers of a view's patch: row by row, channel by channel.
    fn cut(&self, view: &View) -> Vec<u8> {
        let line = self.patch * self.channels;
        let row = |row: usize| {
            let first = ((self.at[0] + row) * self.size + self.at[1]) * self.channels;
            &view.pixels[first..first + line]
        };
        (0..self.patch).flat_map(row).copied().collect()
    }

    fn check(&self) -> Result<()> {
        let bytes = self.size * self.size * self.channels;
        let whole = self.views.iter().all(|view| view.pixels.len() == bytes);
        let inside = self.at.iter().all(|at| {
            at.checked_add(self.patch)
                .is_some_and(|end| end <= self.size)
        });
        if whole
            && inside
            && !self.views.is_empty()
            && self.patch > 0
            && matches!(self.channels, 1 | 3)
        {
            return Ok(());
        }
        Err(Error::data(
            "token",
            format!(
                "{} pixels a side with a patch of {} at {:?}",
                self.size, self.patch, self.at
            ),
            "give views of one size, and a patch inside of them",
        ))
    }
}

/// Draws a token and writes it as SVG, PNG or JPEG.
///
/// # Errors
///
/// As [`picture`] and [`Picture::save`].
pub fn draw(title: &str, token: &Token, path: &Path) -> Result<MissingLetters> {
    picture(title, token)?.save(path)
}

/// Draws a token: the views with its patch framed, the patches for themselves, and the vector that they are.
///
/// # Errors
///
/// If a view has not as many bytes as its size says, or the patch reaches over its edge.
pub fn picture(title: &str, token: &Token) -> Result<Picture> {
    token.check()?;
    let views = token.views.len();
    let magnification = (VIEW / token.size).max(1);
    let side = (token.size * magnification) as f64;
    let patch_magnification = (PATCH / token.patch).max(1);
    let patch_side = (token.patch * patch_magnification) as f64;
    let column = side.max(patch_side).max(VIEW as f64);
    let width = 2.0 * MARGIN + views as f64 * (column + GAP) - GAP;
    let width = width.max(640.0);
    let numbers = token.patch * token.patch * token.channels;
    let all = numbers * views;
    let drawn = all.min(MOST_NUMBERS);
    let number_width = ((width - 2.0 * MARGIN) / drawn as f64).clamp(NUMBER.0, NUMBER.1);
    let across = ((width - 2.0 * MARGIN) / number_width + 1e-6) as usize;
    let lines = drawn.div_ceil(across);
    let heading = Lettering::new(20.0, INK).bold();
    let (label, note) = (Lettering::new(14.0, INK).bold(), Lettering::new(14.0, GREY));
    let top = MARGIN + if title.is_empty() { 0.0 } else { 40.0 };
    let patches = top + 26.0 + side + 44.0;
    let vector = patches + patch_side + 62.0;
    let height = vector + lines as f64 * ROW + 44.0 + MARGIN / 2.0;
    let mut canvas = Canvas::new(width, height)?;
    let text = heading.cut(title, width - 2.0 * MARGIN);
    canvas.text((MARGIN, MARGIN + 4.0), &text, heading);

    let frame = |canvas: &mut Canvas, (x, y): (f64, f64), side: f64, colour| {
        for (width, colour) in [(5.0, WHITE), (2.6, colour)] {
            let (far_x, far_y) = (x + side, y + side);
            let round = [(x, y), (far_x, y), (far_x, far_y), (x, far_y), (x, y)];
            canvas.line(&round, width, colour);
        }
    };
    for (number, view) in token.views.iter().enumerate() {
        let colour = palette(number);
        let left = MARGIN + number as f64 * (column + GAP);
        let corner = (left, top + 26.0);
        canvas.text((left, top + 8.0), &label.cut(&view.name, column), label);
        let shape = (token.size, token.size, token.channels);
        canvas.image(corner, shape, &view.pixels, magnification)?;
        let place = |at: usize| (at * magnification) as f64;
        let at = (corner.0 + place(token.at[1]), corner.1 + place(token.at[0]));
        frame(&mut canvas, at, place(token.patch), colour);
        let shape = (token.patch, token.patch, token.channels);
        canvas.image(
            (left, patches),
            shape,
            &token.cut(view),
            patch_magnification,
        )?;
        frame(&mut canvas, (left, patches), patch_side, colour);
        let below = patches + patch_side + 20.0;
        canvas.text((left, below), &format!("{numbers} numbers"), note);
    }
    canvas.text((MARGIN, patches - 18.0), "the token's patch of each", note);
    let whole = match views {
        1 => format!("one after another, {all} numbers:"),
        _ => format!("one after another, {views} × {numbers} = {all} numbers:"),
    };
    canvas.text((MARGIN, vector - 14.0), &whole, label);
    let cuts = token.views.iter().flat_map(|view| token.cut(view));
    for (number, value) in cuts.take(drawn).enumerate() {
        let x = MARGIN + (number % across) as f64 * number_width;
        let y = vector + (number / across) as f64 * ROW;
        canvas.rectangle((x, y), (x + number_width - 0.4, y + ROW - 6.0), [value; 3]);
        // A foot in the colour of the view that it comes from.
        let foot = ((x, y + ROW - 5.4), (x + number_width, y + ROW - 3.0));
        canvas.rectangle(foot.0, foot.1, palette(number / numbers));
    }
    let becomes = format!(
        "{} a matrix makes a token of {} numbers of them",
        if views > 1 { "normalised, and" } else { "then" },
        token.dim
    );
    canvas.text((MARGIN, vector + lines as f64 * ROW + 16.0), &becomes, note);
    let description = format!("{views} views of an image, and the patch of one token in each");
    Ok(canvas.finished(title, &description))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(views: usize) -> Token {
        // Each pixel's number is its place, and the view's.
        let view = |number: usize| View {
            name: format!("view {number}"),
            pixels: (0..64).map(|at| (at + 64 * (number % 3)) as u8).collect(),
        };
        Token {
            size: 8,
            channels: 1,
            views: (0..views).map(view).collect(),
            patch: 2,
            at: [2, 4],
            dim: 16,
        }
    }

    #[test]
    fn the_patch_is_cut_where_it_lies() {
        let token = token(2);
        assert_eq!(token.cut(&token.views[0]), [20, 21, 28, 29]);
        assert_eq!(token.cut(&token.views[1]), [84, 85, 92, 93]);
    }

    #[test]
    fn all_of_the_vector_is_drawn() {
        for (views, said) in [
            (1, "one after another, 4 numbers:"),
            (5, "5 × 4 = 20 numbers:"),
        ] {
            let picture = picture("a token", &token(views)).unwrap();
            assert!(picture.svg().contains(said), "{said}");
            assert_eq!(picture.svg().matches("<image").count(), 2 * views);
            // A cell and its foot a number, beside the sheet itself.
            assert_eq!(picture.svg().matches("<rect").count(), 1 + 2 * 4 * views);
            assert!(picture.png().unwrap().1.is_empty());
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for spoil in [
            |t: &mut Token| t.at = [7, 0],
            |t: &mut Token| t.views.clear(),
            |t: &mut Token| t.channels = 3,
        ] {
            let mut token = token(2);
            spoil(&mut token);
            assert!(picture("", &token).is_err());
        }
    }
}
