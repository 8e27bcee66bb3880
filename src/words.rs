//! Numbers and lists, the way people write them.

use std::fmt::Display;

/// A whole number with its thousands set off.
///
/// ```
/// assert_eq!(smallvit::words::count(21_787_755), "21,787,755");
/// ```
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things, the word in the plural where they are not one.
///
/// ```
/// use smallvit::words::counted;
/// assert_eq!([counted(1, "epoch"), counted(2_000, "step")], ["1 epoch", "2,000 steps"]);
/// ```
pub fn counted(number: u64, word: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {word}{plural}", count(number))
}

/// A time span given in seconds, to about three digits: `812 ms`, `3.21 s`, `4 min 12 s`,
/// `2 h 05 min`.
///
/// ```
/// assert_eq!(smallvit::words::seconds(252.3), "4 min 12 s");
/// ```
pub fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".to_owned();
    }
    // The bounds are where rounding would reach the next unit.
    if seconds < 0.009_995 {
        return format!("{:.2} ms", seconds * 1e3);
    }
    if seconds < 0.999_5 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    if seconds < 9.995 {
        return format!("{seconds:.2} s");
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    if whole < 3600 {
        return format!("{} min {:02} s", whole / 60, whole % 60);
    }
    let minutes = (seconds / 60.0).round() as u64;
    format!("{} h {:02} min", minutes / 60, minutes % 60)
}

/// An amount of memory or disk, in powers of 1000: `812 B`, `87.2 MB`, `1.9 GB`.
///
/// ```
/// assert_eq!(smallvit::words::bytes(1_932_735_283), "1.9 GB");
/// ```
pub fn bytes(bytes: u64) -> String {
    let mut amount = bytes as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        // Below this, three digits suffice.
        if amount < 999.5 {
            break;
        }
        amount /= 1000.0;
        unit = next;
    }
    match unit == "B" || amount >= 99.95 {
        true => format!("{amount:.0} {unit}"),
        false => format!("{amount:.1} {unit}"),
    }
}

/// A share of one as a percentage with two decimals.
///
/// ```
/// assert_eq!(smallvit::words::percent(0.83214), "83.21 %");
/// ```
pub fn percent(share: f64) -> String {
    match share.is_finite() {
        true => format!("{:.2} %", share * 100.0),
        false => "–".to_owned(),
    }
}

/// An accuracy in percent with its standard error, in percentage points.
///
/// ```
/// assert_eq!(smallvit::words::accuracy(83.214, 1.843), "83.21 ± 1.84 %");
/// ```
pub fn accuracy(percent: f64, standard_error: f64) -> String {
    match percent.is_finite() && standard_error.is_finite() {
        true => format!("{percent:.2} ± {standard_error:.2} %"),
        false => "–".to_owned(),
    }
}

/// The first `most` of some names, and how many more there are.
///
/// ```
/// use smallvit::words::listed;
/// assert_eq!(listed(["cat", "dog"], 2), "cat, dog");
/// assert_eq!(listed(["cat", "dog", "owl", "fox"], 2), "cat, dog and 2 more");
/// ```
pub fn listed(names: impl IntoIterator<Item = impl Display>, most: usize) -> String {
    let mut names = names.into_iter();
    let first: Vec<String> = names.by_ref().take(most).map(|n| n.to_string()).collect();
    // What has commas of its own is set apart by more than one.
    let between = match first.iter().any(|name| name.contains(", ")) {
        true => "; ",
        false => ", ",
    };
    let text = first.join(between);
    match names.count() {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (123_456, "123,456"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn time_spans_carry_into_the_next_unit() {
        for (number, text) in [
            (0.0, "0.00 ms"),
            (0.000_42, "0.42 ms"),
            (0.812, "812 ms"),
            (0.9996, "1.00 s"),
            (3.21, "3.21 s"),
            (9.999, "10.0 s"),
            (59.96, "1 min 00 s"),
            (252.0, "4 min 12 s"),
            (3599.6, "1 h 00 min"),
            (7_500.0, "2 h 05 min"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(seconds(number), text);
        }
    }

    #[test]
    fn bytes_carry_into_the_next_unit() {
        for (number, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (87_150_000, "87.2 MB"),
            (213_400_000, "213 MB"),
            (999_600_000, "1.0 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn percentages() {
        assert_eq!(percent(1.0), "100.00 %");
        assert_eq!(percent(0.0), "0.00 %");
        assert_eq!(percent(f64::NAN), "–");
    }
}
