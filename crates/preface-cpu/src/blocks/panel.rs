//! Decoding into the panels of a product: word `w` of column `j` at `w * PANEL_COLUMNS + j`, zeros where there is nothing.

use std::ops::Range;

use half::bf16;
use preface_backend::Direction;

use super::tile::Tile;
use super::{GROUP, Part, STEP};
use crate::simd::{SQUARE, Simd, turn_rows};
use crate::storage::Element;

/// A piece of a weight made of parts, on its way into a panel.
#[derive(Clone)]
pub struct Piece<'a> {
    pub parts: &'a [Part],
    pub n_in: usize,
    /// What a word of the panel holds: one `f32` or two bf16.
    pub element: Element,
    /// Columns of the right factor.
    pub columns: Range<usize>,
    /// Its rows.
    pub depth: Range<usize>,
}

impl Piece<'_> {
    /// Decodes the piece of the weight (or of its transpose) into `panel`.
    #[inline(always)]
    pub fn pack<S: Simd>(&self, simd: S, direction: Direction, panel: &mut [u32]) {
        let odd = self.element == Element::Bf16 && !self.depth.len().is_multiple_of(2);
        if odd || self.columns.len() < S::PANEL_COLUMNS {
            panel.fill(0);
        }
        let rows = match direction {
            Direction::Plain => self.columns.clone(),
            Direction::Transposed => self.depth.clone(),
        };
        let mut tile = Tile([0.0; STEP * GROUP]);
        for part in self.parts {
            let within = rows.start.max(part.rows.start)..rows.end.min(part.rows.end);
            if within.is_empty() {
                continue;
            }
            let (first, last) = (within.start - part.rows.start, within.end - 1 - part.rows.start);
            for group in first / GROUP..=last / GROUP {
                match direction {
                    Direction::Plain => self.plain(simd, part, group, &within, &mut tile, panel),
                    Direction::Transposed => self.transposed(simd, part, group, &within, &mut tile, panel),
                }
            }
        }
    }

    /// Lanes of a group that are rows of `within`, and the number of the first of these in the weight.
    fn lanes(part: &Part, group: usize, within: &Range<usize>) -> (Range<usize>, usize) {
        let start = part.rows.start + group * GROUP;
        let row = within.start.max(start);
        (row - start..within.end.min(start + GROUP) - start, row)
    }

    /// Rows of the weight are columns of the panel: lanes stay lanes.
    #[inline(always)]
    fn plain<S: Simd>(
        &self,
        simd: S,
        part: &Part,
        group: usize,
        within: &Range<usize>,
        tile: &mut Tile,
        panel: &mut [u32],
    ) {
        // The forward goes over all inputs.
        assert!(self.depth == (0..self.n_in));
        let (lanes, row) = Self::lanes(part, group, within);
        let column = row - self.columns.start;
        for step in 0..self.n_in / STEP {
            part.tile(simd, self.n_in, group, step, 0..8, tile);
            match self.element {
                Element::F32 => {
                    for (k, from) in tile.0.chunks_exact(GROUP).enumerate() {
                        let to = &mut panel[(step * STEP + k) * S::PANEL_COLUMNS + column..][..lanes.len()];
                        copy_lanes(to, bytemuck::cast_slice(&from[lanes.clone()]));
                    }
                }
                Element::Bf16 => {
                    for (word, from) in tile.0.chunks_exact(2 * GROUP).enumerate() {
                        let (first, second) = from.split_at(GROUP);
                        let mut pairs = [0.0; GROUP];
                        for lane in (0..GROUP).step_by(S::LANES) {
                            let pair = simd.pair(simd.load(&first[lane..]), simd.load(&second[lane..]));
                            simd.store(pair, &mut pairs[lane..]);
                        }
                        let to =
                            &mut panel[(step * STEP / 2 + word) * S::PANEL_COLUMNS + column..][..lanes.len()];
                        copy_lanes(to, bytemuck::cast_slice(&pairs[lanes.clone()]));
                    }
                }
            }
        }
    }

    /// Rows of the weight are rows of the panel: a tile is turned.
    #[inline(always)]
    fn transposed<S: Simd>(
        &self,
        simd: S,
        part: &Part,
        group: usize,
        within: &Range<usize>,
        tile: &mut Tile,
        panel: &mut [u32],
    ) {
        let columns = &self.columns;
        let (lanes, row) = Self::lanes(part, group, within);
        let depth = row - self.depth.start;
        let mut turned = Tile([0.0; STEP * GROUP]);
        for step in columns.start / STEP..columns.end.div_ceil(STEP) {
            let start = columns.start.max(step * STEP) - step * STEP;
            let end = columns.end.min((step + 1) * STEP) - step * STEP;
            part.tile(simd, self.n_in, group, step, start / 4..end.div_ceil(4), tile);
            for first in (start / SQUARE * SQUARE..end).step_by(SQUARE) {
                let words: &[u32] = bytemuck::cast_slice(&tile.0);
                let rows = std::array::from_fn(|k| Some(&words[(first + k) * GROUP..][..GROUP]));
                turn_rows(simd, rows, GROUP, &mut bytemuck::cast_slice_mut(&mut turned.0)[first..], STEP);
            }
            let to = step * STEP + start - columns.start;
            let row_of = |lane: usize| &turned.0[lane * STEP + start..lane * STEP + end];
            match self.element {
                Element::F32 => {
                    for (i, lane) in lanes.clone().enumerate() {
                        let to = &mut panel[(depth + i) * S::PANEL_COLUMNS + to..][..end - start];
                        to.copy_from_slice(bytemuck::cast_slice(row_of(lane)));
                    }
                }
                Element::Bf16 => {
                    let mut i = 0;
                    while i < lanes.len() {
                        let lane = lanes.start + i;
                        let at = (depth + i) / 2 * S::PANEL_COLUMNS + to;
                        let to = &mut panel[at..at + end - start];
                        if (depth + i).is_multiple_of(2) && i + 1 < lanes.len() {
                            pair_rows(simd, row_of(lane), row_of(lane + 1), to);
                            i += 2;
                        } else {
                            // A pair that begins or ends in another group or part.
                            let upper = !(depth + i).is_multiple_of(2);
                            for (to, value) in to.iter_mut().zip(row_of(lane)) {
                                let bits = u32::from(bf16::from_f32(*value).to_bits());
                                *to =
                                    if upper { *to & 0xffff | bits << 16 } else { *to & 0xffff_0000 | bits };
                            }
                            i += 1;
                        }
                    }
                }
            }
        }
    }
}

/// A copy of a length that is known in the usual case.
#[inline(always)]
fn copy_lanes(to: &mut [u32], from: &[u32]) {
    match (to.first_chunk_mut::<GROUP>(), from.first_chunk::<GROUP>()) {
        (Some(to), Some(from)) => *to = *from,
        _ => to.copy_from_slice(from),
    }
}

#[inline(always)]
fn pair_rows<S: Simd>(simd: S, first: &[f32], second: &[f32], to: &mut [u32]) {
    let whole = to.len() - to.len() % S::LANES;
    let to: &mut [f32] = bytemuck::cast_slice_mut(to);
    for i in (0..whole).step_by(S::LANES) {
        simd.store(simd.pair(simd.load(&first[i..]), simd.load(&second[i..])), &mut to[i..]);
    }
    if whole < to.len() {
        let pair = simd.pair(simd.load_part(&first[whole..], 0.0), simd.load_part(&second[whole..], 0.0));
        simd.store_part(pair, &mut to[whole..]);
    }
}
