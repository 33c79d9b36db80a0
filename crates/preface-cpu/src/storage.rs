//! Rows and weights as they lie in memory, and views of them as kernels see them.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};

use bytemuck::Pod;
use half::bf16;
use preface_backend::{Storage, WeightPart};

use crate::CpuBackend;
use crate::blocks::{Packed, Part, Store, part_of};
use crate::buffers::{Buffer, Buffers};
use crate::groups::Groups;
use crate::memory::{Lines, WeightMemory};
use crate::scratch::{LINE_F32, Line, numbers_in, numbers_in_mut};
use crate::simd::{Kernel, Simd, Span, narrow, widen};

/// How a number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Four bytes.
    F32,
    /// Two bytes.
    Bf16,
}

/// A matrix of activations or gradients, row-major without gaps.
pub struct CpuRows {
    pub(crate) n_row: usize,
    pub(crate) width: usize,
    pub(crate) element: Element,
    buffer: Buffer,
}

/// A weight `[n_out, n_in]`.
pub struct CpuWeight {
    pub(crate) n_out: usize,
    pub(crate) n_in: usize,
    /// What it is multiplied in.
    pub(crate) element: Element,
    pub(crate) values: Values,
}

/// The numbers of a weight.
pub(crate) enum Values {
    /// All plain.
    Plain(Groups),
    /// Output features stored in different ways, one after the other, quantised blocks among them.
    Parts(Vec<Part>),
}

/// Numbers that start at a cache line.
pub(crate) struct Aligned<T> {
    lines: Lines,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Pod> Aligned<T> {
    pub(crate) fn zeroed(len: usize, memory: Option<&WeightMemory>) -> Self {
        let n_line = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        Self { lines: Lines::zeroed(n_line, memory), len, element: PhantomData }
    }

    fn collect(len: usize, values: impl Iterator<Item = T>, memory: Option<&WeightMemory>) -> Self {
        let mut all = Self::zeroed(len, memory);
        all.iter_mut().zip(values).for_each(|(to, value)| *to = value);
        all
    }
}

impl<T: Pod> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        numbers_in_mut(&mut self.lines, self.len)
    }
}

impl<T: Pod> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        numbers_in(&self.lines, self.len)
    }
}

/// Numbers to be read.
#[derive(Clone, Copy)]
pub enum View<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

/// Numbers to be written.
pub enum ViewMut<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [bf16]),
}

/// Rows that several tasks write to, each its own part.
pub struct SharedRows<'a> {
    start: Start,
    n_row: usize,
    width: usize,
    owner: PhantomData<&'a mut CpuRows>,
}

#[derive(Clone, Copy)]
enum Start {
    F32(*mut f32),
    Bf16(*mut bf16),
}

// SAFETY: the pointers stand for the exclusive borrow `owner`; access goes through `SharedRows::part`, whose callers
// promise that parts in use at the same time do not overlap.
unsafe impl Send for SharedRows<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedRows<'_> {}

fn lines(n_row: usize, width: usize, element: Element) -> usize {
    let n_float = match element {
        Element::F32 => n_row * width,
        Element::Bf16 => (n_row * width).div_ceil(2),
    };
    n_float.div_ceil(LINE_F32)
}

impl CpuRows {
    /// New rows with whatever the buffer held before.
    pub(crate) fn new(buffers: &Buffers, n_row: usize, width: usize, element: Element) -> Self {
        Self { n_row, width, element, buffer: buffers.take(lines(n_row, width, element)) }
    }

    /// Bytes that such rows occupy.
    pub(crate) fn bytes(n_row: usize, width: usize, element: Element) -> usize {
        size_of::<Line>() * lines(n_row, width, element)
    }

    /// All elements.
    #[inline(always)]
    pub(crate) fn view(&self) -> View<'_> {
        let n = self.n_row * self.width;
        match self.element {
            Element::F32 => View::F32(numbers_in(self.buffer.lines(), n)),
            Element::Bf16 => View::Bf16(numbers_in(self.buffer.lines(), n)),
        }
    }

    /// All elements, to be changed.
    pub(crate) fn view_mut(&mut self) -> ViewMut<'_> {
        let n = self.n_row * self.width;
        match self.element {
            Element::F32 => ViewMut::F32(numbers_in_mut(self.buffer.lines_mut(), n)),
            Element::Bf16 => ViewMut::Bf16(numbers_in_mut(self.buffer.lines_mut(), n)),
        }
    }

    /// One row.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> View<'_> {
        self.view().slice(row * self.width..(row + 1) * self.width)
    }

    /// Some columns of one row.
    #[inline(always)]
    pub(crate) fn part(&self, row: usize, columns: Range<usize>) -> View<'_> {
        assert!(columns.end <= self.width);
        self.view().slice(row * self.width + columns.start..row * self.width + columns.end)
    }

    /// For tasks that write different parts.
    pub(crate) fn share(&mut self) -> SharedRows<'_> {
        let (n_row, width) = (self.n_row, self.width);
        let start = match self.view_mut() {
            ViewMut::F32(values) => Start::F32(values.as_mut_ptr()),
            ViewMut::Bf16(values) => Start::Bf16(values.as_mut_ptr()),
        };
        SharedRows { start, n_row, width, owner: PhantomData }
    }
}

impl<'a> SharedRows<'a> {
    /// One row of all that `values` holds.
    pub(crate) fn over(values: ViewMut<'a>) -> Self {
        let (start, width) = match values {
            ViewMut::F32(values) => (Start::F32(values.as_mut_ptr()), values.len()),
            ViewMut::Bf16(values) => (Start::Bf16(values.as_mut_ptr()), values.len()),
        };
        SharedRows { start, n_row: 1, width, owner: PhantomData }
    }

    /// Columns of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Where some columns of one row lie, to be asked for ahead of their use.
    #[inline(always)]
    pub fn span(&self, row: usize, columns: Range<usize>) -> Span {
        let (offset, n) = (row * self.width + columns.start, columns.len());
        match self.start {
            Start::F32(start) => Span { start: start.wrapping_add(offset).cast(), n_byte: 4 * n },
            Start::Bf16(start) => Span { start: start.wrapping_add(offset).cast(), n_byte: 2 * n },
        }
    }

    /// Some columns of one row.
    ///
    /// # Safety
    /// While the part is in use, no other part that is in use overlaps it.
    #[inline(always)]
    pub unsafe fn part(&self, row: usize, columns: Range<usize>) -> ViewMut<'_> {
        assert!(row < self.n_row && columns.start <= columns.end && columns.end <= self.width);
        let (offset, n) = (row * self.width + columns.start, columns.len());
        // SAFETY: the pointer is valid for `n_row * width` elements for the lifetime of the exclusive borrow that
        // `self` holds; the asserted bounds keep the part inside; the caller promises that it overlaps no other.
        unsafe {
            match self.start {
                Start::F32(start) => ViewMut::F32(std::slice::from_raw_parts_mut(start.add(offset), n)),
                Start::Bf16(start) => ViewMut::Bf16(std::slice::from_raw_parts_mut(start.add(offset), n)),
            }
        }
    }
}

impl CpuWeight {
    /// Stacks `parts`; plain numbers are stored as the backend's compact rows, and everything is multiplied so. `memory` is
    /// for weights that stay.
    pub(crate) fn new(backend: &CpuBackend, parts: Vec<WeightPart>, memory: Option<&WeightMemory>) -> Self {
        let element = backend.element(Storage::Compact);
        let n_in = parts.first().map_or(0, |part| part.shape().1);
        for part in &parts {
            assert_eq!(part.shape().1, n_in, "weight: parts of different n_in");
            if let WeightPart::Values(matrix) = part {
                assert_eq!(matrix.values.len(), matrix.n_row * matrix.n_column, "weight: values of a part");
            }
        }
        let n_out = parts.iter().map(|part| part.shape().0).sum();
        let plain = parts.iter().map(|part| match part {
            WeightPart::Values(matrix) => Some(matrix),
            WeightPart::Blocks(_) => None,
        });
        let values = match plain.collect::<Option<Vec<_>>>() {
            Some(all) => {
                let rows: Vec<View<'_>> = all
                    .into_iter()
                    .flat_map(|matrix| (0..matrix.n_row).map(move |row| (matrix, row * n_in)))
                    .map(|(matrix, start)| View::F32(&matrix.values[start..start + n_in]))
                    .collect();
                Values::Plain(Groups::new(backend, &rows, n_in, element, memory))
            }
            None => {
                let mut first = 0;
                let stored = parts.iter().map(|part| {
                    let n_row = part.shape().0;
                    let store = match part {
                        WeightPart::Blocks(matrix) => Store::Blocks(Packed::new(matrix, memory)),
                        WeightPart::Values(matrix) => {
                            let (n, all) = (matrix.values.len(), matrix.values.iter().copied());
                            match element {
                                Element::F32 => Store::F32(Aligned::collect(n, all, memory)),
                                Element::Bf16 => {
                                    Store::Bf16(Aligned::collect(n, all.map(bf16::from_f32), memory))
                                }
                            }
                        }
                    };
                    first += n_row;
                    Part { rows: first - n_row..first, store }
                });
                Values::Parts(stored.collect())
            }
        };
        Self { n_out, n_in, element, values }
    }

    /// Rows in the place of a weight, stored as the backend's weights are.
    pub(crate) fn from_rows(backend: &CpuBackend, rows: &CpuRows) -> Self {
        Self::from_some_rows(backend, rows, 0..rows.n_row, rows.width)
    }

    /// The first `n_in` columns of some rows in the place of a weight.
    pub(crate) fn from_some_rows(
        backend: &CpuBackend,
        rows: &CpuRows,
        range: Range<usize>,
        n_in: usize,
    ) -> Self {
        let (n_out, element) = (range.len(), backend.element(Storage::Compact));
        let rows: Vec<View<'_>> = range.map(|row| rows.part(row, 0..n_in)).collect();
        let values = Values::Plain(Groups::new(backend, &rows, n_in, element, None));
        Self { n_out, n_in, element, values }
    }

    /// Puts other numbers in the place of its own. Blocks become plain numbers: what is trained has no blocks.
    pub(crate) fn update(&mut self, backend: &CpuBackend, values: &[f32]) {
        assert_eq!(values.len(), self.n_out * self.n_in, "update: numbers of the weight");
        if matches!(self.values, Values::Parts(_)) {
            self.values = Values::Plain(Groups::zeroed(self.n_out, self.n_in, self.element, None));
        }
        let Values::Plain(groups) = &mut self.values else { unreachable!("replaced above") };
        let rows: Vec<View<'_>> = values.chunks_exact(self.n_in.max(1)).map(View::F32).collect();
        groups.fill(backend, &rows);
    }

    /// Bytes of the numbers.
    pub(crate) fn bytes(&self) -> usize {
        match &self.values {
            Values::Plain(groups) => size_of_val(groups.words()),
            Values::Parts(parts) => parts.iter().map(Part::bytes).sum(),
        }
    }

    /// All input features of one output feature, as `f32`.
    #[inline(always)]
    pub(crate) fn floats<S: Simd>(&self, simd: S, out: usize, to: &mut [f32]) {
        match &self.values {
            Values::Plain(groups) => groups.floats(out, to),
            Values::Parts(parts) => {
                let part = part_of(parts, out);
                part.row(simd, out - part.rows.start, to);
            }
        }
    }
}

/// Copies a weight's numbers to the host.
pub(crate) struct ReadWeight<'a> {
    pub weight: &'a CpuWeight,
    pub to: &'a mut [f32],
}

impl Kernel for ReadWeight<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (row, to) in self.to.chunks_exact_mut(self.weight.n_in.max(1)).enumerate() {
            self.weight.floats(simd, row, to);
        }
    }
}

impl<'a> View<'a> {
    /// Where the numbers lie, to be asked for ahead of their use.
    #[inline(always)]
    pub fn span(self) -> Span {
        match self {
            Self::F32(values) => Span::of(values),
            Self::Bf16(values) => Span::of(values),
        }
    }

    /// Part of it.
    #[inline(always)]
    pub fn slice(self, range: Range<usize>) -> Self {
        match self {
            Self::F32(values) => Self::F32(&values[range]),
            Self::Bf16(values) => Self::Bf16(&values[range]),
        }
    }

    /// Writes the numbers to `to`.
    #[inline(always)]
    pub fn read<S: Simd>(self, simd: S, to: &mut [f32]) {
        match self {
            Self::F32(values) => to.copy_from_slice(values),
            Self::Bf16(values) => widen(simd, values, to),
        }
    }

    /// The numbers as `f32`: where they are, or widened into `scratch` of the same length.
    #[inline(always)]
    pub fn floats<'b, S: Simd>(self, simd: S, scratch: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        match self {
            Self::F32(values) => values,
            Self::Bf16(values) => {
                widen(simd, values, scratch);
                scratch
            }
        }
    }
}

impl ViewMut<'_> {
    /// Overwrites the numbers with `from`.
    #[inline(always)]
    pub fn write<S: Simd>(self, simd: S, from: &[f32]) {
        match self {
            Self::F32(values) => values.copy_from_slice(from),
            Self::Bf16(values) => narrow(simd, from, values),
        }
    }

    /// Overwrites the numbers with those of `from`, converting where the elements differ.
    #[inline(always)]
    pub fn copy<S: Simd>(self, simd: S, from: View<'_>) {
        match (self, from) {
            (Self::F32(to), View::F32(from)) => to.copy_from_slice(from),
            (Self::F32(to), View::Bf16(from)) => widen(simd, from, to),
            (Self::Bf16(to), View::F32(from)) => narrow(simd, from, to),
            (Self::Bf16(to), View::Bf16(from)) => to.copy_from_slice(from),
        }
    }

    /// Changes the numbers in place: `change` sees them as `f32`, in `scratch` where they are bf16.
    #[inline(always)]
    pub fn change<S: Simd>(self, simd: S, scratch: &mut [f32], change: impl FnOnce(&mut [f32])) {
        match self {
            Self::F32(values) => change(values),
            Self::Bf16(values) => {
                widen(simd, values, scratch);
                change(scratch);
                narrow(simd, scratch, values);
            }
        }
    }

    /// Sets all numbers to zero.
    pub fn zero(self) {
        match self {
            Self::F32(values) => values.fill(0.0),
            Self::Bf16(values) => values.fill(bf16::ZERO),
        }
    }
}
