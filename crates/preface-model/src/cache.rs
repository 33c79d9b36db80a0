//! Keys and values of sequences that are being continued, in pages.
//!
//! Every layer has one row matrix `[n_page * 16, 2 * kv_width]` (keys, then values). A sequence owns a list of pages;
//! [`KvCache::fork`] shares them and copies only a page that two sequences would write to, so beams share their
//! prompt. Prefix rows are not in the cache at all: they stay in the attachments and are one more key run.
//!
//! A cache is bound to one model and one set of attachments for its whole life, so cached rows can never be used
//! under another prefix than they were computed with.

use std::ops::Range;

use preface_backend::{AttentionPlan, Backend, KeyRun, QueryRun, Storage};

use crate::batch::{check_length, check_tokens, segment_run};
use crate::layer::{Context, Selected, Text};
use crate::soft::{SoftRows, behind_soft_prompt};
use crate::{Attachments, Model, ModelError};

/// Rows of a page.
pub const PAGE_ROWS: usize = 16;

/// Names a sequence of a [`KvCache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SequenceId(usize);

/// Tokens to run behind what a sequence already holds.
#[derive(Clone, Copy, Debug)]
pub struct Feed<'a> {
    /// The sequence, at most once in a call.
    pub sequence: SequenceId,
    /// At least one token.
    pub tokens: &'a [u32],
}

/// Cached sequences of one model under one set of attachments.
pub struct KvCache<'a, B: Backend> {
    model: &'a Model<B>,
    attachments: &'a Attachments<B>,
    layers: Vec<B::Rows>,
    pages: Pages,
    sequences: Vec<Option<Cached>>,
}

#[derive(Clone)]
struct Cached {
    pages: Vec<usize>,
    len: usize,
    segment: Option<usize>,
    prefix_len: usize,
}

impl<'a, B: Backend> KvCache<'a, B> {
    /// An empty cache.
    pub fn new(model: &'a Model<B>, attachments: &'a Attachments<B>) -> Self {
        Self { model, attachments, layers: Vec::new(), pages: Pages::default(), sequences: Vec::new() }
    }

    /// The model it belongs to.
    pub fn model(&self) -> &'a Model<B> {
        self.model
    }

    /// A new, empty sequence behind the prefix number `segment`, if any.
    pub fn start(&mut self, segment: Option<usize>) -> SequenceId {
        let prefix_len = segment.map_or(0, |segment| self.attachments.segments[segment].prefix_len);
        self.insert(Cached { pages: Vec::new(), len: 0, segment, prefix_len })
    }

    /// A second sequence with the same past. Pages are shared until one of the two writes.
    pub fn fork(&mut self, sequence: SequenceId) -> SequenceId {
        let copy = self.cached(sequence).clone();
        for &page in &copy.pages {
            self.pages.share(page);
        }
        self.insert(copy)
    }

    /// Forgets all but the first `len` tokens.
    pub fn truncate(&mut self, sequence: SequenceId, len: usize) {
        let soft_len = self.attachments.soft_len();
        let cached = self.sequences[sequence.0].as_mut().expect("the sequence is live");
        // Without a token left, the soft prompt goes too: it runs again with the next first tokens.
        let len = if len == 0 { 0 } else { len + soft_len };
        assert!(len <= cached.len, "truncate: {len} of {} rows", cached.len);
        cached.len = len;
        for page in cached.pages.drain(len.div_ceil(PAGE_ROWS)..) {
            self.pages.release(page);
        }
    }

    /// Frees the sequence's pages; its id may be given out again.
    pub fn release(&mut self, sequence: SequenceId) {
        self.truncate(sequence, 0);
        self.sequences[sequence.0] = None;
    }

    /// Tokens that the sequence holds.
    pub fn len(&self, sequence: SequenceId) -> usize {
        self.cached(sequence).len.saturating_sub(self.attachments.soft_len())
    }

    /// Whether the sequence holds no token.
    pub fn is_empty(&self, sequence: SequenceId) -> bool {
        self.len(sequence) == 0
    }

    /// Runs the tokens of every feed and returns the logits behind the last one of each, `[n_feed, vocab_size]`
    /// row-major.
    ///
    /// # Errors
    /// A token outside the vocabulary, or a sequence that becomes longer than the model's positions.
    pub fn extend(&mut self, feeds: &[Feed<'_>]) -> Result<Vec<f32>, ModelError> {
        let x = self.run(feeds, true)?;
        Ok(self.model.backend.read(&self.model.head_logits(&x)))
    }

    /// Runs the tokens of every feed and only keeps their keys and values.
    ///
    /// # Errors
    /// As [`KvCache::extend`].
    pub fn append(&mut self, feeds: &[Feed<'_>]) -> Result<(), ModelError> {
        self.run(feeds, false).map(drop)
    }

    /// Keys and values of everything that the sequence holds, in the layout of prefix rows:
    /// `[len, 2 * n_layer * kv_width]`, row-major.
    pub fn read(&self, sequence: SequenceId) -> Vec<f32> {
        let backend = &self.model.backend;
        let cached = self.cached(sequence);
        let slots = backend.index(&cached.slots(0..cached.len));
        let layer_width = 2 * self.model.spec.kv_width();
        let mut rows = vec![0.0; cached.len * self.model.spec.prefix_row_width()];
        let row_width = self.model.spec.prefix_row_width();
        for (layer, cache) in self.layers.iter().enumerate() {
            let mut picked = backend.rows(cached.len, layer_width, Storage::Exact);
            backend.gather(cache, 0..layer_width, &slots, &mut picked);
            for (row, values) in backend.read(&picked).chunks_exact(layer_width).enumerate() {
                let start = row * row_width + layer * layer_width;
                rows[start..start + layer_width].copy_from_slice(values);
            }
        }
        rows
    }

    /// The last block's output for the last token of each feed, or for none.
    fn run(&mut self, feeds: &[Feed<'_>], last_wanted: bool) -> Result<B::Rows, ModelError> {
        for (number, feed) in feeds.iter().enumerate() {
            assert!(!feed.tokens.is_empty(), "extend: a feed without tokens");
            let cached = self.cached(feed.sequence);
            check_tokens(&self.model.spec, number, feed.tokens)?;
            let soft_len = if cached.len == 0 { self.attachments.soft_len() } else { 0 };
            let n_row = cached.len + soft_len + feed.tokens.len();
            check_length(&self.model.spec, number, n_row, cached.prefix_len)?;
        }
        let (mut ids, mut positions, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        let (mut plan, mut last_plan) = (AttentionPlan::default(), AttentionPlan::default());
        let mut last_rows: Vec<u32> = Vec::new();
        let vocab_size = self.model.spec.vocab_size;
        for feed in feeds {
            // The soft prompt runs with the first tokens of a sequence.
            let soft_len = if self.cached(feed.sequence).len == 0 { self.attachments.soft_len() } else { 0 };
            let tokens = behind_soft_prompt(vocab_size, soft_len, feed.tokens);
            self.reserve(feed.sequence, tokens.len());
            let cached = self.sequences[feed.sequence.0].as_mut().expect("checked above");
            let (first, first_row) = (cached.len, ids.len());
            cached.len += tokens.len();
            ids.extend(tokens);
            positions.extend((first..cached.len).map(|i| (cached.prefix_len + i) as u32));
            slots.extend(cached.slots(first..cached.len));
            let keys = cached.key_runs(first);
            if last_wanted {
                last_plan.runs.push(QueryRun {
                    rows: last_rows.len()..last_rows.len() + 1,
                    first_position: cached.prefix_len + cached.len - 1,
                    keys: keys.clone(),
                });
                last_rows.push(ids.len() as u32 - 1);
            }
            plan.runs.push(QueryRun {
                rows: first_row..ids.len(),
                first_position: cached.prefix_len + first,
                keys,
            });
        }
        let model = self.model;
        let backend = &model.backend;
        let (slots, positions) = (backend.index(&slots), backend.index(&positions));
        let selected = Selected {
            n_row: last_rows.len(),
            rows: backend.index(&last_rows),
            plan: backend.plan(&last_plan),
        };
        let context = Context {
            backend,
            spec: &model.spec,
            rotary: model.rotary.as_ref(),
            positions: &positions,
            plan: &backend.plan(&plan),
            selected: Some(&selected),
            attachments: self.attachments,
            masks: None,
        };
        let soft = SoftRows::take(backend, model.spec.vocab_size, &mut ids);
        let mut x = model.embed_tokens(&context, &backend.index(&ids), soft.as_ref(), ids.len());
        for (layer, (block, rows)) in model.blocks.iter().zip(&mut self.layers).enumerate() {
            x = block.forward(&context, layer, &x, Text::Cache { rows, slots: &slots });
        }
        Ok(x)
    }

    /// Makes room for `n_token` more, and makes the page that is written to the sequence's own.
    fn reserve(&mut self, sequence: SequenceId, n_token: usize) {
        let mut cached = self.sequences[sequence.0].take().expect("the sequence is live");
        if !cached.len.is_multiple_of(PAGE_ROWS) {
            let last = cached.pages.len() - 1;
            if self.pages.is_shared(cached.pages[last]) {
                let own = self.new_page();
                self.copy_page(cached.pages[last], own);
                self.pages.release(cached.pages[last]);
                cached.pages[last] = own;
            }
        }
        while cached.pages.len() * PAGE_ROWS < cached.len + n_token {
            let page = self.new_page();
            cached.pages.push(page);
        }
        self.sequences[sequence.0] = Some(cached);
    }

    fn new_page(&mut self) -> usize {
        if let Some(page) = self.pages.take() {
            return page;
        }
        let old = self.pages.grow();
        let (backend, width) = (&self.model.backend, 2 * self.model.spec.kv_width());
        let rows = || backend.rows(self.pages.len() * PAGE_ROWS, width, Storage::Compact);
        if old == 0 {
            self.layers = (0..self.model.spec.n_layer).map(|_| rows()).collect();
        } else {
            let kept = backend.index(&(0..(old * PAGE_ROWS) as u32).collect::<Vec<_>>());
            for layer in &mut self.layers {
                let mut larger = rows();
                backend.scatter(layer, 0..width, &kept, &mut larger);
                *layer = larger;
            }
        }
        self.pages.take().expect("the cache has just grown")
    }

    fn copy_page(&mut self, from: usize, to: usize) {
        let (backend, width) = (&self.model.backend, 2 * self.model.spec.kv_width());
        let slots = |page: usize| {
            backend.index(&(0..PAGE_ROWS).map(|i| (page * PAGE_ROWS + i) as u32).collect::<Vec<_>>())
        };
        let mut rows = backend.rows(PAGE_ROWS, width, Storage::Compact);
        for layer in &mut self.layers {
            backend.gather(layer, 0..width, &slots(from), &mut rows);
            backend.scatter(&rows, 0..width, &slots(to), layer);
        }
    }

    fn insert(&mut self, cached: Cached) -> SequenceId {
        match self.sequences.iter().position(Option::is_none) {
            Some(free) => {
                self.sequences[free] = Some(cached);
                SequenceId(free)
            }
            None => {
                self.sequences.push(Some(cached));
                SequenceId(self.sequences.len() - 1)
            }
        }
    }

    fn cached(&self, sequence: SequenceId) -> &Cached {
        self.sequences[sequence.0].as_ref().expect("the sequence is live")
    }
}

impl Cached {
    /// Rows of the cache that hold the tokens of `range`.
    fn slots(&self, range: Range<usize>) -> Vec<u32> {
        range.map(|i| (self.pages[i / PAGE_ROWS] * PAGE_ROWS + i % PAGE_ROWS) as u32).collect()
    }

    /// What tokens from number `first` on see: the prefix, and the text in as few runs as the pages allow.
    fn key_runs(&self, first: usize) -> Vec<KeyRun> {
        let prefix = self.segment.map(|segment| segment_run(segment, self.prefix_len, None));
        let mut runs: Vec<KeyRun> = prefix.into_iter().collect();
        let n_prefix = runs.len();
        for (number, &page) in self.pages.iter().enumerate() {
            let token = number * PAGE_ROWS;
            let n_row = PAGE_ROWS.min(self.len - token);
            let start = page * PAGE_ROWS;
            // Pages before the first new token are seen whole.
            let causal_from = (token + n_row > first + 1).then_some(self.prefix_len + token);
            match runs[n_prefix..].last_mut() {
                Some(run)
                    if run.rows.end == start && (causal_from.is_none() || run.causal_from.is_some()) =>
                {
                    run.rows.end += n_row;
                }
                _ => runs.push(KeyRun {
                    store: 0,
                    rows: start..start + n_row,
                    causal_from,
                    bias_from: None,
                    dropout: None,
                }),
            }
        }
        runs
    }
}

/// Which pages are free, and how many sequences hold each of the others.
#[derive(Default)]
struct Pages {
    holders: Vec<usize>,
    free: Vec<usize>,
}

impl Pages {
    fn len(&self) -> usize {
        self.holders.len()
    }

    fn take(&mut self) -> Option<usize> {
        let page = self.free.pop()?;
        self.holders[page] = 1;
        Some(page)
    }

    fn share(&mut self, page: usize) {
        self.holders[page] += 1;
    }

    fn is_shared(&self, page: usize) -> bool {
        self.holders[page] > 1
    }

    fn release(&mut self, page: usize) {
        self.holders[page] -= 1;
        if self.holders[page] == 0 {
            self.free.push(page);
        }
    }

    /// Doubles the number of pages; returns how many there were. The lowest new page is handed out first, so that a
    /// sequence's pages tend to lie side by side and make one key run.
    fn grow(&mut self) -> usize {
        const FIRST: usize = 8;
        let old = self.len();
        let new = (2 * old).max(FIRST);
        self.holders.resize(new, 0);
        self.free.extend((old..new).rev());
        old
    }
}
