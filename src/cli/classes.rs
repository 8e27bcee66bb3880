//! Which of a model's classes a data set's are.

use clap::Args;
use smallvit::{Error, Result, words};

use super::output::{self, note};

/// What is said of classes whose names do not tell.
#[derive(Args)]
pub struct Matching {
    /// The data's name of a class and the model's for the same, as puppy=dog,kitten=cat.
    #[arg(long, value_delimiter = ',', value_name = "DATA=MODEL", value_parser = pair)]
    map: Vec<(String, String)>,
    /// Take the data's classes for the model's by their position, whatever their names are.
    #[arg(long, conflicts_with = "map")]
    by_position: bool,
}

/// Parses one of `--map`'s pairs.
fn pair(text: &str) -> Result<(String, String), String> {
    let (data, model) = text
        .split_once('=')
        .ok_or("give the data's name of a class and the model's, as puppy=dog")?;
    Ok((data.to_owned(), model.to_owned()))
}

impl Matching {
    /// For each of the data set's classes, the number of the model's: that of the same name, unless
    /// something else is said. A model from elsewhere whose classes have only their numbers for names
    /// knows them by position.
    pub fn of(
        &self,
        set: &str,
        theirs: &[String],
        ours: &[String],
        from_elsewhere: bool,
    ) -> Result<Vec<usize>> {
        let mut numbers = (0..).zip(ours);
        let unnamed = from_elsewhere && numbers.all(|(number, name)| *name == number.to_string());
        let nothing_said = self.map.is_empty() && !theirs.iter().all(|name| ours.contains(name));
        if self.by_position || (unnamed && nothing_said) {
            return by_position(set, theirs, ours);
        }
        let numbers = self.by_name(set, theirs, ours)?;
        if !numbers.is_sorted() {
            note!("{set} has the model's classes in another order: they are taken by their names");
        }
        let missing = (0..ours.len()).filter(|class| !numbers.contains(class));
        let missing: Vec<&str> = missing.map(|class| ours[class].as_str()).collect();
        if !missing.is_empty() {
            note!(
                "{set} has no images of {} of the model's {} classes: {}",
                missing.len(),
                ours.len(),
                listed(&missing)
            );
        }
        Ok(numbers)
    }

    fn by_name(&self, set: &str, theirs: &[String], ours: &[String]) -> Result<Vec<usize>> {
        for (data, model) in &self.map {
            let refuse = |whose: &str, name: &str, names: &[String]| {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let problem = format!("{whose} has no class {name:?}");
                Err(Error::recipe(
                    "--map",
                    problem,
                    format!("it has {}", listed(&names)),
                ))
            };
            if self
                .map
                .iter()
                .any(|other| other.0 == *data && other.1 != *model)
            {
                return Err(Error::recipe(
                    "--map",
                    format!("{data:?} is given two classes of the model"),
                    "give it one",
                ));
            }
            if !theirs.contains(data) {
                return refuse(set, data, theirs);
            }
            if !ours.contains(model) {
                return refuse("the model", model, ours);
            }
        }
        let mut numbers = vec![];
        let mut unknown = vec![];
        for name in theirs {
            let pair = self.map.iter().find(|(data, _)| data == name);
            let name = pair.map_or(name, |(_, model)| model);
            match ours.iter().position(|ours| ours == name) {
                Some(number) => numbers.push(number),
                None => unknown.push(name.as_str()),
            }
        }
        if unknown.is_empty() {
            return Ok(numbers);
        }
        let left = (0..ours.len()).filter(|class| !numbers.contains(class));
        let left: Vec<&str> = left.map(|class| ours[class].as_str()).collect();
        let others = match left.is_empty() {
            true => "has none beside those that are there, too".to_owned(),
            false => format!("has {} instead", listed(&left)),
        };
        Err(Error::recipe(
            "--data",
            format!(
                "{set} has classes that the model does not know, {}; the model {others}",
                listed(&unknown)
            ),
            "say which are the same with --map DATA=MODEL,… (names of the data's classes and the \
             model's), or insist on their order with --by-position",
        ))
    }
}

fn by_position(set: &str, theirs: &[String], ours: &[String]) -> Result<Vec<usize>> {
    if theirs.len() == ours.len() {
        return Ok((0..ours.len()).collect());
    }
    let (theirs, ours) = (theirs.len(), ours.len());
    Err(Error::recipe(
        "--data",
        format!("{set} has {theirs} classes, the model {ours}"),
        "taken by position, they must be as many",
    ))
}

/// The first of the names, and how many more there are.
fn listed(names: &[&str]) -> String {
    words::listed(names.iter().map(output::name), 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &str) -> Vec<String> {
        names.split(' ').map(str::to_owned).collect()
    }

    fn matched(map: &[&str], by_position: bool, theirs: &str, ours: &str) -> Result<Vec<usize>> {
        let map = map.iter().map(|text| pair(text).unwrap()).collect();
        Matching { map, by_position }.of("the data", &names(theirs), &names(ours), true)
    }

    #[test]
    fn classes_are_the_same_by_name_in_any_order() {
        assert_eq!(matched(&[], false, "cat dog", "cat dog").unwrap(), [0, 1]);
        assert_eq!(matched(&[], false, "dog cat", "cat dog").unwrap(), [1, 0]);
        let fewer = matched(&[], false, "owl cat", "ant cat dog owl");
        assert_eq!(fewer.unwrap(), [3, 1]);
    }

    #[test]
    fn other_names_are_refused_unless_it_is_said_what_they_mean() {
        let error = matched(&[], false, "cat puppy", "cat dog").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.contains("puppy") && text.contains("dog"), "{text}");
        assert!(!text.contains("cat"), "{text}");
        let mapped = matched(&["puppy=dog"], false, "puppy cat", "cat dog");
        assert_eq!(mapped.unwrap(), [1, 0]);
        // Two of the data's classes may be one of the model's.
        let both = matched(&["puppy=dog"], false, "puppy dog", "cat dog");
        assert_eq!(both.unwrap(), [1, 1]);
        let positions = matched(&[], true, "x y", "cat dog");
        assert_eq!(positions.unwrap(), [0, 1]);
        matched(&[], true, "x y z", "cat dog").unwrap_err();
        for wrong in ["pup=dog", "puppy=hound"] {
            let error = matched(&[wrong], false, "cat puppy", "cat dog").unwrap_err();
            assert!(error.to_string().starts_with("--map: "), "{error}");
        }
        assert!(pair("puppy").is_err());
    }

    #[test]
    fn numbers_for_names_are_positions() {
        assert_eq!(matched(&[], false, "cat dog", "0 1").unwrap(), [0, 1]);
        matched(&[], false, "cat dog owl", "0 1").unwrap_err();
        assert_eq!(
            matched(&["cat=1", "dog=0"], false, "cat dog", "0 1").unwrap(),
            [1, 0]
        );
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(&["a", "b"]), "a, b");
        assert_eq!(
            listed(&["a", "b", "c", "d", "e", "f", "g"]),
            "a, b, c, d, e and 2 more"
        );
    }
}
