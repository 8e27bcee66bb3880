//! Confusion matrices: which classes a model takes for which.

use std::path::Path;

use super::canvas::{Align, Canvas, Colour, FAINT, GREY, INK, Lettering, WHITE};
use super::{MissingLetters, Picture};
use crate::error::{Error, Result};
use crate::words::{count, percent};

const MARGIN: f64 = 32.0;
/// Up to here the cells hold their counts.
const COUNTED: usize = 20;
/// Up to here the axes bear the classes' names; beyond, every so many class numbers.
const NAMED: usize = 50;
/// The longest class name before it is cut.
const LONGEST_NAME: f64 = 190.0;
const BAR_WIDTH: f64 = 18.0;

/// Draws a confusion matrix and writes it as SVG, PNG or JPEG.
///
/// # Errors
///
/// As [`picture`] and [`Picture::save`].
pub fn draw(
    title: &str,
    classes: &[String],
    counts: &[u64],
    path: &Path,
) -> Result<MissingLetters> {
    picture(title, classes, counts)?.save(path)
}

/// Draws a confusion matrix.
///
/// `counts` is `[true class, predicted class]` without gaps. A row's colours are its counts as
/// shares of the row's sum, on a square-root scale, so that rare confusions show beside a strong
/// diagonal. Up to 20 classes the cells hold their counts; up to 50 the axes bear names.
///
/// # Errors
///
/// If `counts` does not have the square of `classes`' length, or the picture would be enormous.
pub fn picture(title: &str, classes: &[String], counts: &[u64]) -> Result<Picture> {
    drawn(title, classes, counts, true)
}

/// The same without heading and colour bar, for a page that says itself what it is; `title` is for those who
/// cannot see it.
///
/// # Errors
///
/// As [`picture`].
pub fn matrix(title: &str, classes: &[String], counts: &[u64]) -> Result<Picture> {
    drawn(title, classes, counts, false)
}

fn drawn(title: &str, classes: &[String], counts: &[u64], alone: bool) -> Result<Picture> {
    let size = classes.len();
    if size == 0 || counts.len() != size * size {
        return Err(Error::data(
            "confusion matrix",
            format!("{} counts for {size} classes", counts.len()),
            "give one count a pair of classes",
        ));
    }
    let cell = cell_side(size, counts);
    let side = cell * size as f64;
    let marks = axis_marks(classes, cell);
    let name_length = marks
        .iter()
        .map(|(_, text, lettering)| lettering.width(text))
        .fold(0.0, f64::max)
        // Whole pixels keep the cells' edges sharp.
        .ceil();
    let named = size <= NAMED;
    // Names stand upright below the matrix, numbers do not.
    let below_matrix = if named { name_length } else { 14.0 };
    let heading = Lettering::new(24.0, INK).bold();
    let note = Lettering::new(15.0, GREY);
    let margin = if alone { MARGIN } else { 2.0 };
    let left = margin + 30.0 + name_length + 10.0;
    let right = left + side;
    let width = match alone {
        true => (right + 36.0 + BAR_WIDTH + 80.0 + MARGIN).max(660.0),
        false => right + 4.0,
    };
    let notes = note.wrap(&description(size, counts), width - 2.0 * MARGIN, 3);
    let top = match alone {
        true => MARGIN + 36.0 + notes.len() as f64 * 23.0 + 16.0,
        false => 4.0,
    };
    let bottom = top + side;
    let below = bottom + below_matrix + 28.0;
    let height = match alone {
        true => f64::max(below + 16.0, top + bar_height(side)) + MARGIN / 2.0,
        false => below + 12.0,
    };
    let mut canvas = Canvas::new(width, height)?;

    if alone {
        let text = heading.cut(title, width - 2.0 * MARGIN);
        canvas.text((MARGIN, MARGIN + 8.0), &text, heading);
        for (line, text) in notes.iter().enumerate() {
            let y = MARGIN + 40.0 + line as f64 * 23.0;
            canvas.text((MARGIN, y), text, note);
        }
        draw_bar(&mut canvas, (right + 36.0, top), side);
    }

    canvas.rectangle((left - 1.0, top - 1.0), (right + 1.0, bottom + 1.0), FAINT);
    match named {
        true => draw_cells(&mut canvas, (left, top), cell, classes, counts),
        false => draw_pixels(&mut canvas, (left, top), cell, size, counts)?,
    }
    for (class, text, lettering) in &marks {
        let along = (*class as f64 + 0.5) * cell;
        canvas.text((left - 8.0, top + along), text, lettering.align(Align::End));
        match named {
            true => canvas.text(
                (left + along, bottom + 8.0),
                text,
                lettering.align(Align::End).turned(),
            ),
            false => canvas.text(
                (left + along, bottom + 16.0),
                text,
                lettering.align(Align::Middle),
            ),
        }
    }
    let label = Lettering::new(16.0, INK).align(Align::Middle);
    let beside = (left - name_length - 26.0, (top + bottom) / 2.0);
    canvas.text(beside, "true class", label.turned());
    canvas.text(((left + right) / 2.0, below), "predicted class", label);
    Ok(canvas.finished(title, &description(size, counts)))
}

/// The matrix as one cell a pair of classes, which says what it stands for when pointed at.
fn draw_cells(
    canvas: &mut Canvas,
    (left, top): (f64, f64),
    cell: f64,
    classes: &[String],
    counts: &[u64],
) {
    let size = classes.len();
    for (row, of_class) in counts.chunks_exact(size).enumerate() {
        let sum: u64 = of_class.iter().sum();
        for (column, &number) in of_class.iter().enumerate() {
            let corner = (left + column as f64 * cell, top + row as f64 * cell);
            // What lies below shows between the cells, as a grid.
            let far = (corner.0 + cell - 1.0, corner.1 + cell - 1.0);
            let name = format!(
                "{}, taken for {}: {}",
                classes[row],
                classes[column],
                count(number)
            );
            canvas.named(&name, |canvas| {
                let share = number as f64 / sum.max(1) as f64;
                canvas.cell(share.sqrt(), share > DARK, |canvas| {
                    canvas.rectangle(corner, far, cell_colour(number, sum));
                    if size <= COUNTED && number > 0 {
                        let middle = (corner.0 + cell / 2.0, corner.1 + cell / 2.0);
                        canvas.text(middle, &count(number), count_lettering(share));
                    }
                });
            });
        }
    }
}

/// The matrix as an image of one pixel a cell: as an element each, a thousand classes would make a
/// million.
fn draw_pixels(
    canvas: &mut Canvas,
    corner: (f64, f64),
    cell: f64,
    size: usize,
    counts: &[u64],
) -> Result<()> {
    let mut pixels = Vec::with_capacity(3 * counts.len());
    for of_class in counts.chunks_exact(size) {
        let sum: u64 = of_class.iter().sum();
        pixels.extend(of_class.iter().flat_map(|&number| cell_colour(number, sum)));
    }
    canvas.image(corner, (size, size, 3), &pixels, cell as usize)
}

fn cell_colour(number: u64, sum: u64) -> Colour {
    match sum {
        0 => FAINT,
        _ => shade(number as f64 / sum as f64),
    }
}

/// How a count is lettered: light on dark cells. Nothing is left unsaid: its cell is as light as the sheet.
fn count_lettering(share: f64) -> Lettering {
    let ink = if share > DARK { WHITE } else { INK };
    Lettering::new(COUNT_SIZE, ink).align(Align::Middle)
}

/// The share from which on a cell is dark.
const DARK: f64 = 0.3;
const COUNT_SIZE: f64 = 13.0;

/// The side of a cell: room for its count or name, and a picture of reasonable size.
fn cell_side(size: usize, counts: &[u64]) -> f64 {
    let longest = counts.iter().max().copied().unwrap_or(0);
    let text = Lettering::new(COUNT_SIZE, INK).width(&count(longest));
    match size {
        0..=5 => f64::max(84.0, text + 14.0),
        6..=10 => f64::max(52.0, text + 14.0),
        11..=COUNTED => f64::max(38.0, text + 14.0),
        21..=NAMED => 19.0,
        51..=120 => 9.0,
        _ => (1200.0 / size as f64).floor().clamp(1.0, 6.0),
    }
    .ceil()
}

/// Which rows and columns are marked, with what, and how.
fn axis_marks(classes: &[String], cell: f64) -> Vec<(usize, String, Lettering)> {
    if classes.len() <= NAMED {
        let lettering = Lettering::new(if cell < 30.0 { 12.5 } else { 14.0 }, INK);
        let name = |name: &String| lettering.cut(name, LONGEST_NAME);
        return classes
            .iter()
            .enumerate()
            .map(|(class, text)| (class, name(text), lettering))
            .collect();
    }
    // At least a line apart.
    let every = [10, 20, 50, 100, 200, 500]
        .into_iter()
        .find(|&every| every as f64 * cell >= 40.0)
        .unwrap_or(1000);
    (0..classes.len())
        .step_by(every)
        .map(|class| (class, class.to_string(), Lettering::new(13.0, INK)))
        .collect()
}

fn description(size: usize, counts: &[u64]) -> String {
    let all: u64 = counts.iter().sum();
    let right: u64 = counts.iter().step_by(size + 1).sum();
    let mut text = format!(
        "accuracy {} of {} images; colour is a count's share of its row",
        percent(right as f64 / all as f64),
        count(all),
    );
    if counts
        .chunks_exact(size)
        .any(|row| row.iter().all(|&number| number == 0))
    {
        text.push_str(" (grey: no such image)");
    }
    text
}

/// As high as the matrix, within what its labels need and the eye takes in.
fn bar_height(side: f64) -> f64 {
    side.clamp(240.0, 420.0)
}

/// The colour bar: the shades with the shares they stand for.
fn draw_bar(canvas: &mut Canvas, (left, top): (f64, f64), side: f64) {
    let height = bar_height(side);
    let (right, bottom) = (left + BAR_WIDTH, top + height);
    // Even steps on the square-root scale.
    canvas.gradient((left, top), (right, bottom), &BLUES);
    for share in [0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0] {
        let y = bottom - f64::sqrt(share) * height;
        canvas.rectangle((right, y - 0.5), (right + 5.0, y + 0.5), GREY);
        let text = format!("{:.0} %", share * 100.0);
        canvas.text((right + 10.0, y), &text, Lettering::new(13.0, GREY));
    }
}

/// ColorBrewer's nine blues, from nothing to everything.
const BLUES: [Colour; 9] = [
    [247, 251, 255],
    [222, 235, 247],
    [198, 219, 239],
    [158, 202, 225],
    [107, 174, 214],
    [66, 146, 198],
    [33, 113, 181],
    [8, 81, 156],
    [8, 48, 107],
];

/// The colour of a share between 0 and 1, on a square-root scale.
fn shade(share: f64) -> Colour {
    let place = share.clamp(0.0, 1.0).sqrt() * (BLUES.len() - 1) as f64;
    let below = (place as usize).min(BLUES.len() - 2);
    let part = place - below as f64;
    std::array::from_fn(|channel| {
        let (low, high) = (BLUES[below][channel], BLUES[below + 1][channel]);
        (f64::from(low) * (1.0 - part) + f64::from(high) * part).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(size: usize) -> Vec<String> {
        (0..size).map(|class| format!("class {class}")).collect()
    }

    fn drawn(size: usize, counts: &[u64]) -> image::RgbImage {
        let picture = picture("a model", &names(size), counts).unwrap();
        let (png, _) = picture.png().unwrap();
        image::load_from_memory(&png).unwrap().to_rgb8()
    }

    #[test]
    fn shades_run_from_the_lightest_to_the_darkest() {
        assert_eq!(shade(0.0), BLUES[0]);
        assert_eq!(shade(0.25), BLUES[4]);
        assert_eq!(shade(1.0), BLUES[8]);
        let brightness = |share| shade(share).iter().map(|&c| u32::from(c)).sum::<u32>();
        for step in 0..100 {
            let share = f64::from(step) / 100.0;
            assert!(brightness(share) > brightness(share + 0.01));
        }
    }

    #[test]
    fn a_perfect_model_has_a_dark_diagonal() {
        let size = 60;
        let mut counts = vec![0; size * size];
        counts.iter_mut().step_by(size + 1).for_each(|n| *n = 5);
        let picture = drawn(size, &counts);
        let dark = picture.pixels().filter(|p| p.0 == BLUES[8]).count();
        // Cells of 9 × 9 pixels less the frame, and a line or so of the colour bar.
        assert!((60 * 81..60 * 81 + 40).contains(&dark), "{dark}");
    }

    #[test]
    fn the_description_counts() {
        assert_eq!(
            description(2, &[3, 1, 2, 1994]),
            "accuracy 99.85 % of 2,000 images; colour is a count's share of its row"
        );
        assert!(description(2, &[3, 1, 0, 0]).ends_with("(grey: no such image)"));
        assert!(description(2, &[0; 4]).starts_with("accuracy – of 0 images"));
    }

    #[test]
    fn every_size_is_drawn() {
        for size in [1, 10, 20, 21, 51, 200] {
            let counts: Vec<u64> = (0..size * size).map(|i| (i % 7) as u64).collect();
            let picture = drawn(size, &counts);
            assert!(picture.width() >= 660 && picture.width() < 1700, "{size}");
        }
    }

    #[test]
    fn a_thousand_classes_make_a_small_document() {
        let svg = picture("", &names(1000), &vec![1; 1_000_000]).unwrap();
        assert!(svg.svg().len() < 100_000, "{}", svg.svg().len());
    }

    #[test]
    fn cells_say_what_they_stand_for() {
        let names = ["cat".to_owned(), "<dog>".to_owned()];
        let picture = picture("", &names, &[5, 1, 0, 1234]).unwrap();
        let titles = [
            "cat, taken for cat: 5",
            "cat, taken for &lt;dog&gt;: 1",
            "&lt;dog&gt;, taken for &lt;dog&gt;: 1,234",
        ];
        for title in titles {
            assert!(picture.svg().contains(&format!("<title>{title}</title>")));
        }
    }

    #[test]
    fn a_cell_of_nothing_has_no_count_and_a_page_can_shade_the_others() {
        let picture = matrix("a model", &names(2), &[3, 1, 0, 4]).unwrap();
        assert!(!picture.svg().contains(">0</text>"));
        let themed = picture.themed_svg();
        for part in [
            r#"class="cell full" style="--share:0.87""#,
            r#"class="cell" style="--share:0.5""#,
            ">4</text>",
        ] {
            assert!(themed.contains(part), "{part}: {themed}");
        }
        let (png, missing) = picture.png().unwrap();
        let png = image::load_from_memory(&png).unwrap().to_rgb8();
        assert!(missing.is_empty() && png.pixels().any(|p| p.0 == BLUES[8]));
    }

    #[test]
    fn large_counts_fit_their_cells() {
        let text = Lettering::new(COUNT_SIZE, INK).width("1,234,567");
        assert!(cell_side(20, &[1_234_567]) > text);
    }

    #[test]
    fn counts_must_match_the_classes() {
        let path = Path::new("never-written.png");
        assert!(draw("", &names(3), &[0; 8], path).is_err());
        assert!(draw("", &[], &[], path).is_err());
    }
}
