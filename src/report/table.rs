//! Tables as text, and numbers the way people write them.

/// A table for the terminal: columns padded to one width, numbers to the right.
///
/// A column whose cells all begin as numbers do is a column of numbers. Rows shorter than the
/// header end in empty cells.
///
/// ```
/// use smallvit::report::table::plain;
///
/// let rows = vec![
///     vec!["ViT".to_owned(), "2,700,000".to_owned()],
///     vec!["SL-ViT".to_owned(), "980".to_owned()],
/// ];
/// let expected = "\
/// model   parameters
/// ──────  ──────────
/// ViT      2,700,000
/// SL-ViT         980
/// ";
/// assert_eq!(plain(&["model", "parameters"], &rows), expected);
/// ```
pub fn plain(header: &[&str], rows: &[Vec<String>]) -> String {
    let layout = columns(header, rows, 0);
    let rule: Vec<String> = layout
        .iter()
        .map(|column| "─".repeat(column.width))
        .collect();
    let mut text = String::new();
    let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    for row in [&header, &rule].into_iter().chain(rows) {
        text.push_str(padded(row, &layout).join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// As [`plain`], in Markdown.
pub fn markdown(header: &[&str], rows: &[Vec<String>]) -> String {
    let escape = |cell: &str| cell.replace('|', "\\|").replace('\n', " ");
    let header: Vec<String> = header.iter().map(|cell| escape(cell)).collect();
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| escape(cell)).collect())
        .collect();
    let names: Vec<&str> = header.iter().map(String::as_str).collect();
    // Markdown wants at least three dashes under a heading.
    let layout = columns(&names, &rows, 3);
    let rule: Vec<String> = layout
        .iter()
        .map(|column| match column.right {
            true => "-".repeat(column.width - 1) + ":",
            false => "-".repeat(column.width),
        })
        .collect();
    let mut text = String::new();
    for row in [&header, &rule].into_iter().chain(&rows) {
        text.push_str(&format!("| {} |\n", padded(row, &layout).join(" | ")));
    }
    text
}

struct Column {
    width: usize,
    right: bool,
}

fn columns(header: &[&str], rows: &[Vec<String>], least: usize) -> Vec<Column> {
    header
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let cells = || rows.iter().filter_map(move |row| row.get(index));
            Column {
                width: cells()
                    .map(|cell| width(cell))
                    .fold(width(name).max(least), usize::max),
                right: cells().any(|cell| is_number(cell))
                    && cells().all(|cell| is_number(cell) || is_blank(cell)),
            }
        })
        .collect()
}

fn padded(row: &[String], layout: &[Column]) -> Vec<String> {
    layout
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cell = row.get(index).map_or("", String::as_str);
            let gap = " ".repeat(column.width.saturating_sub(width(cell)));
            match column.right {
                true => gap + cell,
                false => cell.to_owned() + &gap,
            }
        })
        .collect()
}

fn is_number(cell: &str) -> bool {
    cell.trim_start_matches(['-', '−', '+', '±', '<', '>', '~', '≈', ' '])
        .starts_with(|letter: char| letter.is_ascii_digit())
}

fn is_blank(cell: &str) -> bool {
    matches!(cell.trim(), "" | "-" | "–" | "—" | "NaN" | "n/a")
}

/// How many terminal columns a text takes: two for East Asian wide letters and emoji, none for
/// combining marks. The blocks where that matters for names, not the whole Unicode table.
fn width(text: &str) -> usize {
    text.chars()
        .map(|letter| match u32::from(letter) {
            0x0300..=0x036F | 0x200B..=0x200F | 0x20D0..=0x20FF | 0xFE00..=0xFE0F => 0,
            0x1100..=0x115F
            | 0x2E80..=0xA4CF
            | 0xAC00..=0xD7A3
            | 0xF900..=0xFAFF
            | 0xFE30..=0xFE6F
            | 0xFF00..=0xFF60
            | 0xFFE0..=0xFFE6
            | 0x1F300..=0x1FAFF
            | 0x20000..=0x3FFFD => 2,
            _ => 1,
        })
        .sum()
}

/// A whole number with its thousands set off.
///
/// ```
/// assert_eq!(smallvit::report::table::count(21_787_755), "21,787,755");
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

/// A time span given in seconds, to about three digits: `812 ms`, `3.21 s`, `4 min 12 s`,
/// `2 h 05 min`.
///
/// ```
/// assert_eq!(smallvit::report::table::seconds(252.3), "4 min 12 s");
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
/// assert_eq!(smallvit::report::table::bytes(1_932_735_283), "1.9 GB");
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
/// assert_eq!(smallvit::report::table::percent(0.83214), "83.21 %");
/// ```
pub fn percent(share: f64) -> String {
    match share.is_finite() {
        true => format!("{:.2} %", share * 100.0),
        false => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter()
            .map(|row| row.iter().map(|&cell| cell.to_owned()).collect())
            .collect()
    }

    #[test]
    fn words_stand_left_and_numbers_right() {
        let rows = rows(&[&["a", "9.50 %", "x"], &["bcd", "–", "1"], &["e"]]);
        let expected = "\
run   top-1  w
───  ──────  ─
a    9.50 %  x
bcd       –  1
e
";
        assert_eq!(plain(&["run", "top-1", "w"], &rows), expected);
    }

    #[test]
    fn wide_and_combining_letters_keep_the_columns_straight() {
        let rows = rows(&[&["日本", "x"], &["e\u{301}té", "y"], &["Łódź", "z"]]);
        let expected = "\
name  k
────  ─
日本  x
e\u{301}té   y
Łódź  z
";
        assert_eq!(plain(&["name", "k"], &rows), expected);
    }

    #[test]
    fn markdown_says_which_columns_are_numbers() {
        let rows = rows(&[&["a|b", "1"], &["c", "1,234"]]);
        let expected = "\
| run  |     n |
| ---- | ----: |
| a\\|b |     1 |
| c    | 1,234 |
";
        assert_eq!(markdown(&["run", "n"], &rows), expected);
        assert_eq!(markdown(&["a"], &[]), "| a   |\n| --- |\n");
    }

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
