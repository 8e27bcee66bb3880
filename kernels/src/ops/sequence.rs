//! The sequence that the encoder sees: a class token in front (Devlin and others, arXiv
//! 1810.04805; Dosovitskiy and others, arXiv 2010.11929, equation 1), and positions added, learned ones or
//! others.

use std::sync::Arc;

use super::{Direction, ImageOp, ParameterSpec, Reach, Sizes, Values, Weights, add_rows};
use crate::math::add;
use crate::matrix::Precision;

/// What is added to tell tokens where they are.
#[derive(Clone, Debug)]
pub enum Positions {
    /// Learned numbers, the class token's too.
    Learned,
    /// These, `[token, dim]`, the class token's first where there is one.
    Fixed(Arc<[f32]>),
    /// Nothing.
    None,
}

/// Tokens → \[class token; tokens\] + positions.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Tokens that come in.
    pub tokens: usize,
    /// Width of a token.
    pub dim: usize,
    /// Whether a class token comes first.
    pub class_token: bool,
    /// What is added.
    pub positions: Positions,
}

/// The place of the positions, where they are learned; the class token comes after them.
const POSITION: usize = 0;

impl Sequence {
    /// Tokens that go out.
    fn length(&self) -> usize {
        self.tokens + self.before()
    }

    fn before(&self) -> usize {
        usize::from(self.class_token)
    }

    fn learned(&self) -> bool {
        matches!(self.positions, Positions::Learned)
    }

    /// The place of the class token.
    fn class(&self) -> usize {
        usize::from(self.learned())
    }
}

impl ImageOp for Sequence {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let mut all = vec![];
        if self.learned() {
            all.push(ParameterSpec::new("position", [self.length(), self.dim]));
        }
        if self.class_token {
            all.push(ParameterSpec::new("class_token", [self.dim]));
        }
        all
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            rows_in: self.tokens,
            width_in: self.dim,
            rows_out: self.length(),
            width_out: self.dim,
            kept: 0,
            scratch: 0,
        }
    }

    fn macs(&self) -> u64 {
        0
    }

    fn weights(&self, values: Vec<Arc<dyn Values>>, direction: Direction) -> Weights {
        Weights::new(values, direction, Precision::F32)
    }

    fn forward(
        &self,
        weights: &Weights,
        x: &[f32],
        y: &mut [f32],
        _: &mut [f32],
        _: Option<&[u64]>,
        scratch: &mut [f32],
    ) {
        self.infer(weights, x, 0, &[], 0, y, scratch);
    }

    fn backward(
        &self,
        _: &Weights,
        sums: &mut [Vec<f32>],
        _: &[f32],
        _: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        _: Option<&[u64]>,
        _: &mut [f32],
    ) {
        if self.learned() {
            add(&mut sums[POSITION], dy);
        }
        let (class, rest) = dy.split_at(self.before() * self.dim);
        if self.class_token {
            add_rows(&mut sums[self.class()], class);
        }
        dx.copy_from_slice(rest);
    }

    fn reach(&self) -> Reach {
        if self.class_token {
            Reach::All
        } else {
            Reach::Row
        }
    }

    fn infer(
        &self,
        weights: &Weights,
        x: &[f32],
        x_first: usize,
        _: &[f32],
        first: usize,
        y: &mut [f32],
        _: &mut [f32],
    ) {
        let dim = self.dim;
        let rows = y.len() / dim;
        // The class token is row 0 of the result, and none of x.
        let own = self.before().saturating_sub(first).min(rows);
        let (class, rest) = y.split_at_mut(own * dim);
        if !class.is_empty() {
            class.copy_from_slice(weights.parameter(self.class()));
        }
        if !rest.is_empty() {
            let from = first + own - self.before() - x_first;
            rest.copy_from_slice(&x[from * dim..][..rest.len()]);
        }
        let positions = match &self.positions {
            Positions::Learned => weights.parameter(POSITION),
            Positions::Fixed(positions) => positions,
            Positions::None => return,
        };
        add(y, &positions[first * dim..][..rows * dim]);
    }

    fn inference_scratch(&self, _: usize) -> usize {
        0
    }
}
