//! Packing sequences into one matrix of rows.
//!
//! The rows of a sequence stand one under the other, sequences follow each other without padding, and attention
//! runs per sequence. The last token of a sequence is only a target: it has no row.

use std::ops::Range;

use preface_backend::{AttentionPlan, Backend, Dropout, KeyRun, QueryRun, RowTarget};

use crate::layer::Selected;
use crate::{Attachments, ModelError, ModelSpec};

/// A sequence to be run, with what it is to predict.
#[derive(Clone, Debug)]
pub struct Sequence<'a> {
    /// Prompt and completion.
    pub tokens: &'a [u32],
    /// Tokens from this index on carry loss. The very first token of a sequence never does: nothing predicts it.
    pub first_target: usize,
    /// Index of the prefix ahead of it, if any.
    pub segment: Option<usize>,
    /// Dropout on the prefix rows as this sequence sees them.
    pub prefix_dropout: Option<Dropout>,
}

/// Sequences packed and uploaded.
pub struct Batch<B: Backend> {
    pub(crate) n_row: usize,
    pub(crate) ids: B::Index,
    pub(crate) positions: B::Index,
    pub(crate) plan: B::Plan,
    /// The rows that have a target.
    pub(crate) selected: Selected<B>,
    pub(crate) targets: B::Targets,
    targets_of: Vec<Range<usize>>,
}

impl<B: Backend> Batch<B> {
    /// Packs `sequences`; `label_smoothing` is 0 for plain cross-entropy.
    ///
    /// # Errors
    /// A token outside the vocabulary, a sequence with nothing to predict, or one longer than the model's positions.
    pub fn pack(
        backend: &B,
        spec: &ModelSpec,
        attachments: &Attachments<B>,
        sequences: &[Sequence<'_>],
        label_smoothing: f32,
    ) -> Result<Self, ModelError> {
        let mut rows = Rows::default();
        let mut targets_of = Vec::with_capacity(sequences.len());
        for (number, sequence) in sequences.iter().enumerate() {
            let prefix_len = sequence.segment.map_or(0, |segment| attachments.segments[segment].prefix_len);
            check(spec, number, sequence, prefix_len)?;
            let first = rows.targets.len();
            rows.push(sequence, prefix_len, label_smoothing);
            targets_of.push(first..rows.targets.len());
        }
        Ok(Self {
            n_row: rows.ids.len(),
            ids: backend.index(&rows.ids),
            positions: backend.index(&rows.positions),
            plan: backend.plan(&rows.plan),
            selected: Selected {
                n_row: rows.target_rows.len(),
                rows: backend.index(&rows.target_rows),
                plan: backend.plan(&rows.target_plan),
            },
            targets: backend.targets(&rows.targets),
            targets_of,
        })
    }

    /// Rows of the packed matrix.
    pub fn n_row(&self) -> usize {
        self.n_row
    }

    /// Number of target tokens over all sequences.
    pub fn n_target(&self) -> usize {
        self.targets_of.last().map_or(0, |range| range.end)
    }

    /// Which of the targets belong to sequence number `i`.
    pub fn targets_of(&self, i: usize) -> Range<usize> {
        self.targets_of[i].clone()
    }
}

#[derive(Default)]
struct Rows {
    ids: Vec<u32>,
    positions: Vec<u32>,
    plan: AttentionPlan,
    target_rows: Vec<u32>,
    /// The same as `plan` for the rows that have a target.
    target_plan: AttentionPlan,
    targets: Vec<RowTarget>,
}

impl Rows {
    fn push(&mut self, sequence: &Sequence<'_>, prefix_len: usize, label_smoothing: f32) {
        let first_row = self.ids.len();
        let inputs = &sequence.tokens[..sequence.tokens.len() - 1];
        self.ids.extend_from_slice(inputs);
        self.positions.extend((0..inputs.len()).map(|i| (prefix_len + i) as u32));
        let rows = first_row..self.ids.len();
        let mut keys = Vec::with_capacity(2);
        if let Some(segment) = sequence.segment {
            keys.push(segment_run(segment, prefix_len, sequence.prefix_dropout));
        }
        keys.push(KeyRun { store: 0, rows: rows.clone(), causal_from: Some(prefix_len), dropout: None });
        let first_target = sequence.first_target.max(1);
        let n_target = sequence.tokens.len() - first_target;
        self.target_plan.runs.push(QueryRun {
            rows: self.targets.len()..self.targets.len() + n_target,
            first_position: prefix_len + first_target - 1,
            keys: keys.clone(),
        });
        self.plan.runs.push(QueryRun { rows, first_position: prefix_len, keys });
        for target in first_target..sequence.tokens.len() {
            self.target_rows.push((first_row + target - 1) as u32);
            self.targets.push(RowTarget::token(sequence.tokens[target], label_smoothing));
        }
    }
}

/// The key run of a whole prefix. Store 0 is the text, segments follow.
pub(crate) fn segment_run(segment: usize, prefix_len: usize, dropout: Option<Dropout>) -> KeyRun {
    KeyRun { store: 1 + segment, rows: 0..prefix_len, causal_from: None, dropout }
}

fn check(
    spec: &ModelSpec,
    number: usize,
    sequence: &Sequence<'_>,
    prefix_len: usize,
) -> Result<(), ModelError> {
    if sequence.first_target.max(1) >= sequence.tokens.len() {
        return Err(ModelError::NothingToPredict { sequence: number, n_token: sequence.tokens.len() });
    }
    check_tokens(spec, number, sequence.tokens)?;
    check_length(spec, number, sequence.tokens.len() - 1, prefix_len)
}

pub(crate) fn check_tokens(spec: &ModelSpec, sequence: usize, tokens: &[u32]) -> Result<(), ModelError> {
    match tokens.iter().find(|token| **token as usize >= spec.vocab_size) {
        Some(&token) => Err(ModelError::UnknownToken { sequence, token, vocab_size: spec.vocab_size }),
        None => Ok(()),
    }
}

pub(crate) fn check_length(
    spec: &ModelSpec,
    sequence: usize,
    n_row: usize,
    prefix_len: usize,
) -> Result<(), ModelError> {
    if prefix_len + n_row > spec.max_positions {
        return Err(ModelError::TooLong { sequence, n_row, prefix_len, max_positions: spec.max_positions });
    }
    Ok(())
}
