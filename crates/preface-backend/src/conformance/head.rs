//! Head and loss.

use super::values::{rows, values, weight};
use super::{Case, Output, Suite, Within};
use crate::{Backend, Head, RowTarget, Storage, TokenWeight};

pub fn cases<B: Backend>(suite: &mut Suite<'_, B>) {
    let targets = [Targets::One, Targets::Smoothed, Targets::Several, Targets::Nothing];
    for target in targets {
        for (n_row, width, vocab) in
            [(0, 5, 7), (1, 1, 1), (1, 16, 48), (2, 5, 7), (7, 63, 65), (33, 65, 1031)]
        {
            for has_bias in [false, true] {
                for storage in [Storage::Exact, Storage::Compact] {
                    let scale = (width as f32).powf(-0.5);
                    let ramp = 0.0;
                    suite.compare(HeadCase {
                        n_row,
                        width,
                        vocab,
                        has_bias,
                        target,
                        storage,
                        scale,
                        ramp,
                        banned: 0,
                    });
                }
            }
        }
    }
    // More rows than a tile, and logits up to 30 apart.
    for n_row in [3, 300] {
        let (width, vocab, has_bias, target) = (40, 2500, false, Targets::Several);
        let (storage, scale, ramp) = (Storage::Compact, 1.0, 0.0);
        suite.compare(HeadCase { n_row, width, vocab, has_bias, target, storage, scale, ramp, banned: 0 });
    }
    // Logits that grow or fall along a long vocabulary: a running maximum must follow, sums must be scaled with it.
    for ramp in [300.0, -300.0] {
        let (n_row, width, vocab, has_bias, target) = (3, 6, 20_000, true, Targets::Several);
        let (storage, scale) = (Storage::Compact, 1.0);
        suite.compare(HeadCase { n_row, width, vocab, has_bias, target, storage, scale, ramp, banned: 0 });
    }
    // Tokens that cannot come, more of them than any block has.
    for (vocab, banned) in [(94, 50), (20_000, 9_000)] {
        let (n_row, width, has_bias, target) = (3, 6, true, Targets::One);
        let (storage, scale, ramp) = (Storage::Compact, 1.0, 0.0);
        suite.compare(HeadCase { n_row, width, vocab, has_bias, target, storage, scale, ramp, banned });
    }
}

#[derive(Clone, Copy, Debug)]
enum Targets {
    One,
    Smoothed,
    Several,
    /// Rows that predict nothing: loss and gradient are zero.
    Nothing,
}

#[derive(Debug)]
struct HeadCase {
    n_row: usize,
    width: usize,
    vocab: usize,
    has_bias: bool,
    target: Targets,
    storage: Storage,
    scale: f32,
    /// How far the bias rises from the first to the last token.
    ramp: f32,
    /// So many tokens at the start have a bias of minus infinity.
    banned: usize,
}

impl HeadCase {
    fn targets(&self) -> Vec<RowTarget> {
        let vocab = self.vocab as u32;
        let token = |i: u32, weight: f32| TokenWeight { token: i % vocab, weight };
        (0..self.n_row as u32)
            .map(|i| match self.target {
                Targets::One => RowTarget::token((i * 37 + vocab - 1) % vocab, 0.0),
                Targets::Smoothed => RowTarget::token((i * 37 + 3) % vocab, 0.1),
                Targets::Several => RowTarget {
                    // A token may come twice.
                    tokens: vec![token(i * 5, 0.25), token(i * 11 + 1, 0.5), token(i * 5, 0.75)],
                    uniform: if i % 2 == 0 { 0.0 } else { 0.2 },
                },
                Targets::Nothing => RowTarget { tokens: Vec::new(), uniform: 0.0 },
            })
            .collect()
    }
}

impl Case for HeadCase {
    fn run<B: Backend>(&self, backend: &B) -> Vec<Output> {
        let &Self { n_row, width, vocab, has_bias, storage, scale, ramp, banned, .. } = self;
        let slope = ramp / vocab as f32;
        let bias: Vec<f32> = values(21, vocab)
            .iter()
            .enumerate()
            .map(|(token, bias)| match token < banned {
                true => f32::NEG_INFINITY,
                false => bias + slope * token as f32 - ramp / 2.0,
            })
            .collect();
        let bias = has_bias.then(|| backend.vector(&bias));
        let weight = weight(backend, 22, vocab, width);
        let head = Head { weight: &weight, bias: bias.as_ref(), scale };
        let x = rows(backend, 23, n_row, width, storage);
        let targets = backend.targets(&self.targets());
        let mut loss = backend.rows(n_row, 1, Storage::Exact);
        let mut d_x = backend.rows(n_row, width, Storage::Exact);
        backend.head_loss(&head, &x, &targets, &mut loss, Some(&mut d_x));
        let mut loss_alone = backend.rows(n_row, 1, Storage::Exact);
        backend.head_loss(&head, &x, &targets, &mut loss_alone, None);
        vec![
            Output::new("loss", backend.read(&loss), Within::Exact),
            // Probabilities pass through the precision of the products.
            Output::new("d_x", backend.read(&d_x), Within::Compact),
            Output::new("loss without d_x", backend.read(&loss_alone), Within::Exact),
        ]
    }
}
