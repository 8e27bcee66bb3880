//! Standard output and standard error, neither of which may end a command that works.
//!
//! A result that could not be printed is remembered, and shows in the exit status; only a reader
//! that has gone (`smallvit recipes | head -1`) is no loss. Notes on standard error are for whoever
//! looks: nothing depends on them.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};
use std::sync::Mutex;

/// Why part of the result did not get to standard output.
static LOST: Mutex<Option<io::Error>> = Mutex::new(None);

/// A line to standard error: progress, warnings, errors.
macro_rules! note {
    ($($text:tt)*) => {
        $crate::cli::output::write_note(format_args!($($text)*))
    };
}
pub(crate) use note;

/// What [`note!`] does.
pub fn write_note(text: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A result, to standard output.
pub fn print(text: impl fmt::Display) {
    let mut lost = LOST.lock().unwrap_or_else(|e| e.into_inner());
    // After a failure there would be gaps.
    if lost.is_none()
        && let Err(error) = writeln!(io::stdout(), "{}", text.to_string().trim_end())
    {
        *lost = Some(error);
    }
}

/// Why part of the result was lost, if it was.
pub fn lost() -> Option<io::Error> {
    let mut lost = LOST.lock().unwrap_or_else(|e| e.into_inner());
    if lost.is_none() {
        *lost = io::stdout().flush().err();
    }
    lost.take_if(|error| error.kind() != ErrorKind::BrokenPipe)
}
