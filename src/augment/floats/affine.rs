//! What rotation and zoom stand on: bilinear sampling at affinely transformed positions, outside mirrored with
//! the edge pixel repeated (d c b a | a b c d | d c b a), as Keras's `RandomRotation` and
//! `RandomZoom` do with `fill_mode="reflect"`.

/// The pixel at column x, row y takes its value from column a₀·x + a₁·y + a₂, row
/// b₀·x + b₁·y + b₂ of the source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// a₀, a₁, a₂.
    pub column: [f32; 3],
    /// b₀, b₁, b₂.
    pub row: [f32; 3],
}

impl Affine {
    /// Rotation about the image's centre by `angle` radians.
    pub fn rotation(angle: f32, height: usize, width: usize) -> Self {
        let (sin, cos) = angle.sin_cos();
        let (right, bottom) = ((width - 1) as f32, (height - 1) as f32);
        Self {
            column: [cos, -sin, (right - (cos * right - sin * bottom)) / 2.0],
            row: [sin, cos, (bottom - (sin * right + cos * bottom)) / 2.0],
        }
    }

    /// Zoom about the image's centre: a factor below 1 enlarges.
    pub fn zoom(height_factor: f32, width_factor: f32, height: usize, width: usize) -> Self {
        let (right, bottom) = ((width - 1) as f32, (height - 1) as f32);
        Self {
            column: [width_factor, 0.0, right / 2.0 * (1.0 - width_factor)],
            row: [0.0, height_factor, bottom / 2.0 * (1.0 - height_factor)],
        }
    }
}

/// The image seen through `affine`: `[row, column, channel]` → the same shape.
pub fn transform(
    image: &[f32],
    [height, width, channels]: [usize; 3],
    affine: &Affine,
    output: &mut [f32],
) {
    let [a0, a1, a2] = affine.column;
    let [b0, b1, b2] = affine.row;
    for (y, out) in output.chunks_exact_mut(width * channels).enumerate() {
        let y = y as f32;
        for (x, out) in out.chunks_exact_mut(channels).enumerate() {
            let x = x as f32;
            let column = reflect(a0 * x + a1 * y + a2, width);
            let row = reflect(b0 * x + b1 * y + b2, height);
            let (left, top) = (column as usize, row as usize);
            let (right, bottom) = ((left + 1).min(width - 1), (top + 1).min(height - 1));
            let (u, v) = (column - left as f32, row - top as f32);
            let [nw, ne, sw, se] = [(top, left), (top, right), (bottom, left), (bottom, right)]
                .map(|(row, column)| &image[(row * width + column) * channels..][..channels]);
            for (c, out) in out.iter_mut().enumerate() {
                let above = nw[c] * (1.0 - u) + ne[c] * u;
                let below = sw[c] * (1.0 - u) + se[c] * u;
                *out = above * (1.0 - v) + below * v;
            }
        }
    }
}

/// A position on an axis of `length` pixels, mirrored into it. The half pixel beyond an edge
/// pixel's centre lies between it and its own mirror image, so it has the edge's value.
fn reflect(position: f32, length: usize) -> f32 {
    let length = length as f32;
    let period = 2.0 * length;
    // The axis with its mirror image, shifted so that it runs over [0, 2 · length).
    let shifted = (position + 0.5).rem_euclid(period);
    let inside = if shifted < length {
        shifted
    } else {
        period - shifted
    };
    (inside - 0.5).clamp(0.0, length - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_outside_are_mirrored() {
        let cases = [
            (0.0, 0.0),
            (3.0, 3.0),
            (-0.3, 0.0),
            (-1.0, 0.0),
            (-1.25, 0.25),
            (-4.0, 3.0),
            (3.4, 3.0),
            (4.0, 3.0),
            (4.5, 2.5),
            (7.0, 0.0),
            (8.25, 0.25),
            (-8.0, 0.0),
        ];
        for (position, expected) in cases {
            let found = reflect(position, 4);
            assert!((found - expected).abs() < 1e-5, "{position}: {found}");
        }
    }

    #[test]
    fn a_quarter_turn_about_the_centre_moves_every_pixel_exactly() {
        let image: Vec<f32> = (0..25).map(|i| i as f32).collect();
        let quarter = Affine::rotation(std::f32::consts::FRAC_PI_2, 5, 5);
        let mut turned = vec![0.0; 25];
        transform(&image, [5, 5, 1], &quarter, &mut turned);
        for y in 0..5 {
            for x in 0..5 {
                // column = -y + 4, row = x
                let expected = image[x * 5 + (4 - y)];
                assert!((turned[y * 5 + x] - expected).abs() < 1e-4);
            }
        }
    }
}
