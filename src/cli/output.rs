//! Standard output and standard error, neither of which may end a command that works.
//!
//! A result that could not be printed is remembered, and shows in the exit status; only a reader
//! that has gone (`smallvit recipes | head -1`) is no loss. Notes on standard error are for whoever
//! looks: nothing depends on them. What is closed from the start (`>&-`) is as `/dev/null`.
//!
//! Names come from files, and files from anywhere: whatever would steer a terminal is written out.

use std::fmt::{Display, Write as _};
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use smallvit::report::table;
use smallvit::{Result, atomic};

/// Why part of the result did not get to standard output.
static LOST: Mutex<Option<io::Error>> = Mutex::new(None);

/// Whether a picture goes to standard output, in which words would be in its way.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A line to standard error: progress, warnings, errors.
macro_rules! note {
    ($($text:tt)*) => {
        $crate::cli::output::write_note(format_args!($($text)*))
    };
}
pub(crate) use note;

/// What [`note!`] does.
pub fn write_note(text: impl Display) {
    let text = visible(&text.to_string());
    let text = wrapped(&text, width(io::stderr()).unwrap_or_else(asked_width));
    let _ = writeln!(io::stderr(), "{text}");
}

/// A line of JSON to standard error, whole whatever the terminal's width.
pub fn json_line(line: impl Display) {
    let _ = writeln!(io::stderr(), "{}", visible(&line.to_string()));
}

/// A result, to standard output.
pub fn print(text: impl Display) {
    let text = text.to_string();
    let text = text.trim_end();
    if TAKEN.load(Ordering::Relaxed) {
        write_note(text);
    } else if !is_broken() {
        // After a failure there would be gaps.
        remember(writeln!(io::stdout(), "{}", visible(text)));
    }
}

/// A result in sentences, to standard output, broken between words where its terminal's lines end.
pub fn prose(text: impl Display) {
    print(wrapped(&text.to_string(), line_width()));
}

/// A table, to standard output, as wide as its terminal at most. Where there is no terminal, a row
/// stays a line, unless COLUMNS says how long lines may be.
pub fn table(header: &[&str], rows: &[Vec<String>]) {
    let line = |cells: &Vec<String>| cells.iter().map(name).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(line).collect();
    print(table::fitted(header, &rows, line_width()));
}

/// How long a line of results may be.
fn line_width() -> usize {
    width(io::stdout()).unwrap_or_else(asked_width)
}

/// How long a line may be where there is no terminal.
fn asked_width() -> usize {
    let asked = std::env::var("COLUMNS").ok();
    asked
        .and_then(|asked| asked.parse().ok())
        // Some environments have a 0 where they do not know.
        .filter(|&asked| asked > 0)
        .unwrap_or(usize::MAX)
}

/// Of a terminal.
#[cfg(unix)]
fn width(stream: impl std::os::fd::AsFd) -> Option<usize> {
    Some(terminal_size::terminal_size_of(stream)?.0.0.into())
}

/// Of a terminal.
#[cfg(windows)]
fn width(stream: impl std::os::windows::io::AsHandle) -> Option<usize> {
    Some(terminal_size::terminal_size_of(stream)?.0.0.into())
}

/// In lines of that many letters. Words stay whole, so that a path can be taken out with the mouse.
fn wrapped(text: &str, width: usize) -> String {
    let lines = text.split('\n').map(|line| {
        let words = line.trim_start_matches(' ');
        let indent = &line[..line.len() - words.len()];
        let how = textwrap::Options::new(width)
            .initial_indent(indent)
            .subsequent_indent(indent)
            .break_words(false)
            .word_separator(textwrap::WordSeparator::AsciiSpace)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::fill(words, how)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether standard error is a terminal on which a line can be written over.
pub fn is_live() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stderr().is_terminal() && !dumb
}

/// Makes sure, before the work, that a picture can be written there. Where that is standard output,
/// words go to standard error from now on.
pub fn reserve(picture: &Path) -> Result<()> {
    atomic::check_writable(picture)?;
    if atomic::is_standard_output(picture) {
        TAKEN.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// A name in a line of its own or in a table's cell: it cannot end the line.
pub fn name(text: impl Display) -> String {
    let text = visible(&text.to_string());
    text.replace('\n', "\\n").replace('\t', "\\t")
}

/// Text in which no letter but the end of a line and a tab does anything to a terminal: control
/// characters, and those that turn the direction of what follows, are written as `\u001b`. (In
/// JSON, where such letters are only in strings, that is the same string.)
fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for letter in text.chars() {
        let turns = matches!(letter, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
        if turns || (letter.is_control() && !matches!(letter, '\n' | '\t')) {
            let _ = write!(visible, "\\u{:04x}", u32::from(letter));
        } else {
            visible.push(letter);
        }
    }
    visible
}

/// Keeps in mind why part of the result was lost, if it was.
pub fn remember(written: io::Result<()>) {
    if let Err(error) = written {
        LOST.lock()
            .unwrap_or_else(|e| e.into_inner())
            .get_or_insert(error);
    }
}

/// Whether what is still printed would go nowhere.
pub fn is_broken() -> bool {
    LOST.lock().unwrap_or_else(|e| e.into_inner()).is_some()
}

/// Why part of the result was lost, if it was.
pub fn lost() -> Option<io::Error> {
    remember(io::stdout().flush());
    let mut lost = LOST.lock().unwrap_or_else(|e| e.into_inner());
    lost.take_if(|error| error.kind() != ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_a_terminal() {
        let wild = "a\u{1b}]0;title\u{7}b\rc\u{9b}31m\u{202e}d\u{7f}";
        let tame = r"a\u001b]0;title\u0007b\u000dc\u009b31m\u202ed\u007f";
        assert_eq!(visible(wild), tame);
        assert_eq!(visible("Łódź 日本 قطة\n\tplain"), "Łódź 日本 قطة\n\tplain");
        assert_eq!(name("two\nlines\tand a tab"), r"two\nlines\tand a tab");
    }

    #[test]
    fn sentences_are_broken_between_words() {
        let text = "one two-three four\n  /a/name/that/is/longer/than/a/line and more";
        let lines = "one\ntwo-three\nfour\n  /a/name/that/is/longer/than/a/line\n  and more";
        assert_eq!(wrapped(text, 12), lines);
        assert_eq!(wrapped(text, usize::MAX), text);
        assert_eq!(wrapped("\nafter  two", 80), "\nafter  two");
    }

    #[test]
    fn json_says_the_same_where_letters_are_written_out() {
        let wild = "a\u{1b}\u{9b}31m\u{202e}\u{7f}\n\"";
        let document = serde_json::json!({ wild: [wild] });
        let printed = visible(&document.to_string());
        assert!(printed.chars().all(|letter| !letter.is_control()));
        let read: serde_json::Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(read, document);
    }
}
