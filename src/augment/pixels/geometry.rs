//! Images sheared, moved and turned, as Pillow's `Image.transform` and `Image.rotate` do it, to the last bit
//! (`tests/fixtures/augment`).

use serde::{Deserialize, Serialize};

use crate::random::Stream;

/// Where an output pixel comes from: x = a · x' + b · y' + c, y = d · x' + e · y' + f, in pixels from the upper
/// left corner, where a pixel's centre lies at a half.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine(pub [f64; 6]);

/// How a pixel between pixels is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// The nearest one.
    #[default]
    Nearest,
    /// Of the nearest four.
    Bilinear,
    /// Of the nearest sixteen (Keys' kernel with a = −1).
    Bicubic,
    /// One of the latter two, by chance each time.
    Either,
}

impl Sampling {
    /// It, or what the stream decides.
    pub fn decided(self, stream: &mut Stream) -> Self {
        match self {
            Self::Either if stream.unit() < 0.5 => Self::Bilinear,
            Self::Either => Self::Bicubic,
            decided => decided,
        }
    }
}

impl Affine {
    /// Along x, by so many pixels for each one down.
    pub fn shear_x(amount: f64) -> Self {
        Self([1.0, amount, 0.0, 0.0, 1.0, 0.0])
    }

    /// Along y.
    pub fn shear_y(amount: f64) -> Self {
        Self([1.0, 0.0, 0.0, amount, 1.0, 0.0])
    }

    /// The image comes from so many pixels to the right, and below.
    pub fn shift(x: f64, y: f64) -> Self {
        Self([1.0, 0.0, x, 0.0, 1.0, y])
    }

    /// Turned counterclockwise about the image's centre.
    pub fn rotation(degrees: f64, [height, width, _]: [usize; 3]) -> Self {
        // To fifteen digits: of a right angle, exactly.
        let round = |v: f64| (v * 1e15).round_ties_even() / 1e15;
        let (sin, cos) = (-degrees.rem_euclid(360.0).to_radians()).sin_cos();
        let (a, b, d) = (round(cos), round(sin), round(-sin));
        let (x, y) = (width as f64 / 2.0, height as f64 / 2.0);
        let (c, f) = (a * -x + b * -y, d * -x + a * -y);
        Self([a, b, c + x, d, a, f + y])
    }

    /// Draws the image into `to`; what comes from nowhere is `outside` in each channel.
    ///
    /// [`Sampling::Either`] must have been decided.
    pub fn draw(
        &self,
        image: &[u8],
        shape: [usize; 3],
        sampling: Sampling,
        outside: u8,
        to: &mut [u8],
    ) {
        match sampling {
            Sampling::Nearest => self.nearest(image, shape, outside, to),
            Sampling::Bilinear => self.between(image, shape, outside, to, bilinear),
            Sampling::Bicubic | Sampling::Either => {
                self.between(image, shape, outside, to, bicubic);
            }
        }
    }

    /// In 65,536ths of a pixel.
    fn nearest(&self, image: &[u8], shape: [usize; 3], outside: u8, to: &mut [u8]) {
        let fixed = |v: f64| (v * 65_536.0 + 0.5).floor() as i64;
        let [a, b, c, d, e, f] = self.0;
        let mut row = [fixed(c + a * 0.5 + b * 0.5), fixed(f + d * 0.5 + e * 0.5)];
        let [along_x, along_y] = [[a, d].map(fixed), [b, e].map(fixed)];
        let [height, width, channels] = shape;
        for line in to.chunks_exact_mut(width * channels) {
            let mut place = row;
            for pixel in line.chunks_exact_mut(channels) {
                let [x, y] = place.map(|v| v >> 16);
                match (usize::try_from(x), usize::try_from(y)) {
                    (Ok(x), Ok(y)) if x < width && y < height => {
                        pixel.copy_from_slice(&image[(y * width + x) * channels..][..channels]);
                    }
                    _ => pixel.fill(outside),
                }
                place = [place[0] + along_x[0], place[1] + along_x[1]];
            }
            row = [row[0] + along_y[0], row[1] + along_y[1]];
        }
    }

    fn between(
        &self,
        image: &[u8],
        shape: [usize; 3],
        outside: u8,
        to: &mut [u8],
        sample: impl Fn(&dyn Fn(isize, isize) -> f64, [isize; 2], [f64; 2], usize) -> f64,
    ) {
        let [a, b, c, d, e, f] = self.0;
        let [height, width, channels] = shape;
        for (row, line) in to.chunks_exact_mut(width * channels).enumerate() {
            for (column, pixel) in line.chunks_exact_mut(channels).enumerate() {
                let (x, y) = (column as f64 + 0.5, row as f64 + 0.5);
                let (x, y) = (a * x + b * y + c, d * x + e * y + f);
                if x < 0.0 || x >= width as f64 || y < 0.0 || y >= height as f64 {
                    pixel.fill(outside);
                    continue;
                }
                let place = [x - 0.5, y - 0.5];
                let cell = place.map(|v| v.floor() as isize);
                let rest = [place[0] - cell[0] as f64, place[1] - cell[1] as f64];
                for (channel, value) in pixel.iter_mut().enumerate() {
                    let at = |x: isize, y: isize| {
                        let x = x.clamp(0, width as isize - 1) as usize;
                        let y = y.clamp(0, height as isize - 1) as usize;
                        f64::from(image[(y * width + x) * channels + channel])
                    };
                    // Cut to a whole number of 0 to 255.
                    *value = sample(&at, cell, rest, height) as u8;
                }
            }
        }
    }
}

fn bilinear(
    at: &dyn Fn(isize, isize) -> f64,
    [x, y]: [isize; 2],
    [dx, dy]: [f64; 2],
    _: usize,
) -> f64 {
    let line = |y: isize| {
        let (left, right) = (at(x, y), at(x + 1, y));
        left + (right - left) * dx
    };
    let (upper, lower) = (line(y), line(y + 1));
    upper + (lower - upper) * dy
}

fn bicubic(
    at: &dyn Fn(isize, isize) -> f64,
    [x, y]: [isize; 2],
    [dx, dy]: [f64; 2],
    height: usize,
) -> f64 {
    let cubic = |[v1, v2, v3, v4]: [f64; 4], d: f64| {
        let (p1, p2) = (v2, -v1 + v3);
        let (p3, p4) = (2.0 * (v1 - v2) + v3 - v4, -v1 + v2 - v3 + v4);
        p1 + d * (p2 + d * (p3 + d * p4))
    };
    let line = |y: isize| cubic([-1, 0, 1, 2].map(|step| at(x + step, y)), dx);
    let mut lines = [line(y - 1); 4];
    for step in 1..4 {
        // Outside a line is as the one before it.
        let y = y - 1 + step as isize;
        let inside = usize::try_from(y).is_ok_and(|y| y < height);
        lines[step] = if inside { line(y) } else { lines[step - 1] };
    }
    cubic(lines, dy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [2, 3, 1];
    const IMAGE: [u8; 6] = [1, 2, 3, 4, 5, 6];

    fn drawn(affine: Affine, sampling: Sampling) -> [u8; 6] {
        let mut to = [0; 6];
        affine.draw(&IMAGE, SHAPE, sampling, 9, &mut to);
        to
    }

    #[test]
    fn whole_pixels_move_whole() {
        for sampling in [Sampling::Nearest, Sampling::Bilinear, Sampling::Bicubic] {
            assert_eq!(drawn(Affine::shift(0.0, 0.0), sampling), IMAGE);
            assert_eq!(drawn(Affine::shift(1.0, 0.0), sampling), [2, 3, 9, 5, 6, 9]);
            assert_eq!(
                drawn(Affine::shift(-1.0, 0.0), sampling),
                [9, 1, 2, 9, 4, 5]
            );
            assert_eq!(drawn(Affine::shift(0.0, 1.0), sampling), [4, 5, 6, 9, 9, 9]);
            let half = Affine::rotation(180.0, SHAPE);
            assert_eq!(drawn(half, sampling), [6, 5, 4, 3, 2, 1]);
        }
        // A lower row goes further to the left.
        let sheared = drawn(Affine::shear_x(0.8), Sampling::Nearest);
        assert_eq!(sheared, [1, 2, 3, 5, 6, 9]);
    }

    #[test]
    fn a_quarter_turn_is_counterclockwise() {
        let mut to = [0; 4];
        let quarter = Affine::rotation(90.0, [2, 2, 1]);
        quarter.draw(&[1, 2, 3, 4], [2, 2, 1], Sampling::Nearest, 9, &mut to);
        assert_eq!(to, [2, 4, 1, 3]);
    }

    #[test]
    fn half_a_pixel_is_half_of_both() {
        let half = Affine::shift(0.5, 0.0);
        let mut to = [0; 4];
        half.draw(
            &[0, 100, 200, 50],
            [1, 4, 1],
            Sampling::Bilinear,
            9,
            &mut to,
        );
        // The last one's centre comes from the edge, which is outside.
        assert_eq!(to, [50, 150, 125, 9]);
    }
}
