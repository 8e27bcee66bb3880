//! A model's parameters by name: out and in, first values, and the names others give them.
//!
//! **A parameter's name is its path through the model's fields**, as `blocks.3.attention.qkv.kernel`.
//! It is the parameter's identity: in files, in messages, in [groups](crate::train::groups), and for
//! the stream that its first values come from ([`init`]). [`keras`] and [`pytorch`] translate the
//! names and layouts of other programs' files, and of this program's older ones.

pub mod init;
pub mod keras;
pub mod pytorch;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use smallvit_kernels::ops::Values;

use crate::error::{Error, Result};
use crate::models::Model;
use crate::nn::fused;

/// Names of parameters and sites of random numbers that were renamed: what they are called now, and
/// first were. `*` is a number in both.
const RENAMED: [(&str, &str); 0] = [];

/// The name that a parameter's, or a site's, stream is keyed by: the first that it had.
pub fn first_name(name: &str) -> Cow<'_, str> {
    let renamed = RENAMED
        .iter()
        .find_map(|(now, first)| renamed(name, now, first));
    renamed.map_or(Cow::Borrowed(name), Cow::Owned)
}

/// What `name` was, if it is one of those called `now`.
fn renamed(name: &str, now: &str, first: &str) -> Option<String> {
    let mut numbers = vec![];
    let (mut parts, mut wanted) = (name.split('.'), now.split('.'));
    loop {
        match (parts.next(), wanted.next()) {
            (None, None) => break,
            (Some(part), Some("*")) if part.parse::<usize>().is_ok() => numbers.push(part),
            (Some(part), Some(wanted)) if part == wanted => {}
            _ => return None,
        }
    }
    let mut numbers = numbers.into_iter();
    let part = |part| match part {
        "*" => numbers.next().unwrap_or(part),
        _ => part,
    };
    Some(first.split('.').map(part).collect::<Vec<_>>().join("."))
}

/// Numbers and their shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// Row major.
    pub values: Vec<f32>,
}

impl Array {
    /// The same numbers in another shape. Panics where they are not as many.
    pub fn reshaped(mut self, shape: impl Into<Vec<usize>>) -> Self {
        self.shape = shape.into();
        let count = self
            .shape
            .iter()
            .try_fold(1, |n: usize, &m| n.checked_mul(m));
        assert!(self.values.is_empty() || count == Some(self.values.len()));
        self
    }

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

/// Numbers and their shape, to be read only: where they lie, without a copy, if that is in this machine's
/// memory.
#[derive(Clone)]
pub struct View {
    /// Length of each axis.
    pub shape: Vec<usize>,
    numbers: Arc<dyn Values>,
}

impl View {
    /// Of a tensor.
    pub fn of<const D: usize>(tensor: Tensor<D>) -> Self {
        Self {
            shape: tensor.dims().to_vec(),
            numbers: fused::held(tensor),
        }
    }

    /// The numbers, row major.
    pub fn numbers(&self) -> &[f32] {
        self.numbers.values()
    }
}

impl From<Array> for View {
    fn from(array: Array) -> Self {
        Self {
            shape: array.shape,
            numbers: Arc::new(array.values),
        }
    }
}

/// Views by name.
pub type Views = BTreeMap<String, View>;

/// Every parameter's numbers. The model must stay as it is while they live: a step of training would
/// have to copy them.
pub fn views(model: &Model) -> Views {
    struct Collect(Views);
    impl EachParameter for Collect {
        fn visit<const D: usize>(&mut self, name: &str, value: Tensor<D>) {
            self.0.insert(name.into(), View::of(value));
        }
    }
    let mut collect = Collect(Views::new());
    for_each(model, &mut collect);
    collect.0
}

/// Arrays by name.
pub type Arrays = BTreeMap<String, Array>;

/// Lengths of each array's axes, by name.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// Something done to every parameter, in the order of the model.
pub trait EachParameter {
    /// Its name and value.
    fn visit<const D: usize>(&mut self, name: &str, value: Tensor<D>);
}

/// Visits every parameter's value with its name.
pub fn for_each(model: &Model, each: &mut impl EachParameter) {
    struct Visitor<'a, E> {
        path: Path,
        each: &'a mut E,
    }
    impl<E: EachParameter> ModuleVisitor for Visitor<'_, E> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, container: &str) {
            self.path.exit(container);
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

/// Every parameter's name and shape, in the order of the model. No value is asked for, so that a
/// blank model stays blank.
pub fn shapes(model: &Model) -> Vec<(String, Vec<usize>)> {
    #[derive(Default)]
    struct Visitor {
        path: Path,
        shapes: Vec<(String, Vec<usize>)>,
    }
    impl ModuleVisitor for Visitor {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, container: &str) {
            self.path.exit(container);
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let shape = param.lazy_shape().to_vec();
            self.shapes.push((self.path.name(), shape));
        }
    }
    let mut visitor = Visitor::default();
    model.visit(&mut visitor);
    visitor.shapes
}

/// A change to every parameter, in the order of the model.
pub trait MapParameter {
    /// The new value, of the same shape.
    fn map<const D: usize>(&mut self, name: &str, value: Tensor<D>) -> Tensor<D>;
}

/// The model with every parameter changed.
pub fn map(model: Model, each: &mut impl MapParameter) -> Model {
    struct Mapper<'a, E> {
        path: Path,
        each: &'a mut E,
    }
    impl<E: MapParameter> ModuleMapper for Mapper<'_, E> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, container: &str) {
            self.path.exit(container);
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
pub fn weights(model: &Model) -> Arrays {
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

/// The shapes of arrays.
pub fn shapes_of(arrays: &Arrays) -> Shapes {
    let shape = |(name, array): (&String, &Array)| (name.clone(), array.shape.clone());
    arrays.iter().map(shape).collect()
}

/// What to do about weights that are another model's.
const TOGETHER: &str = "the weights and the configuration must come from the same model";

/// Refuses arrays of these names and shapes unless they are exactly the model's parameters. The
/// first few that do not fit are named; `place` is for the message.
pub fn check_shapes(model: &Model, found: &Shapes, place: impl ToString) -> Result<()> {
    let wanted: Shapes = shapes(model).into_iter().collect();
    let of_model = wanted
        .iter()
        .filter_map(|(name, shape)| match found.get(name) {
            Some(found) if found == shape => None,
            Some(found) => Some(format!("the weight {name} is {found:?}, not {shape:?}")),
            None => Some(format!("the weight {name} is missing")),
        });
    let unknown = found.keys().filter(|name| !wanted.contains_key(*name));
    let unknown = unknown.map(|name| format!("the weight {name} is none of this model's"));
    match first_few(of_model.chain(unknown)) {
        Some(problem) => Err(Error::model(place, problem, TOGETHER)),
        None => Ok(()),
    }
}

/// Problems as one, the first three in words.
fn first_few(problems: impl Iterator<Item = String>) -> Option<String> {
    let all: Vec<String> = problems.collect();
    let named = all.get(..3).unwrap_or(&all).join("; ");
    match all.len() {
        0 => None,
        1..=3 => Some(named),
        count => Some(format!("{named}; and so on, {count} in all")),
    }
}

/// The model with these weights. Each name must be there, with the model's shape, and no other, and
/// each number must be one; `place` is for the message.
pub fn load(model: Model, weights: &Arrays, place: impl ToString) -> Result<Model> {
    struct Load<'a>(&'a Arrays);
    impl MapParameter for Load<'_> {
        fn map<const D: usize>(&mut self, name: &str, value: Tensor<D>) -> Tensor<D> {
            let data = TensorData::new(self.0[name].values.clone(), value.shape());
            Tensor::from_data(data, &value.device())
        }
    }
    check_shapes(&model, &shapes_of(weights), place.to_string())?;
    check_numbers(weights, place)?;
    Ok(map(model, &mut Load(weights)))
}

/// Refuses arrays with a number that is NaN or infinite. The first few are named; `place` is for the
/// message.
pub fn check_numbers(arrays: &Arrays, place: impl ToString) -> Result<()> {
    let wild = arrays.iter().filter_map(|(name, array)| {
        let wild = array.values.iter().filter(|value| !value.is_finite());
        let (count, all) = (wild.count(), array.values.len());
        (count > 0).then(|| format!("{name} is NaN or infinite at {count} of {all} places"))
    });
    match first_few(wild) {
        None => Ok(()),
        Some(problem) => Err(Error::model(
            place,
            problem,
            "such numbers answer nothing: take another file, or train again",
        )),
    }
}

/// Where a traversal is, as the names of the modules it has entered.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn enter(&mut self, name: &str, container: &str) {
        if !is_family(container) {
            self.0.push(name.into());
        }
    }

    fn exit(&mut self, container: &str) {
        if !is_family(container) {
            self.0.pop();
        }
    }

    /// The name of the parameter that the path leads to.
    fn name(&self) -> String {
        self.0.join(".")
    }
}

/// Whether a container is the choice of a family, which is no part of a name.
fn is_family(container: &str) -> bool {
    container.starts_with("Enum:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_parameter_keeps_its_first_name() {
        let (now, first) = ("blocks.*.mlp.in.kernel", "blocks.*.mlp.hidden.kernel");
        let renamed = |name| renamed(name, now, first);
        let was = Some("blocks.7.mlp.hidden.kernel".to_owned());
        assert_eq!(renamed("blocks.7.mlp.in.kernel"), was);
        for other in [
            "blocks.x.mlp.in.kernel",
            "blocks.7.mlp.in",
            "a.blocks.7.mlp.in.kernel",
        ] {
            assert_eq!(renamed(other), None, "{other}");
        }
        assert_eq!(first_name("sequence.position"), "sequence.position");
    }
}
