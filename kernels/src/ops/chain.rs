//! Operations one after another, as one: an image goes through all of them before the next is
//! touched, so that its numbers stay in a core's cache.

use std::ops::Range;
use std::sync::Arc;

use super::{Direction, ImageOp, ParameterSpec, Reach, Sizes, Values, Weights, split, take};

/// A chain of operations. What one gives is what the next takes.
#[derive(Debug)]
pub struct Chain {
    ops: Vec<Box<dyn ImageOp>>,
    sizes: Vec<Sizes>,
}

/// The parameters of a chain's operations, prepared for one direction.
#[derive(Debug)]
pub struct ChainWeights(Vec<Weights>);

/// A part of a chain that can take an image's rows in any portions: every operation in it but the
/// first makes each row of the same row alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The operations by number; none where there is only something to share.
    ops: Range<usize>,
    /// The operation after it, where that needs what all rows share.
    shares: Option<usize>,
    /// Rows that go out.
    pub rows: usize,
    /// Width of each, or 0 where no operation makes any.
    pub width: usize,
    /// Numbers a row that are shared with the next stage.
    pub shared: usize,
}

impl Chain {
    /// Panics where an operation does not take what the one before it gives, or there is none.
    pub fn new(ops: Vec<Box<dyn ImageOp>>) -> Self {
        let sizes: Vec<Sizes> = ops.iter().map(|op| op.sizes()).collect();
        assert!(!sizes.is_empty(), "a chain has an operation");
        for pair in sizes.windows(2) {
            assert_eq!(
                (pair[0].rows_out, pair[0].width_out),
                (pair[1].rows_in, pair[1].width_in)
            );
        }
        Self { ops, sizes }
    }

    /// Each operation's parameters.
    pub fn parameters(&self) -> Vec<Vec<ParameterSpec>> {
        self.ops.iter().map(|op| op.parameters()).collect()
    }

    /// Each operation's sites of random numbers.
    pub fn sites(&self) -> Vec<&'static [&'static str]> {
        self.ops.iter().map(|op| op.sites()).collect()
    }

    /// What one image takes in all.
    pub fn sizes(&self) -> Sizes {
        let (first, last) = (self.sizes[0], self.sizes[self.sizes.len() - 1]);
        // Between the operations; each but the first reads its input again on the way back.
        let between = self.sizes[1..].iter().map(Sizes::input);
        let widest = between.clone().max().unwrap_or(0);
        let own = self.sizes.iter().map(|sizes| sizes.scratch).max();
        Sizes {
            rows_in: first.rows_in,
            width_in: first.width_in,
            rows_out: last.rows_out,
            width_out: last.width_out,
            kept: self.sizes.iter().map(|sizes| sizes.kept).sum::<usize>() + between.sum::<usize>(),
            scratch: own.unwrap_or(0) + 2 * widest,
        }
    }

    /// Multiplications of one image's forward pass, in all matrix products.
    pub fn macs(&self) -> u64 {
        self.ops.iter().map(|op| op.macs()).sum()
    }

    /// The parameters, all operations' one after another, prepared for one direction. Panics where
    /// they are not as many, or not as long, as the operations say.
    pub fn weights(&self, values: Vec<Arc<dyn Values>>, direction: Direction) -> ChainWeights {
        let mut values = values.into_iter();
        let mut all = vec![];
        for op in &self.ops {
            let specs = op.parameters();
            let own: Vec<_> = values.by_ref().take(specs.len()).collect();
            assert_eq!(own.len(), specs.len(), "every parameter is there");
            for (values, spec) in own.iter().zip(&specs) {
                assert_eq!(values.values().len(), spec.count(), "{}", spec.name);
            }
            all.push(op.weights(own, direction));
        }
        assert!(values.next().is_none(), "and no other");
        ChainWeights(all)
    }

    /// Whether [`Chain::backward`] takes an empty `dx`: see [`ImageOp::skips_input_gradient`].
    pub fn skips_input_gradient(&self) -> bool {
        self.ops[0].skips_input_gradient()
    }

    /// Sums for the gradients of all operations, 0 at first.
    pub fn sums(&self) -> Vec<Vec<Vec<f32>>> {
        let zeros = |lengths: Vec<usize>| lengths.into_iter().map(|n| vec![0.0; n]).collect();
        self.ops.iter().map(|op| zeros(op.sums())).collect()
    }

    /// The gradients of all parameters, one after another, from the sums over all images.
    pub fn gradients(&self, weights: &ChainWeights, sums: Vec<Vec<Vec<f32>>>) -> Vec<Vec<f32>> {
        let ops = self.ops.iter().zip(&weights.0).zip(sums);
        ops.flat_map(|((op, weights), sums)| op.gradients(weights, sums))
            .collect()
    }

    /// The keys of operation `number`, of those of all.
    fn keys<'a>(&self, number: usize, keys: Option<&'a [u64]>) -> Option<&'a [u64]> {
        let before: usize = self.ops[..number].iter().map(|op| op.sites().len()).sum();
        keys.map(|keys| &keys[before..][..self.ops[number].sites().len()])
    }

    /// One image: `x` → `y`, as [`ImageOp::forward`].
    pub fn forward(
        &self,
        weights: &ChainWeights,
        x: &[f32],
        y: &mut [f32],
        mut kept: &mut [f32],
        keys: Option<&[u64]>,
        scratch: &mut [f32],
    ) {
        let last = self.ops.len() - 1;
        let mut x = x;
        for (number, op) in self.ops.iter().enumerate() {
            let own = take(&mut kept, self.sizes[number].kept);
            let (weights, keys) = (&weights.0[number], self.keys(number, keys));
            if number == last {
                op.forward(weights, x, y, own, keys, scratch);
            } else {
                let between = take(&mut kept, self.sizes[number].output());
                op.forward(weights, x, between, own, keys, scratch);
                x = between;
            }
        }
    }

    /// One image, back: `dy` → `dx`, as [`ImageOp::backward`].
    #[expect(clippy::too_many_arguments, reason = "what came in and what goes back")]
    pub fn backward(
        &self,
        weights: &ChainWeights,
        sums: &mut [Vec<Vec<f32>>],
        x: &[f32],
        mut kept: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        keys: Option<&[u64]>,
        mut scratch: &mut [f32],
    ) {
        let widest = self.sizes[1..].iter().map(Sizes::input).max().unwrap_or(0);
        let mut from = take(&mut scratch, widest);
        let mut to = take(&mut scratch, widest);
        // Each operation's own numbers, and its input.
        let mut inputs = vec![];
        let mut input = x;
        for sizes in &self.sizes {
            let own = split(&mut kept, sizes.kept);
            inputs.push((own, input));
            if inputs.len() < self.sizes.len() {
                input = split(&mut kept, sizes.output());
            }
        }
        let mut dx = Some(dx);
        for (number, (own, input)) in inputs.into_iter().enumerate().rev() {
            let op = &self.ops[number];
            let (weights, keys) = (&weights.0[number], self.keys(number, keys));
            let dy = if number == self.ops.len() - 1 {
                dy
            } else {
                &from[..self.sizes[number].output()]
            };
            let d_input = match number {
                0 => dx.take().expect("the first operation comes last"),
                _ => &mut to[..self.sizes[number].input()],
            };
            op.backward(
                weights,
                &mut sums[number],
                input,
                own,
                dy,
                d_input,
                keys,
                scratch,
            );
            std::mem::swap(&mut from, &mut to);
        }
    }

    /// The chain's parts for [`Chain::infer`], in order.
    pub fn stages(&self) -> Vec<Stage> {
        let shared = |number: usize| match self.ops.get(number).map(|op| op.reach()) {
            Some(Reach::Shared(numbers)) => Some(numbers),
            _ => None,
        };
        let mut stages = vec![];
        let mut first = 0;
        if let Some(numbers) = shared(0) {
            stages.push(Stage {
                ops: 0..0,
                shares: Some(0),
                rows: self.sizes[0].rows_in,
                width: 0,
                shared: numbers,
            });
        }
        while first < self.ops.len() {
            let rest = &self.ops[first + 1..];
            let alone = rest.iter().take_while(|op| op.reach() == Reach::Row);
            let end = first + 1 + alone.count();
            stages.push(Stage {
                ops: first..end,
                shares: shared(end).map(|_| end),
                rows: self.sizes[end - 1].rows_out,
                width: self.sizes[end - 1].width_out,
                shared: shared(end).unwrap_or(0),
            });
            first = end;
        }
        stages
    }

    /// Some rows of a stage's result, from number `first` on, nothing dropped and nothing kept.
    ///
    /// `x` is what the stage before gave, or the image; `shared` what it shared; both whole. `y`
    /// and `to_share` are these rows'. A stage without operations gives nothing but what it shares,
    /// and the next one takes its `x`.
    #[expect(clippy::too_many_arguments, reason = "two things in, two things out")]
    pub fn infer(
        &self,
        stage: &Stage,
        weights: &ChainWeights,
        x: &[f32],
        shared: &[f32],
        first: usize,
        rows: usize,
        y: &mut [f32],
        to_share: &mut [f32],
        mut scratch: &mut [f32],
    ) {
        let mut inputs = [&mut [][..], &mut [][..]];
        for input in &mut inputs {
            *input = take(&mut scratch, self.between(stage, rows));
        }
        let [mut from, mut to] = inputs;
        for number in stage.ops.clone() {
            let (op, weights) = (&self.ops[number], &weights.0[number]);
            // After the first, an operation's input is these rows alone.
            let (x, x_first) = if number == stage.ops.start {
                (x, 0)
            } else {
                (&from[..rows * self.sizes[number].width_in], first)
            };
            if number + 1 == stage.ops.end {
                op.infer(weights, x, x_first, shared, first, y, scratch);
            } else {
                let to = &mut to[..rows * self.sizes[number].width_out];
                op.infer(weights, x, x_first, shared, first, to, scratch);
            }
            std::mem::swap(&mut from, &mut to);
        }
        if let Some(next) = stage.shares {
            let input = if stage.ops.is_empty() {
                let width = self.sizes[next].width_in;
                &x[first * width..][..rows * width]
            } else {
                y
            };
            self.ops[next].share(&weights.0[next], input, to_share, scratch);
        }
    }

    /// Numbers of these rows between a stage's operations.
    fn between(&self, stage: &Stage, rows: usize) -> usize {
        let ends = stage.ops.clone().skip(1);
        let widths = ends.map(|number| self.sizes[number].width_in);
        rows * widths.max().unwrap_or(0)
    }

    /// Room that [`Chain::infer`] needs for so many rows of a stage.
    pub fn inference_scratch(&self, stage: &Stage, rows: usize) -> usize {
        let numbers = stage.ops.clone().chain(stage.shares);
        let own = numbers.map(|number| self.ops[number].inference_scratch(rows));
        own.max().unwrap_or(0) + 2 * self.between(stage, rows)
    }
}
