//! Norms, forward and backward.

use super::rows::result;
use super::values::{rows, values};
use super::{Case, Output, Suite, Within};
use crate::{Backend, Norm, NormKind, Storage};

pub fn cases<B: Backend>(suite: &mut Suite<'_, B>) {
    for kind in [NormKind::Rms, NormKind::Layer] {
        for has_bias in [false, true] {
            for n_row in [0, 1, 2, 7, 33] {
                for width in [1, 5, 16, 63, 65, 576] {
                    for storage in [Storage::Exact, Storage::Compact] {
                        suite.compare(NormCase { kind, has_bias, n_row, width, storage });
                    }
                }
            }
        }
    }
}

#[derive(Debug)]
struct NormCase {
    kind: NormKind,
    has_bias: bool,
    n_row: usize,
    width: usize,
    storage: Storage,
}

impl Case for NormCase {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let &Self { kind, has_bias, n_row, width, storage } = self;
        let norm = Norm {
            kind,
            epsilon: 1e-5,
            weight: backend.vector(&values(11, width)),
            bias: has_bias.then(|| backend.vector(&values(12, width))),
        };
        let x = rows(backend, 13, n_row, width, storage);
        let mut out = backend.rows(n_row, width, storage);
        backend.norm(&norm, &x, &mut out);
        let d_out = rows(backend, 14, n_row, width, storage);
        let mut d_x = rows(backend, 15, n_row, width, Storage::Exact);
        backend.norm_backward(&norm, &x, &d_out, &mut d_x);
        // A layer norm of one column divides by sqrt(epsilon): errors of the mean are magnified 300 times.
        let backward = if width == 1 { Within::Compact } else { Within::Exact };
        vec![
            Output::new("norm", backend.read(&out), result(storage)),
            Output::new("norm_backward", backend.read(&d_x), backward),
        ]
    }
}
