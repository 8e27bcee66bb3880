//! Single settings, `field=value`, put into a table before it is read.

use toml::{Table, Value};

use crate::error::{Error, Result};
use crate::strict::OFF;

/// Puts a setting into a table, over what is there.
///
/// The field is a path: `train.epochs`, `train.groups[0].pattern`. Tables on the way are made
/// where there are none; a list's next element is made by its number. The value is TOML (`5`,
/// `[128, 64]`, `{ decay = 0.999 }`, `"a string"`); what is no TOML is a string, so that words
/// need no quotes. Whether there is such a field, and whether the value will do, is for the reader
/// of the whole table to say.
///
/// # Errors
/// [`Error::Recipe`] where there is no `=`, the path leads through something that is no table, or
/// a value has begun as TOML and does not end as it.
pub fn set(table: &mut Table, setting: &str) -> Result<()> {
    let Some((path, text)) = setting.split_once('=') else {
        return Err(Error::recipe(
            "setting",
            format!("`{setting}` has no ="),
            "write for example train.epochs=5",
        ));
    };
    let path = path.trim();
    if path.split('.').any(|part| part.trim().is_empty()) {
        return Err(Error::recipe(
            "setting",
            format!("`{setting}` names no field"),
            "write for example train.epochs=5",
        ));
    }
    let value = value(path, text.trim())?;
    /// Deeper than any field lies, and far less deep than a stack.
    const DEEPEST: usize = 16;
    if path.split('.').nth(DEEPEST).is_some() {
        return Err(Error::recipe(
            "setting",
            format!("its field's path has more than {DEEPEST} parts"),
            "write for example train.epochs=5",
        ));
    }
    let (tables, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut place = table;
    for part in tables.split('.').filter(|_| !tables.is_empty()) {
        place = match entry(place, part, path)? {
            Value::Table(inner) => inner,
            _ => return Err(no_path(path, part)),
        };
    }
    *entry(place, last, path)? = value;
    Ok(())
}

/// A setting's value.
fn value(path: &str, text: &str) -> Result<Value> {
    let read = format!("value = {text}").parse::<Table>();
    match read.map(|mut table| (table.remove("value"), table.is_empty())) {
        Ok((Some(value), true)) => Ok(value),
        _ if text.starts_with(['[', '{', '"', '\'']) => Err(Error::recipe(
            path,
            format!("`{text}` is no whole TOML value"),
            "close what is open, and put strings in it into quotes: [128, 64], { decay = 0.9 }",
        )),
        // TOML has no place for it; the field says what it has a place for.
        _ => Ok(too_large(text).map_or_else(|| Value::String(text.into()), Value::Float)),
    }
}

/// A number that TOML has no place for, if the text is one.
fn too_large(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    let digits = text.ends_with(|c: char| c.is_ascii_digit());
    (digits && number.abs() >= i64::MAX as f64).then_some(number)
}

/// The value at `name` or `name[number]`; an empty table where there was none.
fn entry<'a>(table: &'a mut Table, part: &str, path: &str) -> Result<&'a mut Value> {
    let (name, numbers) = match part.split_once('[') {
        Some((name, rest)) => (
            name,
            rest.strip_suffix(']').ok_or_else(|| no_path(path, part))?,
        ),
        None => (part, ""),
    };
    let empty = || Value::Table(Table::new());
    if numbers.is_empty() {
        let place = table.entry(name).or_insert_with(empty);
        if place.as_str() == Some(OFF) {
            *place = empty();
        }
        return Ok(place);
    }
    let mut place = table
        .entry(name)
        .or_insert_with(|| Value::Array(Vec::new()));
    for number in numbers.split("][") {
        let number: usize = number.parse().map_err(|_| no_path(path, part))?;
        let Value::Array(list) = place else {
            return Err(no_path(path, part));
        };
        if number == list.len() {
            list.push(empty());
        }
        let length = list.len();
        place = list.get_mut(number).ok_or_else(|| {
            Error::recipe(
                path,
                format!("there is no element {number}"),
                match length {
                    0 => "the list is empty: choose 0, which makes its first".into(),
                    _ => format!("choose 0 to {length}, the next one"),
                },
            )
        })?;
    }
    Ok(place)
}

fn no_path(path: &str, part: &str) -> Error {
    Error::recipe(
        path,
        format!("`{part}` is no table that could hold a field"),
        "write a field's path, for example train.epochs or train.groups[0].pattern",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &str, settings: &[&str]) -> Result<Table> {
        let mut table = text.parse().unwrap();
        for setting in settings {
            set(&mut table, setting)?;
        }
        Ok(table)
    }

    #[test]
    fn settings_go_over_what_is_there() {
        for (text, setting, result) in [
            ("", "train.epochs=5", "train.epochs = 5"),
            ("train.epochs = 3", "train.epochs = 5 ", "train.epochs = 5"),
            ("", "name=mine", "name = \"mine\""),
            ("", "data.set=folder:a b", "data.set = \"folder:a b\""),
            ("", "data.set=\"5\"", "data.set = \"5\""),
            ("", "train.rate=1e-3", "train.rate = 1e-3"),
            ("", "model.head=[1, 2]", "model.head = [1, 2]"),
            (
                "",
                "augment.mix={mixup_alpha=0.8}",
                "augment.mix = { mixup_alpha = 0.8 }",
            ),
            (
                "train = { average = { decay = 0.9, every = 2 } }",
                "train.average.decay=0.999",
                "train = { average = { decay = 0.999, every = 2 } }",
            ),
            (
                "train.average = { decay = 0.9 }",
                "train.average=off",
                "train.average = \"off\"",
            ),
            // Off is no table, but one can come in its place.
            (
                "train.average = \"off\"",
                "train.average.decay=0.999",
                "train.average = { decay = 0.999 }",
            ),
            (
                "train.groups = [{ pattern = \"a\" }]",
                "train.groups[0].decay=0",
                "train.groups = [{ pattern = \"a\", decay = 0 }]",
            ),
            (
                "train.groups = [{ pattern = \"a\" }]",
                "train.groups[1].pattern=b",
                "train.groups = [{ pattern = \"a\" }, { pattern = \"b\" }]",
            ),
            (
                "",
                "train.groups[0].pattern=b",
                "train.groups = [{ pattern = \"b\" }]",
            ),
            (
                "model.head = [1, 2]",
                "model.head[1]=5",
                "model.head = [1, 5]",
            ),
            ("", "x=[[1], [2]]", "x = [[1], [2]]"),
            ("", "name=infinity", "name = \"infinity\""),
            ("", "name=1e400x9", "name = \"1e400x9\""),
            ("x = [[1], [2]]", "x[1][0]=5", "x = [[1], [5]]"),
        ] {
            let expected: Table = result.parse().unwrap();
            assert_eq!(after(text, &[setting]).unwrap(), expected, "{setting}");
        }
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for (text, setting, problem) in [
            ("", "train.epochs", "setting: `train.epochs` has no ="),
            ("x = 5", "x.y=1", "x.y: `x` is no table"),
            ("x = 5", "x[0]=1", "x[0]: `x[0]` is no table"),
            ("x = []", "x[1]=1", "x[1]: there is no element 1"),
            ("", "x[a]=1", "x[a]: `x[a]` is no table"),
            ("", "x[0=1", "x[0: `x[0` is no table"),
            ("", "model.head=[1, 2", "model.head: `[1, 2` is no whole"),
            ("", "a.b={c=d}", "a.b: `{c=d}` is no whole TOML value"),
        ] {
            let error = after(text, &[setting]).unwrap_err();
            assert!(error.to_string().starts_with(problem), "{error}");
            assert!(!error.remedy().is_empty());
        }
    }

    #[test]
    fn a_number_beyond_toml_s_is_left_to_its_field() {
        for (text, number) in [
            ("9223372036854775808", 9_223_372_036_854_775_808.0),
            ("-1e400", f64::NEG_INFINITY),
        ] {
            let table = after("", &[&format!("x.y={text}")]).unwrap();
            assert_eq!(table["x"]["y"].as_float(), Some(number));
        }
    }

    #[test]
    fn a_value_cannot_bring_fields_of_its_own() {
        let table = after("", &["a=1\nb = 2"]).unwrap();
        assert_eq!(table.keys().collect::<Vec<_>>(), ["a"]);
    }
}
