//! How much time a run takes.

use std::time::Instant;

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
