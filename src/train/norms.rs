//! What a model's weights have come to, in a number or two.

use burn::tensor::Tensor;

use super::gradients::Squares;
use crate::models::Model;
use crate::params::{self, Array, EachParameter};

/// Norm of all weights together.
pub fn of(model: &Model) -> f64 {
    struct Sum(Squares);
    impl EachParameter for Sum {
        fn visit<const D: usize>(&mut self, _: &str, value: Tensor<D>) {
            let length = value.shape().num_elements();
            self.0.add(&value.reshape([length]));
        }
    }
    let mut sum = Sum(Squares::default());
    params::for_each(model, &mut sum);
    sum.0.root()
}

/// Mean of the temperatures that Locality Self-Attention learns; none without it.
pub fn temperature(model: &Model) -> Option<f64> {
    struct All(Vec<f64>);
    impl EachParameter for All {
        fn visit<const D: usize>(&mut self, name: &str, value: Tensor<D>) {
            if name.ends_with(".temperature") {
                let values = Array::of(value).values;
                self.0.extend(values.into_iter().map(f64::from));
            }
        }
    }
    let mut all = All(vec![]);
    params::for_each(model, &mut all);
    let count = all.0.len();
    (count > 0).then(|| all.0.into_iter().sum::<f64>() / count as f64)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::train::testing;

    #[test]
    fn norm_and_temperature_are_those_of_all_weights() {
        let mut config = testing::recipe().model;
        for lsa in [true, false] {
            config.lsa = lsa;
            let model = Model::new(&config, 3, 5, 1, &Device::flex());
            let weights = params::weights(&model);
            let numbers = weights.values().flat_map(|array| &array.values);
            let squares = numbers.map(|&w| f64::from(w) * f64::from(w)).sum::<f64>();
            let norm = squares.sqrt();
            assert!((of(&model) - norm).abs() < 1e-6 * norm);
            let first = weights
                .iter()
                .find(|(name, _)| name.ends_with("temperature"));
            let first = first.map(|(_, array)| f64::from(array.values[0]));
            assert_eq!(temperature(&model), first);
            assert_eq!(first.is_some(), lsa);
        }
    }
}
