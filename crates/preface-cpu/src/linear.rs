//! Products with their epilogues. A task computes some columns of the result for some rows and finishes them while
//! they are in the cache.

use std::ops::Range;

use preface_backend::{Activation, Direction, Epilogue, Term};

use crate::CpuBackend;
use crate::activation::{activate, activate_grad, gate, gate_grad};
use crate::product::{Factors, memory, product};
use crate::simd::{Kernel, Simd, update};
use crate::storage::{CpuRows, SharedRows};

/// Columns of the result that one task computes.
const BLOCK_COLUMNS: usize = 192;
/// Rows of the result that one task computes, at most.
const BLOCK_ROWS: usize = 768;

pub fn linear(
    backend: &CpuBackend,
    terms: &[Term<'_, CpuBackend>],
    epilogue: Epilogue<'_, CpuBackend>,
    out: &mut CpuRows,
) {
    let widths = |term: &Term<'_, CpuBackend>| match term.direction {
        Direction::Plain => (term.weight.n_in, term.weight.n_out),
        Direction::Transposed => (term.weight.n_out, term.weight.n_in),
    };
    let n_row = terms[0].x.n_row;
    let (_, product_width) = widths(&terms[0]);
    for term in terms {
        let got = (term.x.n_row, (term.x.width, product_width));
        assert_eq!(got, (n_row, widths(term)), "linear: shapes of a term");
    }
    let tail = Tail::new(epilogue, n_row, product_width);
    assert_eq!((out.n_row, out.width), (n_row, tail.out_width(product_width)), "linear: shape of out");
    let factors: Vec<Factors<'_>> = terms
        .iter()
        .map(|term| Factors {
            x: term.x.view(),
            x_stride: term.x.width,
            weight: term.weight,
            direction: term.direction,
            depth: 0..term.x.width,
        })
        .collect();
    // A gate's two halves are computed side by side.
    let width = product_width / tail.n_piece();
    let (n_block, n_part) = (width.div_ceil(BLOCK_COLUMNS), n_row.div_ceil(BLOCK_ROWS));
    let out = out.share();
    backend.pool.run(n_block * n_part, |task, scratch| {
        let (block, part) = (task % n_block, task / n_block);
        let columns = block * BLOCK_COLUMNS..((block + 1) * BLOCK_COLUMNS).min(width);
        let rows = n_row * part / n_part..n_row * (part + 1) / n_part;
        let n_memory = memory(&factors, rows.len(), columns.len() * tail.n_piece());
        let [memory, wide] = scratch.floats([n_memory, 4 * columns.len()]);
        backend.tier.run(Block {
            factors: &factors,
            tail: &tail,
            width,
            columns,
            rows,
            out: &out,
            memory,
            wide,
        });
    });
}

/// An epilogue over shared rows.
enum Tail<'a> {
    Store,
    Bias(&'a [f32]),
    Residual { residual: &'a CpuRows, bias: Option<&'a [f32]> },
    Activate { activation: Activation, bias: Option<&'a [f32]>, keep: Option<SharedRows<'a>> },
    ActivateGrad { activation: Activation, kept: &'a CpuRows },
}

impl<'a> Tail<'a> {
    fn new(epilogue: Epilogue<'a, CpuBackend>, n_row: usize, width: usize) -> Self {
        let tail = match epilogue {
            Epilogue::Store => Self::Store,
            Epilogue::Bias(bias) => Self::Bias(&bias.0),
            Epilogue::Residual { residual, bias } => {
                assert_eq!((residual.n_row, residual.width), (n_row, width), "linear: shape of the residual");
                Self::Residual { residual, bias: bias.map(|bias| bias.0.as_slice()) }
            }
            Epilogue::Activate { activation, bias, keep } => {
                if let Some(keep) = &keep {
                    assert_eq!((keep.n_row, keep.width), (n_row, width), "linear: shape of keep");
                }
                let (bias, keep) = (bias.map(|bias| bias.0.as_slice()), keep.map(CpuRows::share));
                Self::Activate { activation, bias, keep }
            }
            Epilogue::ActivateGrad { activation, kept } => {
                let expected = (n_row, activation.input_width(width));
                assert_eq!((kept.n_row, kept.width), expected, "linear: shape of what the activation kept");
                Self::ActivateGrad { activation, kept }
            }
        };
        let bias = match &tail {
            Self::Bias(bias) => Some(*bias),
            Self::Residual { bias, .. } | Self::Activate { bias, .. } => *bias,
            Self::Store | Self::ActivateGrad { .. } => None,
        };
        assert!(bias.is_none_or(|bias| bias.len() == width), "linear: length of the bias");
        tail
    }

    /// Pieces of the product that are finished together: gate and up, or all of it.
    fn n_piece(&self) -> usize {
        match self {
            Self::Activate { activation, .. } if activation.gated => 2,
            _ => 1,
        }
    }

    fn out_width(&self, product_width: usize) -> usize {
        match self {
            Self::Activate { activation, .. } if activation.gated => product_width / 2,
            Self::ActivateGrad { activation, .. } => activation.input_width(product_width),
            _ => product_width,
        }
    }
}

struct Block<'a> {
    factors: &'a [Factors<'a>],
    tail: &'a Tail<'a>,
    /// Columns of one piece of the whole product.
    width: usize,
    columns: Range<usize>,
    rows: Range<usize>,
    out: &'a SharedRows<'a>,
    memory: &'a mut [f32],
    wide: &'a mut [f32],
}

impl Kernel for Block<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { factors, tail, width, columns, rows, out, memory, wide } = self;
        let second = width + columns.start..width + columns.end;
        let pieces = [columns.clone(), second];
        let n_piece = tail.n_piece();
        let finish = Finish { tail, width, out };
        product(simd, factors, rows, &pieces[..n_piece], memory, |first_row, tile| {
            for (i, sums) in tile.chunks_exact_mut(n_piece * columns.len()).enumerate() {
                finish.row(simd, first_row + i, columns.clone(), sums, wide);
            }
        });
    }
}

/// Applies the epilogue to pieces of rows. Every (row, columns) is finished once, by one task.
struct Finish<'a> {
    tail: &'a Tail<'a>,
    width: usize,
    out: &'a SharedRows<'a>,
}

impl Finish<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize, columns: Range<usize>, sums: &mut [f32], wide: &mut [f32]) {
        let n = columns.len();
        let second = self.width + columns.start..self.width + columns.end;
        let write = |columns: Range<usize>, values: &[f32]| {
            // SAFETY: blocks of different tasks share no element, a row of a block is finished once, and the part is
            // in use for this statement only.
            unsafe { self.out.part(row, columns) }.write(simd, values);
        };
        match self.tail {
            Tail::Store => write(columns, sums),
            Tail::Bias(bias) => {
                add(simd, sums, &bias[columns.clone()]);
                write(columns, sums);
            }
            Tail::Residual { residual, bias } => {
                if let Some(bias) = bias {
                    add(simd, sums, &bias[columns.clone()]);
                }
                add(simd, sums, residual.part(row, columns.clone()).floats(simd, &mut wide[..n]));
                write(columns, sums);
            }
            Tail::Activate { activation, bias, keep } => {
                let (first, up) = sums.split_at_mut(n);
                let pieces = [(columns.clone(), &mut *first), (second, &mut *up)];
                for (columns, sums) in pieces.into_iter().take(self.tail.n_piece()) {
                    if let Some(bias) = bias {
                        add(simd, sums, &bias[columns.clone()]);
                    }
                    if let Some(keep) = keep {
                        // SAFETY: as for `write`.
                        unsafe { keep.part(row, columns) }.write(simd, sums);
                    }
                }
                let wide = &mut wide[..n];
                if activation.gated {
                    gate(simd, activation.function, first, up, wide);
                } else {
                    activate(simd, activation.function, first, wide);
                }
                write(columns, wide);
            }
            Tail::ActivateGrad { activation, kept } => {
                let [wide_first, wide_second, d_first, d_second] = quarters(wide, n);
                let first = kept.part(row, columns.clone()).floats(simd, wide_first);
                if activation.gated {
                    let up = kept.part(row, second.clone()).floats(simd, wide_second);
                    gate_grad(simd, activation.function, [sums, first, up], d_first, d_second);
                    write(second, d_second);
                } else {
                    activate_grad(simd, activation.function, sums, first, d_first);
                }
                write(columns, d_first);
            }
        }
    }
}

#[inline(always)]
fn add<S: Simd>(simd: S, sums: &mut [f32], values: &[f32]) {
    update(simd, sums, values, |sum, value| simd.add(sum, value));
}

fn quarters(wide: &mut [f32], n: usize) -> [&mut [f32]; 4] {
    let (a, rest) = wide.split_at_mut(n);
    let (b, rest) = rest.split_at_mut(n);
    let (c, rest) = rest.split_at_mut(n);
    [a, b, c, &mut rest[..n]]
}
