//! Packing sequences into one matrix of rows.
//!
//! The rows of a sequence stand one under the other, sequences follow each other without padding, and attention
//! runs per sequence. The last token of a sequence is only a target: it has no row. Beginnings that sequences share
//! are packed once (see [`crate::trie`]); a row of theirs has the targets of all of them, so loss and gradient are the
//! sums that the sequences alone would give. In an encoder-decoder the sources are packed apart ([`EncoderBatch`]), each
//! once, and sequences of one source may share rows.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use preface_backend::{AttentionPlan, Backend, Dropout, KeyRun, QueryRun, RowMask, RowTarget, TokenWeight};

use crate::encoder_batch::{EncoderBatch, EncoderRows};
use crate::layer::{RowMasks, Selected};
use crate::soft::SoftRows;
use crate::trie::{Input, Node, Trie};
use crate::{Attachments, ModelError, ModelSpec, PerPlace, PrefixPlace, Segment, Stack};

/// A sequence to be run, with what it is to predict.
#[derive(Clone, Debug)]
pub struct Sequence<'a> {
    /// What the encoder reads; empty where the model has none.
    pub source: &'a [u32],
    /// Prompt and completion; in an encoder-decoder the decoder's start token, then the labels.
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
    fn targets(&self) -> Range<usize> {
        self.first_target.max(1)..self.tokens.len()
    }
}

/// Rows of the matrix that these sequences are packed into: shared ones count once.
pub fn packed_rows(sequences: &[Sequence<'_>]) -> usize {
    let inputs = inputs(sequences);
    let mut known = HashSet::new();
    let mut n_source_row = 0;
    for (input, sequence) in inputs.iter().zip(sequences) {
        if input.group.is_none_or(|group| known.insert(group)) {
            n_source_row += sequence.source.len();
        }
    }
    Trie::new(&inputs).n_row() + n_source_row
}

/// Tokens that have a row. Sequences with the same prefix and the same source may share them.
fn inputs<'a>(sequences: &[Sequence<'a>]) -> Vec<Input<'a>> {
    let mut groups: HashMap<(Option<usize>, &[u32]), usize> = HashMap::new();
    let input = |sequence: &Sequence<'a>| {
        let n_group = groups.len();
        let group = *groups.entry((sequence.segment, sequence.source)).or_insert(n_group);
        let is_shared = sequence.prefix_dropout.is_none() && sequence.masks.is_none();
        let tokens = &sequence.tokens[..sequence.tokens.len().saturating_sub(1)];
        Input { tokens, group: is_shared.then_some(group) }
    };
    sequences.iter().map(input).collect()
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
    /// Rows of the sources.
    pub n_source_row: usize,
    /// Keys that these see.
    pub n_source_key: usize,
    /// Keys of cross-attention that all rows see.
    pub n_cross_key: usize,
    /// Keys of cross-attention that the rows with a target see.
    pub n_loss_cross_key: usize,
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.n_row += other.n_row;
        self.n_loss += other.n_loss;
        self.n_key += other.n_key;
        self.n_loss_key += other.n_loss_key;
        self.n_source_row += other.n_source_row;
        self.n_source_key += other.n_source_key;
        self.n_cross_key += other.n_cross_key;
        self.n_loss_cross_key += other.n_loss_cross_key;
    }
}

/// Keys that the queries of a plan see together where no run is causal.
fn n_seen(plan: &AttentionPlan) -> usize {
    let n_key = |run: &QueryRun| run.keys.iter().map(|keys| keys.rows.len()).sum::<usize>();
    plan.runs.iter().map(|run| run.rows.len() * n_key(run)).sum()
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
    pub(crate) encoder: Option<EncoderBatch<B>>,
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
    /// A token outside the vocabulary, a sequence with nothing to predict, one longer than the model's positions, or a
    /// source that is missing or that the model cannot read.
    pub fn pack(
        backend: &B,
        spec: &ModelSpec,
        attachments: &Attachments<B>,
        sequences: &[Sequence<'_>],
        label_smoothing: f32,
    ) -> Result<Self, ModelError> {
        let prefix_of = |sequence: &Sequence<'_>| Prefix::of(attachments, sequence.segment);
        for (number, sequence) in sequences.iter().enumerate() {
            let n_before = prefix_of(sequence).first_position + attachments.soft_len(Stack::Decoder);
            check(spec, number, sequence, n_before, attachments.soft_len(Stack::Encoder))?;
        }
        let soft = attachments.soft_in(Stack::Decoder);
        let longer: Vec<Vec<u32>> = sequences
            .iter()
            .map(|sequence| match soft {
                Some(soft) => soft.among(spec.vocab_size, sequence.tokens, sequence.first_target.max(1)),
                None => sequence.tokens.to_vec(),
            })
            .collect();
        let sequences: Vec<Sequence<'_>> = sequences
            .iter()
            .zip(&longer)
            .map(|(sequence, tokens)| Sequence {
                tokens,
                first_target: sequence.first_target.max(1) + attachments.soft_len(Stack::Decoder),
                ..sequence.clone()
            })
            .collect();
        let sequences = sequences.as_slice();
        let trie = Trie::new(&inputs(sequences));
        let mut rows = Rows::default();
        for node in &trie.nodes {
            let sequence = &sequences[node.input];
            rows.push(spec, &trie, node, sequence, &prefix_of(sequence));
        }
        let wanted = Wanted::new(&trie, &rows, sequences);
        let target_rows = wanted.rows();
        let mut work = Work::default();
        let encoder = spec.encoder.map(|_| {
            let mut encoder = EncoderRows::new(spec, attachments);
            let mut cross_plan = AttentionPlan::default();
            for (node, run) in trie.nodes.iter().zip(&rows.plan.runs) {
                let sequence = &sequences[node.input];
                let keys = encoder.seen_by(sequence, &prefix_of(sequence));
                cross_plan.runs.push(QueryRun { rows: run.rows.clone(), first_position: 0, keys });
            }
            let loss_cross_plan = wanted.plan(&cross_plan);
            work.n_source_row = encoder.n_row();
            work.n_source_key = n_seen(encoder.plan());
            work.n_cross_key = n_seen(&cross_plan);
            work.n_loss_cross_key = n_seen(&loss_cross_plan);
            (encoder.upload(backend, &cross_plan), backend.plan(&loss_cross_plan))
        });
        let (encoder, cross_plan) = encoder.unzip();
        let keys = |row: usize| rows.n_key[row];
        let work = Work {
            n_row: rows.ids.len(),
            n_loss: target_rows.len(),
            n_key: (0..rows.ids.len()).map(keys).sum(),
            n_loss_key: target_rows.iter().map(|&row| keys(row as usize)).sum(),
            ..work
        };
        let texts = texts(&trie, &rows);
        let soft = SoftRows::take(backend, spec.vocab_size, &mut rows.ids);
        let masks = RowMasks::new(backend, &rows.masks, Some(&target_rows));
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
                cross_plan,
            },
            encoder,
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
    /// Keys that each row sees in self-attention.
    n_key: Vec<usize>,
    masks: Vec<Option<RowMask>>,
    /// One run for each node.
    plan: AttentionPlan,
}

impl Rows {
    fn push(&mut self, spec: &ModelSpec, trie: &Trie, node: &Node, sequence: &Sequence<'_>, prefix: &Prefix) {
        let first_row = self.ids.len();
        self.ids.extend_from_slice(&sequence.tokens[node.range.clone()]);
        let position = |i: usize| prefix.first_position + i;
        self.positions.extend(node.range.clone().map(|i| spec.position_row(position(i))));
        self.n_key.extend(node.range.clone().map(|i| prefix.len.decoder + i + 1));
        let mask = |row: usize| sequence.masks.map(|stream| RowMask { stream, row: row as u32 });
        self.masks.extend(node.range.clone().map(mask));
        let (rows, first_position) = (first_row..self.ids.len(), position(node.range.start));
        let text = |rows, from: usize, causal: bool| KeyRun {
            store: 0,
            rows,
            causal_from: causal.then_some(from),
            bias_from: Some(from),
            dropout: None,
        };
        let mut keys = vec![text(rows.clone(), first_position, true)];
        for before in node.parent.into_iter().flat_map(|parent| trie.upwards(parent)) {
            keys.push(text(self.span(before), position(trie.nodes[before].range.start), false));
        }
        keys.extend(prefix.run(PrefixPlace::Decoder, sequence.prefix_dropout));
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

/// The prefix that a sequence names, as far as packing needs it.
#[derive(Clone, Copy)]
pub(crate) struct Prefix {
    pub segment: Option<usize>,
    pub len: PerPlace<usize>,
    pub first_position: usize,
}

impl Prefix {
    /// Number `segment` of the attached ones, or none.
    pub fn of<B: Backend>(attachments: &Attachments<B>, segment: Option<usize>) -> Self {
        let attached: Option<&Segment<B>> = segment.map(|segment| &attachments.segments[segment]);
        Self {
            segment,
            len: attached.map(|attached| attached.prefix_len).unwrap_or_default(),
            first_position: attached.map_or(0, |attached| attached.first_position),
        }
    }

    /// The key run of its rows in a place, if there are any. Store 0 is the text, segments follow.
    pub fn run(&self, place: PrefixPlace, dropout: Option<Dropout>) -> Option<KeyRun> {
        let (segment, &len) = (self.segment?, self.len.get(place));
        // The masks of the places are apart.
        let dropout = dropout.map(|dropout| match place {
            PrefixPlace::Decoder => dropout,
            other => Dropout { stream: Dropout::stream([dropout.stream, other as u64, 0]), ..dropout },
        });
        // T5: the rows in the decoder stand at positions 0.., those in the encoder nowhere.
        let bias_from = (place == PrefixPlace::Decoder).then_some(0);
        (len > 0).then(|| KeyRun { store: 1 + segment, rows: 0..len, causal_from: None, bias_from, dropout })
    }
}

fn check(
    spec: &ModelSpec,
    number: usize,
    sequence: &Sequence<'_>,
    prefix_len: usize,
    soft_source_len: usize,
) -> Result<(), ModelError> {
    if sequence.first_target.max(1) >= sequence.tokens.len() {
        return Err(ModelError::NothingToPredict { sequence: number, n_token: sequence.tokens.len() });
    }
    check_tokens(spec, number, sequence.tokens)?;
    check_source(spec, number, sequence.source, soft_source_len)?;
    check_length(spec, number, sequence.tokens.len() - 1, prefix_len)
}

pub(crate) fn check_tokens(spec: &ModelSpec, sequence: usize, tokens: &[u32]) -> Result<(), ModelError> {
    match tokens.iter().find(|token| **token as usize >= spec.vocab_size) {
        Some(&token) => Err(ModelError::UnknownToken { sequence, token, vocab_size: spec.vocab_size }),
        None => Ok(()),
    }
}

/// Checks what the encoder is to read, with `soft_len` rows of a soft prompt among it.
pub(crate) fn check_source(
    spec: &ModelSpec,
    sequence: usize,
    source: &[u32],
    soft_len: usize,
) -> Result<(), ModelError> {
    match (spec.encoder, source.is_empty()) {
        (None, true) => Ok(()),
        (None, false) => Err(ModelError::NoEncoder { sequence }),
        (Some(_), true) => Err(ModelError::NoSource { sequence }),
        (Some(_), false) => {
            check_tokens(spec, sequence, source)?;
            // Prefix rows take none of the encoder's positions.
            check_length(spec, sequence, source.len(), soft_len)
        }
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
