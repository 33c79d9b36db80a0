//! The table of rotary angles.
//!
//! Frequency `i` of `head_dim / 2` is `base^(-2i / head_dim)`, stretched by the scaling; the angle at position `p` is
//! `p` times it. Frequencies and angles are rounded to `f32` as `transformers` computes them, so that long positions
//! agree as well.

use std::f64::consts::PI;

use crate::{RotaryScaling, RotarySpec};

/// `[n_position, head_dim]`: cosines of all frequencies, then their sines.
pub(crate) fn rotary_table(spec: &RotarySpec, head_dim: usize, n_position: usize) -> Vec<f32> {
    let frequencies = frequencies(spec, head_dim);
    let mut table = Vec::with_capacity(n_position * head_dim);
    for position in 0..n_position {
        let angles = frequencies.iter().map(|frequency| f64::from(position as f32 * frequency));
        table.extend(angles.clone().map(|angle| angle.cos() as f32));
        table.extend(angles.map(|angle| angle.sin() as f32));
    }
    table
}

fn frequencies(spec: &RotarySpec, head_dim: usize) -> Vec<f32> {
    (0..head_dim / 2)
        .map(|i| {
            let plain = spec.base.powf(-2.0 * i as f64 / head_dim as f64);
            let scaled = match &spec.scaling {
                RotaryScaling::None => plain,
                RotaryScaling::Linear { factor } => plain / factor,
                RotaryScaling::Divisors(divisors) => plain / f64::from(divisors[i]),
                RotaryScaling::Llama3 {
                    factor,
                    low_frequency_factor,
                    high_frequency_factor,
                    original_max_positions,
                } => {
                    let wavelength = 2.0 * PI / plain;
                    let ramp = (original_max_positions / wavelength - low_frequency_factor)
                        / (high_frequency_factor - low_frequency_factor);
                    let kept = ramp.clamp(0.0, 1.0);
                    plain * (kept + (1.0 - kept) / factor)
                }
            };
            scaled as f32
        })
        .collect()
}
