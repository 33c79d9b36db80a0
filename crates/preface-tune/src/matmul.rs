//! The matrix products of the reparametrisation, on the host. They are small beside the model's: at 10 rows, width 512
//! and SmolLM2's 11,520 numbers a row, 0.4 GFLOP a step against some 300.

use gemmkit::{MatMut, MatRef, Parallelism, gemm};

/// A view of a row-major matrix, possibly transposed.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    view: MatRef<'a, f32>,
    n_row: usize,
    n_column: usize,
    is_transposed: bool,
}

impl<'a> Matrix<'a> {
    pub fn new(values: &'a [f32], n_row: usize, n_column: usize) -> Self {
        let view = MatRef::from_row_major(values, n_row, n_column);
        Self { values, view, n_row, n_column, is_transposed: false }
    }

    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    pub fn transposed(self) -> Self {
        let (n_row, n_column, is_transposed) = (self.n_column, self.n_row, !self.is_transposed);
        let view = match is_transposed {
            true => MatRef::from_col_major(self.values, n_row, n_column),
            false => MatRef::from_row_major(self.values, n_row, n_column),
        };
        Self { values: self.values, view, n_row, n_column, is_transposed }
    }
}

/// `out += a b`, `out` row-major.
pub(crate) fn matmul(a: Matrix<'_>, b: Matrix<'_>, out: &mut [f32]) {
    let out = MatMut::from_row_major(out, a.n_row, b.n_column);
    gemm(1.0, a.view, b.view, 1.0, out, Parallelism::Rayon(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_views_and_transposed_views_equal_plain_loops() {
        let a: Vec<f32> = (0..6).map(|i| i as f32 - 2.0).collect();
        let b: Vec<f32> = (0..12).map(|i| (i as f32).sqrt()).collect();
        let mut out = vec![1.0; 8];
        // a^T [2, 3] times b [3, 4], a stored [3, 2].
        matmul(Matrix::new(&a, 3, 2).transposed(), Matrix::new(&b, 3, 4), &mut out);
        for i in 0..2 {
            for j in 0..4 {
                let want = 1.0 + (0..3).map(|k| a[k * 2 + i] * b[k * 4 + j]).sum::<f32>();
                assert!((out[i * 4 + j] - want).abs() < 1e-5);
            }
        }
    }
}
