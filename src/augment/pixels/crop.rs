//! Random crop: the image is padded by p pixels on every side, and an image of its own size is cut
//! out, uniformly among all (2p + 1)² places.
//!
//! out\[y, x\] = padded\[y + u, x + v\], u and v uniform in 0..=2p (with p = 4 and zeros: He et al.,
//! arXiv 1512.03385, section 4.2, after Lee et al., arXiv 1409.5185).

use serde::{Deserialize, Serialize};

use crate::augment::{Augmentation, Boxed, Canvas, Operation};
use crate::error::{Error, Result};
use crate::random::Stream;

/// What lies around an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fill {
    /// Black.
    #[default]
    Zero,
    /// The image mirrored at its edge pixels, which are not repeated (d c b | a b c d | c b a), as
    /// NumPy and PyTorch use the word.
    Reflect,
}

/// The crop and its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crop {
    /// Pixels added on every side.
    pub padding: usize,
    /// What is added.
    pub fill: Fill,
}

/// The crop, where the recipe asks for it.
pub(super) fn of(recipe: &Augmentation) -> Option<Boxed<Canvas<u8>>> {
    let crop = Crop {
        padding: recipe.crop_padding,
        fill: recipe.crop_fill,
    };
    (crop.padding > 0).then(|| Box::new(crop) as _)
}

impl Operation<Canvas<u8>> for Crop {
    fn name(&self) -> &'static str {
        "crop"
    }

    fn apply(&self, image: &mut Canvas<u8>, shape: [usize; 3], stream: &mut Stream) {
        let places = 2 * self.padding + 1;
        let mut offset = || stream.below(places) as isize - self.padding as isize;
        let offset = [offset(), offset()];
        if offset != [0, 0] {
            image.redraw(|from, to| shift(from, shape, offset, self.fill, to));
        }
    }

    fn check_images(&self, [height, width, _]: [usize; 3]) -> Result<()> {
        let side = height.min(width);
        if self.padding < side {
            return Ok(());
        }
        Err(Error::recipe(
            "augment.crop_padding",
            format!(
                "{} pixels of padding: some crops would show nothing of an image of {height}×{width}",
                self.padding
            ),
            format!(
                "choose 0 (off) to {}; an eighth of the image's side is usual",
                side - 1
            ),
        ))
    }
}

/// out\[y, x\] = in\[y + rows, x + columns\], and `fill` outside.
pub fn shift(
    image: &[u8],
    [height, width, channels]: [usize; 3],
    [rows, columns]: [isize; 2],
    fill: Fill,
    output: &mut [u8],
) {
    let line = width * channels;
    for (y, out) in output.chunks_exact_mut(line).enumerate() {
        let Some(row) = inside(y as isize + rows, height, fill) else {
            out.fill(0);
            continue;
        };
        let row = &image[row * line..][..line];
        for (x, out) in out.chunks_exact_mut(channels).enumerate() {
            match inside(x as isize + columns, width, fill) {
                Some(column) => out.copy_from_slice(&row[column * channels..][..channels]),
                None => out.fill(0),
            }
        }
    }
}

/// The pixel of an axis that a position on it shows; none where nothing is.
fn inside(position: isize, length: usize, fill: Fill) -> Option<usize> {
    match (usize::try_from(position), fill) {
        (Ok(position), _) if position < length => Some(position),
        (_, Fill::Zero) => None,
        (_, Fill::Reflect) => {
            let last = length as isize - 1;
            let period = (2 * last).max(1);
            let place = position.rem_euclid(period);
            Some(place.min(period - place).min(last) as usize)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    fn shifted(offset: [isize; 2], fill: Fill) -> Vec<u8> {
        let image: Vec<u8> = (1..=12).collect();
        let mut out = vec![99; 12];
        shift(&image, [3, 2, 2], offset, fill, &mut out);
        out
    }

    #[test]
    fn what_comes_in_from_outside_is_black() {
        // Rows 1 2 | 3 4, 5 6 | 7 8, 9 10 | 11 12; one down and one to the right.
        let expected = [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 5, 6];
        assert_eq!(shifted([-1, -1], Fill::Zero), expected);
        let expected = [7, 8, 0, 0, 11, 12, 0, 0, 0, 0, 0, 0];
        assert_eq!(shifted([1, 1], Fill::Zero), expected);
        assert_eq!(shifted([0, 0], Fill::Zero), (1..=12).collect::<Vec<_>>());
    }

    #[test]
    fn reflection_leaves_the_edge_out() {
        // numpy.pad([0, 1, 2, 3], (5, 9), mode="reflect")
        let expected = [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0];
        let found: Vec<usize> = (-5..13)
            .filter_map(|position| inside(position, 4, Fill::Reflect))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(inside(-3, 1, Fill::Reflect), Some(0));
        let expected = [7, 8, 5, 6, 3, 4, 1, 2, 7, 8, 5, 6];
        assert_eq!(shifted([-1, -1], Fill::Reflect), expected);
    }

    #[test]
    fn every_place_is_drawn_equally_often() {
        let crop = Crop {
            padding: 1,
            fill: Fill::Zero,
        };
        let mut counts = std::collections::BTreeMap::new();
        for sample in 0..9000 {
            let mut canvas = Canvas::default();
            canvas.load(&(1..=9).collect::<Vec<u8>>());
            let mut stream = Stream::named(3, Purpose::Augment, &[0, sample, 0], "crop");
            crop.apply(&mut canvas, [3, 3, 1], &mut stream);
            // The centre shows which pixel came there.
            *counts.entry(canvas.image()[4]).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 9);
        // Five deviations: 5 · √(9000 · 8) / 9.
        assert!(
            counts.values().all(|n| n.abs_diff(1000) < 150),
            "{counts:?}"
        );
    }
}
