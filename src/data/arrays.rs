//! Arrays of numbers, as NumPy and MATLAB save them: a shape, an order and bytes; and how they are
//! images and labels.

use super::{Images, Split};
use crate::error::{Error, Result};

/// More classes than any data set has, and a bound on what one wrong label makes.
const MOST_CLASSES: usize = 1 << 16;

/// What one number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// An integer of so many bytes.
    Integer { bytes: usize, signed: bool },
    /// A floating-point number of 4 or 8 bytes.
    Float { bytes: usize },
    /// Text of so many characters, each as four bytes; shorter ones end in zeros.
    Text { characters: usize },
}

impl Element {
    pub const U8: Self = Self::Integer {
        bytes: 1,
        signed: false,
    };

    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Self::Integer { bytes, .. } | Self::Float { bytes } => bytes,
            Self::Text { characters } => 4 * characters,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Integer {
                bytes,
                signed: true,
            } => format!("int{}", 8 * bytes),
            Self::Integer { bytes, .. } => format!("uint{}", 8 * bytes),
            Self::Float { bytes } => format!("float{}", 8 * bytes),
            Self::Text { .. } => "text".to_owned(),
        }
    }
}

/// An array, whole: `bytes` are as many as its shape and its element ask for.
pub(super) struct Array {
    /// The file and the array's name in it, for messages.
    pub place: String,
    pub shape: Vec<usize>,
    pub element: Element,
    pub big_endian: bool,
    /// Whether the first index runs fastest (Fortran, MATLAB) and not the last (C).
    pub first_runs_fastest: bool,
    pub bytes: Vec<u8>,
}

/// Which axis of an array of images is what.
#[derive(Clone, Copy)]
pub(super) struct Axes {
    pub image: usize,
    pub row: usize,
    pub column: usize,
    /// `None` for grey images without such an axis.
    pub channel: Option<usize>,
}

impl Array {
    fn error(&self, problem: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error::data(&self.place, problem, remedy)
    }

    /// The array as images of 8 bits a channel. An axis past the shape's end has length 1: MATLAB
    /// leaves such axes out.
    pub fn images(mut self, axes: Axes) -> Result<Images> {
        if self.element != Element::U8 {
            let remedy = match self.element {
                Element::Float { .. } => {
                    "bring the pixels to 0..255 and save them as uint8; of pixels in 0..1: \
                     (x * 255).round().astype(\"uint8\")"
                }
                _ => "save the pixels, 0..255, as uint8",
            };
            let problem = format!("pixels are {}; uint8 was expected", self.element.name());
            return Err(self.error(problem, remedy));
        }
        let order = [
            Some(axes.image),
            Some(axes.row),
            Some(axes.column),
            axes.channel,
        ];
        let length = |axis: Option<usize>| axis.and_then(|axis| self.shape.get(axis)).copied();
        let [count, height, width, channels] = order.map(|axis| length(axis).unwrap_or(1));
        let mut images = Images {
            height,
            width,
            channels,
            pixels: Vec::new(),
        };
        // Already as images are kept here?
        let given = order.iter().flatten();
        if !self.first_runs_fastest && given.is_sorted() {
            images.pixels = std::mem::take(&mut self.bytes);
            return Ok(images);
        }
        let strides = self.strides();
        let stride = |axis: Option<usize>| axis.and_then(|axis| strides.get(axis)).copied();
        let [by_image, by_row, by_column, by_channel] = order.map(|axis| stride(axis).unwrap_or(0));
        images.pixels.reserve_exact(self.bytes.len());
        for image in 0..count {
            for row in 0..height {
                for column in 0..width {
                    let start = image * by_image + row * by_row + column * by_column;
                    let pixel =
                        (0..channels).map(|channel| self.bytes[start + channel * by_channel]);
                    images.pixels.extend(pixel);
                }
            }
        }
        Ok(images)
    }

    /// How many elements lie between neighbours, by axis.
    fn strides(&self) -> Vec<usize> {
        let mut strides = vec![0; self.shape.len()];
        let mut stride = 1;
        let mut take = |axis: usize| {
            strides[axis] = stride;
            stride *= self.shape[axis];
        };
        match self.first_runs_fastest {
            true => (0..self.shape.len()).for_each(&mut take),
            false => (0..self.shape.len()).rev().for_each(&mut take),
        }
        strides
    }

    /// The array as one whole number an image; its shape is (n,), (n, 1) or (1, n).
    pub fn labels(&self) -> Result<Vec<i64>> {
        let longest = self.shape.iter().max().copied().unwrap_or(0);
        let elements: usize = self.shape.iter().product();
        if self.shape.is_empty() || elements != longest {
            let remedy = "save one class number an image; of one-hot rows: y.argmax(axis=1)";
            let problem = format!("its shape is {}; (n,) was expected", shape(&self.shape));
            return Err(self.error(problem, remedy));
        }
        let label = |(row, bytes): (usize, &[u8])| {
            self.number(bytes).ok_or_else(|| {
                let problem = format!("the label in row {row} (counted from 0) is no whole number");
                let remedy = match self.element {
                    Element::Text { .. } => {
                        "save numbers and names: classes, y = numpy.unique(y, return_inverse=True)"
                    }
                    _ => "save whole numbers: y.astype(\"int64\")",
                };
                self.error(problem, remedy)
            })
        };
        let rows = self.bytes.chunks_exact(self.element.bytes().max(1));
        rows.enumerate().map(label).collect()
    }

    fn number(&self, bytes: &[u8]) -> Option<i64> {
        let mut wide = [0; 8];
        // From here on, the lowest byte first.
        let low = &mut wide[..bytes.len().min(8)];
        low.copy_from_slice(&bytes[..low.len()]);
        if self.big_endian {
            low.reverse();
        }
        match self.element {
            Element::Integer { bytes: 8, signed } => {
                let number = i64::from_le_bytes(wide);
                (signed || number >= 0).then_some(number)
            }
            Element::Integer { bytes, signed } => {
                let unused = 64 - 8 * bytes as u32;
                let number = i64::from_le_bytes(wide);
                Some(match signed {
                    true => (number << unused) >> unused,
                    false => number,
                })
            }
            Element::Float { bytes } => {
                let number = match bytes {
                    4 => f64::from(f32::from_le_bytes(*wide.first_chunk()?)),
                    _ => f64::from_le_bytes(wide),
                };
                (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i64)
            }
            Element::Text { .. } => None,
        }
    }

    /// The array as text; `None` if it is none.
    pub fn texts(&self) -> Option<Vec<String>> {
        let Element::Text { characters } = self.element else {
            return None;
        };
        let character = |&bytes: &[u8; 4]| {
            let code = match self.big_endian {
                true => u32::from_be_bytes(bytes),
                false => u32::from_le_bytes(bytes),
            };
            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
        };
        let text = |bytes: &[u8]| {
            let text: String = bytes.as_chunks().0.iter().map(character).collect();
            text.trim_end_matches('\0').to_owned()
        };
        let texts = self.bytes.chunks_exact((4 * characters).max(4)).map(text);
        Some(texts.collect())
    }
}

/// A shape as NumPy writes it.
pub(super) fn shape(sizes: &[usize]) -> String {
    let sizes: Vec<_> = sizes.iter().map(usize::to_string).collect();
    match &sizes[..] {
        [one] => format!("({one},)"),
        _ => format!("({})", sizes.join(", ")),
    }
}

/// Images and their labels, which `place` says where to find.
pub(super) fn split(images: Images, labels: &[i64], place: &str) -> Result<Split> {
    if images.is_empty() {
        return Err(Error::data(
            place,
            "there is no image in it",
            "check how it was made",
        ));
    }
    if images.len() != labels.len() {
        let problem = format!("{} labels for {} images", labels.len(), images.len());
        return Err(Error::data(place, problem, "save one label an image"));
    }
    let class = |(row, &label): (usize, &i64)| {
        usize::try_from(label)
            .ok()
            .filter(|&label| label < MOST_CLASSES)
            .map(|label| label as u32)
            .ok_or_else(|| {
                let problem = format!("label {label} in row {row} (counted from 0) is no class");
                let remedy = format!("number the classes from 0, up to {MOST_CLASSES} of them");
                Error::data(place, problem, remedy)
            })
    };
    let labels: Result<Vec<u32>> = labels.iter().enumerate().map(class).collect();
    let labels = labels?;
    Ok(Split {
        images,
        labels,
        ..Split::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(shape: &[usize], first_runs_fastest: bool) -> Array {
        Array {
            place: "x".to_owned(),
            shape: shape.to_vec(),
            element: Element::U8,
            big_endian: false,
            first_runs_fastest,
            bytes: (0..shape.iter().product::<usize>())
                .map(|i| i as u8)
                .collect(),
        }
    }

    /// The array in which each element is its own place among images as they are kept here.
    fn numbered(axes: Axes, first_runs_fastest: bool) -> Array {
        let order = [axes.image, axes.row, axes.column, axes.channel.unwrap()];
        let mut shape = [0; 4];
        order
            .iter()
            .zip([2, 4, 5, 3])
            .for_each(|(&axis, size)| shape[axis] = size);
        let mut array = array(&shape, first_runs_fastest);
        let strides = array.strides();
        for place in 0..120 {
            let indices = [place / 60, place / 15 % 4, place / 3 % 5, place % 3];
            let at = order
                .iter()
                .zip(indices)
                .map(|(&axis, index)| strides[axis] * index);
            array.bytes[at.sum::<usize>()] = place as u8;
        }
        array
    }

    #[test]
    fn every_order_of_axes_comes_out_as_images() {
        let axes = |[image, row, column, channel]: [usize; 4]| Axes {
            image,
            row,
            column,
            channel: Some(channel),
        };
        let matlab = axes([3, 0, 1, 2]);
        assert_eq!(array(&[4, 5, 3, 2], true).strides(), [1, 4, 20, 60]);
        assert_eq!(array(&[4, 5, 3, 2], false).strides(), [30, 6, 2, 1]);
        for axes in [axes([0, 1, 2, 3]), axes([0, 2, 3, 1]), matlab] {
            for first_runs_fastest in [false, true] {
                let images = numbered(axes, first_runs_fastest).images(axes).unwrap();
                assert_eq!((images.height, images.width, images.channels), (4, 5, 3));
                assert!(images.pixels.into_iter().eq(0..120));
            }
        }
        let grey = Axes {
            image: 0,
            row: 1,
            column: 2,
            channel: None,
        };
        let images = array(&[2, 2, 3], false).images(grey).unwrap();
        assert_eq!(
            (images.channels, images.image(1)),
            (1, &[6, 7, 8, 9, 10, 11][..])
        );
        // MATLAB's array of one image has no axis for images.
        let one = array(&[2, 2, 3], true).images(matlab).unwrap();
        assert_eq!(
            (one.len(), one.image(0)[..4].to_vec()),
            (1, vec![0, 4, 8, 2])
        );
    }

    #[test]
    fn numbers_of_every_kind_are_labels() {
        let label = |element, big_endian, bytes: &[u8]| {
            let array = Array {
                element,
                big_endian,
                bytes: bytes.to_vec(),
                ..array(&[1, 1], false)
            };
            array.labels().map(|labels| labels[0])
        };
        let integer = |bytes, signed| Element::Integer { bytes, signed };
        assert_eq!(label(integer(1, true), false, &[0xff]).unwrap(), -1);
        assert_eq!(label(integer(1, false), false, &[0xff]).unwrap(), 255);
        assert_eq!(label(integer(2, false), true, &[1, 2]).unwrap(), 258);
        assert_eq!(label(integer(4, true), false, &[7, 0, 0, 0]).unwrap(), 7);
        assert_eq!(
            label(integer(8, true), false, &(-3i64).to_le_bytes()).unwrap(),
            -3
        );
        assert!(label(integer(8, false), false, &[0xff; 8]).is_err());
        let float = |bytes| Element::Float { bytes };
        assert_eq!(label(float(8), false, &3f64.to_le_bytes()).unwrap(), 3);
        assert_eq!(label(float(4), true, &9f32.to_be_bytes()).unwrap(), 9);
        for wrong in [0.5, f64::NAN, f64::INFINITY, 1e300] {
            assert!(
                label(float(8), false, &wrong.to_le_bytes()).is_err(),
                "{wrong}"
            );
        }
        assert!(array(&[3, 2], false).labels().is_err());
        assert!(array(&[], false).labels().is_err());
    }

    #[test]
    fn labels_fit_their_images() {
        let images = || Images {
            height: 1,
            width: 1,
            channels: 1,
            pixels: vec![0, 1],
        };
        assert_eq!(split(images(), &[0, 4], "x").unwrap().labels, [0, 4]);
        for labels in [&[0][..], &[0, -1], &[0, 1 << 16], &[0, i64::MAX]] {
            assert!(split(images(), labels, "x").is_err(), "{labels:?}");
        }
        assert!(split(Images::default(), &[], "x").is_err());
    }
}
