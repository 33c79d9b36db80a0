//! Packing sequences into one matrix of rows.
//!
//! The rows of a sequence stand one under the other, sequences follow each other without padding, and attention
//! runs per sequence. The last token of a sequence is only a target: it has no row. Beginnings that sequences share
//! are packed once (see [`crate::trie`]); a row of theirs has the targets of all of them, so loss and gradient are the
//! sums that the sequences alone would give.

use std::ops::Range;

use preface_backend::{AttentionPlan, Backend, Dropout, KeyRun, QueryRun, RowMask, RowTarget, TokenWeight};

use crate::layer::{RowMasks, Selected};
use crate::soft::{SoftRows, behind_soft_prompt};
use crate::trie::{Input, Node, Trie};
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
    /// Dropout on the prefix rows as this sequence sees them. Its mask is the sequence's own, so such a sequence shares
    /// no rows with others.
    pub prefix_dropout: Option<Dropout>,
    /// Names the masks of dropout inside the model ([`Dropout::stream`]); without it nothing is dropped. All sequences of a
    /// batch name one or none does. Such a sequence shares no rows with others.
    pub masks: Option<u64>,
}

impl<'a> Sequence<'a> {
    /// Tokens that have a row.
    fn input(&self) -> Input<'a> {
        let is_shared = self.prefix_dropout.is_none() && self.masks.is_none();
        let group = is_shared.then(|| self.segment.map_or(0, |segment| 1 + segment));
        Input { tokens: &self.tokens[..self.tokens.len().saturating_sub(1)], group }
    }

    fn targets(&self) -> Range<usize> {
        self.first_target.max(1)..self.tokens.len()
    }
}

/// Rows of the matrix that these sequences are packed into: shared ones count once.
pub fn packed_rows(sequences: &[Sequence<'_>]) -> usize {
    Trie::new(&inputs(sequences)).n_row()
}

fn inputs<'a>(sequences: &[Sequence<'a>]) -> Vec<Input<'a>> {
    sequences.iter().map(Sequence::input).collect()
}

/// What a batch is in numbers: what its arithmetic is counted from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Rows of the packed matrix.
    pub n_row: usize,
    /// Rows that have a target.
    pub n_loss: usize,
    /// Keys that all rows see together, the prefix's included.
    pub n_key: usize,
    /// Keys that the rows with a target see.
    pub n_loss_key: usize,
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.n_row += other.n_row;
        self.n_loss += other.n_loss;
        self.n_key += other.n_key;
        self.n_loss_key += other.n_loss_key;
    }
}

/// Sequences packed and uploaded.
pub struct Batch<B: Backend> {
    pub(crate) n_row: usize,
    pub(crate) ids: B::Index,
    pub(crate) soft: Option<SoftRows<B>>,
    pub(crate) masks: Option<RowMasks<B>>,
    pub(crate) positions: B::Index,
    pub(crate) plan: B::Plan,
    /// The rows that have a target.
    pub(crate) selected: Selected<B>,
    pub(crate) targets: B::Targets,
    /// The different texts.
    pub(crate) texts: Vec<Text>,
    n_target: usize,
    work: Work,
}

/// A text and where its rows lie: for what is known of it from elsewhere.
pub(crate) struct Text {
    pub tokens: Vec<u32>,
    /// Rows of the packed matrix, in the order of the tokens.
    pub rows: Vec<usize>,
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
        let prefix_len = |sequence: &Sequence<'_>| {
            sequence.segment.map_or(0, |segment| attachments.segments[segment].prefix_len)
        };
        for (number, sequence) in sequences.iter().enumerate() {
            check(spec, number, sequence, prefix_len(sequence) + attachments.soft_len())?;
        }
        let longer: Vec<Vec<u32>> = sequences
            .iter()
            .map(|sequence| behind_soft_prompt(spec.vocab_size, attachments.soft_len(), sequence.tokens))
            .collect();
        let sequences: Vec<Sequence<'_>> = sequences
            .iter()
            .zip(&longer)
            .map(|(sequence, tokens)| Sequence {
                tokens,
                first_target: sequence.first_target.max(1) + attachments.soft_len(),
                ..sequence.clone()
            })
            .collect();
        let sequences = sequences.as_slice();
        let trie = Trie::new(&inputs(sequences));
        let mut rows = Rows::default();
        for node in &trie.nodes {
            let sequence = &sequences[node.input];
            rows.push(&trie, node, sequence, prefix_len(sequence));
        }
        let wanted = Wanted::new(&trie, &rows, sequences);
        let target_rows = wanted.rows();
        // Every row sees all positions up to its own.
        let keys = |row: usize| rows.positions[row] as usize + 1;
        let work = Work {
            n_row: rows.ids.len(),
            n_loss: target_rows.len(),
            n_key: (0..rows.ids.len()).map(keys).sum(),
            n_loss_key: target_rows.iter().map(|&row| keys(row as usize)).sum(),
        };
        let texts = texts(&trie, &rows);
        let soft = SoftRows::take(backend, spec.vocab_size, &mut rows.ids);
        let masks = rows.masks.iter().copied().collect::<Option<Vec<RowMask>>>().map(|masks| RowMasks {
            selected: backend.masks(&target_rows.iter().map(|&row| masks[row as usize]).collect::<Vec<_>>()),
            n_row: masks.len(),
            all: backend.masks(&masks),
        });
        Ok(Self {
            n_row: rows.ids.len(),
            ids: backend.index(&rows.ids),
            soft,
            masks,
            positions: backend.index(&rows.positions),
            plan: backend.plan(&rows.plan),
            selected: Selected {
                n_row: target_rows.len(),
                rows: backend.index(&target_rows),
                plan: backend.plan(&wanted.plan(&rows.plan)),
            },
            targets: backend.targets(&wanted.targets(label_smoothing)),
            texts,
            n_target: sequences.iter().map(|sequence| sequence.targets().len()).sum(),
            work,
        })
    }

    /// Rows of the packed matrix.
    pub fn n_row(&self) -> usize {
        self.n_row
    }

    /// The batch in numbers.
    pub fn work(&self) -> Work {
        self.work
    }

    /// Number of target tokens over all sequences.
    pub fn n_target(&self) -> usize {
        self.n_target
    }
}

/// The packed rows of all nodes.
#[derive(Default)]
struct Rows {
    ids: Vec<u32>,
    positions: Vec<u32>,
    masks: Vec<Option<RowMask>>,
    /// One run for each node.
    plan: AttentionPlan,
}

impl Rows {
    fn push(&mut self, trie: &Trie, node: &Node, sequence: &Sequence<'_>, prefix_len: usize) {
        let first_row = self.ids.len();
        self.ids.extend_from_slice(&sequence.tokens[node.range.clone()]);
        self.positions.extend(node.range.clone().map(|i| (prefix_len + i) as u32));
        let mask = |row: usize| sequence.masks.map(|stream| RowMask { stream, row: row as u32 });
        self.masks.extend(node.range.clone().map(mask));
        let (rows, first_position) = (first_row..self.ids.len(), prefix_len + node.range.start);
        let text = |rows, causal_from| KeyRun { store: 0, rows, causal_from, bias_from: None, dropout: None };
        let mut keys = vec![text(rows.clone(), Some(first_position))];
        for before in node.parent.into_iter().flat_map(|parent| trie.upwards(parent)) {
            keys.push(text(self.span(before), None));
        }
        if let Some(segment) = sequence.segment {
            keys.push(segment_run(segment, prefix_len, sequence.prefix_dropout));
        }
        keys.reverse();
        self.plan.runs.push(QueryRun { rows, first_position, keys });
    }

    /// Rows of a node.
    fn span(&self, node: usize) -> Range<usize> {
        self.plan.runs[node].rows.clone()
    }
}

/// One for each leaf.
fn texts(trie: &Trie, rows: &Rows) -> Vec<Text> {
    let mut leaves = trie.leaves.clone();
    leaves.sort_unstable();
    leaves.dedup();
    let text = |leaf| {
        let mut nodes: Vec<usize> = trie.upwards(leaf).collect();
        nodes.reverse();
        let rows_of_text: Vec<usize> = nodes.into_iter().flat_map(|node| rows.span(node)).collect();
        Text { tokens: rows_of_text.iter().map(|&row| rows.ids[row]).collect(), rows: rows_of_text }
    };
    leaves.into_iter().map(text).collect()
}

/// What each packed row is to predict: tokens, and how many sequences predict them there.
struct Wanted(Vec<Vec<(u32, u32)>>);

impl Wanted {
    fn new(trie: &Trie, rows: &Rows, sequences: &[Sequence<'_>]) -> Self {
        let mut wanted = vec![Vec::new(); rows.ids.len()];
        for (sequence, &leaf) in sequences.iter().zip(&trie.leaves) {
            for node in trie.upwards(leaf) {
                let range = &trie.nodes[node].range;
                let targets = sequence.targets();
                let first = targets.start.max(range.start + 1);
                for target in first..targets.end.min(range.end + 1) {
                    let row: &mut Vec<(u32, u32)> =
                        &mut wanted[rows.span(node).start + target - 1 - range.start];
                    let token = sequence.tokens[target];
                    match row.iter_mut().find(|(known, _)| *known == token) {
                        Some((_, count)) => *count += 1,
                        None => row.push((token, 1)),
                    }
                }
            }
        }
        Self(wanted)
    }

    /// The rows that have a target, ascending.
    fn rows(&self) -> Vec<u32> {
        (0..self.0.len() as u32).filter(|&row| !self.0[row as usize].is_empty()).collect()
    }

    fn targets(&self, label_smoothing: f32) -> Vec<RowTarget> {
        let target = |tokens: &Vec<(u32, u32)>| {
            let weights = tokens
                .iter()
                .map(|&(token, count)| TokenWeight { token, weight: (1.0 - label_smoothing) * count as f32 });
            let n_target: u32 = tokens.iter().map(|&(_, count)| count).sum();
            RowTarget { tokens: weights.collect(), uniform: label_smoothing * n_target as f32 }
        };
        self.0.iter().filter(|tokens| !tokens.is_empty()).map(target).collect()
    }

    /// `plan` with the rows that have a target as its only queries, numbered among themselves.
    fn plan(&self, plan: &AttentionPlan) -> AttentionPlan {
        let mut selected = AttentionPlan::default();
        let mut n_selected = 0;
        for run in &plan.runs {
            let mut row = run.rows.start;
            while row < run.rows.end {
                let n_row = (row..run.rows.end).take_while(|&row| !self.0[row].is_empty()).count();
                if n_row > 0 {
                    selected.runs.push(QueryRun {
                        rows: n_selected..n_selected + n_row,
                        first_position: run.first_position + row - run.rows.start,
                        keys: run.keys.clone(),
                    });
                }
                n_selected += n_row;
                row += n_row.max(1);
            }
        }
        selected
    }
}

/// The key run of a whole prefix. Store 0 is the text, segments follow.
pub(crate) fn segment_run(segment: usize, prefix_len: usize, dropout: Option<Dropout>) -> KeyRun {
    KeyRun { store: 1 + segment, rows: 0..prefix_len, causal_from: None, bias_from: None, dropout }
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
