//! Loss and accuracies.

use burn::tensor::{Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};

use crate::augment::Targets;

/// What a training step's loss makes of targets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossConfig {
    /// Label smoothing ε.
    pub smoothing: f64,
    /// What each class's term of the loss is multiplied by; empty where all count the same.
    pub class_weights: Vec<f32>,
}

impl LossConfig {
    /// With this label smoothing alone.
    pub fn smoothed(smoothing: f64) -> Self {
        Self {
            smoothing,
            class_weights: vec![],
        }
    }
}

/// Softmax cross-entropy from logits, the mean over the batch: −Σ weight · target · log softmax(logits).
///
/// With label smoothing ε the target is 1 − ε + ε / K for the image's class and ε / K for each of
/// the others (Szegedy et al., arXiv 1512.00567, section 7). An image of two classes has
/// λ · CE(a) + (1 − λ) · CE(b), which is the cross-entropy of the mixture of the two smoothed
/// targets. `[image, class]` → `[1]`.
pub fn cross_entropy(logits: Tensor<2>, targets: &Targets, how: &LossConfig) -> Tensor<1> {
    let [images, classes] = logits.dims();
    let smoothing = how.smoothing;
    let mut rows = vec![(smoothing / classes as f64) as f32; images * classes];
    targets.add_to(&mut rows, classes, (1.0 - smoothing) as f32);
    if !how.class_weights.is_empty() {
        for row in rows.chunks_exact_mut(classes) {
            for (target, weight) in row.iter_mut().zip(&how.class_weights) {
                *target *= weight;
            }
        }
    }
    let targets = Tensor::from_data(TensorData::new(rows, [images, classes]), &logits.device());
    let log_probabilities = activation::log_softmax(logits, 1);
    (log_probabilities * targets).sum() / -(images as f32)
}

/// Sums over images, from which the means of an epoch come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Images counted.
    pub images: u64,
    /// Sum of the losses.
    pub loss: f64,
    /// Images whose class has the highest logit.
    pub top1: u64,
    /// Images whose class is among the five highest logits.
    pub top5: u64,
}

/// Means over images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Mean loss, in nats.
    pub loss: f64,
    /// Percent of images whose class has the highest logit.
    pub top1: f64,
    /// Percent of images whose class is among the five highest logits.
    pub top5: f64,
}

impl Sums {
    /// Adds a batch: its mean loss, its logits `[image, class]` in row-major order, and the class
    /// that each image counts as ([`Targets::dominant`] where it is of two).
    pub fn add(&mut self, loss: f64, logits: &[f32], labels: &[u32]) {
        let images = labels.len();
        self.images += images as u64;
        self.loss += loss * images as f64;
        for (logits, &label) in logits.chunks_exact(logits.len() / images).zip(labels) {
            let rank = rank(logits, label as usize);
            self.top1 += u64::from(rank == Some(0));
            self.top5 += u64::from(rank.is_some_and(|rank| rank < 5));
        }
    }

    /// The means; not a number where nothing was counted.
    pub fn means(&self) -> Metrics {
        let images = self.images as f64;
        Metrics {
            loss: self.loss / images,
            top1: 100.0 * self.top1 as f64 / images,
            top5: 100.0 * self.top5 as f64 / images,
        }
    }
}

/// The standard error of an accuracy in percent over that many images, in percentage points:
/// 100 · √(p (1 − p) / n), of n independent answers of which each is right with probability p.
///
/// ```
/// use smallvit::train::metrics::standard_error;
/// assert!((standard_error(90.0, 900) - 1.0).abs() < 1e-9);
/// ```
pub fn standard_error(percent: f64, images: u64) -> f64 {
    let share = percent / 100.0;
    100.0 * (share * (1.0 - share) / images as f64).sqrt()
}

/// How many classes come before this one, by logit and, among equals, by number. None where a
/// logit is not a number: such an image counts as wrong.
pub fn rank(logits: &[f32], class: usize) -> Option<usize> {
    let own = logits[class];
    let before = |(other, &logit): (usize, &f32)| logit > own || (logit == own && other < class);
    let finite = logits.iter().all(|logit| logit.is_finite());
    finite.then(|| logits.iter().enumerate().filter(|&c| before(c)).count())
}

/// One image's cross-entropy, ln Σ exp(logits) − logit of its class, in nats.
pub fn image_loss(logits: &[f32], class: usize) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&l| (f64::from(l) - most).exp()).sum();
    sum.ln() + most - f64::from(logits[class])
}

/// Softmax of one image's logits.
pub fn probabilities(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits
        .iter()
        .map(|&logit| f64::from(logit - most).exp())
        .collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn label_smoothing_moves_the_target() {
        let logits = [1.0f32, 2.0, -1.0, 0.5];
        let log_sum = logits.iter().map(|&l| f64::from(l).exp()).sum::<f64>().ln();
        // ε = 0.2 over 4 classes: 0.85 on class 3, 0.05 on the others.
        let expected: f64 = logits
            .iter()
            .zip([0.05, 0.05, 0.05, 0.85])
            .map(|(&logit, target)| -target * (f64::from(logit) - log_sum))
            .sum();
        let logits = Tensor::from_data(TensorData::new(logits.to_vec(), [1, 4]), &Device::flex());
        let loss: f32 = cross_entropy(logits.clone(), &vec![3].into(), &LossConfig::smoothed(0.2))
            .into_scalar();
        assert!((f64::from(loss) - expected).abs() < 1e-6);
        // Weights multiply each class's term.
        let how = LossConfig {
            smoothing: 0.2,
            class_weights: vec![2.0; 4],
        };
        let twice: f32 = cross_entropy(logits.clone(), &vec![3].into(), &how).into_scalar();
        assert!((twice - 2.0 * loss).abs() < 1e-6);
        let how = LossConfig {
            smoothing: 0.0,
            class_weights: vec![9.0, 9.0, 9.0, 0.5],
        };
        let half: f32 = cross_entropy(logits, &vec![3].into(), &how).into_scalar();
        assert!((f64::from(half) - 0.5 * (log_sum - 0.5)).abs() < 1e-6);
    }

    const LOGITS: [f32; 15] = [
        1.0, 2.0, -1.0, 0.5, 0.0, //
        -3.0, 0.25, 4.0, 1.5, -0.5, //
        0.1, 0.2, 0.3, 0.4, 9.0,
    ];

    fn mixed() -> Targets {
        Targets::Mixed {
            a: vec![0, 2, 4],
            b: vec![3, 2, 1],
            weight_a: vec![0.3, 0.6, 1.0],
        }
    }

    /// The same in double precision, as its definition says: λ · CE(a) + (1 − λ) · CE(b), each
    /// CE (1 − ε) · −log p(class) + ε · the mean over all classes of −log p.
    fn reference(logits: &[f64], smoothing: f64) -> f64 {
        let images = [(0, 3, 0.3f32), (2, 2, 0.6), (4, 1, 1.0)];
        let sum: f64 = logits
            .chunks_exact(5)
            .zip(images)
            .map(|(logits, (a, b, weight))| {
                let log_sum = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
                let mean = logits.iter().map(|l| log_sum - l).sum::<f64>() / 5.0;
                let loss =
                    |class: usize| (1.0 - smoothing) * (log_sum - logits[class]) + smoothing * mean;
                let weight = f64::from(weight);
                weight * loss(a) + (1.0 - weight) * loss(b)
            })
            .sum();
        sum / 3.0
    }

    #[test]
    fn mixed_targets_mix_the_losses_and_their_gradients() {
        let exact: Vec<f64> = LOGITS.iter().map(|&l| f64::from(l)).collect();
        for smoothing in [0.0, 0.1] {
            let data = TensorData::new(LOGITS.to_vec(), [3, 5]);
            let logits = Tensor::<2>::from_data(data, &Device::flex());
            let logits = logits.autodiff().require_grad();
            let loss = cross_entropy(logits.clone(), &mixed(), &LossConfig::smoothed(smoothing));
            let gradient = logits.grad(&loss.backward()).unwrap();
            let gradient: Vec<f32> = gradient.into_data().try_to_vec().unwrap();
            let loss: f32 = loss.into_scalar();
            // A few roundings of numbers up to 9.
            assert!((f64::from(loss) - reference(&exact, smoothing)).abs() < 2e-6);
            assert_eq!(gradient.len(), exact.len());
            for (i, &found) in gradient.iter().enumerate() {
                let at = |step: f64| {
                    let mut logits = exact.clone();
                    logits[i] += step;
                    reference(&logits, smoothing)
                };
                let expected = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((f64::from(found) - expected).abs() < 1e-6, "{i}");
            }
        }
    }

    #[test]
    fn the_class_that_weighs_more_is_counted() {
        let mut sums = Sums::default();
        sums.add(1.5, &LOGITS, &mixed().dominant());
        // 3 is third of five; 2 and 4 are first.
        assert_eq!((sums.images, sums.top1, sums.top5), (3, 2, 3));
        assert_eq!(sums.loss, 4.5);
    }

    #[test]
    fn ranks_count_equals_in_order_and_nothing_that_is_not_a_number() {
        let logits = [1.0, 3.0, 3.0, 2.0];
        assert_eq!(rank(&logits, 1), Some(0));
        assert_eq!(rank(&logits, 2), Some(1));
        assert_eq!(rank(&logits, 0), Some(3));
        assert_eq!(rank(&[f32::NAN, 1.0], 1), None);
    }

    #[test]
    fn a_standard_error_is_in_points_and_falls_with_the_root_of_the_images() {
        assert!((standard_error(50.0, 10_000) - 0.5).abs() < 1e-12);
        assert!((standard_error(50.0, 40_000) - 0.25).abs() < 1e-12);
        assert_eq!(standard_error(100.0, 411), 0.0);
        assert_eq!(standard_error(0.0, 411), 0.0);
        assert!(standard_error(f64::NAN, 0).is_nan());
    }

    #[test]
    fn probabilities_sum_to_one_even_for_large_logits() {
        let p = probabilities(&[1000.0, 1001.0]);
        assert!((p[0] - 1.0 / (1.0 + 1f64.exp())).abs() < 1e-12);
        assert!((p[0] + p[1] - 1.0).abs() < 1e-12);
        assert!((image_loss(&[1000.0, 1001.0], 0) + p[0].ln()).abs() < 1e-12);
        // Where the probability itself would be 0.
        assert_eq!(image_loss(&[0.0, 2000.0], 0), 2000.0);
    }
}
