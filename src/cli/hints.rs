//! What a person at the keyboard can do about the library's errors. The library speaks of values;
//! which flag sets a value is known here.

use std::io::ErrorKind;

use smallvit::Error;

/// The flags that set the values which errors name.
const FLAGS: [(&str, &str); 4] = [
    ("recipe", "--recipe"),
    ("setting", "--set"),
    ("device", "--device"),
    ("threads", "--threads"),
];

/// What was wrong, and where.
pub fn message(error: &Error) -> String {
    if let Error::Recipe { field, problem, .. } = error
        && let Some((_, flag)) = FLAGS.iter().find(|(value, _)| value == field)
    {
        return format!("{flag}: {problem}");
    }
    error.to_string()
}

/// What to do; empty where there is nothing to say.
pub fn remedy(error: &Error) -> String {
    let hint = match error {
        Error::Io { source, .. } => match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                "--out writes elsewhere"
            }
            _ => "",
        },
        Error::Recipe { field, .. } if field == "train.precision" => "--precision NAME sets it",
        Error::Diverged { .. } => "--set FIELD=VALUE changes a recipe's field",
        _ => "",
    };
    joined(error.remedy(), hint)
}

/// The same error, with more to do about it. ([`Error::Io`] has the system's words alone.)
pub fn and(mut error: Error, hint: &str) -> Error {
    match &mut error {
        Error::Recipe { remedy, .. }
        | Error::Data { remedy, .. }
        | Error::Model { remedy, .. }
        | Error::Download { remedy, .. }
        | Error::Diverged { remedy, .. }
        | Error::Interrupted { remedy, .. } => *remedy = joined(remedy, hint),
        Error::Io { .. } => {}
    }
    error
}

/// For clap, which prints the flag itself: what is wrong with its value, and what to do.
pub fn value<T: std::str::FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| match error {
        Error::Recipe {
            problem, remedy, ..
        } => joined(&problem, &remedy),
        error => joined(&error.to_string(), error.remedy()),
    })
}

fn joined(first: &str, second: &str) -> String {
    match (first, second) {
        ("", one) | (one, "") => one.to_owned(),
        _ => format!("{first}; {second}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_called_by_their_flags() {
        let error = smallvit::train::device::open("tpu").unwrap_err();
        assert_eq!(message(&error), "--device: there is no device `tpu`");
        let error = Error::recipe("train.batch", "0 is too few", "choose 1 or more");
        assert_eq!(message(&error), "train.batch: 0 is too few");
        assert_eq!(remedy(&error), "choose 1 or more");
        let error = Error::recipe("train.precision", "none", "choose f32");
        assert_eq!(remedy(&error), "choose f32; --precision NAME sets it");
    }

    #[test]
    fn hints_follow_remedies() {
        let error = and(Error::data("x", "gone", "fetch it"), "by --this");
        assert_eq!(error.remedy(), "fetch it; by --this");
        let full = |kind: ErrorKind| remedy(&Error::io("write", "a")(kind.into()));
        assert!(full(ErrorKind::StorageFull).contains("no room left"));
        assert!(full(ErrorKind::StorageFull).ends_with("--out writes elsewhere"));
        assert!(full(ErrorKind::NotFound).starts_with("make the folder first"));
        assert_eq!(full(ErrorKind::Interrupted), "");
    }
}
