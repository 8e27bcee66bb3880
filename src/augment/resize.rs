//! Bilinear resizing with half-pixel centres and no anti-aliasing, as Keras's `Resizing`.

/// `[rows, columns, channels]` → `[rows, columns]` of the target, into `output`.
pub fn bilinear(
    image: &[f32],
    [height, width, channels]: [usize; 3],
    [to_height, to_width]: [usize; 2],
    output: &mut [f32],
) {
    let columns = taps(width, to_width);
    for (row, out) in taps(height, to_height)
        .iter()
        .zip(output.chunks_exact_mut(to_width * channels))
    {
        let [above, below] =
            [row.low, row.high].map(|r| &image[r * width * channels..][..width * channels]);
        for (column, out) in columns.iter().zip(out.chunks_exact_mut(channels)) {
            let (left, right) = (column.low * channels, column.high * channels);
            for (c, out) in out.iter_mut().enumerate() {
                let top = lerp(above[left + c], above[right + c], column.weight);
                let bottom = lerp(below[left + c], below[right + c], column.weight);
                *out = lerp(top, bottom, row.weight);
            }
        }
    }
}

fn lerp(a: f32, b: f32, weight: f32) -> f32 {
    a + (b - a) * weight
}

/// The two source positions of a target position, and the second one's weight.
struct Tap {
    low: usize,
    high: usize,
    weight: f32,
}

fn taps(from: usize, to: usize) -> Vec<Tap> {
    let scale = from as f32 / to as f32;
    (0..to)
        .map(|position| {
            let source = (position as f32 + 0.5) * scale - 0.5;
            let floor = source.floor();
            Tap {
                low: floor.max(0.0) as usize,
                high: (source.ceil().max(0.0) as usize).min(from - 1),
                weight: source - floor,
            }
        })
        .collect()
}
