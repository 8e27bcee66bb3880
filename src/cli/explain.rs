//! What is shown of a model at one image: what a token is made of, and where the model looks.

use burn::tensor::{Device, Tensor, TensorData};
use smallvit::augment::resize;
use smallvit::models::Model;
use smallvit::models::config::Cut;
use smallvit::models::file::ModelInfo;
use smallvit::models::look::{AttentionMap, Look, look};
use smallvit::nn::embedding::{SHIFT_NAMES, shifts};
use smallvit::params::Array;
use smallvit::report::picture::attention::overlay;
use smallvit::report::picture::sheet::SheetImage;
use smallvit::report::picture::token::{Token, View};
use smallvit::train::device;

/// A square image of bytes, `[row, column, channel]`, of the size that a model takes.
#[derive(Clone)]
pub struct Seen {
    /// Rows, and columns.
    pub size: usize,
    /// 1 or 3.
    pub channels: usize,
    /// Its pixels.
    pub pixels: Vec<u8>,
}

impl Seen {
    /// An image, resized as the model does.
    pub fn new(pixels: &[u8], shape: [usize; 3], size: usize) -> Self {
        let channels = shape[2];
        let floats: Vec<f32> = pixels.iter().map(|&pixel| f32::from(pixel)).collect();
        let mut resized = vec![0.0; size * size * channels];
        resize::bilinear(&floats, shape, [size, size], &mut resized);
        let byte = |value: f32| value.round().clamp(0.0, 255.0) as u8;
        Self {
            size,
            channels,
            pixels: resized.into_iter().map(byte).collect(),
        }
    }

    /// It and, with SPT, its four shifts, as the model makes them.
    pub fn views(&self, cut: Cut, spt: bool) -> Vec<View> {
        let view = |name: &str, pixels| View {
            name: name.into(),
            pixels,
        };
        let mut views = vec![view("the image", self.pixels.clone())];
        if !spt {
            return views;
        }
        let (size, channels) = (self.size, self.channels);
        let floats: Vec<f32> = self.pixels.iter().map(|&pixel| f32::from(pixel)).collect();
        let image = TensorData::new(floats, [1, size, size, channels]);
        let image = Tensor::<4>::from_data(image, &device::cpu());
        let all = shifts(image, cut.patch).reshape([1, size * size, 5 * channels]);
        // Each pixel holds the five versions' channels one after another.
        let all = Array::of(all).values;
        for (number, name) in (1..).zip(SHIFT_NAMES) {
            let of_view = |pixel: &[f32]| pixel[number * channels..][..channels].to_vec();
            let pixels = all.chunks_exact(5 * channels).flat_map(of_view);
            let pixels = pixels.map(|value| value as u8).collect();
            views.push(view(
                &format!("moved {}", name.replace('-', " and ")),
                pixels,
            ));
        }
        views
    }

    /// One token of it: that in a row and a column, or the one whose patch varies the most. None where no patch
    /// lies wholly inside.
    pub fn token(&self, cut: Cut, spt: bool, asked: Option<[usize; 2]>) -> Option<Token> {
        let whole = whole_tokens(self.size, cut);
        let place = |token: usize| token * cut.stride - cut.padding;
        let patch = |row: usize, column: usize| {
            let width = cut.patch * self.channels;
            (0..cut.patch).flat_map(move |line| {
                let first = ((place(row) + line) * self.size + place(column)) * self.channels;
                self.pixels[first..first + width]
                    .iter()
                    .map(|&pixel| f64::from(pixel))
            })
        };
        let variance = |row, column| {
            let count = (cut.patch * cut.patch * self.channels) as f64;
            let mean = patch(row, column).sum::<f64>() / count;
            patch(row, column)
                .map(|value| (value - mean).powi(2))
                .sum::<f64>()
        };
        let all = || {
            whole
                .clone()
                .flat_map(|row| whole.clone().map(move |column| [row, column]))
        };
        let most = || all().max_by(|a, b| variance(a[0], a[1]).total_cmp(&variance(b[0], b[1])));
        let [row, column] = asked.or_else(most)?;
        Some(Token {
            size: self.size,
            channels: self.channels,
            views: self.views(cut, spt),
            patch: cut.patch,
            at: [place(row), place(column)],
            dim: cut.dim,
        })
    }

    /// A map of attention laid over it.
    pub fn under(&self, caption: &str, values: &[f32], grid: [usize; 2]) -> SheetImage {
        let shape = [self.size, self.size, self.channels];
        overlay(caption, &self.pixels, shape, values, grid)
    }

    /// The image itself, for a sheet.
    pub fn plain(&self, caption: &str) -> SheetImage {
        SheetImage {
            caption: caption.into(),
            height: self.size,
            width: self.size,
            channels: self.channels,
            pixels: self.pixels.clone(),
            borders: vec![],
        }
    }

    /// Every layer's and head's attention, a row a layer: what each cell is paid, or what the cell in a row
    /// and a column of the grid pays the others. In the end the image, and the way through all layers.
    pub fn sheet(&self, look: &Look, from: Option<[usize; 2]>) -> (Vec<SheetImage>, usize) {
        let most_heads = look.layers.iter().map(|map| map.heads).max().unwrap_or(0);
        let values = |map: &AttentionMap, head: Option<usize>| match from {
            // In class attention, the class token's: the others attend to nothing.
            Some(_) if map.of_class => map.received(head),
            None => map.received(head),
            Some([row, column]) => map.from(head, map.before + row * map.grid[1] + column),
        };
        let drawn = |caption: String, map: &AttentionMap, head| {
            let parts = map.borders.iter().map(|&at| at as f64 / map.grid[0] as f64);
            SheetImage {
                borders: parts.collect(),
                ..self.under(&caption, &values(map, head), map.grid)
            }
        };
        let mut cells = vec![];
        for (number, map) in (1..).zip(&look.layers) {
            for head in 0..map.heads {
                let caption = format!("layer {number}, head {}", head + 1);
                cells.push(drawn(caption, map, Some(head)));
            }
            // Layers of a pyramid may have fewer heads.
            for _ in map.heads..most_heads {
                cells.push(SheetImage {
                    pixels: vec![255; self.size * self.size * self.channels],
                    ..self.plain("")
                });
            }
            let caption = format!("layer {number}, all heads");
            cells.push(drawn(caption, map, None));
        }
        cells.push(self.plain("the image"));
        if let (Some(rollout), Some(map)) = (look.rollout(), look.layers.first()) {
            cells.push(self.under("through all layers", &rollout, map.grid));
        }
        (cells, most_heads + 1)
    }
}

/// The rows (and columns) of tokens whose patches lie inside of an image of so many pixels a side.
pub fn whole_tokens(size: usize, cut: Cut) -> std::ops::Range<usize> {
    let first = cut.padding.div_ceil(cut.stride);
    let last = (size + cut.padding)
        .checked_sub(cut.patch)
        .map(|room| room / cut.stride);
    first..last.map_or(first, |last| last + 1).max(first)
}

/// Where a model looks in an image of the kind that it was trained on, and the image as it takes it.
pub fn looked(info: &ModelInfo, model: &Model, pixels: &[u8], device: &Device) -> (Look, Seen) {
    let preprocess = info.preprocess();
    let mut input = vec![0.0; preprocess.output_len()];
    preprocess.apply(pixels, &mut input);
    let size = info.config.image_size();
    let look = look(model, &input, [size, size, info.input[2]], device);
    (look, Seen::new(pixels, info.input, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUT: Cut = Cut {
        patch: 4,
        stride: 4,
        padding: 0,
        dim: 8,
    };

    fn seen() -> Seen {
        // Flat but for one pixel.
        let mut pixels = vec![100; 16 * 16];
        pixels[9 * 16 + 14] = 250;
        Seen {
            size: 16,
            channels: 1,
            pixels,
        }
    }

    #[test]
    fn a_token_is_the_one_with_most_to_see_or_the_one_asked_for() {
        let token = seen().token(CUT, true, None).unwrap();
        assert_eq!((token.at, token.views.len()), ([8, 12], 5));
        assert_eq!(seen().token(CUT, false, Some([1, 0])).unwrap().at, [4, 0]);
        let overlapping = Cut {
            patch: 3,
            stride: 2,
            padding: 1,
            ..CUT
        };
        assert_eq!(whole_tokens(16, overlapping), 1..8);
        // A stem whose patches all reach over the edge.
        let none = Cut {
            patch: 16,
            stride: 8,
            padding: 4,
            ..CUT
        };
        assert!(seen().token(none, true, None).is_none());
        assert_eq!(
            seen().token(overlapping, true, Some([1, 7])).unwrap().at,
            [1, 13]
        );
    }

    #[test]
    fn views_are_moved_by_half_a_patch_and_zeros_come_in() {
        let views = seen().views(CUT, true);
        assert_eq!(views[1].name, "moved left and up");
        assert_eq!(views[1].pixels[7 * 16 + 12], 250);
        assert_eq!(views[1].pixels[15 * 16], 0);
        assert_eq!(views[4].name, "moved right and down");
        assert_eq!(views[4].pixels[2 * 16 + 2], 100);
        assert_eq!(views[4].pixels[16], 0);
    }
}
