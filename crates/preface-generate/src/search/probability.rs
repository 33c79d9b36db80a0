//! Softmax over a row of scores.
//!
//! ```text
//! log softmax(x)_i = x_i - max(x) - ln(sum_j exp(x_j - max(x)))
//! ```
//!
//! Terms are `f32`, sums `f64`: a vocabulary of 50,000 terms summed in `f32` would lose three digits.

/// `ln(sum exp)`, or `None` unless at least one score is finite and none is NaN or infinite above.
pub(super) fn log_sum_exp(scores: &[f32]) -> Option<f64> {
    let max = maximum(scores);
    let sum: f64 = scores.iter().map(|&score| f64::from((score - max).exp())).sum();
    let result = f64::from(max) + sum.ln();
    result.is_finite().then_some(result)
}

/// Probabilities of the scores; zeros if every token is excluded.
pub(crate) fn softmax(scores: &[f32]) -> Vec<f32> {
    let max = maximum(scores);
    if max == f32::NEG_INFINITY {
        return vec![0.0; scores.len()];
    }
    let mut probabilities: Vec<f32> = scores.iter().map(|&score| (score - max).exp()).collect();
    let sum = probabilities.iter().map(|&p| f64::from(p)).sum::<f64>() as f32;
    for probability in &mut probabilities {
        *probability /= sum;
    }
    probabilities
}

fn maximum(scores: &[f32]) -> f32 {
    scores.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_has_no_log_sum_exp() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        for scores in [&[][..], &[-inf, -inf], &[0.0, nan], &[nan, 0.0], &[0.0, inf]] {
            assert_eq!(log_sum_exp(scores), None, "{scores:?}");
        }
        assert_eq!(log_sum_exp(&[-inf, 3.0]), Some(3.0));
        assert_eq!(log_sum_exp(&[1e30, 1e30]), Some(f64::from(1e30f32) + 2f64.ln()));
    }

    #[test]
    fn probabilities_sum_to_one_and_excluded_tokens_have_none() {
        let got = softmax(&[100.0, f32::NEG_INFINITY, 100.0]);
        assert_eq!(got, [0.5, 0.0, 0.5]);
        assert_eq!(softmax(&[f32::NEG_INFINITY; 2]), [0.0; 2]);
    }
}
