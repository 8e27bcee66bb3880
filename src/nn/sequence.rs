//! The sequence that the encoder sees: \[class token; tokens\] + positions.
//!
//! Both are learned (Dosovitskiy and others, arXiv 2010.11929, equation 1); the class token is
//! left out where the classifier takes all tokens.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use smallvit_kernels::matrix::Precision;
use smallvit_kernels::ops::ImageOp;
use smallvit_kernels::ops::sequence as kernel;

use super::{Context, Layer, NamedValue, value};
use crate::params::init::{Distribution, Initialiser};

/// `[image, token, dim]` → `[image, token (+ 1), dim]`.
#[derive(Module, Debug)]
pub struct Sequence {
    /// `[token (+ 1), dim]`.
    pub position: Param<Tensor<2>>,
    /// `[dim]`.
    pub class_token: Option<Param<Tensor<1>>>,
    #[module(skip)]
    path: String,
}

impl Sequence {
    /// Positions and class token from `distribution`.
    pub fn new(
        tokens: usize,
        dim: usize,
        class_token: bool,
        distribution: Distribution,
        init: &Initialiser,
    ) -> Self {
        let length = tokens + usize::from(class_token);
        Self {
            position: init.draw("position", distribution, [length, dim]),
            class_token: class_token.then(|| init.draw("class_token", distribution, [dim])),
            path: init.path().to_owned(),
        }
    }
}

impl Layer for Sequence {
    fn path(&self) -> &str {
        &self.path
    }

    fn operation(&self, _: Precision) -> Box<dyn ImageOp> {
        let [length, dim] = self.position.lazy_shape().dims();
        let class_token = self.class_token.is_some();
        Box::new(kernel::Sequence {
            tokens: length - usize::from(class_token),
            dim,
            class_token,
        })
    }

    fn parameters(&self) -> Vec<NamedValue> {
        let mut all = vec![value("position", &self.position)];
        all.extend(self.class_token.as_ref().map(|p| value("class_token", p)));
        all
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
        let x = x + self.position.val().unsqueeze();
        context.keep(|| self.path.clone(), &x);
        x
    }
}
