//! Random erasing: a rectangle somewhere in the image is filled with something else.
//!
//! With a given probability, up to ten times: area a = HW · U(a₀, a₁), aspect ratio
//! r = exp U(ln r₀, ln r₁), height h = round √(a · r), width w = round √(a / r); the first that is
//! lower and narrower than the image is put at a uniform place. Zhong et al., arXiv 1708.04896,
//! with the logarithmic ratio, the limits and the filling that DeiT (arXiv 2012.12877) took from
//! timm. The code of arXiv 2112.13492 draws the ratio itself evenly, tries a hundred times, and fills
//! with the data's means, which it takes for numbers between 0 and 1, although the image is normalised
//! by then.

use serde::{Deserialize, Serialize};

use crate::augment::recipe::{in_range, ordered};
use crate::augment::{Augmentation, Boxed, Canvas, Operation, Rectangle};
use crate::error::{Error, Result};
use crate::random::Stream;

/// Random erasing's parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Erasing {
    /// Of an image to lose a rectangle.
    pub probability: f64,
    /// The rectangle's least and largest area, as parts of the image's.
    pub area: [f64; 2],
    /// Its least and largest ratio of height to width.
    pub ratio: [f64; 2],
    /// How the ratio is drawn between them.
    pub ratio_scale: Scale,
    /// How often a rectangle is drawn until one is smaller than the image.
    pub tries: usize,
    /// What comes in its place.
    pub fill: Fill,
    /// With `fill = "constant"`: a normalised number for each channel, or one for all.
    pub values: Vec<f64>,
}

/// How a ratio is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Its logarithm evenly: as often flat as steep.
    #[default]
    Logarithmic,
    /// Itself evenly: more often steep.
    Linear,
}

/// What an erased rectangle is filled with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fill {
    /// A normal number for each pixel and channel, with the training images' mean and deviation.
    #[default]
    Noise,
    /// One such number for each channel: a plain colour.
    Colour,
    /// The training images' mean, which is 0 after normalisation.
    Mean,
    /// Given numbers.
    Constant,
}

impl Default for Erasing {
    fn default() -> Self {
        Self {
            probability: 0.25,
            area: [0.02, 1.0 / 3.0],
            ratio: [0.3, 1.0 / 0.3],
            ratio_scale: Scale::Logarithmic,
            tries: 10,
            fill: Fill::Noise,
            values: vec![],
        }
    }
}

/// The erasing, where the recipe asks for it.
pub(super) fn of(recipe: &Augmentation) -> Option<Boxed<Canvas<f32>>> {
    let erasing = recipe.erasing.clone()?;
    Some(Box::new(erasing))
}

impl Operation<Canvas<f32>> for Erasing {
    fn name(&self) -> &'static str {
        "erasing"
    }

    fn apply(&self, image: &mut Canvas<f32>, shape: [usize; 3], stream: &mut Stream) {
        if f64::from(stream.unit()) >= self.probability {
            return;
        }
        let Some(rectangle) = self.rectangle(shape, stream) else {
            return;
        };
        let mut normal = || stream.normal() as f32;
        match self.fill {
            Fill::Noise => fill(image.image_mut(), shape, rectangle, |_| normal()),
            Fill::Colour => {
                let colour: Vec<f32> = (0..shape[2]).map(|_| normal()).collect();
                fill(image.image_mut(), shape, rectangle, |channel| {
                    colour[channel]
                });
            }
            Fill::Mean => fill(image.image_mut(), shape, rectangle, |_| 0.0),
            Fill::Constant => {
                let value = |channel: usize| self.values[channel % self.values.len()] as f32;
                fill(image.image_mut(), shape, rectangle, value);
            }
        }
    }

    fn check(&self) -> Result<()> {
        in_range(
            "erasing.probability",
            self.probability,
            (0.0..=1.0).contains(&self.probability),
            "choose 0 to 1; 0.25 is usual",
        )?;
        ordered(
            "erasing.area",
            self.area,
            1.0,
            "give the least and the largest part of the image, more than 0 and at most 1: \
             [0.02, 0.33] is usual",
        )?;
        ordered(
            "erasing.ratio",
            self.ratio,
            1e6,
            "give the least and the largest height / width, more than 0: [0.3, 3.3] is usual",
        )?;
        in_range(
            "erasing.tries",
            self.tries as f64,
            (1..=10_000).contains(&self.tries),
            "choose 1 to 10000; 10 is usual",
        )?;
        if (self.fill == Fill::Constant) == self.values.is_empty() {
            let (problem, remedy) = match self.fill {
                Fill::Constant => ("there are none", "give a number for each channel"),
                _ => (
                    "they fill nothing",
                    "set augment.erasing.fill=constant, or leave them out",
                ),
            };
            return Err(Error::recipe("augment.erasing.values", problem, remedy));
        }
        if let Some(value) = self.values.iter().find(|value| !value.is_finite()) {
            let remedy = "give a number for each channel";
            return in_range("erasing.values", *value, false, remedy);
        }
        Ok(())
    }

    fn check_images(&self, [_, _, channels]: [usize; 3]) -> Result<()> {
        let count = self.values.len();
        if count <= 1 || count == channels {
            return Ok(());
        }
        Err(Error::recipe(
            "augment.erasing.values",
            format!("there are {count}, and the images have {channels} channels"),
            "give one for each channel, or one for all",
        ))
    }
}

impl Erasing {
    /// Which rectangle is erased; none where all that were tried were too large.
    fn rectangle(&self, [height, width, _]: [usize; 3], stream: &mut Stream) -> Option<Rectangle> {
        let [least, most] = self.area;
        let linear = self.ratio_scale == Scale::Linear;
        let [flattest, steepest] = match linear {
            true => self.ratio,
            false => self.ratio.map(f64::ln),
        };
        let mut within = |low: f64, high: f64| low + (high - low) * f64::from(stream.unit());
        let (h, w) = (0..self.tries).find_map(|_| {
            let area = within(least, most) * (height * width) as f64;
            let ratio = within(flattest, steepest);
            let ratio = if linear { ratio } else { ratio.exp() };
            let h = (area * ratio).sqrt().round() as usize;
            let w = (area / ratio).sqrt().round() as usize;
            (h < height && w < width).then_some((h, w))
        })?;
        Some(Rectangle {
            top: stream.below(height - h + 1),
            left: stream.below(width - w + 1),
            height: h,
            width: w,
        })
    }
}

/// Fills a rectangle, row by row, with what `value` gives for each channel.
pub fn fill(
    image: &mut [f32],
    [_, columns, channels]: [usize; 3],
    rectangle: Rectangle,
    mut value: impl FnMut(usize) -> f32,
) {
    let Rectangle {
        top,
        left,
        height,
        width,
    } = rectangle;
    for row in image
        .chunks_exact_mut(columns * channels)
        .skip(top)
        .take(height)
    {
        for pixel in row[left * channels..][..width * channels].chunks_exact_mut(channels) {
            for (channel, number) in pixel.iter_mut().enumerate() {
                *number = value(channel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    fn stream(sample: u64) -> Stream {
        Stream::named(3, Purpose::Augment, &[0, sample, 0], "erasing")
    }

    /// What of images full of sevens is left.
    fn erased(erasing: &Erasing, shape: [usize; 3], sample: u64) -> Vec<f32> {
        let mut canvas = Canvas::default();
        canvas.load(&vec![7.0; shape.iter().product()]);
        erasing.apply(&mut canvas, shape, &mut stream(sample));
        canvas.image().to_vec()
    }

    #[test]
    fn only_the_rectangle_is_filled_channel_by_channel() {
        let mut image: Vec<f32> = vec![7.0; 3 * 4 * 2];
        let rectangle = Rectangle {
            top: 1,
            left: 2,
            height: 2,
            width: 1,
        };
        fill(&mut image, [3, 4, 2], rectangle, |channel| channel as f32);
        let (o, x) = ([7.0, 7.0], [0.0, 1.0]);
        let expected = [[o, o, o, o], [o, o, x, o], [o, o, x, o]];
        assert_eq!(image, expected.as_flattened().as_flattened());
    }

    #[test]
    fn rectangles_have_the_area_and_the_ratio_and_lie_anywhere() {
        let erasing = Erasing::default();
        let mut areas = 0.0;
        let mut corners = [false; 4];
        for sample in 0..4000 {
            let r = erasing
                .rectangle([100, 80, 3], &mut stream(sample))
                .unwrap();
            let (h, w) = (r.height as f64, r.width as f64);
            // Rounding moves each side by up to ½.
            assert!((h + 0.5) * (w + 0.5) >= 0.02 * 8000.0);
            assert!((h - 0.5) * (w - 0.5) <= 8000.0 / 3.0);
            assert!((h + 0.5) / (w - 0.5) >= 0.3 && (h - 0.5) / (w + 0.5) <= 1.0 / 0.3);
            assert!(r.top + r.height <= 100 && r.left + r.width <= 80);
            corners[0] |= r.top == 0;
            corners[1] |= r.left == 0;
            corners[2] |= r.top + r.height == 100;
            corners[3] |= r.left + r.width == 80;
            areas += h * w / 8000.0;
        }
        assert_eq!(corners, [true; 4]);
        // The mean of U(1/50, 1/3) is 0.1767, and 0.1738 without those too high or too wide (of
        // 400,000 draws by another program); five deviations of the mean of 4,000.
        let mean = areas / 4000.0;
        assert!((mean - 0.1738).abs() < 0.0071, "{mean}");
    }

    #[test]
    fn the_papers_rectangles_are_steeper_and_more_of_them_fit() {
        let mut erasing = Erasing {
            area: [0.02, 0.4],
            ratio_scale: Scale::Linear,
            tries: 100,
            ..Erasing::default()
        };
        let rectangles: Vec<Rectangle> = (0..4000)
            .map(|sample| erasing.rectangle([32, 32, 3], &mut stream(sample)).unwrap())
            .collect();
        let steep = rectangles.iter().filter(|r| r.height > r.width).count();
        // Of U(0.3, 3.33) 77 % are above 1; rounding and what does not fit take some.
        assert!((2800..3200).contains(&steep), "{steep}");
        erasing.ratio_scale = Scale::Logarithmic;
        let flat = (0..4000).filter(|&sample| {
            let r = erasing.rectangle([32, 32, 3], &mut stream(sample)).unwrap();
            r.height < r.width
        });
        let flat = flat.count();
        assert!((1600..2200).contains(&flat), "{flat}");
        // One try may fail where a hundred do not.
        erasing.tries = 1;
        let failed = |sample| {
            erasing
                .rectangle([32, 32, 3], &mut stream(sample))
                .is_none()
        };
        assert!((0..4000).any(failed));
    }

    #[test]
    fn values_that_fill_nothing_or_are_missing_are_refused() {
        let with = |fill, values: &[f64]| Erasing {
            fill,
            values: values.to_vec(),
            ..Erasing::default()
        };
        for (erasing, part) in [
            (with(Fill::Constant, &[]), "there are none"),
            (with(Fill::Noise, &[0.5]), "they fill nothing"),
            (with(Fill::Constant, &[f64::NAN]), "out of range"),
            (
                Erasing {
                    tries: 0,
                    ..Erasing::default()
                },
                "erasing.tries: 0",
            ),
        ] {
            let error = erasing.check().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let three = with(Fill::Constant, &[0.1, 0.2, 0.3]);
        three.check().unwrap();
        three.check_images([8, 8, 3]).unwrap();
        assert!(three.check_images([8, 8, 1]).is_err());
    }

    #[test]
    fn as_many_images_lose_a_rectangle_as_the_probability_says() {
        let count = |probability| {
            let erasing = Erasing {
                probability,
                ..Erasing::default()
            };
            let touched = |&sample: &u64| {
                let image = erased(&erasing, [32, 32, 1], sample);
                image.iter().any(|&value| value != 7.0)
            };
            (0..1000).filter(touched).count()
        };
        assert_eq!(count(0.0), 0);
        assert_eq!(count(1.0), 1000);
        // Five deviations: 5 · √(1000 · ¼ · ¾).
        assert!(count(0.25).abs_diff(250) < 69);
    }

    #[test]
    fn fillings_are_noise_a_colour_or_the_mean() {
        let shape = [32, 32, 3];
        let with = |fill| Erasing {
            probability: 1.0,
            fill,
            ..Erasing::default()
        };
        let of = |erasing: &Erasing, sample: u64, channel: usize| -> Vec<f32> {
            let image = erased(erasing, shape, sample);
            let values = image.chunks_exact(3).map(|pixel| pixel[channel]);
            values.filter(|&value| value != 7.0).collect()
        };
        let (mut squares, mut count) = (0.0, 0);
        let mut colours = vec![];
        for sample in 0..200 {
            let noise = of(&with(Fill::Noise), sample, 1);
            squares += noise.iter().map(|v| f64::from(v * v)).sum::<f64>();
            count += noise.len();
            let colour = of(&with(Fill::Colour), sample, 2);
            // The same draws decide where: only the filling differs.
            assert_eq!(colour.len(), noise.len());
            assert!(colour.iter().all(|v| *v == colour[0]));
            colours.push(colour[0]);
            let mean = of(&with(Fill::Mean), sample, 0);
            assert_eq!(mean.len(), noise.len());
            assert!(mean.iter().all(|v| *v == 0.0));
            let constant = Erasing {
                values: vec![0.25, 0.5, 0.75],
                ..with(Fill::Constant)
            };
            let constant = of(&constant, sample, 1);
            assert_eq!(constant, vec![0.5; noise.len()]);
        }
        // Variance 1, within five deviations: √(2 / n).
        let variance = squares / count as f64;
        assert!(
            (variance - 1.0).abs() < 5.0 * (2.0 / count as f64).sqrt(),
            "{variance}"
        );
        colours.sort_by(f32::total_cmp);
        colours.dedup();
        assert_eq!(colours.len(), 200);
    }

    #[test]
    fn an_image_too_small_for_a_rectangle_stays() {
        assert_eq!(
            erased(
                &Erasing {
                    probability: 1.0,
                    ..Erasing::default()
                },
                [1, 1, 1],
                0
            ),
            [7.0]
        );
    }
}
