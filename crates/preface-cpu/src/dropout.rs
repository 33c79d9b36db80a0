//! Dropout and addition of rows.

use preface_backend::RowMask;

use crate::CpuBackend;
use crate::rows::RowKernel;
use crate::simd::{Simd, update};
use crate::storage::{CpuRows, SharedRows};

pub fn dropout(
    backend: &CpuBackend,
    masks: &[RowMask],
    probability: f32,
    layer: u32,
    x: &CpuRows,
    out: &mut CpuRows,
) {
    let (n_row, width) = (x.n_row, x.width);
    assert_eq!((n_row, width), (masks.len(), out.width), "dropout: shapes");
    assert_eq!(n_row, out.n_row, "dropout: shape of out");
    let kernel = Dropout { masks, probability, layer, x, out: out.share() };
    backend.for_rows(n_row, width, 2 * width, &kernel);
}

struct Dropout<'a> {
    masks: &'a [RowMask],
    probability: f32,
    layer: u32,
    x: &'a CpuRows,
    out: SharedRows<'a>,
}

impl RowKernel for Dropout<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize, scratch: &mut [f32]) {
        let width = self.x.width;
        let (factors, values) = scratch.split_at_mut(width);
        for (column, factor) in factors.iter_mut().enumerate() {
            *factor = self.masks[row].factor(self.probability, self.layer, width, column);
        }
        self.x.row(row).read(simd, values);
        update(
            simd,
            values,
            factors,
            #[inline(always)]
            |value, factor| simd.mul(value, factor),
        );
        // SAFETY: `for_rows` hands out each row once.
        unsafe { self.out.part(row, 0..width) }.write(simd, values);
    }
}

pub fn add(backend: &CpuBackend, x: &CpuRows, out: &mut CpuRows) {
    assert_eq!((x.n_row, x.width), (out.n_row, out.width), "add: shapes");
    let (n_row, width) = (x.n_row, x.width);
    backend.for_rows(n_row, width, 2 * width, &Add { x, out: out.share() });
}

struct Add<'a> {
    x: &'a CpuRows,
    out: SharedRows<'a>,
}

impl RowKernel for Add<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize, scratch: &mut [f32]) {
        let width = self.x.width;
        let (from, to) = scratch.split_at_mut(width);
        let x = self.x.row(row).floats(simd, from);
        // SAFETY: `for_rows` hands out each row once.
        let out = unsafe { self.out.part(row, 0..width) };
        out.change(
            simd,
            to,
            #[inline(always)]
            |out| {
                update(
                    simd,
                    out,
                    x,
                    #[inline(always)]
                    |out, x| simd.add(out, x),
                );
            },
        );
    }
}
