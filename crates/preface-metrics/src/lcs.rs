//! Longest common subsequence of two token lists, 64 columns at a time.
//!
//! Row i of the usual table `t[i][j]` grows by 0 or 1 from column to column, so a row is a bit vector: bit j is *unset*
//! where `t[i][j+1] = t[i][j] + 1`. With M the columns that hold the row's token, the next row is
//! `V = (V + (V & M)) | (V & !M)` (Crochemore et al., 2001). The rows are kept only where a subsequence is read out.

use rustc_hash::FxHashMap;

/// Columns of the table: where each token stands in the list that runs across.
pub(crate) struct Columns {
    positions: FxHashMap<u32, Vec<u32>>,
    len: usize,
}

/// One row of the table.
type Row = Vec<u64>;

impl Columns {
    /// Indexes the list that runs across the table.
    pub(crate) fn new(tokens: &[u32]) -> Self {
        let mut positions: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
        for (position, token) in (0u32..).zip(tokens) {
            positions.entry(*token).or_default().push(position);
        }
        Self { positions, len: tokens.len() }
    }

    /// Length of a longest common subsequence with `rows`.
    pub(crate) fn lcs_len(&self, rows: &[u32]) -> usize {
        let mut row = self.first_row();
        let mut mask = vec![0; row.len()];
        for token in rows {
            self.advance(&mut row, *token, &mut mask);
        }
        increments(&row, self.len)
    }

    /// Positions in `rows` of one longest common subsequence, ascending. Of several, the one that is found from the end
    /// by stepping left where that loses nothing and stepping up would, and up otherwise.
    pub(crate) fn lcs_positions(&self, rows: &[u32], columns: &[u32]) -> Vec<usize> {
        let mut row = self.first_row();
        let mut mask = vec![0; row.len()];
        let mut table: Vec<Row> = vec![row.clone()];
        for token in rows {
            self.advance(&mut row, *token, &mut mask);
            table.push(row.clone());
        }
        let (mut i, mut j) = (rows.len(), self.len);
        let mut value = increments(&table[i], j);
        let mut positions = Vec::with_capacity(value);
        while i > 0 && j > 0 {
            if rows[i - 1] == columns[j - 1] {
                positions.push(i - 1);
                i -= 1;
                j -= 1;
                value -= 1;
                continue;
            }
            let above = increments(&table[i - 1], j);
            let grows_here = table[i][(j - 1) / 64] >> ((j - 1) % 64) & 1 == 0;
            if !grows_here && value > above {
                j -= 1;
            } else {
                i -= 1;
                value = above;
            }
        }
        positions.reverse();
        positions
    }

    fn first_row(&self) -> Row {
        vec![u64::MAX; self.len.div_ceil(64)]
    }

    /// Turns a row into the one below it; `mask` is scratch, all zeros before and after.
    fn advance(&self, row: &mut [u64], token: u32, mask: &mut [u64]) {
        let Some(positions) = self.positions.get(&token) else {
            return;
        };
        for position in positions {
            mask[*position as usize / 64] |= 1 << (position % 64);
        }
        let mut carry = false;
        for (bits, mask) in row.iter_mut().zip(mask.iter()) {
            let (sum, first) = bits.overflowing_add(*bits & mask);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            carry = first || second;
            *bits = sum | (*bits & !mask);
        }
        for position in positions {
            mask[*position as usize / 64] = 0;
        }
    }
}

/// `t[i][columns]`: unset bits among the first `columns`.
fn increments(row: &[u64], columns: usize) -> usize {
    let full = row[..columns / 64].iter().map(|bits| bits.count_zeros() as usize).sum::<usize>();
    let rest = columns % 64;
    if rest == 0 { full } else { full + (row[columns / 64] | (u64::MAX << rest)).count_zeros() as usize }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(rows: &[u32], columns: &[u32]) -> Vec<Vec<usize>> {
        let mut t = vec![vec![0; columns.len() + 1]; rows.len() + 1];
        for i in 1..=rows.len() {
            for j in 1..=columns.len() {
                t[i][j] = if rows[i - 1] == columns[j - 1] {
                    t[i - 1][j - 1] + 1
                } else {
                    t[i - 1][j].max(t[i][j - 1])
                };
            }
        }
        t
    }

    fn read_out(t: &[Vec<usize>], rows: &[u32], columns: &[u32]) -> Vec<usize> {
        let (mut i, mut j) = (rows.len(), columns.len());
        let mut positions = Vec::new();
        while i > 0 && j > 0 {
            if rows[i - 1] == columns[j - 1] {
                positions.insert(0, i - 1);
                i -= 1;
                j -= 1;
            } else if t[i][j - 1] > t[i - 1][j] {
                j -= 1;
            } else {
                i -= 1;
            }
        }
        positions
    }

    proptest! {
        #[test]
        fn bits_equal_the_plain_table(
            rows in prop::collection::vec(0u32..6, 0..150),
            columns in prop::collection::vec(0u32..6, 0..150),
        ) {
            let t = table(&rows, &columns);
            let index = Columns::new(&columns);
            prop_assert_eq!(index.lcs_len(&rows), t[rows.len()][columns.len()]);
            prop_assert_eq!(index.lcs_positions(&rows, &columns), read_out(&t, &rows, &columns));
        }
    }
}
