//! Rotation about the image's centre by an angle uniform in ± a part of a full turn, as Keras's
//! `RandomRotation` ([`Affine::rotation`]).

use super::affine::{self, Affine};
use crate::augment::recipe::in_range;
use crate::augment::{Augmentation, Boxed, Canvas, Operation};
use crate::error::Result;
use crate::random::Stream;

/// The rotation and its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotation {
    /// The largest angle either way, as a part of a full turn.
    pub most: f64,
}

/// The rotation, where the recipe asks for it.
pub(super) fn of(recipe: &Augmentation) -> Option<Boxed<Canvas<f32>>> {
    let most = recipe.rotation;
    (most != 0.0).then(|| Box::new(Rotation { most }) as _)
}

impl Operation<Canvas<f32>> for Rotation {
    fn name(&self) -> &'static str {
        "rotation"
    }

    fn apply(&self, image: &mut Canvas<f32>, shape: [usize; 3], stream: &mut Stream) {
        let most = self.most as f32;
        let angle = stream.uniform(-most, most) * std::f32::consts::TAU;
        let affine = Affine::rotation(angle, shape[0], shape[1]);
        image.redraw(|from, to| affine::transform(from, shape, &affine, to));
    }

    fn check(&self) -> Result<()> {
        in_range(
            "rotation",
            self.most,
            (0.0..=1.0).contains(&self.most),
            "choose 0 (off) to 1, in full turns: 0.02 is ±7.2 degrees",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    #[test]
    fn angles_stay_within_the_limit_and_reach_near_it() {
        // A rotation of the plane v(y, x) = x − c by φ about the centre c is cos φ · (x − c) −
        // sin φ · (y − c), and bilinear sampling of a plane is exact away from the edges.
        let shape = [9, 9, 1];
        let plane: Vec<f32> = (0..81).map(|i| (i % 9) as f32 - 4.0).collect();
        let rotation = Rotation { most: 0.05 };
        let mut angles = vec![];
        for sample in 0..500 {
            let mut canvas = Canvas::default();
            canvas.load(&plane);
            let mut stream = Stream::named(3, Purpose::Augment, &[0, sample, 0], "rotation");
            rotation.apply(&mut canvas, shape, &mut stream);
            // Two pixels right of the centre, and two below it.
            let (cos, minus_sin) = (canvas.image()[42] / 2.0, canvas.image()[58] / 2.0);
            assert!((cos * cos + minus_sin * minus_sin - 1.0).abs() < 1e-4);
            angles.push(-minus_sin.atan2(cos) / std::f32::consts::TAU);
        }
        let fold = |f: fn(f32, f32) -> f32| angles.iter().copied().reduce(f).unwrap();
        let (least, most) = (fold(f32::min), fold(f32::max));
        assert!((-0.0501..-0.048).contains(&least), "{least}");
        assert!((0.048..0.0501).contains(&most), "{most}");
    }
}
