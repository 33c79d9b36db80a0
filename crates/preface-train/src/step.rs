//! One optimizer step's loss and gradient.
//!
//! A step's pairs are split into micro-batches by a token budget. Losses and gradients are kept as *sums* over target
//! tokens and normalised once at the end, so the split never changes the result beyond rounding.

use preface_backend::{Backend, Dropout};
use preface_data::packing::micro_batches;
use preface_model::{Attachments, AttachmentsGrad, Batch, Model, Sequence, Work, packed_rows};

use crate::{LossNorm, TrainError, TrainSettings};

/// A pair in token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPair {
    /// What the encoder reads; empty where the model has none.
    pub source: Vec<u32>,
    /// What the decoder is given.
    pub prompt: Vec<u32>,
    /// What it is to write, the end token included.
    pub completion: Vec<u32>,
    /// Line (or entry) of the data file, for messages.
    pub line: usize,
}

impl TokenPair {
    /// What pairs with several completions have in common: the source, else the prompt.
    pub fn input(&self) -> &[u32] {
        if self.source.is_empty() { &self.prompt } else { &self.source }
    }

    /// Tokens of all sides.
    pub fn n_token(&self) -> usize {
        self.source.len() + self.prompt.len() + self.completion.len()
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
    /// What was run for them: rows are without the last token of each pair, and once where pairs share their beginnings.
    pub work: Work,
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
    /// The masks of dropout inside the model for pair number `i` of the call ([`Sequence::masks`]).
    pub masks: &'a dyn Fn(usize) -> Option<u64>,
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
    let GradientSum { mut grads, label_smoothing, prefix_dropout, masks } = wanted;
    let n_token = pairs.iter().map(|pair| pair.n_token()).sum();
    let mut sum = StepSum { n_pair: pairs.len(), n_token, ..StepSum::default() };
    let tokens = tokens(pairs);
    let sequences = sequences(pairs, &tokens, segment, prefix_dropout, masks);
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
        sum.work += batch.work();
    }
    Ok(sum)
}

/// Prompt and completion of each pair, side by side.
fn tokens(pairs: &[&TokenPair]) -> Vec<Vec<u32>> {
    pairs.iter().map(|pair| [pair.prompt.as_slice(), &pair.completion].concat()).collect()
}

fn sequences<'a>(
    pairs: &[&'a TokenPair],
    tokens: &'a [Vec<u32>],
    segment: Option<usize>,
    prefix_dropout: &dyn Fn(usize) -> Option<Dropout>,
    masks: &dyn Fn(usize) -> Option<u64>,
) -> Vec<Sequence<'a>> {
    let sequence = |(i, (tokens, pair)): (usize, (&'a Vec<u32>, &&'a TokenPair))| Sequence {
        source: &pair.source,
        tokens,
        first_target: pair.prompt.len(),
        segment,
        prefix_dropout: prefix_dropout(i),
        masks: masks(i),
    };
    tokens.iter().zip(pairs).enumerate().map(sequence).collect()
}

/// The pairs of the step of a run that has the largest micro-batch: what its memory is planned by. Of a long run the
/// first `PLANNED_STEPS` steps are looked at.
///
/// # Errors
/// No data, a step without pairs, or a pair longer than a micro-batch may be.
pub fn largest_step(settings: &TrainSettings, train: &[TokenPair]) -> Result<Vec<usize>, TrainError> {
    let mut sampler = settings.sampler(train)?;
    let mut largest = (0, Vec::new());
    for _ in 0..settings.max_steps.min(PLANNED_STEPS) {
        let step = sampler.next_step();
        let pairs: Vec<&TokenPair> = step.iter().map(|&pair| &train[pair]).collect();
        let tokens = tokens(&pairs);
        // Under dropout on the prefix nothing is shared.
        let dropout = Dropout { probability: settings.prefix_dropout, stream: 0 };
        let sequences = sequences(
            &pairs,
            &tokens,
            None,
            &|_| (settings.prefix_dropout > 0.0).then_some(dropout),
            &|_| None,
        );
        let rows = |range| packed_rows(&sequences[range]);
        let batches = micro_batches(pairs.len(), settings.max_tokens_per_batch, rows)?;
        let most = batches.into_iter().map(rows).max().unwrap_or(0);
        if most > largest.0 {
            largest = (most, step);
        }
    }
    Ok(largest.1)
}

/// Steps that [`largest_step`] looks at, at most: their packing takes a second or two.
const PLANNED_STEPS: u64 = 5000;
