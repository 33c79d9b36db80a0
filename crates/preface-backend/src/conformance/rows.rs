//! Transfer, moving rows, embeddings.

use super::values::{rows, shuffled, values, weight};
use super::{Case, Output, Suite, Within};
use crate::{Backend, HostMatrix, Storage};

pub fn cases<B: Backend>(suite: &mut Suite<'_, B>) {
    for storage in [Storage::Exact, Storage::Compact] {
        for n_row in [0, 1, 2, 7, 33] {
            for width in [1, 5, 16, 63, 65, 576] {
                suite.compare(TransferCase { n_row, width, storage });
                suite.compare(MoveCase { n_row, width, from: storage, to: Storage::Exact });
                suite.compare(MoveCase { n_row, width, from: storage, to: Storage::Compact });
                suite.compare(EmbedCase { n_row, width, storage });
            }
        }
    }
    suite.compare(WeightCase);
}

/// What is written can be read, whatever lay there before; zero is zero; shapes are what was asked for.
#[derive(Debug)]
struct TransferCase {
    n_row: usize,
    width: usize,
    storage: Storage,
}

impl Case for TransferCase {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let &Self { n_row, width, storage } = self;
        let given = rows(backend, 1, n_row, width, storage);
        let mut written = backend.rows(n_row, width, storage);
        backend.write(&values(2, n_row * width), &mut written);
        let second = backend.read(&written);
        let compact = backend.compact(rows(backend, 1, n_row, width, storage));
        backend.zero(&mut written);
        let (got_row, got_width) = backend.shape(&given);
        vec![
            Output::new("rows_from then read", backend.read(&given), Within::Same),
            Output::new("write then read", second, Within::Same),
            Output::new("compact", backend.read(&compact), Within::Same),
            Output::new("zero", backend.read(&written), Within::Same),
            Output::new("shape", vec![got_row as f32, got_width as f32], Within::Same),
        ]
    }
}

/// Gather and scatter of a column range, and scattered addition.
#[derive(Debug)]
struct MoveCase {
    n_row: usize,
    width: usize,
    from: Storage,
    to: Storage,
}

impl Case for MoveCase {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let &Self { n_row, width, from, to } = self;
        let columns = width / 3..width - width / 4;
        let x = rows(backend, 3, n_row, width, from);
        // Rows may be gathered twice.
        let twice: Vec<u32> = shuffled(n_row).into_iter().flat_map(|i| [i, i / 2]).collect();
        let mut gathered = backend.rows(twice.len(), columns.len(), to);
        backend.gather(&x, columns.clone(), &backend.index(&twice), &mut gathered);

        let targets: Vec<u32> = shuffled(n_row).iter().map(|i| 2 * i + 1).collect();
        let targets = backend.index(&targets);
        let mut scattered = rows(backend, 4, 2 * n_row + 1, columns.len(), to);
        backend.scatter(&x, columns, &targets, &mut scattered);

        let mut added = rows(backend, 5, 2 * n_row + 1, width, to);
        backend.scatter_add(&x, &targets, &mut added);
        vec![
            Output::new("gather", backend.read(&gathered), Within::Same),
            Output::new("scatter", backend.read(&scattered), Within::Same),
            Output::new("scatter_add", backend.read(&added), result(to)),
        ]
    }
}

/// Token embeddings scaled, position embeddings added.
#[derive(Debug)]
struct EmbedCase {
    n_row: usize,
    width: usize,
    storage: Storage,
}

impl Case for EmbedCase {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let &Self { n_row, width, storage } = self;
        let table = weight(backend, 6, 40, width);
        let ids: Vec<u32> = (0..n_row as u32).map(|i| (i * 7 + 39) % 40).collect();
        let ids = backend.index(&ids);
        let mut out = backend.rows(n_row, width, storage);
        backend.embed(&table, &ids, 1.0, &mut out);
        let plain = backend.read(&out);
        backend.embed(&table, &ids, 0.3, &mut out);
        let scaled = backend.read(&out);
        let mut sum = rows(backend, 7, n_row, width, storage);
        backend.embed_add(&table, &ids, &mut sum);
        vec![
            Output::new("embed", plain, Within::Same),
            Output::new("embed scaled", scaled, result(storage)),
            Output::new("embed_add", backend.read(&sum), result(storage)),
        ]
    }
}

/// Parts stand one under the other.
#[derive(Debug)]
struct WeightCase;

impl Case for WeightCase {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let part = |seed, n_row| HostMatrix { n_row, n_column: 5, values: values(seed, n_row * 5) };
        let table = backend.weight(vec![part(8, 3), part(9, 1), part(10, 4)]);
        let (n_out, n_in) = backend.weight_shape(&table);
        let mut out = backend.rows(8, 5, Storage::Exact);
        backend.embed(&table, &backend.index(&[0, 1, 2, 3, 4, 5, 6, 7]), 1.0, &mut out);
        vec![
            Output::new("stacked parts", backend.read(&out), Within::Same),
            Output::new("weight_shape", vec![n_out as f32, n_in as f32], Within::Same),
        ]
    }
}

/// The tolerance of a result that was computed in `f32` and stored so.
pub fn result(storage: Storage) -> Within {
    match storage {
        Storage::Exact => Within::Exact,
        Storage::Compact => Within::Compact,
    }
}
