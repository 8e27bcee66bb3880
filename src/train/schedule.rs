//! Learning rate by step.

use serde::{Deserialize, Serialize};

/// The kinds of schedule a recipe can ask for. All but the constant one rise linearly at first, over the
/// warm-up, and then fall from the peak to `final_rate`; s goes from 0 to 1 over the fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// The same rate from beginning to end.
    Constant,
    /// Half a cosine, (1 + cos πs) / 2: the Keras example's `WarmUpCosine` (after Loshchilov and Hutter,
    /// arXiv 1608.03983).
    WarmupCosine,
    /// A straight line, 1 − s: the best at small budgets (Li and others, arXiv 1905.04753).
    WarmupLinear,
    /// (1 − s) / (½ + ½ (1 − s)): stays high for longer (Chen and others, *REX*, arXiv 2107.04197).
    WarmupRex,
    /// The peak, a tenth of it from s = ½ on, a hundredth from s = ¾ on (He and others, arXiv
    /// 1512.03385, section 4.2).
    WarmupStep,
}

impl ScheduleKind {
    /// Whether it begins with a warm-up.
    pub fn is_warmed(self) -> bool {
        self != Self::Constant
    }

    /// What is left of the way from the final rate to the peak; `progress` is s.
    fn part(self, progress: f64) -> f64 {
        let rest = 1.0 - progress;
        match self {
            Self::Constant => 1.0,
            Self::WarmupCosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Self::WarmupLinear => rest,
            Self::WarmupRex => rest / (0.5 + 0.5 * rest),
            Self::WarmupStep if progress < 0.5 => 1.0,
            Self::WarmupStep if progress < 0.75 => 0.1,
            Self::WarmupStep if progress < 1.0 => 0.01,
            Self::WarmupStep => 0.0,
        }
    }
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
    /// Where the fall ends.
    pub final_rate: f64,
    /// How often the fall begins again from the peak, after equal parts of the steps.
    pub restarts: u64,
    /// The step at which the last fall ends.
    pub total_steps: u64,
}

impl Schedule {
    /// The rate of this step.
    pub fn rate(&self, step: u64) -> f64 {
        if self.kind == ScheduleKind::Constant {
            return self.peak;
        }
        if step < self.warmup_steps {
            let progress = step as f64 / self.warmup_steps as f64;
            return self.warmup_rate + (self.peak - self.warmup_rate) * progress;
        }
        let (since, falling) = (
            step - self.warmup_steps,
            self.total_steps.saturating_sub(self.warmup_steps),
        );
        if since >= falling {
            // All steps may be of the warm-up, whose end is the peak.
            return if since == 0 {
                self.peak
            } else {
                self.final_rate
            };
        }
        let falls = self.restarts + 1;
        let progress = since as f64 / falling as f64;
        let within = match falls {
            1 => progress,
            _ => (progress * falls as f64).fract(),
        };
        self.final_rate + (self.peak - self.final_rate) * self.kind.part(within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind) -> Schedule {
        Schedule {
            kind,
            peak: 2.0,
            warmup_rate: 0.0,
            warmup_steps: 10,
            final_rate: 0.0,
            restarts: 0,
            total_steps: 110,
        }
    }

    fn rates(schedule: Schedule, steps: [u64; 7]) -> [f64; 7] {
        steps.map(|step| (schedule.rate(step) * 1e9).round() / 1e9)
    }

    #[test]
    fn shapes_are_their_formulas() {
        use ScheduleKind::*;
        let steps = [0, 5, 10, 35, 60, 85, 110];
        for (kind, expected) in [
            (Constant, [2.0; 7]),
            (WarmupLinear, [0.0, 1.0, 2.0, 1.5, 1.0, 0.5, 0.0]),
            (WarmupStep, [0.0, 1.0, 2.0, 2.0, 0.2, 0.02, 0.0]),
            // 0.75 / 0.875, 0.5 / 0.75 and 0.25 / 0.625, twice.
            (
                WarmupRex,
                [0.0, 1.0, 2.0, 1.714_285_714, 1.333_333_333, 0.8, 0.0],
            ),
            // 1 + 1/√2, 1, 1 − 1/√2
            (
                WarmupCosine,
                [0.0, 1.0, 2.0, 1.707_106_781, 1.0, 0.292_893_219, 0.0],
            ),
        ] {
            assert_eq!(rates(schedule(kind), steps), expected, "{kind:?}");
            // Beyond the end nothing rises again.
            assert_eq!(schedule(kind).rate(500), expected[6]);
        }
    }

    #[test]
    fn a_fall_may_begin_again_and_end_above_nothing() {
        let schedule = Schedule {
            warmup_rate: 0.5,
            final_rate: 1.0,
            restarts: 1,
            ..schedule(ScheduleKind::WarmupLinear)
        };
        let steps = [0, 10, 35, 59, 60, 85, 110];
        assert_eq!(rates(schedule, steps), [0.5, 2.0, 1.5, 1.02, 2.0, 1.5, 1.0]);
    }

    #[test]
    fn a_schedule_may_be_all_warm_up() {
        let schedule = Schedule {
            total_steps: 10,
            ..schedule(ScheduleKind::WarmupCosine)
        };
        assert_eq!(schedule.rate(9), 1.8);
        assert_eq!(schedule.rate(10), 2.0);
        assert_eq!(schedule.rate(11), 0.0);
    }
}
