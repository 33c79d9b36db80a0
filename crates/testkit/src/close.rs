//! `|got - want| <= abs + rel * rms(want)`, element by element.
//!
//! Values of the reference that are not finite (masked logits) must be met exactly, by position and sign; they are left out of the root mean
//! square, because one infinity in it would make every tolerance infinite.

use std::fmt;

/// How far a value may be from its reference: `abs + rel * rms(reference)`.
///
/// State beside each use why the figures are what they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Allowed whatever the size of the reference: for tensors whose reference is zero.
    pub abs: f64,
    /// Allowed in units of the reference's root mean square.
    pub rel: f64,
}

impl Tolerance {
    /// Only what is relative to the reference's root mean square.
    pub const fn relative(rel: f64) -> Self {
        Self { abs: 0.0, rel }
    }

    /// Only a fixed distance.
    pub const fn absolute(abs: f64) -> Self {
        Self { abs, rel: 0.0 }
    }
}

/// Why two tensors are not close.
#[derive(Clone, Debug, PartialEq)]
pub enum Mismatch {
    /// The numbers of elements differ.
    Length {
        /// Elements that came.
        got: usize,
        /// Elements of the reference.
        want: usize,
    },
    /// Some elements are further from the reference than allowed.
    Values {
        /// How many are.
        count: usize,
        /// Of how many elements.
        total: usize,
        /// The distance that was allowed.
        allowed: f64,
        /// The five worst, the worst first: index, value, reference.
        worst: Vec<(usize, f64, f64)>,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { got, want } => write!(f, "got {got} elements, want {want}"),
            Self::Values { count, total, allowed, worst } => {
                write!(
                    f,
                    "{count} of {total} elements are further than {allowed:.3e} from the reference; the worst:"
                )?;
                for (index, got, want) in worst {
                    write!(f, "\n  [{index}] got {got:e}, want {want:e}, off by {:.3e}", (got - want).abs())?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Mismatch {}

/// Root mean square of the finite elements; 0 if there are none.
pub fn rms<T: Copy + Into<f64>>(values: &[T]) -> f64 {
    let (sum, count) = values
        .iter()
        .map(|&v| v.into())
        .filter(|v| v.is_finite())
        .fold((0.0, 0_usize), |(sum, count), v: f64| (sum + v * v, count + 1));
    if count == 0 { 0.0 } else { (sum / count as f64).sqrt() }
}

/// Cosine of the angle between two vectors; NaN if one of them is zero.
///
/// # Panics
/// If they differ in length.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "vectors of one length");
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (f64::from(a), f64::from(b));
        (ab, aa, bb) = (ab + a * b, aa + a * a, bb + b * b);
    }
    ab / (aa * bb).sqrt()
}

/// Whether every element of `got` is within `tolerance` of the reference `want`.
///
/// Elements may be `f32` or `f64`, on each side; the arithmetic is in `f64`.
///
/// # Errors
/// [`Mismatch`], which names the worst elements.
///
/// ```
/// use testkit::{Tolerance, close};
/// assert!(close(&[1.0_f32, 2.0], &[1.0_f32, 2.0001], Tolerance::relative(1e-4)).is_ok());
/// assert!(close(&[f32::NAN], &[1.0_f32], Tolerance::absolute(1e9)).is_err());
/// ```
pub fn close<G, W>(got: &[G], want: &[W], tolerance: Tolerance) -> Result<(), Mismatch>
where
    G: Copy + Into<f64>,
    W: Copy + Into<f64>,
{
    if got.len() != want.len() {
        return Err(Mismatch::Length { got: got.len(), want: want.len() });
    }
    let allowed = tolerance.abs + tolerance.rel * rms(want);
    let mut wrong: Vec<(usize, f64, f64)> = got
        .iter()
        .zip(want)
        .enumerate()
        .map(|(index, (&g, &w))| (index, g.into(), w.into()))
        .filter(|&(_, g, w)| !matches_reference(g, w, allowed))
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let count = wrong.len();
    let badness = |&(_, g, w): &(usize, f64, f64)| {
        let distance = (g - w).abs();
        if distance.is_nan() { f64::INFINITY } else { distance }
    };
    wrong.sort_by(|a, b| badness(b).total_cmp(&badness(a)));
    wrong.truncate(5);
    Err(Mismatch::Values { count, total: want.len(), allowed, worst: wrong })
}

fn matches_reference(got: f64, want: f64, allowed: f64) -> bool {
    if want.is_nan() {
        got.is_nan()
    } else if want.is_infinite() {
        got == want
    } else {
        // False for a NaN on either side of the comparison, `allowed` included.
        (got - want).abs() <= allowed
    }
}

/// [`close()`] for tests: panics with `what` and the worst elements.
///
/// # Panics
/// If the tensors are not close.
#[track_caller]
pub fn assert_close<G, W>(what: &str, got: &[G], want: &[W], tolerance: Tolerance)
where
    G: Copy + Into<f64>,
    W: Copy + Into<f64>,
{
    if let Err(mismatch) = close(got, want, tolerance) {
        panic!("{what}: {mismatch}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIGHT: Tolerance = Tolerance { abs: 0.0, rel: 1e-6 };

    #[test]
    fn empty_tensors_are_close_and_lengths_must_agree() {
        assert_eq!(close::<f32, f32>(&[], &[], TIGHT), Ok(()));
        assert_eq!(close(&[1.0_f32], &[1.0_f32, 1.0], TIGHT), Err(Mismatch::Length { got: 1, want: 2 }));
        assert!(close::<f32, f32>(&[], &[0.0], TIGHT).is_err());
    }

    #[test]
    fn nan_never_passes_for_a_number() {
        for tolerance in [TIGHT, Tolerance::absolute(f64::MAX), Tolerance::absolute(f64::INFINITY)] {
            assert!(close(&[f32::NAN], &[0.0_f32], tolerance).is_err());
        }
        assert!(
            close(&[0.0_f32], &[0.0_f32], Tolerance::absolute(f64::NAN)).is_err(),
            "a NaN tolerance allows nothing"
        );
        assert!(close(&[0.0_f32], &[f32::NAN], Tolerance::absolute(1.0)).is_err());
    }

    #[test]
    fn references_that_are_not_finite_are_met_by_position_and_sign() {
        let want = [f32::NEG_INFINITY, 1.0, f32::NAN, f32::INFINITY];
        assert_eq!(close(&want, &want, TIGHT), Ok(()));
        assert!(close(&[f32::INFINITY, 1.0, f32::NAN, f32::INFINITY], &want, TIGHT).is_err());
        assert!(close(&[-1e30, 1.0, f32::NAN, f32::INFINITY], &want, TIGHT).is_err());
        assert!(
            close(&[f32::NEG_INFINITY, 1.5, f32::NAN, f32::INFINITY], &want, TIGHT).is_err(),
            "rms ignores infinities"
        );
        assert!(close(&[f32::INFINITY], &[1.0_f32], Tolerance::absolute(1e30)).is_err());
    }

    #[test]
    fn the_scale_is_the_root_mean_square_of_the_reference() {
        let want = [3.0_f64, -4.0, 0.0, 0.0];
        assert_eq!(rms(&want), 2.5);
        let off = |by: f64| [3.0, -4.0, by, 0.0];
        assert!(close(&off(0.24), &want, Tolerance::relative(0.1)).is_ok());
        assert!(close(&off(0.26), &want, Tolerance::relative(0.1)).is_err());
        assert!(
            close(&[0.0_f32], &[1.0_f32], Tolerance::relative(0.5)).is_err(),
            "zeros do not pass for a gradient"
        );
    }

    #[test]
    fn a_reference_of_zeros_needs_an_absolute_tolerance() {
        assert!(close(&[1e-12_f32], &[0.0_f32], Tolerance::relative(1.0)).is_err());
        assert!(close(&[1e-12_f32], &[0.0_f32], Tolerance::absolute(1e-9)).is_ok());
    }

    #[test]
    fn the_five_worst_are_named_worst_first_and_nan_counts_as_worst() {
        let want = [0.0_f64; 8];
        let got = [0.0, 1.0, -7.0, 3.0, f64::NAN, 2.0, 4.0, 5.0];
        let Err(mismatch) = close(&got, &want, Tolerance::absolute(0.5)) else { panic!("must not pass") };
        let Mismatch::Values { count, total, ref worst, .. } = mismatch else { panic!("lengths agree") };
        assert_eq!((count, total), (7, 8));
        assert_eq!(worst.iter().map(|w| w.0).collect::<Vec<_>>(), [4, 2, 7, 6, 3]);
        assert!(mismatch.to_string().contains("[2] got -7e0, want 0e0"), "{mismatch}");
    }
}
