//! How much time a run takes.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::state::Counters;

/// Time that adds up over interruptions: what the clock ran goes into the run's counters.
pub struct Clock {
    began: Instant,
}

impl Clock {
    /// Runs from now.
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    /// Seconds of the epoch under way.
    pub fn epoch_seconds(&self, counters: &Counters) -> f64 {
        counters.epoch_seconds + self.began.elapsed().as_secs_f64()
    }

    /// Adds the time since the start to the counters, and runs on from now.
    pub fn note(&mut self, counters: &mut Counters) {
        let seconds = self.began.elapsed().as_secs_f64();
        counters.epoch_seconds += seconds;
        counters.seconds += seconds;
        self.restart();
    }

    /// Runs from now: what was before does not count.
    pub fn restart(&mut self) {
        self.began = Instant::now();
    }
}

/// How long steps took, in room that does not grow with their number: times that differ by less
/// than half a percent are counted together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub struct StepTimes(BTreeMap<i32, u64>);

/// As it is written: each class of times, and how many there were. Checkpoints had each step's
/// seconds before.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Kept {
    Seconds(Vec<f32>),
    Classes(Vec<(i32, u64)>),
}

impl StepTimes {
    /// The logarithm of a class's width.
    const WIDTH: f64 = 0.005;

    /// Counts one step's seconds.
    pub fn add(&mut self, seconds: f64) {
        let class = (seconds.max(1e-9).ln() / Self::WIDTH).floor() as i32;
        *self.0.entry(class).or_default() += 1;
    }

    /// How many steps were counted.
    pub fn steps(&self) -> u64 {
        self.0.values().sum()
    }

    /// The middle time in seconds, to a quarter of a percent; not a number where there is none.
    pub fn median(&self) -> f64 {
        let steps = self.steps();
        let at = |place: u64| {
            let mut before = 0;
            let found = self.0.iter().find(|(_, count)| {
                before += **count;
                before > place
            });
            found.map_or(f64::NAN, |(&class, _)| {
                ((f64::from(class) + 0.5) * Self::WIDTH).exp()
            })
        };
        (at(steps.saturating_sub(1) / 2) + at(steps / 2)) / 2.0
    }
}

impl From<Kept> for StepTimes {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Classes(classes) => Self(classes.into_iter().collect()),
            Kept::Seconds(seconds) => {
                let mut times = Self::default();
                seconds.into_iter().for_each(|s| times.add(f64::from(s)));
                times
            }
        }
    }
}

impl From<StepTimes> for Kept {
    fn from(times: StepTimes) -> Self {
        Self::Classes(times.0.into_iter().collect())
    }
}

/// The middle of the values, or of the two in the middle; not a number where there are none.
pub fn median(values: &[f32]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => f64::from(sorted[middle]),
        _ => f64::from(sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 30.0]), 3.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn step_times_have_a_median_and_do_not_grow() {
        let mut times = StepTimes::default();
        assert!(times.median().is_nan());
        times.add(2.0);
        assert!((times.median() / 2.0 - 1.0).abs() < 0.003);
        let mut all = vec![2.0];
        for step in 0..100_000 {
            let seconds = 1.0 + f64::from(step % 997) / 9970.0;
            times.add(seconds);
            all.push(seconds as f32);
        }
        assert_eq!(times.steps(), 100_001);
        let off = times.median() / median(&all) - 1.0;
        assert!(off.abs() < 0.003, "{off}");
        let text = serde_json::to_string(&times).unwrap();
        assert!(text.len() < 1000, "{text}");
        assert_eq!(serde_json::from_str::<StepTimes>(&text).unwrap(), times);
        // As checkpoints had them before.
        let before = serde_json::to_string(&all).unwrap();
        let read: StepTimes = serde_json::from_str(&before).unwrap();
        assert_eq!(read.steps(), times.steps());
        assert!((read.median() / times.median() - 1.0).abs() < 0.006);
        assert_eq!(serde_json::from_str::<StepTimes>("[]").unwrap().steps(), 0);
    }

    #[test]
    fn a_clock_adds_up_what_it_ran() {
        let mut counters = Counters {
            epoch_seconds: 10.0,
            seconds: 100.0,
            ..Counters::default()
        };
        let mut clock = Clock::start();
        assert!(clock.epoch_seconds(&counters) >= 10.0);
        clock.note(&mut counters);
        let ran = counters.epoch_seconds - 10.0;
        assert!((0.0..5.0).contains(&ran), "{ran}");
        assert!((counters.seconds - 100.0 - ran).abs() < 1e-9);
    }
}
