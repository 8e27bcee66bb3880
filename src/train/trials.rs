//! What several runs that differ in their seed alone come to: mean and deviation, and whether one model is better
//! than another or only luckier.

use serde::Serialize;

/// Mean and deviation of several runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// How many there are.
    pub runs: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, of runs − 1 degrees of freedom; 0 of one run.
    pub deviation: f64,
    /// The lowest.
    pub least: f64,
    /// The highest.
    pub most: f64,
}

impl Spread {
    /// Of these numbers; none of no numbers.
    pub fn of(values: &[f64]) -> Option<Self> {
        let runs = values.len();
        let least = values.iter().copied().reduce(f64::min)?;
        let most = values.iter().copied().reduce(f64::max)?;
        let mean = values.iter().sum::<f64>() / runs as f64;
        let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
        let deviation = match runs {
            1 => 0.0,
            _ => (squares / (runs - 1) as f64).sqrt(),
        };
        Some(Self {
            runs,
            mean,
            deviation,
            least,
            most,
        })
    }
}

/// By how much one model is ahead of another, run by run of the same seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// How many pairs there are.
    pub pairs: usize,
    /// The mean difference, positive where the first is ahead.
    pub mean: f64,
    /// Where the 95 % interval of the mean begins: mean ± t · deviation / √pairs, with Student's t of pairs − 1
    /// degrees of freedom.
    pub low: f64,
    /// And ends.
    pub high: f64,
}

impl Difference {
    /// Of `first` and `second`, in the same order of seeds; none of fewer than two pairs, which tell
    /// nothing of chance.
    pub fn paired(first: &[f64], second: &[f64]) -> Option<Self> {
        let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
        let spread = Spread::of(&differences)?;
        if spread.runs < 2 {
            return None;
        }
        let error = spread.deviation / (spread.runs as f64).sqrt();
        let half = student(spread.runs - 1) * error;
        Some(Self {
            pairs: spread.runs,
            mean: spread.mean,
            low: spread.mean - half,
            high: spread.mean + half,
        })
    }

    /// Whether the interval leaves out 0: then chance alone explains it in one of twenty cases at most.
    pub fn is_real(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }

    /// A plain sentence: `first` and `second` are the models' names.
    pub fn sentence(&self, first: &str, second: &str) -> String {
        let (ahead, behind) = if self.mean >= 0.0 {
            (first, second)
        } else {
            (second, first)
        };
        let (low, high) = match self.mean >= 0.0 {
            true => (self.low, self.high),
            false => (-self.high, -self.low),
        };
        let (mean, pairs) = (self.mean.abs(), self.pairs);
        let numbers = format!(
            "{mean:.2} points of test top-1 ({pairs} seeds, 95 % interval {low:.2} to {high:.2})"
        );
        if self.is_real() {
            format!("{ahead} is better than {behind} by {numbers}: more than chance.")
        } else {
            format!(
                "{ahead} is ahead of {behind} by {numbers}, which may be chance: the interval has 0 in it. \
                 More seeds would tell."
            )
        }
    }
}

/// The number that Student's t with so many degrees of freedom lies within of 0 in 95 % of cases.
fn student(freedom: usize) -> f64 {
    /// Of 1 to 30 degrees (any table of the distribution, as NIST's handbook of statistics, 1.3.6.7.2).
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
        2.052, 2.048, 2.045, 2.042,
    ];
    match TABLE.get(freedom.wrapping_sub(1)) {
        Some(&t) => t,
        // Fisher's expansion about the normal distribution: within 0.0005 from 31 on.
        None => 1.96 + 2.372 / freedom as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_by_hand() {
        let spread = Spread::of(&[92.0, 96.0, 94.0]).unwrap();
        assert_eq!((spread.mean, spread.deviation), (94.0, 2.0));
        assert_eq!((spread.least, spread.most, spread.runs), (92.0, 96.0, 3));
        assert_eq!(Spread::of(&[3.0]).unwrap().deviation, 0.0);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_difference_by_hand() {
        // Differences 1, 2 and 3: mean 2, deviation 1, error 1 / √3.
        let first = [91.0, 92.0, 93.0];
        let difference = Difference::paired(&first, &[90.0; 3]).unwrap();
        assert_eq!(difference.mean, 2.0);
        let half = 4.303 / 3f64.sqrt();
        assert!((difference.high - (2.0 + half)).abs() < 1e-9);
        assert!((difference.low - (2.0 - half)).abs() < 1e-9);
        assert!(!difference.is_real());
        assert_eq!(
            difference.sentence("a", "b"),
            "a is ahead of b by 2.00 points of test top-1 (3 seeds, 95 % interval -0.48 to 4.48), which may be \
             chance: the interval has 0 in it. More seeds would tell."
        );
        let four = Difference::paired(&[90.0; 4], &[91.0, 92.0, 93.0, 92.0]).unwrap();
        assert!(four.is_real());
        let sentence = four.sentence("a", "b");
        assert!(
            sentence.starts_with("b is better than a by 2.00 points"),
            "{sentence}"
        );
        assert!(sentence.contains("interval 0.70 to 3.30"), "{sentence}");
        assert_eq!(Difference::paired(&[1.0], &[2.0]), None);
    }

    #[test]
    fn the_table_goes_over_into_the_expansion() {
        assert!((student(30) - (1.96 + 2.372 / 30.0)).abs() < 0.005);
        assert!((student(40) - 2.021).abs() < 0.002);
        assert!((student(120) - 1.980).abs() < 0.001);
        assert!((student(100_000) - 1.96).abs() < 1e-4);
    }
}
