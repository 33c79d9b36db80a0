//! The conformance suite: every operation of [`Backend`] on odd shapes, compared with [`Reference`].
//!
//! Two kinds of case. A *comparison* runs the same generic code over the backend and over the reference and
//! compares every result. An *identity* runs two ways to the same result on the backend alone (fused and unfused,
//! rotation forward and back).
//!
//! All inputs are multiples of 1/64 below 2: they are exact in bf16, so what is compared is the arithmetic and the
//! rounding of results, never the rounding of inputs. Gradients that an operation adds to start from such values
//! too, so that a forgotten addition shows.

mod attention;
mod blocks;
mod compare;
mod head;
mod linear;
mod norm;
mod rotary;
mod rows;
mod training;
mod values;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{Backend, Reference};

/// How far a result may lie from the reference, as a share of `rms(reference) + |reference|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// For results in which nothing was rounded to less than `f32`.
    pub exact: f64,
    /// For results that are stored as [`crate::Storage::Compact`], or made from such.
    pub compact: f64,
    /// For products with quantised blocks, which a backend may compute with activations of eight bits.
    pub blocks: f64,
}

impl Tolerance {
    /// A backend that computes and stores in `f32`. The longest sum has 600 terms: its rounding errors add up to
    /// `sqrt(600) * 2^-24` of its size, 1.5e-6, and an exponential multiplies an error by its argument (up to 10).
    pub const F32: Self = Self { exact: 2e-5, compact: 2e-5, blocks: 2e-5 };

    /// A backend that stores compact rows in bf16 and multiplies bf16 numbers into `f32` sums. Storing rounds by
    /// up to `2^-9` of the element; a chain of two such roundings (probabilities, then the result) and cancellation
    /// between terms take the rest. Eight bits round by up to 1/254 of the largest of 32 activations.
    pub const BF16: Self = Self { exact: 2e-5, compact: 1.2e-2, blocks: 3e-2 };

    fn of(self, within: Within) -> f64 {
        match within {
            Within::Same => 0.0,
            Within::Exact => self.exact,
            Within::Compact => self.compact,
            Within::Blocks => self.blocks,
        }
    }
}

/// What the suite found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Number of cases that ran.
    pub n_case: usize,
    /// The cases that failed.
    pub failures: Vec<Failure>,
}

/// A case whose results differ from the reference, or that panicked.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Operation, shapes and options.
    pub case: String,
    /// What differs, where, and by how much.
    pub detail: String,
}

impl Report {
    /// Whether every case passed.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} of {} cases failed", self.failures.len(), self.n_case)?;
        // The first failures tell what is wrong; hundreds would hide it.
        for failure in self.failures.iter().take(12) {
            writeln!(f, "- {}\n    {}", failure.case, failure.detail)?;
        }
        Ok(())
    }
}

/// Runs the whole suite. A panic inside the backend counts as a failure of its case.
pub fn check<B: Backend>(backend: &B, tolerance: Tolerance) -> Report {
    let mut suite = Suite { backend, tolerance, report: Report::default() };
    rows::cases(&mut suite);
    linear::cases(&mut suite);
    blocks::cases(&mut suite);
    norm::cases(&mut suite);
    rotary::cases(&mut suite);
    attention::cases(&mut suite);
    head::cases(&mut suite);
    training::cases(&mut suite);
    suite.report
}

/// Which tolerance a result is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    /// Equal to the bit: values were only moved.
    Same,
    /// [`Tolerance::exact`].
    Exact,
    /// [`Tolerance::compact`].
    Compact,
    /// [`Tolerance::blocks`].
    Blocks,
}

/// A named result.
struct Output {
    name: &'static str,
    values: Vec<f32>,
    within: Within,
}

impl Output {
    fn new(name: &'static str, values: Vec<f32>, within: Within) -> Self {
        Self { name, values, within }
    }
}

/// Something that can be run over any backend. Its `Debug` form is its name.
trait Case: fmt::Debug {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output>;
}

/// Two ways to the same results. Its `Debug` form is its name.
trait Identity: fmt::Debug {
    fn run<B: Backend>(&self, backend: &B) -> (Vec<Output>, Vec<Output>);
}

struct Suite<'a, B> {
    backend: &'a B,
    tolerance: Tolerance,
    report: Report,
}

impl<B: Backend> Suite<'_, B> {
    fn compare(&mut self, case: impl Case) {
        let got = catch_unwind(AssertUnwindSafe(|| case.run(self.backend)));
        self.judge(&case, got.map(|got| (got, case.run(&Reference))));
    }

    fn identity(&mut self, case: impl Identity) {
        let both = catch_unwind(AssertUnwindSafe(|| case.run(self.backend)));
        self.judge(&case, both);
    }

    fn judge(&mut self, case: &dyn fmt::Debug, results: std::thread::Result<(Vec<Output>, Vec<Output>)>) {
        self.report.n_case += 1;
        let detail = match results {
            Ok((got, want)) => got.iter().zip(&want).find_map(|(got, want)| {
                let difference =
                    compare::difference(&got.values, &want.values, self.tolerance.of(want.within));
                difference.map(|difference| format!("{}: {difference}", want.name))
            }),
            Err(panic) => Some(format!("panicked: {}", panic_message(&panic))),
        };
        if let Some(detail) = detail {
            self.report.failures.push(Failure { case: format!("{case:?}"), detail });
        }
    }
}

fn panic_message(panic: &Box<dyn std::any::Any + Send>) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => message,
        (_, Some(message)) => message,
        _ => "no message",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_conforms_to_itself() {
        let report = check(&Reference, Tolerance { exact: 1e-6, compact: 1e-6, blocks: 1e-6 });
        assert!(report.passed(), "{report}");
        assert!(report.n_case > 500, "only {} cases", report.n_case);
    }
}
