//! One error type for the whole program.
//!
//! Every error is written for the person at the keyboard: what was wrong, where, and what to do.
//! [`Error::remedy`] is the last part; the program prints it on a line of its own.
//!
//! A message may quote a file's own words: names of parameters, classes, fields. Whatever would
//! move a terminal's cursor, colour it or turn text around is [escaped](printable) in it.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A recipe or another value asks for something that cannot be done.
    #[error("{field}: {problem}")]
    Recipe {
        /// The recipe's field, as `train.epochs`, or the value by its name: `model`, `recipe`,
        /// `setting`, `data set`, `device`, `threads`. A program's own flags are added by it.
        field: String,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        remedy: String,
    },
    /// Images or labels that cannot be used.
    #[error("{place}: {problem}")]
    Data {
        /// The file, and the record or byte inside it where that is known.
        place: String,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        remedy: String,
    },
    /// A model file, checkpoint or run folder that cannot be used.
    #[error("{place}: {problem}")]
    Model {
        /// The file or folder.
        place: String,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        remedy: String,
    },
    /// A download that did not end well.
    #[error("downloading {url}: {problem}")]
    Download {
        /// What was being fetched.
        url: String,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        remedy: String,
    },
    /// The loss stopped being a number.
    #[error("{place}: {problem}")]
    Diverged {
        /// The epoch and step.
        place: String,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        remedy: String,
    },
    /// The user asked the program to stop, and everything was saved.
    #[error("stopped {place}")]
    Interrupted {
        /// The epoch and step, and that all is saved.
        place: String,
        /// The command that goes on.
        remedy: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {}", shown(path.display()), shown(source))]
    Io {
        /// A verb: "read", "write", "create".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
}

/// A text as it can be put on a terminal: control characters, line breaks among them, and those that
/// change the direction of writing become escapes, `\u{1b}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    fn harmful(c: char) -> bool {
        c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    }
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => safe.extend(c.escape_default()),
            c if harmful(c) => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    safe.into()
}

/// The same of anything that can be shown, and no more of it than anyone reads.
fn shown(what: impl ToString) -> String {
    /// Characters.
    const LONGEST: usize = 4000;
    let text = what.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", printable(&text[..end])),
        None => printable(&text).into_owned(),
    }
}

impl Error {
    /// An [`Error::Recipe`].
    pub fn recipe(
        field: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Recipe {
            field: shown(field.into()),
            problem: shown(problem.into()),
            remedy: shown(remedy.into()),
        }
    }

    /// An [`Error::Data`].
    pub fn data(
        place: impl ToString,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Data {
            place: shown(place),
            problem: shown(problem.into()),
            remedy: shown(remedy.into()),
        }
    }

    /// An [`Error::Model`].
    pub fn model(
        place: impl ToString,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Model {
            place: shown(place),
            problem: shown(problem.into()),
            remedy: shown(remedy.into()),
        }
    }

    /// An [`Error::Download`].
    pub fn download(
        url: impl ToString,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Download {
            url: shown(url),
            problem: shown(problem.into()),
            remedy: shown(remedy.into()),
        }
    }

    /// For `map_err`: what was being done to which file.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// What its reader can do about it; empty where there is nothing to add.
    pub fn remedy(&self) -> &str {
        match self {
            Self::Recipe { remedy, .. }
            | Self::Data { remedy, .. }
            | Self::Model { remedy, .. }
            | Self::Download { remedy, .. }
            | Self::Diverged { remedy, .. }
            | Self::Interrupted { remedy, .. } => remedy,
            Self::Io { action, source, .. } => system_remedy(action, source.kind()),
        }
    }

    /// The program's exit status: 2 for a request that cannot be met, 130 where the user stopped it
    /// and all is saved, 1 for whatever else went wrong. (0 is success.)
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Recipe { .. } => 2,
            Self::Interrupted { .. } => 130,
            _ => 1,
        }
    }
}

/// What to do where the system refused.
fn system_remedy(action: &str, kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind;
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "there is no room left: free some space or choose another folder; \
             what was saved before is untouched"
        }
        ErrorKind::PermissionDenied => "check who may read and write it",
        ErrorKind::ReadOnlyFilesystem => "nothing can be written there: choose another folder",
        // A file that is written need not be there.
        ErrorKind::NotFound if action == "write" => "make the folder first, or choose another",
        ErrorKind::NotFound => "check the path",
        ErrorKind::IsADirectory => "this is a folder: name a file in it",
        ErrorKind::NotADirectory => "a part of the path is a file, not a folder: check the path",
        ErrorKind::AlreadyExists => {
            "something else has this name, perhaps a link that leads nowhere: choose another"
        }
        ErrorKind::InvalidInput if action == "read" => "name a regular file",
        ErrorKind::InvalidInput | ErrorKind::InvalidFilename => "choose another name",
        ErrorKind::InvalidData => "it is damaged, or another kind of file",
        _ if action == "read" => "check the path, and the disk that it is on",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_moves_the_cursor() {
        let wild = "a\u{1b}[2J\r\nb\u{9b}1m\u{7}\u{202e}c\0";
        let safe = "a\\u{1b}[2J\\r\\nb\\u{9b}1m\\u{7}\\u{202e}c\\u{0}";
        assert_eq!(printable(wild), safe);
        assert_eq!(printable("Füße, 数字\\n"), "Füße, 数字\\n");
        let source = || io::Error::other(wild);
        for error in [
            Error::recipe(wild, wild, wild),
            Error::data(wild, wild, wild),
            Error::model(wild, wild, wild),
            Error::download(wild, wild, wild),
            Error::io("read", wild)(source()),
        ] {
            let message = format!("{error}{}", error.remedy());
            assert!(!message.contains(char::is_control), "{message:?}");
            assert!(message.contains(safe), "{message}");
        }
        let long = Error::recipe("field", "ä".repeat(1 << 20), "none").to_string();
        assert_eq!(long.chars().count(), "field: ".len() + 4001);
    }

    #[test]
    fn the_system_s_words_come_with_what_to_do() {
        let remedy = |action: &'static str, kind: io::ErrorKind| {
            Error::io(action, "a")(kind.into()).remedy().to_owned()
        };
        assert_eq!(remedy("read", io::ErrorKind::NotFound), "check the path");
        assert!(remedy("write", io::ErrorKind::NotFound).contains("make the folder"));
        assert!(remedy("read", io::ErrorKind::IsADirectory).contains("name a file"));
        assert!(remedy("write", io::ErrorKind::ReadOnlyFilesystem).contains("another folder"));
        assert!(remedy("write", io::ErrorKind::StorageFull).contains("no room left"));
        assert!(remedy("read", io::ErrorKind::InvalidInput).contains("regular file"));
        assert_eq!(
            remedy("write", io::ErrorKind::InvalidInput),
            "choose another name"
        );
        assert!(remedy("read", io::ErrorKind::Other).contains("the disk"));
        assert_eq!(remedy("write", io::ErrorKind::Interrupted), "");
    }

    #[test]
    fn exit_codes_tell_requests_failures_and_stops_apart() {
        assert_eq!(Error::recipe("a", "b", "c").exit_code(), 2);
        assert_eq!(Error::data("a", "b", "c").exit_code(), 1);
        assert_eq!(
            Error::io("read", "a")(io::ErrorKind::NotFound.into()).exit_code(),
            1
        );
        let stopped = Error::Interrupted {
            place: "here".into(),
            remedy: "go on".into(),
        };
        assert_eq!(stopped.exit_code(), 130);
    }
}
