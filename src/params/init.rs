//! Initial weights, drawn from streams keyed by each parameter's own name.
//!
//! The n-th number of a parameter is a function of (seed, name, n) alone. So adding a layer leaves
//! every other draw as it was, and a ViT and an SL-ViT of one seed begin with the same numbers in
//! all weights that both have.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};

use super::first_name;
use crate::random::{Purpose, Stream, name_key};

/// Where a parameter's first numbers come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Uniform in ± this.
    Uniform(f32),
    /// Normal, with mean 0 and this deviation.
    Normal(f32),
}

/// How kernels begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Uniform in ±√(6 / (fan in + fan out)) (Glorot and Bengio, 2010): Keras's.
    GlorotUniform,
    /// Normal with variance 2 / (fan in + fan out): the paper's code.
    XavierNormal,
    /// Uniform in ±1 / √fan in, biases too: PyTorch where it is told nothing, and the paper's code for Swin
    /// Transformers.
    FanIn,
    /// Normal with deviation 0.02: the paper's code for T2T-ViT (timm's truncated normal, which cuts at a
    /// hundred deviations).
    Small,
}

/// How a dense layer begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DenseInit {
    /// Its kernel.
    pub kernel: Distribution,
    /// Its bias, if it has one; none is 0.
    pub bias: Option<Distribution>,
}

impl Scheme {
    /// For a dense layer with these fans.
    pub fn dense(self, fan_in: usize, fan_out: usize) -> DenseInit {
        let kernel = self.kernel(fan_in, fan_out);
        let bias = (self == Self::FanIn).then_some(kernel);
        DenseInit { kernel, bias }
    }

    /// For a kernel with these fans.
    pub fn kernel(self, fan_in: usize, fan_out: usize) -> Distribution {
        let fans = (fan_in + fan_out) as f64;
        match self {
            Self::GlorotUniform => Distribution::Uniform((6.0 / fans).sqrt() as f32),
            Self::XavierNormal => Distribution::Normal((2.0 / fans).sqrt() as f32),
            Self::Small => Distribution::Normal(0.02),
            Self::FanIn => Distribution::Uniform((1.0 / fan_in as f64).sqrt() as f32),
        }
    }
}

/// Makes parameters at a place in the model.
#[derive(Clone, Debug)]
pub struct Initialiser<'a> {
    /// None draws nothing: for weights that are loaded afterwards.
    seed: Option<u64>,
    path: String,
    device: &'a Device,
}

impl<'a> Initialiser<'a> {
    /// The initialiser of a model with this seed.
    pub fn new(seed: u64, device: &'a Device) -> Self {
        Self {
            seed: Some(seed),
            path: String::new(),
            device,
        }
    }

    /// Draws nothing, for a model whose weights are loaded, or which is only measured: a parameter
    /// has its name and shape, and becomes numbers when its value is asked for.
    pub fn blank(device: &'a Device) -> Self {
        Self {
            seed: None,
            path: String::new(),
            device,
        }
    }

    /// One place further in: of the module in this field.
    pub fn at(&self, field: impl ToString) -> Self {
        Self {
            path: self.name(&field.to_string()),
            ..self.clone()
        }
    }

    /// Where it stands, as `blocks.3.attention`.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn name(&self, leaf: &str) -> String {
        match self.path.is_empty() {
            true => leaf.to_owned(),
            false => format!("{}.{leaf}", self.path),
        }
    }

    /// Every element the same.
    pub fn constant<const D: usize>(&self, value: f32, shape: [usize; D]) -> Param<Tensor<D>> {
        let values = move || vec![value; shape.iter().product()];
        if self.seed.is_some() {
            return self.param(values(), shape);
        }
        let make =
            move |device: &Device, _| Tensor::from_data(TensorData::new(values(), shape), device);
        let (id, device) = (ParamId::new(), self.device.clone());
        Param::uninitialized(id, make, device, false, shape.into())
    }

    /// Elements drawn from a distribution; `leaf` is the parameter's field.
    pub fn draw<const D: usize>(
        &self,
        leaf: &str,
        distribution: Distribution,
        shape: [usize; D],
    ) -> Param<Tensor<D>> {
        let Some(seed) = self.seed else {
            return self.constant(0.0, shape);
        };
        let name = self.name(leaf);
        let key = name_key(&first_name(&name));
        let mut stream = Stream::new(seed, Purpose::Initialise, 0, key);
        let mut number = || match distribution {
            Distribution::Uniform(limit) => stream.uniform(-limit, limit),
            Distribution::Normal(deviation) => deviation * stream.normal() as f32,
        };
        let values = (0..shape.iter().product()).map(|_| number()).collect();
        self.param(values, shape)
    }

    fn param<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Param<Tensor<D>> {
        let tensor = Tensor::from_data(TensorData::new(values, shape), self.device);
        Param::initialized(ParamId::new(), tensor)
    }
}
