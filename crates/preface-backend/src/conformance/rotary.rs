//! Rotary positions: against the reference, and backward undoes forward.

use super::rows::result;
use super::values::{rows, values};
use super::{Case, Identity, Output, Suite, Within};
use crate::{Backend, HeadSpan, Rotation, Storage};

pub fn cases<B: Backend>(suite: &mut Suite<'_, B>) {
    for storage in [Storage::Exact, Storage::Compact] {
        for n_row in [0, 1, 7, 33] {
            for (n_head, head_dim) in [(1, 2), (3, 6), (2, 10), (4, 64), (1, 80)] {
                for rotation in [Rotation::Forward, Rotation::Backward] {
                    suite.compare(RotaryCase { n_row, n_head, head_dim, rotation, storage });
                }
            }
        }
    }
    for (n_row, n_head, head_dim) in [(1, 1, 2), (7, 3, 10), (5, 2, 64)] {
        suite.identity(RotateBack { n_row, n_head, head_dim });
    }
}

/// `[n_position, head_dim]`: cosines, then sines.
pub fn table<B: Backend>(backend: &B, n_position: usize, head_dim: usize) -> B::Rows {
    let half = head_dim / 2;
    let mut table = Vec::new();
    for position in 0..n_position {
        let angle = |i: usize| position as f32 * 10_000f32.powf(-(i as f32) / half as f32);
        table.extend((0..half).map(|i| angle(i).cos()));
        table.extend((0..half).map(|i| angle(i).sin()));
    }
    backend.rows_from(&table, head_dim, Storage::Exact)
}

#[derive(Debug)]
struct RotaryCase {
    n_row: usize,
    n_head: usize,
    head_dim: usize,
    rotation: Rotation,
    storage: Storage,
}

impl Case for RotaryCase {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let &Self { n_row, n_head, head_dim, rotation, storage } = self;
        // The heads start at column 3 and end 2 before the row does.
        let mut x = rows(backend, 16, n_row, n_head * head_dim + 5, storage);
        let positions: Vec<u32> = (0..n_row as u32).map(|i| (i * 5 + 2) % 50).collect();
        let heads = HeadSpan { first_column: 3, n_head, head_dim };
        let table = table(backend, 50, head_dim);
        backend.rotary(&table, &backend.index(&positions), heads, rotation, &mut x);
        vec![Output::new("rotary", backend.read(&x), result(storage))]
    }
}

#[derive(Debug)]
struct RotateBack {
    n_row: usize,
    n_head: usize,
    head_dim: usize,
}

impl Identity for RotateBack {
    fn run<B: Backend>(&self, backend: &B) -> (Vec<Output>, Vec<Output>) {
        let &Self { n_row, n_head, head_dim } = self;
        let width = n_head * head_dim;
        let mut x = rows(backend, 17, n_row, width, Storage::Exact);
        let positions: Vec<u32> = (0..n_row as u32).map(|i| i + 3).collect();
        let positions = backend.index(&positions);
        let heads = HeadSpan { first_column: 0, n_head, head_dim };
        let table = table(backend, 50, head_dim);
        backend.rotary(&table, &positions, heads, Rotation::Forward, &mut x);
        backend.rotary(&table, &positions, heads, Rotation::Backward, &mut x);
        let got = Output::new("forward then backward", backend.read(&x), Within::Exact);
        let want = Output::new("forward then backward", values(17, n_row * width), Within::Exact);
        (vec![got], vec![want])
    }
}
