//! Sign Language Digits, inside the program: data to try everything with, without a network.
//!
//! A. Mavi, *A New Dataset and Comparison on Different Sign Language Digits*, arXiv 2011.08927;
//! Apache-2.0. `data/sign-digits/README.md` says what was changed and how the files are laid out.

use super::{Dataset, Images, Split};
use crate::error::{Error, Result};

const SIDE: usize = 32;
const ROW: usize = SIDE * 3;
const CLASSES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// 1,651 images to train on and 411 to test on, 32×32 RGB, of ten classes: the digits.
///
/// # Errors
/// [`Error::Data`] if the program's own copy is damaged.
pub fn sign_digits() -> Result<Dataset> {
    let train = unfold(
        include_bytes!("../../data/sign-digits/train.png"),
        include_str!("../../data/sign-digits/train-labels.txt"),
    )?;
    let test = unfold(
        include_bytes!("../../data/sign-digits/test.png"),
        include_str!("../../data/sign-digits/test-labels.txt"),
    )?;
    Ok(Dataset {
        name: "sign-digits".to_owned(),
        classes: CLASSES.map(str::to_owned).to_vec(),
        train,
        validation: None,
        test: Some(test),
        ..Dataset::default()
    })
}

/// A mosaic of images and a line of digits → a split.
fn unfold(png: &[u8], labels: &str) -> Result<Split> {
    let broken = |error: image::ImageError| {
        let remedy = "install the program again";
        Error::data("sign-digits (built in)", error.to_string(), remedy)
    };
    let mosaic = image::load_from_memory(png).map_err(broken)?.into_rgb8();
    let labels: Vec<u32> = labels.chars().filter_map(|c| c.to_digit(10)).collect();
    let columns = mosaic.width() as usize / SIDE;
    let mosaic = mosaic.into_raw();
    let mut pixels = Vec::with_capacity(labels.len() * SIDE * ROW);
    for image in 0..labels.len() {
        let (row, column) = (image / columns, image % columns);
        for y in 0..SIDE {
            let start = ((row * SIDE + y) * columns + column) * ROW;
            pixels.extend_from_slice(&mosaic[start..start + ROW]);
        }
    }
    // Red and blue are stored less green, which they resemble: a sixth fewer bytes.
    for [red, green, blue] in pixels.as_chunks_mut().0 {
        *red = red.wrapping_add(*green);
        *blue = blue.wrapping_add(*green);
    }
    Ok(Split {
        images: Images {
            height: SIDE,
            width: SIDE,
            channels: 3,
            pixels,
        },
        labels,
        ..Split::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{hex, statistics::class_counts};
    use sha2::{Digest, Sha256};

    #[test]
    fn every_pixel_and_label_is_the_originals() {
        let data = sign_digits().unwrap();
        data.check().unwrap();
        // hashlib.sha256(pixels as [image, row, column, channel] + one byte a label), from the
        // records that the mosaics were made of.
        let digest = |split: &Split| {
            let labels: Vec<u8> = split.labels.iter().map(|&label| label as u8).collect();
            let mut hash = Sha256::new();
            hash.update(&split.images.pixels);
            hash.update(labels);
            hex(&hash.finalize())
        };
        assert_eq!(
            digest(&data.train),
            "12b2cc1e50507fcc298c6f9df18a7b39cd8f64def1951b7354858a41ebf3dc1c"
        );
        assert_eq!(
            digest(data.test.as_ref().unwrap()),
            "7f44010e232d8eddd16f87c1342319bc0fe0a1bff6dec2c2e0d1667a0c254113"
        );
        assert_eq!(
            class_counts(&data.train.labels, 10),
            [164, 165, 165, 165, 166, 166, 166, 165, 166, 163]
        );
    }
}
