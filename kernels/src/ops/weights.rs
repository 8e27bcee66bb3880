//! Parameters prepared for many images: packed once, shared by all threads.

use std::fmt;
use std::sync::Arc;

use crate::matrix::{Matrix, Operand, Precision};

/// Whoever holds a parameter's numbers.
pub trait Values: Send + Sync {
    /// The numbers, row major.
    fn values(&self) -> &[f32];
}

impl Values for Vec<f32> {
    fn values(&self) -> &[f32] {
        self
    }
}

/// Which way an image goes: kernels are multiplied by as they are, or transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From pixels to logits.
    Forward,
    /// From the loss back.
    Backward,
}

/// An operation's parameters for one direction.
///
/// They live as long as the parameters stay as they are: a training step. What is packed, or
/// worked into another, is so once for all images and threads.
pub struct Weights {
    values: Vec<Arc<dyn Values>>,
    derived: Vec<Vec<f32>>,
    kernels: Vec<Operand<'static>>,
    direction: Direction,
    precision: Precision,
}

/// Whose numbers.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// A parameter's, by its place.
    Parameter(usize),
    /// Those of a [derived](Weights::derive) array, by its place.
    Derived(usize),
}

impl Weights {
    /// Parameters in their operation's order.
    pub fn new(values: Vec<Arc<dyn Values>>, direction: Direction, precision: Precision) -> Self {
        Self {
            values,
            derived: vec![],
            kernels: vec![],
            direction,
            precision,
        }
    }

    /// A parameter's numbers.
    pub fn parameter(&self, place: usize) -> &[f32] {
        self.values[place].values()
    }

    /// Keeps what was made of parameters; returns its place.
    pub fn derive(&mut self, values: Vec<f32>) -> usize {
        self.derived.push(values);
        self.derived.len() - 1
    }

    /// A derived array's numbers.
    pub fn derived(&self, place: usize) -> &[f32] {
        &self.derived[place]
    }

    /// Adds a kernel, `[rows, columns]`, to be multiplied by: as it is on the way forward, its
    /// transpose on the way back. Returns its place.
    pub fn add_kernel(&mut self, source: Source, rows: usize, columns: usize) -> usize {
        let direction = self.direction;
        self.add_part(source, rows, columns, |matrix| match direction {
            Direction::Forward => matrix,
            Direction::Backward => matrix.t(),
        })
    }

    /// Adds what `part` takes of a kernel, `[rows, columns]`, to be multiplied by. Returns its place.
    pub fn add_part(
        &mut self,
        source: Source,
        rows: usize,
        columns: usize,
        part: impl FnOnce(Matrix) -> Matrix,
    ) -> usize {
        let matrix = self.matrix(source, rows, columns);
        self.kernels.push(self.precision.operand(part(matrix)));
        self.kernels.len() - 1
    }

    /// A kernel to multiply by.
    pub fn kernel(&self, place: usize) -> &Operand<'static> {
        &self.kernels[place]
    }

    fn matrix(&self, source: Source, rows: usize, columns: usize) -> Matrix<'_> {
        let values = match source {
            Source::Parameter(place) => self.parameter(place),
            Source::Derived(place) => self.derived(place),
        };
        Matrix::new(values, rows, columns)
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { direction, .. } = self;
        write!(f, "{} parameters, {direction:?}", self.values.len())
    }
}
