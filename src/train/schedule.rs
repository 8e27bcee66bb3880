//! Learning rate by step.

use serde::{Deserialize, Serialize};

/// The kinds of schedule a recipe can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// The same rate from beginning to end.
    Constant,
    /// A linear rise, then half a cosine down to 0: the Keras example's `WarmUpCosine`
    /// (after Loshchilov and Hutter, arXiv 1608.03983, without restarts).
    WarmupCosine,
}

/// Learning rate by step, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Its shape.
    pub kind: ScheduleKind,
    /// The highest rate.
    pub peak: f64,
    /// Where the warm-up begins.
    pub warmup_rate: f64,
    /// Steps of the warm-up.
    pub warmup_steps: u64,
    /// The step at which the cosine reaches 0.
    pub total_steps: u64,
}

impl Schedule {
    /// The rate of this step.
    pub fn rate(&self, step: u64) -> f64 {
        if self.kind == ScheduleKind::Constant {
            return self.peak;
        }
        let (warmup, total) = (self.warmup_steps as f64, self.total_steps as f64);
        if step > self.total_steps {
            0.0
        } else if step < self.warmup_steps {
            self.warmup_rate + (self.peak - self.warmup_rate) * step as f64 / warmup
        } else if self.total_steps == self.warmup_steps {
            self.peak
        } else {
            let progress = (step as f64 - warmup) / (total - warmup);
            0.5 * self.peak * (1.0 + (std::f64::consts::PI * progress).cos())
        }
    }
}
