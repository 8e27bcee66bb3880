//! Where a model looks in an image: attention laid over it.

use super::sheet::SheetImage;

/// What the highest attention looks like: the palette's vermilion.
const LOOKED_AT: [f32; 3] = [213.0, 94.0, 0.0];

/// A range of attention that is less than this part of its mean is not drawn as if it were more.
const EVEN: f32 = 0.5;

/// An image under the attention that its cells are paid.
///
/// The image, `[row, column, channel]` with one channel or three, is made grey and paler; over it lies vermilion,
/// the more of it the more attention a cell is paid: none where the least of `values` is, most where the largest
/// is (`[row, column]` of a grid of cells that cover the image). Attention that is nearly even stays pale.
///
/// The result has three channels.
pub fn overlay(
    caption: &str,
    pixels: &[u8],
    [height, width, channels]: [usize; 3],
    values: &[f32],
    [rows, columns]: [usize; 2],
) -> SheetImage {
    let most = values.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let least = values.iter().copied().fold(most, f32::min);
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    let range = (most - least).max(EVEN * mean);
    let pixel = |at: usize| {
        let pixel = &pixels[at * channels..][..channels];
        let grey = match *pixel {
            // ITU-R BT.601's luma.
            [r, g, b] => 0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b),
            _ => f32::from(pixel[0]),
        };
        let grey = 70.0 + grey * (165.0 / 255.0);
        let (row, column) = (at / width * rows / height, at % width * columns / width);
        let share = 0.85 * ((values[row * columns + column] - least) / range).clamp(0.0, 1.0);
        LOOKED_AT.map(|colour| (grey * (1.0 - share) + colour * share).round() as u8)
    };
    SheetImage {
        caption: caption.to_owned(),
        height,
        width,
        channels: 3,
        pixels: (0..height * width).flat_map(pixel).collect(),
        borders: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_attention_the_more_colour() {
        let grey = vec![255; 2 * 4];
        let seen = overlay("", &grey, [2, 4, 1], &[0.0, 0.2, 0.1, 0.2], [2, 2]);
        let pixel = |row: usize, column: usize| &seen.pixels[(row * 4 + column) * 3..][..3];
        assert_eq!(pixel(0, 0), [235; 3]);
        assert_eq!(pixel(0, 0), pixel(0, 1));
        // 15 % of 235 and 85 % of the colour.
        assert_eq!(pixel(0, 2), [216, 115, 35]);
        assert_eq!(pixel(0, 2), pixel(1, 3));
        assert!(pixel(1, 0)[2] > pixel(0, 2)[2] && pixel(1, 0)[2] < pixel(0, 0)[2]);
        // What is nearly even is pale.
        let even = overlay("", &grey, [2, 4, 1], &[0.25, 0.26, 0.25, 0.24], [2, 2]);
        assert!(even.pixels.chunks(3).all(|pixel| pixel[2] > 190));
        // Colours become grey before.
        let red = overlay("", &[255, 0, 0], [1, 1, 3], &[0.0], [1, 1]);
        assert!(red.pixels.iter().all(|p| *p == red.pixels[0]));
    }
}
