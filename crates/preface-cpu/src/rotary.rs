//! Rotary positions: `(a, b) -> (a cos - b sin, b cos + a sin)` for the columns `i` and `i + head_dim / 2` of each
//! head; backward turns by the negative angle.

use preface_backend::{HeadSpan, Rotation};

use crate::CpuBackend;
use crate::rows::RowKernel;
use crate::simd::Simd;
use crate::storage::{CpuRows, SharedRows};

pub fn rotary(
    backend: &CpuBackend,
    table: &CpuRows,
    positions: &[u32],
    heads: HeadSpan,
    rotation: Rotation,
    rows: &mut CpuRows,
) {
    assert_eq!(table.width, heads.head_dim, "rotary: width of the table");
    assert_eq!(heads.head_dim % 2, 0, "rotary: head_dim must be even");
    assert_eq!(rows.n_row, positions.len(), "rotary: one position for each row");
    let width = heads.n_head * heads.head_dim;
    let n_row = rows.n_row;
    let kernel = Rotary { table, positions, heads, rotation, rows: rows.share() };
    backend.for_rows(n_row, width, width + heads.head_dim, &kernel);
}

struct Rotary<'a> {
    table: &'a CpuRows,
    positions: &'a [u32],
    heads: HeadSpan,
    rotation: Rotation,
    rows: SharedRows<'a>,
}

impl RowKernel for Rotary<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize, scratch: &mut [f32]) {
        let HeadSpan { first_column, n_head, head_dim } = self.heads;
        let (wide, angles) = scratch.split_at_mut(n_head * head_dim);
        let angles = self.table.row(self.positions[row] as usize).floats(simd, angles);
        let (cos, sin) = angles.split_at(head_dim / 2);
        // SAFETY: `for_rows` hands out each row once.
        let columns = unsafe { self.rows.part(row, first_column..first_column + n_head * head_dim) };
        columns.change(
            simd,
            wide,
            #[inline(always)]
            |columns| {
                for head in columns.chunks_exact_mut(head_dim) {
                    let (a, b) = head.split_at_mut(head_dim / 2);
                    turn(simd, a, b, cos, sin, self.rotation);
                }
            },
        );
    }
}

#[inline(always)]
fn turn<S: Simd>(simd: S, a: &mut [f32], b: &mut [f32], cos: &[f32], sin: &[f32], rotation: Rotation) {
    let sign = match rotation {
        Rotation::Forward => 1.0,
        Rotation::Backward => -1.0,
    };
    let vector_sign = simd.splat(sign);
    let (mut a, mut b) = (a.chunks_exact_mut(S::LANES), b.chunks_exact_mut(S::LANES));
    let (mut cos, mut sin) = (cos.chunks_exact(S::LANES), sin.chunks_exact(S::LANES));
    for (((a, b), cos), sin) in (&mut a).zip(&mut b).zip(&mut cos).zip(&mut sin) {
        let (x, y, cos, sin) = (simd.load(a), simd.load(b), simd.load(cos), simd.load(sin));
        let sin = simd.mul(sin, vector_sign);
        simd.store(simd.sub(simd.mul(x, cos), simd.mul(y, sin)), a);
        simd.store(simd.add(simd.mul(y, cos), simd.mul(x, sin)), b);
    }
    let (a, b) = (a.into_remainder(), b.into_remainder());
    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos.remainder()).zip(sin.remainder()) {
        let sin = sin * sign;
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}
