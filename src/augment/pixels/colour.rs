//! Changes of pixels' values: the operations of Pillow's `ImageOps` and `ImageEnhance` that the policies are
//! made of, equal to them to the last bit (`tests/fixtures/augment`).
//!
//! An image has one channel, grey, or three: red, green, blue. Others' channels are each taken for grey where
//! it matters.

/// 255 − v.
pub fn invert(image: &mut [u8]) {
    each(image, |v| 255 - v);
}

/// Inverts what is at least as bright as the threshold.
pub fn solarize(image: &mut [u8], threshold: f64) {
    each(
        image,
        |v| if f64::from(v) < threshold { v } else { 255 - v },
    );
}

/// Adds to what is darker than 128, up to 255.
pub fn solarize_add(image: &mut [u8], add: u8) {
    each(image, |v| if v < 128 { v.saturating_add(add) } else { v });
}

/// Keeps so many of the eight bits, the highest.
pub fn posterize(image: &mut [u8], bits: u32) {
    let dropped = 8 - bits.min(8);
    let mask = (0xffu32 << dropped) as u8;
    each(image, |v| v & mask);
}

/// Stretches each channel so that its darkest pixel is 0 and its brightest 255.
pub fn autocontrast(image: &mut [u8], channels: usize) {
    by_channel(image, channels, |counts, table| {
        let low = counts.iter().position(|&n| n > 0).unwrap_or(0);
        let high = counts.iter().rposition(|&n| n > 0).unwrap_or(0);
        if high <= low {
            return;
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        for (value, to) in table.iter_mut().enumerate() {
            // Cut, as Python's `int` does.
            *to = (value as f64 * scale + offset) as u8;
        }
    });
}

/// Flattens each channel's histogram.
pub fn equalize(image: &mut [u8], channels: usize) {
    by_channel(image, channels, |counts, table| {
        let pixels: usize = counts.iter().sum();
        let last = counts.iter().copied().rfind(|&n| n > 0).unwrap_or(0);
        let step = (pixels - last) / 255;
        if step == 0 {
            return;
        }
        let mut before = step / 2;
        for (count, to) in counts.iter().zip(table.iter_mut()) {
            *to = (before / step).min(255) as u8;
            before += count;
        }
    });
}

/// Between black (0) and the image (1), and beyond.
pub fn brightness(image: &mut [u8], factor: f64) {
    each(image, |v| blend(0, v, factor as f32));
}

/// Between the image's mean grey (0) and the image (1), and beyond.
pub fn contrast(image: &mut [u8], channels: usize, factor: f64) {
    let pixels = image.len() / channels.max(1);
    let sum: u64 = image
        .chunks_exact(channels)
        .map(|p| u64::from(grey(p)))
        .sum();
    let mean = (sum as f64 / pixels.max(1) as f64 + 0.5) as u8;
    each(image, |v| blend(mean, v, factor as f32));
}

/// Between the image in grey (0) and the image (1), and beyond.
pub fn saturation(image: &mut [u8], channels: usize, factor: f64) {
    for pixel in image.chunks_exact_mut(channels) {
        let grey = grey(pixel);
        for v in pixel {
            *v = blend(grey, *v, factor as f32);
        }
    }
}

/// Between the image smoothed (0) and the image (1), and beyond. Smooth is a pixel five times and its
/// neighbours once each; the image's edge is not.
pub fn sharpness(image: &[u8], [height, width, channels]: [usize; 3], factor: f64, to: &mut [u8]) {
    to.copy_from_slice(image);
    let line = width * channels;
    if height < 3 || width < 3 {
        return;
    }
    for y in 1..height - 1 {
        for i in channels..line - channels {
            let at = y * line + i;
            let mut sum = 4 * u32::from(image[at]);
            for row in [at - line, at, at + line] {
                for place in [row - channels, row, row + channels] {
                    sum += u32::from(image[place]);
                }
            }
            // Thirteenths, rounded: none lies half-way.
            to[at] = blend(((2 * sum + 13) / 26) as u8, image[at], factor as f32);
        }
    }
}

/// Turns the hue by so many 255ths of a full turn, by way of Pillow's HSV, in which each number has
/// eight bits. Grey images have none.
pub fn hue(image: &mut [u8], channels: usize, turn: u8) {
    if channels != 3 {
        return;
    }
    for pixel in image.as_chunks_mut::<3>().0 {
        let [hue, saturation, value] = to_hsv(*pixel);
        *pixel = from_hsv([hue.wrapping_add(turn), saturation, value]);
    }
}

fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most == least {
        return [0, 0, most];
    }
    let span = f32::from(most - least);
    let saturation = span / f32::from(most);
    let away = |v: u8| f32::from(most - v) / span;
    let (rc, gc, bc) = (away(r), away(g), away(b));
    let sixths = if r == most {
        f64::from(bc - gc)
    } else if g == most {
        2.0 + f64::from(rc) - f64::from(bc)
    } else {
        4.0 + f64::from(gc) - f64::from(rc)
    };
    let hue = (f64::from(sixths as f32) / 6.0 + 1.0) % 1.0;
    [
        (f64::from(hue as f32) * 255.0) as u8,
        (f64::from(saturation) * 255.0) as u8,
        most,
    ]
}

fn from_hsv([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let sixths = f64::from(hue) * 6.0 / 255.0;
    let part = f64::from(saturation) / 255.0;
    let fraction = f64::from((sixths - sixths.floor()) as f32);
    let part = f64::from(part as f32);
    let of = |rest: f64| (f64::from(value) * rest).round() as u8;
    let (p, q, t) = (
        of(1.0 - part),
        of(1.0 - part * fraction),
        of(1.0 - part * (1.0 - fraction)),
    );
    match sixths as u8 % 6 {
        0 => [value, t, p],
        1 => [q, value, p],
        2 => [p, value, t],
        3 => [p, q, value],
        4 => [t, p, value],
        _ => [value, p, q],
    }
}

/// A pixel's brightness: 0.299 red + 0.587 green + 0.114 blue, in 65,536ths (ITU-R BT.601).
fn grey(pixel: &[u8]) -> u8 {
    match *pixel {
        [r, g, b] => {
            let [r, g, b] = [r, g, b].map(u32::from);
            ((19_595 * r + 38_470 * g + 7_471 * b + 0x8000) >> 16) as u8
        }
        [grey, ..] => grey,
        [] => 0,
    }
}

/// From one number (0) to another (1), or beyond, cut to a whole number of 0 to 255.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let (from, to) = (f32::from(from), f32::from(to));
    (from + factor * (to - from)) as u8
}

fn each(image: &mut [u8], change: impl Fn(u8) -> u8) {
    for value in image {
        *value = change(*value);
    }
}

/// Replaces each channel's values by a table, which `fill` makes of how often each value occurs; it comes
/// with every value for itself.
fn by_channel(image: &mut [u8], channels: usize, fill: impl Fn(&[usize; 256], &mut [u8; 256])) {
    for channel in 0..channels {
        let mut counts = [0; 256];
        for value in image.iter().skip(channel).step_by(channels) {
            counts[usize::from(*value)] += 1;
        }
        let mut table: [u8; 256] = std::array::from_fn(|value| value as u8);
        fill(&counts, &mut table);
        for value in image.iter_mut().skip(channel).step_by(channels) {
            *value = table[usize::from(*value)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_on_values_by_hand() {
        let after = |change: &dyn Fn(&mut [u8])| {
            let mut image = [0, 100, 127, 128, 200, 255];
            change(&mut image);
            image
        };
        assert_eq!(after(&invert), [255, 155, 128, 127, 55, 0]);
        assert_eq!(after(&|i| solarize(i, 128.0)), [0, 100, 127, 127, 55, 0]);
        assert_eq!(
            after(&|i| solarize_add(i, 150)),
            [150, 250, 255, 128, 200, 255]
        );
        assert_eq!(after(&|i| posterize(i, 2)), [0, 64, 64, 128, 192, 192]);
        assert_eq!(after(&|i| posterize(i, 0)), [0; 6]);
        assert_eq!(after(&|i| posterize(i, 8)), [0, 100, 127, 128, 200, 255]);
        assert_eq!(after(&|i| brightness(i, 0.5)), [0, 50, 63, 64, 100, 127]);
        assert_eq!(after(&|i| brightness(i, 1.5)), [0, 150, 190, 192, 255, 255]);
        assert_eq!(after(&|i| contrast(i, 1, 0.0)), [135; 6]);
        assert_eq!(
            after(&|i| saturation(i, 3, 0.0)),
            [73, 73, 73, 185, 185, 185]
        );
        let mut plain = [7; 12];
        autocontrast(&mut plain, 3);
        equalize(&mut plain, 3);
        assert_eq!(plain, [7; 12]);
    }

    #[test]
    fn a_hue_turned_once_around_is_nearly_the_same() {
        let mut image = [200, 40, 90];
        hue(&mut image, 3, 85); // red becomes green
        assert!(image[1] > image[0] && image[0] > image[2], "{image:?}");
        let mut grey = [9; 6];
        hue(&mut grey, 3, 100);
        assert_eq!(grey, [9; 6]);
    }
}
