//! What is trained: gradients of weights, biases, norms, tables and the head; changed weights; dropout.

use super::rows::result;
use super::values::{rows, shuffled, values, weight};
use super::{Case, Identity, Output, Suite, Within};
use crate::{Backend, Head, Norm, NormKind, RowMask, RowTarget, Storage, TokenWeight};

pub fn cases<B: Backend>(suite: &mut Suite<'_, B>) {
    for storage in [Storage::Exact, Storage::Compact] {
        for n_row in [0, 1, 2, 7, 33, 70] {
            for (n_in, n_out) in [(1, 1), (5, 3), (3, 5), (16, 48), (63, 65), (100, 97)] {
                suite.compare(WeightGradCase { n_row, n_in, n_out, storage });
            }
        }
        for (n_row, width) in [(0, 5), (1, 1), (2, 16), (33, 65)] {
            suite.compare(AddCase { n_row, width, storage });
            suite.compare(DropoutCase { n_row, width, storage });
            for kind in [NormKind::Rms, NormKind::Layer] {
                suite.compare(NormGradCase { kind, n_row, width: width.max(2), storage });
            }
        }
    }
    // Longer than any tile in every dimension.
    suite.compare(WeightGradCase { n_row: 301, n_in: 130, n_out: 777, storage: Storage::Compact });
    for (n_row, n_id, width) in [(0, 4, 5), (1, 1, 1), (40, 6, 65)] {
        suite.compare(EmbedGradCase { n_row, n_id, width });
    }
    for (n_row, width, vocab) in [(0, 5, 3), (1, 1, 1), (3, 16, 50), (33, 65, 401), (70, 30, 900)] {
        for plain in [true, false] {
            suite.compare(HeadGradCase { n_row, width, vocab, plain });
        }
    }
    suite.compare(UpdateCase { n_out: 33, n_in: 65 });
    suite.compare(UpdateCase { n_out: 1, n_in: 1 });
    suite.identity(MaskFollowsItsSequence);
}

/// Where a gradient begins in the flat buffer: not at a multiple of anything.
const FIRST: usize = 7;

/// A flat buffer with room for `n` behind [`FIRST`] and something after them that must stay.
fn grads<B: Backend>(backend: &B, n: usize) -> B::Rows {
    rows(backend, 61, 1, FIRST + n + 5, Storage::Exact)
}

#[derive(Debug)]
struct WeightGradCase {
    n_row: usize,
    n_in: usize,
    n_out: usize,
    storage: Storage,
}

impl Case for WeightGradCase {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let &Self { n_row, n_in, n_out, storage } = self;
        let x = rows(backend, 62, n_row, n_in, storage);
        let d_out = rows(backend, 63, n_row, n_out, storage);
        let mut weights = grads(backend, n_out * n_in);
        backend.weight_grad(&x, &d_out, FIRST, &mut weights);
        let mut biases = grads(backend, n_out);
        backend.bias_grad(&d_out, FIRST, &mut biases);
        vec![
            Output::new("weight_grad", backend.read(&weights), Within::Exact),
            Output::new("bias_grad", backend.read(&biases), Within::Exact),
            Output::new("to_host", backend.to_host(weights).to_vec(), Within::Exact),
        ]
    }
}

#[derive(Debug)]
struct AddCase {
    n_row: usize,
    width: usize,
    storage: Storage,
}

impl Case for AddCase {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let &Self { n_row, width, storage } = self;
        let x = rows(backend, 64, n_row, width, storage);
        let mut out = rows(backend, 65, n_row, width, Storage::Exact);
        backend.add(&x, &mut out);
        vec![Output::new("add", backend.read(&out), Within::Exact)]
    }
}

/// Masks of two sequences.
fn masks(n_row: usize) -> Vec<RowMask> {
    (0..n_row as u32).map(|i| RowMask { stream: u64::from(i % 2) << 50 | 3, row: i / 2 }).collect()
}

#[derive(Debug)]
struct DropoutCase {
    n_row: usize,
    width: usize,
    storage: Storage,
}

impl Case for DropoutCase {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let &Self { n_row, width, storage } = self;
        let x = rows(backend, 66, n_row, width, storage);
        let masks = backend.masks(&masks(n_row));
        let mut out = backend.rows(n_row, width, storage);
        backend.dropout(&masks, 0.3, 5, &x, &mut out);
        let dropped = backend.read(&out);
        backend.dropout(&masks, 0.0, 5, &x, &mut out);
        vec![
            Output::new("dropout", dropped, result(storage)),
            Output::new("dropout of nothing", backend.read(&out), Within::Same),
        ]
    }
}

/// The mask of a sequence is the same wherever its rows lie.
#[derive(Debug)]
struct MaskFollowsItsSequence;

impl Identity for MaskFollowsItsSequence {
    fn run<B: Backend>(&self, backend: &B) -> (Vec<Output>, Vec<Output>) {
        let (n_row, width) = (9, 20);
        let given = masks(n_row);
        let order = shuffled(n_row);
        let ones = backend.rows_from(&vec![1.0; n_row * width], width, Storage::Exact);
        let dropped = |masks: &[RowMask]| {
            let mut out = backend.rows(n_row, width, Storage::Exact);
            backend.dropout(&backend.masks(masks), 0.5, 2, &ones, &mut out);
            out
        };
        let moved: Vec<RowMask> = order.iter().map(|&row| given[row as usize]).collect();
        let mut gathered = backend.rows(n_row, width, Storage::Exact);
        backend.gather(&dropped(&given), 0..width, &backend.index(&order), &mut gathered);
        let output = |rows: &B::Rows| vec![Output::new("mask", backend.read(rows), Within::Same)];
        (output(&dropped(&moved)), output(&gathered))
    }
}

#[derive(Debug)]
struct NormGradCase {
    kind: NormKind,
    n_row: usize,
    width: usize,
    storage: Storage,
}

impl Case for NormGradCase {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let &Self { kind, n_row, width, storage } = self;
        let weight = backend.vector(&values(67, width));
        let norm = Norm { kind, epsilon: 1e-5, weight, bias: Some(backend.vector(&values(68, width))) };
        let x = rows(backend, 69, n_row, width, storage);
        let d_out = rows(backend, 70, n_row, width, Storage::Exact);
        let mut both = grads(backend, 2 * width);
        backend.norm_grad(&norm, &x, &d_out, FIRST + width, Some(FIRST), &mut both);
        let mut weight_alone = grads(backend, width);
        backend.norm_grad(&norm, &x, &d_out, FIRST, None, &mut weight_alone);
        vec![
            Output::new("norm_grad", backend.read(&both), Within::Exact),
            Output::new("norm_grad without bias", backend.read(&weight_alone), Within::Exact),
        ]
    }
}

#[derive(Debug)]
struct EmbedGradCase {
    n_row: usize,
    n_id: usize,
    width: usize,
}

impl Case for EmbedGradCase {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let &Self { n_row, n_id, width } = self;
        let ids: Vec<u32> = (0..n_row as u32).map(|i| i * 5 % n_id as u32).collect();
        let d_out = rows(backend, 71, n_row, width, Storage::Exact);
        let mut table = grads(backend, n_id * width);
        backend.embed_grad(&backend.index(&ids), 0.5, &d_out, FIRST, &mut table);
        vec![Output::new("embed_grad", backend.read(&table), Within::Exact)]
    }
}

#[derive(Debug)]
struct HeadGradCase {
    n_row: usize,
    width: usize,
    vocab: usize,
    /// One token a row; else smoothing, several tokens, a bias and a scale.
    plain: bool,
}

impl Case for HeadGradCase {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let &Self { n_row, width, vocab, plain } = self;
        let bias = backend.vector(&values(72, vocab));
        let weight = weight(backend, 73, vocab, width);
        let head = match plain {
            true => Head { weight: &weight, bias: None, scale: 1.0 },
            false => Head { weight: &weight, bias: Some(&bias), scale: 0.25 },
        };
        let x = rows(backend, 74, n_row, width, Storage::Compact);
        let targets: Vec<RowTarget> = (0..n_row)
            .map(|i| {
                let token = |k: usize| (i * k % vocab) as u32;
                match plain {
                    true => RowTarget::token(token(7), 0.0),
                    false => RowTarget {
                        tokens: vec![
                            TokenWeight { token: token(7), weight: 0.5 },
                            TokenWeight { token: token(3), weight: 1.25 },
                        ],
                        uniform: 0.1,
                    },
                }
            })
            .collect();
        let mut gradient = grads(backend, vocab * width);
        backend.head_grad(&head, &x, &backend.targets(&targets), FIRST, &mut gradient);
        // The gradient of the logits is rounded as the operand of a product.
        vec![Output::new("head_grad", backend.read(&gradient), Within::Compact)]
    }
}

#[derive(Debug)]
struct UpdateCase {
    n_out: usize,
    n_in: usize,
}

impl Case for UpdateCase {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let &Self { n_out, n_in } = self;
        let mut changed = weight(backend, 75, n_out, n_in);
        let before = backend.read_weight(&changed);
        backend.update(&values(76, n_out * n_in), &mut changed);
        let mut vector = backend.vector(&values(77, n_out));
        let vector_before = backend.read_vector(&vector);
        backend.update_vector(&values(78, n_out), &mut vector);
        vec![
            Output::new("read_weight", before, Within::Same),
            Output::new("update", backend.read_weight(&changed), Within::Same),
            Output::new("read_vector", vector_before, Within::Same),
            Output::new("update_vector", backend.read_vector(&vector), Within::Same),
        ]
    }
}
