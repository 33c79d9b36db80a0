//! Weights of plain numbers, as they lie.
//!
//! Sixteen output features (a *group*, as many as of quantised weights) lie side by side: word `w` of feature `16 g + j` is
//! `words[(16 n_word) g + 16 w + j]`, where a word is one `f32` or two neighbouring bf16 of the feature, and zeros fill up
//! the last word and the last group.
//!
//! That is what a product's register tile reads, a vector of features for each word. So the weight itself is the packed
//! factor of a forward product of any number of rows; the backward's is made from it by turning small squares. And a few
//! rows, as in generation, read the weight as one stream from beginning to end, with no sum to be added up across lanes.
//! The cost is that one feature alone, an embedding, is spread over as many cache lines as it has words.

use std::ops::Range;

use half::bf16;

use crate::CpuBackend;
use crate::blocks::GROUP;
use crate::memory::WeightMemory;
use crate::simd::{Kernel, SQUARE, Simd, prefetch_second, turn_rows};
use crate::storage::{Aligned, Element, SharedRows, View, ViewMut};

/// A matrix `[n_out, n_in]` in groups.
pub struct Groups {
    n_out: usize,
    n_in: usize,
    element: Element,
    words: Aligned<u32>,
}

impl Groups {
    /// All zeros.
    pub fn zeroed(n_out: usize, n_in: usize, element: Element, memory: Option<&WeightMemory>) -> Self {
        let words = Aligned::zeroed(n_out.div_ceil(GROUP) * GROUP * words_of(n_in, element), memory);
        Self { n_out, n_in, element, words }
    }

    /// From its rows.
    pub fn new(
        backend: &CpuBackend,
        rows: &[View<'_>],
        n_in: usize,
        element: Element,
        memory: Option<&WeightMemory>,
    ) -> Self {
        let mut groups = Self::zeroed(rows.len(), n_in, element, memory);
        groups.fill(backend, rows);
        groups
    }

    /// Overwrites all rows.
    pub fn fill(&mut self, backend: &CpuBackend, rows: &[View<'_>]) {
        /// Words of a task.
        const TASK: usize = 1 << 16;
        assert_eq!(rows.len(), self.n_out, "rows of a weight");
        let (n_in, element) = (self.n_in, self.element);
        let n_word = words_of(n_in, element);
        if n_word == 0 {
            return;
        }
        let n_group = (TASK / (GROUP * n_word)).max(1);
        let n_total = self.words.len();
        let words = SharedRows::over(ViewMut::F32(bytemuck::cast_slice_mut(&mut self.words)));
        backend.pool.run(rows.len().div_ceil(GROUP * n_group), |task, scratch| {
            let start = task * n_group * GROUP;
            let rows = &rows[start..rows.len().min(start + n_group * GROUP)];
            let [lines] = scratch.floats([SQUARE * n_word]);
            // SAFETY: each task has groups of its own.
            let groups =
                unsafe { words.part(0, start * n_word..n_total.min((start + n_group * GROUP) * n_word)) };
            let ViewMut::F32(groups) = groups else { unreachable!("shared as floats") };
            backend.tier.run(Fill { rows, n_in, element, lines, groups: bytemuck::cast_slice_mut(groups) });
        });
    }

    /// Words of a feature.
    pub fn n_word(&self) -> usize {
        words_of(self.n_in, self.element)
    }

    /// Output features, those included that fill up the last group.
    pub fn n_column(&self) -> usize {
        self.n_out.next_multiple_of(GROUP)
    }

    /// All words.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Input features of one output feature as `f32`.
    #[inline(always)]
    pub fn floats(&self, out: usize, to: &mut [f32]) {
        assert!(out < self.n_out && to.len() == self.n_in);
        let n_word = self.n_word();
        let words = self.words[out / GROUP * GROUP * n_word + out % GROUP..].iter().step_by(GROUP);
        match self.element {
            Element::F32 => to.iter_mut().zip(words).for_each(|(to, word)| *to = f32::from_bits(*word)),
            Element::Bf16 => {
                for (to, word) in to.chunks_mut(2).zip(words) {
                    let both = [f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000)];
                    to.copy_from_slice(&both[..to.len()]);
                }
            }
        }
    }

    /// Columns of `W^T`, or rather input features: words of output features `depth` (a pair of them, in bf16) to the rows of
    /// `panel`, `panel_row` words each.
    #[inline(always)]
    pub fn transposed<S: Simd>(
        &self,
        simd: S,
        depth: &Range<usize>,
        columns: &Range<usize>,
        panel: &mut [u32],
        panel_row: usize,
    ) {
        assert!(depth.start.is_multiple_of(GROUP), "a product starts with a group");
        assert!(depth.end.is_multiple_of(GROUP) || depth.end == self.n_out, "and ends with one");
        assert!(columns.end <= self.n_in && columns.len() <= panel_row && depth.end <= self.n_out);
        if columns.len() < panel_row {
            panel.fill(0);
        }
        let n_word = self.n_word();
        for first in depth.clone().step_by(GROUP) {
            let group = &self.words[first * n_word..(first + GROUP) * n_word];
            let n = GROUP.min(depth.end - first);
            match self.element {
                Element::F32 => {
                    let to = &mut panel[(first - depth.start) * panel_row..][..n * panel_row];
                    turn_floats(simd, group, columns, to, panel_row);
                }
                Element::Bf16 => {
                    let to = &mut panel[(first - depth.start) / 2 * panel_row..][..n.div_ceil(2) * panel_row];
                    turn_pairs(simd, group, columns, to, panel_row);
                }
            }
        }
    }

    /// Words of output features `columns` to the columns of `panel`, for columns that are no whole groups.
    pub fn plain(&self, columns: &Range<usize>, panel: &mut [u32], panel_row: usize) {
        assert!(columns.end <= self.n_out && columns.len() <= panel_row);
        let n_word = self.n_word();
        for (word, to) in panel.chunks_exact_mut(panel_row).take(n_word).enumerate() {
            to.fill(0);
            for (to, out) in to.iter_mut().zip(columns.clone()) {
                *to = self.words[(out / GROUP * n_word + word) * GROUP + out % GROUP];
            }
        }
    }
}

/// Groups from the one that is turned to the one whose memory is asked for: pieces too short for the hardware to notice that
/// they follow each other.
const GROUPS_AHEAD: usize = 4;

/// Asks for half the lines of a square, from word `word` on, of the group that comes so many groups behind `group`.
#[inline(always)]
fn request(group: &[u32], word: usize) {
    let ahead = group.as_ptr().wrapping_add(GROUPS_AHEAD * group.len());
    for line in 0..SQUARE / 2 {
        prefetch_second(ahead.wrapping_add((word + line) * GROUP));
    }
}

fn words_of(n_in: usize, element: Element) -> usize {
    match element {
        Element::F32 => n_in,
        Element::Bf16 => n_in.div_ceil(2),
    }
}

/// Fills groups from rows.
struct Fill<'a> {
    rows: &'a [View<'a>],
    n_in: usize,
    element: Element,
    /// Memory for [`SQUARE`] rows.
    lines: &'a mut [f32],
    groups: &'a mut [u32],
}

impl Kernel for Fill<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { rows, n_in, element, lines, groups } = self;
        let n_word = words_of(n_in, element);
        // An odd bf16's partner.
        lines.fill(0.0);
        for (group, rows) in groups.chunks_exact_mut(GROUP * n_word).zip(rows.chunks(GROUP)) {
            for half in (0..GROUP).step_by(SQUARE) {
                let rows = &rows[half.min(rows.len())..rows.len().min(half + SQUARE)];
                for (line, row) in lines.chunks_exact_mut(n_word).zip(rows) {
                    match element {
                        Element::F32 => ViewMut::F32(line).copy(simd, *row),
                        Element::Bf16 => {
                            let line: &mut [bf16] = bytemuck::cast_slice_mut(line);
                            ViewMut::Bf16(&mut line[..n_in]).copy(simd, *row);
                        }
                    }
                }
                let mut words = [None; SQUARE];
                for (words, line) in words.iter_mut().zip(lines.chunks_exact(n_word)).take(rows.len()) {
                    *words = Some(bytemuck::cast_slice(line));
                }
                turn_rows(simd, words, n_word, &mut group[half..], GROUP);
            }
        }
    }
}

/// Input features of a group: row `j` of `to` is feature `j`.
#[inline(always)]
fn turn_floats<S: Simd>(simd: S, group: &[u32], columns: &Range<usize>, to: &mut [u32], to_row: usize) {
    let (n_row, n) = (to.len() / to_row, columns.len());
    let mut whole = 0;
    if n_row == GROUP {
        whole = n - n % SQUARE;
        assert!(group.len() >= (columns.start + whole) * GROUP && whole <= to_row);
        for column in (0..whole).step_by(SQUARE) {
            for half in (0..GROUP).step_by(SQUARE) {
                request(group, columns.start + column + half / 2);
                // SAFETY: the group has the words of `columns` for all its features, and `to` has a row for each of these, as
                // wide as the columns: asserted.
                unsafe {
                    let first = group.as_ptr().add((columns.start + column) * GROUP + half);
                    let from = std::array::from_fn(|i| first.add(i * GROUP));
                    simd.turn(from, to.as_mut_ptr().add(half * to_row + column), to_row);
                }
            }
        }
    }
    for (feature, to) in to.chunks_exact_mut(to_row).enumerate() {
        for (column, to) in to[..n].iter_mut().enumerate().skip(whole) {
            *to = group[(columns.start + column) * GROUP + feature];
        }
    }
}

/// Input features of a group in pairs: row `p` of `to` is features `2 p` and `2 p + 1`.
#[inline(always)]
fn turn_pairs<S: Simd>(simd: S, group: &[u32], columns: &Range<usize>, to: &mut [u32], to_row: usize) {
    let (n_row, n, first_word) = (to.len() / to_row, columns.len(), columns.start / 2);
    let mut whole = 0;
    if n_row == GROUP / 2 && columns.start.is_multiple_of(2) {
        whole = n - n % (2 * SQUARE);
        assert!(group.len() >= (first_word + whole / 2) * GROUP && whole <= to_row);
        for column in (0..whole).step_by(2 * SQUARE) {
            for half in (0..GROUP).step_by(SQUARE) {
                request(group, first_word + column / 2 + half / 2);
                // SAFETY: as in `turn_floats`, with half as many words and rows.
                unsafe {
                    let from = group.as_ptr().add((first_word + column / 2) * GROUP + half);
                    simd.turn_pairs(from, GROUP, to.as_mut_ptr().add(half / 2 * to_row + column), to_row);
                }
            }
        }
    }
    for (pair, to) in to.chunks_exact_mut(to_row).enumerate() {
        for (column, to) in to[..n].iter_mut().enumerate().skip(whole) {
            let at = (columns.start + column) / 2 * GROUP + 2 * pair;
            let shift = 16 * ((columns.start + column) % 2);
            *to = group[at] >> shift & 0xffff | (group[at + 1] >> shift) << 16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Guarded;
    use crate::tier::Tier;
    use crate::{CpuOptions, Precision};

    /// Other numbers than any neighbour's, exact in bf16.
    fn value(out: usize, k: usize) -> f32 {
        (out % 8 * 32 + k % 32) as f32
    }

    struct Panels<'a> {
        groups: &'a Groups,
        depth: Range<usize>,
        columns: Range<usize>,
        to_row: usize,
    }

    impl Kernel for Panels<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            let Self { groups, depth, columns, to_row } = self;
            let bits = |v: f32| u32::from(bf16::from_f32(v).to_bits());
            let per_word = if groups.element == Element::F32 { 1 } else { 2 };
            let mut panel = Guarded::new(&vec![7; depth.len().div_ceil(per_word) * to_row]);
            groups.transposed(simd, &depth, &columns, &mut panel, to_row);
            let word = |at: &dyn Fn(usize) -> f32, k: usize| match per_word {
                1 => at(k).to_bits(),
                _ => bits(at(2 * k)) | bits(at(2 * k + 1)) << 16,
            };
            for (row, words) in panel.chunks_exact(to_row).enumerate() {
                for (j, got) in words.iter().enumerate() {
                    let at = |i: usize| match depth.start + i {
                        out if out < depth.end && j < columns.len() => value(out, columns.start + j),
                        _ => 0.0,
                    };
                    assert_eq!(*got, word(&at, row), "{columns:?} of {depth:?}: row {row}, column {j}");
                }
            }
            let outs = depth.start + 1..depth.end.min(depth.start + 1 + to_row);
            let mut panel = Guarded::new(&vec![7; groups.n_word() * to_row]);
            groups.plain(&outs, &mut panel, to_row);
            for (row, words) in panel.chunks_exact(to_row).enumerate() {
                for (j, got) in words.iter().enumerate() {
                    let at = |k: usize| {
                        if k < groups.n_in && j < outs.len() { value(outs.start + j, k) } else { 0.0 }
                    };
                    assert_eq!(*got, word(&at, row), "features {outs:?}: word {row}, column {j}");
                }
            }
        }
    }

    #[test]
    fn every_number_is_where_rows_and_panels_of_every_shape_look_for_it() {
        for tier in Tier::available() {
            for precision in [Precision::F32, Precision::Bf16] {
                let backend =
                    CpuBackend::new(CpuOptions { precision, threads: 2, tier: Some(tier) }).unwrap();
                let element = if precision == Precision::F32 { Element::F32 } else { Element::Bf16 };
                for (n_out, n_in) in [(1, 1), (3, 2), (15, 5), (16, 16), (17, 33), (40, 50), (64, 7)] {
                    let rows: Vec<Vec<f32>> =
                        (0..n_out).map(|out| (0..n_in).map(|k| value(out, k)).collect()).collect();
                    let views: Vec<View<'_>> = rows.iter().map(|row| View::F32(row)).collect();
                    let groups = Groups::new(&backend, &views, n_in, element, None);
                    for (out, row) in rows.iter().enumerate() {
                        let mut got = vec![7.0; n_in];
                        groups.floats(out, &mut got);
                        assert_eq!(got, *row, "{tier:?} {element:?} {n_out}x{n_in}, feature {out}");
                    }
                    for to_row in [8, 16, 48] {
                        for first in (0..n_in).step_by(to_row) {
                            let columns = first..n_in.min(first + to_row);
                            for depth in [0..n_out, n_out / GROUP * GROUP..n_out, 0..n_out / GROUP * GROUP] {
                                if !depth.is_empty() {
                                    let columns = columns.clone();
                                    tier.run(Panels { groups: &groups, depth, columns, to_row });
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
