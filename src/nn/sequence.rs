//! The sequence that the encoder sees: \[class token; tokens\] + positions.
//!
//! Both are learned (Dosovitskiy and others, arXiv 2010.11929, equation 1); the class token is
//! left out where the classifier takes all tokens. Positions may also be sinusoids, of which nothing is
//! learned (Vaswani and others, arXiv 1706.03762, section 3.5), or none.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use smallvit_kernels::matrix::Precision;
use smallvit_kernels::ops::ImageOp;
use smallvit_kernels::ops::sequence as kernel;

use super::{Context, Layer, NamedValue, value};
use crate::params::init::{Distribution, Initialiser};

/// Which positions are added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Places {
    /// Learned ones, which come from this.
    Learned(Distribution),
    /// Sinusoids: of token n, angles n / 10000^(2⌊j/2⌋ / dim), their sines where j is even, else their
    /// cosines.
    Sinusoids,
    /// None.
    None,
}

/// `[image, token, dim]` → `[image, token (+ 1), dim]`.
#[derive(Module, Debug)]
pub struct Sequence {
    /// `[token (+ 1), dim]`, where they are learned.
    pub position: Option<Param<Tensor<2>>>,
    /// `[dim]`.
    pub class_token: Option<Param<Tensor<1>>>,
    #[module(skip)]
    tokens: usize,
    #[module(skip)]
    dim: usize,
    #[module(skip)]
    positions: kernel::Positions,
    #[module(skip)]
    path: String,
}

/// The sinusoids of so many tokens, `[token, dim]`.
pub fn sinusoids(tokens: usize, dim: usize) -> Vec<f32> {
    let number = |place: usize| {
        let (token, j) = (place / dim, place % dim);
        let power = (2 * (j / 2)) as f64 / dim as f64;
        let angle = token as f64 / 10_000f64.powf(power);
        let value = if j % 2 == 0 { angle.sin() } else { angle.cos() };
        value as f32
    };
    (0..tokens * dim).map(number).collect()
}

impl Sequence {
    /// For so many tokens that come in; with a class token where there is something that it comes from.
    pub fn new(
        tokens: usize,
        dim: usize,
        class_token: Option<Distribution>,
        places: Places,
        init: &Initialiser,
    ) -> Self {
        let length = tokens + usize::from(class_token.is_some());
        let (position, positions) = match places {
            Places::Learned(distribution) => (
                Some(init.draw("position", distribution, [length, dim])),
                kernel::Positions::Learned,
            ),
            Places::Sinusoids => {
                let numbers: Arc<[f32]> = sinusoids(length, dim).into();
                (None, kernel::Positions::Fixed(numbers))
            }
            Places::None => (None, kernel::Positions::None),
        };
        let class = |distribution| init.draw("class_token", distribution, [dim]);
        Self {
            position,
            class_token: class_token.map(class),
            tokens,
            dim,
            positions,
            path: init.path().to_owned(),
        }
    }
}

impl Layer for Sequence {
    fn path(&self) -> &str {
        &self.path
    }

    fn operation(&self, _: Precision) -> Box<dyn ImageOp> {
        Box::new(kernel::Sequence {
            tokens: self.tokens,
            dim: self.dim,
            class_token: self.class_token.is_some(),
            positions: self.positions.clone(),
        })
    }

    fn parameters(&self) -> Vec<NamedValue> {
        let position = self.position.as_ref().map(|p| value("position", p));
        let class_token = self.class_token.as_ref();
        position
            .into_iter()
            .chain(class_token.map(|p| value("class_token", p)))
            .collect()
    }

    fn composed(&self, x: Tensor<3>, context: &mut Context) -> Tensor<3> {
        let [images, _, dim] = x.dims();
        let x = match &self.class_token {
            Some(token) => {
                let token = token.val().reshape([1, 1, dim]).expand([images, 1, dim]);
                Tensor::cat(vec![token, x], 1)
            }
            None => x,
        };
        let x = match (&self.position, &self.positions) {
            (Some(position), _) => x + position.val().unsqueeze(),
            (None, kernel::Positions::Fixed(numbers)) => {
                let shape = [1, numbers.len() / dim, dim];
                let data = TensorData::new(numbers.to_vec(), shape);
                let positions = Tensor::from_data(data, &x.device());
                x + positions
            }
            (None, _) => x,
        };
        context.keep(|| self.path.clone(), &x);
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinusoids_are_sines_and_cosines_of_ever_longer_waves() {
        let all = sinusoids(3, 4);
        assert_eq!(all[..4], [0.0, 1.0, 0.0, 1.0]);
        let expected = [2f64.sin(), 2f64.cos(), 0.02f64.sin(), 0.02f64.cos()];
        assert_eq!(all[8..], expected.map(|x| x as f32));
    }
}
