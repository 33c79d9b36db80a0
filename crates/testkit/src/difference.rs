//! Slopes by central differences: `(f(x + h e_i) - f(x - h e_i)) / 2h`, whose own error is of order `h^2` plus rounding of `f` over `h`.
//!
//! With an `f` computed in f32 and of size 1, rounding is about `1e-7 / h`: a step near 1e-2 is then best and three digits are what can be
//! asked. With an `f` in f64 a step of 1e-5 gives eight digits.

use crate::{Mismatch, Tolerance, close};

/// The slope of `f` at `x` along each of `indices`, by central differences of width `step`.
///
/// # Panics
/// If an index is beyond `x`.
///
/// ```
/// let slopes = testkit::finite_difference(|x| f64::from(x[0]) * f64::from(x[1]), &[2.0, 5.0], &[0, 1], 0.25);
/// assert_eq!(slopes, [5.0, 2.0]);
/// ```
pub fn finite_difference(
    mut f: impl FnMut(&[f32]) -> f64,
    x: &[f32],
    indices: &[usize],
    step: f32,
) -> Vec<f64> {
    let mut at = x.to_vec();
    indices
        .iter()
        .map(|&index| {
            let (above, below) = (x[index] + step, x[index] - step);
            at[index] = above;
            let f_above = f(&at);
            at[index] = below;
            let f_below = f(&at);
            at[index] = x[index];
            // Not 2 * step: that is what was asked for, this is what `f` saw after rounding to f32.
            (f_above - f_below) / (f64::from(above) - f64::from(below))
        })
        .collect()
}

/// Compares `gradient`, of `f` at `x`, with central differences at `indices`.
///
/// # Errors
/// [`Mismatch`] whose indices count within `indices`. A gradient that is zero at all of them is a mismatch too: it would agree with an `f` that
/// does not depend on `x`, which is the fault this check is for.
///
/// # Panics
/// If an index is beyond `x` or `gradient`.
pub fn check_gradient(
    f: impl FnMut(&[f32]) -> f64,
    x: &[f32],
    gradient: &[f32],
    indices: &[usize],
    step: f32,
    tolerance: Tolerance,
) -> Result<(), Mismatch> {
    let slopes = finite_difference(f, x, indices, step);
    let sampled: Vec<f32> = indices.iter().map(|&index| gradient[index]).collect();
    if sampled.iter().all(|&g| g == 0.0) {
        let worst = slopes.iter().take(5).enumerate().map(|(i, &slope)| (i, 0.0, slope)).collect();
        return Err(Mismatch::Values { count: sampled.len(), total: sampled.len(), allowed: 0.0, worst });
    }
    close(&sampled, &slopes, tolerance)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cubic(x: &[f32]) -> f64 {
        x.iter().map(|&v| f64::from(v).powi(3)).sum()
    }

    #[test]
    fn slopes_of_a_cubic_are_found_where_asked() {
        let slopes = finite_difference(cubic, &[1.0, -2.0, 3.0], &[2, 0], 1e-3);
        assert!(close(&slopes, &[27.0_f64, 3.0], Tolerance::relative(1e-6)).is_ok(), "{slopes:?}");
        assert!(finite_difference(cubic, &[1.0], &[], 1e-3).is_empty());
    }

    #[test]
    fn a_wrong_gradient_and_a_cut_graph_are_both_found() {
        let x = [1.0, -2.0, 3.0];
        let all = [0, 1, 2];
        let check = |g: &[f32]| check_gradient(cubic, &x, g, &all, 1e-3, Tolerance::relative(1e-4));
        assert_eq!(check(&[3.0, 12.0, 27.0]), Ok(()));
        assert!(check(&[3.0, 12.0, 27.1]).is_err());
        assert!(check(&[3.0, -12.0, 27.0]).is_err());
        let constant = check_gradient(|_| 1.0, &x, &[0.0; 3], &all, 1e-3, Tolerance::absolute(1.0));
        assert!(constant.is_err(), "training on nothing must not pass");
    }
}
