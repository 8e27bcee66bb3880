//! Zoom about the image's centre, height and width each by a factor uniform in 1 ± a limit, as
//! Keras's `RandomZoom` with factors for both ([`Affine::zoom`]).

use super::affine::{self, Affine};
use crate::augment::recipe::in_range;
use crate::augment::{Augmentation, Boxed, Canvas, Operation};
use crate::error::Result;
use crate::random::Stream;

/// The zoom and its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zoom {
    /// The largest distance of a factor from 1.
    pub most: f64,
}

/// The zoom, where the recipe asks for it.
pub(super) fn of(recipe: &Augmentation) -> Option<Boxed<Canvas<f32>>> {
    let most = recipe.zoom;
    (most != 0.0).then(|| Box::new(Zoom { most }) as _)
}

impl Operation<Canvas<f32>> for Zoom {
    fn name(&self) -> &'static str {
        "zoom"
    }

    fn apply(&self, image: &mut Canvas<f32>, shape: [usize; 3], stream: &mut Stream) {
        let most = self.most as f32;
        let mut factor = || 1.0 + stream.uniform(-most, most);
        let (height, width) = (factor(), factor());
        let affine = Affine::zoom(height, width, shape[0], shape[1]);
        image.redraw(|from, to| affine::transform(from, shape, &affine, to));
    }

    fn check(&self) -> Result<()> {
        in_range(
            "zoom",
            self.most,
            (0.0..1.0).contains(&self.most),
            "choose 0 (off) or more, and less than 1: 0.2 is ±20 %",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    #[test]
    fn both_factors_stay_within_the_limit_and_are_drawn_apart() {
        // Zooming the plane v(y, x) = 100 y + x about its centre is exact near it.
        let shape = [9, 9, 1];
        let plane: Vec<f32> = (0..81)
            .map(|i| 100.0 * ((i / 9) as f32 - 4.0) + (i % 9) as f32 - 4.0)
            .collect();
        let zoom = Zoom { most: 0.2 };
        let mut apart = 0;
        for sample in 0..200 {
            let mut canvas = Canvas::default();
            canvas.load(&plane);
            let mut stream = Stream::named(3, Purpose::Augment, &[0, sample, 0], "zoom");
            zoom.apply(&mut canvas, shape, &mut stream);
            let width = canvas.image()[42] / 2.0;
            let height = canvas.image()[58] / 200.0;
            for factor in [height, width] {
                assert!((0.7999..1.2001).contains(&factor), "{factor}");
            }
            apart += u32::from((height - width).abs() > 0.01);
        }
        assert!(apart > 150, "{apart}");
    }
}
