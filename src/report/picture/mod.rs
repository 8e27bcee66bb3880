//! Pictures: line charts ([`curves`]), confusion matrices ([`confusion`]) and sheets of images
//! ([`sheet`]).
//!
//! A [`Picture`] is an SVG document. It can stand in a page as it is, or be rendered as PNG;
//! [`Picture::save`] writes either, as the file's name asks. The same input gives the same SVG,
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

mod canvas;
pub mod confusion;
pub mod curves;
mod fonts;
pub mod sheet;

use std::io;
use std::path::Path;

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use resvg::tiny_skia::{Pixmap, Transform};

pub use self::fonts::MissingLetters;
use crate::atomic;
use crate::error::{Error, Result};

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

    /// As [`Picture::svg`], by value.
    pub fn into_svg(self) -> String {
        self.svg
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
        let refuse = |problem: String| {
            let remedy = "write it as SVG, or draw less in one picture";
            Error::data("rendering the picture", problem, remedy)
        };
        let (tree, missing) =
            fonts::laid_out(&self.svg).map_err(|error| refuse(error.to_string()))?;
        let mut pixmap = Pixmap::new(self.width, self.height)
            .ok_or_else(|| refuse(format!("{} × {} pixels", self.width, self.height)))?;
        resvg::render(&tree, Transform::identity(), &mut pixmap.as_mut());
        // The sheet is white throughout, so every pixel is opaque.
        let pixels: Vec<u8> = pixmap
            .data()
            .chunks_exact(4)
            .flat_map(|rgba| [rgba[0], rgba[1], rgba[2]])
            .collect();
        let size = (self.width, self.height);
        let bytes = encoded(&pixels, size, ExtendedColorType::Rgb8)
            .map_err(|error| refuse(error.to_string()))?;
        Ok((bytes, missing))
    }

    /// Writes the picture as SVG or PNG, as the file's name ends. The file is written whole or not
    /// at all.
    ///
    /// Returns the letters that no font on this machine has, for its caller to tell of: a PNG shows
    /// “�” in their place. (SVG is lettered where it is shown, by the fonts there.)
    ///
    /// # Errors
    ///
    /// If the name ends in neither, the picture is too large to render, or the file cannot be
    /// written.
    pub fn save(&self, path: &Path) -> Result<MissingLetters> {
        let (bytes, missing) = match Format::of(path)? {
            Format::Svg => (self.svg.clone().into_bytes(), MissingLetters::default()),
            Format::Png => self.png()?,
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
}

impl Format {
    /// The format that a file's name asks for. To be called before long work whose result is a
    /// picture.
    ///
    /// # Errors
    ///
    /// If the name ends in neither `.svg` nor `.png`.
    pub fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().unwrap_or_default();
        if extension.eq_ignore_ascii_case("svg") {
            return Ok(Self::Svg);
        }
        if extension.eq_ignore_ascii_case("png") {
            return Ok(Self::Png);
        }
        let problem = match extension.is_empty() {
            true => "its name does not say which kind of picture it is to be".to_owned(),
            false => format!("pictures of kind “{}” are not written", extension.display()),
        };
        let remedy = "end the file's name in .png or .svg";
        Err(Error::data(path.display(), problem, remedy))
    }
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
    use super::sheet::{PatchPanel, SheetImage};
    use super::*;

    const AWKWARD: &str = "a<b & \"c\" 'd'";

    /// One picture of every kind, with that name somewhere in it.
    fn of_every_kind(name: &str) -> [Picture; 4] {
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
        };
        let panel = PatchPanel {
            title: name.to_owned(),
            rows: 2,
            columns: 2,
            patch: 4,
            channels: 1,
            pixels: vec![100; 4 * 16],
        };
        let classes = [name.to_owned(), "other".to_owned()];
        [
            curves::picture(&figure).unwrap(),
            confusion::picture("a model", &classes, &[3, 1, 0, 2]).unwrap(),
            sheet::images("samples", &[image], 1, 12).unwrap(),
            sheet::patches("patches", &[panel], 1, 20).unwrap(),
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
        ] {
            let path = folder.path().join(name);
            assert!(picture.save(&path).unwrap().is_empty());
            assert!(fs::read(path).unwrap().starts_with(start), "{name}");
        }
        // Nothing beside the four: what is half written has another name, and goes.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    #[test]
    fn other_formats_are_refused_with_what_is_allowed() {
        let [picture, ..] = of_every_kind("name");
        for (name, said) in [
            ("a.jpg", "“jpg”"),
            ("png", "which kind"),
            (".png", "which kind"),
        ] {
            let error = picture.save(Path::new(name)).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
            assert_eq!(error.remedy(), "end the file's name in .png or .svg");
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
