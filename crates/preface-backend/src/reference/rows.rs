//! Moving rows about, embeddings, rotary positions.

use std::ops::Range;

use super::{ReferenceRows, ReferenceWeight};
use crate::{HeadSpan, Rotation};

pub fn gather(x: &ReferenceRows, columns: Range<usize>, index: &[u32], out: &mut ReferenceRows) {
    assert_eq!((out.n_row, out.width), (index.len(), columns.len()), "gather: shape of out");
    for (i, &row) in index.iter().enumerate() {
        out.row_mut(i).copy_from_slice(&x.row(row as usize)[columns.clone()]);
    }
}

pub fn scatter(x: &ReferenceRows, columns: Range<usize>, index: &[u32], out: &mut ReferenceRows) {
    assert_eq!((x.n_row, out.width), (index.len(), columns.len()), "scatter: shapes");
    for (i, &row) in index.iter().enumerate() {
        out.row_mut(row as usize).copy_from_slice(&x.row(i)[columns.clone()]);
    }
}

pub fn scatter_add(x: &ReferenceRows, index: &[u32], out: &mut ReferenceRows) {
    assert_eq!((x.n_row, x.width), (index.len(), out.width), "scatter_add: shapes");
    for (i, &row) in index.iter().enumerate() {
        for (o, v) in out.row_mut(row as usize).iter_mut().zip(x.row(i)) {
            *o += v;
        }
    }
}

pub fn embed(table: &ReferenceWeight, ids: &[u32], scale: f32, out: &mut ReferenceRows) {
    assert_eq!((out.n_row, out.width), (ids.len(), table.n_in), "embed: shape of out");
    for (i, &id) in ids.iter().enumerate() {
        let row = &table.data[id as usize * table.n_in..(id as usize + 1) * table.n_in];
        for (o, v) in out.row_mut(i).iter_mut().zip(row) {
            *o = scale * v;
        }
    }
}

pub fn embed_add(table: &ReferenceWeight, ids: &[u32], out: &mut ReferenceRows) {
    assert_eq!((out.n_row, out.width), (ids.len(), table.n_in), "embed_add: shape of out");
    for (i, &id) in ids.iter().enumerate() {
        let row = &table.data[id as usize * table.n_in..(id as usize + 1) * table.n_in];
        for (o, v) in out.row_mut(i).iter_mut().zip(row) {
            *o += v;
        }
    }
}

/// `(a, b) -> (a cos - b sin, b cos + a sin)` for the columns `i` and `i + head_dim / 2` of each head; backward
/// rotates by the negative angle.
pub fn rotary(
    table: &ReferenceRows,
    positions: &[u32],
    heads: HeadSpan,
    rotation: Rotation,
    rows: &mut ReferenceRows,
) {
    assert_eq!(table.width, heads.head_dim, "rotary: width of the table");
    assert_eq!(rows.n_row, positions.len(), "rotary: one position for each row");
    let half = heads.head_dim / 2;
    for (i, &position) in positions.iter().enumerate() {
        let angles = table.row(position as usize).to_vec();
        for head in 0..heads.n_head {
            let start = heads.first_column + head * heads.head_dim;
            for j in 0..half {
                let cos = f64::from(angles[j]);
                let sin = match rotation {
                    Rotation::Forward => f64::from(angles[half + j]),
                    Rotation::Backward => -f64::from(angles[half + j]),
                };
                let (a, b) = (rows.at(i, start + j), rows.at(i, start + half + j));
                let row = rows.row_mut(i);
                row[start + j] = (a * cos - b * sin) as f32;
                row[start + half + j] = (b * cos + a * sin) as f32;
            }
        }
    }
}
