//! The classifier: dropout, then dense layers with GELU and dropout between them, then logits.
//!
//! On the Keras example's flattened tokens its first layer has 97 % of the model's weights. They
//! must not pass through the cache once an image, so on the CPU its layers work on a micro-batch,
//! and their weight gradients are formed once a batch ([`super::Step::deferred`]).

use burn::module::Module;
use burn::tensor::Tensor;

use super::basic::{Dense, gelu};
use super::{Context, deferred};
use crate::params::init::{Initialiser, Scheme};

pub use super::deferred::{Deferred, DeferredGradient, DeferredLayer};

/// `[image, feature]` → logits `[image, class]`.
#[derive(Module, Debug)]
pub struct Head {
    /// The hidden layers, in order.
    pub hidden: Vec<Dense>,
    /// `[width, class]`.
    pub logits: Dense,
    #[module(skip)]
    dropout: f64,
    #[module(skip)]
    path: String,
}

impl Head {
    /// Hidden layers of these widths on `features` numbers.
    pub fn new(
        features: usize,
        widths: &[usize],
        classes: usize,
        dropout: f64,
        scheme: Scheme,
        init: &Initialiser,
    ) -> Self {
        let hidden = init.at("hidden");
        let dense = |input, output, init: &Initialiser| {
            Dense::new(input, output, true, scheme.dense(input, output), init)
        };
        let inputs = std::iter::once(&features).chain(widths);
        let layers = inputs.zip(widths).enumerate();
        Self {
            hidden: layers
                .map(|(number, (&input, &output))| dense(input, output, &hidden.at(number)))
                .collect(),
            logits: dense(
                widths.last().copied().unwrap_or(features),
                classes,
                &init.at("logits"),
            ),
            dropout,
            path: init.path().to_owned(),
        }
    }

    /// Multiplications of one image's forward pass.
    pub fn macs(&self) -> u64 {
        let layers = self.hidden.iter().chain([&self.logits]);
        let macs = layers.map(|dense| dense.kernel.lazy_shape().num_elements());
        macs.sum::<usize>() as u64
    }

    /// Numbers of an image that wait for the whole batch: each layer's input, and the gradient of its
    /// output.
    pub fn waiting(&self) -> usize {
        let layers = self.hidden.iter().chain([&self.logits]);
        let of_layer = |dense: &Dense| dense.kernel.lazy_shape().iter().sum::<usize>();
        layers.map(of_layer).sum()
    }

    /// `[image, feature]` → `[image, class]`.
    pub fn forward(&self, x: Tensor<2>, context: &Context) -> Tensor<2> {
        let path = &self.path;
        let drop = |x: Tensor<2>, site: String| context.dropout(x, self.dropout, &site);
        let mut x = drop(x, format!("{path}.dropout"));
        for (number, dense) in self.hidden.iter().enumerate() {
            let name = format!("{path}.hidden.{number}");
            x = gelu(self.dense(dense, x, &name, context));
            x = drop(x, format!("{name}.dropout"));
        }
        self.dense(&self.logits, x, &format!("{path}.logits"), context)
    }

    fn dense(&self, dense: &Dense, x: Tensor<2>, name: &str, context: &Context) -> Tensor<2> {
        let precision = context.precision();
        if !context.fuses(&x) {
            context.note_use(name);
            dense.forward(x)
        } else if context.trains() {
            let place = (name.to_owned(), context.first_image());
            deferred::dense(dense, x, place, precision, context.step().deferred())
        } else {
            deferred::inference(dense, x, precision)
        }
    }
}
