//! The end of a step: the summed gradient is divided by its weight, clipped by its norm, and taken by AdamW.

use preface_backend::Backend;
use preface_model::Model;
use preface_tune::{Adam, Gradient, Method};

/// What a summed gradient is taken with.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// What the sums are divided by.
    pub weight: f64,
    /// Norm of the gradient after that.
    pub grad_norm: f64,
    /// The largest norm that is let through; 0 for any.
    pub max_norm: f64,
    /// Of this step.
    pub learning_rate: f64,
}

impl Update {
    /// Changes the parameters of `method`, and the model where that holds them.
    pub fn apply<B: Backend>(
        self,
        gradient: Gradient<B>,
        model: &mut Model<B>,
        method: &mut dyn Method<B>,
        adam: &mut Adam,
    ) {
        let scale = (clip(self.grad_norm, self.max_norm) / self.weight) as f32;
        let mut update = adam.update(self.learning_rate as f32, scale);
        method.update(model, &mut |first, values| {
            update.part(first, values, &gradient[first..first + values.len()]);
        });
    }
}

/// Euclidean norm, summed in `f64` in one fixed order: side by side, as one sum would wait for each of its additions.
pub fn gradient_norm(gradient: &[f32]) -> f64 {
    let (chunks, rest) = gradient.as_chunks::<16>();
    let mut sums = [0.0; 16];
    for chunk in chunks.iter().map(<[f32; 16]>::as_slice).chain([rest]) {
        for (sum, &g) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(g) * f64::from(g);
        }
    }
    sums.iter().sum::<f64>().sqrt()
}

/// The factor that brings a gradient of this norm down to `max_norm`, as PyTorch's `clip_grad_norm_`.
fn clip(norm: f64, max_norm: f64) -> f64 {
    const EPSILON: f64 = 1e-6;
    if max_norm > 0.0 { (max_norm / (norm + EPSILON)).min(1.0) } else { 1.0 }
}
