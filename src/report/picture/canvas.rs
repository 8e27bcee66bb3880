//! The sheet of paper under every picture: rectangles, lines, dots, images and text, written down as
//! SVG.
//!
//! Lengths are in pixels, x to the right and y downwards.

use std::fmt::{Display, Write as _};

use base64::{display::Base64Display, engine::general_purpose::STANDARD};

use super::{Picture, fonts, png};
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

/// As much of a text as any picture has room for: laying letters out takes longer than in proportion.
fn beginning(text: &str) -> &str {
    /// Letters.
    const MOST: usize = 500;
    let end = text.char_indices().nth(MOST);
    end.map_or(text, |(end, _)| &text[..end])
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

    fn weight(&self) -> &'static str {
        match self.bold {
            true => "bold",
            false => "normal",
        }
    }

    /// How long a text is.
    pub fn width(&self, text: &str) -> f64 {
        fonts::length(beginning(text), self.size, self.weight())
    }

    /// The text, or as much of it as fits, ending in "…".
    pub fn cut(&self, text: &str, width: f64) -> String {
        let whole = text.len();
        let text = beginning(text);
        if text.len() == whole && self.width(text) <= width {
            return text.to_owned();
        }
        let ends: Vec<usize> = text.char_indices().map(|(index, _)| index).collect();
        let shortened = |end: usize| text[..end].trim_end().to_owned() + "…";
        let fitting = ends.partition_point(|&end| self.width(&shortened(end)) <= width);
        shortened(ends.get(fitting.saturating_sub(1)).copied().unwrap_or(0))
    }

    /// The text in lines of at most that width, broken between words, at most `lines` of them.
    pub fn wrap(&self, text: &str, width: f64, lines: usize) -> Vec<String> {
        let mut wrapped: Vec<String> = Vec::new();
        let whole = text.len();
        let text = beginning(text);
        let shortened = if text.len() < whole { "…" } else { "" };
        for word in format!("{text}{shortened}").split_whitespace() {
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

/// Half the height of DejaVu's capitals, in em: what lies between a line's middle and its baseline.
const HALF_CAPITAL: f64 = 0.365;

/// The faces that a browser is asked for: ours, one of the same widths, any without serifs.
const FAMILIES: &str = "'DejaVu Sans', Verdana, sans-serif";

/// A picture in the making.
pub(super) struct Canvas {
    width: u32,
    height: u32,
    elements: String,
}

/// The largest picture, in pixels.
const LARGEST: f64 = 1e8;

impl Canvas {
    /// A white sheet. Refuses one that no viewer would open.
    pub fn new(width: f64, height: f64) -> Result<Self> {
        let (width, height) = (width.ceil(), height.ceil());
        if width < 1.0 || height < 1.0 || width * height > LARGEST {
            return Err(Error::data(
                "picture",
                format!("it would be {width} × {height} pixels"),
                "ask for fewer images, fewer columns or a smaller magnification",
            ));
        }
        let mut canvas = Self {
            width: width as u32,
            height: height as u32,
            elements: String::new(),
        };
        canvas.rectangle((0.0, 0.0), (width, height), WHITE);
        Ok(canvas)
    }

    fn add(&mut self, element: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.elements, "{element}");
    }

    /// What is drawn inside has a name, for those who cannot see it and for whoever points at it.
    pub fn named(&mut self, name: &str, draw: impl FnOnce(&mut Self)) {
        if name.is_empty() {
            return draw(self);
        }
        self.add(format_args!("<g><title>{}</title>", escaped(name)));
        draw(self);
        self.add("</g>");
    }

    /// What is drawn inside is a chart's line of that number, for a page's script.
    pub fn series(&mut self, number: usize, dashed: bool, draw: impl FnOnce(&mut Self)) {
        let dashed = if dashed { " dashed" } else { "" };
        self.add(format_args!(
            r#"<g class="series{dashed}" data-series="{number}">"#
        ));
        draw(self);
        self.add("</g>");
    }

    /// What is drawn inside is a matrix's cell of that share, whose shade a page may choose anew.
    pub fn cell(&mut self, share: f64, is_dark: bool, draw: impl FnOnce(&mut Self)) {
        let full = if is_dark { " full" } else { "" };
        self.add(format_args!(
            r#"<g class="cell{full}" style="--share:{}">"#,
            number(share)
        ));
        draw(self);
        self.add("</g>");
    }

    /// A filled rectangle between two corners.
    pub fn rectangle(&mut self, near: (f64, f64), far: (f64, f64), colour: Colour) {
        self.filled_rectangle(near, far, hex(colour));
    }

    /// A filled rectangle whose colours run evenly from the first at the bottom to the last at the
    /// top.
    pub fn gradient(&mut self, near: (f64, f64), far: (f64, f64), colours: &[Colour]) {
        // Several pictures may stand in one page: what has the same name must be the same.
        let name: String = colours.iter().map(|&colour| hex(colour)).collect();
        let name = name.replace('#', "-");
        self.add(format_args!(
            r#"<defs><linearGradient id="gradient{name}" x1="0" y1="1" x2="0" y2="0">"#
        ));
        let last = colours.len().saturating_sub(1).max(1) as f64;
        for (index, &colour) in colours.iter().enumerate() {
            let (offset, colour) = (index as f64 / last, hex(colour));
            self.add(format_args!(
                r#"<stop offset="{offset}" stop-color="{colour}"/>"#
            ));
        }
        self.add("</linearGradient></defs>");
        self.filled_rectangle(near, far, format_args!("url(#gradient{name})"));
    }

    fn filled_rectangle(&mut self, (x0, y0): (f64, f64), (x1, y1): (f64, f64), fill: impl Display) {
        let (x, y) = (number(x0), number(y0));
        let (width, height) = (number(x1 - x0), number(y1 - y0));
        self.add(format_args!(
            r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}"/>"#
        ));
    }

    /// A round dot.
    pub fn dot(&mut self, (x, y): (f64, f64), radius: f64, colour: Colour) {
        let (x, y, radius, fill) = (number(x), number(y), number(radius), hex(colour));
        self.add(format_args!(
            r#"<circle cx="{x}" cy="{y}" r="{radius}" fill="{fill}"/>"#
        ));
    }

    /// A line through the points, with round corners and ends.
    pub fn line(&mut self, points: &[(f64, f64)], width: f64, colour: Colour) {
        self.stroke(points, width, colour, "");
    }

    /// As [`Canvas::line`], broken into strokes of length `on` with gaps of length `off`.
    pub fn dashed_line(
        &mut self,
        points: &[(f64, f64)],
        width: f64,
        (on, off): (f64, f64),
        colour: Colour,
    ) {
        let dashes = format!(r#" stroke-dasharray="{} {}""#, number(on), number(off));
        self.stroke(points, width, colour, &dashes);
    }

    fn stroke(&mut self, points: &[(f64, f64)], width: f64, colour: Colour, dashes: &str) {
        let places: Vec<String> = points
            .iter()
            .map(|&(x, y)| format!("{},{}", number(x), number(y)))
            .collect();
        let (places, width, stroke) = (places.join(" "), number(width), hex(colour));
        self.add(format_args!(
            r#"<polyline points="{places}" fill="none" stroke="{stroke}" stroke-width="{width}" stroke-linecap="round" stroke-linejoin="round"{dashes}/>"#
        ));
    }

    /// An image of `[row, column, channel]` bytes, each pixel a square of `magnification` pixels.
    pub fn image(
        &mut self,
        (left, top): (f64, f64),
        (height, width, channels): (usize, usize, usize),
        pixels: &[u8],
        magnification: usize,
    ) -> Result<()> {
        let bytes = png(pixels, [height, width, channels])?;
        let (x, y) = (number(left), number(top));
        let (width, height) = (width * magnification, height * magnification);
        let data = Base64Display::new(&bytes, &STANDARD);
        self.add(format_args!(
            r#"<image x="{x}" y="{y}" width="{width}" height="{height}" preserveAspectRatio="none" href="data:image/png;base64,{data}"/>"#
        ));
        Ok(())
    }

    /// A text; `y` (`x`, if it is turned) is the middle of its capital letters.
    pub fn text(&mut self, (x, y): (f64, f64), text: &str, lettering: Lettering) {
        if text.is_empty() {
            return;
        }
        let turn = match lettering.turned {
            true => format!(r#" transform="rotate(-90 {} {})""#, number(x), number(y)),
            false => String::new(),
        };
        let anchor = match lettering.align {
            Align::Start => "",
            Align::Middle => r#" text-anchor="middle""#,
            Align::End => r#" text-anchor="end""#,
        };
        let weight = match lettering.bold {
            true => r#" font-weight="bold""#,
            false => "",
        };
        // The baseline is given, because renderers differ over `dominant-baseline`.
        let (x, y) = (number(x), number(y + HALF_CAPITAL * lettering.size));
        let (size, fill) = (number(lettering.size), hex(lettering.colour));
        self.add(format_args!(
            r#"<text x="{x}" y="{y}" font-size="{size}"{weight}{anchor} fill="{fill}"{turn}>{}</text>"#,
            escaped(beginning(text))
        ));
    }

    /// The finished picture, with a name and a description for those who cannot see it.
    pub fn finished(self, title: &str, description: &str) -> Picture {
        let (width, height) = (self.width, self.height);
        // As an attribute of its own, resvg does not honour "pixelated".
        let mut svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" font-family="{FAMILIES}" style="image-rendering:pixelated" xml:space="preserve">"#
        );
        svg.push('\n');
        for (element, text) in [("title", title), ("desc", description)] {
            if !text.is_empty() {
                let text = escaped(text);
                svg.push_str(&format!("<{element}>{text}</{element}>\n"));
            }
        }
        svg.push_str(&self.elements);
        svg.push_str("</svg>\n");
        Picture { width, height, svg }
    }
}

fn hex([r, g, b]: Colour) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// The colours of an SVG document by what they are for, so that a page's theme decides: `var(--ink)`.
pub(super) fn themed(svg: &str) -> String {
    let names = [
        (WHITE, "paper".to_owned()),
        (INK, "ink".to_owned()),
        (GREY, "grey".to_owned()),
        (FAINT, "faint".to_owned()),
    ];
    let series = PALETTE
        .into_iter()
        .zip((0..).map(|number| format!("series-{number}")));
    let mut themed = svg.to_owned();
    for (colour, name) in names.into_iter().chain(series) {
        for attribute in ["fill", "stroke"] {
            let colour = format!("{attribute}=\"{}\"", hex(colour));
            themed = themed.replace(&colour, &format!("{attribute}=\"var(--{name})\""));
        }
    }
    themed
}

/// A length to a hundredth of a pixel, without idle zeros.
fn number(value: f64) -> String {
    // "inf" would be no number to a reader of SVG.
    let value = if value.is_finite() { value } else { 0.0 };
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text {
        "-0" => "0".to_owned(),
        _ => text.to_owned(),
    }
}

/// A text as XML has it, in content or in a quoted attribute. Letters that XML has no place for
/// become U+FFFD, line breaks and tabs spaces.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\n' | '\r' | '\t' => escaped.push(' '),
            '\u{FFFE}' | '\u{FFFF}' => escaped.push('\u{FFFD}'),
            _ if letter.is_control() => escaped.push('\u{FFFD}'),
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(canvas: Canvas) -> image::RgbImage {
        let (png, missing) = canvas.finished("", "").png().unwrap();
        assert!(missing.is_empty(), "{missing}");
        image::load_from_memory(&png).unwrap().to_rgb8()
    }

    #[test]
    fn a_rectangle_fills_exactly_its_pixels() {
        let mut canvas = Canvas::new(6.0, 5.0).unwrap();
        canvas.rectangle((1.0, 2.0), (4.0, 4.0), [10, 20, 30]);
        for (x, y, pixel) in rendered(canvas).enumerate_pixels() {
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
        canvas.image((1.0, 1.0), (2, 3, 3), &pixels, 2).unwrap();
        let picture = rendered(canvas);
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
        canvas.image((0.0, 0.0), (1, 2, 1), &[7, 200], 1).unwrap();
        let picture = rendered(canvas);
        assert_eq!(picture.get_pixel(0, 0).0, [7; 3]);
        assert_eq!(picture.get_pixel(1, 0).0, [200; 3]);
    }

    #[test]
    fn a_line_is_as_wide_as_asked() {
        let mut canvas = Canvas::new(60.0, 60.0).unwrap();
        canvas.line(&[(10.0, 10.0), (50.0, 50.0)], 4.0, [0; 3]);
        let picture = rendered(canvas);
        // Ink = length × width + the area of the two round ends, within what the renderer's
        // smoothing of edges, in quarters of a pixel, adds (2 %).
        let ink: f64 = picture
            .pixels()
            .map(|pixel| 1.0 - f64::from(pixel.0[0]) / 255.0)
            .sum();
        let expected = 40.0 * 2f64.sqrt() * 4.0 + std::f64::consts::PI * 4.0;
        assert!((ink / expected - 1.0).abs() < 0.02, "{ink} {expected}");
    }

    #[test]
    fn dashes_leave_the_asked_share_without_ink() {
        let mut canvas = Canvas::new(140.0, 20.0).unwrap();
        canvas.dashed_line(&[(10.0, 10.0), (130.0, 10.0)], 2.0, (8.0, 4.0), [0; 3]);
        let picture = rendered(canvas);
        let inked = (0..140).filter(|&x| picture.get_pixel(x, 9).0[0] < 128);
        // Ten strokes of 8 + 2 · 1 for their ends.
        assert_eq!(inked.count(), 100);
    }

    #[test]
    fn a_gradient_runs_evenly_from_the_bottom_to_the_top() {
        let mut canvas = Canvas::new(4.0, 200.0).unwrap();
        let colours = [[0, 0, 0], [200, 0, 0], [200, 200, 0]];
        canvas.gradient((0.0, 0.0), (4.0, 200.0), &colours);
        let picture = rendered(canvas);
        for (y, expected) in [(199, [1, 0, 0]), (150, [99, 0, 0]), (50, [200, 99, 0])] {
            let pixel = picture.get_pixel(2, y).0;
            // A pixel's own height (2) and the rounding of colours.
            let near = pixel.iter().zip(expected).all(|(&a, b)| a.abs_diff(b) <= 3);
            assert!(near, "{y}: {pixel:?}");
        }
    }

    #[test]
    fn both_faces_have_the_letters_we_use_and_differ() {
        let plain = Lettering::new(20.0, INK);
        let drawn = |letter: char, lettering: Lettering| {
            let mut canvas = Canvas::new(30.0, 30.0).unwrap();
            canvas.text((5.0, 15.0), &letter.to_string(), lettering);
            rendered(canvas)
        };
        for lettering in [plain, plain.bold()] {
            let replaced = drawn('\u{FFFD}', lettering);
            for letter in "Aé%ſŁτ−–…×²·μΩЖ≤".chars() {
                let letter_drawn = drawn(letter, lettering);
                let dark = letter_drawn.pixels().filter(|pixel| pixel.0[0] < 128);
                assert!(dark.count() > 3, "{letter}");
                assert!(letter_drawn != replaced, "{letter}");
            }
        }
        assert!(drawn('A', plain) != drawn('A', plain.bold()));
        assert!(plain.bold().width("accuracy") > plain.width("accuracy"));
    }

    #[test]
    fn widths_are_the_font_s() {
        // Advances in DejaVu Sans's hmtx table, in 2048ths of an em: n 1298, digits 1303.
        for (text, expected) in [("n", 1298.0), ("nn", 2596.0), ("0123456789", 13030.0)] {
            let width = Lettering::new(20.48, INK).width(text);
            assert!((width - expected / 100.0).abs() < 0.01, "{text} {width}");
        }
        assert_eq!(Lettering::new(20.0, INK).width(""), 0.0);
        assert!(Lettering::new(20.0, INK).width("<&>\"'\u{1}") > 50.0);
    }

    #[test]
    fn a_text_of_any_length_is_cut_to_its_room() {
        let long = "word ".repeat(200_000);
        let lettering = Lettering::new(20.0, INK);
        let cut = lettering.cut(&long, 200.0);
        assert!(
            cut.ends_with("…") && lettering.width(&cut) <= 200.0,
            "{cut}"
        );
        assert!(lettering.wrap(&long, 200.0, 2).len() <= 2);
        let mut canvas = Canvas::new(100.0, 100.0).unwrap();
        canvas.text((0.0, 50.0), &long, lettering);
        assert!(canvas.finished("", "").svg.len() < 10_000);
    }

    #[test]
    fn text_is_centred_on_its_position() {
        for turned in [false, true] {
            let mut canvas = Canvas::new(100.0, 100.0).unwrap();
            let mut lettering = Lettering::new(24.0, [0; 3]).align(Align::Middle);
            lettering.turned = turned;
            canvas.text((50.0, 50.0), "HOH", lettering);
            let picture = rendered(canvas);
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
    fn numbers_are_short_and_always_numbers() {
        for (value, text) in [
            (12.0, "12"),
            (0.5, "0.5"),
            (-0.001, "0"),
            (1.999, "2"),
            (100.0, "100"),
            (-2.71449, "-2.71"),
            (f64::INFINITY, "0"),
            (f64::NAN, "0"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn letters_of_xml_are_escaped_and_impossible_ones_replaced() {
        assert_eq!(
            escaped("a<b>&\"c'\n\u{0}\u{FFFF}日"),
            "a&lt;b&gt;&amp;&quot;c&apos; \u{FFFD}\u{FFFD}日"
        );
    }

    #[test]
    fn a_picture_too_large_is_an_error() {
        for (width, height) in [(1e6, 1e6), (0.0, 5.0), (f64::INFINITY, 5.0)] {
            assert!(Canvas::new(width, height).is_err());
        }
        // The most that is allowed can still be rendered; here a long strip of it.
        let (png, _) = Canvas::new(2e6, 1.0)
            .unwrap()
            .finished("", "")
            .png()
            .unwrap();
        assert!(!png.is_empty());
    }
}
