//! A model's weights by name, out and in.
//!
//! The names are Keras's: `block0.attention.query.kernel`, `head.dense1.bias`, …; so are the
//! layouts (kernels as (in, out)), except that an attention kernel's (heads, key_dim) axes are
//! one.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

use super::Vit;
use crate::error::{Error, Result};

/// Numbers and their shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// Row major.
    pub values: Vec<f32>,
}

impl Array {
    /// A tensor's numbers.
    pub fn of<const D: usize>(tensor: Tensor<D>) -> Self {
        let shape = tensor.dims().to_vec();
        let values = tensor
            .into_data()
            .try_into_vec()
            .expect("every tensor of a model holds 32-bit floats");
        Self { shape, values }
    }
}

/// Arrays by name.
pub type Arrays = BTreeMap<String, Array>;

/// Something done to every parameter, in the order of the model.
pub trait EachParameter {
    /// `name` is Keras's.
    fn visit<const D: usize>(&mut self, name: &str, value: Tensor<D>);
}

/// Visits every parameter's value with its name.
pub fn for_each(model: &Vit, each: &mut impl EachParameter) {
    struct Visitor<'a, E> {
        path: Path,
        each: &'a mut E,
    }
    impl<E: EachParameter> ModuleVisitor for Visitor<'_, E> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.0.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.each.visit(&self.path.name(), param.val());
        }
    }
    model.visit(&mut Visitor {
        path: Path::default(),
        each,
    });
}

/// A change to every parameter, in the order of the model.
pub trait MapParameter {
    /// The new value, of the same shape.
    fn map<const D: usize>(&mut self, name: &str, value: Tensor<D>) -> Tensor<D>;
}

/// The model with every parameter changed.
pub fn map(model: Vit, each: &mut impl MapParameter) -> Vit {
    struct Mapper<'a, E> {
        path: Path,
        each: &'a mut E,
    }
    impl<E: MapParameter> ModuleMapper for Mapper<'_, E> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.0.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.0.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, value, mapper) = param.consume();
            let value = self.each.map(&self.path.name(), value);
            Param::from_mapped_value(id, value, mapper)
        }
    }
    model.map(&mut Mapper {
        path: Path::default(),
        each,
    })
}

/// All weights.
pub fn weights(model: &Vit) -> Arrays {
    struct Collect(Arrays);
    impl EachParameter for Collect {
        fn visit<const D: usize>(&mut self, name: &str, value: Tensor<D>) {
            self.0.insert(name.into(), Array::of(value));
        }
    }
    let mut collect = Collect(Arrays::new());
    for_each(model, &mut collect);
    collect.0
}

/// The model with these weights. Each name must be there, with as many numbers as the model has
/// (an attention kernel may have its heads apart), and no other; `place` is for the message.
pub fn load(model: Vit, weights: &Arrays, place: impl ToString) -> Result<Vit> {
    struct Load<'a> {
        weights: &'a Arrays,
        used: usize,
        problem: Option<String>,
    }
    impl MapParameter for Load<'_> {
        fn map<const D: usize>(&mut self, name: &str, value: Tensor<D>) -> Tensor<D> {
            let shape = value.dims();
            match self.weights.get(name) {
                Some(array) if fits(&array.shape, &shape) => {
                    self.used += 1;
                    let data = TensorData::new(array.values.clone(), shape);
                    return Tensor::from_data(data, &value.device());
                }
                Some(array) => self.problem.get_or_insert_with(|| {
                    format!("the weight {name} is {:?}, not {shape:?}", array.shape)
                }),
                None => self
                    .problem
                    .get_or_insert_with(|| format!("the weight {name} is missing")),
            };
            value
        }
    }
    let mut each = Load {
        weights,
        used: 0,
        problem: None,
    };
    let model = map(model, &mut each);
    let remedy = "the weights and the configuration must come from the same model";
    if let Some(problem) = each.problem {
        return Err(Error::model(place, problem, remedy));
    }
    if each.used != weights.len() {
        let known = self::weights(&model);
        let unknown = weights.keys().find(|name| !known.contains_key(*name));
        return Err(Error::model(
            place,
            format!(
                "the weight {} is none of this model's",
                unknown.map_or("", String::as_str)
            ),
            remedy,
        ));
    }
    Ok(model)
}

/// Whether an array can become a parameter: the same shape, or with two neighbouring axes of the
/// array for one of the parameter's (an attention's heads).
fn fits(array: &[usize], parameter: &[usize]) -> bool {
    array == parameter
        || (array.len() == parameter.len() + 1
            && (0..parameter.len()).any(|axis| {
                array[..axis] == parameter[..axis]
                    && array[axis].checked_mul(array[axis + 1]) == Some(parameter[axis])
                    && array[axis + 2..] == parameter[axis + 1..]
            }))
}

/// Where a traversal is, as the names of the modules it has entered.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    /// Keras's name of the parameter that the path leads to.
    fn name(&self) -> String {
        let parts: Vec<&str> = self.0.iter().map(String::as_str).collect();
        match parts[..] {
            ["blocks", block, "mlp", "layers", layer, leaf] => {
                format!("block{block}.mlp.{}.{leaf}", dense(layer))
            }
            ["blocks", block, ref rest @ ..] => format!("block{block}.{}", rest.join(".")),
            ["head", "layers", layer, leaf] => format!("head.{}.{leaf}", dense(layer)),
            ["logits", leaf] => format!("head.logits.{leaf}"),
            _ => parts.join("."),
        }
    }
}

/// Keras counts dense layers from 1.
fn dense(layer: &str) -> String {
    let number: usize = layer.parse().unwrap_or_default();
    format!("dense{}", number + 1)
}
