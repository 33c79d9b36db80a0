//! Exponential, and the activation functions made from it.
//!
//! `exp(x) = 2^n e^r` with `n = round(x / ln 2)` and `|r| <= ln(2) / 2`. The rounding is an addition of `1.5 * 2^23`,
//! which leaves `n` in the low bits of the sum, ready to become an exponent. `ln 2` is split in two (Cody and Waite)
//! so that `r` is exact; `e^r` is the Taylor polynomial of degree 7 (its remainder, `r^8 / 8!`, is below 6e-9).
//! Arguments below -87 give exactly zero, so masked scores vanish; above 88.37 the result stays at its largest.

use super::Simd;

const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
const LN_2_HIGH: f32 = 355.0 / 512.0; // 9 bits, so that n times it is exact
const LN_2_LOW: f32 = -2.121_944_4e-4;
const SMALLEST: f32 = -87.0;
const LARGEST: f32 = 88.37;

/// `e^x`, relative error below 3e-7; NaN stays NaN.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // The operand that may be NaN stands second.
    let clamped = simd.min(simd.splat(LARGEST), simd.max(simd.splat(SMALLEST), x));
    let shifted = simd.mul_add(clamped, simd.splat(std::f32::consts::LOG2_E), simd.splat(ROUND));
    let n = simd.sub(shifted, simd.splat(ROUND));
    let r = simd.mul_add(n, simd.splat(-LN_2_HIGH), clamped);
    let r = simd.mul_add(n, simd.splat(-LN_2_LOW), r);
    let mut polynomial = simd.splat(1.0 / 5040.0);
    for inverse_factorial in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        polynomial = simd.mul_add(polynomial, r, simd.splat(inverse_factorial));
    }
    let value = simd.mul(polynomial, simd.power_of_low_bits(shifted));
    simd.zero_below(x, simd.splat(SMALLEST), value)
}

/// `1 / (1 + e^-x)`
#[inline(always)]
pub fn sigmoid<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let one = simd.splat(1.0);
    simd.div(one, simd.add(one, exp(simd, simd.sub(simd.splat(0.0), x))))
}

/// `2 sqrt(2 / pi)`: `0.5 (1 + tanh(u)) = sigmoid(2 u)`.
const GELU_SCALE: f32 = 2.0 * std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2;
const GELU_CUBIC: f32 = 0.044_715;

/// `x sigmoid(2 u)`, `u = sqrt(2 / pi) (x + 0.044715 x^3)`
#[inline(always)]
pub fn gelu_value<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    simd.mul(x, gelu_gate(simd, x))
}

/// Derivative of [`gelu_value`]: `s + x s (1 - s) 2 u'` with `s = sigmoid(2 u)`.
#[inline(always)]
pub fn gelu_slope<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let s = gelu_gate(simd, x);
    let square = simd.mul(x, x);
    let inner = simd.mul_add(square, simd.splat(3.0 * GELU_CUBIC * GELU_SCALE), simd.splat(GELU_SCALE));
    let both = simd.mul(s, simd.sub(simd.splat(1.0), s));
    simd.mul_add(simd.mul(x, inner), both, s)
}

/// `x Phi(x)`
#[inline(always)]
pub fn exact_gelu_value<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    simd.mul(x, normal(simd, x).0)
}

/// Derivative of [`exact_gelu_value`]: `Phi(x) + x phi(x)`.
#[inline(always)]
pub fn exact_gelu_slope<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let (cumulative, density) = normal(simd, x);
    simd.mul_add(x, density, cumulative)
}

/// `Phi(x)` and `phi(x)` of the normal distribution. The tail beyond `|x|` is `phi(x)` times a polynomial of
/// `1 / (1 + p |x|)`: Abramowitz and Stegun, 7.1.26, to 8e-8.
#[inline(always)]
fn normal<S: Simd>(simd: S, x: S::F32) -> (S::F32, S::F32) {
    const P: f32 = 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2;
    const COEFFICIENTS: [f32; 4] = [-1.453_152, 1.421_413_8, -0.284_496_72, 0.254_829_6];
    const DENSITY: f32 = 0.398_942_3; // 1 / sqrt(2 pi)
    let (zero, one) = (simd.splat(0.0), simd.splat(1.0));
    let size = simd.max(simd.sub(zero, x), x);
    let t = simd.div(one, simd.mul_add(size, simd.splat(P), one));
    let mut polynomial = simd.splat(1.061_405_4);
    for coefficient in COEFFICIENTS {
        polynomial = simd.mul_add(polynomial, t, simd.splat(coefficient));
    }
    let exponential = exp(simd, simd.mul(simd.mul(x, x), simd.splat(-0.5)));
    let tail = simd.mul(simd.mul(simd.mul(polynomial, t), exponential), simd.splat(0.5));
    let rest = simd.mul_add(tail, simd.splat(-2.0), one);
    let cumulative = simd.add(tail, simd.zero_below(x, zero, rest));
    (cumulative, simd.mul(exponential, simd.splat(DENSITY)))
}

/// `max(x, 0)`
#[inline(always)]
pub fn relu_value<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    simd.max(simd.splat(0.0), x)
}

/// 1 where `x > 0`, else 0.
#[inline(always)]
pub fn relu_slope<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    simd.zero_below(x, simd.splat(f32::MIN_POSITIVE), simd.splat(1.0))
}

#[inline(always)]
fn gelu_gate<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let square = simd.mul(x, x);
    let factor = simd.mul_add(square, simd.splat(GELU_CUBIC * GELU_SCALE), simd.splat(GELU_SCALE));
    sigmoid(simd, simd.mul(x, factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Kernel, map};
    use crate::tier::Tier;

    struct Exp<'a>(&'a [f32], &'a mut [f32]);

    impl Kernel for Exp<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            map(
                simd,
                self.0,
                self.1,
                #[inline(always)]
                |x| exp(simd, x),
            );
        }
    }

    #[test]
    fn exponential_is_accurate_and_vanishes_for_masked_scores() {
        let mut x: Vec<f32> = (-8600..8830).map(|i| i as f32 / 100.0).collect();
        x.extend([-87.5, -1e4, f32::NEG_INFINITY, f32::NAN, 0.0, -0.0]);
        for tier in Tier::available() {
            let mut got = vec![0.0; x.len()];
            tier.run(Exp(&x, &mut got));
            for (&x, &got) in x.iter().zip(&got) {
                let want = f64::from(x).exp();
                let near = if x.is_nan() {
                    got.is_nan()
                } else if x < SMALLEST {
                    got == 0.0
                } else {
                    ((f64::from(got) - want) / want).abs() < 3e-7
                };
                assert!(near, "{tier:?}: exp({x}) is {got}, expected {want}");
            }
        }
    }
}
