//! Pictures: line charts ([`curves`]), confusion matrices ([`confusion`]), how far confidence can be trusted
//! ([`reliability`]), sheets of images ([`sheet`]), attention over them ([`attention`]) and what a token is made
//! of ([`token`]).
//!
//! A [`Picture`] is an SVG document. It can stand in a page as it is, or be rendered as PNG or JPEG;
//! [`Picture::save`] writes what the file's name asks for. The same input gives the same SVG,
//! byte for byte, as long as every letter is in the fonts that the program carries (Latin, Greek,
//! Cyrillic); other scripts are measured with the system's fonts, so that their places may differ
//! from machine to machine.
//!
//! ```
//! use smallvit::report::picture::curves::{self, Figure, Panel, Series};
//!
//! let figure = Figure {
//!     title: "Loss".into(),
//!     panels: vec![Panel {
//!         x_label: "epoch".into(),
//!         series: vec![Series {
//!             label: "ViT".into(),
//!             points: vec![(1.0, 2.3), (2.0, 1.7), (3.0, 1.4)],
//!             ..Series::default()
//!         }],
//!         ..Panel::default()
//!     }],
//!     ..Figure::default()
//! };
//! let picture = curves::picture(&figure)?;
//! assert!(picture.svg().contains(">epoch</text>"));
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("loss.png");
//! let missing = picture.save(&path)?;
//! assert!(missing.is_empty(), "{missing}");
//! # Ok::<(), smallvit::Error>(())
//! ```

pub mod attention;
mod canvas;
pub mod confusion;
pub mod curves;
mod fonts;
pub mod reliability;
pub mod seeds;
pub mod sheet;
pub mod token;

use std::io;
use std::path::Path;

use image::codecs::{jpeg::JpegEncoder, png::PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use resvg::tiny_skia::{Pixmap, Transform};

pub use self::fonts::MissingLetters;
use crate::atomic;
use crate::error::{Error, Result};

/// Of JPEG, in percent: letters and thin lines stay clear.
const JPEG_QUALITY: u8 = 90;

/// A drawing, as an SVG document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    svg: String,
}

impl Picture {
    /// The SVG document, without an XML declaration, so that it can stand inside a page.
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// The SVG document for a page that has names for its colours, light or dark: `--paper`, `--ink`, `--grey`,
    /// `--faint` and `--series-0` to `--series-6`. As wide as there is room, at most as in a file.
    pub fn themed_svg(&self) -> String {
        let size = format!(r#"width="{}" height="{}""#, self.width, self.height);
        canvas::themed(&self.svg.replacen(&size, r#"class="plot""#, 1))
    }

    /// Width and height, in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// The picture as a PNG file's bytes, and the letters that no font on this machine has.
    ///
    /// # Errors
    ///
    /// If the picture is too large for the renderer.
    pub fn png(&self) -> Result<(Vec<u8>, MissingLetters)> {
        let (pixels, missing) = self.pixels()?;
        let bytes = encoded(&pixels, self.size(), ExtendedColorType::Rgb8);
        Ok((bytes.map_err(too_large)?, missing))
    }

    /// As [`Picture::png`], as a JPEG file's bytes.
    ///
    /// # Errors
    ///
    /// If the picture is too large for the renderer, or for a JPEG (65,535 pixels a side).
    pub fn jpeg(&self) -> Result<(Vec<u8>, MissingLetters)> {
        let (pixels, missing) = self.pixels()?;
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)
            .write_image(&pixels, self.width, self.height, ExtendedColorType::Rgb8)
            .map_err(too_large)?;
        Ok((bytes, missing))
    }

    /// Rendered: red, green and blue of each pixel.
    fn pixels(&self) -> Result<(Vec<u8>, MissingLetters)> {
        let (tree, missing) = fonts::laid_out(&self.svg).map_err(too_large)?;
        let mut pixmap = Pixmap::new(self.width, self.height)
            .ok_or_else(|| too_large(format!("{} × {} pixels", self.width, self.height)))?;
        resvg::render(&tree, Transform::identity(), &mut pixmap.as_mut());
        // The sheet is white throughout, so every pixel is opaque.
        let pixels = pixmap
            .data()
            .chunks_exact(4)
            .flat_map(|rgba| [rgba[0], rgba[1], rgba[2]])
            .collect();
        Ok((pixels, missing))
    }

    /// Writes the picture as SVG, PNG or JPEG, as the file's name ends. The file is written whole or
    /// not at all.
    ///
    /// Returns the letters that no font on this machine has, for its caller to tell of: pixels show
    /// “�” in their place. (SVG is lettered where it is shown, by the fonts there.)
    ///
    /// # Errors
    ///
    /// If the name ends in none of them, the picture is too large to render, or the file cannot be
    /// written.
    pub fn save(&self, path: &Path) -> Result<MissingLetters> {
        let (bytes, missing) = match Format::of(path)? {
            Format::Svg => (self.svg.clone().into_bytes(), MissingLetters::default()),
            Format::Png => self.png()?,
            Format::Jpeg => self.jpeg()?,
        };
        atomic::write(path, &bytes)?;
        Ok(missing)
    }
}

/// How a picture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines and letters, sharp at any size.
    Svg,
    /// Pixels.
    Png,
    /// Pixels, nearly as they were.
    Jpeg,
}

impl Format {
    /// The format that a file's name asks for; PNG for a device or a pipe whose name asks for none.
    /// To be called before long work whose result is a picture.
    ///
    /// # Errors
    ///
    /// If the name ends in none of `.svg`, `.png`, `.jpg` and `.jpeg`.
    pub fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().unwrap_or_default();
        match extension.to_ascii_lowercase().to_str() {
            Some("svg") => return Ok(Self::Svg),
            Some("png") => return Ok(Self::Png),
            Some("jpg" | "jpeg") => return Ok(Self::Jpeg),
            Some("") if atomic::is_stream(path) => return Ok(Self::Png),
            _ => {}
        }
        let problem = match extension.is_empty() {
            true => "its name does not say which kind of picture it is to be".to_owned(),
            false => format!("pictures of kind “{}” are not written", extension.display()),
        };
        let remedy = "end the file's name in .png, .jpg or .svg";
        Err(Error::data(path.display(), problem, remedy))
    }
}

/// A picture that cannot be rendered.
fn too_large(problem: impl ToString) -> Error {
    let remedy = "write it as SVG, or draw less in one picture";
    Error::data("rendering the picture", problem.to_string(), remedy)
}

/// An image's bytes, `[row, column, channel]` with one channel or three, as a PNG file's.
///
/// # Errors
///
/// If there are not as many bytes as the sizes say, or no file could be so large.
pub fn png(pixels: &[u8], [height, width, channels]: [usize; 3]) -> Result<Vec<u8>> {
    let kind = match channels {
        1 => ExtendedColorType::L8,
        _ => ExtendedColorType::Rgb8,
    };
    let side = |pixels: usize| u32::try_from(pixels).map_err(io::Error::other);
    let bytes = side(width)
        .and_then(|width| Ok((width, side(height)?)))
        .and_then(|size| encoded(pixels, size, kind));
    bytes.map_err(|error| {
        let problem = format!("{width} × {height} pixels: {error}");
        Error::data("image", problem, "give an image of another size")
    })
}

/// Pixels as a PNG file's bytes.
fn encoded(
    pixels: &[u8],
    (width, height): (u32, u32),
    kind: ExtendedColorType,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(pixels, width, height, kind)
        .map_err(io::Error::other)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use resvg::usvg::roxmltree::Document;

    use super::curves::{Figure, Panel, Series};
    use super::sheet::SheetImage;
    use super::token::{Token, View};
    use super::*;

    const AWKWARD: &str = "a<b & \"c\" 'd'";

    /// One picture of every kind, with that name somewhere in it.
    fn of_every_kind(name: &str) -> [Picture; 5] {
        let figure = Figure {
            title: "Loss".to_owned(),
            panels: vec![Panel {
                title: "validation".to_owned(),
                series: vec![Series {
                    label: name.to_owned(),
                    points: vec![(1.0, 3.0), (2.0, 1.0)],
                    ..Series::default()
                }],
                ..Panel::default()
            }],
            ..Figure::default()
        };
        let image = SheetImage {
            caption: name.to_owned(),
            height: 16,
            width: 16,
            channels: 3,
            pixels: vec![100; 16 * 16 * 3],
            borders: vec![],
        };
        let token = Token {
            size: 16,
            channels: 3,
            views: vec![View {
                name: name.to_owned(),
                pixels: vec![100; 16 * 16 * 3],
            }],
            patch: 4,
            at: [4, 8],
            dim: 8,
        };
        let bin = reliability::Bin {
            images: 9,
            confidence: 80.0,
            accuracy: 70.0,
        };
        let classes = [name.to_owned(), "other".to_owned()];
        [
            curves::picture(&figure).unwrap(),
            confusion::picture("a model", &classes, &[3, 1, 0, 2]).unwrap(),
            sheet::images("samples", &[image], 1, 12).unwrap(),
            token::picture("a token", &token).unwrap(),
            reliability::picture(name, &[bin]).unwrap(),
        ]
    }

    fn texts(svg: &str) -> Vec<String> {
        let document = Document::parse(svg).unwrap();
        let texts = document
            .descendants()
            .filter(|node| node.has_tag_name("text"));
        texts.map(|node| node.text().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_kind_is_valid_svg_with_its_labels() {
        for name in [AWKWARD, "plain", "日本", "قطة"] {
            for picture in of_every_kind(name) {
                let document = Document::parse(picture.svg()).unwrap();
                let root = document.root_element();
                assert!(root.has_tag_name(("http://www.w3.org/2000/svg", "svg")));
                let size = ["width", "height"].map(|side| root.attribute(side).unwrap());
                let (width, height) = picture.size();
                assert_eq!(size, [width.to_string(), height.to_string()]);
                assert!(
                    root.attribute("font-family")
                        .unwrap()
                        .ends_with("sans-serif")
                );
                let title = root.children().find(|node| node.has_tag_name("title"));
                assert!(!title.unwrap().text().unwrap().is_empty());
                let texts = texts(picture.svg());
                assert!(texts.iter().any(|text| text == name), "{name} {texts:?}");
            }
        }
    }

    #[test]
    fn every_kind_is_rendered_at_its_size_with_ink() {
        for picture in of_every_kind(AWKWARD) {
            let (png, missing) = picture.png().unwrap();
            assert!(missing.is_empty(), "{missing}");
            let rendered = image::load_from_memory(&png).unwrap().to_rgb8();
            assert_eq!(rendered.dimensions(), picture.size());
            let dark = rendered.pixels().filter(|pixel| pixel.0[0] < 128).count();
            assert!(dark > 200, "{dark}");
        }
    }

    #[test]
    fn letters_of_any_script_leave_ink() {
        let [nothing, ..] = of_every_kind(" ");
        for name in ["日本", "قطة", "\u{10FFF0}"] {
            let [picture, ..] = of_every_kind(name);
            let (png, missing) = picture.png().unwrap();
            assert!(missing.letters().all(|letter| name.contains(letter)));
            assert_eq!(picture.size(), nothing.size());
            assert!(png != nothing.png().unwrap().0, "{name}");
        }
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        for (first, second) in of_every_kind(AWKWARD).iter().zip(of_every_kind(AWKWARD)) {
            assert_eq!(first.svg(), second.svg());
            assert_eq!(first.png().unwrap(), second.png().unwrap());
        }
    }

    #[test]
    fn the_name_of_a_file_chooses_the_format() {
        let folder = tempfile::tempdir().unwrap();
        let [picture, ..] = of_every_kind("name");
        for (name, start) in [
            ("a.svg", &b"<svg "[..]),
            ("b.SVG", b"<svg "),
            ("c.png", b"\x89PNG"),
            ("d.e.Png", b"\x89PNG"),
            ("f.jpg", b"\xFF\xD8\xFF"),
            ("g.JPEG", b"\xFF\xD8\xFF"),
        ] {
            let path = folder.path().join(name);
            assert!(picture.save(&path).unwrap().is_empty());
            assert!(fs::read(path).unwrap().starts_with(start), "{name}");
        }
        // Nothing beside the six: what is half written has another name, and goes.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6);
        #[cfg(unix)]
        assert_eq!(Format::of(Path::new("/dev/null")).unwrap(), Format::Png);
    }

    #[test]
    fn a_jpeg_looks_as_the_png_does() {
        let [picture, ..] = of_every_kind("name");
        let pixels = |bytes: &[u8]| image::load_from_memory(bytes).unwrap().to_rgb8();
        let (png, jpeg) = (picture.png().unwrap().0, picture.jpeg().unwrap().0);
        let (png, jpeg) = (pixels(&png), pixels(&jpeg));
        assert_eq!(png.dimensions(), jpeg.dimensions());
        assert_eq!(jpeg.get_pixel(0, 0).0, [255; 3]);
        let differences = png.iter().zip(jpeg.iter()).map(|(&a, &b)| a.abs_diff(b));
        let mean = differences.map(f64::from).sum::<f64>() / png.len() as f64;
        assert!(mean < 2.0, "{mean}");
    }

    #[test]
    fn other_formats_are_refused_with_what_is_allowed() {
        let [picture, ..] = of_every_kind("name");
        for (name, said) in [
            ("a.gif", "“gif”"),
            ("png", "which kind"),
            (".png", "which kind"),
        ] {
            let error = picture.save(Path::new(name)).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
            assert_eq!(error.remedy(), "end the file's name in .png, .jpg or .svg");
            assert!(!Path::new(name).exists());
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let [picture, ..] = of_every_kind("name");
        let error = picture.save(&folder.path().join("none/a.png")).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}
