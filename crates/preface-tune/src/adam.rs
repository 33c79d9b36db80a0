//! AdamW (Loshchilov and Hutter, 2019) on one flat vector, as PyTorch computes it:
//!
//! ```text
//! p -= lr * weight_decay * p
//! m = beta_1 m + (1 - beta_1) g          v = beta_2 v + (1 - beta_2) g^2
//! p -= lr / (1 - beta_1^t) * m / (sqrt(v / (1 - beta_2^t)) + epsilon)
//! ```
//!
//! All parameters decay, biases too. Elements do not depend on each other, so the result is the same for any number of
//! threads.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Elements that a thread takes at a time.
const CHUNK: usize = 1 << 16;

/// Constants of the update.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamSettings {
    /// Decay of the first moment.
    pub beta_1: f32,
    /// Decay of the second moment.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Share of a parameter that is taken away at learning rate 1.
    pub weight_decay: f32,
}

impl Default for AdamSettings {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// The optimizer's state.
#[derive(Clone, Debug, PartialEq)]
pub struct Adam {
    settings: AdamSettings,
    n_step: u64,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Adam {
    /// A fresh state for `n` parameters.
    pub fn new(n: usize, settings: AdamSettings) -> Self {
        Self { settings, n_step: 0, first: vec![0.0; n], second: vec![0.0; n] }
    }

    /// A state read from a checkpoint.
    ///
    /// # Panics
    /// If the moments differ in length.
    pub fn restore(settings: AdamSettings, n_step: u64, first: Vec<f32>, second: Vec<f32>) -> Self {
        assert_eq!(first.len(), second.len(), "moments of one vector");
        Self { settings, n_step, first, second }
    }

    /// Updates done.
    pub fn n_step(&self) -> u64 {
        self.n_step
    }

    /// First and second moments.
    pub fn moments(&self) -> (&[f32], &[f32]) {
        (&self.first, &self.second)
    }

    /// One update of `parameters`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn step(&mut self, learning_rate: f32, parameters: &mut [f32], gradient: &[f32]) {
        assert_eq!(parameters.len(), self.first.len(), "parameters of this optimizer");
        self.update(learning_rate, 1.0).part(0, parameters, gradient);
    }

    /// One update that is made part by part, with the gradient times `scale`.
    pub fn update(&mut self, learning_rate: f32, scale: f32) -> Update<'_> {
        self.n_step += 1;
        let AdamSettings { beta_1, beta_2, weight_decay, .. } = self.settings;
        // In f64, as Python computes them: the second correction is about 1e-3 in the first step.
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(self.n_step as f64);
        Update {
            step_size: (f64::from(learning_rate) / correction(beta_1)) as f32,
            second_scale: (1.0 / correction(beta_2).sqrt()) as f32,
            kept: 1.0 - learning_rate * weight_decay,
            scale,
            adam: self,
        }
    }
}

/// An update that has begun: each part is to be handed in once.
pub struct Update<'a> {
    adam: &'a mut Adam,
    step_size: f32,
    second_scale: f32,
    kept: f32,
    scale: f32,
}

impl Update<'_> {
    /// The update of the parameters from number `first` on.
    ///
    /// # Panics
    /// If the lengths differ, or there are more than the optimizer knows.
    pub fn part(&mut self, first: usize, parameters: &mut [f32], gradient: &[f32]) {
        assert_eq!(gradient.len(), parameters.len(), "gradient of the parameters");
        let &mut Self { ref mut adam, step_size, second_scale, kept, scale } = self;
        let AdamSettings { beta_1, beta_2, epsilon, .. } = adam.settings;
        let range = first..first + parameters.len();
        let (first, second) = (&mut adam.first[range.clone()], &mut adam.second[range]);
        parameters
            .par_chunks_mut(CHUNK)
            .zip(gradient.par_chunks(CHUNK))
            .zip(first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK)))
            .for_each(|((parameters, gradient), (first, second))| {
                for (((p, g), m), v) in parameters.iter_mut().zip(gradient).zip(first).zip(second) {
                    let g = g * scale;
                    *m = beta_1 * *m + (1.0 - beta_1) * g;
                    *v = beta_2 * *v + (1.0 - beta_2) * g * g;
                    *p = *p * kept - step_size * *m / (v.sqrt() * second_scale + epsilon);
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_moves_every_parameter_by_the_learning_rate_against_its_gradient() {
        let mut adam = Adam::new(3, AdamSettings::default());
        let mut parameters = [1.0, -2.0, 0.5];
        adam.step(0.1, &mut parameters, &[3.0, -0.01, 1e-3]);
        for (got, want) in parameters.iter().zip([0.9, -1.9, 0.4]) {
            assert!((got - want).abs() < 1e-5, "{got} {want}");
        }
    }

    #[test]
    fn an_update_in_parts_is_that_of_the_whole() {
        let settings = AdamSettings { weight_decay: 0.1, ..AdamSettings::default() };
        let (mut whole, mut parts) = (Adam::new(5, settings), Adam::new(5, settings));
        let (mut want, mut got) = ([1.0, -2.0, 0.5, 3.0, 0.25], [1.0, -2.0, 0.5, 3.0, 0.25]);
        for gradient in [[3.0, -0.01, 1e-3, 0.5, -7.0], [0.5, 0.25, -1.0, 2.0, 0.0]] {
            whole.step(0.1, &mut want, &gradient);
            let mut update = parts.update(0.1, 1.0);
            update.part(2, &mut got[2..], &gradient[2..]);
            update.part(0, &mut got[..2], &gradient[..2]);
        }
        assert_eq!(got, want);
        assert_eq!(parts, whole);
    }

    #[test]
    fn a_scaled_update_is_that_of_the_scaled_gradient() {
        let (mut whole, mut scaled) =
            (Adam::new(2, AdamSettings::default()), Adam::new(2, AdamSettings::default()));
        let (mut want, mut got) = ([1.0, -2.0], [1.0, -2.0]);
        for gradient in [[3.0, -0.01], [0.7, 0.3]] {
            whole.step(0.1, &mut want, &gradient.map(|g: f32| g * 0.3));
            scaled.update(0.1, 0.3).part(0, &mut got, &gradient);
        }
        assert_eq!(got, want);
        assert_eq!(scaled, whole);
    }

    #[test]
    fn decay_acts_on_the_parameter_and_not_on_the_moments() {
        let settings = AdamSettings { weight_decay: 0.5, ..AdamSettings::default() };
        let mut adam = Adam::new(1, settings);
        let mut parameters = [4.0];
        adam.step(0.1, &mut parameters, &[0.0]);
        assert!((parameters[0] - 3.8).abs() < 1e-6);
        assert_eq!(adam.moments(), ([0.0].as_slice(), [0.0].as_slice()));
    }
}
