//! `score / temperature`.

use super::{Past, Processor};

pub(super) struct Temperature {
    pub temperature: f32,
}

impl Processor for Temperature {
    fn apply(&self, _: Past<'_>, scores: &mut [f32]) {
        for score in scores {
            *score /= self.temperature;
        }
    }
}
