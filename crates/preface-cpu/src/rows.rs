//! Moving rows about, embeddings.
//!
//! Row by row, each task some rows. Rows are independent, so how they are divided changes no result.

use std::ops::Range;

use crate::CpuBackend;
use crate::simd::{Kernel, Simd, map, update};
use crate::storage::{CpuRows, CpuWeight, SharedRows};

/// A task of fewer elements is done before another thread has noticed it.
const TASK_ELEMENTS: usize = 16 * 1024;

impl CpuBackend {
    /// Runs a kernel for ranges of rows that together are `0..n_row`, with `n_scratch` floats of scratch memory.
    pub(crate) fn for_rows<K: RowKernel>(&self, n_row: usize, width: usize, n_scratch: usize, kernel: &K) {
        let most = n_row.div_ceil((TASK_ELEMENTS / width.max(1)).max(1));
        let n_task = most.min(4 * self.pool.threads());
        self.pool.run(n_task, |task, scratch| {
            let rows = n_row * task / n_task..n_row * (task + 1) / n_task;
            let [scratch] = scratch.floats([n_scratch]);
            self.tier.run(Rows { kernel, rows, scratch });
        });
    }
}

/// Sets all elements to zero. A flat gradient is one row, so it is not rows that are divided.
pub fn zero(backend: &CpuBackend, rows: &mut CpuRows) {
    let n = rows.n_row * rows.width;
    let all = SharedRows::over(rows.view_mut());
    let n_task = n.div_ceil(TASK_ELEMENTS).min(4 * backend.pool.threads());
    backend.pool.run(n_task, |task, _| {
        // SAFETY: each task has elements of its own, and uses one part.
        unsafe { all.part(0, n * task / n_task..n * (task + 1) / n_task) }.zero();
    });
}

/// Something to be done for each row of a range.
pub trait RowKernel: Sync {
    /// Does it for one row. May change what belongs to this row only.
    fn row<S: Simd>(&self, simd: S, row: usize, scratch: &mut [f32]);
}

struct Rows<'a, K> {
    kernel: &'a K,
    rows: Range<usize>,
    scratch: &'a mut [f32],
}

impl<K: RowKernel> Kernel for Rows<'_, K> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for row in self.rows {
            self.kernel.row(simd, row, self.scratch);
        }
    }
}

pub fn copy(backend: &CpuBackend, x: &CpuRows, out: &mut CpuRows) {
    assert_eq!((x.n_row, x.width), (out.n_row, out.width), "copy: shapes");
    backend.for_rows(x.n_row, x.width, 0, &CopyRows { x, out: out.share() });
}

struct CopyRows<'a> {
    x: &'a CpuRows,
    out: SharedRows<'a>,
}

impl RowKernel for CopyRows<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize, _: &mut [f32]) {
        // SAFETY: `for_rows` hands out each row once.
        let out = unsafe { self.out.part(row, 0..self.out.width()) };
        out.copy(simd, self.x.row(row));
    }
}

pub fn gather(backend: &CpuBackend, x: &CpuRows, columns: Range<usize>, index: &[u32], out: &mut CpuRows) {
    assert_eq!((out.n_row, out.width), (index.len(), columns.len()), "gather: shape of out");
    let (n_row, width) = (out.n_row, out.width);
    backend.for_rows(n_row, width, 0, &Gather { x, columns, index, out: out.share() });
}

struct Gather<'a> {
    x: &'a CpuRows,
    columns: Range<usize>,
    index: &'a [u32],
    out: SharedRows<'a>,
}

impl RowKernel for Gather<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize, _: &mut [f32]) {
        // SAFETY: `for_rows` hands out each row once.
        let out = unsafe { self.out.part(row, 0..self.out.width()) };
        out.copy(simd, self.x.part(self.index[row] as usize, self.columns.clone()));
    }
}

pub fn scatter(backend: &CpuBackend, x: &CpuRows, columns: Range<usize>, index: &[u32], out: &mut CpuRows) {
    assert_eq!((x.n_row, out.width), (index.len(), columns.len()), "scatter: shapes");
    // One task: the index's promise that no row comes twice is not ours to rely on for memory safety.
    let (width, out) = (out.width, out.share());
    backend.tier.run(Scatter { x, columns, index, out, width });
}

struct Scatter<'a> {
    x: &'a CpuRows,
    columns: Range<usize>,
    index: &'a [u32],
    out: SharedRows<'a>,
    width: usize,
}

impl Kernel for Scatter<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (i, &row) in self.index.iter().enumerate() {
            // SAFETY: one part at a time, on one thread.
            let out = unsafe { self.out.part(row as usize, 0..self.width) };
            out.copy(simd, self.x.part(i, self.columns.clone()));
        }
    }
}

pub fn scatter_add(backend: &CpuBackend, x: &CpuRows, index: &[u32], out: &mut CpuRows) {
    assert_eq!((x.n_row, x.width), (index.len(), out.width), "scatter_add: shapes");
    // One task, as for `scatter`.
    backend.tier.run(ScatterAdd { x, index, out: out.share() });
}

struct ScatterAdd<'a> {
    x: &'a CpuRows,
    index: &'a [u32],
    out: SharedRows<'a>,
}

impl Kernel for ScatterAdd<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = self.out.width();
        let (mut from, mut to) = (vec![0.0; width], vec![0.0; width]);
        for (i, &row) in self.index.iter().enumerate() {
            let x = self.x.row(i).floats(simd, &mut from);
            // SAFETY: one part at a time, on one thread.
            let out = unsafe { self.out.part(row as usize, 0..width) };
            out.change(
                simd,
                &mut to,
                #[inline(always)]
                |out| {
                    update(
                        simd,
                        out,
                        x,
                        #[inline(always)]
                        |out, x| simd.add(out, x),
                    )
                },
            );
        }
    }
}

pub fn embed(backend: &CpuBackend, table: &CpuWeight, ids: &[u32], scale: f32, out: &mut CpuRows) {
    assert_eq!((out.n_row, out.width), (ids.len(), table.n_in), "embed: shape of out");
    let (n_row, width) = (out.n_row, out.width);
    let out = out.share();
    backend.for_rows(n_row, width, 2 * width, &Embed { table, ids, rule: Rule::Scale(scale), out });
}

pub fn embed_add(backend: &CpuBackend, table: &CpuWeight, ids: &[u32], out: &mut CpuRows) {
    assert_eq!((out.n_row, out.width), (ids.len(), table.n_in), "embed_add: shape of out");
    let (n_row, width) = (out.n_row, out.width);
    let out = out.share();
    backend.for_rows(n_row, width, 2 * width, &Embed { table, ids, rule: Rule::Add, out });
}

struct Embed<'a> {
    table: &'a CpuWeight,
    ids: &'a [u32],
    rule: Rule,
    out: SharedRows<'a>,
}

enum Rule {
    Scale(f32),
    Add,
}

impl RowKernel for Embed<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize, scratch: &mut [f32]) {
        let width = self.out.width();
        let (from, to) = scratch.split_at_mut(width);
        self.table.floats(simd, self.ids[row] as usize, from);
        let entry: &[f32] = from;
        // SAFETY: `for_rows` hands out each row once.
        let out = unsafe { self.out.part(row, 0..width) };
        match self.rule {
            Rule::Scale(1.0) => out.write(simd, entry),
            Rule::Scale(scale) => {
                let scale = simd.splat(scale);
                map(
                    simd,
                    entry,
                    to,
                    #[inline(always)]
                    |x| simd.mul(x, scale),
                );
                out.write(simd, to);
            }
            Rule::Add => {
                out.change(
                    simd,
                    to,
                    #[inline(always)]
                    |out| {
                        update(
                            simd,
                            out,
                            entry,
                            #[inline(always)]
                            |out, x| simd.add(out, x),
                        )
                    },
                );
            }
        }
    }
}
