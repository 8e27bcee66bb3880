//! Pictures made of letters, for the terminal.

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A curve one line high: at most `width` columns, each the mean of the values it stands for,
/// from the lowest mark at 0 (or the least value, if that is negative) to the full block at the
/// greatest. Values that are no numbers leave a space.
///
/// ```
/// use smallvit::report::ascii::sparkline;
///
/// assert_eq!(sparkline(&[0.0, 0.5, 1.0, 0.5, 0.0], 40), "▁▅█▅▁");
/// ```
pub fn sparkline(values: &[f64], width: usize) -> String {
    let columns = width.min(values.len());
    let means: Vec<f64> = (0..columns)
        .map(|column| {
            let share =
                &values[column * values.len() / columns..(column + 1) * values.len() / columns];
            let numbers: Vec<f64> = share.iter().copied().filter(|v| v.is_finite()).collect();
            numbers.iter().sum::<f64>() / numbers.len() as f64
        })
        .collect();
    let low = means.iter().copied().fold(0.0, f64::min);
    let high = means.iter().copied().fold(low, f64::max);
    means
        .iter()
        .map(|mean| {
            if mean.is_nan() {
                return ' ';
            }
            let share = if high > low {
                (mean - low) / (high - low)
            } else {
                0.0
            };
            LEVELS[(share * (LEVELS.len() - 1) as f64).round() as usize]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_values_share_the_columns() {
        let values: Vec<f64> = (0..800).map(f64::from).collect();
        assert_eq!(sparkline(&values, 8), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&values, 8).chars().count(), 8);
    }

    #[test]
    fn flat_empty_and_missing_values_are_fine() {
        assert_eq!(sparkline(&[], 10), "");
        assert_eq!(sparkline(&[1.0], 0), "");
        assert_eq!(sparkline(&[0.0, 0.0], 10), "▁▁");
        assert_eq!(sparkline(&[2.0, 2.0], 10), "██");
        assert_eq!(sparkline(&[1.0, f64::NAN, 1.0], 10), "█ █");
        assert_eq!(sparkline(&[-1.0, 0.0, 1.0], 10), "▁▅█");
    }
}
