//! What a batch's images are to be taken for.

use std::borrow::Cow;

/// The targets of a batch, an image each.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// Each image is of one class.
    Hard(Vec<u32>),
    /// Each image is of two, the second with the weight that the first leaves of 1.
    Mixed {
        /// The class of the image that another was mixed into.
        a: Vec<u32>,
        /// The class of the image that was mixed into it.
        b: Vec<u32>,
        /// The weight of `a`, in 0..=1.
        weight_a: Vec<f32>,
    },
}

impl From<Vec<u32>> for Targets {
    fn from(labels: Vec<u32>) -> Self {
        Self::Hard(labels)
    }
}

impl Targets {
    /// How many images they are for.
    pub fn len(&self) -> usize {
        match self {
            Self::Hard(labels) => labels.len(),
            Self::Mixed { a, .. } => a.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those of `count` images from the `first` on: a micro-batch's. Panics past the end, as a
    /// slice does.
    pub fn slice(&self, first: usize, count: usize) -> Self {
        let part = first..first + count;
        match self {
            Self::Hard(labels) => Self::Hard(labels[part].to_vec()),
            Self::Mixed { a, b, weight_a } => Self::Mixed {
                a: a[part.clone()].to_vec(),
                b: b[part.clone()].to_vec(),
                weight_a: weight_a[part].to_vec(),
            },
        }
    }

    /// One class an image, against which training accuracy is counted: the one of the larger
    /// weight, and `a` where both weigh ½.
    ///
    /// So a model that gives every image its targets' probabilities has an accuracy of 100 %. (The
    /// code of arXiv 2112.13492 counts against `a` always, which such a model would miss as often
    /// as `a` weighs less than ½.)
    pub fn dominant(&self) -> Cow<'_, [u32]> {
        match self {
            Self::Hard(labels) => Cow::Borrowed(labels),
            Self::Mixed { a, b, weight_a } => {
                let classes = a.iter().zip(b).zip(weight_a);
                Cow::Owned(
                    classes
                        .map(|((&a, &b), &weight)| if weight < 0.5 { b } else { a })
                        .collect(),
                )
            }
        }
    }

    /// Adds `scale` × the targets' probabilities to rows of so many classes.
    pub fn add_to(&self, rows: &mut [f32], classes: usize, scale: f32) {
        let rows = rows.chunks_exact_mut(classes).enumerate();
        match self {
            Self::Hard(labels) => {
                for (image, row) in rows {
                    row[labels[image] as usize] += scale;
                }
            }
            Self::Mixed { a, b, weight_a } => {
                for (image, row) in rows {
                    let weight = weight_a[image];
                    row[a[image] as usize] += scale * weight;
                    row[b[image] as usize] += scale * (1.0 - weight);
                }
            }
        }
    }

    /// Gives each image of a batch its partner's class besides its own, which keeps `weight_a`.
    /// Targets that are mixed already stay as they are.
    pub(super) fn pair(&mut self, partners: &[usize], weight_a: f32) {
        if let Self::Hard(a) = self {
            let b = partners.iter().map(|&partner| a[partner]).collect();
            *self = Self::Mixed {
                weight_a: vec![weight_a; a.len()],
                a: std::mem::take(a),
                b,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed() -> Targets {
        Targets::Mixed {
            a: vec![0, 1, 2, 3],
            b: vec![4, 1, 0, 2],
            weight_a: vec![0.25, 0.5, 0.5, 0.75],
        }
    }

    #[test]
    fn the_class_of_the_larger_weight_counts_and_the_first_of_equals() {
        assert_eq!(*mixed().dominant(), [4, 1, 2, 3]);
        assert_eq!(*Targets::Hard(vec![7, 5]).dominant(), [7, 5]);
    }

    #[test]
    fn a_micro_batch_has_its_own_part() {
        let part = Targets::Mixed {
            a: vec![1, 2],
            b: vec![1, 0],
            weight_a: vec![0.5, 0.5],
        };
        assert_eq!(mixed().slice(1, 2), part);
        assert_eq!(mixed().slice(0, 4), mixed());
        assert_eq!(Targets::Hard(vec![7, 5, 3]).slice(2, 1), vec![3].into());
        assert_eq!((mixed().len(), mixed().is_empty()), (4, false));
    }

    #[test]
    fn probabilities_add_up_on_the_classes() {
        let mut rows = [0.0; 20];
        mixed().add_to(&mut rows, 5, 2.0);
        let expected = [
            0.5, 0.0, 0.0, 0.0, 1.5, //
            0.0, 2.0, 0.0, 0.0, 0.0, //
            1.0, 0.0, 1.0, 0.0, 0.0, //
            0.0, 0.0, 0.5, 1.5, 0.0,
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn partners_lend_their_classes() {
        let mut targets = Targets::Hard(vec![5, 6, 7]);
        targets.pair(&[2, 0, 1], 0.25);
        let expected = Targets::Mixed {
            a: vec![5, 6, 7],
            b: vec![7, 5, 6],
            weight_a: vec![0.25; 3],
        };
        assert_eq!(targets, expected);
    }
}
