//! The page's table of models.

use smallvit::report::page::{Cell, Row, Table};
use smallvit::train::answers::Answers;
use smallvit::train::history;
use smallvit::train::trials::Spread;
use smallvit::words;

use super::{Group, are_comparable};

/// What is better in a column.
#[derive(Clone, Copy, PartialEq)]
enum Better {
    More,
    Less,
    Neither,
}

/// A model's number in a column.
struct Known {
    value: f64,
    text: String,
    spread: String,
}

impl Known {
    fn plain(value: f64, text: String) -> Self {
        let spread = String::new();
        Self {
            value,
            text,
            spread,
        }
    }

    /// Percents of several seeds, with their deviation; of one, with what is known of its error.
    fn percent(values: Vec<f64>, error: Option<f64>) -> Option<Self> {
        let Spread {
            mean, deviation, ..
        } = Spread::of(&values)?;
        let spread = match values.len() {
            1 => error.map(|error| format!("± {error:.2}")),
            _ => Some(format!("± {deviation:.2}")),
        };
        Some(Self {
            value: mean,
            text: format!("{mean:.2} %"),
            spread: spread.unwrap_or_default(),
        })
    }
}

/// A column: how a model's number is found, and what is better.
type Column = (&'static str, Better, fn(&Group) -> Option<Known>);

const COLUMNS: [Column; 8] = [
    ("parameters", Better::Neither, |group| {
        let parameters = group.results().first()?.parameters;
        Some(Known::plain(parameters as f64, words::count(parameters)))
    }),
    ("validation top-1", Better::More, |group| {
        let best = group.runs.iter().filter_map(|run| {
            let best = run.history.get(history::best(&run.history)?)?;
            Some(best.validation.top1)
        });
        Known::percent(best.collect(), None)
    }),
    ("test top-1", Better::More, |group| {
        let error = group.results().first()?.test_top1_standard_error;
        Known::percent(group.tests(), error)
    }),
    ("top-5", Better::More, |group| {
        let results = group.results().into_iter();
        Known::percent(
            results.filter_map(|result| result.test_top5).collect(),
            None,
        )
    }),
    ("macro-F1", Better::More, |group| {
        let answers = group.answers().into_iter();
        Known::percent(answers.map(Answers::macro_f1).collect(), None)
    }),
    (CALIBRATION, Better::Less, |group| {
        let answers = group.answers().into_iter();
        Known::percent(answers.map(|all| all.calibration().error).collect(), None)
    }),
    ("epochs (best)", Better::Neither, |group| {
        let epochs = group.runs.iter().map(|run| run.history.len()).max()?;
        let best = history::best(&group.runs[0].history)? + 1;
        let run = group.runs[0];
        let text = match (group.runs.len(), &run.result) {
            (1, Some(_)) => format!("{epochs} ({best})"),
            (1, None) => format!("{epochs} of {} ({best})", run.recipe.train.epochs),
            _ => epochs.to_string(),
        };
        Some(Known::plain(epochs as f64, text))
    }),
    ("time", Better::Neither, |group| {
        let epochs = group.runs.iter().flat_map(|run| &run.history);
        let seconds: f64 = epochs.map(|epoch| epoch.seconds).sum();
        Some(Known::plain(seconds, words::seconds(seconds)))
    }),
];

const CALIBRATION: &str = "calibration error";

/// The table, without columns of which nothing is known.
pub fn table(groups: &[Group]) -> Table {
    let columns = COLUMNS.map(|(heading, better, of)| {
        let known: Vec<Option<Known>> = groups.iter().map(of).collect();
        (heading, better, known)
    });
    let columns: Vec<_> = columns
        .into_iter()
        .filter(|(_, _, known)| known.iter().any(Option::is_some))
        .collect();
    let comparable = are_comparable(groups);
    let rows = groups.iter().enumerate().map(|(number, group)| Row {
        model: group.model.clone(),
        cells: columns
            .iter()
            .map(|(_, better, known)| {
                let better = if comparable { *better } else { Better::Neither };
                cell(number, better, known)
            })
            .collect(),
    });
    let several = groups.iter().any(|group| group.runs.len() > 1);
    let tested = groups.iter().any(|group| !group.results().is_empty());
    let mut caption = match (several, tested) {
        (true, _) => "Means over the seeds ± standard deviation, of",
        (false, true) => "Test accuracy ± standard error, of",
        (false, false) => "Of",
    }
    .to_owned();
    caption += " the epoch that is best on the validation images.";
    if tested {
        caption += " The test images were read once, at the end.";
    }
    if columns.iter().any(|column| column.0 == CALIBRATION) {
        caption += " Calibration error: how far confidence and accuracy lie apart, on average.";
    }
    if groups.len() > 1 && comparable {
        caption += " Bold: the best of its column.";
    }
    Table {
        header: columns.iter().map(|column| column.0.to_owned()).collect(),
        rows: rows.collect(),
        caption,
    }
}

fn cell(number: usize, better: Better, known: &[Option<Known>]) -> Cell {
    let Some(own) = &known[number] else {
        return Cell {
            text: "–".into(),
            ..Cell::default()
        };
    };
    let all = |holds: &dyn Fn(f64) -> bool| known.iter().flatten().all(|of| holds(of.value));
    let best = match better {
        Better::More => all(&|other| own.value >= other),
        Better::Less => all(&|other| own.value <= other),
        Better::Neither => false,
    };
    Cell {
        text: own.text.clone(),
        spread: own.spread.clone(),
        best: best && known.len() > 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_a_column_is_marked() {
        let known = [70.0, 80.0].map(|value| Known::percent(vec![value], Some(1.5)));
        let best = |better| [0, 1].map(|number| cell(number, better, &known).best);
        assert_eq!(best(Better::More), [false, true]);
        assert_eq!(best(Better::Less), [true, false]);
        assert_eq!(best(Better::Neither), [false, false]);
        assert_eq!(cell(0, Better::More, &known).spread, "± 1.50");
        // Alone, or with nothing known of it, it is no best.
        assert!(!cell(0, Better::More, &known[..1]).best);
        let unknown = [None, Known::percent(vec![1.0, 3.0], None)];
        assert_eq!(cell(0, Better::More, &unknown).text, "–");
        assert_eq!(cell(1, Better::More, &unknown).spread, "± 1.41");
    }
}
