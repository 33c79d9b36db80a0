//! One optimizer step's loss and gradient.
//!
//! A step's pairs are split into micro-batches by a token budget. Losses and gradients are kept as *sums* over target
//! tokens and normalised once at the end, so the split never changes the result beyond rounding.

use preface_backend::{Backend, Dropout};
use preface_data::packing::micro_batches;
use preface_model::{Attachments, AttachmentsGrad, Batch, Model, Sequence, packed_rows};

use crate::{LossNorm, TrainError};

/// A pair in token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPair {
    /// What the model is given.
    pub prompt: Vec<u32>,
    /// What it is to write, the end token included.
    pub completion: Vec<u32>,
    /// Line (or entry) of the data file, for messages.
    pub line: usize,
}

impl TokenPair {
    /// Tokens of both sides.
    pub fn n_token(&self) -> usize {
        self.prompt.len() + self.completion.len()
    }
}

/// Sums over the target tokens of some pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepSum {
    /// Sum of the target losses in nats, label smoothing included.
    pub loss: f64,
    /// Number of target tokens.
    pub n_target: usize,
    /// Number of pairs.
    pub n_pair: usize,
    /// Tokens of prompts and completions.
    pub n_token: usize,
    /// Rows that were run for them: without the last token of each, and once where pairs share their beginnings.
    pub n_row: usize,
}

impl StepSum {
    /// What sums are divided by.
    pub fn weight(&self, norm: LossNorm) -> f64 {
        match norm {
            LossNorm::PerToken => self.n_target as f64,
            LossNorm::PerSequence => self.n_pair as f64,
        }
    }
}

/// What is run: with a gradient wanted, or the loss alone.
pub struct GradientSum<'a, B: Backend> {
    /// Receives the gradient of the summed loss; none for the loss alone.
    pub grads: Option<&'a mut AttachmentsGrad<B>>,
    /// Mass of the targets that is spread over the vocabulary.
    pub label_smoothing: f32,
    /// Dropout on the prefix as pair number `i` of the call sees it.
    pub prefix_dropout: &'a dyn Fn(usize) -> Option<Dropout>,
}

/// Runs `pairs` behind prefix number `segment` in micro-batches of at most `max_tokens_per_batch` rows.
///
/// # Errors
/// A pair that the model cannot run or that is longer than a micro-batch may be.
pub fn accumulate<B: Backend>(
    model: &Model<B>,
    attachments: &Attachments<B>,
    segment: Option<usize>,
    pairs: &[&TokenPair],
    max_tokens_per_batch: usize,
    wanted: GradientSum<'_, B>,
) -> Result<StepSum, TrainError> {
    let GradientSum { mut grads, label_smoothing, prefix_dropout } = wanted;
    let n_token = pairs.iter().map(|pair| pair.n_token()).sum();
    let mut sum = StepSum { n_pair: pairs.len(), n_token, ..StepSum::default() };
    let tokens: Vec<Vec<u32>> =
        pairs.iter().map(|pair| [pair.prompt.as_slice(), &pair.completion].concat()).collect();
    let sequences: Vec<Sequence<'_>> = tokens
        .iter()
        .zip(pairs)
        .enumerate()
        .map(|(i, (tokens, pair))| Sequence {
            tokens,
            first_target: pair.prompt.len(),
            segment,
            prefix_dropout: prefix_dropout(i),
        })
        .collect();
    let rows = |range| packed_rows(&sequences[range]);
    for range in micro_batches(pairs.len(), max_tokens_per_batch, rows)? {
        let sequences = &sequences[range];
        let batch = Batch::pack(model.backend(), model.spec(), attachments, sequences, label_smoothing)?;
        let losses = match grads.as_deref_mut() {
            Some(grads) => model.loss_and_gradient(&batch, attachments, grads),
            None => model.loss(&batch, attachments),
        };
        sum.loss += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();
        sum.n_target += batch.n_target();
        sum.n_row += batch.n_row();
    }
    Ok(sum)
}
