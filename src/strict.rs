//! Reading settings strictly: from a [`toml::Value`] into any type that serde can fill, with
//! errors for the person who wrote the settings.
//!
//! A refusal names the field by its whole path (`train.groups[1].pattern`), says what is wrong
//! with it, and what to do: the field that was probably meant, the choices there are, or a value
//! of the right type. Besides what every reader of serde does:
//!
//! - `1` may stand for `1.0`, and `1e3` for `1000`;
//! - an optional field may be `"off"`, which is the same as leaving it out; so a setting on top of
//!   a file can take away what the file gives. ([`or_off`] writes it that way, too.) An optional
//!   field should therefore not itself have a string or a choice named `off`;
//! - a table that is read into a struct must be a table, never a list of values in order.
//!
//! ```
//! use serde::Deserialize;
//! use smallvit::strict;
//!
//! #[derive(Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct Training {
//!     epochs: u64,
//! }
//!
//! impl Default for Training {
//!     fn default() -> Self {
//!         Self { epochs: 50 }
//!     }
//! }
//!
//! let value = |text: &str| toml::Value::Table(text.parse().unwrap());
//! let known = "train = { epochs = 50 }".parse().unwrap();
//! let read = |text| strict::read::<Training>(value(text), "train", &known);
//!
//! assert_eq!(read("epochs = 5").ok().unwrap().epochs, 5);
//! let error = read("epoch = 5").err().unwrap();
//! assert_eq!(error.to_string(), "train.epoch: there is no such field");
//! assert_eq!(error.remedy(), "did you mean train.epochs?");
//! ```

use std::fmt;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::{Serialize, Serializer, forward_to_deserialize_any};
use toml::{Table, Value};

use crate::error::{Error, Result};

/// What an optional field is set to where it has no value.
pub const OFF: &str = "off";

/// Reads `value`, which stands at `path`, into a `T`.
///
/// `known` is the whole of the settings with an example of each field, from the top: its names
/// are suggested for unknown ones, its values shown for values of a wrong type. It may be empty.
///
/// # Errors
/// [`Error::Recipe`], with the full path of the field.
pub fn read<T: DeserializeOwned>(value: Value, path: &str, known: &Table) -> Result<T> {
    T::deserialize(Reader(value)).map_err(|problem| problem.explain(path, known))
}

/// For `#[serde(serialize_with = "…")]` on an optional field: none is written as `"off"`, so that
/// whoever reads the settings sees that there is such a field.
pub fn or_off<T: Serialize, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(to),
        None => to.serialize_str(OFF),
    }
}

/// The one of `words` that is most like `word`, if any is. A word that is longer than any slip would
/// make it is like none.
pub fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 100 {
        return None;
    }
    let score = |other: &str| {
        // In a short word one slip is much of it.
        let slip = word.len() > 2 && strsim::osa_distance(word, other) <= 1;
        strsim::jaro_winkler(word, other).max(if slip { 0.85 } else { 0.0 })
    };
    let scored = words.into_iter().map(|other| (score(other), other));
    scored
        .filter(|(score, _)| *score > 0.8)
        // The first of several equals.
        .fold(None, |best: Option<(f64, &str)>, each| match best {
            Some(best) if best.0 >= each.0 => Some(best),
            _ => Some(each),
        })
        .map(|(_, word)| word)
}

/// "a", "a or b", "a, b or c".
pub fn alternatives<S: AsRef<str>>(words: &[S]) -> String {
    match words {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} or {}", first.join(", "), last.as_ref())
        }
    }
}

/// A step on the way to a value.
#[derive(Debug)]
enum Step {
    Field(String),
    Element(usize),
}

/// What is wrong with a value.
#[derive(Debug)]
enum Kind {
    NoSuchField(String, &'static [&'static str]),
    Missing(&'static str),
    NoSuchChoice(String, &'static [&'static str]),
    NoChoice(String, &'static [&'static str]),
    WrongType(String, String),
    OutOfRange(String, String),
    Length(usize, String),
    Other(String),
}

/// A refusal on its way up to where the whole path is known.
#[derive(Debug)]
struct Problem {
    kind: Kind,
    /// From the value up.
    steps: Vec<Step>,
    /// Whether the value itself may be off.
    optional: bool,
}

impl Problem {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            steps: vec![],
            optional: false,
        }
    }

    /// The same, seen from one level up.
    fn within(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn explain(self, path: &str, known: &Table) -> Error {
        let place = self.steps.iter().rev().fold(path.to_owned(), join);
        let example = example(known, &place);
        let or_off = if self.optional {
            format!(", or \"{OFF}\"")
        } else {
            String::new()
        };
        let (problem, remedy) = match self.kind {
            Kind::NoSuchField(name, fields) => return no_such_field(&place, &name, fields, known),
            Kind::Missing(name) => return missing(&place, name, known),
            Kind::NoSuchChoice(name, choices) => (
                format!("there is no choice \"{name}\" here"),
                match nearest(&name, choices.iter().copied()) {
                    Some(near) => format!(
                        "did you mean \"{near}\"? The choices are {}{or_off}",
                        choices.join(", ")
                    ),
                    None => format!("choose {}{or_off}", alternatives(choices)),
                },
            ),
            Kind::NoChoice(found, choices) => {
                (found, format!("choose {}{or_off}", alternatives(choices)))
            }
            Kind::WrongType(found, expected) => (
                found,
                format!("give {}{or_off}", with_example(&expected, example)),
            ),
            Kind::OutOfRange(found, expected) => (
                format!("{found} is out of range"),
                format!("give {}{or_off}", with_example(&expected, example)),
            ),
            Kind::Length(found, expected) => (
                format!("its length is {found}"),
                format!("give {}", with_example(&expected, example)),
            ),
            Kind::Other(problem) => (
                problem,
                match example {
                    Some(example) => format!("a value that can be is {example}"),
                    None => "give another value".into(),
                },
            ),
        };
        let place = if place.is_empty() {
            "settings".into()
        } else {
            place
        };
        Error::recipe(place, problem, remedy)
    }
}

fn join(mut path: String, step: &Step) -> String {
    match step {
        Step::Element(number) => path += &format!("[{number}]"),
        Step::Field(name) => {
            if !path.is_empty() {
                path.push('.');
            }
            path += name;
        }
    }
    path
}

fn no_such_field(place: &str, name: &str, fields: &[&str], known: &Table) -> Error {
    let here = |name: &str| join(place.to_owned(), &Step::Field(name.to_owned()));
    // Some tables are read in two goes; `known` has the fields of both.
    let siblings: Vec<&str> = if place.is_empty() {
        known.keys().map(String::as_str).collect()
    } else {
        let table = example(known, place).and_then(Value::as_table);
        table.iter().flat_map(|t| t.keys()).map(|k| &**k).collect()
    };
    let siblings = fields.iter().copied().chain(
        siblings
            .into_iter()
            .filter(|sibling| !fields.contains(sibling)),
    );
    let siblings: Vec<&str> = siblings.collect();
    let mut paths: Vec<String> = siblings.iter().map(|sibling| here(sibling)).collect();
    leaves(known, "", &mut paths);
    let leaf = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let names: Vec<String> = paths.iter().map(|path| leaf(path)).collect();
    let near = nearest(name, names.iter().map(String::as_str));
    let near = near.and_then(|near| names.iter().position(|name| name == near));
    let remedy = match near {
        Some(near) => format!("did you mean {}?", paths[near]),
        None => format!("the fields are {}", siblings.join(", ")),
    };
    Error::recipe(here(name), "there is no such field", remedy)
}

fn missing(place: &str, name: &str, known: &Table) -> Error {
    let field = join(place.to_owned(), &Step::Field(name.to_owned()));
    let remedy = match example(known, &field) {
        Some(example) => format!("add it, for example {name} = {example}"),
        None => "add it".into(),
    };
    Error::recipe(field, "it is missing", remedy)
}

/// The paths of all fields that are no tables.
fn leaves(table: &Table, path: &str, all: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            Value::Table(inner) => leaves(inner, &format!("{path}{key}."), all),
            _ => all.push(format!("{path}{key}")),
        }
    }
}

/// What `known` has at a path; of a list, its first element stands for all.
fn example<'a>(known: &'a Table, path: &str) -> Option<&'a Value> {
    let mut found: Option<&Value> = None;
    for part in path.split('.') {
        let table = match found {
            None => known,
            Some(value) => value.as_table()?,
        };
        let (name, elements) = match part.split_once('[') {
            Some((name, rest)) => (name, 1 + rest.matches('[').count()),
            None => (part, 0),
        };
        let mut value = table.get(name)?;
        for _ in 0..elements {
            value = value.as_array()?.first()?;
        }
        found = Some(value);
    }
    found
}

fn with_example(expected: &str, known: Option<&Value>) -> String {
    let own = match expected {
        NUMBER => "0.5",
        "true or false" => return expected.into(),
        "a string" => "\"text\"",
        _ if expected.starts_with(WHOLE) => "1",
        _ => "",
    };
    match known.map(|example| (example, example.to_string())) {
        // A large table is told by its names.
        Some((Value::Table(table), text)) if text.len() > 80 => {
            let names: Vec<&str> = table.keys().map(String::as_str).collect();
            format!("{expected}, of {}", names.join(", "))
        }
        Some((_, example)) => format!("{expected}, such as {example}"),
        None if own.is_empty() => expected.into(),
        None => format!("{expected}, such as {own}"),
    }
}

const NUMBER: &str = "a number";
const WHOLE: &str = "a whole number";

/// What serde expects, in a person's words.
fn expected(what: &dyn Expected) -> String {
    let what = what.to_string();
    let up_to = |least: &str, most: &str| format!("{WHOLE} from {least} to {most}");
    match what.as_str() {
        "u64" | "usize" | "u128" => format!("{WHOLE} that is not negative"),
        "u32" => up_to("0", "4294967295"),
        "u16" => up_to("0", "65535"),
        "u8" => up_to("0", "255"),
        "i64" | "isize" | "i128" => WHOLE.into(),
        "i32" => up_to("-2147483648", "2147483647"),
        "i16" => up_to("-32768", "32767"),
        "i8" => up_to("-128", "127"),
        "f32" | "f64" => NUMBER.into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list".into(),
        "a map" => "a table".into(),
        _ if what.starts_with("struct ") => "a table".into(),
        _ => what.replace("an array of", "a list of"),
    }
}

/// What was found, as a whole sentence.
fn found(what: Unexpected, expected: &str) -> String {
    match what {
        Unexpected::Bool(value) => format!("{value} is a boolean"),
        Unexpected::Unsigned(value) => format!("{value} is a whole number"),
        Unexpected::Signed(value) => format!("{value} is a whole number"),
        // Above 2⁵³: see `Reader::whole`.
        Unexpected::Float(value) if expected.starts_with(WHOLE) && value.fract() == 0.0 => {
            format!(
                "{value:?} is out of range: in this form a whole number is at most {}, and written in \
                 full at most {}",
                1u64 << 53,
                i64::MAX
            )
        }
        Unexpected::Float(value) if expected.starts_with(WHOLE) => {
            format!("{value:?} is not a whole number")
        }
        Unexpected::Float(value) => format!("{value:?} is a number"),
        Unexpected::Str(value) => {
            let mut short: String = value.chars().take(60).collect();
            if short.len() < value.len() {
                short.push('…');
            }
            format!("\"{short}\" is a string")
        }
        Unexpected::Seq => "it is a list".into(),
        Unexpected::Map => "it is a table".into(),
        other => format!("it is {other}"),
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl std::error::Error for Problem {}

impl de::Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Kind::Other(message.to_string()))
    }

    fn invalid_type(what: Unexpected, wanted: &dyn Expected) -> Self {
        let wanted = expected(wanted);
        Self::new(Kind::WrongType(found(what, &wanted), wanted))
    }

    fn invalid_value(what: Unexpected, wanted: &dyn Expected) -> Self {
        let what = match what {
            Unexpected::Unsigned(value) => value.to_string(),
            Unexpected::Signed(value) => value.to_string(),
            Unexpected::Float(value) => format!("{value:?}"),
            other => other.to_string(),
        };
        Self::new(Kind::OutOfRange(what, expected(wanted)))
    }

    fn invalid_length(length: usize, wanted: &dyn Expected) -> Self {
        Self::new(Kind::Length(length, expected(wanted)))
    }

    fn unknown_variant(name: &str, choices: &'static [&'static str]) -> Self {
        Self::new(Kind::NoSuchChoice(name.into(), choices))
    }

    fn unknown_field(name: &str, fields: &'static [&'static str]) -> Self {
        Self::new(Kind::NoSuchField(name.into(), fields))
    }

    fn missing_field(name: &'static str) -> Self {
        Self::new(Kind::Missing(name))
    }
}

/// Hands a value over to serde.
struct Reader(Value);

/// What a whole number may be written as: `1e3` is TOML's notation for a float.
macro_rules! whole {
    ($($method:ident)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
            self.whole().deserialize_any(visitor)
        })+
    };
}

impl Reader {
    /// A float without a fraction as a whole number, where it is exact.
    fn whole(self) -> Self {
        /// Above it, not every whole number is a float.
        const EXACT: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;
        match self.0 {
            Value::Float(value) if value.fract() == 0.0 && value.abs() <= EXACT => {
                Self(Value::Integer(value as i64))
            }
            _ => self,
        }
    }

    fn unexpected(&self) -> Unexpected<'_> {
        match &self.0 {
            Value::String(value) => Unexpected::Str(value),
            Value::Integer(value) => Unexpected::Signed(*value),
            Value::Float(value) => Unexpected::Float(*value),
            Value::Boolean(value) => Unexpected::Bool(*value),
            Value::Datetime(_) => Unexpected::Other("a date"),
            Value::Array(_) => Unexpected::Seq,
            Value::Table(_) => Unexpected::Map,
        }
    }
}

impl<'de> Deserializer<'de> for Reader {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0 {
            Value::String(value) => visitor.visit_string(value),
            Value::Integer(value) => visitor.visit_i64(value),
            Value::Float(value) => visitor.visit_f64(value),
            Value::Boolean(value) => visitor.visit_bool(value),
            Value::Datetime(_) => Err(de::Error::invalid_type(self.unexpected(), &visitor)),
            Value::Array(values) => visit_list(values, visitor),
            Value::Table(table) => visitor.visit_map(Fields::new(table)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0 {
            Value::Table(_) => self.deserialize_any(visitor),
            _ => Err(de::Error::invalid_type(self.unexpected(), &visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.deserialize_map(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        if self.0.as_str() == Some(OFF) {
            return visitor.visit_none();
        }
        visitor.visit_some(self).map_err(|mut problem| {
            problem.optional |= problem.steps.is_empty();
            problem
        })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        choices: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let refused = found(self.unexpected(), "");
        match self.0 {
            Value::String(name) => visitor.visit_enum(Choice {
                name,
                content: None,
            }),
            Value::Table(table) if table.len() == 1 => {
                let mut one = table.into_iter();
                let (name, content) = one.next().unwrap_or((String::new(), Value::Boolean(false)));
                visitor.visit_enum(Choice {
                    name,
                    content: Some(content),
                })
            }
            Value::Table(table) => Err(Problem::new(Kind::NoChoice(
                format!("it names {} choices, not one", table.len()),
                choices,
            ))),
            _ => Err(Problem::new(Kind::NoChoice(refused, choices))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_unit()
    }

    whole! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    forward_to_deserialize_any! {
        bool f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct
        identifier
    }
}

impl<'de> IntoDeserializer<'de, Problem> for Reader {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// A table's fields, one after another.
struct Fields {
    rest: <Table as IntoIterator>::IntoIter,
    current: Option<(String, Value)>,
}

impl Fields {
    fn new(table: Table) -> Self {
        Self {
            rest: table.into_iter(),
            current: None,
        }
    }
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Problem> {
        self.current = self.rest.next();
        let Some((key, _)) = &self.current else {
            return Ok(None);
        };
        seed.deserialize(key.clone().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        let Some((key, value)) = self.current.take() else {
            return Err(de::Error::custom("a value was asked for before its name"));
        };
        seed.deserialize(Reader(value))
            .map_err(|problem| problem.within(Step::Field(key)))
    }
}

/// A list's elements, one after another.
struct Elements {
    rest: std::vec::IntoIter<Value>,
    next: usize,
}

impl<'de> SeqAccess<'de> for Elements {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Problem> {
        let Some(value) = self.rest.next() else {
            return Ok(None);
        };
        let number = self.next;
        self.next += 1;
        seed.deserialize(Reader(value))
            .map(Some)
            .map_err(|problem| problem.within(Step::Element(number)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// A list into a visitor, which must take all of it.
fn visit_list<'de, V: Visitor<'de>>(values: Vec<Value>, visitor: V) -> Result<V::Value, Problem> {
    let length = values.len();
    let mut elements = Elements {
        rest: values.into_iter(),
        next: 0,
    };
    let read = visitor.visit_seq(&mut elements)?;
    if elements.rest.len() > 0 {
        let taken = format!("a list of length {}", elements.next);
        return Err(de::Error::invalid_length(length, &taken.as_str()));
    }
    Ok(read)
}

/// One of an enum's variants: its name alone, or a table of its name and content.
struct Choice {
    name: String,
    content: Option<Value>,
}

impl<'de> EnumAccess<'de> for Choice {
    type Error = Problem;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Problem> {
        let variant = seed.deserialize(self.name.clone().into_deserializer())?;
        Ok((variant, self))
    }
}

impl Choice {
    fn content(self) -> Result<(String, Reader), Problem> {
        match self.content {
            Some(content) => Ok((self.name, Reader(content))),
            None => Err(Problem::new(Kind::WrongType(
                format!("\"{}\" alone does not say enough", self.name),
                format!("a table, {{ {} = … }}", self.name),
            ))),
        }
    }
}

impl<'de> VariantAccess<'de> for Choice {
    type Error = Problem;

    fn unit_variant(self) -> Result<(), Problem> {
        match self.content {
            None => Ok(()),
            Some(_) => Err(Problem::new(Kind::WrongType(
                format!("the choice {} takes no value", self.name),
                format!("its name alone, \"{}\"", self.name),
            ))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Problem> {
        let (name, content) = self.content()?;
        seed.deserialize(content)
            .map_err(|problem| problem.within(Step::Field(name)))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Problem> {
        let (name, content) = self.content()?;
        content
            .deserialize_any(visitor)
            .map_err(|problem| problem.within(Step::Field(name)))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let (name, content) = self.content()?;
        content
            .deserialize_map(visitor)
            .map_err(|problem| problem.within(Step::Field(name)))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Whole {
        name: String,
        train: Train,
        augment: Augment,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Train {
        epochs: u64,
        small: u8,
        rate: f64,
        widths: Vec<usize>,
        shape: Option<[usize; 3]>,
        scale: Option<f64>,
        kind: Kind,
        rule: Option<Rule>,
        groups: Vec<Group>,
        average: Option<Average>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        #[default]
        Constant,
        WarmupCosine,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Rule {
        Never,
        Every(u64),
        Between { first: u64, last: u64 },
        Pair(u64, u64),
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Augment {
        flip: bool,
        zoom: f64,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Group {
        pattern: String,
        #[serde(default)]
        decay: f64,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Average {
        decay: f64,
        every: u64,
    }

    impl Default for Average {
        fn default() -> Self {
            Self {
                decay: 0.99,
                every: 1,
            }
        }
    }

    fn known() -> Table {
        r#"
            name = "x"
            [train]
            epochs = 50
            rate = 1e-3
            widths = [128, 64]
            scale = 1e-4
            kind = "constant"
            groups = [{ pattern = "*.bias", decay = 0.0 }]
            average = { decay = 0.99, every = 1 }
            [augment]
            flip = true
            zoom = 0.2
        "#
        .parse()
        .unwrap()
    }

    fn whole(text: &str) -> Result<Whole> {
        read(Value::Table(text.parse().unwrap()), "", &known())
    }

    fn refusal(text: &str) -> (String, String) {
        let error = whole(text).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        (error.to_string(), error.remedy().to_owned())
    }

    #[test]
    fn tables_options_choices_and_lists_are_read() {
        let read = whole(
            r#"
                name = "mine"
                [train]
                epochs = 3
                small = 255
                rate = 1
                widths = []
                shape = [1, 2, 3]
                scale = 2
                kind = "warmup-cosine"
                rule = { between = { first = 1, last = 2 } }
                average.every = 5
                [[train.groups]]
                pattern = "a"
                [[train.groups]]
                pattern = "b"
                decay = 1
            "#,
        )
        .unwrap();
        let group = |pattern: &str, decay| Group {
            pattern: pattern.into(),
            decay,
        };
        let expected = Whole {
            name: "mine".into(),
            train: Train {
                epochs: 3,
                small: 255,
                rate: 1.0,
                widths: vec![],
                shape: Some([1, 2, 3]),
                scale: Some(2.0),
                kind: Kind::WarmupCosine,
                rule: Some(Rule::Between { first: 1, last: 2 }),
                groups: vec![group("a", 0.0), group("b", 1.0)],
                average: Some(Average {
                    decay: 0.99,
                    every: 5,
                }),
            },
            augment: Augment::default(),
        };
        assert_eq!(read, expected);
        let rule = |text: &str| whole(&format!("train.rule = {text}")).unwrap().train.rule;
        assert_eq!(rule("\"never\""), Some(Rule::Never));
        assert_eq!(rule("{ every = 3 }"), Some(Rule::Every(3)));
        assert_eq!(rule("{ pair = [3, 4] }"), Some(Rule::Pair(3, 4)));
    }

    #[test]
    fn off_is_no_value_for_optional_fields_alone() {
        let read = whole("train = { scale = \"off\", average = \"off\", rule = \"off\" }").unwrap();
        assert_eq!(read.train, Train::default());
        assert!(whole("train.rate = \"off\"").is_err());
        // As it is written, so it is read.
        #[derive(Serialize)]
        struct Written {
            #[serde(serialize_with = "or_off")]
            scale: Option<f64>,
        }
        for (scale, text) in [(None, "scale = \"off\"\n"), (Some(0.5), "scale = 0.5\n")] {
            assert_eq!(toml::to_string(&Written { scale }).unwrap(), text);
            let read = whole(&format!("[train]\n{text}")).unwrap();
            assert_eq!(read.train.scale, scale);
        }
    }

    #[test]
    fn tables_and_lists_of_them_may_stand_among_other_fields() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Outer {
            first: u32,
            #[serde(serialize_with = "or_off")]
            inner: Option<Inner>,
            list: Vec<Inner>,
            last: u32,
        }
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Inner {
            x: f64,
        }
        let inner = |x| Inner { x };
        for (one, list) in [
            (None, vec![]),
            (Some(inner(0.5)), vec![inner(1.0), inner(2.0)]),
        ] {
            let outer = Outer {
                first: 1,
                inner: one,
                list,
                last: 2,
            };
            let text = toml::to_string(&outer).unwrap();
            let table: Table = text.parse().unwrap();
            assert_eq!(table.len(), 4, "{text}");
            let found: Outer = read(Value::Table(table), "", &Table::new()).unwrap();
            assert_eq!(found, outer);
        }
    }

    #[test]
    fn unknown_fields_get_the_nearest_name_or_the_list() {
        for (text, field, remedy) in [
            (
                "train.epoch = 1",
                "train.epoch",
                "did you mean train.epochs?",
            ),
            ("trian.epochs = 1", "trian", "did you mean train?"),
            // A leaf of another table.
            ("epochs = 1", "epochs", "did you mean train.epochs?"),
            (
                "train.zoom = 0.1",
                "train.zoom",
                "did you mean augment.zoom?",
            ),
            ("augment.qq = 1", "augment.qq", "the fields are flip, zoom"),
            ("zzz = 1", "zzz", "the fields are "),
            (
                "train.average.evry = 1",
                "train.average.evry",
                "did you mean train.average.every?",
            ),
            (
                "train.groups = [{ pattern = \"a\" }, { patern = \"b\" }]",
                "train.groups[1].patern",
                "did you mean train.groups[1].pattern?",
            ),
        ] {
            let (problem, help) = refusal(text);
            assert_eq!(problem, format!("{field}: there is no such field"));
            assert!(help.starts_with(remedy), "{text}: {help}");
        }
    }

    #[test]
    fn a_table_read_in_two_goes_has_the_names_of_both() {
        let known = "augment = { flip = true, zoom = 0.2, colour = 1 }"
            .parse()
            .unwrap();
        let read = |text: &str| {
            let value = Value::Table(text.parse().unwrap());
            read::<Augment>(value, "augment", &known).unwrap_err()
        };
        let near = read("color = 1");
        assert_eq!(near.to_string(), "augment.color: there is no such field");
        assert_eq!(near.remedy(), "did you mean augment.colour?");
        assert_eq!(read("qq = 1").remedy(), "the fields are flip, zoom, colour");
    }

    #[test]
    fn wrong_types_say_what_they_are_and_what_would_do() {
        for (text, problem, remedy) in [
            (
                "train.epochs = \"many\"",
                "train.epochs: \"many\" is a string",
                "give a whole number that is not negative, such as 50",
            ),
            (
                "train.epochs = 1.5",
                "train.epochs: 1.5 is not a whole number",
                "give a whole number that is not negative, such as 50",
            ),
            (
                "train.rate = true",
                "train.rate: true is a boolean",
                "give a number, such as 0.001",
            ),
            (
                "train.scale = [1]",
                "train.scale: it is a list",
                "give a number, such as 0.0001, or \"off\"",
            ),
            (
                "train.scale = 1979-05-27",
                "train.scale: it is a date",
                "give a number, such as 0.0001, or \"off\"",
            ),
            (
                "train.widths = 5",
                "train.widths: 5 is a whole number",
                "give a list, such as [128, 64]",
            ),
            (
                "train.widths = [5, \"x\"]",
                "train.widths[1]: \"x\" is a string",
                "give a whole number that is not negative, such as 128",
            ),
            (
                "name = 5",
                "name: 5 is a whole number",
                "give a string, such as \"x\"",
            ),
            (
                "augment.flip = 1",
                "augment.flip: 1 is a whole number",
                "give true or false",
            ),
            // A list is no table, though serde would take it for one.
            (
                "augment = [true, 0.5]",
                "augment: it is a list",
                "give a table, such as { flip = true, zoom = 0.2 }",
            ),
            (
                "train.average = 0.9",
                "train.average: 0.9 is a number",
                "give a table, such as { decay = 0.99, every = 1 }, or \"off\"",
            ),
            (
                "train.average.every = \"x\"",
                "train.average.every: \"x\" is a string",
                "give a whole number that is not negative, such as 1",
            ),
            (
                "train.groups = [{ pattern = \"a\" }, { pattern = 3 }]",
                "train.groups[1].pattern: 3 is a whole number",
                "give a string, such as \"*.bias\"",
            ),
        ] {
            assert_eq!(refusal(text), (problem.into(), remedy.into()));
        }
    }

    #[test]
    fn numbers_out_of_range_and_lengths_are_refused() {
        for (text, problem, remedy) in [
            (
                "train.epochs = -5",
                "train.epochs: -5 is out of range",
                "give a whole number that is not negative, such as 50",
            ),
            (
                "train.small = 256",
                "train.small: 256 is out of range",
                "give a whole number from 0 to 255, such as 1",
            ),
            (
                "train.shape = [1, 2]",
                "train.shape: its length is 2",
                "give a list of length 3",
            ),
            (
                "train.shape = [1, 2, 3, 4]",
                "train.shape: its length is 4",
                "give a list of length 3",
            ),
        ] {
            assert_eq!(refusal(text), (problem.into(), remedy.into()));
        }
    }

    #[test]
    fn choices_are_listed() {
        for (text, problem, remedy) in [
            (
                "train.kind = \"warmup-cosin\"",
                "train.kind: there is no choice \"warmup-cosin\" here",
                "did you mean \"warmup-cosine\"? The choices are constant, warmup-cosine",
            ),
            (
                "train.kind = \"x\"",
                "train.kind: there is no choice \"x\" here",
                "choose constant or warmup-cosine",
            ),
            (
                "train.kind = 3",
                "train.kind: 3 is a whole number",
                "choose constant or warmup-cosine",
            ),
            (
                "train.rule = 3",
                "train.rule: 3 is a whole number",
                "choose never, every, between or pair, or \"off\"",
            ),
            (
                "train.rule = { every = 3, pair = [1, 2] }",
                "train.rule: it names 2 choices, not one",
                "choose never, every, between or pair, or \"off\"",
            ),
            (
                "train.rule = \"every\"",
                "train.rule: \"every\" alone does not say enough",
                "give a table, { every = … }, or \"off\"",
            ),
            (
                "train.rule = { never = 3 }",
                "train.rule: the choice never takes no value",
                "give its name alone, \"never\", or \"off\"",
            ),
            (
                "train.rule.between = { first = 1, last = \"x\" }",
                "train.rule.between.last: \"x\" is a string",
                "give a whole number that is not negative, such as 1",
            ),
        ] {
            assert_eq!(refusal(text), (problem.into(), remedy.into()));
        }
    }

    #[test]
    fn missing_fields_are_named() {
        assert_eq!(
            refusal("train.groups = [{ decay = 1 }]"),
            (
                "train.groups[0].pattern: it is missing".into(),
                "add it, for example pattern = \"*.bias\"".into(),
            )
        );
        assert_eq!(
            refusal("train.rule.between.first = 1"),
            (
                "train.rule.between.last: it is missing".into(),
                "add it".into()
            )
        );
    }

    #[test]
    fn paths_begin_where_the_value_stands_and_examples_are_optional() {
        let value: Value = "groups = [{ pattern = 1 }]"
            .parse::<Table>()
            .unwrap()
            .into();
        let error = read::<Train>(value, "train", &Table::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "train.groups[0].pattern: 1 is a whole number"
        );
        assert_eq!(error.remedy(), "give a string, such as \"text\"");
        let error = read::<Train>(Value::Integer(1), "", &Table::new()).unwrap_err();
        assert_eq!(error.to_string(), "settings: 1 is a whole number");
    }

    #[test]
    fn words_are_near_by_their_letters() {
        let near = |word| nearest(word, ["vit", "epochs", "epoch_size"]);
        for (word, expected) in [
            ("vti", Some("vit")),
            ("epoch", Some("epochs")),
            ("epochs", Some("epochs")),
            ("resnet", None),
            ("", None),
        ] {
            assert_eq!(near(word), expected, "{word}");
        }
        assert_eq!(nearest("x", []), None);
        assert_eq!(alternatives(&["a"]), "a");
        assert_eq!(alternatives(&["a", "b", "c"]), "a, b or c");
    }

    #[test]
    fn long_strings_are_shortened() {
        let (problem, _) = refusal(&format!("train.epochs = \"{}\"", "ü".repeat(100)));
        let shown = format!("\"{}…\" is a string", "ü".repeat(60));
        assert_eq!(problem, format!("train.epochs: {shown}"));
    }
}
