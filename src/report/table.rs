//! Tables as text.

use comfy_table::{CellAlignment, ColumnConstraint, ContentLineStyle, Table, TableStyle, Width};

/// Columns between one column's cells and the next one's.
const GAP: usize = 2;
/// Cells are not broken into lines narrower than this.
const NARROWEST: u16 = 8;

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
    fitted(header, rows, usize::MAX)
}

/// As [`plain`], brought to `width` letters a line as well as that can be done. Where it is wider
/// and has fewer rows than columns, it is turned: its headings stand one below the other, its rows
/// side by side, as many as there is room for. Otherwise the longest cells are broken into lines.
///
/// ```
/// use smallvit::report::table::fitted;
///
/// let rows = vec![vec!["SL-ViT".to_owned(), "980".to_owned(), "83.21 %".to_owned()]];
/// let expected = "\
/// model        SL-ViT
/// ──────────  ───────
/// parameters      980
/// top-1       83.21 %
/// ";
/// assert_eq!(fitted(&["model", "parameters", "top-1"], &rows, 20), expected);
/// ```
pub fn fitted(header: &[&str], rows: &[Vec<String>], width: usize) -> String {
    let fits = |(header, rows): &(Vec<&str>, Vec<Vec<String>>)| {
        let widths = widths(header, rows);
        let columns: usize = widths.iter().map(|&width| usize::from(width)).sum();
        columns + GAP * widths.len().saturating_sub(1) <= width
    };
    let rule = |width: usize, _right: bool| "─".repeat(width);
    let style = TableStyle::new;
    let padding = (0, GAP as u16);
    let whole = (header.to_vec(), rows.to_vec());
    if !fits(&whole) && rows.len() < header.len() {
        for beside in (1..=rows.len()).rev() {
            let parts = rows.chunks(beside).map(|rows| turned(header, rows));
            let parts: Vec<_> = parts.collect();
            if parts.iter().all(fits) {
                let parts = parts
                    .iter()
                    .map(|(header, rows)| laid_out(header, rows, style(), padding, rule, width));
                return parts.collect::<Vec<_>>().join("\n");
            }
        }
    }
    laid_out(header, rows, style(), padding, rule, width)
}

/// A table's columns as rows, each row's first cell as the heading of a column.
fn turned<'a>(header: &[&'a str], rows: &'a [Vec<String>]) -> (Vec<&'a str>, Vec<Vec<String>>) {
    let cell = |row: &'a Vec<String>, column: usize| row.get(column).map_or("", String::as_str);
    let line = |column: usize| {
        std::iter::once(header[column]).chain(rows.iter().map(move |row| cell(row, column)))
    };
    let lines = (1..header.len()).map(|column| line(column).map(str::to_owned).collect());
    (line(0).collect(), lines.collect())
}

/// As [`plain`], in Markdown.
pub fn markdown(header: &[&str], rows: &[Vec<String>]) -> String {
    let escape = |cell: &str| cell.replace('|', "\\|").replace('\n', " ");
    let header: Vec<String> = header.iter().map(|cell| escape(cell)).collect();
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| escape(cell)).collect())
        .collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let bars = ContentLineStyle::new('|', '|', '|');
    let style = TableStyle::new().header_lines(bars).content_lines(bars);
    // At least three dashes under a heading, and a colon where numbers stand.
    let rule = |width: usize, right: bool| {
        let width = width.max(3);
        match right {
            true => "-".repeat(width - 1) + ":",
            false => "-".repeat(width),
        }
    };
    laid_out(&header, &rows, style, (1, 1), rule, usize::MAX)
}

/// The table with a rule of that look below its header, which is given the column's width and
/// whether it holds numbers; the longest cells are broken so that lines have `width` letters.
///
/// The rule is a row: comfy-table's own lines leave no gaps between columns, and know nothing of
/// Markdown's colons.
fn laid_out(
    header: &[&str],
    rows: &[Vec<String>],
    style: TableStyle,
    padding: (u16, u16),
    rule: impl Fn(usize, bool) -> String,
    width: usize,
) -> String {
    let widths = widths(header, rows);
    let most = most(&widths, width);
    let rows = || rows.iter().map(|row| row.iter().take(header.len()));
    let right: Vec<bool> = (0..header.len())
        .map(|index| is_numeric(|| rows().filter_map(move |mut row| row.nth(index))))
        .collect();
    let rules = widths.iter().zip(&right);
    let rules = rules.map(|(&width, &right)| rule(usize::from(width.min(most)), right));

    let mut table = Table::new();
    table.load_style(style).set_header(header);
    table.add_row(rules).add_rows(rows());
    for ((column, right), width) in table.column_iter_mut().zip(right).zip(widths) {
        column.set_padding(padding);
        column.set_cell_alignment(match right {
            true => CellAlignment::Right,
            false => CellAlignment::Left,
        });
        if width > most {
            let padded = most.saturating_add(padding.0 + padding.1);
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(padded)));
        }
    }
    table.trim_fmt() + "\n"
}

/// How wide each column's longest cell is.
fn widths(header: &[&str], rows: &[Vec<String>]) -> Vec<u16> {
    let mut measured = Table::new();
    measured.set_header(header);
    measured.add_rows(rows.iter().map(|row| row.iter().take(header.len())));
    measured.column_max_content_widths()
}

/// What no column may be wider than, so that all of them and the gaps between them fit.
fn most(widths: &[u16], width: usize) -> u16 {
    let gaps = GAP * widths.len().saturating_sub(1);
    let fits = |most: &u16| {
        let columns = widths.iter().map(|&width| usize::from(width.min(*most)));
        columns.sum::<usize>() + gaps <= width
    };
    let widest = widths.iter().copied().max().unwrap_or(0);
    let narrowest = widest.min(NARROWEST);
    (narrowest..=widest).rev().find(fits).unwrap_or(narrowest)
}

/// Whether a column's cells are numbers: some, and the others blank.
fn is_numeric<'a, I: Iterator<Item = &'a String>>(cells: impl Fn() -> I) -> bool {
    cells().any(|cell| is_number(cell)) && cells().all(|cell| is_number(cell) || is_blank(cell))
}

fn is_number(cell: &str) -> bool {
    cell.trim_start_matches(['-', '−', '+', '±', '<', '>', '~', '≈', ' '])
        .starts_with(|letter: char| letter.is_ascii_digit())
}

fn is_blank(cell: &str) -> bool {
    matches!(cell.trim(), "" | "-" | "–" | "—" | "NaN" | "n/a")
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

    /// The letters of the longest line. (In these tests, each is one column wide.)
    fn breadth(text: &str) -> usize {
        let lines = text.lines().map(|line| line.chars().count());
        lines.max().unwrap_or(0)
    }

    #[test]
    fn what_fits_stays_and_few_rows_are_turned() {
        let header = ["model", "parameters", "top-1", "time"];
        let rows = rows(&[
            &["vit", "2,700,000", "81.00 %", "1 min 03 s"],
            &["sl-vit", "2,800,000", "–"],
        ]);
        assert_eq!(breadth(&plain(&header, &rows)), 39);
        assert_eq!(fitted(&header, &rows, 39), plain(&header, &rows));
        let turned = "\
model              vit     sl-vit
──────────  ──────────  ─────────
parameters   2,700,000  2,800,000
top-1          81.00 %          –
time        1 min 03 s
";
        assert_eq!(fitted(&header, &rows, 38), turned);
        // As many side by side as there is room for.
        let one_by_one = "\
model              vit
──────────  ──────────
parameters   2,700,000
top-1          81.00 %
time        1 min 03 s

model          sl-vit
──────────  ─────────
parameters  2,800,000
top-1               –
time
";
        assert_eq!(fitted(&header, &rows, 32), one_by_one);
    }

    #[test]
    fn the_longest_cells_are_broken_and_the_others_stay() {
        let header = ["name", "what", "n"];
        let rows = rows(&[
            &["a", "words that go onwards", "1"],
            &["b", "/one/path/without/a/gap", "22"],
            &["c", "", "333"],
        ]);
        let expected = "\
name  what           n
────  ───────────  ───
a     words that     1
      go onwards
b     /one/path/w   22
      ithout/a/ga
      p
c                  333
";
        let found = fitted(&header, &rows, 22);
        assert_eq!(breadth(&found), 22, "{found}");
        assert_eq!(found, expected);
        // Narrower than can be: no panic, and nothing is left out.
        for width in [0, 1, 5] {
            let found = fitted(&header, &rows, width);
            assert!(found.contains("333"), "{found}");
        }
        assert_eq!(fitted(&["a"], &[], 0), "a\n─\n");
        assert_eq!(fitted(&[], &[], 0), "\n");
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
}
