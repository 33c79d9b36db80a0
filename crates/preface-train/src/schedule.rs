//! The learning rate's course, as `transformers`' schedules: a linear rise from 0 over the warm-up, then
//!
//! ```text
//! linear     (max_steps - step) / (max_steps - warmup)
//! cosine     (1 + cos(pi (step - warmup) / (max_steps - warmup))) / 2
//! constant   1
//! ```
//!
//! `step` counts the steps already done, so with a warm-up the first one has rate 0.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// To 0 in a straight line.
    #[default]
    Linear,
    /// To 0 along half a cosine.
    Cosine,
    /// Not at all.
    #[serde(alias = "constant_with_warmup")]
    Constant,
}

impl Schedule {
    /// Share of the highest rate in the step after `step` others.
    pub fn factor(self, step: u64, warmup_steps: u64, max_steps: u64) -> f64 {
        if step < warmup_steps {
            return step as f64 / warmup_steps as f64;
        }
        let rest = max_steps.saturating_sub(warmup_steps).max(1) as f64;
        let done = (step - warmup_steps) as f64;
        match self {
            Self::Linear => ((rest - done) / rest).max(0.0),
            Self::Cosine => 0.5 * (1.0 + (PI * (done / rest).min(1.0)).cos()),
            Self::Constant => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_over_the_warm_up_and_end_where_the_schedule_says() {
        let rates = |schedule: Schedule| -> Vec<f64> { (0..=6).map(|s| schedule.factor(s, 2, 6)).collect() };
        assert_eq!(rates(Schedule::Linear), [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(rates(Schedule::Constant), [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]);
        let half = 0.5f64.sqrt();
        let want = [0.0, 0.5, 1.0, 0.5 * (1.0 + half), 0.5, 0.5 * (1.0 - half), 0.0];
        for (got, want) in rates(Schedule::Cosine).iter().zip(want) {
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
    }

    #[test]
    fn without_a_warm_up_the_first_step_has_the_highest_rate() {
        assert_eq!(Schedule::Linear.factor(0, 0, 10), 1.0);
    }
}
