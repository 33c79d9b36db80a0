//! Packing what the encoder reads, and who sees it.

use std::collections::HashMap;
use std::ops::Range;

use preface_backend::{AttentionPlan, Backend, Dropout, KeyRun, QueryRun, RowMask};

use crate::attachments::SoftPrompt;
use crate::batch::{Prefix, Sequence, Text};
use crate::layer::RowMasks;
use crate::soft::SoftRows;
use crate::{Attachments, ModelSpec, PrefixPlace, Stack};

/// Sources packed and uploaded, with the decoder's way to them.
pub(crate) struct EncoderBatch<B: Backend> {
    pub n_row: usize,
    pub ids: B::Index,
    pub soft: Option<SoftRows<B>>,
    pub positions: B::Index,
    pub plan: B::Plan,
    /// Dropout masks of the rows, where anything is dropped.
    pub masks: Option<RowMasks<B>>,
    /// Which of the encoder's rows each row of the decoder sees.
    pub cross_plan: B::Plan,
    /// The different sources.
    pub texts: Vec<Text>,
}

/// The same on the host, as it grows.
pub(crate) struct EncoderRows<'a, B: Backend> {
    spec: &'a ModelSpec,
    /// What stands among the rows of every source.
    soft: Option<&'a SoftPrompt<B>>,
    ids: Vec<u32>,
    positions: Vec<u32>,
    plan: AttentionPlan,
    masks: Vec<Option<RowMask>>,
    /// Rows of the sources that may be seen by several sequences.
    known: HashMap<(&'a [u32], Option<usize>), Range<usize>>,
    texts: Vec<Text>,
}

impl<'a, B: Backend> EncoderRows<'a, B> {
    /// None yet.
    pub fn new(spec: &'a ModelSpec, attachments: &'a Attachments<B>) -> Self {
        Self {
            spec,
            soft: attachments.soft_in(Stack::Encoder),
            ids: Vec::new(),
            positions: Vec::new(),
            plan: AttentionPlan::default(),
            masks: Vec::new(),
            known: HashMap::new(),
            texts: Vec::new(),
        }
    }

    /// What the rows of a sequence see in cross-attention: prefix rows, and those of its source.
    pub fn seen_by(&mut self, sequence: &Sequence<'a>, prefix: &Prefix) -> Vec<KeyRun> {
        let source = self.push(sequence.source, prefix, sequence.prefix_dropout, sequence.masks);
        cross_runs(prefix, sequence.prefix_dropout, [source])
    }

    /// The rows of a source, those of a soft prompt among them: those that it has already, unless its prefix or the model
    /// have a dropout mask of its own.
    pub fn push(
        &mut self,
        source: &'a [u32],
        prefix: &Prefix,
        dropout: Option<Dropout>,
        masks: Option<u64>,
    ) -> Range<usize> {
        let run = prefix.run(PrefixPlace::Encoder, dropout);
        let shared = masks.is_none() && run.as_ref().is_none_or(|run| run.dropout.is_none());
        let name = (source, run.as_ref().and(prefix.segment));
        if shared && let Some(rows) = self.known.get(&name) {
            return rows.clone();
        }
        let first = self.ids.len();
        match self.soft {
            Some(soft) => self.ids.extend(soft.among(self.spec.vocab_size, source, source.len())),
            None => self.ids.extend_from_slice(source),
        }
        let rows = first..self.ids.len();
        let mask = |row: usize| masks.map(|stream| RowMask { stream, row: row as u32 });
        self.masks.extend((0..rows.len()).map(mask));
        self.positions.extend((0..rows.len()).map(|i| self.spec.position_row(i)));
        let own =
            KeyRun { store: 0, rows: rows.clone(), causal_from: None, bias_from: Some(0), dropout: None };
        let keys = run.into_iter().chain([own]).collect();
        self.plan.runs.push(QueryRun { rows: rows.clone(), first_position: 0, keys });
        self.texts.push(Text { tokens: source.into(), rows: rows.clone().collect() });
        if shared {
            self.known.insert(name, rows.clone());
        }
        rows
    }

    /// Rows of all sources.
    pub fn n_row(&self) -> usize {
        self.ids.len()
    }

    /// Which rows each of them sees.
    pub fn plan(&self) -> &AttentionPlan {
        &self.plan
    }

    /// The batch, with the plan of the decoder's way to it.
    pub fn upload(mut self, backend: &B, cross_plan: &AttentionPlan) -> EncoderBatch<B> {
        let soft = SoftRows::take(backend, self.spec.vocab_size, &mut self.ids);
        EncoderBatch {
            n_row: self.ids.len(),
            ids: backend.index(&self.ids),
            soft,
            positions: backend.index(&self.positions),
            plan: backend.plan(&self.plan),
            masks: RowMasks::new(backend, &self.masks, None),
            cross_plan: backend.plan(cross_plan),
            texts: self.texts,
        }
    }
}

/// What a query of cross-attention sees: prefix rows and pieces of the encoder's rows.
pub(crate) fn cross_runs(
    prefix: &Prefix,
    dropout: Option<Dropout>,
    source: impl IntoIterator<Item = Range<usize>>,
) -> Vec<KeyRun> {
    let own = source.into_iter().map(|rows| KeyRun {
        store: 0,
        rows,
        causal_from: None,
        bias_from: None,
        dropout: None,
    });
    prefix.run(PrefixPlace::Cross, dropout).into_iter().chain(own).collect()
}
