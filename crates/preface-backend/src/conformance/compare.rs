//! The comparator: `|got - want| <= tolerance * (rms(want) + |want|)`, element by element.

/// What differs, none if nothing does. NaN never passes; a non-finite reference must be met exactly.
pub fn difference(got: &[f32], want: &[f32], tolerance: f64) -> Option<String> {
    if got.len() != want.len() {
        return Some(format!("{} values, expected {}", got.len(), want.len()));
    }
    let finite = || want.iter().filter(|w| w.is_finite());
    let square: f64 = finite().map(|&w| f64::from(w).powi(2)).sum();
    // A tensor of zeros is held to the tolerance of a tiny one: an f32 sum that cancels leaves some rounding.
    let rms = (square / finite().count().max(1) as f64).sqrt().max(1e-3);
    let mut worst: Option<(usize, f64)> = None;
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let excess = if w.is_finite() {
            (f64::from(g) - f64::from(w)).abs() / (rms + f64::from(w).abs())
        } else if g.to_bits() == w.to_bits() || (g.is_nan() && w.is_nan()) {
            0.0
        } else {
            f64::INFINITY
        };
        let within = excess <= tolerance;
        if !within && worst.is_none_or(|(_, so_far)| excess > so_far || excess.is_nan()) {
            worst = Some((i, excess));
        }
    }
    worst.map(|(i, excess)| {
        format!(
            "value {i} of {} is {}, expected {} (off by {excess:.2e} of rms {rms:.3e}, allowed {tolerance:.1e})",
            want.len(),
            got[i],
            want[i]
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_length_and_large_errors_fail_and_equal_values_pass() {
        assert!(difference(&[1.0, f32::NAN], &[1.0, 2.0], 1.0).is_some());
        assert!(difference(&[1.0], &[1.0, 2.0], 1.0).is_some());
        assert!(difference(&[1.0, 2.1], &[1.0, 2.0], 1e-2).is_some());
        assert!(difference(&[1.0, f32::INFINITY], &[1.0, f32::NEG_INFINITY], 1e9).is_some());
        assert!(difference(&[1.0, 2.01], &[1.0, 2.0], 1e-2).is_none());
        assert!(difference(&[f32::NAN], &[f32::NAN], 0.0).is_none());
        assert!(difference(&[], &[], 0.0).is_none());
    }
}
