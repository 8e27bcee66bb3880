//! A batch's gradients by parameter, and the check that none is left out.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::models::Model;
use crate::nn::head::DeferredGradient;
use crate::params::{self, Array, EachParameter, View};

/// A parameter of a model: its name, and the length of each axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// As in the model's file.
    pub name: String,
    /// Length of each axis.
    pub shape: Vec<usize>,
}

/// A model's parameters, in its order. Refuses a name that occurs twice.
pub fn parameters(model: &Model) -> Result<Vec<Parameter>> {
    let shapes = params::shapes(model).into_iter();
    let all: Vec<Parameter> = shapes
        .map(|(name, shape)| Parameter { name, shape })
        .collect();
    unique(&all)?;
    Ok(all)
}

fn unique(parameters: &[Parameter]) -> Result<()> {
    let mut names: Vec<&str> = parameters.iter().map(|p| p.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(Error::model(
            pair[0],
            "two parameters have this name, so that one would be lost",
            "give each parameter of the model a path of its own",
        )),
    }
}

/// A parameter's gradient, without autodiff.
#[derive(Debug)]
pub enum Gradient {
    /// Its numbers, flat.
    Formed(Tensor<1>),
    /// A large kernel's: what it is formed of.
    Deferred(DeferredGradient),
}

impl Gradient {
    /// Its numbers, flat.
    pub fn formed(self) -> Tensor<1> {
        match self {
            Self::Formed(numbers) => numbers,
            Self::Deferred(gradient) => flat(gradient.whole()),
        }
    }

    /// The same, to be gone through in parts.
    pub(super) fn parts(self) -> Parts {
        match self {
            Self::Formed(numbers) => Parts::Formed(View::of(numbers)),
            Self::Deferred(gradient) => Parts::Deferred(gradient),
        }
    }
}

/// A gradient's numbers, some at a time.
pub(super) enum Parts {
    Formed(View),
    Deferred(DeferredGradient),
}

impl Parts {
    /// Numbers in a part of one that is formed.
    const FORMED: usize = 1 << 15;

    /// How many numbers a part has; the last one may have fewer.
    pub fn length(&self) -> usize {
        match self {
            Self::Formed(_) => Self::FORMED,
            Self::Deferred(gradient) => gradient.part_length(),
        }
    }

    /// Gives a part to `with`, which is formed for it where none is yet.
    pub fn part<T>(&self, number: usize, with: impl FnOnce(&[f32]) -> T) -> T {
        match self {
            Self::Formed(view) => {
                let rest = &view.numbers()[number * Self::FORMED..];
                with(&rest[..rest.len().min(Self::FORMED)])
            }
            Self::Deferred(gradient) => gradient.part(number, with),
        }
    }
}

impl From<Tensor<1>> for Gradient {
    fn from(numbers: Tensor<1>) -> Self {
        Self::Formed(numbers)
    }
}

impl From<DeferredGradient> for Gradient {
    fn from(gradient: DeferredGradient) -> Self {
        Self::Deferred(gradient)
    }
}

/// Gradients by parameter.
#[derive(Debug, Default)]
pub struct Gradients(BTreeMap<String, Gradient>);

impl Gradients {
    /// What Burn's backward pass found for this model's parameters; nothing where a parameter took
    /// no part.
    pub fn of(model: &Model, mut found: burn::tensor::Gradients) -> Result<Self> {
        struct Collect<'a> {
            found: &'a mut burn::tensor::Gradients,
            flat: Result<Gradients>,
        }
        impl EachParameter for Collect<'_> {
            fn visit<const D: usize>(&mut self, name: &str, value: Tensor<D>) {
                let (Some(gradient), Ok(flat)) = (value.grad_remove(self.found), &mut self.flat)
                else {
                    return;
                };
                let length = gradient.shape().num_elements();
                if let Err(error) = flat.insert(name, gradient.reshape([length])) {
                    self.flat = Err(error);
                }
            }
        }
        let mut collect = Collect {
            found: &mut found,
            flat: Ok(Self::default()),
        };
        params::for_each(model, &mut collect);
        collect.flat
    }

    /// One more. Refuses a second gradient of the same parameter: they would have to be added, and
    /// whoever has both must know.
    pub fn insert(&mut self, name: impl Into<String>, gradient: impl Into<Gradient>) -> Result<()> {
        match self.0.entry(name.into()) {
            Entry::Vacant(place) => {
                place.insert(gradient.into());
                Ok(())
            }
            Entry::Occupied(place) => Err(used_twice(place.key())),
        }
    }

    /// The sum with the gradients of another part of the batch.
    pub fn plus(mut self, other: Self) -> Self {
        for (name, gradient) in other.0 {
            let sum = match self.0.remove(&name) {
                Some(sum) => add(sum.formed(), gradient.formed()).into(),
                None => gradient,
            };
            self.0.insert(name, sum);
        }
        self
    }

    /// The same, known to be one gradient for each of these parameters and no other. Else the first
    /// that is missing or too many is named: a parameter without a gradient would stay as it is
    /// for the whole run, without anyone's knowing.
    pub fn checked<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Result<Checked> {
        let mut unknown: BTreeSet<&str> = self.0.keys().map(String::as_str).collect();
        for name in names {
            if !unknown.remove(name) {
                let problem = if self.0.contains_key(name) {
                    "two parameters have this name, so that one would be lost"
                } else {
                    "this parameter has no gradient: it takes no part in the loss"
                };
                return Err(Error::model(name, problem, "mend the model's forward pass"));
            }
        }
        match unknown.first() {
            None => Ok(Checked(self)),
            Some(&name) => Err(Error::model(
                name,
                "there is a gradient of this name, but no parameter",
                "mend the model's backward pass: the names must be the parameters'",
            )),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers of each with its name, in the order of names.
    pub fn formed(self) -> impl Iterator<Item = (String, Tensor<1>)> {
        let formed = |(name, gradient): (_, Gradient)| (name, gradient.formed());
        self.0.into_iter().map(formed)
    }
}

/// Gradients of exactly a model's parameters: what an optimizer takes.
#[derive(Debug)]
pub struct Checked(Gradients);

impl Checked {
    /// The norm of all together; each gradient is formed for it.
    pub(super) fn norm(&mut self) -> f64 {
        let mut squares = Squares::default();
        for (name, gradient) in std::mem::take(&mut self.0.0) {
            let numbers = gradient.formed();
            squares.add(&numbers);
            self.0.0.insert(name, numbers.into());
        }
        squares.root()
    }

    /// Takes one out.
    pub(super) fn take(&mut self, name: &str) -> Option<Gradient> {
        self.0.0.remove(name)
    }
}

/// A sum of squares: in one order, whatever the number of threads.
#[derive(Default)]
pub(super) struct Squares {
    sum: f64,
    /// Of numbers on another device: they are asked for once, at the end.
    elsewhere: Option<Tensor<1>>,
}

impl Squares {
    /// Takes in a tensor's numbers.
    pub fn add(&mut self, numbers: &Tensor<1>) {
        /// Numbers that a thread takes at a time.
        const CHUNK: usize = 1 << 15;
        if numbers.device() != Device::flex() {
            let own = (numbers.clone() * numbers.clone()).sum();
            self.elsewhere = Some(match self.elsewhere.take() {
                Some(sum) => sum + own,
                None => own,
            });
            return;
        }
        let view = View::of(numbers.clone());
        let chunks = view.numbers().par_chunks(CHUNK);
        let parts: Vec<f64> = chunks.map(squares_of).collect();
        self.add_parts(parts);
    }

    /// Takes in the squares of parts, in their order.
    pub fn add_parts(&mut self, parts: impl IntoIterator<Item = f64>) {
        self.sum = parts.into_iter().fold(self.sum, |sum, part| sum + part);
    }

    /// The root of the whole sum.
    pub fn root(self) -> f64 {
        let elsewhere = self.elsewhere.map(|sum| Array::of(sum).values);
        let elsewhere = elsewhere.map_or(0.0, |sum| f64::from(sum[0]));
        (self.sum + elsewhere).sqrt()
    }
}

/// Σ numbers²
pub(super) fn squares_of(numbers: &[f32]) -> f64 {
    let mut sum = 0.0;
    smallvit_kernels::math::add_squares(numbers, &mut sum);
    sum
}

/// a + b; on the CPU in place.
fn add(a: Tensor<1>, b: Tensor<1>) -> Tensor<1> {
    if a.device() != Device::flex() {
        return a + b;
    }
    // These tensors have no other owner, so that none of them is copied.
    let (mut sum, b) = (Array::of(a).values, Array::of(b).values);
    smallvit_kernels::math::add(&mut sum, &b);
    flat(sum)
}

/// On the CPU.
fn flat(values: Vec<f32>) -> Tensor<1> {
    let length = [values.len()];
    Tensor::from_data(TensorData::new(values, length), &Device::flex())
}

/// The error of a parameter that has two gradients.
pub(super) fn used_twice(name: &str) -> Error {
    Error::model(
        name,
        "this parameter has two gradients: it is used twice",
        "let one layer alone use it, or add its gradients up",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradients(names: &[&str]) -> Gradients {
        let mut gradients = Gradients::default();
        for name in names {
            let one = Tensor::from_data([1.0f32, 2.0], &Device::flex());
            gradients.insert(*name, one).unwrap();
        }
        gradients
    }

    fn refused<T>(result: Result<T>, parts: &[&str]) {
        let error = result.err().expect("it is refused");
        for part in parts {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(!error.remedy().is_empty());
    }

    #[test]
    fn nothing_is_left_out_silently() {
        let checked = gradients(&["a", "b"]).checked(["b", "a"]).unwrap();
        assert_eq!(checked.0.len(), 2);
        refused(
            gradients(&["a"]).checked(["a", "b.kernel"]),
            &["b.kernel", "no gradient"],
        );
        refused(
            gradients(&["a", "b.kernel"]).checked(["a"]),
            &["b.kernel", "no parameter"],
        );
        refused(gradients(&["a"]).checked(["a", "a"]), &["a: two"]);
        let again = Tensor::from_data([1.0f32], &Device::flex());
        refused(
            gradients(&["a", "b"]).insert("b", again),
            &["b", "two gradients"],
        );
    }

    #[test]
    fn two_parameters_of_one_name_are_refused() {
        let parameter = |name: &str| Parameter {
            name: name.into(),
            shape: vec![1],
        };
        let (a, b) = (parameter("blocks.0.tau"), parameter("blocks.1.tau"));
        assert!(unique(&[a.clone(), b.clone()]).is_ok());
        refused(
            unique(&[a.clone(), b, a]),
            &["blocks.0.tau", "two parameters"],
        );
    }

    #[test]
    fn parts_add_up_by_name() {
        let sum = gradients(&["a", "b"]).plus(gradients(&["b", "c"]));
        assert_eq!(sum.len(), 3);
        let sum: BTreeMap<String, Tensor<1>> = sum.formed().collect();
        let values = |name: &str| sum[name].to_data().try_into_vec::<f32>().unwrap();
        assert_eq!(values("a"), [1.0, 2.0]);
        assert_eq!(values("b"), [2.0, 4.0]);
        assert_eq!(values("c"), [1.0, 2.0]);
    }
}
