//! Softmax over a row of scores.
//!
//! ```text
//! log softmax(x)_i = x_i - max(x) - ln(sum_j exp(x_j - max(x)))
//! ```
//!
//! Terms are `f32`, sums `f64`: a vocabulary of 50,000 terms summed in `f32` would lose three digits. Every generated token
//! passes here, so the exponential is a polynomial that the compiler turns into vector code, for the widest vectors that the
//! CPU has: a call of the library's for each of 50,000 scores takes a tenth of the time of a small model's token. The width
//! changes no result: what is added up side by side is always the same.

/// `ln(sum exp)`, or `None` unless at least one score is finite and none is NaN or infinite above.
pub(crate) fn log_sum_exp(scores: &[f32]) -> Option<f64> {
    let max = maximum(scores);
    let sum = sum_exp(scores, max);
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

/// Scores that are worked on side by side.
const LANES: usize = 16;

/// The largest score; NaN counts as excluded.
pub(super) fn maximum(scores: &[f32]) -> f32 {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || maximum_here(scores),
    )
}

#[inline(always)]
fn maximum_here(scores: &[f32]) -> f32 {
    let (chunks, rest) = scores.as_chunks::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (most, score) in most.iter_mut().zip(chunk) {
            *most = if score > most { *score } else { *most };
        }
    }
    most.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// `sum exp(score - max)`; NaN if a score is NaN.
fn sum_exp(scores: &[f32], max: f32) -> f64 {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || sum_exp_here(scores, max),
    )
}

#[inline(always)]
fn sum_exp_here(scores: &[f32], max: f32) -> f64 {
    // Sums of so many terms, each at most one, are exact to seven digits in `f32`.
    const BLOCK: usize = 16 * LANES;
    let mut total = 0.0;
    for block in scores.chunks(BLOCK) {
        let (chunks, rest) = block.as_chunks::<LANES>();
        let mut sums = [0.0f32; LANES];
        for chunk in chunks {
            for (sum, score) in sums.iter_mut().zip(chunk) {
                *sum += exp_below_zero(score - max);
            }
        }
        for (sum, score) in sums.iter_mut().zip(rest) {
            *sum += exp_below_zero(score - max);
        }
        total += sums.into_iter().map(f64::from).sum::<f64>();
    }
    total
}

/// `exp(x)` for `x <= 0`, within three units in the last place; zero below -87, where `f32` ends; NaN for NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, and the polynomial of Cephes' `expf` (Moshier) for `exp(r)`.
#[inline(always)]
fn exp_below_zero(x: f32) -> f32 {
    // Adding it rounds to an integer, which then stands in the low bits.
    const TO_INTEGER: f32 = (3 << 22) as f32;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let shifted = x * std::f32::consts::LOG2_E + TO_INTEGER;
    let n = shifted - TO_INTEGER;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut p = 1.987_569_2e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        p = p * r + coefficient;
    }
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    let result = (p * r * r + r + 1.0) * power;
    if x < -87.0 { 0.0 } else { result }
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
    fn the_exponential_is_that_of_the_library() {
        for i in 0..=8_700 {
            let x = -0.01 * i as f32;
            let (got, want) = (exp_below_zero(x), f64::from(x).exp());
            assert!((f64::from(got) - want).abs() <= 4e-7 * want, "exp({x}) = {got}, expected {want}");
        }
        assert_eq!([0.0, -88.0, f32::NEG_INFINITY].map(exp_below_zero), [1.0, 0.0, 0.0]);
        assert!(exp_below_zero(f32::NAN).is_nan());
    }

    #[test]
    fn sums_do_not_depend_on_the_number_of_scores_being_even() {
        for n in [1, 15, 16, 17, 255, 256, 300, 1000] {
            let scores: Vec<f32> = (0..n).map(|i| ((i * 37) % 101) as f32 / 10.0 - 7.0).collect();
            let want = scores.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
            assert!((log_sum_exp(&scores).unwrap() - want).abs() < 1e-6, "{n} scores");
        }
    }

    #[test]
    fn probabilities_sum_to_one_and_excluded_tokens_have_none() {
        let got = softmax(&[100.0, f32::NEG_INFINITY, 100.0]);
        assert_eq!(got, [0.5, 0.0, 0.5]);
        assert_eq!(softmax(&[f32::NEG_INFINITY; 2]), [0.0; 2]);
    }
}
