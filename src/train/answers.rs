//! What a model says to each image of a data set, and what follows from it: accuracies by class, which classes
//! it takes for which, how far its confidence can be trusted, and its worst mistakes.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::metrics::{Metrics, image_loss, probabilities, rank};
use crate::atomic;
use crate::error::{Error, Result};
use crate::input;

/// A model's answer to one image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The image's number in its split.
    pub image: u32,
    /// Its class.
    pub class: u32,
    /// The likeliest class; none where a logit is not a number.
    pub answer: Option<u32>,
    /// The probability of the likeliest class.
    pub confidence: f64,
    /// The cross-entropy, in nats: −ln of the probability of its class.
    pub loss: f64,
    /// How many classes are likelier than its own; none where a logit is not a number.
    pub rank: Option<u32>,
}

impl Answer {
    /// Whether the image's class is the likeliest.
    pub fn is_right(&self) -> bool {
        self.rank == Some(0)
    }
}

/// A model's answers to a data set's images, one an image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// How many classes the model knows.
    pub classes: usize,
    /// In the order of the images.
    pub rows: Vec<Answer>,
}

/// What a model made of one class's images. Shares are in percent, and not a number where they are of nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassAnswers {
    /// How many images there are of it.
    pub images: u64,
    /// Of its images, those that were taken for it.
    pub recall: f64,
    /// Of its images, those that have it among the five likeliest.
    pub top5: f64,
    /// Of the images taken for it, those that are of it.
    pub precision: f64,
    /// The harmonic mean of recall and precision, in percent; 0 where nothing was right.
    pub f1: f64,
}

/// How far confidence can be trusted: of answers given with 80 % confidence, 80 % should be right.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// The expected calibration error, in points: the mean over the images of how far the accuracy of an
    /// answer's bin is from its confidence (Guo and others, arXiv 1706.04599, equation 3).
    pub error: f64,
    /// Bins of equal width, from confidence 0 to 1.
    pub bins: Vec<Bin>,
}

/// Answers of about the same confidence. Shares are in percent, and not a number of no answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// How many there are.
    pub images: u64,
    /// Their mean confidence.
    pub confidence: f64,
    /// How many of them are right.
    pub accuracy: f64,
}

/// As usual since Guo and others.
const BINS: usize = 15;

impl Answers {
    /// Of a model with so many classes, none as yet.
    pub fn new(classes: usize) -> Self {
        Self {
            classes,
            rows: vec![],
        }
    }

    /// Adds an image's logits.
    pub fn add(&mut self, image: u32, logits: &[f32], class: usize) {
        let own = rank(logits, class);
        let first = (0..logits.len()).find(|&class| rank(logits, class) == Some(0));
        self.rows.push(Answer {
            image,
            class: class as u32,
            answer: first.map(|class| class as u32),
            confidence: first.map_or(f64::NAN, |first| probabilities(logits)[first]),
            loss: image_loss(logits, class),
            rank: own.map(|rank| rank as u32),
        });
    }

    /// Loss and accuracies over all images; not a number where there is none.
    pub fn means(&self) -> Metrics {
        let share = |right: &dyn Fn(&Answer) -> bool| {
            let right = self.rows.iter().filter(|row| right(row)).count();
            100.0 * right as f64 / self.rows.len() as f64
        };
        Metrics {
            loss: self.rows.iter().map(|row| row.loss).sum::<f64>() / self.rows.len() as f64,
            top1: share(&Answer::is_right),
            top5: share(&|row| row.rank.is_some_and(|rank| rank < 5)),
        }
    }

    /// How many answers are not numbers.
    pub fn not_numbers(&self) -> u64 {
        self.rows.iter().filter(|row| row.answer.is_none()).count() as u64
    }

    /// Whether the share of the five likeliest says something: of five classes, each is one of them.
    pub fn tells_top5(&self) -> bool {
        self.classes > 5
    }

    /// How many images of one class were taken for another: `[class, answer]`.
    pub fn confusion(&self) -> Vec<u64> {
        let mut counts = vec![0; self.classes * self.classes];
        for row in &self.rows {
            if let Some(answer) = row.answer {
                counts[row.class as usize * self.classes + answer as usize] += 1;
            }
        }
        counts
    }

    /// What became of each class.
    pub fn of_classes(&self) -> Vec<ClassAnswers> {
        let confused = self.confusion();
        let mut top5 = vec![0; self.classes];
        for row in &self.rows {
            top5[row.class as usize] += u64::from(row.rank.is_some_and(|rank| rank < 5));
        }
        let share = |part: u64, whole: u64| 100.0 * part as f64 / whole as f64;
        let of_class = |class: usize| {
            let right = confused[class * self.classes + class];
            let images: u64 = confused[class * self.classes..][..self.classes]
                .iter()
                .sum();
            let answered: u64 = confused.iter().skip(class).step_by(self.classes).sum();
            ClassAnswers {
                images,
                recall: share(right, images),
                top5: share(top5[class], images),
                precision: share(right, answered),
                f1: share(2 * right, images + answered),
            }
        };
        (0..self.classes).map(of_class).collect()
    }

    /// The mean of the classes' F1, in percent, over those that an image is of or was taken for.
    pub fn macro_f1(&self) -> f64 {
        let all = self.of_classes();
        let told: Vec<f64> = all.iter().map(|of| of.f1).filter(|f| !f.is_nan()).collect();
        told.iter().sum::<f64>() / told.len() as f64
    }

    /// How far the confidence can be trusted.
    pub fn calibration(&self) -> Calibration {
        let mut sums = [(0, 0.0, 0); BINS];
        for row in self.rows.iter().filter(|row| row.answer.is_some()) {
            let bin = ((row.confidence * BINS as f64) as usize).min(BINS - 1);
            sums[bin].0 += 1;
            sums[bin].1 += row.confidence;
            sums[bin].2 += u64::from(row.is_right());
        }
        let all: u64 = sums.iter().map(|sum| sum.0).sum();
        let bins = sums.map(|(images, confidence, right)| Bin {
            images,
            confidence: 100.0 * confidence / images as f64,
            accuracy: 100.0 * right as f64 / images as f64,
        });
        let gap = |bin: &Bin| bin.images as f64 * (bin.accuracy - bin.confidence).abs();
        let told = bins.iter().filter(|bin| bin.images > 0);
        Calibration {
            error: told.map(gap).sum::<f64>() / all as f64,
            bins: bins.to_vec(),
        }
    }

    /// The wrong answers, the most confident first, at most so many.
    pub fn mistakes(&self, most: usize) -> Vec<Answer> {
        let wrong = self
            .rows
            .iter()
            .filter(|row| row.answer.is_some() && !row.is_right());
        let mut wrong: Vec<Answer> = wrong.copied().collect();
        wrong.sort_by(|a, b| {
            b.confidence
                .total_cmp(&a.confidence)
                .then(a.image.cmp(&b.image))
        });
        wrong.truncate(most);
        wrong
    }

    /// Writes them as CSV, a row an image, with the classes' numbers.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut csv = csv::Writer::from_writer(vec![]);
        let written = self.rows.iter().try_for_each(|row| csv.serialize(row));
        let bytes = written.and_then(|()| csv.into_inner().map_err(|e| e.into_error().into()));
        let bytes = bytes.map_err(|error| Error::io("write", path)(error.into()))?;
        atomic::write(path, &bytes)
    }

    /// Reads what [`Answers::write`] wrote, of a model with so many classes.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, [`Error::Data`] where it is not such a table.
    pub fn read(path: &Path, classes: usize) -> Result<Self> {
        /// A row has less than a hundred bytes: ten million images.
        const LARGEST: u64 = 1 << 30;
        let refuse = |problem: String| {
            Error::data(
                path.display(),
                problem,
                "take the file and result.json away, and go on with the run: it writes both again",
            )
        };
        let text = input::text(path, LARGEST)?;
        let rows: Vec<Answer> = csv::Reader::from_reader(text.as_bytes())
            .deserialize()
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| refuse(error.to_string()))?;
        let known = |class: u32| (class as usize) < classes;
        match rows
            .iter()
            .find(|row| !known(row.class) || !row.answer.is_none_or(known))
        {
            Some(row) => Err(refuse(format!(
                "the row of image {} has a class that the model does not have",
                row.image
            ))),
            None => Ok(Self { classes, rows }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Answers {
        let mut answers = Answers::new(6);
        for (image, (logits, class)) in [
            ([9.0, 1.0, 0.0, 0.0, 0.0, 0.0], 0),
            ([9.0, 1.0, 0.0, 0.0, 0.0, 0.0], 1),
            ([0.0, 9.0, 0.0, 0.0, 0.0, 0.0], 1),
            ([9.0, 8.0, 7.0, 6.0, 5.0, 0.0], 5),
        ]
        .into_iter()
        .enumerate()
        {
            answers.add(image as u32, &logits, class);
        }
        answers
    }

    #[test]
    fn shares_are_of_each_class() {
        let answers = answers();
        let means = answers.means();
        assert_eq!((means.top1, means.top5), (50.0, 75.0));
        let classes = answers.of_classes();
        assert_eq!((classes[1].recall, classes[1].precision), (50.0, 100.0));
        assert_eq!(classes[0].precision, 100.0 / 3.0);
        // 2 · 1/3 · 1 / (1/3 + 1), and 2 · 1/2 / (3/2).
        assert!(
            (classes[0].f1 - 50.0).abs() < 1e-12 && (classes[1].f1 - 200.0 / 3.0).abs() < 1e-12
        );
        assert_eq!((classes[5].top5, classes[5].f1), (0.0, 0.0));
        // Nothing is known of a class without images that nothing was taken for.
        assert!(classes[2].recall.is_nan() && classes[2].f1.is_nan());
        // Over the classes 0, 1 and 5.
        assert!((answers.macro_f1() - (50.0 + 200.0 / 3.0) / 3.0).abs() < 1e-12);
        let confused = answers.confusion();
        assert_eq!(
            (confused[0], confused[6], confused[7], confused[30]),
            (1, 1, 1, 1)
        );
    }

    #[test]
    fn the_calibration_error_by_hand() {
        let row = |confidence: f64, right: bool| Answer {
            image: 0,
            class: 0,
            answer: Some(u32::from(!right)),
            confidence,
            loss: 0.0,
            rank: Some(u32::from(!right)),
        };
        let answers = Answers {
            classes: 2,
            // Two in the bin around 0.9, half of them right; one in that of 0.6, right.
            rows: vec![row(0.88, true), row(0.92, false), row(0.62, true)],
        };
        let calibration = answers.calibration();
        assert!((calibration.error - (2.0 * 40.0 + 38.0) / 3.0).abs() < 1e-9);
        assert_eq!(calibration.bins[13].images, 2);
        assert_eq!(calibration.bins[13].accuracy, 50.0);
        // A confidence of 1 is in the last bin.
        let sure = Answers {
            classes: 2,
            rows: vec![row(1.0, true)],
        };
        assert_eq!(sure.calibration().bins[14].images, 1);
        assert_eq!(sure.calibration().error, 0.0);
    }

    #[test]
    fn mistakes_come_by_confidence() {
        let mistakes = answers().mistakes(9);
        let images: Vec<u32> = mistakes.iter().map(|row| row.image).collect();
        assert_eq!(images, [1, 3]);
        assert!(mistakes[0].confidence > 0.99 && mistakes[0].answer == Some(0));
        assert_eq!(answers().mistakes(1).len(), 1);
    }

    #[test]
    fn what_is_no_number_is_counted_and_wrong() {
        let mut answers = Answers::new(2);
        assert!(answers.means().loss.is_nan() && answers.calibration().error.is_nan());
        answers.add(0, &[f32::NAN, 1.0], 1);
        assert_eq!(answers.not_numbers(), 1);
        assert_eq!(answers.means().top1, 0.0);
        assert!(answers.mistakes(9).is_empty());
    }

    #[test]
    fn a_table_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.csv");
        answers().write(&path).unwrap();
        assert_eq!(Answers::read(&path, 6).unwrap(), answers());
        let error = Answers::read(&path, 5).unwrap_err().to_string();
        assert!(
            error.contains("answers.csv") && error.contains("class"),
            "{error}"
        );
        std::fs::write(&path, "image,class\n1,x\n").unwrap();
        Answers::read(&path, 5).unwrap_err();
    }
}
