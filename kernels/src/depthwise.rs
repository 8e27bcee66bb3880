//! A depthwise convolution of 3 × 3 over a grid of rows, with a shortcut around it:
//! y = x + conv(x) + bias, each channel by itself, zeros around the grid.
//!
//! Numbers are `[cell, channel]`, the cells of the grid row by row. What is read lies in a grid with a
//! border of one cell of zeros on every side ([`Grid::padded`]), so that no cell is a special case.
//! The kernel is `[tap, channel]`, taps row by row; the shortcut is its middle tap plus 1
//! ([`with_shortcut`]). Channels are taken eight at a time, whose taps stay in registers while they
//! go over the grid.

use crate::simd::dispatched;

/// Taps of a kernel.
pub const TAPS: usize = 9;
/// The tap at the cell itself.
const MIDDLE: usize = 4;
/// Channels that go over the grid together.
const LANES: usize = 8;

/// Cells of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Along its height.
    pub height: usize,
    /// Along its width.
    pub width: usize,
}

impl Grid {
    /// How many there are.
    pub fn cells(self) -> usize {
        self.height * self.width
    }

    /// The same with a border of one cell.
    pub fn padded(self) -> Self {
        Self {
            height: self.height + 2,
            width: self.width + 2,
        }
    }
}

/// The kernel of x + conv(x).
pub fn with_shortcut(kernel: &[f32]) -> Vec<f32> {
    let channels = kernel.len() / TAPS;
    let mut kernel = kernel.to_vec();
    for tap in &mut kernel[MIDDLE * channels..][..channels] {
        *tap += 1.0;
    }
    kernel
}

/// The kernel with which gradients go back: the same, turned by half a circle.
pub fn turned(kernel: &[f32]) -> Vec<f32> {
    let channels = kernel.len() / TAPS;
    kernel.rchunks_exact(channels).flatten().copied().collect()
}

/// `x` on a grid into a padded one; the border becomes 0.
pub fn pad(x: &[f32], grid: Grid, channels: usize, padded: &mut [f32]) {
    assert_eq!(x.len(), grid.cells() * channels);
    assert_eq!(padded.len(), grid.padded().cells() * channels);
    let across = grid.padded().width * channels;
    let (above, rest) = padded.split_at_mut(across);
    let (inner, below) = rest.split_at_mut(grid.height * across);
    above.fill(0.0);
    below.fill(0.0);
    let rows = x.chunks_exact(grid.width * channels);
    for (x, row) in rows.zip(inner.chunks_exact_mut(across)) {
        let end = across - channels;
        row[..channels].fill(0.0);
        row[channels..end].copy_from_slice(x);
        row[end..].fill(0.0);
    }
}

/// Eight channels, or the last ones that there are, of a row from channel `first` on.
#[inline(always)]
fn lanes(row: &[f32], first: usize) -> [f32; LANES] {
    match row[first..].first_chunk() {
        Some(all) => *all,
        None => {
            let mut some = [0.0; LANES];
            some[..row.len() - first].copy_from_slice(&row[first..]);
            some
        }
    }
}

/// Puts them back.
#[inline(always)]
fn put(row: &mut [f32], first: usize, values: [f32; LANES]) {
    match row[first..].first_chunk_mut() {
        Some(all) => *all = values,
        None => {
            let length = row.len() - first;
            row[first..].copy_from_slice(&values[..length]);
        }
    }
}

/// The taps' places beside that of a cell's left upper neighbour, in cells of a padded grid.
#[inline(always)]
fn places(across: usize) -> [usize; TAPS] {
    std::array::from_fn(|tap| tap / 3 * across + tap % 3)
}

dispatched! {
    /// `y`, a grid, of `padded`, the same grid with its border: kernel ∗ x + bias, without a bias
    /// where it is empty. One chain of sums a number, in the order of the taps.
    pub fn convolve(padded: &[f32], kernel: &[f32], bias: &[f32], grid: Grid, y: &mut [f32]) {
        let channels = kernel.len() / TAPS;
        let across = grid.padded().width;
        assert_eq!(padded.len(), grid.padded().cells() * channels);
        assert_eq!(y.len(), grid.cells() * channels);
        let places = places(across).map(|place| place * channels);
        for first in (0..channels).step_by(LANES) {
            let taps: [[f32; LANES]; TAPS] =
                std::array::from_fn(|tap| lanes(&kernel[tap * channels..][..channels], first));
            let start = match bias.is_empty() {
                true => [0.0; LANES],
                false => lanes(bias, first),
            };
            for row in 0..grid.height {
                let from = &padded[row * across * channels..][..3 * across * channels];
                let to = &mut y[row * grid.width * channels..][..grid.width * channels];
                for (column, y) in to.chunks_exact_mut(channels).enumerate() {
                    let corner = &from[column * channels..];
                    let mut sum = start;
                    for tap in 0..TAPS {
                        let x = lanes(&corner[places[tap]..][..channels], first);
                        for lane in 0..LANES {
                            sum[lane] = taps[tap][lane].mul_add(x[lane], sum[lane]);
                        }
                    }
                    put(y, first, sum);
                }
            }
        }
    }
}

dispatched! {
    /// Adds the kernel's gradient to `sums`: of each tap, Σ over the cells of `dy` times what the tap
    /// was multiplied with.
    pub fn add_kernel_gradient(padded: &[f32], dy: &[f32], grid: Grid, sums: &mut [f32]) {
        let channels = sums.len() / TAPS;
        let across = grid.padded().width;
        assert_eq!(padded.len(), grid.padded().cells() * channels);
        assert_eq!(dy.len(), grid.cells() * channels);
        let places = places(across).map(|place| place * channels);
        for first in (0..channels).step_by(LANES) {
            let mut taps = [[0.0f32; LANES]; TAPS];
            for row in 0..grid.height {
                let from = &padded[row * across * channels..][..3 * across * channels];
                let dy = &dy[row * grid.width * channels..][..grid.width * channels];
                for (column, dy) in dy.chunks_exact(channels).enumerate() {
                    let corner = &from[column * channels..];
                    let dy = lanes(dy, first);
                    for tap in 0..TAPS {
                        let x = lanes(&corner[places[tap]..][..channels], first);
                        for lane in 0..LANES {
                            taps[tap][lane] = dy[lane].mul_add(x[lane], taps[tap][lane]);
                        }
                    }
                }
            }
            for (tap, values) in taps.iter().enumerate() {
                let sum = &mut sums[tap * channels..][..channels];
                let mut total = lanes(sum, first);
                for lane in 0..LANES {
                    total[lane] += values[lane];
                }
                put(sum, first, total);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(key: u64, count: usize) -> Vec<f32> {
        let number = |i| (crate::dropout::bits(key, i) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        (0..count as u64).map(number).collect()
    }

    /// Σ over taps of what `term` makes of (cell, its neighbour there, tap), where there is one.
    fn each(grid: Grid, mut term: impl FnMut(usize, usize, usize)) {
        for cell in 0..grid.cells() {
            for tap in 0..TAPS {
                let row = (cell / grid.width + tap / 3).wrapping_sub(1);
                let column = (cell % grid.width + tap % 3).wrapping_sub(1);
                if row < grid.height && column < grid.width {
                    term(cell, row * grid.width + column, tap);
                }
            }
        }
    }

    #[test]
    fn forward_and_back_are_the_definition() {
        for (height, width, channels) in [(1, 1, 3), (2, 3, 8), (5, 4, 13), (3, 7, 16)] {
            let grid = Grid { height, width };
            let (x, dy) = (
                numbers(1, grid.cells() * channels),
                numbers(2, grid.cells() * channels),
            );
            let (kernel, bias) = (numbers(3, TAPS * channels), numbers(4, channels));
            let mut padded = vec![f32::NAN; grid.padded().cells() * channels];
            let mut y = vec![f32::NAN; x.len()];
            pad(&x, grid, channels, &mut padded);
            convolve(&padded, &with_shortcut(&kernel), &bias, grid, &mut y);
            let mut d_kernel = vec![0.25; kernel.len()];
            add_kernel_gradient(&padded, &dy, grid, &mut d_kernel);
            let (mut d_padded, mut dx) = (padded.clone(), x.clone());
            pad(&dy, grid, channels, &mut d_padded);
            convolve(
                &d_padded,
                &turned(&with_shortcut(&kernel)),
                &[],
                grid,
                &mut dx,
            );

            let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            let mut expected = wide(&x);
            let (mut expected_dx, mut expected_kernel) = (wide(&dy), vec![0.25; kernel.len()]);
            for (channel, bias) in bias.iter().enumerate() {
                let at = |place: usize| place * channels + channel;
                (0..grid.cells()).for_each(|cell| expected[at(cell)] += f64::from(*bias));
                each(grid, |cell, near, tap| {
                    let product = |a: f32, b: f32| f64::from(a) * f64::from(b);
                    expected[at(cell)] += product(kernel[at(tap)], x[at(near)]);
                    expected_dx[at(near)] += product(kernel[at(tap)], dy[at(cell)]);
                    expected_kernel[at(tap)] += product(dy[at(cell)], x[at(near)]);
                });
            }
            for (found, expected) in [
                (y, expected),
                (dx, expected_dx),
                (d_kernel, expected_kernel),
            ] {
                for (found, expected) in found.iter().zip(expected) {
                    assert!(
                        (f64::from(*found) - expected).abs() < 2e-6,
                        "{found} {expected}"
                    );
                }
            }
        }
    }
}
