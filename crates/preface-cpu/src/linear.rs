//! Products with their epilogues. A task computes some columns of the result for some rows, and finishes each tile of
//! sums while it is in the first-level cache.

use std::ops::Range;

use preface_backend::{Activation, Direction, Epilogue, Term};

use crate::CpuBackend;
use crate::activation::{activate, activate_grad, gate, gate_grad};
use crate::blocks::dots::{self, Quantised};
use crate::division::{Task, divide};
use crate::product::{Factors, THIN_ROWS, block_columns, memory, product};
use crate::rows::RowKernel;
use crate::simd::{Kernel, Requests, Simd, update};
use crate::storage::{CpuRows, CpuWeight, Element, SharedRows, Values};

/// Rows for which packing a panel of the weight pays: so many are not divided among tasks.
const LEAST_ROWS: usize = 64;

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
    let lefts: Vec<Left> = terms.iter().map(|term| Left::new(backend, term)).collect();
    let factors: Vec<Factors<'_>> = terms
        .iter()
        .zip(&lefts)
        .map(|(term, left)| {
            let x = left.converted.as_ref().unwrap_or(term.x);
            Factors {
                x: x.view(),
                x_stride: x.width,
                weight: term.weight,
                direction: term.direction,
                depth: 0..term.x.width,
                quantised: left.quantised.as_ref(),
            }
        })
        .collect();
    // A gate's two halves are computed side by side.
    let width = product_width / tail.n_piece();
    let n_column = block_columns(&factors, n_row, tail.n_piece());
    let tasks = divide(width.div_ceil(n_column), n_row, LEAST_ROWS, backend.pool.threads());
    let out = out.share();
    backend.pool.run(tasks.len(), |task, scratch| {
        let Task { block, rows } = tasks[task].clone();
        let columns = block * n_column..((block + 1) * n_column).min(width);
        let n_memory = memory(&factors, tail.n_piece(), columns.len());
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

/// A term's rows in the form that its weight is multiplied with, as far as they are not in it.
struct Left {
    converted: Option<CpuRows>,
    quantised: Option<Quantised>,
}

impl Left {
    fn new(backend: &CpuBackend, term: &Term<'_, CpuBackend>) -> Self {
        let few = term.x.n_row <= THIN_ROWS && term.direction == Direction::Plain;
        let in_bytes = match &term.weight.values {
            Values::Parts(parts) => few && term.weight.element == Element::Bf16 && dots::suits(parts),
            Values::Plain(_) => false,
        };
        if in_bytes {
            return Self { converted: None, quantised: Some(Quantised::new(backend, term.x)) };
        }
        Self { converted: in_words(backend, term.x, term.weight), quantised: None }
    }
}

/// A copy of `x` stored as the weight is multiplied, in rows of whole words, if `x` itself is not.
pub fn in_words(backend: &CpuBackend, x: &CpuRows, weight: &CpuWeight) -> Option<CpuRows> {
    let element = weight.element;
    let multiple = match element {
        Element::F32 => 1,
        Element::Bf16 => 2,
    };
    if x.element == element && x.width.is_multiple_of(multiple) {
        return None;
    }
    let mut words = CpuRows::new(&backend.buffers, x.n_row, x.width.next_multiple_of(multiple), element);
    let width = words.width;
    backend.for_rows(x.n_row, width, 0, &Convert { x, words: words.share() });
    Some(words)
}

struct Convert<'a> {
    x: &'a CpuRows,
    words: SharedRows<'a>,
}

impl RowKernel for Convert<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize, _: &mut [f32]) {
        let width = self.x.width;
        // SAFETY: `for_rows` hands out each row once.
        unsafe { self.words.part(row, 0..width) }.copy(simd, self.x.row(row));
        // SAFETY: as above.
        unsafe { self.words.part(row, width..self.words.width()) }.zero();
    }
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
        product(
            simd,
            factors,
            rows,
            &pieces[..n_piece],
            memory,
            #[inline(always)]
            |rows, requests| rows.for_each(|row| finish.request(row, columns.clone(), requests)),
            #[inline(always)]
            |first_row, tile| {
                for (i, sums) in tile.sums.chunks_exact_mut(tile.stride).enumerate() {
                    let (first, second) = sums.split_at_mut(tile.piece);
                    let second = if n_piece == 2 { &mut second[..columns.len()] } else { &mut [] };
                    let sums = [&mut first[..columns.len()], second];
                    finish.row(simd, first_row + i, columns.clone(), sums, wide);
                }
            },
        );
    }
}

/// Applies the epilogue to pieces of rows. Every (row, columns) is finished once, by one task.
struct Finish<'a> {
    tail: &'a Tail<'a>,
    width: usize,
    out: &'a SharedRows<'a>,
}

impl Finish<'_> {
    /// Lists the memory that [`Self::row`] will touch.
    #[inline(always)]
    fn request(&self, row: usize, columns: Range<usize>, requests: &mut Requests) {
        let second = self.width + columns.start..self.width + columns.end;
        requests.add(self.out.span(row, columns.clone()));
        match self.tail {
            Tail::Store | Tail::Bias(_) => {}
            Tail::Residual { residual, .. } => requests.add(residual.part(row, columns).span()),
            Tail::Activate { activation, keep, .. } => {
                if let Some(keep) = keep {
                    requests.add(keep.span(row, columns));
                    if activation.gated {
                        requests.add(keep.span(row, second));
                    }
                }
            }
            Tail::ActivateGrad { activation, kept } => {
                requests.add(kept.part(row, columns).span());
                if activation.gated {
                    requests.add(kept.part(row, second.clone()).span());
                    requests.add(self.out.span(row, second));
                }
            }
        }
    }

    #[inline(always)]
    fn write<S: Simd>(&self, simd: S, row: usize, columns: Range<usize>, values: &[f32]) {
        // SAFETY: blocks of different tasks share no element, a row of a block is finished once, and the part is in use
        // for this statement only.
        unsafe { self.out.part(row, columns) }.write(simd, values);
    }

    #[inline(always)]
    fn row<S: Simd>(
        &self,
        simd: S,
        row: usize,
        columns: Range<usize>,
        sums: [&mut [f32]; 2],
        wide: &mut [f32],
    ) {
        let n = columns.len();
        let [sums, up] = sums;
        let second = self.width + columns.start..self.width + columns.end;
        match self.tail {
            Tail::Store => self.write(simd, row, columns, sums),
            Tail::Bias(bias) => {
                add(simd, sums, &bias[columns.clone()]);
                self.write(simd, row, columns, sums);
            }
            Tail::Residual { residual, bias } => {
                if let Some(bias) = bias {
                    add(simd, sums, &bias[columns.clone()]);
                }
                add(simd, sums, residual.part(row, columns.clone()).floats(simd, &mut wide[..n]));
                self.write(simd, row, columns, sums);
            }
            Tail::Activate { activation, bias, keep } => {
                let pieces = [(columns.clone(), &mut *sums), (second, &mut *up)];
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
                    gate(simd, activation.function, sums, up, wide);
                } else {
                    activate(simd, activation.function, sums, wide);
                }
                self.write(simd, row, columns, wide);
            }
            Tail::ActivateGrad { activation, kept } => {
                let [wide_first, wide_second, d_first, d_second] = quarters(wide, n);
                let first = kept.part(row, columns.clone()).floats(simd, wide_first);
                if activation.gated {
                    let up = kept.part(row, second.clone()).floats(simd, wide_second);
                    gate_grad(simd, activation.function, [sums, first, up], d_first, d_second);
                    self.write(simd, row, second, d_second);
                } else {
                    activate_grad(simd, activation.function, sums, first, d_first);
                }
                self.write(simd, row, columns, d_first);
            }
        }
    }
}

#[inline(always)]
fn add<S: Simd>(simd: S, sums: &mut [f32], values: &[f32]) {
    update(
        simd,
        sums,
        values,
        #[inline(always)]
        |sum, value| simd.add(sum, value),
    );
}

fn quarters(wide: &mut [f32], n: usize) -> [&mut [f32]; 4] {
    let (a, rest) = wide.split_at_mut(n);
    let (b, rest) = rest.split_at_mut(n);
    let (c, rest) = rest.split_at_mut(n);
    [a, b, c, &mut rest[..n]]
}
